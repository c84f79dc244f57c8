/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The channel to an NBD server: what waits for its turn, and what its thread sleeps on. That is an
 * epoll of the connection, whatever that is at the moment, of a timer for when it is to be tried
 * again, and of an eventfd by which other threads tell what they found for this one.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "devices/nvme/nbd.h"

#define DRAIN_LEAST_MS 1000

static struct nbd_channel *nbd_channel_of(struct nvme_channel *base)
{
	return (struct nbd_channel *)base;
}

/* #syscalls: write */
void nvme_nbd_channel_wake(struct nbd_channel *channel)
{
	if (!channel->sleeping || channel->signalled)
		return;
	channel->signalled = true;
	eventfd_write(channel->event, 1);
}

/* #syscalls: epoll_ctl */
void nvme_nbd_channel_unwatch(struct nbd_channel *channel, bool closed)
{
	if (channel->watched >= 0 && !closed)
		epoll_ctl(channel->base.fd, EPOLL_CTL_DEL, channel->watched, NULL);
	channel->watched = -1;
}

/* ---- Requests ---- */

static int nbd_submit(struct nvme_channel *base, struct nvme_io *io)
{
	struct nbd_channel *channel = nbd_channel_of(base);
	const struct nbd_backend *backend = channel->connection->backend;
	int ret = nvme_io_check(&backend->base, io);

	if (ret < 0)
		return ret;
	if (io->op == NVME_IO_FLUSH ? !backend->export.flush : !io->size)
		return 0;
	if (io->op == NVME_IO_DISCARD && !backend->export.trim)
		return 0;
	if (atomic_load(&channel->connection->down)) {
		/* Whoever noticed may have nothing to do with it any more: it is tried from here.
		 */
		base->background = true;
		return -ENOTCONN;
	}
	io->next = NULL;
	*channel->waiting_end = io;
	channel->waiting_end = &io->next;
	base->in_flight++;
	return NVME_IO_PENDING;
}

/* With the lock. */
static void start_waiting(struct nbd_channel *channel)
{
	struct nvme_io *io;

	while ((io = channel->waiting) && channel->connection->state == NBD_UP &&
	       !channel->connection->broken) {
		struct nvme_io *next = io->next;

		if (!nvme_nbd_request_start(channel, io))
			return;
		channel->waiting = next;
		if (!next)
			channel->waiting_end = &channel->waiting;
	}
}

static void nbd_kick(struct nvme_channel *base)
{
	struct nbd_channel *channel = nbd_channel_of(base);

	if (!channel->waiting || !atomic_load(&channel->connection->up))
		return;
	pthread_mutex_lock(&channel->connection->lock);
	start_waiting(channel);
	pthread_mutex_unlock(&channel->connection->lock);
}

/* The driver gets its data without the lock. */
static void finish(struct nbd_channel *channel, struct nbd_request *request)
{
	struct nvme_io *io = request->io;
	int result = request->result;

	if (!result && request->bounce && io->op == NVME_IO_READ)
		result = nvme_io_copy(io, request->bounce, io->size, true);
	pthread_mutex_lock(&channel->connection->lock);
	nvme_nbd_request_free(request);
	pthread_mutex_unlock(&channel->connection->lock);
	channel->base.in_flight--;
	io->done(io, result);
}

/* What has not been started when the connection is down. */
static unsigned fail_waiting(struct nbd_channel *channel)
{
	struct nvme_io *io = channel->waiting;
	unsigned count = 0;

	channel->waiting = NULL;
	channel->waiting_end = &channel->waiting;
	while (io) {
		struct nvme_io *next = io->next;

		channel->base.in_flight--;
		count++;
		io->done(io, -ENOTCONN);
		io = next;
	}
	return count;
}

static unsigned nbd_reap(struct nvme_channel *base)
{
	struct nbd_channel *channel = nbd_channel_of(base);
	struct nbd_connection *connection = channel->connection;
	struct nbd_request *request;
	unsigned count = 0;

	pthread_mutex_lock(&connection->lock);
	channel->sleeping = false;
	nvme_nbd_drive(connection);
	request = channel->ended;
	channel->ended = NULL;
	channel->ended_end = &channel->ended;
	pthread_mutex_unlock(&connection->lock);
	while (request) {
		struct nbd_request *next = request->next;

		finish(channel, request);
		count++;
		request = next;
	}
	if (channel->waiting && atomic_load(&connection->down))
		count += fail_waiting(channel);
	nbd_kick(base);
	/* A connection that is lost is somebody's business even when nothing is in flight. */
	base->background = !atomic_load(&connection->up);
	return count;
}

