/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Areas that change, without waiting for anybody: lists, accesses by call, mappings and what counts
 * as one, the IRQ and the regions that it lists.
 */
#include "remap_rig.h"

#include <sched.h>
#include <uvfio/dma.h>

/* ---- Lists ---- */

static void infos_follow_and_stay_valid(void **state)
{
	struct rig *rig = *state;
	struct uvf_region_info before, after;

	assert_int_equal(uvf_region_get_info(rig->dev, REGION, &before), 0);
	assert_true(before.areas_change);
	assert_true(before.flags & VFIO_REGION_INFO_FLAG_MMAP);
	assert_int_equal(before.area_count, 4);
	assert_int_equal(before.areas[1].flags, UVF_AREA_NOT_WHILE_SAVING);
	assert_int_equal(rig_set_areas(rig, 0), 0);
	assert_int_equal(uvf_region_get_info(rig->dev, REGION, &after), 0);
	assert_int_equal(after.area_count, 0);
	assert_int_equal(after.size, before.size);
	assert_false(after.flags & VFIO_REGION_INFO_FLAG_MMAP);
	/* What was handed out before is what it was. */
	assert_int_equal(before.areas[3].offset, 7 * PAGE);
	/* The same list again is the same memory. */
	assert_int_equal(rig_set_areas(rig, 15), 0);
	assert_int_equal(uvf_region_get_info(rig->dev, REGION, &after), 0);
	assert_ptr_equal(after.areas, before.areas);
}

static int set_areas(struct rig *rig, const struct uvf_area *areas, size_t count)
{
	int ret;

	uvf_device_lock(rig->dev);
	ret = uvf_region_set_areas(rig->dev, REGION, areas, count);
	uvf_device_unlock(rig->dev);
	return ret;
}

static void areas_that_are_wrong_change_nothing(void **state)
{
	struct rig *rig = *state;
	struct uvf_area areas[2] = {rig->areas[0], rig->areas[1]};

	areas[1].offset = areas[0].offset;
	assert_int_equal(set_areas(rig, areas, 2), -EINVAL);
	areas[1] = rig->areas[1];
	areas[1].offset = REGION_PAGES * PAGE;
	assert_int_equal(set_areas(rig, areas, 2), -EINVAL);
	areas[1].offset = UINT64_MAX & ~(uint64_t)(PAGE - 1);
	assert_int_equal(set_areas(rig, areas, 2), -EINVAL);
	areas[1] = rig->areas[1];
	areas[1].offset += 1;
	assert_int_equal(set_areas(rig, areas, 2), -EINVAL);
	areas[1] = rig->areas[1];
	areas[1].flags = 2;
	assert_int_equal(set_areas(rig, areas, 2), -EINVAL);
	areas[1] = rig->areas[1];
	areas[1].fd = -1;
	assert_int_equal(set_areas(rig, areas, 2), -EINVAL);
	/* A descriptor that can't be mapped. */
	areas[1].fd = 1000000;
	assert_int_equal(set_areas(rig, areas, 2), -EBADF);
	uvf_device_lock(rig->dev);
	assert_int_equal(uvf_region_set_areas(rig->dev, REGION + 1, NULL, 0), -EINVAL);
	assert_int_equal(uvf_region_set_areas(rig->dev, UINT32_MAX, NULL, 0), -EINVAL);
	uvf_device_unlock(rig->dev);
	assert_int_equal(rig_areas(rig), 15);
	assert_int_equal(uvf_region_take_changes(rig->dev, REGION), 0);
}

static void regions_that_do_not_change_are_left_alone(void **state)
{
	struct rig *rig = rig_new();
	struct uvf_region region = {.index = 9, .size = PAGE * REGION_PAGES};
	struct uvf_region_info info;

	rig_add_region(rig, 7, false);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	uvf_device_lock(rig->dev);
	assert_int_equal(uvf_region_set_areas(rig->dev, 7, NULL, 0), -EINVAL);
	uvf_device_unlock(rig->dev);
	assert_int_equal(uvf_region_get_info(rig->dev, 7, &info), 0);
	assert_false(info.areas_change);
	assert_int_equal(uvf_region_take_changes(rig->dev, 7), 0);
	/* Flags are for those that can change. */
	region.areas = rig->areas;
	region.area_count = 2;
	assert_int_equal(uvf_device_add_region(rig->dev, &region), -EINVAL);
	region.areas_change = true;
	assert_int_equal(uvf_device_add_region(rig->dev, &region), 0);
	rig_free(rig);
}

