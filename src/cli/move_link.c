/* SPDX-License-Identifier: BSD-3-Clause */
/* The link between two movers, and what is said on the control connection. */
#include "cli/move_link.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fdpass.h"

/* For the last line, to somebody who doesn't read. */
#define TELL_MS 5000

/* #syscalls: poll */
int move_wait(struct move *move, short events, int timeout_ms)
{
	uint64_t until = uvf_now_ns() + (uint64_t)timeout_ms * 1000000;

	for (;;) {
		struct pollfd fds[] = {
			{move->stop, POLLIN, 0},
			{move->control, POLLIN, 0},
			{events ? move->link : -1, events, 0},
		};
		uint64_t now = uvf_now_ns();
		/* Rounded up, so as not to come too early. */
		int left = now < until ? (int)((until - now + 999999) / 1000000) : 0;
		int ready = poll(fds, 3, left);

		if (ready < 0 && errno == EINTR)
			continue;
		/* Nothing more is expected on the control connection: it is the end of it. */
		if (fds[0].revents || fds[1].revents)
			return -ECANCELED;
		return ready > 0 ? fds[2].revents : 0;
	}
}

static int cancelled(const struct move *move, struct uvf_error *error)
{
	struct pollfd stop = {move->stop, POLLIN, 0};

	if (poll(&stop, 1, 0) > 0)
		return uvf_fail(error, -ECANCELED, "the server ends");
	return uvf_fail(error, -ECANCELED, "it was cancelled");
}

/* What the other end has said last, if it has. */
static int hung_up(struct move *move, struct uvf_error *error)
{
	struct move_packet *packet = malloc(sizeof(*packet));
	int ret = -EPIPE;

	uvf_fail(error, ret, "the %s hung up", move->out ? "destination" : "source");
	for (int i = 0; packet && i < 64; i++) {
		ssize_t got =
			uvf_fdpass_receive(move->link, packet, offsetof(struct move_packet, fds),
					   packet->fds, MOVE_FDS, &packet->fd_count, MSG_DONTWAIT);

		/* That it went without reading all comes before what it has said. */
		if (got == -ECONNRESET)
			continue;
		if (got <= 0)
			break;
		uvf_fdpass_close(packet->fds, packet->fd_count);
		if ((size_t)got < sizeof(packet->header) || packet->header.kind != MOVE_ERROR)
			continue;
		uvf_fail(error, ret, "the %s: %.*s", move->out ? "destination" : "source",
			 (int)((size_t)got - sizeof(packet->header)), (char *)packet->content);
		break;
	}
	free(packet);
	return ret;
}

int move_send(struct move *move, enum move_kind kind, const void *content, size_t size,
	      const int *fds, size_t fd_count, struct uvf_error *error)
{
	struct move_header header = {.kind = kind, .size = (uint32_t)size};
	struct iovec iov[] = {{&header, sizeof(header)}, {(void *)content, size}};

	for (;;) {
		ssize_t sent = uvf_fdpass_send(move->link, iov, 2, fds, fd_count, MSG_DONTWAIT);
		int ready;

		if (sent >= 0)
			return 0;
		if (sent == -EPIPE || sent == -ECONNRESET)
			return hung_up(move, error);
		if (sent != -EAGAIN)
			return uvf_fail(error, (int)sent, "%s", strerror((int)-sent));
		ready = move_wait(move, POLLOUT, 10000);
		if (ready == -ECANCELED)
			return cancelled(move, error);
		if (!ready)
			return uvf_fail(error, -ETIMEDOUT, "the %s takes nothing any more",
					move->out ? "destination" : "source");
	}
}

int move_receive(struct move *move, struct move_packet *packet, int timeout_ms,
		 struct uvf_error *error)
{
	ssize_t got;
	int ready;

	packet->fd_count = 0;
	do {
		ready = move_wait(move, POLLIN, timeout_ms);
		if (ready == -ECANCELED)
			return cancelled(move, error);
		if (!ready)
			return uvf_fail(error, -ETIMEDOUT, "the %s does not answer",
					move->out ? "destination" : "source");
		got = uvf_fdpass_receive(move->link, packet, offsetof(struct move_packet, fds),
					 packet->fds, MOVE_FDS, &packet->fd_count, MSG_DONTWAIT);
	} while (got == -EAGAIN || got == -EINTR);
	if (!got || got == -ECONNRESET)
		return hung_up(move, error);
	if (got < (ssize_t)sizeof(packet->header) ||
	    (size_t)got != sizeof(packet->header) + packet->header.size) {
		uvf_fdpass_close(packet->fds, packet->fd_count);
		packet->fd_count = 0;
		return uvf_fail(error, -EPROTO, "the %s sends what makes no sense",
				move->out ? "destination" : "source");
	}
	if (packet->header.kind != MOVE_ERROR)
		return 0;
	return uvf_fail(error, -EREMOTEIO, "the %s: %.*s", move->out ? "destination" : "source",
			(int)packet->header.size, (char *)packet->content);
}

/* #syscalls: sendto poll */
void move_tell(struct move *move, struct json_object *object, bool must)
{
	char *line = NULL;
	int length =
		asprintf(&line, "%s\n",
			 json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE));
	size_t at = 0;

	json_object_put(object);
	while (length > 0 && at < (size_t)length) {
		struct pollfd room = {move->control, POLLOUT, 0};
		ssize_t sent = send(move->control, line + at, (size_t)length - at,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0)
			at += (size_t)sent;
		/* Once begun, a line is ended. */
		else if (errno != EAGAIN || (!must && !at) || poll(&room, 1, TELL_MS) <= 0)
			break;
	}
	free(line);
}

void move_fail(struct move *move, const struct uvf_error *error)
{
	struct json_object *answer = json_object_new_object();
	struct uvf_error ignored;

	if (move->link >= 0)
		move_send(move, MOVE_ERROR, error->text, strlen(error->text), NULL, 0, &ignored);
	json_object_object_add(answer, "error", json_object_new_string(error->text));
	move_tell(move, answer, true);
}
