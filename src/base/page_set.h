/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A set of pages by number, that threads add to at any time while another takes out what is in a
 * range: what a dirty log is made of.
 *
 * Theory of operation. A bit a page, and above the bits three levels of summary: a bit says that
 * one of 64 bits below may be set. So an idle terabyte is known to be idle by 16 words. The bits of
 * 2^28 pages are one reservation of address space, a slice, which becomes memory where it is
 * touched: adding a page is one address computed from its number, and nothing depends on how the
 * pages came to be mapped.
 *
 * Who adds sets the bit and then the summaries above it, from below; who takes clears the summaries
 * first, from above, and then takes the bits. All of these are read-modify-writes in one order that
 * all agree on: either the adder finds a summary cleared and sets it again, or its bit was set
 * before it was taken. A bit that is already set costs a load and no more; for that the taker has
 * to know that whoever found it set has finished what it did before it looked, and that whoever set
 * it has set the summaries too: it waits for all adders that may be inside before and after it
 * takes. That wait is the user's (base/readers.h). A user who can keep adders out for as long needs
 * none of this (UVF_PAGE_CLEAR_ALONE).
 */
#ifndef UVF_BASE_PAGE_SET_H
#define UVF_BASE_PAGE_SET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UVF_SLICE_PAGES	 28 /* bits of a page's number inside its slice */
#define UVF_SLICE_LEVELS 4
#define UVF_SLICE_HASH	 64

struct uvf_page_slice {
	uint64_t number;	 /* of its first page >> UVF_SLICE_PAGES */
	_Atomic(uint64_t) *bits; /* of pages */
	_Atomic(uint64_t) *summary[UVF_SLICE_LEVELS - 1];
	struct uvf_page_slice *next; /* with the same hash; immutable */
};

/* All zero but `page_shift` at first. */
struct uvf_page_set {
	unsigned page_shift; /* for the user's arithmetic */
	_Atomic(bool) lost;  /* a slice could not be made: any page may be in the set */
	_Atomic(struct uvf_page_slice *) slices[UVF_SLICE_HASH];
};

/* Nobody uses it any more. */
void uvf_page_set_destroy(struct uvf_page_set *set);

/* Makes the slices of pages @first to @last, so that adding them can't fail. Errors: -ENOMEM. */
int uvf_page_set_prepare(struct uvf_page_set *set, uint64_t first, uint64_t last);

/* Any thread. @bits: as of the 64 pages from @page on, a multiple of 64. */
void uvf_page_set_add_slowly(struct uvf_page_set *set, uint64_t page);
void uvf_page_set_add_bits(struct uvf_page_set *set, uint64_t page, uint64_t bits);
void uvf_page_set_add_range(struct uvf_page_set *set, uint64_t first, uint64_t last);

static inline struct uvf_page_slice *uvf_page_set_slice(struct uvf_page_set *set, uint64_t page)
{
	uint64_t number = page >> UVF_SLICE_PAGES;
	struct uvf_page_slice *slice =
		atomic_load_explicit(&set->slices[number % UVF_SLICE_HASH], memory_order_acquire);

	while (__builtin_expect(slice && slice->number != number, 0))
		slice = slice->next;
	return slice;
}

/* Whether it was in the set when it was looked. */
static inline bool uvf_page_set_has(struct uvf_page_set *set, uint64_t page)
{
	struct uvf_page_slice *slice = uvf_page_set_slice(set, page);
	uint64_t at = page & ((1ULL << UVF_SLICE_PAGES) - 1);

	return slice &&
	       atomic_load_explicit(&slice->bits[at / 64], memory_order_relaxed) & 1ULL << at % 64;
}

/* As uvf_page_set_add_slowly(), and quick for a page that is in the set. */
static inline void uvf_page_set_add(struct uvf_page_set *set, uint64_t page)
{
	if (__builtin_expect(!uvf_page_set_has(set, page), 0))
		uvf_page_set_add_slowly(set, page);
}

enum uvf_page_take {
	UVF_PAGE_KEEP,	      /* what is found stays in the set */
	UVF_PAGE_CLEAR,	      /* it is taken out */
	UVF_PAGE_CLEAR_ALONE, /* it is taken out while nobody adds: a few times as quick */
};

/*
 * Calls @fn with what is in the set and in [first, last], in rising order: @count words of 64 pages
 * each, of which the first page of the first is @page, a multiple of 64. Any thread, but one at a
 * time.
 */
void uvf_page_set_take(struct uvf_page_set *set, uint64_t first, uint64_t last,
		       enum uvf_page_take how,
		       void (*fn)(void *opaque, uint64_t page, const uint64_t *bits, size_t count),
		       void *opaque);

#endif
