/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Drivers that follow changed areas, by each of the ways and badly: what the IRQ and the flags say,
 * what a model and a transition to PRE_COPY wait for, and how that ends.
 */
#include "remap_rig.h"

#include <sched.h>
#include <uvfio/inject.h>

#define RUNNING	     VFIO_DEVICE_STATE_RUNNING
#define PRE_COPY     VFIO_DEVICE_STATE_PRE_COPY
#define PRE_COPY_P2P VFIO_DEVICE_STATE_PRE_COPY_P2P
#define STOP_COPY    VFIO_DEVICE_STATE_STOP_COPY
#define STOP	     VFIO_DEVICE_STATE_STOP
#define RUNNING_P2P  VFIO_DEVICE_STATE_RUNNING_P2P

#define ALL	15u
#define SAVING	5u /* those that stay */
#define CHANGED UVF_REGION_CHANGED_AREAS

/* Waiting is done by the test, and so is the clock. */
static int by_hand_setup(void **state)
{
	rig_setup(state);
	((struct rig *)*state)->dev->remap->by_hand = true;
	return 0;
}

static void work(struct rig *rig)
{
	uvf_remap_work(rig->dev, 0);
}

static void time_passes(struct rig *rig)
{
	uvf_remap_work(rig->dev, UINT64_MAX);
}

static uint32_t take(struct rig *rig)
{
	return uvf_region_take_changes(rig->dev, REGION);
}

static void told(struct rig *rig, uint64_t page)
{
	assert_int_equal(uvf_region_mapped(rig->dev, REGION, page * PAGE, PAGE, UVF_MAPPED_KNOWN),
			 0);
}

static void ended(struct rig *rig, uint64_t page)
{
	assert_int_equal(uvf_region_unmapped(rig->dev, REGION, page * PAGE, PAGE), 0);
}

static void given_out(struct rig *rig, uint64_t page)
{
	assert_int_equal(uvf_region_mapped(rig->dev, REGION, page * PAGE, PAGE, UVF_MAPPED_UNKNOWN),
			 0);
}

/* ---- Flags and the IRQ ---- */

static void a_change_fires_once_and_masks(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	assert_false(rig_fired(rig));
	assert_int_equal(rig_set_areas(rig, 1), 0);
	assert_true(rig_fired(rig));
	assert_int_equal(rig_set_areas(rig, 3), 0);
	assert_false(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(take(rig), 0);
	assert_int_equal(rig_unmask(rig), 0);
	assert_false(rig_fired(rig));
	assert_int_equal(rig_set_areas(rig, 1), 0);
	assert_true(rig_fired(rig));
}

static void what_was_not_read_fires_again(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	assert_int_equal(rig_set_areas(rig, 1), 0);
	assert_true(rig_fired(rig));
	/* Unmasked without reading. */
	assert_int_equal(rig_unmask(rig), 0);
	assert_true(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	/* Changed between reading and unmasking. */
	assert_int_equal(rig_set_areas(rig, 3), 0);
	assert_false(rig_fired(rig));
	assert_int_equal(rig_unmask(rig), 0);
	assert_true(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	assert_false(rig_fired(rig));
}

static void a_driver_that_comes_late_is_told(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_set_areas(rig, 1), 0);
	rig_follow(rig);
	assert_true(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	assert_false(rig_fired(rig));
}

static void the_next_owner_knows_what_is(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_set_areas(rig, 1), 0);
	uvf_device_close(rig->dev);
	assert_int_equal(rig_set_areas(rig, 3), 0);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	assert_int_equal(take(rig), 0);
	rig_follow(rig);
	assert_false(rig_fired(rig));
}

static void a_resample_eventfd_unmasks(void **state)
{
	struct rig *rig = *state;
	uint64_t value;

	rig->dev->remap->timeout_ns = 60000000000ULL;
	rig_follow(rig);
	rig->unmask = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(rig_irq_set(rig, VFIO_IRQ_SET_ACTION_UNMASK, rig->unmask), 0);
	given_out(rig, 3);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_true(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	value = 1;
	assert_int_equal(write(rig->unmask, &value, sizeof(value)), sizeof(value));
	assert_int_equal(rig_wait(rig), 0);
	assert_int_equal(uvf_migration_state(rig->dev), PRE_COPY);
}

/* ---- What a model waits for ---- */

static void a_model_waits_for_the_acknowledgement(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_int_equal(rig_areas(rig), 13);
	/* Asked for the same again: it still waits. */
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	work(rig);
	assert_int_equal(take(rig), CHANGED);
	work(rig);
	assert_string_equal(rig_calls(rig), "");
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
	work(rig);
	assert_string_equal(rig_calls(rig), "");
}

static void unmasking_without_reading_acknowledges_nothing(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "");
	/* Read, and changed again: what is acknowledged is the older. */
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_set_areas(rig, 5), -EINPROGRESS);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "");
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
}

