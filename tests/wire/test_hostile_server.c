/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A server that answers wrongly: right in everything but the one answer that a case is about. The
 * client gets an error, and nothing of what it was told is used.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fdpass.h"
#include "harness.h"

static _Atomic unsigned closed_twice;

/* The library's too: what is closed a second time may be somebody else's by then. */
int close(int fd)
{
	int ret = (int)syscall(SYS_close, fd);

	closed_twice += ret < 0 && errno == EBADF;
	return ret;
}

enum fault {
	FAULT_ID = 1,
	FAULT_COMMAND,
	FAULT_TYPE,
	FAULT_SHORT, /* a byte less */
	FAULT_LONG,
	FAULT_EMPTY,
	FAULT_SIZE_0,
	FAULT_SIZE_HUGE,
	FAULT_TRUNCATED, /* hangs up in the middle */
	FAULT_HANG_UP,
	FAULT_SILENT,
	FAULT_TWICE,
	FAULT_PATCH, /* @value at @at of the payload */
	FAULT_NO_FD,
};

struct row {
	const char *name;
	uint16_t command;
	enum fault fault;
	int result; /* of connecting, or of a region read after it */
	size_t at;
	uint32_t value;
};

#define EACH(command)                                                       \
	{#command ": id", command, FAULT_ID, -EPROTO},                      \
		{#command ": command", command, FAULT_COMMAND, -EPROTO},    \
		{#command ": type", command, FAULT_TYPE, -EPROTO},          \
		{#command ": short", command, FAULT_SHORT, -EPROTO},        \
		{#command ": empty", command, FAULT_EMPTY, -EPROTO},        \
		{#command ": size 0", command, FAULT_SIZE_0, -EMSGSIZE},    \
		{#command ": huge", command, FAULT_SIZE_HUGE, -EMSGSIZE},   \
		{#command ": cut", command, FAULT_TRUNCATED, -ENOTCONN},    \
		{#command ": hangs up", command, FAULT_HANG_UP, -ENOTCONN}, \
	{                                                                   \
#command ": silent", command, FAULT_SILENT, -ETIMEDOUT      \
	}

static const struct row rows[] = {
	EACH(VFIO_USER_VERSION),
	EACH(VFIO_USER_DEVICE_GET_INFO),
	EACH(VFIO_USER_DEVICE_GET_REGION_INFO),
	EACH(VFIO_USER_DEVICE_GET_IRQ_INFO),
	EACH(VFIO_USER_REGION_READ),
	{"info: long", VFIO_USER_DEVICE_GET_INFO, FAULT_LONG, -EPROTO},
	{"region: long", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_LONG, -EPROTO},
	{"read: long", VFIO_USER_REGION_READ, FAULT_LONG, -EPROTO},
	{"read: answered twice", VFIO_USER_DEVICE_GET_INFO, FAULT_TWICE, -EPROTO},
	{"version: major", VFIO_USER_VERSION, FAULT_PATCH, -EPROTO, 0, 1},
	{"version: minor", VFIO_USER_VERSION, FAULT_PATCH, -EPROTO, 0, 0x10000},
	{"version: not JSON", VFIO_USER_VERSION, FAULT_PATCH, -EPROTO, 4, 0x20202020},
	{"version: no twin socket comes", VFIO_USER_VERSION, FAULT_NO_FD, -EPROTO},
	{"info: too many regions", VFIO_USER_DEVICE_GET_INFO, FAULT_PATCH, -EPROTO, 8, UINT32_MAX},
	{"info: too many IRQs", VFIO_USER_DEVICE_GET_INFO, FAULT_PATCH, -EPROTO, 12, 100000},
	{"region: another index", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 8, 77},
	{"region: absurd argsz", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 0,
	 UINT32_MAX},
	{"region: capabilities outside", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 12,
	 5000},
	{"region: capabilities inside the info", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH,
	 -EPROTO, 12, 8},
	{"region: capabilities in a circle", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO,
	 36, 32},
	{"region: too many areas", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 40,
	 1000000},
	{"region: more areas than come", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 40,
	 3},
	{"region: area outside", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 48,
	 0x4000},
	{"region: area not aligned", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 48,
	 0x1001},
	{"region: area too large", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 60, 1},
	{"region: areas overlap", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 64,
	 0x1000},
	{"region: past its file", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_PATCH, -EPROTO, 28,
	 0x7fff0000},
	{"region: no file comes", VFIO_USER_DEVICE_GET_REGION_INFO, FAULT_NO_FD, 4},
	{"irq: another index", VFIO_USER_DEVICE_GET_IRQ_INFO, FAULT_PATCH, -EPROTO, 8, 3},
	{"irq: too many vectors", VFIO_USER_DEVICE_GET_IRQ_INFO, FAULT_PATCH, -EPROTO, 12,
	 UINT32_MAX},
	{"read: another offset", VFIO_USER_REGION_READ, FAULT_PATCH, -EPROTO, 0, 4},
	{"read: another region", VFIO_USER_REGION_READ, FAULT_PATCH, -EPROTO, 8, 1},
	{"read: another count", VFIO_USER_REGION_READ, FAULT_PATCH, -EPROTO, 12, 8},
};

struct hostile {
	const struct row *row;
	struct harness *h;
	int client, server; /* what stands between the client and a real server */
};

static void send_reply(int sock, struct reply *reply)
{
	struct iovec iov[] = {{&reply->header, 16}, {reply->payload, reply->size}};

	uvf_fdpass_send(sock, iov, 2, reply->fds, reply->fd_count, 0);
}

/* Returns whether to go on. */
static bool spoil(struct hostile *hostile, struct reply *reply)
{
	const struct row *row = hostile->row;

	switch (row->fault) {
	case FAULT_ID:
		reply->header.id ^= 0x100;
		break;
	case FAULT_COMMAND:
		reply->header.command ^= 1;
		break;
	case FAULT_TYPE:
		reply->header.flags = 2;
		break;
	case FAULT_SHORT:
		reply->header.size = (uint32_t)(16 + --reply->size);
		break;
	case FAULT_LONG:
		reply->header.size = (uint32_t)(16 + ++reply->size);
		break;
	case FAULT_EMPTY:
		reply->size = 0;
		reply->header.size = 16;
		break;
	case FAULT_SIZE_0:
		reply->header.size = 0;
		break;
	case FAULT_SIZE_HUGE:
		reply->header.size = UINT32_MAX;
		break;
	case FAULT_TRUNCATED:
		reply->size--;
		send_reply(hostile->client, reply);
		return false;
	case FAULT_HANG_UP:
		return false;
	case FAULT_SILENT:
		return true;
	case FAULT_TWICE:
		send_reply(hostile->client, reply);
		break;
	case FAULT_PATCH:
		if (row->at + 4 <= reply->size)
			memcpy(reply->payload + row->at, &row->value, 4);
		break;
	case FAULT_NO_FD:
		close_reply_fds(reply);
		break;
	}
	send_reply(hostile->client, reply);
	return true;
}

/* Passes requests on to a real server, and its answers back, but for those to be spoilt. */
static void *hostile_main(void *opaque)
{
	struct hostile *hostile = opaque;
	struct reply *message = malloc(sizeof(*message));
	bool more = true;

	while (more && receive_message(hostile->client, message)) {
		bool spoilt = message->header.command == hostile->row->command;

		send_request_on(hostile->server, message->header.id, message->header.command, 0,
				message->payload, message->size, message->fds, message->fd_count);
		close_reply_fds(message);
		if (!receive_message(hostile->server, message))
			break;
		if (spoilt)
			more = spoil(hostile, message);
		else
			send_reply(hostile->client, message);
		close_reply_fds(message);
	}
	close(hostile->client);
	close(hostile->server);
	free(message);
	return NULL;
}

static void answers_wrongly(void **state)
{
	struct hostile hostile = {.row = *state, .h = harness_new(NULL)};
	unsigned closed_before = closed_twice;
	struct uvf_client_config config = {.timeout_ms = 100};
	struct uvf_device *dev = NULL;
	uint32_t value = 0;
	pthread_t thread;
	int pair[2], ret;

	if (hostile.row->fault != FAULT_SILENT)
		config.timeout_ms = LONG_TIME_MS;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	config.fd = pair[0];
	hostile.client = pair[1];
	assert_int_equal(uvf_server_start(hostile.h->server), 0);
	hostile.server = harness_connect(hostile.h);
	assert_int_equal(pthread_create(&thread, NULL, hostile_main, &hostile), 0);
	ret = uvf_client_connect(&config, &dev, NULL);
	if (!ret) {
		ret = uvf_device_open(dev);
		assert_int_equal(ret, 0);
		ret = (int)uvf_region_read(dev, 0, 0, &value, 4);
		if (ret < 0)
			assert_true(uvf_region_read(dev, 0, 0, &value, 4) < 0);
	}
	uvf_device_free(dev);
	pthread_join(thread, NULL);
	harness_free(hostile.h);
	assert_int_equal(ret, hostile.row->result);
	assert_int_equal(closed_twice, closed_before);
}

int main(void)
{
	struct CMUnitTest tests[sizeof(rows) / sizeof(rows[0])];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		tests[i] = (struct CMUnitTest){rows[i].name, answers_wrongly, NULL, NULL,
					       (void *)&rows[i]};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
