/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logs: which pages devices have written, or may have, since it was last asked. An address
 * space has one, for all that its devices write; a device has one of its own (client.h). Both can
 * be on at once.
 *
 * In a report of an address space is, while its log is on,
 *   - every page that was written by the calls in dma.h since the last report of it;
 *   - every page that is pinned for writing, at each report, and at one after it was unpinned;
 *   - every page that is mapped for writing, while a device is attached that doesn't tell us what
 *     it writes (a device in another process that reaches memory by itself; what it logs is in its
 *     own log alone), and at one report after it has gone. Where such a device pins what it writes
 *     to (uvf_dma_pin()) only its pins count from its first pin on, if it is alone in its group
 *     (iommu.h).
 * A page can be reported that was not written; none that was is left out. A write is in the log by
 * the time the call that made it has returned.
 *
 * Threads: any. Reports of one log are made one at a time, by a lock of its own.
 */
#ifndef UVFIO_DIRTY_H
#define UVFIO_DIRTY_H

#include <uvfio/types.h>

UVF_BEGIN_DECLS

/*
 * Switches an address space's log on: from when this returns, all writes are in it. On already:
 * success, and the log stays as it is. Errors: -ENOMEM.
 */
UVF_API int uvf_dirty_start(struct uvf_address_space *space);
/* Switches it off and forgets what is in it. */
UVF_API void uvf_dirty_stop(struct uvf_address_space *space);
UVF_API bool uvf_dirty_is_on(struct uvf_address_space *space);

/*
 * How many attachments make all that is mapped for writing dirty, now. While there is one, copying
 * memory before the devices are stopped is of no use. One load; any thread.
 */
UVF_API unsigned uvf_dirty_wide(const struct uvf_address_space *space);

/* The bytes of a bitmap for @size bytes in pages of @page_size: whole 64-bit words; 0: overflow. */
UVF_API uint64_t uvf_dirty_bitmap_size(uint64_t size, uint64_t page_size);

#define UVF_DIRTY_KEEP (1U << 0) /* what is reported stays in the log */

/*
 * Adds to @bitmap, by or, the dirty pages of [iova, iova + size): bit n is the @page_size bytes
 * from iova + n * page_size on. @page_size is any power of two; @bitmap_size is in bytes.
 * What is reported is no longer in the log.
 * Errors, with nothing taken out: -EINVAL (not on; @page_size; @iova or @size is not a multiple of
 * it; @size 0; @bitmap_size too small), -EOVERFLOW.
 */
UVF_API int uvf_dirty_report(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
			     uint64_t page_size, unsigned flags, uint64_t *bitmap,
			     uint64_t bitmap_size);
/*
 * Unmaps as uvf_unmap() does, and reports what was dirty there until then.
 * Errors, with nothing unmapped: those of both.
 */
UVF_API int uvf_unmap_dirty(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
			    uint64_t *unmapped, uint64_t page_size, uint64_t *bitmap,
			    uint64_t bitmap_size);
/*
 * Puts back what a report took out that could not be passed on. Arguments as they were. Where bits
 * stand for more than 512 pages, what lies between two of them can count as dirty, too.
 */
UVF_API void uvf_dirty_restore(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
			       uint64_t page_size, const uint64_t *bitmap);

UVF_END_DECLS

#endif