static void the_end_of_the_last_mapping_settles(void **state)
{
	struct rig *rig = *state;
	void *address;

	rig_follow(rig);
	told(rig, 3);
	assert_int_equal(uvf_region_map(rig->dev, REGION, 3 * PAGE, PAGE, &address), 0);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	ended(rig, 3);
	work(rig);
	assert_string_equal(rig_calls(rig), "");
	uvf_region_unmap(rig->dev, REGION, 3 * PAGE, PAGE, address);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
}

static void a_liar_is_busy(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	told(rig, 3);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:-16 ");
	ended(rig, 3);
}

static void areas_that_come_back_end_the_wait(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	told(rig, 3);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_int_equal(rig_set_areas(rig, 15), 0);
	time_passes(rig);
	assert_string_equal(rig_calls(rig), "");
	assert_int_equal(take(rig), CHANGED);
}

static void a_driver_that_stops_following_ends_the_wait(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_int_equal(rig_irq_set(rig, VFIO_IRQ_SET_ACTION_TRIGGER, -1), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:-19 ");
	assert_int_equal(rig_set_areas(rig, 15), 0);
	assert_int_equal(rig_set_areas(rig, 13), -ENODEV);
}

static void a_model_is_told_of_the_limit(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	time_passes(rig);
	assert_string_equal(rig_calls(rig), "settled3:-110 ");
	/* It does as it likes. */
	assert_int_equal(rig_areas(rig), 13);
}

static void closing_settles(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	uvf_device_close(rig->dev);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
	time_passes(rig);
	assert_string_equal(rig_calls(rig), "");
}

/* Which of several mappings of one range has gone: the one in conflict. */
static void who_maps_before_unmapping_is_understood(void **state)
{
	struct rig *rig = *state;
	struct uvf_area moved = rig->areas[1];

	rig_follow(rig);
	told(rig, 3);
	moved.fd_offset += PAGE;
	uvf_device_lock(rig->dev);
	assert_int_equal(uvf_region_set_areas(rig->dev, REGION, &moved, 1), -EINPROGRESS);
	uvf_device_unlock(rig->dev);
	told(rig, 3);
	ended(rig, 3);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
	ended(rig, 3);
}

/* ---- PRE_COPY: the table ---- */

static void nothing_mapped_nothing_to_wait_for(void **state)
{
	struct rig *rig = *state;

	told(rig, 1);
	assert_int_equal(rig_start(rig, PRE_COPY), 0);
	assert_string_equal(rig_calls(rig), "settled3:0 early ");
	assert_int_equal(rig_areas(rig), SAVING);
	assert_int_equal(rig_start(rig, RUNNING), 0);
	assert_string_equal(rig_calls(rig), "return3 ");
	assert_int_equal(rig_areas(rig), ALL);
	assert_int_equal(rig->done_count, 0);
}

static void a_driver_told_beforehand_unmaps_first(void **state)
{
	struct rig *rig = *state;
	void *address;

	assert_int_equal(uvf_region_map(rig->dev, REGION, 7 * PAGE, PAGE, &address), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), -EBUSY);
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_int_equal(rig_areas(rig), ALL);
	assert_int_equal(take(rig), 0);
	assert_string_equal(rig_calls(rig), "");
	uvf_region_unmap(rig->dev, REGION, 7 * PAGE, PAGE, address);
	assert_int_equal(uvf_migration_set_state(rig->dev, PRE_COPY), 0);
	assert_int_equal(uvf_region_map(rig->dev, REGION, 7 * PAGE, PAGE, &address), -EINVAL);
	assert_int_equal(uvf_migration_set_state(rig->dev, RUNNING), 0);
	assert_int_equal(uvf_region_map(rig->dev, REGION, 7 * PAGE, PAGE, &address), 0);
	uvf_region_unmap(rig->dev, REGION, 7 * PAGE, PAGE, address);
}

