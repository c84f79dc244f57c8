/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Carries steps out on the calling thread, where io_uring isn't available. A request runs when it
 * is reaped; nothing ever happens behind the thread's back, so there is nothing to sleep for.
 *
 * System calls: eventfd2 to make a channel; preadv2, pwritev2, fdatasync, fallocate and
 * ioctl(BLKDISCARD) to reap.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/nvme/file.h"

struct sync_channel {
	struct file_channel common;
	struct nvme_io *ready, **ready_end;
};

static void sync_start_step(struct file_channel *common, struct nvme_io *io)
{
	struct sync_channel *channel = (struct sync_channel *)common;

	io->next = NULL;
	*channel->ready_end = io;
	channel->ready_end = &io->next;
}

/* #syscalls: preadv2 */
static ssize_t run_read(int fd, const struct file_step *step)
{
	return preadv2(fd, step->iov, step->iov_count, (off_t)step->offset, step->rw_flags);
}

/* #syscalls: pwritev2 */
static ssize_t run_write(int fd, const struct file_step *step)
{
	return pwritev2(fd, step->iov, step->iov_count, (off_t)step->offset, step->rw_flags);
}

/* #syscalls: fdatasync */
static ssize_t run_sync(int fd, const struct file_step *step)
{
	return fdatasync(fd);
}

static ssize_t run_block_discard(int fd, const struct file_step *step)
{
	uint64_t range[2] = {step->offset, step->size};

	return ioctl(fd, BLKDISCARD, range);
}

/* #syscalls: fallocate */
static ssize_t run_fallocate(int fd, const struct file_step *step)
{
	return fallocate(fd, step->mode, (off_t)step->offset, (off_t)step->size);
}

static ssize_t run_none(int fd, const struct file_step *step)
{
	return 0;
}

static ssize_t (*const runs[])(int fd, const struct file_step *step) = {
	[FILE_STEP_READ] = run_read,	   [FILE_STEP_WRITE] = run_write,
	[FILE_STEP_SYNC] = run_sync,	   [FILE_STEP_BLOCK_DISCARD] = run_block_discard,
	[FILE_STEP_PUNCH] = run_fallocate, [FILE_STEP_ZERO_RANGE] = run_fallocate,
	[FILE_STEP_ZEROES] = run_write,	   [FILE_STEP_NONE] = run_none,
};

static void sync_kick(struct nvme_channel *base)
{
}

/* One step of each request that is ready now; what they lead to is the next call's. */
static unsigned sync_reap(struct nvme_channel *base)
{
	struct sync_channel *channel = (struct sync_channel *)base;
	struct nvme_io *io = channel->ready;
	unsigned count = 0;

	channel->ready = NULL;
	channel->ready_end = &channel->ready;
	while (io) {
		struct nvme_io *next = io->next;
		struct file_step step;
		ssize_t result;

		file_step_get(&channel->common, io, &step);
		result = runs[step.kind](channel->common.file->fd, &step);
		if (result < 0)
			result = -errno;
		count += file_step_end(&channel->common, io, (int)result) != NVME_IO_PENDING;
		io = next;
	}
	return count;
}

static bool sync_arm(struct nvme_channel *base)
{
	return !base->in_flight;
}

static void sync_drain(struct nvme_channel *base)
{
	while (base->in_flight)
		sync_reap(base);
}

static void sync_close(struct nvme_channel *base)
{
	file_channel_fini((struct file_channel *)base);
	free(base);
}

static const struct nvme_channel_ops sync_channel_ops = {
	.submit = file_channel_submit,
	.kick = sync_kick,
	.reap = sync_reap,
	.arm = sync_arm,
	.cancel = file_channel_cancel,
	.drain = sync_drain,
	.close = sync_close,
};

int file_open_sync_channel(struct file_backend *file, unsigned depth,
			   struct nvme_channel **channelp, struct uvf_error *error)
{
	struct sync_channel *channel = calloc(1, sizeof(*channel));
	int ret;

	if (!channel)
		return uvf_fail(error, -ENOMEM, "no memory");
	ret = file_channel_init(&channel->common, file, depth, error);
	if (ret < 0) {
		free(channel);
		return ret;
	}
	channel->common.base.ops = &sync_channel_ops;
	channel->common.start_step = sync_start_step;
	channel->ready_end = &channel->ready;
	*channelp = &channel->common.base;
	return 0;
}
