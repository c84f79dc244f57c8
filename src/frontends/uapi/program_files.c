/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file behind shared memory: a descriptor of it that the process has open, or, with the rights
 * of root, the link that the kernel has for each mapping. Files are known by device and inode; they
 * are looked at without asking the file system's server, which may be the program itself.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "frontends/uapi/program_memory.h"

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

static bool is_file(int folder, const char *name, int flags, const struct uapi_vma *vma)
{
	struct statx statx_;

	return !statx(folder, name, flags | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &statx_) &&
	       S_ISREG(statx_.stx_mode) && statx_.stx_ino == vma->inode &&
	       makedev(statx_.stx_dev_major, statx_.stx_dev_minor) == vma->device;
}

/* @fd if it is the file, opened with @mode; else it is closed and -1. */
static int check(int fd, const struct uapi_vma *vma, int mode)
{
	if (fd < 0)
		return -1;
	if (is_file(fd, "", AT_EMPTY_PATH, vma) &&
	    (fcntl(fd, F_GETFL) & (O_ACCMODE | O_PATH)) == mode)
		return fd;
	close(fd);
	return -1;
}

static int take(const struct uapi_program *program, int number, const struct uapi_vma *vma,
		int mode)
{
	return check((int)syscall(SYS_pidfd_getfd, program->pidfd, number, 0), vma, mode);
}

static int scan(const struct uapi_program *program, DIR *folder, const struct uapi_vma *vma,
		int mode, int *number)
{
	const struct dirent *entry;

	rewinddir(folder);
	while ((entry = readdir(folder))) {
		int fd;

		if (entry->d_name[0] == '.' || !is_file(dirfd(folder), entry->d_name, 0, vma))
			continue;
		fd = take(program, atoi(entry->d_name), vma, mode);
		if (fd >= 0) {
			*number = atoi(entry->d_name);
			return fd;
		}
	}
	return -1;
}

static int open_link(const struct uapi_program *program, const struct uapi_vma *vma, unsigned prot,
		     int *number)
{
	int mode = prot & UVF_PROT_WRITE ? O_RDWR : O_RDONLY, fd;
	char path[96];

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64,
		 (int)program->process, vma->begin, vma->end);
	fd = check(open(path, mode | O_CLOEXEC | O_NONBLOCK), vma, mode);
	*number = fd < 0 ? UAPI_NOT_FOUND : UAPI_FOUND_BY_LINK;
	return fd;
}

int uapi_program_find_file(const struct uapi_program *program, const struct uapi_vma *vma,
			   unsigned prot, int *number)
{
	char path[32];
	DIR *folder;
	int fd = -1;

	if (*number >= 0)
		fd = take(program, *number, vma, O_RDWR);
	else if (*number == UAPI_FOUND_BY_LINK)
		fd = open_link(program, vma, prot, number);
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)program->process);
	folder = opendir(path);
	if (folder) {
		/* One that can be written to serves all mappings. */
		fd = scan(program, folder, vma, O_RDWR, number);
		if (fd < 0 && !(prot & UVF_PROT_WRITE))
			fd = scan(program, folder, vma, O_RDONLY, number);
		closedir(folder);
	}
	return fd >= 0 ? fd : open_link(program, vma, prot, number);
}
