/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Accesses that trapped: a thread of the program has stopped at an instruction, because a page that
 * it touched is of a trap file. The instruction is carried out here, with the device in the place
 * of that memory; then the thread goes on behind it and never sees the signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "frontends/uapi/tracer_private.h"

#define NT_X86_XSTATE 0x202
#define XSTATE_MAX    16384 /* of all that processors have by now */
/* Debuggers' breakpoints: the processor sets it when an instruction faults. */
#define FLAG_RESUME (1ULL << 16)
/* Of an access to memory that raises SIGBUS. */
#define RETRIES 8

/* Registers as instructions number them. */
static const size_t register_offsets[16] = {
	offsetof(struct user_regs_struct, rax), offsetof(struct user_regs_struct, rcx),
	offsetof(struct user_regs_struct, rdx), offsetof(struct user_regs_struct, rbx),
	offsetof(struct user_regs_struct, rsp), offsetof(struct user_regs_struct, rbp),
	offsetof(struct user_regs_struct, rsi), offsetof(struct user_regs_struct, rdi),
	offsetof(struct user_regs_struct, r8),	offsetof(struct user_regs_struct, r9),
	offsetof(struct user_regs_struct, r10), offsetof(struct user_regs_struct, r11),
	offsetof(struct user_regs_struct, r12), offsetof(struct user_regs_struct, r13),
	offsetof(struct user_regs_struct, r14), offsetof(struct user_regs_struct, r15),
};

/* ---- The program's memory ---- */

/* By a thread that is there: the process's first one may have ended. */
static int open_process(struct uapi_traced *process, pid_t thread)
{
	char path[32];

	if (process->memory >= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", thread);
	process->maps = open(path, O_RDONLY | O_CLOEXEC);
	if (process->maps < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/%d/mem", thread);
	process->memory = open(path, O_RDWR | O_CLOEXEC);
	if (process->memory < 0) {
		int error = -errno;

		close(process->maps);
		process->maps = -1;
		return error;
	}
	return 0;
}

/* What is at an address; it stays what it is while others map only if it was asked just now. */
static int look_up(struct uapi_trap *trap, uint64_t address)
{
	int ret;

	if (address >= trap->vma.begin && address < trap->vma.end)
		return 0;
	ret = uapi_vma_find(trap->tracee->process->maps, address, &trap->vma);
	if (!ret && address < trap->vma.begin)
		ret = -EFAULT;
	if (ret < 0) {
		trap->vma.begin = trap->vma.end = 0;
		return -EFAULT;
	}
	trap->file = trap->vma.inode ? uapi_trap_file_find(trap->tracer, &trap->vma) : NULL;
	return 0;
}

static int memory_read(void *opaque, uint64_t address, void *to, size_t size)
{
	struct uapi_trap *trap = opaque;
	uint64_t offset;

	if (look_up(trap, address) < 0 || !(trap->vma.prot & UVF_PROT_READ))
		goto fault;
	if (!trap->file) {
		if (pread(trap->tracee->process->memory, to, size, (off_t)address) != (ssize_t)size)
			goto fault;
		return 0;
	}
	offset = trap->vma.offset + (address - trap->vma.begin);
	/* A device that is gone doesn't answer: what a processor then reads is all ones. */
	if (uvf_region_read(trap->file->device->dev, trap->file->index, offset, to, size) !=
	    (ssize_t)size)
		memset(to, 0xff, size);
	return 0;
fault:
	trap->fault = address;
	return -EFAULT;
}

static int memory_write(void *opaque, uint64_t address, const void *from, size_t size)
{
	struct uapi_trap *trap = opaque;
	uint64_t offset;

	if (look_up(trap, address) < 0 || !(trap->vma.prot & UVF_PROT_WRITE))
		goto fault;
	if (!trap->file) {
		if (pwrite(trap->tracee->process->memory, from, size, (off_t)address) !=
		    (ssize_t)size)
			goto fault;
		return 0;
	}
	offset = trap->vma.offset + (address - trap->vma.begin);
	uvf_region_write(trap->file->device->dev, trap->file->index, offset, from, size);
	return 0;
fault:
	trap->fault = address;
	return -EFAULT;
}

/* ---- The instruction ---- */

static int fetch(struct uapi_trap *trap)
{
	uint8_t bytes[UAPI_INSTRUCTION_MAX];
	uint64_t rip = trap->registers.rip;
	size_t size = sizeof(bytes), to_page_end = 4096 - (rip & 4095);
	int memory = trap->tracee->process->memory;

	/* What follows may not be there. */
	if (pread(memory, bytes, size, (off_t)rip) != (ssize_t)size) {
		if (size > to_page_end)
			size = to_page_end;
		if (pread(memory, bytes, size, (off_t)rip) != (ssize_t)size)
			return -EILSEQ;
	}
	return uapi_decode(bytes, size, &trap->instruction);
}

static void load_registers(struct uapi_trap *trap)
{
	const struct user_regs_struct *registers = &trap->registers;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(register_offsets); i++)
		memcpy(&trap->cpu.registers[i], (const char *)registers + register_offsets[i], 8);
	trap->cpu.rip = registers->rip;
	trap->cpu.flags = registers->eflags;
	trap->cpu.fs_base = registers->fs_base;
	trap->cpu.gs_base = registers->gs_base;
}

static void store_registers(struct uapi_trap *trap)
{
	struct user_regs_struct *registers = &trap->registers;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(register_offsets); i++)
		memcpy((char *)registers + register_offsets[i], &trap->cpu.registers[i], 8);
	registers->rip = trap->cpu.rip;
	registers->eflags = trap->cpu.flags & ~FLAG_RESUME;
}

