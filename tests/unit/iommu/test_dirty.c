/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logs against an oracle that knows each page that was written: exactly, one step after the
 * other; and with several threads that write, pin and are reported at once, that nothing written
 * goes unreported.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "iommu/iommu.h"
#include "iommu/space.h"

#include <uvfio/dirty.h>

#define PAGE  4096ULL
#define PAGES 512ULL /* of memory, mapped at BASE in blocks */
#define BLOCK 16ULL  /* pages of a mapping */
#define BASE  (7 * PAGE)
#define PINS  8
#define STEPS 1000000

static uint64_t state_of_random = 1;

static uint64_t random_below(uint64_t limit)
{
	state_of_random = state_of_random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (state_of_random >> 33) % limit;
}

static const struct uvf_attachment_ops no_ops;

struct world {
	struct uvf_address_space *space;
	struct uvf_memory *memory;
	struct uvf_attachment *attachment;
	uint8_t *bytes;
	bool on;
	bool mapped[PAGES / BLOCK];
	bool dirty[2 * PAGES]; /* by number of the page: must be, and exactly is, in the log */
	struct uvf_pin pin[PINS];
	bool pinned[PINS];
};

static void world_begin(struct world *world)
{
	memset(world, 0, sizeof(*world));
	world->bytes = aligned_alloc(PAGE, PAGES * PAGE);
	memset(world->bytes, 0, PAGES * PAGE);
	assert_int_equal(uvf_address_space_new(NULL, &world->space), 0);
	assert_int_equal(uvf_memory_new_local(world->bytes, PAGES * PAGE, &world->memory), 0);
	assert_int_equal(uvf_attachment_new(&no_ops, NULL, &world->attachment), 0);
	assert_int_equal(uvf_attachment_set(world->attachment, world->space), 0);
	uvf_attachment_enable(world->attachment, true);
}

static void world_end(struct world *world)
{
	for (unsigned i = 0; i < PINS; i++)
		if (world->pinned[i])
			uvf_attachment_unpin(&world->pin[i]);
	uvf_attachment_free(world->attachment);
	uvf_address_space_put(world->space);
	uvf_memory_put(world->memory);
	free(world->bytes);
}

static void map_block(struct world *world, uint64_t block)
{
	assert_int_equal(uvf_map(world->space, BASE + block * BLOCK * PAGE, BLOCK * PAGE,
				 UVF_PROT_RW, world->memory, block * BLOCK * PAGE),
			 0);
	world->mapped[block] = true;
}

/* ---- One step after the other ---- */

static void mark(struct world *world, uint64_t first, uint64_t last)
{
	for (uint64_t page = first; world->on && page <= last; page++)
		world->dirty[BASE / PAGE + page] = true;
}

static void write_some(struct world *world)
{
	static const uint8_t data[3 * PAGE];
	uint64_t at = random_below(PAGES * PAGE - 1), size = 1 + random_below(sizeof(data));
	int ret;

	if (size > PAGES * PAGE - at)
		size = PAGES * PAGE - at;
	switch (random_below(3)) {
	case 0:
		at = at / 8 * 8;
		size = 8;
		break;
	case 1:
		if (size > 16)
			size = 16;
	}
	if (size > PAGES * PAGE - at)
		size = PAGES * PAGE - at;
	ret = uvf_attachment_write(world->attachment, BASE + at, data, size);
	/* Block by block, up to the first that isn't mapped. */
	for (uint64_t page = at / PAGE; page <= (at + size - 1) / PAGE; page++) {
		if (!world->mapped[page / BLOCK]) {
			assert_int_equal(ret, -EFAULT);
			return;
		}
		mark(world, page, page);
	}
	assert_int_equal(ret, 0);
}

static void swap_some(struct world *world)
{
	uint64_t page = random_below(PAGES), expected = 1 - random_below(2);
	bool wins = expected == 0;
	int ret = uvf_attachment_compare_and_swap(world->attachment, BASE + page * PAGE, 8,
						  &expected, 0);

	if (!world->mapped[page / BLOCK]) {
		assert_int_equal(ret, -EFAULT);
		return;
	}
	assert_int_equal(ret, wins);
	if (wins)
		mark(world, page, page);
}

