/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory behind a file, for uvf_map_fd(). */
#ifndef UVF_IOMMU_FILE_H
#define UVF_IOMMU_FILE_H

#include "iommu/memory.h"

/* O_RDONLY or O_RDWR, or -EBADF, -EACCES. */
int uvf_memory_file_access(int fd);

/*
 * An address space's files. A memory is in the table while a mapping uses it; the table holds no
 * reference. All with the address space's lock held.
 */
struct uvf_file_table {
	struct uvf_memory **bucket;
	size_t size; /* a power of two, or 0 */
	size_t count;
};
struct uvf_memory *uvf_file_table_find(const struct uvf_file_table *table, dev_t device,
				       ino_t inode, int access);
/* Errors: -ENOMEM. */
int uvf_file_table_add(struct uvf_file_table *table, struct uvf_memory *memory);
void uvf_file_table_remove(struct uvf_file_table *table, struct uvf_memory *memory);

#endif