static void lists_are_bounded(void **state)
{
	struct rig *rig = *state;
	struct uvf_area area = rig->areas[0];
	unsigned lists = 2; /* all four, and what stays while saving */
	int ret;

	/* The page behind it differs. */
	for (unsigned i = 0; i < 2 * UVF_AREA_LISTS; i++) {
		area.fd_offset = rig->fd_offset + i % REGION_PAGES * PAGE;
		area.offset = i / REGION_PAGES % REGION_PAGES * PAGE;
		area.size = PAGE;
		ret = set_areas(rig, &area, 1);
		if (ret)
			break;
		lists++;
	}
	assert_int_equal(ret, -ENOSPC);
	assert_int_equal(lists, UVF_AREA_LISTS);
	assert_int_equal(rig_set_areas(rig, 15), 0);
	assert_int_equal(rig_areas(rig), 15);
}

/* ---- Accesses by call ---- */

static void what_is_no_area_is_the_models(void **state)
{
	struct rig *rig = *state;
	uint32_t value = 0x11223344;
	uint8_t bytes[4 * PAGE];

	assert_int_equal(uvf_region_write(rig->dev, REGION, 3 * PAGE, &value, 4), 4);
	assert_string_equal(rig_calls(rig), "");
	assert_memory_equal(rig->memory + 3 * PAGE, &value, 4);
	assert_int_equal(rig_set_areas(rig, 13), 0);
	value = 0x55667788;
	assert_int_equal(uvf_region_write(rig->dev, REGION, 3 * PAGE, &value, 4), 4);
	assert_int_equal(uvf_region_read(rig->dev, REGION, 3 * PAGE, &value, 4), 4);
	assert_string_equal(rig_calls(rig), "w0x3000+4 r0x3000+4 ");
	assert_int_equal(rig->memory[3 * PAGE], 0x44);
	/* Cut at the borders of what is there now. */
	assert_int_equal(uvf_region_read(rig->dev, REGION, PAGE - 4, bytes, 4 * PAGE), 4 * PAGE);
	assert_string_equal(rig_calls(rig), "r0xffc+4 r0x2000+12284 ");
	assert_int_equal(rig_set_areas(rig, 15), 0);
	assert_int_equal(uvf_region_read(rig->dev, REGION, 3 * PAGE, &value, 4), 4);
	assert_int_equal(value, 0x11223344);
	assert_string_equal(rig_calls(rig), "");
}

struct writer {
	struct rig *rig;
	_Atomic bool stop, failed;
	uint32_t last;
};

/* Writes rising numbers by calls. */
static void *write_on(void *opaque)
{
	struct writer *writer = opaque;

	while (!atomic_load(&writer->stop)) {
		uint32_t value = writer->last + 1;

		if (uvf_region_write(writer->rig->dev, REGION, 3 * PAGE, &value, 4) != 4)
			atomic_store(&writer->failed, true);
		writer->last = value;
	}
	return NULL;
}

/* When set_areas() has returned no access to what was an area is on its way. */
static void no_access_is_in_flight(void **state)
{
	struct rig *rig = *state;
	struct writer writer = {.rig = rig};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
	for (unsigned i = 0; i < 2000; i++) {
		uint32_t in_memory, again;

		uvf_device_lock(rig->dev);
		assert_int_equal(uvf_region_set_areas(rig->dev, REGION, rig->areas, 1), 0);
		memcpy(&in_memory, rig->memory + 3 * PAGE, 4);
		rig->calls[0] = '\0';
		uvf_device_unlock(rig->dev);
		for (unsigned n = 0; n < i % 8; n++)
			sched_yield();
		uvf_device_lock(rig->dev);
		memcpy(&again, rig->memory + 3 * PAGE, 4);
		assert_int_equal(again, in_memory);
		assert_int_equal(uvf_region_set_areas(rig->dev, REGION, rig->areas, 4), 0);
		uvf_device_unlock(rig->dev);
	}
	atomic_store(&writer.stop, true);
	pthread_join(thread, NULL);
	assert_false(writer.failed);
}

/* ---- Mappings ---- */

