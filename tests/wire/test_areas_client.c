/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device behind a socket whose areas change: its driver here follows, or can't, as one beside the
 * device would. And the same behind two sockets: a server of ours offers what our client has.
 */
#include "changing.h"
#include "far.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct rig {
	struct changing *changing;
	struct harness *servers[2];
	struct uvf_device *clients[2];
	unsigned depth;
	struct uvf_device *dev; /* the driver's */
	int event;
	size_t fds_before;
	/* uvf_migration_start_state() */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
	int result;
};

/* What a test of a group runs behind. */
static struct {
	const char *name;
	unsigned depth;
	bool no_twin;
} way;

static struct uvf_device *connect_to(const struct harness *h)
{
	struct uvf_client_config config = {
		.path = h->path,
		.timeout_ms = LONG_TIME_MS,
		.no_twin_socket = way.no_twin,
	};
	struct uvf_error error = {""};
	struct uvf_device *dev;

	if (uvf_client_connect(&config, &dev, &error))
		fail_msg("%s", error.text);
	return dev;
}

static struct rig *rig_new(unsigned regions)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->fds_before = count_fds();
	pthread_mutex_init(&rig->lock, NULL);
	pthread_cond_init(&rig->changed, NULL);
	rig->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rig->changing = changing_new(regions);
	rig->dev = rig->changing->dev;
	for (rig->depth = 0; rig->depth < way.depth; rig->depth++) {
		rig->servers[rig->depth] = harness_serve(rig->dev, NULL);
		rig->servers[rig->depth]->threaded = true;
		rig->servers[rig->depth]->fds_before = 0;
		assert_int_equal(uvf_server_start(rig->servers[rig->depth]->server), 0);
		rig->dev = rig->clients[rig->depth] = connect_to(rig->servers[rig->depth]);
	}
	assert_int_equal(uvf_device_open(rig->dev), 0);
	return rig;
}

static int setup(void **state)
{
	*state = rig_new(1);
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;
	size_t before = rig->fds_before;

	while (rig->depth--) {
		uvf_device_free(rig->clients[rig->depth]);
		harness_free(rig->servers[rig->depth]);
	}
	changing_free(rig->changing);
	close(rig->event);
	pthread_mutex_destroy(&rig->lock);
	pthread_cond_destroy(&rig->changed);
	free(rig);
	assert_int_equal(count_fds(), before);
	return 0;
}

/* ---- The driver's side ---- */

static unsigned areas_of(struct rig *rig, uint32_t index)
{
	struct uvf_region_info info;
	unsigned mask = 0;

	assert_int_equal(uvf_region_get_info(rig->dev, index, &info), 0);
	for (size_t i = 0; i < info.area_count; i++)
		mask |= info.areas[i].offset == STAYS ? 1 : 2;
	return mask;
}

/* What comes by itself, in its own time. */
static void wait_for_areas(struct rig *rig, uint32_t index, unsigned mask)
{
	for (unsigned i = 0; i < LONG_TIME_MS && areas_of(rig, index) != mask; i++)
		usleep(1000);
	assert_int_equal(areas_of(rig, index), mask);
}

static int go(struct rig *rig, enum vfio_device_mig_state state)
{
	return uvf_migration_set_state(rig->dev, state);
}

static void done(void *opaque, int result)
{
	struct rig *rig = opaque;

	pthread_mutex_lock(&rig->lock);
	assert_false(rig->done);
	rig->done = true;
	rig->result = result;
	pthread_cond_broadcast(&rig->changed);
	pthread_mutex_unlock(&rig->lock);
}

static void begin(struct rig *rig)
{
	rig->done = false;
	assert_int_equal(uvf_migration_start_state(rig->dev, VFIO_DEVICE_STATE_PRE_COPY, done, rig),
			 -EINPROGRESS);
}

static int result(struct rig *rig)
{
	pthread_mutex_lock(&rig->lock);
	while (!rig->done)
		pthread_cond_wait(&rig->changed, &rig->lock);
	pthread_mutex_unlock(&rig->lock);
	return rig->result;
}

static int set_irq(struct rig *rig, uint32_t flags, const int *fd)
{
	const struct uvf_irq_set set = {
		.flags = flags,
		.index = (uint32_t)uvf_remap_irq(rig->dev),
		.count = 1,
		.fds = fd,
	};

	return uvf_irq_set(rig->dev, &set);
}

