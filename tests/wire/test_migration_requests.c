/* SPDX-License-Identifier: BSD-3-Clause */
/* What must be refused of a migration, and of a dirty log: as tables, in each state. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "migrating.h"

#define GET   VFIO_DEVICE_FEATURE_GET
#define SET   VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE

struct row {
	const char *name;
	uint32_t state; /* to be in; 0: RUNNING, with the log on */
	uint16_t command;
	size_t size;
	const void *payload;
	int result;
};

#define PAYLOAD(type, ...)          \
	sizeof(type), &(const type) \
	{                           \
		__VA_ARGS__         \
	}
#define PART(length, type, ...) \
	(length), &(const type) \
	{                       \
		__VA_ARGS__     \
	}

struct data8 {
	struct uvf_wire_mig_data data;
	uint8_t bytes[8];
};
struct data_large {
	struct uvf_wire_mig_data data;
	uint8_t bytes[MAX_DATA + 4];
};
struct state_ {
	struct uvf_wire_feature feature;
	struct vfio_device_feature_mig_state state;
	uint32_t more;
};
struct any_feature {
	struct uvf_wire_feature feature;
	uint8_t data[16];
};
struct start {
	struct uvf_wire_feature feature;
	struct uvf_wire_logging_control control;
	struct vfio_device_feature_dma_logging_range ranges[3];
};
struct many_ranges {
	struct uvf_wire_feature feature;
	struct uvf_wire_logging_control control;
	struct vfio_device_feature_dma_logging_range ranges[257];
};
struct report {
	struct uvf_wire_feature feature;
	struct uvf_wire_logging_report report;
	uint8_t more[8];
};
typedef struct uvf_wire_mig_data data;
typedef struct data8 data8;
typedef struct data_large data_large;
typedef struct state_ state_;
typedef struct uvf_wire_feature feature;
typedef struct any_feature any_feature;
typedef struct start start;
typedef struct many_ranges many_ranges;
typedef struct report report;

#define READ	VFIO_USER_MIG_DATA_READ
#define WRITE	VFIO_USER_MIG_DATA_WRITE
#define FEATURE VFIO_USER_DEVICE_FEATURE

#define TO(number)                                        \
	{16, SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE}, \
	{                                                 \
		number, -1                                \
	}
#define LOG(name)    VFIO_DEVICE_FEATURE_DMA_LOGGING_##name
#define START_FLAGS  (SET | LOG(START))
#define REPORT_FLAGS (GET | LOG(REPORT))

