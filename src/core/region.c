/* SPDX-License-Identifier: BSD-3-Clause */
/* Regions: their description, access to them, and the shared memory behind their areas. */
#include "base/bytes.h"
#include "core/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct region *uvf_device_region(const struct uvf_device *dev, uint32_t index)
{
	return index < dev->region_count ? dev->regions[index] : NULL;
}

/* ---- Memory ---- */

int uvf_device_region_memory(struct uvf_device *dev, uint32_t index, uint64_t size, int *fdp,
			     uint64_t *fd_offsetp, void **addressp)
{
	uint64_t offset = (uint64_t)index << UVF_REGION_SHIFT;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct region_memory *memories;
	void *address;

	if (index >= UVF_MAX_REGIONS || !size || size > 1ULL << UVF_REGION_SHIFT)
		return -EINVAL;
	size = uvf_align_up(size, page);
	if (dev->memory_fd < 0) {
		dev->memory_fd = memfd_create("uvfio-regions", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (dev->memory_fd < 0)
			return -errno;
	}
	if (offset + size > dev->memory_size) {
		if (ftruncate(dev->memory_fd, (off_t)(offset + size)))
			return -errno;
		dev->memory_size = offset + size;
	}
	memories = reallocarray(dev->memories, dev->memory_count + 1, sizeof(*memories));
	if (!memories)
		return -ENOMEM;
	dev->memories = memories;
	address =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, dev->memory_fd, (off_t)offset);
	if (address == MAP_FAILED)
		return -errno;
	memories[dev->memory_count++] = (struct region_memory){index, size, address};
	*fdp = dev->memory_fd;
	*fd_offsetp = offset;
	*addressp = address;
	return 0;
}

