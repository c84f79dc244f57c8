/* SPDX-License-Identifier: BSD-3-Clause */
/* VFIO_DEVICE_FEATURE: checks what is common to all features and asks who knows the one asked for.
 */
#include "core/device.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

#define FEATURE_OPERATIONS \
	(VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PROBE)

/* ---- What the core knows: migration ---- */

static ssize_t put(void *data, size_t size, const void *answer, size_t answer_size)
{
	if (size < answer_size)
		return -EINVAL;
	memcpy(data, answer, answer_size);
	return (ssize_t)answer_size;
}

static ssize_t get_migration(struct uvf_device *dev, void *data, size_t size)
{
	struct vfio_device_feature_migration answer = {.flags = uvf_migration_flags(dev)};

	return put(data, size, &answer, sizeof(answer));
}

/* Descriptors are the frontends': there is none here. */
static ssize_t get_state(struct uvf_device *dev, void *data, size_t size)
{
	struct vfio_device_feature_mig_state answer = {
		.device_state = uvf_migration_state(dev),
		.data_fd = -1,
	};

	return put(data, size, &answer, sizeof(answer));
}

static ssize_t set_state(struct uvf_device *dev, void *data, size_t size)
{
	struct vfio_device_feature_mig_state state;
	int ret;

	if (size < sizeof(state))
		return -EINVAL;
	memcpy(&state, data, sizeof(state));
	ret = uvf_migration_set_state(dev, state.device_state);
	return ret ? ret : get_state(dev, data, size);
}

static ssize_t get_data_size(struct uvf_device *dev, void *data, size_t size)
{
	struct vfio_device_feature_mig_data_size answer = {0};
	uint64_t length;
	int ret = uvf_migration_data_size(dev, &length);

	if (ret)
		return ret;
	answer.stop_copy_length = length;
	return put(data, size, &answer, sizeof(answer));
}

/* The device's lock is not held: these take it. */
static const struct {
	uint16_t number;
	ssize_t (*get)(struct uvf_device *dev, void *data, size_t size);
	ssize_t (*set)(struct uvf_device *dev, void *data, size_t size);
} features[] = {
	{VFIO_DEVICE_FEATURE_MIGRATION, get_migration, NULL},
	{VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, get_state, set_state},
	{VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, get_data_size, NULL},
};

/* Dirty logs are calls of client.h: here it can only be asked whether there is one. */
static ssize_t logging_feature(struct uvf_device *dev, uint32_t flags)
{
	uint32_t other =
		(flags & VFIO_DEVICE_FEATURE_MASK) == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
			? VFIO_DEVICE_FEATURE_SET
			: VFIO_DEVICE_FEATURE_GET;

	if (!uvf_device_can_log(dev))
		return -ENOTTY;
	return flags & other || !(flags & VFIO_DEVICE_FEATURE_PROBE) ? -EINVAL : 0;
}

/* -ENOTTY: not the core's. */
static ssize_t core_feature(struct uvf_device *dev, uint32_t flags, void *data, size_t size)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(features) && uvf_migration_flags(dev); i++) {
		if (features[i].number != (flags & VFIO_DEVICE_FEATURE_MASK))
			continue;
		if ((flags & VFIO_DEVICE_FEATURE_GET && !features[i].get) ||
		    (flags & VFIO_DEVICE_FEATURE_SET && !features[i].set))
			return -EINVAL;
		if (flags & VFIO_DEVICE_FEATURE_PROBE)
			return 0;
		return flags & VFIO_DEVICE_FEATURE_GET ? features[i].get(dev, data, size)
						       : features[i].set(dev, data, size);
	}
	return -ENOTTY;
}

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
	switch (flags & VFIO_DEVICE_FEATURE_MASK) {
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
		return logging_feature(dev, flags);
	}
	ret = core_feature(dev, flags, data, size);
	if (ret != -ENOTTY)
		return ret;
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