static void follow_by_irq(struct rig *rig)
{
	assert_int_equal(
		set_irq(rig, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, &rig->event),
		0);
}

static void acknowledge(struct rig *rig)
{
	assert_int_equal(set_irq(rig, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, NULL),
			 0);
}

/* Areas may be away for a moment still, for what has been given up. */
static void *map(struct rig *rig, uint32_t index, uint64_t offset)
{
	void *address = NULL;
	int ret = -EINVAL;

	for (unsigned i = 0; i < LONG_TIME_MS && ret == -EINVAL; i++) {
		ret = uvf_region_map(rig->dev, index, offset, PAGE, &address);
		if (ret == -EINVAL)
			usleep(1000);
	}
	assert_int_equal(ret, 0);
	return address;
}

/* Until the far end has heard what changed here. */
static void until_pre_copy_is(struct rig *rig, int expected)
{
	int ret = go(rig, VFIO_DEVICE_STATE_PRE_COPY);

	assert_int_equal(ret, expected);
}

/* ---- Without a mapping in conflict ---- */

static void test_infos(void **state)
{
	struct rig *rig = *state;
	struct uvf_region_info info;
	struct uvf_irq_info irq;

	assert_int_equal(uvf_region_get_info(rig->dev, 0, &info), 0);
	assert_true(info.areas_change);
	assert_int_equal(info.area_count, 2);
	assert_int_equal(info.areas[0].flags, 0);
	assert_int_equal(info.areas[1].offset, GOES);
	assert_int_equal(info.areas[1].flags, UVF_AREA_NOT_WHILE_SAVING);
	assert_int_equal(uvf_remap_irq(rig->dev), REMAP_IRQ);
	assert_int_equal(uvf_irq_get_info(rig->dev, REMAP_IRQ, &irq), 0);
	assert_int_equal(irq.type, UVF_IRQ_TYPE_REMAP);
	assert_int_equal(irq.region_count, 1);
	assert_int_equal(irq.regions[0], 0);
}

static void test_nothing_is_mapped(void **state)
{
	struct rig *rig = *state;
	uint64_t number = 1, read;

	assert_int_equal(uvf_region_write(rig->dev, 0, GOES, &number, 8), 8);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(go(rig, VFIO_DEVICE_STATE_PRE_COPY), 0);
		assert_int_equal(areas_of(rig, 0), 1);
		assert_true(rig->changing->away);
		/* By messages: the model sees it. */
		number++;
		assert_int_equal(uvf_region_write(rig->dev, 0, GOES, &number, 8), 8);
		assert_int_equal(rig->changing->calls, i + 1);
		assert_int_equal(go(rig, VFIO_DEVICE_STATE_RUNNING), 0);
		wait_for_areas(rig, 0, 3);
		assert_int_equal(uvf_region_read(rig->dev, 0, GOES, &read, 8), 8);
		assert_int_equal(read, number);
	}
}

static void test_what_stays_is_mapped(void **state)
{
	struct rig *rig = *state;
	void *address = map(rig, 0, STAYS);

	assert_int_equal(go(rig, VFIO_DEVICE_STATE_PRE_COPY), 0);
	assert_int_equal(go(rig, VFIO_DEVICE_STATE_RUNNING), 0);
	uvf_region_unmap(rig->dev, 0, STAYS, PAGE, address);
}

/* ---- Told beforehand ---- */

static void test_told_beforehand(void **state)
{
	struct rig *rig = *state;
	void *stays = map(rig, 0, STAYS), *goes;

	for (unsigned i = 0; i < 10; i++) {
		wait_for_areas(rig, 0, 3);
		goes = map(rig, 0, GOES);
		until_pre_copy_is(rig, -EBUSY);
		assert_int_equal(areas_of(rig, 0), 3);
		uvf_region_unmap(rig->dev, 0, GOES, PAGE, goes);
		until_pre_copy_is(rig, 0);
		assert_int_equal(uvf_region_map(rig->dev, 0, GOES, PAGE, &goes), -EINVAL);
		assert_int_equal(go(rig, VFIO_DEVICE_STATE_RUNNING), 0);
	}
	uvf_region_unmap(rig->dev, 0, STAYS, PAGE, stays);
}

