/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An address space as a program maps and unmaps it, through type1 or iommufd. It remembers each
 * mapping as it was asked for: a range of IOVAs, where it is in the program, and whose memory that
 * is. At the waist (iommu.h) one can be several: a part in each memory that it lies in.
 *
 * Memory of the program is reached where it is: a mapping of a file that is shared (memfd, tmpfs,
 * hugetlbfs) is mapped here, from a descriptor that the program has of that file; everything else
 * goes through /proc/PID/mem.
 *
 * Lifetime: reference counted: containers, iommufd's objects and attached devices have references.
 * Threads: any; its own lock, taken after the topology lock.
 */
#ifndef UVF_UAPI_IOAS_H
#define UVF_UAPI_IOAS_H

#include <uvfio/iommu.h>

struct uvf_run;
struct uapi_call;
struct uapi_ioas;

/* Of the run's IOMMU, with type1's limits on mappings. Errors: -ENOMEM. */
int uapi_ioas_new(struct uvf_run *run, struct uapi_ioas **ioasp);
struct uapi_ioas *uapi_ioas_get(struct uapi_ioas *ioas);
void uapi_ioas_put(struct uapi_ioas *ioas);
/* What devices attach to. Borrowed. */
struct uvf_address_space *uapi_ioas_space(struct uapi_ioas *ioas);

/*
 * Who maps says how: the kernel's two interfaces differ in what they refuse.
 * A type1 mapping may be of a trapped or mapped BAR of a device (peer-to-peer); iommufd's may not.
 */
enum uapi_ioas_rules { UAPI_RULES_TYPE1, UAPI_RULES_IOMMUFD };

/*
 * Maps [iova, iova + size) to the program's [vaddr, vaddr + size). The pages must be there and be
 * writable for UVF_PROT_WRITE, as they must for the kernel to pin them.
 * Errors: -EINVAL (alignment, no permission, outside the aperture or reserved), -EOVERFLOW (sums
 * pass 2^64), -EEXIST (overlaps), -ENOSPC (max_mappings), -ENOMEM (max_locked_memory), -EFAULT
 * (nothing there, or not to be written), -EACCES.
 */
int uapi_ioas_map(struct uapi_ioas *ioas, struct uapi_call *call, enum uapi_ioas_rules rules,
		  uint64_t iova, uint64_t size, unsigned prot, uint64_t vaddr);
/* The same, of a file: IOMMU_IOAS_MAP_FILE. @fd is ours. */
int uapi_ioas_map_file(struct uapi_ioas *ioas, uint64_t iova, uint64_t size, unsigned prot, int fd,
		       uint64_t start);
/*
 * Maps what [source_iova, +size) of @source is: IOMMU_IOAS_COPY. May be the same address space.
 * Errors: also -ENOENT (a part of the source isn't mapped), -EPERM (UVF_PROT_WRITE, of what is
 * mapped for reading alone).
 */
int uapi_ioas_copy(struct uapi_ioas *ioas, uint64_t iova, uint64_t size, unsigned prot,
		   struct uapi_ioas *source, uint64_t source_iova);

/*
 * Unmaps all mappings in [first, last]. One that the range cuts: -ENOENT with nothing unmapped
 * (the caller says what its interface says of it).
 */
int uapi_ioas_unmap(struct uapi_ioas *ioas, uint64_t first, uint64_t last, uint64_t *unmapped);
/*
 * The same, which adds to @bitmap what was dirty there until then, a bit for each page of the
 * smallest size. Errors: also uvf_unmap_dirty()'s, with nothing unmapped.
 */
int uapi_ioas_unmap_dirty(struct uapi_ioas *ioas, uint64_t first, uint64_t last, uint64_t *unmapped,
			  uint64_t *bitmap, uint64_t bitmap_size);
/* Whether a mapping begins before @first and reaches it, or reaches past @last. */
bool uapi_ioas_cuts(struct uapi_ioas *ioas, uint64_t first, uint64_t last);
/* The first mapping, as it was asked for, that reaches into [first, last]; false: there is none. */
bool uapi_ioas_find(struct uapi_ioas *ioas, uint64_t first, uint64_t last,
		    struct uvf_iova_range *mapping);

/*
 * VFIO_DMA_UNMAP_FLAG_VADDR and VFIO_DMA_MAP_FLAG_VADDR: the mappings stay while the process that
 * has their memory changes its addresses, or is another. DMA goes on with what was mapped.
 * invalidate: @size is what was found. Errors: -EINVAL (already so: then nothing is changed).
 * replace: Errors: -ENOENT (nothing is mapped there), -EINVAL (not invalid, or another range than
 * was mapped).
 */
int uapi_ioas_vaddr_invalidate(struct uapi_ioas *ioas, uint64_t first, uint64_t last,
			       uint64_t *size);
int uapi_ioas_vaddr_replace(struct uapi_ioas *ioas, struct uapi_call *call, uint64_t iova,
			    uint64_t size, uint64_t vaddr);
/* Whether any mapping is invalid so: the kernel then lets no group join. Never waits. */
bool uapi_ioas_has_invalid_vaddr(struct uapi_ioas *ioas);

/*
 * Where mappings can be: rising ranges, the aperture without reserved ones. Returns how many there
 * are; fills in at most @max. (What IOMMU_IOAS_ALLOW_IOVAS allows narrows only the choice that
 * iommufd.c makes for IOMMU_IOAS_MAP without a fixed address.)
 */
size_t uapi_ioas_ranges(struct uapi_ioas *ioas, struct uvf_iova_range *ranges, size_t max);

/* VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL. */
uint64_t uapi_ioas_available(struct uapi_ioas *ioas);
uint64_t uapi_ioas_page_sizes(struct uapi_ioas *ioas);

#endif
