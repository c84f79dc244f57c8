/* SPDX-License-Identifier: BSD-3-Clause */
/* A device's life: made, opened by an owner, attached, reset, closed, freed. */
#include "core/device.h"

#include "base/log.h"
#include "core/inject.h"
#include "core/transition.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void attachment_unmap(void *opaque, uvf_iova_t first, uvf_iova_t last)
{
	struct uvf_device *dev = opaque;

	if (dev->ops->dma_unmap)
		dev->ops->dma_unmap(dev, UVF_PASID_NONE, first, last);
}

static const struct uvf_attachment_ops attachment_ops = {.unmap = attachment_unmap};

int uvf_device_new(const char *name, const struct uvf_device_ops *ops, uint32_t flags, void *opaque,
		   struct uvf_device **devp)
{
	struct uvf_device *dev = calloc(1, sizeof(*dev));
	int ret;

	if (!dev)
		return -ENOMEM;
	dev->name = strdup(name);
	if (!dev->name) {
		free(dev);
		return -ENOMEM;
	}
	dev->ops = ops;
	dev->opaque = opaque;
	dev->flags = flags | (ops->reset ? VFIO_DEVICE_FLAGS_RESET : 0);
	dev->memory_fd = -1;
	ret = uvf_attachment_new(&attachment_ops, dev, &dev->attachment);
	if (ret) {
		free(dev->name);
		free(dev);
		return ret;
	}
	atomic_init(&dev->open_attachment, dev->attachment);
	pthread_mutex_init(&dev->ownership, NULL);
	pthread_mutex_init(&dev->lock, NULL);
	*devp = dev;
	return 0;
}

void uvf_device_free(struct uvf_device *dev)
{
	if (!dev)
		return;
	if (atomic_load(&dev->open))
		uvf_device_close(dev);
	uvf_transitions_deliver(dev);
	uvf_remap_end(dev);
	if (dev->ops->destroy)
		dev->ops->destroy(dev);
	uvf_device_discard(dev);
}

void uvf_device_discard(struct uvf_device *dev)
{
	if (dev->layer_ops && dev->layer_ops->destroy)
		dev->layer_ops->destroy(dev);
	/* Whoever pokes goes before who is poked. */
	uvf_resampler_free(dev);
	uvf_remap_free(dev);
	uvf_inject_free(dev);
	uvf_attachment_free(dev->attachment);
	uvf_migration_free(dev);
	uvf_device_free_irqs(dev);
	uvf_device_free_regions(dev);
	pthread_mutex_destroy(&dev->lock);
	pthread_mutex_destroy(&dev->ownership);
	free(dev->name);
	free(dev);
}

void *uvf_device_opaque(const struct uvf_device *dev)
{
	return dev->opaque;
}

const char *uvf_device_name(const struct uvf_device *dev)
{
	return dev->name;
}

void uvf_device_set_log(struct uvf_device *dev, const struct uvf_log *log)
{
	dev->log = *log;
}

void uvf_device_log(struct uvf_device *dev, enum uvf_log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	uvf_logv(&dev->log, level, dev->name, format, args);
	va_end(args);
}

void uvf_device_set_layer(struct uvf_device *dev, void *layer,
			  const struct uvf_device_layer_ops *ops)
{
	dev->layer = layer;
	dev->layer_ops = ops;
}

void *uvf_device_layer(const struct uvf_device *dev)
{
	return dev->layer;
}

void uvf_device_lock(struct uvf_device *dev)
{
	pthread_mutex_lock(&dev->lock);
}

void uvf_device_unlock(struct uvf_device *dev)
{
	pthread_mutex_unlock(&dev->lock);
}

bool uvf_device_is_busy(struct uvf_device *dev)
{
	if (pthread_mutex_trylock(&dev->lock))
		return true;
	pthread_mutex_unlock(&dev->lock);
	return false;
}

void uvf_device_set_bus_master(struct uvf_device *dev, bool enabled)
{
	enabled = enabled && !uvf_device_is_removed(dev);
	uvf_attachment_enable(dev->attachment, enabled);
	if (dev->ops->bus_master_changed)
		dev->ops->bus_master_changed(dev, enabled);
}

/* ---- Owning ---- */

int uvf_device_open(struct uvf_device *dev)
{
	int ret = 0;

	pthread_mutex_lock(&dev->ownership);
	uvf_device_lock(dev);
	if (atomic_load(&dev->open))
		ret = -EBUSY;
	else if (uvf_device_is_removed(dev))
		ret = -ENODEV;
	if (!ret)
		ret = uvf_device_seal_memory(dev);
	if (!ret && dev->ops->open)
		ret = dev->ops->open(dev);
	if (!ret) {
		uvf_remap_open(dev);
		atomic_store(&dev->open, true);
	}
	uvf_device_unlock(dev);
	pthread_mutex_unlock(&dev->ownership);
	return ret;
}