/* A peer's DMA, and a frontend's driver, of which nothing is known. */
static void test_others_that_cannot_follow(void **state)
{
	struct rig *rig = *state;
	struct uvf_memory *memory;

	assert_int_equal(uvf_region_memory_new(rig->dev, 0, GOES, PAGE, &memory), 0);
	until_pre_copy_is(rig, -EBUSY);
	uvf_memory_put(memory);
	until_pre_copy_is(rig, 0);
	assert_int_equal(go(rig, VFIO_DEVICE_STATE_RUNNING), 0);
	wait_for_areas(rig, 0, 3);
	assert_int_equal(uvf_region_mapped(rig->dev, 0, GOES, PAGE, UVF_MAPPED_UNKNOWN), 0);
	until_pre_copy_is(rig, -ENODEV);
	assert_int_equal(uvf_migration_state(rig->dev), VFIO_DEVICE_STATE_RUNNING);
	/* The next owner has nothing of it. */
	uvf_device_close(rig->dev);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	until_pre_copy_is(rig, 0);
}

/* ---- Told at run time ---- */

static void test_follows(void **state)
{
	struct rig *rig = *state;
	uint32_t value;

	follow_by_irq(rig);
	for (unsigned i = 0; i < 10; i++) {
		void *goes;

		wait_for_areas(rig, 0, 3);
		goes = map(rig, 0, GOES);
		begin(rig);
		expect_event(rig->event);
		/* Until then all else goes on. */
		assert_int_equal(uvf_migration_state(rig->dev), VFIO_DEVICE_STATE_RUNNING);
		assert_int_equal(uvf_region_read(rig->dev, 0, 0, &value, 4), 4);
		assert_int_equal(go(rig, VFIO_DEVICE_STATE_STOP), -EBUSY);
		assert_int_equal(uvf_region_take_changes(rig->dev, 0), UVF_REGION_CHANGED_AREAS);
		assert_int_equal(areas_of(rig, 0), 1);
		uvf_region_unmap(rig->dev, 0, GOES, PAGE, goes);
		acknowledge(rig);
		assert_int_equal(result(rig), 0);
		assert_int_equal(uvf_migration_state(rig->dev), VFIO_DEVICE_STATE_PRE_COPY);
		assert_int_equal(go(rig, VFIO_DEVICE_STATE_RUNNING), 0);
		expect_event(rig->event);
		wait_for_areas(rig, 0, 3);
		assert_int_equal(uvf_region_take_changes(rig->dev, 0), UVF_REGION_CHANGED_AREAS);
		acknowledge(rig);
	}
}

static void test_acknowledges_but_has_it_mapped(void **state)
{
	struct rig *rig = *state;
	void *goes = map(rig, 0, GOES);

	follow_by_irq(rig);
	for (unsigned i = 0; i < 5; i++) {
		begin(rig);
		expect_event(rig->event);
		assert_int_equal(uvf_region_take_changes(rig->dev, 0), UVF_REGION_CHANGED_AREAS);
		acknowledge(rig);
		assert_int_equal(result(rig), -EBUSY);
		assert_int_equal(uvf_migration_state(rig->dev), VFIO_DEVICE_STATE_RUNNING);
		expect_event(rig->event);
		wait_for_areas(rig, 0, 3);
		assert_int_equal(uvf_region_take_changes(rig->dev, 0), UVF_REGION_CHANGED_AREAS);
		acknowledge(rig);
	}
	uvf_region_unmap(rig->dev, 0, GOES, PAGE, goes);
}

static void test_never_acknowledges(void **state)
{
	struct rig *rig = *state;
	void *goes = map(rig, 0, GOES);
	uint32_t value;

	follow_by_irq(rig);
	uvf_device_set_remap_timeout(rig->changing->dev, 300);
	for (unsigned i = 0; i < 2; i++) {
		begin(rig);
		expect_event(rig->event);
		assert_int_equal(uvf_region_read(rig->dev, 0, 0, &value, 4), 4);
		assert_int_equal(result(rig), -ETIMEDOUT);
		assert_int_equal(uvf_migration_state(rig->dev), VFIO_DEVICE_STATE_RUNNING);
		wait_for_areas(rig, 0, 3);
		uvf_region_take_changes(rig->dev, 0);
		acknowledge(rig);
	}
	uvf_region_unmap(rig->dev, 0, GOES, PAGE, goes);
	uvf_device_set_remap_timeout(rig->changing->dev, LONG_TIME_MS);
	until_pre_copy_is(rig, 0);
}

