/* SPDX-License-Identifier: BSD-3-Clause */
/* String instructions: element by element, each round as if it were an instruction of its own. */
#include "frontends/uapi/emulation.h"

#include <errno.h>

/* Rounds at a time: others are waiting. */
#define ROUNDS 256

enum { STRING_MOVS = 0xa4, STRING_CMPS = 0xa6, STRING_STOS = 0xaa, STRING_LODS = 0xac };
enum { STRING_SCAS = 0xae };

struct string {
	unsigned kind; /* the opcode without its lowest bit */
	unsigned bits; /* of an element */
	uint64_t source, destination;
};

static void advance(struct emulation *emulation, unsigned number, unsigned bits)
{
	uint64_t step = bits / 8;

	if (emulation->cpu.flags & FLAG_DIRECTION)
		step = -step;
	emulation_set_register(emulation, number, emulation->code->address_width,
			       emulation->cpu.registers[number] + step);
}

static uint64_t string_address(const struct emulation *emulation, unsigned number)
{
	uint64_t address =
		emulation->cpu.registers[number] & emulation_mask(emulation->code->address_width);

	/* The destination's segment can't be chosen. */
	if (number == REGISTER_RSI && emulation->code->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
		address += emulation->cpu.fs_base;
	if (number == REGISTER_RSI && emulation->code->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
		address += emulation->cpu.gs_base;
	return address;
}

static int one_round(struct emulation *emulation, const struct string *string)
{
	uint64_t source = 0, destination = 0, rax = emulation->cpu.registers[REGISTER_RAX];
	bool uses_source = string->kind == STRING_MOVS || string->kind == STRING_CMPS ||
			   string->kind == STRING_LODS;
	bool compares = string->kind == STRING_CMPS || string->kind == STRING_SCAS;
	unsigned bits = string->bits;
	int ret = 0;

	if (uses_source)
		ret = emulation_load(emulation, string_address(emulation, REGISTER_RSI), bits,
				     &source);
	if (!ret && compares)
		ret = emulation_load(emulation, string_address(emulation, REGISTER_RDI), bits,
				     &destination);
	if (!ret && (string->kind == STRING_MOVS || string->kind == STRING_STOS))
		ret = emulation_store(emulation, string_address(emulation, REGISTER_RDI), bits,
				      string->kind == STRING_MOVS ? source : rax);
	if (ret)
		return ret;
	if (compares)
		emulation_compute(OPERATION_SUB,
				  (string->kind == STRING_CMPS ? source : rax) &
					  emulation_mask(bits),
				  destination, bits, &emulation->cpu.flags);
	if (string->kind == STRING_LODS)
		emulation_set_register(emulation, REGISTER_RAX, bits, source);
	if (uses_source)
		advance(emulation, REGISTER_RSI, bits);
	if (string->kind != STRING_LODS)
		advance(emulation, REGISTER_RDI, bits);
	return 0;
}

int uapi_emulate_string(struct emulation *emulation)
{
	const ZydisDecodedInstruction *code = emulation->code;
	uint64_t *rcx = &emulation->cpu.registers[REGISTER_RCX];
	struct string string = {
		.kind = code->opcode & ~1U,
		.bits = code->opcode & 1 ? code->operand_width : 8,
	};
	bool until_equal = code->attributes & ZYDIS_ATTRIB_HAS_REPNE;
	bool while_equal = code->attributes & ZYDIS_ATTRIB_HAS_REPE;
	bool compares = string.kind == STRING_CMPS || string.kind == STRING_SCAS;

	if (string.kind != STRING_MOVS && string.kind != STRING_STOS &&
	    string.kind != STRING_LODS && !compares)
		return -EOPNOTSUPP;
	if (!until_equal && !while_equal && !(code->attributes & ZYDIS_ATTRIB_HAS_REP))
		return one_round(emulation, &string);
	emulation->again = true;
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t left = *rcx & emulation_mask(code->address_width);
		int ret;

		if (!left)
			break;
		ret = one_round(emulation, &string);
		if (ret)
			return ret;
		emulation_set_register(emulation, REGISTER_RCX, code->address_width, left - 1);
		if (compares && !(emulation->cpu.flags & FLAG_ZERO) == !until_equal) {
			emulation->again = false;
			return 0;
		}
	}
	emulation->again = *rcx & emulation_mask(code->address_width);
	return 0;
}
