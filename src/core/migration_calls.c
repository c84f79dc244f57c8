/* SPDX-License-Identifier: BSD-3-Clause */
/* Migration as drivers call it: under the device's lock, by the way that the device goes. */
#include <errno.h>

#include "core/device.h"

void uvf_device_set_migration_way(struct uvf_device *dev, uint64_t flags,
				  const struct uvf_migration_way *way)
{
	dev->migration_flags = flags;
	dev->migration_way = way;
}

uint64_t uvf_migration_flags(struct uvf_device *dev)
{
	return dev->migration_flags;
}

enum vfio_device_mig_state uvf_migration_state(struct uvf_device *dev)
{
	enum vfio_device_mig_state state = VFIO_DEVICE_STATE_RUNNING;

	uvf_device_lock(dev);
	if (dev->migration_way)
		state = dev->migration_way->state(dev);
	uvf_device_unlock(dev);
	return state;
}

int uvf_migration_enter(struct uvf_device *dev)
{
	if (!dev->migration_way)
		return -ENOTTY;
	uvf_device_lock(dev);
	if (atomic_load(&dev->open))
		return 0;
	uvf_device_unlock(dev);
	return -ENODEV;
}

ssize_t uvf_migration_read(struct uvf_device *dev, void *buf, size_t size)
{
	ssize_t ret = uvf_migration_enter(dev);

	if (ret)
		return ret;
	ret = dev->migration_way->read(dev, buf, size);
	uvf_device_unlock(dev);
	return ret;
}

ssize_t uvf_migration_write(struct uvf_device *dev, const void *buf, size_t size)
{
	ssize_t ret = uvf_migration_enter(dev);

	if (ret)
		return ret;
	ret = dev->migration_way->write(dev, buf, size);
	uvf_device_unlock(dev);
	return ret;
}

int uvf_migration_data_size(struct uvf_device *dev, uint64_t *size)
{
	int ret = uvf_migration_enter(dev);

	if (ret)
		return ret;
	ret = dev->migration_way->data_size(dev, size);
	uvf_device_unlock(dev);
	return ret;
}

int uvf_migration_precopy_info(struct uvf_device *dev, uint64_t *initial_bytes,
			       uint64_t *dirty_bytes)
{
	int ret = uvf_migration_enter(dev);

	if (ret)
		return ret;
	ret = dev->migration_way->precopy_info(dev, initial_bytes, dirty_bytes);
	uvf_device_unlock(dev);
	return ret;
}
