/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a mapping is put that says no address: in a hole of the address space, within what
 * IOMMU_IOAS_ALLOW_IOVAS allows, as well aligned as its memory is, so that large pages fit. The
 * search goes on from the last choice and comes round once, so that many mappings cost few steps
 * each.
 */
#include <errno.h>
#include <stdlib.h>

#include "frontends/uapi/iommufd.h"

#define PAGE	   4096ULL
#define LARGE_PAGE (2ULL << 20)

void uapi_allowed_put(struct uapi_allowed *allowed)
{
	if (allowed && atomic_fetch_sub(&allowed->references, 1) == 1)
		free(allowed);
}

static int compare_ranges(const void *left, const void *right)
{
	const struct uvf_iova_range *a = left, *b = right;

	return a->first < b->first ? -1 : a->first > b->first;
}

/* All that an address space can, with uapi_ioas_ranges()'s meaning. Freed by the caller. */
static int get_ranges(struct uapi_ioas *ioas, struct uvf_iova_range **rangesp, size_t *count)
{
	size_t there = uapi_ioas_ranges(ioas, NULL, 0);
	struct uvf_iova_range *ranges = calloc(there ? there : 1, sizeof(*ranges));

	if (!ranges)
		return -ENOMEM;
	*count = uapi_ioas_ranges(ioas, ranges, there);
	*rangesp = ranges;
	return 0;
}

static bool is_within(const struct uvf_iova_range *range, const struct uvf_iova_range *ranges,
		      size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (range->first >= ranges[i].first && range->last <= ranges[i].last)
			return true;
	return false;
}

static int check_allowed(struct uapi_allowed *allowed, struct uapi_ioas *ioas)
{
	struct uvf_iova_range *ranges;
	size_t count;
	int ret;

	for (size_t i = 0; i < allowed->count; i++)
		if (allowed->ranges[i].first >= allowed->ranges[i].last)
			return -EINVAL;
	qsort(allowed->ranges, allowed->count, sizeof(allowed->ranges[0]), compare_ranges);
	for (size_t i = 1; i < allowed->count; i++)
		if (allowed->ranges[i].first <= allowed->ranges[i - 1].last)
			return -EINVAL;
	ret = get_ranges(ioas, &ranges, &count);
	if (ret)
		return ret;
	for (size_t i = 0; i < allowed->count && !ret; i++)
		if (!is_within(&allowed->ranges[i], ranges, count))
			ret = -EADDRINUSE;
	free(ranges);
	return ret;
}

/* uvf_iova_range is laid out as the UAPI's. */
_Static_assert(sizeof(struct uvf_iova_range) == sizeof(struct iommu_iova_range), "layout");
_Static_assert(offsetof(struct uvf_iova_range, last) == offsetof(struct iommu_iova_range, last),
	       "layout");

static int read_allowed(struct uapi_iommufd_command *command, struct uapi_ioas *ioas,
			struct uapi_allowed **allowedp)
{
	size_t count = command->allow_iovas.num_iovas;
	struct uapi_allowed *allowed;
	int ret;

	if (count > UAPI_ALLOWED_MAX)
		return -ENOMEM;
	allowed = calloc(1, sizeof(*allowed) + count * sizeof(allowed->ranges[0]));
	if (!allowed)
		return -ENOMEM;
	atomic_init(&allowed->references, 1);
	allowed->count = count;
	ret = uapi_call_read(command->call, command->allow_iovas.allowed_iovas, allowed->ranges,
			     count * sizeof(allowed->ranges[0]));
	if (!ret)
		ret = check_allowed(allowed, ioas);
	if (ret)
		free(allowed);
	else
		*allowedp = allowed;
	return ret;
}

int uapi_iommufd_ioas_allow_iovas(struct uapi_iommufd_command *command)
{
	struct uapi_iommufd *iommufd = command->iommufd;
	struct uapi_allowed *allowed = NULL, *old = NULL;
	struct uapi_object_ioas *object;
	struct uapi_ioas *ioas;
	int ret;

	if (command->allow_iovas.__reserved)
		return -EOPNOTSUPP;
	ret = uapi_iommufd_get_ioas(iommufd, command->allow_iovas.ioas_id, &ioas);
	if (ret)
		return ret;
	if (command->allow_iovas.num_iovas)
		ret = read_allowed(command, ioas, &allowed);
	uapi_ioas_put(ioas);
	if (ret)
		return ret;
	pthread_mutex_lock(&iommufd->lock);
	object = uapi_object_find(iommufd, command->allow_iovas.ioas_id, UAPI_OBJECT_IOAS);
	if (object) {
		old = object->allowed;
		object->allowed = allowed;
	} else {
		old = allowed;
		ret = -ENOENT;
	}
	pthread_mutex_unlock(&iommufd->lock);
	uapi_allowed_put(old);
	return ret;
}

