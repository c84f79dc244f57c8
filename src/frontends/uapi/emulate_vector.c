/* SPDX-License-Identifier: BSD-3-Clause */
/* Loads and stores of vector registers, as they lie in an XSAVE area. */
#include "frontends/uapi/emulation.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"

#define VECTOR_SIZE 64
#define LANE_SIZE   16
#define LANES	    4

/* The XSAVE area's fixed part, and its components. */
#define XSTATE_XMM    160
#define XSTATE_HEADER 512
#define XSTATE_LEAF   0xd
enum { COMPONENT_SSE = 1, COMPONENT_YMM = 2, COMPONENT_OPMASK = 5, COMPONENT_ZMM = 6 };
enum { COMPONENT_ZMM_UPPER = 7 };

void uapi_xstate_layout(struct uapi_xstate_layout *layout)
{
	uint32_t *const offsets[] = {
		[COMPONENT_YMM] = &layout->ymm,
		[COMPONENT_OPMASK] = &layout->opmask,
		[COMPONENT_ZMM] = &layout->zmm,
		[COMPONENT_ZMM_UPPER] = &layout->zmm_upper,
	};
	uint32_t low, size, unused, high;

	memset(layout, 0, sizeof(*layout));
	if (!__get_cpuid_count(XSTATE_LEAF, 0, &low, &size, &unused, &high))
		return;
	layout->size = size;
	for (unsigned i = 0; i < UVF_ARRAY_SIZE(offsets); i++)
		if (offsets[i] && low >> i & 1)
			__get_cpuid_count(XSTATE_LEAF, i, &size, offsets[i], &unused, &high);
}

/* Where 16 bytes of a register are, and of which component; NULL: the processor hasn't them. */
static uint8_t *find_lane(const struct uapi_cpu *cpu, unsigned number, unsigned lane,
			  unsigned *component)
{
	const struct uapi_xstate_layout *layout = cpu->layout;

	if (number >= 16) {
		*component = COMPONENT_ZMM_UPPER;
		if (!layout->zmm_upper)
			return NULL;
		return cpu->xstate + layout->zmm_upper + (number - 16) * VECTOR_SIZE +
		       lane * LANE_SIZE;
	}
	if (!lane) {
		*component = COMPONENT_SSE;
		return cpu->xstate + XSTATE_XMM + number * LANE_SIZE;
	}
	if (lane == 1) {
		*component = COMPONENT_YMM;
		return layout->ymm ? cpu->xstate + layout->ymm + number * LANE_SIZE : NULL;
	}
	*component = COMPONENT_ZMM;
	if (!layout->zmm)
		return NULL;
	return cpu->xstate + layout->zmm + number * (VECTOR_SIZE / 2) + (lane - 2) * LANE_SIZE;
}

static void vector_get(const struct uapi_cpu *cpu, unsigned number, uint8_t *bytes)
{
	unsigned component;

	memset(bytes, 0, VECTOR_SIZE);
	for (unsigned lane = 0; lane < LANES; lane++) {
		const uint8_t *at = find_lane(cpu, number, lane, &component);

		if (at)
			memcpy(bytes + lane * LANE_SIZE, at, LANE_SIZE);
	}
}

/* A component whose bit is off is all zeroes, whatever is in the area: it has to be on. */
static void vector_set(struct uapi_cpu *cpu, unsigned number, const uint8_t *bytes)
{
	unsigned component;
	uint64_t present;

	memcpy(&present, cpu->xstate + XSTATE_HEADER, sizeof(present));
	for (unsigned lane = 0; lane < LANES; lane++) {
		uint8_t *at = find_lane(cpu, number, lane, &component);

		if (!at || !memcmp(at, bytes + lane * LANE_SIZE, LANE_SIZE))
			continue;
		memcpy(at, bytes + lane * LANE_SIZE, LANE_SIZE);
		present |= 1ULL << component;
	}
	memcpy(cpu->xstate + XSTATE_HEADER, &present, sizeof(present));
}

