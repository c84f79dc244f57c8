/* SPDX-License-Identifier: BSD-3-Clause */
/* The scope of dirty reports: widened and narrowed, by devices alone and in groups. */
#include <errno.h>
#include <stdlib.h>

#include "iommu/space.h"

/* With the space's lock held: the next report has all that is mapped for writing now. */
static void owe_mappings(struct uvf_address_space *space)
{
	struct uvf_dirty_log *log = atomic_load_explicit(&space->log, memory_order_relaxed);
	struct uvf_interval interval;
	uint64_t next = 0;

	if (!log)
		return;
	/* What was owed before and is still mapped is among it. */
	log->owed.count = 0;
	while (uvf_interval_map_next(&space->map, next, &interval)) {
		if (interval.object & UVF_PROT_WRITE &&
		    uvf_owed_append(&log->owed, interval.first, interval.last))
			atomic_store(&log->pages.lost, true);
		next = interval.last + 1;
		if (!next)
			break;
	}
}

void uvf_view_set_wide(struct uvf_view *view, bool wide)
{
	if (atomic_load_explicit(&view->wide, memory_order_relaxed) == wide)
		return;
	atomic_store_explicit(&view->wide, wide, memory_order_relaxed);
	if (wide) {
		atomic_fetch_add(&view->space->wide, 1);
	} else {
		owe_mappings(view->space);
		atomic_fetch_sub(&view->space->wide, 1);
	}
}

/* With the attachment's lock held. */
static void set_wide(struct uvf_attachment *attachment, bool wide)
{
	struct uvf_view *view = attachment->view;

	if (!view)
		return;
	pthread_mutex_lock(&view->space->lock);
	uvf_view_set_wide(view, wide);
	pthread_mutex_unlock(&view->space->lock);
}

void uvf_attachment_set_silent(struct uvf_attachment *attachment, bool silent)
{
	pthread_mutex_lock(&attachment->lock);
	attachment->silent = silent;
	set_wide(attachment, silent);
	pthread_mutex_unlock(&attachment->lock);
}

void uvf_view_narrow(struct uvf_view *view)
{
	struct uvf_attachment *attachment = view->attachment;
	const struct uvf_group *group;

	pthread_mutex_lock(&attachment->lock);
	group = attachment->group;
	if (attachment->view == view && (!group || atomic_load(&group->count) == 1))
		set_wide(attachment, false);
	pthread_mutex_unlock(&attachment->lock);
}

unsigned uvf_dirty_wide(const struct uvf_address_space *space)
{
	return atomic_load_explicit(&space->wide, memory_order_acquire);
}

/* ---- Groups ---- */

int uvf_group_new(struct uvf_group **groupp)
{
	struct uvf_group *group = calloc(1, sizeof(*group));

	if (!group)
		return -ENOMEM;
	pthread_mutex_init(&group->changing, NULL);
	*groupp = group;
	return 0;
}

/* With its `changing` held. */
static void leave(struct uvf_group *group, struct uvf_attachment *attachment)
{
	struct uvf_attachment **at = &group->members;

	while (*at != attachment)
		at = &(*at)->next_member;
	*at = attachment->next_member;
	pthread_mutex_lock(&attachment->lock);
	attachment->group = NULL;
	pthread_mutex_unlock(&attachment->lock);
	atomic_fetch_sub(&group->count, 1);
}

static void join(struct uvf_group *group, struct uvf_attachment *attachment)
{
	/* First: who narrows from here on sees that it isn't alone. */
	atomic_fetch_add(&group->count, 1);
	attachment->next_member = group->members;
	group->members = attachment;
	pthread_mutex_lock(&attachment->lock);
	attachment->group = group;
	pthread_mutex_unlock(&attachment->lock);
	if (!attachment->next_member)
		return;
	for (struct uvf_attachment *member = attachment; member; member = member->next_member) {
		pthread_mutex_lock(&member->lock);
		if (member->silent)
			set_wide(member, true);
		pthread_mutex_unlock(&member->lock);
	}
}

void uvf_attachment_set_group(struct uvf_attachment *attachment, struct uvf_group *group)
{
	struct uvf_group *old = attachment->group;

	if (old == group)
		return;
	if (old) {
		pthread_mutex_lock(&old->changing);
		leave(old, attachment);
		pthread_mutex_unlock(&old->changing);
	}
	if (group) {
		pthread_mutex_lock(&group->changing);
		join(group, attachment);
		pthread_mutex_unlock(&group->changing);
	}
}

void uvf_group_free(struct uvf_group *group)
{
	if (!group)
		return;
	while (group->members)
		uvf_attachment_set_group(group->members, NULL);
	pthread_mutex_destroy(&group->changing);
	free(group);
}
