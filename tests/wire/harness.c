/* SPDX-License-Identifier: BSD-3-Clause */
/* The server under test, and a client made of raw bytes. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fdpass.h"

static size_t count_entries(const char *path)
{
	DIR *directory = opendir(path);
	size_t count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

size_t count_fds(void)
{
	return count_entries("/proc/self/fd");
}

size_t count_threads(void)
{
	return count_entries("/proc/self/task");
}

int memory_file(size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

struct harness *harness_serve(struct uvf_device *dev, const struct uvf_server_config *given)
{
	struct harness *h = calloc(1, sizeof(*h));
	/* Long: no test is decided by a machine that stalls. */
	struct uvf_server_config config = {
		.max_data_xfer_size = MAX_DATA,
		.client_timeout_ms = LONG_TIME_MS,
	};
	struct uvf_error error = {""};

	assert_non_null(h);
	h->fds_before = count_fds();
	h->client = -1;
	strcpy(h->directory, "/tmp/uvfio-wire-XXXXXX");
	assert_non_null(mkdtemp(h->directory));
	snprintf(h->path, sizeof(h->path), "%s/s", h->directory);
	if (given) {
		config = *given;
		if (!config.client_timeout_ms)
			config.client_timeout_ms = LONG_TIME_MS;
	}
	config.path = h->path;
	if (uvf_server_new(dev, &config, &h->server, &error))
		fail_msg("%s", error.text);
	return h;
}

struct harness *harness_new(const struct uvf_server_config *config)
{
	size_t before = count_fds();
	struct test_device *device = test_device_new();
	struct harness *h = harness_serve(device->dev, config);

	h->device = device;
	h->fds_before = before;
	return h;
}

void harness_free(struct harness *h)
{
	size_t before = h->fds_before;

	if (h->client >= 0)
		close(h->client);
	uvf_server_free(h->server);
	if (h->device)
		test_device_free(h->device);
	assert_int_equal(access(h->path, F_OK), -1);
	assert_int_equal(rmdir(h->directory), 0);
	free(h);
	if (before)
		assert_int_equal(count_fds(), before);
}

int harness_setup_server(void **state)
{
	*state = harness_new(NULL);
	return 0;
}

/* Where a test has a row of a table as its state, the harness is beside it. */
static struct harness *current;

struct harness *harness_current(void)
{
	return current;
}

int harness_setup(void **state)
{
	struct reply reply;

	current = harness_new(NULL);
	current->client = harness_connect(current);
	assert_int_equal(negotiate_on(current, current->client,
				      "{\"capabilities\":{\"max_msg_fds\":16}}", &reply),
			 0);
	if (!*state)
		*state = current;
	return 0;
}

int harness_teardown(void **state)
{
	harness_free(current ? current : *state);
	current = NULL;
	return 0;
}

int harness_connect(struct harness *h)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, h->path);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

void harness_step(struct harness *h)
{
	struct pollfd ready = {uvf_server_fd(h->server), POLLIN, 0};

	/* A step more than its fd asks for must do no harm. */
	if (h->threaded)
		return;
	do
		assert_true(uvf_server_process(h->server) >= 0);
	while (poll(&ready, 1, 0) > 0);
}

void send_request_on(int sock, uint16_t id, uint16_t command, uint32_t flags, const void *payload,
		     size_t size, const int *fds, size_t fd_count)
{
	struct uvf_wire_header header = {
		.id = id,
		.command = command,
		.size = (uint32_t)(sizeof(header) + size),
		.flags = flags,
	};
	struct iovec iov[] = {{&header, sizeof(header)}, {(void *)payload, size}};

	assert_int_equal(uvf_fdpass_send(sock, iov, 2, fds, fd_count, 0), sizeof(header) + size);
}

static bool receive_all(int sock, void *buf, size_t size)
{
	while (size) {
		ssize_t got = recv(sock, buf, size, 0);

		if (got <= 0)
			return false;
		buf = (char *)buf + got;
		size -= (size_t)got;
	}
	return true;
}

bool receive_message(int sock, struct reply *reply)
{
	struct pollfd ready = {sock, POLLIN, 0};
	ssize_t got;

	if (poll(&ready, 1, LONG_TIME_MS) != 1)
		fail_msg("no message");
	got = uvf_fdpass_receive(sock, &reply->header, sizeof(reply->header), reply->fds,
				 UVF_FDPASS_MAX, &reply->fd_count, 0);
	if (got <= 0)
		return false;
	assert_int_equal(got, sizeof(reply->header));
	reply->size = reply->header.size - sizeof(reply->header);
	assert_true(reply->size <= sizeof(reply->payload));
	return receive_all(sock, reply->payload, reply->size);
}

