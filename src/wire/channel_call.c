/* SPDX-License-Identifier: BSD-3-Clause */
/* A channel's requests of ours: each is sent with an id, and its reply waited for. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "wire/channel_private.h"

static void fill_header(struct uvf_wire_header *header, const struct uvf_call *call, uint16_t id,
			uint32_t flags)
{
	*header = (struct uvf_wire_header){
		.id = id,
		.command = call->command,
		.size = (uint32_t)(sizeof(*header) + call->fixed_size + call->data_size),
		.flags = flags,
	};
}

static int send_call(struct uvf_channel *channel, const struct uvf_call *call, uint16_t id,
		     uint32_t flags)
{
	struct uvf_wire_header header;
	struct iovec iov[] = {
		{&header, sizeof(header)},
		{(void *)call->fixed, call->fixed_size},
		{(void *)call->data, call->data_size},
	};

	fill_header(&header, call, id, flags);
	return uvf_channel_send(channel, iov, 3, call->fds, call->fd_count, true);
}

static void timed_wait(struct uvf_channel *channel, uint64_t deadline)
{
	struct timespec until = {(time_t)(deadline / 1000000000), (long)(deadline % 1000000000)};

	pthread_cond_timedwait(&channel->changed, &channel->lock, &until);
}

/* #syscalls: write */
void uvf_channel_kick(const struct uvf_channel *channel)
{
	uint64_t one = 1;
	ssize_t written;

	if (channel->kick_fd < 0)
		return;
	written = write(channel->kick_fd, &one, sizeof(one));
	(void)written; /* it can only be full: then it is readable */
}

/* Until @waiter is done or the channel is over. With the lock held. */
static void wait_reply(struct uvf_channel *channel, struct uvf_waiter *waiter)
{
	unsigned patience = waiter->call->patience ? waiter->call->patience : 1;
	uint64_t deadline = uvf_now_ns() + channel->timeout * patience;

	while (!waiter->done && !channel->lost) {
		if (channel->receiving) {
			timed_wait(channel, deadline);
		} else {
			uvf_channel_receive(channel, 0);
			/*
			 * Nobody waits for those but by the eventfd. At once: the other side may
			 * answer nothing before it is answered.
			 */
			if (channel->requests)
				uvf_channel_kick(channel);
		}
		if (!waiter->done && uvf_now_ns() >= deadline)
			uvf_channel_lose(channel, -ETIMEDOUT);
	}
}

/* That no reply which is waited for will have: some wait long. With the lock held. */
static uint16_t free_id(struct uvf_channel *channel)
{
	const struct uvf_waiter *waiter = channel->waiters;
	uint16_t id = channel->next_id++;

	while (waiter) {
		if (waiter->id == id) {
			id = channel->next_id++;
			waiter = channel->waiters;
		} else {
			waiter = waiter->next;
		}
	}
	return id;
}

/* Sends it. With an error @waiter waits for nothing. */
static int begin(struct uvf_channel *channel, struct uvf_waiter *waiter)
{
	struct uvf_call *call = waiter->call;
	int ret;

	call->reply_data_size = 0;
	call->reply_fd_count = 0;
	pthread_mutex_lock(&channel->lock);
	waiter->id = free_id(channel);
	waiter->next = channel->waiters;
	channel->waiters = waiter;
	ret = channel->lost;
	pthread_mutex_unlock(&channel->lock);
	return ret ? ret : send_call(channel, call, waiter->id, UVF_WIRE_REQUEST);
}

/* Waits for the reply, unless @ret says that there can be none. */
static int end(struct uvf_channel *channel, struct uvf_waiter *waiter, int ret, bool *refused)
{
	struct uvf_waiter **at;

	*refused = false;
	pthread_mutex_lock(&channel->lock);
	if (!ret)
		wait_reply(channel, waiter);
	if (waiter->done) {
		ret = waiter->result;
		*refused = waiter->refused;
	} else {
		ret = channel->lost;
		for (at = &channel->waiters; *at != waiter; at = &(*at)->next)
			;
		*at = waiter->next;
	}
	/* A polite reader waits until nobody waits. */
	pthread_cond_broadcast(&channel->changed);
	pthread_mutex_unlock(&channel->lock);
	return ret;
}

int uvf_channel_call(struct uvf_channel *channel, struct uvf_call *call, bool *refused)
{
	struct uvf_waiter waiter = {.call = call};
	int ret = begin(channel, &waiter);

	return end(channel, &waiter, ret, refused);
}

int uvf_channel_begin(struct uvf_channel *channel, struct uvf_call *call,
		      struct uvf_waiter **waiterp)
{
	struct uvf_waiter *waiter = malloc(sizeof(*waiter));
	bool refused;
	int ret;

	if (!waiter)
		return -ENOMEM;
	*waiter = (struct uvf_waiter){.call = call};
	ret = begin(channel, waiter);
	if (ret) {
		ret = end(channel, waiter, ret, &refused);
		free(waiter);
		return ret;
	}
	*waiterp = waiter;
	return 0;
}

int uvf_channel_end(struct uvf_channel *channel, struct uvf_waiter *waiter, bool *refused)
{
	int ret = end(channel, waiter, 0, refused);

	free(waiter);
	return ret;
}

int uvf_channel_post(struct uvf_channel *channel, const struct uvf_call *call)
{
	int ret = uvf_channel_error(channel);

	return ret ? ret : send_call(channel, call, 0, UVF_WIRE_REQUEST | UVF_WIRE_NO_REPLY);
}
