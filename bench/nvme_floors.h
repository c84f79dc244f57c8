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
uint64_t bench_now_ns(void);

/* Not for secrets: xorshift. @state starts as anything but 0. */
static inline uint64_t bench_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Times this thread was put off its core; those of all threads of @pid where it isn't 0. */
uint64_t bench_preemptions(int pid);

/*
 * Rates, in slices of 50 ms. A slice in which a thread was put off its core says more about the
 * machine's other work than about ours: the median is over the clean ones where there are enough.
 */
#define BENCH_SLICES 64
struct bench_rates {
	double clean[BENCH_SLICES], all[BENCH_SLICES];
	size_t clean_count, count;
};
/* Adds a slice. Returns whether more are wanted. */
bool bench_add(struct bench_rates *rates, double rate, bool clean);
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