static uint64_t pin_page(const struct uvf_pin *pin)
{
	return (pin->first - BASE) / PAGE;
}

static void pin_some(struct world *world)
{
	unsigned i = (unsigned)random_below(PINS);
	uint64_t page = random_below(PAGES - 2);
	unsigned prot = random_below(4) ? UVF_PROT_WRITE : UVF_PROT_READ;
	struct iovec iov[4];

	if (world->pinned[i]) {
		struct uvf_pin *pin = &world->pin[i];

		if (pin->prot & UVF_PROT_WRITE)
			mark(world, pin_page(pin), (pin->last - BASE) / PAGE);
		uvf_attachment_unpin(pin);
		world->pinned[i] = false;
		return;
	}
	world->pinned[i] = uvf_attachment_pin(world->attachment, BASE + page * PAGE, 2 * PAGE, prot,
					      &world->pin[i], iov, 4) > 0;
}

static bool is_pinned(const struct world *world, uint64_t page)
{
	for (unsigned i = 0; i < PINS; i++)
		if (world->pinned[i] && world->pin[i].prot & UVF_PROT_WRITE &&
		    pin_page(&world->pin[i]) <= page && page <= pin_page(&world->pin[i]) + 1)
			return true;
	return false;
}

/* Checks a bitmap of [first, first + count) pages, in bits of @ratio pages. */
static void check_bitmap(struct world *world, const uint64_t *bitmap, uint64_t first,
			 uint64_t count, uint64_t ratio)
{
	for (uint64_t bit = 0; bit < count / ratio; bit++) {
		bool expected = false;

		for (uint64_t i = 0; i < ratio; i++) {
			uint64_t page = first + bit * ratio + i;

			expected |= world->dirty[page] ||
				    (page >= BASE / PAGE && is_pinned(world, page - BASE / PAGE));
		}
		assert_int_equal(bitmap[bit / 64] >> bit % 64 & 1, expected);
	}
}

static void forget(struct world *world, uint64_t first, uint64_t count)
{
	for (uint64_t page = first; page < first + count; page++)
		world->dirty[page] = false;
}

static void report_some(struct world *world)
{
	uint64_t ratio = 1ULL << (random_below(2) ? 0 : random_below(6));
	uint64_t first = random_below(PAGES) / ratio * ratio;
	uint64_t count = (1 + random_below(PAGES / ratio)) * ratio;
	uint64_t bitmap[PAGES / 64 + 2] = {0};
	unsigned flags = random_below(3) ? 0 : UVF_DIRTY_KEEP;
	int ret = uvf_dirty_report(world->space, first * PAGE, count * PAGE, ratio * PAGE, flags,
				   bitmap, sizeof(bitmap));

	if (!world->on) {
		assert_int_equal(ret, -EINVAL);
		return;
	}
	assert_int_equal(ret, 0);
	check_bitmap(world, bitmap, first, count, ratio);
	if (flags & UVF_DIRTY_KEEP)
		return;
	forget(world, first, count);
	if (random_below(4))
		return;
	/* It didn't reach the one who asked. */
	uvf_dirty_restore(world->space, first * PAGE, count * PAGE, ratio * PAGE, bitmap);
	for (uint64_t bit = 0; bit < count / ratio; bit++)
		for (uint64_t i = 0; bitmap[bit / 64] >> bit % 64 & 1 && i < ratio; i++)
			world->dirty[first + bit * ratio + i] = true;
}

static bool block_is_pinned(const struct world *world, uint64_t block)
{
	for (unsigned i = 0; i < PINS; i++)
		if (world->pinned[i] && pin_page(&world->pin[i]) / BLOCK <= block &&
		    block <= (pin_page(&world->pin[i]) + 1) / BLOCK)
			return true;
	return false;
}

