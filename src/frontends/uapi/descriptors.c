/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the program does with descriptors of our files: where they are placed, duplicates, and what
 * stat() tells of them.
 *
 * A descriptor can be given a number of our choice only by replacing what the number has. So the
 * number must be free and stay so until then: nobody else may place one meanwhile (a lock), calls
 * of the program that name a number among those reserved come to us, and where so many descriptors
 * are open that the kernel could soon choose one of these, we choose none.
 */
#include <asm/unistd.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "frontends/uapi/file.h"
#include "frontends/uapi/handlers.h"
#include "frontends/uapi/launch.h"
#include "frontends/uapi/notify.h"

/* How many numbers below must be free for the kernel not to come to ours soon. */
#define MARGIN 128

/*
 * The reserved numbers that are in use, as bits. Returns how many lower ones are, or a negative
 * errno.
 */
static int used_numbers(const struct uapi_call *call, int first, uint64_t *used)
{
	char path[32];
	const struct dirent *entry;
	DIR *folder;
	int below = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", call->thread);
	folder = opendir(path);
	if (!folder)
		return -errno;
	*used = 0;
	while ((entry = readdir(folder)) != NULL) {
		long number = strtol(entry->d_name, NULL, 10);

		if (entry->d_name[0] == '.')
			continue;
		if (number < first)
			below++;
		else if (number < first + UAPI_RESERVED_FDS)
			*used |= 1ULL << (number - first);
	}
	closedir(folder);
	return below;
}

int uapi_place_reserved(struct uapi_call *call, int fd, int minimum, int flags)
{
	int first = uapi_notifier_reserved_first(call->notifier);
	uint64_t used = 0;
	int result = -EMFILE;
	int below;

	if (first < 0 || minimum >= first + UAPI_RESERVED_FDS)
		return -EMFILE;
	uapi_notifier_lock_placing(call->notifier);
	below = used_numbers(call, first, &used);
	if (minimum > first)
		used |= (1ULL << (minimum - first)) - 1;
	if (below >= 0 && below < first - (first < 2 * MARGIN ? first / 2 : MARGIN) && ~used)
		result = uapi_notifier_add_fd(call->notifier, call->id, fd,
					      first + __builtin_ctzll(~used), flags);
	uapi_notifier_unlock_placing(call->notifier);
	return result == -ENOENT || result == -EINPROGRESS ? -ESRCH
	       : result == -EBADF			   ? -EMFILE
							   : result;
}

/* ---- Duplicates ---- */

/* A duplicate with a reserved number, so that all calls on it come to us as well. */
static int64_t duplicate(struct uapi_call *call, int fd, int minimum, int flags)
{
	struct uapi_file *file = uapi_begin(call, fd);
	int64_t result = -EMFILE;
	int copy;

	if (!file)
		return UAPI_CONTINUE;
	uapi_end(file);
	copy = uapi_call_get_fd(call, fd);
	if (copy >= 0) {
		result = uapi_place_reserved(call, copy, minimum, flags);
		close(copy);
	}
	/* The kernel finds another number; or it knows what is wrong. */
	return result < 0 ? UAPI_CONTINUE : result;
}

int64_t uapi_handle_dup(struct uapi_call *call)
{
	return duplicate(call, (int)call->arguments[0], 0, 0);
}

/*
 * Any file, to a reserved number: done here, under the lock, so that it is not done between our
 * look for a free number and its use.
 */
int64_t uapi_handle_dup2(struct uapi_call *call)
{
	int from = (int)call->arguments[0], to = (int)call->arguments[1];
	int flags = call->number == __NR_dup3 ? (int)call->arguments[2] : 0;
	int result;
	int copy;

	if (from == to || flags & ~O_CLOEXEC)
		return UAPI_CONTINUE;
	copy = uapi_call_get_fd(call, from);
	if (copy < 0)
		return UAPI_CONTINUE;
	uapi_notifier_lock_placing(call->notifier);
	result = uapi_notifier_add_fd(call->notifier, call->id, copy, to, flags);
	uapi_notifier_unlock_placing(call->notifier);
	close(copy);
	return result < 0 ? UAPI_CONTINUE : result;
}

