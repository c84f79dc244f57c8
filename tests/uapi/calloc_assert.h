/* SPDX-License-Identifier: BSD-3-Clause */
/* A macro that Linux 7.2.12's VFIO selftests use and don't have. Given to them by -include. */
#ifndef CALLOC_ASSERT_H
#define CALLOC_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

static inline void *calloc_assert(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory) {
		perror("calloc");
		abort();
	}
	return memory;
}

#endif
