/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether the system calls by which a program is supervised are allowed. They are tried on this
 * process, to which they are always allowed but for a filter: none of them changes anything.
 */
#include "frontends/uapi/rights.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int try_getfd(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, pidfd, 0);
	int error = errno;

	if (fd >= 0)
		close(fd);
	if (pidfd >= 0)
		close(pidfd);
	return fd >= 0 ? 0 : error;
}

static int try_open(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (pidfd < 0)
		return errno;
	close(pidfd);
	return 0;
}

static int try_transfer(long number)
{
	char from = 0, to = 0;
	const struct iovec here = {&to, 1}, there = {&from, 1};

	return syscall(number, getpid(), &here, 1UL, &there, 1UL, 0UL) == 1 ? 0 : errno;
}

static int try_read(void)
{
	return try_transfer(SYS_process_vm_readv);
}

static int try_write(void)
{
	return try_transfer(SYS_process_vm_writev);
}

/* An argument that is never valid is looked at before whose process it is. */
static int try_ptrace(void)
{
	if (ptrace(PTRACE_SEIZE, getpid(), (void *)(uintptr_t)1, NULL) < 0 && errno != EIO)
		return errno;
	return 0;
}

static int try_seccomp(void)
{
	uint32_t action = SECCOMP_RET_USER_NOTIF;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) ? errno : 0;
}

/* Yama's strictest: nobody traces anybody, nor takes its memory or descriptors. */
static int try_yama(void)
{
	FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	int scope = file ? fgetc(file) : '0';

	if (file)
		fclose(file);
	return scope == '3' ? EPERM : 0;
}

int uapi_check_rights(struct uvf_error *error)
{
	static const struct {
		const char *what;
		int (*attempt)(void);
	} rights[] = {
		{"seccomp(2), for user notifications,", try_seccomp},
		{"pidfd_open(2)", try_open},
		{"pidfd_getfd(2)", try_getfd},
		{"process_vm_readv(2)", try_read},
		{"process_vm_writev(2)", try_write},
		{"ptrace(2)", try_ptrace},
		{"ptrace(2), by kernel.yama.ptrace_scope,", try_yama},
	};

	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		int why = rights[i].attempt();

		if (why)
			return uvf_fail(error, -why, "%s is refused here: %s", rights[i].what,
					strerror(why));
	}
	return 0;
}
