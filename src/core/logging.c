/* SPDX-License-Identifier: BSD-3-Clause */
/* A device's own dirty log: VFIO_DEVICE_FEATURE_DMA_LOGGING_* with their data decoded. */
#include <errno.h>

#include "base/bytes.h"
#include "core/inject.h"

/* With the lock that keeps an owner: a log ends with him. */
static int enter(struct uvf_device *dev)
{
	pthread_mutex_lock(&dev->ownership);
	if (atomic_load(&dev->open) && !uvf_device_is_removed(dev))
		return 0;
	pthread_mutex_unlock(&dev->ownership);
	return -ENODEV;
}

bool uvf_device_can_log(struct uvf_device *dev)
{
	return dev->logging_way || !dev->silent;
}

void uvf_device_set_logging_way(struct uvf_device *dev, const struct uvf_logging_way *way)
{
	dev->logging_way = way;
}

void uvf_device_set_silent(struct uvf_device *dev)
{
	dev->silent = true;
	uvf_attachment_set_silent(dev->attachment, true);
}

int uvf_device_logging_check(uint64_t page_size,
			     const struct vfio_device_feature_dma_logging_range *ranges,
			     uint32_t count)
{
	if (!uvf_is_power_of_two(page_size))
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t end;

		if (!uvf_is_aligned(ranges[i].iova | ranges[i].length, page_size))
			return -EINVAL;
		if (__builtin_add_overflow(ranges[i].iova, ranges[i].length, &end))
			return -EOVERFLOW;
	}
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t j = 0; j < i; j++)
			if (uvf_ranges_overlap(ranges[i].iova, ranges[i].length, ranges[j].iova,
					       ranges[j].length))
				return -EINVAL;
	return 0;
}

int uvf_device_logging_start(struct uvf_device *dev)
{
	int ret;

	if (!uvf_device_can_log(dev))
		return -ENOTTY;
	ret = enter(dev);
	if (ret)
		return ret;
	ret = dev->logging_way ? dev->logging_way->start(dev)
			       : uvf_attachment_log_start(dev->attachment, UVF_LOGGING_GRANULE);
	pthread_mutex_unlock(&dev->ownership);
	/* As drivers of real devices say it. */
	return ret == -EALREADY ? -EINVAL : ret;
}

void uvf_device_logging_end(struct uvf_device *dev)
{
	if (dev->logging_way)
		dev->logging_way->stop(dev);
	else
		uvf_attachment_log_stop(dev->attachment);
}

int uvf_device_logging_stop(struct uvf_device *dev)
{
	int ret;

	if (!uvf_device_can_log(dev))
		return -ENOTTY;
	ret = enter(dev);
	if (ret)
		return ret;
	uvf_device_logging_end(dev);
	pthread_mutex_unlock(&dev->ownership);
	return 0;
}

int uvf_device_logging_report(struct uvf_device *dev, uvf_iova_t iova, uint64_t size,
			      uint64_t page_size, uint64_t *bitmap, uint64_t bitmap_size)
{
	int ret;

	if (!uvf_device_can_log(dev))
		return -ENOTTY;
	ret = enter(dev);
	if (ret)
		return ret;
	if (uvf_inject_hides(dev, iova, size))
		bitmap = NULL;
	if (dev->logging_way)
		ret = dev->logging_way->report(dev, iova, size, page_size, bitmap, bitmap_size);
	else
		ret = uvf_attachment_log_report(dev->attachment, iova, size, page_size, bitmap,
						bitmap_size);
	pthread_mutex_unlock(&dev->ownership);
	return ret;
}

void uvf_device_logging_restore(struct uvf_device *dev, uvf_iova_t iova, uint64_t size,
				uint64_t page_size, const uint64_t *bitmap)
{
	if (dev->logging_way)
		dev->logging_way->restore(dev, iova, size, page_size, bitmap);
	else
		uvf_attachment_log_restore(dev->attachment, iova, size, page_size, bitmap);
}
