/* SPDX-License-Identifier: BSD-3-Clause */
/* A session that stands still, described for another server: handover.h. */
#include "frontends/vfio_user/offer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uvfio/handover.h>

#include "frontends/vfio_user/handover.h"
#include "frontends/vfio_user/server.h"

/* ---- Bytes and descriptors ---- */

static int put(struct uvf_offer *offer, const void *bytes, size_t size)
{
	if (size > offer->capacity - offer->size) {
		size_t capacity = 2 * (offer->capacity + size);
		uint8_t *grown = realloc(offer->bytes, capacity);

		if (!grown)
			return -ENOMEM;
		offer->bytes = grown;
		offer->capacity = capacity;
	}
	if (size)
		memcpy(offer->bytes + offer->size, bytes, size);
	offer->size += size;
	return 0;
}

/* Takes @fd over. Returns its number, or a negative errno. */
static int64_t put_own_fd(struct uvf_offer *offer, int fd)
{
	if (offer->fd_count == offer->fd_capacity) {
		size_t capacity = 2 * offer->fd_capacity + 64;
		int *grown = reallocarray(offer->fds, capacity, sizeof(*grown));

		if (!grown) {
			close(fd);
			return -ENOMEM;
		}
		offer->fds = grown;
		offer->fd_capacity = capacity;
	}
	offer->fds[offer->fd_count++] = fd;
	return (int64_t)offer->fd_count - 1;
}

/* A copy of @fd; of none, none. #syscalls: fcntl */
static int put_fd(struct uvf_offer *offer, int fd, uint32_t *number)
{
	int64_t ret;
	int copy;

	*number = UVF_HANDOVER_NO_FD;
	if (fd < 0)
		return 0;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -EMFILE;
	ret = put_own_fd(offer, copy);
	if (ret < 0)
		return (int)ret;
	*number = (uint32_t)ret;
	return 0;
}

/* #syscalls: eventfd2 */
static int put_token(struct uvf_offer *offer, uint32_t *number)
{
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	int64_t ret;

	if (fd < 0)
		return -errno;
	ret = put_own_fd(offer, fd);
	if (ret < 0)
		return (int)ret;
	offer->token = fd;
	*number = (uint32_t)ret;
	return 0;
}

/* ---- The parts ---- */

/* Those of the driver go along; here are new ones, so that nothing that it signals is missed. */
static int put_io_fds(struct uvf_offer *offer, struct uvf_device *dev, uint32_t *count)
{
	size_t there = uvf_device_io_fds(dev, NULL, 0);
	int *fds = calloc(there + 1, sizeof(*fds));
	int ret = fds ? 0 : -ENOMEM;

	offer->io_fds = fds;
	if (ret)
		return ret;
	uvf_device_io_fds(dev, fds, there);
	for (size_t i = 0; i < there && !ret; i++) {
		uint32_t number;

		ret = put_fd(offer, fds[i], &number);
		if (!ret)
			ret = put(offer, &number, sizeof(number));
		if (!ret)
			fds[i] = offer->fds[number];
	}
	if (ret || !there)
		return ret;
	offer->io_fd_count = there;
	ret = uvf_device_renew_io_fds(dev);
	offer->gave_io_fds = true;
	*count = (uint32_t)there;
	return ret;
}

static int put_irqs(struct uvf_offer *offer, struct uvf_device *dev, uint32_t *count)
{
	int ret = uvf_device_give_irqs(dev, &offer->irqs, &offer->irq_count);

	for (size_t i = 0; i < offer->irq_count && !ret; i++) {
		const struct uvf_irq_handover *given = &offer->irqs[i];
		struct uvf_handover_irq irq = {
			.index = given->index,
			.vector = given->vector,
			.masked = given->masked,
			.pending = given->pending,
			.asserted = given->asserted,
		};

		ret = put_fd(offer, given->trigger, &irq.trigger);
		if (!ret)
			ret = put_fd(offer, given->unmask, &irq.unmask);
		if (!ret)
			ret = put(offer, &irq, sizeof(irq));
	}
	*count = (uint32_t)offer->irq_count;
	return ret;
}

