/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client's session.
 *
 *   new           the socket is connected; VERSION is owed
 *   negotiated    VERSION was accepted: the device is open and attached to the client's address
 *                 space; all other commands are allowed
 *   over          the channel has failed: freeing the connection closes, and so resets, the device
 *
 * A request before VERSION, and a VERSION that is refused, are answered and end the session.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uvfio/migration.h>
#include <uvfio/remap.h>

#include "base/clock.h"
#include "frontends/vfio_user/server.h"

/* What a message can be where max_data_xfer_size is small. */
#define MIN_PAYLOAD 8192
/* What a report can be there. */
#define MIN_BITMAP 4096

/*
 * Of this process's 128 TiB of addresses, for one client: more than any guest has memory, and
 * something is left for other clients when one maps files that are large and empty.
 */
#define MAX_WINDOWS (16ULL << 40)

int uvf_connection_new(struct uvf_server *server, int fd, bool blocking, bool foreign,
		       struct uvf_connection **connectionp)
{
	const struct uvf_server_config *config = &server->config;
	uint32_t max_payload =
		(uint32_t)sizeof(struct uvf_wire_region_access) + config->max_data_xfer_size;
	struct uvf_connection *connection = calloc(1, sizeof(*connection));
	struct uvf_channel_config channel = {
		.fd = fd,
		.max_payload = max_payload > MIN_PAYLOAD ? max_payload : MIN_PAYLOAD,
		.max_fds = config->max_msg_fds,
		.timeout_ms = config->client_timeout_ms,
		.wait_ms = config->move_wait_ms,
		.takes_requests = true,
		.foreign = foreign,
		.kick_fd = blocking ? -1 : server->kick,
	};
	int ret;

	if (!connection) {
		close(fd);
		return -ENOMEM;
	}
	connection->server = server;
	connection->blocking = blocking;
	connection->foreign = foreign;
	connection->since = uvf_now_ns();
	connection->reply_capacity =
		sizeof(struct uvf_wire_header) + UVF_WIRE_FIXED_MAX + channel.max_payload;
	ret = uvf_channel_new(&channel, &connection->channel);
	if (!ret) {
		connection->reply = malloc(connection->reply_capacity);
		ret = connection->reply ? 0 : -ENOMEM;
	}
	if (ret) {
		uvf_channel_put(connection->channel);
		free(connection);
		return ret;
	}
	*connectionp = connection;
	return 0;
}

void uvf_connection_close(struct uvf_connection *connection)
{
	uvf_channel_fail(connection->channel, -ENOTCONN);
	if (connection->twin)
		uvf_channel_fail(connection->twin, -ENOTCONN);
	uvf_connection_forget_deferred(connection);
	if (connection->negotiated)
		uvf_device_close(connection->server->dev);
	connection->negotiated = false;
}

void uvf_connection_free(struct uvf_connection *connection)
{
	uvf_connection_close(connection);
	if (connection->space)
		uvf_address_space_put(connection->space);
	if (connection->remote)
		uvf_memory_put(connection->remote);
	uvf_channel_put(connection->twin);
	uvf_channel_put(connection->channel);
	free(connection->reply);
	free(connection);
}

uint64_t uvf_connection_deadline(struct uvf_connection *connection)
{
	uint64_t limit = (uint64_t)connection->server->config.client_timeout_ms * 1000000;
	uint64_t since;

	if (connection->output_waits)
		return connection->output_since + limit;
	if (uvf_channel_partial(connection->channel, &since))
		return since + limit;
	return connection->negotiated ? 0 : connection->since + limit;
}

void uvf_connection_reply(struct uvf_connection *connection, const struct uvf_wire_header *request,
			  int error, const struct uvf_reply *reply)
{
	struct uvf_wire_header header = {
		.id = request->id,
		.command = request->command,
		.size = (uint32_t)(sizeof(header) + (error ? 0 : reply->size)),
		.flags = UVF_WIRE_REPLY | (error ? UVF_WIRE_ERROR : 0),
		.error = (uint32_t)-error,
	};
	struct iovec iov = {connection->reply, header.size};

	memcpy(connection->reply, &header, sizeof(header));
	uvf_channel_send(connection->channel, &iov, 1, reply->fds, error ? 0 : reply->fd_count,
			 connection->blocking);
}

