/* SPDX-License-Identifier: BSD-3-Clause */
/* What a handler can do with the program's memory and descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "frontends/uapi/call.h"
#include "frontends/uapi/file.h"
#include "frontends/uapi/handlers.h"
#include "frontends/uapi/notify.h"
#include "frontends/uapi/stats.h"
#include "frontends/uapi/trace.h"
#include "frontends/uapi/uapi.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

/* ---- Memory ---- */

static pid_t thread_of(const struct uapi_call *call)
{
	if (call->notifier)
		return call->thread;
	return call->process ? call->process : getpid();
}

int uapi_call_read(struct uapi_call *call, uint64_t address, void *to, size_t size)
{
	struct iovec local = {to, size};
	struct iovec remote = {(void *)(uintptr_t)address, size};

	if (!size)
		return 0;
	if (process_vm_readv(thread_of(call), &local, 1, &remote, 1, 0) != (ssize_t)size)
		return -EFAULT;
	return 0;
}

int uapi_call_write(struct uapi_call *call, uint64_t address, const void *from, size_t size)
{
	struct iovec local = {(void *)(uintptr_t)from, size};
	struct iovec remote = {(void *)(uintptr_t)address, size};

	if (!size)
		return 0;
	/* A thread that was killed may have given its number to another already. */
	if (call->notifier && uapi_notifier_is_valid(call->notifier, call->id) < 0)
		return -EFAULT;
	if (process_vm_writev(thread_of(call), &local, 1, &remote, 1, 0) != (ssize_t)size)
		return -EFAULT;
	return 0;
}

ssize_t uapi_call_read_string(struct uapi_call *call, uint64_t address, char *to, size_t size)
{
	size_t done = 0;

	/* To the end of a page at a time: what follows the string may not be there. */
	while (done < size) {
		size_t part = 4096 - ((address + done) & 4095);
		const char *end;

		if (part > size - done)
			part = size - done;
		if (uapi_call_read(call, address + done, to + done, part) < 0)
			return -EFAULT;
		end = memchr(to + done, '\0', part);
		if (end)
			return end - to;
		done += part;
	}
	return -ENAMETOOLONG;
}

int uapi_call_read_sized(struct uapi_call *call, uint64_t address, void *to, size_t minimum,
			 size_t size)
{
	uint32_t argsz;
	int result = uapi_call_read(call, address, &argsz, sizeof(argsz));

	if (result)
		return result;
	if (argsz < minimum)
		return -EINVAL;
	if (size > argsz) {
		memset((char *)to + argsz, 0, size - argsz);
		size = argsz;
	}
	result = uapi_call_read(call, address, to, size);
	/* What was checked is what counts. */
	if (!result)
		memcpy(to, &argsz, sizeof(argsz));
	return result;
}

/* ---- Its process ---- */

pid_t uapi_call_process(struct uapi_call *call)
{
	char path[32], line[256];
	FILE *file;

	if (call->process)
		return call->process;
	if (!call->notifier)
		return call->process = getpid();
	snprintf(path, sizeof(path), "/proc/%d/status", call->thread);
	file = fopen(path, "re");
	while (file && !call->process && fgets(line, sizeof(line), file))
		if (strncmp(line, "Tgid:", 5) == 0)
			call->process = (pid_t)strtol(line + 5, NULL, 10);
	if (file)
		fclose(file);
	return call->process ? call->process : call->thread;
}

bool uapi_call_is_waiting(struct uapi_call *call)
{
	return !call->notifier || uapi_notifier_is_valid(call->notifier, call->id) != -ENOENT;
}

/* ---- Its descriptors ---- */

int uapi_call_get_fd(struct uapi_call *call, int fd)
{
	long pidfd;
	int copy;

	if (fd < 0)
		return -EBADF;
	if (!call->notifier) {
		copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		return copy < 0 ? -errno : copy;
	}
	pidfd = syscall(SYS_pidfd_open, call->thread, PIDFD_THREAD);
	/* Before Linux 6.9 a process can be named, but no thread: all share their descriptors but
	 * those that asked not to. */
	if (pidfd < 0 && errno == EINVAL)
		pidfd = syscall(SYS_pidfd_open, uapi_call_process(call), 0);
	if (pidfd < 0)
		return errno == EMFILE || errno == ENFILE ? -EMFILE : -EBADF;
	copy = (int)syscall(SYS_pidfd_getfd, (int)pidfd, fd, 0);
	if (copy < 0)
		copy = errno == EMFILE || errno == EPERM ? -errno : -EBADF;
	close((int)pidfd);
	/* Of a thread that was killed, another one may have had the number by then. */
	if (copy >= 0 && !uapi_call_is_waiting(call)) {
		close(copy);
		return -EBADF;
	}
	return copy;
}

int uapi_call_place_fd(struct uapi_call *call, int fd, int flags)
{
	int number;

	if (!call->notifier) {
		number = fcntl(fd, flags & O_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
		return number < 0 ? -errno : number;
	}
	number = uapi_notifier_add_fd(call->notifier, call->id, fd, -1, flags & O_CLOEXEC);
	return number == -ENOENT || number == -EINPROGRESS ? -ESRCH : number;
}

int uapi_call_place(struct uapi_call *call, struct uapi_file *file, int flags)
{
	int number = -EMFILE, end;

	if (call->notifier)
		number = uapi_place_reserved(call, file->program_end, 0, flags & O_CLOEXEC);
	if (number == -EMFILE)
		number = uapi_call_place_fd(call, file->program_end, flags);
	if (number < 0) {
		uapi_file_abandon(file);
		return number;
	}
	/* Whoever has it in the program may have let go of it: closing our copy is then its end. */
	end = file->program_end;
	uapi_file_get(file);
	file->program_end = -1;
	close(end);
	uapi_file_put(file);
	return number;
}

/* ---- The answer ---- */

void uapi_call_answer(struct uapi_call *call, int64_t result)
{
	uint64_t duration;

	if (!call->notifier)
		return;
	/* The program's memory is as the call left it until it is answered. */
	if (call->run->config.trace)
		uapi_trace_call(call, result, uvf_now_ns() - call->begun_ns);
	uapi_notifier_send(call->notifier, call->id, result);
	duration = uvf_now_ns() - call->begun_ns;
	uapi_stats_count(uapi_notifier_stats(call->notifier),
			 uapi_kind_of_call(call, result == UAPI_CONTINUE), duration,
			 result < 0 && result != UAPI_CONTINUE);
}
