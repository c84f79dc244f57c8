/* SPDX-License-Identifier: BSD-3-Clause */
/* What a program is offered: grows, gets its addresses, goes. */
#include "cli/setup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/device.h>

#include "base/bytes.h"

#define MAX_RESERVED 64
#define MAX_DEVICES  256
#define MAX_FAULTS   1024

void setup_free(struct setup *setup)
{
	for (size_t i = 0; i < setup->device_count; i++) {
		uvf_device_free(setup->devices[i].dev);
		free(setup->devices[i].spec);
		free(setup->devices[i].name);
	}
	for (size_t i = 0; i < setup->fault_count; i++)
		free(setup->faults[i]);
	free(setup->devices);
	free(setup->faults);
	free(setup->reserved);
}

struct setup_device *setup_add_device(struct setup *setup, const char *spec)
{
	struct setup_device *devices =
		reallocarray(setup->devices, setup->device_count + 1, sizeof(*devices));
	struct setup_device *device;
	char *copy = strdup(spec);

	if (devices)
		setup->devices = devices;
	if (!devices || !copy || setup->device_count == MAX_DEVICES) {
		free(copy);
		return NULL;
	}
	device = &devices[setup->device_count++];
	*device = (struct setup_device){.spec = copy, .group = -1, .numa_node = -1};
	return device;
}

int setup_add_fault(struct setup *setup, const char *fault)
{
	char **faults = reallocarray(setup->faults, setup->fault_count + 1, sizeof(*faults));
	char *copy = strdup(fault);

	if (faults)
		setup->faults = faults;
	if (!faults || !copy || setup->fault_count == MAX_FAULTS) {
		free(copy);
		return -ENOMEM;
	}
	faults[setup->fault_count++] = copy;
	return 0;
}

int setup_add_reserved(struct setup *setup, struct uvf_iova_range range)
{
	struct uvf_iova_range *reserved =
		reallocarray(setup->reserved, setup->reserved_count + 1, sizeof(*reserved));

	if (reserved)
		setup->reserved = reserved;
	if (!reserved || setup->reserved_count == MAX_RESERVED)
		return -ENOMEM;
	reserved[setup->reserved_count++] = range;
	return 0;
}

int setup_add_page_size(struct setup *setup, uint64_t size, struct uvf_error *error)
{
	if (!uvf_is_power_of_two(size) || size < 4096)
		return uvf_fail(error, -EINVAL, "expected a power of two of at least 4K");
	setup->page_sizes |= size;
	return 0;
}

/* ---- Addresses ---- */

/* "0000:65:00.0", or without the domain. */
int setup_set_address(struct setup_device *device, const char *address, struct uvf_error *error)
{
	unsigned domain = 0, bus = 0, slot = 0, function = 0;
	int end = -1;

	if (strspn(address, "0123456789abcdefABCDEF:.") == strlen(address)) {
		sscanf(address, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end);
		if (end < 0 || address[end]) {
			end = -1;
			domain = 0;
			sscanf(address, "%2x:%2x.%1x%n", &bus, &slot, &function, &end);
		}
	}
	if (end < 0 || address[end] || slot > 31 || function > 7)
		return uvf_fail(error, -EINVAL,
				"expected an address such as 0000:65:00.0, got '%s'", address);
	snprintf(device->address, sizeof(device->address), "%04x:%02x:%02x.%x", domain & 0xffff,
		 bus & 0xff, slot, function);
	return 0;
}

static const struct setup_device *find_address(const struct setup *setup, const char *address)
{
	for (size_t i = 0; i < setup->device_count; i++)
		if (!strcmp(setup->devices[i].address, address))
			return &setup->devices[i];
	return NULL;
}

static int check_unique(const struct setup *setup, struct uvf_error *error)
{
	for (size_t i = 0; i < setup->device_count; i++) {
		const struct setup_device *device = &setup->devices[i];

		if (device->address[0] && find_address(setup, device->address) != device)
			return uvf_fail(error, -EINVAL, "%s: two devices have this address",
					device->address);
		for (size_t other = 0; device->name && other < i; other++)
			if (setup->devices[other].name &&
			    !strcmp(setup->devices[other].name, device->name))
				return uvf_fail(error, -EINVAL, "%s: two devices have this name",
						device->name);
	}
	return 0;
}

int setup_finish(struct setup *setup, struct uvf_error *error)
{
	unsigned bus = 1;
	int ret = check_unique(setup, error);

	for (size_t i = 0; i < setup->device_count && !ret; i++) {
		char address[24];

		if (setup->devices[i].address[0])
			continue;
		do {
			snprintf(address, sizeof(address), "0000:%02x:00.0", bus++);
		} while (bus <= 256 && find_address(setup, address));
		if (bus > 256)
			return uvf_fail(error, -EINVAL, "%s: no bus is left for it",
					setup->devices[i].spec);
		memcpy(setup->devices[i].address, address, sizeof(address));
	}
	return ret;
}