/* A driver gets this file: it must not be able to take pages away from under us. */
int uvf_device_seal_memory(struct uvf_device *dev)
{
	if (dev->memory_fd < 0 || dev->memory_sealed)
		return 0;
	if (fcntl(dev->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	dev->memory_sealed = true;
	return 0;
}

/* ---- Description ---- */

static bool io_fds_are_valid(const struct uvf_region *description)
{
	for (size_t i = 0; i < description->io_fd_count; i++) {
		const struct uvf_io_fd *io_fd = &description->io_fds[i];

		if (!io_fd->size ||
		    !uvf_range_inside(io_fd->offset, io_fd->size, description->size))
			return false;
	}
	return true;
}

static void region_free(struct region *region)
{
	if (region->changes)
		uvf_area_lists_free(&region->changes->lists);
	free(region->changes);
	uvf_area_list_destroy(&region->areas);
	free(region->io_fds);
	free(region);
}

static int add_areas(struct region *region, const struct uvf_region *description)
{
	struct area_list *list;
	int ret;

	if (!description->areas_change)
		return uvf_area_list_init(&region->areas, description->areas,
					  description->area_count, description->flags);
	region->changes = calloc(1, sizeof(*region->changes));
	if (!region->changes)
		return -ENOMEM;
	ret = uvf_area_lists_get(&region->changes->lists, description->areas,
				 description->area_count, description->flags, &list);
	if (ret)
		return ret;
	region->changes->wanted = list;
	region->changes->possible = 1ULL << list->number;
	atomic_init(&region->changes->current, list);
	return 0;
}

static int region_new(const struct uvf_region *description, struct region **regionp)
{
	struct region *region = calloc(1, sizeof(*region));
	int ret;

	if (!region)
		return -ENOMEM;
	region->description = *description;
	region->description.areas = NULL; /* they are in lists */
	region->io_fds = calloc(description->io_fd_count + 1, sizeof(*region->io_fds));
	region->description.io_fds = region->io_fds;
	ret = region->io_fds ? add_areas(region, description) : -ENOMEM;
	if (ret) {
		region_free(region);
		return ret;
	}
	if (description->io_fd_count)
		memcpy(region->io_fds, description->io_fds,
		       description->io_fd_count * sizeof(*region->io_fds));
	*regionp = region;
	return 0;
}

int uvf_device_add_region(struct uvf_device *dev, const struct uvf_region *description)
{
	struct region **regions;
	struct region *region;
	int ret;

	if (description->index >= UVF_MAX_REGIONS || !io_fds_are_valid(description) ||
	    !uvf_areas_are_valid(description->areas, description->area_count, description->size,
				 description->areas_change))
		return -EINVAL;
	if (uvf_device_region(dev, description->index))
		return -EEXIST;
	ret = region_new(description, &region);
	if (ret)
		return ret;
	if (description->index >= dev->region_count) {
		regions = reallocarray(dev->regions, description->index + 1, sizeof(*regions));
		if (!regions) {
			region_free(region);
			return -ENOMEM;
		}
		memset(regions + dev->region_count, 0,
		       (description->index + 1 - dev->region_count) * sizeof(*regions));
		dev->regions = regions;
		dev->region_count = description->index + 1;
	}
	ret = region->changes ? uvf_remap_add_region(dev, description->index) : 0;
	if (ret) {
		region_free(region);
		return ret;
	}
	dev->regions[description->index] = region;
	return 0;
}

void uvf_device_free_regions(struct uvf_device *dev)
{
	for (uint32_t i = 0; i < dev->region_count; i++) {
		if (dev->regions[i])
			region_free(dev->regions[i]);
	}
	free(dev->regions);
	for (size_t i = 0; i < dev->memory_count; i++)
		munmap(dev->memories[i].address, dev->memories[i].size);
	free(dev->memories);
	if (dev->memory_fd >= 0)
		close(dev->memory_fd);
}

int uvf_region_get_info(struct uvf_device *dev, uint32_t index, struct uvf_region_info *info)
{
	const struct region *region = uvf_device_region(dev, index);
	const struct area_list *list;

	if (index >= dev->region_count)
		return -EINVAL;
	*info = (struct uvf_region_info){0};
	if (!region)
		return 0;
	list = uvf_region_areas(region);
	*info = (struct uvf_region_info){
		.flags = region->description.flags | (list->count ? VFIO_REGION_INFO_FLAG_MMAP : 0),
		.size = region->description.size,
		.type = region->description.type,
		.subtype = region->description.subtype,
		.areas = list->areas,
		.area_count = list->count,
		.areas_change = region->changes,
		.io_fds = region->io_fds,
		.io_fd_count = region->description.io_fd_count,
	};
	return 0;
}

/* ---- Access ---- */

/*
 * What comes next at @offset: the area that holds it (-1: none), and how many of @count bytes lie
 * on the same side of the areas' borders.
 */
static int next_piece(const struct area_list *list, uint64_t offset, size_t count, size_t *piece)
{
	*piece = count;
	for (size_t i = 0; i < list->count; i++) {
		const struct uvf_area *area = &list->areas[i];

		if (offset < area->offset) {
			if (count > area->offset - offset)
				*piece = (size_t)(area->offset - offset);
			return -1;
		}
		if (offset - area->offset < area->size) {
			if (count > area->size - (offset - area->offset))
				*piece = (size_t)(area->size - (offset - area->offset));
			return (int)i;
		}
	}
	return -1;
}

enum direction { READ, WRITE };

static int area_access(const struct area_list *list, int area, uint64_t offset, void *buf,
		       size_t count, enum direction direction)
{
	char *address = (char *)list->mapped[area] + (offset - list->areas[area].offset);

	return direction == READ ? uvf_guarded_copy(buf, address, count)
				 : uvf_guarded_copy(address, buf, count);
}

/* A PCI device's configuration space says what it is, to those too who don't own it. */
static bool needs_owner(const struct uvf_device *dev, const struct uvf_region *region,
			enum direction direction)
{
	return direction == WRITE || !(dev->flags & VFIO_DEVICE_FLAGS_PCI) ||
	       region->index != VFIO_PCI_CONFIG_REGION_INDEX;
}

/* How long a device waits for the lock of one that it does DMA to: tries, and the time between. */
#define PEER_TRIES    10000
#define PEER_PAUSE_NS 100000

/* Who accesses: faults are for drivers, and a peer doesn't wait for ever. */
enum accessor { BY_DRIVER, BY_FRONTEND, BY_PEER };

static int lock(struct uvf_device *dev, enum accessor accessor)
{
	const struct timespec pause = {.tv_nsec = PEER_PAUSE_NS};

	if (accessor != BY_PEER) {
		uvf_device_lock(dev);
		return 0;
	}
	for (unsigned i = 0; i < PEER_TRIES; i++) {
		if (!pthread_mutex_trylock(&dev->lock))
			return 0;
		nanosleep(&pause, NULL);
	}
	return -EBUSY;
}

/* What nobody answers on the bus. */
static int removed_access(void *buf, size_t count, enum direction direction)
{
	if (direction == READ)
		memset(buf, 0xff, count);
	return 0;
}

/* With the device's lock held, as all that enters a model. */
static inline int locked_access(struct uvf_device *dev, const struct uvf_region *region,
				uint64_t offset, void *buf, size_t count, enum direction direction)
{
	if (!atomic_load_explicit(&dev->open, memory_order_relaxed) &&
	    needs_owner(dev, region, direction))
		return -ENODEV;
	if (uvf_device_is_removed(dev))
		return removed_access(buf, count, direction);
	if (direction == READ)
		return region->read(dev, region->index, offset, buf, count);
	return region->write(dev, region->index, offset, buf, count);
}

static bool model_has(const struct uvf_region *region, enum direction direction)
{
	return direction == READ ? region->read != NULL : region->write != NULL;
}

/*
 * In a region whose areas change: which are there is asked with the lock that changes them, and
 * what is in one is moved with it. So none is on its way when the areas have changed.
 */
static int changing_piece(struct uvf_device *dev, const struct region *region, uint64_t offset,
			  char *buf, size_t count, size_t *piece, enum direction direction)
{
	const struct area_list *list = uvf_region_areas(region);
	int area = next_piece(list, offset, count, piece);

	if (!atomic_load_explicit(&dev->open, memory_order_relaxed))
		return -ENODEV;
	if (area >= 0)
		return area_access(list, area, offset, buf, *piece, direction);
	if (!model_has(&region->description, direction))
		return -EINVAL;
	return locked_access(dev, &region->description, offset, buf, *piece, direction);
}

static __attribute__((noinline)) int changing_access(struct uvf_device *dev,
						     const struct region *region, uint64_t offset,
						     char *buf, size_t count,
						     enum direction direction,
						     enum accessor accessor)
{
	int ret = 0;

	if (lock(dev, accessor))
		return -EBUSY;
	for (size_t done = 0, piece; done < count && ret >= 0; done += piece)
		ret = changing_piece(dev, region, offset + done, buf + done, count - done, &piece,
				     direction);
	uvf_device_unlock(dev);
	return ret;
}

/* What is in no area, or may be in one that changes: those have none that need no lock. */
static int model_access(struct uvf_device *dev, const struct region *region, uint64_t offset,
			void *buf, size_t count, enum direction direction, enum accessor accessor)
{
	int ret;

	if (__builtin_expect(region->changes != NULL, 0))
		return changing_access(dev, region, offset, buf, count, direction, accessor);
	if (!model_has(&region->description, direction))
		return -EINVAL;
	if (lock(dev, accessor))
		return -EBUSY;
	ret = locked_access(dev, &region->description, offset, buf, count, direction);
	uvf_device_unlock(dev);
	return ret;
}

/* In each of its callers: accesses are the hottest path that there is. */
static inline __attribute__((always_inline)) ssize_t region_access(struct uvf_device *dev,
								   uint32_t index, uint64_t offset,
								   void *buf, size_t count,
								   enum direction direction,
								   enum accessor accessor)
{
	uint32_t flag =
		direction == READ ? VFIO_REGION_INFO_FLAG_READ : VFIO_REGION_INFO_FLAG_WRITE;
	const struct region *region = uvf_device_region(dev, index);
	size_t done, piece;

	if (!region || !(region->description.flags & flag) || count > SSIZE_MAX ||
	    !uvf_range_inside(offset, count, region->description.size))
		return -EINVAL;
	if (!atomic_load_explicit(&dev->open, memory_order_relaxed) &&
	    needs_owner(dev, &region->description, direction))
		return -ENODEV;
	if (__builtin_expect(atomic_load_explicit(&dev->armed, memory_order_relaxed), 0)) {
		if (accessor == BY_DRIVER)
			uvf_inject_access(dev, index, direction == WRITE);
		if (uvf_device_is_removed(dev)) {
			removed_access(buf, count, direction);
			return (ssize_t)count;
		}
	}
	for (done = 0; done < count; done += piece) {
		int area = next_piece(&region->areas, offset + done, count - done, &piece);
		char *here = (char *)buf + done;
		int ret;

		if (area < 0)
			ret = model_access(dev, region, offset + done, here, piece, direction,
					   accessor);
		else
			ret = area_access(&region->areas, area, offset + done, here, piece,
					  direction);
		if (ret < 0)
			return ret;
	}
	return (ssize_t)count;
}

ssize_t uvf_region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
			size_t count)
{
	return region_access(dev, index, offset, buf, count, READ, BY_DRIVER);
}

ssize_t uvf_region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			 size_t count)
{
	return region_access(dev, index, offset, (void *)buf, count, WRITE, BY_DRIVER);
}