/* The kernel takes all of the area or nothing: its size is what the kernel gave. */
static int load_vectors(struct uapi_trap *trap)
{
	struct iovec area = {trap->cpu.xstate, XSTATE_MAX};

	if (!trap->cpu.xstate)
		area.iov_base = trap->cpu.xstate = calloc(1, XSTATE_MAX);
	if (!trap->cpu.xstate)
		return -ENOMEM;
	if (ptrace(PTRACE_GETREGSET, trap->tracee->thread, NT_X86_XSTATE, &area) < 0)
		return -errno;
	trap->xstate_size = area.iov_len;
	return 0;
}

static void store_vectors(struct uapi_trap *trap)
{
	struct iovec area = {trap->cpu.xstate, trap->xstate_size};

	ptrace(PTRACE_SETREGSET, trap->tracee->thread, NT_X86_XSTATE, &area);
}

static void warn(const struct uapi_trap *trap)
{
	char text[128] = "an instruction that can't be decoded";

	if (trap->result == -EOPNOTSUPP)
		uapi_instruction_text(&trap->instruction, text, sizeof(text));
	uvf_logf(&trap->tracer->run->config.log, UVF_LOG_WARNING, "uapi",
		 "thread %d accesses a register at 0x%llx by what isn't emulated: %s",
		 trap->tracee->thread, (unsigned long long)trap->address, text);
}

/* ---- Begin and end ---- */

static struct uapi_trap *get_trap(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	if (!tracee->trap)
		tracee->trap = calloc(1, sizeof(*tracee->trap));
	if (tracee->trap) {
		tracee->trap->tracer = tracer;
		tracee->trap->tracee = tracee;
		tracee->trap->cpu.layout = &tracer->layout;
	}
	return tracee->trap;
}

/*
 * The page trapped when it was touched, and is an area's memory by now: the instruction is carried
 * out once more. Memory that raises SIGBUS itself doesn't do that for ever.
 */
static bool retry(struct uapi_trap *trap)
{
	struct uapi_tracee *tracee = trap->tracee;

	if (!trap->vma.inode ||
	    !uapi_area_file_find(trap->tracer, &trap->vma,
				 trap->vma.offset + (trap->address - trap->vma.begin)))
		return false;
	if (tracee->retried != trap->address)
		tracee->retries = 0;
	tracee->retried = trap->address;
	if (tracee->retries++ == RETRIES)
		return false;
	uapi_tracee_settle(trap->tracer, tracee);
	uapi_tracee_continue(trap->tracer, tracee, 0);
	return true;
}

bool uapi_trap_begin(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	struct uapi_trap *trap;
	struct uapi_device *device;
	siginfo_t info;

	if (ptrace(PTRACE_GETSIGINFO, tracee->thread, 0, &info) < 0 || info.si_code != BUS_ADRERR ||
	    open_process(tracee->process, tracee->thread) < 0)
		return false;
	trap = get_trap(tracer, tracee);
	if (!trap)
		return false;
	trap->address = (uintptr_t)info.si_addr;
	trap->vma.begin = trap->vma.end = 0;
	if (look_up(trap, trap->address) < 0)
		return false;
	if (!trap->file)
		return retry(trap);
	tracee->retries = 0;
	device = trap->file->device;
	if (ptrace(PTRACE_GETREGS, tracee->thread, 0, &trap->registers) < 0)
		return true; /* killed: its end comes next */
	load_registers(trap);
	trap->result = fetch(trap);
	trap->has_vectors = !trap->result && uapi_instruction_has_vectors(&trap->instruction);
	if (trap->has_vectors && !trap->result)
		trap->result = load_vectors(trap);
	if (trap->result == -ESRCH)
		return true;
	if (trap->result) {
		warn(trap);
		return false;
	}
	uapi_trap_schedule(trap, device);
	return true;
}

void uapi_trap_run(struct uapi_trap *trap)
{
	const struct uapi_memory memory = {memory_read, memory_write, trap};

	trap->result = uapi_emulate(&trap->instruction, &trap->cpu, &memory);
}

/* The instruction touches memory, too, that is not there or not to be touched so. */
static void raise_fault(struct uapi_trap *trap)
{
	siginfo_t info = {
		.si_signo = SIGSEGV,
		.si_code = trap->vma.end ? SEGV_ACCERR : SEGV_MAPERR,
		.si_addr = (void *)(uintptr_t)trap->fault,
	};

	ptrace(PTRACE_SETSIGINFO, trap->tracee->thread, 0, &info);
}

void uapi_trap_end(struct uapi_trap *trap)
{
	struct uapi_tracee *tracee = trap->tracee;
	int signal = 0;

	tracee->trapping = false;
	if (tracee->gone) {
		uapi_tracee_forget(trap->tracer, tracee);
		return;
	}
	if (trap->result == -EFAULT) {
		raise_fault(trap);
		signal = SIGSEGV;
	} else if (trap->result < 0) {
		warn(trap);
		signal = SIGBUS;
	}
	if (trap->result == 0 && trap->has_vectors)
		store_vectors(trap);
	if (trap->result != -EOPNOTSUPP) {
		store_registers(trap);
		ptrace(PTRACE_SETREGS, tracee->thread, 0, &trap->registers);
	}
	uapi_tracee_settle(trap->tracer, tracee);
	uapi_tracee_continue(trap->tracer, tracee, signal);
}

void uapi_trap_free(struct uapi_trap *trap)
{
	if (!trap)
		return;
	free(trap->cpu.xstate);
	free(trap);
}
