/* SPDX-License-Identifier: BSD-3-Clause */
/* Instructions that move, add, compare and so on: between memory and general registers. */
#include "frontends/uapi/emulation.h"

#include <errno.h>

#include "base/bytes.h"

#define DESTINATION(emulation) (&(emulation)->operands[0])
#define SOURCE(emulation)      (&(emulation)->operands[1])

/* mov, movzx, movnti, movdiri: immediates and what is loaded are already extended with zeroes. */
static int move(struct emulation *emulation, unsigned variant)
{
	uint64_t value;
	int ret = emulation_get(emulation, SOURCE(emulation), &value);

	return ret ? ret : emulation_set(emulation, DESTINATION(emulation), value);
}

static int move_signed(struct emulation *emulation, unsigned variant)
{
	uint64_t value;
	int ret = emulation_get(emulation, SOURCE(emulation), &value);

	if (ret)
		return ret;
	return emulation_set(emulation, DESTINATION(emulation),
			     emulation_sign_extend(value, SOURCE(emulation)->size));
}

static int move_swapped(struct emulation *emulation, unsigned variant)
{
	unsigned bits = SOURCE(emulation)->size;
	uint64_t value;
	int ret = emulation_get(emulation, SOURCE(emulation), &value);

	if (ret)
		return ret;
	return emulation_set(emulation, DESTINATION(emulation),
			     __builtin_bswap64(value) >> (64 - bits));
}

static int arithmetic(struct emulation *emulation, unsigned operation)
{
	unsigned bits = DESTINATION(emulation)->size;
	uint64_t a, b, flags = emulation->cpu.flags;
	int ret = emulation_get(emulation, DESTINATION(emulation), &a);

	if (!ret)
		ret = emulation_get(emulation, SOURCE(emulation), &b);
	if (ret)
		return ret;
	a = emulation_compute(operation, a, b & emulation_mask(bits), bits, &flags);
	ret = emulation_set(emulation, DESTINATION(emulation), a);
	if (!ret)
		emulation->cpu.flags = flags;
	return ret;
}

/* cmp and test: only flags come of it. */
static int compare(struct emulation *emulation, unsigned operation)
{
	unsigned bits = DESTINATION(emulation)->size;
	uint64_t a, b;
	int ret = emulation_get(emulation, DESTINATION(emulation), &a);

	if (!ret)
		ret = emulation_get(emulation, SOURCE(emulation), &b);
	if (!ret)
		emulation_compute(operation, a, b & emulation_mask(bits), bits,
				  &emulation->cpu.flags);
	return ret;
}

/* inc and dec: the carry stays. */
static int step(struct emulation *emulation, unsigned operation)
{
	uint64_t value, flags = emulation->cpu.flags;
	int ret = emulation_get(emulation, DESTINATION(emulation), &value);

	if (ret)
		return ret;
	value = emulation_compute(operation, value, 1, DESTINATION(emulation)->size, &flags);
	ret = emulation_set(emulation, DESTINATION(emulation), value);
	if (!ret)
		emulation->cpu.flags =
			(flags & ~(uint64_t)FLAG_CARRY) | (emulation->cpu.flags & FLAG_CARRY);
	return ret;
}

static int invert(struct emulation *emulation, unsigned variant)
{
	uint64_t value;
	int ret = emulation_get(emulation, DESTINATION(emulation), &value);

	return ret ? ret : emulation_set(emulation, DESTINATION(emulation), ~value);
}

static int negate(struct emulation *emulation, unsigned variant)
{
	uint64_t value, flags = emulation->cpu.flags;
	int ret = emulation_get(emulation, DESTINATION(emulation), &value);

	if (ret)
		return ret;
	value = emulation_compute(OPERATION_SUB, 0, value, DESTINATION(emulation)->size, &flags);
	ret = emulation_set(emulation, DESTINATION(emulation), value);
	if (!ret)
		emulation->cpu.flags = flags;
	return ret;
}

static int exchange(struct emulation *emulation, unsigned variant)
{
	const ZydisDecodedOperand *memory = DESTINATION(emulation), *other = SOURCE(emulation);
	uint64_t in_memory, in_other;
	int ret;

	if (memory->type != ZYDIS_OPERAND_TYPE_MEMORY) {
		memory = SOURCE(emulation);
		other = DESTINATION(emulation);
	}
	ret = emulation_get(emulation, memory, &in_memory);
	if (!ret)
		ret = emulation_get(emulation, other, &in_other);
	if (!ret)
		ret = emulation_set(emulation, memory, in_other);
	return ret ? ret : emulation_set(emulation, other, in_memory);
}

