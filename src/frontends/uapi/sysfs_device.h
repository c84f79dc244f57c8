/* SPDX-License-Identifier: BSD-3-Clause */
/* What sysfs says of one PCI device, and of its group. */
#ifndef UVF_UAPI_SYSFS_DEVICE_H
#define UVF_UAPI_SYSFS_DEVICE_H

#include "frontends/uapi/sysfs_tree.h"
#include "frontends/uapi/uapi.h"

#define UAPI_CONFIG_MAX 4096

/* Where the BARs of all devices are: invented, apart from each other. */
struct uapi_bus_space {
	uint64_t io, memory32, memory64; /* the next free address of each */
};

struct uapi_sysfs_device {
	char folder[80]; /* "/sys/devices/pci0000:65/0000:65:00.0" */
	pthread_mutex_t lock;
	uint8_t config[UAPI_CONFIG_MAX]; /* as the file has it: with the lock */
	size_t config_size;
	uint32_t bars[UAPI_BARS]; /* BAR registers, with their address */
	uint32_t rom;
	struct uapi_resource {
		uint64_t address, size, flags;
	} resources[UAPI_BARS + 1]; /* the last is the ROM */
};

void uapi_bus_space_init(struct uapi_bus_space *space);

/*
 * Asks the device, and places its BARs. Errors: those of reading its configuration space, -EINVAL
 * (it has none).
 */
int uapi_sysfs_device_init(struct uapi_sysfs_device *sysfs, struct uapi_device *device,
			   struct uapi_bus_space *space);

/*
 * The configuration space as it is now, with the BARs where this machine has them, which are not
 * what the driver of a virtual machine wrote. Returns how many bytes there are, or an error.
 */
ssize_t uapi_sysfs_device_config(const struct uapi_sysfs_device *sysfs, struct uapi_device *device,
				 uint8_t config[UAPI_CONFIG_MAX]);

/* All that is under the device's folder. */
void uapi_sysfs_device_describe(const struct uapi_sysfs_device *sysfs,
				const struct uapi_device *device, struct uapi_tree *tree);

#endif
