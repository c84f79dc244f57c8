/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that the client maps without a file: DMA_READ and DMA_WRITE messages towards it. One
 * memory a connection, whose offsets are the client's DMA addresses.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontends/vfio_user/server.h"

/*
 * Two layouts are spoken. The specification's count has 8 bytes; QEMU's client (up to 11 at least)
 * has the data right after a count of 4, and a message as long as if it were after 8: its read
 * replies carry data where the high half of the count is, its writes are taken from there. Nothing
 * in VERSION tells which, so the first transfers find out, see learn().
 */
enum layout { LAYOUT_UNKNOWN, LAYOUT_SPECIFIED, LAYOUT_COUNT32 };

/* The channels live on while the memory does; all calls on them then fail. */
struct uvf_remote {
	struct uvf_channel *channel; /* of the connection */
	struct uvf_channel *calls;   /* for our requests: the same, or the twin */
	size_t max_count;
	_Atomic int layout;
};

static int call(struct uvf_remote *remote, struct uvf_call *uvf_call)
{
	bool refused;
	int ret = uvf_channel_call(remote->calls, uvf_call, &refused);

	/* Whoever fails on the twin socket has failed altogether. */
	if (ret < 0 && !refused)
		uvf_channel_fail(remote->channel, ret);
	return ret;
}

static int violation(struct uvf_remote *remote)
{
	uvf_channel_fail(remote->calls, -EPROTO);
	uvf_channel_fail(remote->channel, -EPROTO);
	return -EPROTO;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	return !size || (!bytes[0] && !memcmp(bytes, bytes + 1, size - 1));
}

/*
 * What a read's reply says of the layout: bytes where the count's high half is are data of the one,
 * bytes in the last 4 are data of the other.
 */
static void learn(struct uvf_remote *remote, uint32_t high, const uint8_t *data, size_t count)
{
	size_t tail = count < 4 ? count : 4;

	if (remote->layout != LAYOUT_UNKNOWN)
		return;
	if (high)
		remote->layout = LAYOUT_COUNT32;
	else if (!is_zero(data + count - tail, tail))
		remote->layout = LAYOUT_SPECIFIED;
}

/* One message. @high is what came in the high half of the count. */
static int read_message(struct uvf_remote *remote, uint64_t address, uint8_t *buf, size_t count,
			uint32_t *high)
{
	struct uvf_wire_dma_access request = {address, count}, reply;
	struct uvf_call uvf_call = {
		.command = VFIO_USER_DMA_READ,
		.fixed = &request,
		.fixed_size = sizeof(request),
		.reply = &reply,
		.reply_size = sizeof(reply),
		.reply_data = buf,
		.reply_data_max = count,
	};
	int ret = call(remote, &uvf_call);

	if (ret < 0)
		return ret;
	*high = (uint32_t)(reply.count >> 32);
	if (reply.address != address || (uint32_t)reply.count != count ||
	    uvf_call.reply_data_size != count || (*high && remote->layout == LAYOUT_SPECIFIED))
		return violation(remote);
	learn(remote, *high, buf, count);
	return 0;
}

/*
 * Both ends of what came are zero, but not all of it. Its first byte that isn't is at @buf[at] for
 * one layout, 4 further on for the other: four bytes read from that place settle it.
 */
static int settle(struct uvf_remote *remote, uint64_t address, const uint8_t *buf, size_t count)
{
	uint8_t probe[4];
	uint32_t high;
	size_t at = 0;
	int ret = 0;

	while (at < count && !buf[at])
		at++;
	if (at + 4 < count) {
		ret = read_message(remote, address + at, probe, 1, &high);
		if (!ret && remote->layout == LAYOUT_UNKNOWN)
			ret = read_message(remote, address + at + 4, probe, 1, &high);
	}
	return ret;
}

static int read_one(struct uvf_remote *remote, uint64_t address, uint8_t *buf, size_t count)
{
	uint32_t high;
	int ret = read_message(remote, address, buf, count, &high);

	if (!ret && remote->layout == LAYOUT_UNKNOWN)
		ret = settle(remote, address, buf, count);
	if (ret < 0 || remote->layout != LAYOUT_COUNT32)
		return ret;
	for (size_t i = count; i-- > sizeof(high);)
		buf[i] = buf[i - sizeof(high)];
	memcpy(buf, &high, count < sizeof(high) ? count : sizeof(high));
	return 0;
}