ssize_t uvf_region_read_unseen(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
			       size_t count)
{
	return region_access(dev, index, offset, buf, count, READ, BY_FRONTEND);
}

ssize_t uvf_region_write_unseen(struct uvf_device *dev, uint32_t index, uint64_t offset,
				const void *buf, size_t count)
{
	return region_access(dev, index, offset, (void *)buf, count, WRITE, BY_FRONTEND);
}

/* The largest piece of at most @left bytes that is aligned to its own size at @offset. */
static size_t natural_piece(uint64_t offset, size_t left)
{
	size_t piece = 8;

	while (piece > left || offset & (piece - 1))
		piece /= 2;
	return piece;
}

int uvf_region_read_by_peer(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
			    size_t count)
{
	for (size_t done = 0, piece; done < count; done += piece) {
		ssize_t ret;

		piece = natural_piece(offset + done, count - done);
		ret = region_access(dev, index, offset + done, (char *)buf + done, piece, READ,
				    BY_PEER);
		if (ret < 0)
			return (int)ret;
	}
	return 0;
}

int uvf_region_write_by_peer(struct uvf_device *dev, uint32_t index, uint64_t offset,
			     const void *buf, size_t count)
{
	for (size_t done = 0, piece; done < count; done += piece) {
		ssize_t ret;

		piece = natural_piece(offset + done, count - done);
		ret = region_access(dev, index, offset + done, (char *)buf + done, piece, WRITE,
				    BY_PEER);
		if (ret < 0)
			return (int)ret;
	}
	return 0;
}
