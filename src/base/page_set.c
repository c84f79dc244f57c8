/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of pages: slices made, pages added, ranges taken. */
#include "base/page_set.h"

#include <errno.h>
#include <stdlib.h>
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

static void add_bits(struct uvf_page_set *set, uint64_t page, uint64_t bits)
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
	add_bits(set, page, 1ULL << page % 64);
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
		add_bits(set, page, mask_of(page, first, last));
		if (last - page < 64)
			return;
	}
}

/* ---- Taking ---- */

struct taking {
	struct uvf_page_slice *slice;
	uint64_t first, last; /* inside the slice */
	bool clear;
	void (*fn)(void *opaque, uint64_t page, uint64_t bits);
	void *opaque;
};

static void take_bits(struct taking *taking, uint64_t word)
{
	_Atomic(uint64_t) *at = &taking->slice->bits[word];
	uint64_t mask = mask_of(word * 64, taking->first, taking->last);
	uint64_t before = taking->clear ? atomic_fetch_and(at, ~mask) : atomic_load(at);

	if (before & mask)
		taking->fn(taking->opaque, (taking->slice->number << UVF_SLICE_PAGES) + word * 64,
			   before & mask);
}

/* What @taking wants of the words [word, word + 63] at @level - 1, told by a word of @level. */
static void take_level(struct taking *taking, unsigned level, uint64_t word)
{
	_Atomic(uint64_t) *at = &level_of(taking->slice, level)[word];
	unsigned below = 6 * level; /* a bit here stands for 2^below pages */
	uint64_t mask = mask_of(word * 64, taking->first >> below, taking->last >> below);
	uint64_t found = atomic_load(at) & mask;

	if (found && taking->clear)
		atomic_fetch_and(at, ~found);
	for (; found; found &= found - 1) {
		uint64_t next = word * 64 + (uint64_t)__builtin_ctzll(found);

		if (level == 1)
			take_bits(taking, next);
		else
			take_level(taking, level - 1, next);
		/* What lies outside the range, and what was added meanwhile. */
		if (taking->clear && atomic_load(&level_of(taking->slice, level - 1)[next]))
			atomic_fetch_or(at, found & -found);
	}
}

static void take_slice(struct taking *taking)
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

void uvf_page_set_take(struct uvf_page_set *set, uint64_t first, uint64_t last, bool clear,
		       void (*fn)(void *opaque, uint64_t page, uint64_t bits), void *opaque)
{
	uint64_t begin = first >> UVF_SLICE_PAGES, end = last >> UVF_SLICE_PAGES;
	struct uvf_page_slice *slice = next_slice(set, begin);

	for (; slice && slice->number <= end; slice = next_slice(set, slice->number + 1)) {
		struct taking taking = {
			.slice = slice,
			.first = slice->number == begin ? first & SLICE_MASK : 0,
			.last = slice->number == end ? last & SLICE_MASK : SLICE_MASK,
			.clear = clear,
			.fn = fn,
			.opaque = opaque,
		};

		take_slice(&taking);
	}
}