static void a_driver_that_knows_nothing_is_refused(void **state)
{
	struct rig *rig = *state;

	given_out(rig, 7);
	assert_int_equal(uvf_migration_set_state(rig->dev, PRE_COPY), -ENODEV);
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_int_equal(rig_areas(rig), ALL);
	/* Without PRE_COPY nobody writes: it can move. */
	assert_int_equal(uvf_migration_set_state(rig->dev, STOP_COPY), 0);
	assert_int_equal(rig_areas(rig), ALL);
	assert_int_equal(uvf_migration_set_state(rig->dev, RUNNING), 0);
	assert_int_equal(take(rig), 0);
}

static void a_driver_that_follows_is_waited_for(void **state)
{
	struct rig *rig = *state;
	void *address;

	rig_follow(rig);
	assert_int_equal(uvf_region_map(rig->dev, REGION, 7 * PAGE, PAGE, &address), 0);
	given_out(rig, 3);
	assert_int_equal(rig_start(rig, PRE_COPY_P2P), -EINPROGRESS);
	assert_true(rig_fired(rig));
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_areas(rig), SAVING);
	uvf_region_unmap(rig->dev, REGION, 7 * PAGE, PAGE, address);
	work(rig);
	assert_int_equal(rig->done_count, 0);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(rig->done_result, 0);
	assert_int_equal(uvf_migration_state(rig->dev), PRE_COPY_P2P);
	assert_string_equal(rig_calls(rig), "settled3:0 early ");
	/* They come back, and that is told. */
	assert_false(rig_fired(rig));
	assert_int_equal(uvf_migration_set_state(rig->dev, RUNNING_P2P), 0);
	assert_int_equal(rig_areas(rig), SAVING);
	assert_int_equal(uvf_migration_set_state(rig->dev, RUNNING), 0);
	assert_int_equal(rig_areas(rig), ALL);
	assert_true(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	assert_string_equal(rig_calls(rig), "return3 ");
}

static void a_peers_dma_refuses(void **state)
{
	struct rig *rig = *state;
	struct uvf_memory *memory;

	rig_follow(rig);
	assert_int_equal(uvf_region_memory_new(rig->dev, REGION, 3 * PAGE, PAGE, &memory), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_int_equal(rig->done_result, -EBUSY);
	assert_int_equal(rig_areas(rig), ALL);
	assert_int_equal(rig_irq_set(rig, VFIO_IRQ_SET_ACTION_TRIGGER, -1), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), -EBUSY);
	uvf_memory_put(memory);
	assert_int_equal(rig_start(rig, PRE_COPY), 0);
}

