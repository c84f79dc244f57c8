/* SPDX-License-Identifier: BSD-3-Clause */
/* "Did you mean ...?": the known word that is nearest to one that is not known. */
#include "base/suggest.h"

#include <stdint.h>
#include <string.h>

#include "base/bytes.h"

#define WORD_MAX 32

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t uvf_word_distance(const char *a, const char *b)
{
	/* Row i: the distances from the first i letters of a to each beginning of b. */
	size_t rows[3][WORD_MAX + 1];
	size_t *before = rows[0], *last = rows[1], *row = rows[2], *spare;
	size_t a_length = strlen(a), b_length = strlen(b);

	if (a_length > WORD_MAX || b_length > WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_length; j++)
		last[j] = j;
	for (size_t i = 1; i <= a_length; i++) {
		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			bool same = a[i - 1] == b[j - 1];

			row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + !same);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], before[j - 2] + 1);
		}
		spare = before;
		before = last;
		last = row;
		row = spare;
	}
	return last[b_length];
}

void uvf_suggest_offer(struct uvf_suggestion *suggestion, const char *known)
{
	size_t distance = uvf_word_distance(suggestion->word, known);
	size_t longest = strlen(known);

	/* A third of the letters may be wrong: more is another word, not a slip. */
	if (distance > (longest + 2) / 3)
		return;
	if (suggestion->best && distance >= suggestion->distance)
		return;
	suggestion->best = known;
	suggestion->distance = distance;
}
