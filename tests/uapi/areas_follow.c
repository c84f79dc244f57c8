/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Programs that follow areas that change, by either way of uvfio/remap.h: where the frontend could
 * do it for them (device 0), and where it can't (device 1). Each function is one.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <uvfio/migration.h>
#include <uvfio/remap.h>

#include "areas_world.h"

static int device;

static volatile uint64_t *map_doorbells(void)
{
	return (volatile uint64_t *)(void *)map_bar(device, DOORBELLS, PAGE);
}

static void await_completion(unsigned slot, uint64_t value)
{
	unsigned i;

	for (i = 0; read_register(device, COMPLETIONS + 8 * slot) != value && i < 10000; i++)
		usleep(100);
	CHECK(i < 10000);
}

/* ---- Infos ---- */

static const void *find_capability(const void *info, uint32_t offset, uint16_t id)
{
	while (offset) {
		const struct vfio_info_cap_header *header =
			(const void *)((const char *)info + offset);

		if (header->id == id)
			return header;
		offset = header->next;
	}
	return NULL;
}

static const void *region_capability(uint32_t index, uint16_t id)
{
	static _Alignas(8) char buffer[4096];
	struct vfio_region_info *info = (void *)buffer;

	*info = (struct vfio_region_info){.argsz = sizeof(buffer), .index = index};
	CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, info) == 0);
	return info->flags & VFIO_REGION_INFO_FLAG_CAPS
		       ? find_capability(info, info->cap_offset, id)
		       : NULL;
}

static uint32_t take_changes(void)
{
	const struct uvf_region_info_cap_changes *changes =
		region_capability(0, UVF_REGION_INFO_CAP_CHANGES);

	CHECK(changes);
	return changes->flags;
}

/* ---- Told beforehand ---- */

static void follow_beforehand(void)
{
	const struct vfio_region_info_cap_sparse_mmap *list =
		region_capability(0, UVF_REGION_INFO_CAP_SAVING_AREAS);
	volatile uint64_t *doorbells = map_doorbells();

	CHECK(list && list->nr_areas == 1);
	CHECK(list->areas[0].offset == COMPLETIONS && list->areas[0].size == PAGE);
	for (uint64_t i = 1; i < 100;) {
		doorbells[0] = i++;
		CHECK(munmap((void *)doorbells, PAGE) == 0);
		CHECK(set_state(device, VFIO_DEVICE_STATE_PRE_COPY) == 0);
		write_register(device, DOORBELLS, i);
		await_completion(0, i++);
		CHECK(set_state(device, VFIO_DEVICE_STATE_RUNNING) == 0);
		doorbells = map_doorbells();
		doorbells[0] = i;
		await_completion(0, i++);
	}
}

static void beforehand(void)
{
	device = open_device(0);
	follow_beforehand();
}

/* Where nothing traps, who doesn't follow is found out. */
static void beforehand_untrapped(void)
{
	volatile uint64_t *doorbells;

	device = open_device(1);
	doorbells = map_doorbells();
	CHECK(set_state(device, VFIO_DEVICE_STATE_PRE_COPY) < 0);
	CHECK(get_state(device) == VFIO_DEVICE_STATE_RUNNING);
	CHECK(munmap((void *)doorbells, PAGE) == 0);
}

static void beforehand_found(void)
{
	volatile uint64_t *doorbells;

	device = open_device(1);
	doorbells = map_doorbells();
	CHECK(set_state(device, VFIO_DEVICE_STATE_PRE_COPY) == -EBUSY);
	CHECK(get_state(device) == VFIO_DEVICE_STATE_RUNNING);
	CHECK(munmap((void *)doorbells, PAGE) == 0);
	follow_beforehand();
}

/* ---- Told at run time ---- */

struct follower {
	uint32_t irq;
	int eventfd;
	volatile uint64_t *doorbells; /* NULL: not mapped */
	unsigned fired;
	bool stubborn; /* says that it has unmapped, and hasn't */
	pthread_t thread;
};

static bool find_irq(struct follower *follower)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};

	CHECK(ioctl(device, VFIO_DEVICE_GET_INFO, &info) == 0);
	for (uint32_t i = VFIO_PCI_NUM_IRQS; i < info.num_irqs; i++) {
		_Alignas(8) char buffer[256];
		struct uvf_irq_info_chain *chain = (void *)buffer;
		const struct vfio_region_info_cap_type *type;
		const struct uvf_irq_info_cap_regions *regions;

		chain->info = (struct vfio_irq_info){.argsz = sizeof(buffer), .index = i};
		CHECK(ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, chain) == 0);
		if (!(chain->info.flags & UVF_IRQ_INFO_FLAG_CAPS))
			continue;
		type = find_capability(chain, chain->cap_offset, UVF_IRQ_INFO_CAP_TYPE);
		regions = find_capability(chain, chain->cap_offset, UVF_IRQ_INFO_CAP_REGIONS);
		if (!type || type->type != UVF_IRQ_TYPE_REMAP ||
		    type->subtype != UVF_IRQ_SUBTYPE_REMAP_REGION)
			continue;
		CHECK(chain->info.count == 1 && chain->info.flags & VFIO_IRQ_INFO_AUTOMASKED);
		CHECK(regions && regions->count == 1 && regions->regions[0] == 0);
		follower->irq = i;
		return true;
	}
	return false;
}

