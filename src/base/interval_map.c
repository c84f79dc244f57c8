/* SPDX-License-Identifier: BSD-3-Clause */
/* The interval map's changes: new nodes beside the old ones, then one store. */
#include "base/interval_map.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/interval_node.h"

/* Inner nodes hold at least two children on the way to 2^64 intervals. */
#define LEVELS 16
/* Kept back so that a removal needs no memory: it takes two nodes a level at most. */
#define KEPT (2 * LEVELS)
/* Retired nodes that are worth a grace period. */
#define RETIRED_MIN 256
/* Fewer than this and a node is put together with a neighbour, if both then fill 3/4 of one. */
#define LEAF_FEW   4
#define LEAF_FULL  12
#define INNER_FEW  8
#define INNER_FULL 24

/* The way from the root to a leaf: step[0] is the leaf. */
struct path {
	struct {
		uint64_t *node;
		unsigned index; /* of the child taken; for the leaf: of entries not above the key */
	} step[LEVELS];
	unsigned height; /* the root's level */
};

static uint64_t load_bound(const struct uvf_inner *inner, unsigned i)
{
	return atomic_load_explicit(&inner->bound[i], memory_order_relaxed);
}

static uint64_t *load_child(const struct uvf_inner *inner, unsigned i)
{
	return atomic_load_explicit(&inner->child[i], memory_order_relaxed);
}

static unsigned count_first(const struct uvf_leaf *leaf, uint64_t key)
{
	unsigned count = uvf_node_count(&leaf->head), n = 0;

	while (n < count && leaf->first[n] <= key)
		n++;
	return n;
}

static void walk(const struct uvf_interval_map *map, uint64_t key, struct path *path)
{
	uint64_t *node = atomic_load_explicit(&map->root, memory_order_relaxed);

	path->height = uvf_node_level(node);
	for (unsigned level = path->height; level; level--) {
		struct uvf_inner *inner = (struct uvf_inner *)node;
		unsigned n = 0;

		while (n + 1 < uvf_node_count(node) && load_bound(inner, n) <= key)
			n++;
		path->step[level].node = node;
		path->step[level].index = n;
		node = load_child(inner, n);
	}
	path->step[0].node = node;
	path->step[0].index = count_first((struct uvf_leaf *)node, key);
}

/* ---- Making nodes ---- */

static struct uvf_leaf *new_leaf(struct uvf_interval_map *map)
{
	struct uvf_leaf *leaf = uvf_node_arena_take(&map->leaves);

	leaf->head = uvf_node_head(0, 0);
	return leaf;
}

static void leaf_add(struct uvf_leaf *leaf, const struct uvf_interval *interval)
{
	unsigned n = uvf_node_count(&leaf->head);

	leaf->first[n] = interval->first;
	leaf->entry[n] = (struct uvf_leaf_entry){interval->last, interval->value, interval->object};
	leaf->head = uvf_node_head(0, n + 1);
}

static void leaf_add_from(struct uvf_leaf *leaf, const struct uvf_leaf *from, unsigned begin,
			  unsigned end)
{
	unsigned n = uvf_node_count(&leaf->head);

	memcpy(&leaf->first[n], &from->first[begin], (end - begin) * sizeof(from->first[0]));
	memcpy(&leaf->entry[n], &from->entry[begin], (end - begin) * sizeof(from->entry[0]));
	leaf->head = uvf_node_head(0, n + end - begin);
}

/* Nothing more is added. */
static uint64_t *leaf_done(struct uvf_leaf *leaf)
{
	for (unsigned n = uvf_node_count(&leaf->head); n < UVF_LEAF_SIZE; n++) {
		leaf->first[n] = UINT64_MAX;
		leaf->entry[n].last = 0;
	}
	return &leaf->head;
}

/* Children and bounds on their way into one or two inner nodes. */
struct row {
	unsigned count;
	uint64_t bound[2 * UVF_INNER_SIZE];
	uint64_t *child[2 * UVF_INNER_SIZE];
};

/* @bound is the lowest key of the child; of the row's first child it isn't used. */
static void row_add(struct row *row, uint64_t bound, uint64_t *child)
{
	if (row->count)
		row->bound[row->count - 1] = bound;
	row->child[row->count++] = child;
}

