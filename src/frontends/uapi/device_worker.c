/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session's thread: carries out the writes that eventfds stand for (VFIO_DEVICE_IOEVENTFD), and
 * asks the program for the device, again and again, once it has been told to.
 *
 * An entry of the table is found by its place and how often that was used, so that an event that
 * was already on its way finds nothing of an entry that is gone. The lock is held while a write is
 * carried out: when an eventfd has been taken away, no write of it comes any more.
 */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"

#define MAX_IOEVENTFDS 1000
#define EVENTS_AT_ONCE 32
#define REPEAT_MS      1000
#define WAKE	       UINT64_MAX

struct ioeventfd {
	int fd; /* -1: free */
	uint32_t uses;
	struct uapi_ioeventfd write;
};

struct uapi_worker {
	struct uapi_session *session;
	pthread_mutex_t lock;
	pthread_t thread;
	bool started, stop;
	int epoll, wake;
	int request; /* eventfd, or -1 */
	/* Without the lock, for who can't wait for a device. */
	atomic_bool has_request, repeats_request;
	struct ioeventfd *ioeventfds;
	size_t count, used; /* used: places that ever were */
};

/* Never waits, whatever the program does with its end at the same time. */
static bool drain(int fd)
{
	uint64_t value;
	struct iovec iov = {&value, sizeof(value)};

	return preadv2(fd, &iov, 1, -1, RWF_NOWAIT) == sizeof(value);
}

static bool is_enabled(struct uapi_session *session, uint32_t index)
{
	return session->is_io[index] || uapi_session_memory_enabled(session);
}

/* With the lock. */
static void carry_out(struct uapi_worker *worker, uint64_t which)
{
	const struct ioeventfd *entry;
	uint8_t bytes[8];

	if ((uint32_t)which >= worker->used)
		return;
	entry = &worker->ioeventfds[(uint32_t)which];
	if (entry->fd < 0 || entry->uses != which >> 32 || !drain(entry->fd))
		return;
	if (!is_enabled(worker->session, entry->write.index))
		return;
	uvf_put_le64(bytes, entry->write.data);
	uapi_region_write(worker->session->device, entry->write.index, entry->write.offset, bytes,
			  entry->write.size);
}

/* With the lock. An eventfd that is full has been signalled: writing would wait. */
static void signal_request(const struct uapi_worker *worker)
{
	struct pollfd writable = {.fd = worker->request, .events = POLLOUT};

	if (worker->request >= 0 && poll(&writable, 1, 0) == 1)
		eventfd_write(worker->request, 1);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* How long to wait until the device has to be asked for again; asks if it is time. */
static int next_request(struct uapi_worker *worker, uint64_t *next)
{
	uint64_t now;

	if (!atomic_load(&worker->repeats_request))
		return -1;
	now = now_ms();
	if (now >= *next) {
		signal_request(worker);
		*next = now + REPEAT_MS;
	}
	return (int)(*next - now);
}

static void *worker_run(void *opaque)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	struct uapi_worker *worker = opaque;
	uint64_t next = 0;

	pthread_mutex_lock(&worker->lock);
	while (!worker->stop) {
		int timeout = next_request(worker, &next);
		int count;

		pthread_mutex_unlock(&worker->lock);
		count = epoll_wait(worker->epoll, events, EVENTS_AT_ONCE, timeout);
		pthread_mutex_lock(&worker->lock);
		for (int i = 0; i < count && !worker->stop; i++) {
			if (events[i].data.u64 == WAKE)
				drain(worker->wake);
			else
				carry_out(worker, events[i].data.u64);
		}
	}
	pthread_mutex_unlock(&worker->lock);
	return NULL;
}

static int watch(struct uapi_worker *worker, int fd, uint64_t which)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = which};

	return epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* With the lock. The thread isn't started before something needs it. */
static int start(struct uapi_worker *worker)
{
	int ret;

	if (worker->started)
		return 0;
	ret = pthread_create(&worker->thread, NULL, worker_run, worker);
	worker->started = !ret;
	return -ret;
}

int uapi_worker_new(struct uapi_session *session)
{
	struct uapi_worker *worker = calloc(1, sizeof(*worker));
	int ret;

	if (!worker)
		return -ENOMEM;
	worker->session = session;
	worker->request = -1;
	worker->epoll = epoll_create1(EPOLL_CLOEXEC);
	worker->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = worker->epoll < 0 || worker->wake < 0 ? -errno : watch(worker, worker->wake, WAKE);
	if (ret) {
		if (worker->epoll >= 0)
			close(worker->epoll);
		if (worker->wake >= 0)
			close(worker->wake);
		free(worker);
		return ret;
	}
	pthread_mutex_init(&worker->lock, NULL);
	session->worker = worker;
	return 0;
}