/* #syscalls: sendto */
void uvf_connection_refuse(int fd, const struct uvf_wire_header *header, int error)
{
	struct uvf_wire_header reply = {
		.id = header->id,
		.command = header->command,
		.size = sizeof(reply),
		.flags = UVF_WIRE_REPLY | UVF_WIRE_ERROR,
		.error = (uint32_t)-error,
	};

	/* It fits, or the client has gone. */
	send(fd, &reply, sizeof(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- VERSION ---- */

/* Whether there is anything that a client could migrate, or follow, the device by. */
static bool migrates(struct uvf_device *dev)
{
	return uvf_migration_flags(dev) || uvf_device_can_log(dev);
}

void uvf_connection_agree(struct uvf_connection *connection, struct uvf_wire_capabilities *ours)
{
	const struct uvf_server_config *config = &connection->server->config;
	const struct uvf_wire_capabilities *client = &connection->client;

	*ours = (struct uvf_wire_capabilities){
		.max_msg_fds = config->max_msg_fds,
		.max_data_xfer_size = config->max_data_xfer_size,
		.max_dma_maps = config->max_dma_maps,
		.page_sizes = config->page_sizes,
		.write_multiple = client->write_multiple,
		.twin_socket = client->twin_socket && client->max_msg_fds,
		.twin_fd_index = 0,
		.migration = client->migration && migrates(connection->server->dev),
		.migration_page_size = UVF_WIRE_MIGRATION_PAGE_SIZE,
		.max_bitmap_size = config->max_data_xfer_size,
		.areas = client->areas && uvf_remap_irq(connection->server->dev) >= 0,
	};
	/* QEMU refuses a server that has more to offer than it proposed itself. */
	if (client->max_msg_fds > 1 && ours->max_msg_fds > client->max_msg_fds)
		ours->max_msg_fds = client->max_msg_fds;
	if (client->max_dma_maps && ours->max_dma_maps > client->max_dma_maps)
		ours->max_dma_maps = client->max_dma_maps;
	if (ours->max_bitmap_size < MIN_BITMAP)
		ours->max_bitmap_size = MIN_BITMAP;
	if (ours->max_bitmap_size > client->max_bitmap_size)
		ours->max_bitmap_size = client->max_bitmap_size;
	connection->max_bitmap_size = ours->max_bitmap_size;
	connection->areas = ours->areas;
}

int uvf_connection_set_twin(struct uvf_connection *connection, int fd)
{
	const struct uvf_server_config *config = &connection->server->config;
	struct uvf_channel_config channel = {
		.fd = fd,
		.max_payload =
			(uint32_t)sizeof(struct uvf_wire_dma_access) + config->max_data_xfer_size,
		.timeout_ms = config->client_timeout_ms,
		.foreign = connection->foreign,
		.kick_fd = -1,
	};
	struct uvf_channel *twin;
	int ret = uvf_channel_new(&channel, &twin);

	if (ret)
		return ret;
	/* Who stops the server ends it, or has ended the session before this. */
	pthread_mutex_lock(&connection->server->lock);
	connection->twin = twin;
	ret = uvf_channel_error(connection->channel);
	if (ret)
		uvf_channel_fail(twin, ret);
	pthread_mutex_unlock(&connection->server->lock);
	return 0;
}

/* socketpair of a stream, which is all that the sandbox allows. #syscalls: close */
static int make_twin(struct uvf_connection *connection, int *client_end)
{
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ret = uvf_connection_set_twin(connection, pair[0]);
	if (ret)
		close(pair[1]);
	else
		*client_end = pair[1];
	return ret;
}

int uvf_connection_new_space(struct uvf_connection *connection, uint64_t max_dma_maps)
{
	const struct uvf_server *server = connection->server;
	struct uvf_address_space_config space = {
		.page_sizes = server->config.page_sizes,
		.max_mappings = max_dma_maps,
		.max_files = server->config.max_dma_files,
		.max_windows = MAX_WINDOWS,
	};

	return uvf_address_space_new(&space, &connection->space);
}

/* Opens the device for this client. */
static int open_device(struct uvf_connection *connection, uint64_t max_dma_maps)
{
	struct uvf_server *server = connection->server;
	int ret = uvf_connection_new_space(connection, max_dma_maps);

	if (ret)
		return ret;
	ret = uvf_device_open(server->dev);
	if (ret)
		return ret;
	connection->negotiated = true;
	return uvf_device_attach(server->dev, UVF_PASID_NONE, connection->space);
}

static int write_version(const struct uvf_wire_version *proposed,
			 const struct uvf_wire_capabilities *ours, struct uvf_reply *reply)
{
	struct uvf_wire_version version = {UVF_WIRE_MAJOR, UVF_WIRE_MINOR};
	int size = uvf_wire_capabilities_encode(ours, (char *)reply->payload + sizeof(version),
						UVF_WIRE_VERSION_MAX);

	if (size < 0)
		return size;
	memcpy(reply->payload, &version, sizeof(version));
	reply->size = sizeof(version) + (size_t)size;
	return 0;
}

static int negotiate(struct uvf_connection *connection, const struct uvf_wire_request *request,
		     struct uvf_reply *reply)
{
	struct uvf_server *server = connection->server;
	struct uvf_wire_capabilities ours;
	int ret;

	if (request->version.major != UVF_WIRE_MAJOR)
		return -EOPNOTSUPP;
	ret = uvf_wire_capabilities_decode(request->data, request->data_size, &connection->client);
	if (ret < 0)
		return ret;
	uvf_connection_agree(connection, &ours);
	connection->agreed = ours;
	ret = write_version(&request->version, &ours, reply);
	if (ret < 0)
		return ret;
	if (ours.twin_socket) {
		ret = make_twin(connection, &reply->fds[0]);
		if (ret < 0)
			return ret;
		reply->fd_count = 1;
	}
	ret = open_device(connection, ours.max_dma_maps);
	if (ret < 0)
		uvf_server_log(server, UVF_LOG_ERROR, "can't open for a client: %s",
			       strerror(-ret));
	return ret;
}

/* The first request: VERSION or nothing. */
static void handle_first(struct uvf_connection *connection, const struct uvf_message *message,
			 const struct uvf_wire_request *request, int error)
{
	struct uvf_server *server = connection->server;
	struct uvf_reply reply = {.payload = connection->reply + sizeof(struct uvf_wire_header)};

	if (!error && request->command != VFIO_USER_VERSION)
		error = -EINVAL;
	if (!error)
		error = negotiate(connection, request, &reply);
	uvf_connection_reply(connection, &message->header, error, &reply);
	uvf_fdpass_close(reply.fds, reply.fd_count);
	if (error) {
		uvf_server_log(server, UVF_LOG_WARNING, "refused a client's first message: %s",
			       strerror(-error));
		uvf_channel_fail(connection->channel, -EPROTO);
	} else {
		uvf_server_log(server, UVF_LOG_INFO, "serves a client");
	}
}

/* ---- Requests ---- */

static void handle(struct uvf_connection *connection, const struct uvf_message *message)
{
	struct uvf_server *server = connection->server;
	const struct uvf_wire_limits limits = {server->limits.max_data_xfer_size,
					       connection->areas};
	struct uvf_wire_request request;
	struct uvf_reply reply;
	int ret = uvf_wire_decode(message, &limits, &request);

	if (!connection->negotiated) {
		handle_first(connection, message, &request, ret);
		return;
	}
	/* Not the descriptors' array: it's long, and what isn't counted isn't read. */
	reply.payload = connection->reply + sizeof(struct uvf_wire_header);
	reply.size = reply.fd_count = 0;
	reply.later = false;
	if (!ret)
		ret = uvf_request_handle(connection, &request, &reply);
	if (ret < 0)
		uvf_server_log(server, UVF_LOG_DEBUG, "command %u: %s", request.command,
			       strerror(-ret));
	if (!request.no_reply && !reply.later)
		uvf_connection_reply(connection, &message->header, ret, &reply);
}

static void log_end(struct uvf_connection *connection, int error)
{
	bool fault = error != -ENOTCONN;

	uvf_server_log(connection->server, fault ? UVF_LOG_WARNING : UVF_LOG_INFO,
		       "the client has gone%s%s", fault ? ": " : "", fault ? strerror(-error) : "");
}

/* By polling who may be woken by something else than a request. */
static enum uvf_channel_wait how_to_wait(const struct uvf_connection *connection, bool wait,
					 int handled)
{
	if (wait)
		return connection->movable || connection->deferred ? UVF_CHANNEL_POLL
								   : UVF_CHANNEL_WAIT;
	return handled ? UVF_CHANNEL_QUEUED : UVF_CHANNEL_NOW;
}

int uvf_connection_serve(struct uvf_connection *connection, bool wait)
{
	struct uvf_message message;
	int handled = 0, ret = 0;

	while (wait || handled < UVF_REQUESTS_AT_ONCE) {
		if (!wait) {
			/* Nothing new for a client that doesn't read what it has got. */
			ret = uvf_channel_flush(connection->channel);
			if (ret)
				break;
		}
		if (connection->deferred)
			uvf_connection_answer_deferred(connection);
		ret = uvf_channel_next(connection->channel, how_to_wait(connection, wait, handled),
				       &message);
		if (ret <= 0)
			break;
		handle(connection, &message);
		uvf_fdpass_close(message.fds, message.fd_count);
		handled++;
	}
	if (ret < 0)
		log_end(connection, ret);
	return ret < 0 ? ret : handled;
}