/* An operand by its place, where the opmask of the newest encoding isn't counted. */
static const ZydisDecodedOperand *operand_at(const struct emulation *emulation, unsigned place)
{
	if (place && emulation->code->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
	    ZydisRegisterGetClass(emulation->operands[1].reg.value) == ZYDIS_REGCLASS_MASK)
		place++;
	return &emulation->operands[place];
}

static bool vector_register(const ZydisDecodedOperand *operand, unsigned *number)
{
	ZydisRegisterClass class = ZydisRegisterGetClass(operand->reg.value);

	if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    (class != ZYDIS_REGCLASS_XMM && class != ZYDIS_REGCLASS_YMM &&
	     class != ZYDIS_REGCLASS_ZMM))
		return false;
	*number = (unsigned)ZydisRegisterGetId(operand->reg.value);
	return true;
}

/* Instructions of the old encoding leave what is past their 16 bytes; others clear it. */
static void clear_rest(const struct emulation *emulation, uint8_t *bytes, size_t from)
{
	size_t end = emulation->code->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ? LANE_SIZE
										    : VECTOR_SIZE;

	if (from < end)
		memset(bytes + from, 0, end - from);
}

/* Which elements an opmask lets through: all, where there is none. */
static uint64_t elements(const struct emulation *emulation)
{
	const ZydisDecodedInstructionAvx *avx = &emulation->code->avx;
	uint64_t mask;

	if (avx->mask.mode == ZYDIS_MASK_MODE_INVALID ||
	    avx->mask.mode == ZYDIS_MASK_MODE_DISABLED || avx->mask.reg == ZYDIS_REGISTER_K0)
		return UINT64_MAX;
	memcpy(&mask,
	       emulation->cpu.xstate + emulation->cpu.layout->opmask +
		       (size_t)ZydisRegisterGetId(avx->mask.reg) * sizeof(mask),
	       sizeof(mask));
	return mask;
}

static bool is_masked(const struct emulation *emulation)
{
	return emulation->code->avx.mask.mode > ZYDIS_MASK_MODE_DISABLED &&
	       emulation->code->avx.mask.reg != ZYDIS_REGISTER_K0;
}

static int load_elements(struct emulation *emulation, uint64_t address, uint8_t *bytes, size_t size,
			 size_t element)
{
	bool zeroing = emulation->code->avx.mask.mode == ZYDIS_MASK_MODE_ZEROING;
	uint64_t mask = elements(emulation);

	for (size_t at = 0; at < size; at += element, mask >>= 1) {
		int ret = 0;

		if (mask & 1)
			ret = emulation_memory_read(emulation, address + at, bytes + at, element);
		else if (zeroing)
			memset(bytes + at, 0, element);
		if (ret)
			return ret;
	}
	return 0;
}

static int store_elements(struct emulation *emulation, uint64_t address, const uint8_t *bytes,
			  size_t size, size_t element)
{
	uint64_t mask = elements(emulation);

	for (size_t at = 0; at < size; at += element, mask >>= 1) {
		int ret = 0;

		if (mask & 1)
			ret = emulation_memory_write(emulation, address + at, bytes + at, element);
		if (ret)
			return ret;
	}
	return 0;
}

/* Between memory and the low part of a register; @element: its size, where a mask can pick. */
static int move(struct emulation *emulation, unsigned element)
{
	bool loads = operand_at(emulation, 1)->type == ZYDIS_OPERAND_TYPE_MEMORY;
	const ZydisDecodedOperand *memory = operand_at(emulation, loads);
	const ZydisDecodedOperand *vector = operand_at(emulation, !loads);
	size_t size = memory->size / 8;
	uint8_t bytes[VECTOR_SIZE];
	uint64_t address;
	unsigned number;
	int ret;

	if (memory->type != ZYDIS_OPERAND_TYPE_MEMORY || !vector_register(vector, &number) ||
	    size > VECTOR_SIZE || (is_masked(emulation) && !element))
		return -EOPNOTSUPP;
	address = emulation_address(emulation, memory);
	vector_get(&emulation->cpu, number, bytes);
	if (!loads)
		return is_masked(emulation)
			       ? store_elements(emulation, address, bytes, size, element)
			       : emulation_memory_write(emulation, address, bytes, size);
	ret = is_masked(emulation) ? load_elements(emulation, address, bytes, size, element)
				   : emulation_memory_read(emulation, address, bytes, size);
	if (ret)
		return ret;
	clear_rest(emulation, bytes, size);
	vector_set(&emulation->cpu, number, bytes);
	return 0;
}

