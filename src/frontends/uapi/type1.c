/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Type1's ioctls: what a container with an IOMMU answers, and an iommufd in compat mode. The order
 * of the checks is the kernel's, as far as a program can tell.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/dirty.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/type1.h"

#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)NULL)->member))

/* ---- VFIO_CHECK_EXTENSION ---- */

static long check_extension(const struct uapi_type1 *type1, struct uapi_call *call,
			    uint64_t argument)
{
	switch (argument) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_UNMAP_ALL:
		return 1;
	case VFIO_UPDATE_VADDR: /* an address space must be there to say so */
		return type1->ioas && !type1->compat;
	case VFIO_DMA_CC_IOMMU: /* what devices write is coherent, whatever they ask for */
		if (!type1->ioas)
			return type1->compat ? -ENODEV : 0;
		return 1;
	default:
		return 0;
	}
}

/* ---- VFIO_IOMMU_GET_INFO ---- */

#define CHAIN_MAX 8192

/* The capabilities as they follow struct vfio_iommu_type1_info. */
struct chain {
	union {
		uint8_t bytes[CHAIN_MAX];
		uint64_t aligned;
	};
	size_t size;
	struct vfio_info_cap_header *last;
};

/* Adds a capability: NULL when it has no room. */
static void *chain_add(struct chain *chain, uint16_t id, size_t size)
{
	struct vfio_info_cap_header *header;
	size_t rounded = (size + 7) & ~(size_t)7;

	if (rounded > CHAIN_MAX - chain->size)
		return NULL;
	header = (void *)(chain->bytes + chain->size);
	memset(header, 0, rounded);
	header->id = id;
	header->version = 1;
	if (chain->last)
		chain->last->next = (uint32_t)(sizeof(struct vfio_iommu_type1_info) + chain->size);
	chain->last = header;
	chain->size += rounded;
	return header;
}

static int add_migration(struct chain *chain, const struct uapi_type1 *type1)
{
	struct vfio_iommu_type1_info_cap_migration *capability;

	if (type1->compat)
		return 0; /* an iommufd has other ways */
	capability = chain_add(chain, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, sizeof(*capability));
	if (!capability)
		return -ENOMEM;
	capability->pgsize_bitmap = uapi_type1_granule(type1->ioas);
	capability->max_dirty_bitmap_size = UAPI_DIRTY_BITMAP_MAX;
	return 0;
}

static int add_dma_avail(struct chain *chain, const struct uapi_type1 *type1)
{
	struct vfio_iommu_type1_info_dma_avail *capability;
	uint64_t available = uapi_ioas_available(type1->ioas);

	capability = chain_add(chain, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, sizeof(*capability));
	if (!capability)
		return -ENOMEM;
	if (type1->compat || available > UINT32_MAX)
		available = UINT32_MAX;
	capability->avail = (uint32_t)available;
	return 0;
}

static int add_iova_ranges(struct chain *chain, const struct uapi_type1 *type1)
{
	struct vfio_iommu_type1_info_cap_iova_range *capability;
	size_t count = uapi_ioas_ranges(type1->ioas, NULL, 0);
	struct uvf_iova_range *ranges = NULL;

	if (count == 0)
		return 0;
	ranges = calloc(count, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	if (uapi_ioas_ranges(type1->ioas, ranges, count) < count)
		count = 0; /* they have changed: tell none rather than wrong ones */
	capability = chain_add(chain, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
			       sizeof(*capability) + count * sizeof(capability->iova_ranges[0]));
	if (!capability) {
		free(ranges);
		return -ENOMEM;
	}
	capability->nr_iovas = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		capability->iova_ranges[i].start = ranges[i].first;
		capability->iova_ranges[i].end = ranges[i].last;
	}
	free(ranges);
	return 0;
}

