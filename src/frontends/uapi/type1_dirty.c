/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VFIO_IOMMU_DIRTY_PAGES and the bitmap that VFIO_IOMMU_UNMAP_DMA can give. Devices write memory at
 * any time and are not followed, so while tracking is on every page that is mapped may have been
 * written since it was last asked for: the kernel says the same of devices that don't tell it.
 */
#include <errno.h>
#include <stddef.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/type1.h"

/* Where a program's addresses end: four-level paging, less one page. */
#define PROGRAM_END	((1ULL << 47) - 4096)
#define WORD_BITS	64
#define WORDS_AT_A_TIME 512

uint64_t uapi_type1_granule(struct uapi_ioas *ioas)
{
	uint64_t page_sizes = uapi_ioas_page_sizes(ioas);

	return page_sizes & -page_sizes;
}

int uapi_dirty_check_bitmap(const struct vfio_bitmap *bitmap, uint64_t size)
{
	uint64_t data = (uintptr_t)bitmap->data, pages, needed;

	if (bitmap->pgsize == 0)
		return -EINVAL;
	if (bitmap->size > PROGRAM_END || data > PROGRAM_END - bitmap->size)
		return -EINVAL;
	pages = size >> __builtin_ctzll(bitmap->pgsize);
	needed = (pages / WORD_BITS + (pages % WORD_BITS != 0)) * sizeof(uint64_t);
	if (pages == 0 || bitmap->size == 0 || bitmap->size > UAPI_DIRTY_BITMAP_MAX ||
	    bitmap->size < needed)
		return -EINVAL;
	return 0;
}

/* Bits [from, to) of the word that begins at bit @start. */
static uint64_t word_mask(uint64_t start, uint64_t from, uint64_t to)
{
	uint64_t mask = UINT64_MAX;

	if (from > start)
		mask &= UINT64_MAX << (from - start);
	if (to < start + WORD_BITS)
		mask &= UINT64_MAX >> (start + WORD_BITS - to);
	return mask;
}

/*
 * Sets bits [first, end) of the program's bitmap at @data. The word that @first is in may have bits
 * of the mapping before, which stay; words are written whole, with zeroes after the last bit.
 */
static int set_bits(struct uapi_call *call, uint64_t data, uint64_t first, uint64_t end)
{
	uint64_t words[WORDS_AT_A_TIME];
	uint64_t bit = first - first % WORD_BITS;
	size_t count;

	while (bit < end) {
		uint64_t address = data + bit / WORD_BITS * sizeof(uint64_t);
		uint64_t kept = 0;

		if (bit < first && uapi_call_read(call, address, &kept, sizeof(kept)))
			return -EFAULT;
		for (count = 0; count < WORDS_AT_A_TIME && bit < end; count++, bit += WORD_BITS)
			words[count] = word_mask(bit, first, end);
		words[0] |= kept;
		if (uapi_call_write(call, address, words, count * sizeof(uint64_t)))
			return -EFAULT;
	}
	return 0;
}

int uapi_dirty_write_bitmap(struct uapi_ioas *ioas, struct uapi_call *call, uint64_t first,
			    uint64_t last, const struct vfio_bitmap *bitmap)
{
	unsigned shift = (unsigned)__builtin_ctzll(bitmap->pgsize);
	struct uvf_iova_range mapping;
	uint64_t next = first;
	int ret;

	if (uapi_ioas_cuts(ioas, first, last))
		return -EINVAL;
	/* Other threads may map and unmap meanwhile: what is outside of the range stays out. */
	while (uapi_ioas_find(ioas, next, last, &mapping)) {
		if (mapping.first < next || mapping.last > last)
			return -EINVAL;
		ret = set_bits(call, (uintptr_t)bitmap->data, (mapping.first - first) >> shift,
			       ((mapping.last - first) >> shift) + 1);
		if (ret)
			return ret;
		if (mapping.last == last)
			break;
		next = mapping.last + 1;
	}
	return 0;
}

static long get_bitmap(const struct uapi_type1 *type1, struct uapi_call *call, uint64_t argument,
		       uint32_t argsz)
{
	const size_t header = offsetof(struct vfio_iommu_type1_dirty_bitmap, data);
	struct vfio_iommu_type1_dirty_bitmap_get range;
	uint64_t last, granule;
	int ret;

	if (argsz - header < sizeof(range))
		return -EINVAL;
	if (uapi_call_read(call, argument + header, &range, sizeof(range)))
		return -EFAULT;
	if (range.size == 0)
		return -EINVAL;
	if (__builtin_add_overflow(range.iova, range.size - 1, &last))
		return -EOVERFLOW;
	ret = uapi_dirty_check_bitmap(&range.bitmap, range.size);
	if (ret)
		return ret;
	granule = uapi_type1_granule(type1->ioas);
	if (range.bitmap.pgsize != granule || (range.iova | range.size) & (granule - 1))
		return -EINVAL;
	if (!atomic_load(type1->tracks_dirty))
		return -EINVAL;
	return uapi_dirty_write_bitmap(type1->ioas, call, range.iova, last, &range.bitmap);
}

long uapi_dirty_ioctl(const struct uapi_type1 *type1, struct uapi_call *call, uint64_t argument)
{
	struct vfio_iommu_type1_dirty_bitmap dirty;
	const size_t header = offsetof(struct vfio_iommu_type1_dirty_bitmap, data);

	if (type1->version != VFIO_TYPE1v2_IOMMU)
		return -EACCES;
	if (uapi_call_read(call, argument, &dirty, header))
		return -EFAULT;
	if (dirty.argsz < header)
		return -EINVAL;
	switch (dirty.flags) {
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
		atomic_store(type1->tracks_dirty, true);
		return 0;
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
		atomic_store(type1->tracks_dirty, false);
		return 0;
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
		return get_bitmap(type1, call, argument, dirty.argsz);
	default:
		return -EINVAL; /* none, several, or others */
	}
}
