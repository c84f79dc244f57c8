/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files and block devices as storage, between the three parts: what was opened (backend_file.c),
 * the steps that a request takes (file_channel.c), and who carries a step out: io_uring
 * (file_uring.c), or the thread itself where that isn't there (file_sync.c).
 */
#ifndef UVF_NVME_FILE_H
#define UVF_NVME_FILE_H

#include <stdatomic.h>

#include "devices/nvme/backend.h"

/* For buffers that direct I/O can't use as they are; each channel has BOUNCE_COUNT. */
#define BOUNCE_SIZE  (128u << 10)
#define BOUNCE_COUNT 16u
/* Zeroes are written so many bytes at a time where the file system can't make them itself. */
#define ZEROES_SIZE (1u << 20)

struct file_backend {
	struct nvme_backend base;
	int fd;
	bool direct, block_device, no_uring;
	/*
	 * What direct I/O asks of addresses (a page's at most), and of offsets and lengths. 1 when
	 * not direct.
	 */
	uint32_t memory_alignment, offset_alignment;
	char *zeroes; /* ZEROES_SIZE of them, read-only, aligned to a page */
	struct uvf_log log;
	const char *who;
	char *path;
	bool no_lock;
	bool claimed; /* locked, or as good as */

	/* Learnt on the way, by any channel. */
	atomic_bool no_block_discard, no_punch, no_zero_range;
	atomic_bool said_no_uring; /* in the log, once */
	/*
	 * A buffered write that could not reach the disk is reported once, by the kernel's choice
	 * to whoever syncs next, and is then forgotten with its data. A later flush must not
	 * succeed: it would vouch for that write.
	 */
	atomic_int lost_writes;
};

enum file_step_kind {
	FILE_STEP_READ,
	FILE_STEP_WRITE,
	FILE_STEP_SYNC,
	FILE_STEP_BLOCK_DISCARD,
	FILE_STEP_PUNCH,
	FILE_STEP_ZERO_RANGE,
	FILE_STEP_ZEROES, /* a write of zeroes, in pieces */
	FILE_STEP_NONE,	  /* nothing to carry out; any result */
};

/* A step as a system call would take it. */
struct file_step {
	enum file_step_kind kind;
	const struct iovec *iov; /* READ, WRITE, ZEROES */
	int iov_count;
	int rw_flags; /* RWF_* */
	int mode;     /* FALLOC_FL_* of PUNCH, ZERO_RANGE */
	uint64_t offset, size;
};

struct file_channel {
	struct nvme_channel base;
	struct file_backend *file;
	/* Requests that wait for their turn, or for a bounce buffer: first in, first out. */
	struct nvme_io *waiting, **waiting_end;
	unsigned depth;
	unsigned started; /* of at most @depth; each is in exactly one step */
	char *bounces;	  /* direct only */
	void *free_bounces[BOUNCE_COUNT];
	unsigned free_bounce_count;
	/* The engine: takes a request whose step is to be carried out. Never fails. */
	void (*start_step)(struct file_channel *channel, struct nvme_io *io);
};

/* ---- file_channel.c ---- */

int file_channel_init(struct file_channel *channel, struct file_backend *file, unsigned depth,
		      struct uvf_error *error);
void file_channel_fini(struct file_channel *channel);
/* nvme_channel_ops.submit of both engines. */
int file_channel_submit(struct nvme_channel *channel, struct nvme_io *io);
/* nvme_channel_ops.cancel of both engines. */
bool file_channel_cancel(struct nvme_channel *channel, struct nvme_io *io);
/* What to do now for @io, which has been started. */
void file_step_get(struct file_channel *channel, struct nvme_io *io, struct file_step *step);
/*
 * The step's system call has given @result. Returns NVME_IO_PENDING where @io has another step,
 * which has been started; otherwise done() has been called, and a waiting request may be started.
 */
int file_step_end(struct file_channel *channel, struct nvme_io *io, int result);

/* ---- The engines: nvme_backend_ops.open_channel, more or less ---- */

/* Errors: also -ENOSYS and -EPERM (the kernel, or a sandbox, has no io_uring). */
int file_open_uring_channel(struct file_backend *file, unsigned depth,
			    struct nvme_channel **channelp, struct uvf_error *error);
int file_open_sync_channel(struct file_backend *file, unsigned depth,
			   struct nvme_channel **channelp, struct uvf_error *error);

#endif
