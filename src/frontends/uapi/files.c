/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files that the program holds: a table by inode, and their ends.
 *
 * A hang-up is seen by the watching thread, or earlier by who drains. The file then leaves the
 * table; when its last operation has ended, it is released.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/fd_tables.h"
#include "frontends/uapi/file.h"
#include "frontends/uapi/notify.h"
#include "frontends/uapi/releases.h"
#include "frontends/uapi/uapi.h"

#define BUCKETS 256
#define EVENTS	64

struct uapi_files {
	int epoll;
	int stop; /* an eventfd: the watching thread ends */
	pthread_t watcher;

	pthread_mutex_t lock;
	struct uapi_file *buckets[BUCKETS];
	struct uapi_releases *releases;
	atomic_ulong device; /* of all sockets' inodes; 0: there was none yet */
};

/* ---- The table ---- */

static struct uapi_file **bucket_of(struct uapi_files *files, ino_t inode)
{
	return &files->buckets[inode % BUCKETS];
}

/* With the lock. */
static struct uapi_file *find(struct uapi_files *files, ino_t inode)
{
	struct uapi_file *file = *bucket_of(files, inode);

	while (file && file->inode != inode)
		file = file->next;
	return file;
}

static void insert(struct uapi_files *files, struct uapi_file *file)
{
	struct uapi_file **bucket = bucket_of(files, file->inode);

	pthread_mutex_lock(&files->lock);
	file->next = *bucket;
	*bucket = file;
	pthread_mutex_unlock(&files->lock);
}

/* With the lock. */
static void take_out(struct uapi_files *files, const struct uapi_file *file)
{
	struct uapi_file **link = bucket_of(files, file->inode);

	while (*link != file)
		link = &(*link)->next;
	*link = file->next;
}

struct uapi_file *uapi_file_get(struct uapi_file *file)
{
	atomic_fetch_add(&file->references, 1);
	return file;
}

void uapi_file_put(struct uapi_file *file)
{
	if (atomic_fetch_sub(&file->references, 1) != 1)
		return;
	if (file->ops->destroy)
		file->ops->destroy(file);
	else
		free(file);
}

struct uapi_file *uapi_file_find(struct uapi_call *call, int fd)
{
	struct uapi_files *files = call->run->files;
	struct uapi_file *file;
	struct stat stat;
	ino_t inode;

	if (call->notifier) {
		if (!uapi_fd_tables_find_socket(uapi_notifier_fd_tables(call->notifier),
						call->thread, fd, &inode))
			return NULL;
	} else {
		if (fstat(fd, &stat) < 0 || !S_ISSOCK(stat.st_mode))
			return NULL;
		inode = stat.st_ino;
	}
	pthread_mutex_lock(&files->lock);
	file = find(files, inode);
	if (file)
		uapi_file_get(file);
	pthread_mutex_unlock(&files->lock);
	return file;
}

/* ---- Making one ---- */

/* Gives the two ends and the inode of the program's. */
static int make_ends(struct uapi_files *files, struct uapi_file *file)
{
	struct stat stat;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return errno == ENOMEM || errno == ENOBUFS ? -ENOMEM : -EMFILE;
	/* A read that isn't served finds the end of a file. */
	shutdown(ends[1], SHUT_WR);
	if (fstat(ends[0], &stat) < 0) {
		close(ends[0]);
		close(ends[1]);
		return -ENOMEM;
	}
	file->program_end = ends[0];
	file->peer = ends[1];
	file->inode = stat.st_ino;
	return 0;
}

int uapi_file_init(struct uapi_file *file, struct uvf_run *run, const struct uapi_file_ops *ops,
		   dev_t rdev)
{
	struct uapi_files *files = run->files;
	struct epoll_event event = {.events = 0}; /* a hang-up always counts */
	int result;

	file->run = run;
	file->ops = ops;
	file->rdev = rdev;
	file->access_mode = O_RDWR;
	file->references = 1;
	result = make_ends(files, file);
	if (result)
		return result;
	event.data.u64 = file->inode;
	insert(files, file);
	if (epoll_ctl(files->epoll, EPOLL_CTL_ADD, file->peer, &event) < 0) {
		pthread_mutex_lock(&files->lock);
		take_out(files, file);
		pthread_mutex_unlock(&files->lock);
		close(file->program_end);
		close(file->peer);
		return -ENOMEM;
	}
	return 0;
}

/* ---- Operations ---- */

bool uapi_file_enter(struct uapi_file *file)
{
	struct uapi_files *files = file->run->files;
	bool entered;

	pthread_mutex_lock(&files->lock);
	entered = !file->hung_up;
	if (entered)
		file->running++;
	pthread_mutex_unlock(&files->lock);
	return entered;
}

