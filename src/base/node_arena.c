/* SPDX-License-Identifier: BSD-3-Clause */
/* Chunks that double from 16 KiB to 2 MiB, the large ones on huge pages. */
#include "base/node_arena.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#define FIRST_CHUNK (16ULL << 10)
#define LAST_CHUNK  (2ULL << 20)

struct uvf_node_chunk {
	struct uvf_node_chunk *next;
	char *base;
	size_t size;
};

void uvf_node_arena_destroy(struct uvf_node_arena *arena)
{
	while (arena->chunks) {
		struct uvf_node_chunk *chunk = arena->chunks;

		arena->chunks = chunk->next;
		munmap(chunk->base, chunk->size);
		free(chunk);
	}
	free(arena->nodes);
}

size_t uvf_node_arena_available(const struct uvf_node_arena *arena)
{
	return arena->free_count + (size_t)(arena->fresh_end - arena->fresh) / UVF_NODE_SIZE;
}

/*
 * Maps @size bytes, aligned to @size where that lets the kernel use huge pages.
 * #syscalls: madvise munmap
 */
static char *map_chunk(size_t size)
{
	size_t slack = size == LAST_CHUNK ? size : 0;
	char *base = mmap(NULL, size + slack, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t head;

	if (base == MAP_FAILED)
		return NULL;
	if (!slack)
		return base;
	head = (size - ((uintptr_t)base & (size - 1))) & (size - 1);
	if (head)
		munmap(base, head);
	if (slack > head)
		munmap(base + head + size, slack - head);
	madvise(base + head, size, MADV_HUGEPAGE);
	return base + head;
}

/* The list of free and retired nodes can hold every node there is: giving back never fails. */
static bool grow_list(struct uvf_node_arena *arena, size_t total)
{
	size_t limit = arena->free_limit ? arena->free_limit : 16;
	void **nodes;

	while (limit < total)
		limit *= 2;
	if (limit == arena->free_limit)
		return true;
	nodes = malloc(limit * sizeof(*nodes));
	if (!nodes)
		return false;
	for (size_t i = 0; i < arena->free_count; i++)
		nodes[i] = arena->nodes[i];
	for (size_t i = 1; i <= arena->retired_count; i++)
		nodes[limit - i] = arena->nodes[arena->free_limit - i];
	free(arena->nodes);
	arena->nodes = nodes;
	arena->free_limit = limit;
	return true;
}

static bool add_chunk(struct uvf_node_arena *arena)
{
	size_t size = arena->chunks ? arena->chunks->size * 2 : FIRST_CHUNK;
	struct uvf_node_chunk *chunk;

	if (size > LAST_CHUNK)
		size = LAST_CHUNK;
	if (!grow_list(arena, arena->total + size / UVF_NODE_SIZE))
		return false;
	chunk = malloc(sizeof(*chunk));
	if (!chunk)
		return false;
	chunk->base = map_chunk(size);
	if (!chunk->base) {
		free(chunk);
		return false;
	}
	/* What is left of the chunk before would be forgotten. */
	for (; arena->fresh < arena->fresh_end; arena->fresh += UVF_NODE_SIZE)
		arena->nodes[arena->free_count++] = arena->fresh;
	chunk->size = size;
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	arena->fresh = chunk->base;
	arena->fresh_end = chunk->base + size;
	arena->total += size / UVF_NODE_SIZE;
	return true;
}

bool uvf_node_arena_reserve(struct uvf_node_arena *arena, size_t count)
{
	while (uvf_node_arena_available(arena) < count)
		if (!add_chunk(arena))
			return false;
	return true;
}

void *uvf_node_arena_take(struct uvf_node_arena *arena)
{
	void *node;

	if (arena->free_count)
		return arena->nodes[--arena->free_count];
	assert(arena->fresh < arena->fresh_end);
	node = arena->fresh;
	arena->fresh += UVF_NODE_SIZE;
	return node;
}

void uvf_node_arena_retire(struct uvf_node_arena *arena, void *node)
{
	arena->nodes[arena->free_limit - ++arena->retired_count] = node;
}

void uvf_node_arena_recycle(struct uvf_node_arena *arena)
{
	for (; arena->retired_count; arena->retired_count--) {
		size_t at = arena->free_limit - arena->retired_count;

		arena->nodes[arena->free_count++] = arena->nodes[at];
	}
}

size_t uvf_node_arena_memory(const struct uvf_node_arena *arena)
{
	return arena->total * UVF_NODE_SIZE + arena->free_limit * sizeof(*arena->nodes);
}
