/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of the program that is a part of a device's region: DMA to it goes from device to device.
 * What is in an area is the area's file, all else an access to the region.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "core/core.h"
#include "frontends/uapi/program_memory.h"
#include "frontends/uapi/tracer.h"
#include "frontends/uapi/uapi.h"

/* A region as memory: offsets are the region's. The device is there as long as the run. */
struct region {
	struct uvf_device *dev;
	uint32_t index;
};

static int region_read(void *opaque, uint64_t offset, void *buf, size_t count)
{
	const struct region *region = opaque;

	return uvf_region_read_by_peer(region->dev, region->index, offset, buf, count);
}

static int region_write(void *opaque, uint64_t offset, const void *buf, size_t count)
{
	const struct region *region = opaque;

	return uvf_region_write_by_peer(region->dev, region->index, offset, buf, count);
}

static int new_region_memory(struct uvf_device *dev, uint32_t index, struct uvf_memory **memoryp)
{
	static const struct uvf_memory_remote_ops ops = {
		.read = region_read,
		.write = region_write,
		.release = free,
	};
	struct region *region = malloc(sizeof(*region));
	int error;

	if (!region)
		return -ENOMEM;
	*region = (struct region){dev, index};
	error = uvf_memory_new_remote(&ops, region, memoryp);
	if (error)
		free(region);
	return error;
}

const struct uvf_area *uapi_area_at(const struct uvf_region_info *info, uint64_t offset,
				    uint64_t *left)
{
	for (size_t i = 0; i < info->area_count; i++) {
		const struct uvf_area *area = &info->areas[i];

		if (offset < area->offset) {
			if (*left > area->offset - offset)
				*left = area->offset - offset;
			return NULL;
		}
		if (offset - area->offset < area->size) {
			if (*left > area->size - (offset - area->offset))
				*left = area->size - (offset - area->offset);
			return area;
		}
	}
	return NULL;
}

int uapi_program_region_part(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size,
			     struct uapi_part *part)
{
	struct uvf_region_info info;
	const struct uvf_area *area;

	*part = (struct uapi_part){.fd = -1, .size = size};
	if (uvf_region_get_info(dev, index, &info))
		return -EFAULT;
	area = info.areas_change ? NULL : uapi_area_at(&info, offset, &part->size);
	if (!area) {
		part->offset = offset;
		return new_region_memory(dev, index, &part->memory);
	}
	part->offset = area->fd_offset + (offset - area->offset);
	part->fd = fcntl(area->fd, F_DUPFD_CLOEXEC, 0);
	return part->fd < 0 ? -ENOMEM : 0;
}

int uapi_program_find_region(struct uvf_run *run, const struct uapi_vma *vma, uint64_t address,
			     uint64_t size, enum uapi_ioas_rules rules, struct uapi_part *part)
{
	struct uapi_device *device;
	uint64_t offset, left;
	uint32_t index;

	if (uapi_tracer_find(run, vma, address, &device, &index, &offset, &left))
		return -ENOENT;
	/* They are no pages: iommufd doesn't know how to pin them. */
	if (rules == UAPI_RULES_IOMMUFD)
		return -EFAULT;
	return uapi_program_region_part(device->dev, index, offset, left < size ? left : size,
					part);
}