void uapi_file_leave(struct uapi_file *file)
{
	struct uapi_files *files = file->run->files;

	pthread_mutex_lock(&files->lock);
	if (--file->running == 0 && file->hung_up)
		uapi_releases_add(files->releases, file);
	pthread_mutex_unlock(&files->lock);
}

/* ---- Ends ---- */

/* With the lock. The table's reference is the release's. */
static void hang_up(struct uapi_files *files, struct uapi_file *file)
{
	epoll_ctl(files->epoll, EPOLL_CTL_DEL, file->peer, NULL);
	take_out(files, file);
	file->hung_up = true;
	if (!file->running)
		uapi_releases_add(files->releases, file);
}

void uapi_file_abandon(struct uapi_file *file)
{
	struct uapi_files *files = file->run->files;

	/* A release comes at any time from here on, and would be the file's end. */
	uapi_file_get(file);
	close(file->program_end);
	file->program_end = -1;
	pthread_mutex_lock(&files->lock);
	if (!file->hung_up)
		hang_up(files, file);
	pthread_mutex_unlock(&files->lock);
	uapi_file_put(file);
}

/* Hangs up what has events. Returns how many events there were; the last batch is shorter. */
static int collect(struct uapi_files *files, int timeout, bool *stop)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(files->epoll, events, EVENTS, timeout);

	pthread_mutex_lock(&files->lock);
	for (int i = 0; i < count; i++) {
		/* By its inode: somebody else may have seen the event too, and be done with it. */
		struct uapi_file *file = find(files, (ino_t)events[i].data.u64);

		if (events[i].data.u64 == 0)
			*stop = true;
		else if (file)
			hang_up(files, file);
	}
	pthread_mutex_unlock(&files->lock);
	return count;
}

static void *watch(void *opaque)
{
	struct uapi_files *files = opaque;
	bool stop = false;

	while (!stop)
		collect(files, -1, &stop);
	return NULL;
}

static void collect_all(struct uapi_files *files)
{
	bool stop = false;

	while (collect(files, 0, &stop) == EVENTS)
		continue;
}

void uapi_files_drain(struct uvf_run *run)
{
	collect_all(run->files);
	uapi_releases_wait(run->files->releases, false);
}

bool uapi_files_drain_slow(struct uvf_run *run)
{
	collect_all(run->files);
	return uapi_releases_wait(run->files->releases, true);
}

void uapi_files_settle(struct uvf_run *run)
{
	if (run->files)
		uapi_releases_settle(run->files->releases);
}

/* ---- Start and end ---- */

static void free_files(struct uapi_files *files)
{
	uapi_releases_free(files->releases);
	if (files->epoll >= 0)
		close(files->epoll);
	if (files->stop >= 0)
		close(files->stop);
	pthread_mutex_destroy(&files->lock);
	free(files);
}

int uapi_files_new(struct uvf_run *run)
{
	struct uapi_files *files = calloc(1, sizeof(*files));
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
	int result;

	if (!files)
		return -ENOMEM;
	pthread_mutex_init(&files->lock, NULL);
	files->releases = uapi_releases_new();
	files->epoll = epoll_create1(EPOLL_CLOEXEC);
	files->stop = eventfd(0, EFD_CLOEXEC);
	result = files->epoll < 0 || files->stop < 0 ? -errno : 0;
	if (!result && !files->releases)
		result = -ENOMEM;
	if (!result && epoll_ctl(files->epoll, EPOLL_CTL_ADD, files->stop, &event) < 0)
		result = -errno;
	if (!result)
		result = -pthread_create(&files->watcher, NULL, watch, files);
	if (result) {
		free_files(files);
		return result;
	}
	run->files = files;
	return 0;
}

/* With the lock. */
static void hang_up_all(struct uapi_files *files)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		while (files->buckets[i]) {
			struct uapi_file *file = files->buckets[i];

			if (file->program_end >= 0)
				close(file->program_end);
			file->program_end = -1;
			hang_up(files, file);
		}
	}
}

void uapi_files_free(struct uvf_run *run)
{
	struct uapi_files *files = run->files;
	const uint64_t one = 1;

	if (!files)
		return;
	while (write(files->stop, &one, sizeof(one)) < 0 && errno == EINTR)
		continue;
	pthread_join(files->watcher, NULL);
	pthread_mutex_lock(&files->lock);
	hang_up_all(files);
	pthread_mutex_unlock(&files->lock);
	/* Releases find the run's files as long as they last. */
	uapi_releases_wait(files->releases, true);
	run->files = NULL;
	free_files(files);
}