static void change_block(struct world *world)
{
	uint64_t block = random_below(PAGES / BLOCK), iova = BASE + block * BLOCK * PAGE;
	uint64_t bitmap[2] = {0}, unmapped;

	if (!world->mapped[block]) {
		map_block(world, block);
		return;
	}
	if (block_is_pinned(world, block))
		return;
	if (world->on && random_below(2)) {
		assert_int_equal(uvf_unmap_dirty(world->space, iova, BLOCK * PAGE, &unmapped, PAGE,
						 bitmap, sizeof(bitmap)),
				 0);
		check_bitmap(world, bitmap, iova / PAGE, BLOCK, 1);
	} else {
		assert_int_equal(uvf_unmap(world->space, iova, BLOCK * PAGE, &unmapped), 0);
	}
	assert_int_equal(unmapped, BLOCK * PAGE);
	world->mapped[block] = false;
	forget(world, iova / PAGE, BLOCK);
}

static void switch_log(struct world *world)
{
	if (random_below(20))
		return;
	if (random_below(3)) {
		assert_int_equal(uvf_dirty_start(world->space), 0);
		world->on = true;
	} else {
		uvf_dirty_stop(world->space);
		world->on = false;
		memset(world->dirty, 0, sizeof(world->dirty));
	}
	assert_int_equal(uvf_dirty_is_on(world->space), world->on);
}

static void is_exact(void **state)
{
	struct world world;

	world_begin(&world);
	for (unsigned i = 0; i < STEPS; i++) {
		uint64_t kind = random_below(64);

		if (kind == 0)
			switch_log(&world);
		else if (kind < 3)
			report_some(&world);
		else if (kind < 5)
			change_block(&world);
		else if (kind < 15)
			pin_some(&world);
		else if (kind < 20)
			swap_some(&world);
		else
			write_some(&world);
	}
	world_end(&world);
}

/* ---- What is refused, and leaves the log as it is ---- */

static void refusals(void **state)
{
	struct world world;
	uint64_t bitmap[1024] = {0}, large = 1ULL << 27;

	world_begin(&world);
	map_block(&world, 0);
	assert_int_equal(uvf_dirty_report(world.space, 0, PAGE, PAGE, 0, bitmap, 8), -EINVAL);
	assert_int_equal(uvf_dirty_start(world.space), 0);
	assert_int_equal(uvf_dirty_start(world.space), 0);
	assert_int_equal(uvf_attachment_write(world.attachment, BASE, "x", 1), 0);
	/* 128 MiB want 4 KiB of bitmap. */
	assert_int_equal(uvf_dirty_bitmap_size(large, PAGE), 4096);
	assert_int_equal(uvf_dirty_report(world.space, 0, large, PAGE, 0, bitmap, 8), -EINVAL);
	assert_int_equal(uvf_dirty_report(world.space, 0, large, PAGE, 0, bitmap, 4095), -EINVAL);
	assert_int_equal(uvf_dirty_report(world.space, 0, 0, PAGE, 0, bitmap, 8), -EINVAL);
	assert_int_equal(uvf_dirty_report(world.space, 1, PAGE, PAGE, 0, bitmap, 8), -EINVAL);
	assert_int_equal(uvf_dirty_report(world.space, 0, PAGE + 1, PAGE, 0, bitmap, 8), -EINVAL);
	assert_int_equal(uvf_dirty_report(world.space, 0, PAGE, 0, 0, bitmap, 8), -EINVAL);
	assert_int_equal(uvf_dirty_report(world.space, 0, 3 * PAGE, 3 * PAGE, 0, bitmap, 8),
			 -EINVAL);
	assert_int_equal(uvf_dirty_report(world.space, -PAGE, 2 * PAGE, PAGE, 0, bitmap, 8),
			 -EOVERFLOW);
	assert_int_equal(uvf_unmap_dirty(world.space, BASE, PAGE, NULL, PAGE, bitmap, 8), -EINVAL);
	assert_int_equal(bitmap[0], 0);
	assert_int_equal(uvf_dirty_report(world.space, 0, large, PAGE, 0, bitmap, 4096), 0);
	assert_int_equal(bitmap[0], 1 << BASE / PAGE);
	/* The last page of all. */
	assert_int_equal(uvf_dirty_report(world.space, -PAGE, PAGE, PAGE, 0, bitmap, 8), 0);
	world_end(&world);
}

