/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of the waist: how a device is used, wherever it is. Frontends call exactly
 * this; so do tests, the command line and drivers in C.
 *
 * A device in this process comes from its model; one in another process from uvf_client_connect().
 * From there on they are the same.
 *
 * Threads: any; calls on one device are serialised by its lock.
 * Before uvf_device_open() a device can only be asked what it is: by the *_get_info() calls, and by
 * reading a PCI device's configuration space (VFIO_PCI_CONFIG_REGION_INDEX).
 * Errors, all calls: -ENODEV (not open, or the device is gone), and for a device behind a socket
 * -EPROTO (its answer was not valid; the connection is then over), -ENOTCONN, -ETIMEDOUT.
 */
#ifndef UVFIO_CLIENT_H
#define UVFIO_CLIENT_H

#include <uvfio/device.h>
#include <uvfio/iommu.h>
#include <uvfio/types.h>

UVF_BEGIN_DECLS

struct uvf_client_config {
	const char *path;	     /* of a unix socket */
	int fd;			     /* a connected socket instead, when path is NULL; taken over */
	uint32_t timeout_ms;	     /* for each reply; 0: 10 s. A change of state: 6 times that */
	uint32_t max_data_xfer_size; /* 0: 1 MiB */
	uint32_t max_msg_fds;	     /* 0: 16 */
	bool no_twin_socket;	     /* the device's own requests then share the connection */
	struct uvf_log log;
};

/*
 * Connects to a vfio-user server and makes a device of what is there, regions and IRQs
 * known. Freed by uvf_device_free().
 * Errors: those of connect(2), -EPROTO, -EBUSY (it has another client), -ENOTSUP (version).
 */
UVF_API int uvf_client_connect(const struct uvf_client_config *config, struct uvf_device **devp,
			       struct uvf_error *error);

/* ---- Owning ---- */

/* Takes the device. Errors: -EBUSY (it has an owner), or what the model says. */
UVF_API int uvf_device_open(struct uvf_device *dev);
/* Gives it back: IRQs off, detached everywhere, reset. Waits for calls on other threads. */
UVF_API void uvf_device_close(struct uvf_device *dev);

/*
 * Attaches to @space (the device takes a reference), replacing what was attached. A device that
 * refuses it is attached to what it was before; to nothing if it now refuses that too.
 */
UVF_API int uvf_device_attach(struct uvf_device *dev, uint32_t pasid,
			      struct uvf_address_space *space);
UVF_API int uvf_device_detach(struct uvf_device *dev, uint32_t pasid);

/*
 * Tells it the group (iommu.h) that it is in; NULL: it is alone, as all are until they are told. It
 * leaves its group when it is freed. One call at a time for one device.
 */
UVF_API void uvf_device_set_group(struct uvf_device *dev, struct uvf_group *group);

/* Errors: -ENOTTY (can't be reset). */
UVF_API int uvf_device_reset(struct uvf_device *dev, enum uvf_reset kind);

struct uvf_device_info {
	uint32_t flags;	  /* VFIO_DEVICE_FLAGS_* */
	uint32_t regions; /* one more than the highest index */
	uint32_t irqs;
};
UVF_API void uvf_device_get_info(struct uvf_device *dev, struct uvf_device_info *info);

/* VFIO_DEVICE_FEATURE. Returns the bytes of the answer in @data. Errors: -ENOTTY, -EINVAL. */
UVF_API ssize_t uvf_device_feature(struct uvf_device *dev, uint32_t flags, void *data, size_t size);

/*
 * The device's own dirty log (VFIO_DEVICE_FEATURE_DMA_LOGGING_*), beside its address space's
 * (dirty.h): which pages it has written, whatever is mapped. It ends with its owner.
 * can_log: whether it has one. start: from when it returns, all writes are in it. report: as
 * uvf_dirty_report(), and restore as uvf_dirty_restore().
 * Errors: -ENOTTY (it has none), -EINVAL (start: it is on; report: it is off, or those of
 * uvf_dirty_report()), -EOVERFLOW, -ENOMEM. stop succeeds when it is off.
 */
UVF_API bool uvf_device_can_log(struct uvf_device *dev);
UVF_API int uvf_device_logging_start(struct uvf_device *dev);
UVF_API int uvf_device_logging_stop(struct uvf_device *dev);
UVF_API int uvf_device_logging_report(struct uvf_device *dev, uvf_iova_t iova, uint64_t size,
				      uint64_t page_size, uint64_t *bitmap, uint64_t bitmap_size);
UVF_API void uvf_device_logging_restore(struct uvf_device *dev, uvf_iova_t iova, uint64_t size,
					uint64_t page_size, const uint64_t *bitmap);

/* ---- Regions ---- */

struct uvf_region_info {
	uint32_t flags; /* VFIO_REGION_INFO_FLAG_* */
	uint64_t size;
	uint32_t type, subtype;
	const struct uvf_area *areas; /* the device's: valid while it is there */
	size_t area_count;
	/* The areas can change, and some may go while state is saved: see remap.h. */
	bool areas_change;
	const struct uvf_io_fd *io_fds;
	size_t io_fd_count;
};
/* An index that isn't there has size 0. Errors: -EINVAL (index past uvf_device_info.regions). */
UVF_API int uvf_region_get_info(struct uvf_device *dev, uint32_t index,
				struct uvf_region_info *info);

/*
 * Return @count, or an error: -EINVAL (outside the region; read- or write-only), or the model's.
 * A device that was removed (uvf_device_remove()) reads as all ones and drops writes.
 */
UVF_API ssize_t uvf_region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
				size_t count);
UVF_API ssize_t uvf_region_write(struct uvf_device *dev, uint32_t index, uint64_t offset,
				 const void *buf, size_t count);

/*
 * Maps part of an area here, for reading and writing as the region allows.
 * Errors: -EINVAL (not inside one area, or not page aligned), those of mmap(2), and where areas
 * change (remap.h) -ENOSPC (UVF_MAPPINGS_MAX).
 */
UVF_API int uvf_region_map(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size,
			   void **addressp);
/* Ends it, with the same range. Also after the device was closed, until it is freed. */
UVF_API void uvf_region_unmap(struct uvf_device *dev, uint32_t index, uint64_t offset,
			      uint64_t size, void *address);

/* ---- Interrupts ---- */

struct uvf_irq_info {
	uint32_t flags; /* VFIO_IRQ_INFO_* */
	uint32_t count;
	uint32_t type, subtype;
	/* Of the remap IRQ (remap.h): which it may be about. The device's. */
	const uint32_t *regions;
	size_t region_count;
};
/* Errors: -EINVAL (index past uvf_device_info.irqs). */
UVF_API int uvf_irq_get_info(struct uvf_device *dev, uint32_t index, struct uvf_irq_info *info);

/*
 * VFIO_DEVICE_SET_IRQS, all of its forms: eventfds as triggers (duplicated), -1 to take one away,
 * DATA_NONE with count 0 to disable the index, DATA_NONE and DATA_BOOL with ACTION_TRIGGER as a
 * loopback, ACTION_MASK and ACTION_UNMASK, an eventfd for ACTION_UNMASK (resample).
 * Errors: -EINVAL, -ENOTTY (not for this index), -EBADF, -EMFILE.
 */
UVF_API int uvf_irq_set(struct uvf_device *dev, const struct uvf_irq_set *set);

UVF_END_DECLS

#endif
