/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The scope of dirty reports: what counts as dirty while devices are attached that don't tell what
 * they write, pin or don't, alone or in groups, that come, go and move.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uvfio/client.h>
#include <uvfio/dirty.h>

#include "helpers.h"
#include "iommu/scope.h"

#define PAGES 32ULL
#define ALL   ((1ULL << PAGES) - 1)

struct world {
	struct uvf_address_space *space;
	struct uvf_memory *memory;
	uint8_t *bytes;
};

static int begin(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	world->space = new_space();
	world->bytes = aligned_alloc(PAGE, PAGES * PAGE);
	memset(world->bytes, 0, PAGES * PAGE);
	assert_int_equal(uvf_memory_new_local(world->bytes, PAGES * PAGE, &world->memory), 0);
	assert_int_equal(uvf_map(world->space, 0, PAGES * PAGE, UVF_PROT_RW, world->memory, 0), 0);
	/* What can't be written is never dirty. */
	assert_int_equal(uvf_map(world->space, 40 * PAGE, PAGE, UVF_PROT_READ, world->memory, 0),
			 0);
	assert_int_equal(uvf_dirty_start(world->space), 0);
	*state = world;
	return 0;
}

static int end(void **state)
{
	struct world *world = *state;

	uvf_address_space_put(world->space);
	uvf_memory_put(world->memory);
	free(world->bytes);
	free(world);
	return 0;
}

static struct uvf_attachment *silent_one(struct uvf_address_space *space)
{
	struct uvf_attachment *attachment;

	assert_int_equal(uvf_attachment_new(&no_ops, NULL, &attachment), 0);
	uvf_attachment_set_silent(attachment, true);
	assert_int_equal(uvf_attachment_set(attachment, space), 0);
	uvf_attachment_enable(attachment, true);
	return attachment;
}

static uint64_t report_of(struct uvf_address_space *space)
{
	uint64_t bitmap = 0;

	assert_int_equal(uvf_dirty_report(space, 0, 64 * PAGE, PAGE, 0, &bitmap, 8), 0);
	return bitmap;
}

static uint64_t report(struct world *world)
{
	return report_of(world->space);
}

static void pin_page(struct uvf_attachment *attachment, uint64_t page, struct uvf_pin *pin)
{
	struct iovec iov;

	assert_int_equal(
		uvf_attachment_pin(attachment, page * PAGE, PAGE, UVF_PROT_WRITE, pin, &iov, 1), 1);
}

/* Who comes widens, who goes narrows, at once; what he may have written is reported once more. */
static void comes_and_goes(void **state)
{
	struct world *world = *state;
	struct uvf_attachment *telling = new_attachment(world->space, &no_ops, NULL);
	struct uvf_attachment *one, *two;

	assert_int_equal(uvf_dirty_wide(world->space), 0);
	assert_int_equal(report(world), 0);
	one = silent_one(world->space);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	assert_int_equal(report(world), ALL);
	assert_int_equal(report(world), ALL);
	two = silent_one(world->space);
	assert_int_equal(uvf_dirty_wide(world->space), 2);
	uvf_attachment_free(one);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	assert_int_equal(report(world), ALL);
	assert_int_equal(report(world), ALL);
	assert_int_equal(uvf_attachment_set(two, NULL), 0);
	assert_int_equal(uvf_dirty_wide(world->space), 0);
	assert_int_equal(report(world), ALL);
	assert_int_equal(report(world), 0);
	assert_int_equal(uvf_attachment_write(telling, 3 * PAGE, "x", 1), 0);
	assert_int_equal(report(world), 1 << 3);
	uvf_attachment_free(two);
	uvf_attachment_free(telling);
}

/* Replacing the address space is going from one and coming to the other. */
static void moves_to_another(void **state)
{
	struct world *world = *state;
	struct uvf_address_space *other = new_space();
	struct uvf_attachment *attachment = silent_one(world->space);

	assert_int_equal(uvf_map(other, PAGE, PAGE, UVF_PROT_RW, world->memory, 0), 0);
	assert_int_equal(uvf_dirty_start(other), 0);
	assert_int_equal(report(world), ALL);
	assert_int_equal(uvf_attachment_set(attachment, other), 0);
	assert_int_equal(uvf_dirty_wide(world->space), 0);
	assert_int_equal(uvf_dirty_wide(other), 1);
	assert_int_equal(report(world), ALL);
	assert_int_equal(report(world), 0);
	assert_int_equal(report_of(other), 2);
	/* There it has not pinned yet, whatever it did elsewhere. */
	assert_int_equal(uvf_attachment_set(attachment, world->space), 0);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	uvf_attachment_free(attachment);
	uvf_address_space_put(other);
}