/* Bits smaller than the log's pages. */
static void small_bits(void **state)
{
	struct uvf_address_space_config config = {.page_sizes = 0x10000};
	struct world world;
	uint64_t bitmap[1] = {0};

	world_begin(&world);
	uvf_address_space_put(world.space);
	assert_int_equal(uvf_address_space_new(&config, &world.space), 0);
	uvf_attachment_set(world.attachment, world.space);
	assert_int_equal(uvf_map(world.space, 0, 0x10000, UVF_PROT_RW, world.memory, 0), 0);
	assert_int_equal(uvf_dirty_start(world.space), 0);
	assert_int_equal(uvf_attachment_write(world.attachment, 0x1234, "x", 1), 0);
	assert_int_equal(uvf_dirty_report(world.space, 0x3000, 0x2000, 0x1000, 0, bitmap, 8), 0);
	assert_int_equal(bitmap[0], 3);
	bitmap[0] = 0;
	assert_int_equal(uvf_dirty_report(world.space, 0, 0x20000, 0x1000, 0, bitmap, 8), 0);
	assert_int_equal(bitmap[0], 0xffff);
	bitmap[0] = 0;
	assert_int_equal(uvf_dirty_report(world.space, 0, 0x20000, 0x1000, 0, bitmap, 8), 0);
	assert_int_equal(bitmap[0], 0);
	world_end(&world);
}

/* A device that doesn't tell makes all that is mapped for writing dirty, from and until at once. */
static void silent(void **state)
{
	struct world world;
	struct uvf_attachment *other;
	uint64_t bitmap[1] = {0};

	world_begin(&world);
	map_block(&world, 0);
	assert_int_equal(uvf_map(world.space, 0, PAGE, UVF_PROT_READ, world.memory, 0), 0);
	assert_int_equal(uvf_dirty_start(world.space), 0);
	assert_int_equal(uvf_attachment_new(&no_ops, NULL, &other), 0);
	uvf_attachment_set_silent(other, true);
	assert_int_equal(uvf_attachment_set(other, world.space), 0);
	for (unsigned i = 0; i < 2; i++) {
		bitmap[0] = 0;
		assert_int_equal(uvf_dirty_report(world.space, 0, 64 * PAGE, PAGE, 0, bitmap, 8),
				 0);
		assert_int_equal(bitmap[0], 0xffffULL << BASE / PAGE);
	}
	uvf_attachment_set_silent(other, false);
	for (unsigned i = 0; i < 2; i++) {
		/* What it wrote until then; then nothing. */
		bitmap[0] = 0;
		assert_int_equal(uvf_dirty_report(world.space, 0, 64 * PAGE, PAGE, 0, bitmap, 8),
				 0);
		assert_int_equal(bitmap[0], i ? 0 : 0xffffULL << BASE / PAGE);
	}
	uvf_attachment_free(other);
	world_end(&world);
}

