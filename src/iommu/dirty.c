/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty logs: switched on and off, and written to. dirty_report.c reads them. */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "iommu/space.h"

int uvf_dirty_log_new(uint64_t granule, struct uvf_dirty_log **logp)
{
	struct uvf_dirty_log *log = calloc(2, sizeof(*log));

	if (!log)
		return -ENOMEM;
	log->aside = log + 1;
	log->pages.page_shift = (unsigned)__builtin_ctzll(granule);
	log->aside->pages.page_shift = log->pages.page_shift;
	*logp = log;
	return 0;
}

void uvf_dirty_log_free(struct uvf_dirty_log *log)
{
	if (!log)
		return;
	uvf_page_set_destroy(&log->pages);
	uvf_page_set_destroy(&log->aside->pages);
	uvf_owed_free(&log->owed);
	free(log);
}

/* ---- Writing to it ---- */

void uvf_dirty_log_add_pages(struct uvf_dirty_log *log, uint64_t page, uint64_t end)
{
	if (end - page < 64) {
		for (; page <= end; page++)
			uvf_page_set_add(&log->pages, page);
		return;
	}
	uvf_page_set_add_range(&log->pages, page, end);
}

void uvf_dirty_mark_late(struct uvf_address_space *space, uvf_iova_t iova, uvf_iova_t last)
{
	struct uvf_dirty_log *log;

	if (!uvf_dirty_is_on(space))
		return;
	pthread_mutex_lock(&space->lock);
	log = atomic_load_explicit(&space->log, memory_order_relaxed);
	if (log)
		uvf_dirty_log_add(log, iova, last);
	pthread_mutex_unlock(&space->lock);
}

/* What a device may have written through a pin is in the log before the pin is gone. */
void uvf_attachment_unpin(struct uvf_pin *pin)
{
	struct uvf_view *view = pin->owner;
	struct uvf_attachment *attachment = view->attachment;

	if (pin->prot & UVF_PROT_WRITE &&
	    atomic_load_explicit(&attachment->logging, memory_order_acquire)) {
		struct uvf_reading reading = uvf_readers_enter(&attachment->readers);

		uvf_dirty_mark(view, pin->first, pin->last);
		uvf_readers_exit(reading);
	}
	uvf_pins_remove(pin);
}

/* ---- On and off ---- */

void uvf_view_set_logging(struct uvf_view *view, bool logging)
{
	if (view->logging == logging)
		return;
	view->logging = logging;
	if (logging)
		atomic_fetch_add(&view->attachment->logging, 1);
	else
		atomic_fetch_sub(&view->attachment->logging, 1);
}

int uvf_dirty_prepare(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last)
{
	struct uvf_dirty_log *log = atomic_load_explicit(&space->log, memory_order_relaxed);
	unsigned shift;
	int ret;

	if (!log)
		return 0;
	shift = log->pages.page_shift;
	ret = uvf_page_set_prepare(&log->pages, first >> shift, last >> shift);
	return ret ? ret : uvf_page_set_prepare(&log->aside->pages, first >> shift, last >> shift);
}

void uvf_dirty_synchronize(struct uvf_address_space *space)
{
	struct uvf_grace grace = {0};

	for (struct uvf_view *view = space->views; view; view = view->next)
		uvf_readers_wait(&view->attachment->readers, &grace);
}

int uvf_dirty_start(struct uvf_address_space *space)
{
	struct uvf_dirty_log *log;
	int ret = 0;

	pthread_mutex_lock(&space->lock);
	if (!atomic_load_explicit(&space->log, memory_order_relaxed)) {
		ret = uvf_dirty_log_new(uvf_space_granule(space), &log);
		if (!ret) {
			atomic_store_explicit(&space->log, log, memory_order_release);
			for (struct uvf_view *view = space->views; view; view = view->next)
				uvf_view_set_logging(view, true);
			/* Transfers that began without it are not in the log, but have ended. */
			uvf_dirty_synchronize(space);
		}
	}
	pthread_mutex_unlock(&space->lock);
	return ret;
}

void uvf_dirty_stop(struct uvf_address_space *space)
{
	struct uvf_dirty_log *log;

	pthread_mutex_lock(&space->lock);
	log = atomic_load_explicit(&space->log, memory_order_relaxed);
	if (log) {
		atomic_store_explicit(&space->log, NULL, memory_order_release);
		for (struct uvf_view *view = space->views; view; view = view->next)
			uvf_view_set_logging(view, false);
		uvf_dirty_synchronize(space);
	}
	pthread_mutex_unlock(&space->lock);
	uvf_dirty_log_free(log);
}

bool uvf_dirty_is_on(struct uvf_address_space *space)
{
	return atomic_load_explicit(&space->log, memory_order_acquire) != NULL;
}

/* ---- An attachment's own log ---- */

int uvf_attachment_log_start(struct uvf_attachment *attachment, uint64_t granule)
{
	struct uvf_dirty_log *log;
	struct uvf_grace grace = {0};
	int ret = -EALREADY;

	pthread_mutex_lock(&attachment->lock);
	if (!atomic_load_explicit(&attachment->log, memory_order_relaxed)) {
		ret = uvf_dirty_log_new(granule, &log);
		if (!ret) {
			atomic_store_explicit(&attachment->log, log, memory_order_release);
			atomic_fetch_add(&attachment->logging, 1);
			uvf_readers_wait(&attachment->readers, &grace);
		}
	}
	pthread_mutex_unlock(&attachment->lock);
	return ret;
}

void uvf_attachment_log_stop(struct uvf_attachment *attachment)
{
	struct uvf_dirty_log *log;
	struct uvf_grace grace = {0};

	pthread_mutex_lock(&attachment->lock);
	log = atomic_load_explicit(&attachment->log, memory_order_relaxed);
	if (log) {
		atomic_store_explicit(&attachment->log, NULL, memory_order_release);
		atomic_fetch_sub(&attachment->logging, 1);
		uvf_readers_wait(&attachment->readers, &grace);
	}
	pthread_mutex_unlock(&attachment->lock);
	uvf_dirty_log_free(log);
}

bool uvf_attachment_log_is_on(struct uvf_attachment *attachment)
{
	return atomic_load_explicit(&attachment->log, memory_order_acquire) != NULL;
}