static int exchange_add(struct emulation *emulation, unsigned variant)
{
	unsigned bits = DESTINATION(emulation)->size;
	uint64_t was, added, sum, flags = emulation->cpu.flags;
	int ret = emulation_get(emulation, DESTINATION(emulation), &was);

	if (!ret)
		ret = emulation_get(emulation, SOURCE(emulation), &added);
	if (ret)
		return ret;
	sum = emulation_compute(OPERATION_ADD, was, added, bits, &flags);
	ret = emulation_set(emulation, DESTINATION(emulation), sum);
	if (ret)
		return ret;
	emulation->cpu.flags = flags;
	return emulation_set(emulation, SOURCE(emulation), was);
}

/* As on the bus, memory is written even where it isn't equal. */
static int compare_exchange(struct emulation *emulation, unsigned variant)
{
	unsigned bits = DESTINATION(emulation)->size;
	uint64_t was, desired, flags = emulation->cpu.flags;
	uint64_t expected = emulation->cpu.registers[REGISTER_RAX] & emulation_mask(bits);
	int ret = emulation_get(emulation, DESTINATION(emulation), &was);

	if (!ret)
		ret = emulation_get(emulation, SOURCE(emulation), &desired);
	if (ret)
		return ret;
	emulation_compute(OPERATION_SUB, expected, was, bits, &flags);
	ret = emulation_set(emulation, DESTINATION(emulation), was == expected ? desired : was);
	if (ret)
		return ret;
	emulation->cpu.flags = flags;
	if (was != expected)
		emulation_set_register(emulation, REGISTER_RAX, bits, was);
	return 0;
}

/* cmpxchg8b and cmpxchg16b; @variant: the bits of one of the two halves. */
static int compare_exchange_pair(struct emulation *emulation, unsigned half)
{
	uint64_t *registers = emulation->cpu.registers;
	uint64_t address = emulation_address(emulation, DESTINATION(emulation));
	uint64_t mask = emulation_mask(half), low, high;
	bool equal;
	int ret = emulation_load(emulation, address, half, &low);

	if (!ret)
		ret = emulation_load(emulation, address + half / 8, half, &high);
	if (ret)
		return ret;
	equal = low == (registers[REGISTER_RAX] & mask) && high == (registers[REGISTER_RDX] & mask);
	ret = emulation_store(emulation, address, half, equal ? registers[REGISTER_RBX] : low);
	if (!ret)
		ret = emulation_store(emulation, address + half / 8, half,
				      equal ? registers[REGISTER_RCX] : high);
	if (ret)
		return ret;
	emulation->cpu.flags &= ~(uint64_t)FLAG_ZERO;
	if (equal) {
		emulation->cpu.flags |= FLAG_ZERO;
	} else {
		emulation_set_register(emulation, REGISTER_RAX, half, low);
		emulation_set_register(emulation, REGISTER_RDX, half, high);
	}
	return 0;
}

/* bt and its kin. A bit's number that is in a register reaches beyond the operand. */
enum { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };
static int bit(struct emulation *emulation, unsigned variant)
{
	const ZydisDecodedOperand *memory = DESTINATION(emulation);
	unsigned bits = memory->size;
	uint64_t address, number, value, flag;
	int ret = emulation_get(emulation, SOURCE(emulation), &number);

	if (!ret && memory->type != ZYDIS_OPERAND_TYPE_MEMORY)
		ret = -EOPNOTSUPP;
	if (ret)
		return ret;
	address = emulation_address(emulation, memory);
	if (SOURCE(emulation)->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		int64_t distance = (int64_t)emulation_sign_extend(number, bits);

		address += (uint64_t)(distance >> __builtin_ctz(bits)) * (bits / 8);
	}
	flag = 1ULL << (number & (bits - 1));
	ret = emulation_load(emulation, address, bits, &value);
	if (ret)
		return ret;
	if (variant != BIT_TEST) {
		uint64_t changed = variant == BIT_SET	  ? value | flag
				   : variant == BIT_RESET ? value & ~flag
							  : value ^ flag;

		ret = emulation_store(emulation, address, bits, changed);
		if (ret)
			return ret;
	}
	emulation->cpu.flags &= ~(uint64_t)FLAG_CARRY;
	if (value & flag)
		emulation->cpu.flags |= FLAG_CARRY;
	return 0;
}

