/* SPDX-License-Identifier: BSD-3-Clause */
/* What wakes the tracer's thread: a process of ours that it traces, and that gets a signal. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontends/uapi/tracer_private.h"

#define BELL_STACK  16384
#define BELL_SIGNAL SIGUSR1

#ifndef __NR_close_range
#define __NR_close_range 436
#endif

/*
 * The bell shares our memory (copying it could take long) and so has the tracer's thread-local
 * storage: nothing of the C library may run.
 */
static inline long bare_call(long number, long first, long second)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(first), "S"(second), "d"(0L)
			 : "rcx", "r11", "memory");
	return result;
}

__attribute__((no_sanitize("address", "thread", "undefined"))) static int wait_for_ever(
	void *unused)
{
	bare_call(__NR_setsid, 0, 0);
	bare_call(__NR_close_range, 0, INT32_MAX);
	for (;;)
		bare_call(__NR_pause, 0, 0);
	return 0;
}

int uapi_bell_new(struct uapi_bell *bell)
{
	sigset_t others, before;
	int error;

	bell->stack =
		mmap(NULL, BELL_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bell->stack == MAP_FAILED)
		return -ENOMEM;
	sigfillset(&others);
	sigdelset(&others, BELL_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &others, &before);
	bell->pid = clone(wait_for_ever, (char *)bell->stack + BELL_STACK, CLONE_VM, NULL);
	error = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (bell->pid < 0) {
		munmap(bell->stack, BELL_STACK);
		return -error;
	}
	bell->pidfd = (int)syscall(SYS_pidfd_open, bell->pid, 0);
	if (bell->pidfd < 0 || ptrace(PTRACE_SEIZE, bell->pid, 0, PTRACE_O_EXITKILL) < 0) {
		error = errno;
		uapi_bell_free(bell);
		return -error;
	}
	return 0;
}

void uapi_bell_rearm(const struct uapi_bell *bell)
{
	ptrace(PTRACE_CONT, bell->pid, 0, 0);
}

void uapi_bell_ring(const struct uapi_bell *bell)
{
	syscall(SYS_pidfd_send_signal, bell->pidfd, BELL_SIGNAL, NULL, 0);
}

static void free_memory(struct uapi_bell *bell)
{
	if (bell->pidfd >= 0)
		close(bell->pidfd);
	bell->pidfd = -1;
	if (bell->stack)
		munmap(bell->stack, BELL_STACK);
	bell->stack = NULL;
}

int uapi_bell_renew(struct uapi_bell *bell)
{
	int ret;

	free_memory(bell);
	ret = uapi_bell_new(bell);
	/* What rang the one before is not forgotten: who renews looks. */
	if (ret < 0)
		*bell = (struct uapi_bell){.pid = -1, .pidfd = -1};
	return ret;
}

void uapi_bell_free(struct uapi_bell *bell)
{
	if (bell->pid > 0) {
		kill(bell->pid, SIGKILL);
		while (waitpid(bell->pid, NULL, __WALL) < 0 && errno == EINTR)
			continue;
	}
	free_memory(bell);
}
