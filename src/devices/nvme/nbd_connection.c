/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection to an NBD server. Up until it is lost; then it is tried again, at once and after
 * growing pauses:
 *   paused       until retry_at, or from the start: the dialler is asked
 *   dialling     its answer is a socket, or why there is none: paused again
 *   negotiating  libnbd and the server; then up, if the export is what it was, or paused again
 * A connection that ends before it has answered anything counts as an attempt that failed.
 * Once that has taken as long as is waited for, the connection is down as well: commands fail from
 * then on, while the attempts go on, until it is up again.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/nvme/nbd.h"

#define OPEN_LIMIT_MS	 10000
#define ATTEMPT_LIMIT_MS 10000
#define PAUSE_FIRST_MS	 50u
#define PAUSE_MOST_MS	 2000u
/* Replies taken in a row, so that driving ends. */
#define DRIVE_ROUNDS 64

static void set_state(struct nbd_connection *connection, enum nbd_state state)
{
	connection->state = state;
	atomic_store(&connection->up, state == NBD_UP);
}

static bool has_ended(struct nbd_handle *handle)
{
	return nbd_aio_is_dead(handle) || nbd_aio_is_closed(handle);
}

static void wake_all(struct nbd_connection *connection)
{
	for (struct nbd_channel *at = connection->channels; at; at = at->sibling)
		nvme_nbd_channel_wake(at);
}

/* What is known of the server is wrong once it is gone. #syscalls: close */
static void drop(struct nbd_connection *connection)
{
	bool closed = connection->handle && has_ended(connection->handle);

	/* libnbd has closed the socket by itself then; its number may be somebody else's. */
	for (struct nbd_channel *at = connection->channels; at; at = at->sibling)
		nvme_nbd_channel_unwatch(at, closed);
	if (connection->handle)
		nbd_close(connection->handle);
	connection->handle = NULL;
	if (connection->reply >= 0)
		close(connection->reply);
	connection->reply = -1;
	connection->broken = false;
	/* None of the memory that libnbd had is used by it any more. */
	connection->noted = NULL;
	for (struct nbd_channel *at = connection->channels; at; at = at->sibling)
		nvme_nbd_requests_lost(at);
}

/* An attempt has failed: in the log if it failed otherwise than the one before. */
static void say_failed(struct nbd_connection *connection, const char *why)
{
	const struct nbd_backend *backend = connection->backend;

	if (!strncmp(connection->said, why, sizeof(connection->said) - 1))
		return;
	snprintf(connection->said, sizeof(connection->said), "%s", why);
	uvf_logf(&backend->log, UVF_LOG_WARNING, backend->who, "%s: %s", backend->uri, why);
}

static void pause_before_the_next(struct nbd_connection *connection, uint64_t now)
{
	uint32_t pause = PAUSE_MOST_MS;

	if (connection->attempts < 6)
		pause = PAUSE_FIRST_MS << connection->attempts++;
	connection->retry_at = now + (pause < PAUSE_MOST_MS ? pause : PAUSE_MOST_MS);
}

/*
 * Whether the server was of any use since it is up. One that ends the connection at the first
 * command, which it will get again, is as good as none that answers.
 */
static bool has_served(const struct nbd_connection *connection, uint64_t now)
{
	uint64_t idle_until = connection->asked_at ? connection->asked_at : now;

	return connection->answered || idle_until - connection->up_at >= PAUSE_MOST_MS;
}

void nvme_nbd_lose(struct nbd_connection *connection, const char *why)
{
	const struct nbd_backend *backend = connection->backend;
	uint64_t now = nbd_now_ms();

	if (connection->state == NBD_UP && has_served(connection, now)) {
		uvf_logf(&backend->log, UVF_LOG_WARNING, backend->who,
			 "%s: the connection is lost: %s", backend->uri, why);
		connection->lost_at = connection->retry_at = now;
		connection->attempts = 0;
		connection->said[0] = '\0';
	} else {
		say_failed(connection, why);
		pause_before_the_next(connection, now);
	}
	drop(connection);
	set_state(connection, NBD_PAUSED);
	wake_all(connection);
}

/* ---- Coming back ---- */

static void start_negotiating(struct nbd_connection *connection, int sock)
{
	const struct nbd_backend *backend = connection->backend;
	int ret = -1;

	connection->handle = nvme_nbd_new_handle(backend);
	if (connection->handle && sock >= 0)
		ret = nbd_aio_connect_socket(connection->handle, sock);
	else if (connection->handle)
		ret = nbd_aio_connect_uri(connection->handle, backend->uri);
	else if (sock >= 0)
		close(sock);
	set_state(connection, NBD_NEGOTIATING);
	if (ret < 0)
		nvme_nbd_lose(connection, connection->handle ? nbd_get_error() : "no memory");
	else
		wake_all(connection);
}

