/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files that the program holds: a table by inode, and their ends.
 *
 * A hang-up is seen by the watching thread, or earlier by who drains. The file then leaves the
 * table, and when its last operation has ended it is put into a queue, from which it is released:
 * by who drains, or by a thread of those that there are as many of as releases at a time, so that a
 * slow one holds up no other.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/fd_tables.h"
#include "frontends/uapi/file.h"
#include "frontends/uapi/notify.h"
#include "frontends/uapi/uapi.h"

#define BUCKETS		 256
#define RELEASERS_MAX	 64
#define RELEASER_SECONDS 2

struct uapi_files {
	int epoll;
	int stop; /* an eventfd: the watching thread ends */
	pthread_t watcher;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* with lock: the queue, what is being released, releasers */
	struct uapi_file *buckets[BUCKETS];
	struct uapi_file *queue, **queue_end;
	/* Releases by the order of their files in the queue, to wait for those that came before. */
	uint64_t queued, released;
	unsigned releasing;
	unsigned releasers, idle_releasers;
	bool stopping;
	dev_t device; /* of all sockets' inodes */
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

	if (fd < 0)
		return NULL;
	if (call->notifier) {
		if (uapi_fd_tables_stat(uapi_notifier_fd_tables(call->notifier), call->thread, fd,
					&stat) < 0)
			return NULL;
	} else if (fstat(fd, &stat) < 0) {
		return NULL;
	}
	if (!S_ISSOCK(stat.st_mode) || stat.st_dev != files->device)
		return NULL;
	pthread_mutex_lock(&files->lock);
	file = find(files, stat.st_ino);
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
	files->device = stat.st_dev;
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

static void *run_releaser(void *opaque);

/* With the lock. The file is out of the table, and the table's reference is the queue's. */
static void enqueue(struct uapi_files *files, struct uapi_file *file)
{
	pthread_t thread;

	file->next = NULL;
	*files->queue_end = file;
	files->queue_end = &file->next;
	files->queued++;
	if (!files->idle_releasers && files->releasers < RELEASERS_MAX) {
		if (!pthread_create(&thread, NULL, run_releaser, files)) {
			pthread_detach(thread);
			files->releasers++;
		}
	}
	pthread_cond_broadcast(&files->changed);
}

void uapi_file_leave(struct uapi_file *file)
{
	struct uapi_files *files = file->run->files;

	pthread_mutex_lock(&files->lock);
	if (--file->running == 0 && file->hung_up)
		enqueue(files, file);
	pthread_mutex_unlock(&files->lock);
}

/* ---- Ends ---- */

/* With the lock. */
static void hang_up(struct uapi_files *files, struct uapi_file *file)
{
	epoll_ctl(files->epoll, EPOLL_CTL_DEL, file->peer, NULL);
	take_out(files, file);
	file->hung_up = true;
	if (!file->running)
		enqueue(files, file);
}

void uapi_file_abandon(struct uapi_file *file)
{
	struct uapi_files *files = file->run->files;

	close(file->program_end);
	file->program_end = -1;
	pthread_mutex_lock(&files->lock);
	if (!file->hung_up)
		hang_up(files, file);
	pthread_mutex_unlock(&files->lock);
}

/*
 * Releases the first of the queue, or says that there is none. With the lock, which it lets go
 * meanwhile.
 */
static bool release_first(struct uapi_files *files)
{
	struct uapi_file *file = files->queue;

	if (!file)
		return false;
	files->queue = file->next;
	if (!files->queue)
		files->queue_end = &files->queue;
	files->releasing++;
	pthread_mutex_unlock(&files->lock);
	if (file->ops->release)
		file->ops->release(file);
	close(file->peer);
	uapi_file_put(file);
	pthread_mutex_lock(&files->lock);
	files->releasing--;
	files->released++;
	pthread_cond_broadcast(&files->changed);
	return true;
}

static void *run_releaser(void *opaque)
{
	struct uapi_files *files = opaque;
	int result = 0;

	pthread_mutex_lock(&files->lock);
	while (result != ETIMEDOUT || files->queue) {
		struct timespec until;

		if (release_first(files)) {
			result = 0;
			continue;
		}
		if (files->stopping)
			break;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += RELEASER_SECONDS;
		files->idle_releasers++;
		result = pthread_cond_clockwait(&files->changed, &files->lock, CLOCK_MONOTONIC,
						&until);
		files->idle_releasers--;
	}
	files->releasers--;
	pthread_cond_broadcast(&files->changed);
	pthread_mutex_unlock(&files->lock);
	return NULL;
}

/* Hangs up what has events. Returns how many events there were; the last batch is shorter. */
static int collect(struct uapi_files *files, int timeout, bool *stop)
{
	struct epoll_event events[64];
	int count = epoll_wait(files->epoll, events, 64, timeout);

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

void uapi_files_drain(struct uvf_run *run)
{
	struct uapi_files *files = run->files;
	bool stop = false;
	uint64_t until;

	while (collect(files, 0, &stop) == 64)
		continue;
	pthread_mutex_lock(&files->lock);
	until = files->queued;
	while (files->released < until) {
		if (!release_first(files))
			pthread_cond_wait(&files->changed, &files->lock);
	}
	pthread_mutex_unlock(&files->lock);
}

/* ---- Start and end ---- */

int uapi_files_new(struct uvf_run *run)
{
	struct uapi_files *files = calloc(1, sizeof(*files));
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
	int result;

	if (!files)
		return -ENOMEM;
	files->queue_end = &files->queue;
	files->epoll = epoll_create1(EPOLL_CLOEXEC);
	files->stop = eventfd(0, EFD_CLOEXEC);
	result = files->epoll < 0 || files->stop < 0 ? -errno : 0;
	if (!result && epoll_ctl(files->epoll, EPOLL_CTL_ADD, files->stop, &event) < 0)
		result = -errno;
	pthread_mutex_init(&files->lock, NULL);
	pthread_cond_init(&files->changed, NULL);
	if (!result)
		result = -pthread_create(&files->watcher, NULL, watch, files);
	if (result) {
		if (files->epoll >= 0)
			close(files->epoll);
		if (files->stop >= 0)
			close(files->stop);
		free(files);
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
	files->stopping = true;
	pthread_cond_broadcast(&files->changed);
	while (files->queue || files->releasing || files->releasers) {
		if (!release_first(files))
			pthread_cond_wait(&files->changed, &files->lock);
	}
	pthread_mutex_unlock(&files->lock);
	close(files->epoll);
	close(files->stop);
	pthread_cond_destroy(&files->changed);
	pthread_mutex_destroy(&files->lock);
	free(files);
	run->files = NULL;
}
