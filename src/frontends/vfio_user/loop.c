/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A server's events: who connects, who waits, time limits.
 *
 * Who connects while a client is served becomes a candidate: when its VERSION's header is there, it
 * is refused with EBUSY. Where the client that is served has hung up already, and only its end has
 * yet to be dealt with, candidates wait for it and the first is served.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/accept.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "frontends/vfio_user/server.h"

/* How often the embedded loop looks beyond a client that keeps it busy. */
#define TURNS 16

/* Clients for one look at the socket; the rest wait in its backlog. */
#define ACCEPTS_AT_ONCE 64

/* #syscalls: epoll_ctl */
static int watch(struct uvf_server *server, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	return epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int uvf_server_loop_init(struct uvf_server *server)
{
	int ret;

	server->epoll = epoll_create1(EPOLL_CLOEXEC);
	server->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	server->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	server->spare = uvf_accept_spare();
	if (server->epoll < 0 || server->timer < 0 || server->kick < 0 || server->spare < 0)
		return -errno;
	ret = watch(server, server->listener, EPOLLIN);
	if (!ret)
		ret = watch(server, server->timer, EPOLLIN);
	if (!ret)
		ret = watch(server, server->kick, EPOLLIN);
	return ret;
}

static void candidate_end(struct uvf_candidate *candidate)
{
	close(candidate->fd);
	candidate->fd = -1;
}

void uvf_server_loop_destroy(struct uvf_server *server)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(server->candidates); i++)
		if (server->candidates[i].fd >= 0)
			candidate_end(&server->candidates[i]);
	if (server->spare >= 0)
		close(server->spare);
	if (server->kick >= 0)
		close(server->kick);
	if (server->timer >= 0)
		close(server->timer);
	if (server->epoll >= 0)
		close(server->epoll);
}

/* #syscalls: read */
static void drain(int fd)
{
	uint64_t count;
	ssize_t got = read(fd, &count, sizeof(count));

	(void)got; /* nothing was there */
}

/* #syscalls: write */
void uvf_server_kick(struct uvf_server *server)
{
	uint64_t one = 1;
	ssize_t put = write(server->kick, &one, sizeof(one));

	(void)put; /* it is full, so readable */
}

/* ---- Candidates ---- */

static struct uvf_candidate *free_candidate(struct uvf_server *server)
{
	struct uvf_candidate *oldest = NULL;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(server->candidates); i++) {
		struct uvf_candidate *candidate = &server->candidates[i];

		if (candidate->fd < 0)
			return candidate;
		if (!oldest || candidate->since < oldest->since)
			oldest = candidate;
	}
	candidate_end(oldest);
	return oldest;
}

/* Whether somebody is being served who hasn't hung up. */
static bool is_busy(struct uvf_server *server)
{
	struct pollfd poll_fd = {.events = POLLRDHUP};
	bool busy;

	pthread_mutex_lock(&server->lock);
	busy = server->connection && !uvf_channel_error(server->connection->channel);
	if (busy) {
		poll_fd.fd = uvf_channel_fd(server->connection->channel);
		busy = poll(&poll_fd, 1, 0) == 0;
	}
	busy |= server->reserved;
	pthread_mutex_unlock(&server->lock);
	return busy;
}

/* Refuses @candidate when its message's header is there. */
static void consider(struct uvf_server *server, struct uvf_candidate *candidate)
{
	struct uvf_wire_header header;
	uint8_t scratch[4096];
	ssize_t got = recv(candidate->fd, &header, sizeof(header), MSG_PEEK | MSG_DONTWAIT);

	if (got == 0 || (got < 0 && errno != EAGAIN)) {
		candidate_end(candidate);
	} else if (got == (ssize_t)sizeof(header)) {
		/* What stays unread would turn into an error before the reply. */
		recv(candidate->fd, scratch, sizeof(scratch), MSG_DONTWAIT);
		uvf_connection_refuse(candidate->fd, &header, -EBUSY);
		uvf_server_log(server, UVF_LOG_WARNING, "refused a second client");
		candidate_end(candidate);
	}
}

static void begin(struct uvf_server *server, int fd)
{
	struct uvf_connection *connection;
	int ret = uvf_connection_new(server, fd, server->threaded, false, &connection);

	if (!ret && !server->threaded) {
		ret = watch(server, fd, EPOLLIN);
		if (ret)
			uvf_connection_free(connection);
	}
	if (ret) {
		uvf_server_log(server, UVF_LOG_ERROR, "can't serve a client: %s", strerror(-ret));
		return;
	}
	pthread_mutex_lock(&server->lock);
	/* Somebody else may be expected since it was looked at. */
	if (!server->reserved) {
		server->connection = connection;
		connection = NULL;
	}
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
	if (connection)
		uvf_connection_free(connection);
}

