/* SPDX-License-Identifier: BSD-3-Clause */
/* Arithmetic with the flags that it leaves. Flags that the manuals leave undefined are as they
 * come out. */
#include "frontends/uapi/emulation.h"

#include <errno.h>

static uint64_t result_flags(uint64_t result, unsigned bits)
{
	uint64_t flags = 0;

	if (!result)
		flags |= FLAG_ZERO;
	if (result >> (bits - 1) & 1)
		flags |= FLAG_SIGN;
	if (!__builtin_parity((unsigned)(result & 0xff)))
		flags |= FLAG_PARITY;
	return flags;
}

uint64_t emulation_compute(enum emulation_operation operation, uint64_t a, uint64_t b,
			   unsigned bits, uint64_t *flags)
{
	uint64_t carry_in = *flags & FLAG_CARRY, carry = 0, overflow = 0, adjust = 0, result;
	unsigned top = bits - 1;

	switch (operation) {
	case OPERATION_ADD:
	case OPERATION_ADC:
		result = a + b + (operation == OPERATION_ADC ? carry_in : 0);
		carry = ((a & b) | ((a | b) & ~result)) >> top & 1;
		overflow = ((a ^ result) & (b ^ result)) >> top & 1;
		adjust = a ^ b ^ result;
		break;
	case OPERATION_SUB:
	case OPERATION_SBB:
		result = a - b - (operation == OPERATION_SBB ? carry_in : 0);
		carry = ((~a & b) | ((~a | b) & result)) >> top & 1;
		overflow = ((a ^ b) & (a ^ result)) >> top & 1;
		adjust = a ^ b ^ result;
		break;
	case OPERATION_AND:
		result = a & b;
		break;
	case OPERATION_OR:
		result = a | b;
		break;
	default:
		result = a ^ b;
		break;
	}
	result &= emulation_mask(bits);
	*flags &= ~(uint64_t)FLAGS_ARITHMETIC;
	*flags |= result_flags(result, bits) | (adjust & FLAG_ADJUST);
	if (carry)
		*flags |= FLAG_CARRY;
	if (overflow)
		*flags |= FLAG_OVERFLOW;
	return result;
}

/* One bit's way of a shift: what comes out is the new carry. */
static uint64_t shift_once(enum emulation_shift kind, uint64_t value, unsigned bits, bool *carry)
{
	uint64_t top = 1ULL << (bits - 1), in = 0;
	bool left = kind == SHIFT_ROL || kind == SHIFT_RCL || kind == SHIFT_SHL;
	bool out = value & (left ? 1ULL << (bits - 1) : 1);

	switch (kind) {
	case SHIFT_ROL:
	case SHIFT_ROR:
		in = out;
		break;
	case SHIFT_RCL:
	case SHIFT_RCR:
		in = *carry;
		break;
	case SHIFT_SAR:
		in = !!(value & top);
		break;
	default:
		break;
	}
	*carry = out;
	if (left)
		return (value << 1 | in) & emulation_mask(bits);
	return value >> 1 | (in ? top : 0);
}

int uapi_emulate_shift(struct emulation *emulation, unsigned variant)
{
	const ZydisDecodedOperand *destination = &emulation->operands[0];
	enum emulation_shift kind = variant;
	unsigned bits = destination->size;
	uint64_t before, value, count, flags = emulation->cpu.flags;
	bool carry = flags & FLAG_CARRY, overflow;
	int ret = emulation_get(emulation, destination, &value);

	if (!ret)
		ret = emulation_get(emulation, &emulation->operands[1], &count);
	if (ret)
		return ret;
	count &= bits == 64 ? 63 : 31;
	before = value;
	for (uint64_t i = 0; i < count; i++)
		value = shift_once(kind, value, bits, &carry);
	ret = emulation_set(emulation, destination, value);
	if (ret || !count)
		return ret;

	/* Of a shift by one; of others it is undefined. */
	overflow = (before ^ value) >> (bits - 1) & 1;
	if (kind != SHIFT_ROL && kind != SHIFT_ROR && kind != SHIFT_RCL && kind != SHIFT_RCR)
		flags = (flags & ~(uint64_t)FLAGS_ARITHMETIC) | result_flags(value, bits);
	flags &= ~(uint64_t)(FLAG_CARRY | FLAG_OVERFLOW);
	if (carry)
		flags |= FLAG_CARRY;
	if (overflow)
		flags |= FLAG_OVERFLOW;
	emulation->cpu.flags = flags;
	return 0;
}

/* mul and imul: with one, two and three operands. */
int uapi_emulate_multiply(struct emulation *emulation, unsigned is_signed)
{
	const ZydisDecodedOperand *operands = emulation->operands;
	unsigned given = emulation->code->operand_count_visible, bits = operands[0].size;
	uint64_t a = emulation->cpu.registers[REGISTER_RAX], b, low, high;
	bool significant;
	int ret = emulation_get(emulation, &operands[given > 1], &b);

	if (!ret && given == 2)
		ret = emulation_get(emulation, &operands[0], &a);
	if (!ret && given == 3)
		ret = emulation_get(emulation, &operands[2], &a);
	if (ret)
		return ret;
	a &= emulation_mask(bits);
	if (is_signed) {
		__int128 product = (__int128)(int64_t)emulation_sign_extend(a, bits) *
				   (int64_t)emulation_sign_extend(b, bits);

		low = (uint64_t)product & emulation_mask(bits);
		high = (uint64_t)(product >> bits) & emulation_mask(bits);
		significant = product != (int64_t)emulation_sign_extend(low, bits);
	} else {
		unsigned __int128 product = (unsigned __int128)a * b;

		low = (uint64_t)product & emulation_mask(bits);
		high = (uint64_t)(product >> bits) & emulation_mask(bits);
		significant = high;
	}
	emulation->cpu.flags &= ~(uint64_t)(FLAG_CARRY | FLAG_OVERFLOW);
	if (significant)
		emulation->cpu.flags |= FLAG_CARRY | FLAG_OVERFLOW;
	if (given > 1)
		return emulation_set(emulation, &operands[0], low);
	if (bits == 8) {
		emulation_set_register(emulation, REGISTER_RAX, 16, low | high << 8);
	} else {
		emulation_set_register(emulation, REGISTER_RAX, bits, low);
		emulation_set_register(emulation, REGISTER_RDX, bits, high);
	}
	return 0;
}
