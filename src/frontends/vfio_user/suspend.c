/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session that stands still, goes on, or has gone to another server.
 *
 * A thread that blocks in recvmsg(2) can't be told to stop without a signal, which is not a
 * library's to send. So a session is first made movable: its thread then waits by poll(2), for one
 * system call more a request, and can be stopped at once. Until then it comes back by itself, at
 * the next request or after a while.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/handover.h>

#include "core/core.h"
#include "frontends/vfio_user/offer.h"
#include "frontends/vfio_user/server.h"

/* For a session to become movable, beyond the time in which an idle one comes back. */
#define PREPARE_MS 5000

void uvf_suspension_point(struct uvf_connection *connection)
{
	struct uvf_server *server = connection->server;

	pthread_mutex_lock(&server->lock);
	/* Again after each wait: what comes next may be wanted by then. */
	for (;;) {
		if (server->suspension == UVF_TO_BE_MOVABLE)
			server->suspension = UVF_MOVABLE;
		else if (server->suspension == UVF_TO_BE_SUSPENDED)
			server->suspension = UVF_SUSPENDED;
		pthread_cond_broadcast(&server->changed);
		if (server->suspension != UVF_SUSPENDED || server->stopping)
			break;
		pthread_cond_wait(&server->changed, &server->lock);
	}
	connection->movable = server->suspension != UVF_NOT_SUSPENDED;
	uvf_channel_interrupt(connection->channel, false);
	pthread_mutex_unlock(&server->lock);
}

void uvf_suspension_end(struct uvf_server *server)
{
	server->suspension = UVF_NOT_SUSPENDED;
	server->sessions_ended++;
	pthread_cond_broadcast(&server->changed);
}

/*
 * Until the suspension isn't @pending any more. With the lock held. False: not in time. The
 * condition is on the clock of the day, which can be set: it only bounds this.
 */
static bool wait_while(struct uvf_server *server, enum uvf_suspension pending, unsigned timeout_ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while (server->suspension == pending)
		if (pthread_cond_timedwait(&server->changed, &server->lock, &until) == ETIMEDOUT)
			return server->suspension != pending;
	return true;
}

static int prepare_locked(struct uvf_server *server, struct uvf_error *error)
{
	if (!server->threaded || !server->config.move_wait_ms)
		return uvf_fail(error, -EOPNOTSUPP, "this server's clients can't be moved");
	if (!server->connection || !server->connection->negotiated ||
	    uvf_channel_error(server->connection->channel))
		return uvf_fail(error, -ENOTCONN, "no driver is connected");
	if (server->suspension != UVF_NOT_SUSPENDED)
		return uvf_fail(error, -EBUSY, "it is being moved already");
	server->suspension = UVF_TO_BE_MOVABLE;
	uvf_channel_interrupt(server->connection->channel, true);
	if (!wait_while(server, UVF_TO_BE_MOVABLE, server->config.move_wait_ms + PREPARE_MS)) {
		uvf_channel_interrupt(server->connection->channel, false);
		server->suspension = UVF_NOT_SUSPENDED;
		return uvf_fail(error, -EBUSY, "it does not end a request");
	}
	if (server->suspension != UVF_MOVABLE)
		return uvf_fail(error, -ENOTCONN, "the driver has gone");
	return 0;
}

int uvf_server_prepare(struct uvf_server *server, struct uvf_error *error)
{
	int ret = uvf_device_can_hand_over(server->dev, error);

	if (ret)
		return ret;
	pthread_mutex_lock(&server->lock);
	ret = prepare_locked(server, error);
	pthread_mutex_unlock(&server->lock);
	return ret;
}

static int suspend_locked(struct uvf_server *server, unsigned timeout_ms, struct uvf_error *error)
{
	if (server->suspension == UVF_NOT_SUSPENDED)
		return uvf_fail(error, -ENOTCONN, "the driver has gone");
	if (server->suspension != UVF_MOVABLE)
		return uvf_fail(error, -EINVAL, "it is suspended already");
	server->suspension = UVF_TO_BE_SUSPENDED;
	uvf_channel_interrupt(server->connection->channel, true);
	if (!wait_while(server, UVF_TO_BE_SUSPENDED, timeout_ms)) {
		uvf_channel_interrupt(server->connection->channel, false);
		server->suspension = UVF_MOVABLE;
		return uvf_fail(error, -ETIMEDOUT,
				"a request of the driver takes longer than %u ms", timeout_ms);
	}
	if (server->suspension != UVF_SUSPENDED)
		return uvf_fail(error, -ENOTCONN, "the driver has gone");
	return 0;
}

int uvf_server_suspend(struct uvf_server *server, unsigned timeout_ms, struct uvf_error *error)
{
	int ret;

	pthread_mutex_lock(&server->lock);
	ret = suspend_locked(server, timeout_ms, error);
	pthread_mutex_unlock(&server->lock);
	return ret;
}

void uvf_server_go_on(struct uvf_server *server)
{
	pthread_mutex_lock(&server->lock);
	if (server->suspension != UVF_NOT_SUSPENDED) {
		server->suspension = UVF_NOT_SUSPENDED;
		/* Its thread needn't poll any more. */
		uvf_channel_interrupt(server->connection->channel, true);
		pthread_cond_broadcast(&server->changed);
	}
	pthread_mutex_unlock(&server->lock);
}

/* ---- The end of an offer ---- */

/*
 * Who reads the token has the session: this can't be done twice.
 * #syscalls: read
 */
int uvf_server_withdraw(struct uvf_server *server)
{
	struct uvf_offer *offer = server->offer;
	uint64_t one;

	if (!offer)
		return 0;
	if (read(offer->token, &one, sizeof(one)) != sizeof(one))
		return -EALREADY;
	uvf_offer_undo(server->dev, offer);
	uvf_offer_free(offer);
	server->offer = NULL;
	return 0;
}

/* The device's memory is the other device's: what is done here from now on isn't for the driver. */
static void leave_memory(struct uvf_server *server, int fd)
{
	int ret;

	if (fd < 0)
		return;
	uvf_device_copy_memory(server->dev, fd);
	ret = uvf_device_adopt_memory(server->dev, fd, NULL);
	if (ret)
		uvf_server_log(server, UVF_LOG_ERROR, "its memory can't be left: %s",
			       strerror(-ret));
}

void uvf_server_let_go(struct uvf_server *server)
{
	struct uvf_offer *offer = server->offer;
	struct uvf_connection *connection = server->connection;
	uint64_t ended = server->sessions_ended;

	if (!offer || !connection)
		return;
	leave_memory(server, offer->new_memory);
	uvf_server_log(server, UVF_LOG_INFO, "the client is another server's now");
	/* Its descriptors' numbers may be needed. */
	uvf_offer_free(offer);
	server->offer = NULL;
	uvf_channel_disown(connection->channel);
	if (connection->twin)
		uvf_channel_disown(connection->twin);
	pthread_mutex_lock(&server->lock);
	server->suspension = UVF_NOT_SUSPENDED;
	pthread_cond_broadcast(&server->changed);
	while (server->sessions_ended == ended && !server->stopping)
		pthread_cond_wait(&server->changed, &server->lock);
	pthread_mutex_unlock(&server->lock);
}
