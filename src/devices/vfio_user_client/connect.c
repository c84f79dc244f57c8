/* SPDX-License-Identifier: BSD-3-Clause */
/* Connecting to a vfio-user server. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/model.h"
#include "devices/vfio_user_client/client.h"

#define MAX_PAYLOAD_MIN 65536

int client_violation(struct client *client, const char *what)
{
	if (client->dev)
		uvf_device_log(client->dev, UVF_LOG_ERROR, "the server's answer is not valid: %s",
			       what);
	uvf_channel_fail(client->channel, -EPROTO);
	if (client->twin)
		uvf_channel_fail(client->twin, -EPROTO);
	return -EPROTO;
}

int client_try(struct client *client, struct uvf_call *call, bool *refused)
{
	int ret = uvf_channel_call(client->channel, call, refused);

	/* The violation of one socket is the end of both. */
	if (ret < 0 && !*refused && client->twin)
		uvf_channel_fail(client->twin, ret);
	return ret;
}

int client_call(struct client *client, struct uvf_call *call)
{
	bool refused;

	return client_try(client, call, &refused);
}

int client_keep_fd(struct client *client, int fd)
{
	int *fds = reallocarray(client->fds, client->fd_count + 1, sizeof(*fds));

	if (!fds) {
		close(fd);
		return -ENOMEM;
	}
	client->fds = fds;
	fds[client->fd_count++] = fd;
	return 0;
}

static void fill_config(struct client *client, const struct uvf_client_config *config)
{
	client->config = *config;
	client->config.path = NULL;
	if (!client->config.timeout_ms)
		client->config.timeout_ms = 10000;
	if (!client->config.max_data_xfer_size)
		client->config.max_data_xfer_size = UVF_WIRE_DEFAULT_DATA_XFER_SIZE;
	if (!client->config.max_msg_fds)
		client->config.max_msg_fds = 16;
	if (client->config.max_msg_fds > UVF_FDPASS_MAX)
		client->config.max_msg_fds = UVF_FDPASS_MAX;
}

