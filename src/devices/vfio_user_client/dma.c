/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's address space over there: each mapping is told to the server, with the file behind
 * it where there is one. What has none, the server reads and writes by messages, which this side
 * serves from the same address space: only what is mapped, and as it is mapped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/vfio_user_client/client.h"

/* ---- Mappings ---- */

static int listener_map(struct uvf_listener *listener, const struct uvf_mapping *mapping)
{
	struct client *client =
		(struct client *)((char *)listener - offsetof(struct client, listener));
	int fd = client->server.max_msg_fds ? uvf_memory_fd(mapping->memory) : -1;
	struct uvf_wire_dma_map map = {
		.argsz = sizeof(map),
		.flags = mapping->prot,
		.offset = fd >= 0 ? mapping->offset : 0,
		.address = mapping->first,
		.size = mapping->last - mapping->first + 1,
	};
	struct uvf_call call = {
		.command = VFIO_USER_DMA_MAP,
		.fixed = &map,
		.fixed_size = sizeof(map),
		.fds = &fd,
		.fd_count = fd >= 0,
	};

	return client_call(client, &call);
}

static int send_unmap(struct client *client, uint32_t flags, uvf_iova_t address, uint64_t size,
		      bool *refused)
{
	struct uvf_wire_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = flags,
		.address = address,
		.size = size,
	};
	uint8_t answer[sizeof(unmap)];
	struct uvf_call call = {
		.command = VFIO_USER_DMA_UNMAP,
		.fixed = &unmap,
		.fixed_size = sizeof(unmap),
		/* Some servers answer with the range, some with the header alone. */
		.reply_data = answer,
		.reply_data_max = sizeof(answer),
	};

	return client_try(client, &call, refused);
}

/*
 * An unmap that the server refuses, or never answers, would leave it with memory that the driver
 * uses for something else: without a connection it has none by messages, and is no device any more.
 */
static void listener_unmap(struct uvf_listener *listener, uvf_iova_t first, uvf_iova_t last)
{
	struct client *client =
		(struct client *)((char *)listener - offsetof(struct client, listener));
	bool refused;

	if (send_unmap(client, 0, first, last - first + 1, &refused) < 0 && refused)
		client_violation(client, "to an unmap");
}

static int unmap_one(void *opaque, const struct uvf_mapping *mapping)
{
	struct client *client = opaque;

	listener_unmap(&client->listener, mapping->first, mapping->last);
	return 0;
}

/* Servers that don't know the flag are told of each mapping. */
static void unmap_all(struct client *client)
{
	bool refused;

	if (send_unmap(client, VFIO_DMA_UNMAP_FLAG_ALL, 0, 0, &refused) < 0 && refused)
		uvf_for_each_mapping(client->space, unmap_one, client);
}

static void detach(struct client *client)
{
	if (!client->space)
		return;
	uvf_listener_remove(client->space, &client->listener);
	unmap_all(client);
	uvf_attachment_set(client->attachment, NULL);
	uvf_address_space_put(client->space);
	client->space = NULL;
}

int client_attach(struct uvf_device *dev, uint32_t pasid, struct uvf_address_space *space)
{
	struct client *client = uvf_device_opaque(dev);
	int ret;

	detach(client);
	if (!space)
		return 0;
	ret = uvf_attachment_set(client->attachment, space);
	if (ret)
		return ret;
	client->space = uvf_address_space_get(space);
	client->listener = (struct uvf_listener){.map = listener_map, .unmap = listener_unmap};
	ret = uvf_listener_add(space, &client->listener);
	if (ret) {
		unmap_all(client);
		uvf_attachment_set(client->attachment, NULL);
		uvf_address_space_put(space);
		client->space = NULL;
	}
	return ret;
}

/* ---- The device's requests ---- */

static int serve_request(struct client *client, const struct uvf_wire_request *request,
			 size_t *reply_size)
{
	const struct uvf_wire_dma_access *access = &request->dma_access;
	uint8_t *payload = client->dma_reply + sizeof(struct uvf_wire_header);
	int ret;

	memcpy(payload, access, sizeof(*access));
	*reply_size = sizeof(*access);
	if (request->command == VFIO_USER_DMA_WRITE)
		return uvf_attachment_write(client->attachment, access->address, request->data,
					    (size_t)access->count);
	if (request->command != VFIO_USER_DMA_READ)
		return -EOPNOTSUPP;
	ret = uvf_attachment_read(client->attachment, access->address, payload + sizeof(*access),
				  (size_t)access->count);
	*reply_size += (size_t)access->count;
	return ret;
}

static void serve_message(struct client *client, struct uvf_channel *channel,
			  const struct uvf_message *message)
{
	struct uvf_wire_limits limits = {client->config.max_data_xfer_size};
	struct uvf_wire_request request;
	size_t size = 0;
	int ret = uvf_wire_decode(message, &limits, &request);
	struct uvf_wire_header header = {
		.id = message->header.id,
		.command = message->header.command,
		.flags = UVF_WIRE_REPLY,
	};
	struct iovec iov = {client->dma_reply, 0};

	if (!ret)
		ret = serve_request(client, &request, &size);
	if (message->header.flags & UVF_WIRE_NO_REPLY)
		return;
	if (ret < 0) {
		header.flags |= UVF_WIRE_ERROR;
		header.error = (uint32_t)-ret;
		size = 0;
	}
	iov.iov_len = header.size = (uint32_t)(sizeof(header) + size);
	memcpy(client->dma_reply, &header, sizeof(header));
	uvf_channel_send(channel, &iov, 1, NULL, 0, true);
}

static void *dma_main(void *opaque)
{
	struct client *client = opaque;
	struct uvf_channel *channel = client->twin ? client->twin : client->channel;
	enum uvf_channel_wait wait = client->twin ? UVF_CHANNEL_WAIT : UVF_CHANNEL_POLL;
	struct uvf_message message;
	int ret;

	for (;;) {
		ret = uvf_channel_next(channel, wait, &message);
		if (ret < 0)
			break;
		if (!ret)
			continue;
		serve_message(client, channel, &message);
		uvf_fdpass_close(message.fds, message.fd_count);
	}
	uvf_channel_fail(client->channel, ret);
	return NULL;
}

static void attachment_unmap(void *opaque, uvf_iova_t first, uvf_iova_t last)
{
	/* Nothing here is pinned. */
}

static const struct uvf_attachment_ops attachment_ops = {.unmap = attachment_unmap};

int client_dma_start(struct client *client)
{
	int ret = uvf_attachment_new(&attachment_ops, client, &client->attachment);

	if (ret)
		return ret;
	/* Whether the device may do DMA, its own bus master bit says, over there. */
	uvf_attachment_enable(client->attachment, true);
	client->dma_reply =
		malloc(sizeof(struct uvf_wire_header) + sizeof(struct uvf_wire_dma_access) +
		       client->config.max_data_xfer_size);
	if (!client->dma_reply)
		return -ENOMEM;
	if (pthread_create(&client->thread, NULL, dma_main, client))
		return -EAGAIN;
	client->thread_runs = true;
	return 0;
}

void client_dma_stop(struct client *client)
{
	if (client->twin)
		uvf_channel_fail(client->twin, -ENODEV);
	if (client->thread_runs)
		pthread_join(client->thread, NULL);
	detach(client);
	if (client->attachment)
		uvf_attachment_free(client->attachment);
	free(client->dma_reply);
}
