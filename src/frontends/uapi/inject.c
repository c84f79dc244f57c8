/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * System calls made by a stopped thread of the program. Nothing is written into the program: the
 * thread has just made a call, so before its instruction pointer there is an instruction for that.
 * Signals are blocked in between, but those that can't be: being killed ends it, being stopped is
 * made up for at the end.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "frontends/uapi/tracer_private.h"

#define SYSCALL_LENGTH 2
#define SYSCALL_BYTES  0x050f
#define SYSCALL_STOP   (SIGTRAP | 0x80)

/* The kernel's own results of interrupted calls: between them a call is begun again. */
#define RESTART_FIRST (-516)
#define RESTART_LAST  (-512)

#ifndef PTRACE_GETSIGMASK
#define PTRACE_GETSIGMASK 0x420a
#define PTRACE_SETSIGMASK 0x420b
#endif

int uapi_inject_begin(struct uapi_injection *injection, pid_t thread, uint64_t instruction_pointer)
{
	uint64_t all = UINT64_MAX;
	long bytes;

	injection->thread = thread;
	injection->group_stop = false;
	if (ptrace(PTRACE_GETREGS, thread, 0, &injection->registers) < 0)
		return -ESRCH;
	if (injection->registers.rip != instruction_pointer ||
	    injection->registers.orig_rax != SYS_mmap)
		return -EAGAIN;
	errno = 0;
	bytes = ptrace(PTRACE_PEEKTEXT, thread, instruction_pointer - SYSCALL_LENGTH, 0);
	if (errno || (bytes & 0xffff) != SYSCALL_BYTES)
		return -EAGAIN;
	if (ptrace(PTRACE_GETSIGMASK, thread, sizeof(injection->signals), &injection->signals) <
		    0 ||
	    ptrace(PTRACE_SETSIGMASK, thread, sizeof(all), &all) < 0)
		return -ESRCH;
	return 0;
}

int uapi_inject_call(struct uapi_injection *injection, long number, const uint64_t *arguments)
{
	struct user_regs_struct registers = injection->registers;

	registers.rip -= SYSCALL_LENGTH;
	registers.rax = (uint64_t)number;
	registers.orig_rax = UINT64_MAX; /* there is no call to begin again */
	registers.rdi = arguments[0];
	registers.rsi = arguments[1];
	registers.rdx = arguments[2];
	registers.r10 = arguments[3];
	registers.r8 = arguments[4];
	registers.r9 = arguments[5];
	injection->entered = false;
	if (ptrace(PTRACE_SETREGS, injection->thread, 0, &registers) < 0 ||
	    ptrace(PTRACE_SYSCALL, injection->thread, 0, 0) < 0)
		return -ESRCH;
	return 0;
}

/* The call was not carried out: once more, with the arguments that are still there. */
static int again(struct uapi_injection *injection, struct user_regs_struct *registers)
{
	registers->rip = injection->registers.rip - SYSCALL_LENGTH;
	registers->rax = registers->orig_rax;
	registers->orig_rax = UINT64_MAX;
	injection->entered = false;
	if (ptrace(PTRACE_SETREGS, injection->thread, 0, registers) < 0)
		return -ESRCH;
	return 0;
}

int uapi_inject_step(struct uapi_injection *injection, int status, int64_t *result)
{
	struct user_regs_struct registers;
	int signal = WSTOPSIG(status), event = status >> 16;
	int deliver = 0;

	if (!event && signal == SYSCALL_STOP && injection->entered) {
		if (ptrace(PTRACE_GETREGS, injection->thread, 0, &registers) < 0)
			return -ESRCH;
		*result = (int64_t)registers.rax;
		if (*result < RESTART_FIRST || *result > RESTART_LAST)
			return 1;
		if (again(injection, &registers) < 0)
			return -ESRCH;
	} else if (!event && signal == SYSCALL_STOP) {
		injection->entered = true;
	} else if (event == PTRACE_EVENT_STOP) {
		injection->group_stop |= signal != SIGTRAP;
	} else if (!event) {
		/* SIGSTOP alone can come here. */
		deliver = signal;
	}
	return ptrace(PTRACE_SYSCALL, injection->thread, 0, (long)deliver) < 0 ? -ESRCH : 0;
}

void uapi_inject_end(struct uapi_injection *injection, int64_t result)
{
	injection->registers.rax = (uint64_t)result;
	injection->registers.orig_rax = UINT64_MAX;
	ptrace(PTRACE_SETREGS, injection->thread, 0, &injection->registers);
	ptrace(PTRACE_SETSIGMASK, injection->thread, sizeof(injection->signals),
	       &injection->signals);
	/* A thread that is let go on stops again for a stop of its process that is in force. */
	if (injection->group_stop)
		ptrace(PTRACE_INTERRUPT, injection->thread, 0, 0);
}