static void narrows_by_its_first_pin(void **state)
{
	struct world *world = *state;
	struct uvf_attachment *attachment = silent_one(world->space);
	struct uvf_pin pin, reading;
	struct iovec iov;

	assert_int_equal(report(world), ALL);
	pin_page(attachment, 5, &pin);
	assert_int_equal(uvf_dirty_wide(world->space), 0);
	/* Until it pinned it may have written anything. */
	assert_int_equal(report(world), ALL);
	/* From then on its pins: at each report, and at one after they have gone. */
	assert_int_equal(report(world), 1 << 5);
	assert_int_equal(report(world), 1 << 5);
	assert_int_equal(uvf_attachment_pin(attachment, 0, PAGE, UVF_PROT_READ, &reading, &iov, 1),
			 1);
	assert_int_equal(report(world), 1 << 5);
	uvf_attachment_unpin(&pin);
	uvf_attachment_unpin(&reading);
	assert_int_equal(report(world), 1 << 5);
	assert_int_equal(report(world), 0);
	/* A pin that is refused promises nothing; a new address space, or the same again, is wide.
	 */
	assert_int_equal(uvf_attachment_set(attachment, NULL), 0);
	assert_int_equal(uvf_attachment_set(attachment, world->space), 0);
	assert_int_equal(
		uvf_attachment_pin(attachment, 50 * PAGE, PAGE, UVF_PROT_WRITE, &pin, &iov, 1),
		-EFAULT);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	assert_int_equal(report(world), ALL);
	uvf_attachment_free(attachment);
}

static void narrow_and_unpin(void *opaque, uvf_iova_t first, uvf_iova_t last)
{
	struct uvf_pin *pin = opaque;

	if (!pin->prot)
		return;
	uvf_view_narrow(pin->owner);
	uvf_attachment_unpin(pin);
	pin->prot = 0;
}

/* It comes to the address space anew before its pin has narrowed: nothing is promised there. */
static void narrows_too_late(void **state)
{
	static const struct uvf_attachment_ops ops = {.unmap = narrow_and_unpin};
	struct world *world = *state;
	struct uvf_attachment *attachment;
	struct uvf_pin pin = {0};

	assert_int_equal(uvf_attachment_new(&ops, &pin, &attachment), 0);
	uvf_attachment_set_silent(attachment, true);
	assert_int_equal(uvf_attachment_set(attachment, world->space), 0);
	uvf_attachment_enable(attachment, true);
	pin_page(attachment, 5, &pin);
	assert_int_equal(uvf_dirty_wide(world->space), 0);
	assert_int_equal(uvf_attachment_set(attachment, world->space), 0);
	assert_int_equal(pin.prot, 0);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	assert_int_equal(report(world), ALL);
	assert_int_equal(report(world), ALL);
	uvf_attachment_free(attachment);
}

/* One that tells pins as ever: there is nothing to narrow. */
static void a_telling_one_pins(void **state)
{
	struct world *world = *state;
	struct uvf_attachment *telling = new_attachment(world->space, &no_ops, NULL);
	struct uvf_attachment *silent = silent_one(world->space);
	struct uvf_pin pin;

	pin_page(telling, 1, &pin);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	assert_int_equal(report(world), ALL);
	uvf_attachment_free(silent);
	assert_int_equal(report(world), ALL);
	assert_int_equal(report(world), 2);
	uvf_attachment_unpin(&pin);
	uvf_attachment_free(telling);
}

static void only_alone_in_its_group(void **state)
{
	struct world *world = *state;
	struct uvf_attachment *one = silent_one(world->space), *two = silent_one(world->space);
	struct uvf_group *group;
	struct uvf_pin pin[2];

	assert_int_equal(uvf_group_new(&group), 0);
	uvf_attachment_set_group(one, group);
	uvf_attachment_set_group(two, group);
	uvf_attachment_set_group(two, group);
	pin_page(one, 1, &pin[0]);
	pin_page(two, 2, &pin[1]);
	assert_int_equal(uvf_dirty_wide(world->space), 2);
	assert_int_equal(report(world), ALL);
	uvf_attachment_unpin(&pin[0]);
	uvf_attachment_unpin(&pin[1]);
	/* Alone now, it narrows when it pins, and not before. */
	uvf_attachment_set_group(two, NULL);
	assert_int_equal(uvf_dirty_wide(world->space), 2);
	pin_page(one, 1, &pin[0]);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	pin_page(two, 2, &pin[1]);
	assert_int_equal(uvf_dirty_wide(world->space), 0);
	assert_int_equal(report(world), ALL);
	assert_int_equal(report(world), 6);
	/* Not alone any more: both are wide again, and pins that are there or come change nothing.
	 */
	uvf_attachment_set_group(two, group);
	assert_int_equal(uvf_dirty_wide(world->space), 2);
	assert_int_equal(report(world), ALL);
	uvf_attachment_unpin(&pin[0]);
	pin_page(one, 1, &pin[0]);
	assert_int_equal(uvf_dirty_wide(world->space), 2);
	uvf_attachment_unpin(&pin[0]);
	uvf_attachment_unpin(&pin[1]);
	/* The other one is gone for good; then the group is. */
	uvf_attachment_free(two);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	pin_page(one, 1, &pin[0]);
	assert_int_equal(uvf_dirty_wide(world->space), 0);
	uvf_attachment_unpin(&pin[0]);
	uvf_group_free(group);
	uvf_attachment_free(one);
}