/* The lowest key of child @i; @low is the lowest key of the node. */
static uint64_t child_low(const struct uvf_inner *inner, unsigned i, uint64_t low)
{
	return i ? load_bound(inner, i - 1) : low;
}

static void row_add_from(struct row *row, const struct uvf_inner *inner, uint64_t low,
			 unsigned begin, unsigned end)
{
	for (unsigned i = begin; i < end; i++)
		row_add(row, child_low(inner, i, low), load_child(inner, i));
}

static uint64_t *new_inner(struct uvf_interval_map *map, unsigned level, const struct row *row,
			   unsigned begin, unsigned end)
{
	struct uvf_inner *inner = uvf_node_arena_take(&map->inners);
	unsigned count = end - begin;

	inner->head = uvf_node_head(level, count);
	for (unsigned i = 0; i < UVF_INNER_SIZE; i++)
		atomic_store_explicit(&inner->child[i], i < count ? row->child[begin + i] : NULL,
				      memory_order_relaxed);
	for (unsigned i = 0; i < UVF_INNER_SIZE - 1; i++)
		atomic_store_explicit(&inner->bound[i],
				      i + 1 < count ? row->bound[begin + i] : UINT64_MAX,
				      memory_order_relaxed);
	return &inner->head;
}

/* ---- Publishing and retiring ---- */

static void set_live(uint64_t *node)
{
	if (!uvf_node_level(node))
		atomic_store_explicit(&((struct uvf_leaf *)node)->live, 1, memory_order_release);
}

static void retire(struct uvf_interval_map *map, uint64_t *node)
{
	if (uvf_node_level(node)) {
		uvf_node_arena_retire(&map->inners, node);
		return;
	}
	atomic_store_explicit(&((struct uvf_leaf *)node)->live, 0, memory_order_relaxed);
	uvf_node_arena_retire(&map->leaves, node);
}

/* Puts @node where the path's node of @level is. */
static void publish(struct uvf_interval_map *map, const struct path *path, unsigned level,
		    uint64_t *node)
{
	if (level == path->height) {
		atomic_store_explicit(&map->root, node, memory_order_release);
	} else {
		struct uvf_inner *parent = (struct uvf_inner *)path->step[level + 1].node;

		atomic_store_explicit(&parent->child[path->step[level + 1].index], node,
				      memory_order_release);
	}
	set_live(node);
}

static void recycle(struct uvf_interval_map *map)
{
	if (map->synchronize)
		map->synchronize(map);
	uvf_interval_map_quiescent(map);
}

void uvf_interval_map_quiescent(struct uvf_interval_map *map)
{
	uvf_node_arena_recycle(&map->leaves);
	uvf_node_arena_recycle(&map->inners);
}

/* Makes sure of @count nodes of @arena for a change. */
static bool reserve(struct uvf_interval_map *map, struct uvf_node_arena *arena, size_t count)
{
	if (uvf_node_arena_available(arena) >= count)
		return true;
	if (arena->retired_count >= RETIRED_MIN && arena->retired_count >= arena->total / 8)
		recycle(map);
	return uvf_node_arena_reserve(arena, count);
}

/* ---- Insertion ---- */

/*
 * Puts @right (whose lowest key is @bound) after the path's child of @level, which is now @left.
 * Nodes that are full are split on the way up.
 */
static void insert_child(struct uvf_interval_map *map, const struct path *path, unsigned level,
			 uint64_t *left, uint64_t bound, uint64_t *right)
{
	for (;; level++) {
		struct row row = {0};
		struct uvf_inner *inner;
		unsigned at, count, half;

		if (level > path->height) {
			row_add(&row, 0, left);
			row_add(&row, bound, right);
			atomic_store_explicit(&map->root, new_inner(map, level, &row, 0, 2),
					      memory_order_release);
			return;
		}
		inner = (struct uvf_inner *)path->step[level].node;
		at = path->step[level].index;
		count = uvf_node_count(&inner->head);
		row_add_from(&row, inner, 0, 0, at);
		row_add(&row, child_low(inner, at, 0), left);
		row_add(&row, bound, right);
		row_add_from(&row, inner, 0, at + 1, count);
		retire(map, &inner->head);
		if (row.count <= UVF_INNER_SIZE) {
			publish(map, path, level, new_inner(map, level, &row, 0, row.count));
			return;
		}
		/* Keys that only rise leave full nodes behind. */
		half = at + 1 == count ? UVF_INNER_SIZE : row.count / 2;
		left = new_inner(map, level, &row, 0, half);
		right = new_inner(map, level, &row, half, row.count);
		bound = row.bound[half - 1];
	}
}

