/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session that comes from another server: handover.h.
 *
 * The order matters. The state is loaded into the device's own memory before the driver's takes its
 * place: what the driver has written there since the state was saved is newer. And until the
 * session is taken over nothing is done that the other side would notice.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uvfio/migration.h>

#include "core/core.h"
#include "frontends/vfio_user/offered.h"
#include "frontends/vfio_user/server.h"

struct uvf_adoption {
	struct uvf_connection *connection; /* not served yet */
	int token;
	int old_memory; /* the device's own; -1 */
	/* Not the device's before the session is: who has them waits for them. Duplicates. */
	struct uvf_irq_handover *irqs;
	size_t irq_count;
	int *io_fds;
	size_t io_fd_count;
};

/* It is read to see whose the session is: nobody may make that wait. #syscalls: fcntl */
static int check_token(const struct uvf_offered *offered)
{
	int token = uvf_offered_fd(offered, offered->header.token);
	int flags = uvf_is_eventfd(token) ? fcntl(token, F_GETFL) : -1;

	if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(token, F_SETFL, flags | O_NONBLOCK)))
		return uvf_offered_damaged(offered);
	return 0;
}

static int check_header(struct uvf_offered *offered)
{
	const struct uvf_handover_header *header = &offered->header;
	const void *bytes = uvf_offered_take(offered, 1, sizeof(*header));

	if (!bytes)
		return uvf_offered_damaged(offered);
	memcpy(&offered->header, bytes, sizeof(*header));
	if (header->magic != UVF_HANDOVER_MAGIC)
		return uvf_offered_damaged(offered);
	if (header->version != UVF_HANDOVER_VERSION)
		return uvf_fail(offered->error, -EPROTONOSUPPORT,
				"the session is described in version %u, not %u", header->version,
				UVF_HANDOVER_VERSION);
	if (header->fd_count != offered->offer->fd_count ||
	    !uvf_offered_has_fd(offered, header->token, false) ||
	    !uvf_offered_has_fd(offered, header->connection, false) ||
	    !uvf_offered_has_fd(offered, header->twin, true) ||
	    !uvf_offered_has_fd(offered, header->memory, true))
		return uvf_offered_damaged(offered);
	return check_token(offered);
}

/* ---- The device ---- */

static int go(struct uvf_server *server, enum vfio_device_mig_state state, const char *what,
	      struct uvf_error *error)
{
	int ret = uvf_migration_set_state(server->dev, state);

	return ret ? uvf_fail(error, ret, "%s: %s", what, strerror(-ret)) : 0;
}

static int adopt_memory(struct uvf_server *server, const struct uvf_offered *offered,
			struct uvf_adoption *adoption)
{
	int fd = uvf_offered_fd(offered, offered->header.memory);
	int ours = uvf_device_memory_fd(server->dev);
	int ret = 0;

	if (fd >= 0 || ours >= 0)
		ret = fd >= 0 && ours >= 0
			      ? uvf_device_adopt_memory(server->dev, fd, &adoption->old_memory)
			      : -EINVAL;
	return ret ? uvf_fail(offered->error, ret, "the memory of its registers is another: %s",
			      strerror(-ret))
		   : 0;
}

static int keep_io_fds(struct uvf_server *server, const struct uvf_offered *offered,
		       const uint8_t *numbers, struct uvf_adoption *adoption)
{
	size_t count = offered->header.io_fd_count;

	adoption->io_fds = calloc(count + 1, sizeof(*adoption->io_fds));
	if (!adoption->io_fds)
		return uvf_fail(offered->error, -ENOMEM, "no memory");
	if (uvf_device_io_fds(server->dev, NULL, 0) != count)
		return uvf_fail(offered->error, -EINVAL, "other doorbells have eventfds");
	for (size_t i = 0; i < count; i++) {
		uint32_t number;
		int copy;

		memcpy(&number, numbers + i * sizeof(number), sizeof(number));
		copy = uvf_offered_has_fd(offered, number, false) &&
				       uvf_is_eventfd(uvf_offered_fd(offered, number))
			       ? uvf_offered_copy(uvf_offered_fd(offered, number))
			       : -EINVAL;
		if (copy < 0)
			return uvf_fail(offered->error, copy, "doorbells' eventfds: %s",
					strerror(-copy));
		adoption->io_fds[adoption->io_fd_count++] = copy;
	}
	return 0;
}

