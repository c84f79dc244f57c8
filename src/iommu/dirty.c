/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty logs: switched on and off, written to, and reported. */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "iommu/space.h"

/* Pages that a bit of a report may stand for, up to which it is put back as pages. */
#define RESTORED_AS_PAGES 512

int uvf_dirty_log_new(uint64_t granule, struct uvf_dirty_log **logp)
{
	struct uvf_dirty_log *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	log->pages.page_shift = (unsigned)__builtin_ctzll(granule);
	*logp = log;
	return 0;
}

void uvf_dirty_log_free(struct uvf_dirty_log *log)
{
	if (!log)
		return;
	uvf_page_set_destroy(&log->pages);
	uvf_owed_free(&log->owed);
	free(log);
}

/* ---- Writing to it ---- */

static inline void log_pages(struct uvf_dirty_log *log, uvf_iova_t iova, uvf_iova_t last)
{
	uint64_t page = iova >> log->pages.page_shift, end = last >> log->pages.page_shift;

	if (end - page < 64) {
		for (; page <= end; page++)
			uvf_page_set_add(&log->pages, page);
		return;
	}
	uvf_page_set_add_range(&log->pages, page, end);
}

void uvf_dirty_mark(struct uvf_view *view, uvf_iova_t iova, uvf_iova_t last)
{
	struct uvf_dirty_log *log = atomic_load_explicit(&view->space->log, memory_order_acquire);

	if (log)
		log_pages(log, iova, last);
	log = atomic_load_explicit(&view->attachment->log, memory_order_acquire);
	if (log)
		log_pages(log, iova, last);
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

	if (!log)
		return 0;
	shift = log->pages.page_shift;
	return uvf_page_set_prepare(&log->pages, first >> shift, last >> shift);
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
			uvf_space_synchronize(space);
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
		uvf_space_synchronize(space);
	}
	pthread_mutex_unlock(&space->lock);
	uvf_dirty_log_free(log);
}

bool uvf_dirty_is_on(struct uvf_address_space *space)
{
	return atomic_load_explicit(&space->log, memory_order_acquire) != NULL;
}

/* ---- Reports ---- */

uint64_t uvf_dirty_bitmap_size(uint64_t size, uint64_t page_size)
{
	uint64_t pages;

	if (!uvf_is_power_of_two(page_size))
		return 0;
	pages = size / page_size + !uvf_is_aligned(size, page_size);
	return (pages / 64 + (pages % 64 != 0)) * 8;
}

/* A bitmap that is being written: where its first bit is, and how much one stands for. */
struct report {
	uint64_t *bitmap; /* NULL: nobody is told */
	uvf_iova_t iova, last;
	unsigned shift;	    /* of a bit's size */
	unsigned log_shift; /* of the log's pages */
};

static void set_bits(uint64_t *bitmap, uint64_t first, uint64_t last)
{
	for (; first <= last && first % 64; first++)
		bitmap[first / 64] |= 1ULL << first % 64;
	for (; first <= last && last - first >= 63; first += 64)
		bitmap[first / 64] = UINT64_MAX;
	for (; first <= last; first++)
		bitmap[first / 64] |= 1ULL << first % 64;
}

/* [first, last] is dirty, as far as it is in the report. */
static void report_range(const struct report *report, uvf_iova_t first, uvf_iova_t last)
{
	if (!report->bitmap || first > report->last || last < report->iova)
		return;
	if (first < report->iova)
		first = report->iova;
	if (last > report->last)
		last = report->last;
	set_bits(report->bitmap, (first - report->iova) >> report->shift,
		 (last - report->iova) >> report->shift);
}

/* 64 pages of the log, when pages and bits are as large as each other and begin alike. */
static void report_word(void *opaque, uint64_t page, uint64_t bits)
{
	const struct report *report = opaque;
	uint64_t first = report->iova >> report->shift, at;
	unsigned shift;

	if (!report->bitmap)
		return;
	/* What lies before the report was masked away. */
	if (page < first) {
		bits >>= first - page;
		page = first;
	}
	at = page - first;
	shift = at % 64;
	report->bitmap[at / 64] |= bits << shift;
	if (shift && bits >> (64 - shift))
		report->bitmap[at / 64 + 1] |= bits >> (64 - shift);
}

static void report_pages(void *opaque, uint64_t page, uint64_t bits)
{
	const struct report *report = opaque;

	for (; bits; bits &= bits - 1) {
		uint64_t number = page + (uint64_t)__builtin_ctzll(bits);
		uvf_iova_t first = number << report->log_shift;

		report_range(report, first, first + ((1ULL << report->log_shift) - 1));
	}
}

static bool report_pin(void *opaque, const struct uvf_pin *pin)
{
	if (pin->prot & UVF_PROT_WRITE)
		report_range(opaque, pin->first, pin->last);
	return false;
}

