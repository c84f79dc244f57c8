/* SPDX-License-Identifier: BSD-3-Clause */
/* VFIO_DEVICE_FEATURE: checks what is common to all features and asks who knows the one asked for.
 */
#include "core/device.h"

#include <errno.h>

#define FEATURE_OPERATIONS \
	(VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PROBE)

ssize_t uvf_device_feature(struct uvf_device *dev, uint32_t flags, void *data, size_t size)
{
	uint32_t operations = flags & FEATURE_OPERATIONS;
	ssize_t ret;

	if (flags & ~(uint32_t)(VFIO_DEVICE_FEATURE_MASK | FEATURE_OPERATIONS))
		return -EINVAL;
	/* GET and SET together only ask whether both are there. */
	if (!(operations & VFIO_DEVICE_FEATURE_PROBE) && operations != VFIO_DEVICE_FEATURE_GET &&
	    operations != VFIO_DEVICE_FEATURE_SET)
		return -EINVAL;
	uvf_device_lock(dev);
	if (!atomic_load(&dev->open) || uvf_device_is_removed(dev))
		ret = -ENODEV;
	else if (dev->ops->feature)
		ret = dev->ops->feature(dev, flags, data, size);
	else
		ret = -ENOTTY;
	uvf_device_unlock(dev);
	return ret;
}