static int keep_irq(const struct uvf_offered *offered, const struct uvf_handover_irq *irq,
		    struct uvf_irq_handover *kept)
{
	*kept = (struct uvf_irq_handover){
		.index = irq->index,
		.vector = irq->vector,
		.trigger = -1,
		.unmask = -1,
		.masked = irq->masked,
		.pending = irq->pending,
		.asserted = irq->asserted,
	};
	if (!uvf_offered_has_fd(offered, irq->trigger, true) ||
	    !uvf_offered_has_fd(offered, irq->unmask, true))
		return -EINVAL;
	if (irq->trigger != UVF_HANDOVER_NO_FD)
		kept->trigger = uvf_offered_copy(uvf_offered_fd(offered, irq->trigger));
	if (irq->unmask != UVF_HANDOVER_NO_FD)
		kept->unmask = uvf_offered_copy(uvf_offered_fd(offered, irq->unmask));
	return kept->trigger < -1 || kept->unmask < -1 ? -EMFILE : 0;
}

static int keep_irqs(struct uvf_server *server, const struct uvf_offered *offered,
		     const uint8_t *bytes, struct uvf_adoption *adoption)
{
	size_t count = offered->header.irq_count;
	int ret = 0;

	adoption->irqs = calloc(count + 1, sizeof(*adoption->irqs));
	if (!adoption->irqs)
		return uvf_fail(offered->error, -ENOMEM, "no memory");
	for (size_t i = 0; i < count && !ret; i++) {
		struct uvf_handover_irq irq;

		memcpy(&irq, bytes + i * sizeof(irq), sizeof(irq));
		ret = keep_irq(offered, &irq, &adoption->irqs[adoption->irq_count++]);
	}
	if (!ret)
		ret = uvf_device_check_irqs(server->dev, adoption->irqs, count);
	return ret ? uvf_fail(offered->error, ret, "its interrupts: %s", strerror(-ret)) : 0;
}

/* Beside what has become the server's. #syscalls: close */
static void adoption_free(struct uvf_adoption *adoption)
{
	uvf_irq_handover_free(adoption->irqs, adoption->irq_count);
	for (size_t i = 0; i < adoption->io_fd_count; i++)
		close(adoption->io_fds[i]);
	free(adoption->io_fds);
	if (adoption->old_memory >= 0)
		close(adoption->old_memory);
	if (adoption->token >= 0)
		close(adoption->token);
	free(adoption);
}

/* What the client was told is what the next server has to keep to, whatever this one could do. */
static void keep_agreement(struct uvf_connection *connection,
			   const struct uvf_handover_header *header)
{
	connection->agreed = (struct uvf_wire_capabilities){
		.page_sizes = header->page_sizes,
		.max_dma_maps = header->max_dma_maps,
		.max_bitmap_size = header->max_bitmap_size,
		.max_msg_fds = header->max_msg_fds,
		.max_data_xfer_size = header->max_data_xfer_size,
	};
	connection->max_bitmap_size = header->max_bitmap_size;
}

static int adopt(struct uvf_server *server, struct uvf_offered *offered,
		 struct uvf_adoption *adoption)
{
	const struct uvf_handover_header *header = &offered->header;
	const uint8_t *io_fds, *irqs;
	int ret = check_header(offered);

	if (ret)
		return ret;
	io_fds = uvf_offered_take(offered, header->io_fd_count, sizeof(uint32_t));
	irqs = uvf_offered_take(offered, header->irq_count, sizeof(struct uvf_handover_irq));
	if (!io_fds || !irqs)
		return uvf_offered_damaged(offered);
	ret = uvf_offered_connection(server, offered, &adoption->connection);
	if (ret)
		return ret;
	ret = keep_io_fds(server, offered, io_fds, adoption);
	if (!ret)
		ret = keep_irqs(server, offered, irqs, adoption);
	if (ret)
		return ret;
	keep_agreement(adoption->connection, header);
	adoption->token = uvf_offered_copy(uvf_offered_fd(offered, header->token));
	if (adoption->token < 0)
		return uvf_fail(offered->error, -EMFILE, "no descriptor left");
	/* All that is only copied comes before anything is changed. */
	ret = uvf_device_attach(server->dev, UVF_PASID_NONE, adoption->connection->space);
	if (ret)
		return uvf_fail(offered->error, ret, "its memory: %s", strerror(-ret));
	ret = go(server, VFIO_DEVICE_STATE_STOP, "its state can't be loaded", offered->error);
	if (!ret)
		ret = adopt_memory(server, offered, adoption);
	if (!ret)
		ret = go(server, VFIO_DEVICE_STATE_RUNNING_P2P, "it can't be started",
			 offered->error);
	return ret;
}