static void the_limit_ends_it(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_true(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	time_passes(rig);
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(rig->done_result, -ETIMEDOUT);
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_int_equal(rig_areas(rig), ALL);
	/* Given back, which it hears when it unmasks. The model never had them. */
	assert_int_equal(rig_unmask(rig), 0);
	assert_true(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	assert_string_equal(rig_calls(rig), "");
	/* And it can be tried again. */
	assert_int_equal(rig_unmask(rig), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_int_equal(rig->done_count, 2);
	assert_int_equal(rig->done_result, 0);
}

static void a_model_that_fails_gives_back(void **state)
{
	struct rig *rig = *state;

	rig->save_fails = -EIO;
	assert_int_equal(rig_start(rig, PRE_COPY), -EIO);
	assert_string_equal(rig_calls(rig), "settled3:0 early return3 ");
	assert_int_equal(rig_areas(rig), ALL);
	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_int_equal(rig->done_result, -EIO);
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_int_equal(rig_areas(rig), ALL);
}

/* What is away stays away until the device runs again. */
static void stopping_keeps_them_away(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(uvf_migration_set_state(rig->dev, PRE_COPY), 0);
	assert_int_equal(uvf_migration_set_state(rig->dev, STOP_COPY), 0);
	assert_int_equal(rig_areas(rig), SAVING);
	assert_int_equal(uvf_migration_set_state(rig->dev, STOP), 0);
	assert_int_equal(rig_areas(rig), SAVING);
	assert_int_equal(uvf_migration_set_state(rig->dev, RUNNING), 0);
	assert_int_equal(rig_areas(rig), ALL);
}

/* ---- Going back ---- */

static void going_back_cancels(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(rig_start(rig, PRE_COPY), -EBUSY);
	assert_int_equal(uvf_migration_set_state(rig->dev, STOP), -EBUSY);
	assert_int_equal(uvf_migration_set_state(rig->dev, RUNNING), 0);
	assert_int_equal(rig_areas(rig), ALL);
	work(rig);
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(rig->done_result, -ECANCELED);
	/* What it says now is too late for anything. */
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	time_passes(rig);
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_string_equal(rig_calls(rig), "");
}

static void a_reset_cancels(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(rig_areas(rig), ALL);
	work(rig);
	assert_int_equal(rig->done_result, -ECANCELED);
	/* In PRE_COPY it ends that. */
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_int_equal(uvf_migration_state(rig->dev), PRE_COPY);
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_int_equal(rig_areas(rig), ALL);
	assert_string_equal(rig_calls(rig), "settled3:0 early return3 ");
}

static void closing_cancels(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	uvf_device_close(rig->dev);
	work(rig);
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(rig->done_result, -ECANCELED);
	assert_int_equal(rig_areas(rig), ALL);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), 0);
}

static void removal_cancels(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	uvf_device_remove(rig->dev);
	work(rig);
	assert_int_equal(rig->done_result, -ECANCELED);
}

static void freeing_tells_first(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	uvf_device_free(rig->dev);
	rig->dev = NULL;
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(rig->done_result, -ECANCELED);
}

/* ---- Both at once ---- */

static void a_model_changes_areas_while_state_is_saved(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_start(rig, PRE_COPY), 0);
	/* Of what the model wants, what is not for saving stays away. */
	assert_int_equal(rig_set_areas(rig, 3), 0);
	assert_int_equal(rig_areas(rig), 1);
	assert_int_equal(rig_start(rig, RUNNING), 0);
	assert_int_equal(rig_areas(rig), 3);
}

