/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doorbells that are taken away while the controller's state is saved: a driver that rings as fast
 * as it can loses none, by each of the ways to follow; and one that follows badly does.
 */
#include "nvme_rig.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <uvfio/migration.h>
#include <uvfio/remap.h>

#define SPEC	 "nvme,null=1M,poll=on,doorbells=trapped-while-saving"
#define BAR	 VFIO_PCI_BAR0_REGION_INDEX
#define PAGE	 0x1000u
#define ROUNDS	 300
#define LIMIT_NS 20000000000ULL /* of a command: what takes longer was lost */

#define RUNNING	  VFIO_DEVICE_STATE_RUNNING
#define PRE_COPY  VFIO_DEVICE_STATE_PRE_COPY
#define STOP_COPY VFIO_DEVICE_STATE_STOP_COPY

struct driver {
	struct rig rig;
	uint32_t *doorbells; /* mapped, or NULL */
	int eventfd;	     /* of the remap IRQ; -1: told beforehand */
	/* Told beforehand: what is wanted, and what is. */
	atomic_bool may_map, has_mapped;
	atomic_bool stop, failed;
	atomic_ulong by_mapping, by_call;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void ring(struct driver *driver, uint32_t number, uint32_t value)
{
	value = htole32(value);
	if (driver->doorbells) {
		__atomic_store_n(&driver->doorbells[number], value, __ATOMIC_RELEASE);
		atomic_fetch_add(&driver->by_mapping, 1);
		return;
	}
	if (uvf_region_write(driver->rig.dev, BAR, NVME_REG_DOORBELLS + 4 * number, &value, 4) != 4)
		atomic_store(&driver->failed, true);
	atomic_fetch_add(&driver->by_call, 1);
}

/* One command at a time: no later ring can make up for one that was lost. */
static void do_command(struct driver *driver)
{
	const struct nvme_sqe flush = {.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)};
	struct rig_queue *queue = &driver->rig.queues[1];
	uint64_t end = now_ns() + LIMIT_NS;

	rig_put(&driver->rig, 1, &flush);
	ring(driver, 2, queue->sq_tail);
	while (!rig_ready(&driver->rig, 1)) {
		if (now_ns() > end) {
			atomic_store(&driver->failed, true);
			return;
		}
		sched_yield();
	}
	queue->cq_head = (queue->cq_head + 1) % queue->cq_size;
	if (!queue->cq_head)
		queue->phase ^= 1;
	ring(driver, 3, queue->cq_head);
}

static void map(struct driver *driver)
{
	void *address;

	if (!driver->doorbells &&
	    !uvf_region_map(driver->rig.dev, BAR, NVME_REG_DOORBELLS, PAGE, &address))
		driver->doorbells = address;
}

static void unmap(struct driver *driver)
{
	if (driver->doorbells)
		uvf_region_unmap(driver->rig.dev, BAR, NVME_REG_DOORBELLS, PAGE, driver->doorbells);
	driver->doorbells = NULL;
}

static void set_irq(struct driver *driver, uint32_t flags, const int *fd)
{
	const struct uvf_irq_set set = {
		.flags = flags,
		.index = (uint32_t)uvf_remap_irq(driver->rig.dev),
		.count = 1,
		.fds = fd,
	};

	if (uvf_irq_set(driver->rig.dev, &set))
		atomic_store(&driver->failed, true);
}

/* Steps (b) to (d) of the protocol. */
static void follow(struct driver *driver)
{
	struct uvf_region_info info;
	eventfd_t value;

	if (eventfd_read(driver->eventfd, &value))
		return;
	if (uvf_region_take_changes(driver->rig.dev, BAR) & UVF_REGION_CHANGED_AREAS) {
		uvf_region_get_info(driver->rig.dev, BAR, &info);
		if (!info.area_count)
			unmap(driver);
		else
			map(driver);
	}
	set_irq(driver, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, NULL);
}

/* Does as who asks for PRE_COPY wants it. */
static void prepare(struct driver *driver)
{
	bool may_map = atomic_load(&driver->may_map);

	if (may_map)
		map(driver);
	else
		unmap(driver);
	atomic_store(&driver->has_mapped, may_map);
}

