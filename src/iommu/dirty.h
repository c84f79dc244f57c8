/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logs inside: a set of pages, found by who writes through a pointer that is loaded in the
 * reader's section of the transfer. A log goes after a grace period of all who could have it. It is
 * switched on and off, and reported, with the lock of the address space or attachment that has it.
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
struct uvf_view;

struct uvf_dirty_log {
	struct uvf_page_set pages;
	struct uvf_owed owed; /* with the space's lock */
	/* In each report of it, until it is taken out: what is too much to be noted page by page.
	 */
	bool has_range;
	uvf_iova_t first, last;
};

int uvf_dirty_log_new(uint64_t granule, struct uvf_dirty_log **logp);
void uvf_dirty_log_free(struct uvf_dirty_log *log);

/* As a reader, after the write: [iova, last] was written through @view. */
void uvf_dirty_mark(struct uvf_view *view, uvf_iova_t iova, uvf_iova_t last);

/* With the space's lock held: a view begins, or ends, to write to the space's log. */
void uvf_view_set_logging(struct uvf_view *view, bool logging);
/* With the space's lock held: writes to [first, last] will find room in the log. -ENOMEM. */
int uvf_dirty_prepare(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last);
/* With the space's lock held: [first, last] was unmapped. */
void uvf_dirty_forget(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last);

#endif
