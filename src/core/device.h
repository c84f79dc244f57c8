/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device itself: private to the core.
 *
 * Locks, in the order in which they are taken:
 *   ownership  open, close, attach and detach, one at a time; may wait for pins and for readers
 *   lock       the device's own: whatever enters a model from above
 *   remap      who has what of changing areas mapped, and what it knows (remap.h)
 *   vector     one interrupt vector's state; taken by anyone who triggers
 * Regions and IRQ indexes are added before the device is offered and never change afterwards, so
 * looking one up takes no lock.
 */
#ifndef UVF_CORE_DEVICE_H
#define UVF_CORE_DEVICE_H

#include "core/core.h"
#include "core/delayer.h"
#include "core/remap.h"
#include "iommu/iommu.h"

#include <pthread.h>
#include <stdatomic.h>

#define UVF_MAX_REGIONS 4096
#define UVF_MAX_IRQS	4096
/* A region's place in the device's own memory file: what DPDK takes for granted of VFIO. */
#define UVF_REGION_SHIFT 40

struct region {
	struct uvf_region description;	/* but for its areas */
	struct region_changes *changes; /* NULL: its areas never change, and are these */
	struct area_list areas;
	struct uvf_io_fd *io_fds;
};

struct irq_vector {
	pthread_mutex_t lock;
	int trigger;   /* eventfd, or -1 */
	int unmask;    /* resample eventfd, or -1 */
	bool masked;   /* by the driver, or by automask */
	bool pending;  /* triggered while masked */
	bool asserted; /* level-triggered: the line's state */
};

struct irq_index {
	struct uvf_irq description;
	struct irq_vector *vectors;
	atomic_bool enabled; /* changed under the device's lock */
	struct remap *remap; /* of the remap IRQ; NULL: it is another */
};

/* A piece of the device's memory file that is mapped here. */
struct region_memory {
	uint32_t index;
	uint64_t size;
	void *address;
};

/* What is looked at on behalf of injected faults (inject.h): bits of uvf_device.armed. */
enum {
	UVF_ARMED_DMA = 1 << 0,
	UVF_ARMED_MAP = 1 << 1,
	UVF_ARMED_IRQ = 1 << 2,
	UVF_ARMED_ACCESS = 1 << 3,
	UVF_ARMED_REMOVED = 1 << 4, /* the device has been pulled out: uvf_device_remove() */
	UVF_ARMED_REPORT = 1 << 5,
};

struct resampler;
struct migration;

struct uvf_device {
	char *name;
	const struct uvf_device_ops *ops;
	void *opaque;
	const struct uvf_device_layer_ops *layer_ops;
	void *layer;
	uint32_t flags;
	struct uvf_log log;

	pthread_mutex_t ownership;
	pthread_mutex_t lock;
	atomic_bool open;

	struct region **regions; /* by index; NULL: not there */
	uint32_t region_count;
	struct irq_index **irqs;
	uint32_t irq_count;

	struct uvf_attachment *attachment; /* requests without PASID */
	/* The same, by which DMA goes; NULL while faults are injected into it. */
	struct uvf_attachment *_Atomic open_attachment;

	atomic_uint armed;		       /* UVF_ARMED_* */
	struct uvf_injector *_Atomic injector; /* NULL until someone asks for it */
	bool returns; /* under ownership: removed, but there again when it is closed */
	struct delayer *_Atomic delayer; /* NULL until it is needed */

	int memory_fd; /* -1 until a region wants memory */
	uint64_t memory_size;
	bool memory_sealed;
	struct region_memory *memories;
	size_t memory_count;

	struct resampler *resampler; /* NULL until a driver gives a resample eventfd */
	bool silent; /* it writes to memory without our calls: before it is offered */
	const struct uvf_logging_way *logging_way;     /* NULL: that of its attachment */
	struct migration *migration;		       /* a model's; or NULL */
	const struct uvf_migration_way *migration_way; /* NULL: it can't be migrated */
	uint64_t migration_flags;		       /* VFIO_MIGRATION_* */
	struct transition *transition;		       /* under the device's lock: that waits */
	struct transition *finished;		       /* and those that have ended */
	struct remap *remap;			       /* NULL: no region's areas change */
};

static inline bool uvf_device_is_removed(const struct uvf_device *dev)
{
	return atomic_load_explicit(&dev->armed, memory_order_acquire) & UVF_ARMED_REMOVED;
}

/* region.c */
struct region *uvf_device_region(const struct uvf_device *dev, uint32_t index);
void uvf_device_free_regions(struct uvf_device *dev);
int uvf_device_seal_memory(struct uvf_device *dev);

/* irq.c */
/* As uvf_irq_trigger(), past all injected faults. A level: only if it is still asserted. */
void uvf_irq_deliver(struct uvf_device *dev, uint32_t index, uint32_t vector, bool level);
void uvf_device_free_irqs(struct uvf_device *dev);
/* Disables all. With the device's lock held. */
void uvf_device_disable_irqs(struct uvf_device *dev);
/* Tells the layer and the model that vectors of @index were set. With the device's lock held. */
void uvf_irq_index_changed(struct uvf_device *dev, uint32_t index);
/* The driver unmasks @vector: what is pending or still asserted signals. */
void uvf_irq_unmask(struct irq_index *irq, struct irq_vector *vector);
/* The state of all came from elsewhere: what is pending or asserted, and not masked, signals. */
void uvf_irq_catch_up(struct uvf_device *dev);

static inline const struct area_list *uvf_region_areas(const struct region *region)
{
	return region->changes
		       ? atomic_load_explicit(&region->changes->current, memory_order_acquire)
		       : &region->areas;
}

/* migration.c. Reset, also by closing, ends what is going on: with the device's lock held. */
void uvf_migration_reset(struct uvf_device *dev);
void uvf_migration_free(struct uvf_device *dev);
/* migration_calls.c. Takes the lock, if there is a migration to speak of and an owner. */
int uvf_migration_enter(struct uvf_device *dev);

/* logging.c. The owner has gone, and his log with him. */
void uvf_device_logging_end(struct uvf_device *dev);

/* resample.c: waits for the drivers' unmask eventfds. */
int uvf_resampler_set(struct uvf_device *dev, struct irq_index *irq, struct irq_vector *vector,
		      int fd);
void uvf_resampler_free(struct uvf_device *dev);

#endif
