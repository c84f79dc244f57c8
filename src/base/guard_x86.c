/* SPDX-License-Identifier: BSD-3-Clause */
/* Guarded accesses for x86-64: each instruction that may fault has a row in a table. */
#if defined(__x86_64__) && !defined(UVF_GUARD_PORTABLE)

#include <errno.h>
#include <ucontext.h>

#include "base/guard.h"
#include "base/guard_move.h"
#include "base/guard_table.h"

/* A row: relative to its own address, so that it needs no relocation. */
struct row {
	int32_t begin, end, fixup;
};

extern const struct row __start_uvf_guards[] __attribute__((visibility("hidden")));
extern const struct row __stop_uvf_guards[] __attribute__((visibility("hidden")));

bool uvf_guard_fix_up(void *context)
{
	ucontext_t *ucontext = context;
	greg_t *ip = &ucontext->uc_mcontext.gregs[REG_RIP];

	for (const struct row *row = __start_uvf_guards; row < __stop_uvf_guards; row++) {
		greg_t base = (greg_t)(uintptr_t)row;

		if (*ip >= base + row->begin && *ip < base + row->end) {
			*ip = base + row->fixup;
			return true;
		}
	}
	return false;
}

UVF_GUARD_DEFINE_MOVE(move1, uint8_t, "b", "b")
UVF_GUARD_DEFINE_MOVE(move2, uint16_t, "w", "w")

/* All is loaded before anything is stored, so that the two ends may overlap: 8 to 16 bytes. */
static inline int move8_16(void *to, const void *from, size_t size)
{
	uint64_t low, high;

	__asm__ volatile goto("1: movq (%[from]), %[low]\n"
			      "movq -8(%[from], %[size]), %[high]\n"
			      "movq %[low], (%[to])\n"
			      "movq %[high], -8(%[to], %[size])\n"
			      "2:\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]")
			      : [low] "=&r"(low), [high] "=&r"(high)
			      : [to] "r"(to), [from] "r"(from), [size] "r"(size)
			      : "memory"
			      : fault);
	return 0;
fault:
	return -EFAULT;
}

/* 16 to 32 bytes. */
static inline int move16_32(void *to, const void *from, size_t size)
{
	__asm__ volatile goto("1: movups (%[from]), %%xmm0\n"
			      "movups -16(%[from], %[size]), %%xmm1\n"
			      "movups %%xmm0, (%[to])\n"
			      "movups %%xmm1, -16(%[to], %[size])\n"
			      "2:\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]")
			      :
			      : [to] "r"(to), [from] "r"(from), [size] "r"(size)
			      : "memory", "xmm0", "xmm1"
			      : fault);
	return 0;
fault:
	return -EFAULT;
}

/* 32 to 64 bytes: an NVMe queue entry. */
static inline int move32_64(void *to, const void *from, size_t size)
{
	__asm__ volatile goto("1: movups (%[from]), %%xmm0\n"
			      "movups 16(%[from]), %%xmm1\n"
			      "movups -32(%[from], %[size]), %%xmm2\n"
			      "movups -16(%[from], %[size]), %%xmm3\n"
			      "movups %%xmm0, (%[to])\n"
			      "movups %%xmm1, 16(%[to])\n"
			      "movups %%xmm2, -32(%[to], %[size])\n"
			      "movups %%xmm3, -16(%[to], %[size])\n"
			      "2:\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]")
			      :
			      : [to] "r"(to), [from] "r"(from), [size] "r"(size)
			      : "memory", "xmm0", "xmm1", "xmm2", "xmm3"
			      : fault);
	return 0;
fault:
	return -EFAULT;
}

/*
 * Copies by AVX. The upper halves of the registers are cleared behind each: with them in use, older
 * instructions wait for the registers' old contents. All registers are given as lost, as code
 * around this may use the upper halves too.
 */
#define WIDE_LOST                                                                               \
	"memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
		"xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static int wide_fault(void)
{
	__asm__ volatile("vzeroupper" ::: WIDE_LOST);
	return -EFAULT;
}

