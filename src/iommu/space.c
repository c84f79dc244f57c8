/* SPDX-License-Identifier: BSD-3-Clause */
/* Address spaces: made, described, listened to. */
#include "iommu/space.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define DEFAULT_PAGE_SIZES (1ULL << 12)

static int configure(struct uvf_address_space *space, const struct uvf_address_space_config *config)
{
	space->page_sizes = DEFAULT_PAGE_SIZES;
	space->aperture.last = UINT64_MAX;
	if (!config)
		return 0;
	if (config->page_sizes)
		space->page_sizes = config->page_sizes;
	if (config->aperture.first || config->aperture.last)
		space->aperture = config->aperture;
	if (space->aperture.first > space->aperture.last)
		return -EINVAL;
	space->max_mappings = config->max_mappings;
	space->max_bytes = config->max_bytes;
	space->max_files = config->max_files;
	space->max_windows = config->max_windows;
	for (size_t i = 0; i < config->reserved_count; i++)
		if (config->reserved[i].first > config->reserved[i].last)
			return -EINVAL;
	if (!config->reserved_count)
		return 0;
	space->reserved = calloc(config->reserved_count, sizeof(*space->reserved));
	if (!space->reserved)
		return -ENOMEM;
	memcpy(space->reserved, config->reserved,
	       config->reserved_count * sizeof(*space->reserved));
	space->reserved_count = config->reserved_count;
	return 0;
}

static void synchronize(struct uvf_interval_map *map)
{
	uvf_space_synchronize((
		struct uvf_address_space *)((char *)map - offsetof(struct uvf_address_space, map)));
}

int uvf_address_space_new(const struct uvf_address_space_config *config,
			  struct uvf_address_space **spacep)
{
	struct uvf_address_space *space = aligned_alloc(64, sizeof(*space));
	int error;

	if (!space)
		return -ENOMEM;
	memset(space, 0, sizeof(*space));
	error = configure(space, config);
	if (!error)
		error = uvf_interval_map_init(&space->map, synchronize);
	if (error) {
		free(space->reserved);
		free(space);
		return error;
	}
	atomic_init(&space->references, 1);
	uvf_pins_init(&space->pins);
	pthread_mutex_init(&space->lock, NULL);
	pthread_cond_init(&space->changed, NULL);
	*spacep = space;
	return 0;
}

struct uvf_address_space *uvf_address_space_get(struct uvf_address_space *space)
{
	atomic_fetch_add_explicit(&space->references, 1, memory_order_relaxed);
	return space;
}

void uvf_address_space_put(struct uvf_address_space *space)
{
	struct uvf_interval interval;
	uint64_t next = 0;

	if (atomic_fetch_sub_explicit(&space->references, 1, memory_order_acq_rel) != 1)
		return;
	/* No view is left, so there is no reader and no pin. */
	while (uvf_interval_map_next(&space->map, next, &interval)) {
		uvf_space_drop(space, &interval);
		next = interval.last + 1;
		if (!next)
			break;
	}
	uvf_interval_map_destroy(&space->map);
	uvf_pins_destroy(&space->pins);
	uvf_dirty_log_free(atomic_load(&space->log));
	pthread_cond_destroy(&space->changed);
	pthread_mutex_destroy(&space->lock);
	free(space->files.bucket);
	free(space->reserved);
	free(space);
}

uint64_t uvf_address_space_page_sizes(const struct uvf_address_space *space)
{
	return space->page_sizes;
}

struct uvf_mapping uvf_mapping_of(const struct uvf_interval *interval)
{
	const struct uvf_window *window = uvf_object_window(interval->object);

	return (struct uvf_mapping){
		.first = interval->first,
		.last = interval->last,
		.prot = interval->object & UVF_PROT_RW,
		.memory = window->memory,
		.offset = interval->value - window->value + window->offset,
	};
}

/* With the lock held. */
static int for_each(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last,
		    int (*fn)(void *opaque, const struct uvf_mapping *mapping), void *opaque)
{
	struct uvf_interval interval;
	uint64_t next = first;

	while (uvf_interval_map_next(&space->map, next, &interval) && interval.first <= last) {
		struct uvf_mapping mapping = uvf_mapping_of(&interval);
		int result = fn(opaque, &mapping);

		if (result)
			return result;
		next = interval.last + 1;
		if (!next)
			break;
	}
	return 0;
}

int uvf_for_each_mapping(struct uvf_address_space *space,
			 int (*fn)(void *opaque, const struct uvf_mapping *mapping), void *opaque)
{
	return uvf_for_each_mapping_in(space, 0, UINT64_MAX, fn, opaque);
}

int uvf_for_each_mapping_in(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last,
			    int (*fn)(void *opaque, const struct uvf_mapping *mapping),
			    void *opaque)
{
	int result;

	pthread_mutex_lock(&space->lock);
	result = for_each(space, first, last, fn, opaque);
	pthread_mutex_unlock(&space->lock);
	return result;
}

void uvf_address_space_stats(struct uvf_address_space *space, struct uvf_address_space_stats *stats)
{
	pthread_mutex_lock(&space->lock);
	*stats = (struct uvf_address_space_stats){
		.mappings = space->mappings,
		.bytes = space->bytes,
		.windows = space->windows,
		.memory = sizeof(*space) + uvf_interval_map_memory(&space->map) +
			  space->files.size * sizeof(*space->files.bucket),
	};
	pthread_mutex_unlock(&space->lock);
	stats->pins = uvf_pins_count(&space->pins);
}

/* ---- Listeners ---- */

static int tell_mapping(void *opaque, const struct uvf_mapping *mapping)
{
	struct uvf_listener *listener = opaque;

	return listener->map ? listener->map(listener, mapping) : 0;
}

/* What the listener was told before its refusal is taken back. */
struct taking_back {
	struct uvf_listener *listener;
	uvf_iova_t end; /* the first one that it was not told */
};

int uvf_listener_add(struct uvf_address_space *space, struct uvf_listener *listener)
{
	struct uvf_interval interval;
	uint64_t next = 0;
	int error = 0;

	pthread_mutex_lock(&space->lock);
	/* One that is going would be reported to it as unmapped, but never as mapped. */
	uvf_space_settle(space, 0, UINT64_MAX);
	while (!error && uvf_interval_map_next(&space->map, next, &interval)) {
		struct uvf_mapping mapping = uvf_mapping_of(&interval);

		error = tell_mapping(listener, &mapping);
		next = interval.last + 1;
		if (!next)
			break;
	}
	if (!error) {
		listener->next = space->listeners;
		space->listeners = listener;
	} else if (listener->unmap) {
		uint64_t end = interval.first;

		next = 0;
		while (uvf_interval_map_next(&space->map, next, &interval) &&
		       interval.first < end) {
			listener->unmap(listener, interval.first, interval.last);
			next = interval.last + 1;
		}
	}
	pthread_mutex_unlock(&space->lock);
	return error;
}

void uvf_listener_remove(struct uvf_address_space *space, struct uvf_listener *listener)
{
	pthread_mutex_lock(&space->lock);
	for (struct uvf_listener **at = &space->listeners; *at; at = &(*at)->next)
		if (*at == listener) {
			*at = listener->next;
			break;
		}
	pthread_mutex_unlock(&space->lock);
}
