/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The scope of dirty reports: whether what a device wrote is known, or all that is mapped for
 * writing may be.
 *
 * A view is wide while its device doesn't tell us what it writes (it is silent) and has pinned
 * nothing through it; the address space counts its wide views, and is reported in full while there
 * is one. A silent device that pins promises by it that it writes only where it has pinned, but can
 * promise for itself only: it narrows its view if it is alone in its group. Who joins its group
 * widens it again.
 *
 * What a wide view's device may have written until it narrowed, or left, is owed to the next
 * report: the ranges that were mapped for writing then (struct uvf_owed), not pages, as there can
 * be any number of those.
 *
 * Locks: a group's `changing` before an attachment's, which is before an address space's.
 */
#ifndef UVF_IOMMU_SCOPE_H
#define UVF_IOMMU_SCOPE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <uvfio/iommu.h>

struct uvf_attachment;
struct uvf_group;
struct uvf_view;

/*
 * Its members are told here by whoever makes it; members whose lock is not held may narrow
 * meanwhile, so one that comes is counted before it widens the others.
 */
struct uvf_group {
	pthread_mutex_t changing;
	atomic_uint count;
	struct uvf_attachment *members; /* with `changing` */
};

/* With the space's lock held: changes the count, and owes what is not told from now on. */
void uvf_view_set_wide(struct uvf_view *view, bool wide);
/*
 * The device of @view's attachment, which is silent, has pinned through it; the pin, which is still
 * there, keeps it. Where it has another view by now, that one stays wide. With no lock.
 */
void uvf_view_narrow(struct uvf_view *view);

/* Ranges in rising order that don't meet. All zero: none. */
struct uvf_owed {
	struct uvf_iova_range *range;
	size_t count, capacity;
};

void uvf_owed_free(struct uvf_owed *owed);
/* [first, last], above all that is there. Errors: -ENOMEM. */
int uvf_owed_append(struct uvf_owed *owed, uvf_iova_t first, uvf_iova_t last);
/* The first range that ends at @iova or above: its index, or `count`. */
size_t uvf_owed_find(const struct uvf_owed *owed, uvf_iova_t iova);
/* [first, last] isn't owed any more; it stays so where there is no memory to cut a range. */
void uvf_owed_remove(struct uvf_owed *owed, uvf_iova_t first, uvf_iova_t last);

#endif
