/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exports of NBD servers as storage, between the parts: what was opened (backend_nbd.c), a
 * connection and how it comes back (nbd_connection.c), who calls the server anew (nbd_dialler.c),
 * requests and the pieces that the server gets of them (nbd_request.c), and the channel
 * (nbd_channel.c).
 *
 * Threads and locks. A channel has a connection of its own where the server keeps several coherent
 * (multi-conn), else all channels share one. A connection belongs to no thread: whoever has
 * something to do there, drives it under its lock. The lock covers all of the connection, and of
 * its channels what is said there. libnbd's callbacks run inside it and only take notes.
 */
#ifndef UVF_NVME_NBD_H
#define UVF_NVME_NBD_H

#include <libnbd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "devices/nvme/backend.h"

#define NBD_MAX_IO_SIZE (1u << 20)
/* Each holds a request; so many a channel, which costs memory only once they are used. */
#define NBD_BOUNCES 32u
/* A request in several buffers goes straight from them if none is smaller than this. */
#define NBD_STRAIGHT_SIZE (32u << 10)
/* Requests that the server has been given, a channel. */
#define NBD_REQUESTS 128u
/* Pieces of one request in flight. */
#define NBD_PIECES 16u

/* What a server says of its export. */
struct nbd_export {
	uint64_t size;
	uint32_t minimum, preferred, maximum; /* block sizes */
	bool read_only, flush, fua, trim, zero, multi_conn;
};

struct nbd_backend {
	struct nvme_backend base;
	char *uri;
	char *name; /* of the export; NULL: TLS, where libnbd reads the URI each time */
	bool tls;
	struct nbd_export export; /* as opened */
	uint32_t limit_ms;	  /* how long a lost connection is waited for */
	int dialler;		  /* -1: with TLS */
	char *zeroes;		  /* NBD_MAX_IO_SIZE of them, read-only */
	struct uvf_log log;
	const char *who;
	pthread_mutex_t lock; /* of the next two; taken before a connection's */
	struct nbd_connection *first;
	bool first_taken, no_more; /* no_more: the server takes no further connections */
	atomic_bool several;	   /* connections are in use */
	struct nvme_channel *own;  /* for nvme_backend_release() */
};

enum nbd_state {
	NBD_UP,		 /* commands are taken */
	NBD_PAUSED,	 /* until retry_at */
	NBD_DIALLING,	 /* the dialler answers at @reply */
	NBD_NEGOTIATING, /* by libnbd */
};

struct nbd_connection {
	struct nbd_backend *backend;
	pthread_mutex_t lock;
	enum nbd_state state;
	atomic_bool up;	  /* whether @state is NBD_UP */
	atomic_bool down; /* lost for longer than is waited: commands fail at once */
	bool broken;	  /* is to be given up, as the server said or libnbd */
	struct nbd_handle *handle;
	int reply;
	struct nbd_export export; /* of the server that is there now */
	/* In ms. */
	uint64_t lost_at, retry_at, attempt_until, up_at;
	uint64_t asked_at; /* when it got its first command; 0: none yet */
	bool answered;	   /* anything since it is up */
	unsigned attempts;
	char said[128]; /* why the last attempt failed, as logged */
	struct nbd_channel *channels;
	struct nbd_request *noted; /* with pieces that have ended */
};

/* A request that the server has been given, or has to be given again. */
struct nbd_request {
	struct nbd_channel *channel;
	struct nbd_request *next; /* free, noted, or ended */
	struct nvme_io *io;	  /* NULL: free */
	bool is_noted, ended, parked, flushed;
	unsigned outstanding; /* pieces */
	int result;
	uint64_t at, left; /* what is to be made pieces of */
	char *bounce;
};

struct nbd_channel {
	struct nvme_channel base; /* fd: of an epoll */
	struct nbd_connection *connection;
	struct nvme_io *waiting, **waiting_end;

