/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One connected socket on which messages go both ways: requests of ours with their replies, and
 * the other side's requests. Both ends of the protocol use it.
 *
 * One thread at a time has the receiver's role: whoever waits for something takes it when it is
 * free, sorts what comes (replies to their callers, requests to the queue) and gives it back. So a
 * caller that waits for its reply never depends on another thread, one that is stuck in an unmap
 * say, and with one thread alone a request is one receive and one send.
 *
 * What is held is bounded: the received bytes by a buffer of three messages of the largest size,
 * the descriptors in it, and the replies that the other side does not read. Whoever passes a bound,
 * or stays silent in the middle of something for longer than the time limit, has lost the channel.
 *
 * Threads: uvf_channel_next() one at a time, everything else from any thread.
 */
#ifndef UVF_WIRE_CHANNEL_H
#define UVF_WIRE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/fdpass.h"
#include "wire/protocol.h"

struct uvf_channel;

struct uvf_channel_config {
	int fd;		      /* connected; taken over (also on failure) */
	uint32_t max_payload; /* of a message, without its header */
	uint32_t max_fds;     /* with one message */
	uint32_t timeout_ms;
	uint32_t wait_ms;    /* a reader with WAIT comes back after so long; 0: timeout_ms */
	bool takes_requests; /* else a request from the other side is a violation */
	bool foreign;	     /* another process's until uvf_channel_own() */
	int kick_fd;	     /* an eventfd, written when a caller has received requests; -1: none.
				Borrowed */
};

int uvf_channel_new(const struct uvf_channel_config *config, struct uvf_channel **channelp);
struct uvf_channel *uvf_channel_get(struct uvf_channel *channel);
void uvf_channel_put(struct uvf_channel *channel);

int uvf_channel_fd(const struct uvf_channel *channel);
/* 0, or the negative errno of why it is over. */
int uvf_channel_error(struct uvf_channel *channel);
/* Ends it: those who wait, and all later calls, get @error (or what ended it before). */
void uvf_channel_fail(struct uvf_channel *channel, int error);

/* Applies to messages that come from now on. */
void uvf_channel_set_timeout(struct uvf_channel *channel, uint32_t timeout_ms);

/* A request of the other side. */
struct uvf_message {
	struct uvf_wire_header header;
	const uint8_t *payload; /* in the receive buffer: until the next uvf_channel_next() */
	size_t payload_size;
	int fds[UVF_FDPASS_MAX]; /* the receiver's: it closes them */
	size_t fd_count;
};

enum uvf_channel_wait {
	UVF_CHANNEL_QUEUED, /* what has been received */
	UVF_CHANNEL_NOW,    /* what is there */
	UVF_CHANNEL_WAIT,   /* as the channel's main reader */
	UVF_CHANNEL_POLL,   /* leaves the role to callers that wait for replies */
};

/*
 * The next request: 1, 0 when there is none (with WAIT and POLL: within the time limit), or why the
 * channel is over, once all that came before has been handed out.
 */
int uvf_channel_next(struct uvf_channel *channel, enum uvf_channel_wait wait,
		     struct uvf_message *message);
/* Whether the other side has begun a message and not ended it, and since when (ns). */
bool uvf_channel_partial(struct uvf_channel *channel, uint64_t *since);

struct uvf_call {
	uint16_t command;
	const void *fixed; /* the payload: two parts */
	size_t fixed_size;
	const void *data;
	size_t data_size;
	const int *fds; /* to send; the caller's */
	size_t fd_count;
	void *reply; /* its fixed part */
	size_t reply_size;
	void *reply_data; /* what follows */
	size_t reply_data_max;
	size_t reply_data_size; /* what came */
	int *reply_fds;		/* what came: the caller's */
	size_t reply_fd_max;
	size_t reply_fd_count;
	unsigned patience; /* how many time limits to wait for the reply; 0: one */
};

/*
 * Sends a request and waits for its reply. Returns 0, the negative errno that the reply carries
 * (@refused is then true), or why the channel is over: -ETIMEDOUT, -ENOTCONN, -EPROTO (a reply that
 * answers no request of ours or has a size that can't be).
 */
int uvf_channel_call(struct uvf_channel *channel, struct uvf_call *call, bool *refused);
/*
 * The same in two parts: sends it, in the order of the calls of this; waits for the reply, which
 * may come after those to later requests. @call stays until then. Each begun is ended, once.
 */
struct uvf_waiter;
int uvf_channel_begin(struct uvf_channel *channel, struct uvf_call *call,
		      struct uvf_waiter **waiterp);
int uvf_channel_end(struct uvf_channel *channel, struct uvf_waiter *waiter, bool *refused);
/* Sends a request that gets no reply. */
int uvf_channel_post(struct uvf_channel *channel, const struct uvf_call *call);

/*
 * Sends a message. With @wait it is out, or the channel over, when this returns. Without, it may
 * stay queued: uvf_channel_flush() sends on. Returns 0 or why the channel is over.
 */
int uvf_channel_send(struct uvf_channel *channel, const struct iovec *iov, size_t iov_count,
		     const int *fds, size_t fd_count, bool wait);
/*
 * Wakes who serves the channel for something else than a request: its uvf_channel_next() with POLL,
 * now or the next time that it would wait, returns 0 once. And writes to kick_fd.
 */
void uvf_channel_nudge(struct uvf_channel *channel);
/* Returns 0 when nothing is queued any more, 1 when something is, or why the channel is over. */
int uvf_channel_flush(struct uvf_channel *channel);

/* ---- A connection that goes to another process: channel_move.c ---- */

/*
 * While it is on uvf_channel_next() hands out no request: it returns 0. One that waits with POLL
 * does so at once, one with WAIT when something comes or its time is over.
 */
void uvf_channel_interrupt(struct uvf_channel *channel, bool on);

/* What was received and not handed out: @size bytes, and with which of them descriptors came. */
struct uvf_channel_rest {
	uint8_t *bytes;
	size_t size;
	struct uvf_rest_fd {
		uint64_t at; /* of the last byte that it came with */
		int fd;
	} * fds;
	size_t fd_count;
};

/*
 * Copies it of a channel that is interrupted; the descriptors stay the channel's. The caller frees
 * the arrays. Errors: -EBUSY (a call is under way, or output is queued), why it is over, -ENOMEM.
 */
int uvf_channel_save(struct uvf_channel *channel, struct uvf_channel_rest *rest);
/*
 * Puts it into a new channel, which takes the descriptors over, also on failure. Errors: -EMSGSIZE,
 * -E2BIG, -EPROTO.
 */
int uvf_channel_restore(struct uvf_channel *channel, const struct uvf_channel_rest *rest);
/*
 * Another process has the connection: this channel is over (-ENOTCONN) without anything happening
 * to the socket, and hands out nothing that it has. While nobody is in uvf_channel_next() or in a
 * call.
 */
void uvf_channel_disown(struct uvf_channel *channel);
/*
 * The other way round, for a channel that was made `foreign`: until then its end, and its time
 * limits, don't reach the socket.
 */
void uvf_channel_own(struct uvf_channel *channel);

#endif