static const struct row rows[] = {
	{"read: short", STOP_COPY, READ, PART(7, data, 16, 8), -EINVAL},
	{"read: empty", STOP_COPY, READ, 0, NULL, -EINVAL},
	{"read: long", STOP_COPY, READ, PART(9, data8, {16, 8}), -EINVAL},
	{"read: argsz 0", STOP_COPY, READ, PAYLOAD(data, 0, 8), -EINVAL},
	{"read: argsz of less", STOP_COPY, READ, PAYLOAD(data, 15, 8), -EINVAL},
	{"read: size that overflows argsz", STOP_COPY, READ, PAYLOAD(data, 7, UINT32_MAX), -EINVAL},
	{"read: size 0", STOP_COPY, READ, PAYLOAD(data, 8, 0), -EINVAL},
	{"read: too large", STOP_COPY, READ, PAYLOAD(data, UINT32_MAX, MAX_DATA + 1), -E2BIG},
	{"read: all the world", STOP_COPY, READ, PAYLOAD(data, UINT32_MAX, UINT32_MAX - 8), -E2BIG},
	{"read: RUNNING", RUNNING, READ, PAYLOAD(data, 16, 8), -EINVAL},
	{"read: STOP", STOP, READ, PAYLOAD(data, 16, 8), -EINVAL},
	{"read: RUNNING_P2P", P2P, READ, PAYLOAD(data, 16, 8), -EINVAL},
	{"read: RESUMING", RESUMING, READ, PAYLOAD(data, 16, 8), -EINVAL},

	{"write: short", RESUMING, WRITE, PART(7, data, 16, 8), -EINVAL},
	{"write: empty", RESUMING, WRITE, 0, NULL, -EINVAL},
	{"write: less than its size", RESUMING, WRITE, PART(15, data8, {16, 8}), -EINVAL},
	{"write: more than its size", RESUMING, WRITE, PAYLOAD(data8, {16, 7}), -EINVAL},
	{"write: none of its size", RESUMING, WRITE, PAYLOAD(data, 8, UINT32_MAX), -EINVAL},
	{"write: size 0", RESUMING, WRITE, PAYLOAD(data, 8, 0), -EINVAL},
	{"write: argsz", RESUMING, WRITE, PAYLOAD(data8, {7, 8}), -EINVAL},
	{"write: too large", RESUMING, WRITE, PAYLOAD(data_large, {8, MAX_DATA + 4}), -E2BIG},
	{"write: RUNNING", RUNNING, WRITE, PAYLOAD(data8, {16, 8}), -EINVAL},
	{"write: STOP_COPY", STOP_COPY, WRITE, PAYLOAD(data8, {16, 8}), -EINVAL},
	{"write: PRE_COPY", PRE_COPY, WRITE, PAYLOAD(data8, {16, 8}), -EINVAL},

	{"state: short", RUNNING, FEATURE, PART(12, state_, TO(STOP)), -EINVAL},
	{"state: nothing", RUNNING, FEATURE, PART(8, state_, TO(STOP)), -EINVAL},
	{"state: long", RUNNING, FEATURE, PAYLOAD(state_, TO(STOP)), -EINVAL},
	{"state: argsz", RUNNING, FEATURE,
	 PART(16, state_, {15, SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE}, {STOP, -1}), -EINVAL},
	{"state: ERROR", RUNNING, FEATURE, PART(16, state_, TO(0)), -EINVAL},
	{"state: 8", RUNNING, FEATURE, PART(16, state_, TO(8)), -EINVAL},
	{"state: all ones", RUNNING, FEATURE, PART(16, state_, TO(UINT32_MAX)), -EINVAL},
	{"state: STOP_COPY to PRE_COPY", STOP_COPY, FEATURE, PART(16, state_, TO(PRE_COPY)), 0},
	{"state: get without room", RUNNING, FEATURE,
	 PAYLOAD(feature, 15, GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE), -EINVAL},
	{"migration: get without room", RUNNING, FEATURE,
	 PAYLOAD(feature, 15, GET | VFIO_DEVICE_FEATURE_MIGRATION), -EINVAL},
	{"migration: set", RUNNING, FEATURE,
	 PAYLOAD(any_feature, {24, SET | VFIO_DEVICE_FEATURE_MIGRATION}), -EINVAL},
	{"data size: get without room", RUNNING, FEATURE,
	 PAYLOAD(feature, 15, GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE), -EINVAL},
	{"data size: set", RUNNING, FEATURE,
	 PAYLOAD(any_feature, {24, SET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE}), -EINVAL},
	{"probe: migration", RUNNING, FEATURE,
	 PAYLOAD(feature, 8, PROBE | GET | VFIO_DEVICE_FEATURE_MIGRATION), 0},
	{"probe: migration can't be set", RUNNING, FEATURE,
	 PAYLOAD(feature, 8, PROBE | GET | SET | VFIO_DEVICE_FEATURE_MIGRATION), -EINVAL},
	{"probe: state", RUNNING, FEATURE,
	 PAYLOAD(feature, 8, PROBE | GET | SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE), 0},
	{"probe: a log's start", RUNNING, FEATURE, PAYLOAD(feature, 8, PROBE | START_FLAGS), 0},
	{"probe: a log's stop", RUNNING, FEATURE, PAYLOAD(feature, 8, PROBE | SET | LOG(STOP)), 0},
	{"probe: a log's report", RUNNING, FEATURE, PAYLOAD(feature, 8, PROBE | REPORT_FLAGS), 0},
	{"probe: a log's start can't be read", RUNNING, FEATURE,
	 PAYLOAD(feature, 8, PROBE | GET | LOG(START)), -EINVAL},
	{"probe: a log's report can't be set", RUNNING, FEATURE,
	 PAYLOAD(feature, 8, PROBE | SET | LOG(REPORT)), -EINVAL},
	{"probe: precopy info", RUNNING, FEATURE,
	 PAYLOAD(feature, 8, PROBE | GET | UVF_WIRE_FEATURE_PRECOPY_INFO), 0},
	{"probe: precopy info can't be set", RUNNING, FEATURE,
	 PAYLOAD(feature, 8, PROBE | SET | UVF_WIRE_FEATURE_PRECOPY_INFO), -EINVAL},

	{"precopy info: RUNNING", RUNNING, FEATURE,
	 PAYLOAD(feature, 24, GET | UVF_WIRE_FEATURE_PRECOPY_INFO), -EINVAL},
	{"precopy info: STOP_COPY", STOP_COPY, FEATURE,
	 PAYLOAD(feature, 24, GET | UVF_WIRE_FEATURE_PRECOPY_INFO), -EINVAL},
	{"precopy info: without room", PRE_COPY, FEATURE,
	 PAYLOAD(feature, 23, GET | UVF_WIRE_FEATURE_PRECOPY_INFO), -EINVAL},
	{"precopy info: with data", PRE_COPY, FEATURE,
	 PAYLOAD(any_feature, {24, GET | UVF_WIRE_FEATURE_PRECOPY_INFO}), -EINVAL},
	{"precopy info: set", PRE_COPY, FEATURE,
	 PAYLOAD(any_feature, {24, SET | UVF_WIRE_FEATURE_PRECOPY_INFO}), -ENOTTY},

	{"start: short", RUNNING, FEATURE, PART(23, start, {72, START_FLAGS}, {PAGE}), -EINVAL},
	{"start: nothing", RUNNING, FEATURE, PART(8, start, {72, START_FLAGS}, {PAGE}), -EINVAL},
	{"start: argsz", RUNNING, FEATURE, PART(24, start, {23, START_FLAGS}, {PAGE}), 0},
	{"start: fewer ranges than it says", RUNNING, FEATURE,
	 PART(40, start, {72, START_FLAGS}, {PAGE, 2}), -EINVAL},
	{"start: more ranges than it says", RUNNING, FEATURE,
	 PART(56, start, {72, START_FLAGS}, {PAGE, 1}), -EINVAL},
	{"start: half a range", RUNNING, FEATURE, PART(48, start, {72, START_FLAGS}, {PAGE, 1}),
	 -EINVAL},
	{"start: a count that overflows", RUNNING, FEATURE,
	 PART(24, start, {72, START_FLAGS}, {PAGE, 1U << 28}), -EINVAL},
	{"start: page size 0", RUNNING, FEATURE, PART(24, start, {72, START_FLAGS}, {0}), -EINVAL},
	{"start: page size", RUNNING, FEATURE, PART(24, start, {72, START_FLAGS}, {PAGE + 1}),
	 -EINVAL},
	{"start: range not aligned", RUNNING, FEATURE,
	 PART(40, start, {72, START_FLAGS}, {PAGE, 1}, {{PAGE, PAGE + 1}}), -EINVAL},
	{"start: range past the end", RUNNING, FEATURE,
	 PART(40, start, {72, START_FLAGS}, {PAGE, 1}, {{-4096ULL, 2 * PAGE}}), -EOVERFLOW},
	{"start: ranges overlap", RUNNING, FEATURE,
	 PART(56, start, {72, START_FLAGS}, {PAGE, 2}, {{0, 2 * PAGE}, {PAGE, PAGE}}), -EINVAL},
	{"start: too many ranges", RUNNING, FEATURE,
	 PAYLOAD(many_ranges, {8000, START_FLAGS}, {PAGE, 257}), -E2BIG},
	{"start: as many as there may be", RUNNING, FEATURE,
	 PART(24 + 256 * 16, many_ranges, {8000, START_FLAGS}, {PAGE, 256}), 0},
	{"start: twice", 0, FEATURE, PART(24, start, {72, START_FLAGS}, {PAGE}), -EINVAL},
	{"start: get", RUNNING, FEATURE, PART(24, start, {72, GET | LOG(START)}, {PAGE}), -EINVAL},
	{"stop: with data", 0, FEATURE, PART(16, any_feature, {24, SET | LOG(STOP)}), -EINVAL},
	{"stop: of none", RUNNING, FEATURE, PAYLOAD(feature, 8, SET | LOG(STOP)), 0},
	{"stop: get", 0, FEATURE, PAYLOAD(feature, 8, GET | LOG(STOP)), -EINVAL},

	{"report: off", RUNNING, FEATURE, PART(32, report, {64, REPORT_FLAGS}, {0, PAGE, PAGE}),
	 -EINVAL},
	{"report: short", 0, FEATURE, PART(31, report, {64, REPORT_FLAGS}, {0, PAGE, PAGE}),
	 -EINVAL},
	{"report: long", 0, FEATURE, PAYLOAD(report, {64, REPORT_FLAGS}, {0, PAGE, PAGE}), -EINVAL},
	{"report: set", 0, FEATURE, PART(32, report, {64, SET | LOG(REPORT)}, {0, PAGE, PAGE}),
	 -EINVAL},
	{"report: no room for the bitmap", 0, FEATURE,
	 PART(32, report, {39, REPORT_FLAGS}, {0, PAGE, PAGE}), -EINVAL},
	{"report: room for it", 0, FEATURE, PART(32, report, {40, REPORT_FLAGS}, {0, PAGE, PAGE}),
	 0},
	{"report: nothing of a range", 0, FEATURE,
	 PART(32, report, {64, REPORT_FLAGS}, {0, 0, PAGE}), -EINVAL},
	{"report: page size 0", 0, FEATURE, PART(32, report, {64, REPORT_FLAGS}, {0, PAGE, 0}),
	 -EINVAL},
	{"report: page size", 0, FEATURE, PART(32, report, {64, REPORT_FLAGS}, {0, PAGE, 3 * PAGE}),
	 -EINVAL},
	{"report: not aligned", 0, FEATURE, PART(32, report, {64, REPORT_FLAGS}, {8, PAGE, PAGE}),
	 -EINVAL},
	{"report: past the end", 0, FEATURE,
	 PART(32, report, {64, REPORT_FLAGS}, {-4096ULL, 2 * PAGE, PAGE}), -EOVERFLOW},
	{"report: up to the end", 0, FEATURE,
	 PART(32, report, {64, REPORT_FLAGS}, {-4096ULL, PAGE, PAGE}), 0},
	{"report: too large", 0, FEATURE,
	 PART(32, report, {UINT32_MAX, REPORT_FLAGS}, {0, (MAX_DATA * 8ULL + 1) * PAGE, PAGE}),
	 -E2BIG},
	{"report: of bytes", 0, FEATURE,
	 PART(32, report, {UINT32_MAX, REPORT_FLAGS}, {0, 1ULL << 62, 1}), -E2BIG},
	{"report: as large as there may be", 0, FEATURE,
	 PART(32, report, {UINT32_MAX, REPORT_FLAGS}, {0, MAX_DATA * 8ULL * PAGE, PAGE}), 0},
	{"report: in the largest pages", 0, FEATURE,
	 PART(32, report, {64, REPORT_FLAGS}, {0, 1ULL << 63, 1ULL << 63}), 0},
};

