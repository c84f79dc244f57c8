/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the layers around the core use beside the public headers: a bus's layer between the core
 * and a model.
 */
#ifndef UVF_CORE_H
#define UVF_CORE_H

#include <uvfio/client.h>
#include <uvfio/device.h>
#include <uvfio/inject.h>
#include <uvfio/migration.h>
#include <uvfio/remap.h>

/*
 * A bus (PCI) stands between the core and the model: it is told what happens to the device before
 * the model is. All may be NULL; all but destroy are called with the device's lock held.
 */
struct uvf_device_layer_ops {
	void (*reset)(struct uvf_device *dev, enum uvf_reset kind);
	void (*irq_changed)(struct uvf_device *dev, uint32_t index);
	/* Reports an error as uvf_pci_inject_error() does. NULL: the bus has no such reports. */
	int (*inject_error)(struct uvf_device *dev, bool correctable, unsigned bit,
			    const uint32_t header[4]);
	/* After the model's destroy. */
	void (*destroy)(struct uvf_device *dev);
	/* Its sections of a migration stream; the names end with NULL. */
	const char *const *sections;
	int (*save)(struct uvf_device *dev, struct uvf_state_writer *writer);
	/* Before the model's. */
	int (*load)(struct uvf_device *dev, struct uvf_state_reader *reader);
};

/* Once, before the device is offered. */
void uvf_device_set_layer(struct uvf_device *dev, void *layer,
			  const struct uvf_device_layer_ops *ops);
/* Frees a device that could not be finished: as uvf_device_free() without the model's destroy. */
void uvf_device_discard(struct uvf_device *dev);
void *uvf_device_layer(const struct uvf_device *dev);

/* Whether somebody is inside just now, so that an access would wait. */
bool uvf_device_is_busy(struct uvf_device *dev);

/*
 * An access to @dev's region that is another device's DMA (or its own): in naturally aligned pieces
 * of at most 8 bytes. Who makes it may be whom the device waits for with its lock held: it is
 * given up after a second or two. Returns 0 or a negative errno, -EBUSY then.
 */
int uvf_region_read_by_peer(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
			    size_t count);
int uvf_region_write_by_peer(struct uvf_device *dev, uint32_t index, uint64_t offset,
			     const void *buf, size_t count);

/*
 * As uvf_region_read() and uvf_region_write(), for a frontend's own sake: the driver doesn't know
 * of it, so no injected fault counts it.
 */
ssize_t uvf_region_read_unseen(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
			       size_t count);
ssize_t uvf_region_write_unseen(struct uvf_device *dev, uint32_t index, uint64_t offset,
				const void *buf, size_t count);

/*
 * As uvf_migration_start_state(), but @done never before this returns, by another thread; and which
 * state it leaves, when it succeeds or is under way.
 */
int uvf_migration_start_change(struct uvf_device *dev, enum vfio_device_mig_state state,
			       enum vfio_device_mig_state *before,
			       void (*done)(void *opaque, int result), void *opaque);

/*
 * How a device migrates, behind the calls of migration.h: the core's own way, which is that of
 * models, or another where the device is elsewhere and migrates there. With the device's lock held,
 * while the device is open; state() also before and after.
 */
struct uvf_migration_way {
	enum vfio_device_mig_state (*state)(struct uvf_device *dev);
	/* -EINPROGRESS: it takes its time, and uvf_migration_arrived() is called later. */
	int (*set_state)(struct uvf_device *dev, enum vfio_device_mig_state state);
	/* Gives up what set_state() began and what has not arrived, nor will. NULL: nothing. */
	void (*cancel)(struct uvf_device *dev);
	ssize_t (*read)(struct uvf_device *dev, void *buf, size_t size);
	ssize_t (*write)(struct uvf_device *dev, const void *buf, size_t size);
	int (*data_size)(struct uvf_device *dev, uint64_t *size);
	int (*precopy_info)(struct uvf_device *dev, uint64_t *initial_bytes, uint64_t *dirty_bytes);
};
/* Once, before the device is offered. @flags: VFIO_MIGRATION_*. A reset ends what goes on there. */
void uvf_device_set_migration_way(struct uvf_device *dev, uint64_t flags,
				  const struct uvf_migration_way *way);
/*
 * What set_state() began, and wasn't given up, has ended. With the device's lock held; who waits
 * for it is told by the next.
 */
void uvf_migration_arrived(struct uvf_device *dev, int result);
/* Tells who waits for changes of state that have ended: without a lock. */
void uvf_transitions_deliver(struct uvf_device *dev);

/*
 * A dirty log that is kept elsewhere, behind the calls of client.h; errors as there. Called one at
 * a time, without the device's lock, while the device has an owner. start: -EALREADY.
 */
struct uvf_logging_way {
	int (*start)(struct uvf_device *dev);
	void (*stop)(struct uvf_device *dev);
	int (*report)(struct uvf_device *dev, uvf_iova_t iova, uint64_t size, uint64_t page_size,
		      uint64_t *bitmap, uint64_t bitmap_size);
	void (*restore)(struct uvf_device *dev, uvf_iova_t iova, uint64_t size, uint64_t page_size,
			const uint64_t *bitmap);
};
/* For a device that is silent here (uvf_device_set_silent()), once, before it is offered. */
void uvf_device_set_logging_way(struct uvf_device *dev, const struct uvf_logging_way *way);

