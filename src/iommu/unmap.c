/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unmapping. For some mappings at a time:
 *
 * 1. They leave the map, and their range is noted as going.
 * 2. A grace period: every reader, and every pin being made, that saw them has finished. It is
 *    spared when no attachment is active.
 * 3. The attachments are told, so that they give up pins that they hold for long. After the grace
 *    period, because a pin made after an attachment was told would stay for ever.
 * 4. Pins that are left are waited for.
 * 5. Listeners are told, windows are given back, the dirty log forgets the range, and it isn't
 *    going any more.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "iommu/space.h"

/* Mappings that share a grace period: so many, or the few for which the stack has room. */
#define BATCH	    4096
#define SMALL_BATCH 16

void uvf_space_synchronize(struct uvf_address_space *space)
{
	struct uvf_grace grace = {0};

	for (struct uvf_view *view = space->views; view; view = view->next)
		if (view->active)
			uvf_readers_wait(&view->attachment->readers, &grace);
}

void uvf_space_settle(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last)
{
	struct uvf_going *going = space->going;

	while (going) {
		if (going->first <= last && first <= going->last) {
			pthread_cond_wait(&space->changed, &space->lock);
			going = space->going;
		} else {
			going = going->next;
		}
	}
}

/* Whether the range cuts no mapping. */
static bool cuts_nothing(const struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last)
{
	struct uvf_interval interval;

	if (uvf_interval_map_next(&space->map, first, &interval) && interval.first < first)
		return false;
	/* It may begin in the range or before it; only its end counts. */
	if (uvf_interval_map_next(&space->map, last, &interval) && interval.first <= last &&
	    interval.last > last)
		return false;
	return true;
}

void uvf_space_tell_attachments(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last)
{
	struct uvf_view *view = space->views;

	while (view) {
		struct uvf_attachment *attachment = view->attachment;

		/* A view with callbacks stays in the list, so its `next` is good afterwards. */
		view->callbacks++;
		pthread_mutex_unlock(&space->lock);
		if (attachment->ops->unmap)
			attachment->ops->unmap(attachment->opaque, first, last);
		pthread_mutex_lock(&space->lock);
		if (!--view->callbacks)
			pthread_cond_broadcast(&space->changed);
		view = view->next;
	}
}

void uvf_space_begin_going(struct uvf_address_space *space, struct uvf_going *going)
{
	going->next = space->going;
	space->going = going;
}

void uvf_space_end_going(struct uvf_address_space *space, const struct uvf_going *going)
{
	struct uvf_going **at;

	for (at = &space->going; *at != going; at = &(*at)->next)
		;
	*at = going->next;
	pthread_cond_broadcast(&space->changed);
}

/* With the lock held, which it drops meanwhile. @gone has left the map. */
static void finish(struct uvf_address_space *space, const struct uvf_interval *gone, size_t count,
		   const struct uvf_dirty_report *report)
{
	struct uvf_going going = {
		.first = gone[0].first,
		.last = gone[count - 1].last,
	};

	uvf_space_begin_going(space, &going);
	uvf_space_synchronize(space);
	uvf_interval_map_quiescent(&space->map);
	if (space->views) {
		uvf_space_tell_attachments(space, going.first, going.last);
		pthread_mutex_unlock(&space->lock);
		uvf_pins_wait(&space->pins, NULL, going.first, going.last);
		pthread_mutex_lock(&space->lock);
	}
	for (size_t i = 0; i < count; i++) {
		for (struct uvf_listener *told = space->listeners; told; told = told->next)
			if (told->unmap)
				told->unmap(told, gone[i].first, gone[i].last);
		uvf_space_drop(space, &gone[i]);
	}
	/* As long as nobody can map there again: what is written then is not forgotten. */
	uvf_dirty_forget(space, going.first, going.last, report);
	uvf_space_end_going(space, &going);
}

int uvf_unmap_check(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last)
{
	uvf_space_settle(space, first, last);
	return cuts_nothing(space, first, last) ? 0 : -EINVAL;
}

void uvf_unmap_locked(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last,
		      uint64_t *unmapped, const struct uvf_dirty_report *report)
{
	struct uvf_interval few[SMALL_BATCH], *many = NULL, *batch = few;
	size_t count, size = SMALL_BATCH;
	uint64_t bytes = 0;

	while ((count = uvf_interval_map_remove(&space->map, first, last, batch, size))) {
		for (size_t i = 0; i < count; i++)
			bytes += batch[i].last - batch[i].first + 1;
		finish(space, batch, count, report);
		first = batch[count - 1].last;
		if (first++ == last || count < size)
			break;
		if (!many) {
			many = malloc(BATCH * sizeof(*many));
			batch = many ? many : few;
			size = many ? BATCH : SMALL_BATCH;
		}
	}
	free(many);
	if (unmapped)
		*unmapped = bytes;
}

int uvf_unmap(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size, uint64_t *unmapped)
{
	uvf_iova_t last = UINT64_MAX;
	int ret;

	if (unmapped)
		*unmapped = 0;
	if (iova || size) {
		if (!size || !uvf_is_aligned(iova | size, uvf_space_granule(space)))
			return -EINVAL;
		if (!uvf_range_last(iova, size, &last))
			return -EOVERFLOW;
	}
	pthread_mutex_lock(&space->lock);
	ret = uvf_unmap_check(space, iova, last);
	if (!ret)
		uvf_unmap_locked(space, iova, last, unmapped, NULL);
	pthread_mutex_unlock(&space->lock);
	return ret;
}
