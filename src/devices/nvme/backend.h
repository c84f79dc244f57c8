/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The storage behind one namespace: a file or block device, memory, an NBD server's export, or
 * nothing at all. The
 * controller validates commands; here bytes move.
 *
 * A backend is shared by all threads. Each thread that does I/O has a channel of its own, which it
 * alone uses: submit() as many requests as there are, kick() once, reap() now and then; to sleep,
 * arm() and wait for the channel's fd. Nothing is allocated for a request.
 */
#ifndef UVF_NVME_BACKEND_H
#define UVF_NVME_BACKEND_H

#include <sys/uio.h>
#include <uvfio/types.h>

struct nvme_backend;
struct nvme_channel;
struct nvme_io;

enum nvme_io_op {
	NVME_IO_READ,
	NVME_IO_WRITE,
	NVME_IO_FLUSH,	      /* covers every write that had completed when it was submitted */
	NVME_IO_DISCARD,      /* a hint: what is not possible is not done, and no error */
	NVME_IO_WRITE_ZEROES, /* reads as zeroes afterwards */
};

enum nvme_io_flag {
	NVME_IO_FUA = 1 << 0,	/* WRITE, WRITE_ZEROES: complete when it is on stable storage */
	NVME_IO_UNMAP = 1 << 1, /* WRITE_ZEROES: the space may be given back */
};

/*
 * A request: part of the caller's command slot. It is the backend's from submit() until submit()
 * returns its result or done() is called; the caller leaves it and its iovecs alone until then.
 *
 * @offset and @size are multiples of the block size that the backend was opened with. @iov covers
 * @size bytes exactly, has at most the backend's max_iovecs entries, is used for READ and WRITE
 * only, and is changed on the way (a short transfer continues where it stopped). The memory stays
 * mapped (uvf_dma_pin()); its file may be truncated by its owner: -EFAULT.
 */
struct nvme_io {
	uint8_t op;
	uint8_t flags;
	int iov_count;
	uint64_t offset;
	uint64_t size;
	struct iovec *iov;
	/*
	 * Called by reap() or drain(), on the channel's thread, once for each request that was
	 * NVME_IO_PENDING. @result as of submit(). It may submit more.
	 */
	void (*done)(struct nvme_io *io, int result);

	/* The backend's own: no need to initialise. */
	struct nvme_io *next;
	uint64_t at, left; /* what is to be moved still */
	void *bounce;	   /* an aligned buffer out of the channel's pool */
	struct iovec bounce_iov;
	uint32_t chunk; /* bytes asked for by the step in progress */
	uint8_t step;
	uint8_t retries;
};

enum { NVME_IO_PENDING = 1 };

struct nvme_channel_ops {
	int (*submit)(struct nvme_channel *channel, struct nvme_io *io);
	void (*kick)(struct nvme_channel *channel);
	unsigned (*reap)(struct nvme_channel *channel);
	bool (*arm)(struct nvme_channel *channel);
	bool (*cancel)(struct nvme_channel *channel, struct nvme_io *io);
	void (*drain)(struct nvme_channel *channel);
	void (*close)(struct nvme_channel *channel);
};

struct nvme_channel {
	const struct nvme_channel_ops *ops;
	struct nvme_backend *backend;
	int fd;		    /* to sleep on (see arm()); -1: every request completes in submit() */
	unsigned in_flight; /* requests that are NVME_IO_PENDING */
	bool background;    /* there is something to reap() and arm() for with none in flight */
};

struct nvme_backend_ops {
	int (*open_channel)(struct nvme_backend *backend, unsigned depth,
			    struct nvme_channel **channelp, struct uvf_error *error);
	void (*close)(struct nvme_backend *backend);
	/* NULL: it is always ours. */
	int (*claim)(struct nvme_backend *backend, struct uvf_error *error);
	int (*release)(struct nvme_backend *backend);
};

