/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An instruction of the program carried out here: the program's registers are a struct, and its
 * memory is reached through two functions, so that a register of a device can stand where memory
 * was meant. Knows nothing of ptrace() or devices.
 */
#ifndef UVF_UAPI_EMULATE_H
#define UVF_UAPI_EMULATE_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UAPI_INSTRUCTION_MAX 15

/* An instruction of 64-bit mode. */
struct uapi_instruction {
	ZydisDecodedInstruction code;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

/* Where the processor's XSAVE area, not compacted, has what; 0: not on this processor. */
struct uapi_xstate_layout {
	uint32_t size;
	uint32_t ymm;	    /* bits 128 to 255 of vector registers 0 to 15 */
	uint32_t opmask;    /* k0 to k7 */
	uint32_t zmm;	    /* bits 256 to 511 of vector registers 0 to 15 */
	uint32_t zmm_upper; /* vector registers 16 to 31 */
};

/* A thread's registers. */
struct uapi_cpu {
	uint64_t registers[16]; /* as instructions number them: rax, rcx, rdx, rbx, rsp, ... */
	uint64_t rip, flags;
	uint64_t fs_base, gs_base;
	/* For instructions that uapi_instruction_has_vectors(): an XSAVE area. */
	uint8_t *xstate;
	const struct uapi_xstate_layout *layout;
};

/*
 * The program's memory, in pieces of 1, 2, 4 or 8 bytes, naturally aligned. Return 0 or a negative
 * errno, which ends the instruction.
 */
struct uapi_memory {
	int (*read)(void *opaque, uint64_t address, void *to, size_t size);
	int (*write)(void *opaque, uint64_t address, const void *from, size_t size);
	void *opaque;
};

void uapi_xstate_layout(struct uapi_xstate_layout *layout);

/* Decodes the first instruction in @bytes. Errors: -EILSEQ (it isn't one, or not whole). */
int uapi_decode(const void *bytes, size_t size, struct uapi_instruction *instruction);
/* The instruction as an assembler writes it. */
void uapi_instruction_text(const struct uapi_instruction *instruction, char *text, size_t size);
/* Whether it uses vector registers. */
bool uapi_instruction_has_vectors(const struct uapi_instruction *instruction);

/*
 * Carries the instruction out, which is at cpu->rip. One that repeats itself does only a number of
 * rounds; it is then still at cpu->rip, to be gone on with.
 * Errors: -EOPNOTSUPP (nothing is known of such an instruction: nothing was done), or what @memory
 * returned. Registers are then as before, but that a repeated one has done the rounds before.
 */
int uapi_emulate(const struct uapi_instruction *instruction, struct uapi_cpu *cpu,
		 const struct uapi_memory *memory);

#endif
