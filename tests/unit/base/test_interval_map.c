/* SPDX-License-Identifier: BSD-3-Clause */
/* The interval map against a plain array, by random steps. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/interval_map.h"
#include "base/interval_node.h"

#define SLOTS 4096

static uint64_t state;

static uint64_t random_number(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void seed(void)
{
	const char *given = getenv("UVF_TEST_SEED");

	state = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) | 1;
	printf("seed %llu\n", (unsigned long long)state);
}

/* Each slot of the key space belongs to at most one interval, known by its number. */
struct model {
	uint32_t owner[SLOTS]; /* 0: none */
	uint64_t first[SLOTS], last[SLOTS];
};

static void check_find(const struct uvf_interval_map *map, const struct model *model, uint64_t slot,
		       uint64_t base)
{
	uvf_place_t place = uvf_interval_map_find(map, base + slot);
	uint32_t owner = model->owner[slot];

	if (!owner) {
		assert_int_equal(place, 0);
		return;
	}
	assert_int_not_equal(place, 0);
	assert_int_equal(uvf_place_leaf(place)->first[uvf_place_index(place)],
			 base + model->first[slot]);
	assert_int_equal(uvf_place_leaf(place)->entry[uvf_place_index(place)].last,
			 base + model->last[slot]);
	assert_int_equal(uvf_place_leaf(place)->entry[uvf_place_index(place)].value, owner);
	assert_true(uvf_place_holds(place, base + slot));
}

static void try_insert(struct uvf_interval_map *map, struct model *model, uint64_t first,
		       uint64_t last, uint64_t base, uint32_t owner)
{
	struct uvf_interval interval = {base + first, base + last, owner, 64};
	bool free_range = true;

	for (uint64_t i = first; i <= last; i++)
		free_range = free_range && !model->owner[i];
	assert_int_equal(uvf_interval_map_insert(map, &interval), free_range ? 0 : -EEXIST);
	for (uint64_t i = first; free_range && i <= last; i++) {
		model->owner[i] = owner;
		model->first[i] = first;
		model->last[i] = last;
	}
}

static void try_remove(struct uvf_interval_map *map, struct model *model, uint64_t first,
		       uint64_t last, uint64_t base)
{
	struct uvf_interval removed[7];
	uint64_t at = first;
	size_t count;

	while ((count = uvf_interval_map_remove(map, base + first, base + last, removed, 7))) {
		for (size_t i = 0; i < count; i++) {
			while (!model->owner[at] || model->first[at] < first)
				at++;
			assert_int_equal(removed[i].first, base + at);
			assert_int_equal(removed[i].last, base + model->last[at]);
			assert_int_equal(removed[i].value, model->owner[at]);
			for (; base + at < removed[i].last; at++)
				model->owner[at] = 0;
			model->owner[at] = 0;
		}
	}
	for (; at <= last; at++)
		assert_true(!model->owner[at] || model->first[at] < first);
	uvf_interval_map_quiescent(map);
}

static uint64_t count_model(const struct model *model)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < SLOTS; i++)
		count += model->owner[i] && model->first[i] == i;
	return count;
}

/* @base puts the keys anywhere, up to the end of what there is. */
static void random_steps(uint64_t base, unsigned steps)
{
	static struct model model;
	struct uvf_interval_map map;
	uint32_t owner = 0;

	model = (struct model){0};
	assert_int_equal(uvf_interval_map_init(&map, NULL), 0);
	for (unsigned i = 0; i < steps; i++) {
		uint64_t what = random_number() % 16, first = random_number() % SLOTS;
		uint64_t last = first + random_number() % (random_number() % 64 ? 3 : 600);

		/* Phases of growing and shrinking. */
		if (last >= SLOTS)
			last = SLOTS - 1;
		if (what < (i / 4096 % 2 ? 10U : 4U))
			try_insert(&map, &model, first, last, base, ++owner);
		else if (what < 12)
			try_remove(&map, &model, first, last, base);
		check_find(&map, &model, random_number() % SLOTS, base);
		check_find(&map, &model, first, base);
		check_find(&map, &model, last, base);
		if (i % 1024 == 0) {
			for (uint64_t slot = 0; slot < SLOTS; slot++)
				check_find(&map, &model, slot, base);
			assert_int_equal(map.count, count_model(&model));
		}
	}
	uvf_interval_map_destroy(&map);
}

