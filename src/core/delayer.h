/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What comes later, by one thread a device: interrupts that are put off, and looks at what waits
 * for the driver to follow changed areas (remap.h).
 */
#ifndef UVF_CORE_DELAYER_H
#define UVF_CORE_DELAYER_H

#include <stdbool.h>
#include <stdint.h>

struct uvf_device;

struct delayed {
	uint64_t due_ns; /* CLOCK_MONOTONIC */
	uint32_t index, vector;
	bool level;
	uint64_t again_ns; /* 0: once; else again after this, until it is forgotten */
};

/* Makes the device's delayer, where there is none yet. With the device's lock. Errors: -ENOMEM. */
int uvf_delayer_start(struct uvf_device *dev);
/* Once it has been made. Errors: -ENOSPC. */
int uvf_delayer_add(struct uvf_device *dev, struct delayed delayed, uint64_t after_ns);
/* Forgets all interrupts; none is being signalled when this returns. */
void uvf_delayer_flush(struct uvf_device *dev);
/* Once it has been made: uvf_remap_work() is called at @due_ns or earlier, 0: now. */
void uvf_delayer_look(struct uvf_device *dev, uint64_t due_ns);
void uvf_delayer_free(struct uvf_device *dev);

#endif
