/* SPDX-License-Identifier: BSD-3-Clause */
/* What tests of NVMe storage share: requests that can be waited for, and bytes to recognise. */
#ifndef TEST_NVME_STORAGE_H
#define TEST_NVME_STORAGE_H

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <string.h>

#include "devices/nvme/backend.h"

struct request {
	struct nvme_io io; /* first: done() gets it */
	struct iovec iov[8];
	int result;
	unsigned completed;
};

static inline void request_done(struct nvme_io *io, int result)
{
	struct request *request = (struct request *)io;

	request->result = result;
	request->completed++;
}

/* Sets up; the iovecs are the caller's afterwards. */
static inline void request_make(struct request *request, enum nvme_io_op op, uint64_t offset,
				void *bytes, uint64_t size)
{
	/* The backend's own fields need no initialising: let them be wrong. */
	memset(request, 0xa5, sizeof(*request));
	request->io.op = (uint8_t)op;
	request->io.flags = 0;
	request->io.offset = offset;
	request->io.size = size;
	request->io.iov = request->iov;
	request->io.iov_count = bytes ? 1 : 0;
	request->io.done = request_done;
	request->iov[0] = (struct iovec){bytes, size};
	request->completed = 0;
}

static inline void request_submit(struct nvme_channel *channel, struct request *request)
{
	int ret = nvme_channel_submit(channel, &request->io);

	if (ret == NVME_IO_PENDING)
		return;
	request->result = ret;
	request->completed++;
}

/* Sleeps as a controller would. A wake-up that is missed fails the test. */
static inline void wait_for_one(struct nvme_channel *channel)
{
	struct pollfd fd = {.fd = channel->fd, .events = POLLIN};

	nvme_channel_kick(channel);
	if (nvme_channel_reap(channel) || !channel->in_flight)
		return;
	if (nvme_channel_arm(channel))
		assert_int_equal(poll(&fd, 1, 30000), 1);
	nvme_channel_reap(channel);
}

static inline int request_run(struct nvme_channel *channel, struct request *request)
{
	request_submit(channel, request);
	while (!request->completed)
		wait_for_one(channel);
	assert_int_equal(request->completed, 1);
	return request->result;
}

static inline int run(struct nvme_channel *channel, enum nvme_io_op op, unsigned flags,
		      uint64_t offset, void *bytes, uint64_t size)
{
	struct request request;

	request_make(&request, op, offset, bytes, size);
	request.io.flags = (uint8_t)flags;
	return request_run(channel, &request);
}

/* Bytes that tell where they belong, never zero. */
static inline void fill(void *bytes, uint64_t offset, size_t size, unsigned seed)
{
	uint8_t *at = bytes;

	for (size_t i = 0; i < size; i++)
		at[i] = (uint8_t)(1 + (offset + i + (offset + i) / 255 + seed) % 255);
}

/* An assertion a byte would take most of the time: only the one that fails is made. */
static inline void check_filled(const void *bytes, uint64_t offset, size_t size, unsigned seed)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < size; i++) {
		uint8_t expected = (uint8_t)(1 + (offset + i + (offset + i) / 255 + seed) % 255);

		if (at[i] != expected)
			assert_int_equal(at[i], expected);
	}
}

static inline void check_zero(const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < size; i++) {
		if (at[i])
			assert_int_equal(at[i], 0);
	}
}

#endif
