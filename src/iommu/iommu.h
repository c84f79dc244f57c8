/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the core needs of address spaces beside the public iommu.h: attachments.
 *
 * An attachment is one (device, PASID)'s way into an address space: which one (or none), what is
 * enabled on it, its last hits, and the pins made through it.
 *
 * Lifetime: it lives until uvf_attachment_free(), whatever address space it is set to, so that a
 * transfer needs no lock to reach it. The caller makes sure that no thread is inside a transfer
 * when it is freed. uvf_attachment_set() holds a reference to the address space.
 * Threads: transfers, pins and enable from any thread at any time; set one at a time.
 */
#ifndef UVF_IOMMU_H
#define UVF_IOMMU_H

#include <uvfio/dma.h>
#include <uvfio/iommu.h>

struct uvf_attachment;

struct uvf_attachment_ops {
	/*
	 * [first, last] is going: give up the pins in it, now or soon. Called with no lock of the
	 * address space held, by the thread that unmaps or sets: for different ranges by several
	 * threads at once.
	 */
	void (*unmap)(void *opaque, uvf_iova_t first, uvf_iova_t last);
};

int uvf_attachment_new(const struct uvf_attachment_ops *ops, void *opaque,
		       struct uvf_attachment **attachmentp);
/* Sets it to no address space first, and so waits for its pins. */
void uvf_attachment_free(struct uvf_attachment *attachment);

/*
 * Replaces the address space; NULL for none. When it returns, no transfer reaches the old one
 * (messages: see uvf_unmap()) and no pin of this attachment is left on it: the unmap callback is
 * called for all of it first (0 to UINT64_MAX). Errors: -ENOMEM.
 */
int uvf_attachment_set(struct uvf_attachment *attachment, struct uvf_address_space *space);
/* The address space (borrowed: valid until the next set), or NULL. */
struct uvf_address_space *uvf_attachment_space(struct uvf_attachment *attachment);

/*
 * While it is not enabled (bus mastering off), transfers and new pins fail with -EPERM. Returns
 * when transfers that began before have ended, but for calls into memory that isn't mapped here:
 * who switches may be whom they wait for. Pins that exist stay.
 */
void uvf_attachment_enable(struct uvf_attachment *attachment, bool bus_master);

/*
 * Whether the device writes to memory without telling us (one in another process). While one that
 * does is attached and has not pinned there, or is not alone in its group, all that is mapped for
 * writing counts as dirty. From when this returns.
 */
void uvf_attachment_set_silent(struct uvf_attachment *attachment, bool silent);

/* The group that it is in; NULL: it is alone. Not while the group, or it, is being freed. */
void uvf_attachment_set_group(struct uvf_attachment *attachment, struct uvf_group *group);

/*
 * A log of the attachment's own, whatever its address space is: as uvf_dirty_start(), _stop() and
 * _report() (dirty.h), in pages of @granule. What is mapped is never reported for being mapped.
 * A report without a @bitmap takes out of the log what it would tell.
 * Errors: start also -EALREADY; report also -EINVAL while it is off.
 */
int uvf_attachment_log_start(struct uvf_attachment *attachment, uint64_t granule);
void uvf_attachment_log_stop(struct uvf_attachment *attachment);
bool uvf_attachment_log_is_on(struct uvf_attachment *attachment);
int uvf_attachment_log_report(struct uvf_attachment *attachment, uvf_iova_t iova, uint64_t size,
			      uint64_t page_size, uint64_t *bitmap, uint64_t bitmap_size);
void uvf_attachment_log_restore(struct uvf_attachment *attachment, uvf_iova_t iova, uint64_t size,
				uint64_t page_size, const uint64_t *bitmap);

/*
 * The memory by which mappings of @space reach a file, if it allows @prot: a reference, or NULL.
 * It is that of a uvf_map_fd() of which something is still mapped.
 */
struct uvf_memory *uvf_address_space_find_file(struct uvf_address_space *space, dev_t device,
					       ino_t inode, unsigned prot);

/*
 * As uvf_memory_new_local(), of which only @prot is allowed; @release is called when the last
 * reference goes, from any thread and maybe with an address space's lock held.
 */
int uvf_memory_new_owned(void *base, uint64_t size, unsigned prot, void (*release)(void *opaque),
			 void *opaque, struct uvf_memory **memoryp);

/* Reads @memory of whatever kind, as a device would. Errors: -EFAULT, -EACCES, the kind's own. */
int uvf_memory_read(struct uvf_memory *memory, uint64_t offset, void *buf, size_t size);

/* As their namesakes in dma.h. */
int uvf_attachment_read(struct uvf_attachment *attachment, uvf_iova_t iova, void *buf, size_t size);
int uvf_attachment_write(struct uvf_attachment *attachment, uvf_iova_t iova, const void *buf,
			 size_t size);
int uvf_attachment_compare_and_swap(struct uvf_attachment *attachment, uvf_iova_t iova, size_t size,
				    uint64_t *expected, uint64_t desired);
int uvf_attachment_pin(struct uvf_attachment *attachment, uvf_iova_t iova, size_t size,
		       unsigned prot, struct uvf_pin *pin, struct iovec *iov, int max);
void uvf_attachment_unpin(struct uvf_pin *pin);

#endif
