/* SPDX-License-Identifier: BSD-3-Clause */
/* A migration and a dirty log by raw messages. */
#ifndef TESTS_WIRE_MIGRATING_H
#define TESTS_WIRE_MIGRATING_H

#include "harness.h"

enum {
	STOP = VFIO_DEVICE_STATE_STOP,
	RUNNING = VFIO_DEVICE_STATE_RUNNING,
	STOP_COPY = VFIO_DEVICE_STATE_STOP_COPY,
	RESUMING = VFIO_DEVICE_STATE_RESUMING,
	P2P = VFIO_DEVICE_STATE_RUNNING_P2P,
	PRE_COPY = VFIO_DEVICE_STATE_PRE_COPY,
	PRE_COPY_P2P = VFIO_DEVICE_STATE_PRE_COPY_P2P,
};

/* A feature's request and answer; returns 0 or the negative errno. */
int ask_feature(struct harness *h, uint32_t flags, uint32_t argsz, const void *data, size_t size,
		struct reply *reply);
int go(struct harness *h, uint32_t state);
uint32_t where(struct harness *h);
int log_start(struct harness *h);
/* Into @bitmap, which is as large as it must be. */
int log_report(struct harness *h, uint64_t iova, uint64_t length, uint64_t page_size, void *bitmap);
/* Bytes read, or a negative errno. */
int state_read(struct harness *h, void *buf, uint32_t size);
int state_write(struct harness *h, const void *buf, uint32_t size);
/* Reads until nothing is left, appending to @size bytes of @state. */
void state_read_all(struct harness *h, uint32_t piece, uint8_t *state, size_t *size);

#define STATE_MAX (16U << 20)

#endif
