/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What dirty logs cost: a report of an idle log, of one with 1% of its pages dirty at random, with
 * one mapping and with many; and a write with the log on.
 *
 * The floor of a report is to scan a bitmap with the same bits, add it to the caller's and clear
 * it, with nobody beside. The floor of a write is one with the log off, in slices that alternate.
 * --json gives the same figures for programs.
 */
#include <sys/mman.h>
#include <uvfio/dirty.h>

#include "iommu/iommu.h"
#include "measure.h"

#define PAGE 4096ULL
#define GIB  (1ULL << 30)

#define ROUNDS	     41
#define SLICE_WRITES 20000
#define SLICES	     201
#define WRITE_PAGES  4096ULL

static struct table table;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

struct bench {
	struct uvf_address_space *space;
	struct uvf_attachment *attachment;
	uint64_t size, words;
	uint64_t *bitmap; /* the caller's */
	uint64_t *bits;	  /* what is dirty */
};

static const struct uvf_attachment_ops no_ops;

static uint64_t *new_bitmap(uint64_t words)
{
	uint64_t *bitmap = mmap(NULL, words * 8, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	need(bitmap == MAP_FAILED ? -12 : 0, "a bitmap");
	return bitmap;
}

/* @size of memory in @mappings, of which only @touched can be written. */
static void bench_begin(struct bench *bench, uint64_t size, uint64_t mappings, uint64_t touched)
{
	struct uvf_memory *memory;
	char *base =
		mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	need(base == MAP_FAILED ? -12 : 0, "address space");
	if (touched)
		need(mprotect(base, touched, PROT_READ | PROT_WRITE), "memory");
	*bench = (struct bench){.size = size, .words = size / PAGE / 64};
	bench->bitmap = new_bitmap(bench->words);
	bench->bits = new_bitmap(bench->words);
	need(uvf_address_space_new(NULL, &bench->space), "address space");
	need(uvf_memory_new_local(base, size, &memory), "memory");
	for (uint64_t i = 0; i < mappings; i++)
		need(uvf_map(bench->space, i * (size / mappings), size / mappings, UVF_PROT_RW,
			     memory, i * (size / mappings)),
		     "map");
	uvf_memory_put(memory);
	need(uvf_attachment_new(&no_ops, NULL, &bench->attachment), "attachment");
	need(uvf_attachment_set(bench->attachment, bench->space), "attach");
	uvf_attachment_enable(bench->attachment, true);
	need(uvf_dirty_start(bench->space), "start");
}

static void bench_end(struct bench *bench)
{
	uvf_attachment_free(bench->attachment);
	uvf_address_space_put(bench->space);
	munmap(bench->bitmap, bench->words * 8);
	munmap(bench->bits, bench->words * 8);
}

static double time_report(struct bench *bench)
{
	double begin = now();

	need(uvf_dirty_report(bench->space, 0, bench->size, PAGE, 0, bench->bitmap,
			      bench->words * 8),
	     "report");
	return now() - begin;
}

/* Not inlined, so that it isn't made anything special of. */
__attribute__((noinline)) static void scan_and_clear(uint64_t *to, uint64_t *from, uint64_t words)
{
	for (uint64_t i = 0; i < words; i++) {
		to[i] |= from[i];
		from[i] = 0;
	}
}

static double time_scan(struct bench *bench, uint64_t *from)
{
	double begin = now();

	scan_and_clear(bench->bitmap, from, bench->words);
	return now() - begin;
}

/* ---- Reports ---- */

static void measure_idle(uint64_t size, uint64_t mappings, const char *name)
{
	double took[ROUNDS];
	struct bench bench;

	bench_begin(&bench, size, mappings, PAGE);
	/* It was in use. */
	need(uvf_attachment_write(bench.attachment, 0, "x", 1), "write");
	time_report(&bench);
	for (unsigned i = 0; i < ROUNDS; i++)
		took[i] = time_report(&bench) / 1000;
	print(&table, name, mappings, median(took, ROUNDS), 0, "us");
	bench_end(&bench);
}

static void measure_random(uint64_t size, uint64_t mappings)
{
	double took[ROUNDS], floors[ROUNDS];
	uint64_t state = 88172645463325252ULL, *copy;
	struct bench bench;

	bench_begin(&bench, size, mappings, 0);
	copy = new_bitmap(bench.words);
	for (uint64_t i = 0; i < size / PAGE / 100; i++) {
		uint64_t page = next_random(&state) % (size / PAGE);

		bench.bits[page / 64] |= 1ULL << page % 64;
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		uvf_dirty_restore(bench.space, 0, size, PAGE, bench.bits);
		memset(bench.bitmap, 0, bench.words * 8);
		took[i] = time_report(&bench) / 1000;
		need(memcmp(bench.bitmap, bench.bits, bench.words * 8) ? -5 : 0, "the bits");
		memcpy(copy, bench.bits, bench.words * 8);
		memset(bench.bitmap, 0, bench.words * 8);
		floors[i] = time_scan(&bench, copy) / 1000;
	}
	print(&table, "64 GiB, 1% dirty at random", mappings, median(took, ROUNDS),
	      median(floors, ROUNDS), "us");
	munmap(copy, bench.words * 8);
	bench_end(&bench);
}

/* ---- Writes ---- */

static double time_writes(struct bench *bench, uint64_t pages)
{
	uint64_t value = 1;
	double begin = now();

	for (uint64_t i = 0; i < SLICE_WRITES; i++)
		uvf_attachment_write(bench->attachment, i % pages * PAGE + i % 64 * 64, &value, 8);
	return (now() - begin) / SLICE_WRITES;
}

static void measure_writes(uint64_t pages, const char *name)
{
	double on[SLICES], off[SLICES], more[SLICES];
	struct bench bench;

	bench_begin(&bench, GIB, 1, WRITE_PAGES * PAGE);
	for (unsigned i = 0; i < SLICES; i++) {
		need(uvf_dirty_start(bench.space), "start");
		time_writes(&bench, pages);
		on[i] = time_writes(&bench, pages);
		uvf_dirty_stop(bench.space);
		time_writes(&bench, pages);
		off[i] = time_writes(&bench, pages);
		more[i] = on[i] - off[i];
	}
	print(&table, name, 0, median(on, SLICES), median(off, SLICES), "ns");
	print(&table,
	      pages == 1 ? "more than with the log off, one page"
			 : "more than with the log off, many pages",
	      0, median(more, SLICES), 0, "ns");
	bench_end(&bench);
}

/* The first write to each page since a report. */
static void measure_first_writes(void)
{
	double first[SLICES];
	struct bench bench;

	bench_begin(&bench, GIB, 1, WRITE_PAGES * PAGE);
	for (unsigned i = 0; i < SLICES; i++) {
		uint64_t value = 1;
		double begin;

		time_report(&bench);
		begin = now();
		for (uint64_t page = 0; page < WRITE_PAGES; page++)
			uvf_attachment_write(bench.attachment, page * PAGE, &value, 8);
		first[i] = (now() - begin) / WRITE_PAGES;
	}
	print(&table, "write 8 bytes, first since a report", 0, median(first, SLICES), 0, "ns");
	bench_end(&bench);
}

int main(int argc, char **argv)
{
	table.json = argc == 2 && !strcmp(argv[1], "--json");
	if (argc > 1 && !table.json) {
		fprintf(stderr, "usage: %s [--json]\n", argv[0]);
		return 2;
	}
	measure_idle(64 * GIB, 1, "64 GiB, idle");
	measure_idle(64 * GIB, 4096, "64 GiB, idle");
	measure_idle(1024 * GIB, 1, "1 TiB, idle");
	measure_idle(1024 * GIB, 4096, "1 TiB, idle");
	measure_random(64 * GIB, 1);
	measure_random(64 * GIB, 4096);
	measure_writes(1, "write 8 bytes, log on, one page");
	measure_writes(WRITE_PAGES, "write 8 bytes, log on, many pages");
	measure_first_writes();
	end_table(&table);
	return 0;
}