static void mappings_in_conflict_refuse_a_change(void **state)
{
	struct rig *rig = *state;
	void *one, *other;

	assert_int_equal(uvf_region_map(rig->dev, REGION, 3 * PAGE, PAGE, &one), 0);
	assert_int_equal(uvf_region_map(rig->dev, REGION, PAGE, PAGE, &other), 0);
	/* The driver can't follow. */
	assert_int_equal(rig_set_areas(rig, 13), -EBUSY);
	assert_int_equal(rig_areas(rig), 15);
	assert_int_equal(uvf_region_take_changes(rig->dev, REGION), 0);
	uvf_region_unmap(rig->dev, REGION, 3 * PAGE, PAGE, one);
	assert_int_equal(rig_set_areas(rig, 13), 0);
	assert_int_equal(uvf_region_map(rig->dev, REGION, 3 * PAGE, PAGE, &one), -EINVAL);
	uvf_region_unmap(rig->dev, REGION, PAGE, PAGE, other);
}

/* The same place in other memory is another place. */
static void a_mapping_of_other_memory_is_in_conflict(void **state)
{
	struct rig *rig = *state;
	struct uvf_area moved = rig->areas[1];
	void *old, *new;

	assert_int_equal(uvf_region_map(rig->dev, REGION, 3 * PAGE, PAGE, &old), 0);
	moved.fd_offset += PAGE;
	assert_int_equal(set_areas(rig, &moved, 1), -EBUSY);
	uvf_region_unmap(rig->dev, REGION, 3 * PAGE, PAGE, old);
	assert_int_equal(set_areas(rig, &moved, 1), 0);
	assert_int_equal(uvf_region_map(rig->dev, REGION, 3 * PAGE, PAGE, &new), 0);
	*(volatile uint8_t *)new = 77;
	assert_int_equal(rig->memory[4 * PAGE], 77);
	assert_int_equal(rig_set_areas(rig, 15), -EBUSY);
	uvf_region_unmap(rig->dev, REGION, 3 * PAGE, PAGE, new);
	assert_int_equal(rig_set_areas(rig, 15), 0);
}

/* A part of one area, and a range over two that lie side by side. */
static void mappings_count_by_range(void **state)
{
	struct rig *rig = *state;
	struct uvf_area side[2] = {rig->areas[0], rig->areas[0]};

	side[1].offset += PAGE;
	side[1].fd_offset += PAGE;
	assert_int_equal(set_areas(rig, side, 2), 0);
	assert_int_equal(uvf_region_mapped(rig->dev, REGION, PAGE, 2 * PAGE, UVF_MAPPED_KNOWN), 0);
	assert_int_equal(set_areas(rig, side, 1), -EBUSY);
	/* One area of the same memory is as good. */
	side[0].size = 2 * PAGE;
	assert_int_equal(set_areas(rig, side, 1), 0);
	assert_int_equal(uvf_region_unmapped(rig->dev, REGION, PAGE, PAGE), -EINVAL);
	assert_int_equal(uvf_region_unmapped(rig->dev, REGION, PAGE, 2 * PAGE), 0);
	assert_int_equal(uvf_region_unmapped(rig->dev, REGION, PAGE, 2 * PAGE), -EINVAL);
	assert_int_equal(set_areas(rig, side, 0), 0);
}

static void what_frontends_tell_is_checked(void **state)
{
	struct rig *rig = *state;
	struct uvf_device *dev = rig->dev;

	assert_int_equal(uvf_region_mapped(dev, REGION, 0, PAGE, UVF_MAPPED_KNOWN), -EINVAL);
	assert_int_equal(uvf_region_mapped(dev, REGION, PAGE, 2 * PAGE, UVF_MAPPED_KNOWN), -EINVAL);
	assert_int_equal(uvf_region_mapped(dev, REGION, PAGE, 0, UVF_MAPPED_KNOWN), -EINVAL);
	assert_int_equal(uvf_region_mapped(dev, REGION, PAGE, 1, UVF_MAPPED_KNOWN), -EINVAL);
	assert_int_equal(uvf_region_mapped(dev, REGION, PAGE + 1, PAGE, UVF_MAPPED_KNOWN), -EINVAL);
	assert_int_equal(
		uvf_region_mapped(dev, REGION, -(uint64_t)PAGE, 2 * PAGE, UVF_MAPPED_KNOWN),
		-EINVAL);
	assert_int_equal(uvf_region_mapped(dev, 4, PAGE, PAGE, UVF_MAPPED_KNOWN), -EINVAL);
	assert_int_equal(uvf_region_mapped(dev, REGION, PAGE, PAGE, (enum uvf_mapped)2), -EINVAL);
	assert_int_equal(uvf_region_unmapped(dev, 4, PAGE, PAGE), -EINVAL);
	assert_int_equal(uvf_region_unmapped(dev, REGION, PAGE, PAGE), -EINVAL);
	uvf_device_close(dev);
	assert_int_equal(uvf_region_mapped(dev, REGION, PAGE, PAGE, UVF_MAPPED_KNOWN), -ENODEV);
}

