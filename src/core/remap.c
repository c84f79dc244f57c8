/* SPDX-License-Identifier: BSD-3-Clause */
/* What the driver is told of changed areas, and what it says: flags, the IRQ, acknowledgements. */
#include "core/remap.h"

#include <errno.h>
#include <stdlib.h>

#include "core/device.h"

#define DEFAULT_TIMEOUT_NS 5000000000ULL

struct remap *uvf_remap_get(struct uvf_device *dev)
{
	struct remap *remap = dev->remap;

	if (remap)
		return remap;
	remap = calloc(1, sizeof(*remap));
	if (!remap)
		return NULL;
	atomic_init(&remap->references, 1);
	pthread_mutex_init(&remap->lock, NULL);
	remap->dev = dev;
	remap->timeout_ns = DEFAULT_TIMEOUT_NS;
	dev->remap = remap;
	return remap;
}

void uvf_remap_put(struct remap *remap)
{
	if (atomic_fetch_sub(&remap->references, 1) != 1)
		return;
	uvf_claims_free(&remap->claims);
	pthread_mutex_destroy(&remap->lock);
	free(remap->regions);
	free(remap);
}

void uvf_remap_end(struct uvf_device *dev)
{
	struct remap *remap = dev->remap;

	if (!remap)
		return;
	uvf_device_lock(dev);
	pthread_mutex_lock(&remap->lock);
	remap->over = true;
	remap->watch = NULL;
	pthread_mutex_unlock(&remap->lock);
	uvf_device_unlock(dev);
}

void uvf_remap_set_watch(struct uvf_device *dev, void (*changed)(struct uvf_device *dev))
{
	pthread_mutex_lock(&dev->remap->lock);
	dev->remap->watch = changed;
	pthread_mutex_unlock(&dev->remap->lock);
}

void uvf_remap_free(struct uvf_device *dev)
{
	struct remap *remap = dev->remap;

	if (!remap)
		return;
	pthread_mutex_lock(&remap->lock);
	remap->dev = NULL;
	pthread_mutex_unlock(&remap->lock);
	uvf_delayer_free(dev);
	dev->remap = NULL;
	uvf_remap_put(remap);
}

/* ---- Description ---- */

/* The core's own, unless interrupts are delivered elsewhere: then who does that adds one. */
static int add_own_irq(struct uvf_device *dev)
{
	struct uvf_irq irq = {
		.index = VFIO_PCI_NUM_IRQS,
		.count = 1,
		.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
		.type = UVF_IRQ_TYPE_REMAP,
		.subtype = UVF_IRQ_SUBTYPE_REMAP_REGION,
	};
	int ret;

	if (dev->remap->has_irq || dev->ops->set_irqs)
		return 0;
	do {
		ret = uvf_device_add_irq(dev, &irq);
		irq.index++;
	} while (ret == -EEXIST);
	return ret;
}

int uvf_remap_add_region(struct uvf_device *dev, uint32_t index)
{
	struct remap *remap = uvf_remap_get(dev);
	uint32_t *regions;
	uint32_t at;
	int ret;

	if (!remap)
		return -ENOMEM;
	regions = reallocarray(remap->regions, remap->region_count + 1, sizeof(*regions));
	if (!regions)
		return -ENOMEM;
	remap->regions = regions;
	ret = add_own_irq(dev);
	if (ret)
		return ret;
	for (at = remap->region_count++; at && regions[at - 1] > index; at--)
		regions[at] = regions[at - 1];
	regions[at] = index;
	return 0;
}

int uvf_remap_add_irq(struct uvf_device *dev, struct irq_index *irq)
{
	struct remap *remap;

	if (irq->description.index < VFIO_PCI_NUM_IRQS ||
	    irq->description.type != UVF_IRQ_TYPE_REMAP ||
	    irq->description.subtype != UVF_IRQ_SUBTYPE_REMAP_REGION)
		return 0;
	remap = uvf_remap_get(dev);
	if (!remap)
		return -ENOMEM;
	if (remap->has_irq)
		return -EEXIST;
	remap->has_irq = true;
	remap->irq = irq->description.index;
	irq->remap = remap;
	return 0;
}

int uvf_remap_irq(struct uvf_device *dev)
{
	return dev->remap && dev->remap->has_irq ? (int)dev->remap->irq : -ENOENT;
}

void uvf_device_set_remap_timeout(struct uvf_device *dev, uint32_t timeout_ms)
{
	struct remap *remap = uvf_remap_get(dev);

	if (remap)
		remap->timeout_ns = timeout_ms ? timeout_ms * 1000000ULL : DEFAULT_TIMEOUT_NS;
}

