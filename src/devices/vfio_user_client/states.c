/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ways to PRE_COPY where areas change: the far end answers when what must go of them has gone, for
 * which this side is asked meanwhile, over the same connection. So the request is sent with the
 * device's lock held, in its place among others, and its reply waited for by a thread without it.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/core.h"
#include "devices/vfio_user_client/client.h"

struct client_change {
	struct client_change *next;
	enum vfio_device_mig_state before; /* that it is in meanwhile */
	struct {
		struct uvf_wire_feature header;
		struct vfio_device_feature_mig_state data;
	} request, answer;
	struct uvf_call call;
	struct uvf_waiter *waiter;
	bool given_up; /* under the device's lock */
};

/* ---- With the device's lock ---- */

static struct client_change *change_new(const struct client *client,
					enum vfio_device_mig_state state)
{
	struct client_change *change = calloc(1, sizeof(*change));

	if (!change)
		return NULL;
	change->before = client->last_state;
	change->request.header = (struct uvf_wire_feature){
		.argsz = sizeof(change->request),
		.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
	};
	change->request.data =
		(struct vfio_device_feature_mig_state){.device_state = state, .data_fd = -1};
	change->call = (struct uvf_call){
		.command = VFIO_USER_DEVICE_FEATURE,
		.fixed = &change->request,
		.fixed_size = sizeof(change->request),
		.reply = &change->answer,
		.reply_size = sizeof(change->answer),
		.patience = CLIENT_STATE_PATIENCE,
	};
	return change;
}

/* Leaves the reply to the thread. */
static void hand_over(struct client *client, struct client_change *change)
{
	struct client_change **at = &client->begun;

	pthread_mutex_lock(&client->change_lock);
	while (*at)
		at = &(*at)->next;
	*at = change;
	pthread_cond_signal(&client->change_begun);
	pthread_mutex_unlock(&client->change_lock);
}

int client_begin_change(struct client *client, enum vfio_device_mig_state state)
{
	struct client_change *change;
	int ret = uvf_remap_can_follow(client->dev);

	if (ret)
		return ret;
	client_tell_whether_following(client);
	change = change_new(client, state);
	if (!change)
		return -ENOMEM;
	ret = uvf_channel_begin(client->channel, &change->call, &change->waiter);
	if (ret) {
		free(change);
		return ret;
	}
	client->change = change;
	hand_over(client, change);
	return -EINPROGRESS;
}

/* The far end may have come there already: it goes back, and what it waits for has ended. */
void client_cancel_change(struct uvf_device *dev)
{
	struct client *client = uvf_device_opaque(dev);
	struct client_change *change = client->change;

	if (!change)
		return;
	change->given_up = true;
	client->change = NULL;
	client_send_state(client, change->before);
}

/* ---- The thread ---- */

static struct client_change *take_begun(struct client *client)
{
	struct client_change *change;

	pthread_mutex_lock(&client->change_lock);
	while (!client->begun && !atomic_load(&client->stopping))
		pthread_cond_wait(&client->change_begun, &client->change_lock);
	change = client->begun;
	if (change)
		client->begun = change->next;
	pthread_mutex_unlock(&client->change_lock);
	return change;
}

static int wait_for(struct client *client, struct client_change *change)
{
	bool refused;
	int ret = uvf_channel_end(client->channel, change->waiter, &refused);

	if (ret < 0 && !refused && client->twin)
		uvf_channel_fail(client->twin, ret);
	/* That means something here. */
	if (ret == -EINPROGRESS)
		ret = -EPROTO;
	if (ret)
		return ret;
	if (change->answer.header.flags != change->request.header.flags ||
	    change->answer.data.device_state != change->request.data.device_state)
		return client_violation(client, "to a change of state");
	return 0;
}

static void end(struct client *client, struct client_change *change)
{
	int ret = wait_for(client, change);

	uvf_device_lock(client->dev);
	if (!change->given_up) {
		client->change = NULL;
		if (!ret)
			client->is_early = true;
		uvf_migration_arrived(client->dev, ret);
	}
	uvf_device_unlock(client->dev);
	free(change);
	uvf_transitions_deliver(client->dev);
	/* What has failed gave areas back, and may not have been able to say so. */
	client_look_again(client);
}

static void *changer_main(void *opaque)
{
	struct client *client = opaque;
	struct client_change *change;

	while ((change = take_begun(client)))
		end(client, change);
	return NULL;
}

int client_changer_start(struct client *client)
{
	if (!client->has_remap_irq || !(uvf_migration_flags(client->dev) & VFIO_MIGRATION_PRE_COPY))
		return 0;
	if (pthread_create(&client->changer, NULL, changer_main, client))
		return -EAGAIN;
	client->changer_runs = true;
	return 0;
}

/* The connection is over, so that none is waited for. */
void client_changer_stop(struct client *client)
{
	pthread_mutex_lock(&client->change_lock);
	atomic_store(&client->stopping, true);
	pthread_cond_signal(&client->change_begun);
	pthread_mutex_unlock(&client->change_lock);
	if (client->changer_runs)
		pthread_join(client->changer, NULL);
}
