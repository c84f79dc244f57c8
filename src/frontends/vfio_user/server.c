/* SPDX-License-Identifier: BSD-3-Clause */
/* A server's making: its configuration and its parts. */
#include "frontends/vfio_user/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"

/* QEMU takes no more. */
#define MAX_DATA_XFER_SIZE (64U << 20)

void uvf_server_log(const struct uvf_server *server, enum uvf_log_level level, const char *format,
		    ...)
{
	va_list args;

	va_start(args, format);
	uvf_logv(&server->config.log, level, uvf_device_name(server->dev), format, args);
	va_end(args);
}

static int fill_config(struct uvf_server *server, const struct uvf_server_config *given,
		       struct uvf_error *error)
{
	struct uvf_server_config *config = &server->config;

	*config = *given;
	config->path = NULL;
	if (!config->mode)
		config->mode = 0600;
	if (!config->max_msg_fds)
		config->max_msg_fds = 16;
	if (!config->max_data_xfer_size)
		config->max_data_xfer_size = UVF_WIRE_DEFAULT_DATA_XFER_SIZE;
	if (!config->max_dma_maps)
		config->max_dma_maps = UVF_WIRE_DEFAULT_DMA_MAPS;
	if (!config->max_dma_files)
		config->max_dma_files = 256;
	if (!config->page_sizes)
		config->page_sizes = UVF_WIRE_DEFAULT_PAGE_SIZES;
	if (!config->client_timeout_ms)
		config->client_timeout_ms = 10000;
	server->limits.max_data_xfer_size = config->max_data_xfer_size;
	if (config->max_msg_fds > UVF_FDPASS_MAX)
		return uvf_fail(error, -EINVAL, "max_msg_fds: at most %d", UVF_FDPASS_MAX);
	if (config->max_data_xfer_size > MAX_DATA_XFER_SIZE)
		return uvf_fail(error, -EINVAL, "max_data_xfer_size: at most %u",
				MAX_DATA_XFER_SIZE);
	if (given->path) {
		config->path = strdup(given->path);
		if (!config->path)
			return -ENOMEM;
	}
	return 0;
}

static int take_listener(struct uvf_server *server, int fd, struct uvf_error *error)
{
	int flags = fcntl(fd, F_GETFL), listening = 0;
	socklen_t size = sizeof(listening);

	server->listener = fd;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) || !listening)
		return uvf_fail(error, -EINVAL, "fd: expected a listening socket");
	return 0;
}

int uvf_server_new(struct uvf_device *dev, const struct uvf_server_config *config,
		   struct uvf_server **serverp, struct uvf_error *error)
{
	struct uvf_server *server = calloc(1, sizeof(*server));
	int ret;

	if (!server)
		return -ENOMEM;
	server->dev = dev;
	server->listener = server->epoll = server->timer = server->kick = server->spare = -1;
	for (size_t i = 0; i < UVF_ARRAY_SIZE(server->candidates); i++)
		server->candidates[i].fd = -1;
	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->changed, NULL);
	ret = fill_config(server, config, error);
	if (!ret)
		ret = config->path ? uvf_server_bind(server, error)
				   : take_listener(server, config->fd, error);
	if (!ret) {
		ret = uvf_server_loop_init(server);
		if (ret)
			uvf_fail(error, ret, "epoll: %s", strerror(-ret));
	}
	if (ret) {
		uvf_server_free(server);
		return ret;
	}
	*serverp = server;
	return 0;
}

int uvf_server_fd(const struct uvf_server *server)
{
	return server->epoll;
}

void uvf_server_free(struct uvf_server *server)
{
	if (!server)
		return;
	uvf_server_stop(server);
	uvf_adoption_undo(server);
	uvf_offer_free(server->offer);
	if (server->connection)
		uvf_connection_free(server->connection);
	uvf_server_loop_destroy(server);
	uvf_server_unbind(server);
	if (server->listener >= 0)
		close(server->listener);
	pthread_cond_destroy(&server->changed);
	pthread_mutex_destroy(&server->lock);
	free((char *)server->config.path);
	free(server);
}
