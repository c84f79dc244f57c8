/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of a server:
 *   server.c      its making: configuration
 *   socket.c      its socket in the file system
 *   loop.c        events: who connects, who waits, time limits; embedded, or on threads
 *   connection.c  one client's session, from VERSION to the device's close
 *   requests.c    what each command does
 *   infos.c       of them, those that tell what the device has
 *   features.c    DEVICE_FEATURE and the data of a migration
 *   deferred.c    of that, changes of the migration state, which can take their time
 *   remote.c      the client's memory that comes without a file
 *   suspend.c     a session that stands still, goes on, or has gone to another server
 *   offer.c       what another server needs to go on with a session
 *   offered.c     such a description, read
 *   adopt.c       a session that comes from another server
 *
 * Threads, when it has its own: the acceptor runs the event loop (connecting clients, refusals),
 * the other blocks in its client's socket. Embedded, the caller's thread does both.
 */
#ifndef UVF_FRONTENDS_VFIO_USER_SERVER_H
#define UVF_FRONTENDS_VFIO_USER_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <uvfio/client.h>
#include <uvfio/server.h>

#include "wire/wire.h"

/* Clients that have connected and are not being served: their VERSION is awaited, to refuse it. */
#define UVF_SERVER_CANDIDATES 16

/* Requests for one call of the embedded loop, so that others get their turn. */
#define UVF_REQUESTS_AT_ONCE 64

struct uvf_reply;

struct uvf_connection {
	struct uvf_server *server;
	struct uvf_channel *channel;
	struct uvf_channel *twin; /* for our requests, where the client wants that; or NULL */
	struct uvf_address_space *space;
	struct uvf_memory *remote; /* what the client maps without a file; made when first needed */
	struct uvf_remote *remote_reader; /* that memory's, which keeps it */
	struct uvf_wire_capabilities client;
	struct uvf_wire_capabilities agreed; /* what the client was told */
	_Atomic bool negotiated;	     /* also read by who moves the session */
	bool areas;			     /* both ends know areas that change: <uvfio/remap.h> */
	struct uvf_deferred *deferred;	     /* replies that come later, oldest first */
	uint64_t since;			     /* of connecting, ns */
	bool blocking;			     /* on a thread of its own */
	bool foreign;			     /* another process's still */
	bool movable;	   /* it can be suspended at once: its thread waits by polling */
	bool output_waits; /* replies are queued that the client doesn't read */
	uint64_t output_since;
	uint64_t max_bitmap_size; /* of a report of the device's dirty log */
	uint8_t *reply;		  /* header, fixed part and data */
	size_t reply_capacity;
};

/* Where a session of this server stands that is to go to another. */
enum uvf_suspension {
	UVF_NOT_SUSPENDED,
	UVF_TO_BE_MOVABLE, /* its thread is asked to wait by polling */
	UVF_MOVABLE,
	UVF_TO_BE_SUSPENDED,
	UVF_SUSPENDED, /* its thread waits for this to change */
};

struct uvf_candidate {
	int fd; /* -1: free */
	uint64_t since;
};

struct uvf_server {
	struct uvf_device *dev;
	struct uvf_server_config config; /* defaults filled in; path is ours */
	struct uvf_wire_limits limits;
	int listener;
	bool owns_path;
	dev_t path_device;
	ino_t path_inode;
	int epoll, timer, kick;
	int spare; /* given up to accept, and drop, a client when descriptors have run out */
	uint64_t timer_at; /* what the timer is set to, ns; 0: off */
	unsigned turns;	   /* of the embedded loop */

	struct uvf_candidate candidates[UVF_SERVER_CANDIDATES];

	pthread_mutex_t lock; /* connection, its twin, stopping, suspension, reserved */
	pthread_cond_t changed;
	struct uvf_connection *connection;
	bool stopping;
	bool threaded;
	enum uvf_suspension suspension; /* of `connection` */
	uint64_t sessions_ended;
	struct uvf_offer *offer;       /* what was described of it last; NULL */
	bool reserved;		       /* for a session that comes from another server */
	struct uvf_adoption *adoption; /* that session; NULL */
	pthread_t acceptor, worker;
};

/* socket.c: the path, made by one server at a time. */
int uvf_server_bind(struct uvf_server *server, struct uvf_error *error);
void uvf_server_unbind(struct uvf_server *server);

/* suspend.c. Between requests, by the session's thread: stands still while that is wanted. */
void uvf_suspension_point(struct uvf_connection *connection);
/* The session is over, with the lock held. */
void uvf_suspension_end(struct uvf_server *server);
/* offer.c */
void uvf_offer_free(struct uvf_offer *offer);
/* adopt.c: whatever was adopted and isn't served. */
void uvf_adoption_undo(struct uvf_server *server);

