/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device in another process, reached over a vfio-user socket:
 *   connect.c   the connection: VERSION, and the model "vfio-user"
 *   discover.c  what the device has: regions, IRQ indexes
 *   region.c    what the other side says of a region, with its areas
 *   follow.c    areas that change
 *   announce.c  of that, what is mapped here
 *   device.c    the device's operations as messages
 *   dma.c       the driver's address space over there: mappings, and the device's own requests
 *   migration.c its migration, which goes on over there
 *   states.c    of that, ways to PRE_COPY, which can take their time
 *   logging.c   its dirty log, which is kept over there
 *
 * The other side is not trusted: what it says is checked before it is used, and an answer that
 * can't be ends the connection.
 *
 * Threads: calls come with the device's lock, or the ownership of it, held. One thread more serves
 * the device's DMA requests: on the twin socket, or, without one, on the connection itself, where
 * it stands back while a caller waits for a reply. Where areas change, one follows them, and one
 * waits for replies that may take until that is done.
 */
#ifndef UVF_DEVICES_VFIO_USER_CLIENT_H
#define UVF_DEVICES_VFIO_USER_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <uvfio/client.h>
#include <uvfio/migration.h>
#include <uvfio/remap.h>

#include "iommu/iommu.h"
#include "wire/wire.h"

/* A change of state takes as long as its storage, or its driver: so many of the time limits. */
#define CLIENT_STATE_PATIENCE 6

struct client_changing; /* a region */
struct client_change;	/* of state */

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

	/* Areas that change: the follower's after it was started, but for what is said otherwise.
	 */
	struct client_changing *changing; /* rising by index */
	size_t changing_count;
	bool has_remap_irq;
	uint32_t remap_irq;
	int remap_event;	/* what it signals */
	int poke;		/* eventfd: something here may be another */
	atomic_bool look_again; /* areas may have changed without a signal */
	atomic_bool stopping;
	bool owes;    /* an acknowledgement */
	bool follows; /* it has our eventfd: under the device's lock */
	pthread_t follower;
	bool follower_runs;

	/* Ways to PRE_COPY that are under way. */
	enum vfio_device_mig_state last_state; /* it has told: under the device's lock */
	struct client_change *change;	       /* the one that counts; NULL. Likewise */
	pthread_mutex_t change_lock;
	pthread_cond_t change_begun;
	struct client_change *begun; /* oldest first: under change_lock */
	pthread_t changer;
	bool changer_runs;

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

/* region.c. Of a region's capabilities, and of its list of io_fds. */
#define CLIENT_MAX_EXTRA 16384
#define CLIENT_MAX_AREAS 256

/* What it says of a region. */
struct client_region {
	struct uvf_wire_region_info info;
	uint8_t extra[CLIENT_MAX_EXTRA];
	size_t extra_size;
	int fd; /* of the areas, unless that is one that we have: ours. -1: none */
	/* Cut where what stays while state is saved borders on what doesn't. */
	struct uvf_area areas[3 * CLIENT_MAX_AREAS];
	size_t area_count;
	bool may_change; /* what says that they change is looked at */
	bool has_saving;
	struct uvf_area saving[CLIENT_MAX_AREAS];
	size_t saving_count;
	bool changes; /* they do */
	uint32_t changed;
	uint32_t type, subtype;
	struct uvf_io_fd *io_fds;
	size_t io_fd_count;
};
/* An answer that can't be is -EPROTO and ends the connection. @region is ended by the next. */
int client_ask_region(struct client *client, uint32_t index, struct client_region *region);
void client_region_end(struct client_region *region);
bool client_same_file(int a, int b);

/* Capabilities in an answer: @bytes of @size follow its @fixed first ones. */
struct client_chain {
	const uint8_t *bytes;
	size_t size, fixed;
};
/* @size: from its header on, all that there is. Returns 0 to go on. */
typedef int client_capability(void *opaque, uint16_t id, const uint8_t *at, size_t size);
/* Returns what @take did, or -EPROTO. */
int client_walk(const struct client_chain *chain, uint32_t offset, client_capability *take,
		void *opaque);

/*
 * follow.c. A region whose areas change, with those that it has now: which may be others when this
 * returns. Then the IRQ that tells of them, of all of these regions: -EPROTO.
 */
int client_add_changing(struct client *client, uint32_t index, struct client_region *region);
int client_set_remap_irq(struct client *client, const struct uvf_irq *irq, const uint32_t *regions,
			 size_t count);
int client_follow_start(struct client *client);
void client_follow_stop(struct client *client);
void client_areas_settled(struct uvf_device *dev, uint32_t index, int result);
/* Areas may have changed though nothing was signalled. */
void client_look_again(struct client *client);
/* The far end knows whether we can follow. With the device's lock held. */
void client_tell_whether_following(struct client *client);

/* discover.c. Makes the device and all that it has. */
int client_discover(struct client *client, const char *name, struct uvf_error *error);

/* device.c */
extern const struct uvf_device_ops client_ops, client_ops_without_reset;
int client_region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count);
int client_region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count);
void client_free(struct client *client);

/*
 * states.c. Asks for PRE_COPY, or that with P2P: -EINPROGRESS, and the device is told later. -EBUSY
 * and -ENODEV: who has it open can't follow. And gives that up.
 */
int client_begin_change(struct client *client, enum vfio_device_mig_state state);
void client_cancel_change(struct uvf_device *dev);
int client_changer_start(struct client *client);
void client_changer_stop(struct client *client);
/* migration.c: sets a state, and waits for that. */
int client_send_state(struct client *client, enum vfio_device_mig_state state);

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
