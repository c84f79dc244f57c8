/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VFIO_DEVICE_FEATURE: what is common to all features is checked here, and their data are moved;
 * what a feature does is the device's.
 */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <stddef.h>

#include "frontends/uapi/call.h"

#define HEADER_SIZE offsetof(struct vfio_device_feature, data)
#define DATA_MAX    4096

/* How much a feature's data are, by what can be done with it; more than that is left alone. */
static const struct {
	uint32_t feature;
	uint32_t operations;
	size_t size;
} features[] = {
	{VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_GET, 8},
	{VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET,
	 8},
	{VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET, 24},
	{VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_SET, 0},
	{VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_GET, 32},
	{VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, VFIO_DEVICE_FEATURE_GET, 8},
	{VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, VFIO_DEVICE_FEATURE_SET, 0},
};

static bool is_logging(uint32_t flags)
{
	uint32_t number = flags & VFIO_DEVICE_FEATURE_MASK;

	return number == VFIO_DEVICE_FEATURE_DMA_LOGGING_START ||
	       number == VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP ||
	       number == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT;
}

/* Whether the device has the feature at all. */
static int probe(struct uapi_device *device, uint32_t flags)
{
	ssize_t ret;

	if (is_logging(flags))
		return uvf_device_can_log(device->dev) ? 0 : -ENOTTY;
	ret = uvf_device_feature(device->dev,
				 (flags & VFIO_DEVICE_FEATURE_MASK) | VFIO_DEVICE_FEATURE_PROBE,
				 NULL, 0);

	return ret == -ENOTTY ? -ENOTTY : 0;
}

/* How many bytes of data there are, at least or at most. Errors: -EINVAL. */
static ssize_t check_known(uint32_t flags, size_t room)
{
	uint32_t operations = flags & (VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET);

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		if (features[i].feature != (flags & VFIO_DEVICE_FEATURE_MASK))
			continue;
		if (operations & ~features[i].operations)
			return -EINVAL;
		if (flags & VFIO_DEVICE_FEATURE_PROBE)
			return 0;
		return room < features[i].size ? -EINVAL : (ssize_t)features[i].size;
	}
	return (ssize_t)(room < DATA_MAX ? room : DATA_MAX);
}

static long carry_out(struct uapi_device *device, struct uapi_call *call, uint64_t address,
		      uint32_t flags, size_t size)
{
	uint8_t data[DATA_MAX];
	ssize_t ret;
	long result;

	if (uapi_migration_feature(device, call, address, flags, &result))
		return result;
	/* What GET takes in are the fields that say what is asked for. */
	if (size && uapi_call_read(call, address, data, size))
		return -EFAULT;
	ret = uvf_device_feature(device->dev, flags, data, size);
	if (ret < 0)
		return ret;
	if (!(flags & VFIO_DEVICE_FEATURE_GET) &&
	    (flags & VFIO_DEVICE_FEATURE_MASK) != VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
		return 0;
	if ((size_t)ret > size)
		return -EIO;
	return uapi_call_write(call, address, data, (size_t)ret);
}

long uapi_device_feature(struct uapi_device *device, struct uapi_call *call, uint64_t argument)
{
	const uint32_t operations = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
	struct vfio_device_feature header;
	ssize_t size;
	int ret;

	if (uapi_call_read(call, argument, &header, HEADER_SIZE))
		return -EFAULT;
	if (header.argsz < HEADER_SIZE)
		return -EINVAL;
	if (header.flags & ~(operations | VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_MASK))
		return -EINVAL;
	if (!(header.flags & VFIO_DEVICE_FEATURE_PROBE) &&
	    (header.flags & operations) == operations)
		return -EINVAL;
	ret = probe(device, header.flags);
	if (ret)
		return ret;
	if (!(header.flags & (operations | VFIO_DEVICE_FEATURE_PROBE)))
		return -EINVAL;
	size = check_known(header.flags, header.argsz - HEADER_SIZE);
	if (size < 0)
		return size;
	if (header.flags & VFIO_DEVICE_FEATURE_PROBE && is_logging(header.flags))
		return 0;
	if (header.flags & VFIO_DEVICE_FEATURE_PROBE) {
		ssize_t answer = uvf_device_feature(device->dev, header.flags, NULL, 0);

		return answer < 0 ? answer : 0;
	}
	return carry_out(device, call, argument + HEADER_SIZE, header.flags, (size_t)size);
}