/* movlps, movhps and so on: half of 16 bytes at @half, the other from where it was. */
static int move_half(struct emulation *emulation, unsigned half)
{
	const ZydisDecodedOperand *operands = emulation->operands;
	bool loads = operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER;
	unsigned given = emulation->code->operand_count_visible;
	const ZydisDecodedOperand *memory = &operands[loads ? given - 1 : 0];
	unsigned number, rest;
	uint8_t bytes[VECTOR_SIZE];
	int ret;

	if (memory->type != ZYDIS_OPERAND_TYPE_MEMORY ||
	    !vector_register(&operands[loads ? 0 : 1], &number) ||
	    !vector_register(&operands[loads ? given - 2 : 1], &rest))
		return -EOPNOTSUPP;
	vector_get(&emulation->cpu, rest, bytes);
	if (!loads)
		return emulation_memory_write(emulation, emulation_address(emulation, memory),
					      bytes + half, LANE_SIZE / 2);
	ret = emulation_memory_read(emulation, emulation_address(emulation, memory), bytes + half,
				    LANE_SIZE / 2);
	if (ret)
		return ret;
	clear_rest(emulation, bytes, LANE_SIZE);
	vector_set(&emulation->cpu, number, bytes);
	return 0;
}

/* An element that fills the register. */
static int broadcast(struct emulation *emulation, unsigned variant)
{
	const ZydisDecodedOperand *to = operand_at(emulation, 0), *from = operand_at(emulation, 1);
	size_t element = from->size / 8, size = to->size / 8;
	uint8_t bytes[VECTOR_SIZE];
	unsigned number;
	int ret;

	if (from->type != ZYDIS_OPERAND_TYPE_MEMORY || !vector_register(to, &number) ||
	    is_masked(emulation) || !element || size > VECTOR_SIZE || element > size)
		return -EOPNOTSUPP;
	vector_get(&emulation->cpu, number, bytes);
	ret = emulation_memory_read(emulation, emulation_address(emulation, from), bytes, element);
	if (ret)
		return ret;
	for (size_t at = element; at < size; at += element)
		memcpy(bytes + at, bytes, element);
	clear_rest(emulation, bytes, size);
	vector_set(&emulation->cpu, number, bytes);
	return 0;
}

/* Stores of a 16 or 32 byte part of a register. */
static int extract(struct emulation *emulation, unsigned variant)
{
	const ZydisDecodedOperand *to = operand_at(emulation, 0), *from = operand_at(emulation, 1);
	size_t size = to->size / 8;
	/* The operand's size is that of what is read of it. */
	size_t whole = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, from->reg.value) / 8;
	uint8_t bytes[VECTOR_SIZE];
	unsigned number;

	if (to->type != ZYDIS_OPERAND_TYPE_MEMORY || !vector_register(from, &number) ||
	    is_masked(emulation) || !size || size > whole || whole > VECTOR_SIZE)
		return -EOPNOTSUPP;
	vector_get(&emulation->cpu, number, bytes);
	return emulation_memory_write(
		emulation, emulation_address(emulation, to),
		bytes + operand_at(emulation, 2)->imm.value.u % (whole / size) * size, size);
}

