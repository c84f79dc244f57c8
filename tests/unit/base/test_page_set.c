/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of pages against an array of what was added; and beside threads that add. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/page_set.h"
#include "base/readers.h"

/* The model: pages in two windows that lie across the border of slices. */
#define WINDOW 20000ULL
static const uint64_t window_first[] = {(1ULL << UVF_SLICE_PAGES) - WINDOW / 2,
					(77ULL << UVF_SLICE_PAGES) - WINDOW / 3};
static uint8_t added[2][WINDOW];
static uint64_t state_of_random = 1;

static uint64_t random_below(uint64_t limit)
{
	state_of_random = state_of_random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (state_of_random >> 33) % limit;
}

struct taken {
	unsigned window;
	uint64_t first, last, previous;
	uint8_t found[WINDOW];
};

static void take_one(struct taken *taken, uint64_t page, uint64_t bits)
{
	for (; bits; bits &= bits - 1) {
		uint64_t number = page + (uint64_t)__builtin_ctzll(bits);

		assert_in_range(number, taken->first, taken->last);
		taken->found[number - window_first[taken->window]] = 1;
	}
}

static void take_some(void *opaque, uint64_t page, const uint64_t *bits, size_t count)
{
	struct taken *taken = opaque;

	assert_true(count == 1 ? bits[0] : count == 64);
	assert_int_equal(page % (64 * count), 0);
	assert_true(taken->previous == UINT64_MAX || page > taken->previous);
	taken->previous = page + (count - 1) * 64;
	for (size_t i = 0; i < count; i++)
		take_one(taken, page + i * 64, bits[i]);
}

static void check_take(struct uvf_page_set *set, unsigned window, uint64_t first, uint64_t last,
		       enum uvf_page_take how)
{
	static struct taken taken;

	memset(&taken, 0, sizeof(taken));
	taken.window = window;
	taken.first = window_first[window] + first;
	taken.last = window_first[window] + last;
	taken.previous = UINT64_MAX;
	uvf_page_set_take(set, taken.first, taken.last, how, take_some, &taken);
	assert_memory_equal(taken.found + first, added[window] + first, last - first + 1);
	if (how != UVF_PAGE_KEEP)
		memset(added[window] + first, 0, last - first + 1);
}

static void step(struct uvf_page_set *set)
{
	unsigned window = (unsigned)random_below(2);
	uint64_t first = random_below(WINDOW), size = 1 + random_below(1ULL << random_below(15));
	uint64_t last = first + size > WINDOW ? WINDOW - 1 : first + size - 1;

	switch (random_below(20)) {
	case 0:
		check_take(set, window, first, last,
			   random_below(2) ? UVF_PAGE_CLEAR : UVF_PAGE_CLEAR_ALONE);
		break;
	case 1:
		check_take(set, window, first, last, UVF_PAGE_KEEP);
		break;
	case 2:
		uvf_page_set_add_range(set, window_first[window] + first,
				       window_first[window] + last);
		memset(added[window] + first, 1, last - first + 1);
		break;
	default:
		uvf_page_set_add(set, window_first[window] + first);
		added[window][first] = 1;
	}
}

static void is_its_model(void **state)
{
	struct uvf_page_set set = {0};

	for (unsigned i = 0; i < 200000; i++)
		step(&set);
	assert_false(set.lost);
	uvf_page_set_destroy(&set);
}

static void count_pages(void *opaque, uint64_t page, const uint64_t *bits, size_t count)
{
	for (size_t i = 0; i < count; i++)
		*(uint64_t *)opaque += (uint64_t)__builtin_popcountll(bits[i]);
}

static void whole_slices(void **state)
{
	struct uvf_page_set set = {0};
	uint64_t count = 0, last = (1ULL << 52) - 1;

	assert_int_equal(uvf_page_set_prepare(&set, 0, (3ULL << UVF_SLICE_PAGES) - 1), 0);
	uvf_page_set_take(&set, 0, (3ULL << UVF_SLICE_PAGES) - 1, UVF_PAGE_CLEAR, count_pages,
			  &count);
	assert_int_equal(count, 0);
	uvf_page_set_add(&set, 0);
	uvf_page_set_add(&set, last);
	uvf_page_set_take(&set, last, last, UVF_PAGE_CLEAR, count_pages, &count);
	assert_int_equal(count, 1);
	uvf_page_set_take(&set, 0, 0, UVF_PAGE_CLEAR, count_pages, &count);
	assert_int_equal(count, 2);
	uvf_page_set_destroy(&set);
}

/* ---- Beside adders: what was added is taken once the adders are known to have ended ---- */

#define PAGES	4096
#define ADDERS	3
#define ADDINGS 200000

struct shared {
	struct uvf_page_set set;
	struct uvf_readers readers;
	/* How often each page was written, and how often that had been seen at the last take. */
	_Atomic(uint32_t) written[PAGES];
	uint32_t seen[PAGES];
	atomic_uint adders;
};

static void *add_many(void *opaque)
{
	struct shared *shared = opaque;
	uint64_t random = (uintptr_t)&random;

	for (unsigned i = 0; i < ADDINGS; i++) {
		struct uvf_reading reading = uvf_readers_enter(&shared->readers);
		uint64_t page;

		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		page = (random >> 40) % PAGES;
		atomic_fetch_add_explicit(&shared->written[page], 1, memory_order_relaxed);
		uvf_page_set_add(&shared->set, page);
		uvf_readers_exit(reading);
	}
	atomic_fetch_sub(&shared->adders, 1);
	return NULL;
}

static void see(void *opaque, uint64_t page, const uint64_t *bits, size_t count)
{
	uint64_t *taken = opaque;

	for (size_t i = 0; i < count; i++)
		taken[page / 64 + i] |= bits[i];
}

static void take_all(struct shared *shared)
{
	uint64_t taken[PAGES / 64] = {0};
	uint32_t before[PAGES];
	struct uvf_grace grace = {0};

	for (unsigned i = 0; i < PAGES; i++)
		before[i] = atomic_load(&shared->written[i]);
	uvf_readers_wait(&shared->readers, &grace);
	uvf_page_set_take(&shared->set, 0, PAGES - 1, UVF_PAGE_CLEAR, see, taken);
	grace = (struct uvf_grace){0};
	uvf_readers_wait(&shared->readers, &grace);
	for (unsigned i = 0; i < PAGES; i++) {
		bool is_in = taken[i / 64] >> i % 64 & 1;

		/* All that was written before the take began and not seen yet. */
		assert_true(is_in || before[i] == shared->seen[i]);
		if (is_in)
			shared->seen[i] = atomic_load(&shared->written[i]);
	}
}

static void beside_adders(void **state)
{
	struct shared *shared = aligned_alloc(64, (sizeof(*shared) + 63) / 64 * 64);
	pthread_t threads[ADDERS];

	memset(shared, 0, sizeof(*shared));
	uvf_readers_init(&shared->readers);
	atomic_store(&shared->adders, ADDERS);
	for (unsigned i = 0; i < ADDERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_many, shared), 0);
	while (atomic_load(&shared->adders))
		take_all(shared);
	for (unsigned i = 0; i < ADDERS; i++)
		pthread_join(threads[i], NULL);
	take_all(shared);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(shared->seen[i], atomic_load(&shared->written[i]));
	uvf_page_set_destroy(&shared->set);
	free(shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_its_model),
		cmocka_unit_test(whole_slices),
		cmocka_unit_test(beside_adders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
