/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DMA by a device: what a model calls to reach its driver's memory.
 *
 * Threads: any thread, the device's own workers included, with or without the device's lock. No
 * function here takes a lock on the way to memory mapped in this process; memory of other kinds
 * can block (see iommu.h). Not from a signal handler: it may have interrupted a transfer.
 *
 * Errors, all functions: -EPERM (bus mastering is off, or the PASID is not attached), -EFAULT
 * (nothing is mapped there, or the memory behind it is gone), -EACCES (mapped, but not for this),
 * -EOVERFLOW (iova + size passes 2^64), and of remote memory -ETIMEDOUT, -ENOTCONN, -EIO. A
 * transfer that fails in its middle may have moved its first part.
 */
#ifndef UVFIO_DMA_H
#define UVFIO_DMA_H

#include <sys/uio.h>
#include <uvfio/types.h>

UVF_BEGIN_DECLS

UVF_API int uvf_dma_read(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, void *buf,
			 size_t size);
UVF_API int uvf_dma_write(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, const void *buf,
			  size_t size);

/*
 * Atomic compare-and-swap of @size (4 or 8) naturally aligned bytes: if memory holds *@expected,
 * @desired is stored and 1 returned; else *@expected becomes what memory holds and 0 is returned.
 * Atomic against the driver's own accesses for memory mapped here; for memory of other kinds
 * -EOPNOTSUPP. Errors: also -EINVAL (size or alignment).
 */
UVF_API int uvf_dma_compare_and_swap(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova,
				     size_t size, uint64_t *expected, uint64_t desired);

/*
 * A pin: a claim on mapped memory that the device holds pointers to. The caller provides the
 * struct (in its request, say), and keeps it until uvf_dma_unpin(). Its fields are the library's.
 */
struct uvf_pin {
	struct uvf_pin *next, **prevp;
	void *owner, *shard;
	uvf_iova_t first, last;
	unsigned prot;
	uint32_t era;
};

/*
 * Maps [iova, iova + size) into at most @max iovecs and pins it. Returns their number. Until the
 * pin goes, the addresses stay valid whatever the driver unmaps; whoever holds a pin for longer
 * than a request must give it up in its `dma_unmap` operation (device.h). The file behind the
 * memory can still be truncated by its owner: access it by uvf_guarded_copy() or by system calls.
 * Errors: also -ENOBUFS (more than @max pieces), -EOPNOTSUPP (memory not mapped here: use
 * uvf_dma_read/write), -EINVAL (size 0).
 */
UVF_API int uvf_dma_pin(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, size_t size,
			unsigned prot, struct uvf_pin *pin, struct iovec *iov, int max);
/* Gives the pin up. A pin that uvf_dma_pin() didn't make is not allowed. */
UVF_API void uvf_dma_unpin(struct uvf_device *dev, struct uvf_pin *pin);

/*
 * memcpy() where either side may vanish (a truncated file): returns 0 or -EFAULT. Aligned accesses
 * of 1, 2, 4 and 8 bytes are single loads and stores.
 */
UVF_API int uvf_guarded_copy(void *to, const void *from, size_t size);

UVF_END_DECLS

#endif
