/* SPDX-License-Identifier: BSD-3-Clause */
/* Mapping, and the files that mappings by file descriptor have in common. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "iommu/space.h"

static int check_range(const struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
		       unsigned prot, uint64_t offset, uvf_iova_t *last)
{
	uint64_t granule = uvf_space_granule(space), ignored;

	if (!size || !prot || prot & ~(unsigned)UVF_PROT_RW)
		return -EINVAL;
	if (!uvf_is_aligned(iova | size, granule) ||
	    !uvf_is_aligned(offset,
			    granule < UVF_OFFSET_ALIGNMENT ? granule : UVF_OFFSET_ALIGNMENT))
		return -EINVAL;
	if (!uvf_range_last(iova, size, last) || !uvf_range_last(offset, size, &ignored))
		return -EOVERFLOW;
	if (iova < space->aperture.first || *last > space->aperture.last)
		return -EINVAL;
	for (size_t i = 0; i < space->reserved_count; i++)
		if (iova <= space->reserved[i].last && space->reserved[i].first <= *last)
			return -EINVAL;
	return 0;
}

static int check_limits(const struct uvf_address_space *space, uint64_t size)
{
	uint64_t bytes;

	if (space->max_mappings && space->mappings >= space->max_mappings)
		return -ENOSPC;
	if (space->max_bytes &&
	    (__builtin_add_overflow(space->bytes, size, &bytes) || bytes > space->max_bytes))
		return -ENOMEM;
	return 0;
}

static int ask_listeners(struct uvf_address_space *space, const struct uvf_mapping *mapping)
{
	int error = 0;

	for (struct uvf_listener *listener = space->listeners; listener && !error;
	     listener = listener->next)
		error = listener->admit ? listener->admit(listener, mapping) : 0;
	return error;
}

/* Tells all listeners, or none: those told before one that refuses are told that it's gone. */
static int tell_listeners(struct uvf_address_space *space, const struct uvf_mapping *mapping)
{
	for (struct uvf_listener *listener = space->listeners; listener;
	     listener = listener->next) {
		int error = listener->map ? listener->map(listener, mapping) : 0;

		if (!error)
			continue;
		for (struct uvf_listener *told = space->listeners; told != listener;
		     told = told->next)
			if (told->unmap)
				told->unmap(told, mapping->first, mapping->last);
		return error;
	}
	return 0;
}

int uvf_space_take(struct uvf_address_space *space, struct uvf_memory *memory, uint64_t offset,
		   unsigned prot, struct uvf_interval *interval)
{
	uint64_t size = interval->last - interval->first + 1;
	struct uvf_window *window;
	int mmaps = memory->kind->window_get(memory, offset, size, &window);

	if (mmaps < 0)
		return mmaps;
	/* What took no mmap is counted already. */
	if (mmaps && space->max_windows &&
	    space->window_bytes + window->size > space->max_windows) {
		memory->kind->window_put(window);
		return -ENOMEM;
	}
	interval->value = window->value + (offset - window->offset);
	interval->object = (uintptr_t)window | prot;
	if (memory->kind->direct)
		interval->object |= UVF_OBJECT_DIRECT;
	space->mappings++;
	space->bytes += size;
	space->windows += (unsigned)mmaps;
	space->window_bytes += mmaps ? window->size : 0;
	if (memory->home == space)
		memory->mappings++;
	return 0;
}

/* With the lock held. */
static int map_locked(struct uvf_address_space *space, uvf_iova_t first, uvf_iova_t last,
		      unsigned prot, struct uvf_memory *memory, uint64_t offset)
{
	struct uvf_interval other, interval = {.first = first, .last = last};
	struct uvf_mapping mapping;
	int error;

	uvf_space_settle(space, first, last);
	if (uvf_interval_map_next(&space->map, first, &other) && other.first <= last)
		return -EEXIST;
	error = check_limits(space, last - first + 1);
	if (!error)
		error = uvf_dirty_prepare(space, first, last);
	if (!error)
		error = uvf_space_take(space, memory, offset, prot, &interval);
	if (error)
		return error;
	mapping = uvf_mapping_of(&interval);
	error = ask_listeners(space, &mapping);
	if (!error)
		error = tell_listeners(space, &mapping);
	if (!error) {
		error = uvf_interval_map_insert(&space->map, &interval);
		for (struct uvf_listener *told = error ? space->listeners : NULL; told;
		     told = told->next)
			if (told->unmap)
				told->unmap(told, first, last);
	}
	if (error)
		uvf_space_drop(space, &interval);
	return error;
}

