/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One instruction carried out by the processor itself, from given registers to what it leaves: what
 * the emulator is compared with. Code, registers and the memory that it may touch are in one arena.
 */
#ifndef TEST_NATIVE_H
#define TEST_NATIVE_H

#include <asm/prctl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frontends/uapi/emulate.h"

#define NATIVE_XSTATE_MAX 8192
#define NATIVE_DATA	  8192
#define NATIVE_MEMORY	  (NATIVE_DATA + 4096) /* with a stack */

struct native_registers {
	uint64_t registers[16];
	uint64_t flags;
};

struct native {
	uint8_t code[4096];
	struct native_registers in, out;
	uint64_t saved_rsp, saved_rbp;
	_Alignas(64) uint8_t xstate[NATIVE_XSTATE_MAX];
	_Alignas(4096) uint8_t data[NATIVE_MEMORY];
	uint8_t *end; /* while code is written */
};

/* x87, SSE, AVX and AVX-512. */
#define NATIVE_XSTATE_MASK 0xe7U

static inline struct native *native_new(void)
{
	void *arena = mmap(NULL, sizeof(struct native), PROT_READ | PROT_WRITE | PROT_EXEC,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (arena == MAP_FAILED || syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)arena))
		return NULL;
	return arena;
}

static inline void native_emit(struct native *native, const void *bytes, size_t size)
{
	memcpy(native->end, bytes, size);
	native->end += size;
}

/* An instruction whose memory operand is a place in the arena. */
static inline void native_emit_at(struct native *native, const char *opcode, size_t size,
				  const void *place)
{
	int32_t distance;

	native_emit(native, opcode, size);
	distance = (int32_t)((const uint8_t *)place - (native->end + sizeof(distance)));
	native_emit(native, &distance, sizeof(distance));
}

static inline void native_emit_xstate(struct native *native, const char *opcode)
{
	static const uint8_t mask[] = {0xb8, NATIVE_XSTATE_MASK, 0, 0, 0, 0x31, 0xd2};

	native_emit(native, mask, sizeof(mask));
	native_emit_at(native, opcode, 4, native->xstate);
}

/* mov of register @number from (@load) or to @place. */
static inline void native_emit_register(struct native *native, unsigned number, bool load,
					const void *place)
{
	char opcode[3] = {(char)(0x48 | (number >= 8) << 2), (char)(load ? 0x8b : 0x89),
			  (char)(5 | (number & 7) << 3)};

	native_emit_at(native, opcode, sizeof(opcode), place);
}

/* What comes before the instruction; native->end is then where it has to be. */
static inline void native_begin(struct native *native)
{
	native->end = native->code;
	native_emit_register(native, 4, false, &native->saved_rsp);
	native_emit_register(native, 5, false, &native->saved_rbp);
	native_emit_xstate(native, "\x48\x0f\xae\x2d");
	native_emit_at(native, "\xff\x35", 2, &native->in.flags);
	native_emit(native, "\x9d", 1);
	for (unsigned i = 0; i < 16; i++)
		native_emit_register(native, i, true, &native->in.registers[i]);
}

static inline void native_end(struct native *native)
{
	for (unsigned i = 0; i < 16; i++)
		native_emit_register(native, i, false, &native->out.registers[i]);
	native_emit_register(native, 4, true, &native->saved_rsp);
	native_emit(native, "\x9c", 1);
	native_emit_at(native, "\x8f\x05", 2, &native->out.flags);
	native_emit(native, "\xfc", 1);
	native_emit_xstate(native, "\x48\x0f\xae\x25");
	native_emit_register(native, 5, true, &native->saved_rbp);
	native_emit(native, "\xc3", 1);
}

static inline void native_run(struct native *native)
{
	uintptr_t code = (uintptr_t)native->code;

	/* Away from what the compiler keeps below the stack pointer. */
	__asm__ volatile("lea -256(%%rsp), %%rsp\n"
			 "call *%0\n"
			 "lea 256(%%rsp), %%rsp\n"
			 : "+a"(code)
			 :
			 : "memory", "cc", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10",
			   "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3",
			   "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
			   "xmm12", "xmm13", "xmm14", "xmm15");
}

#endif
