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
	FAULT_REFUSE, /* answers with an error, but for the first time */
};

/* What is done with the device once it is there. */
enum use { USE_REGION, USE_STATE, USE_GO, USE_SIZE, USE_INFO, USE_READ, USE_WRITE, USE_LOG };

struct row {
	const char *name;
	uint16_t command;
	enum fault fault;
	int result; /* of connecting, or of a region read after it */
	size_t at;
	uint32_t value;
	enum use use;
	uint32_t feature; /* of DEVICE_FEATURE, with its flags */
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

#define GET   VFIO_DEVICE_FEATURE_GET
#define SET   VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE

/* A feature whose answer is spoilt, while it is used or (USE_REGION) asked for. */
#define FEATURE(title, which, used, fault, result, ...)                                        \
	{                                                                                      \
		title, VFIO_USER_DEVICE_FEATURE, fault, result, .feature = which, .use = used, \
								__VA_ARGS__                    \
	}
#define EACH_FEATURE(title, which, used, error, ended, late)                             \
	FEATURE(title ": short", which, used, FAULT_SHORT, error),                       \
		FEATURE(title ": long", which, used, FAULT_LONG, error),                 \
		FEATURE(title ": empty", which, used, FAULT_EMPTY, error),               \
		FEATURE(title ": other flags", which, used, FAULT_PATCH, error, .at = 4, \
			.value = 7),                                                     \
		FEATURE(title ": id", which, used, FAULT_ID, error),                     \
		FEATURE(title ": cut", which, used, FAULT_TRUNCATED, ended),             \
		FEATURE(title ": hangs up", which, used, FAULT_HANG_UP, ended),          \
		FEATURE(title ": silent", which, used, FAULT_SILENT, late)

#define GET_MIGRATION (GET | VFIO_DEVICE_FEATURE_MIGRATION)
#define GET_STATE     (GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
#define SET_STATE     (SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
#define GET_SIZE      (GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE)
#define GET_INFO      (GET | UVF_WIRE_FEATURE_PRECOPY_INFO)
#define LOG_START     (SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START)
#define LOG_REPORT    (GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)

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
	EACH_FEATURE("migration", GET_MIGRATION, USE_REGION, -EPROTO, -ENOTCONN, -ETIMEDOUT),
	FEATURE("migration: none of its states", GET_MIGRATION, USE_GO, FAULT_PATCH, -ENOTTY,
		.at = 8, .value = VFIO_MIGRATION_PRE_COPY),
	FEATURE("migration: states that nobody knows", GET_MIGRATION, USE_GO, FAULT_PATCH, 0,
		.at = 8, .value = UINT32_MAX),
	FEATURE("probe: long", PROBE | GET_SIZE, USE_REGION, FAULT_LONG, -EPROTO),
	FEATURE("probe: other flags", PROBE | GET_INFO, USE_REGION, FAULT_PATCH, -EPROTO, .at = 4),
	FEATURE("probe of a log: empty", PROBE | LOG_START, USE_REGION, FAULT_EMPTY, -EPROTO),
	FEATURE("probe of reports: hangs up", PROBE | LOG_REPORT, USE_REGION, FAULT_HANG_UP,
		-ENOTCONN),
	EACH_FEATURE("state", GET_STATE, USE_STATE, 0, 0, 0),
	FEATURE("state: there is no such", GET_STATE, USE_STATE, FAULT_PATCH, 0, .at = 8,
		.value = 8),
	EACH_FEATURE("go", SET_STATE, USE_GO, -EPROTO, -ENOTCONN, -ETIMEDOUT),
	FEATURE("go: elsewhere", SET_STATE, USE_GO, FAULT_PATCH, -EPROTO, .at = 8, .value = 1),
	EACH_FEATURE("size", GET_SIZE, USE_SIZE, -EPROTO, -ENOTCONN, -ETIMEDOUT),
	EACH_FEATURE("info", GET_INFO, USE_INFO, -EPROTO, -ENOTCONN, -ETIMEDOUT),
	EACH_FEATURE("log", LOG_START, USE_LOG, -EPROTO, -ENOTCONN, -ETIMEDOUT),
	FEATURE("log: page size", LOG_START, USE_LOG, FAULT_PATCH, -EPROTO, .at = 8, .value = 0),
	FEATURE("log: ranges", LOG_START, USE_LOG, FAULT_PATCH, -EPROTO, .at = 16, .value = 1),
	EACH_FEATURE("report", LOG_REPORT, USE_LOG, -EPROTO, -ENOTCONN, -ETIMEDOUT),
	FEATURE("report: elsewhere", LOG_REPORT, USE_LOG, FAULT_PATCH, -EPROTO, .at = 8,
		.value = 4096),
	FEATURE("report: of more", LOG_REPORT, USE_LOG, FAULT_PATCH, -EPROTO, .at = 20, .value = 1),
	FEATURE("report: of other pages", LOG_REPORT, USE_LOG, FAULT_PATCH, -EPROTO, .at = 24,
		.value = 8192),
	FEATURE("report: beyond the range", LOG_REPORT, USE_LOG, FAULT_PATCH, 7, .at = 32,
		.value = UINT32_MAX),
	{"data: short", VFIO_USER_MIG_DATA_READ, FAULT_SHORT, -EPROTO, .use = USE_READ},
	{"data: long", VFIO_USER_MIG_DATA_READ, FAULT_LONG, -EPROTO, .use = USE_READ},
	{"data: empty", VFIO_USER_MIG_DATA_READ, FAULT_EMPTY, -EPROTO, .use = USE_READ},
	{"data: more than it is", VFIO_USER_MIG_DATA_READ, FAULT_PATCH, -EPROTO, 4, UINT32_MAX,
	 .use = USE_READ},
	{"data: less than it is", VFIO_USER_MIG_DATA_READ, FAULT_PATCH, -EPROTO, 4, 1,
	 .use = USE_READ},
	{"data: cut", VFIO_USER_MIG_DATA_READ, FAULT_TRUNCATED, -ENOTCONN, .use = USE_READ},
	{"data: silent", VFIO_USER_MIG_DATA_READ, FAULT_SILENT, -ETIMEDOUT, .use = USE_READ},
	{"data taken: long", VFIO_USER_MIG_DATA_WRITE, FAULT_LONG, -EPROTO, .use = USE_WRITE},
	{"data taken: id", VFIO_USER_MIG_DATA_WRITE, FAULT_ID, -EPROTO, .use = USE_WRITE},
	{"data taken: hangs up", VFIO_USER_MIG_DATA_WRITE, FAULT_HANG_UP, -ENOTCONN,
	 .use = USE_WRITE},
};

