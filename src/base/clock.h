/* SPDX-License-Identifier: BSD-3-Clause */
/* The time, for durations. */
#ifndef UVF_BASE_CLOCK_H
#define UVF_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t uvf_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

#endif
