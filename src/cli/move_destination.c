/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of a move that takes a device in. Until the session is taken over, whatever goes wrong
 * leaves the device as it was: reset and free.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/device.h>

#include "base/clock.h"
#include "base/fdpass.h"
#include "cli/move_link.h"

/* A source that says nothing for so long has gone: between two rounds it is silent. */
#define SOURCE_MS 60000

struct arrival {
	struct move *move;
	struct move_packet packet;
	uint64_t state_bytes;
	uint8_t *session;
	size_t session_size;
	int *fds;
	size_t fd_count;
};

static int welcome(struct arrival *arrival, struct uvf_error *error)
{
	struct move *move = arrival->move;
	const char *name = uvf_device_name(move->dev);
	struct move_hello hello;
	int ret = move_receive(move, &arrival->packet, SOURCE_MS, error);

	if (ret)
		return ret;
	if (arrival->packet.header.kind != MOVE_HELLO ||
	    arrival->packet.header.size < sizeof(hello))
		return uvf_fail(error, -EPROTO, "the source sends what makes no sense");
	memcpy(&hello, arrival->packet.content, sizeof(hello));
	if (hello.version != MOVE_VERSION)
		return uvf_fail(error, -EPROTONOSUPPORT, "it speaks version %u, not %u",
				hello.version, MOVE_VERSION);
	hello.model[sizeof(hello.model) - 1] = '\0';
	if (strcmp(hello.model, name) != 0)
		return uvf_fail(error, -EINVAL, "the device is a %s here, not a %s", name,
				hello.model);
	ret = uvf_migration_set_state(move->dev, VFIO_DEVICE_STATE_RESUMING);
	if (ret)
		return uvf_fail(error, ret, "it takes no state: %s", strerror(-ret));
	return move_send(move, MOVE_WELCOME, NULL, 0, NULL, 0, error);
}

static int take_state(struct arrival *arrival, struct uvf_error *error)
{
	struct uvf_error room;
	ssize_t ret;

	ret = uvf_migration_write(arrival->move->dev, arrival->packet.content,
				  arrival->packet.header.size);
	if (ret < 0)
		return uvf_fail(error, (int)ret, "%s",
				move_reason(arrival->move, strerror((int)-ret), &room));
	arrival->state_bytes += arrival->packet.header.size;
	return 0;
}

static int take_fds(struct arrival *arrival, struct uvf_error *error)
{
	size_t count = arrival->fd_count + arrival->packet.fd_count;
	int *grown;

	if (count > MOVE_MAX_FDS)
		return uvf_fail(error, -E2BIG, "more than %u descriptors", MOVE_MAX_FDS);
	grown = reallocarray(arrival->fds, count + 1, sizeof(*grown));
	if (!grown)
		return uvf_fail(error, -ENOMEM, "no memory");
	arrival->fds = grown;
	memcpy(grown + arrival->fd_count, arrival->packet.fds,
	       arrival->packet.fd_count * sizeof(int));
	arrival->fd_count = count;
	arrival->packet.fd_count = 0;
	return 0;
}

static int take_session(struct arrival *arrival, struct uvf_error *error)
{
	size_t size = arrival->packet.header.size;
	uint8_t *grown;

	if (size > MOVE_MAX_SESSION - arrival->session_size)
		return uvf_fail(error, -E2BIG, "a session of more than %u bytes", MOVE_MAX_SESSION);
	grown = realloc(arrival->session, arrival->session_size + size + 1);
	if (!grown)
		return uvf_fail(error, -ENOMEM, "no memory");
	arrival->session = grown;
	memcpy(grown + arrival->session_size, arrival->packet.content, size);
	arrival->session_size += size;
	return 0;
}

/* Until all is there. */
static int collect(struct arrival *arrival, struct uvf_error *error)
{
	int ret;

	do {
		ret = move_receive(arrival->move, &arrival->packet, SOURCE_MS, error);
		if (ret)
			return ret;
		switch (arrival->packet.header.kind) {
		case MOVE_STATE:
			ret = take_state(arrival, error);
			break;
		case MOVE_FDS_PACKET:
			ret = take_fds(arrival, error);
			break;
		case MOVE_SESSION:
			ret = take_session(arrival, error);
			break;
		case MOVE_OFFER:
			break;
		default:
			ret = uvf_fail(error, -EPROTO, "the source sends what makes no sense");
		}
	} while (!ret && arrival->packet.header.kind != MOVE_OFFER);
	return ret;
}

static int take_over(struct arrival *arrival, struct uvf_error *error)
{
	const struct uvf_server_offer offer = {
		.bytes = arrival->session,
		.size = arrival->session_size,
		.fds = arrival->fds,
		.fd_count = arrival->fd_count,
	};
	struct move *move = arrival->move;
	struct move_done done;
	struct uvf_error ignored, room;
	int ret;

	move_forget(move);
	ret = uvf_server_adopt(move->server, &offer, error);
	if (ret)
		return uvf_fail(error, ret, "%s", move_reason(move, error->text, &room));
	done.loaded = uvf_now_ns();
	/* The last moment for who gave up meanwhile. */
	if (move_wait(move, 0, 0) == -ECANCELED)
		return uvf_fail(error, -ECANCELED, "it was cancelled");
	ret = uvf_server_take_over(move->server);
	if (ret)
		return uvf_fail(error, ret, "the source has withdrawn");
	done.running = uvf_now_ns();
	move_send(move, MOVE_DONE, &done, sizeof(done), NULL, 0, &ignored);
	return 0;
}

static int arrive(struct arrival *arrival, struct uvf_error *error)
{
	int ret = welcome(arrival, error);

	move_forget(arrival->move);
	if (!ret)
		ret = collect(arrival, error);
	return ret ? ret : take_over(arrival, error);
}

static void tell_result(const struct arrival *arrival)
{
	struct json_object *answer = json_object_new_object();
	struct json_object *result = json_object_new_object();

	json_object_object_add(result, "state_bytes",
			       json_object_new_int64((int64_t)arrival->state_bytes));
	json_object_object_add(answer, "result", result);
	move_tell_last(arrival->move, answer);
}

void move_in(struct move *move)
{
	struct arrival *arrival = calloc(1, sizeof(*arrival));
	struct uvf_error error;
	int ret = arrival ? uvf_server_reserve(move->server, &error)
			  : uvf_fail(&error, -ENOMEM, "no memory");

	if (ret) {
		free(arrival);
		move_fail(move, &error);
		return;
	}
	arrival->move = move;
	ret = arrive(arrival, &error);
	/* Its storage is let go of before the source hears that it has to go on. */
	if (ret)
		uvf_server_unreserve(move->server);
	if (ret)
		move_fail(move, &error);
	else
		tell_result(arrival);
	move_close_fds(&arrival->packet);
	uvf_fdpass_close(arrival->fds, arrival->fd_count);
	free(arrival->fds);
	free(arrival->session);
	free(arrival);
}
