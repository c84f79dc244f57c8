/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device whose regions' areas change, and a driver that follows by the IRQ: for tests. Each
 * region has pages of the device's memory; the odd areas go while state is saved.
 */
#ifndef REMAP_RIG_H
#define REMAP_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/migration.h>
#include <uvfio/remap.h>

#include "core/device.h"

#define PAGE	     0x1000u
#define REGION	     3
#define REGION_PAGES 8u

struct rig {
	struct uvf_device *dev;
	int fd;
	uint64_t fd_offset;
	uint8_t *memory;
	struct uvf_area areas[REGION_PAGES / 2];
	char calls[512]; /* of the model */
	uint8_t registers[REGION_PAGES * PAGE];
	int save_fails;
	/* The driver's. */
	int eventfd, unmask;
	uint32_t irq;
	/* uvf_migration_start_state() */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int done_count, done_result;
};

static inline void rig_note(struct rig *rig, const char *format, ...)
{
	size_t used = strlen(rig->calls);
	va_list args;

	va_start(args, format);
	vsnprintf(rig->calls + used, sizeof(rig->calls) - used, format, args);
	va_end(args);
}

static inline int rig_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
			   size_t count)
{
	struct rig *rig = uvf_device_opaque(dev);

	rig_note(rig, "r%#jx+%zu ", (uintmax_t)offset, count);
	memcpy(buf, rig->registers + offset, count);
	return 0;
}

static inline int rig_write(struct uvf_device *dev, uint32_t index, uint64_t offset,
			    const void *buf, size_t count)
{
	struct rig *rig = uvf_device_opaque(dev);

	rig_note(rig, "w%#jx+%zu ", (uintmax_t)offset, count);
	memcpy(rig->registers + offset, buf, count);
	return 0;
}

static inline int rig_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	return 0;
}

static inline void rig_settled(struct uvf_device *dev, uint32_t index, int result)
{
	rig_note(uvf_device_opaque(dev), "settled%u:%d ", index, result);
}

static inline void rig_return(struct uvf_device *dev, uint32_t index)
{
	rig_note(uvf_device_opaque(dev), "return%u ", index);
}

static const struct uvf_device_ops rig_ops = {
	.reset = rig_reset,
	.areas_settled = rig_settled,
	.areas_return = rig_return,
};

static inline int rig_save_early(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct rig *rig = uvf_device_opaque(dev);

	rig_note(rig, "early ");
	return rig->save_fails;
}

static const char *const rig_sections[] = {NULL};
static const struct uvf_migration_ops rig_migration = {
	.name = "rig",
	.major = 1,
	.sections = rig_sections,
	.save_early = rig_save_early,
};

/* Areas at pages 1, 3, 5, 7 of the region; those at 3 and 7 are not for while state is saved. */
static inline void rig_describe(struct rig *rig)
{
	void *address;

	assert_int_equal(uvf_device_region_memory(rig->dev, REGION, REGION_PAGES * PAGE, &rig->fd,
						  &rig->fd_offset, &address),
			 0);
	rig->memory = address;
	for (unsigned i = 0; i < REGION_PAGES / 2; i++)
		rig->areas[i] = (struct uvf_area){
			.offset = (2 * i + 1) * PAGE,
			.size = PAGE,
			.fd = rig->fd,
			.fd_offset = rig->fd_offset + (2 * i + 1) * PAGE,
			.flags = i & 1 ? UVF_AREA_NOT_WHILE_SAVING : 0,
		};
}

static inline void rig_add_region(struct rig *rig, uint32_t index, bool change)
{
	const struct uvf_region region = {
		.index = index,
		.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
		.size = REGION_PAGES * PAGE,
		.read = rig_read,
		.write = rig_write,
		.areas = rig->areas,
		/* The first is not flagged. */
		.area_count = change ? REGION_PAGES / 2 : 1,
		.areas_change = change,
	};

	assert_int_equal(uvf_device_add_region(rig->dev, &region), 0);
}

