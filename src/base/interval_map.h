/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Intervals of 64-bit keys that don't overlap, each with two words of data: a B+tree whose readers
 * take no lock.
 *
 * A node is immutable once readers can reach it, but for an inner node's child pointers and the
 * bounds between them, which are single words. A change makes new nodes and publishes them by one
 * store. Leaves hold up to 15 intervals and inner nodes up to 32 children in 512 bytes: a search is
 * a few cache lines that are fetched at once, and has no branch that depends on keys. Nodes of
 * twice the size need a level less, but have more lines to fetch of the leaf, which is what isn't
 * cached.
 *
 * A place in a leaf can be remembered without a reference: while its `live` is set, inside a
 * reader's section, the leaf's content is that of the map. Leaves are never anything else, and are
 * used again only after a grace period.
 *
 * Threads: changes one at a time; uvf_interval_map_find() and places inside a reader's section
 * from any thread. What a section and a grace period are is
 * the user's: see `synchronize`.
 */
#ifndef UVF_BASE_INTERVAL_MAP_H
#define UVF_BASE_INTERVAL_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/node_arena.h"

#define UVF_LEAF_SIZE 15

struct uvf_interval {
	uint64_t first;
	uint64_t last;	  /* inclusive */
	uint64_t value;	  /* the map's user's */
	uintptr_t object; /* likewise */
};

struct uvf_leaf_entry {
	uint64_t last;
	uint64_t value;
	uintptr_t object;
};

struct uvf_leaf {
	uint64_t head;		       /* level and count: immutable */
	uint64_t first[UVF_LEAF_SIZE]; /* rising; unused ones are UINT64_MAX */
	struct uvf_leaf_entry entry[UVF_LEAF_SIZE];
	_Atomic(uint64_t) live;
	uint64_t unused[2];
};
_Static_assert(sizeof(struct uvf_leaf) == UVF_NODE_SIZE, "a leaf is a node");

/* Where an interval is: a leaf's address with the entry's index in its low bits. 0: nowhere. */
typedef uintptr_t uvf_place_t;

struct uvf_interval_map {
	_Atomic(uint64_t *) root; /* the node's head word */
	/* Chosen once for the processor that we run on. */
	uvf_place_t (*find)(const uint64_t *root, uint64_t key);
	struct uvf_node_arena leaves, inners;
	uint64_t count;
	/* Waits for a grace period. NULL: there never are readers beside changes. */
	void (*synchronize)(struct uvf_interval_map *map);
};

/* Errors: -ENOMEM. */
int uvf_interval_map_init(struct uvf_interval_map *map,
			  void (*synchronize)(struct uvf_interval_map *map));
void uvf_interval_map_destroy(struct uvf_interval_map *map);

/* The place of the interval that holds @key, or 0. */
static inline uvf_place_t uvf_interval_map_find(const struct uvf_interval_map *map, uint64_t key)
{
	return map->find(atomic_load_explicit(&map->root, memory_order_acquire), key);
}

static inline const struct uvf_leaf *uvf_place_leaf(uvf_place_t place)
{
	return (const struct uvf_leaf *)(place & ~(uvf_place_t)(UVF_NODE_SIZE - 1));
}

static inline unsigned uvf_place_index(uvf_place_t place)
{
	return place & (UVF_NODE_SIZE - 1);
}

/* Whether a remembered place (not 0) is the interval that holds @key. */
static inline bool uvf_place_holds(uvf_place_t place, uint64_t key)
{
	const struct uvf_leaf *leaf = uvf_place_leaf(place);
	unsigned index = uvf_place_index(place);
	uint64_t first, last;

	if (!atomic_load_explicit(&leaf->live, memory_order_acquire))
		return false;
	first = leaf->first[index];
	last = leaf->entry[index].last;
	/*
	 * One comparison: of two, each is a toss-up for the branch predictor where accesses are
	 * random. Unused entries have `first` UINT64_MAX and `last` 0: they hold nothing.
	 */
	return key - first <= last - first && first <= last;
}

/* ---- For who changes the map ---- */

/* The first interval whose last key is @key or above. */
bool uvf_interval_map_next(const struct uvf_interval_map *map, uint64_t key,
			   struct uvf_interval *interval);
/* Errors: -EEXIST (overlaps one), -ENOMEM. */
int uvf_interval_map_insert(struct uvf_interval_map *map, const struct uvf_interval *interval);
/*
 * The interval with these bounds gets another value and object; readers find it with the old ones
 * or with the new. Then comes a grace period. Errors: -ENOENT, -ENOMEM.
 */
int uvf_interval_map_replace(struct uvf_interval_map *map, const struct uvf_interval *interval);
/*
 * Takes out at most @max intervals with @first <= interval.first <= @last, the lowest ones, and
 * gives them in rising order. Returns their number, 0 when there are no more. Never fails. After
 * it, and before what they stand for goes, comes a grace period.
 */
size_t uvf_interval_map_remove(struct uvf_interval_map *map, uint64_t first, uint64_t last,
			       struct uvf_interval *removed, size_t max);
/* A grace period has passed since the last change. */
void uvf_interval_map_quiescent(struct uvf_interval_map *map);
size_t uvf_interval_map_memory(const struct uvf_interval_map *map);

#endif
