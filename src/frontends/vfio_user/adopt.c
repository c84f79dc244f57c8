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
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uvfio/handover.h>
#include <uvfio/migration.h>

#include "base/bytes.h"
#include "core/core.h"
#include "frontends/vfio_user/handover.h"
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

/* An offer that is being read. */
struct offered {
	struct uvf_handover_header header;
	const uint8_t *at;
	size_t left;
	const struct uvf_server_offer *offer;
	struct uvf_error *error;
};

/* ---- Checks ---- */

static int damaged(const struct offered *offered)
{
	return uvf_fail(offered->error, -EINVAL, "the session's description makes no sense");
}

/* The next @count entries of @size bytes each, or NULL. */
static const void *take(struct offered *offered, uint64_t count, size_t size)
{
	const uint8_t *here = offered->at;
	uint64_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes) || bytes > offered->left)
		return NULL;
	offered->at += bytes;
	offered->left -= bytes;
	return here;
}

/* Whether @number is a descriptor, or none where that may be. */
static bool fd_is_valid(const struct offered *offered, uint32_t number, bool may_be_none)
{
	return number < offered->offer->fd_count || (may_be_none && number == UVF_HANDOVER_NO_FD);
}

static int fd_of(const struct offered *offered, uint32_t number)
{
	return number == UVF_HANDOVER_NO_FD ? -1 : offered->offer->fds[number];
}

static int check_header(struct offered *offered)
{
	const struct uvf_handover_header *header = &offered->header;
	const void *bytes = take(offered, 1, sizeof(*header));

	if (!bytes)
		return damaged(offered);
	memcpy(&offered->header, bytes, sizeof(*header));
	if (header->magic != UVF_HANDOVER_MAGIC)
		return damaged(offered);
	if (header->version != UVF_HANDOVER_VERSION)
		return uvf_fail(offered->error, -EPROTONOSUPPORT,
				"the session is described in version %u, not %u", header->version,
				UVF_HANDOVER_VERSION);
	if (header->fd_count != offered->offer->fd_count ||
	    !fd_is_valid(offered, header->token, false) ||
	    !fd_is_valid(offered, header->connection, false) ||
	    !fd_is_valid(offered, header->twin, true) ||
	    !fd_is_valid(offered, header->memory, true))
		return damaged(offered);
	return 0;
}

/* What the driver was told must be true of this server. */
static int check_limits(struct uvf_connection *connection, const struct offered *offered)
{
	const struct uvf_handover_header *header = &offered->header;
	struct uvf_wire_capabilities ours;

	uvf_connection_agree(connection, &ours);
	if (header->page_sizes != ours.page_sizes)
		return uvf_fail(offered->error, -EINVAL, "page sizes differ");
	if (header->max_dma_maps > ours.max_dma_maps ||
	    header->mapping_count > header->max_dma_maps)
		return uvf_fail(offered->error, -E2BIG, "it allows fewer mappings");
	if (header->max_msg_fds > ours.max_msg_fds ||
	    header->max_data_xfer_size > ours.max_data_xfer_size ||
	    header->max_bitmap_size > ours.max_bitmap_size)
		return uvf_fail(offered->error, -E2BIG, "it allows smaller messages");
	connection->max_bitmap_size = header->max_bitmap_size;
	return 0;
}

static bool is_stream_socket(int fd)
{
	int type = 0, domain = 0;
	socklen_t size = sizeof(type);

	/* #syscalls: getsockopt */
	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) && type == SOCK_STREAM &&
	       !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) && domain == AF_UNIX;
}

/* ---- The connection ---- */

/* #syscalls: fcntl */
static int copy_of(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 ? -EMFILE : copy;
}

static int make_twin(struct uvf_connection *connection, const struct offered *offered)
{
	int fd = fd_of(offered, offered->header.twin);

	if (fd < 0)
		return 0;
	fd = is_stream_socket(fd) ? copy_of(fd) : -EINVAL;
	return fd < 0 ? fd : uvf_connection_set_twin(connection, fd);
}

static int make_connection(struct uvf_server *server, const struct offered *offered,
			   struct uvf_connection **connectionp)
{
	const struct uvf_handover_header *header = &offered->header;
	int fd = fd_of(offered, header->connection), ret;
	struct uvf_connection *connection;

