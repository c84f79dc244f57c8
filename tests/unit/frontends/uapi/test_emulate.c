/* SPDX-License-Identifier: BSD-3-Clause */
/* The emulator against the processor: the same instruction, registers and memory for both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after those four */
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "emulate_forms.h"
#include "native.h"

#define ROUNDS 60 /* of each form */

struct world {
	struct native *native;
	struct uapi_xstate_layout layout;
	uint64_t random;
	uint8_t *data; /* what is in the emulator's memory: the arena's data and stack */
	uint8_t xstate[NATIVE_XSTATE_MAX];
	unsigned fail_after; /* accesses; 0: never */
	unsigned accesses, cases;
};

static uint64_t next_random(struct world *world)
{
	world->random ^= world->random << 13;
	world->random ^= world->random >> 7;
	world->random ^= world->random << 17;
	return world->random;
}

/* Ends of ranges come more often than chance would have it. */
static uint64_t interesting(struct world *world)
{
	static const uint64_t special[] = {
		0,	1,	    UINT64_MAX, 0x7f,	    0x80,      0xff,	  0x7fff,
		0x8000, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, 1ULL << 63};
	uint64_t random = next_random(world);

	return random & 3 ? next_random(world) : special[random / 4 % UVF_ARRAY_SIZE(special)];
}

static uint8_t *shadow(struct world *world, uint64_t address, size_t size)
{
	uint64_t offset = address - (uintptr_t)world->native->data;

	assert_int_equal(address % size, 0);
	assert_true(size == 1 || size == 2 || size == 4 || size == 8);
	assert_true(uvf_range_inside(offset, size, NATIVE_MEMORY));
	return world->data + offset;
}

static int memory_read(void *opaque, uint64_t address, void *to, size_t size)
{
	struct world *world = opaque;

	if (world->fail_after && world->accesses++ >= world->fail_after - 1)
		return -EFAULT;
	memcpy(to, shadow(world, address, size), size);
	return 0;
}

static int memory_write(void *opaque, uint64_t address, const void *from, size_t size)
{
	struct world *world = opaque;

	if (world->fail_after && world->accesses++ >= world->fail_after - 1)
		return -EFAULT;
	memcpy(shadow(world, address, size), from, size);
	return 0;
}

static ZydisRegister general(unsigned number, unsigned bits, uint64_t random)
{
	static const ZydisRegister first[] = {
		[2] = ZYDIS_REGISTER_AX, [4] = ZYDIS_REGISTER_EAX, [8] = ZYDIS_REGISTER_RAX};

	if (bits > 8)
		return first[bits / 8] + number;
	if (number < 4)
		return (random & 1 ? ZYDIS_REGISTER_AL : ZYDIS_REGISTER_AH) + number;
	return number < 8 ? ZYDIS_REGISTER_SPL + number - 4 : ZYDIS_REGISTER_R8B + number - 8;
}

static ZydisRegister vector(unsigned number, unsigned bits)
{
	if (bits == 512)
		return ZYDIS_REGISTER_ZMM0 + number;
	return (bits == 256 ? ZYDIS_REGISTER_YMM0 : ZYDIS_REGISTER_XMM0) + number;
}

/* Memory at a random place, through random registers; the base is made to fit afterwards. */
static void memory_operand(struct world *world, ZydisEncoderOperand *operand, unsigned bits,
			   bool aligned, uint64_t *target, unsigned vectors)
{
	uint64_t random = next_random(world);
	unsigned base = random % 16, index = random / 16 % 16;

	*target = (uintptr_t)world->native->data + 2048 + random / 256 % 2048;
	if (aligned)
		*target &= ~63ULL;
	operand->type = ZYDIS_OPERAND_TYPE_MEMORY;
	operand->mem.size = (uint16_t)(bits / 8);
	operand->mem.base = ZYDIS_REGISTER_RAX + (base == 4 ? 3 : base);
	operand->mem.displacement = (int64_t)(random >> 32 & 0xff) - 128;
	if (random >> 40 & 1)
		operand->mem.displacement *= 64;
	if (random >> 41 & 1 && index != 4 && index != base && !(base == 4 && index == 3)) {
		operand->mem.index = ZYDIS_REGISTER_RAX + index;
		operand->mem.scale = (uint8_t)(1 << (random >> 42 & 3));
	}
	if ((random >> 44 & 7) == 0) {
		operand->mem.base = ZYDIS_REGISTER_RIP;
		operand->mem.index = ZYDIS_REGISTER_NONE;
		operand->mem.scale = 0;
		operand->mem.displacement = 0x1000;
	}
}