static void start_attempt(struct nbd_connection *connection)
{
	struct nbd_backend *backend = connection->backend;
	int ret;

	connection->attempt_until = nbd_now_ms() + ATTEMPT_LIMIT_MS;
	if (backend->tls) {
		start_negotiating(connection, -1);
		return;
	}
	ret = nvme_nbd_dial(backend->dialler, &connection->reply);
	if (ret < 0) {
		nvme_nbd_lose(connection, strerror(-ret));
		return;
	}
	set_state(connection, NBD_DIALLING);
	wake_all(connection);
}

static void drive_dialling(struct nbd_connection *connection)
{
	int sock = nvme_nbd_dial_end(connection->reply);

	if (sock == -EAGAIN)
		return;
	if (sock < 0) {
		nvme_nbd_lose(connection, strerror(-sock));
		return;
	}
	for (struct nbd_channel *at = connection->channels; at; at = at->sibling)
		nvme_nbd_channel_unwatch(at, false);
	close(connection->reply);
	connection->reply = -1;
	start_negotiating(connection, sock);
}

/*
 * Why the export can't stand for the one that was opened, or NULL. What the driver was told of it
 * must still hold; all else is looked up when it is used.
 */
static const char *refuse(const struct nbd_backend *backend, const struct nbd_export *now)
{
	const struct nbd_export *was = &backend->export;

	if (now->size != was->size)
		return "the export has another size now: it is refused";
	if (now->read_only && !backend->base.read_only)
		return "the export is read-only now: it is refused";
	if (now->minimum > backend->base.block_size)
		return "the export has larger blocks now: it is refused";
	if (!now->maximum || !uvf_is_power_of_two(now->minimum))
		return "the export takes no whole blocks now: it is refused";
	if (was->flush && !now->flush)
		return "the export has no flush now: it is refused";
	if (atomic_load(&backend->several) && !now->multi_conn)
		return "the export has no multi-conn now: it is refused";
	return NULL;
}

static void come_up(struct nbd_connection *connection)
{
	const struct nbd_backend *backend = connection->backend;
	struct nbd_export export;
	const char *why;

	nvme_nbd_read_export(connection->handle, &export);
	why = refuse(backend, &export);
	if (why) {
		nvme_nbd_lose(connection, why);
		return;
	}
	connection->export = export;
	connection->up_at = nbd_now_ms();
	connection->asked_at = 0;
	connection->answered = false;
	set_state(connection, NBD_UP);
	atomic_store(&connection->down, false);
	uvf_logf(&backend->log, UVF_LOG_WARNING, backend->who, "%s: connected again after %llu ms",
		 backend->uri, (unsigned long long)(connection->up_at - connection->lost_at));
	for (struct nbd_channel *at = connection->channels; at; at = at->sibling)
		nvme_nbd_requests_again(at);
	wake_all(connection);
}

/* ---- Driving ---- */

/* Never told to read what isn't there: libnbd would wait for it. #syscalls: poll */
static bool notify_once(struct nbd_handle *handle)
{
	unsigned direction = nbd_aio_get_direction(handle);
	struct pollfd fd = {.fd = nbd_aio_get_fd(handle)};

	if (direction & LIBNBD_AIO_DIRECTION_READ)
		fd.events |= POLLIN;
	if (direction & LIBNBD_AIO_DIRECTION_WRITE)
		fd.events |= POLLOUT;
	if (poll(&fd, 1, 0) <= 0)
		return false;
	if (direction & LIBNBD_AIO_DIRECTION_READ && fd.revents & (POLLIN | POLLHUP | POLLERR))
		return nbd_aio_notify_read(handle) == 0;
	if (direction & LIBNBD_AIO_DIRECTION_WRITE && fd.revents & (POLLOUT | POLLHUP | POLLERR))
		return nbd_aio_notify_write(handle) == 0;
	return false;
}

/*
 * What libnbd calls inside: its commands, which are sent as they are submitted, too.
 * #syscalls: sendto recvfrom sendmsg recvmsg fcntl shutdown close
 */
static void drive_handle(struct nbd_connection *connection)
{
	bool up = connection->state == NBD_UP;
	const char *why = "the server has ended it";
	bool more = true;

	for (int round = 0; more && round < DRIVE_ROUNDS && !connection->broken; round++) {
		more = notify_once(connection->handle);
		if (has_ended(connection->handle)) {
			if (nbd_aio_is_dead(connection->handle) && nbd_get_error())
				why = nbd_get_error();
			connection->broken = true;
		} else if (!up && nbd_aio_is_ready(connection->handle)) {
			come_up(connection);
			return;
		}
	}
	if (up)
		nvme_nbd_requests_noted(connection);
	if (connection->broken)
		nvme_nbd_lose(connection, why);
}