/* #syscalls: recvfrom */
static bool is_idle(struct uvf_server *server)
{
	bool idle;

	pthread_mutex_lock(&server->lock);
	idle = !server->connection && !server->reserved;
	pthread_mutex_unlock(&server->lock);
	return idle;
}

/* Serves the oldest candidate if nobody is served; refuses those that can be. */
static void consider_all(struct uvf_server *server)
{
	struct uvf_candidate *oldest = NULL;
	size_t i;

	for (i = 0; i < UVF_ARRAY_SIZE(server->candidates); i++) {
		struct uvf_candidate *candidate = &server->candidates[i];

		if (candidate->fd >= 0 && (!oldest || candidate->since < oldest->since))
			oldest = candidate;
	}
	if (!oldest)
		return;
	if (is_idle(server)) {
		int fd = oldest->fd;

		oldest->fd = -1;
		epoll_ctl(server->epoll, EPOLL_CTL_DEL, fd, NULL);
		begin(server, fd);
	}
	if (!is_busy(server))
		return;
	for (i = 0; i < UVF_ARRAY_SIZE(server->candidates); i++)
		if (server->candidates[i].fd >= 0)
			consider(server, &server->candidates[i]);
}

static int accept_all(struct uvf_server *server)
{
	/* Some at a time: who connects without end is not all that there is to do. */
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		int fd = uvf_accept(server->listener, SOCK_CLOEXEC, &server->spare);
		struct uvf_candidate *candidate;

		if (fd == -EAGAIN)
			return 0;
		if (fd == -EMFILE) {
			uvf_server_log(server, UVF_LOG_ERROR,
				       "a client was dropped: out of file descriptors");
			continue;
		}
		if (fd < 0)
			return fd;
		candidate = free_candidate(server);
		*candidate = (struct uvf_candidate){fd, uvf_now_ns()};
		/* Edges: a piece of a header is seen once, not for as long as it lies there. */
		if (watch(server, fd, EPOLLIN | EPOLLET))
			candidate_end(candidate);
		consider_all(server);
	}
	return 0;
}

/* ---- Time limits ---- */

static void expire(struct uvf_server *server, uint64_t now)
{
	uint64_t limit = (uint64_t)server->config.client_timeout_ms * 1000000;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(server->candidates); i++)
		if (server->candidates[i].fd >= 0 && now >= server->candidates[i].since + limit)
			candidate_end(&server->candidates[i]);
}

/* #syscalls: timerfd_settime */
static void set_timer(struct uvf_server *server, uint64_t at)
{
	struct itimerspec spec = {
		.it_value = {(time_t)(at / 1000000000), (long)(at % 1000000000)},
	};

	if (at == server->timer_at)
		return;
	server->timer_at = at;
	timerfd_settime(server->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

static uint64_t next_deadline(struct uvf_server *server, uint64_t deadline)
{
	uint64_t limit = (uint64_t)server->config.client_timeout_ms * 1000000;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(server->candidates); i++) {
		const struct uvf_candidate *candidate = &server->candidates[i];

		if (candidate->fd >= 0 && (!deadline || candidate->since + limit < deadline))
			deadline = candidate->since + limit;
	}
	return deadline;
}

/* ---- Embedded ---- */

static void end(struct uvf_server *server)
{
	struct uvf_connection *connection = server->connection;

	epoll_ctl(server->epoll, EPOLL_CTL_DEL, uvf_channel_fd(connection->channel), NULL);
	pthread_mutex_lock(&server->lock);
	server->connection = NULL;
	pthread_mutex_unlock(&server->lock);
	uvf_connection_free(connection);
	consider_all(server);
}

/* Waits for room to write while replies are queued, else for requests. */
static void watch_connection(struct uvf_server *server, bool output)
{
	int fd = uvf_channel_fd(server->connection->channel);
	struct epoll_event event = {.events = output ? EPOLLOUT : EPOLLIN, .data.fd = fd};

	epoll_ctl(server->epoll, EPOLL_CTL_MOD, fd, &event);
}

/* Serves what the client has sent. Returns how many requests. */
static int serve(struct uvf_server *server)
{
	struct uvf_connection *connection = server->connection;
	uint64_t deadline;
	int ret, pending;

	if (!connection)
		return 0;
	ret = uvf_connection_serve(connection, false);
	pending = ret < 0 ? 0 : uvf_channel_flush(connection->channel);
	if (ret < 0 || pending < 0) {
		end(server);
		return 0;
	}
	if (pending != (int)connection->output_waits) {
		connection->output_waits = pending;
		connection->output_since = uvf_now_ns();
		watch_connection(server, pending);
	}
	/* Those that are left are no event of the socket. */
	if (ret == UVF_REQUESTS_AT_ONCE)
		uvf_server_kick(server);
	deadline = uvf_connection_deadline(connection);
	if (deadline && uvf_now_ns() >= deadline) {
		uvf_server_log(server, UVF_LOG_WARNING, "the client owes something for too long");
		end(server);
		deadline = 0;
	}
	set_timer(server, next_deadline(server, deadline));
	return ret;
}

/* #syscalls: epoll_wait */
static int events(struct uvf_server *server, int timeout_ms)
{
	struct epoll_event ready[8];
	int count = epoll_wait(server->epoll, ready, UVF_ARRAY_SIZE(ready), timeout_ms);
	int ret = 0;

	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count && !ret; i++) {
		if (ready[i].data.fd == server->timer) {
			drain(server->timer);
			server->timer_at = 0;
			expire(server, uvf_now_ns());
		} else if (ready[i].data.fd == server->kick) {
			drain(server->kick);
		} else if (ready[i].data.fd == server->listener) {
			ret = accept_all(server);
		}
	}
	if (count > 0)
		consider_all(server);
	return ret;
}