void uapi_worker_free(struct uapi_session *session)
{
	struct uapi_worker *worker = session->worker;
	bool started;

	pthread_mutex_lock(&worker->lock);
	worker->stop = true;
	started = worker->started;
	pthread_mutex_unlock(&worker->lock);
	eventfd_write(worker->wake, 1);
	if (started)
		pthread_join(worker->thread, NULL);
	for (size_t i = 0; i < worker->used; i++) {
		if (worker->ioeventfds[i].fd >= 0)
			close(worker->ioeventfds[i].fd);
	}
	if (worker->request >= 0)
		close(worker->request);
	close(worker->epoll);
	close(worker->wake);
	pthread_mutex_destroy(&worker->lock);
	free(worker->ioeventfds);
	free(worker);
	session->worker = NULL;
}

int uapi_worker_set_request_fd(struct uapi_session *session, int fd)
{
	struct uapi_worker *worker = session->worker;
	int old, ret = 0;

	pthread_mutex_lock(&worker->lock);
	if (fd >= 0)
		ret = start(worker);
	old = ret ? fd : worker->request;
	if (!ret) {
		worker->request = fd;
		atomic_store(&worker->has_request, fd >= 0);
	}
	pthread_mutex_unlock(&worker->lock);
	if (old >= 0)
		close(old);
	return ret;
}

bool uapi_worker_has_request_fd(struct uapi_session *session)
{
	return atomic_load(&session->worker->has_request);
}

void uapi_worker_signal_request(struct uapi_session *session)
{
	pthread_mutex_lock(&session->worker->lock);
	signal_request(session->worker);
	pthread_mutex_unlock(&session->worker->lock);
}

void uapi_worker_repeat_request(struct uapi_session *session)
{
	atomic_store(&session->worker->repeats_request, true);
	eventfd_write(session->worker->wake, 1);
}

/* ---- The table: with the lock ---- */

static struct ioeventfd *find(struct uapi_worker *worker, const struct uapi_ioeventfd *write)
{
	for (size_t i = 0; i < worker->used; i++) {
		struct ioeventfd *entry = &worker->ioeventfds[i];

		if (entry->fd >= 0 && entry->write.index == write->index &&
		    entry->write.offset == write->offset && entry->write.data == write->data &&
		    entry->write.size == write->size)
			return entry;
	}
	return NULL;
}

static struct ioeventfd *find_free(struct uapi_worker *worker)
{
	for (size_t i = 0; i < worker->used; i++) {
		if (worker->ioeventfds[i].fd < 0)
			return &worker->ioeventfds[i];
	}
	if (!worker->ioeventfds)
		worker->ioeventfds = calloc(MAX_IOEVENTFDS, sizeof(*worker->ioeventfds));
	return worker->ioeventfds ? &worker->ioeventfds[worker->used++] : NULL;
}

bool uapi_is_eventfd(int fd)
{
	static const char name[] = "anon_inode:[eventfd]";
	char path[32], link[sizeof(name)];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, link, sizeof(link)) == sizeof(name) - 1 &&
	       !memcmp(link, name, sizeof(name) - 1);
}

static int duplicate_eventfd(int fd)
{
	int copy;

	if (fd < 0)
		return fd;
	if (!uapi_is_eventfd(fd))
		return -EINVAL;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? -errno : copy;
}

static int add(struct uapi_worker *worker, const struct uapi_ioeventfd *write, int fd)
{
	struct ioeventfd *entry;
	int copy, ret;

	if (find(worker, write))
		return -EEXIST;
	if (worker->count == MAX_IOEVENTFDS)
		return -ENOSPC;
	entry = find_free(worker);
	if (!entry)
		return -ENOMEM;
	entry->fd = -1;
	ret = start(worker);
	if (ret)
		return ret;
	copy = duplicate_eventfd(fd);
	if (copy < 0)
		return copy;
	entry->uses++;
	ret = watch(worker, copy,
		    (uint64_t)entry->uses << 32 | (uint64_t)(entry - worker->ioeventfds));
	if (ret) {
		close(copy);
		return ret;
	}
	entry->write = *write;
	entry->fd = copy;
	worker->count++;
	return 0;
}

int uapi_worker_add(struct uapi_session *session, const struct uapi_ioeventfd *write, int fd)
{
	int ret;

	pthread_mutex_lock(&session->worker->lock);
	ret = add(session->worker, write, fd);
	pthread_mutex_unlock(&session->worker->lock);
	return ret;
}

int uapi_worker_remove(struct uapi_session *session, const struct uapi_ioeventfd *write)
{
	struct uapi_worker *worker = session->worker;
	struct ioeventfd *entry;

	pthread_mutex_lock(&worker->lock);
	entry = find(worker, write);
	if (entry) {
		epoll_ctl(worker->epoll, EPOLL_CTL_DEL, entry->fd, NULL);
		close(entry->fd);
		entry->fd = -1;
		worker->count--;
	}
	pthread_mutex_unlock(&worker->lock);
	return entry ? 0 : -ENODEV;
}
