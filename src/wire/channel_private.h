/* SPDX-License-Identifier: BSD-3-Clause */
/* What the halves of a channel share. */
#ifndef UVF_WIRE_CHANNEL_PRIVATE_H
#define UVF_WIRE_CHANNEL_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "wire/channel.h"

/* Flags of a message in the buffer that was a reply and has been dealt with. */
#define UVF_CHANNEL_CONSUMED UINT32_MAX

/* A caller that waits for its reply, or will: on its stack, or from uvf_channel_begin(). */
struct uvf_waiter {
	struct uvf_waiter *next;
	struct uvf_call *call;
	uint16_t id;
	bool done;
	bool refused;
	int result;
};

struct uvf_received_fd {
	uint64_t position; /* in the stream: of the last byte that it came with */
	int fd;
};

struct uvf_output {
	struct uvf_output *next;
	size_t size, sent;
	size_t fd_count;
	int fds[UVF_FDPASS_MAX];
	uint8_t bytes[];
};

struct uvf_channel {
	int fd;
	int kick_fd;
	bool takes_requests;
	uint32_t max_fds;
	uint32_t wait_ms;
	size_t max_message;
	atomic_uint references;
	_Atomic uint64_t timeout; /* ns */

	pthread_mutex_t lock; /* all that follows, down to the sending half */
	pthread_cond_t
		changed; /* the role is free, a caller is done, a request is there, or over */
	int lost;
	bool foreign;	  /* another process's: nothing is done to the socket */
	bool interrupted; /* next() hands nothing out */
	bool nudged;	  /* next() with POLL returns before it waits */
	bool receiving;	  /* somebody has the role: `end` grows, nothing else moves */
	bool polling;	  /* a reader without the role waits for bytes, or for `wake` */
	int wake;	  /* eventfd, made for the first such reader; -1 */
	bool taken;	  /* the bytes before `start` are a request that somebody reads */
	uint8_t *buffer;
	size_t capacity;
	size_t start;	   /* of what next() has not yet seen */
	size_t scanned;	   /* of the message that isn't whole yet */
	size_t end;	   /* of what was received */
	uint64_t position; /* in the stream: of buffer[0] */
	unsigned requests; /* in [start, scanned) */
	uint64_t partial_since;
	struct uvf_received_fd *fds;
	size_t fd_count, fd_capacity;
	struct uvf_waiter *waiters;
	uint16_t next_id;

	pthread_mutex_t send_lock; /* taken alone, or before `lock` */
	struct uvf_output *output, **output_tail;
	size_t output_size;
	uint64_t output_end; /* in the stream of all that was ever queued */
};

/* Tells who waits by the channel's eventfd, if it has one. */
void uvf_channel_kick(const struct uvf_channel *channel);
/*
 * Receives once, with the role (taken and given back here) and the lock held, which is let go
 * meanwhile. Returns whether anything came.
 */
bool uvf_channel_receive(struct uvf_channel *channel, int flags);
/* With the lock held. */
void uvf_channel_lose(struct uvf_channel *channel, int error);
/* Sorts the whole messages that have come. With the lock held. Returns 0 or a violation. */
int uvf_channel_scan(struct uvf_channel *channel);

#endif