void close_reply_fds(struct reply *reply)
{
	uvf_fdpass_close(reply->fds, reply->fd_count);
	reply->fd_count = 0;
}

int request(struct harness *h, uint16_t command, const void *payload, size_t size, const int *fds,
	    size_t fd_count, struct reply *reply)
{
	uint16_t id = ++h->id;

	send_request_on(h->client, id, command, 0, payload, size, fds, fd_count);
	harness_step(h);
	if (!receive_message(h->client, reply))
		return -ENOTCONN;
	assert_int_equal(reply->header.id, id);
	assert_int_equal(reply->header.command, command);
	assert_int_equal(reply->header.flags & UVF_WIRE_TYPE, UVF_WIRE_REPLY);
	if (!(reply->header.flags & UVF_WIRE_ERROR))
		return 0;
	assert_int_equal(reply->size, 0);
	assert_int_not_equal(reply->header.error, 0);
	return -(int)reply->header.error;
}

int simple(struct harness *h, uint16_t command, const void *payload, size_t size)
{
	struct reply reply;
	int ret = request(h, command, payload, size, NULL, 0, &reply);

	if (!ret)
		close_reply_fds(&reply);
	return ret;
}

int negotiate_on(struct harness *h, int sock, const char *text, struct reply *reply)
{
	struct uvf_wire_version version = {0, 0};
	uint8_t payload[8192];
	size_t size = sizeof(version) + (text ? strlen(text) + 1 : 0);

	assert_true(size <= sizeof(payload));
	memcpy(payload, &version, sizeof(version));
	if (text)
		strcpy((char *)payload + sizeof(version), text);
	send_request_on(sock, 77, VFIO_USER_VERSION, 0, payload, size, NULL, 0);
	harness_step(h);
	if (!receive_message(sock, reply))
		return -ENOTCONN;
	assert_int_equal(reply->header.id, 77);
	return reply->header.flags & UVF_WIRE_ERROR ? -(int)reply->header.error : 0;
}

bool hung_up(int sock)
{
	struct pollfd ready = {sock, POLLIN, 0};
	char byte;

	return poll(&ready, 1, 0) == 1 && recv(sock, &byte, 1, MSG_DONTWAIT) <= 0;
}

int region_read32(struct harness *h, uint32_t region, uint64_t offset, uint32_t *value)
{
	struct uvf_wire_region_access access = {offset, region, sizeof(*value)};
	struct reply reply;
	int ret = request(h, VFIO_USER_REGION_READ, &access, sizeof(access), NULL, 0, &reply);

	if (ret)
		return ret;
	assert_int_equal(reply.size, sizeof(access) + sizeof(*value));
	assert_memory_equal(reply.payload, &access, sizeof(access));
	memcpy(value, reply.payload + sizeof(access), sizeof(*value));
	return 0;
}

int region_write32(struct harness *h, uint32_t region, uint64_t offset, uint32_t value)
{
	struct {
		struct uvf_wire_region_access access;
		uint32_t value;
	} write = {{offset, region, sizeof(value)}, value};
	struct reply reply;
	int ret = request(h, VFIO_USER_REGION_WRITE, &write, 20, NULL, 0, &reply);

	if (ret)
		return ret;
	assert_int_equal(reply.size, sizeof(write.access));
	assert_memory_equal(reply.payload, &write.access, sizeof(write.access));
	return 0;
}

int dma_map(struct harness *h, uint64_t address, uint64_t size, uint32_t flags, int fd,
	    uint64_t offset)
{
	struct uvf_wire_dma_map map = {sizeof(map), flags, offset, address, size};
	struct reply reply;
	int ret = request(h, VFIO_USER_DMA_MAP, &map, sizeof(map), &fd, fd >= 0, &reply);

	if (!ret)
		assert_int_equal(reply.size, 0);
	return ret;
}

int dma_unmap(struct harness *h, uint64_t address, uint64_t size, uint32_t flags)
{
	struct uvf_wire_dma_unmap unmap = {sizeof(unmap), flags, address, size};
	struct reply reply;
	int ret = request(h, VFIO_USER_DMA_UNMAP, &unmap, sizeof(unmap), NULL, 0, &reply);

	if (!ret) {
		assert_int_equal(reply.size, sizeof(unmap));
		assert_memory_equal(reply.payload, &unmap, sizeof(unmap));
	}
	return ret;
}
