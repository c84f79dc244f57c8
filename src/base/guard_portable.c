/* SPDX-License-Identifier: BSD-3-Clause */
/* Guarded accesses in plain C: the handler jumps back. Slower: each call saves its place. */
#if !defined(__x86_64__) || defined(UVF_GUARD_PORTABLE)

#include <errno.h>
#include <setjmp.h>
#include <string.h>

#include "base/bytes.h"
#include "base/guard.h"
#include "base/guard_table.h"

/* Where this thread's guarded access began, or NULL outside one. */
static _Thread_local sigjmp_buf *volatile place;

bool uvf_guard_fix_up(void *context)
{
	if (!place)
		return false;
	siglongjmp(*place, 1);
}

#define MOVE(type) *(volatile type *)to = *(const volatile type *)from

static void copy(void *to, const void *from, size_t size)
{
	bool aligned = uvf_is_aligned((uintptr_t)to | (uintptr_t)from, size);

	if (size == 1)
		MOVE(uint8_t);
	else if (aligned && size == 2)
		MOVE(uint16_t);
	else if (aligned && size == 4)
		MOVE(uint32_t);
	else if (aligned && size == 8)
		MOVE(uint64_t);
	else
		memcpy(to, from, size);
}

int uvf_guard_copy(void *to, const void *from, size_t size)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 0)) {
		place = NULL;
		return -EFAULT;
	}
	place = &here;
	copy(to, from, size);
	place = NULL;
	return 0;
}

static int swap(void *at, size_t size, uint64_t *expected, uint64_t desired)
{
	uint32_t expected4 = (uint32_t)*expected;
	bool stored;

	if (size == 8)
		return __atomic_compare_exchange_n((uint64_t *)at, expected, desired, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	stored = __atomic_compare_exchange_n((uint32_t *)at, &expected4, (uint32_t)desired, false,
					     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	if (!stored)
		*expected = expected4;
	return stored;
}

int uvf_guard_compare_and_swap(void *at, size_t size, uint64_t *expected, uint64_t desired)
{
	sigjmp_buf here;
	int stored;

	if (sigsetjmp(here, 0)) {
		place = NULL;
		return -EFAULT;
	}
	place = &here;
	stored = swap(at, size, expected, desired);
	place = NULL;
	return stored;
}

#endif