/* The same areas again are no news, but to those who still have others mapped. */
static void the_same_areas_again_ask_again(void **state)
{
	struct rig *rig = *state;
	void *mapped;

	rig_follow(rig);
	assert_int_equal(uvf_region_map(rig->dev, REGION, PAGE, PAGE, &mapped), 0);
	assert_int_equal(rig_set_areas(rig, 14), -EINPROGRESS);
	assert_true(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:-16 ");
	assert_int_equal(rig_set_areas(rig, 14), -EINPROGRESS);
	assert_true(rig_fired(rig));
	assert_int_equal(take(rig), CHANGED);
	uvf_region_unmap(rig->dev, REGION, PAGE, PAGE, mapped);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
	assert_int_equal(rig_unmask(rig), 0);
	assert_int_equal(rig_set_areas(rig, 14), 0);
	assert_false(rig_fired(rig));
}

static void a_models_wait_goes_on_after_a_transition(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 1);
	given_out(rig, 3);
	assert_int_equal(rig_set_areas(rig, 14), -EINPROGRESS);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(rig_start(rig, RUNNING), 0);
	work(rig);
	assert_int_equal(rig->done_result, -ECANCELED);
	assert_string_equal(rig_calls(rig), "");
	assert_int_equal(rig_areas(rig), 14);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
}

static void one_acknowledgement_is_for_both(void **state)
{
	struct rig *rig = *state;

	rig_follow(rig);
	given_out(rig, 1);
	given_out(rig, 3);
	assert_int_equal(rig_set_areas(rig, 14), -EINPROGRESS);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 settled3:0 early ");
	assert_int_equal(rig->done_result, 0);
}

/* More regions than a word has bits: each must be read. */
static void each_of_many_regions_is_waited_for(void **state)
{
	struct rig *rig = rig_new();

	for (uint32_t i = 100; i < 200; i++)
		rig_add_region(rig, i, true);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	rig->dev->remap->by_hand = true;
	rig_follow(rig);
	for (uint32_t i = 100; i < 200; i++)
		assert_int_equal(uvf_region_mapped(rig->dev, i, 3 * PAGE, PAGE, UVF_MAPPED_UNKNOWN),
				 0);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	for (uint32_t i = 100; i < 199; i++)
		assert_int_equal(uvf_region_take_changes(rig->dev, i), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_int_equal(rig->done_count, 0);
	assert_int_equal(uvf_region_take_changes(rig->dev, 199), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(rig->done_result, 0);
	/* The first region had nothing in conflict; nobody has asked for its flag. */
	assert_int_equal(take(rig), CHANGED);
	rig_free(rig);
}

/* ---- Revokers ---- */

struct revocation {
	struct rig *rig;
	unsigned calls;
	uint32_t index;
	uint64_t generation;
	bool at_once;
};

static void start_revoking(void *opaque, uint32_t index, uint64_t generation)
{
	struct revocation *revocation = opaque;

	revocation->calls++;
	revocation->index = index;
	revocation->generation = generation;
	if (revocation->at_once)
		uvf_region_revoked(revocation->rig->dev, index, generation, 0);
}

static void a_revoker_is_waited_for(void **state)
{
	struct rig *rig = *state;
	struct revocation revocation = {.rig = rig};
	const struct uvf_revoker revoker = {start_revoking, &revocation};

	uvf_device_set_revoker(rig->dev, &revoker);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(revocation.calls, 1);
	assert_int_equal(revocation.index, REGION);
	uvf_region_revoked(rig->dev, REGION, revocation.generation - 1, 0);
	uvf_region_revoked(rig->dev, REGION, revocation.generation + 1, 0);
	uvf_region_revoked(rig->dev, 4, revocation.generation, 0);
	work(rig);
	assert_int_equal(rig->done_count, 0);
	uvf_region_revoked(rig->dev, REGION, revocation.generation, 0);
	work(rig);
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(rig->done_result, 0);
	/* Told of what comes back too; nothing waits for that. */
	assert_int_equal(uvf_migration_set_state(rig->dev, RUNNING), 0);
	assert_int_equal(revocation.calls, 2);
	assert_int_equal(rig_areas(rig), ALL);
	/* It comes before the IRQ. */
	rig_follow(rig);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_int_equal(rig->done_count, 1);
	uvf_region_revoked(rig->dev, REGION, revocation.generation, -EIO);
	work(rig);
	assert_int_equal(rig->done_count, 2);
	assert_int_equal(rig->done_result, -EIO);
	assert_int_equal(rig_areas(rig), ALL);
	/* Closing takes it away. */
	uvf_device_close(rig->dev);
	assert_int_equal(revocation.calls, 4);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), 0);
	assert_int_equal(revocation.calls, 4);
}