/* A group with one that tells: it stays narrow, the other can't become so. */
static void a_mixed_group(void **state)
{
	struct world *world = *state;
	struct uvf_attachment *telling = new_attachment(world->space, &no_ops, NULL);
	struct uvf_attachment *silent = silent_one(world->space);
	struct uvf_group *group;
	struct uvf_pin pin;

	assert_int_equal(uvf_group_new(&group), 0);
	uvf_attachment_set_group(telling, group);
	pin_page(silent, 1, &pin);
	assert_int_equal(uvf_dirty_wide(world->space), 0);
	uvf_attachment_set_group(silent, group);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	uvf_attachment_unpin(&pin);
	pin_page(silent, 1, &pin);
	assert_int_equal(uvf_dirty_wide(world->space), 1);
	uvf_attachment_unpin(&pin);
	uvf_group_free(group);
	pin_page(silent, 1, &pin);
	assert_int_equal(uvf_dirty_wide(world->space), 0);
	uvf_attachment_unpin(&pin);
	uvf_attachment_free(silent);
	uvf_attachment_free(telling);
}

/* What is owed is reported once, in whatever pieces, and is not what was unmapped meanwhile. */
static void owed_in_pieces(void **state)
{
	struct world *world = *state;
	uint64_t bitmap = 0, unmapped;

	uvf_attachment_free(silent_one(world->space));
	assert_int_equal(uvf_dirty_report(world->space, 4 * PAGE, 4 * PAGE, PAGE, UVF_DIRTY_KEEP,
					  &bitmap, 8),
			 0);
	assert_int_equal(bitmap, 0xf);
	bitmap = 0;
	assert_int_equal(uvf_dirty_report(world->space, 4 * PAGE, 4 * PAGE, PAGE, 0, &bitmap, 8),
			 0);
	assert_int_equal(bitmap, 0xf);
	bitmap = 0;
	assert_int_equal(uvf_dirty_report(world->space, 0, 16 * PAGE, 4 * PAGE, 0, &bitmap, 8), 0);
	assert_int_equal(bitmap, 0xd);
	assert_int_equal(report(world), ALL & ~0xffffULL);
	assert_int_equal(report(world), 0);

	uvf_attachment_free(silent_one(world->space));
	assert_int_equal(uvf_unmap(world->space, 0, PAGES * PAGE, &unmapped), 0);
	assert_int_equal(uvf_map(world->space, 0, PAGES * PAGE, UVF_PROT_RW, world->memory, 0), 0);
	assert_int_equal(report(world), 0);
	uvf_attachment_free(silent_one(world->space));
	bitmap = 0;
	assert_int_equal(
		uvf_unmap_dirty(world->space, 0, PAGES * PAGE, &unmapped, PAGE, &bitmap, 8), 0);
	assert_int_equal(bitmap, ALL);
	/* Of what was never on nothing is left over. */
	assert_int_equal(uvf_map(world->space, 0, PAGES * PAGE, UVF_PROT_RW, world->memory, 0), 0);
	uvf_dirty_stop(world->space);
	uvf_attachment_free(silent_one(world->space));
	assert_int_equal(uvf_dirty_start(world->space), 0);
	assert_int_equal(report(world), 0);
}

static int never_read(void *opaque, uint64_t offset, void *buf, size_t count)
{
	return -EIO;
}

static int never_written(void *opaque, uint64_t offset, const void *buf, size_t count)
{
	return -EIO;
}

