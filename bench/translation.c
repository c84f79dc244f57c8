/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What it costs to reach memory through an address space, and to change one.
 *
 * Translation is timed as a whole transfer: uvf_attachment_read() of 8 bytes, RCU section and
 * guarded load included. All mappings lead to the same few pages, so that what is timed is not the
 * cache misses of the data. The floor beside it is a random read of an array of as many 32-byte
 * entries. --json gives the same figures for programs.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/guard.h"
#include "iommu/iommu.h"

#define PAGE	   4096ULL
#define FILE_PAGES 64
#define RUNS	   5

static const uint64_t sizes[] = {16, 1000, 65000, 1000000};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static bool json;
static unsigned printed;
static volatile uint64_t sink;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

/* Nanoseconds an operation: the median of several runs. */
static double measure(void (*run)(void *what, uint64_t count), void *what, uint64_t count)
{
	double runs[RUNS];

	run(what, count / 8 + 1);
	for (unsigned i = 0; i < RUNS; i++) {
		double begin = now();

		run(what, count);
		runs[i] = (now() - begin) / (double)count;
	}
	qsort(runs, RUNS, sizeof(runs[0]), compare);
	return runs[RUNS / 2];
}

static void begin(void)
{
	if (json)
		printf("[");
	else
		printf("%-34s %10s %10s %8s %10s\n", "", "figure", "floor", "ratio", "unit");
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
		printf("%-34s %10.2f %10.2f %8.2f %10s\n", label, figure, floor, figure / floor,
		       unit);
	else
		printf("%-34s %10.2f %10s %8s %10s\n", label, figure, "", "", unit);
}

static void need(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-result));
	exit(1);
}

struct bench {
	struct uvf_address_space *space;
	struct uvf_attachment *attachment;
	struct uvf_memory *memory;
	uint64_t mappings;
	char *array; /* of 32-byte entries */
	char *from, *to;
	size_t copy;
};

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

static void run_random(void *what, uint64_t count)
{
	struct bench *bench = what;
	uint64_t state = 0x1234567, sum = 0, value = 0;

	for (uint64_t i = 0; i < count; i++) {
		uvf_iova_t iova = pick(&state, bench->mappings) * 2 * PAGE;

		need(uvf_attachment_read(bench->attachment, iova, &value, 8), "read");
		sum += value;
	}
	sink = sum;
}

static void run_floor(void *what, uint64_t count)
{
	struct bench *bench = what;
	uint64_t state = 0x1234567, sum = 0;

	for (uint64_t i = 0; i < count; i++)
		sum += *(volatile uint64_t *)(bench->array + pick(&state, bench->mappings) * 32);
	sink = sum;
}

static void run_again(void *what, uint64_t count)
{
	struct bench *bench = what;
	uint64_t value = 0;

	for (uint64_t i = 0; i < count; i++)
		need(uvf_attachment_read(bench->attachment, i % 512 * 8, &value, 8), "read");
	sink = value;
}

static void run_pin(void *what, uint64_t count)
{
	struct bench *bench = what;
	uint64_t state = 0x1234567;
	struct uvf_pin pin;
	struct iovec iov;

	for (uint64_t i = 0; i < count; i++) {
		uvf_iova_t iova = pick(&state, bench->mappings) * 2 * PAGE;

		need(uvf_attachment_pin(bench->attachment, iova, PAGE, UVF_PROT_RW, &pin, &iov, 1),
		     "pin");
		uvf_attachment_unpin(&pin);
	}
}

static void run_guarded(void *what, uint64_t count)
{
	struct bench *bench = what;

	for (uint64_t i = 0; i < count; i++)
		need(uvf_guard_copy(bench->to, bench->from, bench->copy), "copy");
}

static void run_memcpy(void *what, uint64_t count)
{
	struct bench *bench = what;
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
static void run_map(void *what, uint64_t count)
{
	struct bench *bench = what;
	uint64_t state = 0x7654321;

	for (uint64_t i = 0; i < count; i++) {
		uint64_t index = pick(&state, bench->mappings);

		need(uvf_unmap(bench->space, index * 2 * PAGE, PAGE, NULL), "unmap");
		map_one(bench, index);
	}
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
	floor = measure(run_floor, bench, 5000000);
	print("translate, random", mappings, measure(run_random, bench, 5000000), floor, "ns");
	print("translate, again", mappings, measure(run_again, bench, 5000000), 0, "ns");
	print("pin + unpin, random", mappings, measure(run_pin, bench, 2000000), 0, "ns");
	uvf_address_space_stats(bench->space, &stats);
	print("memory a mapping", mappings, (double)stats.memory / (double)mappings, 0, "bytes");
	print("unmap + map, random", mappings, measure(run_map, bench, 100000), 0, "ns");
	uvf_address_space_stats(bench->space, &stats);
	print("memory a mapping, after that", mappings, (double)stats.memory / (double)mappings, 0,
	      "bytes");
	need(uvf_attachment_set(bench->attachment, NULL), "detach");
	uvf_address_space_put(bench->space);
}

static void bench_copies(struct bench *bench)
{
	static const size_t copies[] = {8, 64, 512, PAGE, 64 << 10};

	for (size_t i = 0; i < sizeof(copies) / sizeof(copies[0]); i++) {
		char name[32];
		double floor;

		bench->copy = copies[i];
		snprintf(name, sizeof(name), "guarded copy, %zu bytes", copies[i]);
		floor = measure(run_memcpy, bench, (20ULL << 30) / (copies[i] + 4096) / 16);
		print(name, 0, measure(run_guarded, bench, (20ULL << 30) / (copies[i] + 4096) / 16),
		      floor, "ns");
	}
}

int main(int argc, char **argv)
{
	static const struct uvf_attachment_ops ops;
	struct bench bench = {0};
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
