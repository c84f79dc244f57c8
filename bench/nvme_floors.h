/* SPDX-License-Identifier: BSD-3-Clause */
/* What the machine does by itself where an NVMe read over shared memory needs it: the floors. */
#ifndef BENCH_NVME_FLOORS_H
#define BENCH_NVME_FLOORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The two cores that a benchmark uses. Returns 0, or -ENOTSUP when there is one only. */
int bench_cpus(int cpus[2]);
void bench_pin(int cpu);

/* Not for secrets: xorshift. @state starts as anything but 0. */
static inline uint64_t bench_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/*
 * Rates, in slices of 2 ms. A slice in which a thread was off its core says more about the
 * machine's other work than about ours: the median is over the clean ones where there are enough.
 */
#define BENCH_SLICES 1024
struct bench_rates {
	double clean[BENCH_SLICES], all[BENCH_SLICES];
	size_t clean_count, count;
};

/* A slice being measured: begun, and at an end when bench_slice_over(). */
struct bench_slice {
	int pid; /* another process that has a part in it, or 0 */
	uint64_t begin, cpu, now;
};
struct bench_slice bench_slice_begin(int pid);
bool bench_slice_over(struct bench_slice *slice);
/*
 * Adds a slice in which @count things were done, by as many threads that never rest as @cores says.
 * Returns whether more are wanted.
 */
bool bench_slice_add(struct bench_rates *rates, const struct bench_slice *slice, uint64_t count,
		     unsigned cores);
/* The median of the clean ones, or of all when fewer than 5 were clean. */
double bench_median(struct bench_rates *rates);

/* 4 KiB copies a second from random places in @size bytes, on this core. */
double bench_floor_memcpy(uint64_t size);

/*
 * Round trips a second between the two cores with @depth under way: 64 bytes there and 16 back, in
 * rings without doorbells; at depth 1 a single cache line that both write.
 */
double bench_floor_ring(const int cpus[2], unsigned depth);

#endif