static void test_is_cancelled(void **state)
{
	struct rig *rig = *state;
	void *goes = map(rig, 0, GOES);

	follow_by_irq(rig);
	for (unsigned i = 0; i < 20; i++) {
		begin(rig);
		if (i & 1)
			expect_event(rig->event);
		assert_int_equal(go(rig, VFIO_DEVICE_STATE_RUNNING), 0);
		assert_int_equal(result(rig), -ECANCELED);
		assert_int_equal(uvf_migration_state(rig->dev), VFIO_DEVICE_STATE_RUNNING);
		wait_for_areas(rig, 0, 3);
		uvf_region_take_changes(rig->dev, 0);
		acknowledge(rig);
	}
	begin(rig);
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(result(rig), -ECANCELED);
	uvf_region_unmap(rig->dev, 0, GOES, PAGE, goes);
}

/* ---- A frontend that takes mappings away by itself ---- */

struct revoker {
	struct rig *rig;
	int result;
	bool later; /* on a thread of its own */
	pthread_t thread;
	uint64_t generation;
	unsigned asked;
};

static void *revoke_later(void *opaque)
{
	struct revoker *revoker = opaque;

	usleep(1000);
	uvf_region_revoked(revoker->rig->dev, 0, revoker->generation, revoker->result);
	return NULL;
}

static void areas_changed(void *opaque, uint32_t index, uint64_t generation)
{
	struct revoker *revoker = opaque;

	/* The last one counts. */
	if (revoker->later && revoker->asked)
		pthread_join(revoker->thread, NULL);
	revoker->asked++;
	revoker->generation = generation;
	if (revoker->later)
		assert_int_equal(pthread_create(&revoker->thread, NULL, revoke_later, revoker), 0);
	else
		uvf_region_revoked(revoker->rig->dev, index, generation, revoker->result);
}

static void revoked_ways(struct rig *rig, struct revoker *revoker, int expected)
{
	const struct uvf_revoker way_there = {areas_changed, revoker};

	uvf_device_set_revoker(rig->dev, &way_there);
	for (unsigned i = 0; i < 5; i++) {
		wait_for_areas(rig, 0, 3);
		assert_int_equal(go(rig, VFIO_DEVICE_STATE_PRE_COPY), expected);
		if (!expected)
			assert_int_equal(go(rig, VFIO_DEVICE_STATE_RUNNING), 0);
	}
	wait_for_areas(rig, 0, 3);
	uvf_device_close(rig->dev);
	if (revoker->later)
		pthread_join(revoker->thread, NULL);
	assert_true(revoker->asked >= 10);
	assert_int_equal(uvf_device_open(rig->dev), 0);
}

static void test_revoker(void **state)
{
	struct rig *rig = *state;
	struct revoker at_once = {.rig = rig}, later = {.rig = rig, .later = true};
	struct revoker failing = {.rig = rig, .result = -EIO};

	revoked_ways(rig, &at_once, 0);
	revoked_ways(rig, &later, 0);
	revoked_ways(rig, &failing, -EBUSY);
}

/* ---- Who leaves while it is waited for ---- */

static void test_closes(void **state)
{
	struct rig *rig = *state;

	for (unsigned i = 0; i < 10; i++) {
		void *goes;

		follow_by_irq(rig);
		wait_for_areas(rig, 0, 3);
		goes = map(rig, 0, GOES);
		begin(rig);
		if (i & 1)
			expect_event(rig->event);
		uvf_device_close(rig->dev);
		assert_int_equal(result(rig), -ECANCELED);
		uvf_region_unmap(rig->dev, 0, GOES, PAGE, goes);
		assert_int_equal(uvf_device_open(rig->dev), 0);
	}
	until_pre_copy_is(rig, 0);
}

