/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the program's descriptors are. /proc/TID/fdinfo/FD tells the inode (Linux 5.14) and the
 * mount, and is cheap to read again if it is kept open; all sockets are on one mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontends/uapi/fd_tables.h"

#define SLOTS 64

struct slot {
	pthread_mutex_t lock;
	pid_t thread;
	int fd;
	int info; /* -1: none */
};

struct uapi_fd_tables {
	dev_t device; /* of sockets */
	uint64_t mount;
	bool has_mount; /* that is, fdinfo tells what is needed */
	struct slot slots[SLOTS];
};

/* The number after @name, which begins a line. */
static bool parse_line(const char *text, const char *name, uint64_t *number)
{
	const char *found = strstr(text, name);

	if (!found)
		return false;
	*number = 0;
	for (found += strlen(name); *found >= '0' && *found <= '9'; found++)
		*number = *number * 10 + (uint64_t)(*found - '0');
	return true;
}

/* Errors: -EBADF (no such descriptor any more, or no such thread), -EINVAL (it doesn't tell). */
static int read_info(int info, uint64_t *mount, uint64_t *inode)
{
	char text[256];
	ssize_t size = pread(info, text, sizeof(text) - 1, 0);

	if (size <= 0)
		return -EBADF;
	text[size] = '\0';
	return parse_line(text, "\nmnt_id:\t", mount) && parse_line(text, "\nino:\t", inode)
		       ? 0
		       : -EINVAL;
}

static int open_info(pid_t thread, int fd)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", thread, fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* What all sockets have in common. */
static int learn_sockets(struct uapi_fd_tables *tables)
{
	int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t inode;
	struct stat stat;
	int info;

	if (socket_fd < 0)
		return -errno;
	if (fstat(socket_fd, &stat) == 0)
		tables->device = stat.st_dev;
	info = open_info(getpid(), socket_fd);
	if (info >= 0) {
		tables->has_mount =
			!read_info(info, &tables->mount, &inode) && inode == stat.st_ino;
		close(info);
	}
	close(socket_fd);
	return 0;
}

struct uapi_fd_tables *uapi_fd_tables_new(void)
{
	struct uapi_fd_tables *tables = calloc(1, sizeof(*tables));

	if (!tables)
		return NULL;
	if (learn_sockets(tables) < 0) {
		free(tables);
		return NULL;
	}
	for (size_t i = 0; i < SLOTS; i++) {
		pthread_mutex_init(&tables->slots[i].lock, NULL);
		tables->slots[i].info = -1;
	}
	return tables;
}

void uapi_fd_tables_free(struct uapi_fd_tables *tables)
{
	if (!tables)
		return;
	for (size_t i = 0; i < SLOTS; i++) {
		if (tables->slots[i].info >= 0)
			close(tables->slots[i].info);
		pthread_mutex_destroy(&tables->slots[i].lock);
	}
	free(tables);
}

/* Without a slot. */
static bool look(const struct uapi_fd_tables *tables, pid_t thread, int fd, ino_t *inode)
{
	struct stat stat;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", thread, fd);
	if (fstatat(AT_FDCWD, path, &stat, 0) < 0 || !S_ISSOCK(stat.st_mode) ||
	    stat.st_dev != tables->device)
		return false;
	*inode = stat.st_ino;
	return true;
}

/* With the slot's lock. Errors: as read_info(). */
static int look_at_slot(struct slot *slot, pid_t thread, int fd, uint64_t *mount, uint64_t *inode)
{
	if (slot->info >= 0 && slot->thread == thread && slot->fd == fd &&
	    !read_info(slot->info, mount, inode))
		return 0;
	/* Another's; or an ended task's, or that of a descriptor that is gone. */
	if (slot->info >= 0)
		close(slot->info);
	slot->thread = thread;
	slot->fd = fd;
	slot->info = open_info(thread, fd);
	return slot->info < 0 ? -EBADF : read_info(slot->info, mount, inode);
}

bool uapi_fd_tables_find_socket(struct uapi_fd_tables *tables, pid_t thread, int fd, ino_t *inode)
{
	struct slot *slot = &tables->slots[((unsigned)thread * 7 + (unsigned)fd) % SLOTS];
	uint64_t mount, number;
	int result;

	if (fd < 0)
		return false;
	if (!tables->has_mount || pthread_mutex_trylock(&slot->lock) != 0)
		return look(tables, thread, fd, inode);
	result = look_at_slot(slot, thread, fd, &mount, &number);
	pthread_mutex_unlock(&slot->lock);
	if (result)
		return look(tables, thread, fd, inode);
	*inode = (ino_t)number;
	return mount == tables->mount;
}
