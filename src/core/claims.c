/* SPDX-License-Identifier: BSD-3-Clause */
/* Claims: the C library's trees, for a driver may make and end tens of thousands. */
#include "core/claims.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>

static int order(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare(const void *left, const void *right)
{
	const struct claim *a = left, *b = right;
	int ret = order(a->index, b->index);

	if (!ret)
		ret = order(a->offset, b->offset);
	if (!ret)
		ret = order(a->size, b->size);
	if (!ret)
		ret = order(a->list, b->list);
	if (!ret)
		ret = order(a->kind, b->kind);
	return ret ? ret : order((uintptr_t)a->id, (uintptr_t)b->id);
}

static void **tree_of(struct claims *claims, const struct claim *claim)
{
	return claim->id ? &claims->own : &claims->frontends;
}

static struct claim *find(const struct claims *claims, const struct claim *claim)
{
	void *const *tree = claim->id ? &claims->own : &claims->frontends;
	struct claim *const *at = tfind(claim, tree, compare);

	return at ? *at : NULL;
}

int uvf_claim_add(struct claims *claims, const struct claim *claim)
{
	struct claim *there = find(claims, claim);

	if (there && claim->kind == UVF_MAPPED_UNKNOWN)
		return 0;
	if (claims->count == UVF_MAPPINGS_MAX)
		return -ENOSPC;
	if (!there) {
		there = malloc(sizeof(*there));
		if (!there)
			return -ENOMEM;
		*there = *claim;
		there->count = 0;
		if (!tsearch(there, tree_of(claims, claim), compare)) {
			free(there);
			return -ENOMEM;
		}
	}
	there->count++;
	claims->count++;
	return 0;
}

bool uvf_claim_exists(const struct claims *claims, const struct claim *claim)
{
	return find(claims, claim);
}

bool uvf_claim_remove(struct claims *claims, const struct claim *claim)
{
	struct claim *there = find(claims, claim);

	if (!there)
		return false;
	claims->count--;
	if (!--there->count) {
		tdelete(there, tree_of(claims, claim), compare);
		free(there);
	}
	return true;
}

static void count_one(const void *node, VISIT visit, void *closure)
{
	const struct claim *claim = *(struct claim *const *)node;
	size_t *count = closure;

	if (visit == postorder || visit == leaf)
		*count += claim->count;
}

void uvf_claims_end(struct claims *claims)
{
	size_t left = 0;

	tdestroy(claims->frontends, free);
	claims->frontends = NULL;
	twalk_r(claims->own, count_one, &left);
	claims->count = left;
}

void uvf_claims_free(struct claims *claims)
{
	tdestroy(claims->frontends, free);
	tdestroy(claims->own, free);
	*claims = (struct claims){0};
}

struct conflicts {
	uint32_t index;
	const struct area_lists *lists;
	const struct area_list *now;
	bool found[UVF_MAPPED_UNKNOWN + 1]; /* by kind */
};

static void look_at_one(const void *node, VISIT visit, void *closure)
{
	const struct claim *claim = *(struct claim *const *)node;
	struct conflicts *conflicts = closure;

	if ((visit != postorder && visit != leaf) || claim->index != conflicts->index ||
	    conflicts->found[claim->kind])
		return;
	if (!uvf_areas_keep(conflicts->now, conflicts->lists->at[claim->list], claim->offset,
			    claim->size))
		conflicts->found[claim->kind] = true;
}

void uvf_claims_conflicts(const struct claims *claims, uint32_t index,
			  const struct area_lists *lists, const struct area_list *now, bool *known,
			  bool *unknown)
{
	struct conflicts conflicts = {.index = index, .lists = lists, .now = now};

	twalk_r(claims->frontends, look_at_one, &conflicts);
	twalk_r(claims->own, look_at_one, &conflicts);
	*known = conflicts.found[UVF_MAPPED_KNOWN];
	*unknown = conflicts.found[UVF_MAPPED_UNKNOWN];
}
