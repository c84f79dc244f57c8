/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device side of the waist: what a model fills in and calls.
 *
 * A device is made by uvf_device_new() (or, for a PCI device, uvf_pci_new(), which does it), gets
 * its regions and IRQ indexes, and is then offered by a frontend. Its driver's side is client.h.
 *
 * Threads: operations of one device are called one at a time, with the device's lock held, from
 * any thread. Workers of the device may call, without that lock, what is marked thread-safe here
 * and everything in dma.h.
 */
#ifndef UVFIO_DEVICE_H
#define UVFIO_DEVICE_H

#include <uvfio/types.h>
#include <uvfio/uapi.h>

UVF_BEGIN_DECLS

/* Why a device is being reset. After any of them it is as it was when made. */
enum uvf_reset {
	UVF_RESET_DEVICE, /* VFIO_DEVICE_RESET */
	UVF_RESET_FLR,	  /* PCI Express: Initiate Function Level Reset */
	UVF_RESET_PM,	  /* PCI power management: D3hot to D0 without No_Soft_Reset */
	UVF_RESET_HOT,	  /* the bus was reset */
	UVF_RESET_CLOSE,  /* its owner has gone */
};

/* Interrupts as the driver sets them: VFIO_DEVICE_SET_IRQS with its data decoded and checked. */
struct uvf_irq_set {
	uint32_t flags; /* VFIO_IRQ_SET_*: one DATA_ and one ACTION_ flag */
	uint32_t index;
	uint32_t start;
	uint32_t count;
	const uint8_t *bools; /* DATA_BOOL: @count of them */
	const int *fds;	      /* DATA_EVENTFD: @count of them, -1 for none; borrowed */
};

/*
 * What a model does. Each may be NULL: the core then does what is said.
 */
struct uvf_device_ops {
	/* An owner takes the device. An error refuses it. NULL: succeeds. */
	int (*open)(struct uvf_device *dev);
	/* The owner has gone; IRQs are off, address spaces detached. reset() has been called. */
	void (*close)(struct uvf_device *dev);
	/* Stops all activity and goes back to the initial state. All pins must be given up. */
	int (*reset)(struct uvf_device *dev, enum uvf_reset kind);
	/* Vectors of @index were enabled, disabled, masked or unmasked. For information. */
	void (*irq_changed)(struct uvf_device *dev, uint32_t index);
	/*
	 * Memory in [first, last] is being unmapped: pins that outlive a request must go, before
	 * this returns or soon after. Called WITHOUT the device's lock, from the thread that
	 * unmaps: it may take the model's own locks, not the device's. NULL: pins end by
	 * themselves.
	 */
	void (*dma_unmap)(struct uvf_device *dev, uint32_t pasid, uvf_iova_t first,
			  uvf_iova_t last);
	/* Bus mastering was switched by the driver. For information; the core gates DMA. */
	void (*bus_master_changed)(struct uvf_device *dev, bool enabled);
	/*
	 * An address space is attached, or (@space NULL) detached. For devices that keep a copy of
	 * the mappings elsewhere; an error refuses the attachment.
	 */
	int (*attach)(struct uvf_device *dev, uint32_t pasid, struct uvf_address_space *space);
	/* Takes over interrupt delivery (a device in another process). NULL: the core's eventfds */
	int (*set_irqs)(struct uvf_device *dev, const struct uvf_irq_set *set);
	/*
	 * VFIO_DEVICE_FEATURE: @flags as in the UAPI, @data of @size bytes in and out. Returns the
	 * bytes of the answer or a negative errno, -ENOTTY for what it doesn't know. NULL: the
	 * core's features only.
	 */
	ssize_t (*feature)(struct uvf_device *dev, uint32_t flags, void *data, size_t size);
	/*
	 * After uvf_region_set_areas() returned -EINPROGRESS. 0: nothing of what was taken away is
	 * mapped any more: what was written to it is in its memory, all that follows is a call.
	 * -ETIMEDOUT: the driver has not followed; -ENODEV: it can't any more; -EBUSY: it says that
	 * it did, but hasn't. Also with 0 before the device is in PRE_COPY, for a region whose
	 * areas with UVF_AREA_NOT_WHILE_SAVING were taken away. Called with the device's lock held.
	 */
	void (*areas_settled)(struct uvf_device *dev, uint32_t index, int result);
	/*
	 * After the second of those: the driver gets these areas back when this returns, so their
	 * memory must hold what it is to find there. Called with the device's lock held.
	 */
	void (*areas_return)(struct uvf_device *dev, uint32_t index);
	/* The device is being freed. */
	void (*destroy)(struct uvf_device *dev);
};

/*
 * A mappable part of a region: [offset, offset + size) of the region is [fd_offset, ...) of @fd.
 * Page aligned.
 */
struct uvf_area {
	uint64_t offset;
	uint64_t size;
	int fd;
	uint64_t fd_offset;
	uint32_t flags; /* UVF_AREA_* */
};
/*
 * Taken away from the driver while the device's state is being saved (PRE_COPY): the model then
 * sees each access as a call. In a region with areas_change. See remap.h.
 */
#define UVF_AREA_NOT_WHILE_SAVING (1U << 0)

/*
 * A register that the driver may write by signalling an eventfd instead (VFIO_DEVICE_IOEVENTFD,
 * VFIO_USER_DEVICE_GET_REGION_IO_FDS). The fd is the device's.
 */
struct uvf_io_fd {
	uint64_t offset;
	uint64_t size;
	int fd;
	bool match; /* only writes of @value */
	uint64_t value;
};