/* What a device's own dirty log is kept in, bytes. */
#define UVF_LOGGING_GRANULE 4096
/* As Linux: a page of them. */
#define UVF_LOGGING_RANGES_MAX 256
/*
 * Checks what a driver wants to be logged, at most UVF_LOGGING_RANGES_MAX ranges. -EINVAL,
 * -EOVERFLOW.
 */
int uvf_device_logging_check(uint64_t page_size,
			     const struct vfio_device_feature_dma_logging_range *ranges,
			     uint32_t count);

/*
 * ---- What a driver holds of a device, given to a device of another process ----
 *
 * All of it of a device that is in STOP or STOP_COPY (here) or STOP (there). What is given up here
 * can be taken back by the same calls.
 */

/* Whether it can be given away. Errors, with the reason: -ENOTTY, -EOPNOTSUPP, -EBUSY. */
int uvf_device_can_hand_over(struct uvf_device *dev, struct uvf_error *error);

/* The file that the driver may have mapped; -1: there is none. Borrowed. */
int uvf_device_memory_fd(const struct uvf_device *dev);
/*
 * From now on @fd, which stays the caller's, is the device's memory, with what is in it; addresses
 * and descriptors' numbers stay. @oldp, which may be NULL, gets what it was. Errors: -ENOENT (it
 * has no memory), -EINVAL (@fd is of another size, or not sealed), -EMFILE, -ENOMEM.
 */
int uvf_device_adopt_memory(struct uvf_device *dev, int fd, int *oldp);
/*
 * A file like the device's memory, sealed, for it to adopt; empty, until it is filled with a copy
 * of what is in the device's: as well as that goes while somebody writes to it.
 */
int uvf_device_new_memory(struct uvf_device *dev, int *fdp);
int uvf_device_copy_memory(struct uvf_device *dev, int fd);

/* Whether @fd can be an eventfd: irq.c. */
bool uvf_is_eventfd(int fd);
/* The eventfds of its regions, each once, at most @max: how many there are. Borrowed. */
size_t uvf_device_io_fds(const struct uvf_device *dev, int *fds, size_t max);
/* Puts others in their places, which stay the caller's. Errors: -EINVAL (not that many). */
int uvf_device_replace_io_fds(struct uvf_device *dev, const int *fds, size_t count);
/* The same, with new ones. */
int uvf_device_renew_io_fds(struct uvf_device *dev);

/* A vector of an index that is enabled. */
struct uvf_irq_handover {
	uint32_t index, vector;
	int trigger, unmask; /* eventfds; -1: none */
	bool masked, pending, asserted;
};
/*
 * All vectors, with copies of their eventfds. From here on nobody waits for unmask eventfds here.
 * Errors: -EMFILE, -ENOMEM: what was given so far is in *@irqsp.
 */
int uvf_device_give_irqs(struct uvf_device *dev, struct uvf_irq_handover **irqsp, size_t *countp);
/* Whether all of them are there and can be set. Errors: -EINVAL. */
int uvf_device_check_irqs(struct uvf_device *dev, const struct uvf_irq_handover *irqs,
			  size_t count);
/* Sets them as they were, without a signal, and takes over the descriptors, which are -1 then. */
int uvf_device_take_irqs(struct uvf_device *dev, struct uvf_irq_handover *irqs, size_t count);
/* Closes the descriptors. */
void uvf_irq_handover_free(struct uvf_irq_handover *irqs, size_t count);

/*
 * ---- For a device that is elsewhere, with areas that change there ----
 *
 * It follows there with what it has mapped here, and must tell the truth about whether it can.
 */

/*
 * What uvf_region_set_areas() would now say if all went that goes while state is saved: -EBUSY or
 * -ENODEV; 0 also where it would have to wait. With the device's lock held.
 */
int uvf_remap_can_follow(struct uvf_device *dev);
/*
 * @changed is called when that, or the next, may be another: with any lock held, from any thread.
 * It must not call the device. Not any more when uvf_device_free() destroys the model.
 */
void uvf_remap_set_watch(struct uvf_device *dev, void (*changed)(struct uvf_device *dev));
/* Whether nobody has mapped anything else than the region's areas. With the device's lock held. */
bool uvf_region_is_followed(struct uvf_device *dev, uint32_t index);

/* As uvf_region_mapped(), with the device's lock held. */
int uvf_region_mapped_locked(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size,
			     enum uvf_mapped kind);

/*
 * What uvf_region_take_changes() took, and the driver didn't get: it is there to be read again, and
 * no acknowledgement is about it.
 */
void uvf_region_give_back_changes(struct uvf_device *dev, uint32_t index);

/* For who makes mappings: 0, or the error that this one is refused with. NULL injector: 0. */
int uvf_injector_map(struct uvf_injector *injector, uvf_iova_t iova, uint64_t size);

#endif