static void what_was_told_counts(void **state)
{
	struct rig *rig = *state;
	struct uvf_device *dev = rig->dev;

	/* Known: as often as it is told. */
	assert_int_equal(uvf_region_mapped(dev, REGION, 3 * PAGE, PAGE, UVF_MAPPED_KNOWN), 0);
	assert_int_equal(uvf_region_mapped(dev, REGION, 3 * PAGE, PAGE, UVF_MAPPED_KNOWN), 0);
	assert_int_equal(uvf_region_unmapped(dev, REGION, 3 * PAGE, PAGE), 0);
	assert_int_equal(rig_set_areas(rig, 13), -EBUSY);
	assert_int_equal(uvf_region_unmapped(dev, REGION, 3 * PAGE, PAGE), 0);
	assert_int_equal(rig_set_areas(rig, 13), 0);
	assert_int_equal(rig_set_areas(rig, 15), 0);
	/* Given out: until the device is closed, and not ended by what is known. */
	assert_int_equal(uvf_region_mapped(dev, REGION, 3 * PAGE, PAGE, UVF_MAPPED_UNKNOWN), 0);
	assert_int_equal(uvf_region_mapped(dev, REGION, 3 * PAGE, PAGE, UVF_MAPPED_UNKNOWN), 0);
	assert_int_equal(uvf_region_unmapped(dev, REGION, 3 * PAGE, PAGE), -EINVAL);
	assert_int_equal(rig_set_areas(rig, 13), -ENODEV);
	/* What is known is told first. */
	assert_int_equal(uvf_region_mapped(dev, REGION, 3 * PAGE, PAGE, UVF_MAPPED_KNOWN), 0);
	assert_int_equal(rig_set_areas(rig, 13), -EBUSY);
	uvf_device_close(dev);
	assert_int_equal(rig_set_areas(rig, 13), 0);
	assert_int_equal(rig_set_areas(rig, 15), 0);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(rig_set_areas(rig, 13), 0);
}

static void mappings_are_bounded(void **state)
{
	struct rig *rig = *state;
	struct uvf_device *dev = rig->dev;
	void *address;

	for (unsigned i = 0; i < UVF_MAPPINGS_MAX; i++)
		assert_int_equal(uvf_region_mapped(dev, REGION, PAGE, PAGE, UVF_MAPPED_KNOWN), 0);
	assert_int_equal(uvf_region_mapped(dev, REGION, 5 * PAGE, PAGE, UVF_MAPPED_KNOWN), -ENOSPC);
	assert_int_equal(uvf_region_mapped(dev, REGION, 5 * PAGE, PAGE, UVF_MAPPED_UNKNOWN),
			 -ENOSPC);
	assert_int_equal(uvf_region_map(dev, REGION, 5 * PAGE, PAGE, &address), -ENOSPC);
	assert_int_equal(uvf_region_unmapped(dev, REGION, PAGE, PAGE), 0);
	assert_int_equal(uvf_region_map(dev, REGION, 5 * PAGE, PAGE, &address), 0);
	uvf_region_unmap(dev, REGION, 5 * PAGE, PAGE, address);
	uvf_device_close(dev);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_region_mapped(dev, REGION, PAGE, PAGE, UVF_MAPPED_KNOWN), 0);
	assert_int_equal(uvf_region_unmapped(dev, REGION, PAGE, PAGE), 0);
}

/* What a driver in this process leaves behind is still mapped when the next one comes. */
static void own_mappings_outlive_their_owner(void **state)
{
	struct rig *rig = *state;
	void *address;

	assert_int_equal(uvf_region_map(rig->dev, REGION, 3 * PAGE, PAGE, &address), 0);
	uvf_device_close(rig->dev);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	assert_int_equal(rig_set_areas(rig, 13), -EBUSY);
	/* Not to be confused with a frontend's. */
	assert_int_equal(uvf_region_unmapped(rig->dev, REGION, 3 * PAGE, PAGE), -EINVAL);
	uvf_region_unmap(rig->dev, REGION, 3 * PAGE, PAGE, address);
	assert_int_equal(rig_set_areas(rig, 13), 0);
}

/* ---- Peers ---- */