static int write_message(struct uvf_remote *remote, uint64_t address, const uint8_t *buf,
			 size_t count, int layout)
{
	struct uvf_wire_dma_access request = {address, count}, reply = {0};
	static const uint8_t padding[4];
	uint8_t fixed[sizeof(request)];
	struct uvf_call uvf_call = {
		.command = VFIO_USER_DMA_WRITE,
		.fixed = &request,
		.fixed_size = sizeof(request),
		.data = buf,
		.data_size = count,
		.reply = &reply,
		/* The specification's reply ends after 12 bytes; those who answer send 16. */
		.reply_size = 12,
		.reply_data = fixed,
		.reply_data_max = 4,
	};
	uint8_t *shifted = NULL;
	int ret;

	if (layout == LAYOUT_COUNT32) {
		shifted = malloc(12 + count + sizeof(padding));
		if (!shifted)
			return -ENOMEM;
		memcpy(shifted, &request, 12);
		memcpy(shifted + 12, buf, count);
		memcpy(shifted + 12 + count, padding, sizeof(padding));
		uvf_call.fixed = shifted;
		uvf_call.fixed_size = 12 + count + sizeof(padding);
		uvf_call.data_size = 0;
	}
	ret = call(remote, &uvf_call);
	free(shifted);
	if (ret < 0)
		return ret;
	return reply.address == address && (uint32_t)reply.count == count ? 0 : violation(remote);
}

/*
 * Not knowing the layout: what is there is read first, which settles it unless all is zero; then a
 * write is tried and read back. It never leaves the range that is being written.
 */
static int write_one(struct uvf_remote *remote, uint64_t address, const uint8_t *buf, size_t count)
{
	uint8_t *before;
	int ret;

	if (remote->layout != LAYOUT_UNKNOWN)
		return write_message(remote, address, buf, count, remote->layout);
	before = malloc(count);
	if (!before)
		return -ENOMEM;
	ret = read_one(remote, address, before, count);
	if (ret == -EACCES || ret == -EFAULT)
		ret = 0; /* it may be there for writing only */
	if (!ret && remote->layout != LAYOUT_UNKNOWN) {
		ret = write_message(remote, address, buf, count, remote->layout);
		goto out;
	}
	if (!ret)
		ret = write_message(remote, address, buf, count, LAYOUT_SPECIFIED);
	if (!ret && !is_zero(buf, count) && !read_one(remote, address, before, count) &&
	    (remote->layout == LAYOUT_COUNT32 || is_zero(before, count))) {
		remote->layout = LAYOUT_COUNT32;
		ret = write_message(remote, address, buf, count, LAYOUT_COUNT32);
	}
out:
	free(before);
	return ret;
}

static int remote_read(void *opaque, uint64_t offset, void *buf, size_t count)
{
	struct uvf_remote *remote = opaque;
	int ret = 0;

	while (count && !ret) {
		size_t piece = count < remote->max_count ? count : remote->max_count;

		ret = read_one(remote, offset, buf, piece);
		offset += piece;
		buf = (uint8_t *)buf + piece;
		count -= piece;
	}
	return ret;
}

static int remote_write(void *opaque, uint64_t offset, const void *buf, size_t count)
{
	struct uvf_remote *remote = opaque;
	int ret = 0;

	while (count && !ret) {
		size_t piece = count < remote->max_count ? count : remote->max_count;

		ret = write_one(remote, offset, buf, piece);
		offset += piece;
		buf = (const uint8_t *)buf + piece;
		count -= piece;
	}
	return ret;
}

static void remote_release(void *opaque)
{
	struct uvf_remote *remote = opaque;

	uvf_channel_put(remote->channel);
	uvf_channel_put(remote->calls);
	free(remote);
}

static const struct uvf_memory_remote_ops ops = {
	.read = remote_read,
	.write = remote_write,
	.release = remote_release,
};

uint8_t uvf_remote_layout(const struct uvf_connection *connection)
{
	return connection->remote ? (uint8_t)connection->remote_reader->layout : LAYOUT_UNKNOWN;
}

int uvf_remote_set_layout(struct uvf_connection *connection, uint8_t layout)
{
	if (layout > LAYOUT_COUNT32)
		return -EINVAL;
	if (connection->remote)
		connection->remote_reader->layout = layout;
	return 0;
}

int uvf_remote_memory_new(struct uvf_connection *connection, struct uvf_memory **memoryp)
{
	struct uvf_channel *calls = connection->twin ? connection->twin : connection->channel;
	const struct uvf_server_config *config = &connection->server->config;
	struct uvf_remote *remote = calloc(1, sizeof(*remote));
	int ret;

	if (!remote)
		return -ENOMEM;
	remote->channel = uvf_channel_get(connection->channel);
	remote->calls = uvf_channel_get(calls);
	/* What it takes, and what we have room for. */
	remote->max_count = connection->client.max_data_xfer_size;
	if (remote->max_count > config->max_data_xfer_size)
		remote->max_count = config->max_data_xfer_size;
	ret = uvf_memory_new_remote(&ops, remote, memoryp);
	if (ret)
		remote_release(remote);
	else
		connection->remote_reader = remote;
	return ret;
}