/* An attachment's own log: its writes only, whatever it is attached to, beside the space's. */
static void own_log(void **state)
{
	struct world world;
	struct uvf_attachment *other;
	struct uvf_address_space *space;
	uint64_t bitmap[1] = {0};
	struct uvf_pin pin;
	struct iovec iov;

	world_begin(&world);
	map_block(&world, 0);
	assert_int_equal(uvf_attachment_log_report(world.attachment, 0, 64 * PAGE, PAGE, bitmap, 8),
			 -EINVAL);
	assert_int_equal(uvf_attachment_log_start(world.attachment, PAGE), 0);
	assert_int_equal(uvf_attachment_log_start(world.attachment, PAGE), -EALREADY);
	assert_int_equal(uvf_dirty_start(world.space), 0);
	assert_int_equal(uvf_attachment_new(&no_ops, NULL, &other), 0);
	assert_int_equal(uvf_attachment_set(other, world.space), 0);
	uvf_attachment_enable(other, true);
	assert_int_equal(uvf_attachment_write(world.attachment, BASE, "x", 1), 0);
	assert_int_equal(uvf_attachment_write(other, BASE + PAGE, "x", 1), 0);
	assert_int_equal(
		uvf_attachment_pin(other, BASE + 2 * PAGE, 1, UVF_PROT_WRITE, &pin, &iov, 1), 1);
	assert_int_equal(uvf_attachment_log_report(world.attachment, 0, 64 * PAGE, PAGE, bitmap, 8),
			 0);
	assert_int_equal(bitmap[0], 1ULL << BASE / PAGE);
	assert_int_equal(uvf_dirty_report(world.space, 0, 64 * PAGE, PAGE, 0, bitmap, 8), 0);
	assert_int_equal(bitmap[0], 7ULL << BASE / PAGE);
	uvf_attachment_unpin(&pin);
	uvf_attachment_free(other);

	/* A report that reached nobody, in bits of two pages; then another address space. */
	bitmap[0] = 1;
	uvf_attachment_log_restore(world.attachment, 0, 4 * PAGE, 2 * PAGE, bitmap);
	assert_int_equal(uvf_address_space_new(NULL, &space), 0);
	assert_int_equal(uvf_map(space, 9 * PAGE, PAGE, UVF_PROT_RW, world.memory, 0), 0);
	assert_int_equal(uvf_attachment_set(world.attachment, space), 0);
	assert_int_equal(uvf_attachment_write(world.attachment, 9 * PAGE, "x", 1), 0);
	bitmap[0] = 0;
	assert_int_equal(uvf_attachment_log_report(world.attachment, 0, 64 * PAGE, PAGE, bitmap, 8),
			 0);
	assert_int_equal(bitmap[0], 3 | 1 << 9);
	uvf_attachment_log_stop(world.attachment);
	assert_false(uvf_attachment_log_is_on(world.attachment));
	uvf_address_space_put(space);
	world_end(&world);
}

/* ---- Bits that stand for terabytes ---- */

#define HUGE (1ULL << 42)

