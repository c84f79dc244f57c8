/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device migrates where it is: states and data by messages. The far end walks from state to
 * state, and the stream's bytes pass as they are.
 */
#include <errno.h>

#include "core/core.h"
#include "devices/vfio_user_client/client.h"

/* What a state may take that the far end can't tell the size of: enough to go on with. */
#define UNKNOWN_SIZE (1ULL << 20)

static int ask_state(struct client *client, struct vfio_device_feature_mig_state *state)
{
	bool refused;
	ssize_t size =
		client_ask(client, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
			   NULL, 0, state, sizeof(*state), &refused);

	if (size < 0)
		return (int)size;
	if (size != sizeof(*state) || state->device_state > VFIO_DEVICE_STATE_PRE_COPY_P2P)
		return client_violation(client, "to a question for its state");
	return 0;
}

/* It isn't kept here: the driver may reset the device by a register. */
static enum vfio_device_mig_state client_state(struct uvf_device *dev)
{
	struct client *client = uvf_device_opaque(dev);
	struct vfio_device_feature_mig_state state;
	int ret;

	/* Until the way to another has ended it is where it was. */
	if (client->change)
		return client->last_state;
	ret = ask_state(client, &state);
	client->last_state =
		ret ? VFIO_DEVICE_STATE_ERROR : (enum vfio_device_mig_state)state.device_state;
	return client->last_state;
}