static void one_operand(struct world *world, const struct form *form, unsigned i,
			ZydisEncoderRequest *request, uint64_t *target, unsigned vectors)
{
	ZydisEncoderOperand *operand = &request->operands[request->operand_count++];
	uint64_t random = next_random(world);

	switch (form->operands[i]) {
	case 'm':
	case 'a':
		memory_operand(world, operand, form->sizes[i], form->operands[i] == 'a', target,
			       vectors);
		break;
	case 'r':
	case 'b':
		operand->type = ZYDIS_OPERAND_TYPE_REGISTER;
		operand->reg.value = general(random % 16, form->sizes[i], random >> 8);
		break;
	case 'z':
	case 'v':
		operand->type = ZYDIS_OPERAND_TYPE_REGISTER;
		operand->reg.value = vector((unsigned)(random % vectors), form->sizes[i]);
		break;
	case 'c':
		operand->type = ZYDIS_OPERAND_TYPE_REGISTER;
		operand->reg.value = ZYDIS_REGISTER_CL;
		break;
	default:
		operand->type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
		operand->imm.s = form->operands[i] == '1' ? 1 : (int8_t)random;
		if (form->operands[i] == 'I')
			operand->imm.s = form->sizes[0] == 16 ? (int16_t)random : (int32_t)random;
		break;
	}
}

/* Whether a bit's number is also part of the address. */
static bool bit_moves_memory(const ZydisEncoderRequest *request)
{
	ZydisRegister bit = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64,
							     request->operands[1].reg.value);

	return bit == request->operands[0].mem.base || bit == request->operands[0].mem.index ||
	       bit == ZYDIS_REGISTER_RSP;
}

/* An instruction of the form, for the place where the arena's code has come to. */
static size_t encode(struct world *world, const struct form *form, uint8_t *bytes,
		     ZydisEncoderRequest *request, uint64_t *target, unsigned vectors)
{
	for (unsigned attempt = 0; attempt < 1000; attempt++) {
		ZyanUSize length = UAPI_INSTRUCTION_MAX;

		memset(request, 0, sizeof(*request));
		request->machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
		request->mnemonic = form->mnemonic;
		request->evex.zeroing_mask = form->zeroing;
		if (vectors == 32)
			request->allowed_encodings = ZYDIS_ENCODABLE_ENCODING_EVEX;
		for (unsigned i = 0; form->operands[i]; i++) {
			one_operand(world, form, i, request, target, vectors);
			if (vectors == 32 && i == 0 && form->mnemonic != M(VMOVNTDQ) &&
			    form->mnemonic != M(VMOVNTDQA)) {
				/* The opmask follows the destination. */
				ZydisEncoderOperand *mask =
					&request->operands[request->operand_count++];

				mask->type = ZYDIS_OPERAND_TYPE_REGISTER;
				mask->reg.value = ZYDIS_REGISTER_K0;
				if (strchr(form->operands, 'z'))
					mask->reg.value += 1 + next_random(world) % 7;
			}
		}
		if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(request, bytes, &length)) ||
		    (form->operands[1] == 'b' && bit_moves_memory(request)))
			continue;
		for (unsigned i = 0; i < request->operand_count; i++) {
			if (request->operands[i].mem.base != ZYDIS_REGISTER_RIP)
				continue;
			request->operands[i].mem.displacement =
				(int64_t)(*target - (uintptr_t)world->native->end - length);
			length = UAPI_INSTRUCTION_MAX;
			if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(request, bytes, &length)))
				fail();
		}
		return length;
	}
	fail_msg("%s %s can't be encoded", ZydisMnemonicGetString(form->mnemonic), form->operands);
	return 0;
}

