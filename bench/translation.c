/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What it costs to reach memory through an address space, and to change one.
 *
 * Translation is timed alone, and as a whole transfer: uvf_attachment_read() of 8 bytes with its
 * guarded load. All mappings lead to the same few pages, so that what is timed is not the cache
 * misses of the data. The floor beside it is a random read of an array of as many 32-byte entries.
 * --json gives the same figures for programs.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/guard.h"
#include "base/readers.h"
#include "iommu/space.h"

#define PAGE	   4096ULL
#define FILE_PAGES 64

#define SLICE_NS 200000
#define WANTED	 200 /* clean slices */
#define SLICES	 2000

static const uint64_t sizes[] = {16, 1000, 65000, 1000000};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static bool json;
static unsigned printed;
static volatile uint64_t sink;

static double read_clock(clockid_t clock)
{
	struct timespec time = {0};

	clock_gettime(clock, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(values[0]), compare);
	return values[count / 2];
}

static long preemptions(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

struct bench {
	struct uvf_address_space *space;
	struct uvf_attachment *attachment;
	struct uvf_memory *memory;
	uint64_t mappings;
	char *array; /* of 32-byte entries */
	char *from, *to;
	size_t copy;
	uint64_t state; /* of the random numbers */
	int other_core; /* or -1 */
	bool beside;	/* there is another thread: */
	clockid_t other_clock;
	_Atomic(bool) stop;
};
typedef void (*run_fn)(struct bench *bench, uint64_t count);

/*
 * Nanoseconds an operation: the median of short slices in which nobody else had our core (or the
 * core of the thread beside us); of all slices, where there are too few of those.
 */
static double measure(run_fn run, struct bench *bench)
{
	double clean[WANTED], any[SLICES];
	size_t clean_count = 0, any_count = 0;
	uint64_t count = 1;
	double took;

	do {
		double begin = now();

		count *= 2;
		run(bench, count);
		took = now() - begin;
	} while (took < SLICE_NS && count < 1U << 20);
	while (clean_count < WANTED && any_count < SLICES) {
		long before = preemptions();
		double other = bench->beside ? read_clock(bench->other_clock) : 0;
		double begin = now();

		run(bench, count);
		took = now() - begin;
		any[any_count++] = took / (double)count;
		if (preemptions() != before)
			continue;
		if (bench->beside && read_clock(bench->other_clock) - other < took * 0.9)
			continue;
		clean[clean_count++] = took / (double)count;
	}
	if (clean_count < 5)
		return median(any, any_count);
	return median(clean, clean_count);
}

static void begin(void)
{
	if (json)
		printf("[");
	else
		printf("%-42s %10s %10s %8s %10s\n", "", "figure", "floor", "ratio", "unit");
}

/* @floor 0: there is none. */
static void print(const char *name, uint64_t mappings, double figure, double floor,
		  const char *unit)
{
	char label[64];

	if (json) {
		printf("%s\n{\"name\": \"%s\", \"mappings\": %llu, \"figure\": %.2f, "
		       "\"floor\": %.2f, \"unit\": \"%s\"}",
		       printed++ ? "," : "", name, (unsigned long long)mappings, figure, floor,
		       unit);
		return;
	}
	snprintf(label, sizeof(label), mappings ? "%s, %llu" : "%s", name,
		 (unsigned long long)mappings);
	if (floor > 0)
		printf("%-42s %10.2f %10.2f %8.2f %10s\n", label, figure, floor, figure / floor,
		       unit);
	else
		printf("%-42s %10.2f %10s %8s %10s\n", label, figure, "", "", unit);
}

static void pin_to(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)core, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Keeps this thread on one core that we may use, and says another one, or -1. */
static int choose_cores(void)
{
	int mine = -1, other = -1;
	cpu_set_t set;

	sched_getaffinity(0, sizeof(set), &set);
	for (int core = 0; core < CPU_SETSIZE; core++)
		if (CPU_ISSET((unsigned)core, &set)) {
			other = mine;
			mine = core;
		}
	pin_to(mine);
	return other;
}

static void need(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-result));
	exit(1);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* One of [0, count), without a division. */
static uint64_t pick(uint64_t *state, uint64_t count)
{
	return ((next_random(state) >> 32) * count) >> 32;
}