static long get_info(const struct uapi_type1 *type1, struct uapi_call *call, uint64_t argument)
{
	static int (*const add[])(struct chain * chain, const struct uapi_type1 *type1) = {
		add_migration,
		add_dma_avail,
		add_iova_ranges,
	};
	const size_t minimum = END_OF(struct vfio_iommu_type1_info, iova_pgsizes);
	struct vfio_iommu_type1_info info = {0};
	struct chain chain = {.size = 0};
	size_t written;
	bool fits;

	if (uapi_call_read(call, argument, &info, minimum))
		return -EFAULT;
	if (info.argsz < minimum)
		return -EINVAL;
	written = info.argsz < sizeof(info) ? info.argsz : sizeof(info);
	if (!type1->ioas)
		return -ENODEV;
	for (size_t i = 0; i < sizeof(add) / sizeof(add[0]); i++) {
		int ret = add[i](&chain, type1);

		if (ret)
			return ret;
	}
	info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
	info.iova_pgsizes = uapi_ioas_page_sizes(type1->ioas);
	fits = info.argsz >= sizeof(info) + chain.size;
	/* argsz says what would have been needed; of an iommufd always. */
	if (!fits || type1->compat)
		info.argsz = (uint32_t)(sizeof(info) + chain.size);
	if (fits) {
		info.cap_offset = sizeof(info);
		if (uapi_call_write(call, argument + sizeof(info), chain.bytes, chain.size))
			return -EFAULT;
	}
	return uapi_call_write(call, argument, &info, written);
}

/* ---- VFIO_IOMMU_MAP_DMA ---- */

#define MAP_PROT (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

static long map_dma(const struct uapi_type1 *type1, struct uapi_call *call, uint64_t argument)
{
	const uint32_t known = MAP_PROT | (type1->compat ? 0 : VFIO_DMA_MAP_FLAG_VADDR);
	struct vfio_iommu_type1_dma_map map;
	uint64_t end, granule;
	unsigned prot = 0;

	if (uapi_call_read(call, argument, &map, sizeof(map)))
		return -EFAULT;
	if (map.argsz < sizeof(map) || map.flags & ~known)
		return -EINVAL;
	if (!type1->ioas)
		return -ENODEV;
	if (map.size == 0)
		return -EINVAL;
	if (__builtin_add_overflow(map.iova, map.size - 1, &end) ||
	    __builtin_add_overflow(map.vaddr, map.size - 1, &end))
		return -EOVERFLOW;
	/* Either a new mapping with a permission, or the address of one that has lost it. */
	if (!(map.flags & MAP_PROT) == !(map.flags & VFIO_DMA_MAP_FLAG_VADDR))
		return -EINVAL;
	granule = uapi_type1_granule(type1->ioas);
	if ((map.size | map.iova | map.vaddr) & (granule - 1))
		return -EINVAL;
	if (map.flags & VFIO_DMA_MAP_FLAG_VADDR)
		return uapi_ioas_vaddr_replace(type1->ioas, call, map.iova, map.size, map.vaddr);
	if (map.flags & VFIO_DMA_MAP_FLAG_READ)
		prot |= UVF_PROT_READ;
	if (map.flags & VFIO_DMA_MAP_FLAG_WRITE)
		prot |= UVF_PROT_WRITE;
	return uapi_ioas_map(type1->ioas, call,
			     type1->compat ? UAPI_RULES_IOMMUFD : UAPI_RULES_TYPE1, map.iova,
			     map.size, prot, map.vaddr);
}

/* ---- VFIO_IOMMU_UNMAP_DMA ---- */

/* An unmap, decoded. */
struct unmap {
	uint64_t first, last;
	uint32_t flags;
	struct vfio_bitmap bitmap; /* FLAG_GET_DIRTY_BITMAP */
};

/* What is common to both: the ranges that can't be. */
static int decode_range(const struct uapi_type1 *type1,
			const struct vfio_iommu_type1_dma_unmap *argument, struct unmap *unmap)
{
	uint64_t granule = uapi_type1_granule(type1->ioas);

	unmap->flags = argument->flags;
	unmap->first = argument->iova;
	/* A compat iommufd finds what isn't aligned when it cuts a mapping. */
	if (!type1->compat && argument->iova & (granule - 1))
		return -EINVAL;
	if (argument->flags & VFIO_DMA_UNMAP_FLAG_ALL) {
		unmap->last = UINT64_MAX;
		return argument->iova || argument->size ? -EINVAL : 0;
	}
	if (argument->size == 0 || (!type1->compat && argument->size & (granule - 1)))
		return -EINVAL;
	if (__builtin_add_overflow(argument->iova, argument->size - 1, &unmap->last))
		return -EOVERFLOW;
	return 0;
}

/*
 * Version 1 unmaps whole what begins in the range, and nothing if the first mapping in it begins
 * before. False: nothing.
 */