const struct emulation_row uapi_vector_rows[] = {
	{ZYDIS_MNEMONIC_MOVUPS, move},
	{ZYDIS_MNEMONIC_MOVAPS, move},
	{ZYDIS_MNEMONIC_MOVDQU, move},
	{ZYDIS_MNEMONIC_MOVDQA, move},
	{ZYDIS_MNEMONIC_MOVUPD, move},
	{ZYDIS_MNEMONIC_MOVAPD, move},
	{ZYDIS_MNEMONIC_MOVQ, move},
	{ZYDIS_MNEMONIC_MOVD, move},
	{ZYDIS_MNEMONIC_MOVSS, move},
	{ZYDIS_MNEMONIC_MOVSD, move},
	{ZYDIS_MNEMONIC_LDDQU, move},
	{ZYDIS_MNEMONIC_MOVNTDQ, move},
	{ZYDIS_MNEMONIC_MOVNTDQA, move},
	{ZYDIS_MNEMONIC_MOVNTPS, move},
	{ZYDIS_MNEMONIC_MOVNTPD, move},
	{ZYDIS_MNEMONIC_MOVLPS, move_half, 0},
	{ZYDIS_MNEMONIC_MOVLPD, move_half, 0},
	{ZYDIS_MNEMONIC_MOVHPS, move_half, 8},
	{ZYDIS_MNEMONIC_MOVHPD, move_half, 8},
	{ZYDIS_MNEMONIC_VMOVUPS, move, 4},
	{ZYDIS_MNEMONIC_VMOVAPS, move, 4},
	{ZYDIS_MNEMONIC_VMOVUPD, move, 8},
	{ZYDIS_MNEMONIC_VMOVAPD, move, 8},
	{ZYDIS_MNEMONIC_VMOVDQU, move},
	{ZYDIS_MNEMONIC_VMOVDQA, move},
	{ZYDIS_MNEMONIC_VMOVDQU8, move, 1},
	{ZYDIS_MNEMONIC_VMOVDQU16, move, 2},
	{ZYDIS_MNEMONIC_VMOVDQU32, move, 4},
	{ZYDIS_MNEMONIC_VMOVDQA32, move, 4},
	{ZYDIS_MNEMONIC_VMOVDQU64, move, 8},
	{ZYDIS_MNEMONIC_VMOVDQA64, move, 8},
	{ZYDIS_MNEMONIC_VMOVQ, move},
	{ZYDIS_MNEMONIC_VMOVD, move},
	{ZYDIS_MNEMONIC_VMOVSS, move},
	{ZYDIS_MNEMONIC_VMOVSD, move},
	{ZYDIS_MNEMONIC_VLDDQU, move},
	{ZYDIS_MNEMONIC_VMOVNTDQ, move},
	{ZYDIS_MNEMONIC_VMOVNTDQA, move},
	{ZYDIS_MNEMONIC_VMOVNTPS, move},
	{ZYDIS_MNEMONIC_VMOVNTPD, move},
	{ZYDIS_MNEMONIC_VMOVLPS, move_half, 0},
	{ZYDIS_MNEMONIC_VMOVLPD, move_half, 0},
	{ZYDIS_MNEMONIC_VMOVHPS, move_half, 8},
	{ZYDIS_MNEMONIC_VMOVHPD, move_half, 8},
	{ZYDIS_MNEMONIC_VBROADCASTSS, broadcast},
	{ZYDIS_MNEMONIC_VBROADCASTSD, broadcast},
	{ZYDIS_MNEMONIC_VBROADCASTF128, broadcast},
	{ZYDIS_MNEMONIC_VBROADCASTI128, broadcast},
	{ZYDIS_MNEMONIC_VPBROADCASTB, broadcast},
	{ZYDIS_MNEMONIC_VPBROADCASTW, broadcast},
	{ZYDIS_MNEMONIC_VPBROADCASTD, broadcast},
	{ZYDIS_MNEMONIC_VPBROADCASTQ, broadcast},
	{ZYDIS_MNEMONIC_VEXTRACTF128, extract},
	{ZYDIS_MNEMONIC_VEXTRACTI128, extract},
};
const size_t uapi_vector_row_count = UVF_ARRAY_SIZE(uapi_vector_rows);