/* ---- Flags and the IRQ ---- */

/* With `lock`. A level: what is still unread when the driver unmasks fires again. */
static void set_irq(struct uvf_device *dev)
{
	if (dev->remap->has_irq)
		uvf_irq_set_level(dev, dev->remap->irq, 0, dev->remap->unread);
}

void uvf_remap_apply(struct uvf_device *dev, uint32_t index, struct area_list *list)
{
	struct region_changes *changes = uvf_device_region(dev, index)->changes;
	struct remap *remap = dev->remap;
	uint64_t generation;

	pthread_mutex_lock(&remap->lock);
	atomic_store_explicit(&changes->current, list, memory_order_release);
	remap->unread += changes->generation == changes->read;
	generation = ++changes->generation;
	if (remap->revoker.areas_changed)
		changes->asked = generation;
	/* Each change fires unless it is masked: one interrupt that got lost isn't the last. */
	if (remap->has_irq)
		uvf_irq_set_level(dev, remap->irq, 0, false);
	set_irq(dev);
	pthread_mutex_unlock(&remap->lock);
	changes->possible |= 1ULL << list->number;
	if (remap->revoker.areas_changed)
		remap->revoker.areas_changed(remap->revoker.opaque, index, generation);
}

uint32_t uvf_region_take_changes(struct uvf_device *dev, uint32_t index)
{
	struct region *region = uvf_device_region(dev, index);
	struct remap *remap = dev->remap;
	bool changed;

	if (!region || !region->changes)
		return 0;
	pthread_mutex_lock(&remap->lock);
	changed = region->changes->generation != region->changes->read;
	region->changes->read = region->changes->generation;
	remap->unread -= changed;
	if (changed)
		set_irq(dev);
	pthread_mutex_unlock(&remap->lock);
	return changed ? UVF_REGION_CHANGED_AREAS : 0;
}

void uvf_region_give_back_changes(struct uvf_device *dev, uint32_t index)
{
	struct region *region = uvf_device_region(dev, index);
	struct remap *remap = dev->remap;
	struct region_changes *changes;

	if (!region || !region->changes)
		return;
	pthread_mutex_lock(&remap->lock);
	changes = region->changes;
	if (changes->generation && changes->read == changes->generation) {
		changes->read = changes->generation - 1;
		if (changes->acknowledged > changes->read)
			changes->acknowledged = changes->read;
		remap->unread++;
		set_irq(dev);
	}
	pthread_mutex_unlock(&remap->lock);
}

void uvf_remap_acknowledge(struct remap *remap)
{
	pthread_mutex_lock(&remap->lock);
	for (uint32_t i = 0; remap->dev && i < remap->region_count; i++) {
		struct region *region = uvf_device_region(remap->dev, remap->regions[i]);

		region->changes->acknowledged = region->changes->read;
	}
	pthread_mutex_unlock(&remap->lock);
	uvf_remap_poke(remap);
}

void uvf_remap_forget(struct uvf_device *dev)
{
	struct remap *remap = dev->remap;

	for (uint32_t i = 0; i < remap->region_count; i++) {
		struct region_changes *changes = uvf_device_region(dev, remap->regions[i])->changes;

		changes->read = changes->acknowledged = changes->generation;
	}
	remap->unread = 0;
	set_irq(dev);
}

/* ---- Revokers ---- */

void uvf_device_set_revoker(struct uvf_device *dev, const struct uvf_revoker *revoker)
{
	struct remap *remap = dev->remap;

	if (!remap)
		return;
	uvf_device_lock(dev);
	remap->revoker = revoker ? *revoker : (struct uvf_revoker){0};
	for (uint32_t i = 0; i < remap->region_count; i++) {
		struct region_changes *changes = uvf_device_region(dev, remap->regions[i])->changes;

		changes->possible = 1ULL << atomic_load(&changes->current)->number;
	}
	uvf_device_unlock(dev);
	uvf_remap_poke(remap);
}

void uvf_region_revoked(struct uvf_device *dev, uint32_t index, uint64_t generation, int result)
{
	struct region *region = uvf_device_region(dev, index);

	if (!region || !region->changes)
		return;
	pthread_mutex_lock(&dev->remap->lock);
	if (generation == region->changes->generation) {
		region->changes->revoked = generation;
		region->changes->revoke_result = result;
	}
	pthread_mutex_unlock(&dev->remap->lock);
	uvf_remap_poke(dev->remap);
}
