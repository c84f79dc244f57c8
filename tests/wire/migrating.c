/* SPDX-License-Identifier: BSD-3-Clause */
/* A migration and a dirty log by raw messages, each reply checked. */
#include "migrating.h"

#include <stdlib.h>
#include <string.h>
#include <uvfio/dirty.h>

int ask_feature(struct harness *h, uint32_t flags, uint32_t argsz, const void *data, size_t size,
		struct reply *reply)
{
	struct {
		struct uvf_wire_feature header;
		uint8_t data[64];
	} message = {{argsz, flags}, {0}};
	struct uvf_wire_feature answer;
	int ret;

	assert_true(size <= sizeof(message.data));
	if (size)
		memcpy(message.data, data, size);
	ret = request(h, VFIO_USER_DEVICE_FEATURE, &message, sizeof(message.header) + size, NULL, 0,
		      reply);
	if (ret)
		return ret;
	memcpy(&answer, reply->payload, sizeof(answer));
	assert_int_equal(answer.flags, flags);
	assert_int_equal(answer.argsz, reply->size);
	assert_int_equal(reply->fd_count, 0);
	return 0;
}

int go(struct harness *h, uint32_t state)
{
	struct vfio_device_feature_mig_state data = {state, 77};
	struct reply reply;
	int ret = ask_feature(h, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 16,
			      &data, sizeof(data), &reply);

	if (ret)
		return ret;
	assert_int_equal(reply.size, 16);
	memcpy(&data, reply.payload + 8, sizeof(data));
	assert_int_equal(data.device_state, state);
	assert_int_equal(data.data_fd, -1);
	return 0;
}

uint32_t where(struct harness *h)
{
	struct vfio_device_feature_mig_state data;
	struct reply reply;

	assert_int_equal(ask_feature(h,
				     VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
				     16, NULL, 0, &reply),
			 0);
	assert_int_equal(reply.size, 16);
	memcpy(&data, reply.payload + 8, sizeof(data));
	assert_int_equal(data.data_fd, -1);
	return data.device_state;
}

int log_start(struct harness *h)
{
	struct uvf_wire_logging_control control = {.page_size = 1 << 21}, answer;
	struct reply reply;
	int ret = ask_feature(h, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
			      8 + sizeof(control), &control, sizeof(control), &reply);

	if (ret)
		return ret;
	assert_int_equal(reply.size, 8 + sizeof(answer));
	memcpy(&answer, reply.payload + 8, sizeof(answer));
	assert_int_equal(answer.page_size, PAGE);
	assert_int_equal(answer.num_ranges, 0);
	return 0;
}

int log_report(struct harness *h, uint64_t iova, uint64_t length, uint64_t page_size, void *bitmap)
{
	struct uvf_wire_logging_report data = {iova, length, page_size};
	uint64_t bytes = uvf_dirty_bitmap_size(length, page_size);
	struct reply reply;
	int ret = ask_feature(h, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
			      (uint32_t)(8 + sizeof(data) + bytes), &data, sizeof(data), &reply);

	if (ret)
		return ret;
	assert_int_equal(reply.size, 8 + sizeof(data) + bytes);
	assert_memory_equal(reply.payload + 8, &data, sizeof(data));
	memcpy(bitmap, reply.payload + 8 + sizeof(data), bytes);
	return 0;
}

int state_read(struct harness *h, void *buf, uint32_t size)
{
	struct uvf_wire_mig_data data = {(uint32_t)sizeof(data) + size, size};
	struct reply reply;
	int ret = request(h, VFIO_USER_MIG_DATA_READ, &data, sizeof(data), NULL, 0, &reply);

	if (ret)
		return ret;
	memcpy(&data, reply.payload, sizeof(data));
	assert_true(data.size <= size);
	assert_int_equal(data.argsz, sizeof(data) + data.size);
	assert_int_equal(reply.size, data.argsz);
	memcpy(buf, reply.payload + sizeof(data), data.size);
	return (int)data.size;
}

int state_write(struct harness *h, const void *buf, uint32_t size)
{
	uint8_t *message = malloc(sizeof(struct uvf_wire_mig_data) + size);
	struct uvf_wire_mig_data data = {(uint32_t)sizeof(data) + size, size};
	struct reply reply;
	int ret;

	assert_non_null(message);
	memcpy(message, &data, sizeof(data));
	memcpy(message + sizeof(data), buf, size);
	ret = request(h, VFIO_USER_MIG_DATA_WRITE, message, sizeof(data) + size, NULL, 0, &reply);
	free(message);
	if (!ret)
		assert_int_equal(reply.size, 0);
	return ret;
}

void state_read_all(struct harness *h, uint32_t piece, uint8_t *state, size_t *size)
{
	int got;

	do {
		assert_true(*size + piece <= STATE_MAX);
		got = state_read(h, state + *size, piece);
		assert_true(got >= 0);
		*size += (size_t)got;
	} while (got == (int)piece);
	assert_int_equal(state_read(h, state + *size, piece), 0);
}
