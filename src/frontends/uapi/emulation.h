/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of the emulator share: an instruction in the middle of being carried out. */
#ifndef UVF_UAPI_EMULATION_H
#define UVF_UAPI_EMULATION_H

#include "frontends/uapi/emulate.h"

enum {
	FLAG_CARRY = 1 << 0,
	FLAG_PARITY = 1 << 2,
	FLAG_ADJUST = 1 << 4,
	FLAG_ZERO = 1 << 6,
	FLAG_SIGN = 1 << 7,
	FLAG_DIRECTION = 1 << 10,
	FLAG_OVERFLOW = 1 << 11,
	FLAGS_ARITHMETIC =
		FLAG_CARRY | FLAG_PARITY | FLAG_ADJUST | FLAG_ZERO | FLAG_SIGN | FLAG_OVERFLOW,
};

enum { REGISTER_RAX = 0, REGISTER_RCX = 1, REGISTER_RDX = 2, REGISTER_RBX = 3, REGISTER_RSP = 4 };
enum { REGISTER_RSI = 6, REGISTER_RDI = 7 };

struct emulation {
	const ZydisDecodedInstruction *code;
	const ZydisDecodedOperand *operands;
	struct uapi_cpu cpu; /* what the registers will be; the XSAVE area is changed in place */
	const struct uapi_memory *memory;
	bool again; /* stays at this instruction */
};

/* A row of the tables of instructions. */
struct emulation_row {
	ZydisMnemonic mnemonic;
	int (*carry_out)(struct emulation *emulation, unsigned variant);
	unsigned variant;
};
extern const struct emulation_row uapi_integer_rows[];
extern const size_t uapi_integer_row_count;
extern const struct emulation_row uapi_vector_rows[];
extern const size_t uapi_vector_row_count;

/* MOVS, STOS, LODS, CMPS, SCAS: they share mnemonics with vector instructions. */
int uapi_emulate_string(struct emulation *emulation);

static inline uint64_t emulation_mask(unsigned bits)
{
	return bits >= 64 ? UINT64_MAX : (1ULL << bits) - 1;
}

static inline uint64_t emulation_sign_extend(uint64_t value, unsigned bits)
{
	unsigned shift = 64 - bits;

	return bits >= 64 ? value : (uint64_t)((int64_t)(value << shift) >> shift);
}

uint64_t emulation_address(const struct emulation *emulation, const ZydisDecodedOperand *operand);
int emulation_memory_read(const struct emulation *emulation, uint64_t address, void *to,
			  size_t size);
int emulation_memory_write(const struct emulation *emulation, uint64_t address, const void *from,
			   size_t size);
/* Bytes of memory as a number, up to 8 of them. */
int emulation_load(const struct emulation *emulation, uint64_t address, unsigned bits,
		   uint64_t *value);
int emulation_store(const struct emulation *emulation, uint64_t address, unsigned bits,
		    uint64_t value);
/* An operand: a general register, an immediate, or memory. Of at most 64 bits. */
int emulation_get(const struct emulation *emulation, const ZydisDecodedOperand *operand,
		  uint64_t *value);
int emulation_set(struct emulation *emulation, const ZydisDecodedOperand *operand, uint64_t value);
/* Writes the low @bits of a general register as instructions do: 32 bits clear the rest. */
void emulation_set_register(struct emulation *emulation, unsigned number, unsigned bits,
			    uint64_t value);

/* Arithmetic on @bits with the flags that it leaves. */
enum emulation_operation {
	OPERATION_ADD,
	OPERATION_ADC,
	OPERATION_SUB,
	OPERATION_SBB,
	OPERATION_AND,
	OPERATION_OR,
	OPERATION_XOR,
};
uint64_t emulation_compute(enum emulation_operation operation, uint64_t a, uint64_t b,
			   unsigned bits, uint64_t *flags);

enum emulation_shift {
	SHIFT_ROL,
	SHIFT_ROR,
	SHIFT_RCL,
	SHIFT_RCR,
	SHIFT_SHL,
	SHIFT_SHR,
	SHIFT_SAR,
};
int uapi_emulate_shift(struct emulation *emulation, unsigned variant);
int uapi_emulate_multiply(struct emulation *emulation, unsigned is_signed);

enum { FIND_FIRST, FIND_LAST, COUNT_TRAILING, COUNT_LEADING, COUNT_ONES };
int uapi_emulate_count(struct emulation *emulation, unsigned kind);
enum { LOAD_LEFT, LOAD_RIGHT, LOAD_RIGHT_SIGNED, LOAD_ROTATED };
int uapi_emulate_shifted_load(struct emulation *emulation, unsigned kind);
int uapi_emulate_and_not(struct emulation *emulation, unsigned variant);

#endif