struct search {
	struct uapi_ioas *ioas;
	const struct uapi_allowed *allowed; /* NULL: all */
	struct uvf_iova_range *ranges;
	size_t range_count;
	uint64_t size;
	uint64_t alignment;
};

/* A hole in [first, last] that begins at @from or after it. */
static bool search_range(const struct search *search, uint64_t first, uint64_t last, uint64_t from,
			 uint64_t *iova)
{
	struct uvf_iova_range mapping;
	uint64_t start = first > from ? first : from;

	for (;;) {
		uint64_t end;

		if (__builtin_add_overflow(start, search->alignment - 1, &start))
			return false;
		start &= ~(search->alignment - 1);
		if (__builtin_add_overflow(start, search->size - 1, &end) || end > last)
			return false;
		if (!uapi_ioas_find(search->ioas, start, end, &mapping)) {
			*iova = start;
			return true;
		}
		if (__builtin_add_overflow(mapping.last, 1, &start))
			return false;
	}
}

/* The parts of allowed ranges that are in ranges, one after the other. */
static bool search_from(const struct search *search, uint64_t from, uint64_t *iova)
{
	static const struct uvf_iova_range all = {PAGE, UINT64_MAX - PAGE};
	const struct uvf_iova_range *allowed = search->allowed ? search->allowed->ranges : &all;
	size_t allowed_count = search->allowed ? search->allowed->count : 1;
	size_t i = 0, j = 0;

	while (i < allowed_count && j < search->range_count) {
		const struct uvf_iova_range *a = &allowed[i], *b = &search->ranges[j];
		uint64_t first = a->first > b->first ? a->first : b->first;
		uint64_t last = a->last < b->last ? a->last : b->last;

		/* Never address 0. */
		if (first < PAGE)
			first = PAGE;
		if (first <= last && last >= from && search_range(search, first, last, from, iova))
			return true;
		if (a->last < b->last)
			i++;
		else
			j++;
	}
	return false;
}

static uint64_t alignment_of(uint64_t source, uint64_t size)
{
	uint64_t alignment = size <= 1 ? 1 : 1ULL << (64 - __builtin_clzll(size - 1));

	if (source && (source & -source) < alignment)
		alignment = source & -source;
	return alignment < LARGE_PAGE ? alignment : LARGE_PAGE;
}

static int prepare(struct search *search, uint64_t source, uint64_t size)
{
	uint64_t page_sizes = uapi_ioas_page_sizes(search->ioas);

	if (!size || size >= UINT64_MAX / 2)
		return size ? -EOVERFLOW : -EINVAL;
	search->size = size;
	search->alignment = alignment_of(source, size);
	if (search->alignment < (page_sizes & -page_sizes))
		return -EINVAL;
	return get_ranges(search->ioas, &search->ranges, &search->range_count);
}

int uapi_iommufd_choose(struct uapi_iommufd *iommufd, uint32_t id, uint64_t source, uint64_t size,
			uint64_t *iova)
{
	struct search search = {0};
	struct uapi_object_ioas *object;
	struct uapi_allowed *allowed;
	uint64_t hint;
	int ret;

	pthread_mutex_lock(&iommufd->lock);
	object = uapi_object_find(iommufd, id, UAPI_OBJECT_IOAS);
	if (!object) {
		pthread_mutex_unlock(&iommufd->lock);
		return -ENOENT;
	}
	hint = object->hint;
	allowed = object->allowed;
	if (allowed)
		atomic_fetch_add(&allowed->references, 1);
	search.ioas = uapi_ioas_get(object->ioas);
	pthread_mutex_unlock(&iommufd->lock);

	search.allowed = allowed;
	ret = prepare(&search, source, size);
	if (!ret && !search_from(&search, hint, iova) && !search_from(&search, 0, iova))
		ret = -ENOSPC;
	free(search.ranges);
	uapi_ioas_put(search.ioas);
	uapi_allowed_put(allowed);
	if (ret)
		return ret;
	pthread_mutex_lock(&iommufd->lock);
	object = uapi_object_find(iommufd, id, UAPI_OBJECT_IOAS);
	if (object)
		object->hint = *iova + size;
	pthread_mutex_unlock(&iommufd->lock);
	return 0;
}