/* What the controller may know of its storage. Constant from open to close. */
struct nvme_backend {
	const struct nvme_backend_ops *ops;
	const char *kind; /* "file", "mem", "nbd", "null" */
	uint64_t size;	  /* a multiple of block_size, not 0 */
	/*
	 * Memory that is the storage, or NULL. The controller may copy straight between it and the
	 * driver's memory (uvf_dma_write(dev, pasid, iova, bytes + offset, n)) from any thread and
	 * without a request; discard, zeroes and flush are requests as always.
	 */
	void *bytes;
	uint8_t identity[16];	   /* no other storage has it (random, but of files and exports) */
	bool lasting;		   /* the same storage has the same identity when opened again */
	bool moves_no_data;	   /* null: reads and writes need neither iovecs nor a request */
	bool read_only;		   /* all but READ and FLUSH: -EROFS */
	bool volatile_write_cache; /* completed writes need a FLUSH (or FUA) to be stable */
	bool no_discard;	   /* discards do nothing, ever */
	bool discard_zeroes;	   /* what was discarded reads as zeroes, wholly */
	uint32_t block_size;	   /* as opened */
	uint32_t physical_block_size; /* hint: smaller writes cost a read */
	uint32_t optimal_io_size;     /* hint: 0: unknown */
	uint32_t discard_granularity; /* hint: smaller discards free nothing */
	uint32_t max_iovecs;	      /* for one request */
	uint32_t max_io_size; /* bytes, for one READ or WRITE; zeroes and discards: no limit */
};

struct nvme_backend_config {
	uint32_t block_size; /* a power of two; 0: 512 */
	bool read_only;
	struct uvf_log log; /* copied */
	const char *who;    /* for the log: the device's name; must stay */
};

struct nvme_file_config {
	struct nvme_backend_config common;
	const char *path;
	bool direct;   /* past the page cache: O_DIRECT */
	bool no_lock;  /* for file systems that have no locks */
	bool later;    /* locked by nvme_backend_claim() only */
	bool no_uring; /* tests: as where io_uring is not available */
};

/*
 * Opens a file or a block device. A writer locks it against everyone else, a reader against
 * writers; the lock goes with the process, however that ends. A size that is not a multiple of the
 * block size is rounded down. The program ignores SIGXFSZ where it has a limit on file sizes: a
 * write past that is -EFBIG.
 * Errors: -EBUSY (in use by another process), -EINVAL (not a file or block device, empty, blocks
 * smaller than direct I/O there needs, no direct I/O there), and those of open(2).
 */
int nvme_backend_open_file(const struct nvme_file_config *config, struct nvme_backend **backendp,
			   struct uvf_error *error);
/* @size bytes of memory, all zeroes, taken as they are written. Errors: -EINVAL (size), -ENOMEM. */
int nvme_backend_open_mem(const struct nvme_backend_config *config, uint64_t size,
			  struct nvme_backend **backendp, struct uvf_error *error);
/* Moves no data: a read leaves the driver's memory as it was. Errors: -EINVAL (size), -ENOMEM. */
int nvme_backend_open_null(const struct nvme_backend_config *config, uint64_t size,
			   struct nvme_backend **backendp, struct uvf_error *error);
struct nvme_nbd_config {
	struct nvme_backend_config common; /* block_size: the largest that may be needed */
	const char *uri;		   /* nbd://, nbd+unix://, nbds://... */
	uint32_t reconnect;		   /* seconds that a lost connection is waited for */
};

/*
 * Connects to an NBD server, and keeps a process that can do so again. Commands on a connection
 * that was lost wait for the next, and are then given to the server once more, from their start;
 * after `reconnect` seconds they fail with -ENOTCONN. Its size is the export's, rounded down to
 * blocks. Blocks are of 512 bytes, or as configured where the export's are larger.
 * Errors: -EINVAL (blocks too large, no block at all), -ETIMEDOUT (it doesn't answer), and those of
 * libnbd.
 */
int nvme_backend_open_nbd(const struct nvme_nbd_config *config, struct nvme_backend **backendp,
			  struct uvf_error *error);
/*
 * Whose storage it is: nothing may be in flight. A backend that was opened is claimed. Release puts
 * what was written on stable storage and lets another process have it; afterwards only claim and
 * close are allowed. Both do nothing where it is so already.
 * Errors: claim -EBUSY (in use by another process); release -EIO, -ENOSPC..., -EAGAIN (the server
 * that has it is not there now); then it stays claimed.
 */