/* With the space's lock held: all that is mapped for writing. */
static void report_mappings(const struct report *report, struct uvf_address_space *space)
{
	struct uvf_interval interval;
	uint64_t next = report->iova;

	while (uvf_interval_map_next(&space->map, next, &interval) &&
	       interval.first <= report->last) {
		if (interval.object & UVF_PROT_WRITE)
			report_range(report, interval.first, interval.last);
		next = interval.last + 1;
		if (!next)
			break;
	}
}

/* What is taken out of the middle stays. */
static void take_range(struct uvf_dirty_log *log, uvf_iova_t first, uvf_iova_t last)
{
	if (first > log->last || last < log->first)
		return;
	if (first <= log->first && last >= log->last)
		log->has_range = false;
	else if (first <= log->first)
		log->first = last + 1;
	else if (last >= log->last)
		log->last = first - 1;
}

static void report_owed(const struct report *report, struct uvf_owed *owed, unsigned flags)
{
	for (size_t i = uvf_owed_find(owed, report->iova);
	     i < owed->count && owed->range[i].first <= report->last; i++)
		report_range(report, owed->range[i].first, owed->range[i].last);
	if (!(flags & UVF_DIRTY_KEEP))
		uvf_owed_remove(owed, report->iova, report->last);
}

static void report_log(struct report *report, struct uvf_dirty_log *log, unsigned flags)
{
	unsigned shift = log->pages.page_shift;
	bool alike = report->shift == shift;

	report->log_shift = shift;
	uvf_page_set_take(&log->pages, report->iova >> shift, report->last >> shift,
			  !(flags & UVF_DIRTY_KEEP), alike ? report_word : report_pages, report);
	report_owed(report, &log->owed, flags);
	if (!log->has_range)
		return;
	report_range(report, log->first, log->last);
	if (!(flags & UVF_DIRTY_KEEP))
		take_range(log, report->iova, report->last);
}

/*
 * A report with bits smaller than the log's pages can begin or end inside one: what is taken of it
 * must stay for the rest. Nobody asks for that but tests, so the log is then left as it is.
 */
static unsigned flags_at_edges(const struct report *report, const struct uvf_dirty_log *log,
			       unsigned flags)
{
	uint64_t granule = 1ULL << log->pages.page_shift;
	bool cut = !uvf_is_aligned(report->iova, granule) || (report->last + 1) % granule;

	return cut ? flags | UVF_DIRTY_KEEP : flags;
}

static int report_init(struct report *report, uvf_iova_t iova, uint64_t size, uint64_t page_size,
		       uint64_t *bitmap, uint64_t bitmap_size)
{
	*report = (struct report){.bitmap = bitmap, .iova = iova};
	if (!size || !uvf_is_power_of_two(page_size) || !uvf_is_aligned(iova | size, page_size))
		return -EINVAL;
	if (!uvf_range_last(iova, size, &report->last))
		return -EOVERFLOW;
	if (bitmap_size < uvf_dirty_bitmap_size(size, page_size))
		return -EINVAL;
	report->shift = (unsigned)__builtin_ctzll(page_size);
	return 0;
}

/* With the space's lock held. Each listener is asked. */
static bool is_hidden(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size)
{
	bool hidden = false;

	for (struct uvf_listener *listener = space->listeners; listener; listener = listener->next)
		if (listener->hides && listener->hides(listener, iova, size))
			hidden = true;
	return hidden;
}

/* With the space's lock held, and its log on. */
static void report_space(struct report *report, struct uvf_address_space *space,
			 struct uvf_dirty_log *log, unsigned flags)
{
	if (is_hidden(space, report->iova, report->last - report->iova + 1))
		report->bitmap = NULL;
	/* Before: whoever found a page dirty already has told the summaries. See page_set.h. */
	uvf_space_synchronize(space);
	/* A pin that goes now is in the log before it goes. */
	uvf_pins_for_each(&space->pins, report->iova, report->last, report_pin, report);
	report_log(report, log, flags_at_edges(report, log, flags));
	if (uvf_dirty_wide(space) || atomic_load_explicit(&log->pages.lost, memory_order_acquire))
		report_mappings(report, space);
	/* After: what they wrote there can be seen. */
	uvf_space_synchronize(space);
}

int uvf_dirty_report(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
		     uint64_t page_size, unsigned flags, uint64_t *bitmap, uint64_t bitmap_size)
{
	struct uvf_dirty_log *log;
	struct report report;
	int ret = report_init(&report, iova, size, page_size, bitmap, bitmap_size);

	if (ret)
		return ret;
	pthread_mutex_lock(&space->lock);
	log = atomic_load_explicit(&space->log, memory_order_relaxed);
	if (log)
		report_space(&report, space, log, flags);
	else
		ret = -EINVAL;
	pthread_mutex_unlock(&space->lock);
	return ret;
}

static void add_range(struct uvf_dirty_log *log, uvf_iova_t first, uvf_iova_t last)
{
	if (!log->has_range || first < log->first)
		log->first = first;
	if (!log->has_range || last > log->last)
		log->last = last;
	log->has_range = true;
}