static bool widen_to_mappings(struct uapi_ioas *ioas, struct unmap *unmap)
{
	struct uvf_iova_range mapping;

	if (!uapi_ioas_find(ioas, unmap->first, unmap->last, &mapping) ||
	    mapping.first < unmap->first)
		return false;
	if (uapi_ioas_find(ioas, unmap->last, unmap->last, &mapping))
		unmap->last = mapping.last;
	return true;
}

static int unmap_type1(const struct uapi_type1 *type1, struct uapi_call *call, struct unmap *unmap,
		       uint64_t *unmapped)
{
	int ret;

	if (unmap->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) {
		if (!uvf_dirty_is_on(uapi_ioas_space(type1->ioas)) ||
		    unmap->bitmap.pgsize != uapi_type1_granule(type1->ioas))
			return -EINVAL;
	}
	if (type1->version == VFIO_TYPE1v2_IOMMU) {
		if (uapi_ioas_cuts(type1->ioas, unmap->first, unmap->last))
			return -EINVAL;
	} else if (!widen_to_mappings(type1->ioas, unmap)) {
		return 0;
	}
	if (unmap->flags & VFIO_DMA_UNMAP_FLAG_VADDR)
		return uapi_ioas_vaddr_invalidate(type1->ioas, unmap->first, unmap->last, unmapped);
	if (unmap->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)
		ret = uapi_dirty_unmap(type1->ioas, call, unmap->first, unmap->last, &unmap->bitmap,
				       unmapped);
	else
		ret = uapi_ioas_unmap(type1->ioas, unmap->first, unmap->last, unmapped);
	return ret == -ENOENT ? -EINVAL : ret; /* another thread has mapped across an end */
}

static int read_unmap_bitmap(struct uapi_call *call, uint64_t argument,
			     const struct vfio_iommu_type1_dma_unmap *header,
			     struct vfio_bitmap *bitmap)
{
	if (header->flags & (VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR))
		return -EINVAL;
	if (header->argsz < sizeof(*header) + sizeof(*bitmap))
		return -EINVAL;
	if (uapi_call_read(call, argument + sizeof(*header), bitmap, sizeof(*bitmap)))
		return -EFAULT;
	return uapi_dirty_check_bitmap(bitmap, header->size);
}

static long unmap_dma(const struct uapi_type1 *type1, struct uapi_call *call, uint64_t argument)
{
	const uint32_t known = type1->compat ? VFIO_DMA_UNMAP_FLAG_ALL
					     : VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR |
						       VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
	struct vfio_iommu_type1_dma_unmap header;
	struct unmap unmap = {.first = 0};
	uint64_t unmapped = 0;
	int ret = 0;

	if (uapi_call_read(call, argument, &header, sizeof(header)))
		return -EFAULT;
	if (header.argsz < sizeof(header) || header.flags & ~known)
		return -EINVAL;
	if (!type1->ioas)
		return -ENODEV;
	if (header.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)
		ret = read_unmap_bitmap(call, argument, &header, &unmap.bitmap);
	if (!ret)
		ret = decode_range(type1, &header, &unmap);
	if (!ret)
		ret = type1->compat
			      ? uapi_ioas_unmap(type1->ioas, unmap.first, unmap.last, &unmapped)
			      : unmap_type1(type1, call, &unmap, &unmapped);
	if (ret)
		return ret;
	header.size = unmapped;
	return uapi_call_write(call, argument, &header, sizeof(header));
}

/* ---- All of them ---- */

static const struct {
	unsigned command;
	bool compat; /* an iommufd has it too */
	long (*handle)(const struct uapi_type1 *type1, struct uapi_call *call, uint64_t argument);
} commands[] = {
	{VFIO_IOMMU_MAP_DMA, true, map_dma},
	{VFIO_IOMMU_UNMAP_DMA, true, unmap_dma},
	{VFIO_IOMMU_GET_INFO, true, get_info},
	{VFIO_CHECK_EXTENSION, true, check_extension},
	{VFIO_IOMMU_DIRTY_PAGES, false, uapi_dirty_ioctl},
};

long uapi_type1_ioctl(const struct uapi_type1 *type1, struct uapi_call *call, unsigned command,
		      uint64_t argument)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (commands[i].command == command && (commands[i].compat || !type1->compat))
			return commands[i].handle(type1, call, argument);
	return -ENOTTY;
}
