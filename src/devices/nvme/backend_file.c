/* SPDX-License-Identifier: BSD-3-Clause */
/* Opens a file or a block device as storage: what it is, what it can do, and that it is ours alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/nvme/file.h"

/* One system call takes so many, IOV_MAX. */
#define MAX_IOVECS 1024
/* Well below what one system call moves, 2 GiB less a page. */
#define MAX_IO_SIZE (1u << 30)

/*
 * How long a lock is waited for. A process that was killed with I/O in flight keeps its files
 * locked until the last of it has ended.
 */
#define LOCK_WAIT_MS 500
#define LOCK_TRY_MS  10

/* #syscalls: fcntl clock_nanosleep nanosleep */
static int file_claim(struct nvme_backend *backend, struct uvf_error *error)
{
	static const struct timespec pause = {.tv_nsec = LOCK_TRY_MS * 1000000L};
	struct file_backend *file = (struct file_backend *)backend;
	struct flock whole = {
		.l_type = backend->read_only ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	for (int waited = 0;
	     !file->claimed && !file->no_lock && fcntl(file->fd, F_OFD_SETLK, &whole) < 0;
	     waited += LOCK_TRY_MS) {
		if (errno != EAGAIN && errno != EACCES)
			return uvf_fail(error, -errno, "%s: can't be locked: %s", file->path,
					strerror(errno));
		if (waited >= LOCK_WAIT_MS)
			return uvf_fail(error, -EBUSY, "%s: in use by another process", file->path);
		nanosleep(&pause, NULL);
	}
	file->claimed = true;
	return 0;
}

/*
 * Whoever has the file next may be another machine: it must not wait in our cache.
 * #syscalls: fdatasync fcntl
 */
static int file_release(struct nvme_backend *backend)
{
	struct file_backend *file = (struct file_backend *)backend;
	struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	int lost = atomic_load(&file->lost_writes);

	if (!file->claimed)
		return 0;
	if (lost)
		return lost;
	if (!backend->read_only && fdatasync(file->fd) < 0)
		return -errno;
	if (!file->no_lock && fcntl(file->fd, F_OFD_SETLK, &whole) < 0)
		return -errno;
	file->claimed = false;
	return 0;
}

/* ---- Direct I/O ---- */

/* The smallest power of two that a read can start at and be long, found by trying. */
static uint32_t probe_alignment(int fd)
{
	size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
	void *page =
		mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t alignment = 0;

	if (page == MAP_FAILED)
		return 0;
	for (uint32_t size = 512; !alignment && size <= page_size; size *= 2) {
		if (pread(fd, page, size, size) >= 0)
			alignment = size;
	}
	munmap(page, page_size);
	return alignment;
}

static int find_alignment(struct file_backend *file, const char *path, struct uvf_error *error)
{
	struct statx st;

	if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 &&
	    st.stx_mask & STATX_DIOALIGN) {
		file->memory_alignment = st.stx_dio_mem_align;
		file->offset_alignment = st.stx_dio_offset_align;
	} else {
		file->offset_alignment = probe_alignment(file->fd);
		file->memory_alignment = file->offset_alignment;
	}
	if (!uvf_is_power_of_two(file->memory_alignment) ||
	    !uvf_is_power_of_two(file->offset_alignment) ||
	    file->memory_alignment > (uint32_t)sysconf(_SC_PAGESIZE))
		return uvf_fail(error, -EINVAL, "%s: its file system has no direct I/O", path);
	return 0;
}

static int check_direct(struct file_backend *file, const char *path, struct uvf_error *error)
{
	int ret;

	file->memory_alignment = 1;
	file->offset_alignment = 1;
	if (!file->direct)
		return 0;
	ret = find_alignment(file, path, error);
	if (ret < 0)
		return ret;
	if (file->base.block_size < file->offset_alignment)
		return uvf_fail(error, -EINVAL,
				"%s: direct I/O there needs blocks of %u bytes or more, not %u",
				path, file->offset_alignment, file->base.block_size);
	return 0;
}

/* ---- What it is ---- */

static int get_size(int fd, const struct stat *st, const char *path, uint64_t *size,
		    struct uvf_error *error)
{
	if (S_ISREG(st->st_mode)) {
		*size = (uint64_t)st->st_size;
		return 0;
	}
	if (ioctl(fd, BLKGETSIZE64, size) < 0)
		return uvf_fail(error, -errno, "%s: its size is not known: %s", path,
				strerror(errno));
	return 0;
}

static void set_hints(struct nvme_backend *backend, int fd, const struct stat *st)
{
	unsigned physical = 0, optimal = 0;

	if (S_ISREG(st->st_mode)) {
		physical = (unsigned)st->st_blksize;
	} else if (ioctl(fd, BLKPBSZGET, &physical) < 0 || ioctl(fd, BLKIOOPT, &optimal) < 0) {
		physical = 0;
		optimal = 0;
	}
	if (!uvf_is_power_of_two(physical) || physical < backend->block_size)
		physical = backend->block_size;
	backend->physical_block_size = physical;
	backend->discard_granularity = physical;
	backend->optimal_io_size = optimal;
}

/*
 * Whether holes can be punched: tried past the end, where there is nothing. Of a block device it
 * isn't known: what it discards may read as anything.
 */
static bool can_punch(int fd, const struct stat *st)
{
	static const off_t size = 4096;
	off_t past = (st->st_size + size - 1) & ~(size - 1);

	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, past, size) == 0;
}