/* KiB of memory that this process has. */
static long resident(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

static bool is_dirty(struct uvf_address_space *space, uint64_t iova, unsigned flags)
{
	uint64_t bitmap = 0;

	assert_int_equal(uvf_dirty_report(space, iova, PAGE, PAGE, flags, &bitmap, 8), 0);
	return bitmap;
}

/* One page of it was written; all of it counts as dirty again, and costs nothing. */
static void huge_bits_are_put_back(void **state)
{
	struct world world;
	uint64_t bitmap = 0;
	long before;

	world_begin(&world);
	map_block(&world, 0);
	assert_int_equal(uvf_dirty_start(world.space), 0);
	assert_int_equal(uvf_attachment_write(world.attachment, BASE, "x", 1), 0);
	assert_int_equal(uvf_dirty_report(world.space, 0, 4 * HUGE, HUGE, 0, &bitmap, 8), 0);
	assert_int_equal(bitmap, 1);
	before = resident();
	bitmap = 2 | 4;
	uvf_dirty_restore(world.space, 0, 4 * HUGE, HUGE, &bitmap);
	assert_in_range(resident() - before, 0, 16 << 10);

	assert_false(is_dirty(world.space, HUGE - PAGE, 0));
	assert_true(is_dirty(world.space, HUGE, UVF_DIRTY_KEEP));
	assert_true(is_dirty(world.space, HUGE, 0));
	assert_false(is_dirty(world.space, HUGE, 0));
	assert_true(is_dirty(world.space, 3 * HUGE - PAGE, 0));
	assert_false(is_dirty(world.space, 3 * HUGE - PAGE, 0));
	assert_true(is_dirty(world.space, 2 * HUGE, 0));
	/* The middle is not worth being told from the rest. */
	assert_true(is_dirty(world.space, 2 * HUGE, 0));
	bitmap = 0;
	assert_int_equal(uvf_dirty_report(world.space, 0, 4 * HUGE, HUGE, 0, &bitmap, 8), 0);
	assert_int_equal(bitmap, 2 | 4);
	assert_false(is_dirty(world.space, 2 * HUGE, 0));
	world_end(&world);
}

static void huge_bits_are_put_back_in_an_own_log(void **state)
{
	const uint64_t half = 1ULL << 63;
	struct world world;
	uint64_t bitmap = 2;
	long before;

	world_begin(&world);
	assert_int_equal(uvf_attachment_log_start(world.attachment, PAGE), 0);
	before = resident();
	uvf_attachment_log_restore(world.attachment, half - HUGE, 2 * HUGE, HUGE, &bitmap);
	assert_in_range(resident() - before, 0, 16 << 10);
	bitmap = 0;
	assert_int_equal(uvf_attachment_log_report(world.attachment, half, half, half, &bitmap, 8),
			 0);
	assert_int_equal(bitmap, 1);
	bitmap = 0;
	assert_int_equal(uvf_attachment_log_report(world.attachment, half, half, half, &bitmap, 8),
			 0);
	assert_int_equal(bitmap, 0);
	world_end(&world);
}

/* ---- Several threads at once ---- */

#define WRITERS 3
#define WRITES	200000

struct race {
	struct world world;
	atomic_uint writers;
	uint64_t copy[PAGES][PAGE / 8]; /* of each page when it was last reported */
};

static void *write_many(void *opaque)
{
	struct race *race = opaque;
	uint64_t random = (uintptr_t)&random;
	struct uvf_attachment *attachment;

	assert_int_equal(uvf_attachment_new(&no_ops, NULL, &attachment), 0);
	assert_int_equal(uvf_attachment_set(attachment, race->world.space), 0);
	uvf_attachment_enable(attachment, true);
	for (unsigned i = 0; i < WRITES; i++) {
		uint64_t page, iova;

		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		page = (random >> 40) % PAGES;
		iova = BASE + page * PAGE + (random >> 33) % 16 * 8;
		if (i % 8) {
			uvf_attachment_write(attachment, iova, &random, 8);
		} else {
			struct iovec iov;
			struct uvf_pin pin;

			assert_int_equal(uvf_attachment_pin(attachment, iova, 8, UVF_PROT_WRITE,
							    &pin, &iov, 1),
					 1);
			*(_Atomic(uint64_t) *)iov.iov_base = random;
			uvf_attachment_unpin(&pin);
		}
	}
	uvf_attachment_free(attachment);
	atomic_fetch_sub(&race->writers, 1);
	return NULL;
}

/* As who moves a guest's memory does: what is reported is copied, once the report is there. */
static void report_all(struct race *race)
{
	uint64_t bitmap[PAGES / 64] = {0};
	_Atomic(uint64_t) *words = (_Atomic(uint64_t) *)race->world.bytes;

	assert_int_equal(uvf_dirty_report(race->world.space, BASE, PAGES * PAGE, PAGE, 0, bitmap,
					  sizeof(bitmap)),
			 0);
	for (unsigned page = 0; page < PAGES; page++)
		for (unsigned i = 0; bitmap[page / 64] >> page % 64 & 1 && i < PAGE / 8; i++)
			race->copy[page][i] = atomic_load_explicit(&words[page * PAGE / 8 + i],
								   memory_order_relaxed);
}

static void nothing_is_missed(void **state)
{
	struct race *race = calloc(1, sizeof(*race));
	pthread_t threads[WRITERS];

	world_begin(&race->world);
	for (uint64_t block = 0; block < PAGES / BLOCK; block++)
		map_block(&race->world, block);
	assert_int_equal(uvf_dirty_start(race->world.space), 0);
	atomic_store(&race->writers, WRITERS);
	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, race), 0);
	while (atomic_load(&race->writers))
		report_all(race);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	report_all(race);
	assert_memory_equal(race->copy, race->world.bytes, PAGES * PAGE);
	world_end(&race->world);
	free(race);
}

/* ---- While a write to memory elsewhere is on ---- */

struct elsewhere {
	struct uvf_attachment *attachment;
	struct uvf_address_space *space;
	void (*meanwhile)(struct elsewhere *elsewhere);
};

static int no_read(void *opaque, uint64_t offset, void *buf, size_t count)
{
	return -EIO;
}