struct hostile {
	const struct row *row;
	struct harness *h;
	int client, server; /* what stands between the client and a real server */
	unsigned spoilt;    /* answers */
};

/* Each ends with what a row has as its result. */
static int use_region(struct uvf_device *dev)
{
	uint32_t value;

	return (int)uvf_region_read(dev, 0, 0, &value, 4);
}

/* 0: ERROR. */
static int use_state(struct uvf_device *dev)
{
	return (int)uvf_migration_state(dev);
}

static int use_go(struct uvf_device *dev)
{
	return uvf_migration_set_state(dev, VFIO_DEVICE_STATE_PRE_COPY);
}

static int use_size(struct uvf_device *dev)
{
	uint64_t size;

	return uvf_migration_data_size(dev, &size);
}

static int use_info(struct uvf_device *dev)
{
	uint64_t initial, dirty;
	int ret = use_go(dev);

	return ret ? ret : uvf_migration_precopy_info(dev, &initial, &dirty);
}

static int use_read(struct uvf_device *dev)
{
	uint8_t bytes[512];
	int ret = use_go(dev);

	return ret ? ret : (int)uvf_migration_read(dev, bytes, sizeof(bytes));
}

static int use_write(struct uvf_device *dev)
{
	uint8_t bytes[8] = {0};
	int ret = uvf_migration_set_state(dev, VFIO_DEVICE_STATE_RESUMING);

	return ret ? ret : (int)uvf_migration_write(dev, bytes, sizeof(bytes));
}

static int use_log(struct uvf_device *dev)
{
	uint64_t bitmap = 0;
	int ret = uvf_device_logging_start(dev);

	if (!ret)
		ret = uvf_device_logging_report(dev, 0, 3 * PAGE, PAGE, &bitmap, 8);
	return ret ? ret : (int)bitmap;
}

