/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A server that lies about areas that change: between our client and a real server some answers are
 * spoilt. The client gets an error, or does without areas; it never uses what can't be, and keeps
 * nothing.
 */
#include "changing.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fdpass.h"

enum fault {
	PATCH, /* @value at @at of the payload */
	SHORT, /* a byte less */
	LONG,
	CUT,	/* to @value bytes */
	REFUSE, /* with errno @value */
	DENY,	/* the same, and it isn't done */
	NO_FD,
	OTHER_FD, /* of a file that is another each time */
	SILENT,
};

struct row {
	const char *name;
	uint16_t command;
	enum fault fault;
	int result; /* of connecting, or of PRE_COPY after it */
	size_t at;
	uint32_t value;
	unsigned first; /* this many answers are right */
	uint32_t feature;
};

#define REGION	     VFIO_USER_DEVICE_GET_REGION_INFO
#define IRQ	     VFIO_USER_DEVICE_GET_IRQ_INFO
#define MAPPED	     UVF_USER_REGION_MAPPED
#define UNMAPPED     UVF_USER_REGION_UNMAPPED
#define SET_STATE    (VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
#define STATE(...)   VFIO_USER_DEVICE_FEATURE, __VA_ARGS__, .feature = SET_STATE
#define NOT_MASKABLE (VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_AUTOMASKED | UVF_IRQ_INFO_FLAG_CAPS)

/*
 * A region's answer: the areas are at 32, those that stay at 80 (one, at 96), the changes at 112.
 * The IRQ's: its chain at 16, the type at 24, the regions at 40. When connected two answers about
 * the region have come.
 */
static const struct row rows[] = {
	{"nothing is spoilt", UINT16_MAX, PATCH, 0},
	{"staying: more than come", REGION, PATCH, -EPROTO, 88, 3},
	{"staying: too many", REGION, PATCH, -EPROTO, 88, 1000000},
	{"staying: in no area", REGION, PATCH, -EPROTO, 96, 0x4000},
	{"staying: outside", REGION, PATCH, -EPROTO, 100, 1},
	{"staying: not aligned", REGION, PATCH, -EPROTO, 96, 0x1001},
	{"staying: too large", REGION, PATCH, -EPROTO, 108, 1},
	{"staying: longer than the area", REGION, PATCH, -EPROTO, 104, 2 * PAGE},
	{"staying: in a circle", REGION, PATCH, -EPROTO, 84, 32},
	{"changes: short", REGION, SHORT, -EPROTO},
	{"changes: in a circle", REGION, PATCH, -EPROTO, 116, 112},
	{"changes: none, but the IRQ is about it", REGION, PATCH, -EPROTO, 112, 0xf0f0},
	{"changes: of what nobody knows", REGION, PATCH, 0, 120, 0xfffffffe},
	{"changes: always", REGION, PATCH, 0, 120, 1},
	{"areas: always another file", REGION, OTHER_FD, 0},
	{"areas: another file later", REGION, OTHER_FD, 0, .first = 2},
	{"areas: no file later", REGION, NO_FD, 0, .first = 2},
	{"region: another size later", REGION, PATCH, -EPROTO, 16, 0x7000, .first = 2},
	{"region: read-only later", REGION, PATCH, -EPROTO, 4, 1, .first = 2},
	{"region: no changes later", REGION, PATCH, -EPROTO, 100, 0xf0f0, .first = 2},
	{"region: refused later", REGION, REFUSE, -EIO, .value = EIO, .first = 2},
	{"irq: chain outside", IRQ, PATCH, -EPROTO, 16, 5000},
	{"irq: chain inside the info", IRQ, PATCH, -EPROTO, 16, 8},
	{"irq: in a circle", IRQ, PATCH, -EPROTO, 44, 24},
	{"irq: no chain comes", IRQ, CUT, -EPROTO, .value = 16},
	{"irq: half a chain", IRQ, CUT, -EPROTO, .value = 30},
	{"irq: short", IRQ, SHORT, -EPROTO},
	{"irq: too many regions", IRQ, PATCH, -EPROTO, 48, 1000000},
	{"irq: more regions than come", IRQ, PATCH, -EPROTO, 48, 2},
	{"irq: no region", IRQ, PATCH, -EPROTO, 48, 0},
	{"irq: a region that isn't there", IRQ, PATCH, -EPROTO, 52, 9},
	{"irq: can't be masked", IRQ, PATCH, -EPROTO, 4, NOT_MASKABLE},
	{"irq: two vectors", IRQ, PATCH, -EPROTO, 12, 2},
	{"irq: of another type", IRQ, PATCH, -EPROTO, 32, 2},
	{"irq: of another subtype", IRQ, PATCH, -EPROTO, 36, 2},
	{"mapped: refused", MAPPED, DENY, 0, .value = EINVAL},
	{"mapped: no room", MAPPED, DENY, 0, .value = ENOSPC, .first = 1},
	{"mapped: long", MAPPED, LONG, -EPROTO},
	{"mapped: no errno", MAPPED, DENY, 0, .value = 0},
	{"unmapped: refused", UNMAPPED, REFUSE, 0, .value = EINVAL},
	{"unmapped: long", UNMAPPED, LONG, -EPROTO},
	{"eventfd: refused", VFIO_USER_DEVICE_SET_IRQS, REFUSE, -EPROTO, .value = EINVAL},
	{"acknowledgement: refused", VFIO_USER_DEVICE_SET_IRQS, REFUSE, 0, .value = EINVAL,
	 .first = 1},
	{"state: refused", STATE(REFUSE, -EIO, .value = EIO)},
	{"state: refused as if it went on", STATE(REFUSE, -EPROTO, .value = EINPROGRESS)},
	{"state: another", STATE(PATCH, -EPROTO, 8, 1)},
	{"state: another feature", STATE(PATCH, -EPROTO, 4, 7)},
	{"state: short", STATE(SHORT, -EPROTO)},
	{"state: long", STATE(LONG, -EPROTO)},
	{"state: silent", STATE(SILENT, -ETIMEDOUT)},
};

