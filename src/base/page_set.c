/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of pages: slices made, pages added, ranges taken. */
#include "base/page_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLICE_MASK ((1ULL << UVF_SLICE_PAGES) - 1)

/* Words of the level: 0 is the pages' bits, the others are summaries. */
static size_t level_words(unsigned level)
{
	return (size_t)1 << (UVF_SLICE_PAGES - 6 * (level + 1));
}

static size_t slice_size(void)
{
	size_t words = 0;

	for (unsigned level = 0; level < UVF_SLICE_LEVELS; level++)
		words += level_words(level);
	return words * sizeof(uint64_t);
}

static _Atomic(uint64_t) *level_of(const struct uvf_page_slice *slice, unsigned level)
{
	return level ? slice->summary[level - 1] : slice->bits;
}

/* #syscalls: munmap */
static void slice_free(struct uvf_page_slice *slice)
{
	munmap((void *)slice->bits, slice_size());
	free(slice);
}

static struct uvf_page_slice *slice_new(uint64_t number)
{
	struct uvf_page_slice *slice = calloc(1, sizeof(*slice));
	void *memory;

	if (!slice)
		return NULL;
	memory = mmap(NULL, slice_size(), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		free(slice);
		return NULL;
	}
	slice->number = number;
	slice->bits = memory;
	slice->summary[0] = slice->bits + level_words(0);
	for (unsigned level = 1; level < UVF_SLICE_LEVELS - 1; level++)
		slice->summary[level] = slice->summary[level - 1] + level_words(level);
	return slice;
}

/* Several threads may need the same one at the same time: the first to put it in wins. */
static struct uvf_page_slice *slice_get(struct uvf_page_set *set, uint64_t page)
{
	_Atomic(struct uvf_page_slice *) *head =
		&set->slices[(page >> UVF_SLICE_PAGES) % UVF_SLICE_HASH];
	struct uvf_page_slice *slice = uvf_page_set_slice(set, page), *made;

	if (slice)
		return slice;
	made = slice_new(page >> UVF_SLICE_PAGES);
	if (!made)
		return NULL;
	made->next = atomic_load_explicit(head, memory_order_acquire);
	do {
		for (slice = made->next; slice; slice = slice->next)
			if (slice->number == made->number) {
				slice_free(made);
				return slice;
			}
	} while (!atomic_compare_exchange_strong(head, &made->next, made));
	return made;
}

void uvf_page_set_destroy(struct uvf_page_set *set)
{
	for (unsigned i = 0; i < UVF_SLICE_HASH; i++) {
		struct uvf_page_slice *slice = atomic_load(&set->slices[i]), *next;

		for (; slice; slice = next) {
			next = slice->next;
			slice_free(slice);
		}
		atomic_store(&set->slices[i], NULL);
	}
}

int uvf_page_set_prepare(struct uvf_page_set *set, uint64_t first, uint64_t last)
{
	for (uint64_t number = first >> UVF_SLICE_PAGES; number <= last >> UVF_SLICE_PAGES;
	     number++)
		if (!slice_get(set, number << UVF_SLICE_PAGES))
			return -ENOMEM;
	return 0;
}

/* ---- Adding ---- */

/* Sets the summaries above word @word of the bits, from below, up to the first that is set. */
static void summarize(struct uvf_page_slice *slice, uint64_t word)
{
	for (unsigned level = 1; level < UVF_SLICE_LEVELS; level++) {
		_Atomic(uint64_t) *above = &level_of(slice, level)[word / 64];
		uint64_t bit = 1ULL << word % 64;

		if (!(atomic_load(above) & bit))
			atomic_fetch_or(above, bit);
		word /= 64;
	}
}

void uvf_page_set_add_bits(struct uvf_page_set *set, uint64_t page, uint64_t bits)
{
	struct uvf_page_slice *slice = slice_get(set, page);
	uint64_t word = (page & SLICE_MASK) / 64;

	if (!slice) {
		atomic_store(&set->lost, true);
		return;
	}
	atomic_fetch_or(&slice->bits[word], bits);
	summarize(slice, word);
}

void uvf_page_set_add_slowly(struct uvf_page_set *set, uint64_t page)
{
	uvf_page_set_add_bits(set, page, 1ULL << page % 64);
}

/* Of the 64 pages from @page on, those in [first, last]. */
static uint64_t mask_of(uint64_t page, uint64_t first, uint64_t last)
{
	uint64_t mask = UINT64_MAX;

	if (first > page)
		mask &= UINT64_MAX << (first - page);
	if (last - page < 63)
		mask &= UINT64_MAX >> (63 - (last - page));
	return mask;
}

void uvf_page_set_add_range(struct uvf_page_set *set, uint64_t first, uint64_t last)
{
	for (uint64_t page = first & ~63ULL;; page += 64) {
		uvf_page_set_add_bits(set, page, mask_of(page, first, last));
		if (last - page < 64)
			return;
	}
}

/* ---- Taking ---- */

