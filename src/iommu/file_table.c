/* SPDX-License-Identifier: BSD-3-Clause */
/* An address space's files by device, inode and access mode: a hash table that grows. */
#include <errno.h>
#include <stdlib.h>

#include "iommu/file.h"

#define FIRST_SIZE 16

static size_t hash(dev_t device, ino_t inode, int access)
{
	uint64_t mixed = ((uint64_t)inode * 31 + (uint64_t)device) * 4 + (unsigned)access;

	return (size_t)((mixed * 0x9e3779b97f4a7c15ULL) >> 32);
}

static struct uvf_memory **bucket_of(const struct uvf_file_table *table, dev_t device, ino_t inode,
				     int access)
{
	return &table->bucket[hash(device, inode, access) & (table->size - 1)];
}

struct uvf_memory *uvf_file_table_find(const struct uvf_file_table *table, dev_t device,
				       ino_t inode, int access)
{
	struct uvf_memory *memory;

	if (!table->count)
		return NULL;
	memory = *bucket_of(table, device, inode, access);
	while (memory &&
	       (memory->device != device || memory->inode != inode || memory->access != access))
		memory = memory->next;
	return memory;
}

static void link_in(struct uvf_file_table *table, struct uvf_memory *memory)
{
	struct uvf_memory **bucket =
		bucket_of(table, memory->device, memory->inode, memory->access);

	memory->next = *bucket;
	*bucket = memory;
}

static int grow(struct uvf_file_table *table)
{
	struct uvf_file_table old = *table;

	table->size = old.size ? old.size * 2 : FIRST_SIZE;
	table->bucket = calloc(table->size, sizeof(struct uvf_memory *));
	if (!table->bucket) {
		*table = old;
		return -ENOMEM;
	}
	for (size_t i = 0; i < old.size; i++)
		while (old.bucket[i]) {
			struct uvf_memory *memory = old.bucket[i];

			old.bucket[i] = memory->next;
			link_in(table, memory);
		}
	free(old.bucket);
	return 0;
}

int uvf_file_table_add(struct uvf_file_table *table, struct uvf_memory *memory)
{
	if (table->count == table->size) {
		int error = grow(table);

		if (error)
			return error;
	}
	link_in(table, memory);
	table->count++;
	return 0;
}

void uvf_file_table_remove(struct uvf_file_table *table, struct uvf_memory *memory)
{
	struct uvf_memory **at = bucket_of(table, memory->device, memory->inode, memory->access);

	while (*at != memory)
		at = &(*at)->next;
	*at = memory->next;
	table->count--;
}