/* ---- What is called ---- */

static int reserve(struct uvf_server *server, struct uvf_error *error)
{
	int ret = 0;

	if (!server->threaded)
		return uvf_fail(error, -EOPNOTSUPP, "this server takes no session over");
	pthread_mutex_lock(&server->lock);
	if (server->reserved)
		ret = uvf_fail(error, -EBUSY, "something else moves there already");
	else if (server->connection)
		ret = uvf_fail(error, -EBUSY, "it has a driver");
	else
		server->reserved = true;
	pthread_mutex_unlock(&server->lock);
	return ret;
}

static void unreserve(struct uvf_server *server)
{
	pthread_mutex_lock(&server->lock);
	server->reserved = false;
	pthread_mutex_unlock(&server->lock);
	uvf_server_kick(server);
}

int uvf_server_reserve(struct uvf_server *server, struct uvf_error *error)
{
	int ret = uvf_device_can_hand_over(server->dev, error);

	if (!ret)
		ret = reserve(server, error);
	if (ret)
		return ret;
	ret = uvf_device_open(server->dev);
	if (!ret)
		return 0;
	unreserve(server);
	return uvf_fail(error, ret, "it can't be opened: %s", strerror(-ret));
}

/* Its channels end without the driver noticing: they are another process's. */
void uvf_adoption_undo(struct uvf_server *server)
{
	struct uvf_adoption *adoption = server->adoption;
	struct uvf_connection *connection;
	int ret = 0;

	if (!adoption)
		return;
	server->adoption = NULL;
	/* Storage is let go of, before anything of the device is the other side's to use. */
	uvf_migration_set_state(server->dev, VFIO_DEVICE_STATE_STOP);
	if (adoption->old_memory >= 0)
		ret = uvf_device_adopt_memory(server->dev, adoption->old_memory, NULL);
	if (ret)
		uvf_server_log(server, UVF_LOG_ERROR, "it keeps the memory of the driver: %s",
			       strerror(-ret));
	uvf_device_detach(server->dev, UVF_PASID_NONE);
	connection = adoption->connection;
	if (connection)
		uvf_connection_free(connection);
	adoption_free(adoption);
}

void uvf_server_unreserve(struct uvf_server *server)
{
	uvf_adoption_undo(server);
	uvf_device_close(server->dev);
	unreserve(server);
}

int uvf_server_adopt(struct uvf_server *server, const struct uvf_server_offer *offer,
		     struct uvf_error *error)
{
	struct uvf_offered offered = {
		.at = offer->bytes, .left = offer->size, .offer = offer, .error = error};
	struct uvf_adoption *adoption;
	int ret;

	if (!server->reserved || server->adoption)
		return uvf_fail(error, -EBUSY, "a session is there already");
	adoption = calloc(1, sizeof(*adoption));
	if (!adoption)
		return uvf_fail(error, -ENOMEM, "no memory");
	adoption->token = adoption->old_memory = -1;
	server->adoption = adoption;
	ret = adopt(server, &offered, adoption);
	if (ret)
		uvf_adoption_undo(server);
	return ret;
}

static void own(struct uvf_connection *connection)
{
	connection->foreign = false;
	uvf_channel_own(connection->channel);
	if (connection->twin)
		uvf_channel_own(connection->twin);
}

/* #syscalls: read */
int uvf_server_take_over(struct uvf_server *server)
{
	struct uvf_adoption *adoption = server->adoption;
	uint64_t one;
	int ret;

	if (!adoption)
		return -EINVAL;
	if (read(adoption->token, &one, sizeof(one)) != sizeof(one))
		return -ECANCELED;
	server->adoption = NULL;
	own(adoption->connection);
	ret = uvf_device_replace_io_fds(server->dev, adoption->io_fds, adoption->io_fd_count);
	if (!ret)
		ret = uvf_device_take_irqs(server->dev, adoption->irqs, adoption->irq_count);
	if (!ret)
		ret = uvf_migration_set_state(server->dev, VFIO_DEVICE_STATE_RUNNING);
	/* Too late for anything but telling: only a driver's reset helps now. */
	if (ret)
		uvf_server_log(server, UVF_LOG_ERROR, "it does not go on: %s", strerror(-ret));
	adoption->connection->negotiated = true;
	pthread_mutex_lock(&server->lock);
	server->connection = adoption->connection;
	server->reserved = false;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
	uvf_server_kick(server);
	uvf_server_log(server, UVF_LOG_INFO, "serves a client that another server had");
	adoption_free(adoption);
	return 0;
}