static void a_revoker_can_answer_at_once(void **state)
{
	struct rig *rig = *state;
	struct revocation revocation = {.rig = rig, .at_once = true};
	const struct uvf_revoker revoker = {start_revoking, &revocation};

	uvf_device_set_revoker(rig->dev, &revoker);
	assert_int_equal(uvf_migration_set_state(rig->dev, PRE_COPY), 0);
	assert_int_equal(revocation.calls, 1);
}

static void a_peer_stays_after_a_revocation(void **state)
{
	struct rig *rig = *state;
	struct revocation revocation = {.rig = rig, .at_once = true};
	const struct uvf_revoker revoker = {start_revoking, &revocation};

	uvf_device_set_revoker(rig->dev, &revoker);
	told(rig, 3);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	work(rig);
	assert_int_equal(rig->done_result, -EBUSY);
	assert_int_equal(rig_areas(rig), ALL);
}

static void a_revoker_that_is_taken_away_answers_nothing(void **state)
{
	struct rig *rig = *state;
	struct revocation revocation = {.rig = rig};
	const struct uvf_revoker revoker = {start_revoking, &revocation};

	uvf_device_set_revoker(rig->dev, &revoker);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	uvf_device_set_revoker(rig->dev, NULL);
	work(rig);
	assert_int_equal(rig->done_result, -ENODEV);
	/* Its mappings of then are not ours to know. */
	uvf_region_revoked(rig->dev, REGION, revocation.generation, 0);
	assert_int_equal(rig_start(rig, PRE_COPY), 0);
}

