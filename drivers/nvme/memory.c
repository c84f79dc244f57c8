/* SPDX-License-Identifier: BSD-3-Clause */
/* DMA memory: one sealed memfd, of huge pages where there are some, given out page by page. */
#include "driver.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE (2ULL << 20)

static int memory_map(struct dma_memory *memory, uint64_t size, unsigned flags)
{
	void *base;
	int ret;

	memory->fd = memfd_create("nvme-driver", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	if (memory->fd < 0)
		return -errno;
	if (ftruncate(memory->fd, (off_t)size) < 0)
		goto fail;
	/* The other side maps it too: it must never shrink under either of us. */
	if (fcntl(memory->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto fail;
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory->fd, 0);
	if (base == MAP_FAILED)
		goto fail;
	memory->base = base;
	memory->size = size;
	return 0;
fail:
	ret = -errno;
	close(memory->fd);
	memory->fd = -1;
	return ret;
}

int dma_memory_open(struct dma_memory *memory, uint64_t size, bool hugepages)
{
	if (__builtin_add_overflow(size, HUGE_PAGE - 1, &size))
		return -EINVAL;
	size &= ~(HUGE_PAGE - 1);
	if (hugepages && !memory_map(memory, size, MFD_HUGETLB | MFD_HUGE_2MB)) {
		memory->hugepages = true;
		return 0;
	}
	return memory_map(memory, size, 0);
}

void dma_memory_close(struct dma_memory *memory)
{
	if (memory->fd < 0)
		return;
	munmap(memory->base, memory->size);
	close(memory->fd);
	memory->fd = -1;
}

void *dma_memory_take(struct dma_memory *memory, uint64_t size, uvf_iova_t *iovap)
{
	uint64_t offset = memory->used;

	if (__builtin_add_overflow(size, NVME_PAGE - 1, &size))
		return NULL;
	size &= ~(uint64_t)(NVME_PAGE - 1);
	if (!size || size > memory->size - offset)
		return NULL;
	memory->used += size;
	*iovap = DMA_BASE + offset;
	return memory->base + offset;
}
