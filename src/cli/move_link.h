/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the movers share: the link between them, and the control connection to who asked.
 *
 * The link is a socket of packets, each a header and its content:
 *
 *   HELLO    >   version of this protocol, then the model's name. First
 *   WELCOME  <   the device is free and waits for a state
 *   STATE    >   the next bytes of the state
 *   FDS      >   descriptors of the session
 *   SESSION  >   the next bytes of its description
 *   OFFER    >   that was all of both
 *   DONE     <   the session was taken over; when (struct move_done)
 *   ERROR    <>  why it comes to nothing: text
 *
 * Both ends are on one host; their versions can differ.
 */
#ifndef UVF_CLI_MOVE_LINK_H
#define UVF_CLI_MOVE_LINK_H

#include <pthread.h>
#include <stdint.h>
#include <uvfio/migration.h>

#include "cli/move.h"

#define MOVE_VERSION	    1
#define MOVE_MAX_CONTENT    65536
#define MOVE_FDS	    128	       /* in one packet */
#define MOVE_MAX_FDS	    65536      /* of one session */
#define MOVE_MAX_SESSION    (64 << 20) /* bytes */
#define MOVE_MAX_PARAMETERS 1024

enum move_kind {
	MOVE_HELLO = 1,
	MOVE_WELCOME,
	MOVE_STATE,
	MOVE_FDS_PACKET,
	MOVE_SESSION,
	MOVE_OFFER,
	MOVE_DONE,
	MOVE_ERROR,
};

struct move_header {
	uint32_t kind;
	uint32_t size; /* of the content */
};

struct move_hello {
	uint32_t version;
	char model[60]; /* ends with a zero byte */
};

/* CLOCK_MONOTONIC, which is the host's, ns. */
struct move_done {
	uint64_t loaded;  /* the state was, and the session was in place */
	uint64_t running; /* the device is, and the driver is served */
};

/* One device's. */
struct move {
	struct uvf_device *dev;
	struct uvf_server *server;
	struct uvf_log log; /* where its messages go on to */
	pthread_mutex_t lock;
	char last_error[160]; /* under the lock */

	int control, link; /* -1 */
	int stop;	   /* eventfd, of all: readable when all end */
	bool started;
	_Atomic bool ended;
	bool out;
	pthread_t thread;
	struct json_object *parameters;
	char *untold; /* what was said on the control connection and didn't go yet */
	size_t untold_size;
};

struct move_packet {
	struct move_header header;
	uint8_t content[MOVE_MAX_CONTENT];
	int fds[MOVE_FDS]; /* of MOVE_FDS_PACKET; until the next is received, or move_close_fds() */
	size_t fd_count;
};

/* move_source.c, move_destination.c: the threads' work, given parameters and link. */
void move_out(struct move *move);
void move_in(struct move *move);

/*
 * Waits for so long, or for room or something to read on the link where @events say so (0: not).
 * Returns what of it there is, 0 when the time is over, or -ECANCELED.
 */
int move_wait(struct move *move, short events, int timeout_ms);

/* Errors, with the reason: -ECANCELED, what the other end says, -EPIPE (it has hung up). */
int move_send(struct move *move, enum move_kind kind, const void *content, size_t size,
	      const int *fds, size_t fd_count, struct uvf_error *error);
/* The same, and -ETIMEDOUT, -EPROTO. */
int move_receive(struct move *move, struct move_packet *packet, int timeout_ms,
		 struct uvf_error *error);
/* Those of the packet that nobody took. */
void move_close_fds(struct move_packet *packet);
/*
 * For who waits: how it goes. Takes the object over. Never waits for who doesn't read: without
 * @must it may get lost, with it it goes later.
 */
void move_tell(struct move *move, struct json_object *object, bool must);
/* The last line, which is waited for. */
void move_tell_last(struct move *move, struct json_object *object);
/* {"error": text}, to who waits and, where that can be, to the other end. */
void move_fail(struct move *move, const struct uvf_error *error);

/* There is no more to say, while it isn't all over yet. */
void move_hang_up(struct move *move);

/* What the device has logged as an error since move_forget(), or @otherwise. */
void move_forget(struct move *move);
const char *move_reason(struct move *move, const char *otherwise, struct uvf_error *room);

#endif
