/* SPDX-License-Identifier: BSD-3-Clause */
/* What /proc says of threads that were asked to stop and haven't. */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "frontends/uapi/tracer_private.h"

/* Calls that may still change what is mapped when they go on. */
static const long changing[] = {
	SYS_mmap,  SYS_mprotect, SYS_munmap, SYS_brk,	   SYS_mremap,		 SYS_shmat,
	SYS_shmdt, SYS_execve,	 SYS_fork,   SYS_execveat, SYS_remap_file_pages,
};

/* By vfork(), whose caller waits for the new process: that is there by then. */
static bool waits_for_child(pid_t thread, long number, unsigned long argument)
{
	uint64_t flags = argument;
	struct iovec local = {&flags, sizeof(flags)};
	struct iovec remote = {(void *)argument, sizeof(flags)};

	if (number == SYS_clone3 &&
	    process_vm_readv(thread, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(flags))
		return false;
	return flags & CLONE_VFORK;
}

bool uapi_thread_is_blocked(pid_t thread)
{
	unsigned long argument;
	char path[40];
	FILE *file;
	long number;
	int fields;

	snprintf(path, sizeof(path), "/proc/%d/syscall", thread);
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT;
	/* "running", "-1 ..." where it isn't in a call, or the call's number and arguments. */
	fields = fscanf(file, "%ld %lx", &number, &argument);
	fclose(file);
	if (fields != 2 || number < 0)
		return false;
	if (number == SYS_clone || number == SYS_clone3)
		return waits_for_child(thread, number, argument);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(changing); i++)
		if (number == changing[i])
			return false;
	return true;
}

bool uapi_thread_has_fault(pid_t thread)
{
	char path[40], line[256];
	bool has_fault = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, "SigPnd:", 7) == 0)
			has_fault = strtoull(line + 7, NULL, 16) >> (SIGBUS - 1) & 1;
	if (file)
		fclose(file);
	return has_fault;
}