int uvf_server_process(struct uvf_server *server)
{
	int handled = serve(server);
	int ret = 0;

	if (!handled || ++server->turns % TURNS == 0) {
		ret = events(server, 0);
		if (!handled)
			handled = serve(server);
	}
	return ret < 0 ? ret : handled;
}

/* ---- On threads ---- */

/* #syscalls: poll */
static void *acceptor_main(void *opaque)
{
	struct uvf_server *server = opaque;
	bool stopping = false;

	while (!stopping) {
		int ret = events(server, -1);

		if (ret < 0) {
			uvf_server_log(server, UVF_LOG_ERROR, "accepts no more clients: %s",
				       strerror(-ret));
			break;
		}
		set_timer(server, next_deadline(server, 0));
		pthread_mutex_lock(&server->lock);
		stopping = server->stopping;
		pthread_mutex_unlock(&server->lock);
	}
	return NULL;
}

static void serve_until_gone(struct uvf_connection *connection)
{
	int ret;

	do {
		uint64_t deadline;

		ret = uvf_connection_serve(connection, true);
		deadline = uvf_connection_deadline(connection);
		if (ret >= 0 && deadline && uvf_now_ns() >= deadline)
			ret = -ETIMEDOUT;
		if (ret >= 0)
			uvf_suspension_point(connection);
	} while (ret >= 0);
}

static void *worker_main(void *opaque)
{
	struct uvf_server *server = opaque;
	struct uvf_connection *connection;

	pthread_mutex_lock(&server->lock);
	while (!server->stopping) {
		connection = server->connection;
		if (!connection) {
			pthread_cond_wait(&server->changed, &server->lock);
			continue;
		}
		pthread_mutex_unlock(&server->lock);
		serve_until_gone(connection);
		/* Until the device is closed nobody else is let in: see is_idle(). */
		uvf_connection_close(connection);
		pthread_mutex_lock(&server->lock);
		server->connection = NULL;
		uvf_suspension_end(server);
		pthread_mutex_unlock(&server->lock);
		uvf_connection_free(connection);
		uvf_server_kick(server);
		pthread_mutex_lock(&server->lock);
	}
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

int uvf_server_start(struct uvf_server *server)
{
	if (server->threaded)
		return -EALREADY;
	if (server->connection)
		return -EBUSY;
	server->threaded = true;
	server->stopping = false;
	if (pthread_create(&server->worker, NULL, worker_main, server)) {
		server->threaded = false;
		return -EAGAIN;
	}
	if (pthread_create(&server->acceptor, NULL, acceptor_main, server)) {
		pthread_mutex_lock(&server->lock);
		server->stopping = true;
		pthread_cond_broadcast(&server->changed);
		pthread_mutex_unlock(&server->lock);
		pthread_join(server->worker, NULL);
		server->threaded = false;
		return -EAGAIN;
	}
	return 0;
}

void uvf_server_stop(struct uvf_server *server)
{
	if (!server->threaded)
		return;
	pthread_mutex_lock(&server->lock);
	server->stopping = true;
	if (server->connection) {
		uvf_channel_fail(server->connection->channel, -ENOTCONN);
		if (server->connection->twin)
			uvf_channel_fail(server->connection->twin, -ENOTCONN);
	}
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
	uvf_server_kick(server);
	pthread_join(server->acceptor, NULL);
	pthread_join(server->worker, NULL);
	/* One that came in between. */
	if (server->connection) {
		uvf_connection_free(server->connection);
		server->connection = NULL;
	}
	server->threaded = false;
}