/* A connected socket, or a negative errno. */
static int connect_path(const char *path, uint32_t timeout_ms, struct uvf_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
	int fd;

	if (!path || strlen(path) >= sizeof(address.sun_path))
		return uvf_fail(error, -ENAMETOOLONG,
				"socket: expected a path of at most %zu characters",
				sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return uvf_fail(error, -errno, "socket: %s", strerror(errno));
	/* A server that accepts nobody makes us wait once its backlog is full. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
		int ret = errno == EAGAIN ? -ETIMEDOUT : -errno;

		close(fd);
		return uvf_fail(error, ret, "%s: %s", path, strerror(-ret));
	}
	return fd;
}

static int open_channel(struct client *client, int fd)
{
	uint32_t max_payload = (uint32_t)UVF_WIRE_FIXED_MAX;
	struct uvf_channel_config config = {
		.fd = fd,
		.max_fds = client->config.max_msg_fds,
		.timeout_ms = client->config.timeout_ms,
		.takes_requests = true,
		.kick_fd = -1,
	};

	if (__builtin_add_overflow(max_payload, client->config.max_data_xfer_size, &max_payload) ||
	    max_payload > INT32_MAX) {
		close(fd);
		return -EINVAL;
	}
	config.max_payload = max_payload > MAX_PAYLOAD_MIN ? max_payload : MAX_PAYLOAD_MIN;
	return uvf_channel_new(&config, &client->channel);
}

/* ---- VERSION ---- */

static int take_twin(struct client *client, const struct uvf_call *call, const int *fds)
{
	struct uvf_channel_config config = {
		.max_payload = (uint32_t)sizeof(struct uvf_wire_dma_access) +
			       client->config.max_data_xfer_size,
		.timeout_ms = client->config.timeout_ms,
		.takes_requests = true,
		.kick_fd = -1,
	};
	int index = client->server.twin_fd_index;
	int type = 0, domain = 0;
	socklen_t size = sizeof(type);

	if (client->config.no_twin_socket || index < 0 || (size_t)index >= call->reply_fd_count)
		return -EPROTO;
	if (getsockopt(fds[index], SOL_SOCKET, SO_TYPE, &type, &size) ||
	    getsockopt(fds[index], SOL_SOCKET, SO_DOMAIN, &domain, &size) || type != SOCK_STREAM ||
	    domain != AF_UNIX)
		return -EPROTO;
	config.fd = fcntl(fds[index], F_DUPFD_CLOEXEC, 0);
	if (config.fd < 0)
		return -errno;
	return uvf_channel_new(&config, &client->twin);
}

static int check_version(struct client *client, const struct uvf_call *call, const int *fds)
{
	const struct uvf_wire_version *version = call->reply;
	const char *text = call->reply_data;

	if (version->major != UVF_WIRE_MAJOR || version->minor > UVF_WIRE_MINOR)
		return -EPROTO;
	if (call->reply_data_size && text[call->reply_data_size - 1])
		return -EPROTO;
	if (uvf_wire_capabilities_decode(text, call->reply_data_size, &client->server) < 0)
		return -EPROTO;
	if (client->server.twin_socket)
		return take_twin(client, call, fds);
	return call->reply_fd_count ? -EPROTO : 0;
}

static int negotiate(struct client *client, struct uvf_error *error)
{
	const struct uvf_wire_capabilities ours = {
		.max_msg_fds = client->config.max_msg_fds,
		.max_data_xfer_size = client->config.max_data_xfer_size,
		.max_dma_maps = UINT32_MAX, /* we keep nothing for them: what the server takes */
		.page_sizes = UVF_WIRE_DEFAULT_PAGE_SIZES,
		.write_multiple = true,
		.twin_socket = !client->config.no_twin_socket,
		.twin_fd_index = -1,
		.migration = true,
		.migration_page_size = UVF_WIRE_MIGRATION_PAGE_SIZE,
		.max_bitmap_size = client->config.max_data_xfer_size,
		.areas = true,
	};
	struct uvf_wire_version version = {UVF_WIRE_MAJOR, UVF_WIRE_MINOR}, answer;
	char text[UVF_WIRE_VERSION_MAX], answer_text[UVF_WIRE_VERSION_MAX];
	int fds[UVF_FDPASS_MAX];
	struct uvf_call call = {
		.command = VFIO_USER_VERSION,
		.fixed = &version,
		.fixed_size = sizeof(version),
		.data = text,
		.reply = &answer,
		.reply_size = sizeof(answer),
		.reply_data = answer_text,
		.reply_data_max = sizeof(answer_text),
		.reply_fds = fds,
		.reply_fd_max = UVF_FDPASS_MAX,
	};
	bool refused;
	int ret = uvf_wire_capabilities_encode(&ours, text, sizeof(text));

	if (ret < 0)
		return ret;
	call.data_size = (size_t)ret;
	ret = client_try(client, &call, &refused);
	if (!ret)
		ret = check_version(client, &call, fds);
	uvf_fdpass_close(fds, call.reply_fd_count);
	if (refused && ret == -EBUSY)
		return uvf_fail(error, ret, "the device has another client");
	if (refused)
		return uvf_fail(error, ret, "the server refused: %s", strerror(-ret));
	if (ret == -EPROTO)
		return uvf_fail(error, ret, "the server's VERSION is not valid");
	if (ret < 0)
		return uvf_fail(error, ret, "no answer to VERSION: %s", strerror(-ret));
	client->max_count = client->server.max_data_xfer_size;
	if (client->max_count > client->config.max_data_xfer_size)
		client->max_count = client->config.max_data_xfer_size;
	return 0;
}

/* ---- The whole ---- */

static const char *name_of(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "vfio-user";
}

int uvf_client_connect(const struct uvf_client_config *config, struct uvf_device **devp,
		       struct uvf_error *error)
{
	struct client *client = calloc(1, sizeof(*client));
	int fd = config->path ? -1 : config->fd;
	int ret;

	if (!client) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	client->remap_event = client->poke = -1;
	pthread_mutex_init(&client->change_lock, NULL);
	pthread_cond_init(&client->change_begun, NULL);
	fill_config(client, config);
	if (config->path)
		fd = connect_path(config->path, client->config.timeout_ms, error);
	ret = fd < 0 ? fd : open_channel(client, fd);
	if (!ret)
		ret = negotiate(client, error);
	if (!ret)
		ret = client_discover(client, name_of(config->path), error);
	if (!ret)
		ret = client_dma_start(client);
	if (!ret)
		ret = client_follow_start(client);
	if (!ret)
		ret = client_changer_start(client);
	if (ret) {
		if (client->dev)
			uvf_device_free(client->dev);
		else
			client_free(client);
		return ret;
	}
	*devp = client->dev;
	return 0;
}

void client_free(struct client *client)
{
	if (client->channel)
		uvf_channel_fail(client->channel, -ENODEV);
	client_changer_stop(client);
	client_follow_stop(client);
	client_dma_stop(client);
	uvf_channel_put(client->twin);
	uvf_channel_put(client->channel);
	uvf_fdpass_close(client->fds, client->fd_count);
	free(client->fds);
	pthread_cond_destroy(&client->change_begun);
	pthread_mutex_destroy(&client->change_lock);
	free(client);
}

/* ---- As a model ---- */

static const struct uvf_model_key keys[] = {
	{.name = "socket",
	 .kind = UVF_KEY_STRING,
	 .expects = "PATH",
	 .help = "the unix socket of the server that has the device"},
	{.name = "timeout",
	 .kind = UVF_KEY_NUMBER,
	 .default_value = "10000",
	 .expects = "MILLISECONDS",
	 .help = "for each of its answers",
	 .min = 1,
	 .max = 3600000},
	{.name = NULL},
};

static int create(const struct uvf_spec *spec, struct uvf_device **devp, struct uvf_error *error)
{
	struct uvf_client_config config = {
		.path = uvf_spec_string(spec, "socket"),
		.timeout_ms = (uint32_t)uvf_spec_number(spec, "timeout"),
	};

	if (!config.path)
		return uvf_fail(error, -EINVAL, "socket: expected PATH");
	return uvf_client_connect(&config, devp, error);
}

static const struct uvf_model vfio_user = {
	.name = "vfio-user",
	.summary = "a device in another process, behind a vfio-user socket",
	.keys = keys,
	.create = create,
};
UVF_REGISTER_MODEL(vfio_user)
