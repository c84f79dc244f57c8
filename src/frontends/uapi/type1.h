/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What type1.c and type1_dirty.c share: the bitmaps of dirty pages.
 */
#ifndef UVF_UAPI_TYPE1_H
#define UVF_UAPI_TYPE1_H

#include "frontends/uapi/uapi.h"

/* The kernel counts bits of a bitmap in an int, so that it has 256 MiB at most. */
#define UAPI_DIRTY_BITMAP_MAX (1ULL << 28)

/*
 * Whether @bitmap, as the program gave it, can be for @size bytes of IOVAs: in the program's half
 * of the address space, and neither too small nor too large. Errors: -EINVAL.
 */
int uapi_dirty_check_bitmap(const struct vfio_bitmap *bitmap, uint64_t size);

/*
 * Unmaps [first, last] and tells which pages of it were written since it was last asked; words of
 * the bitmap that no mapping reaches are left alone. Errors, with nothing unmapped and what can't
 * be told still to be told: -EINVAL (off), -ENOENT (cuts a mapping), -ENOMEM, -EFAULT.
 */
int uapi_dirty_unmap(struct uapi_ioas *ioas, struct uapi_call *call, uint64_t first, uint64_t last,
		     const struct vfio_bitmap *bitmap, uint64_t *unmapped);

/* VFIO_IOMMU_DIRTY_PAGES. */
long uapi_dirty_ioctl(const struct uapi_type1 *type1, struct uapi_call *call, uint64_t argument);

/* The smallest page that @ioas maps. */
uint64_t uapi_type1_granule(struct uapi_ioas *ioas);

#endif