/* 64 to 128 bytes. */
static inline int move_wide_128(void *to, const void *from, size_t size)
{
	__asm__ volatile goto("1: vmovdqu (%[from]), %%ymm0\n"
			      "vmovdqu 32(%[from]), %%ymm1\n"
			      "vmovdqu -64(%[from], %[size]), %%ymm2\n"
			      "vmovdqu -32(%[from], %[size]), %%ymm3\n"
			      "vmovdqu %%ymm0, (%[to])\n"
			      "vmovdqu %%ymm1, 32(%[to])\n"
			      "vmovdqu %%ymm2, -64(%[to], %[size])\n"
			      "vmovdqu %%ymm3, -32(%[to], %[size])\n"
			      "2: vzeroupper\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]")
			      :
			      : [to] "r"(to), [from] "r"(from), [size] "r"(size)
			      : WIDE_LOST
			      : fault);
	return 0;
fault:
	return wide_fault();
}

/* 128 to 256 bytes. */
static inline int move_wide_256(void *to, const void *from, size_t size)
{
	__asm__ volatile goto("1: vmovdqu (%[from]), %%ymm0\n"
			      "vmovdqu 32(%[from]), %%ymm1\n"
			      "vmovdqu 64(%[from]), %%ymm2\n"
			      "vmovdqu 96(%[from]), %%ymm3\n"
			      "vmovdqu -128(%[from], %[size]), %%ymm4\n"
			      "vmovdqu -96(%[from], %[size]), %%ymm5\n"
			      "vmovdqu -64(%[from], %[size]), %%ymm6\n"
			      "vmovdqu -32(%[from], %[size]), %%ymm7\n"
			      "vmovdqu %%ymm0, (%[to])\n"
			      "vmovdqu %%ymm1, 32(%[to])\n"
			      "vmovdqu %%ymm2, 64(%[to])\n"
			      "vmovdqu %%ymm3, 96(%[to])\n"
			      "vmovdqu %%ymm4, -128(%[to], %[size])\n"
			      "vmovdqu %%ymm5, -96(%[to], %[size])\n"
			      "vmovdqu %%ymm6, -64(%[to], %[size])\n"
			      "vmovdqu %%ymm7, -32(%[to], %[size])\n"
			      "2: vzeroupper\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]")
			      :
			      : [to] "r"(to), [from] "r"(from), [size] "r"(size)
			      : WIDE_LOST
			      : fault);
	return 0;
fault:
	return wide_fault();
}

/* More than 128 bytes: blocks of 128, the last one over the end of the one before. */
static inline int move_wide(void *to, const void *from, size_t size)
{
	const char *end = (const char *)from + size - 128;
	char *to_end = (char *)to + size - 128;

	__asm__ volatile goto(".balign 32\n"
			      "1: vmovdqu (%[from]), %%ymm0\n"
			      "vmovdqu 32(%[from]), %%ymm1\n"
			      "vmovdqu 64(%[from]), %%ymm2\n"
			      "vmovdqu 96(%[from]), %%ymm3\n"
			      "vmovdqu %%ymm0, (%[to])\n"
			      "vmovdqu %%ymm1, 32(%[to])\n"
			      "vmovdqu %%ymm2, 64(%[to])\n"
			      "vmovdqu %%ymm3, 96(%[to])\n"
			      "subq $-128, %[from]\n"
			      "subq $-128, %[to]\n"
			      "cmpq %[end], %[from]\n"
			      "jb 1b\n"
			      "vmovdqu (%[end]), %%ymm0\n"
			      "vmovdqu 32(%[end]), %%ymm1\n"
			      "vmovdqu 64(%[end]), %%ymm2\n"
			      "vmovdqu 96(%[end]), %%ymm3\n"
			      "vmovdqu %%ymm0, (%[to_end])\n"
			      "vmovdqu %%ymm1, 32(%[to_end])\n"
			      "vmovdqu %%ymm2, 64(%[to_end])\n"
			      "vmovdqu %%ymm3, 96(%[to_end])\n"
			      "2: vzeroupper\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]")
			      : [to] "+r"(to), [from] "+r"(from)
			      : [end] "r"(end), [to_end] "r"(to_end)
			      : WIDE_LOST
			      : fault);
	return 0;
fault:
	return wide_fault();
}

