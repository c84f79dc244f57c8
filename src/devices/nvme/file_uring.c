/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Carries steps out by io_uring: a ring a channel. A request has at most one entry in the ring and
 * the ring has room for all that are started, so that neither queue ever overflows.
 *
 * The ring is made disabled and enabled by the thread that first kicks it: from then on only that
 * thread enters it (SINGLE_ISSUER), and completions are worked off when it asks for them
 * (DEFER_TASKRUN), not by interrupting it; a flag in the ring says that there are some
 * (TASKRUN_FLAG), so that polling in vain is free of system calls.
 *
 * System calls: io_uring_setup, io_uring_register and eventfd2 to make a channel;
 * io_uring_register (once) and io_uring_enter to kick; read to arm.
 *
 * The file is not registered with the ring: a registered file is let go of some time after its
 * process has died, and a successor would find it locked.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* liburing's own inline functions do not pass these. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include <liburing.h>
#pragma GCC diagnostic pop

#include "base/bytes.h"
#include "base/log.h"
#include "devices/nvme/file.h"

/* Linux 6.12: include/uapi/linux/blkdev.h */
#define BLOCK_URING_CMD_DISCARD_ABI _IO(0x12, 0)

/* Completions taken at once, and how often in a row, so that a reap ends. */
#define REAP_BATCH  32u
#define REAP_ROUNDS 4

struct uring_channel {
	struct file_channel common;
	struct io_uring ring;
	bool enabled;
	bool armed;
	bool failed; /* to submit; said in the log */
};

static void prepare_transfer(struct io_uring_sqe *sqe, int fd, const struct file_step *step)
{
	bool read = step->kind == FILE_STEP_READ;

	/* A single buffer needs no array of them copied in. */
	if (step->iov_count == 1)
		io_uring_prep_rw(read ? IORING_OP_READ : IORING_OP_WRITE, sqe, fd,
				 step->iov->iov_base, (unsigned)step->iov->iov_len, step->offset);
	else
		io_uring_prep_rw(read ? IORING_OP_READV : IORING_OP_WRITEV, sqe, fd, step->iov,
				 (unsigned)step->iov_count, step->offset);
	sqe->rw_flags = step->rw_flags;
}

static void prepare_sync(struct io_uring_sqe *sqe, int fd, const struct file_step *step)
{
	io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
}

static void prepare_block_discard(struct io_uring_sqe *sqe, int fd, const struct file_step *step)
{
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
	sqe->cmd_op = BLOCK_URING_CMD_DISCARD_ABI;
	sqe->addr = step->offset;
	sqe->addr3 = step->size;
}

static void prepare_fallocate(struct io_uring_sqe *sqe, int fd, const struct file_step *step)
{
	/* Not io_uring_prep_fallocate: its versions disagree on the signs of offset and size. */
	io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, fd, NULL, (unsigned)step->mode, step->offset);
	sqe->addr = step->size;
}

static void prepare_none(struct io_uring_sqe *sqe, int fd, const struct file_step *step)
{
	io_uring_prep_nop(sqe);
}

static void (*const prepares[])(struct io_uring_sqe *sqe, int fd, const struct file_step *step) = {
	[FILE_STEP_READ] = prepare_transfer,   [FILE_STEP_WRITE] = prepare_transfer,
	[FILE_STEP_SYNC] = prepare_sync,       [FILE_STEP_BLOCK_DISCARD] = prepare_block_discard,
	[FILE_STEP_PUNCH] = prepare_fallocate, [FILE_STEP_ZERO_RANGE] = prepare_fallocate,
	[FILE_STEP_ZEROES] = prepare_transfer, [FILE_STEP_NONE] = prepare_none,
};

static void uring_start_step(struct file_channel *common, struct nvme_io *io)
{
	struct uring_channel *channel = (struct uring_channel *)common;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&channel->ring);
	struct file_step step;

	file_step_get(common, io, &step);
	prepares[step.kind](sqe, common->file->fd, &step);
	io_uring_sqe_set_data(sqe, io);
}

/* Interrupted, or short of memory: what is left in the queue goes with the next call. */
static void check_submitted(struct uring_channel *channel, int ret)
{
	if (ret >= 0 || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY || channel->failed)
		return;
	channel->failed = true;
	uvf_logf(&channel->common.file->log, UVF_LOG_ERROR, channel->common.file->who,
		 "io_uring takes no requests: %s", strerror(-ret));
}

/* #syscalls: io_uring_enter */
static void uring_kick(struct nvme_channel *base)
{
	struct uring_channel *channel = (struct uring_channel *)base;

	if (!io_uring_sq_ready(&channel->ring))
		return;
	if (!channel->enabled) {
		/* liburing 2.3 has io_uring_enable_rings() but doesn't export it. */
		check_submitted(channel, io_uring_register((unsigned)channel->ring.ring_fd,
							   IORING_REGISTER_ENABLE_RINGS, NULL, 0));
		channel->enabled = true;
	}
	check_submitted(channel, io_uring_submit(&channel->ring));
}

static void disarm(struct uring_channel *channel)
{
	if (!channel->armed)
		return;
	channel->armed = false;
	io_uring_cq_eventfd_toggle(&channel->ring, false);
}

