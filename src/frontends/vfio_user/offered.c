/* SPDX-License-Identifier: BSD-3-Clause */
/* A session's description is read: a connection is made from it. */
#include "frontends/vfio_user/offered.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int uvf_offered_damaged(const struct uvf_offered *offered)
{
	return uvf_fail(offered->error, -EINVAL, "the session's description makes no sense");
}

const void *uvf_offered_take(struct uvf_offered *offered, uint64_t count, size_t size)
{
	const uint8_t *here = offered->at;
	uint64_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes) || bytes > offered->left)
		return NULL;
	offered->at += bytes;
	offered->left -= bytes;
	return here;
}

bool uvf_offered_has_fd(const struct uvf_offered *offered, uint32_t number, bool may_be_none)
{
	return number < offered->offer->fd_count || (may_be_none && number == UVF_HANDOVER_NO_FD);
}

int uvf_offered_fd(const struct uvf_offered *offered, uint32_t number)
{
	return number == UVF_HANDOVER_NO_FD ? -1 : offered->offer->fds[number];
}

/* #syscalls: fcntl */
int uvf_offered_copy(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 ? -EMFILE : copy;
}

/* ---- The connection ---- */

/* What the driver was told must be true of this server. */
static int check_limits(struct uvf_connection *connection, const struct uvf_offered *offered)
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

static int make_twin(struct uvf_connection *connection, const struct uvf_offered *offered)
{
	int fd = uvf_offered_fd(offered, offered->header.twin);

	if (fd < 0)
		return 0;
	fd = is_stream_socket(fd) ? uvf_offered_copy(fd) : -EINVAL;
	return fd < 0 ? fd : uvf_connection_set_twin(connection, fd);
}

static int make_connection(struct uvf_server *server, const struct uvf_offered *offered,
			   struct uvf_connection **connectionp)
{
	const struct uvf_handover_header *header = &offered->header;
	int fd = uvf_offered_fd(offered, header->connection), ret;
	struct uvf_connection *connection;

	if (!is_stream_socket(fd))
		return uvf_offered_damaged(offered);
	fd = uvf_offered_copy(fd);
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

static int map_one(struct uvf_connection *connection, const struct uvf_offered *offered,
		   const struct uvf_handover_mapping *mapping)
{
	int ret = 0;

	if (!uvf_offered_has_fd(offered, mapping->fd, true))
		return -EINVAL;
	if (mapping->fd != UVF_HANDOVER_NO_FD)
		return uvf_map_fd(connection->space, mapping->iova, mapping->size, mapping->prot,
				  uvf_offered_fd(offered, mapping->fd), mapping->offset);
	if (!connection->remote)
		ret = uvf_remote_memory_new(connection, &connection->remote);
	return ret ? ret
		   : uvf_map(connection->space, mapping->iova, mapping->size, mapping->prot,
			     connection->remote, mapping->offset);
}

static int make_mappings(struct uvf_connection *connection, struct uvf_offered *offered)
{
	const struct uvf_handover_header *header = &offered->header;
	const uint8_t *mappings = uvf_offered_take(offered, header->mapping_count,
						   sizeof(struct uvf_handover_mapping));

	if (!mappings)
		return uvf_offered_damaged(offered);
	for (uint32_t i = 0; i < header->mapping_count; i++) {
		struct uvf_handover_mapping mapping;
		int ret;

		memcpy(&mapping, mappings + i * sizeof(mapping), sizeof(mapping));
		ret = map_one(connection, offered, &mapping);
		if (ret)
			return uvf_fail(offered->error, ret, "memory at %#llx can't be mapped: %s",
					(unsigned long long)mapping.iova, strerror(-ret));
	}
	return uvf_remote_set_layout(connection, header->remote_layout)
		       ? uvf_offered_damaged(offered)
		       : 0;
}

/* What the driver has sent that wasn't dealt with. */
static int put_input(struct uvf_connection *connection, struct uvf_offered *offered)
{
	const struct uvf_handover_header *header = &offered->header;
	struct uvf_channel_rest rest = {.size = header->input_size};
	const uint8_t *fds = uvf_offered_take(offered, header->input_fd_count,
					      sizeof(struct uvf_handover_input_fd));
	int ret = 0;

	rest.bytes = (uint8_t *)uvf_offered_take(offered, header->input_size, 1);
	if (!fds || !rest.bytes || offered->left)
		return uvf_offered_damaged(offered);
	rest.fds = calloc(header->input_fd_count + 1, sizeof(*rest.fds));
	if (!rest.fds)
		return uvf_fail(offered->error, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < header->input_fd_count && !ret; i++) {
		struct uvf_handover_input_fd fd;
		int copy;

		memcpy(&fd, fds + i * sizeof(fd), sizeof(fd));
		copy = uvf_offered_has_fd(offered, fd.fd, false)
			       ? uvf_offered_copy(uvf_offered_fd(offered, fd.fd))
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

int uvf_offered_connection(struct uvf_server *server, struct uvf_offered *offered,
			   struct uvf_connection **connectionp)
{
	int ret = make_connection(server, offered, connectionp);

	if (!ret)
		ret = make_mappings(*connectionp, offered);
	return ret ? ret : put_input(*connectionp, offered);
}
