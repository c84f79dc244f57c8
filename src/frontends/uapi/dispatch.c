/* SPDX-License-Identifier: BSD-3-Clause */
/* Which handler a call has. What is not for a file of ours goes on to the kernel. */
#include <asm/unistd.h>
#include <errno.h>
#include <sys/mman.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/file.h"
#include "frontends/uapi/handlers.h"
#include "frontends/uapi/notify.h"
#include "frontends/uapi/tracer.h"
#include "frontends/uapi/uapi.h"

struct uapi_file *uapi_begin(struct uapi_call *call, int fd)
{
	struct uapi_file *file = uapi_file_find(call, fd);

	if (file && !uapi_file_enter(file)) {
		uapi_file_put(file);
		return NULL;
	}
	if (file)
		call->file_name = file->ops->name;
	return file;
}

void uapi_end(struct uapi_file *file)
{
	uapi_file_leave(file);
	uapi_file_put(file);
}

int64_t uapi_ioctl(struct uapi_file *file, struct uapi_call *call, unsigned command,
		   uint64_t argument)
{
	int64_t result;

	if (!file->ops->ioctl)
		return -ENOTTY;
	result = file->ops->ioctl(file, call, command, argument);
	/* By what the program has closed already, but takes long? */
	if ((result == -EBUSY || result == -EPERM) && uapi_files_drain_slow(call->run))
		result = file->ops->ioctl(file, call, command, argument);
	return result;
}

static int64_t handle_ioctl(struct uapi_call *call)
{
	struct uapi_file *file;
	int64_t result;

	if ((int)call->arguments[0] == -1 && call->arguments[1] == UAPI_PLACE_COMMAND)
		return uapi_tracer_place(call);
	file = uapi_begin(call, (int)call->arguments[0]);
	if (!file)
		return UAPI_CONTINUE;
	result = uapi_ioctl(file, call, (unsigned)call->arguments[1], call->arguments[2]);
	uapi_end(file);
	return result;
}

static int64_t handle_mmap(struct uapi_call *call)
{
	const struct uapi_mmap map = {
		.address = call->arguments[0],
		.size = call->arguments[1],
		.prot = (int)call->arguments[2],
		.flags = (int)call->arguments[3],
		.offset = call->arguments[5],
	};
	struct uapi_file *file;
	int64_t result = -ENODEV;

	if (map.flags & MAP_ANONYMOUS || uapi_tracer_is_mapping(call->run, call->thread))
		return UAPI_CONTINUE;
	file = uapi_begin(call, (int)call->arguments[4]);
	if (!file)
		return UAPI_CONTINUE;
	if (!map.size || map.offset & 4095)
		result = -EINVAL;
	else if (file->ops->mmap)
		result = file->ops->mmap(file, call, &map);
	uapi_end(file);
	return result;
}

static const struct {
	int number;
	int64_t (*handle)(struct uapi_call *call);
} handlers[] = {
	{__NR_pread64, uapi_handle_pread},
	{__NR_pwrite64, uapi_handle_pread},
	{__NR_ioctl, handle_ioctl},
	{__NR_openat, uapi_handle_openat},
	{__NR_open, uapi_handle_open},
	{__NR_openat2, uapi_handle_openat2},
	{__NR_creat, uapi_handle_creat},
	{__NR_mmap, handle_mmap},
	{__NR_read, uapi_handle_read},
	{__NR_write, uapi_handle_read},
	{__NR_preadv, uapi_handle_preadv},
	{__NR_pwritev, uapi_handle_preadv},
	{__NR_preadv2, uapi_handle_preadv},
	{__NR_pwritev2, uapi_handle_preadv},
	{__NR_readv, uapi_handle_readv},
	{__NR_writev, uapi_handle_readv},
	{__NR_sendfile, uapi_handle_sendfile},
	{__NR_splice, uapi_handle_splice},
	{__NR_fstat, uapi_handle_fstat},
	{__NR_newfstatat, uapi_handle_newfstatat},
	{__NR_statx, uapi_handle_statx},
	{__NR_dup, uapi_handle_dup},
	{__NR_dup2, uapi_handle_dup2},
	{__NR_dup3, uapi_handle_dup2},
	{__NR_fcntl, uapi_handle_fcntl},
};

int64_t uapi_dispatch(struct uapi_call *call)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
		if (handlers[i].number == call->number)
			return handlers[i].handle(call);
	return UAPI_CONTINUE;
}
