/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The sending half of a channel: one system call where the socket has room, else a bounded queue.
 * And the nudge of who has something to send, but not here.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "wire/channel_private.h"

static void output_free(struct uvf_output *output)
{
	uvf_fdpass_close(output->fds, output->fd_count);
	free(output);
}

/* What send_or_queue() returns beside 0, 1 and errors. */
#define FULL 2

/* Two replies of the largest size: more than that isn't owed at any moment. */
static bool has_room(const struct uvf_channel *channel, size_t size)
{
	return channel->output_size + size <= 2 * channel->max_message;
}

/* Queues what follows the first @sent bytes. With the send lock held. */
static int queue(struct uvf_channel *channel, const struct iovec *iov, size_t iov_count,
		 const int *fds, size_t fd_count, size_t sent)
{
	struct uvf_output *output;
	size_t size = 0, at = 0;

	for (size_t i = 0; i < iov_count; i++)
		size += iov[i].iov_len;
	output = malloc(sizeof(*output) + size);
	if (!output)
		return -ENOMEM;
	*output = (struct uvf_output){.size = size, .sent = sent};
	for (size_t i = 0; i < iov_count; i++) {
		if (iov[i].iov_len)
			memcpy(output->bytes + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	for (size_t i = 0; !sent && i < fd_count; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);

		if (fd < 0) {
			output_free(output);
			return -errno;
		}
		output->fds[output->fd_count++] = fd;
	}
	*channel->output_tail = output;
	channel->output_tail = &output->next;
	channel->output_size += size - sent;
	channel->output_end += size - sent;
	return 0;
}

/* With the send lock held. As uvf_channel_flush(). */
static int flush_queue(struct uvf_channel *channel)
{
	while (channel->output) {
		struct uvf_output *output = channel->output;
		struct iovec iov = {output->bytes + output->sent, output->size - output->sent};
		ssize_t sent = uvf_fdpass_send(channel->fd, &iov, 1, output->fds, output->fd_count,
					       MSG_DONTWAIT);

		if (sent == -EAGAIN)
			return 1;
		if (sent < 0)
			return -ENOTCONN;
		uvf_fdpass_close(output->fds, output->fd_count);
		output->fd_count = 0;
		output->sent += (size_t)sent;
		channel->output_size -= (size_t)sent;
		if (output->sent < output->size)
			continue;
		channel->output = output->next;
		if (!channel->output)
			channel->output_tail = &channel->output;
		output_free(output);
	}
	return 0;
}

int uvf_channel_flush(struct uvf_channel *channel)
{
	int ret;

	pthread_mutex_lock(&channel->send_lock);
	ret = flush_queue(channel);
	pthread_mutex_unlock(&channel->send_lock);
	if (ret < 0)
		uvf_channel_fail(channel, ret);
	return ret;
}

/*
 * Whether what was queued up to @end is out. With others that queue, all of it may never be.
 */
static bool is_out(struct uvf_channel *channel, uint64_t end)
{
	bool out;

	pthread_mutex_lock(&channel->send_lock);
	out = channel->output_end - channel->output_size >= end;
	pthread_mutex_unlock(&channel->send_lock);
	return out;
}

/*
 * Until what was queued up to @end is out, the channel is over, or the time limit passes.
 * #syscalls: poll
 */
static int flush_wait(struct uvf_channel *channel, uint64_t end)
{
	uint64_t deadline = uvf_now_ns() + channel->timeout;

	for (;;) {
		struct pollfd poll_fd = {channel->fd, POLLOUT, 0};
		uint64_t now;
		int ret = uvf_channel_flush(channel);

		if (ret <= 0)
			return ret;
		if (is_out(channel, end))
			return 0;
		now = uvf_now_ns();
		if (now >= deadline) {
			uvf_channel_fail(channel, -ETIMEDOUT);
			return -ETIMEDOUT;
		}
		poll(&poll_fd, 1, (int)((deadline - now) / 1000000 + 1));
	}
}

/*
 * Sends what the socket takes, and queues the rest. Returns 0, 1 when something is queued, FULL
 * when nothing was done as the queue has no room, or an error. With the send lock held.
 */
static int send_or_queue(struct uvf_channel *channel, const struct iovec *iov, size_t iov_count,
			 const int *fds, size_t fd_count)
{
	size_t size = 0;
	ssize_t sent = 0;
	int ret;

	for (size_t i = 0; i < iov_count; i++)
		size += iov[i].iov_len;
	if (!channel->output)
		sent = uvf_fdpass_send(channel->fd, iov, iov_count, fds, fd_count, MSG_DONTWAIT);
	else if (!has_room(channel, size))
		return FULL;
	if (sent == -EAGAIN)
		sent = 0;
	if (sent < 0)
		return sent == -EPIPE || sent == -ECONNRESET ? -ENOTCONN : (int)sent;
	if ((size_t)sent == size)
		return 0;
	ret = queue(channel, iov, iov_count, fds, fd_count, (size_t)sent);
	return ret < 0 ? ret : 1;
}

int uvf_channel_send(struct uvf_channel *channel, const struct iovec *iov, size_t iov_count,
		     const int *fds, size_t fd_count, bool wait)
{
	uint64_t end;
	int ret;

	do {
		pthread_mutex_lock(&channel->send_lock);
		ret = send_or_queue(channel, iov, iov_count, fds, fd_count);
		end = channel->output_end;
		pthread_mutex_unlock(&channel->send_lock);
		if (ret == FULL && wait && flush_wait(channel, end) < 0)
			return uvf_channel_error(channel);
	} while (ret == FULL && wait);
	if (ret < 0 || ret == FULL) {
		uvf_channel_fail(channel, ret < 0 ? ret : -ENOBUFS);
		return uvf_channel_error(channel);
	}
	return ret && wait ? flush_wait(channel, end) : 0;
}

/* #syscalls: write */
void uvf_channel_nudge(struct uvf_channel *channel)
{
	uint64_t one = 1;
	ssize_t written = 0;

	pthread_mutex_lock(&channel->lock);
	channel->nudged = true;
	if (channel->polling)
		written = write(channel->wake, &one, sizeof(one));
	(void)written; /* it can only be full: then it is readable */
	pthread_cond_broadcast(&channel->changed);
	pthread_mutex_unlock(&channel->lock);
	uvf_channel_kick(channel);
}