/* With the ownership lock held and the device's lock not held: this can wait for pins. */
static int set_space(struct uvf_device *dev, struct uvf_address_space *space)
{
	int ret;

	uvf_inject_detached(dev);
	/* A copy that the device keeps elsewhere goes before the original, and comes after it. */
	if (!space && uvf_attachment_space(dev->attachment) && dev->ops->attach)
		dev->ops->attach(dev, UVF_PASID_NONE, NULL);
	ret = uvf_attachment_set(dev->attachment, space);
	/* A device that was pulled out keeps nothing. */
	if (!ret && space && dev->ops->attach && !uvf_device_is_removed(dev)) {
		ret = dev->ops->attach(dev, UVF_PASID_NONE, space);
		if (ret)
			uvf_attachment_set(dev->attachment, NULL);
	}
	uvf_inject_attached(dev, uvf_attachment_space(dev->attachment));
	return ret;
}

void uvf_device_close(struct uvf_device *dev)
{
	pthread_mutex_lock(&dev->ownership);
	if (!atomic_load(&dev->open))
		goto out;
	uvf_device_lock(dev);
	/* No call enters the model from here on; those that were inside have left. */
	atomic_store(&dev->open, false);
	if (dev->remap)
		dev->remap->revoker = (struct uvf_revoker){0};
	uvf_device_disable_irqs(dev);
	uvf_device_do_reset(dev, UVF_RESET_CLOSE);
	uvf_remap_close(dev);
	uvf_device_unlock(dev);

	set_space(dev, NULL);
	uvf_device_logging_end(dev);

	uvf_device_lock(dev);
	if (dev->ops->close)
		dev->ops->close(dev);
	uvf_device_unlock(dev);
	uvf_inject_closed(dev);
out:
	pthread_mutex_unlock(&dev->ownership);
}

/* With the ownership lock. What was attached is put back where the new one is refused. */
static int replace_space(struct uvf_device *dev, struct uvf_address_space *space)
{
	struct uvf_address_space *old = uvf_attachment_space(dev->attachment);
	int ret;

	if (!old)
		return set_space(dev, space);
	uvf_address_space_get(old);
	if (dev->ops->attach)
		dev->ops->attach(dev, UVF_PASID_NONE, NULL);
	ret = set_space(dev, space);
	if (ret)
		set_space(dev, old);
	uvf_address_space_put(old);
	return ret;
}

int uvf_device_attach(struct uvf_device *dev, uint32_t pasid, struct uvf_address_space *space)
{
	int ret;

	if (pasid != UVF_PASID_NONE)
		return -EOPNOTSUPP;
	if (!space)
		return -EINVAL;
	pthread_mutex_lock(&dev->ownership);
	ret = atomic_load(&dev->open) ? replace_space(dev, space) : -ENODEV;
	pthread_mutex_unlock(&dev->ownership);
	return ret;
}

int uvf_device_detach(struct uvf_device *dev, uint32_t pasid)
{
	int ret;

	if (pasid != UVF_PASID_NONE)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&dev->ownership);
	ret = atomic_load(&dev->open) ? set_space(dev, NULL) : -ENODEV;
	pthread_mutex_unlock(&dev->ownership);
	return ret;
}

void uvf_device_set_group(struct uvf_device *dev, struct uvf_group *group)
{
	uvf_attachment_set_group(dev->attachment, group);
}

int uvf_device_do_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	uvf_migration_reset(dev);
	uvf_device_set_bus_master(dev, false);
	if (dev->layer_ops && dev->layer_ops->reset)
		dev->layer_ops->reset(dev, kind);
	return dev->ops->reset ? dev->ops->reset(dev, kind) : 0;
}

int uvf_device_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	int ret;

	if (!(dev->flags & VFIO_DEVICE_FLAGS_RESET))
		return -ENOTTY;
	uvf_device_lock(dev);
	ret = atomic_load(&dev->open) && !uvf_device_is_removed(dev)
		      ? uvf_device_do_reset(dev, kind)
		      : -ENODEV;
	uvf_device_unlock(dev);
	return ret;
}

void uvf_device_get_info(struct uvf_device *dev, struct uvf_device_info *info)
{
	*info = (struct uvf_device_info){
		.flags = dev->flags,
		.regions = dev->region_count,
		.irqs = dev->irq_count,
	};
}