static bool is_early(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY || state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

int client_send_state(struct client *client, enum vfio_device_mig_state state)
{
	const struct vfio_device_feature_mig_state wire = {.device_state = state, .data_fd = -1};
	struct vfio_device_feature_mig_state answer;
	bool refused;
	ssize_t size =
		client_ask(client, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
			   &wire, sizeof(wire), &answer, sizeof(answer), &refused);

	/* A refusal by that name would be waited for. */
	if (size == -EINPROGRESS)
		return -EPROTO;
	if (size < 0)
		return (int)size;
	if (size != sizeof(answer) || answer.device_state != wire.device_state)
		return client_violation(client, "to a change of state");
	client->is_early = is_early(state);
	return 0;
}

static int client_set_state(struct uvf_device *dev, enum vfio_device_mig_state state)
{
	struct client *client = uvf_device_opaque(dev);

	if (client->changer_runs && is_early(state))
		return client_begin_change(client, state);
	return client_send_state(client, state);
}

/* ---- Data ---- */

/* Returns how much came, or a negative errno. */
static ssize_t read_piece(struct client *client, void *buf, size_t size)
{
	struct uvf_wire_mig_data wire = {(uint32_t)(sizeof(wire) + size), (uint32_t)size}, answer;
	struct uvf_call call = {
		.command = VFIO_USER_MIG_DATA_READ,
		.fixed = &wire,
		.fixed_size = sizeof(wire),
		.reply = &answer,
		.reply_size = sizeof(answer),
		.reply_data = buf,
		.reply_data_max = size,
	};
	int ret = client_call(client, &call);

	if (ret < 0)
		return ret;
	if (answer.size != call.reply_data_size)
		return client_violation(client, "to a read of its state");
	return (ssize_t)answer.size;
}

/* A piece that isn't full is the end of what there is now. */
static ssize_t client_read(struct uvf_device *dev, void *buf, size_t size)
{
	struct client *client = uvf_device_opaque(dev);
	size_t done = 0, piece;
	ssize_t got;

	do {
		piece = size - done < client->max_count ? size - done : client->max_count;
		got = piece ? read_piece(client, (char *)buf + done, piece) : 0;
		if (got > 0)
			done += (size_t)got;
	} while (done < size && got == (ssize_t)piece);
	if (done || !size)
		return (ssize_t)done;
	return !got && client->is_early ? -ENOMSG : got;
}

static int write_piece(struct client *client, const void *buf, size_t size)
{
	struct uvf_wire_mig_data wire = {(uint32_t)(sizeof(wire) + size), (uint32_t)size};
	struct uvf_call call = {
		.command = VFIO_USER_MIG_DATA_WRITE,
		.fixed = &wire,
		.fixed_size = sizeof(wire),
		.data = buf,
		.data_size = size,
	};

	return client_call(client, &call);
}

static ssize_t client_write(struct uvf_device *dev, const void *buf, size_t size)
{
	struct client *client = uvf_device_opaque(dev);
	int ret = 0;

	for (size_t done = 0, piece; done < size && !ret; done += piece) {
		piece = size - done < client->max_count ? size - done : client->max_count;
		ret = write_piece(client, (const char *)buf + done, piece);
	}
	return ret ? ret : (ssize_t)size;
}

/* ---- How much there is ---- */

static int client_data_size(struct uvf_device *dev, uint64_t *size)
{
	struct client *client = uvf_device_opaque(dev);
	struct vfio_device_feature_mig_data_size answer;
	bool refused;
	ssize_t got;

	if (!client->tells_data_size) {
		*size = UNKNOWN_SIZE;
		return 0;
	}
	got = client_ask(client, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, NULL,
			 0, &answer, sizeof(answer), &refused);
	if (got < 0)
		return (int)got;
	if (got != sizeof(answer))
		return client_violation(client, "to a question for its state's size");
	*size = answer.stop_copy_length;
	return 0;
}

/* A far end that can't tell: that nothing is known to be there keeps nobody from reading. */
static int client_precopy_info(struct uvf_device *dev, uint64_t *initial_bytes,
			       uint64_t *dirty_bytes)
{
	struct client *client = uvf_device_opaque(dev);
	struct uvf_wire_precopy_info answer = {0};
	bool refused;
	ssize_t got;

	if (!client->is_early)
		return -EINVAL;
	if (client->tells_precopy_info) {
		got = client_ask(client, VFIO_DEVICE_FEATURE_GET | UVF_WIRE_FEATURE_PRECOPY_INFO,
				 NULL, 0, &answer, sizeof(answer), &refused);
		if (got < 0)
			return (int)got;
		if (got != sizeof(answer))
			return client_violation(client, "to a question for precopy info");
	}
	*initial_bytes = answer.initial_bytes;
	*dirty_bytes = answer.dirty_bytes;
	return 0;
}

static const struct uvf_migration_way way = {
	.state = client_state,
	.set_state = client_set_state,
	.cancel = client_cancel_change,
	.read = client_read,
	.write = client_write,
	.data_size = client_data_size,
	.precopy_info = client_precopy_info,
};

/* ---- Whether ---- */

int client_probe(struct client *client, uint32_t flags, bool *has)
{
	bool refused;
	ssize_t ret =
		client_ask(client, flags | VFIO_DEVICE_FEATURE_PROBE, NULL, 0, NULL, 0, &refused);

	*has = ret >= 0;
	return ret < 0 && !refused ? (int)ret : 0;
}

int client_discover_migration(struct client *client)
{
	const uint64_t known =
		VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY;
	struct vfio_device_feature_migration answer;
	bool refused;
	ssize_t size = client_ask(client, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION,
				  NULL, 0, &answer, sizeof(answer), &refused);
	int ret;

	if (size < 0)
		return refused ? 0 : (int)size;
	if (size != sizeof(answer))
		return client_violation(client, "to a question for migration");
	/* Without it there is none. */
	if (!(answer.flags & VFIO_MIGRATION_STOP_COPY))
		return 0;
	ret = client_probe(client, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
			   &client->tells_data_size);
	if (!ret && answer.flags & VFIO_MIGRATION_PRE_COPY)
		ret = client_probe(client, VFIO_DEVICE_FEATURE_GET | UVF_WIRE_FEATURE_PRECOPY_INFO,
				   &client->tells_precopy_info);
	if (!ret)
		uvf_device_set_migration_way(client->dev, answer.flags & known, &way);
	return ret;
}

/* A device that can't be reset is not left in the middle of something for its next owner. */
void client_end_migration(struct uvf_device *dev)
{
	if (uvf_migration_flags(dev) && client_state(dev) != VFIO_DEVICE_STATE_RUNNING)
		client_send_state(uvf_device_opaque(dev), VFIO_DEVICE_STATE_RUNNING);
}
