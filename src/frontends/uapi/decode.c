/* SPDX-License-Identifier: BSD-3-Clause */
/* Instructions of the program as Zydis sees them. */
#include "frontends/uapi/emulate.h"

#include <errno.h>
#include <stdio.h>

int uapi_decode(const void *bytes, size_t size, struct uapi_instruction *instruction)
{
	ZydisDecoder decoder;

	if (!ZYAN_SUCCESS(
		    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
	    !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, size, &instruction->code,
						 instruction->operands)))
		return -EILSEQ;
	return 0;
}

void uapi_instruction_text(const struct uapi_instruction *instruction, char *text, size_t size)
{
	ZydisFormatter formatter;

	if (!ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(
		    &formatter, &instruction->code, instruction->operands,
		    instruction->code.operand_count_visible, text, size, ZYDIS_RUNTIME_ADDRESS_NONE,
		    NULL)))
		snprintf(text, size, "?");
}

bool uapi_instruction_has_vectors(const struct uapi_instruction *instruction)
{
	for (unsigned i = 0; i < instruction->code.operand_count; i++) {
		const ZydisDecodedOperand *operand = &instruction->operands[i];

		if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		switch (ZydisRegisterGetClass(operand->reg.value)) {
		case ZYDIS_REGCLASS_XMM:
		case ZYDIS_REGCLASS_YMM:
		case ZYDIS_REGCLASS_ZMM:
		case ZYDIS_REGCLASS_MASK:
			return true;
		default:
			break;
		}
	}
	return false;
}