static void fill(struct world *world, void *to, size_t size)
{
	uint8_t *bytes = to;

	for (size_t i = 0; i < size; i += 8) {
		uint64_t value = interesting(world);

		memcpy(bytes + i, &value, 8);
	}
}

/* Everything random, then what the form needs. */
static void prepare(struct world *world, const ZydisEncoderRequest *request, uint64_t target,
		    bool bits)
{
	struct native *native = world->native;
	uint64_t present = 0xe6;
	uint32_t mxcsr = 0x1f80;

	fill(world, native->data, NATIVE_MEMORY);
	memset(native->xstate, 0, sizeof(native->xstate));
	fill(world, native->xstate + 160, 256);
	if (world->layout.ymm)
		fill(world, native->xstate + world->layout.ymm, 256);
	if (world->layout.zmm) {
		fill(world, native->xstate + world->layout.opmask, 64);
		fill(world, native->xstate + world->layout.zmm, 512);
		fill(world, native->xstate + world->layout.zmm_upper, 1024);
	} else {
		present = world->layout.ymm ? 6 : 2;
	}
	memcpy(native->xstate + 24, &mxcsr, sizeof(mxcsr));
	memcpy(native->xstate + 512, &present, sizeof(present));

	fill(world, native->in.registers, sizeof(native->in.registers));
	native->in.registers[4] = (uintptr_t)native->data + NATIVE_DATA + 2048;
	native->in.flags = 0x202 | (next_random(world) & 0xcd5);
	if (next_random(world) & 1)
		memcpy(&native->in.registers[0], native->data + (target - (uintptr_t)native->data),
		       8);
	for (unsigned i = 0; bits && i < request->operand_count; i++) {
		ZydisRegister name = request->operands[i].reg.value;
		unsigned number;

		if (request->operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		number = (unsigned)ZydisRegisterGetId(
			ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, name));
		if (number != 4)
			native->in.registers[number] = next_random(world) % 16000 - 8000;
	}
	for (unsigned i = 0; i < request->operand_count; i++) {
		const ZydisEncoderOperand *operand = &request->operands[i];
		uint64_t index = 0;

		if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    operand->mem.base == ZYDIS_REGISTER_RIP)
			continue;
		if (operand->mem.index)
			index = native->in.registers[operand->mem.index - ZYDIS_REGISTER_RAX] *
				operand->mem.scale;
		native->in.registers[operand->mem.base - ZYDIS_REGISTER_RAX] =
			target - index - (uint64_t)operand->mem.displacement -
			(request->prefixes & ZYDIS_ATTRIB_HAS_SEGMENT_GS ? (uintptr_t)native : 0);
	}
}

static void emulate(struct world *world, const struct uapi_instruction *instruction, uint64_t rip,
		    struct uapi_cpu *cpu)
{
	const struct uapi_memory memory = {memory_read, memory_write, world};
	int ret;

	memcpy(cpu->registers, world->native->in.registers, sizeof(cpu->registers));
	cpu->flags = world->native->in.flags;
	cpu->rip = rip;
	cpu->gs_base = (uintptr_t)world->native;
	cpu->xstate = world->xstate;
	cpu->layout = &world->layout;
	memcpy(world->data, world->native->data, NATIVE_MEMORY);
	memcpy(world->xstate, world->native->xstate, sizeof(world->xstate));
	do {
		ret = uapi_emulate(instruction, cpu, &memory);
		if (ret < 0) {
			char text[128];

			uapi_instruction_text(instruction, text, sizeof(text));
			fail_msg("%s: %d", text, ret);
		}
	} while (cpu->rip == rip);
	assert_int_equal(cpu->rip, rip + instruction->code.length);
}

