/* SPDX-License-Identifier: BSD-3-Clause */
/* What the program's descriptors are: a slot for each of some threads, by hash. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "frontends/uapi/fd_tables.h"

#define SLOTS 64

struct slot {
	pthread_mutex_t lock;
	pid_t thread;
	int folder; /* -1: none */
};

struct uapi_fd_tables {
	struct slot slots[SLOTS];
};

struct uapi_fd_tables *uapi_fd_tables_new(void)
{
	struct uapi_fd_tables *tables = calloc(1, sizeof(*tables));

	if (!tables)
		return NULL;
	for (size_t i = 0; i < SLOTS; i++) {
		pthread_mutex_init(&tables->slots[i].lock, NULL);
		tables->slots[i].folder = -1;
	}
	return tables;
}

void uapi_fd_tables_free(struct uapi_fd_tables *tables)
{
	if (!tables)
		return;
	for (size_t i = 0; i < SLOTS; i++) {
		if (tables->slots[i].folder >= 0)
			close(tables->slots[i].folder);
		pthread_mutex_destroy(&tables->slots[i].lock);
	}
	free(tables);
}

/* What is faster than snprintf() where it is called most. Returns the end. */
static char *put_number(char *to, unsigned number)
{
	char digits[12];
	size_t count = 0;

	do
		digits[count++] = (char)('0' + number % 10);
	while ((number /= 10) != 0);
	while (count)
		*to++ = digits[--count];
	*to = '\0';
	return to;
}

static int stat_in(int folder, int fd, struct stat *stat)
{
	char name[16];

	put_number(name, (unsigned)fd);
	return fstatat(folder, name, stat, 0) < 0 ? -errno : 0;
}

static int open_folder(pid_t thread)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/fd", thread);
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int stat_uncached(pid_t thread, int fd, struct stat *stat)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", thread, fd);
	return fstatat(AT_FDCWD, path, stat, 0) < 0 ? -EBADF : 0;
}

/* The slot's folder is @thread's when this returns true. */
static bool claim(struct slot *slot, pid_t thread)
{
	if (slot->folder >= 0 && slot->thread == thread)
		return true;
	if (slot->folder >= 0)
		close(slot->folder);
	slot->thread = thread;
	slot->folder = open_folder(thread);
	return slot->folder >= 0;
}

int uapi_fd_tables_stat(struct uapi_fd_tables *tables, pid_t thread, int fd, struct stat *stat)
{
	struct slot *slot = &tables->slots[(unsigned)thread % SLOTS];
	int result = -ESRCH;

	if (fd < 0)
		return -EBADF;
	if (pthread_mutex_trylock(&slot->lock) != 0)
		return stat_uncached(thread, fd, stat);
	if (claim(slot, thread))
		result = stat_in(slot->folder, fd, stat);
	if (result) {
		/* No such descriptor; or the folder is an ended task's: a fresh look tells. */
		if (slot->folder >= 0)
			close(slot->folder);
		slot->folder = -1;
		result = stat_uncached(thread, fd, stat);
	}
	pthread_mutex_unlock(&slot->lock);
	return result ? -EBADF : 0;
}
