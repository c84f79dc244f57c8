/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Any bytes as an instruction, on any registers, with memory that fails at some access. Whatever
 * they are: accesses are aligned pieces and have a bound, what isn't understood does nothing, what
 * fails leaves registers as they were, and what succeeds ends behind the instruction.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "frontends/uapi/emulate.h"

#define ACCESSES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
	uint64_t value;
	unsigned accesses, fail_at; /* 0: never */
};

/* Ends the program with a trace when something that must hold doesn't. */
static void must(bool holds)
{
	if (!holds)
		abort();
}

static int access_memory(struct memory *memory, uint64_t address, size_t size)
{
	must(size == 1 || size == 2 || size == 4 || size == 8);
	must(!(address & (size - 1)));
	must(++memory->accesses < ACCESSES_MAX);
	return memory->accesses == memory->fail_at ? -EFAULT : 0;
}

static int memory_read(void *opaque, uint64_t address, void *to, size_t size)
{
	struct memory *memory = opaque;

	memory->value = memory->value * 6364136223846793005u + 1442695040888963407u;
	memcpy(to, &memory->value, size);
	return access_memory(memory, address, size);
}

static int memory_write(void *opaque, uint64_t address, const void *from, size_t size)
{
	struct memory *memory = opaque;
	uint64_t value = 0;

	memcpy(&value, from, size);
	memory->value ^= value;
	return access_memory(memory, address, size);
}

static void take(const uint8_t **data, size_t *size, void *to, size_t count)
{
	size_t part = *size < count ? *size : count;

	memset(to, 0, count);
	memcpy(to, *data, part);
	*data += part;
	*size -= part;
}

static void carry_out(const struct uapi_instruction *instruction, struct uapi_cpu *cpu,
		      struct memory *memory)
{
	const struct uapi_memory through = {memory_read, memory_write, memory};
	const struct uapi_cpu before = *cpu;
	bool repeats = instruction->code.meta.category == ZYDIS_CATEGORY_STRINGOP;
	int ret = uapi_emulate(instruction, cpu, &through);

	must(ret == 0 || ret == -EFAULT || ret == -EOPNOTSUPP);
	if (ret == -EOPNOTSUPP)
		must(!memory->accesses);
	if (ret == 0)
		must(cpu->rip == before.rip + instruction->code.length ||
		     (repeats && cpu->rip == before.rip));
	else if (!repeats)
		must(!memcmp(cpu, &before, sizeof(before)));
	else
		must(cpu->rip == before.rip);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Of a processor with AVX-512, and of one with SSE alone. */
	static const struct uapi_xstate_layout layouts[] = {
		{.size = 2696, .ymm = 576, .opmask = 1088, .zmm = 1152, .zmm_upper = 1664},
		{.size = 832, .ymm = 576},
		{.size = 576},
	};
	struct uapi_instruction instruction;
	struct memory memory = {0};
	struct uapi_cpu cpu = {0};
	uint8_t bytes[UAPI_INSTRUCTION_MAX], choice;

	take(&data, &size, bytes, sizeof(bytes));
	if (uapi_decode(bytes, sizeof(bytes), &instruction) < 0)
		return -1;
	take(&data, &size, &choice, 1);
	memory.fail_at = choice / 3;
	cpu.layout = &layouts[choice % 3];
	cpu.xstate = malloc(cpu.layout->size);
	if (!cpu.xstate)
		return 0;
	take(&data, &size, &memory.value, sizeof(memory.value));
	take(&data, &size, &cpu.flags, sizeof(cpu.flags));
	take(&data, &size, cpu.registers, sizeof(cpu.registers));
	take(&data, &size, cpu.xstate, cpu.layout->size);
	carry_out(&instruction, &cpu, &memory);
	free(cpu.xstate);
	return 0;
}