struct hostile {
	const struct row *row;
	int client, server;	     /* what stands between them */
	bool spoils[UINT16_MAX + 1]; /* the answer with that id */
	unsigned seen;
};

static void send_on(int sock, struct reply *message)
{
	struct iovec iov[] = {{&message->header, 16}, {message->payload, message->size}};

	uvf_fdpass_send(sock, iov, 2, message->fds, message->fd_count, 0);
}

/* Returns whether it is to be sent. */
static bool spoil(const struct row *row, struct reply *reply)
{
	switch (row->fault) {
	case PATCH:
		if (row->at + 4 <= reply->size)
			memcpy(reply->payload + row->at, &row->value, 4);
		break;
	case SHORT:
		reply->size--;
		break;
	case LONG:
		reply->payload[reply->size++] = 0;
		break;
	case CUT:
		if (reply->size > row->value)
			reply->size = row->value;
		break;
	case REFUSE:
	case DENY:
		reply->size = 0;
		reply->header.flags |= UVF_WIRE_ERROR;
		reply->header.error = row->value;
		close_reply_fds(reply);
		break;
	case NO_FD:
		close_reply_fds(reply);
		break;
	case OTHER_FD:
		close_reply_fds(reply);
		reply->fds[reply->fd_count++] = memory_file(CHANGING_SIZE);
		break;
	case SILENT:
		return false;
	}
	reply->header.size = (uint32_t)(16 + reply->size);
	return true;
}

static bool is_meant(struct hostile *hostile, const struct reply *request)
{
	const struct row *row = hostile->row;
	uint32_t flags;

	memcpy(&flags, request->payload + 4, sizeof(flags));
	if (request->header.command != row->command || (row->feature && flags != row->feature))
		return false;
	return ++hostile->seen > row->first;
}

static void pass_on(struct hostile *hostile, struct reply *request)
{
	bool meant = is_meant(hostile, request);

	hostile->spoils[request->header.id] = meant;
	if (!meant || hostile->row->fault != DENY) {
		send_on(hostile->server, request);
		return;
	}
	request->header.flags = UVF_WIRE_REPLY;
	spoil(hostile->row, request);
	send_on(hostile->client, request);
}

/* Answers come in any order: ids tell what they are to. */
static void *hostile_main(void *opaque)
{
	struct hostile *hostile = opaque;
	struct reply *message = calloc(1, sizeof(*message));
	struct pollfd fds[] = {{hostile->client, POLLIN, 0}, {hostile->server, POLLIN, 0}};

	for (;;) {
		if (poll(fds, 2, LONG_TIME_MS) <= 0)
			break;
		if (fds[0].revents) {
			if (!receive_message(hostile->client, message))
				break;
			pass_on(hostile, message);
			close_reply_fds(message);
		}
		if (fds[1].revents) {
			if (!receive_message(hostile->server, message))
				break;
			if (!hostile->spoils[message->header.id] || spoil(hostile->row, message))
				send_on(hostile->client, message);
			close_reply_fds(message);
		}
	}
	close(hostile->client);
	close(hostile->server);
	free(message);
	return NULL;
}

static void lies(void **state)
{
	struct hostile *hostile = calloc(1, sizeof(*hostile));
	const struct row *row = *state;
	size_t before = count_fds();
	struct changing *changing = changing_new(1);
	struct harness *h = changing_serve(changing, true, NULL);
	struct uvf_client_config config = {
		.timeout_ms = row->fault == SILENT ? 100 : LONG_TIME_MS,
		/* The one who reads all messages. */
		.no_twin_socket = true,
	};
	struct uvf_device *dev = NULL;
	pthread_t thread;
	int pair[2], ret;

	assert_non_null(hostile);
	hostile->row = row;
	h->fds_before = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	config.fd = pair[0];
	hostile->client = pair[1];
	hostile->server = harness_connect(h);
	assert_int_equal(pthread_create(&thread, NULL, hostile_main, hostile), 0);
	ret = uvf_client_connect(&config, &dev, NULL);
	if (!ret) {
		assert_int_equal(uvf_device_open(dev), 0);
		ret = uvf_migration_set_state(dev, VFIO_DEVICE_STATE_PRE_COPY);
	}
	uvf_device_free(dev);
	pthread_join(thread, NULL);
	harness_free(h);
	changing_free(changing);
	free(hostile);
	assert_int_equal(ret, row->result);
	assert_int_equal(count_fds(), before);
}

int main(void)
{
	struct CMUnitTest tests[sizeof(rows) / sizeof(rows[0])];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		tests[i] = (struct CMUnitTest){rows[i].name, lies, NULL, NULL, (void *)&rows[i]};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
