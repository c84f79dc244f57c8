/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of an address space, and of an attachment.
 *
 * Lifetime: a view (one attachment's use of one address space) holds a reference to the address
 * space; a mapping holds a window.
 *
 * Locks: `lock` is for everything but the map's readers, the pins' shards and counters that are
 * atomic. It is never taken by a reader inside, and not held while callbacks of attachments run
 * or pins are waited for. What an unmap has made invisible but not yet finished, or a replacement
 * is busy with, is in `going`: whoever maps or unmaps an overlapping range waits until it isn't.
 */
#ifndef UVF_IOMMU_SPACE_H
#define UVF_IOMMU_SPACE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/interval_map.h"
#include "base/readers.h"
#include "iommu/dirty.h"
#include "iommu/file.h"
#include "iommu/iommu.h"
#include "iommu/memory.h"
#include "iommu/pin.h"
#include "iommu/scope.h"

/* Offsets keep the granule's alignment up to a page's, so that what is aligned here is there. */
#define UVF_OFFSET_ALIGNMENT 4096ULL

/* Hints of one attachment; threads are spread over them as over slots of readers. */
#define UVF_HINTS UVF_READER_SLOTS

/* A last hit: on a cache line of its own, as a thread writes it at each new mapping. */
struct uvf_hint {
	_Atomic(uvf_place_t) place;
} __attribute__((aligned(64)));

/*
 * An attachment's use of one address space. A new one is made for each uvf_attachment_set(), so
 * that hints never outlive what they point into.
 */
struct uvf_view {
	struct uvf_address_space *space;
	struct uvf_attachment *attachment;
	struct uvf_view *next; /* the address space's list */
	atomic_bool wide;      /* counts in the address space's `wide` */
	bool logging;	       /* the address space's log counts in the attachment's `logging` */
	unsigned callbacks;    /* of the attachment that run now; it stays in the list meanwhile */
	bool active;	       /* transfers may be using it */
	struct uvf_hint hint[UVF_HINTS];
};

struct uvf_attachment {
	/* The view while bus mastering is on, for transfers: loaded as a reader. Else NULL. */
	_Atomic(struct uvf_view *) active;
	_Atomic(unsigned) logging;	     /* how many logs writes go to */
	_Atomic(struct uvf_dirty_log *) log; /* its own, or NULL: loaded as a reader */
	bool silent;			     /* its device doesn't tell us what it writes */
	struct uvf_group *group;	     /* that it isn't alone in, or NULL */
	struct uvf_attachment *next_member;  /* with the group's `changing` */
	/* `silent`, `group`, the next two, and changes of `active`; before a space's lock. */
	pthread_mutex_t lock;
	struct uvf_view *view;
	bool bus_master;
	const struct uvf_attachment_ops *ops;
	void *opaque;
	struct uvf_readers readers; /* transfers, and pins while they are made */
};

/* A range that is being unmapped or replaced. On the thread's stack. */
struct uvf_going {
	uvf_iova_t first, last;
	struct uvf_going *next;
};

struct uvf_address_space {
	struct uvf_interval_map map; /* interval: (value, object) as in memory.h */
	struct uvf_pins pins;
	_Atomic(struct uvf_dirty_log *) log; /* NULL: off. Changed with the lock held */
	_Atomic(unsigned) wide;		     /* views that are: see scope.h */
	_Atomic(uint64_t) references;
	uint64_t page_sizes;
	struct uvf_iova_range aperture;
	struct uvf_iova_range *reserved;
	size_t reserved_count;
	uint64_t max_mappings, max_bytes, max_files, max_windows;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* `going`, or a view's `callbacks` */
	uint64_t mappings;	/* with those that are going */
	uint64_t bytes;
	uint64_t windows;
	uint64_t window_bytes;
	struct uvf_going *going;
	struct uvf_view *views;
	struct uvf_listener *listeners;
	struct uvf_file_table files;
};

static inline uint64_t uvf_space_granule(const struct uvf_address_space *space)
{
	return space->page_sizes & -space->page_sizes;
}

/* As a reader, after the write: [iova, last] was written through @view. */
static inline void uvf_dirty_mark(const struct uvf_view *view, uvf_iova_t iova, uvf_iova_t last)
{
	struct uvf_dirty_log *log = atomic_load_explicit(&view->space->log, memory_order_acquire);

	if (log)
		uvf_dirty_log_add(log, iova, last);
	log = atomic_load_explicit(&view->attachment->log, memory_order_acquire);
	if (__builtin_expect(log != NULL, 0))
		uvf_dirty_log_add(log, iova, last);
}

/* What a mapping's words say. */
static inline struct uvf_window *uvf_object_window(uintptr_t object)
{
	return (struct uvf_window *)(object & ~UVF_OBJECT_BITS);
}

struct uvf_mapping uvf_mapping_of(const struct uvf_interval *interval);

/* With the lock held: waits for all who could have found in the map what has left it. */
void uvf_space_synchronize(struct uvf_address_space *space);
/* With the lock held: waits until nothing in [first, last] is going. */
void uvf_space_settle(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last);
/* With the lock held: [first, last] is going, from the one to the other. */
void uvf_space_begin_going(struct uvf_address_space *space, struct uvf_going *going);
void uvf_space_end_going(struct uvf_address_space *space, const struct uvf_going *going);
/* With the lock held, which it drops for each call: attachments give up pins in [first, last]. */
void uvf_space_tell_attachments(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last);
/* With the lock held: settles [first, last]; -EINVAL where it cuts a mapping. */
int uvf_unmap_check(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last);
/*
 * With the lock held, which it drops meanwhile, after uvf_unmap_check(). What the log has of it
 * goes to @report, which can be NULL.
 */
void uvf_unmap_locked(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last,
		      uint64_t *unmapped, const struct uvf_dirty_report *report);
/*
 * With the lock held: takes and counts what a mapping with the bounds of @interval needs of
 * @memory, and fills in the rest of it. uvf_space_drop() gives it back. Errors: those of windows.
 */
int uvf_space_take(struct uvf_address_space *space, struct uvf_memory *memory, uint64_t offset,
		   unsigned prot, struct uvf_interval *interval);
/* With the lock held: @memory leaves the table of files if nothing maps it. */
void uvf_space_forget_file(struct uvf_address_space *space, struct uvf_memory *memory);
/* With the lock held: gives up what a mapping that has gone held and counted. */
void uvf_space_drop(struct uvf_address_space *space, const struct uvf_interval *interval);

/* ---- Transfers ---- */

/* As a reader: the place of this thread's last hit if that holds @iova, or 0. */
static inline uvf_place_t uvf_view_find_again(struct uvf_view *view, uvf_iova_t iova)
{
	uvf_place_t place =
		atomic_load_explicit(&view->hint[uvf_thread_number()].place, memory_order_acquire);

	return __builtin_expect(place && uvf_place_holds(place, iova), 1) ? place : 0;
}

/* As a reader: the place that holds @iova, or 0. */
static inline uvf_place_t uvf_view_find(struct uvf_view *view, uvf_iova_t iova)
{
	uvf_place_t place = uvf_view_find_again(view, iova);

	if (__builtin_expect(place != 0, 1))
		return place;
	place = uvf_interval_map_find(&view->space->map, iova);
	if (place)
		atomic_store_explicit(&view->hint[uvf_thread_number()].place, place,
				      memory_order_release);
	return place;
}

#endif