/*
 * The address alone, as transfer.c finds it: the data is as far away as the driver put it, and not
 * ours to make faster.
 */
static inline uint64_t translate(struct bench *bench, uvf_iova_t iova)
{
	const struct uvf_leaf *leaf;
	struct uvf_reading reading;
	struct uvf_view *view;
	uvf_place_t place;
	uint64_t address;

	reading = uvf_readers_enter(&bench->attachment->readers);
	view = atomic_load_explicit(&bench->attachment->active, memory_order_acquire);
	place = uvf_view_find(view, iova);
	if (!place)
		need(-EFAULT, "translate");
	leaf = uvf_place_leaf(place);
	address = leaf->entry[uvf_place_index(place)].value +
		  (iova - leaf->first[uvf_place_index(place)]);
	uvf_readers_exit(reading);
	return address;
}

static void run_translate(struct bench *bench, uint64_t count)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < count; i++)
		sum += translate(bench, pick(&bench->state, bench->mappings) * 2 * PAGE);
	sink = sum;
}

static void run_translate_again(struct bench *bench, uint64_t count)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < count; i++)
		sum += translate(bench, i % 512 * 8);
	sink = sum;
}

static void run_random(struct bench *bench, uint64_t count)
{
	uint64_t sum = 0, value = 0;

	for (uint64_t i = 0; i < count; i++) {
		uvf_iova_t iova = pick(&bench->state, bench->mappings) * 2 * PAGE;

		need(uvf_attachment_read(bench->attachment, iova, &value, 8), "read");
		sum += value;
	}
	sink = sum;
}

static void run_floor(struct bench *bench, uint64_t count)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < count; i++)
		sum += *(volatile uint64_t *)(bench->array +
					      pick(&bench->state, bench->mappings) * 32);
	sink = sum;
}

static void run_again(struct bench *bench, uint64_t count)
{
	uint64_t value = 0;

	for (uint64_t i = 0; i < count; i++)
		need(uvf_attachment_read(bench->attachment, i % 512 * 8, &value, 8), "read");
	sink = value;
}

static void run_pin(struct bench *bench, uint64_t count)
{
	struct uvf_pin pin;
	struct iovec iov;

	for (uint64_t i = 0; i < count; i++) {
		uvf_iova_t iova = pick(&bench->state, bench->mappings) * 2 * PAGE;

		need(uvf_attachment_pin(bench->attachment, iova, PAGE, UVF_PROT_RW, &pin, &iov, 1),
		     "pin");
		uvf_attachment_unpin(&pin);
	}
}

static void run_guarded(struct bench *bench, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		need(uvf_guard_copy(bench->to, bench->from, bench->copy), "copy");
}

static void run_memcpy(struct bench *bench, uint64_t count)
{
	void *(*volatile copy)(void *, const void *, size_t) = memcpy;

	for (uint64_t i = 0; i < count; i++)
		copy(bench->to, bench->from, bench->copy);
}

static void map_one(struct bench *bench, uint64_t index)
{
	need(uvf_map(bench->space, index * 2 * PAGE, PAGE, UVF_PROT_RW, bench->memory,
		     index % FILE_PAGES * PAGE),
	     "map");
}

/* Takes a random mapping away and makes it again. */
static void run_map(struct bench *bench, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t index = pick(&bench->state, bench->mappings);

		need(uvf_unmap(bench->space, index * 2 * PAGE, PAGE, NULL), "unmap");
		map_one(bench, index);
	}
}

/* A poller that finds work at every look. */
static void *read_all_the_time(void *opaque)
{
	struct bench *bench = opaque;
	uint64_t value;

	pin_to(bench->other_core);
	while (!atomic_load_explicit(&bench->stop, memory_order_relaxed))
		need(uvf_attachment_read(bench->attachment, bench->mappings * 2 * PAGE, &value, 8),
		     "read");
	return NULL;
}

/* One that finds none: it did DMA, and may at any moment again. */
static void *read_once(void *opaque)
{
	struct bench *bench = opaque;
	uint64_t value;

	pin_to(bench->other_core);
	need(uvf_attachment_read(bench->attachment, bench->mappings * 2 * PAGE, &value, 8), "read");
	while (!atomic_load_explicit(&bench->stop, memory_order_relaxed))
		;
	return NULL;
}