static void compare(struct world *world, const struct uapi_instruction *instruction,
		    const struct uapi_cpu *cpu)
{
	const struct native *native = world->native;
	uint64_t flags = 0x8d5 & ~(uint64_t)(instruction->code.cpu_flags
						     ? instruction->code.cpu_flags->undefined
						     : 0);
	char text[128], what[64] = "";

	for (unsigned i = 0; i < 16; i++)
		if (cpu->registers[i] != native->out.registers[i])
			snprintf(what, sizeof(what), "register %u: %llx, not %llx", i,
				 (unsigned long long)cpu->registers[i],
				 (unsigned long long)native->out.registers[i]);
	if ((cpu->flags ^ native->out.flags) & flags)
		snprintf(what, sizeof(what), "flags %llx, not %llx (before: %llx)",
			 (unsigned long long)cpu->flags, (unsigned long long)native->out.flags,
			 (unsigned long long)native->in.flags);
	for (size_t i = 0; i < NATIVE_MEMORY; i++)
		if (world->data[i] != native->data[i])
			snprintf(what, sizeof(what), "memory at %zx: %02x, not %02x", i,
				 world->data[i], native->data[i]);
	if (memcmp(world->xstate + 160, native->xstate + 160, 256))
		snprintf(what, sizeof(what), "SSE");
	if (world->layout.ymm &&
	    memcmp(world->xstate + world->layout.ymm, native->xstate + world->layout.ymm, 256))
		snprintf(what, sizeof(what), "AVX");
	if (world->layout.zmm &&
	    (memcmp(world->xstate + world->layout.zmm, native->xstate + world->layout.zmm, 512) ||
	     memcmp(world->xstate + world->layout.zmm_upper,
		    native->xstate + world->layout.zmm_upper, 1024)))
		snprintf(what, sizeof(what), "AVX-512");
	if (!*what)
		return;
	uapi_instruction_text(instruction, text, sizeof(text));
	fail_msg("%s: %s", text, what);
}

static void run_both(struct world *world, const uint8_t *bytes, size_t length)
{
	struct uapi_instruction instruction;
	struct uapi_cpu cpu = {0};

	assert_int_equal(uapi_decode(bytes, length, &instruction), 0);
	assert_int_equal(instruction.code.length, length);
	emulate(world, &instruction, (uintptr_t)world->native->end, &cpu);
	native_emit(world->native, bytes, length);
	native_end(world->native);
	native_run(world->native);
	compare(world, &instruction, &cpu);
	world->cases++;
}

static void run_forms(struct world *world, const struct form *forms, size_t count, unsigned vectors)
{
	for (size_t i = 0; i < count; i++)
		for (unsigned round = 0; round < ROUNDS; round++) {
			uint8_t bytes[UAPI_INSTRUCTION_MAX + 1];
			ZydisEncoderRequest request;
			uint64_t target = (uintptr_t)world->native->data;
			uint8_t *at = bytes;
			size_t length;

			native_begin(world->native);
			length = encode(world, &forms[i], bytes + 1, &request, &target, vectors);
			/* Sometimes by another segment, or locked: by a prefix. */
			if (round % 8 == 3 && request.operands[0].mem.base != ZYDIS_REGISTER_RIP &&
			    request.operands[1].mem.base != ZYDIS_REGISTER_RIP &&
			    request.operands[2].mem.base != ZYDIS_REGISTER_RIP &&
			    length < UAPI_INSTRUCTION_MAX) {
				*at = 0x65;
				length++;
				request.prefixes |= ZYDIS_ATTRIB_HAS_SEGMENT_GS;
			} else {
				at++;
			}
			prepare(world, &request, target, strchr(forms[i].operands, 'b'));
			run_both(world, at, length);
		}
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	world->random = 88172645463325252ULL;
	world->native = native_new();
	world->data = malloc(NATIVE_MEMORY);
	assert_non_null(world->native);
	assert_non_null(world->data);
	uapi_xstate_layout(&world->layout);
	assert_true(world->layout.size <= NATIVE_XSTATE_MAX);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	print_message("%u cases\n", world->cases);
	munmap(world->native, sizeof(*world->native));
	free(world->data);
	free(world);
	return 0;
}

static void integer_instructions(void **state)
{
	run_forms(*state, integer_forms, UVF_ARRAY_SIZE(integer_forms), 16);
}

static void bit_instructions(void **state)
{
	if (!__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("popcnt"))
		skip();
	run_forms(*state, bit_forms, UVF_ARRAY_SIZE(bit_forms), 16);
}