/* A multiple of 64 bytes. */
static inline int move_blocks(void *to, const void *from, size_t size)
{
	const char *end = (const char *)from + size;

	__asm__ volatile goto(".balign 32\n"
			      "1: movups (%[from]), %%xmm0\n"
			      "movups 16(%[from]), %%xmm1\n"
			      "movups 32(%[from]), %%xmm2\n"
			      "movups 48(%[from]), %%xmm3\n"
			      "movups %%xmm0, (%[to])\n"
			      "movups %%xmm1, 16(%[to])\n"
			      "movups %%xmm2, 32(%[to])\n"
			      "movups %%xmm3, 48(%[to])\n"
			      "addq $64, %[from]\n"
			      "addq $64, %[to]\n"
			      "cmpq %[end], %[from]\n"
			      "jb 1b\n"
			      "2:\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]")
			      : [to] "+r"(to), [from] "+r"(from)
			      : [end] "r"(end)
			      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3"
			      : fault);
	return 0;
fault:
	return -EFAULT;
}

static inline int move_string(void *to, const void *from, size_t size)
{
	__asm__ volatile goto("1: rep movsb\n"
			      "2:\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]")
			      : "+D"(to), "+S"(from), "+c"(size)
			      :
			      : "memory"
			      : fault);
	return 0;
fault:
	return -EFAULT;
}

/* From here on the processor's own copy is as fast as any (measured by bench/translation). */
#define STRING_FROM	 4096
#define STRING_FROM_WIDE 8192

static int move_many_wide(void *to, const void *from, size_t size)
{
	if (size <= 128)
		return move_wide_128(to, from, size);
	if (size <= 256)
		return move_wide_256(to, from, size);
	return size < STRING_FROM_WIDE ? move_wide(to, from, size) : move_string(to, from, size);
}

static int move_many(void *to, const void *from, size_t size)
{
	size_t blocks = (size - 1) & ~(size_t)63;

	if (__builtin_cpu_supports("avx"))
		return move_many_wide(to, from, size);
	if (size >= STRING_FROM)
		return move_string(to, from, size);
	if (move_blocks(to, from, blocks))
		return -EFAULT;
	/* The last 1 to 64 bytes as a whole block that overlaps the one before. */
	return move32_64((char *)to + size - 64, (const char *)from + size - 64, 64);
}

static int move_few(void *to, const void *from, size_t size)
{
	char *t = to;
	const char *f = from;

	for (size_t i = 0; i < size; i++)
		if (move1(t + i, f + i))
			return -EFAULT;
	return 0;
}

int uvf_guard_copy(void *to, const void *from, size_t size)
{
	switch (size) {
	case 1:
		return move1(to, from);
	case 2:
		return move2(to, from);
	case 4:
		return uvf_guard_move4(to, from);
	case 8:
		return uvf_guard_move8(to, from);
	default:
		break;
	}
	if (size < 8)
		return move_few(to, from, size);
	if (size <= 16)
		return move8_16(to, from, size);
	if (size <= 32)
		return move16_32(to, from, size);
	if (size <= 64)
		return move32_64(to, from, size);
	return move_many(to, from, size);
}

#define DEFINE_SWAP(name, type, suffix, form)                                         \
	static int name(void *at, type *expected, type desired)                       \
	{                                                                             \
		type seen = *expected;                                                \
		bool stored;                                                          \
                                                                                      \
		__asm__ volatile goto(                                                \
			"1: lock cmpxchg" suffix " %" form "[desired], (%[at])\n"     \
			"2: sete %b[stored]\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]") \
			: "+a"(seen), [stored] "=&q"(stored)                          \
			: [at] "r"(at), [desired] "r"(desired)                        \
			: "memory", "cc"                                              \
			: fault);                                                     \
		*expected = seen;                                                     \
		return stored;                                                        \
	fault:                                                                        \
		return -EFAULT;                                                       \
	}

DEFINE_SWAP(swap4, uint32_t, "l", "k")
DEFINE_SWAP(swap8, uint64_t, "q", "q")

int uvf_guard_compare_and_swap(void *at, size_t size, uint64_t *expected, uint64_t desired)
{
	uint32_t expected4 = (uint32_t)*expected;
	int stored;

	if (size == 8)
		return swap8(at, expected, desired);
	stored = swap4(at, &expected4, (uint32_t)desired);
	if (!stored)
		*expected = expected4;
	return stored;
}

#endif
