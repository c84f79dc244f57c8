/* SPDX-License-Identifier: BSD-3-Clause */
/* Instructions that count and find bits in memory, or shift what they load into a register. */
#include "frontends/uapi/emulation.h"

#include <errno.h>

static uint64_t count_bits(unsigned kind, uint64_t value, unsigned bits)
{
	switch (kind) {
	case FIND_FIRST:
		return (uint64_t)__builtin_ctzll(value);
	case FIND_LAST:
		return 63 - (uint64_t)__builtin_clzll(value);
	case COUNT_TRAILING:
		return value ? (uint64_t)__builtin_ctzll(value) : bits;
	case COUNT_LEADING:
		return value ? (uint64_t)__builtin_clzll(value) - (64 - bits) : bits;
	default:
		return (uint64_t)__builtin_popcountll(value);
	}
}

int uapi_emulate_count(struct emulation *emulation, unsigned kind)
{
	uint64_t value, counted, *flags = &emulation->cpu.flags;
	bool finds = kind == FIND_FIRST || kind == FIND_LAST;
	int ret = emulation_get(emulation, &emulation->operands[1], &value);

	if (ret)
		return ret;
	/* Of nothing there is no first and no last: the register stays. */
	counted = finds && !value ? 0 : count_bits(kind, value, emulation->operands[1].size);
	*flags &= ~(uint64_t)(FLAG_ZERO | (finds ? 0 : FLAG_CARRY));
	if (kind == COUNT_ONES)
		*flags &= ~(uint64_t)FLAGS_ARITHMETIC;
	if (finds || kind == COUNT_ONES ? !value : !counted)
		*flags |= FLAG_ZERO;
	if (!value && (kind == COUNT_TRAILING || kind == COUNT_LEADING))
		*flags |= FLAG_CARRY;
	if (finds && !value)
		return 0;
	return emulation_set(emulation, &emulation->operands[0], counted);
}

/* shlx, shrx, sarx, rorx: flags stay. */
int uapi_emulate_shifted_load(struct emulation *emulation, unsigned kind)
{
	unsigned bits = emulation->operands[0].size;
	uint64_t value, count;
	int ret = emulation_get(emulation, &emulation->operands[1], &value);

	if (!ret)
		ret = emulation_get(emulation, &emulation->operands[2], &count);
	if (ret)
		return ret;
	count &= bits - 1;
	switch (kind) {
	case LOAD_LEFT:
		value <<= count;
		break;
	case LOAD_RIGHT:
		value >>= count;
		break;
	case LOAD_RIGHT_SIGNED:
		value = (uint64_t)((int64_t)emulation_sign_extend(value, bits) >> count);
		break;
	default:
		value = value >> count | (count ? value << (bits - count) : 0);
		break;
	}
	return emulation_set(emulation, &emulation->operands[0], value);
}

int uapi_emulate_and_not(struct emulation *emulation, unsigned variant)
{
	unsigned bits = emulation->operands[0].size;
	uint64_t a, b;
	int ret = emulation_get(emulation, &emulation->operands[1], &a);

	if (!ret)
		ret = emulation_get(emulation, &emulation->operands[2], &b);
	if (ret)
		return ret;
	a = emulation_compute(OPERATION_AND, ~a & emulation_mask(bits), b, bits,
			      &emulation->cpu.flags);
	return emulation_set(emulation, &emulation->operands[0], a);
}
