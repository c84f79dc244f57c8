/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Areas that are asked for again while, or after, the driver hasn't followed to them: by the model,
 * and by a transition to PRE_COPY that would leave them as they are.
 */
#include "remap_rig.h"

#include <uvfio/inject.h>

#define RUNNING	 VFIO_DEVICE_STATE_RUNNING
#define PRE_COPY VFIO_DEVICE_STATE_PRE_COPY
#define SAVING	 5u /* the areas that stay */
#define CHANGED	 UVF_REGION_CHANGED_AREAS

/* A driver that follows, with all but the first area given out to it. */
static int setup(void **state)
{
	struct rig *rig;

	rig_setup(state);
	rig = *state;
	rig->dev->remap->by_hand = true;
	rig_follow(rig);
	for (uint64_t page = 3; page < REGION_PAGES; page += 2)
		assert_int_equal(
			uvf_region_mapped(rig->dev, REGION, page * PAGE, PAGE, UVF_MAPPED_UNKNOWN),
			0);
	return 0;
}

static void work(struct rig *rig)
{
	uvf_remap_work(rig->dev, 0);
}

/* The limit, of what waits now. */
static void time_passes(struct rig *rig)
{
	uvf_remap_work(rig->dev, UINT64_MAX - 1);
}

static void driver_follows(struct rig *rig)
{
	assert_int_equal(uvf_region_take_changes(rig->dev, REGION), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
}

static void expect_ended(struct rig *rig, int result)
{
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(rig->done_result, result);
	rig->done_count = 0;
}

/* ---- By the model ---- */

static void after_the_limit_it_is_waited_for_again(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	time_passes(rig);
	assert_string_equal(rig_calls(rig), "settled3:-110 ");
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	work(rig);
	assert_string_equal(rig_calls(rig), "");
	driver_follows(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
	assert_int_equal(rig_set_areas(rig, 13), 0);
}

static void who_follows_after_the_limit_has_followed(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	time_passes(rig);
	driver_follows(rig);
	assert_string_equal(rig_calls(rig), "settled3:-110 ");
	assert_int_equal(rig_set_areas(rig, 13), 0);
	time_passes(rig);
	assert_string_equal(rig_calls(rig), "");
}

static void a_liar_is_told_again(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(uvf_region_mapped(rig->dev, REGION, 3 * PAGE, PAGE, UVF_MAPPED_KNOWN), 0);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_true(rig_fired(rig));
	driver_follows(rig);
	assert_string_equal(rig_calls(rig), "settled3:-16 ");
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_true(rig_fired(rig));
	assert_int_equal(uvf_region_unmapped(rig->dev, REGION, 3 * PAGE, PAGE), 0);
	driver_follows(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
}

static void who_can_no_longer_follow_is_not_waited_for(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_int_equal(rig_irq_set(rig, VFIO_IRQ_SET_ACTION_TRIGGER, -1), 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:-19 ");
	assert_int_equal(rig_set_areas(rig, 13), -ENODEV);
	assert_int_equal(rig_areas(rig), 13);
}

static void answer_later(void *opaque, uint32_t index, uint64_t generation)
{
	*(uint64_t *)opaque = generation;
}

static void a_revoker_that_failed_is_asked_again(void **state)
{
	struct rig *rig = *state;
	uint64_t first, generation = 0;
	const struct uvf_revoker revoker = {answer_later, &generation};

	uvf_device_close(rig->dev);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	uvf_device_set_revoker(rig->dev, &revoker);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	first = generation;
	uvf_region_revoked(rig->dev, REGION, generation, -EIO);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:-5 ");
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_true(generation > first);
	uvf_region_revoked(rig->dev, REGION, generation, 0);
	work(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
	assert_int_equal(rig_set_areas(rig, 13), 0);
}

/* ---- An interrupt that got lost ---- */

static void the_next_change_fires(void **state)
{
	struct rig *rig = *state;
	struct uvf_error error;

	assert_int_equal(uvf_inject(uvf_device_injector(rig->dev), "irq-drop", &error), 0);
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_false(rig_fired(rig));
	time_passes(rig);
	assert_string_equal(rig_calls(rig), "settled3:-110 ");
	uvf_injector_clear(uvf_device_injector(rig->dev));
	assert_int_equal(rig_set_areas(rig, 13), -EINPROGRESS);
	assert_true(rig_fired(rig));
	driver_follows(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
	assert_int_equal(rig_set_areas(rig, 15), 0);
	assert_true(rig_fired(rig));
}

/* ---- By a transition that has nothing more to take away ---- */

static void pre_copy_waits_beside_the_model(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_set_areas(rig, SAVING), -EINPROGRESS);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	work(rig);
	assert_int_equal(rig->done_count, 0);
	assert_string_equal(rig_calls(rig), "");
	driver_follows(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 settled3:0 early ");
	expect_ended(rig, 0);
	assert_int_equal(rig_start(rig, RUNNING), 0);
	assert_int_equal(rig_areas(rig), SAVING);
	/* All have followed: the next has nothing to wait for. */
	assert_int_equal(rig_start(rig, PRE_COPY), 0);
}

static void pre_copy_waits_for_what_has_failed(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_set_areas(rig, SAVING), -EINPROGRESS);
	time_passes(rig);
	assert_string_equal(rig_calls(rig), "settled3:-110 ");
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	time_passes(rig);
	expect_ended(rig, -ETIMEDOUT);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	driver_follows(rig);
	expect_ended(rig, 0);
	assert_string_equal(rig_calls(rig), "settled3:0 early ");
}

static void pre_copy_is_refused_by_what_is_left(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_set_areas(rig, SAVING), -EINPROGRESS);
	assert_int_equal(rig_irq_set(rig, VFIO_IRQ_SET_ACTION_TRIGGER, -1), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), -ENODEV);
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	uvf_device_close(rig->dev);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), 0);
}

/* ---- By the model, while a transition waits ---- */

static void what_a_transition_took_is_not_the_models_yet(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(rig_areas(rig), SAVING);
	assert_int_equal(rig_set_areas(rig, SAVING), -EINPROGRESS);
	assert_int_equal(rig_start(rig, RUNNING), 0);
	assert_int_equal(rig_areas(rig), SAVING);
	work(rig);
	expect_ended(rig, -ECANCELED);
	assert_string_equal(rig_calls(rig), "");
	driver_follows(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
}

/* A region of which a transition had nothing to take, until the model did. */
static void a_transition_waits_for_what_the_model_takes(void **state)
{
	struct rig *rig = *state;

	rig_add_region(rig, REGION + 1, true);
	assert_int_equal(rig_set_areas(rig, 4), -EINPROGRESS);
	driver_follows(rig);
	assert_string_equal(rig_calls(rig), "settled3:0 ");
	assert_int_equal(
		uvf_region_mapped(rig->dev, REGION + 1, 3 * PAGE, PAGE, UVF_MAPPED_UNKNOWN), 0);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(rig_set_areas(rig, 1), -EINPROGRESS);
	assert_int_equal(uvf_region_take_changes(rig->dev, REGION + 1), CHANGED);
	assert_int_equal(rig_unmask(rig), 0);
	work(rig);
	assert_int_equal(rig->done_count, 0);
	driver_follows(rig);
	expect_ended(rig, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(after_the_limit_it_is_waited_for_again),
		TEST(who_follows_after_the_limit_has_followed),
		TEST(a_liar_is_told_again),
		TEST(who_can_no_longer_follow_is_not_waited_for),
		TEST(a_revoker_that_failed_is_asked_again),
		TEST(the_next_change_fires),
		TEST(pre_copy_waits_beside_the_model),
		TEST(pre_copy_waits_for_what_has_failed),
		TEST(pre_copy_is_refused_by_what_is_left),
		TEST(what_a_transition_took_is_not_the_models_yet),
		TEST(a_transition_waits_for_what_the_model_takes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
