/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logs inside: a set of pages, found by who writes through a pointer that is loaded in the
 * reader's section of the transfer. A log goes after a grace period of all who could have it. It is
 * switched on and off, and reported, with the lock of the address space or attachment that has it.
 *
 * While a report takes pages out of a log, writes go to another: so it is read and cleared by plain
 * loads and stores, with nobody beside; what was written meanwhile is added when it is back.
 *
 * An attachment counts the logs that are on for it (`logging`), its address spaces' and its own, so
 * that a transfer looks at one word to know that there is nothing to do.
 */
#ifndef UVF_IOMMU_DIRTY_H
#define UVF_IOMMU_DIRTY_H

#include <uvfio/dirty.h>

#include "base/page_set.h"
#include "iommu/scope.h"

struct uvf_attachment;
struct uvf_dirty_report; /* dirty_report.c */
struct uvf_view;

struct uvf_dirty_log {
	struct uvf_page_set pages;
	struct uvf_owed owed; /* with the space's lock */
	/* In each report of it, until it is taken out: what is too much to be noted page by page.
	 */
	bool has_range;
	uvf_iova_t first, last;
	/* Where writes go while this one is read; of it only `pages` is used. */
	struct uvf_dirty_log *aside;
};

int uvf_dirty_log_new(uint64_t granule, struct uvf_dirty_log **logp);
void uvf_dirty_log_free(struct uvf_dirty_log *log);

/* By number, of the log's size. */
void uvf_dirty_log_add_pages(struct uvf_dirty_log *log, uint64_t page, uint64_t end);

/* As a reader, or with the lock of who has the log. */
static inline void uvf_dirty_log_add(struct uvf_dirty_log *log, uvf_iova_t iova, uvf_iova_t last)
{
	uint64_t page = iova >> log->pages.page_shift, end = last >> log->pages.page_shift;

	if (__builtin_expect(page == end, 1))
		uvf_page_set_add(&log->pages, page);
	else
		uvf_dirty_log_add_pages(log, page, end);
}

/* [iova, last] was written by who may have no view of @space any more. With no lock. */
void uvf_dirty_mark_late(struct uvf_address_space *space, uvf_iova_t iova, uvf_iova_t last);
/* With the space's lock held: a view begins, or ends, to write to the space's log. */
void uvf_view_set_logging(struct uvf_view *view, bool logging);
/*
 * With the space's lock held: waits for all who could have the log that was there before. Not only
 * transfers: pins are given up, and marked, through views that aren't active any more, too.
 */
void uvf_dirty_synchronize(struct uvf_address_space *space);
/* With the space's lock held: writes to [first, last] will find room in the log. -ENOMEM. */
int uvf_dirty_prepare(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last);
/*
 * With the space's lock held: what was mapped in [first, last] has gone, and can't come back yet.
 * What the log has there is told to @report (NULL: to nobody).
 */
void uvf_dirty_forget(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last,
		      const struct uvf_dirty_report *report);

/* Whether all of it is there already; false where that isn't known at once. */
static inline bool uvf_dirty_log_has(struct uvf_dirty_log *log, uvf_iova_t iova, uvf_iova_t last)
{
	uint64_t page = iova >> log->pages.page_shift;

	return page == last >> log->pages.page_shift && uvf_page_set_has(&log->pages, page);
}

#endif