static void *drive(void *opaque)
{
	struct driver *driver = opaque;

	for (unsigned i = 0; !atomic_load(&driver->stop) && !atomic_load(&driver->failed); i++) {
		/* In no hurry: what it rings until then counts. */
		if (driver->eventfd >= 0 && i % 16 == 0)
			follow(driver);
		else if (driver->eventfd < 0)
			prepare(driver);
		do_command(driver);
	}
	unmap(driver);
	return NULL;
}

static void nothing(void *opaque, int result)
{
}

static void driver_start(struct driver *driver, bool follows)
{
	memset(driver, 0, sizeof(*driver));
	driver->eventfd = -1;
	rig_start(&driver->rig, SPEC);
	uvf_device_set_remap_timeout(driver->rig.dev, 60000);
	if (!follows)
		return;
	driver->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	set_irq(driver, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, &driver->eventfd);
	map(driver);
	assert_non_null(driver->doorbells);
}

static void driver_end(struct driver *driver)
{
	rig_close(&driver->rig);
	if (driver->eventfd >= 0)
		close(driver->eventfd);
}

static void wait_for(const struct driver *driver, const atomic_ulong *counter)
{
	unsigned long before = atomic_load(counter);

	while (!atomic_load(&driver->failed) && atomic_load(counter) < before + 3)
		sched_yield();
}

static void none_is_lost_by_who_follows(void **state)
{
	struct driver driver;
	pthread_t thread;

	driver_start(&driver, true);
	assert_int_equal(pthread_create(&thread, NULL, drive, &driver), 0);
	for (unsigned i = 0; i < ROUNDS && !atomic_load(&driver.failed); i++) {
		assert_int_equal(uvf_migration_set_state(driver.rig.dev, PRE_COPY), 0);
		if (i % 4 == 0)
			wait_for(&driver, &driver.by_call);
		/* And all the way: what is away stays so. */
		if (i % 16 == 0)
			assert_int_equal(uvf_migration_set_state(driver.rig.dev, STOP_COPY), 0);
		assert_int_equal(uvf_migration_set_state(driver.rig.dev, RUNNING), 0);
		if (i % 4 == 1)
			wait_for(&driver, &driver.by_mapping);
	}
	atomic_store(&driver.stop, true);
	pthread_join(thread, NULL);
	assert_false(driver.failed);
	driver_end(&driver);
}

/* Asks the driver for @mapped, and waits until it is so. */
static void tell(struct driver *driver, bool mapped)
{
	atomic_store(&driver->may_map, mapped);
	while (!atomic_load(&driver->failed) && atomic_load(&driver->has_mapped) != mapped)
		sched_yield();
}

static void none_is_lost_by_who_is_told_beforehand(void **state)
{
	struct driver driver;
	pthread_t thread;

	driver_start(&driver, false);
	assert_int_equal(pthread_create(&thread, NULL, drive, &driver), 0);
	for (unsigned i = 0; i < ROUNDS && !atomic_load(&driver.failed); i++) {
		tell(&driver, true);
		if (i % 4 == 0)
			wait_for(&driver, &driver.by_mapping);
		assert_int_equal(uvf_migration_set_state(driver.rig.dev, PRE_COPY), -EBUSY);
		tell(&driver, false);
		assert_int_equal(uvf_migration_set_state(driver.rig.dev, PRE_COPY), 0);
		if (i % 4 == 1)
			wait_for(&driver, &driver.by_call);
		assert_int_equal(uvf_migration_set_state(driver.rig.dev, RUNNING), 0);
	}
	atomic_store(&driver.stop, true);
	pthread_join(thread, NULL);
	assert_false(driver.failed);
	driver_end(&driver);
}

/* Whether the controller has seen what was rung: its poller goes round for other commands. */
static bool is_done(struct driver *driver)
{
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(rig_admin(&driver->rig, NVME_ADM_GET_FEATURES, 0, 1, 0), 0);
	return rig_ready(&driver->rig, 1);
}