/* done() may submit and reap: what has been taken from the queue is out of it before it runs. */
static unsigned take(struct uring_channel *channel, unsigned *taken)
{
	struct io_uring_cqe *entries[REAP_BATCH];
	struct nvme_io *ios[REAP_BATCH];
	int results[REAP_BATCH];
	unsigned done = 0;

	*taken = io_uring_peek_batch_cqe(&channel->ring, entries, REAP_BATCH);
	for (unsigned i = 0; i < *taken; i++) {
		ios[i] = io_uring_cqe_get_data(entries[i]);
		results[i] = entries[i]->res;
	}
	io_uring_cq_advance(&channel->ring, *taken);
	for (unsigned i = 0; i < *taken; i++)
		done += file_step_end(&channel->common, ios[i], results[i]) != NVME_IO_PENDING;
	return done;
}

static unsigned uring_reap(struct nvme_channel *base)
{
	struct uring_channel *channel = (struct uring_channel *)base;
	unsigned count = 0, taken = REAP_BATCH;

	disarm(channel);
	for (int round = 0; round < REAP_ROUNDS && taken == REAP_BATCH; round++)
		count += take(channel, &taken);
	uring_kick(base);
	return count;
}

/*
 * The order matters: once notifications are on, what is complete by now is looked for; whatever
 * completes later signals.
 * #syscalls: read
 */
static bool uring_arm(struct nvme_channel *base)
{
	struct uring_channel *channel = (struct uring_channel *)base;
	uint64_t signals;

	/* Left over from the last time: its value says nothing, and a failure that it was 0. */
	if (read(base->fd, &signals, sizeof(signals)) < 0)
		signals = 0;
	if (!base->in_flight)
		return true;
	uring_kick(base);
	io_uring_cq_eventfd_toggle(&channel->ring, true);
	channel->armed = true;
	io_uring_get_events(&channel->ring);
	if (!io_uring_cq_ready(&channel->ring) && !io_uring_sq_ready(&channel->ring))
		return true;
	disarm(channel);
	return false;
}

static void uring_drain(struct nvme_channel *base)
{
	struct uring_channel *channel = (struct uring_channel *)base;

	while (base->in_flight) {
		uring_kick(base);
		if (!io_uring_cq_ready(&channel->ring))
			io_uring_submit_and_wait(&channel->ring, 1);
		uring_reap(base);
	}
}

/* #syscalls: munmap close */
static void uring_close(struct nvme_channel *base)
{
	struct uring_channel *channel = (struct uring_channel *)base;

	io_uring_queue_exit(&channel->ring);
	file_channel_fini(&channel->common);
	free(channel);
}

static const struct nvme_channel_ops uring_channel_ops = {
	.submit = file_channel_submit,
	.kick = uring_kick,
	.reap = uring_reap,
	.arm = uring_arm,
	.cancel = file_channel_cancel,
	.drain = uring_drain,
	.close = uring_close,
};

/*
 * What a ring does, no system call filter sees. So it is kept to what we ask of it: it can't open
 * files, whoever gets to write into it.
 */
static int restrict_ring(struct io_uring *ring)
{
	static const uint8_t operations[] = {
		IORING_OP_READ,	 IORING_OP_WRITE,     IORING_OP_READV, IORING_OP_WRITEV,
		IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_NOP,   IORING_OP_URING_CMD,
	};
	struct io_uring_restriction restrictions[UVF_ARRAY_SIZE(operations)] = {{0}};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(operations); i++) {
		restrictions[i].opcode = IORING_RESTRICTION_SQE_OP;
		restrictions[i].sqe_op = operations[i];
	}
	/* As with enabling: liburing 2.3 doesn't export the function for it. */
	return io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS,
				 restrictions, UVF_ARRAY_SIZE(operations));
}

static int make_ring(struct uring_channel *channel, struct uvf_error *error)
{
	static const unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
				      IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED |
				      IORING_SETUP_SUBMIT_ALL;
	int ret = io_uring_queue_init(channel->common.depth, &channel->ring, flags);

	if (ret < 0)
		return uvf_fail(error, ret, "io_uring: %s", strerror(-ret));
	io_uring_ring_dontfork(&channel->ring);
	ret = io_uring_register_eventfd(&channel->ring, channel->common.base.fd);
	if (ret == 0)
		ret = io_uring_cq_eventfd_toggle(&channel->ring, false);
	if (ret == 0)
		ret = restrict_ring(&channel->ring);
	if (ret < 0) {
		io_uring_queue_exit(&channel->ring);
		return uvf_fail(error, ret, "io_uring set-up: %s", strerror(-ret));
	}
	return 0;
}

int file_open_uring_channel(struct file_backend *file, unsigned depth,
			    struct nvme_channel **channelp, struct uvf_error *error)
{
	struct uring_channel *channel = calloc(1, sizeof(*channel));
	int ret;

	if (!channel)
		return uvf_fail(error, -ENOMEM, "no memory");
	ret = file_channel_init(&channel->common, file, depth, error);
	if (ret == 0) {
		channel->common.base.ops = &uring_channel_ops;
		channel->common.start_step = uring_start_step;
		ret = make_ring(channel, error);
		if (ret < 0)
			file_channel_fini(&channel->common);
	}
	if (ret < 0) {
		free(channel);
		return ret;
	}
	*channelp = &channel->common.base;
	return 0;
}
