/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of an address space of the program.
 *
 *   ioas.c            made, described; what is mapped where
 *   ioas_map.c        mapping memory of the program, and files
 *   ioas_copy.c       mapping what another mapping is of
 *   ioas_unmap.c      unmapping
 *   ioas_vaddr.c      memory that goes over to another process
 *   program_memory.c  what the program's addresses lead to
 *
 * The waist's address space holds the parts that mappings have; `map` holds the mappings as they
 * were asked for. Only these files change either, with `lock` held, so that the two always agree.
 */
#ifndef UVF_UAPI_IOAS_PRIVATE_H
#define UVF_UAPI_IOAS_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/interval_map.h"
#include "core/core.h"
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/program_memory.h"

/* A mapping as it was asked for: the object of its interval in the map. */
struct uapi_mapping {
	bool writable;	    /* its pages are: it can be copied for writing */
	bool vaddr_invalid; /* VFIO_DMA_UNMAP_FLAG_VADDR */
};

struct uapi_ioas {
	atomic_uint references;
	struct uvf_address_space *space;
	struct uvf_iova_range *ranges; /* rising: where mappings can be */
	size_t range_count;
	uint64_t max_mappings, max_bytes;
	struct uvf_injector *injector; /* NULL: none */

	pthread_mutex_t lock;
	struct uvf_interval_map map;
	uint64_t bytes;	      /* mapped */
	atomic_ulong invalid; /* mappings with vaddr_invalid; read without the lock, too */
	struct uapi_programs programs;
};

static inline uint64_t uapi_ioas_granule(const struct uapi_ioas *ioas)
{
	uint64_t page_sizes = uvf_address_space_page_sizes(ioas->space);

	return page_sizes & -page_sizes;
}

static inline struct uapi_mapping *uapi_mapping_of(const struct uvf_interval *interval)
{
	return (struct uapi_mapping *)interval->object;
}

/* A mapping that is asked for. */
struct uapi_mapping_request {
	uint64_t iova, last, size;
	unsigned prot;
	uint64_t source; /* the program's address, or the offset in a file */
};

/*
 * With the lock: whether iommufd's rules let it be mapped; fills in `last`. Errors: -EINVAL,
 * -EOVERFLOW, -EEXIST, -ENOMEM (too many mappings, or too much is mapped).
 */
int uapi_ioas_check_iommufd(const struct uapi_ioas *ioas, struct uapi_mapping_request *request);
/* With the lock: the mapping's parts are there: now it is. Errors: -ENOMEM. */
int uapi_ioas_record(struct uapi_ioas *ioas, const struct uapi_mapping_request *request,
		     bool writable);
/* With the lock: the first @size bytes of what was mapped, but not recorded, go again. */
void uapi_ioas_take_back(struct uapi_ioas *ioas, uint64_t iova, uint64_t size);

/* uapi_ioas_unmap(), with the lock. */
int uapi_ioas_unmap_locked(struct uapi_ioas *ioas, uint64_t first, uint64_t last,
			   uint64_t *unmapped);
/* With the lock: whether a mapping begins before @first and reaches it, or reaches past @last. */
bool uapi_ioas_is_cut(const struct uapi_ioas *ioas, uint64_t first, uint64_t last);
/* Whether [first, last] is in one of the ranges. */
bool uapi_ioas_in_range(const struct uapi_ioas *ioas, uint64_t first, uint64_t last);

#endif
