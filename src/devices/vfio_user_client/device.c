/* SPDX-License-Identifier: BSD-3-Clause */
/* A remote device's operations as messages. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vfio_user_client/client.h"

static bool same_access(const struct uvf_wire_region_access *a,
			const struct uvf_wire_region_access *b)
{
	return a->offset == b->offset && a->region == b->region && a->count == b->count;
}

static int read_one(struct client *client, const struct uvf_wire_region_access *access, void *buf)
{
	struct uvf_wire_region_access answer;
	struct uvf_call call = {
		.command = VFIO_USER_REGION_READ,
		.fixed = access,
		.fixed_size = sizeof(*access),
		.reply = &answer,
		.reply_size = sizeof(answer),
		.reply_data = buf,
		.reply_data_max = access->count,
	};
	int ret = client_call(client, &call);

	if (ret < 0)
		return ret;
	if (!same_access(access, &answer) || call.reply_data_size != access->count)
		return client_violation(client, "to a region read");
	return 0;
}

static int write_one(struct client *client, const struct uvf_wire_region_access *access,
		     const void *buf)
{
	struct uvf_wire_region_access answer;
	struct uvf_call call = {
		.command = VFIO_USER_REGION_WRITE,
		.fixed = access,
		.fixed_size = sizeof(*access),
		.data = buf,
		.data_size = access->count,
		.reply = &answer,
		.reply_size = sizeof(answer),
	};
	int ret = client_call(client, &call);

	if (ret < 0)
		return ret;
	if (!same_access(access, &answer))
		return client_violation(client, "to a region write");
	return 0;
}

int client_region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	struct client *client = uvf_device_opaque(dev);
	int ret = 0;

	for (size_t done = 0; done < count && !ret;) {
		size_t piece = count - done < client->max_count ? count - done : client->max_count;
		struct uvf_wire_region_access access = {offset + done, index, (uint32_t)piece};

		ret = read_one(client, &access, (char *)buf + done);
		done += piece;
	}
	return ret;
}

int client_region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count)
{
	struct client *client = uvf_device_opaque(dev);
	int ret = 0;

	for (size_t done = 0; done < count && !ret;) {
		size_t piece = count - done < client->max_count ? count - done : client->max_count;
		struct uvf_wire_region_access access = {offset + done, index, (uint32_t)piece};

		ret = write_one(client, &access, (const char *)buf + done);
		done += piece;
	}
	return ret;
}

static int client_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct uvf_call call = {.command = VFIO_USER_DEVICE_RESET};

	return client_call(uvf_device_opaque(dev), &call);
}

/* ---- Interrupts ---- */

static int send_irqs(struct client *client, const struct uvf_irq_set *set, uint32_t first,
		     uint32_t count, const void *bools, size_t fd_count)
{
	struct uvf_wire_irq_set wire = {
		.argsz = (uint32_t)(sizeof(wire) + (bools ? count : 0)),
		.flags = set->flags,
		.index = set->index,
		.start = set->start + first,
		.count = count,
	};
	struct uvf_call call = {
		.command = VFIO_USER_DEVICE_SET_IRQS,
		.fixed = &wire,
		.fixed_size = sizeof(wire),
		.data = bools,
		.data_size = bools ? count : 0,
		.fds = fd_count ? set->fds + first : NULL,
		.fd_count = fd_count,
	};

	return client_call(client, &call);
}

/*
 * A message has as many descriptors as it has vectors, or none to take them away: runs of the one
 * and of the other go apart, and as many at once as the server takes.
 */
static int set_eventfds(struct client *client, const struct uvf_irq_set *set)
{
	uint32_t max = client->server.max_msg_fds;
	int ret = 0;

	if (max > UVF_FDPASS_MAX)
		max = UVF_FDPASS_MAX;
	for (uint32_t first = 0, count; first < set->count && !ret; first += count) {
		bool none = set->fds[first] < 0;

		for (count = 1; first + count < set->count && (none || count < max); count++)
			if ((set->fds[first + count] < 0) != none)
				break;
		if (!none && !max)
			return -EOPNOTSUPP;
		ret = send_irqs(client, set, first, count, NULL, none ? 0 : count);
	}
	return ret;
}

static int client_set_irqs(struct uvf_device *dev, const struct uvf_irq_set *set)
{
	struct client *client = uvf_device_opaque(dev);

	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD && set->count)
		return set_eventfds(client, set);
	return send_irqs(client, set, 0, set->count,
			 set->flags & VFIO_IRQ_SET_DATA_BOOL ? set->bools : NULL, 0);
}

/* ---- Features ---- */

#define STATE_CHANGE (VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)

ssize_t client_ask(struct client *client, uint32_t flags, const void *data, size_t size,
		   void *answer, size_t answer_max, bool *refused)
{
	struct uvf_wire_feature wire = {.flags = flags}, header;
	struct uvf_call call = {
		.command = VFIO_USER_DEVICE_FEATURE,
		.fixed = &wire,
		.fixed_size = sizeof(wire),
		.data = data,
		.data_size = size,
		.reply = &header,
		.reply_size = sizeof(header),
		.reply_data = answer,
		.reply_data_max = answer_max,
		.patience = flags == STATE_CHANGE ? CLIENT_STATE_PATIENCE : 0,
	};
	int ret;

	wire.argsz = (uint32_t)(sizeof(wire) + (size > answer_max ? size : answer_max));
	ret = client_try(client, &call, refused);
	if (ret < 0)
		return ret;
	if (header.flags != flags)
		return client_violation(client, "to a feature");
	return (ssize_t)call.reply_data_size;
}

static ssize_t client_feature(struct uvf_device *dev, uint32_t flags, void *data, size_t size)
{
	struct client *client = uvf_device_opaque(dev);
	bool probe = flags & VFIO_DEVICE_FEATURE_PROBE;
	bool get = !probe && flags & VFIO_DEVICE_FEATURE_GET;
	bool refused;
	ssize_t ret;

	if (size > client->max_count)
		return -E2BIG;
	ret = client_ask(client, flags, data, probe || get ? 0 : size, data, size, &refused);
	return ret < 0 || get ? ret : 0;
}

static void client_destroy(struct uvf_device *dev)
{
	client_free(uvf_device_opaque(dev));
}

const struct uvf_device_ops client_ops = {
	.reset = client_reset,
	.attach = client_attach,
	.set_irqs = client_set_irqs,
	.feature = client_feature,
	.areas_settled = client_areas_settled,
	.destroy = client_destroy,
};

const struct uvf_device_ops client_ops_without_reset = {
	.close = client_end_migration,
	.attach = client_attach,
	.set_irqs = client_set_irqs,
	.feature = client_feature,
	.areas_settled = client_areas_settled,
	.destroy = client_destroy,
};