static int (*const uses[])(struct uvf_device *dev) = {
	[USE_REGION] = use_region, [USE_STATE] = use_state, [USE_GO] = use_go,
	[USE_SIZE] = use_size,	   [USE_INFO] = use_info,   [USE_READ] = use_read,
	[USE_WRITE] = use_write,   [USE_LOG] = use_log,
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
	case FAULT_REFUSE:
		if (!hostile->spoilt++)
			break;
		reply->size = 0;
		reply->header.size = 16;
		reply->header.flags |= UVF_WIRE_ERROR;
		reply->header.error = EIO;
		break;
	}
	send_reply(hostile->client, reply);
	return true;
}

static bool is_spoilt(const struct row *row, const struct reply *message)
{
	uint32_t flags;

	memcpy(&flags, message->payload + 4, sizeof(flags));
	return message->header.command == row->command && (!row->feature || flags == row->feature);
}

/* Passes requests on to a real server, and its answers back, but for those to be spoilt. */
static void *hostile_main(void *opaque)
{
	struct hostile *hostile = opaque;
	struct reply *message = malloc(sizeof(*message));
	bool more = true;

	while (more && receive_message(hostile->client, message)) {
		bool spoilt = is_spoilt(hostile->row, message);

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

/* The client's device, with a hostile server behind it; or an error. */
static int hostile_begin(struct hostile *hostile, const struct uvf_server_config *server,
			 uint32_t timeout_ms, pthread_t *thread, struct uvf_device **devp)
{
	struct uvf_client_config config = {.timeout_ms = timeout_ms};
	int pair[2];

	hostile->h = harness_new(server);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	config.fd = pair[0];
	hostile->client = pair[1];
	assert_int_equal(uvf_server_start(hostile->h->server), 0);
	hostile->server = harness_connect(hostile->h);
	assert_int_equal(pthread_create(thread, NULL, hostile_main, hostile), 0);
	return uvf_client_connect(&config, devp, NULL);
}

static void answers_wrongly(void **state)
{
	const struct row *row = *state;
	struct hostile hostile = {.row = row};
	unsigned closed_before = closed_twice;
	struct uvf_device *dev = NULL;
	pthread_t thread;
	int ret = hostile_begin(&hostile, NULL, row->fault == FAULT_SILENT ? 100 : LONG_TIME_MS,
				&thread, &dev);

	if (!ret) {
		assert_int_equal(uvf_device_open(dev), 0);
		ret = uses[row->use](dev);
		if (ret < 0 && ret != -ENOTTY)
			assert_true(use_region(dev) < 0);
	}
	uvf_device_free(dev);
	pthread_join(thread, NULL);
	harness_free(hostile.h);
	assert_int_equal(ret, row->result);
	assert_int_equal(closed_twice, closed_before);
}

/* What the first message of a report took out of the log is not lost with the second. */
static void half_a_report(void **state)
{
	static const struct row row = {
		.name = "half a report",
		.command = VFIO_USER_DEVICE_FEATURE,
		.fault = FAULT_REFUSE,
		.feature = LOG_REPORT,
	};
	const struct uvf_server_config server = {.max_data_xfer_size = 8};
	struct hostile hostile = {.row = &row};
	struct uvf_device *dev = NULL;
	uint64_t bitmap[2] = {0, 0};
	pthread_t thread;

	assert_int_equal(hostile_begin(&hostile, &server, LONG_TIME_MS, &thread, &dev), 0);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_device_logging_start(dev), 0);
	/* As if the device had written there. */
	bitmap[0] = 0x42;
	uvf_device_logging_restore(hostile.h->device->dev, 0, 64 * PAGE, PAGE, bitmap);
	bitmap[0] = 0;
	assert_int_equal(uvf_device_logging_report(dev, 0, 128 * PAGE, PAGE, bitmap, 16), -EIO);
	hostile.spoilt = 0;
	bitmap[0] = 0;
	assert_int_equal(uvf_device_logging_report(dev, 0, 64 * PAGE, PAGE, bitmap, 8), 0);
	assert_int_equal(bitmap[0], 0x42);
	uvf_device_close(dev);
	uvf_device_free(dev);
	pthread_join(thread, NULL);
	harness_free(hostile.h);
}

int main(void)
{
	const struct CMUnitTest more[] = {cmocka_unit_test(half_a_report)};
	struct CMUnitTest tests[sizeof(rows) / sizeof(rows[0])];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		tests[i] = (struct CMUnitTest){rows[i].name, answers_wrongly, NULL, NULL,
					       (void *)&rows[i]};
	return cmocka_run_group_tests(tests, NULL, NULL) + cmocka_run_group_tests(more, NULL, NULL);
}
