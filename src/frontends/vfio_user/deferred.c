/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes of the migration state. One that waits for the client to follow changed areas
 * (<uvfio/remap.h>) is answered when it is over: until then the client's other requests go on, some
 * of which it waits for. The device tells of the end on a thread of its own, and maybe when the
 * client has gone; the reply is the session's to send.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/migration.h>

#include "core/core.h"
#include "frontends/vfio_user/server.h"

/*
 * The device waits for one at a time. Of those that have ended somebody may just be about to tell.
 */
#define MAX_DEFERRED 16

/* The session's, and the device's until it has told: who comes last frees it. */
struct uvf_deferred {
	struct uvf_deferred *next; /* of the session */
	struct uvf_wire_header request;
	struct uvf_wire_feature feature;
	enum vfio_device_mig_state state;
	pthread_mutex_t lock;	     /* what follows */
	struct uvf_channel *channel; /* NULL: nobody wants to know any more */
	bool ended;
	int result;
};

static void deferred_free(struct uvf_deferred *deferred)
{
	pthread_mutex_destroy(&deferred->lock);
	free(deferred);
}

/* From any thread. */
static void state_changed(void *opaque, int result)
{
	struct uvf_deferred *deferred = opaque;
	bool wanted;

	pthread_mutex_lock(&deferred->lock);
	deferred->ended = true;
	deferred->result = result;
	wanted = deferred->channel;
	/* Under the lock, so that the session is there. */
	if (wanted)
		uvf_channel_nudge(deferred->channel);
	pthread_mutex_unlock(&deferred->lock);
	if (!wanted)
		deferred_free(deferred);
}

static void forget(struct uvf_deferred *deferred)
{
	bool ended;

	pthread_mutex_lock(&deferred->lock);
	ended = deferred->ended;
	deferred->channel = NULL;
	pthread_mutex_unlock(&deferred->lock);
	if (ended)
		deferred_free(deferred);
}

static struct uvf_deferred *deferred_new(struct uvf_connection *connection,
					 const struct uvf_wire_request *request)
{
	struct uvf_deferred *deferred = calloc(1, sizeof(*deferred));

	if (!deferred)
		return NULL;
	pthread_mutex_init(&deferred->lock, NULL);
	deferred->request =
		(struct uvf_wire_header){.id = request->id, .command = request->command};
	deferred->feature = request->feature;
	deferred->channel = connection->channel;
	return deferred;
}

static bool has_ended(struct uvf_deferred *deferred)
{
	bool ended;

	pthread_mutex_lock(&deferred->lock);
	ended = deferred->ended;
	pthread_mutex_unlock(&deferred->lock);
	return ended;
}

/* Those that haven't ended, or whose end nobody has told yet. */
static size_t count_deferred(const struct uvf_connection *connection)
{
	size_t count = 0;

	for (struct uvf_deferred *at = connection->deferred; at; at = at->next)
		count += !has_ended(at);
	return count;
}

/* The answer says where the device is. */
static void put_state(struct uvf_reply *reply, const struct uvf_wire_feature *request,
		      enum vfio_device_mig_state state)
{
	const struct vfio_device_feature_mig_state data = {.device_state = state, .data_fd = -1};
	const struct uvf_wire_feature feature = {
		.argsz = sizeof(feature) + sizeof(data),
		.flags = request->flags,
	};

	uvf_reply_put(reply, &feature, sizeof(feature));
	uvf_reply_put(reply, &data, sizeof(data));
}

static void defer(struct uvf_connection *connection, struct uvf_deferred *deferred)
{
	struct uvf_deferred **at = &connection->deferred;

	while (*at)
		at = &(*at)->next;
	*at = deferred;
}

int uvf_request_set_state(struct uvf_connection *connection, const struct uvf_wire_request *request,
			  struct uvf_reply *reply)
{
	struct vfio_device_feature_mig_state data;
	struct uvf_deferred *deferred;
	int ret;

	/* There must be room for the answer. */
	if (request->feature.argsz - sizeof(request->feature) < sizeof(data))
		return -EINVAL;
	/* Who cancels and begins again doesn't depend on when the device's thread comes to tell. */
	uvf_transitions_deliver(connection->server->dev);
	if (count_deferred(connection) == MAX_DEFERRED)
		return -EBUSY;
	memcpy(&data, request->data, sizeof(data));
	deferred = deferred_new(connection, request);
	if (!deferred)
		return -ENOMEM;
	deferred->state = data.device_state;
	ret = uvf_migration_start_state(connection->server->dev, data.device_state, state_changed,
					deferred);
	if (ret != -EINPROGRESS) {
		deferred_free(deferred);
		if (!ret)
			put_state(reply, &request->feature, data.device_state);
		return ret;
	}
	if (request->no_reply)
		forget(deferred);
	else
		defer(connection, deferred);
	reply->later = true;
	return 0;
}

/* ---- The session's ---- */

void uvf_connection_answer_deferred(struct uvf_connection *connection)
{
	struct uvf_deferred **at = &connection->deferred, *deferred;

	while ((deferred = *at)) {
		struct uvf_reply reply = {.payload = connection->reply +
						     sizeof(struct uvf_wire_header)};

		if (!has_ended(deferred)) {
			at = &deferred->next;
			continue;
		}
		*at = deferred->next;
		if (!deferred->result)
			put_state(&reply, &deferred->feature, deferred->state);
		uvf_connection_reply(connection, &deferred->request, deferred->result, &reply);
		deferred_free(deferred);
	}
}

void uvf_connection_forget_deferred(struct uvf_connection *connection)
{
	while (connection->deferred) {
		struct uvf_deferred *deferred = connection->deferred;

		connection->deferred = deferred->next;
		forget(deferred);
	}
}