	if (!is_stream_socket(fd))
		return damaged(offered);
	fd = copy_of(fd);
	ret = fd < 0 ? fd : uvf_connection_new(server, fd, true, true, &connection);
	if (ret)
		return uvf_fail(offered->error, ret, "%s", strerror(-ret));
	*connectionp = connection;
	connection->client = (struct uvf_wire_capabilities){
		.max_msg_fds = header->client_max_msg_fds,
		.max_data_xfer_size = header->client_max_data_xfer_size,
		.max_dma_maps = header->client_max_dma_maps,
		.page_sizes = header->client_page_sizes,
		.write_multiple = header->client_write_multiple,
		.twin_socket = header->client_twin_socket,
		.twin_fd_index = -1,
		.migration = header->client_migration,
		.migration_page_size = header->client_migration_page_size,
		.max_bitmap_size = header->client_max_bitmap_size,
	};
	ret = check_limits(connection, offered);
	if (ret)
		return ret;
	ret = make_twin(connection, offered);
	if (!ret)
		ret = uvf_connection_new_space(connection, header->max_dma_maps);
	return ret ? uvf_fail(offered->error, ret, "the connection: %s", strerror(-ret)) : 0;
}

static int map_one(struct uvf_connection *connection, const struct offered *offered,
		   const struct uvf_handover_mapping *mapping)
{
	int ret = 0;

	if (!fd_is_valid(offered, mapping->fd, true))
		return -EINVAL;
	if (mapping->fd != UVF_HANDOVER_NO_FD)
		return uvf_map_fd(connection->space, mapping->iova, mapping->size, mapping->prot,
				  fd_of(offered, mapping->fd), mapping->offset);
	if (!connection->remote)
		ret = uvf_remote_memory_new(connection, &connection->remote);
	return ret ? ret
		   : uvf_map(connection->space, mapping->iova, mapping->size, mapping->prot,
			     connection->remote, mapping->offset);
}

static int make_mappings(struct uvf_connection *connection, struct offered *offered)
{
	const struct uvf_handover_header *header = &offered->header;
	const uint8_t *mappings =
		take(offered, header->mapping_count, sizeof(struct uvf_handover_mapping));

	if (!mappings)
		return damaged(offered);
	for (uint32_t i = 0; i < header->mapping_count; i++) {
		struct uvf_handover_mapping mapping;
		int ret;

		memcpy(&mapping, mappings + i * sizeof(mapping), sizeof(mapping));
		ret = map_one(connection, offered, &mapping);
		if (ret)
			return uvf_fail(offered->error, ret, "memory at %#llx can't be mapped: %s",
					(unsigned long long)mapping.iova, strerror(-ret));
	}
	return uvf_remote_set_layout(connection, header->remote_layout) ? damaged(offered) : 0;
}

/* What the driver has sent that wasn't dealt with. */
static int put_input(struct uvf_connection *connection, struct offered *offered)
{
	const struct uvf_handover_header *header = &offered->header;
	struct uvf_channel_rest rest = {.size = header->input_size};
	const uint8_t *fds =
		take(offered, header->input_fd_count, sizeof(struct uvf_handover_input_fd));
	int ret = 0;

	rest.bytes = (uint8_t *)take(offered, header->input_size, 1);
	if (!fds || !rest.bytes || offered->left)
		return damaged(offered);
	rest.fds = calloc(header->input_fd_count + 1, sizeof(*rest.fds));
	if (!rest.fds)
		return uvf_fail(offered->error, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < header->input_fd_count && !ret; i++) {
		struct uvf_handover_input_fd fd;
		int copy;

		memcpy(&fd, fds + i * sizeof(fd), sizeof(fd));
		copy = fd_is_valid(offered, fd.fd, false) ? copy_of(fd_of(offered, fd.fd))
							  : -EINVAL;
		ret = copy < 0 ? copy : 0;
		if (!ret)
			rest.fds[rest.fd_count++] = (struct uvf_rest_fd){.at = fd.at, .fd = copy};
	}
	for (size_t i = 0; i < rest.fd_count && ret; i++)
		close(rest.fds[i].fd);
	if (!ret)
		ret = uvf_channel_restore(connection->channel, &rest);
	free(rest.fds);
	return ret ? uvf_fail(offered->error, ret, "what the driver has sent: %s", strerror(-ret))
		   : 0;
}