static void set_irq(struct follower *follower, uint32_t flags, int fd)
{
	_Alignas(8) char buffer[sizeof(struct vfio_irq_set) + 4];
	struct vfio_irq_set *set = (void *)buffer;

	*set = (struct vfio_irq_set){
		.argsz = sizeof(buffer), .flags = flags, .index = follower->irq, .count = 1};
	memcpy(set->data, &fd, 4);
	CHECK(ioctl(device, VFIO_DEVICE_SET_IRQS, set) == 0);
}

static void *follow(void *opaque)
{
	struct follower *follower = opaque;
	uint64_t counter;

	while (read(follower->eventfd, &counter, 8) == 8 && counter < 1000) {
		const struct vfio_region_info_cap_sparse_mmap *list;
		uint32_t changes = take_changes();
		bool there = false;

		if (changes & UVF_REGION_CHANGED_AREAS) {
			list = region_capability(0, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
			CHECK(list);
			for (uint32_t i = 0; i < list->nr_areas; i++)
				there |= list->areas[i].offset == DOORBELLS;
			if (there && !follower->doorbells)
				follower->doorbells = map_doorbells();
			if (!there && follower->doorbells && !follower->stubborn) {
				CHECK(munmap((void *)follower->doorbells, PAGE) == 0);
				follower->doorbells = NULL;
			}
			__atomic_add_fetch(&follower->fired, 1, __ATOMIC_SEQ_CST);
		}
		set_irq(follower, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 0);
	}
	return NULL;
}

static void begin_to_follow(struct follower *follower)
{
	memset(follower, 0, sizeof(*follower));
	CHECK(find_irq(follower));
	follower->eventfd = eventfd(0, 0);
	CHECK(follower->eventfd >= 0);
	set_irq(follower, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		follower->eventfd);
	follower->doorbells = map_doorbells();
	CHECK(pthread_create(&follower->thread, NULL, follow, follower) == 0);
}

static void end_following(struct follower *follower)
{
	uint64_t last = 1000;

	CHECK(write(follower->eventfd, &last, 8) == 8);
	CHECK(pthread_join(follower->thread, NULL) == 0);
}

static void await_fired(struct follower *follower, unsigned count)
{
	for (unsigned i = 0; __atomic_load_n(&follower->fired, __ATOMIC_SEQ_CST) < count; i++) {
		CHECK(i < 100000);
		usleep(100);
	}
}

static void at_run_time_of(unsigned number)
{
	struct follower follower;

	device = open_device(number);
	begin_to_follow(&follower);
	for (unsigned i = 1; i < 50; i += 2) {
		CHECK(set_state(device, VFIO_DEVICE_STATE_PRE_COPY) == 0);
		await_fired(&follower, i);
		write_register(device, DOORBELLS, i);
		await_completion(0, i);
		CHECK(set_state(device, VFIO_DEVICE_STATE_RUNNING) == 0);
		await_fired(&follower, i + 1);
	}
	end_following(&follower);
}

static void at_run_time(void)
{
	at_run_time_of(0);
}

static void at_run_time_untrapped(void)
{
	at_run_time_of(1);
}

/* One that says that it has followed. */
static void stubborn(void)
{
	struct follower follower;

	device = open_device(1);
	begin_to_follow(&follower);
	follower.stubborn = true;
	CHECK(set_state(device, VFIO_DEVICE_STATE_PRE_COPY) < 0);
	CHECK(get_state(device) == VFIO_DEVICE_STATE_RUNNING);
	end_following(&follower);
}

/* One that never acknowledges: meanwhile the device can be used, then it is over. */
static void *use_device(void *opaque)
{
	uint64_t *value = opaque;

	usleep(100000);
	CHECK(get_state(device) == VFIO_DEVICE_STATE_RUNNING);
	write_register(device, DOORBELLS, 5);
	await_completion(0, 5);
	*value = 1;
	return NULL;
}

static void silent(void)
{
	struct follower follower = {0};
	uint64_t used = 0;
	pthread_t thread;

	device = open_device(1);
	CHECK(find_irq(&follower));
	follower.eventfd = eventfd(0, 0);
	set_irq(&follower, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		follower.eventfd);
	follower.doorbells = map_doorbells();
	CHECK(pthread_create(&thread, NULL, use_device, &used) == 0);
	CHECK(set_state(device, VFIO_DEVICE_STATE_PRE_COPY) == -ETIMEDOUT);
	CHECK(pthread_join(thread, NULL) == 0 && used);
	CHECK(get_state(device) == VFIO_DEVICE_STATE_RUNNING);
	CHECK(take_changes() == UVF_REGION_CHANGED_AREAS);
	CHECK(take_changes() == 0);
}

const struct areas_case areas_follow_cases[] = {
	{"beforehand", beforehand, 0, false},
	{"beforehand_untrapped", beforehand_untrapped, 0, false},
	{"beforehand_found", beforehand_found, 0, true},
	{"at_run_time", at_run_time, 0, false},
	{"at_run_time_untrapped", at_run_time_untrapped, 0, false},
	{"stubborn", stubborn, 0, true},
	{"silent", silent, 0, false},
	{NULL, NULL, 0, false},
};
