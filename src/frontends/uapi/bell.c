/* SPDX-License-Identifier: BSD-3-Clause */
/* What wakes the tracer's thread: a process of ours that it traces, and that gets a signal. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontends/uapi/tracer_private.h"

#define BELL_SIGNAL SIGUSR1

#ifndef __NR_close_range
#define __NR_close_range 436
#endif

/*
 * The bell shares our memory, for copying it could take long, and so has the tracer's stack and
 * thread-local storage: it may touch neither. It has a session of its own, no descriptors, asks to
 * be traced (who traces by himself may only trace what lets its memory be seen), rings once and
 * waits for ever.
 */
static pid_t clone_bell(void)
{
	register long no_thread_id __asm__("r10") = 0;
	long result;

	__asm__ volatile(
		"syscall\n"
		"test %%rax, %%rax\n"
		"jnz 2f\n"
		"mov %[setsid], %%eax\n"
		"syscall\n"
		"mov %[close_range], %%eax\n"
		"xor %%edi, %%edi\n"
		"mov %[last], %%esi\n"
		"xor %%edx, %%edx\n"
		"syscall\n"
		"mov %[ptrace], %%eax\n"
		"mov %[traceme], %%edi\n"
		"xor %%esi, %%esi\n"
		"syscall\n"
		"mov %[getpid], %%eax\n"
		"syscall\n"
		"mov %%eax, %%edi\n"
		"mov %[kill], %%eax\n"
		"mov %[ring], %%esi\n"
		"syscall\n"
		"1: mov %[pause], %%eax\n"
		"syscall\n"
		"jmp 1b\n"
		"2:\n"
		: "=a"(result)
		: "a"(__NR_clone), "D"(CLONE_VM), "S"(NULL), "d"(NULL),
		  "r"(no_thread_id), [setsid] "i"(__NR_setsid), [close_range] "i"(__NR_close_range),
		  [last] "i"(INT32_MAX), [ptrace] "i"(__NR_ptrace), [traceme] "i"(PTRACE_TRACEME),
		  [getpid] "i"(__NR_getpid), [kill] "i"(__NR_kill), [ring] "i"(BELL_SIGNAL),
		  [pause] "i"(__NR_pause)
		: "rcx", "r11", "cc", "memory");
	return (pid_t)result;
}

/* It has rung when it is traced. */
static int await(const struct uapi_bell *bell)
{
	int status;

	while (waitpid(bell->pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	if (!WIFSTOPPED(status))
		return -ESRCH;
	if (ptrace(PTRACE_SETOPTIONS, bell->pid, 0, PTRACE_O_EXITKILL) < 0)
		return -errno;
	uapi_bell_rearm(bell);
	return 0;
}

int uapi_bell_new(struct uapi_bell *bell)
{
	sigset_t others, before;
	int ret;

	sigfillset(&others);
	sigdelset(&others, BELL_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &others, &before);
	bell->pid = clone_bell();
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (bell->pid < 0)
		return bell->pid;
	ret = await(bell);
	bell->pidfd = ret ? -1 : (int)syscall(SYS_pidfd_open, bell->pid, 0);
	if (!ret && bell->pidfd < 0)
		ret = -errno;
	if (ret && ret != -ESRCH)
		uapi_bell_free(bell);
	return ret;
}

void uapi_bell_rearm(const struct uapi_bell *bell)
{
	ptrace(PTRACE_CONT, bell->pid, 0, 0);
}

void uapi_bell_ring(const struct uapi_bell *bell)
{
	syscall(SYS_pidfd_send_signal, bell->pidfd, BELL_SIGNAL, NULL, 0);
}

static void close_pidfd(struct uapi_bell *bell)
{
	if (bell->pidfd >= 0)
		close(bell->pidfd);
	bell->pidfd = -1;
}

int uapi_bell_renew(struct uapi_bell *bell)
{
	int ret;

	close_pidfd(bell);
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
	close_pidfd(bell);
}
