/* SPDX-License-Identifier: BSD-3-Clause */
/* Areas mapped: here, as memory for peers, and elsewhere as frontends tell. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "core/device.h"

static bool is_page_aligned(uint64_t value)
{
	return uvf_is_aligned(value, (uint64_t)sysconf(_SC_PAGESIZE));
}

/* ---- Claims ---- */

/* With the device's lock, by which the list stays current. */
static int claim(struct uvf_device *dev, const struct area_list *list, struct claim *claim)
{
	struct remap *remap = dev->remap;
	int ret;

	claim->list = list->number;
	pthread_mutex_lock(&remap->lock);
	ret = uvf_claim_add(&remap->claims, claim);
	if (remap->watch)
		remap->watch(dev);
	pthread_mutex_unlock(&remap->lock);
	return ret;
}

/*
 * The one that is in conflict, if several lists had the same range: who follows unmaps that first.
 * With `lock`.
 */
static bool find_claim(const struct remap *remap, const struct region_changes *changes,
		       struct claim *claim)
{
	const struct area_list *now = atomic_load_explicit(&changes->current, memory_order_relaxed);
	bool found = false;

	for (unsigned i = 0; i < UVF_AREA_LISTS; i++) {
		struct claim one = *claim;

		one.list = i;
		if (!uvf_claim_exists(&remap->claims, &one))
			continue;
		found = true;
		claim->list = i;
		if (!uvf_areas_keep(now, changes->lists.at[i], claim->offset, claim->size))
			break;
	}
	return found;
}

static bool unclaim(struct remap *remap, struct claim *claim)
{
	struct region *region;
	bool found = false;

	pthread_mutex_lock(&remap->lock);
	if (remap->dev) {
		region = uvf_device_region(remap->dev, claim->index);
		found = find_claim(remap, region->changes, claim) &&
			uvf_claim_remove(&remap->claims, claim);
	}
	pthread_mutex_unlock(&remap->lock);
	if (found)
		uvf_remap_poke(remap);
	return found;
}

int uvf_region_mapped_locked(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size,
			     enum uvf_mapped kind)
{
	const struct region *region = uvf_device_region(dev, index);
	struct claim new = {.index = index, .offset = offset, .size = size, .kind = kind};
	const struct area_list *list;

	if (!region || !size || !is_page_aligned(offset | size) ||
	    !uvf_range_inside(offset, size, region->description.size) ||
	    (kind != UVF_MAPPED_KNOWN && kind != UVF_MAPPED_UNKNOWN))
		return -EINVAL;
	list = uvf_region_areas(region);
	if (!atomic_load(&dev->open))
		return -ENODEV;
	if (!uvf_areas_keep(list, list, offset, size))
		return -EINVAL;
	return region->changes ? claim(dev, list, &new) : 0;
}

int uvf_region_mapped(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size,
		      enum uvf_mapped kind)
{
	int ret;

	uvf_device_lock(dev);
	ret = uvf_region_mapped_locked(dev, index, offset, size, kind);
	uvf_device_unlock(dev);
	return ret;
}

int uvf_region_unmapped(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size)
{
	const struct region *region = uvf_device_region(dev, index);
	struct claim old = {
		.index = index, .offset = offset, .size = size, .kind = UVF_MAPPED_KNOWN};

	if (!region)
		return -EINVAL;
	if (!region->changes)
		return 0;
	return unclaim(dev->remap, &old) ? 0 : -EINVAL;
}

/* ---- In this process ---- */

/*
 * Maps part of an area here. With the device's lock where areas change, so that what is mapped is
 * in the list that it is claimed in.
 */
static int map_here(const struct region *region, uint64_t offset, uint64_t size, void **addressp)
{
	uint32_t flags = region->description.flags;
	int prot = (flags & VFIO_REGION_INFO_FLAG_READ ? PROT_READ : 0) |
		   (flags & VFIO_REGION_INFO_FLAG_WRITE ? PROT_WRITE : 0);
	const struct uvf_area *area = uvf_area_find(uvf_region_areas(region), offset, size);
	void *address;

	if (!area)
		return -EINVAL;
	address = mmap(NULL, size, prot, MAP_SHARED, area->fd,
		       (off_t)(area->fd_offset + (offset - area->offset)));
	if (address == MAP_FAILED)
		return -errno;
	*addressp = address;
	return 0;
}

int uvf_region_map(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size,
		   void **addressp)
{
	const struct region *region = uvf_device_region(dev, index);
	struct claim new = {
		.index = index, .offset = offset, .size = size, .kind = UVF_MAPPED_KNOWN};
	int ret;

	if (!region || !size || !is_page_aligned(offset | size))
		return -EINVAL;
	if (!region->changes)
		return map_here(region, offset, size, addressp);
	uvf_device_lock(dev);
	ret = map_here(region, offset, size, addressp);
	if (!ret) {
		new.id = *addressp;
		ret = claim(dev, uvf_region_areas(region), &new);
		if (ret)
			munmap(*addressp, size);
	}
	uvf_device_unlock(dev);
	return ret;
}

void uvf_region_unmap(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size,
		      void *address)
{
	const struct region *region = uvf_device_region(dev, index);
	struct claim old = {.index = index,
			    .offset = offset,
			    .size = size,
			    .kind = UVF_MAPPED_KNOWN,
			    .id = address};

	munmap(address, size);
	if (region && region->changes)
		unclaim(dev->remap, &old);
}

/* ---- For peers ---- */

struct peer_memory {
	struct remap *remap; /* NULL: of a region whose areas never change */
	struct claim claim;
	void *address;
};

static void peer_memory_release(void *opaque)
{
	struct peer_memory *memory = opaque;

	munmap(memory->address, memory->claim.size);
	if (memory->remap) {
		unclaim(memory->remap, &memory->claim);
		uvf_remap_put(memory->remap);
	}
	free(memory);
}

/* With the device's lock where areas change. */
static int peer_memory_claim(struct uvf_device *dev, const struct region *region,
			     struct peer_memory *memory)
{
	int ret;

	if (!region->changes)
		return 0;
	memory->claim.id = memory;
	ret = claim(dev, uvf_region_areas(region), &memory->claim);
	if (ret)
		return ret;
	memory->remap = dev->remap;
	atomic_fetch_add(&memory->remap->references, 1);
	return 0;
}

int uvf_region_memory_new(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size,
			  struct uvf_memory **memoryp)
{
	const struct region *region = uvf_device_region(dev, index);
	struct peer_memory *memory;
	unsigned prot = 0;
	int ret;

	if (!region || !size || !is_page_aligned(offset | size))
		return -EINVAL;
	memory = calloc(1, sizeof(*memory));
	if (!memory)
		return -ENOMEM;
	memory->claim = (struct claim){
		.index = index, .offset = offset, .size = size, .kind = UVF_MAPPED_KNOWN};
	if (region->description.flags & VFIO_REGION_INFO_FLAG_READ)
		prot |= UVF_PROT_READ;
	if (region->description.flags & VFIO_REGION_INFO_FLAG_WRITE)
		prot |= UVF_PROT_WRITE;
	uvf_device_lock(dev);
	ret = map_here(region, offset, size, &memory->address);
	if (!ret) {
		ret = peer_memory_claim(dev, region, memory);
		if (ret)
			munmap(memory->address, size);
	}
	uvf_device_unlock(dev);
	if (ret) {
		free(memory);
		return ret;
	}
	ret = uvf_memory_new_owned(memory->address, size, prot, peer_memory_release, memory,
				   memoryp);
	if (ret)
		peer_memory_release(memory);
	return ret;
}