static int64_t duplicate_from(struct uapi_call *call, int minimum, int flags)
{
	int copy = uapi_call_get_fd(call, (int)call->arguments[0]);
	int64_t result;

	if (copy < 0)
		return UAPI_CONTINUE;
	result = uapi_place_reserved(call, copy, minimum, flags);
	close(copy);
	return result < 0 ? UAPI_CONTINUE : result;
}

int64_t uapi_handle_fcntl(struct uapi_call *call)
{
	int fd = (int)call->arguments[0], command = (int)call->arguments[1];
	int flags = command == F_DUPFD_CLOEXEC ? O_CLOEXEC : 0;
	int minimum = (int)call->arguments[2];
	int first = uapi_notifier_reserved_first(call->notifier);
	struct uapi_file *file;
	int64_t result;

	if (command != F_GETFL && minimum >= first && first >= 0)
		return duplicate_from(call, minimum, flags);
	if (command != F_GETFL)
		return minimum < 0 ? UAPI_CONTINUE : duplicate(call, fd, minimum, flags);
	file = uapi_begin(call, fd);
	if (!file)
		return UAPI_CONTINUE;
	result = file->access_mode | 0100000; /* what the kernel calls O_LARGEFILE */
	uapi_end(file);
	return result;
}

/* ---- stat() ---- */

/* A device's file that came from its group is an anonymous inode, which has no type. */
static unsigned mode_of(const struct uapi_file *file)
{
	return file->rdev ? S_IFCHR | 0600 : 0600;
}

static int64_t answer_stat(struct uapi_call *call, int fd, uint64_t address)
{
	struct uapi_file *file = uapi_begin(call, fd);
	int64_t result;

	if (!file)
		return UAPI_CONTINUE;
	const struct stat stat = {
		.st_ino = file->inode,
		.st_mode = mode_of(file),
		.st_nlink = 1,
		.st_uid = geteuid(),
		.st_gid = getegid(),
		.st_rdev = file->rdev,
		.st_blksize = 4096,
	};
	result = uapi_call_write(call, address, &stat, sizeof(stat));
	uapi_end(file);
	return result;
}

/* Whether @address is of an empty string. */
static bool is_empty(struct uapi_call *call, uint64_t address)
{
	char first;

	/* Linux 6.11: no string at all is an empty one. */
	return !address || (!uapi_call_read(call, address, &first, 1) && !first);
}

int64_t uapi_handle_fstat(struct uapi_call *call)
{
	return answer_stat(call, (int)call->arguments[0], call->arguments[1]);
}

int64_t uapi_handle_newfstatat(struct uapi_call *call)
{
	if (!(call->arguments[3] & AT_EMPTY_PATH) || !is_empty(call, call->arguments[1]))
		return UAPI_CONTINUE;
	return answer_stat(call, (int)call->arguments[0], call->arguments[2]);
}

int64_t uapi_handle_statx(struct uapi_call *call)
{
	struct uapi_file *file;
	int64_t result;

	if (!(call->arguments[2] & AT_EMPTY_PATH) || !is_empty(call, call->arguments[1]))
		return UAPI_CONTINUE;
	file = uapi_begin(call, (int)call->arguments[0]);
	if (!file)
		return UAPI_CONTINUE;
	const struct statx statx = {
		.stx_mask =
			STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID | STATX_INO,
		.stx_blksize = 4096,
		.stx_nlink = 1,
		.stx_uid = geteuid(),
		.stx_gid = getegid(),
		.stx_mode = (uint16_t)mode_of(file),
		.stx_ino = file->inode,
		.stx_rdev_major = major(file->rdev),
		.stx_rdev_minor = minor(file->rdev),
	};
	result = uapi_call_write(call, call->arguments[4], &statx, sizeof(statx));
	uapi_end(file);
	return result;
}
