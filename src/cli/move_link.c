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

/* For what is said last, to somebody who doesn't read. */
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
		move_close_fds(packet);
		if (got <= 0)
			break;
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

void move_close_fds(struct move_packet *packet)
{
	uvf_fdpass_close(packet->fds, packet->fd_count);
	packet->fd_count = 0;
}

int move_receive(struct move *move, struct move_packet *packet, int timeout_ms,
		 struct uvf_error *error)
{
	ssize_t got;
	int ready;

	move_close_fds(packet);
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
	    (size_t)got != sizeof(packet->header) + packet->header.size ||
	    (packet->fd_count && packet->header.kind != MOVE_FDS_PACKET)) {
		move_close_fds(packet);
		return uvf_fail(error, -EPROTO, "the %s sends what makes no sense",
				move->out ? "destination" : "source");
	}
	if (packet->header.kind != MOVE_ERROR)
		return 0;
	return uvf_fail(error, -EREMOTEIO, "the %s: %.*s", move->out ? "destination" : "source",
			(int)packet->header.size, (char *)packet->content);
}

/* What is told goes as far as there is room: 0, -EAGAIN, or why nobody gets any of it any more. */
static int tell_rest(struct move *move)
{
	size_t at = 0;
	int ret = 0;

	while (at < move->untold_size && !ret) {
		ssize_t sent = send(move->control, move->untold + at, move->untold_size - at,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent >= 0)
			at += (size_t)sent;
		else
			ret = -errno;
	}
	move->untold_size = ret && ret != -EAGAIN ? 0 : move->untold_size - at;
	if (move->untold_size)
		memmove(move->untold, move->untold + at, move->untold_size);
	return ret;
}

/* #syscalls: sendto */
void move_tell(struct move *move, struct json_object *object, bool must)
{
	const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE);
	size_t length = strlen(text);
	char *grown;

	tell_rest(move);
	if (!must && move->untold_size) {
		json_object_put(object);
		return;
	}
	grown = realloc(move->untold, move->untold_size + length + 1);
	if (grown) {
		memcpy(grown + move->untold_size, text, length);
		grown[move->untold_size + length] = '\n';
		move->untold = grown;
		move->untold_size += length + 1;
		tell_rest(move);
	}
	json_object_put(object);
}

/* #syscalls: poll */
void move_tell_last(struct move *move, struct json_object *object)
{
	struct pollfd room = {move->control, POLLOUT, 0};
	int ret;

	move_tell(move, object, true);
	do
		ret = tell_rest(move);
	while (ret == -EAGAIN && poll(&room, 1, TELL_MS) > 0);
	free(move->untold);
	move->untold = NULL;
	move->untold_size = 0;
}

/* #syscalls: shutdown */
void move_hang_up(struct move *move)
{
	shutdown(move->control, SHUT_RDWR);
	shutdown(move->link, SHUT_RDWR);
}

void move_fail(struct move *move, const struct uvf_error *error)
{
	struct json_object *answer = json_object_new_object();
	struct uvf_error ignored;

	if (move->link >= 0)
		move_send(move, MOVE_ERROR, error->text, strlen(error->text), NULL, 0, &ignored);
	json_object_object_add(answer, "error", json_object_new_string(error->text));
	move_tell_last(move, answer);
}