static void random_low(void **unused)
{
	seed();
	random_steps(0, 200000);
}

static void random_middle(void **unused)
{
	random_steps((1ULL << 63) - SLOTS / 2, 100000);
}

static void random_high(void **unused)
{
	random_steps(UINT64_MAX - SLOTS + 1, 100000);
}

/* Rising keys fill leaves: memory is near the least possible. */
static void rising(void **unused)
{
	struct uvf_interval_map map;
	uint64_t count = 1000000;

	assert_int_equal(uvf_interval_map_init(&map, NULL), 0);
	for (uint64_t i = 0; i < count; i++) {
		struct uvf_interval interval = {i << 13, (i << 13) + 4095, i, 64};

		assert_int_equal(uvf_interval_map_insert(&map, &interval), 0);
	}
	assert_in_range(uvf_interval_map_memory(&map), 32 * count, 45 * count);
	for (uint64_t i = 0; i < count; i++) {
		uvf_place_t place = uvf_interval_map_find(&map, (i << 13) + 17);

		assert_int_not_equal(place, 0);
		assert_int_equal(uvf_place_leaf(place)->entry[uvf_place_index(place)].value, i);
		assert_int_equal(uvf_interval_map_find(&map, (i << 13) + 4096), 0);
	}
	uvf_interval_map_destroy(&map);
}

static void falling_and_shuffled(void **unused)
{
	struct uvf_interval_map map;
	struct uvf_interval removed[100];
	uint64_t count = 1 << 18, seen = 0;
	size_t n;

	assert_int_equal(uvf_interval_map_init(&map, NULL), 0);
	for (uint64_t i = count; i--;) {
		struct uvf_interval interval = {i << 12, (i << 12) + 4095, i, 64};

		assert_int_equal(uvf_interval_map_insert(&map, &interval), 0);
	}
	assert_in_range(uvf_interval_map_memory(&map), 32 * count, 80 * count);
	while ((n = uvf_interval_map_remove(&map, 0, UINT64_MAX, removed, 100)))
		seen += n;
	assert_int_equal(seen, count);
	assert_int_equal(map.count, 0);
	uvf_interval_map_quiescent(&map);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t key = (i * 40503) % count;
		struct uvf_interval interval = {key << 12, (key << 12) + 4095, key, 64};

		assert_int_equal(uvf_interval_map_insert(&map, &interval), 0);
	}
	assert_in_range(uvf_interval_map_memory(&map), 32 * count, 100 * count);
	uvf_interval_map_destroy(&map);
}

/* A remembered place is of no use once its leaf has gone, until it is right again. */
static void places(void **unused)
{
	struct uvf_interval interval = {4096, 8191, 1, 64}, removed;
	struct uvf_interval_map map;
	uvf_place_t place;

	assert_int_equal(uvf_interval_map_init(&map, NULL), 0);
	assert_int_equal(uvf_interval_map_insert(&map, &interval), 0);
	place = uvf_interval_map_find(&map, 5000);
	assert_true(uvf_place_holds(place, 4096));
	assert_true(uvf_place_holds(place, 8191));
	assert_false(uvf_place_holds(place, 8192));
	assert_false(uvf_place_holds(place, 4095));
	assert_int_equal(uvf_interval_map_remove(&map, 0, UINT64_MAX, &removed, 1), 1);
	assert_false(uvf_place_holds(place, 4096));
	uvf_interval_map_quiescent(&map);
	assert_false(uvf_place_holds(place, 4096));
	uvf_interval_map_destroy(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_low),		cmocka_unit_test(random_middle),
		cmocka_unit_test(random_high),		cmocka_unit_test(rising),
		cmocka_unit_test(falling_and_shuffled), cmocka_unit_test(places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