/* Mappings of one memory share a descriptor: there are few memories, and neighbours are alike. */
struct mapping_walk {
	struct uvf_offer *offer;
	uint32_t count;
	size_t file_count;
	struct mapping_file {
		const struct uvf_memory *memory;
		uint32_t fd;
	} * files;
};

static int file_of(struct mapping_walk *walk, const struct uvf_memory *memory, uint32_t *fd)
{
	struct mapping_file *grown;
	int ret;

	*fd = UVF_HANDOVER_NO_FD;
	if (uvf_memory_fd(memory) < 0)
		return 0;
	for (size_t i = walk->file_count; i-- > 0;) {
		*fd = walk->files[i].fd;
		if (walk->files[i].memory == memory)
			return 0;
	}
	grown = reallocarray(walk->files, walk->file_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	walk->files = grown;
	ret = put_fd(walk->offer, uvf_memory_fd(memory), fd);
	if (!ret)
		walk->files[walk->file_count++] = (struct mapping_file){memory, *fd};
	return ret;
}

static int put_mapping(void *opaque, const struct uvf_mapping *mapping)
{
	struct mapping_walk *walk = opaque;
	struct uvf_handover_mapping out = {
		.iova = mapping->first,
		/* All 2^64 bytes can't be mapped. */
		.size = mapping->last - mapping->first + 1,
		.offset = mapping->offset,
		.prot = mapping->prot,
	};
	int ret = file_of(walk, mapping->memory, &out.fd);

	walk->count++;
	return ret ? ret : put(walk->offer, &out, sizeof(out));
}

static int put_mappings(struct uvf_offer *offer, struct uvf_address_space *space, uint32_t *count)
{
	struct mapping_walk walk = {.offer = offer};
	int ret = uvf_for_each_mapping(space, put_mapping, &walk);

	free(walk.files);
	*count = walk.count;
	return ret;
}

static int put_input(struct uvf_offer *offer, struct uvf_channel *channel,
		     struct uvf_handover_header *header)
{
	struct uvf_channel_rest rest;
	int ret = uvf_channel_save(channel, &rest);

	if (ret)
		return ret;
	for (size_t i = 0; i < rest.fd_count && !ret; i++) {
		struct uvf_handover_input_fd fd = {.at = rest.fds[i].at};

		ret = put_fd(offer, rest.fds[i].fd, &fd.fd);
		if (!ret)
			ret = put(offer, &fd, sizeof(fd));
	}
	if (!ret)
		ret = put(offer, rest.bytes, rest.size);
	header->input_fd_count = (uint32_t)rest.fd_count;
	header->input_size = rest.size;
	free(rest.bytes);
	free(rest.fds);
	return ret;
}

/* Our own requests have all been answered: nothing has come that isn't whole. */
static int put_twin(struct uvf_offer *offer, struct uvf_channel *twin, uint32_t *number)
{
	struct uvf_channel_rest rest;
	int ret;

	*number = UVF_HANDOVER_NO_FD;
	if (!twin)
		return 0;
	uvf_channel_interrupt(twin, true);
	ret = uvf_channel_save(twin, &rest);
	uvf_channel_interrupt(twin, false);
	if (ret)
		return ret;
	if (rest.size)
		ret = -EBUSY;
	free(rest.bytes);
	free(rest.fds);
	return ret ? ret : put_fd(offer, uvf_channel_fd(twin), number);
}

static void fill_capabilities(const struct uvf_connection *connection,
			      struct uvf_handover_header *header)
{
	const struct uvf_wire_capabilities *client = &connection->client;
	const struct uvf_wire_capabilities *ours = &connection->agreed;

	header->client_page_sizes = client->page_sizes;
	header->client_max_dma_maps = client->max_dma_maps;
	header->client_max_msg_fds = client->max_msg_fds;
	header->client_max_data_xfer_size = client->max_data_xfer_size;
	header->client_write_multiple = client->write_multiple;
	header->client_twin_socket = client->twin_socket;
	header->client_migration = client->migration;
	header->client_migration_page_size = client->migration_page_size;
	header->client_max_bitmap_size = client->max_bitmap_size;
	header->page_sizes = ours->page_sizes;
	header->max_dma_maps = ours->max_dma_maps;
	header->max_bitmap_size = ours->max_bitmap_size;
	header->max_msg_fds = ours->max_msg_fds;
	header->max_data_xfer_size = ours->max_data_xfer_size;
	header->remote_layout = uvf_remote_layout(connection);
}

static int describe(struct uvf_connection *connection, struct uvf_offer *offer)
{
	struct uvf_device *dev = connection->server->dev;
	struct uvf_handover_header header = {
		.magic = UVF_HANDOVER_MAGIC,
		.version = UVF_HANDOVER_VERSION,
	};
	int ret = put(offer, &header, sizeof(header));

	fill_capabilities(connection, &header);
	if (!ret)
		ret = put_token(offer, &header.token);
	if (!ret)
		ret = put_fd(offer, uvf_channel_fd(connection->channel), &header.connection);
	if (!ret)
		ret = put_twin(offer, connection->twin, &header.twin);
	if (!ret)
		ret = put_fd(offer, uvf_device_memory_fd(dev), &header.memory);
	if (!ret && uvf_device_memory_fd(dev) >= 0)
		ret = uvf_device_new_memory(dev, &offer->new_memory);
	if (!ret)
		ret = put_io_fds(offer, dev, &header.io_fd_count);
	if (!ret)
		ret = put_irqs(offer, dev, &header.irq_count);
	if (!ret)
		ret = put_mappings(offer, connection->space, &header.mapping_count);
	if (!ret)
		ret = put_input(offer, connection->channel, &header);
	header.fd_count = (uint32_t)offer->fd_count;
	if (!ret)
		memcpy(offer->bytes, &header, sizeof(header));
	return ret;
}

/* ---- What is called ---- */

void uvf_offer_undo(struct uvf_device *dev, struct uvf_offer *offer)
{
	int ret = 0, error = 0;

	if (offer->gave_io_fds)
		ret = uvf_device_replace_io_fds(dev, offer->io_fds, offer->io_fd_count);
	if (offer->irqs)
		error = uvf_device_take_irqs(dev, offer->irqs, offer->irq_count);
	ret = ret ? ret : error;
	if (ret)
		uvf_device_log(dev, UVF_LOG_ERROR, "its eventfds are lost: %s", strerror(-ret));
}

/* #syscalls: close */
void uvf_offer_free(struct uvf_offer *offer)
{
	if (!offer)
		return;
	for (size_t i = 0; i < offer->fd_count; i++)
		close(offer->fds[i]);
	if (offer->new_memory >= 0)
		close(offer->new_memory);
	uvf_irq_handover_free(offer->irqs, offer->irq_count);
	free(offer->io_fds);
	free(offer->fds);
	free(offer->bytes);
	free(offer);
}

static bool is_suspended(struct uvf_server *server)
{
	bool suspended;

	pthread_mutex_lock(&server->lock);
	suspended = server->suspension == UVF_SUSPENDED;
	pthread_mutex_unlock(&server->lock);
	return suspended;
}

int uvf_server_offer(struct uvf_server *server, struct uvf_server_offer *out,
		     struct uvf_error *error)
{
	struct uvf_offer *offer;
	int ret;

	if (!is_suspended(server) || server->offer)
		return uvf_fail(error, -EINVAL, "the session is not suspended");
	/* The driver may have begun something since it was looked at first. */
	ret = uvf_device_can_hand_over(server->dev, error);
	if (ret)
		return ret;
	offer = calloc(1, sizeof(*offer));
	if (!offer)
		return uvf_fail(error, -ENOMEM, "no memory");
	offer->new_memory = offer->token = -1;
	ret = describe(server->connection, offer);
	if (ret) {
		uvf_offer_undo(server->dev, offer);
		uvf_offer_free(offer);
		return uvf_fail(error, ret, "the session can't be described: %s", strerror(-ret));
	}
	server->offer = offer;
	*out = (struct uvf_server_offer){
		.bytes = offer->bytes,
		.size = offer->size,
		.fds = offer->fds,
		.fd_count = offer->fd_count,
	};
	return 0;
}
