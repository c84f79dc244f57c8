/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of an address space of the program.
 *
 *   ioas.c            made, described; what is mapped where
 *   ioas_map.c        mapping and copying
 *   ioas_unmap.c      unmapping
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
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/program_memory.h"

/* What a mapping's value in the map says. */
#define UAPI_MAPPING_WRITABLE ((uint64_t)1) /* its pages are: it can be copied for writing */

struct uapi_ioas {
	atomic_uint references;
	struct uvf_address_space *space;
	struct uvf_iova_range *ranges; /* rising: where mappings can be */
	size_t range_count;
	uint64_t max_mappings, max_bytes;

	pthread_mutex_t lock;
	struct uvf_interval_map map;
	uint64_t bytes; /* mapped */
	struct uapi_programs programs;
};

static inline uint64_t uapi_ioas_granule(const struct uapi_ioas *ioas)
{
	uint64_t page_sizes = uvf_address_space_page_sizes(ioas->space);

	return page_sizes & -page_sizes;
}

/* With the lock: whether a mapping begins before @first and reaches it, or reaches past @last. */
bool uapi_ioas_is_cut(const struct uapi_ioas *ioas, uint64_t first, uint64_t last);
/* Whether [first, last] is in one of the ranges. */
bool uapi_ioas_in_range(const struct uapi_ioas *ioas, uint64_t first, uint64_t last);

#endif
