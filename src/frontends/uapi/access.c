/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * read(), write() and their relatives on files of ours, as the kernel does them for a character
 * device that has operations to read and to write, and no others: vectors are walked, there is a
 * position but no lseek(), and there is nothing for sendfile() and splice().
 */
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/uio.h>

#include "frontends/uapi/file.h"
#include "frontends/uapi/handlers.h"

/* What the kernel moves at most in one call. */
#define MAX_COUNT    (INT_MAX & ~4095)
#define MAX_SEGMENTS 1024

static bool is_write(const struct uapi_call *call)
{
	switch (call->number) {
	case __NR_write:
	case __NR_writev:
	case __NR_pwrite64:
	case __NR_pwritev:
	case __NR_pwritev2:
		return true;
	default:
		return false;
	}
}

/* What the kernel checks before it asks the file. */
static int check_mode(const struct uapi_file *file, const struct uapi_call *call)
{
	int refused = is_write(call) ? O_RDONLY : O_WRONLY;

	if (file->access_mode == refused)
		return -EBADF;
	return file->ops->access ? 0 : -EINVAL;
}

static ssize_t access_file(struct uapi_file *file, struct uapi_call *call, uint64_t offset,
			   uint64_t address, uint64_t count)
{
	const struct uapi_access access = {
		.write = is_write(call),
		.offset = offset,
		.address = address,
		.count = count < MAX_COUNT ? count : MAX_COUNT,
	};

	if ((int64_t)count < 0 || (int64_t)offset < 0)
		return -EINVAL;
	return file->ops->access(file, call, &access);
}

/* Segment after segment until one is short. */
static ssize_t access_vector(struct uapi_file *file, struct uapi_call *call, uint64_t offset,
			     uint64_t address, uint64_t segments)
{
	struct iovec iov[MAX_SEGMENTS];
	uint64_t total = 0;
	uint64_t done = 0;

	if (segments > MAX_SEGMENTS)
		return -EINVAL;
	if (uapi_call_read(call, address, iov, segments * sizeof(iov[0])) < 0)
		return -EFAULT;
	for (uint64_t i = 0; i < segments; i++) {
		if ((ssize_t)iov[i].iov_len < 0)
			return -EINVAL;
		if (iov[i].iov_len > MAX_COUNT - total)
			iov[i].iov_len = MAX_COUNT - total;
		total += iov[i].iov_len;
	}
	for (uint64_t i = 0; i < segments; i++) {
		ssize_t result;

		if (!iov[i].iov_len)
			continue;
		result = access_file(file, call, offset + done, (uintptr_t)iov[i].iov_base,
				     iov[i].iov_len);
		if (result < 0)
			return done ? (ssize_t)done : result;
		done += (uint64_t)result;
		if ((uint64_t)result < iov[i].iov_len)
			break;
	}
	return (ssize_t)done;
}

int64_t uapi_handle_pread(struct uapi_call *call)
{
	struct uapi_file *file = uapi_begin(call, (int)call->arguments[0]);
	int64_t result;

	if (!file)
		return UAPI_CONTINUE;
	result = (int64_t)call->arguments[3] < 0 ? -EINVAL : check_mode(file, call);
	if (!result)
		result = access_file(file, call, call->arguments[3], call->arguments[1],
				     call->arguments[2]);
	uapi_end(file);
	return result;
}

int64_t uapi_handle_read(struct uapi_call *call)
{
	struct uapi_file *file = uapi_begin(call, (int)call->arguments[0]);
	int64_t result;

	if (!file)
		return UAPI_CONTINUE;
	result = check_mode(file, call);
	if (!result)
		result = access_file(file, call, atomic_load(&file->position), call->arguments[1],
				     call->arguments[2]);
	if (result > 0)
		atomic_fetch_add(&file->position, (uint64_t)result);
	uapi_end(file);
	return result;
}

static int64_t vector(struct uapi_call *call, bool positioned, unsigned flags)
{
	struct uapi_file *file = uapi_begin(call, (int)call->arguments[0]);
	uint64_t offset;
	int64_t result;

	if (!file)
		return UAPI_CONTINUE;
	offset = positioned ? call->arguments[3] : atomic_load(&file->position);
	result = check_mode(file, call);
	if (!result && (int64_t)offset < 0)
		result = -EINVAL;
	/* RWF_HIPRI is a hint; whatever else there is needs more of a file. */
	if (!result && flags & ~(unsigned)RWF_HIPRI)
		result = -EOPNOTSUPP;
	if (!result)
		result = access_vector(file, call, offset, call->arguments[1], call->arguments[2]);
	if (result > 0 && !positioned)
		atomic_fetch_add(&file->position, (uint64_t)result);
	uapi_end(file);
	return result;
}

int64_t uapi_handle_preadv(struct uapi_call *call)
{
	bool second = call->number == __NR_preadv2 || call->number == __NR_pwritev2;
	/* With flags, an offset of -1 is the position. */
	bool positioned = !second || call->arguments[3] != UINT64_MAX;

	return vector(call, positioned, second ? (unsigned)call->arguments[5] : 0);
}

int64_t uapi_handle_readv(struct uapi_call *call)
{
	return vector(call, false, 0);
}

/* Either descriptor may be ours: then it can't be done. */
static int64_t refuse_either(struct uapi_call *call, int one, int other)
{
	struct uapi_file *file = uapi_begin(call, one);

	if (!file)
		file = uapi_begin(call, other);
	if (!file)
		return UAPI_CONTINUE;
	uapi_end(file);
	return -EINVAL;
}

int64_t uapi_handle_sendfile(struct uapi_call *call)
{
	return refuse_either(call, (int)call->arguments[0], (int)call->arguments[1]);
}

int64_t uapi_handle_splice(struct uapi_call *call)
{
	return refuse_either(call, (int)call->arguments[0], (int)call->arguments[2]);
}