	/* Under the connection's lock. */
	struct nbd_channel *sibling;
	struct nbd_request *free, *ended, **ended_end;
	unsigned request_count, parked; /* parked: what has to be given again has no buffer yet */
	struct nbd_request *requests;
	char *bounces;
	char *free_bounces[NBD_BOUNCES];
	unsigned free_bounce_count;
	bool sleeping, signalled, timer_set;
	int event, timer;
	int watched; /* -1: none */
	uint32_t watched_for;
};

static inline uint64_t nbd_now_ms(void)
{
	return uvf_now_ns() / 1000000u;
}

/* ---- backend_nbd.c ---- */

/* A handle with all that a connection needs. NULL: no memory. */
struct nbd_handle *nvme_nbd_new_handle(const struct nbd_backend *backend);
void nvme_nbd_read_export(struct nbd_handle *handle, struct nbd_export *export);

/* ---- nbd_dialler.c ---- */

/*
 * Starts a process that connects to one address for us, with the rights and the files of now. It
 * ends when the last copy of *@diallerp is closed. Errors: those of socketpair(2) and fork(2).
 */
int nvme_nbd_dialler_start(const struct sockaddr *address, socklen_t size, int *diallerp);
/* Asks it; *@replyp gets readable. Errors: -EPIPE (it has gone), -EAGAIN, -EMFILE. */
int nvme_nbd_dial(int dialler, int *replyp);
/* The answer: a connected socket, -EAGAIN (none yet), or why there is none. @reply stays open. */
int nvme_nbd_dial_end(int reply);
/* So that a peer that is silently gone is noticed. */
void nvme_nbd_keep_alive(int sock);

/* ---- nbd_connection.c: the first two apart, with the lock ---- */

/* Connects and waits for that. Errors: what libnbd gives. */
int nvme_nbd_connect(struct nbd_backend *backend, struct nbd_connection **connectionp,
		     struct uvf_error *error);
void nvme_nbd_disconnect(struct nbd_connection *connection);
/* Does what can be done now, without waiting. */
void nvme_nbd_drive(struct nbd_connection *connection);
/* Gives the connection up; what it was given waits for the next. */
void nvme_nbd_lose(struct nbd_connection *connection, const char *why);
/* The descriptor to be waited for and what for (EPOLLIN...), or -1. */
int nvme_nbd_watch(const struct nbd_connection *connection, uint32_t *events);
/* When there is something to do whatever happens, in ms; UINT64_MAX: never. */
uint64_t nvme_nbd_wake_at(const struct nbd_connection *connection);

/* ---- nbd_request.c: with the lock ---- */

/* A place for @io, which is begun. False: there is no room until a request ends. */
bool nvme_nbd_request_start(struct nbd_channel *channel, struct nvme_io *io);
/* Begins again with all that have not ended; the connection is up. */
void nvme_nbd_requests_again(struct nbd_channel *channel);
/* The connection has gone. */
void nvme_nbd_requests_lost(struct nbd_channel *channel);
/* Goes on with what libnbd has told. */
void nvme_nbd_requests_noted(struct nbd_connection *connection);
void nvme_nbd_requests_fail(struct nbd_channel *channel, int result);
/* Its place, and its buffer, are free for others. */
void nvme_nbd_request_free(struct nbd_request *request);

/* ---- nbd_channel.c ---- */

int nvme_nbd_channel_new(struct nbd_backend *backend, struct nbd_connection *connection,
			 unsigned depth, struct nvme_channel **channelp, struct uvf_error *error);
/*
 * Waits for @io, which was submitted and is the only one. False: it was taken back, as there is no
 * server now. Each call does what can be done to get it back.
 */
bool nvme_nbd_run_alone(struct nvme_channel *channel, struct nvme_io *io);
/* With the lock: there is something for its thread. */
void nvme_nbd_channel_wake(struct nbd_channel *channel);
/* With the lock: what was watched will be closed, or (which ends it) @closed already. */
void nvme_nbd_channel_unwatch(struct nbd_channel *channel, bool closed);

#endif
