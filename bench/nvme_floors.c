/* SPDX-License-Identifier: BSD-3-Clause */
/* Floors of the NVMe benchmark, and the medians that it and they are given as. */
#include "nvme_floors.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 50000000ULL
#define WANTED	 15 /* clean slices */
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

uint64_t bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static uint64_t thread_preemptions(int pid, const char *thread)
{
	char path[320], line[128];
	unsigned long count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, thread);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "nonvoluntary_ctxt_switches: %lu", &count) == 1)
			break;
	fclose(file);
	return count;
}

uint64_t bench_preemptions(int pid)
{
	struct rusage usage;
	struct dirent *entry;
	uint64_t count = 0;
	char path[64];
	DIR *tasks;

	getrusage(RUSAGE_THREAD, &usage);
	count = (uint64_t)usage.ru_nivcsw;
	if (!pid)
		return count;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return count;
	while ((entry = readdir(tasks)))
		if (entry->d_name[0] != '.')
			count += thread_preemptions(pid, entry->d_name);
	closedir(tasks);
	return count;
}

bool bench_add(struct bench_rates *rates, double rate, bool clean)
{
	rates->all[rates->count++] = rate;
	if (clean)
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
	struct bench_rates rates = {0};
	uint64_t state = 88172645463325252ULL;
	uint8_t *from;
	bool more;

	from = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (from == MAP_FAILED)
		return 0;
	madvise(from, size, MADV_HUGEPAGE);
	memset(from, 1, size);
	do {
		uint64_t begin = bench_now_ns(), now, copies = 0;
		uint64_t before = bench_preemptions(0);

		do {
			for (unsigned i = 0; i < 128; i++) {
				uint64_t page = bench_random(&state) % (size / PAGE);

				memcpy(buffers[i], from + page * PAGE, PAGE);
				/* It must not be left out, nobody reads it. */
				__asm__ volatile("" : : "r"(buffers[i]) : "memory");
			}
			copies += 128;
			now = bench_now_ns();
		} while (now - begin < SLICE_NS);
		more = bench_add(&rates, (double)copies * 1e9 / (double)(now - begin),
				 bench_preemptions(0) == before);
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
	for (unsigned i = 0; i < 1000; i++) {
		__atomic_store_n(&ring->both.sequence, *at, __ATOMIC_RELEASE);
		while (__atomic_load_n(&ring->both.sequence, __ATOMIC_ACQUIRE) != *at + 1)
			;
		*at += 2;
	}
	return 1000;
}

static uint64_t ring_some(struct ring *ring, uint64_t *sent, uint64_t *got, unsigned depth)
{
	uint64_t begin = *got;

	while (*got - begin < 1000) {
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
	struct bench_rates rates = {0};
	struct ring *ring = aligned_alloc(4096, (sizeof(*ring) + 4095) / 4096 * 4096);
	uint64_t sent = 1, got = 1;
	pthread_t thread;
	bool more;

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
		uint64_t begin = bench_now_ns(), now, done = 0;
		uint64_t before = bench_preemptions(getpid());

		do {
			done += ring->ping_pong ? ping_pong_some(ring, &sent)
						: ring_some(ring, &sent, &got, depth);
			now = bench_now_ns();
		} while (now - begin < SLICE_NS);
		more = bench_add(&rates, (double)done * 1e9 / (double)(now - begin),
				 bench_preemptions(getpid()) == before);
	} while (more);
	__atomic_store_n(&ring->stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	free(ring);
	return bench_median(&rates);
}
