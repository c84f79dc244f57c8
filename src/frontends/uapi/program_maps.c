/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is mapped at an address of a process: asked of the kernel, since Linux 6.11 by an ioctl on
 * /proc/PID/maps, before by reading it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "frontends/uapi/program_memory.h"

/* The kernel's struct procmap_query, which older headers lack. */
struct query {
	uint64_t size;
	uint64_t query_flags;
	uint64_t query_addr;
	uint64_t vma_start, vma_end;
	uint64_t vma_flags;
	uint64_t vma_page_size;
	uint64_t vma_offset;
	uint64_t inode;
	uint32_t dev_major, dev_minor;
	uint32_t vma_name_size;
	uint32_t build_id_size;
	uint64_t vma_name_addr;
	uint64_t build_id_addr;
};
_Static_assert(sizeof(struct query) == 104, "the kernel's layout");
#define QUERY		 _IOWR('f', 17, struct query)
#define QUERY_READABLE	 0x01
#define QUERY_WRITABLE	 0x02
#define QUERY_EXECUTABLE 0x04
#define QUERY_SHARED	 0x08

/* Longer lines have only a longer path. */
#define LINE_MAX_SIZE 4096

static int query(int maps, uint64_t address, struct uapi_vma *vma)
{
	struct query query = {.size = sizeof(query), .query_addr = address};

	if (ioctl(maps, QUERY, &query))
		return errno == ENOENT ? -EFAULT : -errno;
	*vma = (struct uapi_vma){
		.begin = query.vma_start,
		.end = query.vma_end,
		.prot = (query.vma_flags & QUERY_READABLE ? UVF_PROT_READ : 0U) |
			(query.vma_flags & QUERY_WRITABLE ? UVF_PROT_WRITE : 0U),
		.execute = query.vma_flags & QUERY_EXECUTABLE,
		.shared = query.vma_flags & QUERY_SHARED,
		.offset = query.vma_offset,
		.device = makedev(query.dev_major, query.dev_minor),
		.inode = query.inode,
	};
	return 0;
}

/* "7f00-7f10 rw-s 00001000 00:01 1234   path" */
static bool parse(const char *line, struct uapi_vma *vma)
{
	unsigned device_major, device_minor;
	char flags[5];

	*vma = (struct uapi_vma){0};
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &vma->begin,
		   &vma->end, flags, &vma->offset, &device_major, &device_minor, &vma->inode) != 7)
		return false;
	vma->prot =
		(flags[0] == 'r' ? UVF_PROT_READ : 0U) | (flags[1] == 'w' ? UVF_PROT_WRITE : 0U);
	vma->execute = flags[2] == 'x';
	vma->shared = flags[3] == 's';
	vma->device = makedev(device_major, device_minor);
	return true;
}

/* What is left of @text after its whole lines; *@result: 1 while the one that counts isn't there */
static size_t parse_lines(char *text, size_t length, uint64_t address, struct uapi_vma *vma,
			  int *result)
{
	char *line = text, *end;

	while ((end = memchr(line, '\n', length - (size_t)(line - text)))) {
		*end = '\0';
		if (parse(line, vma) && address < vma->end) {
			*result = address < vma->begin ? -EFAULT : 0;
			return 0;
		}
		line = end + 1;
	}
	length -= (size_t)(line - text);
	memmove(text, line, length);
	return length;
}

int uapi_vma_find_in_text(int maps, uint64_t address, struct uapi_vma *vma)
{
	char text[2 * LINE_MAX_SIZE];
	size_t kept = 0;
	off_t at = 0;
	int result = 1;

	while (result == 1) {
		ssize_t n = pread(maps, text + kept, sizeof(text) - kept, at);

		if (n < 0 && errno == EINTR)
			continue;
		/* Of a memory that is gone nothing is read. */
		if (n <= 0)
			return at ? -EFAULT : -ESRCH;
		at += n;
		kept = parse_lines(text, kept + (size_t)n, address, vma, &result);
		if (kept == sizeof(text))
			return -EFAULT;
	}
	return result;
}

int uapi_vmas_each(pid_t thread, int (*take)(void *opaque, const struct uapi_vma *vma),
		   void *opaque)
{
	struct uapi_vma vma;
	char path[32], *line = NULL;
	size_t room = 0;
	FILE *file;
	int ret = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", thread);
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!ret && getline(&line, &room, file) > 0)
		if (parse(line, &vma))
			ret = take(opaque, &vma);
	free(line);
	fclose(file);
	return ret;
}

int uapi_vma_find(int maps, uint64_t address, struct uapi_vma *vma)
{
	int error = query(maps, address, vma);

	return error == -ENOTTY ? uapi_vma_find_in_text(maps, address, vma) : error;
}