static bool nbd_cancel(struct nvme_channel *base, struct nvme_io *io)
{
	struct nbd_channel *channel = nbd_channel_of(base);
	struct nbd_connection *connection = channel->connection;
	bool found = false;

	for (struct nvme_io **at = &channel->waiting; *at && !found; at = &(*at)->next) {
		if (*at != io)
			continue;
		found = true;
		*at = io->next;
		if (!*at)
			channel->waiting_end = at;
		break;
	}
	/*
	 * What a connection that has gone was given isn't in anybody's hands here. The server may
	 * have done it, or do it yet: the driver is told that it was aborted, not that it is
	 * undone.
	 */
	pthread_mutex_lock(&connection->lock);
	for (unsigned i = 0; connection->state != NBD_UP && !found && i < channel->request_count;
	     i++) {
		struct nbd_request *request = &channel->requests[i];

		if (request->io != io || request->ended)
			continue;
		found = true;
		nvme_nbd_request_free(request);
	}
	pthread_mutex_unlock(&connection->lock);
	base->in_flight -= found;
	return found;
}

/* ---- Sleeping ---- */

/* #syscalls: epoll_ctl */
static void watch(struct nbd_channel *channel)
{
	uint32_t events;
	int fd = nvme_nbd_watch(channel->connection, &events);
	bool new = fd != channel->watched;
	struct epoll_event event = {.events = events};

	if (!new && (fd < 0 || events == channel->watched_for))
		return;
	if (new)
		nvme_nbd_channel_unwatch(channel, false);
	if (fd >= 0 &&
	    !epoll_ctl(channel->base.fd, new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event))
		channel->watched = fd;
	channel->watched_for = events;
}