/* loop.c */
void uvf_server_kick(struct uvf_server *server);
int uvf_server_loop_init(struct uvf_server *server);
void uvf_server_loop_destroy(struct uvf_server *server);

/* connection.c. Takes @fd over; @foreign: another process has it still. */
int uvf_connection_new(struct uvf_server *server, int fd, bool blocking, bool foreign,
		       struct uvf_connection **connectionp);
/* The client is gone: closes the device. Nobody waits for that client any more. */
void uvf_connection_close(struct uvf_connection *connection);
/* Closes, if that wasn't done. */
void uvf_connection_free(struct uvf_connection *connection);
/*
 * Handles requests: with @wait until the client is gone or, when nothing came, the time limit has
 * passed; else those that are there. Returns how many, or a negative errno: the client is gone.
 */
int uvf_connection_serve(struct uvf_connection *connection, bool wait);
/* When the client must have done what it owes (ns); 0: it owes nothing. */
uint64_t uvf_connection_deadline(struct uvf_connection *connection);
/* @fd, taken over, is for our requests from now on. Errors: -ENOMEM, why the session is over. */
int uvf_connection_set_twin(struct uvf_connection *connection, int fd);
/* What this server's client was told, or would be, given what it has told us. */
void uvf_connection_agree(struct uvf_connection *connection, struct uvf_wire_capabilities *ours);
/* An empty address space, by @max_dma_maps and the configuration. */
int uvf_connection_new_space(struct uvf_connection *connection, uint64_t max_dma_maps);
/* Sends a reply to @request: @error, a negative errno, or @reply. */
void uvf_connection_reply(struct uvf_connection *connection, const struct uvf_wire_header *request,
			  int error, const struct uvf_reply *reply);
/* Answers @header with an error, on a socket that isn't served. */
void uvf_connection_refuse(int fd, const struct uvf_wire_header *header, int error);

/*
 * requests.c. A reply under construction: @fixed and @data lie in the connection's buffer; @size
 * says how much of it to send.
 */
struct uvf_reply {
	uint8_t *payload;
	size_t size;
	int fds[UVF_FDPASS_MAX]; /* borrowed */
	size_t fd_count;
	bool later; /* it isn't sent now */
};
static inline void uvf_reply_put(struct uvf_reply *reply, const void *data, size_t size)
{
	memcpy(reply->payload + reply->size, data, size);
	reply->size += size;
}
/* Returns 0 or a negative errno, which becomes the reply. */
int uvf_request_handle(struct uvf_connection *connection, const struct uvf_wire_request *request,
		       struct uvf_reply *reply);

/* infos.c: of these. */
int uvf_request_device_info(struct uvf_connection *connection,
			    const struct uvf_wire_request *request, struct uvf_reply *reply);
int uvf_request_region_info(struct uvf_connection *connection,
			    const struct uvf_wire_request *request, struct uvf_reply *reply);
int uvf_request_region_io_fds(struct uvf_connection *connection,
			      const struct uvf_wire_request *request, struct uvf_reply *reply);
int uvf_request_irq_info(struct uvf_connection *connection, const struct uvf_wire_request *request,
			 struct uvf_reply *reply);
/* Whether IRQ @index isn't there for the client: it doesn't know what it is for. */
bool uvf_connection_hides_irq(const struct uvf_connection *connection, uint32_t index);

/* features.c: of these. */
int uvf_request_feature(struct uvf_connection *connection, const struct uvf_wire_request *request,
			struct uvf_reply *reply);
int uvf_request_mig_data_read(struct uvf_connection *connection,
			      const struct uvf_wire_request *request, struct uvf_reply *reply);
int uvf_request_mig_data_write(struct uvf_connection *connection,
			       const struct uvf_wire_request *request, struct uvf_reply *reply);

/* deferred.c: of these, SET of MIG_DEVICE_STATE. The data's size has been checked. */
int uvf_request_set_state(struct uvf_connection *connection, const struct uvf_wire_request *request,
			  struct uvf_reply *reply);
/* Sends the replies whose time has come: by the session's thread, between requests. */
void uvf_connection_answer_deferred(struct uvf_connection *connection);
/* Nobody waits for them any more. */
void uvf_connection_forget_deferred(struct uvf_connection *connection);

/* remote.c */
/* What has been learnt of how the client lays out messages, for who goes on. Errors: -EINVAL. */
uint8_t uvf_remote_layout(const struct uvf_connection *connection);
int uvf_remote_set_layout(struct uvf_connection *connection, uint8_t layout);
int uvf_remote_memory_new(struct uvf_connection *connection, struct uvf_memory **memoryp);

void uvf_server_log(const struct uvf_server *server, enum uvf_log_level level, const char *format,
		    ...) UVF_PRINTF(3, 4);

#endif
