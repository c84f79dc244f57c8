/* SPDX-License-Identifier: BSD-3-Clause */
/* The interval map's nodes, between its search and its changes. */
#ifndef UVF_BASE_INTERVAL_NODE_H
#define UVF_BASE_INTERVAL_NODE_H

#include "base/interval_map.h"

#define UVF_INNER_SIZE 32

/* Child i holds the keys from bound[i - 1] (the first child: from 0) up to bound[i] - 1. */
struct uvf_inner {
	uint64_t head;
	_Atomic(uint64_t) bound[UVF_INNER_SIZE - 1]; /* rising; unused ones are UINT64_MAX */
	_Atomic(uint64_t *) child[UVF_INNER_SIZE];
};
_Static_assert(sizeof(struct uvf_inner) == UVF_NODE_SIZE, "an inner node is a node");

/* The head word: the node's level (0: a leaf) and how many entries or children it has. */
static inline uint64_t uvf_node_head(unsigned level, unsigned count)
{
	return (uint64_t)level << 32 | count;
}

static inline unsigned uvf_node_level(const uint64_t *node)
{
	return (unsigned)(*node >> 32);
}

static inline unsigned uvf_node_count(const uint64_t *node)
{
	return (unsigned)*node;
}

/* The search, as good as the processor allows. */
uvf_place_t (*uvf_interval_find_best(void))(const uint64_t *root, uint64_t key);

#endif