/* What the low four bits of setcc's and cmovcc's opcodes ask of the flags. */
static bool condition(const struct emulation *emulation)
{
	unsigned code = emulation->code->opcode & 0xf;
	uint64_t flags = emulation->cpu.flags;
	bool less = !(flags & FLAG_SIGN) != !(flags & FLAG_OVERFLOW);
	const bool conditions[8] = {
		flags & FLAG_OVERFLOW,
		flags & FLAG_CARRY,
		flags & FLAG_ZERO,
		flags & (FLAG_CARRY | FLAG_ZERO),
		flags & FLAG_SIGN,
		flags & FLAG_PARITY,
		less,
		less || flags & FLAG_ZERO,
	};

	return conditions[code / 2] != (code & 1);
}

static int set_condition(struct emulation *emulation, unsigned variant)
{
	return emulation_set(emulation, DESTINATION(emulation), condition(emulation));
}

static int move_condition(struct emulation *emulation, unsigned variant)
{
	uint64_t was, value;
	int ret = emulation_get(emulation, DESTINATION(emulation), &was);

	if (!ret)
		ret = emulation_get(emulation, SOURCE(emulation), &value);
	if (ret)
		return ret;
	return emulation_set(emulation, DESTINATION(emulation), condition(emulation) ? value : was);
}

static int push(struct emulation *emulation, unsigned variant)
{
	unsigned bits = DESTINATION(emulation)->size;
	uint64_t value, stack = emulation->cpu.registers[REGISTER_RSP] - bits / 8;
	int ret = emulation_get(emulation, DESTINATION(emulation), &value);

	if (!ret)
		ret = emulation_store(emulation, stack, bits, value);
	if (!ret)
		emulation->cpu.registers[REGISTER_RSP] = stack;
	return ret;
}

/* An address by rsp is that after the value is off the stack. */
static int pop(struct emulation *emulation, unsigned variant)
{
	unsigned bits = DESTINATION(emulation)->size;
	uint64_t value, *stack = &emulation->cpu.registers[REGISTER_RSP];
	int ret = emulation_load(emulation, *stack, bits, &value);

	if (ret)
		return ret;
	*stack += bits / 8;
	return emulation_set(emulation, DESTINATION(emulation), value);
}

#define SHIFT_ROWS                                                   \
	{ZYDIS_MNEMONIC_ROL, uapi_emulate_shift, SHIFT_ROL},         \
		{ZYDIS_MNEMONIC_ROR, uapi_emulate_shift, SHIFT_ROR}, \
		{ZYDIS_MNEMONIC_RCL, uapi_emulate_shift, SHIFT_RCL}, \
		{ZYDIS_MNEMONIC_RCR, uapi_emulate_shift, SHIFT_RCR}, \
		{ZYDIS_MNEMONIC_SHL, uapi_emulate_shift, SHIFT_SHL}, \
		{ZYDIS_MNEMONIC_SHR, uapi_emulate_shift, SHIFT_SHR}, \
	{                                                            \
		ZYDIS_MNEMONIC_SAR, uapi_emulate_shift, SHIFT_SAR    \
	}