static void sse_instructions(void **state)
{
	run_forms(*state, sse_forms, UVF_ARRAY_SIZE(sse_forms), 16);
}

static void avx_instructions(void **state)
{
	struct world *world = *state;

	if (!world->layout.ymm || !__builtin_cpu_supports("avx2"))
		skip();
	run_forms(world, avx_forms, UVF_ARRAY_SIZE(avx_forms), 16);
}

static void avx512_instructions(void **state)
{
	struct world *world = *state;

	if (!world->layout.zmm_upper || !__builtin_cpu_supports("avx512bw") ||
	    !__builtin_cpu_supports("avx512vl"))
		skip();
	run_forms(world, avx512_forms, UVF_ARRAY_SIZE(avx512_forms), 32);
}

static void locked_instructions(void **state)
{
	static const ZydisMnemonic mnemonics[] = {M(ADD), M(ADC), M(SUB),  M(AND),     M(OR),
						  M(XOR), M(BTS), M(XADD), M(CMPXCHG), M(XCHG)};
	struct world *world = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(mnemonics) * ROUNDS; i++) {
		struct form form = {mnemonics[i / ROUNDS], "mr", {32, 32}};
		uint8_t bytes[UAPI_INSTRUCTION_MAX + 1] = {0xf0};
		ZydisEncoderRequest request;
		uint64_t target;
		size_t length;

		if (form.mnemonic == M(BTS))
			form.operands = "mi";
		native_begin(world->native);
		native_emit(world->native, "\x90",
			    1); /* distances to here: the prefix comes first */
		length = encode(world, &form, bytes + 1, &request, &target, 16);
		world->native->end--;
		prepare(world, &request, target, false);
		run_both(world, bytes, length + 1);
	}
}

/* Each with each prefix, both directions, counts from none to more than are done at a time. */
static void string_instructions(void **state)
{
	static const ZydisInstructionAttributes prefixes[] = {0, ZYDIS_ATTRIB_HAS_REP,
							      ZYDIS_ATTRIB_HAS_REPNE};
	struct world *world = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(string_forms) * 3 * ROUNDS; i++) {
		const struct form *form = &string_forms[i / 3 / ROUNDS];
		ZydisInstructionAttributes prefix = prefixes[i / ROUNDS % 3];
		const char *name = ZydisMnemonicGetString(form->mnemonic);
		bool compares = !strncmp(name, "cmps", 4) || !strncmp(name, "scas", 4);
		static const uint8_t opcodes[] = {0xa4, 0xaa, 0xac, 0xa6, 0xae};
		size_t which = i / 3 / ROUNDS, length = 0, element = 1ULL << which % 4;
		uint8_t bytes[4];
		struct native *native = world->native;
		ZydisEncoderRequest nothing = {0};

		if (prefix == ZYDIS_ATTRIB_HAS_REPNE && !compares)
			continue;
		native_begin(native);
		prepare(world, &nothing, (uintptr_t)native->data, false);
		if (which % 4 == 1)
			bytes[length++] = 0x66;
		if (prefix)
			bytes[length++] = prefix == ZYDIS_ATTRIB_HAS_REP ? 0xf3 : 0xf2;
		if (which % 4 == 3)
			bytes[length++] = 0x48;
		bytes[length++] = (uint8_t)(opcodes[which / 4] + (which % 4 > 0));
		native->in.registers[1] = i % 7 ? next_random(world) % 300 : 0;
		if (native->in.registers[1] > 1500 / element)
			native->in.registers[1] = 1500 / element;
		native->in.registers[6] = (uintptr_t)native->data + 2048 + next_random(world) % 512;
		native->in.registers[7] = (uintptr_t)native->data + 4096 + next_random(world) % 512;
		if (compares && i & 1) {
			/* Much that is equal, and not. */
			memset(native->data, 0x5a, NATIVE_DATA);
			native->in.registers[0] = 0x5a5a5a5a5a5a5a5a;
			native->data[4096 + next_random(world) % 1024] ^= 1;
			if (prefix == ZYDIS_ATTRIB_HAS_REPNE)
				native->in.registers[0] ^= UINT64_MAX;
		}
		run_both(world, bytes, length);
	}
}

