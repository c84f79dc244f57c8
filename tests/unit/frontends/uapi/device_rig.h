/* SPDX-License-Identifier: BSD-3-Clause */
/* Owned devices without a program: calls are this process's own. */
#ifndef UVF_TESTS_UAPI_DEVICE_RIG_H
#define UVF_TESTS_UAPI_DEVICE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "base/bytes.h"
#include "frontends/uapi/call.h"
#include "frontends/uapi/device.h"

/* 65:00.0 and 65:00.1, each a group of its own, and 00:02.0, which isn't PCI Express. */
#define RIG_DEVICES 3

#define RIG_BAR_SIZE   0x4000
#define RIG_VECTORS    70
#define RIG_TABLE      0x1000
#define RIG_TABLE_SIZE (RIG_VECTORS * 16)
#define RIG_ROM_SIZE   3000

/* The model: what came to its BARs, in a line a piece. */
struct rig_model {
	char calls[4096];
	unsigned resets;
	enum uvf_reset last_reset;
	int fail; /* BAR 0's result */
	uint8_t bar[RIG_BAR_SIZE];
};

struct rig {
	struct uvf_run run;
	struct uapi_group groups[RIG_DEVICES];
	struct uapi_device devices[RIG_DEVICES];
	struct rig_model models[RIG_DEVICES];
	struct uapi_device *device; /* the first */
	struct rig_model *model;
	struct uapi_call call;
};

void rig_new(struct rig *rig);
/* Another device, which is open from here on, in the first one's place. */
void rig_replace(struct rig *rig, struct uvf_device *dev);
void rig_free(struct rig *rig);

long rig_ioctl(struct rig *rig, unsigned command, void *argument);
ssize_t rig_read(struct rig *rig, uint32_t index, uint64_t offset, void *buf, size_t count);
ssize_t rig_write(struct rig *rig, uint32_t index, uint64_t offset, const void *buf, size_t count);
uint32_t rig_config(struct rig *rig, uint64_t offset, size_t count);
void rig_set_config(struct rig *rig, uint64_t offset, uint32_t value, size_t count);

/* VFIO_DEVICE_SET_IRQS with data of any kind. */
long rig_set_irqs(struct rig *rig, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
		  const void *data, size_t data_size);
/* Takes what is there. */
bool rig_is_signalled(int fd);
/* Two pages, of which the second can't be accessed. */
uint8_t *rig_cliff(void);

#endif