int nvme_backend_claim(struct nvme_backend *backend, struct uvf_error *error);
int nvme_backend_release(struct nvme_backend *backend);
/* All channels must have been closed. NULL is allowed. */
void nvme_backend_close(struct nvme_backend *backend);

/*
 * Makes a channel, on any thread; from its first kick() on it belongs to the thread that called
 * that (which must not end while requests are in flight). More than @depth requests may be
 * submitted; the rest then wait their turn. Errors: -ENOMEM, -EMFILE.
 */
int nvme_channel_open(struct nvme_backend *backend, unsigned depth, struct nvme_channel **channelp,
		      struct uvf_error *error);
/* Drains, then frees. Any thread once nothing is in flight. NULL is allowed. */
void nvme_channel_close(struct nvme_channel *channel);

/*
 * Takes a request. Returns NVME_IO_PENDING: started by the next kick(), and done() will be called;
 * or, completed already and without done(), 0 or -errno: -EINVAL (outside the storage or not in
 * whole blocks), -EROFS, -EFAULT, and unchanged what the storage says: -EIO, -ENOSPC, -EDQUOT...
 * A file that someone has truncated gives -EIO; an export that isn't reached -ENOTCONN.
 */
static inline int nvme_channel_submit(struct nvme_channel *channel, struct nvme_io *io)
{
	return channel->ops->submit(channel, io);
}

/* Whether there can be something to reap. */
static inline bool nvme_channel_busy(const struct nvme_channel *channel)
{
	return channel->in_flight || channel->background;
}

/* Starts what was submitted, in as few system calls as the back end can. */
static inline void nvme_channel_kick(struct nvme_channel *channel)
{
	if (channel->in_flight)
		channel->ops->kick(channel);
}

/*
 * Calls done() for what has completed, never waits. Returns how many. Steps that continue a
 * request (and what done() submitted) are started too. Costs nothing with nothing in flight.
 */
static inline unsigned nvme_channel_reap(struct nvme_channel *channel)
{
	return nvme_channel_busy(channel) ? channel->ops->reap(channel) : 0;
}

/*
 * Before sleeping: true if it is all right to wait for the channel's fd to become readable, which
 * then tells once that there is something to reap; false: reap() first. The fd is never read by
 * the caller. Not armed, completions don't cost a signal. Starts what was submitted.
 */
static inline bool nvme_channel_arm(struct nvme_channel *channel)
{
	return channel->fd < 0 || channel->ops->arm(channel);
}

/*
 * Takes a request back that waits for its turn: done() will not be called. False: it isn't there,
 * or has been started and ends by itself.
 */
static inline bool nvme_channel_cancel(struct nvme_channel *channel, struct nvme_io *io)
{
	return channel->in_flight && channel->ops->cancel(channel, io);
}

/* Waits until all that was submitted has completed, done() called for each. */
static inline void nvme_channel_drain(struct nvme_channel *channel)
{
	if (channel->in_flight)
		channel->ops->drain(channel);
}

/* ---- For backends only ---- */

/* Fills in what all have in common, @size rounded down. Errors: -EINVAL. */
int nvme_backend_init(struct nvme_backend *backend, const struct nvme_backend_config *config,
		      uint64_t size, struct uvf_error *error);
/* What submit() may refuse at once, or 0. */
int nvme_io_check(const struct nvme_backend *backend, const struct nvme_io *io);
/* Copies between @bytes and the first @size bytes of the iovecs. Returns 0 or -EFAULT. */
int nvme_io_copy(const struct nvme_io *io, void *bytes, size_t size, bool to_iovecs);
/* Moves the start of the iovecs by @size bytes. */
void nvme_io_advance(struct nvme_io *io, size_t size);
/* A channel for a backend whose submit() always completes. */
int nvme_channel_new_inline(struct nvme_backend *backend, const struct nvme_channel_ops *ops,
			    struct nvme_channel **channelp);
void nvme_channel_free_inline(struct nvme_channel *channel);

#endif