static void a_peers_mapping_counts(void **state)
{
	struct rig *rig = *state;
	struct uvf_address_space *space;
	struct uvf_memory *memory;

	assert_int_equal(uvf_region_memory_new(rig->dev, REGION, 2 * PAGE, PAGE, &memory), -EINVAL);
	assert_int_equal(uvf_region_memory_new(rig->dev, REGION, 3 * PAGE, 0, &memory), -EINVAL);
	assert_int_equal(uvf_region_memory_new(rig->dev, 4, 3 * PAGE, PAGE, &memory), -EINVAL);
	assert_int_equal(uvf_region_memory_new(rig->dev, REGION, 3 * PAGE, PAGE, &memory), 0);
	assert_int_equal(uvf_address_space_new(NULL, &space), 0);
	assert_int_equal(uvf_map(space, 0x100000, PAGE, UVF_PROT_RW, memory, 0), 0);
	uvf_memory_put(memory);
	assert_int_equal(rig_set_areas(rig, 13), -EBUSY);
	assert_int_equal(uvf_unmap(space, 0x100000, PAGE, NULL), 0);
	assert_int_equal(rig_set_areas(rig, 13), 0);
	uvf_address_space_put(space);
}

static void a_peers_memory_is_the_areas(void **state)
{
	struct rig *rig = *state, *peer = rig_new();
	struct uvf_address_space *space;
	struct uvf_memory *memory;
	uint32_t value = 0xabcdef01;

	assert_int_equal(uvf_region_memory_new(rig->dev, REGION, 3 * PAGE, PAGE, &memory), 0);
	assert_int_equal(uvf_address_space_new(NULL, &space), 0);
	assert_int_equal(uvf_map(space, 0x100000, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_device_open(peer->dev), 0);
	assert_int_equal(uvf_device_attach(peer->dev, UVF_PASID_NONE, space), 0);
	uvf_device_set_bus_master(peer->dev, true);
	assert_int_equal(uvf_dma_write(peer->dev, UVF_PASID_NONE, 0x100010, &value, 4), 0);
	assert_memory_equal(rig->memory + 3 * PAGE + 0x10, &value, 4);
	rig_free(peer);
	/* It may be there longer than the device. */
	uvf_device_free(rig->dev);
	rig->dev = NULL;
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

static void memory_of_a_region_that_does_not_change(void **state)
{
	struct rig *rig = rig_new();
	struct uvf_memory *memory;

	rig_add_region(rig, 7, false);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	assert_int_equal(uvf_region_memory_new(rig->dev, 7, PAGE, PAGE, &memory), 0);
	uvf_memory_put(memory);
	assert_int_equal(uvf_region_mapped(rig->dev, 7, PAGE, PAGE, UVF_MAPPED_KNOWN), 0);
	assert_int_equal(uvf_region_mapped(rig->dev, 7, 0, PAGE, UVF_MAPPED_KNOWN), -EINVAL);
	assert_int_equal(uvf_region_unmapped(rig->dev, 7, PAGE, PAGE), 0);
	rig_free(rig);
}

/* ---- The IRQ ---- */

static void the_irq_is_made_with_the_region(void **state)
{
	struct rig *rig = *state;
	struct uvf_irq_info info;

	assert_int_equal(rig->irq, VFIO_PCI_NUM_IRQS);
	assert_int_equal(uvf_irq_get_info(rig->dev, rig->irq, &info), 0);
	assert_int_equal(info.count, 1);
	assert_int_equal(info.flags,
			 VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED);
	assert_int_equal(info.type, UVF_IRQ_TYPE_REMAP);
	assert_int_equal(info.subtype, UVF_IRQ_SUBTYPE_REMAP_REGION);
	assert_int_equal(info.region_count, 1);
	assert_int_equal(info.regions[0], REGION);
}

/* A model's own come before it; there is one for all regions, of any number and kind. */
static void the_irq_lists_all_regions(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct uvf_irq own = {.index = VFIO_PCI_NUM_IRQS, .count = 1, .type = 7};
	struct uvf_irq_info info;
	uint32_t expected = 0;

	rig->eventfd = rig->unmask = -1;
	assert_int_equal(uvf_device_new("rig", &rig_ops, 0, rig, &rig->dev), 0);
	assert_int_equal(uvf_remap_irq(rig->dev), -ENOENT);
	assert_int_equal(uvf_device_add_irq(rig->dev, &own), 0);
	rig_describe(rig);
	/* In no order, with one in between that doesn't change. */
	for (uint32_t i = 0; i < 200; i++)
		rig_add_region(rig, (i * 77) % 200, (i * 77) % 200 != 100);
	rig->irq = (uint32_t)uvf_remap_irq(rig->dev);
	assert_int_equal(rig->irq, VFIO_PCI_NUM_IRQS + 1);
	assert_int_equal(uvf_irq_get_info(rig->dev, VFIO_PCI_NUM_IRQS, &info), 0);
	assert_int_equal(info.region_count, 0);
	assert_int_equal(uvf_irq_get_info(rig->dev, rig->irq, &info), 0);
	assert_int_equal(info.region_count, 199);
	for (uint32_t i = 0; i < 200; i++)
		if (i != 100)
			assert_int_equal(info.regions[expected++], i);
	/* Each of them is told of. */
	assert_int_equal(uvf_device_open(rig->dev), 0);
	rig_follow(rig);
	uvf_device_lock(rig->dev);
	assert_int_equal(uvf_region_set_areas(rig->dev, 199, NULL, 0), 0);
	assert_int_equal(uvf_region_set_areas(rig->dev, 0, NULL, 0), 0);
	uvf_device_unlock(rig->dev);
	assert_true(rig_fired(rig));
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(uvf_region_take_changes(rig->dev, i),
				 i == 0 || i == 199 ? UVF_REGION_CHANGED_AREAS : 0);
	assert_int_equal(rig_unmask(rig), 0);
	assert_false(rig_fired(rig));
	rig_free(rig);
}

static int take_irqs(struct uvf_device *dev, const struct uvf_irq_set *set)
{
	return 0;
}

/* One whose interrupts are delivered elsewhere adds the IRQ itself. */
static void a_device_can_bring_its_own(void **state)
{
	static const struct uvf_device_ops elsewhere = {.set_irqs = take_irqs};
	struct rig *rig = calloc(1, sizeof(*rig));
	struct uvf_irq irq = {
		.index = 11,
		.count = 1,
		.flags = VFIO_IRQ_INFO_EVENTFD,
		.type = UVF_IRQ_TYPE_REMAP,
		.subtype = UVF_IRQ_SUBTYPE_REMAP_REGION,
	};
	struct uvf_irq_info info;

	rig->eventfd = rig->unmask = -1;
	assert_int_equal(uvf_device_new("rig", &elsewhere, 0, rig, &rig->dev), 0);
	rig_describe(rig);
	rig_add_region(rig, REGION, true);
	assert_int_equal(uvf_remap_irq(rig->dev), -ENOENT);
	assert_int_equal(uvf_device_add_irq(rig->dev, &irq), 0);
	assert_int_equal(uvf_remap_irq(rig->dev), 11);
	assert_int_equal(uvf_irq_get_info(rig->dev, 11, &info), 0);
	assert_int_equal(info.region_count, 1);
	irq.index = 12;
	assert_int_equal(uvf_device_add_irq(rig->dev, &irq), -EEXIST);
	rig_free(rig);
}

static void a_device_without_such_regions_has_none(void **state)
{
	struct uvf_device *dev;
	struct uvf_device_info info;

	assert_int_equal(uvf_device_new("plain", &rig_ops, 0, NULL, &dev), 0);
	assert_int_equal(uvf_remap_irq(dev), -ENOENT);
	uvf_device_get_info(dev, &info);
	assert_int_equal(info.irqs, 0);
	uvf_device_set_revoker(dev, NULL);
	uvf_region_revoked(dev, 0, 1, 0);
	uvf_device_free(dev);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(infos_follow_and_stay_valid),
		TEST(areas_that_are_wrong_change_nothing),
		cmocka_unit_test(regions_that_do_not_change_are_left_alone),
		TEST(lists_are_bounded),
		TEST(what_is_no_area_is_the_models),
		TEST(no_access_is_in_flight),
		TEST(mappings_in_conflict_refuse_a_change),
		TEST(a_mapping_of_other_memory_is_in_conflict),
		TEST(mappings_count_by_range),
		TEST(what_frontends_tell_is_checked),
		TEST(what_was_told_counts),
		TEST(mappings_are_bounded),
		TEST(own_mappings_outlive_their_owner),
		TEST(a_peers_mapping_counts),
		TEST(a_peers_memory_is_the_areas),
		cmocka_unit_test(memory_of_a_region_that_does_not_change),
		TEST(the_irq_is_made_with_the_region),
		cmocka_unit_test(the_irq_lists_all_regions),
		cmocka_unit_test(a_device_can_bring_its_own),
		cmocka_unit_test(a_device_without_such_regions_has_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