static int slow_write(void *opaque, uint64_t offset, const void *buf, size_t count)
{
	struct elsewhere *elsewhere = opaque;

	elsewhere->meanwhile(elsewhere);
	return 0;
}

static void nothing(struct elsewhere *elsewhere)
{
}

static void bus_mastering_ends(struct elsewhere *elsewhere)
{
	uvf_attachment_enable(elsewhere->attachment, false);
}

static void another_space(struct elsewhere *elsewhere)
{
	struct uvf_address_space *other;

	assert_int_equal(uvf_address_space_new(NULL, &other), 0);
	assert_int_equal(uvf_attachment_set(elsewhere->attachment, other), 0);
	uvf_address_space_put(other);
}

static void the_same_again(struct elsewhere *elsewhere)
{
	assert_int_equal(uvf_attachment_set(elsewhere->attachment, elsewhere->space), 0);
}

static void logs_begin(struct elsewhere *elsewhere)
{
	uvf_dirty_stop(elsewhere->space);
	assert_int_equal(uvf_dirty_start(elsewhere->space), 0);
	uvf_attachment_log_stop(elsewhere->attachment);
	assert_int_equal(uvf_attachment_log_start(elsewhere->attachment, PAGE), 0);
}

/* It is in the logs, whatever its driver does until it has ended. */
static void a_write_that_takes_long(void **state)
{
	static const struct uvf_memory_remote_ops ops = {no_read, slow_write, NULL};
	static void (*const meanwhile[])(struct elsewhere * elsewhere) = {
		nothing, bus_mastering_ends, another_space, the_same_again, logs_begin};

	for (unsigned i = 0; i < sizeof(meanwhile) / sizeof(meanwhile[0]); i++) {
		struct elsewhere elsewhere = {.meanwhile = meanwhile[i]};
		uint64_t bitmap = 0, own = 0;
		struct uvf_memory *memory;

		assert_int_equal(uvf_address_space_new(NULL, &elsewhere.space), 0);
		assert_int_equal(uvf_memory_new_remote(&ops, &elsewhere, &memory), 0);
		assert_int_equal(uvf_map(elsewhere.space, 0, 8 * PAGE, UVF_PROT_RW, memory, 0), 0);
		assert_int_equal(uvf_attachment_new(&no_ops, NULL, &elsewhere.attachment), 0);
		assert_int_equal(uvf_attachment_set(elsewhere.attachment, elsewhere.space), 0);
		uvf_attachment_enable(elsewhere.attachment, true);
		assert_int_equal(uvf_dirty_start(elsewhere.space), 0);
		assert_int_equal(uvf_attachment_log_start(elsewhere.attachment, PAGE), 0);
		assert_int_equal(uvf_attachment_write(elsewhere.attachment, 3 * PAGE, "x", 1), 0);
		assert_int_equal(
			uvf_dirty_report(elsewhere.space, 0, 8 * PAGE, PAGE, 0, &bitmap, 8), 0);
		assert_int_equal(bitmap, 1 << 3);
		assert_int_equal(
			uvf_attachment_log_report(elsewhere.attachment, 0, 8 * PAGE, PAGE, &own, 8),
			0);
		assert_int_equal(own, 1 << 3);
		uvf_attachment_free(elsewhere.attachment);
		uvf_address_space_put(elsewhere.space);
		uvf_memory_put(memory);
	}
}

/* ---- While an unmap is on ---- */

static void map_and_write(void *opaque, uvf_iova_t first, uvf_iova_t last)
{
	struct world *world = opaque;

	/* When it goes, too. */
	if (world->mapped[1])
		return;
	map_block(world, 1);
	assert_int_equal(uvf_attachment_write(world->attachment, BASE + BLOCK * PAGE, "x", 1), 0);
}