#define CONDITION_ROWS(PREFIX, function)                                                           \
	{ZYDIS_MNEMONIC_##PREFIX##O, function}, {ZYDIS_MNEMONIC_##PREFIX##NO, function},           \
		{ZYDIS_MNEMONIC_##PREFIX##B, function}, {ZYDIS_MNEMONIC_##PREFIX##NB, function},   \
		{ZYDIS_MNEMONIC_##PREFIX##Z, function}, {ZYDIS_MNEMONIC_##PREFIX##NZ, function},   \
		{ZYDIS_MNEMONIC_##PREFIX##BE, function}, {ZYDIS_MNEMONIC_##PREFIX##NBE, function}, \
		{ZYDIS_MNEMONIC_##PREFIX##S, function}, {ZYDIS_MNEMONIC_##PREFIX##NS, function},   \
		{ZYDIS_MNEMONIC_##PREFIX##P, function}, {ZYDIS_MNEMONIC_##PREFIX##NP, function},   \
		{ZYDIS_MNEMONIC_##PREFIX##L, function}, {ZYDIS_MNEMONIC_##PREFIX##NL, function},   \
		{ZYDIS_MNEMONIC_##PREFIX##LE, function},                                           \
	{                                                                                          \
		ZYDIS_MNEMONIC_##PREFIX##NLE, function                                             \
	}

/* What drivers use most is first. */
const struct emulation_row uapi_integer_rows[] = {
	{ZYDIS_MNEMONIC_MOV, move},
	{ZYDIS_MNEMONIC_MOVZX, move},
	{ZYDIS_MNEMONIC_MOVSX, move_signed},
	{ZYDIS_MNEMONIC_MOVSXD, move_signed},
	{ZYDIS_MNEMONIC_MOVNTI, move},
	{ZYDIS_MNEMONIC_MOVDIRI, move},
	{ZYDIS_MNEMONIC_MOVBE, move_swapped},
	{ZYDIS_MNEMONIC_TEST, compare, OPERATION_AND},
	{ZYDIS_MNEMONIC_CMP, compare, OPERATION_SUB},
	{ZYDIS_MNEMONIC_ADD, arithmetic, OPERATION_ADD},
	{ZYDIS_MNEMONIC_ADC, arithmetic, OPERATION_ADC},
	{ZYDIS_MNEMONIC_SUB, arithmetic, OPERATION_SUB},
	{ZYDIS_MNEMONIC_SBB, arithmetic, OPERATION_SBB},
	{ZYDIS_MNEMONIC_AND, arithmetic, OPERATION_AND},
	{ZYDIS_MNEMONIC_OR, arithmetic, OPERATION_OR},
	{ZYDIS_MNEMONIC_XOR, arithmetic, OPERATION_XOR},
	{ZYDIS_MNEMONIC_INC, step, OPERATION_ADD},
	{ZYDIS_MNEMONIC_DEC, step, OPERATION_SUB},
	{ZYDIS_MNEMONIC_NOT, invert},
	{ZYDIS_MNEMONIC_NEG, negate},
	{ZYDIS_MNEMONIC_XCHG, exchange},
	{ZYDIS_MNEMONIC_XADD, exchange_add},
	{ZYDIS_MNEMONIC_CMPXCHG, compare_exchange},
	{ZYDIS_MNEMONIC_CMPXCHG8B, compare_exchange_pair, 32},
	{ZYDIS_MNEMONIC_CMPXCHG16B, compare_exchange_pair, 64},
	{ZYDIS_MNEMONIC_BT, bit, BIT_TEST},
	{ZYDIS_MNEMONIC_BTS, bit, BIT_SET},
	{ZYDIS_MNEMONIC_BTR, bit, BIT_RESET},
	{ZYDIS_MNEMONIC_BTC, bit, BIT_COMPLEMENT},
	CONDITION_ROWS(SET, set_condition),
	CONDITION_ROWS(CMOV, move_condition),
	{ZYDIS_MNEMONIC_PUSH, push},
	{ZYDIS_MNEMONIC_POP, pop},
	{ZYDIS_MNEMONIC_IMUL, uapi_emulate_multiply, true},
	{ZYDIS_MNEMONIC_MUL, uapi_emulate_multiply, false},
	SHIFT_ROWS,
	{ZYDIS_MNEMONIC_BSF, uapi_emulate_count, FIND_FIRST},
	{ZYDIS_MNEMONIC_BSR, uapi_emulate_count, FIND_LAST},
	{ZYDIS_MNEMONIC_TZCNT, uapi_emulate_count, COUNT_TRAILING},
	{ZYDIS_MNEMONIC_LZCNT, uapi_emulate_count, COUNT_LEADING},
	{ZYDIS_MNEMONIC_POPCNT, uapi_emulate_count, COUNT_ONES},
	{ZYDIS_MNEMONIC_SHLX, uapi_emulate_shifted_load, LOAD_LEFT},
	{ZYDIS_MNEMONIC_SHRX, uapi_emulate_shifted_load, LOAD_RIGHT},
	{ZYDIS_MNEMONIC_SARX, uapi_emulate_shifted_load, LOAD_RIGHT_SIGNED},
	{ZYDIS_MNEMONIC_RORX, uapi_emulate_shifted_load, LOAD_ROTATED},
	{ZYDIS_MNEMONIC_ANDN, uapi_emulate_and_not},
};
const size_t uapi_integer_row_count = UVF_ARRAY_SIZE(uapi_integer_rows);
