/* SPDX-License-Identifier: BSD-3-Clause */
/* What begins when a device gets an owner and ends when it loses him; resets in between. */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "core/core.h"

#define HEADER_SIZE 64
/* A list longer than this goes in circles. */
#define MAX_CAPABILITIES 48
#define GONE		 0xffff

/* All ones where it can't be read: as from a bus without the device. */
static uint32_t config_read(struct uapi_device *device, uint64_t offset, size_t size)
{
	uint8_t bytes[4] = {0};

	if (uvf_region_read_unseen(device->dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, size) <
	    0)
		return UINT32_MAX;
	return uvf_get_le32(bytes);
}

static uint16_t find_capability(struct uapi_device *device, uint8_t id)
{
	uint64_t at = PCI_CAPABILITY_LIST;

	if (!(config_read(device, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
		return 0;
	for (unsigned i = 0; i < MAX_CAPABILITIES; i++) {
		at = config_read(device, at, 1) & 0xfc;
		if (at < PCI_STD_HEADER_SIZEOF)
			return 0;
		if (config_read(device, at + PCI_CAP_LIST_ID, 1) == id)
			return (uint16_t)at;
		at += PCI_CAP_LIST_NEXT;
	}
	return 0;
}

static uint64_t region_size(struct uapi_device *device, uint32_t index)
{
	struct uvf_region_info info;

	return uvf_region_get_info(device->dev, index, &info) ? 0 : info.size;
}

static void find_bars(struct uapi_session *session)
{
	for (unsigned i = 0; i < UAPI_BARS; i++) {
		uint32_t value = config_read(session->device, PCI_BASE_ADDRESS_0 + 4 * i, 4);

		session->is_io[i] =
			value & PCI_BASE_ADDRESS_SPACE_IO && region_size(session->device, i) > 0;
		/* The upper half of an address. */
		if (!session->is_io[i] &&
		    (value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
			i++;
	}
}

static void find_msix(struct uapi_session *session)
{
	uint16_t at = find_capability(session->device, PCI_CAP_ID_MSIX);
	uint32_t flags, table;

	if (!at)
		return;
	flags = config_read(session->device, at + PCI_MSIX_FLAGS, 2);
	table = config_read(session->device, at + PCI_MSIX_TABLE, 4);
	session->msix_table.bar = table & PCI_MSIX_TABLE_BIR;
	session->msix_table.offset = table & PCI_MSIX_TABLE_OFFSET;
	session->msix_table.size = ((flags & PCI_MSIX_FLAGS_QSIZE) + 1ULL) * PCI_MSIX_ENTRY_SIZE;
}

/* A device has its BARs enabled when it is opened, for drivers that take that for granted. */
static void enable_bars(struct uapi_session *session)
{
	struct uapi_device *device = session->device;
	uint32_t command = config_read(device, PCI_COMMAND, 2);
	uint8_t bytes[2];

	for (unsigned i = 0; i < UAPI_BARS; i++) {
		if (region_size(device, i))
			command |= session->is_io[i] ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	}
	uvf_put_le16(bytes, (uint16_t)command);
	uvf_region_write_unseen(device->dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, bytes,
				sizeof(bytes));
}

static void publish(struct uapi_device *device, struct uapi_session *session)
{
	pthread_mutex_lock(&device->run->topology);
	device->session = session;
	pthread_mutex_unlock(&device->run->topology);
}

int uapi_session_new(struct uapi_device *device)
{
	struct uapi_session *session = calloc(1, sizeof(*session));
	uint16_t power;
	int ret;

	if (!session)
		return -ENOMEM;
	session->device = device;
	atomic_init(&session->config_writes, 1);
	ret = uapi_worker_new(session);
	if (ret) {
		free(session);
		return ret;
	}
	pthread_mutex_init(&session->interrupts, NULL);
	session->express = find_capability(device, PCI_CAP_ID_EXP);
	power = find_capability(device, PCI_CAP_ID_PM);
	session->power_state = power ? power + PCI_PM_CTRL : 0;
	find_bars(session);
	find_msix(session);
	enable_bars(session);
	publish(device, session);
	uapi_device_begin_revoking(device);
	return 0;
}

void uapi_session_free(struct uapi_device *device)
{
	struct uapi_session *session = device->session;

	uapi_device_end_revoking(device);
	uapi_known_forget(device);
	publish(device, NULL);
	atomic_fetch_add(&device->transfers, 1);
	uapi_worker_free(session);
	pthread_mutex_destroy(&session->interrupts);
	free(session);
}

bool uapi_session_memory_enabled(struct uapi_session *session)
{
	unsigned writes = atomic_load(&session->config_writes) & UINT_MAX >> 1;
	unsigned known = atomic_load(&session->memory_enabled);
	uint32_t command;
	bool enabled;

	if (known >> 1 == writes)
		return known & 1;
	command = config_read(session->device, PCI_COMMAND, 2);
	enabled = command & PCI_COMMAND_MEMORY;
	/* All ones are the answer of a device that is gone, and so they are from its BARs. */
	if (enabled && command != GONE && session->power_state)
		enabled = (config_read(session->device, session->power_state, 2) &
			   PCI_PM_CTRL_STATE_MASK) != PCI_PM_CTRL_STATE_MASK;
	atomic_store(&session->memory_enabled, writes << 1 | enabled);
	return enabled;
}

uint32_t uapi_device_regions(const struct uapi_device *device)
{
	struct uvf_device_info info;

	uvf_device_get_info(device->dev, &info);
	return info.regions > VFIO_PCI_NUM_REGIONS ? info.regions : VFIO_PCI_NUM_REGIONS;
}

bool uapi_device_traps(const struct uapi_device *device, uint32_t index,
		       const struct uvf_region_info *info)
{
	return index < UAPI_BARS && device->trap[index] == UVF_RUN_TRAP_ON &&
	       !device->session->is_io[index] && info->size >= (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- Resets ---- */

/* The header's registers that a driver can write, in the order in which they are restored. */
static const struct {
	uint8_t offset, size;
} kept[] = {
	{PCI_CACHE_LINE_SIZE, 2}, {PCI_BASE_ADDRESS_0, 24}, {PCI_ROM_ADDRESS, 4},
	{PCI_INTERRUPT_LINE, 1},  {PCI_COMMAND, 2},
};

int uapi_device_reset(struct uapi_device *device, enum uvf_reset kind)
{
	const uint32_t config = VFIO_PCI_CONFIG_REGION_INDEX;
	uint8_t header[HEADER_SIZE];
	ssize_t ret = uvf_region_read_unseen(device->dev, config, 0, header, sizeof(header));

	if (ret < 0)
		return (int)ret;
	ret = uvf_device_reset(device->dev, kind);
	for (size_t i = 0; !ret && i < UVF_ARRAY_SIZE(kept); i++)
		uvf_region_write_unseen(device->dev, config, kept[i].offset,
					header + kept[i].offset, kept[i].size);
	pthread_mutex_lock(&device->run->topology);
	if (device->session)
		atomic_fetch_add(&device->session->config_writes, 1);
	pthread_mutex_unlock(&device->run->topology);
	return (int)ret;
}
