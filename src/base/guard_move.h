/* SPDX-License-Identifier: BSD-3-Clause */
/* Guarded moves of one value, inline: for who makes many of them. */
#ifndef UVF_BASE_GUARD_MOVE_H
#define UVF_BASE_GUARD_MOVE_H

#include <errno.h>

#include "base/guard.h"

#if defined(__x86_64__) && !defined(UVF_GUARD_PORTABLE)

/* A row of the table that the handler looks a fault up in; see guard_x86.c. */
#define UVF_GUARD_ROW(begin, end, fixup)                          \
	".pushsection uvf_guards, \"a\"\n"                        \
	".balign 4\n"                                             \
	"9: .long " begin " - 9b, " end " - 9b, " fixup " - 9b\n" \
	".popsection\n"

/* One load and one store of the same width. */
#define UVF_GUARD_DEFINE_MOVE(name, type, suffix, form)                                   \
	static inline __attribute__((always_inline)) int name(void *to, const void *from) \
	{                                                                                 \
		type value;                                                               \
                                                                                          \
		__asm__ volatile goto("1: mov" suffix " (%[from]), %" form "[value]\n"    \
				      "mov" suffix " %" form "[value], (%[to])\n"         \
				      "2:\n" UVF_GUARD_ROW("1b", "2b", "%l[fault]")       \
				      : [value] "=&r"(value)                              \
				      : [to] "r"(to), [from] "r"(from)                    \
				      : "memory"                                          \
				      : fault);                                           \
		return 0;                                                                 \
	fault:                                                                            \
		return -EFAULT;                                                           \
	}

UVF_GUARD_DEFINE_MOVE(uvf_guard_move4, uint32_t, "l", "k")
UVF_GUARD_DEFINE_MOVE(uvf_guard_move8, uint64_t, "q", "q")

#else

static inline int uvf_guard_move4(void *to, const void *from)
{
	return uvf_guard_copy(to, from, 4);
}

static inline int uvf_guard_move8(void *to, const void *from)
{
	return uvf_guard_copy(to, from, 8);
}

#endif
#endif