/* What is mapped in a hole meanwhile, and written there, is in the next report. */
static void a_hole_that_is_filled(void **state)
{
	static const struct uvf_attachment_ops ops = {.unmap = map_and_write};

	for (unsigned reported = 0; reported < 2; reported++) {
		struct uvf_attachment *helper;
		uint64_t bitmap[PAGES / 64] = {0}, again[PAGES / 64] = {0}, unmapped;
		struct world world;
		int ret;

		world_begin(&world);
		map_block(&world, 0);
		assert_int_equal(uvf_attachment_new(&ops, &world, &helper), 0);
		assert_int_equal(uvf_attachment_set(helper, world.space), 0);
		assert_int_equal(uvf_dirty_start(world.space), 0);
		assert_int_equal(uvf_attachment_write(world.attachment, BASE + PAGE, "x", 1), 0);
		ret = reported ? uvf_unmap_dirty(world.space, BASE, PAGES * PAGE, &unmapped, PAGE,
						 bitmap, sizeof(bitmap))
			       : uvf_unmap(world.space, BASE, PAGES * PAGE, &unmapped);
		assert_int_equal(ret, 0);
		assert_int_equal(unmapped, BLOCK * PAGE);
		assert_int_equal(bitmap[0], reported ? 2 : 0);
		assert_int_equal(uvf_dirty_report(world.space, BASE, PAGES * PAGE, PAGE, 0, again,
						  sizeof(again)),
				 0);
		assert_int_equal(again[0], 1 << BLOCK);
		uvf_attachment_free(helper);
		world_end(&world);
	}
}

/* ---- Who gives up a pin through a view that isn't active ---- */

struct unpinner {
	struct uvf_attachment *attachment;
	sem_t inside;
	atomic_bool leaves;
};

/* Inside a section, as uvf_attachment_unpin() is while it has the log. */
static void *be_inside(void *opaque)
{
	struct unpinner *unpinner = opaque;
	struct uvf_reading reading = uvf_readers_enter(&unpinner->attachment->readers);

	sem_post(&unpinner->inside);
	usleep(50000);
	atomic_store(&unpinner->leaves, true);
	uvf_readers_exit(reading);
	return NULL;
}

static void stop(struct uvf_address_space *space)
{
	uvf_dirty_stop(space);
}

static void start(struct uvf_address_space *space)
{
	assert_int_equal(uvf_dirty_start(space), 0);
}

static void report(struct uvf_address_space *space)
{
	uint64_t bitmap = 0;

	assert_int_equal(uvf_dirty_report(space, BASE, PAGE, PAGE, 0, &bitmap, 8), 0);
}

/* The log isn't changed, and above all not freed, under who may be writing to it. */
static void waits_for_those_without_bus_mastering(void **state)
{
	static void (*const changes[])(struct uvf_address_space *) = {start, report, stop};
	struct world world;
	struct uvf_pin pin;
	struct iovec iov;

	world_begin(&world);
	map_block(&world, 0);
	assert_int_equal(
		uvf_attachment_pin(world.attachment, BASE, PAGE, UVF_PROT_WRITE, &pin, &iov, 1), 1);
	uvf_attachment_enable(world.attachment, false);
	for (unsigned i = 0; i < 3; i++) {
		struct unpinner unpinner = {.attachment = world.attachment};
		pthread_t thread;

		assert_int_equal(sem_init(&unpinner.inside, 0, 0), 0);
		assert_int_equal(pthread_create(&thread, NULL, be_inside, &unpinner), 0);
		while (sem_wait(&unpinner.inside))
			;
		changes[i](world.space);
		assert_true(atomic_load(&unpinner.leaves));
		pthread_join(thread, NULL);
		sem_destroy(&unpinner.inside);
	}
	uvf_attachment_unpin(&pin);
	world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusals),
		cmocka_unit_test(small_bits),
		cmocka_unit_test(silent),
		cmocka_unit_test(is_exact),
		cmocka_unit_test(own_log),
		cmocka_unit_test(nothing_is_missed),
		cmocka_unit_test(a_write_that_takes_long),
		cmocka_unit_test(a_hole_that_is_filled),
		cmocka_unit_test(waits_for_those_without_bus_mastering),
		cmocka_unit_test(huge_bits_are_put_back),
		cmocka_unit_test(huge_bits_are_put_back_in_an_own_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
