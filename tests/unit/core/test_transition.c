/* SPDX-License-Identifier: BSD-3-Clause */
/* Ways to another migration state that take their time where the device is: elsewhere. */
#include "remap_rig.h"

#include "core/core.h"

#define RUNNING	 VFIO_DEVICE_STATE_RUNNING
#define PRE_COPY VFIO_DEVICE_STATE_PRE_COPY
#define STOP	 VFIO_DEVICE_STATE_STOP

/* ---- A device that migrates elsewhere ---- */

static struct {
	enum vfio_device_mig_state state, to;
	int answer;
	unsigned cancels;
} far;

static enum vfio_device_mig_state far_state(struct uvf_device *dev)
{
	return far.state;
}

static int far_set_state(struct uvf_device *dev, enum vfio_device_mig_state state)
{
	far.to = state;
	if (!far.answer)
		far.state = state;
	return far.answer;
}

static void far_cancel(struct uvf_device *dev)
{
	far.cancels++;
}

static const struct uvf_migration_way far_way = {
	.state = far_state,
	.set_state = far_set_state,
	.cancel = far_cancel,
};

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->eventfd = rig->unmask = -1;
	pthread_mutex_init(&rig->lock, NULL);
	pthread_cond_init(&rig->changed, NULL);
	far.state = RUNNING;
	far.answer = -EINPROGRESS;
	far.cancels = 0;
	assert_int_equal(uvf_device_new("far", &rig_ops, 0, rig, &rig->dev), 0);
	uvf_device_set_migration_way(rig->dev, VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY,
				     &far_way);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	*state = rig;
	return 0;
}

static void arrive(struct rig *rig, int result)
{
	uvf_device_lock(rig->dev);
	if (!result)
		far.state = far.to;
	uvf_migration_arrived(rig->dev, result);
	uvf_device_unlock(rig->dev);
	uvf_transitions_deliver(rig->dev);
}

static void it_arrives(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	/* The thread that would tell that it was given up: then it could be too late for one. */
	assert_non_null(atomic_load(&rig->dev->delayer));
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	assert_int_equal(rig_start(rig, PRE_COPY), -EBUSY);
	assert_int_equal(uvf_migration_set_state(rig->dev, STOP), -EBUSY);
	arrive(rig, 0);
	assert_int_equal(rig_wait(rig), 0);
	assert_int_equal(uvf_migration_state(rig->dev), PRE_COPY);
	/* What comes once more is nobody's. */
	arrive(rig, -EIO);
	assert_int_equal(rig->done_count, 0);
	assert_int_equal(far.cancels, 0);
}

static void it_fails(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	arrive(rig, -ETIMEDOUT);
	assert_int_equal(rig_wait(rig), -ETIMEDOUT);
	assert_int_equal(uvf_migration_state(rig->dev), RUNNING);
	/* At once too. */
	far.answer = -EBUSY;
	assert_int_equal(rig_start(rig, PRE_COPY), -EBUSY);
	assert_int_equal(rig->done_count, 0);
}

static void going_back_gives_it_up(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(rig_start(rig, RUNNING), 0);
	assert_int_equal(rig_wait(rig), -ECANCELED);
	assert_int_equal(far.cancels, 1);
	/* And then again. */
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(rig_wait(rig), -ECANCELED);
	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	uvf_device_close(rig->dev);
	assert_int_equal(rig_wait(rig), -ECANCELED);
	assert_int_equal(far.cancels, 3);
	arrive(rig, 0);
	assert_int_equal(rig->done_count, 0);
	assert_int_equal(rig_start(rig, PRE_COPY), -ENODEV);
}

static void it_is_told_before_the_device_has_gone(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_start(rig, PRE_COPY), -EINPROGRESS);
	uvf_device_free(rig->dev);
	rig->dev = NULL;
	assert_int_equal(rig->done_count, 1);
	assert_int_equal(rig->done_result, -ECANCELED);
}

static void *arrive_soon(void *opaque)
{
	struct rig *rig = opaque;
	bool waits = false;

	while (!waits) {
		uvf_device_lock(rig->dev);
		waits = rig->dev->transition;
		uvf_device_unlock(rig->dev);
	}
	arrive(rig, 0);
	return NULL;
}

static void who_waits_holds_no_lock(void **state)
{
	struct rig *rig = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, arrive_soon, rig), 0);
	assert_int_equal(uvf_migration_set_state(rig->dev, PRE_COPY), 0);
	pthread_join(thread, NULL);
	assert_int_equal(uvf_migration_state(rig->dev), PRE_COPY);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_arrives),
		TEST(it_fails),
		TEST(going_back_gives_it_up),
		TEST(it_is_told_before_the_device_has_gone),
		TEST(who_waits_holds_no_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