/* A device with one region that changes, closed. */
static inline struct rig *rig_new(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->eventfd = rig->unmask = -1;
	pthread_mutex_init(&rig->lock, NULL);
	pthread_cond_init(&rig->changed, NULL);
	assert_int_equal(uvf_device_new("rig", &rig_ops, 0, rig, &rig->dev), 0);
	rig_describe(rig);
	rig_add_region(rig, REGION, true);
	uvf_device_set_migration(rig->dev, &rig_migration);
	rig->irq = (uint32_t)uvf_remap_irq(rig->dev);
	return rig;
}

/* Ends a test: unless it did so, the device goes with its owner. */
static inline void rig_free(struct rig *rig)
{
	uvf_device_free(rig->dev);
	if (rig->eventfd >= 0)
		close(rig->eventfd);
	if (rig->unmask >= 0)
		close(rig->unmask);
	free(rig);
}

static inline int rig_setup(void **state)
{
	struct rig *rig = rig_new();

	assert_int_equal(uvf_device_open(rig->dev), 0);
	*state = rig;
	return 0;
}

static inline int rig_teardown(void **state)
{
	rig_free(*state);
	return 0;
}

/* ---- The model's side ---- */

/* Leaves those of the four areas whose bit is set. */
static inline int rig_set_areas(struct rig *rig, unsigned mask)
{
	struct uvf_area areas[REGION_PAGES / 2];
	size_t count = 0;
	int ret;

	for (unsigned i = 0; i < REGION_PAGES / 2; i++)
		if (mask >> i & 1)
			areas[count++] = rig->areas[i];
	uvf_device_lock(rig->dev);
	ret = uvf_region_set_areas(rig->dev, REGION, areas, count);
	uvf_device_unlock(rig->dev);
	return ret;
}

/* Which of the four are there. */
static inline unsigned rig_areas(struct rig *rig)
{
	struct uvf_region_info info;
	unsigned mask = 0;

	assert_int_equal(uvf_region_get_info(rig->dev, REGION, &info), 0);
	for (size_t i = 0; i < info.area_count; i++)
		mask |= 1u << (info.areas[i].offset / PAGE / 2);
	return mask;
}

/* What the model was called for since the last time. With the device's lock: another thread calls.
 */
static inline const char *rig_calls(struct rig *rig)
{
	static char calls[sizeof(rig->calls)];

	uvf_device_lock(rig->dev);
	strcpy(calls, rig->calls);
	rig->calls[0] = '\0';
	uvf_device_unlock(rig->dev);
	return calls;
}

/* ---- The driver's ---- */

static inline int rig_irq_set(struct rig *rig, uint32_t action, int fd)
{
	const struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | action,
		.index = rig->irq,
		.count = 1,
		.fds = &fd,
	};

	return uvf_irq_set(rig->dev, &set);
}

static inline void rig_follow(struct rig *rig)
{
	rig->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(rig->eventfd >= 0);
	assert_int_equal(rig_irq_set(rig, VFIO_IRQ_SET_ACTION_TRIGGER, rig->eventfd), 0);
}

static inline bool rig_fired(struct rig *rig)
{
	eventfd_t value;

	return !eventfd_read(rig->eventfd, &value);
}

static inline int rig_unmask(struct rig *rig)
{
	const struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = rig->irq,
		.count = 1,
	};

	return uvf_irq_set(rig->dev, &set);
}

/* ---- Transitions ---- */

static inline void rig_done(void *opaque, int result)
{
	struct rig *rig = opaque;

	pthread_mutex_lock(&rig->lock);
	rig->done_count++;
	rig->done_result = result;
	pthread_cond_broadcast(&rig->changed);
	pthread_mutex_unlock(&rig->lock);
}

static inline int rig_start(struct rig *rig, enum vfio_device_mig_state state)
{
	return uvf_migration_start_state(rig->dev, state, rig_done, rig);
}

/* The result of the transition that was started; another after this waits for the next. */
static inline int rig_wait(struct rig *rig)
{
	struct timespec until;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	pthread_mutex_lock(&rig->lock);
	while (!rig->done_count && !ret)
		ret = pthread_cond_timedwait(&rig->changed, &rig->lock, &until);
	assert_int_equal(ret, 0);
	rig->done_count--;
	ret = rig->done_result;
	pthread_mutex_unlock(&rig->lock);
	return ret;
}

#endif
