/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Nodes of 512 bytes that stay nodes: memory goes back to the system only with the whole arena, so
 * a reader may look at a node that has been given back (its content means nothing then).
 *
 * Threads: one at a time.
 */
#ifndef UVF_BASE_NODE_ARENA_H
#define UVF_BASE_NODE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UVF_NODE_SIZE 512

struct uvf_node_arena {
	struct uvf_node_chunk *chunks;
	char *fresh, *fresh_end; /* never used yet, in the newest chunk */
	void **nodes;		 /* given back and free to use */
	size_t free_count, free_limit;
	size_t retired_count; /* given back, readers may be inside: the array's other end */
	size_t total;	      /* nodes in all chunks */
};

void uvf_node_arena_destroy(struct uvf_node_arena *arena);
/* Nodes that can be had without failing. */
size_t uvf_node_arena_available(const struct uvf_node_arena *arena);
/* Makes @count nodes available, by more memory if need be. False: there is none. */
bool uvf_node_arena_reserve(struct uvf_node_arena *arena, size_t count);
/* One of those available: never fails. Aligned to its size. */
void *uvf_node_arena_take(struct uvf_node_arena *arena);
/* Gives a node back; it is available again only after uvf_node_arena_recycle(). */
void uvf_node_arena_retire(struct uvf_node_arena *arena, void *node);
/* After a grace period. */
void uvf_node_arena_recycle(struct uvf_node_arena *arena);
/* Bytes held. */
size_t uvf_node_arena_memory(const struct uvf_node_arena *arena);

#endif