/* Setting it ends that it is readable. #syscalls: timerfd_settime */
static void set_timer(struct nbd_channel *channel)
{
	uint64_t at = nvme_nbd_wake_at(channel->connection);
	struct itimerspec when = {0};

	if (at == UINT64_MAX && !channel->timer_set)
		return;
	channel->timer_set = at != UINT64_MAX;
	if (channel->timer_set)
		when.it_value = (struct timespec){.tv_sec = (time_t)(at / 1000),
						  .tv_nsec = (long)(at % 1000) * 1000000 + 1};
	timerfd_settime(channel->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* #syscalls: read */
static bool nbd_arm(struct nvme_channel *base)
{
	struct nbd_channel *channel = nbd_channel_of(base);
	struct nbd_connection *connection = channel->connection;
	eventfd_t value;
	bool quiet;

	pthread_mutex_lock(&connection->lock);
	start_waiting(channel);
	quiet = !channel->ended && !connection->broken && !connection->noted &&
		!(channel->waiting && atomic_load(&connection->down));
	if (channel->signalled) {
		eventfd_read(channel->event, &value);
		channel->signalled = false;
	}
	if (quiet && (base->in_flight || base->background)) {
		watch(channel);
		set_timer(channel);
	}
	channel->sleeping = quiet;
	pthread_mutex_unlock(&connection->lock);
	return quiet;
}

/* A server that is connected and silent for so long is not waited for any longer. */
static void give_up(struct nbd_connection *connection)
{
	pthread_mutex_lock(&connection->lock);
	if (connection->state == NBD_UP) {
		nvme_nbd_lose(connection, "it doesn't answer, and is not waited for");
		connection->lost_at = nbd_now_ms() - connection->backend->limit_ms;
	}
	pthread_mutex_unlock(&connection->lock);
}

/* @while_up: ends early, with false, where there is no server. */
static bool drain(struct nvme_channel *base, bool while_up)
{
	struct nbd_connection *connection = nbd_channel_of(base)->connection;
	uint64_t limit = connection->backend->limit_ms, since = nbd_now_ms();
	struct pollfd fd = {.fd = base->fd, .events = POLLIN};

	if (limit < DRAIN_LEAST_MS)
		limit = DRAIN_LEAST_MS;
	while (base->in_flight) {
		if (nbd_reap(base))
			since = nbd_now_ms();
		else if (while_up && !atomic_load(&connection->up))
			return false;
		else if (nbd_now_ms() - since >= limit)
			give_up(connection);
		if (base->in_flight && nbd_arm(base))
			poll(&fd, 1, DRAIN_LEAST_MS);
	}
	return true;
}

static void nbd_drain(struct nvme_channel *base)
{
	drain(base, false);
}

bool nvme_nbd_run_alone(struct nvme_channel *base, struct nvme_io *io)
{
	nbd_kick(base);
	while (!drain(base, true))
		/* Not where another thread has found the server again just now. */
		if (nbd_cancel(base, io))
			return false;
	return true;
}

/* ---- Made and freed ---- */

static void free_channel(struct nbd_channel *channel)
{
	const int fds[] = {channel->event, channel->timer, channel->base.fd};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (channel->bounces)
		munmap(channel->bounces, (size_t)NBD_BOUNCES * NBD_MAX_IO_SIZE);
	free(channel->requests);
	free(channel);
}

/* #syscalls: munmap close */
static void nbd_close_channel(struct nvme_channel *base)
{
	struct nbd_channel *channel = nbd_channel_of(base);
	struct nbd_connection *connection = channel->connection;
	struct nbd_channel **at = &connection->channels;
	bool last;

	pthread_mutex_lock(&connection->lock);
	while (*at != channel)
		at = &(*at)->sibling;
	*at = channel->sibling;
	nvme_nbd_channel_unwatch(channel, connection->broken);
	last = !connection->channels;
	pthread_mutex_unlock(&connection->lock);
	if (last)
		nvme_nbd_disconnect(connection);
	free_channel(channel);
}

static const struct nvme_channel_ops nbd_channel_ops = {
	.submit = nbd_submit,
	.kick = nbd_kick,
	.reap = nbd_reap,
	.arm = nbd_arm,
	.cancel = nbd_cancel,
	.drain = nbd_drain,
	.close = nbd_close_channel,
};

static int make_fds(struct nbd_channel *channel)
{
	struct epoll_event readable = {.events = EPOLLIN};

	channel->base.fd = epoll_create1(EPOLL_CLOEXEC);
	channel->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	channel->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (channel->base.fd < 0 || channel->event < 0 || channel->timer < 0 ||
	    epoll_ctl(channel->base.fd, EPOLL_CTL_ADD, channel->event, &readable) < 0 ||
	    epoll_ctl(channel->base.fd, EPOLL_CTL_ADD, channel->timer, &readable) < 0)
		return -errno;
	return 0;
}

static int make_buffers(struct nbd_channel *channel)
{
	void *bounces;

	channel->requests = calloc(channel->request_count, sizeof(*channel->requests));
	bounces = mmap(NULL, (size_t)NBD_BOUNCES * NBD_MAX_IO_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bounces == MAP_FAILED || !channel->requests)
		return -ENOMEM;
	channel->bounces = bounces;
	for (size_t i = 0; i < NBD_BOUNCES; i++)
		channel->free_bounces[i] = channel->bounces + i * NBD_MAX_IO_SIZE;
	channel->free_bounce_count = NBD_BOUNCES;
	for (unsigned i = 0; i < channel->request_count; i++) {
		channel->requests[i].next = channel->free;
		channel->free = &channel->requests[i];
	}
	return 0;
}

int nvme_nbd_channel_new(struct nbd_backend *backend, struct nbd_connection *connection,
			 unsigned depth, struct nvme_channel **channelp, struct uvf_error *error)
{
	struct nbd_channel *channel = calloc(1, sizeof(*channel));
	int ret;

	if (!channel)
		return uvf_fail(error, -ENOMEM, "no memory");
	channel->base.ops = &nbd_channel_ops;
	channel->base.backend = &backend->base;
	channel->base.fd = channel->event = channel->timer = channel->watched = -1;
	channel->connection = connection;
	channel->waiting_end = &channel->waiting;
	channel->ended_end = &channel->ended;
	channel->request_count = depth < 1 ? 1 : depth < NBD_REQUESTS ? depth : NBD_REQUESTS;
	ret = make_fds(channel);
	if (!ret)
		ret = make_buffers(channel);
	if (ret) {
		free_channel(channel);
		return uvf_fail(error, ret, "no channel: %s", strerror(-ret));
	}
	pthread_mutex_lock(&connection->lock);
	channel->sibling = connection->channels;
	connection->channels = channel;
	pthread_mutex_unlock(&connection->lock);
	*channelp = &channel->base;
	return 0;
}
