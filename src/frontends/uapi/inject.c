/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * System calls made by a stopped thread of the program. Nothing is written into the program: a
 * thread that has just made a call has an instruction for that before its instruction pointer, and
 * each process has one in the kernel's page of code. Signals are blocked in between, but those that
 * can't be: being killed ends it, being stopped is made up for at the end.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/bytes.h"
#include "frontends/uapi/tracer_private.h"

#define SYSCALL_LENGTH 2
#define SYSCALL_BYTES  0x050f
#define SYSCALL_STOP   (SIGTRAP | 0x80)

/* The kernel's own results of interrupted calls: between them a call is begun again. */
#define RESTART_FIRST (-516)
#define RESTART_LAST  (-512)
/* Begun again, if no signal is handled. */
#define RESTART_NO_HANDLER (-514)

#ifndef PTRACE_GETSIGMASK
#define PTRACE_GETSIGMASK 0x420a
#define PTRACE_SETSIGMASK 0x420b
#endif

/* What a call that was interrupted begins again with is this only where it was one. */
static bool has_called(const struct user_regs_struct *registers)
{
	return (int64_t)registers->orig_rax >= 0;
}

static bool is_instruction(pid_t thread, uint64_t address)
{
	long bytes;

	errno = 0;
	bytes = ptrace(PTRACE_PEEKTEXT, thread, address, 0);
	return !errno && (bytes & 0xffff) == SYSCALL_BYTES;
}

static int block_signals(struct uapi_injection *injection)
{
	uint64_t all = UINT64_MAX;

	if (ptrace(PTRACE_GETSIGMASK, injection->thread, sizeof(injection->signals),
		   &injection->signals) < 0 ||
	    ptrace(PTRACE_SETSIGMASK, injection->thread, sizeof(all), &all) < 0)
		return -ESRCH;
	return 0;
}

int uapi_inject_begin(struct uapi_injection *injection, pid_t thread, uint64_t instruction_pointer)
{
	injection->thread = thread;
	injection->group_stop = false;
	injection->instruction = instruction_pointer - SYSCALL_LENGTH;
	if (ptrace(PTRACE_GETREGS, thread, 0, &injection->registers) < 0)
		return -ESRCH;
	if (injection->registers.rip != instruction_pointer ||
	    injection->registers.orig_rax != SYS_mmap)
		return -EAGAIN;
	return is_instruction(thread, injection->instruction) ? block_signals(injection) : -EAGAIN;
}

/* ---- Anywhere ---- */

struct search {
	pid_t thread;
	uint64_t instruction; /* 0: none yet */
};

/* The kernel's page of code is of no file, and small. */
static int search_code(void *opaque, const struct uapi_vma *vma)
{
	struct search *search = opaque;
	uint8_t bytes[4096] = {0};

	if (!vma->execute || vma->inode || vma->end > 1ULL << 47)
		return 0;
	for (uint64_t at = vma->begin; at < vma->end; at += sizeof(bytes)) {
		struct iovec local = {bytes, sizeof(bytes)};
		struct iovec remote = {(void *)(uintptr_t)at, sizeof(bytes)};

		if (process_vm_readv(search->thread, &local, 1, &remote, 1, 0) !=
		    (ssize_t)sizeof(bytes))
			return 0;
		for (size_t i = 0; i + 1 < sizeof(bytes); i++)
			if (bytes[i] == (SYSCALL_BYTES & 0xff) &&
			    bytes[i + 1] == SYSCALL_BYTES >> 8) {
				search->instruction = at + i;
				return 1;
			}
	}
	return 0;
}

bool uapi_inject_is_at_call(pid_t thread)
{
	struct user_regs_struct registers;

	return ptrace(PTRACE_GETREGS, thread, 0, &registers) == 0 && has_called(&registers) &&
	       is_instruction(thread, registers.rip - SYSCALL_LENGTH);
}

int uapi_inject_begin_anywhere(struct uapi_injection *injection, pid_t thread)
{
	struct search search = {thread, 0};

	injection->thread = thread;
	injection->group_stop = false;
	if (ptrace(PTRACE_GETREGS, thread, 0, &injection->registers) < 0)
		return -ESRCH;
	if (has_called(&injection->registers) &&
	    is_instruction(thread, injection->registers.rip - SYSCALL_LENGTH))
		search.instruction = injection->registers.rip - SYSCALL_LENGTH;
	else
		uapi_vmas_each(thread, search_code, &search);
	if (!search.instruction)
		return -ENOEXEC;
	injection->instruction = search.instruction;
	return block_signals(injection);
}

/* Calls that a stop ends with EINTR, though no signal is handled. */
static const uint64_t not_restarted[] = {
	SYS_epoll_wait, SYS_epoll_pwait, SYS_semop,	   SYS_semtimedop,
	SYS_msgsnd,	SYS_msgrcv,	 SYS_io_getevents, SYS_rt_sigtimedwait,
};

void uapi_inject_restart(pid_t thread)
{
	struct user_regs_struct registers;

	if (ptrace(PTRACE_GETREGS, thread, 0, &registers) < 0 || (int64_t)registers.rax != -EINTR)
		return;
	for (size_t i = 0; i < UVF_ARRAY_SIZE(not_restarted); i++)
		if (registers.orig_rax == not_restarted[i]) {
			registers.rax = (uint64_t)RESTART_NO_HANDLER;
			ptrace(PTRACE_SETREGS, thread, 0, &registers);
			return;
		}
}

/* ---- Calls ---- */

int uapi_inject_call(struct uapi_injection *injection, long number, const uint64_t *arguments)
{
	struct user_regs_struct registers = injection->registers;

	registers.rip = injection->instruction;
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
	registers->rip = injection->instruction;
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

static void restore(struct uapi_injection *injection)
{
	ptrace(PTRACE_SETREGS, injection->thread, 0, &injection->registers);
	ptrace(PTRACE_SETSIGMASK, injection->thread, sizeof(injection->signals),
	       &injection->signals);
}

void uapi_inject_end(struct uapi_injection *injection, int64_t result)
{
	injection->registers.rax = (uint64_t)result;
	injection->registers.orig_rax = UINT64_MAX;
	restore(injection);
	/* A thread that is let go on stops again for a stop of its process that is in force. */
	if (injection->group_stop)
		ptrace(PTRACE_INTERRUPT, injection->thread, 0, 0);
}

void uapi_inject_undo(struct uapi_injection *injection)
{
	restore(injection);
	ptrace(PTRACE_INTERRUPT, injection->thread, 0, 0);
}