/* An older change that the revoker has not got to yet is in the newer one. */
static void a_newer_change_waits_for_the_older(void **state)
{
	struct rig *rig = *state;
	struct revocation revocation = {.rig = rig};
	const struct uvf_revoker revoker = {start_revoking, &revocation};
	uint64_t older;

	uvf_device_set_revoker(rig->dev, &revoker);
	assert_int_equal(rig_set_areas(rig, 14), -EINPROGRESS);
	older = revocation.generation;
	/* This takes nothing away itself. */
	assert_int_equal(rig_set_areas(rig, 6), -EINPROGRESS);
	assert_int_equal(rig_set_areas(rig, 14), -EINPROGRESS);
	uvf_region_revoked(rig->dev, REGION, older, 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "");
	uvf_region_revoked(rig->dev, REGION, revocation.generation, 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
}

/* ---- With the device's own thread ---- */

static void the_limit_comes_by_itself(void **state)
{
	struct rig *rig = *state;

	uvf_device_set_remap_timeout(rig->dev, 30);
	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(uvf_migration_set_state(rig->dev, PRE_COPY), -ETIMEDOUT);
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_int_equal(rig_areas(rig), ALL);
	uvf_device_set_remap_timeout(rig->dev, 0);
	assert_int_equal(rig->dev->remap->timeout_ns, 5000000000);
}

/* An interrupt that is lost on its way is a driver that doesn't follow. */
static void a_lost_interrupt_is_the_limit(void **state)
{
	struct rig *rig = *state;
	struct uvf_error error;

	uvf_device_set_remap_timeout(rig->dev, 30);
	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(uvf_inject(uvf_device_injector(rig->dev), "irq-drop", &error), 0);
	assert_int_equal(uvf_migration_set_state(rig->dev, PRE_COPY), -ETIMEDOUT);
	assert_int_equal(rig_areas(rig), ALL);
	/* Of the areas that came back it hears. */
	assert_true(rig_fired(rig));
}

static void *set_pre_copy(void *opaque)
{
	struct rig *rig = opaque;

	rig_done(rig, uvf_migration_set_state(rig->dev, PRE_COPY));
	return NULL;
}

/* The wait is nobody's lock: all else goes on, from the thread that then acknowledges. */
static void the_device_is_used_meanwhile(void **state)
{
	struct rig *rig = *state, *other = rig_new();
	struct uvf_region_info info;
	pthread_t thread;
	void *address;
	uint32_t value = 7;

	uvf_device_set_remap_timeout(rig->dev, 60000);
	assert_int_equal(uvf_device_open(other->dev), 0);
	rig_follow(rig);
	told(rig, 3);
	assert_int_equal(uvf_region_map(rig->dev, REGION, PAGE, PAGE, &address), 0);
	assert_int_equal(pthread_create(&thread, NULL, set_pre_copy, rig), 0);
	while (!rig_fired(rig))
		sched_yield();
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_int_equal(uvf_region_write(rig->dev, REGION, 0, &value, 4), 4);
	assert_int_equal(uvf_region_write(rig->dev, REGION, 3 * PAGE, &value, 4), 4);
	assert_int_equal(uvf_region_get_info(rig->dev, REGION, &info), 0);
	uvf_region_unmap(rig->dev, REGION, PAGE, PAGE, address);
	assert_int_equal(uvf_region_map(rig->dev, REGION, 5 * PAGE, PAGE, &address), 0);
	uvf_region_unmap(rig->dev, REGION, 5 * PAGE, PAGE, address);
	assert_int_equal(uvf_region_map(rig->dev, REGION, 3 * PAGE, PAGE, &address), -EINVAL);
	assert_int_equal(uvf_migration_set_state(rig->dev, STOP), -EBUSY);
	assert_int_equal(uvf_migration_set_state(other->dev, PRE_COPY), 0);
	assert_string_equal(rig_calls(rig), "w0+4 w0x3000+4 ");
	assert_int_equal(take(rig), CHANGED);
	ended(rig, 3);
	assert_int_equal(rig_unmask(rig), 0);
	assert_int_equal(rig_wait(rig), 0);
	pthread_join(thread, NULL);
	assert_int_equal(uvf_migration_state(rig->dev), PRE_COPY);
	rig_free(other);
}

/* Reset and closed from another thread while one waits. */
static void others_end_the_wait(void **state)
{
	struct rig *rig = *state;
	pthread_t thread;

	uvf_device_set_remap_timeout(rig->dev, 60000);
	rig_follow(rig);
	given_out(rig, 3);
	assert_int_equal(pthread_create(&thread, NULL, set_pre_copy, rig), 0);
	while (!rig_fired(rig))
		sched_yield();
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(rig_wait(rig), -ECANCELED);
	pthread_join(thread, NULL);
	assert_int_equal(take(rig), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	assert_int_equal(pthread_create(&thread, NULL, set_pre_copy, rig), 0);
	while (!rig_fired(rig))
		sched_yield();
	uvf_device_close(rig->dev);
	assert_int_equal(rig_wait(rig), -ECANCELED);
	pthread_join(thread, NULL);
}

/* Many of everything at once: nothing hangs, and what ends has ended once. */
struct storm {
	struct rig *rig;
	_Atomic bool stop;
};

static void *follow_on(void *opaque)
{
	struct storm *storm = opaque;
	struct rig *rig = storm->rig;
	void *address = NULL;

	while (!atomic_load(&storm->stop)) {
		if (!address && uvf_region_map(rig->dev, REGION, 3 * PAGE, PAGE, &address))
			address = NULL;
		if (address)
			(*(volatile uint32_t *)address)++;
		if (!rig_fired(rig))
			continue;
		uvf_region_take_changes(rig->dev, REGION);
		if (address)
			uvf_region_unmap(rig->dev, REGION, 3 * PAGE, PAGE, address);
		address = NULL;
		rig_unmask(rig);
	}
	if (address)
		uvf_region_unmap(rig->dev, REGION, 3 * PAGE, PAGE, address);
	return NULL;
}

static void *change_on(void *opaque)
{
	struct storm *storm = opaque;

	for (unsigned i = 0; !atomic_load(&storm->stop); i++) {
		rig_set_areas(storm->rig, i % 2 ? 15 : 14);
		sched_yield();
	}
	return NULL;
}

static void a_storm_of_changes(void **state)
{
	struct rig *rig = *state;
	struct storm storm = {.rig = rig};
	pthread_t follower, changer;
	unsigned saved = 0;

	uvf_device_set_remap_timeout(rig->dev, 60000);
	rig_follow(rig);
	assert_int_equal(pthread_create(&follower, NULL, follow_on, &storm), 0);
	assert_int_equal(pthread_create(&changer, NULL, change_on, &storm), 0);
	for (unsigned i = 0; i < 300; i++) {
		int ret = uvf_migration_set_state(rig->dev, PRE_COPY);

		/* Mapped again after what it acknowledged: never. */
		assert_int_equal(ret, 0);
		saved++;
		assert_int_equal(uvf_migration_set_state(rig->dev, RUNNING), 0);
	}
	atomic_store(&storm.stop, true);
	pthread_join(follower, NULL);
	pthread_join(changer, NULL);
	assert_int_equal(saved, 300);
}

#define TEST(name)    cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
#define BY_HAND(name) cmocka_unit_test_setup_teardown(name, by_hand_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BY_HAND(a_change_fires_once_and_masks),
		BY_HAND(what_was_not_read_fires_again),
		BY_HAND(a_driver_that_comes_late_is_told),
		BY_HAND(the_next_owner_knows_what_is),
		TEST(a_resample_eventfd_unmasks),
		BY_HAND(a_model_waits_for_the_acknowledgement),
		BY_HAND(unmasking_without_reading_acknowledges_nothing),
		BY_HAND(the_end_of_the_last_mapping_settles),
		BY_HAND(a_liar_is_busy),
		BY_HAND(areas_that_come_back_end_the_wait),
		BY_HAND(a_driver_that_stops_following_ends_the_wait),
		BY_HAND(a_model_is_told_of_the_limit),
		BY_HAND(closing_settles),
		BY_HAND(who_maps_before_unmapping_is_understood),
		BY_HAND(nothing_mapped_nothing_to_wait_for),
		BY_HAND(a_driver_told_beforehand_unmaps_first),
		BY_HAND(a_driver_that_knows_nothing_is_refused),
		BY_HAND(a_driver_that_follows_is_waited_for),
		BY_HAND(a_peers_dma_refuses),
		BY_HAND(the_limit_ends_it),
		BY_HAND(a_model_that_fails_gives_back),
		BY_HAND(stopping_keeps_them_away),
		BY_HAND(going_back_cancels),
		BY_HAND(a_reset_cancels),
		BY_HAND(closing_cancels),
		BY_HAND(removal_cancels),
		BY_HAND(freeing_tells_first),
		BY_HAND(a_model_changes_areas_while_state_is_saved),
		BY_HAND(the_same_areas_again_ask_again),
		BY_HAND(a_models_wait_goes_on_after_a_transition),
		BY_HAND(one_acknowledgement_is_for_both),
		cmocka_unit_test(each_of_many_regions_is_waited_for),
		BY_HAND(a_revoker_is_waited_for),
		TEST(a_revoker_can_answer_at_once),
		BY_HAND(a_peer_stays_after_a_revocation),
		BY_HAND(a_revoker_that_is_taken_away_answers_nothing),
		BY_HAND(a_newer_change_waits_for_the_older),
		TEST(the_limit_comes_by_itself),
		TEST(a_lost_interrupt_is_the_limit),
		TEST(the_device_is_used_meanwhile),
		TEST(others_end_the_wait),
		TEST(a_storm_of_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