static void insert_in_full_leaf(struct uvf_interval_map *map, const struct path *path,
				const struct uvf_interval *interval)
{
	struct uvf_leaf *old = (struct uvf_leaf *)path->step[0].node;
	struct uvf_leaf *left, *right;
	unsigned at = path->step[0].index, half = UVF_LEAF_SIZE / 2;

	right = new_leaf(map);
	if (at == UVF_LEAF_SIZE) {
		/* Rising keys: the old leaf stays as it is, full. */
		leaf_add(right, interval);
		leaf_done(right);
		insert_child(map, path, 1, &old->head, interval->first, &right->head);
		set_live(&right->head);
		return;
	}
	if (!at) {
		/* Falling keys: likewise. Its lowest key is where the old leaf begins. */
		leaf_add(right, interval);
		leaf_done(right);
		insert_child(map, path, 1, &right->head, old->first[0], &old->head);
		set_live(&right->head);
		return;
	}
	left = new_leaf(map);
	leaf_add_from(left, old, 0, at < half ? at : half);
	if (at <= half) {
		leaf_add(left, interval);
		leaf_add_from(left, old, at, half);
		leaf_add_from(right, old, half, UVF_LEAF_SIZE);
	} else {
		leaf_add_from(right, old, half, at);
		leaf_add(right, interval);
		leaf_add_from(right, old, at, UVF_LEAF_SIZE);
	}
	leaf_done(left);
	leaf_done(right);
	insert_child(map, path, 1, &left->head, right->first[0], &right->head);
	set_live(&left->head);
	set_live(&right->head);
	retire(map, &old->head);
}

static void insert_in_leaf(struct uvf_interval_map *map, const struct path *path,
			   const struct uvf_interval *interval)
{
	struct uvf_leaf *old = (struct uvf_leaf *)path->step[0].node;
	struct uvf_leaf *leaf = new_leaf(map);
	unsigned at = path->step[0].index;

	leaf_add_from(leaf, old, 0, at);
	leaf_add(leaf, interval);
	leaf_add_from(leaf, old, at, uvf_node_count(&old->head));
	publish(map, path, 0, leaf_done(leaf));
	retire(map, &old->head);
}

/*
 * The bound above the leaf may lie inside the interval, when what was there has gone: no interval
 * begins or ends between, so it can move up, before anything is found there.
 */
static void move_bound(const struct path *path, uint64_t last)
{
	for (unsigned level = 1; level <= path->height; level++) {
		struct uvf_inner *inner = (struct uvf_inner *)path->step[level].node;
		unsigned at = path->step[level].index;

		if (at + 1 == uvf_node_count(&inner->head))
			continue;
		if (load_bound(inner, at) <= last)
			atomic_store_explicit(&inner->bound[at], last + 1, memory_order_relaxed);
		return;
	}
}

int uvf_interval_map_insert(struct uvf_interval_map *map, const struct uvf_interval *interval)
{
	struct uvf_interval after;
	struct path path;

	if (uvf_interval_map_next(map, interval->first, &after) && after.first <= interval->last)
		return -EEXIST;
	if (!reserve(map, &map->leaves, 2 + KEPT) || !reserve(map, &map->inners, LEVELS + 1 + KEPT))
		return -ENOMEM;
	walk(map, interval->first, &path);
	move_bound(&path, interval->last);
	if (uvf_node_count(path.step[0].node) == UVF_LEAF_SIZE)
		insert_in_full_leaf(map, &path, interval);
	else
		insert_in_leaf(map, &path, interval);
	map->count++;
	return 0;
}

