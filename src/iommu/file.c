/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory behind a file. A window is one mmap: of the whole file while that is of reasonable size,
 * else of a part of it that is much larger than a mapping, so that a million mappings need few.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/guard.h"
#include "iommu/file.h"

/* A file up to this size is one window: address space is 128 TiB, and costs nothing by itself. */
#define WHOLE_MAX (64ULL << 30)
/* Windows of larger files begin and end at multiples of this. */
#define WINDOW_GRANULARITY (1ULL << 30)

static bool window_covers(const struct uvf_window *window, uint64_t offset, uint64_t size)
{
	return offset >= window->offset &&
	       uvf_range_inside(offset - window->offset, size, window->size);
}

/* What to map so that [offset, offset + size), which is in the file, is covered. */
static void window_extent(uint64_t file_size, uint64_t offset, uint64_t size, uint64_t *begin,
			  uint64_t *end)
{
	/* A file is below 2^63, so that nothing wraps here. */
	file_size = uvf_align_up(file_size, (uint64_t)sysconf(_SC_PAGESIZE));
	*begin = 0;
	*end = file_size;
	if (file_size <= WHOLE_MAX)
		return;
	*begin = uvf_align_down(offset, WINDOW_GRANULARITY);
	*end = uvf_align_up(offset + size, WINDOW_GRANULARITY);
	if (*end > file_size)
		*end = file_size;
}

/* #syscalls: fstat newfstatat munmap */
static int window_new(struct uvf_memory *memory, uint64_t offset, uint64_t size,
		      struct uvf_window **windowp)
{
	int prot = (memory->prot & UVF_PROT_READ ? PROT_READ : 0) |
		   (memory->prot & UVF_PROT_WRITE ? PROT_WRITE : 0);
	struct uvf_window *window;
	uint64_t begin, end;
	struct stat stat;
	void *address;

	if (fstat(memory->fd, &stat))
		return -errno;
	if (stat.st_size < 0 || !uvf_range_inside(offset, size, (uint64_t)stat.st_size))
		return -EFAULT;
	window_extent((uint64_t)stat.st_size, offset, size, &begin, &end);
	window = aligned_alloc(64, sizeof(*window));
	if (!window)
		return -ENOMEM;
	address =
		mmap(NULL, end - begin, prot, MAP_SHARED | MAP_NORESERVE, memory->fd, (off_t)begin);
	if (address == MAP_FAILED) {
		free(window);
		/* A seal says EPERM. */
		return errno == EPERM ? -EACCES : errno == ENODEV ? -EINVAL : -errno;
	}
	*window = (struct uvf_window){
		.memory = uvf_memory_get(memory),
		.value = (uintptr_t)address,
		.offset = begin,
		.size = end - begin,
		.next = memory->windows,
	};
	memory->windows = window;
	*windowp = window;
	return 1;
}

static int file_window_get(struct uvf_memory *memory, uint64_t offset, uint64_t size,
			   struct uvf_window **windowp)
{
	struct uvf_window **at;
	int result = 0;

	pthread_mutex_lock(&memory->lock);
	for (at = &memory->windows; *at; at = &(*at)->next)
		if (window_covers(*at, offset, size))
			break;
	if (*at) {
		struct uvf_window *window = *at;

		/* To the front: the next mapping most likely is near. */
		*at = window->next;
		window->next = memory->windows;
		memory->windows = window;
		*windowp = window;
	} else {
		result = window_new(memory, offset, size, windowp);
	}
	if (result >= 0)
		(*windowp)->users++;
	pthread_mutex_unlock(&memory->lock);
	return result;
}

static bool file_window_put(struct uvf_window *window)
{
	struct uvf_memory *memory = window->memory;
	struct uvf_window **at;

	pthread_mutex_lock(&memory->lock);
	if (--window->users) {
		pthread_mutex_unlock(&memory->lock);
		return false;
	}
	for (at = &memory->windows; *at != window; at = &(*at)->next)
		;
	*at = window->next;
	pthread_mutex_unlock(&memory->lock);
	munmap((void *)(uintptr_t)window->value, window->size);
	free(window);
	uvf_memory_put(memory);
	return true;
}

static const struct uvf_memory_kind file_kind = {
	.direct = true,
	.window_get = file_window_get,
	.window_put = file_window_put,
};

/* #syscalls: fcntl */
int uvf_memory_file_access(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || flags & O_PATH)
		return -EBADF;
	/* A shared mapping reads, whatever it is for. */
	if ((flags & O_ACCMODE) == O_WRONLY)
		return -EACCES;
	return flags & O_ACCMODE;
}

/* #syscalls: fstat newfstatat fcntl */
int uvf_memory_new_file(int fd, unsigned prot, struct uvf_memory **memoryp)
{
	int access = uvf_memory_file_access(fd), copy;
	struct uvf_memory *memory;
	struct stat stat;

	if (access < 0)
		return access;
	if (!prot || prot & ~(unsigned)UVF_PROT_RW)
		return -EINVAL;
	if (prot & UVF_PROT_WRITE && access != O_RDWR)
		return -EACCES;
	if (fstat(fd, &stat))
		return -errno;
	if (!S_ISREG(stat.st_mode))
		return -EINVAL;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return errno == EINVAL ? -EMFILE : -errno;
	memory = uvf_memory_alloc(&file_kind, prot);
	if (!memory) {
		close(copy);
		return -ENOMEM;
	}
	memory->fd = copy;
	memory->device = stat.st_dev;
	memory->inode = stat.st_ino;
	memory->access = access;
	uvf_guard_install();
	*memoryp = memory;
	return 0;
}
