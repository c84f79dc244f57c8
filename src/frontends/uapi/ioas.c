/* SPDX-License-Identifier: BSD-3-Clause */
/* Address spaces of the program: made, described; what is mapped where. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "frontends/uapi/ioas_private.h"
#include "frontends/uapi/uapi.h"

#define DEFAULT_MAX_MAPPINGS 65535

static int compare_ranges(const void *left, const void *right)
{
	const struct uvf_iova_range *a = left, *b = right;

	return a->first < b->first ? -1 : a->first > b->first;
}

/* What is left of the aperture without the @count rising @reserved ranges, in whole granules. */
static void make_ranges(struct uapi_ioas *ioas, struct uvf_iova_range aperture,
			const struct uvf_iova_range *reserved, size_t count)
{
	uint64_t granule = uapi_ioas_granule(ioas), first = aperture.first;

	for (size_t i = 0; i <= count && first <= aperture.last; i++) {
		uint64_t begin, end = aperture.last;

		if (i < count && reserved[i].last < first)
			continue;
		if (i < count && reserved[i].first <= end)
			end = reserved[i].first - 1; /* wraps where there is nothing before it */
		begin = uvf_align_up(first, granule);
		if (!(i < count && reserved[i].first <= first) && begin >= first) {
			uint64_t last = uvf_align_down(end + 1, granule) - 1;

			if (begin <= last && last <= end)
				ioas->ranges[ioas->range_count++] =
					(struct uvf_iova_range){begin, last};
		}
		if (i == count || reserved[i].last == UINT64_MAX)
			break;
		first = reserved[i].last + 1;
	}
}

static int find_ranges(struct uapi_ioas *ioas, const struct uvf_run_config *config)
{
	size_t count = config->reserved_count;
	struct uvf_iova_range aperture = config->aperture;
	struct uvf_iova_range *reserved = calloc(count + 1, sizeof(*reserved));

	ioas->ranges = calloc(count + 1, sizeof(*ioas->ranges));
	if (!reserved || !ioas->ranges) {
		free(reserved);
		return -ENOMEM;
	}
	if (count)
		memcpy(reserved, config->reserved, count * sizeof(*reserved));
	qsort(reserved, count, sizeof(*reserved), compare_ranges);
	if (!aperture.first && !aperture.last)
		aperture.last = UINT64_MAX;
	make_ranges(ioas, aperture, reserved, count);
	free(reserved);
	return 0;
}

static void ioas_free(struct uapi_ioas *ioas)
{
	struct uvf_interval interval;
	uint64_t next = 0;

	while (uvf_interval_map_next(&ioas->map, next, &interval)) {
		free(uapi_mapping_of(&interval));
		next = interval.last + 1;
		if (!next)
			break;
	}
	uapi_programs_destroy(&ioas->programs);
	uvf_address_space_put(ioas->space);
	uvf_interval_map_destroy(&ioas->map);
	pthread_mutex_destroy(&ioas->lock);
	free(ioas->ranges);
	free(ioas);
}

int uapi_ioas_new(struct uvf_run *run, struct uapi_ioas **ioasp)
{
	const struct uvf_run_config *config = &run->config;
	struct uvf_address_space_config space = {
		.page_sizes = config->page_sizes,
		.aperture = config->aperture,
		.reserved = config->reserved,
		.reserved_count = config->reserved_count,
	};
	struct uapi_ioas *ioas = calloc(1, sizeof(*ioas));
	int error;

	if (!ioas)
		return -ENOMEM;
	error = uvf_interval_map_init(&ioas->map, NULL);
	if (error) {
		free(ioas);
		return error;
	}
	error = uvf_address_space_new(&space, &ioas->space);
	if (error) {
		uvf_interval_map_destroy(&ioas->map);
		free(ioas);
		return error;
	}
	atomic_init(&ioas->references, 1);
	pthread_mutex_init(&ioas->lock, NULL);
	uapi_programs_init(&ioas->programs, ioas->space);
	ioas->max_mappings = config->max_mappings ? config->max_mappings : DEFAULT_MAX_MAPPINGS;
	ioas->max_bytes = config->max_locked_memory ? config->max_locked_memory : UINT64_MAX;
	ioas->injector = config->injector;
	error = find_ranges(ioas, config);
	if (error) {
		ioas_free(ioas);
		return error;
	}
	*ioasp = ioas;
	return 0;
}

struct uapi_ioas *uapi_ioas_get(struct uapi_ioas *ioas)
{
	atomic_fetch_add_explicit(&ioas->references, 1, memory_order_relaxed);
	return ioas;
}

void uapi_ioas_put(struct uapi_ioas *ioas)
{
	if (ioas && atomic_fetch_sub_explicit(&ioas->references, 1, memory_order_acq_rel) == 1)
		ioas_free(ioas);
}

struct uvf_address_space *uapi_ioas_space(struct uapi_ioas *ioas)
{
	return ioas->space;
}

uint64_t uapi_ioas_page_sizes(struct uapi_ioas *ioas)
{
	return uvf_address_space_page_sizes(ioas->space);
}

size_t uapi_ioas_ranges(struct uapi_ioas *ioas, struct uvf_iova_range *ranges, size_t max)
{
	size_t count = max < ioas->range_count ? max : ioas->range_count;

	if (count)
		memcpy(ranges, ioas->ranges, count * sizeof(*ranges));
	return ioas->range_count;
}

bool uapi_ioas_in_range(const struct uapi_ioas *ioas, uint64_t first, uint64_t last)
{
	for (size_t i = 0; i < ioas->range_count; i++)
		if (first >= ioas->ranges[i].first && last <= ioas->ranges[i].last)
			return true;
	return false;
}

uint64_t uapi_ioas_available(struct uapi_ioas *ioas)
{
	uint64_t available = 0;

	pthread_mutex_lock(&ioas->lock);
	if (ioas->map.count < ioas->max_mappings)
		available = ioas->max_mappings - ioas->map.count;
	pthread_mutex_unlock(&ioas->lock);
	return available;
}

bool uapi_ioas_is_cut(const struct uapi_ioas *ioas, uint64_t first, uint64_t last)
{
	struct uvf_interval mapping;

	if (uvf_interval_map_next(&ioas->map, first, &mapping) && mapping.first < first)
		return true;
	return uvf_interval_map_next(&ioas->map, last, &mapping) && mapping.first <= last &&
	       mapping.last > last;
}

bool uapi_ioas_cuts(struct uapi_ioas *ioas, uint64_t first, uint64_t last)
{
	bool cuts;

	pthread_mutex_lock(&ioas->lock);
	cuts = uapi_ioas_is_cut(ioas, first, last);
	pthread_mutex_unlock(&ioas->lock);
	return cuts;
}

bool uapi_ioas_find(struct uapi_ioas *ioas, uint64_t first, uint64_t last,
		    struct uvf_iova_range *mapping)
{
	struct uvf_interval interval;
	bool found;

	pthread_mutex_lock(&ioas->lock);
	found = uvf_interval_map_next(&ioas->map, first, &interval) && interval.first <= last;
	pthread_mutex_unlock(&ioas->lock);
	if (found)
		*mapping = (struct uvf_iova_range){interval.first, interval.last};
	return found;
}