int uvf_interval_map_replace(struct uvf_interval_map *map, const struct uvf_interval *interval)
{
	struct uvf_leaf *old, *leaf;
	struct path path;
	unsigned at;

	if (!reserve(map, &map->leaves, 1 + KEPT))
		return -ENOMEM;
	walk(map, interval->first, &path);
	old = (struct uvf_leaf *)path.step[0].node;
	at = path.step[0].index;
	if (!at || old->first[at - 1] != interval->first ||
	    old->entry[at - 1].last != interval->last)
		return -ENOENT;
	leaf = new_leaf(map);
	leaf_add_from(leaf, old, 0, at - 1);
	leaf_add(leaf, interval);
	leaf_add_from(leaf, old, at, uvf_node_count(&old->head));
	publish(map, &path, 0, leaf_done(leaf));
	retire(map, &old->head);
	return 0;
}

/* ---- Removal ---- */

/*
 * Puts @node together with one of its neighbours, of which the path's parent node has at least
 * one, if that fits. Returns the new node and through @left the index of the left one of the two.
 */
static uint64_t *join(struct uvf_interval_map *map, const struct path *path, unsigned level,
		      uint64_t *node, unsigned *left)
{
	const struct uvf_inner *parent = (struct uvf_inner *)path->step[level + 1].node;
	unsigned at = path->step[level + 1].index, count = uvf_node_count(node);
	unsigned other = at ? at - 1 : at + 1;
	uint64_t *neighbour, *joined;

	if (count >= (level ? INNER_FEW : LEAF_FEW) || uvf_node_count(&parent->head) < 2)
		return NULL;
	neighbour = load_child(parent, other);
	if (count + uvf_node_count(neighbour) > (level ? INNER_FULL : LEAF_FULL))
		return NULL;
	*left = at < other ? at : other;
	if (level) {
		const struct uvf_inner *l = (void *)(at < other ? node : neighbour);
		const struct uvf_inner *r = (void *)(at < other ? neighbour : node);
		struct row row = {0};

		row_add_from(&row, l, 0, 0, uvf_node_count(&l->head));
		row_add_from(&row, r, load_bound(parent, *left), 0, uvf_node_count(&r->head));
		joined = new_inner(map, level, &row, 0, row.count);
	} else {
		const struct uvf_leaf *l = (void *)(at < other ? node : neighbour);
		const struct uvf_leaf *r = (void *)(at < other ? neighbour : node);
		struct uvf_leaf *leaf = new_leaf(map);

		leaf_add_from(leaf, l, 0, uvf_node_count(&l->head));
		leaf_add_from(leaf, r, 0, uvf_node_count(&r->head));
		joined = leaf_done(leaf);
	}
	retire(map, neighbour);
	/* It never was anybody's to see. */
	retire(map, node);
	return joined;
}

/*
 * Puts @node (NULL: nothing) where the path's node of @level was, and mends the levels above: a
 * node with few children joins a neighbour, an empty one goes.
 */
static void replace(struct uvf_interval_map *map, const struct path *path, unsigned level,
		    uint64_t *node)
{
	for (;; level++) {
		struct row row = {0};
		const struct uvf_inner *parent;
		unsigned begin, end, count;
		uint64_t *joined = NULL, *old = path->step[level].node;

		if (level == path->height) {
			/* A root with one child is of no use; a map without a leaf can't be. */
			if (!node) {
				node = leaf_done(new_leaf(map));
			} else if (level && uvf_node_count(node) == 1) {
				uint64_t *child = load_child((struct uvf_inner *)node, 0);

				retire(map, node);
				node = child;
			}
			publish(map, path, level, node);
			retire(map, old);
			return;
		}
		parent = (struct uvf_inner *)path->step[level + 1].node;
		count = uvf_node_count(&parent->head);
		begin = path->step[level + 1].index;
		end = begin + 1;
		if (node)
			joined = join(map, path, level, node, &begin);
		if (joined) {
			node = joined;
			end = begin + 2;
		} else if (node) {
			publish(map, path, level, node);
			retire(map, old);
			return;
		}
		row_add_from(&row, parent, 0, 0, begin);
		if (node)
			row_add(&row, child_low(parent, begin, 0), node);
		row_add_from(&row, parent, 0, end, count);
		if (node)
			set_live(node);
		retire(map, old);
		node = row.count ? new_inner(map, level + 1, &row, 0, row.count) : NULL;
	}
}

