/* SPDX-License-Identifier: BSD-3-Clause */
/* The forms of instructions that the emulator knows, for its tests. */
#ifndef TEST_EMULATE_FORMS_H
#define TEST_EMULATE_FORMS_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

/* Operands: m memory, a memory that has to be aligned, r register, b bit number in a register, i
 * immediate of 8 bits, I immediate, c CL, 1 the number, v vector register, z the same with a mask
 */
struct form {
	ZydisMnemonic mnemonic;
	const char *operands;
	uint16_t sizes[3];
	bool zeroing;
};

#define M(name) ZYDIS_MNEMONIC_##name
#define SIZES_WIDE(name, operands)                                            \
	{M(name), operands, {16, 16, 16}}, {M(name), operands, {32, 32, 32}}, \
	{                                                                     \
		M(name), operands,                                            \
		{                                                             \
			64, 64, 64                                            \
		}                                                             \
	}
#define SIZES(name, operands) {M(name), operands, {8, 8, 8}}, SIZES_WIDE(name, operands)
#define ALU(name)                                                                       \
	SIZES(name, "mr"), SIZES(name, "rm"), SIZES(name, "mi"), {M(name), "mI", {16}}, \
		{M(name), "mI", {32}},                                                  \
	{                                                                               \
		M(name), "mI",                                                          \
		{                                                                       \
			64                                                              \
		}                                                                       \
	}
#define SHIFT(name)	  SIZES(name, "mi"), SIZES(name, "mc"), SIZES(name, "m1")
#define BIT(name)	  SIZES_WIDE(name, "mb"), SIZES_WIDE(name, "mi")
#define CONDITION(suffix) {M(SET##suffix), "m", {8}}, SIZES_WIDE(CMOV##suffix, "rm")
#define VECTOR(name, kind, size)           \
	{M(name), "v" kind, {size, size}}, \
	{                                  \
		M(name), kind "v",         \
		{                          \
			size, size         \
		}                          \
	}
#define MASKED(name, kind)                                                              \
	{M(name), "z" kind, {128, 128}}, {M(name), "z" kind, {256, 256}},               \
		{M(name), "z" kind, {512, 512}}, {M(name), "z" kind, {512, 512}, true}, \
		VECTOR(name, kind, 512), {M(name), kind "z", {128, 128}},               \
	{                                                                               \
		M(name), kind "z",                                                      \
		{                                                                       \
			512, 512                                                        \
		}                                                                       \
	}

static const struct form integer_forms[] = {
	SIZES(MOV, "mr"),
	SIZES(MOV, "rm"),
	{M(MOV), "mi", {8}},
	{M(MOV), "mI", {16}},
	{M(MOV), "mI", {32}},
	{M(MOV), "mI", {64}},
	{M(MOVZX), "rm", {16, 8}},
	{M(MOVZX), "rm", {32, 8}},
	{M(MOVZX), "rm", {64, 8}},
	{M(MOVZX), "rm", {32, 16}},
	{M(MOVZX), "rm", {64, 16}},
	{M(MOVSX), "rm", {16, 8}},
	{M(MOVSX), "rm", {32, 8}},
	{M(MOVSX), "rm", {64, 8}},
	{M(MOVSX), "rm", {32, 16}},
	{M(MOVSX), "rm", {64, 16}},
	{M(MOVSXD), "rm", {64, 32}},
	{M(MOVNTI), "mr", {32, 32}},
	{M(MOVNTI), "mr", {64, 64}},
	SIZES_WIDE(MOVBE, "rm"),
	SIZES_WIDE(MOVBE, "mr"),
	ALU(ADD),
	ALU(ADC),
	ALU(SUB),
	ALU(SBB),
	ALU(AND),
	ALU(OR),
	ALU(XOR),
	ALU(CMP),
	SIZES(TEST, "mr"),
	{M(TEST), "mi", {8}},
	{M(TEST), "mI", {32}},
	{M(TEST), "mI", {64}},
	SIZES(INC, "m"),
	SIZES(DEC, "m"),
	SIZES(NOT, "m"),
	SIZES(NEG, "m"),
	SIZES(XCHG, "mr"),
	SIZES(XADD, "mr"),
	SIZES(CMPXCHG, "mr"),
	{M(CMPXCHG8B), "a", {64}},
	{M(CMPXCHG16B), "a", {128}},
	BIT(BT),
	BIT(BTS),
	BIT(BTR),
	BIT(BTC),
	CONDITION(O),
	CONDITION(NO),
	CONDITION(B),
	CONDITION(NB),
	CONDITION(Z),
	CONDITION(NZ),
	CONDITION(BE),
	CONDITION(NBE),
	CONDITION(S),
	CONDITION(NS),
	CONDITION(P),
	CONDITION(NP),
	CONDITION(L),
	CONDITION(NL),
	CONDITION(LE),
	CONDITION(NLE),
	{M(PUSH), "m", {16}},
	{M(PUSH), "m", {64}},
	{M(POP), "m", {16}},
	{M(POP), "m", {64}},
	SIZES(MUL, "m"),
	SIZES(IMUL, "m"),
	SIZES_WIDE(IMUL, "rm"),
	SIZES_WIDE(IMUL, "rmi"),
	SHIFT(ROL),
	SHIFT(ROR),
	SHIFT(RCL),
	SHIFT(RCR),
	SHIFT(SHL),
	SHIFT(SHR),
	SHIFT(SAR),
};