/*
 * A region. @read and @write move exactly @count bytes or fail with a negative errno; the core has
 * checked that the range is inside the region and that the region is readable or writable. What
 * lies wholly in an area the core moves itself and the functions never see it. A function that is
 * NULL: -EINVAL.
 */
struct uvf_region {
	uint32_t index; /* VFIO_PCI_*_REGION_INDEX, or from VFIO_PCI_NUM_REGIONS up */
	uint32_t flags; /* VFIO_REGION_INFO_FLAG_READ, _WRITE. _MMAP and _CAPS are derived */
	uint64_t size;
	uint32_t type; /* device-specific regions: VFIO_REGION_INFO_CAP_TYPE; 0: none */
	uint32_t subtype;
	int (*read)(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count);
	int (*write)(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count);
	const struct uvf_area *areas; /* rising, apart from each other; copied */
	size_t area_count;
	bool areas_change;		/* they may: see remap.h */
	const struct uvf_io_fd *io_fds; /* copied */
	size_t io_fd_count;
};

/* An IRQ index. */
struct uvf_irq {
	uint32_t index; /* VFIO_PCI_*_IRQ_INDEX, or from VFIO_PCI_NUM_IRQS up */
	uint32_t count;
	uint32_t flags; /* VFIO_IRQ_INFO_* */
	uint32_t type;	/* device-specific ones; 0: none */
	uint32_t subtype;
};

/*
 * Makes a device. @name is for people ("nvme0"); copied. @ops must stay. @flags are
 * VFIO_DEVICE_FLAGS_* (RESET is added where ops->reset is there).
 * Errors: -ENOMEM.
 */
UVF_API int uvf_device_new(const char *name, const struct uvf_device_ops *ops, uint32_t flags,
			   void *opaque, struct uvf_device **devp);
/* Frees a device that nobody has open. ops->destroy is called last. NULL is allowed. */
UVF_API void uvf_device_free(struct uvf_device *dev);

UVF_API void *uvf_device_opaque(const struct uvf_device *dev);
UVF_API const char *uvf_device_name(const struct uvf_device *dev);
UVF_API void uvf_device_set_log(struct uvf_device *dev, const struct uvf_log *log);
/* Formats a message for the device's log. Thread-safe. */
UVF_API void uvf_device_log(struct uvf_device *dev, enum uvf_log_level level, const char *format,
			    ...) UVF_PRINTF(3, 4);

/*
 * Adds a region or an IRQ index, before the device is offered. Everything given is copied.
 * Errors: -EINVAL (areas that overlap, aren't aligned or leave the region), -EEXIST, -ENOMEM.
 */
UVF_API int uvf_device_add_region(struct uvf_device *dev, const struct uvf_region *region);
UVF_API int uvf_device_add_irq(struct uvf_device *dev, const struct uvf_irq *irq);

/*
 * Shared memory for a region, for models: [0, size) of region @index lies at @index << 40 of one
 * sealed memfd of the device. Gives the fd (borrowed) and where it is mapped here; it stays mapped
 * until the device is freed. Call it before uvf_device_add_region() to describe areas.
 * Errors: -ENOMEM, -EMFILE.
 */
UVF_API int uvf_device_region_memory(struct uvf_device *dev, uint32_t index, uint64_t size,
				     int *fdp, uint64_t *fd_offsetp, void **addressp);

/*
 * Signals a vector: its eventfd, if it has one and isn't masked; a masked one is remembered and
 * signalled when unmasked. Thread-safe, takes no device lock. Vectors out of range are ignored.
 */
UVF_API void uvf_irq_trigger(struct uvf_device *dev, uint32_t index, uint32_t vector);
/*
 * Sets the level of a level-triggered vector (INTx). A rising edge signals; with automask the
 * vector is then masked until the driver unmasks it (or its resample eventfd is signalled), and
 * signals again if it is still asserted. Thread-safe.
 */
UVF_API void uvf_irq_set_level(struct uvf_device *dev, uint32_t index, uint32_t vector,
			       bool asserted);
/* Whether the driver has enabled any vector of @index. Thread-safe. */
UVF_API bool uvf_irq_enabled(struct uvf_device *dev, uint32_t index);

/* The device's lock, for its own workers and timers. Never held while waiting for a worker that
 * takes it. */
UVF_API void uvf_device_lock(struct uvf_device *dev);
UVF_API void uvf_device_unlock(struct uvf_device *dev);

/*
 * For a device that reaches its driver's memory by itself, not by the calls in dma.h (it is in
 * another process): it can't say what it writes, so all that is mapped for writing counts as dirty.
 * If it pins (uvf_dma_pin()) it says thereby that it writes only where it has pinned: from its
 * first pin in an address space on only those count there, if no other device is in its group.
 * Before the device is offered.
 */
UVF_API void uvf_device_set_silent(struct uvf_device *dev);

/* DMA is refused with -EPERM while off. The PCI core calls this; a device starts with it off. */
UVF_API void uvf_device_set_bus_master(struct uvf_device *dev, bool enabled);
/*
 * The device is gone, like a card that was pulled: its regions read as all ones and drop writes
 * (what a driver has mapped stays memory, of ones), it does no DMA and signals nothing; what else
 * is asked of it is -ENODEV. Whoever owns it closes it as ever. For good, or until
 * uvf_injector_clear(). Not with the device's lock.
 */
UVF_API void uvf_device_remove(struct uvf_device *dev);
/* Resets from inside: for the PCI core and models. With the device's lock held. */
UVF_API int uvf_device_do_reset(struct uvf_device *dev, enum uvf_reset kind);

UVF_END_DECLS

#endif