static void check_row(void **state)
{
	const struct row *row = *state;
	struct harness *h = harness_current();
	uint32_t value;

	if (row->state)
		assert_int_equal(go(h, row->state), 0);
	else
		assert_int_equal(log_start(h), 0);
	assert_int_equal(simple(h, row->command, row->payload, row->size), row->result);
	/* The client is served as before, and the device is where it was. */
	assert_int_equal(region_read32(h, 0, REG_SCRATCH, &value), 0);
	if (row->state && row->result)
		assert_int_equal(where(h), row->state);
}

/* Cut at each byte: what has not come whole does nothing, and the next client is served. */
static void cut(void **state)
{
	struct harness *h = *state;
	struct {
		struct uvf_wire_header header;
		struct state_ state;
	} message = {{1, FEATURE, 32, 0, 0}, {TO(STOP), 0}};
	struct reply reply;

	for (size_t size = 0; size < 32; size++) {
		h->client = harness_connect(h);
		assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
		assert_int_equal(send(h->client, &message, size, 0), size);
		harness_step(h);
		assert_int_equal(uvf_migration_state(h->device->dev), RUNNING);
		close(h->client);
		h->client = -1;
		harness_step(h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(cut, harness_setup_server, harness_teardown),
	};
	int failed = RUN_TABLE(rows, check_row);

	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
