/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection that goes to another process: what has been received of it goes along. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "wire/channel_private.h"

/* #syscalls: write */
void uvf_channel_interrupt(struct uvf_channel *channel, bool on)
{
	uint64_t one = 1;
	ssize_t written = 0;

	pthread_mutex_lock(&channel->lock);
	channel->interrupted = on;
	/* The other side isn't to blame for the time in which nobody looked. */
	if (!on && channel->partial_since)
		channel->partial_since = uvf_now_ns();
	if (on && channel->polling)
		written = write(channel->wake, &one, sizeof(one));
	(void)written; /* it can only be full: then it is readable */
	pthread_cond_broadcast(&channel->changed);
	pthread_mutex_unlock(&channel->lock);
}

/* ---- Out ---- */

/* Appends [from, from + size) of the buffer, and the descriptors that came with it. */
static void append(const struct uvf_channel *channel, size_t from, size_t size,
		   struct uvf_channel_rest *rest)
{
	uint64_t first = channel->position + from;

	if (size)
		memcpy(rest->bytes + rest->size, channel->buffer + from, size);
	for (size_t i = 0; i < channel->fd_count; i++) {
		const struct uvf_received_fd *received = &channel->fds[i];

		if (received->position >= first && received->position - first < size)
			rest->fds[rest->fd_count++] = (struct uvf_rest_fd){
				.at = rest->size + (received->position - first),
				.fd = received->fd,
			};
	}
	rest->size += size;
}

/* Requests, and the beginning of a message. With the lock held. */
static void copy_rest(const struct uvf_channel *channel, struct uvf_channel_rest *rest)
{
	size_t at = channel->start;

	while (at < channel->scanned) {
		struct uvf_wire_header header;

		memcpy(&header, channel->buffer + at, sizeof(header));
		if (header.flags != UVF_CHANNEL_CONSUMED)
			append(channel, at, header.size, rest);
		at += header.size;
	}
	append(channel, at, channel->end - at, rest);
}

static bool has_output(struct uvf_channel *channel)
{
	bool output;

	pthread_mutex_lock(&channel->send_lock);
	output = channel->output;
	pthread_mutex_unlock(&channel->send_lock);
	return output;
}

int uvf_channel_save(struct uvf_channel *channel, struct uvf_channel_rest *rest)
{
	int ret = 0;

	*rest = (struct uvf_channel_rest){0};
	if (has_output(channel))
		return -EBUSY;
	pthread_mutex_lock(&channel->lock);
	if (channel->lost)
		ret = channel->lost;
	else if (!channel->interrupted || channel->receiving || channel->waiters)
		ret = -EBUSY;
	if (!ret) {
		rest->bytes = malloc(channel->end - channel->start + 1);
		rest->fds = calloc(channel->fd_count + 1, sizeof(*rest->fds));
		if (rest->bytes && rest->fds)
			copy_rest(channel, rest);
		else
			ret = -ENOMEM;
	}
	pthread_mutex_unlock(&channel->lock);
	if (ret) {
		free(rest->bytes);
		free(rest->fds);
		*rest = (struct uvf_channel_rest){0};
	}
	return ret;
}

/* ---- In ---- */

/*
 * A request that made a call there can have let requests in up to the buffer's end: here there must
 * be room for the replies to its calls beside them.
 */
static int make_room(struct uvf_channel *channel, size_t size)
{
	size_t capacity = 4 * channel->max_message;
	uint8_t *buffer;

	if (size <= 2 * channel->max_message)
		return 0;
	if (size > 3 * channel->max_message)
		return -EMSGSIZE;
	buffer = realloc(channel->buffer, capacity);
	if (!buffer)
		return -ENOMEM;
	channel->buffer = buffer;
	channel->capacity = capacity;
	return 0;
}

static int put_rest(struct uvf_channel *channel, const struct uvf_channel_rest *rest)
{
	int ret = make_room(channel, rest->size);

	if (ret)
		return ret;
	if (rest->fd_count > channel->fd_capacity)
		return -E2BIG;
	for (size_t i = 0; i < rest->fd_count; i++)
		if (rest->fds[i].at >= rest->size)
			return -EPROTO;
	if (rest->size)
		memcpy(channel->buffer, rest->bytes, rest->size);
	channel->end = rest->size;
	for (size_t i = 0; i < rest->fd_count; i++)
		channel->fds[i] = (struct uvf_received_fd){
			.position = rest->fds[i].at,
			.fd = rest->fds[i].fd,
		};
	channel->fd_count = rest->fd_count;
	return uvf_channel_scan(channel);
}

int uvf_channel_restore(struct uvf_channel *channel, const struct uvf_channel_rest *rest)
{
	int ret;

	pthread_mutex_lock(&channel->lock);
	ret = put_rest(channel, rest);
	/* It closes those that it has. */
	for (size_t i = 0; ret && !channel->fd_count && i < rest->fd_count; i++)
		close(rest->fds[i].fd);
	pthread_mutex_unlock(&channel->lock);
	return ret;
}

void uvf_channel_disown(struct uvf_channel *channel)
{
	pthread_mutex_lock(&channel->lock);
	channel->foreign = true;
	uvf_channel_lose(channel, -ENOTCONN);
	/* All that was received went along. */
	for (size_t i = 0; i < channel->fd_count; i++)
		close(channel->fds[i].fd);
	channel->fd_count = 0;
	channel->requests = 0;
	channel->start = channel->scanned = channel->end;
	pthread_mutex_unlock(&channel->lock);
}

void uvf_channel_own(struct uvf_channel *channel)
{
	pthread_mutex_lock(&channel->lock);
	channel->foreign = false;
	pthread_mutex_unlock(&channel->lock);
	uvf_channel_set_timeout(channel, (uint32_t)(channel->timeout / 1000000));
}
