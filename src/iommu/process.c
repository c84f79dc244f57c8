/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory of another process, through /proc/PID/mem. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "iommu/memory.h"

static int process_read(struct uvf_memory *memory, uint64_t offset, void *buf, size_t count)
{
	for (char *at = buf; count;) {
		ssize_t n = pread(memory->fd, at, count, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		/* An address that isn't mapped, or a process that has gone. */
		if (n <= 0)
			return -EFAULT;
		at += n;
		offset += (uint64_t)n;
		count -= (size_t)n;
	}
	return 0;
}

static int process_write(struct uvf_memory *memory, uint64_t offset, const void *buf, size_t count)
{
	for (const char *at = buf; count;) {
		ssize_t n = pwrite(memory->fd, at, count, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EFAULT;
		at += n;
		offset += (uint64_t)n;
		count -= (size_t)n;
	}
	return 0;
}

static const struct uvf_memory_kind process_kind = {
	.ends = true,
	.read = process_read,
	.write = process_write,
	.window_get = uvf_memory_whole_get,
	.window_put = uvf_memory_whole_put,
};

int uvf_memory_new_process(pid_t pid, struct uvf_memory **memoryp)
{
	struct uvf_memory *memory;
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : errno == EPERM ? -EACCES : -errno;
	memory = uvf_memory_alloc(&process_kind, UVF_PROT_RW);
	if (!memory) {
		close(fd);
		return -ENOMEM;
	}
	memory->fd = fd;
	*memoryp = memory;
	return 0;
}
