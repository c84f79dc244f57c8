/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VFIO_IOMMU_DIRTY_PAGES, by the address space's dirty log, and the bitmap that
 * VFIO_IOMMU_UNMAP_DMA can give.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/dirty.h>

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

/* A bitmap as it is being written: where in the program, and which page its bit 0 is. */
struct writer {
	struct uapi_call *call;
	struct uvf_address_space *space;
	uint64_t data;
	uint64_t base; /* an IOVA */
	uint64_t page_size;
	unsigned flags; /* UVF_DIRTY_* */
};

static size_t words_of(uint64_t bits)
{
	return (size_t)((bits + WORD_BITS - 1) / WORD_BITS);
}

/* Bits [bit, end) as words: those that are dirty. */
static int fill_words(const struct writer *writer, uint64_t *words, uint64_t bit, uint64_t end)
{
	size_t count = words_of(end - bit);

	memset(words, 0, count * sizeof(uint64_t));
	return uvf_dirty_report(writer->space, writer->base + bit * writer->page_size,
				(end - bit) * writer->page_size, writer->page_size, writer->flags,
				words, count * sizeof(uint64_t));
}

static int write_words(const struct writer *writer, uint64_t *words, uint64_t bit, uint64_t first,
		       uint64_t end)
{
	uint64_t address = writer->data + bit / WORD_BITS * sizeof(uint64_t);
	uint64_t before = 0, own = words[0];
	int ret = 0;

	if (bit < first)
		ret = uapi_call_read(writer->call, address, &before, sizeof(before));
	words[0] |= before;
	if (!ret)
		ret = uapi_call_write(writer->call, address, words,
				      words_of(end - bit) * sizeof(uint64_t));
	if (ret && !(writer->flags & UVF_DIRTY_KEEP)) {
		words[0] = own;
		uvf_dirty_restore(writer->space, writer->base + bit * writer->page_size,
				  (end - bit) * writer->page_size, writer->page_size, words);
	}
	return ret;
}

/*
 * Writes bits [first, end), which are a mapping. The word that @first is in may have bits of the
 * mapping before, which stay; words are written whole, with zeroes after the last bit.
 */
static int write_mapping(const struct writer *writer, uint64_t first, uint64_t end)
{
	const uint64_t step = WORDS_AT_A_TIME * WORD_BITS;
	uint64_t words[WORDS_AT_A_TIME];
	uint64_t bit = first - first % WORD_BITS, next;
	int ret;

	for (; bit < end; bit = next) {
		next = end - bit > step ? bit + step : end;
		ret = fill_words(writer, words, bit, next);
		if (!ret)
			ret = write_words(writer, words, bit, first, next);
		if (ret)
			return ret;
	}
	return 0;
}

/* Tells which pages of [first, last] were written since it was last asked. */
static int write_bitmap(struct uapi_ioas *ioas, struct uapi_call *call, uint64_t first,
			uint64_t last, const struct vfio_bitmap *bitmap, unsigned flags)
{
	const struct writer writer = {
		.call = call,
		.space = uapi_ioas_space(ioas),
		.data = (uintptr_t)bitmap->data,
		.base = first,
		.page_size = bitmap->pgsize,
		.flags = flags,
	};
	struct uvf_iova_range mapping;
	uint64_t next = first;
	int ret;

	if (uapi_ioas_cuts(ioas, first, last))
		return -EINVAL;
	/* Other threads may map and unmap meanwhile: what is outside of the range stays out. */
	while (uapi_ioas_find(ioas, next, last, &mapping)) {
		if (mapping.first < next || mapping.last > last)
			return -EINVAL;
		ret = write_mapping(&writer, (mapping.first - first) / bitmap->pgsize,
				    (mapping.last - first) / bitmap->pgsize + 1);
		if (ret)
			return ret;
		if (mapping.last == last)
			break;
		next = mapping.last + 1;
	}
	return 0;
}

/* Adds to the program's bitmap, and leaves the words alone in which nothing is. */
static int add_words(struct uapi_call *call, uint64_t data, const uint64_t *words, size_t count)
{
	uint64_t theirs[WORDS_AT_A_TIME];

	for (size_t first = 0, end; first < count; first = end) {
		uint64_t address;

		while (first < count && !words[first])
			first++;
		address = data + first * sizeof(*words);
		for (end = first; end < count && end - first < WORDS_AT_A_TIME && words[end]; end++)
			continue;
		if (uapi_call_read(call, address, theirs, (end - first) * sizeof(*words)))
			return -EFAULT;
		for (size_t i = first; i < end; i++)
			theirs[i - first] |= words[i];
		if (uapi_call_write(call, address, theirs, (end - first) * sizeof(*words)))
			return -EFAULT;
	}
	return 0;
}

/*
 * The program's bitmap is written before, while there is a way back; what was written by the time
 * that the mappings are gone is then added.
 */
int uapi_dirty_unmap(struct uapi_ioas *ioas, struct uapi_call *call, uint64_t first, uint64_t last,
		     const struct vfio_bitmap *bitmap, uint64_t *unmapped)
{
	size_t count = words_of((last - first) / bitmap->pgsize + 1);
	uint64_t *words = calloc(count, sizeof(*words));
	int ret;

	if (!words)
		return -ENOMEM;
	ret = write_bitmap(ioas, call, first, last, bitmap, UVF_DIRTY_KEEP);
	if (!ret)
		ret = uapi_ioas_unmap_dirty(ioas, first, last, unmapped, words,
					    count * sizeof(*words));
	if (!ret)
		ret = add_words(call, (uintptr_t)bitmap->data, words, count);
	free(words);
	return ret;
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
	if (!uvf_dirty_is_on(uapi_ioas_space(type1->ioas)))
		return -EINVAL;
	return write_bitmap(type1->ioas, call, range.iova, last, &range.bitmap, 0);
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
		return uvf_dirty_start(uapi_ioas_space(type1->ioas));
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
		uvf_dirty_stop(uapi_ioas_space(type1->ioas));
		return 0;
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
		return get_bitmap(type1, call, argument, dirty.argsz);
	default:
		return -EINVAL; /* none, several, or others */
	}
}
