/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replacing the memory behind a mapping. As an unmap (unmap.c), but that the mapping never is away:
 *
 * 1. Listeners are told that it goes, and of the new one, which they can refuse.
 * 2. The new one is put in the old one's place by one store.
 * 3. A grace period, after which a new era of pins begins: those of earlier eras may be of the old
 *    memory, and those that are not are asked to go too, in vain but without harm.
 * 4. The attachments are told, and pins of earlier eras waited for.
 * 5. The old memory is given up.
 */
#include <errno.h>

#include "base/bytes.h"
#include "iommu/space.h"

static int tell(struct uvf_listener *listener, const struct uvf_mapping *mapping)
{
	if (listener->unmap)
		listener->unmap(listener, mapping->first, mapping->last);
	return listener->map ? listener->map(listener, mapping) : 0;
}

/* All listeners up to @end (NULL: all) have the old mapping again, but for who refuses even it. */
static void tell_back(struct uvf_address_space *space, const struct uvf_listener *end,
		      const struct uvf_mapping *old)
{
	for (struct uvf_listener *listener = space->listeners; listener != end;
	     listener = listener->next)
		tell(listener, old);
}

static int tell_listeners(struct uvf_address_space *space, const struct uvf_mapping *old,
			  const struct uvf_mapping *new)
{
	for (struct uvf_listener *listener = space->listeners; listener;
	     listener = listener->next) {
		int error = tell(listener, new);

		if (!error)
			continue;
		/* It has neither now. */
		if (listener->map)
			listener->map(listener, old);
		tell_back(space, listener, old);
		return error;
	}
	return 0;
}

/* With the lock held, which it drops meanwhile. Nobody finds @old any more. */
static void finish(struct uvf_address_space *space, const struct uvf_interval *old)
{
	struct uvf_going going = {.first = old->first, .last = old->last};
	uint32_t era;

	uvf_space_begin_going(space, &going);
	uvf_space_synchronize(space);
	uvf_interval_map_quiescent(&space->map);
	if (space->views) {
		era = uvf_pins_new_era(&space->pins);
		uvf_space_tell_attachments(space, going.first, going.last);
		pthread_mutex_unlock(&space->lock);
		uvf_pins_wait_before(&space->pins, era, going.first, going.last);
		pthread_mutex_lock(&space->lock);
	}
	uvf_space_drop(space, old);
	uvf_space_end_going(space, &going);
}

/* With the lock held. */
static int replace(struct uvf_address_space *space, const struct uvf_interval *old,
		   struct uvf_memory *memory, uint64_t offset)
{
	struct uvf_interval interval = {.first = old->first, .last = old->last};
	struct uvf_mapping before = uvf_mapping_of(old), after;
	int error;

	if (before.prot & ~memory->prot)
		return -EACCES;
	error = uvf_space_take(space, memory, offset, before.prot, &interval);
	if (error)
		return error;
	after = uvf_mapping_of(&interval);
	error = tell_listeners(space, &before, &after);
	if (!error) {
		error = uvf_interval_map_replace(&space->map, &interval);
		if (error)
			tell_back(space, NULL, &before);
	}
	if (error)
		uvf_space_drop(space, &interval);
	else
		finish(space, old);
	return error;
}

int uvf_replace(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
		struct uvf_memory *memory, uint64_t offset)
{
	uint64_t granule = uvf_space_granule(space), ignored;
	struct uvf_interval old;
	uvf_iova_t last;
	int error = -ENOENT;

	if (!size || !uvf_is_aligned(offset, granule < UVF_OFFSET_ALIGNMENT ? granule
									    : UVF_OFFSET_ALIGNMENT))
		return -EINVAL;
	if (!uvf_range_last(iova, size, &last) || !uvf_range_last(offset, size, &ignored))
		return -EOVERFLOW;
	pthread_mutex_lock(&space->lock);
	uvf_space_settle(space, iova, last);
	if (uvf_interval_map_next(&space->map, iova, &old) && old.first == iova && old.last == last)
		error = replace(space, &old, memory, offset);
	pthread_mutex_unlock(&space->lock);
	return error;
}
