/* SPDX-License-Identifier: BSD-3-Clause */
/* What all kinds of storage have in common: the checks of requests, and bytes to and from iovecs.
 */
#include "devices/nvme/backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uvfio/dma.h>

#include "base/bytes.h"

#define DEFAULT_BLOCK_SIZE 512u

int nvme_backend_init(struct nvme_backend *backend, const struct nvme_backend_config *config,
		      uint64_t size, struct uvf_error *error)
{
	uint32_t block_size = config->block_size ? config->block_size : DEFAULT_BLOCK_SIZE;

	if (!uvf_is_power_of_two(block_size))
		return uvf_fail(error, -EINVAL, "block size %u is not a power of two", block_size);
	if (size < block_size)
		return uvf_fail(error, -EINVAL, "%s storage of %llu bytes has no block of %u",
				backend->kind, (unsigned long long)size, block_size);
	backend->block_size = block_size;
	backend->size = uvf_align_down(size, block_size);
	backend->read_only = config->read_only;
	if (getrandom(backend->identity, sizeof(backend->identity), 0) < 0)
		return uvf_fail(error, -errno, "no random numbers: %s", strerror(errno));
	return 0;
}

int nvme_backend_claim(struct nvme_backend *backend, struct uvf_error *error)
{
	return backend->ops->claim ? backend->ops->claim(backend, error) : 0;
}

int nvme_backend_release(struct nvme_backend *backend)
{
	return backend->ops->release ? backend->ops->release(backend) : 0;
}

void nvme_backend_close(struct nvme_backend *backend)
{
	if (backend)
		backend->ops->close(backend);
}

int nvme_channel_open(struct nvme_backend *backend, unsigned depth, struct nvme_channel **channelp,
		      struct uvf_error *error)
{
	return backend->ops->open_channel(backend, depth, channelp, error);
}

void nvme_channel_close(struct nvme_channel *channel)
{
	if (!channel)
		return;
	nvme_channel_drain(channel);
	channel->ops->close(channel);
}

int nvme_channel_new_inline(struct nvme_backend *backend, const struct nvme_channel_ops *ops,
			    struct nvme_channel **channelp)
{
	struct nvme_channel *channel = calloc(1, sizeof(*channel));

	if (!channel)
		return -ENOMEM;
	channel->ops = ops;
	channel->backend = backend;
	channel->fd = -1;
	*channelp = channel;
	return 0;
}

void nvme_channel_free_inline(struct nvme_channel *channel)
{
	free(channel);
}

static bool iovecs_cover(const struct nvme_io *io)
{
	uint64_t left = io->size;

	for (int i = 0; i < io->iov_count; i++) {
		if (io->iov[i].iov_len > left)
			return false;
		left -= io->iov[i].iov_len;
	}
	return !left;
}

/* What an operation needs, by its number. */
static const struct {
	bool known, ranged, writes, iovecs;
} operations[] = {
	[NVME_IO_READ] = {.known = true, .ranged = true, .iovecs = true},
	[NVME_IO_WRITE] = {.known = true, .ranged = true, .writes = true, .iovecs = true},
	[NVME_IO_FLUSH] = {.known = true},
	[NVME_IO_DISCARD] = {.known = true, .ranged = true, .writes = true},
	[NVME_IO_WRITE_ZEROES] = {.known = true, .ranged = true, .writes = true},
};

int nvme_io_check(const struct nvme_backend *backend, const struct nvme_io *io)
{
	if (io->op >= UVF_ARRAY_SIZE(operations) || !operations[io->op].known)
		return -EINVAL;
	if (operations[io->op].writes && backend->read_only)
		return -EROFS;
	if (!operations[io->op].ranged)
		return 0;
	if (!uvf_range_inside(io->offset, io->size, backend->size) ||
	    !uvf_is_aligned(io->offset | io->size, backend->block_size))
		return -EINVAL;
	if (!operations[io->op].iovecs || backend->moves_no_data)
		return 0;
	if (io->iov_count < 0 || (uint32_t)io->iov_count > backend->max_iovecs ||
	    io->size > backend->max_io_size || !iovecs_cover(io))
		return -EINVAL;
	return 0;
}

int nvme_io_copy(const struct nvme_io *io, void *bytes, size_t size, bool to_iovecs)
{
	char *at = bytes;

	for (int i = 0; size && i < io->iov_count; i++) {
		size_t n = io->iov[i].iov_len < size ? io->iov[i].iov_len : size;
		void *memory = io->iov[i].iov_base;
		int ret = uvf_guarded_copy(to_iovecs ? memory : at, to_iovecs ? at : memory, n);

		if (ret < 0)
			return ret;
		at += n;
		size -= n;
	}
	return size ? -EFAULT : 0;
}

void nvme_io_advance(struct nvme_io *io, size_t size)
{
	while (io->iov_count && size >= io->iov->iov_len) {
		size -= io->iov->iov_len;
		io->iov++;
		io->iov_count--;
	}
	if (!size)
		return;
	io->iov->iov_base = (char *)io->iov->iov_base + size;
	io->iov->iov_len -= size;
}
