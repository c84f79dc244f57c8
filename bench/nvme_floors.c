/* SPDX-License-Identifier: BSD-3-Clause */
/* Floors of the NVMe benchmark, and the medians that it and they are given as. */
#include "nvme_floors.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 2000000ULL
#define WANTED	 101 /* clean slices */
#define PAGE	 4096ULL

int bench_cpus(int cpus[2])
{
	cpu_set_t set;
	int found = 0;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return -errno;
	for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
		if (CPU_ISSET((size_t)cpu, &set))
			cpus[found++] = cpu;
	return found == 2 ? 0 : -ENOTSUP;
}

void bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		perror("sched_setaffinity");
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now = {0};

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* Processor time of this process and, where it isn't 0, of @pid. */
static uint64_t cpu_ns(int pid)
{
	uint64_t time = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	clockid_t clock;

	if (pid && !clock_getcpuclockid(pid, &clock))
		time += clock_ns(clock);
	return time;
}

struct bench_slice bench_slice_begin(int pid)
{
	return (struct bench_slice){
		.pid = pid,
		.cpu = cpu_ns(pid),
		.begin = clock_ns(CLOCK_MONOTONIC),
	};
}

bool bench_slice_over(struct bench_slice *slice)
{
	slice->now = clock_ns(CLOCK_MONOTONIC);
	return slice->now - slice->begin >= SLICE_NS;
}

bool bench_slice_add(struct bench_rates *rates, const struct bench_slice *slice, uint64_t count,
		     unsigned cores)
{
	double wall = (double)(slice->now - slice->begin);
	double cpu = (double)(cpu_ns(slice->pid) - slice->cpu);
	double rate = (double)count * 1e9 / wall;

	rates->all[rates->count++] = rate;
	if (cpu > 0.98 * cores * wall)
		rates->clean[rates->clean_count++] = rate;
	return rates->clean_count < WANTED && rates->count < BENCH_SLICES;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(struct bench_rates *rates)
{
	double *values = rates->clean_count < 5 ? rates->all : rates->clean;
	size_t count = rates->clean_count < 5 ? rates->count : rates->clean_count;

	if (!count)
		return 0;
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

double bench_floor_memcpy(uint64_t size)
{
	static uint8_t buffers[128][PAGE] __attribute__((aligned(4096)));
	static struct bench_rates rates;
	uint64_t state = 88172645463325252ULL;
	uint8_t *from;
	bool more;

	memset(&rates, 0, sizeof(rates));
	from = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (from == MAP_FAILED)
		return 0;
	madvise(from, size, MADV_HUGEPAGE);
	memset(from, 1, size);
	do {
		struct bench_slice slice = bench_slice_begin(0);
		uint64_t copies = 0;

		do {
			for (unsigned i = 0; i < 128; i++) {
				uint64_t page = bench_random(&state) % (size / PAGE);

				memcpy(buffers[i], from + page * PAGE, PAGE);
				/* It must not be left out, nobody reads it. */
				__asm__ volatile("" : : "r"(buffers[i]) : "memory");
			}
			copies += 128;
		} while (!bench_slice_over(&slice));
		more = bench_slice_add(&rates, &slice, copies, 1);
	} while (more);
	munmap(from, size);
	return bench_median(&rates);
}

/* ---- The ring ---- */

#define RING 256u

struct line {
	uint64_t sequence; /* from 1 */
	uint64_t body[7];
} __attribute__((aligned(64)));

struct answer {
	uint64_t body;
	uint64_t sequence;
};

struct ring {
	struct line requests[RING];
	struct answer answers[RING];
	struct line both; /* for the ping-pong */
	int cpu;
	bool ping_pong;
	bool stop;
};

static void *other_side(void *opaque)
{
	struct ring *ring = opaque;
	uint64_t at = 1;

	bench_pin(ring->cpu);
	while (!__atomic_load_n(&ring->stop, __ATOMIC_RELAXED)) {
		struct line *request = &ring->requests[at % RING];

		if (ring->ping_pong) {
			if (__atomic_load_n(&ring->both.sequence, __ATOMIC_ACQUIRE) == at) {
				__atomic_store_n(&ring->both.sequence, at + 1, __ATOMIC_RELEASE);
				at += 2;
			}
			continue;
		}
		if (__atomic_load_n(&request->sequence, __ATOMIC_ACQUIRE) != at)
			continue;
		ring->answers[at % RING].body = request->body[0] + request->body[6];
		__atomic_store_n(&ring->answers[at % RING].sequence, at, __ATOMIC_RELEASE);
		at++;
	}
	return NULL;
}

static uint64_t ping_pong_some(struct ring *ring, uint64_t *at)
{
	for (unsigned i = 0; i < 200; i++) {
		__atomic_store_n(&ring->both.sequence, *at, __ATOMIC_RELEASE);
		while (__atomic_load_n(&ring->both.sequence, __ATOMIC_ACQUIRE) != *at + 1)
			;
		*at += 2;
	}
	return 200;
}

static uint64_t ring_some(struct ring *ring, uint64_t *sent, uint64_t *got, unsigned depth)
{
	uint64_t begin = *got;

	while (*got - begin < 200) {
		while (*sent - *got < depth) {
			struct line *request = &ring->requests[*sent % RING];

			for (unsigned i = 0; i < 7; i++)
				request->body[i] = *sent;
			__atomic_store_n(&request->sequence, *sent, __ATOMIC_RELEASE);
			++*sent;
		}
		while (*got < *sent && __atomic_load_n(&ring->answers[*got % RING].sequence,
						       __ATOMIC_ACQUIRE) == *got)
			++*got;
	}
	return *got - begin;
}

double bench_floor_ring(const int cpus[2], unsigned depth)
{
	static struct bench_rates rates;
	struct ring *ring = aligned_alloc(4096, (sizeof(*ring) + 4095) / 4096 * 4096);
	uint64_t sent = 1, got = 1;
	pthread_t thread;
	bool more;

	memset(&rates, 0, sizeof(rates));
	if (!ring)
		return 0;
	memset(ring, 0, sizeof(*ring));
	ring->cpu = cpus[1];
	ring->ping_pong = depth == 1;
	bench_pin(cpus[0]);
	if (pthread_create(&thread, NULL, other_side, ring)) {
		free(ring);
		return 0;
	}
	do {
		struct bench_slice slice = bench_slice_begin(0);
		uint64_t done = 0;

		do
			done += ring->ping_pong ? ping_pong_some(ring, &sent)
						: ring_some(ring, &sent, &got, depth);
		while (!bench_slice_over(&slice));
		more = bench_slice_add(&rates, &slice, done, 2);
	} while (more);
	__atomic_store_n(&ring->stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	free(ring);
	return bench_median(&rates);
}
