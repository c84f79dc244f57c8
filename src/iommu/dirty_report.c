/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty logs: reported, and what was reported put back. */
#include <errno.h>

#include "base/bytes.h"
#include "iommu/space.h"

/* Pages that a bit of a report may stand for, up to which it is put back as pages. */
#define RESTORED_AS_PAGES 512

uint64_t uvf_dirty_bitmap_size(uint64_t size, uint64_t page_size)
{
	uint64_t pages;

	if (!uvf_is_power_of_two(page_size))
		return 0;
	pages = size / page_size + !uvf_is_aligned(size, page_size);
	return (pages / 64 + (pages % 64 != 0)) * 8;
}

/* A bitmap that is being written: where its first bit is, and how much one stands for. */
struct uvf_dirty_report {
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
static void report_range(const struct uvf_dirty_report *report, uvf_iova_t first, uvf_iova_t last)
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

static void report_word(const struct uvf_dirty_report *report, uint64_t page, uint64_t bits)
{
	uint64_t first = report->iova >> report->shift, at;
	unsigned shift;

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

/* Pages of the log, when pages and bits are as large as each other and begin alike. */
static void report_words(void *opaque, uint64_t page, const uint64_t *bits, size_t count)
{
	const struct uvf_dirty_report *report = opaque;
	uint64_t first = report->iova >> report->shift;
	uint64_t *to = report->bitmap;

	if (!to)
		return;
	if (page >= first && (page - first) % 64 == 0) {
		to += (page - first) / 64;
		for (size_t i = 0; i < count; i++)
			to[i] |= bits[i];
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (bits[i])
			report_word(report, page + i * 64, bits[i]);
}

static void report_pages(void *opaque, uint64_t page, const uint64_t *words, size_t count)
{
	const struct uvf_dirty_report *report = opaque;

	for (size_t i = 0; i < count; i++)
		for (uint64_t bits = words[i]; bits; bits &= bits - 1) {
			uint64_t number = page + i * 64 + (uint64_t)__builtin_ctzll(bits);
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
static void report_mappings(const struct uvf_dirty_report *report, struct uvf_address_space *space)
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

static void report_owed(const struct uvf_dirty_report *report, struct uvf_owed *owed,
			uvf_iova_t first, uvf_iova_t last, enum uvf_page_take how)
{
	for (size_t i = uvf_owed_find(owed, first); i < owed->count && owed->range[i].first <= last;
	     i++) {
		const struct uvf_iova_range *range = &owed->range[i];

		report_range(report, range->first > first ? range->first : first,
			     range->last < last ? range->last : last);
	}
	if (how != UVF_PAGE_KEEP)
		uvf_owed_remove(owed, first, last);
}

/* What the log has of [first, last], which lies in the report. */
static void report_log(struct uvf_dirty_report *report, struct uvf_dirty_log *log, uvf_iova_t first,
		       uvf_iova_t last, enum uvf_page_take how)
{
	unsigned shift = log->pages.page_shift;
	bool alike = report->shift == shift;

	report->log_shift = shift;
	uvf_page_set_take(&log->pages, first >> shift, last >> shift, how,
			  alike ? report_words : report_pages, report);
	report_owed(report, &log->owed, first, last, how);
	if (!log->has_range || first > log->last || last < log->first)
		return;
	report_range(report, first > log->first ? first : log->first,
		     last < log->last ? last : log->last);
	if (how != UVF_PAGE_KEEP)
		take_range(log, first, last);
}

void uvf_dirty_forget(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last,
		      const struct uvf_dirty_report *report)
{
	struct uvf_dirty_log *log = atomic_load_explicit(&space->log, memory_order_relaxed);
	struct uvf_dirty_report to = {0};

	if (!log)
		return;
	if (report)
		to = *report;
	else
		to.shift = log->pages.page_shift;
	report_log(&to, log, first, last, UVF_PAGE_CLEAR);
}

/*
 * @how, but a report with bits smaller than the log's pages can begin or end inside one: what is
 * taken of it must stay for the rest. Nobody asks for that but tests, so the log is then left as it
 * is.
 */
static enum uvf_page_take how_to_take(const struct uvf_dirty_report *report,
				      const struct uvf_dirty_log *log, enum uvf_page_take how)
{
	uint64_t granule = 1ULL << log->pages.page_shift;
	bool cut = !uvf_is_aligned(report->iova, granule) || (report->last + 1) % granule;

	return cut ? UVF_PAGE_KEEP : how;
}

/* Writes from when all who may be inside have ended go to the log that is put aside for them. */
static void divert(_Atomic(struct uvf_dirty_log *) *where, struct uvf_dirty_log *log,
		   enum uvf_page_take how)
{
	if (how == UVF_PAGE_CLEAR_ALONE)
		atomic_store_explicit(where, log->aside, memory_order_release);
}

static void divert_back(_Atomic(struct uvf_dirty_log *) *where, struct uvf_dirty_log *log,
			enum uvf_page_take how)
{
	if (how == UVF_PAGE_CLEAR_ALONE)
		atomic_store_explicit(where, log, memory_order_release);
}

static void add_words(void *opaque, uint64_t page, const uint64_t *bits, size_t count)
{
	struct uvf_dirty_log *log = opaque;

	for (size_t i = 0; i < count; i++)
		if (bits[i])
			uvf_page_set_add_bits(&log->pages, page + i * 64, bits[i]);
}

/* What was written meanwhile, once nobody writes aside any more. */
static void collect(struct uvf_dirty_log *log)
{
	struct uvf_page_set *aside = &log->aside->pages;

	uvf_page_set_take(aside, 0, UINT64_MAX, UVF_PAGE_CLEAR_ALONE, add_words, log);
	if (atomic_load_explicit(&aside->lost, memory_order_relaxed))
		atomic_store(&log->pages.lost, true);
}

static int report_init(struct uvf_dirty_report *report, uvf_iova_t iova, uint64_t size,
		       uint64_t page_size, uint64_t *bitmap, uint64_t bitmap_size)
{
	*report = (struct uvf_dirty_report){.bitmap = bitmap, .iova = iova};
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

/* With the space's lock held, and its log on. @how: to keep what is reported, or to clear it. */
static void report_space(struct uvf_dirty_report *report, struct uvf_address_space *space,
			 struct uvf_dirty_log *log, enum uvf_page_take how)
{
	how = how_to_take(report, log, how);
	if (is_hidden(space, report->iova, report->last - report->iova + 1))
		report->bitmap = NULL;
	divert(&space->log, log, how);
	/* Before: whoever writes to the log has ended. */
	uvf_dirty_synchronize(space);
	/* A pin that goes now is in a log before it goes. */
	uvf_pins_for_each(&space->pins, report->iova, report->last, report_pin, report);
	report_log(report, log, report->iova, report->last, how);
	if (uvf_dirty_wide(space) || atomic_load_explicit(&log->pages.lost, memory_order_acquire))
		report_mappings(report, space);
	divert_back(&space->log, log, how);
	/* After: what they wrote there can be seen. */
	uvf_dirty_synchronize(space);
	collect(log);
}

int uvf_dirty_report(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
		     uint64_t page_size, unsigned flags, uint64_t *bitmap, uint64_t bitmap_size)
{
	struct uvf_dirty_log *log;
	struct uvf_dirty_report report;
	int ret = report_init(&report, iova, size, page_size, bitmap, bitmap_size);

	if (ret)
		return ret;
	pthread_mutex_lock(&space->lock);
	log = atomic_load_explicit(&space->log, memory_order_relaxed);
	if (log)
		report_space(&report, space, log,
			     flags & UVF_DIRTY_KEEP ? UVF_PAGE_KEEP : UVF_PAGE_CLEAR_ALONE);
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
				uvf_dirty_log_add(log, first, last);
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

int uvf_unmap_dirty(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
		    uint64_t *unmapped, uint64_t page_size, uint64_t *bitmap, uint64_t bitmap_size)
{
	struct uvf_dirty_log *log;
	struct uvf_dirty_report report;
	int ret = report_init(&report, iova, size, page_size, bitmap, bitmap_size);

	if (ret)
		return ret;
	pthread_mutex_lock(&space->lock);
	log = atomic_load_explicit(&space->log, memory_order_relaxed);
	if (!log)
		ret = -EINVAL;
	/* Now: the mappings and pins are not there afterwards. */
	else if (!(ret = uvf_unmap_check(space, iova, report.last)))
		report_space(&report, space, log, UVF_PAGE_KEEP);
	if (!ret)
		uvf_unmap_locked(space, iova, report.last, unmapped, &report);
	pthread_mutex_unlock(&space->lock);
	return ret;
}

/* ---- An attachment's own log ---- */

/* The pins of one attachment. */
struct own_pins {
	struct uvf_dirty_report *report;
	const struct uvf_attachment *attachment;
};

static bool report_own_pin(void *opaque, const struct uvf_pin *pin)
{
	const struct own_pins *own = opaque;
	const struct uvf_view *view = pin->owner;

	return view->attachment == own->attachment && report_pin(own->report, pin);
}

/* With the attachment's lock held: nothing else is in its address space's view's place. */
static void report_own(struct uvf_dirty_report *report, struct uvf_attachment *attachment,
		       struct uvf_dirty_log *log)
{
	enum uvf_page_take how = how_to_take(report, log, UVF_PAGE_CLEAR_ALONE);
	struct own_pins own = {report, attachment};
	struct uvf_grace before = {0}, after = {0};

	divert(&attachment->log, log, how);
	uvf_readers_wait(&attachment->readers, &before);
	if (attachment->view)
		uvf_pins_for_each(&attachment->view->space->pins, report->iova, report->last,
				  report_own_pin, &own);
	report_log(report, log, report->iova, report->last, how);
	/* A page for which there was no memory to log it: any can be it. */
	if (atomic_load_explicit(&log->pages.lost, memory_order_acquire))
		report_range(report, report->iova, report->last);
	divert_back(&attachment->log, log, how);
	uvf_readers_wait(&attachment->readers, &after);
	collect(log);
}

int uvf_attachment_log_report(struct uvf_attachment *attachment, uvf_iova_t iova, uint64_t size,
			      uint64_t page_size, uint64_t *bitmap, uint64_t bitmap_size)
{
	struct uvf_dirty_log *log;
	struct uvf_dirty_report report;
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