static void test_is_freed(void **state)
{
	struct rig *rig = *state;

	follow_by_irq(rig);
	map(rig, 0, GOES);
	begin(rig);
	expect_event(rig->event);
	uvf_device_free(rig->clients[rig->depth - 1]);
	rig->clients[rig->depth - 1] = NULL;
	assert_int_equal(result(rig), -ECANCELED);
}

static void test_server_goes(void **state)
{
	struct rig *rig = *state;
	void *goes = map(rig, 0, GOES);
	int ret;

	follow_by_irq(rig);
	begin(rig);
	expect_event(rig->event);
	uvf_server_stop(rig->servers[rig->depth - 1]->server);
	ret = result(rig);
	assert_int_equal(ret, -ENOTCONN);
	uvf_region_unmap(rig->dev, 0, GOES, PAGE, goes);
}

/* ---- What the model changes by itself ---- */

static void test_model_changes(void **state)
{
	static const unsigned masks[] = {0, 1, 2, 3};
	struct rig *rig = *state;
	size_t fds = 0;

	for (unsigned i = 0; i < 200; i++) {
		unsigned mask = masks[i % 4];
		int ret = changing_set_areas(rig->changing, 0, mask);

		assert_true(ret == 0 || ret == -EINPROGRESS);
		wait_for_areas(rig, 0, mask);
		if (i == 8)
			fds = count_fds();
	}
	/* Equal lists are the same again. */
	assert_true(count_fds() <= fds);
}

static void test_model_takes_what_is_mapped(void **state)
{
	struct rig *rig = *state;
	void *stays = map(rig, 0, STAYS);

	follow_by_irq(rig);
	until_pre_copy_is(rig, 0);
	assert_int_equal(go(rig, VFIO_DEVICE_STATE_RUNNING), 0);
	wait_for_areas(rig, 0, 3);
	expect_event(rig->event);
	uvf_region_take_changes(rig->dev, 0);
	acknowledge(rig);
	assert_int_equal(changing_set_areas(rig->changing, 0, 0), -EINPROGRESS);
	wait_for_areas(rig, 0, 0);
	uvf_region_take_changes(rig->dev, 0);
	uvf_region_unmap(rig->dev, 0, STAYS, PAGE, stays);
	acknowledge(rig);
	while (atomic_load(&rig->changing->settled) < 2)
		usleep(1000);
	assert_int_equal(rig->changing->settled_result, 0);
}

/* ---- Many ---- */

static void test_many_regions(void **state)
{
	struct rig *rig = rig_new(100);
	void *rig_state = rig;
	void *goes[100];

	follow_by_irq(rig);
	for (uint32_t i = 0; i < 100; i++)
		goes[i] = map(rig, i, GOES);
	begin(rig);
	for (uint32_t left = 100; left;) {
		expect_event(rig->event);
		for (uint32_t i = 0; i < 100; i++) {
			if (!uvf_region_take_changes(rig->dev, i))
				continue;
			assert_int_equal(areas_of(rig, i), 1);
			uvf_region_unmap(rig->dev, i, GOES, PAGE, goes[i]);
			left--;
		}
		acknowledge(rig);
	}
	assert_int_equal(result(rig), 0);
	teardown(&rig_state);
}

/* ---- No write is missed ---- */

struct writer {
	struct rig *rig;
	_Atomic uint64_t *number; /* mapped; NULL: by calls */
	uint64_t last;
	atomic_bool stop;
	bool maps; /* it doesn't make calls alone */
	unsigned mapped;
};

/* Does what it is told of. */
static void writer_follows(struct writer *writer)
{
	struct rig *rig = writer->rig;
	struct pollfd ready = {rig->event, POLLIN, 0};
	void *address;
	uint64_t count;

	if (poll(&ready, 1, 0) != 1 || read(rig->event, &count, sizeof(count)) < 0)
		return;
	if (uvf_region_take_changes(rig->dev, 0)) {
		if (writer->number)
			uvf_region_unmap(rig->dev, 0, GOES, PAGE, (void *)writer->number);
		writer->number = NULL;
		if (!uvf_region_map(rig->dev, 0, GOES, PAGE, &address)) {
			writer->number = address;
			writer->mapped++;
		}
	}
	acknowledge(rig);
}

