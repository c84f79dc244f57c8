/* SPDX-License-Identifier: BSD-3-Clause */
/* Attachments: set to an address space, enabled, freed. */
#include <errno.h>
#include <stdlib.h>

#include "iommu/space.h"

int uvf_attachment_new(const struct uvf_attachment_ops *ops, void *opaque,
		       struct uvf_attachment **attachmentp)
{
	struct uvf_attachment *attachment = aligned_alloc(64, sizeof(*attachment));

	if (!attachment)
		return -ENOMEM;
	*attachment = (struct uvf_attachment){.ops = ops, .opaque = opaque};
	pthread_mutex_init(&attachment->lock, NULL);
	uvf_readers_init(&attachment->readers);
	*attachmentp = attachment;
	return 0;
}

void uvf_attachment_free(struct uvf_attachment *attachment)
{
	if (!attachment)
		return;
	uvf_attachment_set(attachment, NULL);
	uvf_attachment_set_group(attachment, NULL);
	uvf_attachment_log_stop(attachment);
	pthread_mutex_destroy(&attachment->lock);
	free(attachment);
}

static int view_new(struct uvf_attachment *attachment, struct uvf_address_space *space,
		    struct uvf_view **viewp)
{
	struct uvf_view *view = aligned_alloc(64, sizeof(*view));

	if (!view)
		return -ENOMEM;
	*view = (struct uvf_view){
		.space = uvf_address_space_get(space),
		.attachment = attachment,
	};
	pthread_mutex_lock(&space->lock);
	view->next = space->views;
	space->views = view;
	uvf_view_set_logging(view, atomic_load(&space->log) != NULL);
	uvf_view_set_wide(view, attachment->silent);
	pthread_mutex_unlock(&space->lock);
	*viewp = view;
	return 0;
}

/* No transfer uses it any more. */
static void view_free(struct uvf_view *view)
{
	struct uvf_address_space *space = view->space;
	const struct uvf_attachment *attachment = view->attachment;

	if (attachment->ops->unmap)
		attachment->ops->unmap(attachment->opaque, 0, UINT64_MAX);
	uvf_pins_wait(&space->pins, view, 0, UINT64_MAX);
	pthread_mutex_lock(&space->lock);
	while (view->callbacks)
		pthread_cond_wait(&space->changed, &space->lock);
	for (struct uvf_view **at = &space->views; *at; at = &(*at)->next)
		if (*at == view) {
			*at = view->next;
			break;
		}
	uvf_view_set_logging(view, false);
	uvf_view_set_wide(view, false);
	pthread_mutex_unlock(&space->lock);
	uvf_address_space_put(space);
	free(view);
}

/*
 * Makes @view (or NULL) the one that transfers use, and waits for those that use the one before.
 * With the attachment's lock held.
 */
static void activate(struct uvf_attachment *attachment, struct uvf_view *view)
{
	struct uvf_view *old = atomic_load_explicit(&attachment->active, memory_order_relaxed);

	if (view == old)
		return;
	if (view) {
		pthread_mutex_lock(&view->space->lock);
		view->active = true;
		pthread_mutex_unlock(&view->space->lock);
	}
	atomic_store_explicit(&attachment->active, view, memory_order_release);
	if (old) {
		struct uvf_grace grace = {0};

		uvf_readers_wait(&attachment->readers, &grace);
		pthread_mutex_lock(&old->space->lock);
		old->active = false;
		pthread_mutex_unlock(&old->space->lock);
	}
}

int uvf_attachment_set(struct uvf_attachment *attachment, struct uvf_address_space *space)
{
	struct uvf_view *old, *view = NULL;

	if (space) {
		int error = view_new(attachment, space, &view);

		if (error)
			return error;
	}
	pthread_mutex_lock(&attachment->lock);
	old = attachment->view;
	attachment->view = view;
	activate(attachment, attachment->bus_master ? view : NULL);
	pthread_mutex_unlock(&attachment->lock);
	/* Without the lock: who has a pin may have to switch bus mastering before it goes. */
	if (old)
		view_free(old);
	return 0;
}

struct uvf_address_space *uvf_attachment_space(struct uvf_attachment *attachment)
{
	return attachment->view ? attachment->view->space : NULL;
}

void uvf_attachment_enable(struct uvf_attachment *attachment, bool bus_master)
{
	pthread_mutex_lock(&attachment->lock);
	attachment->bus_master = bus_master;
	activate(attachment, bus_master ? attachment->view : NULL);
	pthread_mutex_unlock(&attachment->lock);
}