int uvf_map(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size, unsigned prot,
	    struct uvf_memory *memory, uint64_t offset)
{
	uvf_iova_t last;
	int error = check_range(space, iova, size, prot, offset, &last);

	if (error)
		return error;
	if (prot & ~memory->prot)
		return -EACCES;
	pthread_mutex_lock(&space->lock);
	error = map_locked(space, iova, last, prot, memory, offset);
	pthread_mutex_unlock(&space->lock);
	return error;
}

/* With the lock held: the memory of the file, with a reference. */
static int file_memory(struct uvf_address_space *space, int fd, struct uvf_memory **memoryp)
{
	int access = uvf_memory_file_access(fd), seals, error;
	struct uvf_memory *memory;
	struct stat stat;

	if (access < 0)
		return access;
	if (fstat(fd, &stat))
		return -errno;
	memory = uvf_file_table_find(&space->files, stat.st_dev, stat.st_ino, access);
	if (memory) {
		*memoryp = uvf_memory_get(memory);
		return 0;
	}
	if (space->max_files && space->files.count >= space->max_files)
		return -ENOSPC;
	seals = access == O_RDWR ? fcntl(fd, F_GET_SEALS) : 0;
	if (seals < 0)
		seals = 0; /* not a kind of file that has them */
	error = uvf_memory_new_file(
		fd,
		access == O_RDWR && !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) ? UVF_PROT_RW
										    : UVF_PROT_READ,
		&memory);
	if (error)
		return error;
	error = uvf_file_table_add(&space->files, memory);
	if (error) {
		uvf_memory_put(memory);
		return error;
	}
	memory->home = space;
	*memoryp = memory;
	return 0;
}

int uvf_map_fd(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size, unsigned prot,
	       int fd, uint64_t offset)
{
	struct uvf_memory *memory = NULL;
	uvf_iova_t last;
	int error = check_range(space, iova, size, prot, offset, &last);

	if (error)
		return error;
	pthread_mutex_lock(&space->lock);
	error = file_memory(space, fd, &memory);
	if (!error) {
		error = prot & ~memory->prot ? -EACCES
					     : map_locked(space, iova, last, prot, memory, offset);
		uvf_space_forget_file(space, memory);
		uvf_memory_put(memory);
	}
	pthread_mutex_unlock(&space->lock);
	return error;
}

struct uvf_memory *uvf_address_space_find_file(struct uvf_address_space *space, dev_t device,
					       ino_t inode, unsigned prot)
{
	static const int access[] = {O_RDWR, O_RDONLY};
	struct uvf_memory *memory = NULL;

	pthread_mutex_lock(&space->lock);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(access) && !memory; i++) {
		memory = uvf_file_table_find(&space->files, device, inode, access[i]);
		if (memory && prot & ~memory->prot)
			memory = NULL;
	}
	if (memory)
		uvf_memory_get(memory);
	pthread_mutex_unlock(&space->lock);
	return memory;
}

void uvf_space_forget_file(struct uvf_address_space *space, struct uvf_memory *memory)
{
	if (memory->home != space || memory->mappings)
		return;
	uvf_file_table_remove(&space->files, memory);
	memory->home = NULL;
}

void uvf_space_drop(struct uvf_address_space *space, const struct uvf_interval *interval)
{
	struct uvf_window *window = uvf_object_window(interval->object);
	struct uvf_memory *memory = window->memory;
	uint64_t size = window->size;

	space->mappings--;
	space->bytes -= interval->last - interval->first + 1;
	if (memory->home == space) {
		memory->mappings--;
		uvf_space_forget_file(space, memory);
	}
	if (memory->kind->window_put(window) && space->windows) {
		space->windows--;
		space->window_bytes -= size < space->window_bytes ? size : space->window_bytes;
	}
}