/* ---- The device ---- */

static int go(struct uvf_server *server, enum vfio_device_mig_state state, const char *what,
	      struct uvf_error *error)
{
	int ret = uvf_migration_set_state(server->dev, state);

	return ret ? uvf_fail(error, ret, "%s: %s", what, strerror(-ret)) : 0;
}

static int adopt_memory(struct uvf_server *server, const struct offered *offered,
			struct uvf_adoption *adoption)
{
	int fd = fd_of(offered, offered->header.memory);
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

static int keep_io_fds(struct uvf_server *server, const struct offered *offered,
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
		copy = fd_is_valid(offered, number, false) ? copy_of(fd_of(offered, number))
							   : -EINVAL;
		if (copy < 0)
			return uvf_fail(offered->error, copy, "doorbells' eventfds: %s",
					strerror(-copy));
		adoption->io_fds[adoption->io_fd_count++] = copy;
	}
	return 0;
}

static int keep_irq(const struct offered *offered, const struct uvf_handover_irq *irq,
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
	if (!fd_is_valid(offered, irq->trigger, true) || !fd_is_valid(offered, irq->unmask, true))
		return -EINVAL;
	if (irq->trigger != UVF_HANDOVER_NO_FD)
		kept->trigger = copy_of(fd_of(offered, irq->trigger));
	if (irq->unmask != UVF_HANDOVER_NO_FD)
		kept->unmask = copy_of(fd_of(offered, irq->unmask));
	return kept->trigger < -1 || kept->unmask < -1 ? -EMFILE : 0;
}

static int keep_irqs(struct uvf_server *server, const struct offered *offered, const uint8_t *bytes,
		     struct uvf_adoption *adoption)
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

static int adopt(struct uvf_server *server, struct offered *offered, struct uvf_adoption *adoption)
{
	const struct uvf_handover_header *header = &offered->header;
	const uint8_t *io_fds, *irqs;
	int ret = check_header(offered);

	if (ret)
		return ret;
	io_fds = take(offered, header->io_fd_count, sizeof(uint32_t));
	irqs = take(offered, header->irq_count, sizeof(struct uvf_handover_irq));
	if (!io_fds || !irqs)
		return damaged(offered);
	ret = make_connection(server, offered, &adoption->connection);
	if (!ret)
		ret = make_mappings(adoption->connection, offered);
	if (!ret)
		ret = put_input(adoption->connection, offered);
	if (ret)
		return ret;
	ret = keep_io_fds(server, offered, io_fds, adoption);
	if (!ret)
		ret = keep_irqs(server, offered, irqs, adoption);
	if (ret)
		return ret;
	ret = uvf_device_attach(server->dev, UVF_PASID_NONE, adoption->connection->space);
	if (ret)
		return uvf_fail(offered->error, ret, "its memory: %s", strerror(-ret));
	ret = go(server, VFIO_DEVICE_STATE_STOP, "its state can't be loaded", offered->error);
	if (!ret)
		ret = adopt_memory(server, offered, adoption);
	if (!ret)
		ret = go(server, VFIO_DEVICE_STATE_RUNNING_P2P, "it can't be started",
			 offered->error);
	if (ret)
		return ret;
	adoption->token = copy_of(fd_of(offered, header->token));
	return adoption->token < 0 ? uvf_fail(offered->error, -EMFILE, "no descriptor left") : 0;
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

/* Channels that end without the driver noticing. */
void uvf_adoption_undo(struct uvf_server *server)
{
	struct uvf_adoption *adoption = server->adoption;
	struct uvf_connection *connection;

	if (!adoption)
		return;
	server->adoption = NULL;
	/* Storage is let go of, before anything of the device is the other side's to use. */
	uvf_migration_set_state(server->dev, VFIO_DEVICE_STATE_STOP);
	if (adoption->old_memory >= 0)
		uvf_device_adopt_memory(server->dev, adoption->old_memory, NULL);
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
	struct offered offered = {
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