/* Two devices on one file are one storage; a block device is itself, whatever its name. */
static void set_identity(struct nvme_backend *backend, const struct stat *st)
{
	bool block_device = S_ISBLK(st->st_mode);
	const uint64_t parts[2] = {
		block_device ? st->st_rdev : st->st_dev,
		block_device ? UINT64_MAX : st->st_ino,
	};

	_Static_assert(sizeof(parts) == sizeof(backend->identity), "an identity");
	memcpy(backend->identity, parts, sizeof(parts));
	backend->lasting = true;
}

static bool is_storage(const struct stat *st)
{
	return S_ISREG(st->st_mode) || S_ISBLK(st->st_mode);
}

/* The first look is at the name: opening a FIFO would wait, opening a tty would act on it. */
static int open_path(const struct nvme_file_config *config, struct stat *st,
		     struct uvf_error *error)
{
	int flags = O_CLOEXEC | O_NOCTTY | (config->common.read_only ? O_RDONLY : O_RDWR) |
		    (config->direct ? O_DIRECT : 0);
	int fd = -1, ret = 0;

	if (stat(config->path, st) < 0 ||
	    (is_storage(st) && ((fd = open(config->path, flags)) < 0 || fstat(fd, st) < 0)))
		ret = -errno;
	else if (!is_storage(st))
		return uvf_fail(error, -EINVAL, "%s: neither a file nor a block device",
				config->path);
	if (ret < 0 && fd >= 0)
		close(fd);
	if (ret == -EINVAL && config->direct)
		return uvf_fail(error, ret, "%s: its file system has no direct I/O", config->path);
	if (ret < 0)
		return uvf_fail(error, ret, "%s: %s", config->path, strerror(-ret));
	return fd;
}

static int set_up(struct file_backend *file, const struct nvme_file_config *config,
		  const struct stat *st, struct uvf_error *error)
{
	struct nvme_backend *base = &file->base;
	uint64_t size = 0;
	int ret;

	base->read_only = config->common.read_only;
	ret = config->later ? 0 : file_claim(base, error);
	if (ret == 0)
		ret = get_size(file->fd, st, config->path, &size, error);
	if (ret == 0)
		ret = nvme_backend_init(base, &config->common, size, error);
	if (ret == 0)
		ret = check_direct(file, config->path, error);
	if (ret < 0)
		return ret;
	file->zeroes = mmap(NULL, ZEROES_SIZE, PROT_READ,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (file->zeroes == MAP_FAILED)
		return uvf_fail(error, -errno, "%s", strerror(errno));
	if (base->size != size)
		uvf_logf(&file->log, UVF_LOG_WARNING, file->who,
			 "%s: the last %llu bytes are not a whole block and not used", config->path,
			 (unsigned long long)(size - base->size));
	base->volatile_write_cache = !base->read_only;
	base->discard_zeroes = !base->read_only && !file->block_device && can_punch(file->fd, st);
	file->no_punch = !base->read_only && !file->block_device && !base->discard_zeroes;
	set_hints(base, file->fd, st);
	set_identity(base, st);
	return 0;
}

/* ---- Operations ---- */

static int open_channel(struct nvme_backend *backend, unsigned depth,
			struct nvme_channel **channelp, struct uvf_error *error)
{
	struct file_backend *file = (struct file_backend *)backend;
	int ret;

	if (file->no_uring)
		return file_open_sync_channel(file, depth, channelp, error);
	ret = file_open_uring_channel(file, depth, channelp, error);
	/* Absent, forbidden, or older than what we ask of it. */
	if (ret != -ENOSYS && ret != -EPERM && ret != -EACCES && ret != -EINVAL)
		return ret;
	if (!atomic_exchange(&file->said_no_uring, true))
		uvf_logf(&file->log, UVF_LOG_WARNING, file->who,
			 "io_uring is not available (%s): one request at a time, slowly",
			 strerror(-ret));
	return file_open_sync_channel(file, depth, channelp, error);
}

static void file_close(struct nvme_backend *backend)
{
	struct file_backend *file = (struct file_backend *)backend;

	munmap(file->zeroes, ZEROES_SIZE);
	close(file->fd);
	free(file->path);
	free(file);
}

static const struct nvme_backend_ops file_ops = {
	.open_channel = open_channel,
	.close = file_close,
	.claim = file_claim,
	.release = file_release,
};

int nvme_backend_open_file(const struct nvme_file_config *config, struct nvme_backend **backendp,
			   struct uvf_error *error)
{
	struct file_backend *file;
	struct stat st;
	int ret, fd;

	fd = open_path(config, &st, error);
	if (fd < 0)
		return fd;
	file = calloc(1, sizeof(*file));
	if (!file) {
		close(fd);
		return uvf_fail(error, -ENOMEM, "no memory");
	}
	file->base = (struct nvme_backend){
		.ops = &file_ops,
		.kind = "file",
		.max_iovecs = MAX_IOVECS,
		.max_io_size = MAX_IO_SIZE,
	};
	file->fd = fd;
	file->path = strdup(config->path);
	file->no_lock = config->no_lock;
	file->direct = config->direct;
	file->no_uring = config->no_uring;
	file->block_device = S_ISBLK(st.st_mode);
	file->log = config->common.log;
	file->who = config->common.who;
	ret = file->path ? set_up(file, config, &st, error) : uvf_fail(error, -ENOMEM, "no memory");
	if (ret < 0) {
		close(fd);
		free(file->path);
		free(file);
		return ret;
	}
	*backendp = &file->base;
	return 0;
}