/*
 * A bit that stands for much more than a page can't be put back as pages: that would be memory, and
 * time, for all that the caller likes to name. It is put back as one range for all such bits.
 */
static void restore(struct uvf_dirty_log *log, uvf_iova_t iova, uint64_t size, uint64_t page_size,
		    const uint64_t *bitmap)
{
	uint64_t words = uvf_dirty_bitmap_size(size, page_size) / 8;

	for (uint64_t i = 0; log && i < words; i++)
		for (uint64_t bits = bitmap[i]; bits; bits &= bits - 1) {
			uint64_t bit = i * 64 + (uint64_t)__builtin_ctzll(bits);
			uvf_iova_t first = iova + bit * page_size, last = first + (page_size - 1);

			if (page_size >> log->pages.page_shift <= RESTORED_AS_PAGES)
				log_pages(log, first, last);
			else
				add_range(log, first, last);
		}
}

void uvf_dirty_restore(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
		       uint64_t page_size, const uint64_t *bitmap)
{
	pthread_mutex_lock(&space->lock);
	restore(atomic_load_explicit(&space->log, memory_order_relaxed), iova, size, page_size,
		bitmap);
	pthread_mutex_unlock(&space->lock);
}

/* Nobody has it mapped any more. */
static void forget_page(void *opaque, uint64_t page, uint64_t bits)
{
}

void uvf_dirty_forget(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last)
{
	struct uvf_dirty_log *log = atomic_load_explicit(&space->log, memory_order_relaxed);

	if (!log)
		return;
	uvf_page_set_take(&log->pages, first >> log->pages.page_shift,
			  last >> log->pages.page_shift, true, forget_page, NULL);
	uvf_owed_remove(&log->owed, first, last);
}

int uvf_unmap_dirty(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
		    uint64_t *unmapped, uint64_t page_size, uint64_t *bitmap, uint64_t bitmap_size)
{
	struct uvf_dirty_log *log;
	struct report report;
	int ret = report_init(&report, iova, size, page_size, bitmap, bitmap_size);

	if (ret)
		return ret;
	pthread_mutex_lock(&space->lock);
	log = atomic_load_explicit(&space->log, memory_order_relaxed);
	if (!log)
		ret = -EINVAL;
	/* Now: the mappings and pins are not there afterwards. */
	else if (!(ret = uvf_unmap_check(space, iova, report.last)))
		report_space(&report, space, log, UVF_DIRTY_KEEP);
	if (!ret) {
		uvf_unmap_locked(space, iova, report.last, unmapped);
		/* It was unlocked meanwhile. */
		log = atomic_load_explicit(&space->log, memory_order_relaxed);
		if (log)
			report_log(&report, log, flags_at_edges(&report, log, 0));
	}
	pthread_mutex_unlock(&space->lock);
	return ret;
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

/* The pins of one attachment. */
struct own_pins {
	struct report *report;
	const struct uvf_attachment *attachment;
};

static bool report_own_pin(void *opaque, const struct uvf_pin *pin)
{
	const struct own_pins *own = opaque;
	const struct uvf_view *view = pin->owner;

	return view->attachment == own->attachment && report_pin(own->report, pin);
}

/* With the attachment's lock held: nothing else is in its address space's view's place. */
static void report_own(struct report *report, struct uvf_attachment *attachment,
		       struct uvf_dirty_log *log)
{
	struct own_pins own = {report, attachment};
	struct uvf_grace before = {0}, after = {0};

	uvf_readers_wait(&attachment->readers, &before);
	if (attachment->view)
		uvf_pins_for_each(&attachment->view->space->pins, report->iova, report->last,
				  report_own_pin, &own);
	report_log(report, log, flags_at_edges(report, log, 0));
	/* A page for which there was no memory to log it: any can be it. */
	if (atomic_load_explicit(&log->pages.lost, memory_order_acquire))
		report_range(report, report->iova, report->last);
	uvf_readers_wait(&attachment->readers, &after);
}

int uvf_attachment_log_report(struct uvf_attachment *attachment, uvf_iova_t iova, uint64_t size,
			      uint64_t page_size, uint64_t *bitmap, uint64_t bitmap_size)
{
	struct uvf_dirty_log *log;
	struct report report;
	int ret = report_init(&report, iova, size, page_size, bitmap, bitmap_size);

	if (ret)
		return ret;
	pthread_mutex_lock(&attachment->lock);
	log = atomic_load_explicit(&attachment->log, memory_order_relaxed);
	if (log)
		report_own(&report, attachment, log);
	else
		ret = -EINVAL;
	pthread_mutex_unlock(&attachment->lock);
	return ret;
}

void uvf_attachment_log_restore(struct uvf_attachment *attachment, uvf_iova_t iova, uint64_t size,
				uint64_t page_size, const uint64_t *bitmap)
{
	pthread_mutex_lock(&attachment->lock);
	restore(atomic_load_explicit(&attachment->log, memory_order_relaxed), iova, size, page_size,
		bitmap);
	pthread_mutex_unlock(&attachment->lock);
}