static void go_down(struct nbd_connection *connection)
{
	const struct nbd_backend *backend = connection->backend;

	atomic_store(&connection->down, true);
	uvf_logf(&backend->log, UVF_LOG_ERROR, backend->who,
		 "%s: not reached for %u ms: commands fail until it is", backend->uri,
		 backend->limit_ms);
	for (struct nbd_channel *at = connection->channels; at; at = at->sibling)
		nvme_nbd_requests_fail(at, -ENOTCONN);
	wake_all(connection);
}

void nvme_nbd_drive(struct nbd_connection *connection)
{
	uint64_t now;

	if (connection->state == NBD_UP)
		drive_handle(connection);
	if (connection->state == NBD_UP)
		return;
	now = nbd_now_ms();
	if (connection->state == NBD_PAUSED && now >= connection->retry_at)
		start_attempt(connection);
	if (connection->state == NBD_DIALLING)
		drive_dialling(connection);
	if (connection->state == NBD_NEGOTIATING)
		drive_handle(connection);
	if ((connection->state == NBD_DIALLING || connection->state == NBD_NEGOTIATING) &&
	    now >= connection->attempt_until)
		nvme_nbd_lose(connection, "it doesn't answer");
	if (connection->state != NBD_UP && !atomic_load(&connection->down) &&
	    now - connection->lost_at >= connection->backend->limit_ms)
		go_down(connection);
}

int nvme_nbd_watch(const struct nbd_connection *connection, uint32_t *events)
{
	unsigned direction;

	*events = EPOLLIN;
	if (connection->state == NBD_DIALLING)
		return connection->reply;
	if (connection->state == NBD_PAUSED)
		return -1;
	direction = nbd_aio_get_direction(connection->handle);
	*events = (direction & LIBNBD_AIO_DIRECTION_READ ? (uint32_t)EPOLLIN : 0) |
		  (direction & LIBNBD_AIO_DIRECTION_WRITE ? (uint32_t)EPOLLOUT : 0);
	return nbd_aio_get_fd(connection->handle);
}

uint64_t nvme_nbd_wake_at(const struct nbd_connection *connection)
{
	uint64_t end = connection->lost_at + connection->backend->limit_ms;
	uint64_t next =
		connection->state == NBD_PAUSED ? connection->retry_at : connection->attempt_until;

	if (connection->state == NBD_UP)
		return UINT64_MAX;
	return !atomic_load(&connection->down) && end < next ? end : next;
}

/* ---- The first time ---- */

static int connect_first(struct nbd_connection *connection, struct uvf_error *error)
{
	struct nbd_backend *backend = connection->backend;
	uint64_t until = nbd_now_ms() + OPEN_LIMIT_MS;
	int ret;

	connection->handle = nvme_nbd_new_handle(backend);
	if (!connection->handle)
		return uvf_fail(error, -ENOMEM, "no memory");
	ret = nbd_aio_connect_uri(connection->handle, backend->uri);
	while (ret >= 0 && !nbd_aio_is_ready(connection->handle) &&
	       !has_ended(connection->handle)) {
		uint64_t now = nbd_now_ms();

		if (now >= until)
			return uvf_fail(error, -ETIMEDOUT, "%s: it doesn't answer", backend->uri);
		ret = nbd_poll(connection->handle, (int)(until - now));
	}
	if (ret < 0 || has_ended(connection->handle)) {
		ret = nbd_get_errno();
		return uvf_fail(error, ret ? -ret : -ECONNREFUSED, "%s: %s", backend->uri,
				nbd_get_error() ? nbd_get_error() : "the server has ended it");
	}
	nvme_nbd_keep_alive(nbd_aio_get_fd(connection->handle));
	nvme_nbd_read_export(connection->handle, &connection->export);
	return 0;
}

int nvme_nbd_connect(struct nbd_backend *backend, struct nbd_connection **connectionp,
		     struct uvf_error *error)
{
	struct nbd_connection *connection = calloc(1, sizeof(*connection));
	int ret;

	if (!connection)
		return uvf_fail(error, -ENOMEM, "no memory");
	connection->backend = backend;
	connection->reply = -1;
	connection->answered = true;
	pthread_mutex_init(&connection->lock, NULL);
	set_state(connection, NBD_UP);
	ret = connect_first(connection, error);
	if (ret < 0) {
		nvme_nbd_disconnect(connection);
		return ret;
	}
	*connectionp = connection;
	return 0;
}

/* The server is told, if it listens; its answer isn't waited for. */
void nvme_nbd_disconnect(struct nbd_connection *connection)
{
	if (connection->handle && nbd_aio_is_ready(connection->handle))
		nbd_aio_disconnect(connection->handle, 0);
	drop(connection);
	pthread_mutex_destroy(&connection->lock);
	free(connection);
}