/* Who says that it follows and doesn't: its stores are seen no more. */
static void a_bad_follower_loses_its_own(void **state)
{
	const struct nvme_sqe flush = {.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)};
	struct uvf_region_info info;
	struct driver driver;
	uint32_t *kept;

	driver_start(&driver, true);
	unmap(&driver);
	assert_int_equal(uvf_region_get_info(driver.rig.dev, BAR, &info), 0);
	kept = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, info.areas[0].fd,
		    (off_t)info.areas[0].fd_offset);
	assert_ptr_not_equal(kept, MAP_FAILED);
	assert_int_equal(uvf_region_mapped(driver.rig.dev, BAR, NVME_REG_DOORBELLS, PAGE,
					   UVF_MAPPED_UNKNOWN),
			 0);
	assert_int_equal(uvf_migration_start_state(driver.rig.dev, PRE_COPY, nothing, NULL),
			 -EINPROGRESS);
	/* Before it acknowledges its stores count. */
	rig_put(&driver.rig, 1, &flush);
	__atomic_store_n(&kept[2], htole32(driver.rig.queues[1].sq_tail), __ATOMIC_RELEASE);
	assert_true(is_done(&driver));
	follow(&driver);
	while (uvf_migration_state(driver.rig.dev) != PRE_COPY)
		sched_yield();
	rig_put(&driver.rig, 1, &flush);
	__atomic_store_n(&kept[2], htole32(driver.rig.queues[1].sq_tail), __ATOMIC_RELEASE);
	driver.rig.queues[1].cq_head++;
	assert_false(is_done(&driver));
	rig_write32(&driver.rig, NVME_REG_DOORBELLS + 8, driver.rig.queues[1].sq_tail);
	assert_true(is_done(&driver));
	munmap(kept, PAGE);
	driver_end(&driver);
}

static uint32_t in_memory(const uint8_t *bar, unsigned number)
{
	const void *at = bar + NVME_REG_DOORBELLS + 4 * number;

	return le32toh(__atomic_load_n((const uint32_t *)at, __ATOMIC_ACQUIRE));
}

/* The last values of both arrays are in what is looked at next. */
static void values_go_with_it(void **state)
{
	struct driver driver;
	uint8_t *bar;

	driver_start(&driver, false);
	map(&driver);
	do_command(&driver);
	do_command(&driver);
	bar = uvf_pci_bar_memory(driver.rig.dev, BAR);
	assert_int_equal(in_memory(bar, 2), 2);
	unmap(&driver);
	assert_int_equal(uvf_migration_set_state(driver.rig.dev, PRE_COPY), 0);
	do_command(&driver);
	assert_int_equal(in_memory(bar, 2), 2);
	assert_int_equal(uvf_migration_set_state(driver.rig.dev, RUNNING), 0);
	assert_int_equal(in_memory(bar, 2), 3);
	assert_int_equal(in_memory(bar, 3), 3);
	map(&driver);
	do_command(&driver);
	assert_false(driver.failed);
	unmap(&driver);
	/* A queue that is made meanwhile begins at nothing, in both. */
	assert_int_equal(uvf_migration_set_state(driver.rig.dev, PRE_COPY), 0);
	rig_disable(&driver.rig);
	rig_enable(&driver.rig);
	rig_create_queue(&driver.rig, 1);
	assert_int_equal(uvf_migration_set_state(driver.rig.dev, RUNNING), 0);
	assert_int_equal(in_memory(bar, 2), 0);
	do_command(&driver);
	/* A reset in PRE_COPY too. */
	assert_int_equal(uvf_migration_set_state(driver.rig.dev, PRE_COPY), 0);
	assert_int_equal(uvf_device_reset(driver.rig.dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(uvf_migration_state(driver.rig.dev), RUNNING);
	assert_int_equal(in_memory(bar, 2), 0);
	map(&driver);
	assert_non_null(driver.doorbells);
	unmap(&driver);
	assert_false(driver.failed);
	driver_end(&driver);
}

static void only_where_they_are_mapped(void **state)
{
	struct uvf_error error = {0};
	struct uvf_device *dev;

	assert_int_equal(
		uvf_model_create("nvme,null=1M,doorbells=trapped-while-saving", &dev, &error),
		-EINVAL);
	assert_non_null(strstr(error.text, "poll=on"));
	assert_int_equal(uvf_model_create("nvme,null=1M,poll=on", &dev, &error), 0);
	assert_int_equal(uvf_remap_irq(dev), -ENOENT);
	uvf_device_free(dev);
	assert_int_equal(uvf_model_create(SPEC, &dev, &error), 0);
	assert_int_equal(uvf_remap_irq(dev), VFIO_PCI_NUM_IRQS);
	uvf_device_free(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_is_lost_by_who_follows),
		cmocka_unit_test(none_is_lost_by_who_is_told_beforehand),
		cmocka_unit_test(a_bad_follower_loses_its_own),
		cmocka_unit_test(values_go_with_it),
		cmocka_unit_test(only_where_they_are_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
