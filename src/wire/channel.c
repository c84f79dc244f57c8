/* SPDX-License-Identifier: BSD-3-Clause */
/* A channel's life and its receiving half: the role, sorting what comes. */
#include "wire/channel.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "wire/channel_private.h"

/* #syscalls: setsockopt */
void uvf_channel_set_timeout(struct uvf_channel *channel, uint32_t timeout_ms)
{
	uint32_t wait_ms =
		channel->wait_ms && channel->wait_ms < timeout_ms ? channel->wait_ms : timeout_ms;
	struct timeval time = {wait_ms / 1000, wait_ms % 1000 * 1000};

	channel->timeout = (uint64_t)timeout_ms * 1000000;
	/* It belongs to the socket, not to our descriptor of it. */
	if (!channel->foreign)
		setsockopt(channel->fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
}

int uvf_channel_new(const struct uvf_channel_config *config, struct uvf_channel **channelp)
{
	struct uvf_channel *channel = calloc(1, sizeof(*channel));
	pthread_condattr_t monotonic;

	if (!channel) {
		close(config->fd);
		return -ENOMEM;
	}
	channel->fd = config->fd;
	channel->kick_fd = config->kick_fd;
	channel->wake = -1;
	channel->wait_ms = config->wait_ms;
	channel->takes_requests = config->takes_requests;
	channel->foreign = config->foreign;
	channel->max_fds = config->max_fds < UVF_FDPASS_MAX ? config->max_fds : UVF_FDPASS_MAX;
	channel->max_message = sizeof(struct uvf_wire_header) + config->max_payload;
	/* Large, but only what is touched is there. */
	channel->capacity = 3 * channel->max_message;
	channel->buffer = malloc(channel->capacity);
	channel->fd_capacity = 4 * (size_t)channel->max_fds;
	channel->fds = calloc(channel->fd_capacity + 1, sizeof(*channel->fds));
	channel->references = 1;
	channel->output_tail = &channel->output;
	pthread_mutex_init(&channel->lock, NULL);
	pthread_mutex_init(&channel->send_lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&channel->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (!channel->buffer || !channel->fds) {
		uvf_channel_put(channel);
		return -ENOMEM;
	}
	uvf_channel_set_timeout(channel, config->timeout_ms);
	*channelp = channel;
	return 0;
}

struct uvf_channel *uvf_channel_get(struct uvf_channel *channel)
{
	channel->references++;
	return channel;
}

/*
 * Throws away what the other side has sent. Closing a socket on bytes that nobody has read makes
 * the other side's next call fail with ECONNRESET where it expects an end of file, and QEMU aborts
 * on that. After the shutdown nothing is added, so this ends.
 * #syscalls: shutdown recvfrom
 */
static void drain(struct uvf_channel *channel)
{
	shutdown(channel->fd, SHUT_RDWR);
	while (channel->buffer && recv(channel->fd, channel->buffer, channel->capacity, 0) > 0)
		;
}

/* #syscalls: close */
void uvf_channel_put(struct uvf_channel *channel)
{
	if (!channel || --channel->references)
		return;
	for (size_t i = 0; i < channel->fd_count; i++)
		close(channel->fds[i].fd);
	while (channel->output) {
		struct uvf_output *output = channel->output;

		channel->output = output->next;
		uvf_fdpass_close(output->fds, output->fd_count);
		free(output);
	}
	if (channel->wake >= 0)
		close(channel->wake);
	if (!channel->foreign)
		drain(channel);
	close(channel->fd);
	pthread_cond_destroy(&channel->changed);
	pthread_mutex_destroy(&channel->lock);
	pthread_mutex_destroy(&channel->send_lock);
	free(channel->fds);
	free(channel->buffer);
	free(channel);
}

int uvf_channel_fd(const struct uvf_channel *channel)
{
	return channel->fd;
}

/* #syscalls: shutdown */
void uvf_channel_lose(struct uvf_channel *channel, int error)
{
	if (channel->lost)
		return;
	channel->lost = error;
	/* Wakes who is in recvmsg or poll. */
	if (!channel->foreign)
		shutdown(channel->fd, SHUT_RDWR);
	pthread_cond_broadcast(&channel->changed);
}

void uvf_channel_fail(struct uvf_channel *channel, int error)
{
	pthread_mutex_lock(&channel->lock);
	uvf_channel_lose(channel, error);
	pthread_mutex_unlock(&channel->lock);
}

int uvf_channel_error(struct uvf_channel *channel)
{
	int error;

	pthread_mutex_lock(&channel->lock);
	error = channel->lost;
	pthread_mutex_unlock(&channel->lock);
	return error;
}

bool uvf_channel_partial(struct uvf_channel *channel, uint64_t *since)
{
	bool partial;

	pthread_mutex_lock(&channel->lock);
	partial = channel->end > channel->scanned && !channel->lost;
	*since = channel->partial_since;
	pthread_mutex_unlock(&channel->lock);
	return partial;
}

/* Takes the descriptors that came with the message in [first, last] of the stream. */
static size_t take_fds(struct uvf_channel *channel, uint64_t first, uint64_t last, int *fds,
		       size_t max)
{
	size_t taken = 0, kept = 0;

	for (size_t i = 0; i < channel->fd_count; i++) {
		struct uvf_received_fd *received = &channel->fds[i];

		if (received->position < first || received->position > last)
			channel->fds[kept++] = *received;
		else if (taken < max)
			fds[taken++] = received->fd;
		else
			close(received->fd);
	}
	channel->fd_count = kept;
	return taken;
}

/* Gives a reply to its caller. Returns 0 or a violation. */
static int complete(struct uvf_channel *channel, const struct uvf_wire_header *header,
		    const uint8_t *payload, uint64_t position)
{
	size_t size = header->size - sizeof(*header);
	uint64_t last = position + header->size - 1;
	struct uvf_waiter **at = &channel->waiters, *waiter;
	struct uvf_call *call;

	while (*at && (*at)->id != header->id)
		at = &(*at)->next;
	waiter = *at;
	if (!waiter || waiter->call->command != header->command)
		return -EPROTO;
	call = waiter->call;
	call->reply_fd_count =
		take_fds(channel, position, last, call->reply_fds, call->reply_fd_max);
	if (header->flags & UVF_WIRE_ERROR) {
		/* It may be 0, and is no errno where it can't be one. */
		waiter->result = header->error && header->error < 4096 ? -(int)header->error : -EIO;
		waiter->refused = true;
	} else if (size < call->reply_size || size - call->reply_size > call->reply_data_max) {
		uvf_fdpass_close(call->reply_fds, call->reply_fd_count);
		call->reply_fd_count = 0;
		return -EPROTO;
	} else {
		if (call->reply_size)
			memcpy(call->reply, payload, call->reply_size);
		call->reply_data_size = size - call->reply_size;
		if (call->reply_data_size)
			memcpy(call->reply_data, payload + call->reply_size, call->reply_data_size);
	}
	*at = waiter->next;
	waiter->done = true;
	return 0;
}

int uvf_channel_scan(struct uvf_channel *channel)
{
	while (channel->end - channel->scanned >= sizeof(struct uvf_wire_header)) {
		uint8_t *at = channel->buffer + channel->scanned;
		struct uvf_wire_header header;
		int ret;

		memcpy(&header, at, sizeof(header));
		if (header.size < sizeof(header) || header.size > channel->max_message)
			return -EMSGSIZE;
		if ((header.flags & UVF_WIRE_TYPE) > UVF_WIRE_REPLY)
			return -EPROTO;
		if (header.size > channel->end - channel->scanned)
			break;
		if ((header.flags & UVF_WIRE_TYPE) == UVF_WIRE_REPLY) {
			ret = complete(channel, &header, at + sizeof(header),
				       channel->position + channel->scanned);
			if (ret < 0)
				return ret;
			header.flags = UVF_CHANNEL_CONSUMED;
			memcpy(at, &header, sizeof(header));
		} else if (channel->takes_requests) {
			channel->requests++;
		} else {
			return -EPROTO;
		}
		channel->scanned += header.size;
		channel->partial_since = 0;
	}
	if (channel->end > channel->scanned && !channel->partial_since)
		channel->partial_since = uvf_now_ns();
	return 0;
}

/*
 * How far to fill the buffer: while a request is being read there must be room for the replies to
 * calls that it makes.
 */
static size_t limit(const struct uvf_channel *channel)
{
	return channel->taken ? channel->capacity : 2 * channel->max_message;
}

/*
 * Makes room: what has been dealt with goes, and what is left moves down when it must. A request
 * that is being read stays where it is. With the lock held, while nobody receives.
 */
static void compact(struct uvf_channel *channel)
{
	size_t base = channel->taken ? channel->start : 0;
	size_t from = channel->requests ? channel->start : channel->scanned;

	if (from == base)
		return;
	if (from < channel->end) {
		if (limit(channel) >= channel->scanned + channel->max_message)
			return;
		memmove(channel->buffer + base, channel->buffer + from, channel->end - from);
	}
	channel->position += from - base;
	channel->scanned -= from - base;
	channel->end -= from - base;
	channel->start = base;
}

/* Keeps descriptors for the message that the last byte received belongs to. */
static int keep_fds(struct uvf_channel *channel, const int *fds, size_t count)
{
	if (count > channel->fd_capacity - channel->fd_count) {
		uvf_fdpass_close(fds, count);
		return -E2BIG;
	}
	for (size_t i = 0; i < count; i++)
		channel->fds[channel->fd_count++] = (struct uvf_received_fd){
			.position = channel->position + channel->end - 1,
			.fd = fds[i],
		};
	return 0;
}

/*
 * A request was taken from the socket by somebody else than the reader that polls it for one.
 * #syscalls: write
 */
static void wake_poller(const struct uvf_channel *channel)
{
	uint64_t one = 1;
	ssize_t written;

	if (!channel->polling || !channel->requests)
		return;
	written = write(channel->wake, &one, sizeof(one));
	(void)written; /* it can only be full: then it is readable */
}

bool uvf_channel_receive(struct uvf_channel *channel, int flags)
{
	int fds[UVF_FDPASS_MAX];
	size_t fd_count = 0, room;
	ssize_t got;
	int ret = 0;

	compact(channel);
	room = limit(channel) > channel->end ? limit(channel) - channel->end : 0;
	if (!room) {
		uvf_channel_lose(channel, -ENOBUFS);
		return false;
	}
	channel->receiving = true;
	pthread_mutex_unlock(&channel->lock);
	got = uvf_fdpass_receive(channel->fd, channel->buffer + channel->end, room, fds,
				 channel->max_fds, &fd_count, flags);
	pthread_mutex_lock(&channel->lock);
	channel->receiving = false;
	if (got > 0) {
		channel->end += (size_t)got;
		ret = fd_count ? keep_fds(channel, fds, fd_count) : 0;
		if (!ret)
			ret = uvf_channel_scan(channel);
	} else if (!got || (got != -EAGAIN && got != -EINTR)) {
		uvf_fdpass_close(fds, fd_count);
		ret = got == -E2BIG ? -E2BIG : -ENOTCONN;
	}
	if (!ret && channel->partial_since &&
	    uvf_now_ns() - channel->partial_since >= channel->timeout)
		ret = -ETIMEDOUT;
	if (ret < 0)
		uvf_channel_lose(channel, ret);
	wake_poller(channel);
	pthread_cond_broadcast(&channel->changed);
	return got > 0;
}

static void take_request(struct uvf_channel *channel, struct uvf_message *message)
{
	struct uvf_wire_header *header = &message->header;

	do {
		memcpy(header, channel->buffer + channel->start, sizeof(*header));
		channel->start += header->size;
	} while (header->flags == UVF_CHANNEL_CONSUMED);
	channel->requests--;
	channel->taken = true;
	message->payload = channel->buffer + channel->start - header->size + sizeof(*header);
	message->payload_size = header->size - sizeof(*header);
	message->fd_count = 0;
	if (channel->fd_count)
		message->fd_count = take_fds(
			channel, channel->position + channel->start - header->size,
			channel->position + channel->start - 1, message->fds, UVF_FDPASS_MAX);
}

/*
 * Waits for bytes, or for a request that another receiver took, without the role. With the lock
 * held, which is let go meanwhile. Returns whether there may be either, or a negative errno.
 * #syscalls: poll read eventfd2
 */
static int wait_readable(struct uvf_channel *channel)
{
	struct pollfd fds[] = {{channel->fd, POLLIN, 0}, {channel->wake, POLLIN, 0}};
	int timeout_ms = (int)(channel->timeout / 1000000);
	uint64_t count;
	int ready;

	if (channel->wake < 0) {
		channel->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (channel->wake < 0)
			return -errno;
		fds[1].fd = channel->wake;
	}
	channel->polling = true;
	pthread_mutex_unlock(&channel->lock);
	ready = poll(fds, 2, timeout_ms);
	pthread_mutex_lock(&channel->lock);
	channel->polling = false;
	/* It doesn't block. NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection) */
	if (fds[1].revents && read(channel->wake, &count, sizeof(count)) < 0)
		return -errno;
	return ready > 0;
}

int uvf_channel_next(struct uvf_channel *channel, enum uvf_channel_wait wait,
		     struct uvf_message *message)
{
	int ret = 0;
	bool more = true;

	pthread_mutex_lock(&channel->lock);
	channel->taken = false;
	while (more && !channel->interrupted) {
		if (channel->requests) {
			take_request(channel, message);
			ret = 1;
			break;
		}
		if (channel->lost || wait == UVF_CHANNEL_QUEUED) {
			ret = channel->lost;
			break;
		}
		if (channel->nudged && wait == UVF_CHANNEL_POLL) {
			channel->nudged = false;
			break;
		}
		if (channel->receiving || (wait == UVF_CHANNEL_POLL && channel->waiters)) {
			if (wait != UVF_CHANNEL_WAIT && wait != UVF_CHANNEL_POLL)
				break;
			pthread_cond_wait(&channel->changed, &channel->lock);
		} else if (wait == UVF_CHANNEL_POLL) {
			ret = wait_readable(channel);
			if (ret < 0)
				uvf_channel_lose(channel, ret);
			more = ret != 0;
			ret = 0;
			if (!channel->receiving && !channel->waiters && !channel->lost && more)
				uvf_channel_receive(channel, MSG_DONTWAIT);
		} else {
			more = uvf_channel_receive(channel,
						   wait == UVF_CHANNEL_NOW ? MSG_DONTWAIT : 0);
			/* Once more round the loop for what it brought, or ended. */
			if (channel->requests || channel->lost)
				more = true;
		}
	}
	pthread_mutex_unlock(&channel->lock);
	return ret;
}
