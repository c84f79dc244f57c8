/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The steps that a request on a file takes. A request waits until there is room (and a bounce
 * buffer, if it needs one); once started it goes from step to step, one system call each, until its
 * result is known: a short transfer continues, what a file system doesn't know is done another way.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/nvme/file.h"

/* EINTR and EAGAIN in a row before they are given up on. */
#define MAX_RETRIES 100
/* io_uring has at most 32768 entries; nobody gains from so many. */
#define MAX_DEPTH 4096u

static int map_bounces(struct file_channel *channel, struct uvf_error *error)
{
	channel->bounces = mmap(NULL, BOUNCE_SIZE * BOUNCE_COUNT, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (channel->bounces == MAP_FAILED)
		return uvf_fail(error, -errno, "memory for direct I/O: %s", strerror(errno));
	for (size_t i = 0; i < BOUNCE_COUNT; i++)
		channel->free_bounces[i] = channel->bounces + i * BOUNCE_SIZE;
	channel->free_bounce_count = BOUNCE_COUNT;
	return 0;
}

int file_channel_init(struct file_channel *channel, struct file_backend *file, unsigned depth,
		      struct uvf_error *error)
{
	int ret = 0;

	channel->file = file;
	channel->base.backend = &file->base;
	channel->waiting_end = &channel->waiting;
	channel->depth = depth < 1 ? 1 : depth > MAX_DEPTH ? MAX_DEPTH : depth;
	channel->base.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (channel->base.fd < 0)
		return uvf_fail(error, -errno, "eventfd: %s", strerror(errno));
	if (file->direct)
		ret = map_bounces(channel, error);
	if (ret < 0)
		close(channel->base.fd);
	return ret;
}

void file_channel_fini(struct file_channel *channel)
{
	if (channel->file->direct)
		munmap(channel->bounces, BOUNCE_SIZE * BOUNCE_COUNT);
	close(channel->base.fd);
}

/* ---- Taking requests ---- */

static bool needs_bounce(const struct file_backend *file, const struct nvme_io *io)
{
	if (!file->direct || (io->op != NVME_IO_READ && io->op != NVME_IO_WRITE))
		return false;
	for (int i = 0; i < io->iov_count; i++) {
		if (!uvf_is_aligned((uintptr_t)io->iov[i].iov_base, file->memory_alignment) ||
		    !uvf_is_aligned(io->iov[i].iov_len, file->offset_alignment))
			return true;
	}
	return false;
}

static uint8_t zeroes_step(const struct file_backend *file, bool unmap)
{
	if (unmap && !file->no_punch)
		return FILE_STEP_PUNCH;
	if (!file->no_zero_range)
		return FILE_STEP_ZERO_RANGE;
	return FILE_STEP_ZEROES;
}

static uint8_t first_step(const struct file_backend *file, const struct nvme_io *io)
{
	switch (io->op) {
	case NVME_IO_READ:
		return FILE_STEP_READ;
	case NVME_IO_WRITE:
		return FILE_STEP_WRITE;
	case NVME_IO_FLUSH:
		return FILE_STEP_SYNC;
	case NVME_IO_DISCARD:
		return file->block_device && !file->no_block_discard ? FILE_STEP_BLOCK_DISCARD
								     : FILE_STEP_PUNCH;
	default:
		return zeroes_step(file, io->flags & NVME_IO_UNMAP);
	}
}

/* False: there is no room, or no bounce buffer, until another request ends. */
static bool start(struct file_channel *channel, struct nvme_io *io)
{
	bool bounce = needs_bounce(channel->file, io);

	if (channel->started == channel->depth || (bounce && !channel->free_bounce_count))
		return false;
	if (bounce)
		io->bounce = channel->free_bounces[--channel->free_bounce_count];
	channel->started++;
	channel->start_step(channel, io);
	return true;
}

static void start_waiting(struct file_channel *channel)
{
	struct nvme_io *io, *next;

	while ((io = channel->waiting)) {
		next = io->next;
		if (!start(channel, io))
			return;
		channel->waiting = next;
		if (!channel->waiting)
			channel->waiting_end = &channel->waiting;
	}
}

int file_channel_submit(struct nvme_channel *base, struct nvme_io *io)
{
	struct file_channel *channel = (struct file_channel *)base;
	struct file_backend *file = channel->file;
	int ret = nvme_io_check(&file->base, io);

	if (ret < 0)
		return ret;
	if (io->op != NVME_IO_FLUSH && !io->size)
		return 0;
	if (io->op == NVME_IO_DISCARD && file->no_punch &&
	    (!file->block_device || file->no_block_discard))
		return 0;
	io->at = io->offset;
	io->left = io->size;
	io->bounce = NULL;
	io->retries = 0;
	io->step = first_step(file, io);
	base->in_flight++;
	if (channel->waiting || !start(channel, io)) {
		io->next = NULL;
		*channel->waiting_end = io;
		channel->waiting_end = &io->next;
	}
	return NVME_IO_PENDING;
}

bool file_channel_cancel(struct nvme_channel *base, struct nvme_io *io)
{
	struct file_channel *channel = (struct file_channel *)base;

	for (struct nvme_io **at = &channel->waiting; *at; at = &(*at)->next) {
		if (*at != io)
			continue;
		*at = io->next;
		if (!*at)
			channel->waiting_end = at;
		base->in_flight--;
		return true;
	}
	return false;
}

/* ---- Steps ---- */

/* The bytes for a step that doesn't use the request's own iovecs. */
static int prepare_buffer(struct file_channel *channel, struct nvme_io *io)
{
	uint64_t most = io->bounce ? BOUNCE_SIZE : ZEROES_SIZE;

	io->bounce_iov.iov_base = io->bounce ? io->bounce : channel->file->zeroes;
	io->bounce_iov.iov_len = io->left < most ? io->left : most;
	if (io->step != FILE_STEP_WRITE)
		return 0;
	return nvme_io_copy(io, io->bounce, io->bounce_iov.iov_len, false);
}

void file_step_get(struct file_channel *channel, struct nvme_io *io, struct file_step *step)
{
	static const int fallocate_modes[] = {
		[FILE_STEP_PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		[FILE_STEP_ZERO_RANGE] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		[FILE_STEP_NONE] = 0,
	};
	bool own_buffer = io->bounce || io->step == FILE_STEP_ZEROES;

	if (own_buffer && prepare_buffer(channel, io) < 0)
		io->step = FILE_STEP_NONE;
	*step = (struct file_step){
		.kind = io->step,
		.iov = own_buffer ? &io->bounce_iov : io->iov,
		.iov_count = own_buffer ? 1 : io->iov_count,
		.mode = fallocate_modes[io->step],
		.offset = io->at,
		.size = io->left,
	};
	if (io->op == NVME_IO_WRITE && io->flags & NVME_IO_FUA)
		step->rw_flags = RWF_DSYNC;
}

/* A write step of a buffered file couldn't reach the disk: see struct file_backend. */
static void lose_writes(struct file_backend *file, int result)
{
	if (file->direct ||
	    atomic_exchange_explicit(&file->lost_writes, result, memory_order_relaxed))
		return;
	uvf_logf(&file->log, UVF_LOG_ERROR, file->who,
		 "writes were lost, no flush will succeed from here on: %s", strerror(-result));
}

static int transfer_end(struct file_channel *channel, struct nvme_io *io, int result)
{
	struct file_backend *file = channel->file;
	uint64_t moved = (uint64_t)result;
	int ret;

	if (result == -EIO && io->op == NVME_IO_WRITE && io->flags & NVME_IO_FUA)
		lose_writes(file, result);
	if (result < 0)
		return result;
	/* The file ends here, or (direct) in the middle of a block: it has been truncated. */
	if (!moved || !uvf_is_aligned(moved, file->offset_alignment))
		return -EIO;
	if (io->bounce && io->step == FILE_STEP_READ) {
		ret = nvme_io_copy(io, io->bounce, moved, true);
		if (ret < 0)
			return ret;
	}
	if (io->step != FILE_STEP_ZEROES)
		nvme_io_advance(io, moved);
	io->at += moved;
	io->left -= moved;
	return io->left ? NVME_IO_PENDING : 0;
}

static int sync_end(struct file_channel *channel, struct nvme_io *io, int result)
{
	struct file_backend *file = channel->file;

	if (result < 0)
		lose_writes(file, result);
	else
		result = atomic_load_explicit(&file->lost_writes, memory_order_relaxed);
	return result;
}

/* Zeroes are there: with FUA they must be stable too. */
static int zeroes_end(struct nvme_io *io)
{
	if (io->op != NVME_IO_WRITE_ZEROES || !(io->flags & NVME_IO_FUA))
		return 0;
	io->step = FILE_STEP_SYNC;
	return NVME_IO_PENDING;
}

static int zeroes_written(struct file_channel *channel, struct nvme_io *io, int result)
{
	int ret = transfer_end(channel, io, result);

	return ret ? ret : zeroes_end(io);
}

/*
 * Whether a step failed because it isn't possible there; then it is not tried again. A block device
 * answers EINVAL where just this range isn't in whole blocks of its own.
 */
static bool impossible(const struct file_backend *file, int result, atomic_bool *never)
{
	if (result == -EOPNOTSUPP || result == -ENOSYS || result == -ENOTTY)
		atomic_store_explicit(never, true, memory_order_relaxed);
	else if (result != -EINVAL || !file->block_device)
		return false;
	return true;
}

static int block_discard_end(struct file_channel *channel, struct nvme_io *io, int result)
{
	if (!impossible(channel->file, result, &channel->file->no_block_discard))
		return result;
	io->step = FILE_STEP_PUNCH;
	return NVME_IO_PENDING;
}

static int punch_end(struct file_channel *channel, struct nvme_io *io, int result)
{
	bool not_here = impossible(channel->file, result, &channel->file->no_punch);

	if (io->op == NVME_IO_DISCARD)
		return not_here ? 0 : result;
	if (!not_here)
		return result < 0 ? result : zeroes_end(io);
	io->step = zeroes_step(channel->file, false);
	return NVME_IO_PENDING;
}

static int zero_range_end(struct file_channel *channel, struct nvme_io *io, int result)
{
	if (!impossible(channel->file, result, &channel->file->no_zero_range))
		return result < 0 ? result : zeroes_end(io);
	io->step = FILE_STEP_ZEROES;
	return NVME_IO_PENDING;
}

/* The source of a bounced write has gone. */
static int none_end(struct file_channel *channel, struct nvme_io *io, int result)
{
	return -EFAULT;
}

static int (*const step_ends[])(struct file_channel *channel, struct nvme_io *io, int result) = {
	[FILE_STEP_READ] = transfer_end,     [FILE_STEP_WRITE] = transfer_end,
	[FILE_STEP_SYNC] = sync_end,	     [FILE_STEP_BLOCK_DISCARD] = block_discard_end,
	[FILE_STEP_PUNCH] = punch_end,	     [FILE_STEP_ZERO_RANGE] = zero_range_end,
	[FILE_STEP_ZEROES] = zeroes_written, [FILE_STEP_NONE] = none_end,
};

static void finish(struct file_channel *channel, struct nvme_io *io, int result)
{
	if (io->bounce)
		channel->free_bounces[channel->free_bounce_count++] = io->bounce;
	channel->started--;
	channel->base.in_flight--;
	start_waiting(channel);
	/* The last use of it: the caller may have reused or freed it afterwards. */
	io->done(io, result);
}

int file_step_end(struct file_channel *channel, struct nvme_io *io, int result)
{
	int ret = NVME_IO_PENDING;

	if ((result == -EINTR || result == -EAGAIN) && io->retries < MAX_RETRIES) {
		io->retries++;
	} else {
		io->retries = 0;
		ret = step_ends[io->step](channel, io, result);
	}
	if (ret == NVME_IO_PENDING)
		channel->start_step(channel, io);
	else
		finish(channel, io, ret);
	return ret;
}