/* Of processors from 2013 on. */
static const struct form bit_forms[] = {
	SIZES_WIDE(BSF, "rm"),		SIZES_WIDE(BSR, "rm"),
	SIZES_WIDE(TZCNT, "rm"),	SIZES_WIDE(LZCNT, "rm"),
	SIZES_WIDE(POPCNT, "rm"),	{M(SHLX), "rmr", {32, 32, 32}},
	{M(SHLX), "rmr", {64, 64, 64}}, {M(SHRX), "rmr", {32, 32, 32}},
	{M(SHRX), "rmr", {64, 64, 64}}, {M(SARX), "rmr", {32, 32, 32}},
	{M(SARX), "rmr", {64, 64, 64}}, {M(RORX), "rmi", {32, 32, 32}},
	{M(RORX), "rmi", {64, 64, 64}}, {M(ANDN), "rrm", {32, 32, 32}},
	{M(ANDN), "rrm", {64, 64, 64}},
};

static const struct form string_forms[] = {
	{M(MOVSB)}, {M(MOVSW)}, {M(MOVSD)}, {M(MOVSQ)}, {M(STOSB)}, {M(STOSW)}, {M(STOSD)},
	{M(STOSQ)}, {M(LODSB)}, {M(LODSW)}, {M(LODSD)}, {M(LODSQ)}, {M(CMPSB)}, {M(CMPSW)},
	{M(CMPSD)}, {M(CMPSQ)}, {M(SCASB)}, {M(SCASW)}, {M(SCASD)}, {M(SCASQ)},
};

static const struct form sse_forms[] = {
	VECTOR(MOVUPS, "m", 128),	 VECTOR(MOVAPS, "a", 128),
	VECTOR(MOVDQU, "m", 128),	 VECTOR(MOVDQA, "a", 128),
	VECTOR(MOVUPD, "m", 128),	 VECTOR(MOVAPD, "a", 128),
	{M(LDDQU), "vm", {128, 128}},	 {M(MOVNTDQ), "av", {128, 128}},
	{M(MOVNTPS), "av", {128, 128}},	 {M(MOVNTPD), "av", {128, 128}},
	{M(MOVNTDQA), "va", {128, 128}}, {M(MOVQ), "vm", {128, 64}},
	{M(MOVQ), "mv", {64, 128}},	 {M(MOVD), "vm", {128, 32}},
	{M(MOVD), "mv", {32, 128}},	 {M(MOVSS), "vm", {128, 32}},
	{M(MOVSS), "mv", {32, 128}},	 {M(MOVSD), "vm", {128, 64}},
	{M(MOVSD), "mv", {64, 128}},	 {M(MOVLPS), "vm", {128, 64}},
	{M(MOVLPS), "mv", {64, 128}},	 {M(MOVHPS), "vm", {128, 64}},
	{M(MOVHPS), "mv", {64, 128}},	 {M(MOVLPD), "vm", {128, 64}},
	{M(MOVHPD), "mv", {64, 128}},
};

static const struct form avx_forms[] = {
	VECTOR(VMOVUPS, "m", 128),
	VECTOR(VMOVUPS, "m", 256),
	VECTOR(VMOVAPS, "a", 128),
	VECTOR(VMOVAPS, "a", 256),
	VECTOR(VMOVDQU, "m", 128),
	VECTOR(VMOVDQU, "m", 256),
	VECTOR(VMOVDQA, "a", 128),
	VECTOR(VMOVDQA, "a", 256),
	VECTOR(VMOVUPD, "m", 256),
	VECTOR(VMOVAPD, "a", 256),
	{M(VLDDQU), "vm", {256, 256}},
	{M(VMOVNTDQ), "av", {256, 256}},
	{M(VMOVNTPS), "av", {256, 256}},
	{M(VMOVNTPD), "av", {256, 256}},
	{M(VMOVNTDQA), "va", {256, 256}},
	{M(VMOVQ), "vm", {128, 64}},
	{M(VMOVQ), "mv", {64, 128}},
	{M(VMOVD), "vm", {128, 32}},
	{M(VMOVD), "mv", {32, 128}},
	{M(VMOVSS), "vm", {128, 32}},
	{M(VMOVSS), "mv", {32, 128}},
	{M(VMOVSD), "vm", {128, 64}},
	{M(VMOVSD), "mv", {64, 128}},
	{M(VMOVLPS), "vvm", {128, 128, 64}},
	{M(VMOVHPD), "vvm", {128, 128, 64}},
	{M(VMOVHPS), "mv", {64, 128}},
	{M(VBROADCASTSS), "vm", {128, 32}},
	{M(VBROADCASTSS), "vm", {256, 32}},
	{M(VBROADCASTSD), "vm", {256, 64}},
	{M(VBROADCASTF128), "vm", {256, 128}},
	{M(VBROADCASTI128), "vm", {256, 128}},
	{M(VPBROADCASTB), "vm", {256, 8}},
	{M(VPBROADCASTW), "vm", {128, 16}},
	{M(VPBROADCASTD), "vm", {256, 32}},
	{M(VPBROADCASTQ), "vm", {256, 64}},
	{M(VEXTRACTF128), "mvi", {128, 256}},
	{M(VEXTRACTI128), "mvi", {128, 256}},
};

static const struct form avx512_forms[] = {
	MASKED(VMOVDQU8, "m"),
	MASKED(VMOVDQU16, "m"),
	MASKED(VMOVDQU32, "m"),
	MASKED(VMOVDQA32, "a"),
	MASKED(VMOVDQU64, "m"),
	MASKED(VMOVDQA64, "a"),
	MASKED(VMOVUPS, "m"),
	MASKED(VMOVAPS, "a"),
	MASKED(VMOVUPD, "m"),
	MASKED(VMOVAPD, "a"),
	{M(VMOVNTDQ), "av", {512, 512}},
	{M(VMOVNTDQA), "va", {512, 512}},
};

#endif
