/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device in another process, reached over a vfio-user socket:
 *   connect.c   the connection: VERSION, and the model "vfio-user"
 *   discover.c  what the device has: regions, areas, IRQ indexes
 *   device.c    the device's operations as messages
 *   dma.c       the driver's address space over there: mappings, and the device's own requests
 *   migration.c its migration, which goes on over there
 *   logging.c   its dirty log, which is kept over there
 *
 * The other side is not trusted: what it says is checked before it is used, and an answer that
 * can't be ends the connection.
 *
 * Threads: calls come with the device's lock, or the ownership of it, held. One thread more serves
 * the device's DMA requests: on the twin socket, or, without one, on the connection itself, where
 * it stands back while a caller waits for a reply.
 */
#ifndef UVF_DEVICES_VFIO_USER_CLIENT_H
#define UVF_DEVICES_VFIO_USER_CLIENT_H

#include <pthread.h>
#include <uvfio/client.h>

#include "iommu/iommu.h"
#include "wire/wire.h"

struct client {
	struct uvf_device *dev;
	struct uvf_client_config config; /* defaults filled in; path not kept */
	struct uvf_channel *channel;
	struct uvf_channel *twin; /* or NULL */
	struct uvf_wire_capabilities server;
	size_t max_count; /* of one region access */
	bool tells_data_size, tells_precopy_info;
	bool is_early;	     /* the state that was last asked for is PRE_COPY, or with P2P */
	uint64_t max_bitmap; /* of a report, whole words */
	int *fds;	     /* of areas and ioeventfds: the device's */
	size_t fd_count;

	struct uvf_attachment *attachment; /* what the device may reach by messages */
	struct uvf_address_space *space;   /* what it is attached to; with a reference */
	struct uvf_listener listener;
	pthread_t thread;
	bool thread_runs;
	uint8_t *dma_reply;
};

/* Calls that any answer but success, or a refusal, has ended the connection of. */
int client_call(struct client *client, struct uvf_call *call);
/* The same, and tells whether the other side said no (then the connection goes on). */
int client_try(struct client *client, struct uvf_call *call, bool *refused);
/* Ends the connection for an answer that can't be. Returns -EPROTO. */
int client_violation(struct client *client, const char *what);
/* Keeps @fd until the device is freed; closes it on failure. */
int client_keep_fd(struct client *client, int fd);

/*
 * A feature: @flags say which, and whether to GET, SET or PROBE it, @data what is sent with it.
 * Returns the bytes of @answer that came, or as client_try().
 */
ssize_t client_ask(struct client *client, uint32_t flags, const void *data, size_t size,
		   void *answer, size_t answer_max, bool *refused);
/* Whether there is a feature: a refusal says no. Errors: those of a connection that is over. */
int client_probe(struct client *client, uint32_t flags, bool *has);

/* discover.c. Makes the device and all that it has. */
int client_discover(struct client *client, const char *name, struct uvf_error *error);

/* device.c */
extern const struct uvf_device_ops client_ops, client_ops_without_reset;
int client_region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count);
int client_region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count);
void client_free(struct client *client);

/* migration.c, logging.c: what of it the far end can. */
int client_discover_migration(struct client *client);
int client_discover_logging(struct client *client);
/* The owner of a device that can't be reset has gone. */
void client_end_migration(struct uvf_device *dev);

/* dma.c */
int client_attach(struct uvf_device *dev, uint32_t pasid, struct uvf_address_space *space);
int client_dma_start(struct client *client);
void client_dma_stop(struct client *client);

#endif
