/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Giving up what serving doesn't need.
 *
 * Theory of operation. Devices are made and sockets bound with all the rights that the program was
 * started with: files are open after that. Then, in this order:
 *
 * 1. as root only: the root directory becomes an empty one that has been removed, so there is no
 *    path to anything and nothing can be made;
 * 2. the user and its groups are changed to --user's (or nobody's), on all threads (the C library
 *    sees to that), which takes all capabilities away for good;
 * 3. no_new_privs and the seccomp filter are set on all threads together.
 *
 * Whoever is not root has no capability to lose but those given to it on purpose: they are dropped
 * first, before there are threads, because capset(2) works on the calling one alone.
 *
 * The filter allows the calls that the parts of the library note beside the functions that make
 * them, in comments of the form "#syscalls: NAME ..."; sandbox_calls.py makes the list from them.
 * All others fail with EPERM rather than kill: the C library tries new ways before old ones.
 * In no case can a file be opened, a program be run, or a process be made.
 */
#ifndef UVF_CLI_SANDBOX_H
#define UVF_CLI_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>
#include <uvfio/types.h>

struct sandbox_user {
	uid_t uid;
	gid_t gid;
	const char *name; /* NULL: stay who we are */
};

/* Errors: -ENOENT (no such user). */
int sandbox_find_user(const char *name, struct sandbox_user *user, struct uvf_error *error);

/* Before there are threads: drops the capabilities of whoever is not root. */
int sandbox_prepare(struct uvf_error *error);

/* Step 1. */
int sandbox_leave_files(struct uvf_error *error);
/* Step 2. */
int sandbox_become(const struct sandbox_user *user, struct uvf_error *error);
/* Step 3. */
int sandbox_filter_calls(struct uvf_error *error);

#endif