static void *writer_main(void *opaque)
{
	struct writer *writer = opaque;

	while (!atomic_load(&writer->stop)) {
		if (writer->maps)
			writer_follows(writer);
		writer->last++;
		if (writer->number)
			atomic_store(writer->number, writer->last);
		else
			assert_int_equal(
				uvf_region_write(writer->rig->dev, 0, GOES, &writer->last, 8), 8);
	}
	if (writer->number)
		uvf_region_unmap(writer->rig->dev, 0, GOES, PAGE, (void *)writer->number);
	return NULL;
}

static void hammer(struct rig *rig, bool maps)
{
	struct writer writer = {.rig = rig, .maps = maps};
	pthread_t thread;
	uint64_t number;

	if (maps) {
		follow_by_irq(rig);
		writer.number = map(rig, 0, GOES);
	}
	assert_int_equal(pthread_create(&thread, NULL, writer_main, &writer), 0);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(go(rig, VFIO_DEVICE_STATE_PRE_COPY), 0);
		if (i & 1)
			usleep(200);
		assert_int_equal(go(rig, VFIO_DEVICE_STATE_RUNNING), 0);
		if (i & 2)
			wait_for_areas(rig, 0, 3);
	}
	atomic_store(&writer.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(uvf_region_read(rig->dev, 0, GOES, &number, 8), 8);
	assert_int_equal(number, writer.last);
	assert_int_equal(rig->changing->wrong, 0);
	assert_true(rig->changing->calls > 0);
	assert_true(!maps || writer.mapped > 0);
}

static void test_no_write_is_missed_through_a_mapping(void **state)
{
	hammer(*state, true);
}

static void test_no_write_is_missed_by_calls(void **state)
{
	hammer(*state, false);
}

/* ---- A model that takes all that it gives ---- */

#define DOORBELLS PAGE /* in an NVMe controller's BAR */

static void test_nvme_doorbells(void **state)
{
	struct rig rig = {.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	struct uvf_region_info info;
	struct far far;
	void *doorbells;

	far_open(&far, "nvme,null=1M,poll=on,doorbells=trapped-while-saving", false);
	rig.dev = far.dev;
	assert_int_equal(uvf_device_open(rig.dev), 0);
	pthread_mutex_init(&rig.lock, NULL);
	pthread_cond_init(&rig.changed, NULL);
	follow_by_irq(&rig);
	for (unsigned i = 0; i < 10; i++) {
		do {
			uvf_region_get_info(rig.dev, 0, &info);
		} while (!info.area_count);
		doorbells = map(&rig, 0, DOORBELLS);
		begin(&rig);
		expect_event(rig.event);
		assert_int_equal(uvf_region_take_changes(rig.dev, 0), UVF_REGION_CHANGED_AREAS);
		assert_int_equal(uvf_region_get_info(rig.dev, 0, &info), 0);
		assert_int_equal(info.area_count, 0);
		uvf_region_unmap(rig.dev, 0, DOORBELLS, PAGE, doorbells);
		acknowledge(&rig);
		assert_int_equal(result(&rig), 0);
		assert_int_equal(go(&rig, VFIO_DEVICE_STATE_RUNNING), 0);
		expect_event(rig.event);
		uvf_region_take_changes(rig.dev, 0);
		acknowledge(&rig);
	}
	uvf_device_close(rig.dev);
	far_close(&far);
	close(rig.event);
}

static int run(const char *name, unsigned depth, bool no_twin)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_infos, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_mapped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_stays_is_mapped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_told_beforehand, setup, teardown),
		cmocka_unit_test_setup_teardown(test_others_that_cannot_follow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_follows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acknowledges_but_has_it_mapped, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_never_acknowledges, setup, teardown),
		cmocka_unit_test_setup_teardown(test_is_cancelled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_revoker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_is_freed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model_takes_what_is_mapped, setup, teardown),
		cmocka_unit_test(test_many_regions),
		cmocka_unit_test_setup_teardown(test_no_write_is_missed_through_a_mapping, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_no_write_is_missed_by_calls, setup, teardown),
	};

	way.name = name;
	way.depth = depth;
	way.no_twin = no_twin;
	return _cmocka_run_group_tests(name, tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_nvme_doorbells)};

	return cmocka_run_group_tests(tests, NULL, NULL) + run("one socket", 1, false) +
	       run("one socket for all", 1, true) + run("two sockets", 2, false);
}