size_t uvf_interval_map_remove(struct uvf_interval_map *map, uint64_t first, uint64_t last,
			       struct uvf_interval *removed, size_t max)
{
	size_t total = 0;
	struct uvf_interval interval;

	while (total < max && uvf_interval_map_next(map, first, &interval)) {
		struct uvf_leaf *old, *leaf = NULL;
		unsigned begin, end, count;
		struct path path;

		/* One that begins below @first isn't meant. */
		if (interval.first < first) {
			if (interval.last == UINT64_MAX)
				break;
			first = interval.last + 1;
			continue;
		}
		if (interval.first > last)
			break;
		walk(map, interval.first, &path);
		old = (struct uvf_leaf *)path.step[0].node;
		count = uvf_node_count(&old->head);
		begin = path.step[0].index - 1;
		for (end = begin; end < count && old->first[end] <= last && total < max; end++)
			removed[total++] = (struct uvf_interval){
				old->first[end], old->entry[end].last, old->entry[end].value,
				old->entry[end].object};
		if (uvf_node_arena_available(&map->leaves) < KEPT ||
		    uvf_node_arena_available(&map->inners) < KEPT)
			recycle(map);
		if (end - begin < count) {
			leaf = new_leaf(map);
			leaf_add_from(leaf, old, 0, begin);
			leaf_add_from(leaf, old, end, count);
			leaf_done(leaf);
		}
		map->count -= end - begin;
		replace(map, &path, 0, leaf ? &leaf->head : NULL);
	}
	return total;
}

/* ---- The rest ---- */

bool uvf_interval_map_next(const struct uvf_interval_map *map, uint64_t key,
			   struct uvf_interval *interval)
{
	const struct uvf_leaf *leaf;
	struct path path;
	unsigned at, level = 1;

	walk(map, key, &path);
	leaf = (struct uvf_leaf *)path.step[0].node;
	at = path.step[0].index;
	if (at && leaf->entry[at - 1].last >= key)
		at--;
	if (at == uvf_node_count(&leaf->head)) {
		uint64_t *node;

		/* The leaf after: up to where there is a child after, then down its left side. */
		while (level <= path.height &&
		       path.step[level].index + 1 == uvf_node_count(path.step[level].node))
			level++;
		if (level > path.height)
			return false;
		node = load_child((struct uvf_inner *)path.step[level].node,
				  path.step[level].index + 1);
		while (uvf_node_level(node))
			node = load_child((struct uvf_inner *)node, 0);
		leaf = (struct uvf_leaf *)node;
		at = 0;
	}
	*interval = (struct uvf_interval){leaf->first[at], leaf->entry[at].last,
					  leaf->entry[at].value, leaf->entry[at].object};
	return true;
}

int uvf_interval_map_init(struct uvf_interval_map *map,
			  void (*synchronize)(struct uvf_interval_map *map))
{
	uint64_t *root;

	memset(map, 0, sizeof(*map));
	if (!uvf_node_arena_reserve(&map->leaves, 1 + KEPT) ||
	    !uvf_node_arena_reserve(&map->inners, KEPT)) {
		uvf_interval_map_destroy(map);
		return -ENOMEM;
	}
	map->find = uvf_interval_find_best();
	map->synchronize = synchronize;
	root = leaf_done(new_leaf(map));
	atomic_init(&map->root, root);
	set_live(root);
	return 0;
}

void uvf_interval_map_destroy(struct uvf_interval_map *map)
{
	uvf_node_arena_destroy(&map->leaves);
	uvf_node_arena_destroy(&map->inners);
}

size_t uvf_interval_map_memory(const struct uvf_interval_map *map)
{
	return uvf_node_arena_memory(&map->leaves) + uvf_node_arena_memory(&map->inners);
}
