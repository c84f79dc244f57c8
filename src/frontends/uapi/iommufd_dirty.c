/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty tracking of iommufd's page tables. The log is the address space's, and is on while one of
 * its page tables tracks. While several do, what one reads stays in the log for the others: it is
 * then reported again, never left out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/dirty.h>

#include "frontends/uapi/iommufd.h"

/* Of a bitmap, at a time. */
#define PIECE_BYTES 65536ULL
#define PIECE_BITS  (8 * PIECE_BYTES)

unsigned uapi_object_hwpt_untrack(struct uapi_object_hwpt *hwpt)
{
	hwpt->tracking = false;
	return --hwpt->ioas->tracking;
}

int uapi_iommufd_hwpt_set_dirty_tracking(struct uapi_iommufd_command *command)
{
	const struct iommu_hwpt_set_dirty_tracking *arguments = &command->set_dirty_tracking;
	bool enable = arguments->flags & IOMMU_HWPT_DIRTY_TRACKING_ENABLE;
	struct uapi_iommufd *iommufd = command->iommufd;
	struct uapi_object_hwpt *hwpt;
	struct uapi_ioas *ioas = NULL;
	int ret = 0;

	if (arguments->flags & ~(uint32_t)IOMMU_HWPT_DIRTY_TRACKING_ENABLE)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&iommufd->tracking);
	pthread_mutex_lock(&iommufd->lock);
	hwpt = uapi_object_find(iommufd, arguments->hwpt_id, UAPI_OBJECT_HWPT);
	if (!hwpt)
		ret = -ENOENT;
	else if (!hwpt->tracks)
		ret = -EOPNOTSUPP;
	else if (hwpt->tracking != enable)
		ioas = uapi_ioas_get(hwpt->ioas->ioas);
	pthread_mutex_unlock(&iommufd->lock);
	/* With `tracking`, a page table that tracks isn't destroyed. */
	if (ioas) {
		if (enable)
			ret = uvf_dirty_start(uapi_ioas_space(ioas));
		if (!ret && enable) {
			hwpt->tracking = true;
			hwpt->ioas->tracking++;
		} else if (!ret && uapi_object_hwpt_untrack(hwpt) == 0) {
			uvf_dirty_stop(uapi_ioas_space(ioas));
		}
		uapi_ioas_put(ioas);
	}
	pthread_mutex_unlock(&iommufd->tracking);
	return ret;
}

static int check_range(const struct iommu_hwpt_get_dirty_bitmap *arguments, uint64_t granule)
{
	uint64_t last;

	if (__builtin_add_overflow(arguments->iova, arguments->length - 1, &last))
		return -EOVERFLOW;
	if (!arguments->length || (arguments->iova | arguments->length) & (granule - 1))
		return -EINVAL;
	if (!arguments->page_size || arguments->page_size & (arguments->page_size - 1))
		return -EINVAL;
	if ((arguments->iova | arguments->length) & (arguments->page_size - 1))
		return -EINVAL;
	return 0;
}

static bool is_clean(const uint64_t *bitmap, size_t words)
{
	for (size_t i = 0; i < words; i++)
		if (bitmap[i])
			return false;
	return true;
}

/* Adds @bits of @dirty to the program's bitmap; @old has room for as many. */
static int add_bits(struct uapi_call *call, uint64_t address, const uint64_t *dirty, uint64_t *old,
		    uint64_t bits)
{
	size_t words = (size_t)((bits + 63) / 64);

	if (is_clean(dirty, words))
		return 0;
	if (uapi_call_read(call, address, old, words * sizeof(*old)))
		return -EFAULT;
	for (size_t i = 0; i < words; i++)
		old[i] |= dirty[i];
	return uapi_call_write(call, address, old, words * sizeof(*old));
}

/* Goes on from @page to the piece of the bitmap with the next mapping; false: there is none. */
static bool skip_unmapped(const struct iommu_hwpt_get_dirty_bitmap *arguments,
			  struct uapi_ioas *ioas, uint64_t *page)
{
	uint64_t iova = arguments->iova + *page * arguments->page_size;
	uint64_t last = arguments->iova + arguments->length - 1;
	struct uvf_iova_range mapping;

	if (!uapi_ioas_find(ioas, iova, last, &mapping))
		return false;
	if (mapping.first > iova)
		*page += (mapping.first - iova) / arguments->page_size / PIECE_BITS * PIECE_BITS;
	return true;
}

/* @buffer has room for a piece of the bitmap, twice. */
static int report(struct uapi_iommufd_command *command, struct uapi_ioas *ioas, bool is_alone,
		  uint64_t *buffer)
{
	const struct iommu_hwpt_get_dirty_bitmap *arguments = &command->get_dirty_bitmap;
	bool keep = arguments->flags & IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR || !is_alone;
	struct uvf_address_space *space = uapi_ioas_space(ioas);
	uint64_t *old = buffer + PIECE_BYTES / sizeof(*buffer);
	uint64_t pages = arguments->length / arguments->page_size;

	for (uint64_t page = 0; page < pages && skip_unmapped(arguments, ioas, &page);
	     page += PIECE_BITS) {
		uint64_t count = pages - page < PIECE_BITS ? pages - page : PIECE_BITS;
		uint64_t iova = arguments->iova + page * arguments->page_size;
		uint64_t size = count * arguments->page_size;
		int ret;

		memset(buffer, 0, PIECE_BYTES);
		ret = uvf_dirty_report(space, iova, size, arguments->page_size,
				       keep ? UVF_DIRTY_KEEP : 0, buffer, PIECE_BYTES);
		if (ret)
			return ret;
		ret = add_bits(command->call, arguments->data + page / 8, buffer, old, count);
		if (ret) {
			if (!keep)
				uvf_dirty_restore(space, iova, size, arguments->page_size, buffer);
			return ret;
		}
	}
	return 0;
}

int uapi_iommufd_hwpt_get_dirty_bitmap(struct uapi_iommufd_command *command)
{
	const struct iommu_hwpt_get_dirty_bitmap *arguments = &command->get_dirty_bitmap;
	struct uapi_iommufd *iommufd = command->iommufd;
	bool tracks = false, tracking = false, is_alone = false;
	struct uapi_object_hwpt *hwpt;
	struct uapi_ioas *ioas = NULL;
	uint64_t page_sizes, *buffer;
	int ret;

	if (arguments->flags & ~(uint32_t)IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR ||
	    arguments->__reserved)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&iommufd->tracking);
	pthread_mutex_lock(&iommufd->lock);
	hwpt = uapi_object_find(iommufd, arguments->hwpt_id, UAPI_OBJECT_HWPT);
	if (hwpt) {
		ioas = uapi_ioas_get(hwpt->ioas->ioas);
		tracks = hwpt->tracks;
		tracking = hwpt->tracking;
		is_alone = hwpt->ioas->tracking == 1;
	}
	pthread_mutex_unlock(&iommufd->lock);
	ret = ioas ? 0 : -ENOENT;
	if (ret)
		goto unlock;
	page_sizes = uapi_ioas_page_sizes(ioas);
	ret = check_range(arguments, page_sizes & -page_sizes);
	if (!ret && !tracks)
		ret = -EOPNOTSUPP;
	if (ret || !tracking) /* off: nothing is dirty */
		goto put;
	buffer = malloc(2 * PIECE_BYTES);
	ret = buffer ? report(command, ioas, is_alone, buffer) : -ENOMEM;
	free(buffer);
put:
	uapi_ioas_put(ioas);
unlock:
	pthread_mutex_unlock(&iommufd->tracking);
	return ret;
}