struct taking {
	struct uvf_page_slice *slice;
	uint64_t first, last; /* inside the slice */
	enum uvf_page_take how;
	void (*fn)(void *opaque, uint64_t page, const uint64_t *bits, size_t count);
	void *opaque;
};

/* Clears the bits of @mask; returns what was there. */
static inline uint64_t clear_bits(const struct taking *taking, _Atomic(uint64_t) *at, uint64_t mask)
{
	uint64_t before;

	if (taking->how == UVF_PAGE_CLEAR)
		return mask == UINT64_MAX ? atomic_exchange(at, 0) : atomic_fetch_and(at, ~mask);
	before = atomic_load_explicit(at, memory_order_relaxed);
	if (taking->how == UVF_PAGE_CLEAR_ALONE)
		atomic_store_explicit(at, before & ~mask, memory_order_relaxed);
	return before;
}

/* From 64 words on, of which so many say something, all are looked at: no branch is guessed wrong.
 */
#define DENSE 8

static void give(const struct taking *taking, uint64_t word, const uint64_t *bits, size_t count)
{
	taking->fn(taking->opaque, (taking->slice->number << UVF_SLICE_PAGES) + word * 64, bits,
		   count);
}

static void take_word(const struct taking *taking, uint64_t word)
{
	_Atomic(uint64_t) *at = &taking->slice->bits[word];
	uint64_t mask = mask_of(word * 64, taking->first, taking->last);
	uint64_t bits = clear_bits(taking, at, mask) & mask;

	if (bits)
		give(taking, word, &bits, 1);
}

_Static_assert(sizeof(_Atomic(uint64_t)) == sizeof(uint64_t), "alone, they are plain memory");

/* All of the 64 words from @word on, alone. */
static void take_words(const struct taking *taking, uint64_t word)
{
	void *at = (void *)&taking->slice->bits[word];
	uint64_t bits[64];

	memcpy(bits, at, sizeof(bits));
	memset(at, 0, sizeof(bits));
	give(taking, word, bits, 64);
}

/* Whether the 64 words from @word on are taken as one. */
static bool is_dense(const struct taking *taking, uint64_t word, uint64_t found)
{
	return taking->how == UVF_PAGE_CLEAR_ALONE && __builtin_popcountll(found) >= DENSE &&
	       taking->first <= word * 64 && word * 64 + 64 * 64 - 1 <= taking->last;
}

/* What @taking wants of the words [word, word + 63] at @level - 1, told by a word of @level. */
static void take_level(const struct taking *taking, unsigned level, uint64_t word)
{
	_Atomic(uint64_t) *at = &level_of(taking->slice, level)[word];
	unsigned below = 6 * level; /* a bit here stands for 2^below pages */
	uint64_t mask = mask_of(word * 64, taking->first >> below, taking->last >> below);
	uint64_t found = atomic_load(at) & mask;

	if (found)
		clear_bits(taking, at, found);
	if (level == 1 && is_dense(taking, word * 64, found)) {
		take_words(taking, word * 64);
		return;
	}
	for (; found; found &= found - 1) {
		uint64_t next = word * 64 + (uint64_t)__builtin_ctzll(found);

		if (level == 1)
			take_word(taking, next);
		else
			take_level(taking, level - 1, next);
		/* What lies outside the range, and what was added meanwhile. */
		if (taking->how != UVF_PAGE_KEEP &&
		    atomic_load(&level_of(taking->slice, level - 1)[next]))
			atomic_fetch_or(at, found & -found);
	}
}

static void take_slice(const struct taking *taking)
{
	unsigned top = UVF_SLICE_LEVELS - 1;
	uint64_t word = taking->first >> 6 * (top + 1), end = taking->last >> 6 * (top + 1);

	for (; word <= end; word++)
		take_level(taking, top, word);
}

/* The slice with the lowest number from @number on. */
static struct uvf_page_slice *next_slice(const struct uvf_page_set *set, uint64_t number)
{
	struct uvf_page_slice *found = NULL;

	for (unsigned i = 0; i < UVF_SLICE_HASH; i++) {
		struct uvf_page_slice *slice =
			atomic_load_explicit(&set->slices[i], memory_order_acquire);

		for (; slice; slice = slice->next)
			if (slice->number >= number && (!found || slice->number < found->number))
				found = slice;
	}
	return found;
}

void uvf_page_set_take(struct uvf_page_set *set, uint64_t first, uint64_t last,
		       enum uvf_page_take how,
		       void (*fn)(void *opaque, uint64_t page, const uint64_t *bits, size_t count),
		       void *opaque)
{
	uint64_t begin = first >> UVF_SLICE_PAGES, end = last >> UVF_SLICE_PAGES;
	struct uvf_page_slice *slice = next_slice(set, begin);

	for (; slice && slice->number <= end; slice = next_slice(set, slice->number + 1)) {
		const struct taking taking = {
			.slice = slice,
			.first = slice->number == begin ? first & SLICE_MASK : 0,
			.last = slice->number == end ? last & SLICE_MASK : SLICE_MASK,
			.how = how,
			.fn = fn,
			.opaque = opaque,
		};

		take_slice(&taking);
	}
}