/* An access that fails leaves registers as they were; a repeated one has done what went before. */
static void a_fault_in_the_middle(void **state)
{
	static const uint8_t copy[] = {0xf3, 0x48, 0xa5}, add[] = {0x48, 0x01, 0x03};
	struct world *world = *state;
	const struct uapi_memory memory = {memory_read, memory_write, world};
	struct uapi_instruction instruction;
	struct uapi_cpu cpu = {.rip = 1000}, before;
	uint64_t data = (uintptr_t)world->native->data;

	cpu.registers[0] = 5;
	cpu.registers[3] = data + 64;
	before = cpu;
	assert_int_equal(uapi_decode(add, sizeof(add), &instruction), 0);
	world->accesses = 0;
	world->fail_after = 2;
	assert_int_equal(uapi_emulate(&instruction, &cpu, &memory), -EFAULT);
	assert_memory_equal(&cpu, &before, sizeof(cpu));

	cpu.registers[1] = 10;
	cpu.registers[6] = data;
	cpu.registers[7] = data + 1024;
	assert_int_equal(uapi_decode(copy, sizeof(copy), &instruction), 0);
	world->accesses = 0;
	world->fail_after = 6;
	assert_int_equal(uapi_emulate(&instruction, &cpu, &memory), -EFAULT);
	world->fail_after = 0;
	assert_int_equal(cpu.rip, 1000);
	assert_int_equal(cpu.registers[1], 8);
	assert_int_equal(cpu.registers[6], data + 16);
	assert_int_equal(cpu.registers[7], data + 1040);
	/* Gone on with. */
	assert_int_equal(uapi_emulate(&instruction, &cpu, &memory), 0);
	assert_int_equal(cpu.rip, 1003);
	assert_int_equal(cpu.registers[1], 0);
}

/* What isn't understood does nothing at all. */
static void unknown_instructions(void **state)
{
	static const uint8_t unknown[][6] = {
		{0xd9, 0x03},	    /* fld dword [rbx] */
		{0x0f, 0x58, 0x03}, /* addps xmm0, [rbx] */
		{0x0f, 0x6f, 0x03}, /* movq mm0, [rbx] */
		{0xff, 0x13},	    /* call [rbx] */
		{0x0f, 0x01, 0x03}, /* sgdt [rbx] */
		{0xf7, 0x33},	    /* div dword [rbx] */
		{0x0f, 0xae, 0x03}, /* fxsave [rbx] */
		{0x8e, 0x03},	    /* mov es, [rbx] */
		{0x0f, 0xa9},	    /* pop gs */
	};
	struct world *world = *state;
	const struct uapi_memory memory = {memory_read, memory_write, world};
	struct uapi_instruction instruction;
	char text[64];

	world->fail_after = 1; /* any access: an error that isn't EOPNOTSUPP */
	for (size_t i = 0; i < UVF_ARRAY_SIZE(unknown); i++) {
		struct uapi_cpu cpu = {.rip = 1000, .xstate = world->xstate}, before = cpu;

		assert_int_equal(uapi_decode(unknown[i], sizeof(unknown[i]), &instruction), 0);
		cpu.layout = before.layout = &world->layout;
		assert_int_equal(uapi_emulate(&instruction, &cpu, &memory), -EOPNOTSUPP);
		assert_memory_equal(&cpu, &before, sizeof(cpu));
	}
	world->fail_after = 0;
	uapi_instruction_text(&instruction, text, sizeof(text));
	assert_non_null(strstr(text, "pop gs"));
	assert_int_equal(uapi_decode("\x0f\xff", 2, &instruction), -EILSEQ);
	assert_int_equal(uapi_decode("\x48\x8b", 2, &instruction), -EILSEQ);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integer_instructions), cmocka_unit_test(bit_instructions),
		cmocka_unit_test(locked_instructions),	cmocka_unit_test(string_instructions),
		cmocka_unit_test(sse_instructions),	cmocka_unit_test(avx_instructions),
		cmocka_unit_test(avx512_instructions),	cmocka_unit_test(a_fault_in_the_middle),
		cmocka_unit_test(unknown_instructions),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
