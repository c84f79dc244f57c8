/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The program's start: its child process, namespaces and filter.
 *
 * What is reserved for VFIO files in the program's table of descriptors: 64 numbers, aligned, just
 * below what a new process has at most, so that the filter knows them by one masked comparison.
 */
#ifndef UVF_UAPI_LAUNCH_H
#define UVF_UAPI_LAUNCH_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uvfio/types.h>

struct sock_fprog;
struct uvf_run;

#define UAPI_RESERVED_FDS 64

/* The first of the reserved numbers, or -1: descriptors are limited to fewer. */
int uapi_reserved_first(void);

/*
 * What uapi_launch() needs, and gives. `listener` and `pidfd` are the caller's if it succeeded.
 */
struct uapi_launch {
	struct uvf_run *run;
	struct uvf_error *error;
	sigset_t signals; /* the program's mask */
	int reserved_first;

	int listener;
	int pidfd;
	ino_t mount_namespace; /* 0: it is ours */
};

/*
 * For uapi_tracer_new(): forks the program and waits until it has called execve(). Returns its
 * process id, or a negative errno, and then nothing is left of it. @opaque: a struct uapi_launch.
 */
pid_t uapi_launch(void *opaque);

/*
 * The seccomp filter: which calls are sent to the supervisor. @reserved_first may be -1. Its
 * instructions are of malloc(). Errors: -ENOMEM, and what libseccomp says.
 */
int uapi_filter_new(int reserved_first, struct sock_fprog *program);
void uapi_filter_free(struct sock_fprog *program);

#endif
