/* SPDX-License-Identifier: BSD-3-Clause */
/* The emulator's frame: operands, memory in naturally aligned pieces, and who knows what. */
#include "frontends/uapi/emulation.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

/* A general register's number and where in it the operand begins, in bits. False: another kind. */
static bool general_register(ZydisRegister name, unsigned *number, unsigned *shift)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, name);

	if (ZydisRegisterGetClass(whole) != ZYDIS_REGCLASS_GPR64)
		return false;
	*number = (unsigned)ZydisRegisterGetId(whole);
	*shift = name >= ZYDIS_REGISTER_AH && name <= ZYDIS_REGISTER_BH ? 8 : 0;
	return true;
}

static uint64_t address_register(const struct emulation *emulation, ZydisRegister name)
{
	unsigned number, shift;

	if (name == ZYDIS_REGISTER_RIP || name == ZYDIS_REGISTER_EIP)
		return emulation->cpu.rip + emulation->code->length;
	if (name == ZYDIS_REGISTER_NONE || !general_register(name, &number, &shift))
		return 0;
	return emulation->cpu.registers[number];
}

uint64_t emulation_address(const struct emulation *emulation, const ZydisDecodedOperand *operand)
{
	uint64_t address = address_register(emulation, operand->mem.base);

	address += address_register(emulation, operand->mem.index) * operand->mem.scale;
	if (operand->mem.disp.has_displacement)
		address += (uint64_t)operand->mem.disp.value;
	address &= emulation_mask(emulation->code->address_width);
	if (operand->mem.segment == ZYDIS_REGISTER_FS)
		address += emulation->cpu.fs_base;
	else if (operand->mem.segment == ZYDIS_REGISTER_GS)
		address += emulation->cpu.gs_base;
	return address;
}

/* The largest piece of [address, +size) that begins there and is naturally aligned. */
static size_t next_piece(uint64_t address, size_t size)
{
	size_t piece = address & 7 ? (size_t)(address & -address) : 8;

	while (piece > size)
		piece /= 2;
	return piece;
}

int emulation_memory_read(const struct emulation *emulation, uint64_t address, void *to,
			  size_t size)
{
	uint8_t *bytes = to;

	for (size_t piece; size; size -= piece, address += piece, bytes += piece) {
		int ret;

		piece = next_piece(address, size);
		ret = emulation->memory->read(emulation->memory->opaque, address, bytes, piece);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int emulation_memory_write(const struct emulation *emulation, uint64_t address, const void *from,
			   size_t size)
{
	const uint8_t *bytes = from;

	for (size_t piece; size; size -= piece, address += piece, bytes += piece) {
		int ret;

		piece = next_piece(address, size);
		ret = emulation->memory->write(emulation->memory->opaque, address, bytes, piece);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int emulation_load(const struct emulation *emulation, uint64_t address, unsigned bits,
		   uint64_t *value)
{
	*value = 0;
	return emulation_memory_read(emulation, address, value, bits / 8);
}

int emulation_store(const struct emulation *emulation, uint64_t address, unsigned bits,
		    uint64_t value)
{
	return emulation_memory_write(emulation, address, &value, bits / 8);
}

int emulation_get(const struct emulation *emulation, const ZydisDecodedOperand *operand,
		  uint64_t *value)
{
	unsigned number, shift;

	if (operand->size > 64 || operand->size % 8)
		return -EOPNOTSUPP;
	switch (operand->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		if (!general_register(operand->reg.value, &number, &shift))
			return -EOPNOTSUPP;
		*value = emulation->cpu.registers[number] >> shift & emulation_mask(operand->size);
		return 0;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		*value = operand->imm.value.u;
		return 0;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		return emulation_load(emulation, emulation_address(emulation, operand),
				      operand->size, value);
	default:
		return -EOPNOTSUPP;
	}
}

void emulation_set_register(struct emulation *emulation, unsigned number, unsigned bits,
			    uint64_t value)
{
	uint64_t mask = bits == 32 ? UINT64_MAX : emulation_mask(bits);
	uint64_t *reg = &emulation->cpu.registers[number];

	*reg = (*reg & ~mask) | (value & emulation_mask(bits));
}

int emulation_set(struct emulation *emulation, const ZydisDecodedOperand *operand, uint64_t value)
{
	unsigned number, shift;

	if (operand->size > 64 || operand->size % 8)
		return -EOPNOTSUPP;
	if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
		return emulation_store(emulation, emulation_address(emulation, operand),
				       operand->size, value);
	if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    !general_register(operand->reg.value, &number, &shift))
		return -EOPNOTSUPP;
	if (shift)
		emulation->cpu.registers[number] =
			(emulation->cpu.registers[number] & ~0xff00ULL) | (value & 0xff) << 8;
	else
		emulation_set_register(emulation, number, operand->size, value);
	return 0;
}

static const struct emulation_row *find_row(const struct emulation_row *rows, size_t count,
					    ZydisMnemonic mnemonic)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].mnemonic == mnemonic)
			return &rows[i];
	return NULL;
}

/* Segments and control registers, for one, have instructions of the same names. */
static bool has_general_operands(const struct emulation *emulation)
{
	unsigned number, shift;

	for (unsigned i = 0; i < emulation->code->operand_count_visible; i++) {
		const ZydisDecodedOperand *operand = &emulation->operands[i];

		if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    !general_register(operand->reg.value, &number, &shift))
			return false;
	}
	return true;
}

static int carry_out(struct emulation *emulation)
{
	const struct emulation_row *row;

	if (emulation->code->meta.category == ZYDIS_CATEGORY_STRINGOP)
		return uapi_emulate_string(emulation);
	row = find_row(uapi_integer_rows, uapi_integer_row_count, emulation->code->mnemonic);
	if (row && !has_general_operands(emulation))
		return -EOPNOTSUPP;
	if (!row)
		row = find_row(uapi_vector_rows, uapi_vector_row_count, emulation->code->mnemonic);
	return row ? row->carry_out(emulation, row->variant) : -EOPNOTSUPP;
}

int uapi_emulate(const struct uapi_instruction *instruction, struct uapi_cpu *cpu,
		 const struct uapi_memory *memory)
{
	struct emulation emulation = {
		.code = &instruction->code,
		.operands = instruction->operands,
		.cpu = *cpu,
		.memory = memory,
	};
	int ret = carry_out(&emulation);

	if (ret < 0 && !emulation.again)
		return ret;
	if (!emulation.again)
		emulation.cpu.rip += instruction->code.length;
	*cpu = emulation.cpu;
	return ret;
}
