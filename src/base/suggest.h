/* SPDX-License-Identifier: BSD-3-Clause */
/* "Did you mean ...?": the known word that is nearest to one that is not known. */
#ifndef UVF_BASE_SUGGEST_H
#define UVF_BASE_SUGGEST_H

#include <stddef.h>

/* How many letters must be added, removed, replaced, or swapped with their neighbour to get from
 * @a to @b. SIZE_MAX where either is too long to bother. */
size_t uvf_word_distance(const char *a, const char *b);

/* The best candidate for a word so far: offer each known word, then read @best. */
struct uvf_suggestion {
	const char *word;
	const char *best; /* NULL: none is near enough */
	size_t distance;
};

void uvf_suggest_offer(struct uvf_suggestion *suggestion, const char *known);

#endif