/* A mapping of more pages than could be named costs no more than another. */
static void owed_of_everything(void **state)
{
	struct uvf_address_space *space = new_space();
	static const struct uvf_memory_remote_ops ops = {never_read, never_written, NULL};
	const uint64_t size = 1ULL << 60;
	struct uvf_memory *memory;
	uint64_t bitmap = 0;

	assert_int_equal(uvf_memory_new_remote(&ops, NULL, &memory), 0);
	assert_int_equal(uvf_map(space, 0, size, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_dirty_start(space), 0);
	uvf_attachment_free(silent_one(space));
	assert_int_equal(uvf_dirty_report(space, 0, size, size, 0, &bitmap, 8), 0);
	assert_int_equal(bitmap, 1);
	bitmap = 0;
	assert_int_equal(uvf_dirty_report(space, 0, size, size, 0, &bitmap, 8), 0);
	assert_int_equal(bitmap, 0);
	uvf_address_space_put(space);
	uvf_memory_put(memory);
}

/* ---- Ranges ---- */

/* Against one bit a number. */
static void ranges(void **state)
{
	uint64_t random = 1, expected;

	for (unsigned round = 0; round < 2000; round++) {
		struct uvf_owed owed = {0};

		expected = 0;
		for (uint64_t at = 0; at < 56;) {
			uint64_t size;

			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			size = 1 + (random >> 40) % 6;
			assert_int_equal(uvf_owed_append(&owed, at, at + size - 1), 0);
			expected |= ((1ULL << size) - 1) << at;
			at += size + (random >> 50) % 3;
		}
		for (unsigned step = 0; step < 10; step++) {
			uint64_t first, last, found = 0;

			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			first = (random >> 40) % 64;
			last = first + (random >> 50) % (64 - first);
			uvf_owed_remove(&owed, first, last);
			expected &= ~((UINT64_MAX >> (63 - (last - first))) << first);
			for (size_t i = 0; i < owed.count; i++) {
				assert_true(owed.range[i].first <= owed.range[i].last);
				for (uint64_t at = owed.range[i].first; at <= owed.range[i].last;
				     at++)
					found |= 1ULL << at;
			}
			assert_true(found == expected);
		}
		uvf_owed_free(&owed);
	}
}

/* ---- Beside reports ---- */

#define ROUNDS 3000

struct race {
	struct world *world;
	struct uvf_group *group;
	atomic_uint left;
	uint64_t copy[PAGES][PAGE / 8];
};

static _Atomic(uint64_t) *word_of(struct race *race, uint64_t page, uint64_t word)
{
	return (_Atomic(uint64_t) *)(void *)race->world->bytes + page * PAGE / 8 + word % 512;
}

/*
 * A device that writes without a call, anywhere until it pins and only there from then on, comes
 * and goes; every third time in a group, where its pin changes nothing.
 */
static void *write_silently(void *opaque)
{
	struct race *race = opaque;
	uint64_t random = (uintptr_t)&random;

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct uvf_attachment *attachment = silent_one(race->world->space);
		struct uvf_pin pin;
		uint64_t page;

		for (unsigned i = 0; i < 8; i++) {
			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			atomic_store_explicit(word_of(race, random >> 59, random >> 20), random,
					      memory_order_relaxed);
		}
		if (round % 3 == 0)
			uvf_attachment_set_group(attachment, race->group);
		page = random >> 59;
		pin_page(attachment, page, &pin);
		for (unsigned i = 0; i < 8; i++) {
			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			atomic_store_explicit(word_of(race, page, random >> 20), random,
					      memory_order_relaxed);
		}
		uvf_attachment_unpin(&pin);
		uvf_attachment_free(attachment);
	}
	atomic_fetch_sub(&race->left, 1);
	return NULL;
}

static void copy_reported(struct race *race)
{
	uint64_t bits = report(race->world);

	for (uint64_t page = 0; page < PAGES; page++)
		for (uint64_t i = 0; bits >> page & 1 && i < PAGE / 8; i++)
			race->copy[page][i] =
				atomic_load_explicit(word_of(race, page, i), memory_order_relaxed);
}

static void nothing_is_missed(void **state)
{
	struct race *race = calloc(1, sizeof(*race));
	pthread_t threads[3];

	race->world = *state;
	race->left = 3;
	assert_int_equal(uvf_group_new(&race->group), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_silently, race), 0);
	while (atomic_load(&race->left))
		copy_reported(race);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	copy_reported(race);
	assert_memory_equal(race->copy, race->world->bytes, PAGES * PAGE);
	assert_int_equal(uvf_dirty_wide(race->world->space), 0);
	assert_int_equal(report(race->world), 0);
	uvf_group_free(race->group);
	free(race);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(comes_and_goes),
		TEST(moves_to_another),
		TEST(narrows_by_its_first_pin),
		TEST(narrows_too_late),
		TEST(a_telling_one_pins),
		TEST(only_alone_in_its_group),
		TEST(a_mixed_group),
		TEST(owed_in_pieces),
		cmocka_unit_test(owed_of_everything),
		cmocka_unit_test(ranges),
		TEST(nothing_is_missed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