static void bench_beside(struct bench *bench, const char *name, void *(*thread)(void *))
{
	pthread_t other;

	if (bench->other_core < 0)
		return;
	bench->stop = false;
	if (pthread_create(&other, NULL, thread, bench))
		exit(1);
	bench->beside = !pthread_getcpuclockid(other, &bench->other_clock);
	print(name, bench->mappings, measure(run_map, bench), 0, "ns");
	bench->beside = false;
	bench->stop = true;
	pthread_join(other, NULL);
}

static void bench_size(struct bench *bench, uint64_t mappings)
{
	struct uvf_address_space_stats stats;
	double floor, start;

	need(uvf_address_space_new(NULL, &bench->space), "address space");
	need(uvf_attachment_set(bench->attachment, bench->space), "attach");
	bench->mappings = mappings;
	start = now();
	for (uint64_t i = 0; i < mappings; i++)
		map_one(bench, i);
	print("map, one after the other", mappings, (now() - start) / (double)mappings, 0, "ns");
	floor = measure(run_floor, bench);
	print("translate, random", mappings, measure(run_translate, bench), floor, "ns");
	print("read 8 bytes, random", mappings, measure(run_random, bench), floor, "ns");
	print("translate, again", mappings, measure(run_translate_again, bench), 0, "ns");
	print("read 8 bytes, again", mappings, measure(run_again, bench), 0, "ns");
	print("pin + unpin, random", mappings, measure(run_pin, bench), 0, "ns");
	uvf_address_space_stats(bench->space, &stats);
	print("memory a mapping", mappings, (double)stats.memory / (double)mappings, 0, "bytes");
	print("unmap + map, random", mappings, measure(run_map, bench), 0, "ns");
	/* One more, which nobody unmaps. */
	map_one(bench, mappings);
	bench_beside(bench, "unmap + map beside a reader", read_all_the_time);
	bench_beside(bench, "unmap + map beside a busy thread", read_once);
	uvf_address_space_stats(bench->space, &stats);
	print("memory a mapping, after that", mappings, (double)stats.memory / (double)mappings, 0,
	      "bytes");
	need(uvf_attachment_set(bench->attachment, NULL), "detach");
	uvf_address_space_put(bench->space);
}

static void bench_copies(struct bench *bench)
{
	static const size_t copies[] = {8, 64, 128, 256, 512, 1024, 2048, PAGE, 64 << 10};

	for (size_t i = 0; i < sizeof(copies) / sizeof(copies[0]); i++) {
		char name[32];
		double floor;

		bench->copy = copies[i];
		snprintf(name, sizeof(name), "guarded copy, %zu bytes", copies[i]);
		floor = measure(run_memcpy, bench);
		print(name, 0, measure(run_guarded, bench), floor, "ns");
	}
}

int main(int argc, char **argv)
{
	static const struct uvf_attachment_ops ops;
	struct bench bench = {.state = 0x1234567};
	int fd = memfd_create("bench", MFD_CLOEXEC);

	json = argc > 1 && !strcmp(argv[1], "--json");
	if (fd < 0 || ftruncate(fd, FILE_PAGES * PAGE))
		return 1;
	need(uvf_memory_new_file(fd, UVF_PROT_RW, &bench.memory), "memory");
	need(uvf_attachment_new(&ops, NULL, &bench.attachment), "attachment");
	uvf_attachment_enable(bench.attachment, true);
	bench.array = aligned_alloc(2 << 20, 64 << 20);
	bench.from = aligned_alloc(PAGE, 128 << 10);
	bench.to = aligned_alloc(PAGE, 128 << 10);
	if (!bench.array || !bench.from || !bench.to)
		return 1;
	madvise(bench.array, 64 << 20, MADV_HUGEPAGE);
	memset(bench.array, 1, 64 << 20);
	memset(bench.from, 1, 128 << 10);
	memset(bench.to, 1, 128 << 10);
	bench.other_core = choose_cores();
	begin();
	for (size_t i = 0; i < SIZES; i++)
		bench_size(&bench, sizes[i]);
	bench_copies(&bench);
	printf(json ? "\n]\n" : "");
	uvf_attachment_free(bench.attachment);
	uvf_memory_put(bench.memory);
	free(bench.array);
	free(bench.from);
	free(bench.to);
	close(fd);
	return 0;
}
