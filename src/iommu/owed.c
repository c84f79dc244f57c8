/* SPDX-License-Identifier: BSD-3-Clause */
/* Ranges that are owed to the next report: a sorted array. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "iommu/scope.h"

static int make_room(struct uvf_owed *owed)
{
	size_t capacity = owed->capacity ? 2 * owed->capacity : 16;
	struct uvf_iova_range *range;

	if (owed->count < owed->capacity)
		return 0;
	range = reallocarray(owed->range, capacity, sizeof(*range));
	if (!range)
		return -ENOMEM;
	owed->range = range;
	owed->capacity = capacity;
	return 0;
}

void uvf_owed_free(struct uvf_owed *owed)
{
	free(owed->range);
	*owed = (struct uvf_owed){0};
}

int uvf_owed_append(struct uvf_owed *owed, uvf_iova_t first, uvf_iova_t last)
{
	int ret;

	if (owed->count && owed->range[owed->count - 1].last + 1 == first) {
		owed->range[owed->count - 1].last = last;
		return 0;
	}
	ret = make_room(owed);
	if (!ret)
		owed->range[owed->count++] = (struct uvf_iova_range){first, last};
	return ret;
}

size_t uvf_owed_find(const struct uvf_owed *owed, uvf_iova_t iova)
{
	size_t low = 0, high = owed->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (owed->range[middle].last < iova)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Cuts [first, last], which is inside it and reaches neither end, out of range @at. */
static void split(struct uvf_owed *owed, size_t at, uvf_iova_t first, uvf_iova_t last)
{
	if (make_room(owed))
		return;
	memmove(&owed->range[at + 1], &owed->range[at],
		(owed->count - at) * sizeof(owed->range[0]));
	owed->count++;
	owed->range[at].last = first - 1;
	owed->range[at + 1].first = last + 1;
}

void uvf_owed_remove(struct uvf_owed *owed, uvf_iova_t first, uvf_iova_t last)
{
	size_t at = uvf_owed_find(owed, first), end;

	if (at < owed->count && owed->range[at].first < first) {
		if (owed->range[at].last > last) {
			split(owed, at, first, last);
			return;
		}
		owed->range[at++].last = first - 1;
	}
	for (end = at; end < owed->count && owed->range[end].last <= last; end++)
		;
	if (end < owed->count && owed->range[end].first <= last)
		owed->range[end].first = last + 1;
	if (end == at)
		return;
	memmove(&owed->range[at], &owed->range[end], (owed->count - end) * sizeof(owed->range[0]));
	owed->count -= end - at;
}
