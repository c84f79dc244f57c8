/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage in memory, which comes from the kernel as it is first written and goes back when it is
 * discarded. Every request completes in submit(); the controller can also copy without one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "devices/nvme/backend.h"

/* From here on giving pages back costs less than writing them, and never takes long. */
#define LARGE (1u << 20)

struct mem_backend {
	struct nvme_backend base;
	size_t mapped;
	size_t page_size;
};

static struct mem_backend *mem_backend_of(struct nvme_backend *backend)
{
	return (struct mem_backend *)backend;
}

static int mem_read(struct mem_backend *mem, struct nvme_io *io)
{
	return nvme_io_copy(io, (char *)mem->base.bytes + io->offset, io->size, true);
}

static int mem_write(struct mem_backend *mem, struct nvme_io *io)
{
	return nvme_io_copy(io, (char *)mem->base.bytes + io->offset, io->size, false);
}

static int mem_flush(struct mem_backend *mem, struct nvme_io *io)
{
	return 0;
}

static int mem_write_zeroes(struct mem_backend *mem, struct nvme_io *io)
{
	memset((char *)mem->base.bytes + io->offset, 0, io->size);
	return 0;
}

/* Whole pages go back to the kernel, which gives zeroes for them; the edges are written. */
static int mem_discard(struct mem_backend *mem, struct nvme_io *io)
{
	char *bytes = mem->base.bytes;
	uint64_t end = io->offset + io->size;
	uint64_t first_page = uvf_align_up(io->offset, mem->page_size);
	uint64_t end_page = uvf_align_down(end, mem->page_size);

	if (first_page >= end_page ||
	    madvise(bytes + first_page, end_page - first_page, MADV_DONTNEED) < 0)
		return mem_write_zeroes(mem, io);
	memset(bytes + io->offset, 0, first_page - io->offset);
	memset(bytes + end_page, 0, end - end_page);
	return 0;
}

static int (*const mem_operations[])(struct mem_backend *mem, struct nvme_io *io) = {
	[NVME_IO_READ] = mem_read,
	[NVME_IO_WRITE] = mem_write,
	[NVME_IO_FLUSH] = mem_flush,
	[NVME_IO_DISCARD] = mem_discard,
	[NVME_IO_WRITE_ZEROES] = mem_write_zeroes,
};

static int mem_submit(struct nvme_channel *channel, struct nvme_io *io)
{
	struct mem_backend *mem = mem_backend_of(channel->backend);
	int ret = nvme_io_check(&mem->base, io);

	if (ret < 0)
		return ret;
	if (io->op == NVME_IO_WRITE_ZEROES && (io->flags & NVME_IO_UNMAP || io->size >= LARGE))
		return mem_discard(mem, io);
	return mem_operations[io->op](mem, io);
}

static const struct nvme_channel_ops mem_channel_ops = {
	.submit = mem_submit,
	.close = nvme_channel_free_inline,
};

static int mem_open_channel(struct nvme_backend *backend, unsigned depth,
			    struct nvme_channel **channelp, struct uvf_error *error)
{
	return nvme_channel_new_inline(backend, &mem_channel_ops, channelp);
}

static void mem_close(struct nvme_backend *backend)
{
	munmap(backend->bytes, mem_backend_of(backend)->mapped);
	free(backend);
}

static const struct nvme_backend_ops mem_ops = {
	.open_channel = mem_open_channel,
	.close = mem_close,
};

/* Nothing is reserved: a large, mostly empty disk costs what is in it. */
static int map_bytes(struct mem_backend *mem, struct uvf_error *error)
{
	uint64_t size = mem->base.size;
	void *bytes;

	if (size > SIZE_MAX - mem->page_size)
		return uvf_fail(error, -EINVAL, "more than memory can address");
	mem->mapped = uvf_align_up(size, mem->page_size);
	bytes = mmap(NULL, mem->mapped, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bytes == MAP_FAILED)
		return uvf_fail(error, -errno, "%llu bytes of memory: %s", (unsigned long long)size,
				strerror(errno));
	/* A hint: kernels without huge pages refuse it. */
	madvise(bytes, mem->mapped, MADV_HUGEPAGE);
	mem->base.bytes = bytes;
	return 0;
}

int nvme_backend_open_mem(const struct nvme_backend_config *config, uint64_t size,
			  struct nvme_backend **backendp, struct uvf_error *error)
{
	struct mem_backend *mem = calloc(1, sizeof(*mem));
	int ret;

	if (!mem)
		return uvf_fail(error, -ENOMEM, "no memory");
	mem->page_size = (size_t)sysconf(_SC_PAGESIZE);
	mem->base = (struct nvme_backend){
		.ops = &mem_ops,
		.kind = "mem",
		.discard_zeroes = true,
		.discard_granularity = (uint32_t)mem->page_size,
		.max_iovecs = UINT32_MAX,
		.max_io_size = UINT32_MAX,
	};
	ret = nvme_backend_init(&mem->base, config, size, error);
	if (ret == 0)
		ret = map_bytes(mem, error);
	if (ret < 0) {
		free(mem);
		return ret;
	}
	mem->base.physical_block_size = mem->base.block_size;
	*backendp = &mem->base;
	return 0;
}
