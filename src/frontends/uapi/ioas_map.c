/* SPDX-License-Identifier: BSD-3-Clause */
/* Mapping: what is refused in which order, and the parts that a mapping has. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "frontends/uapi/ioas_private.h"

/* As many mappings as an iommufd may make, which has no limit of its own: they cost memory here. */
#define MAPPINGS_MAX (1U << 20)

#define PAGE 4096ULL

/* A mapping that is asked for. */
struct request {
	uint64_t iova, last, size;
	unsigned prot;
	uint64_t source; /* the program's address, or the offset in a file */
};

static bool is_mapped(const struct uapi_ioas *ioas, const struct request *request)
{
	struct uvf_interval mapping;

	return uvf_interval_map_next(&ioas->map, request->iova, &mapping) &&
	       mapping.first <= request->last;
}

static int check_prot(unsigned prot)
{
	return prot && !(prot & ~(unsigned)UVF_PROT_RW) ? 0 : -EINVAL;
}

/* In the order in which the kernel's type1 looks. Both with the lock. */
static int check_type1(const struct uapi_ioas *ioas, struct request *request)
{
	uint64_t ignored;

	if (check_prot(request->prot) || !request->size)
		return -EINVAL;
	if (!uvf_range_last(request->iova, request->size, &request->last) ||
	    !uvf_range_last(request->source, request->size, &ignored))
		return -EOVERFLOW;
	if (!uvf_is_aligned(request->iova | request->size | request->source,
			    uapi_ioas_granule(ioas)))
		return -EINVAL;
	if (is_mapped(ioas, request))
		return -EEXIST;
	if (ioas->map.count >= ioas->max_mappings)
		return -ENOSPC;
	return uapi_ioas_in_range(ioas, request->iova, request->last) ? 0 : -EINVAL;
}

/* In iommufd's order. */
static int check_iommufd(const struct uapi_ioas *ioas, struct request *request)
{
	uint64_t granule = uapi_ioas_granule(ioas), ignored;

	if (check_prot(request->prot) || !request->size)
		return -EINVAL;
	if (!uvf_range_last(request->source, request->size, &ignored))
		return -EOVERFLOW;
	if (!uvf_is_aligned(request->iova | request->size, granule))
		return -EINVAL;
	if (!uvf_range_last(request->iova, request->size, &request->last))
		return -EOVERFLOW;
	if (!uapi_ioas_in_range(ioas, request->iova, request->last))
		return -EINVAL;
	if (is_mapped(ioas, request))
		return -EEXIST;
	if (!uvf_is_aligned(request->source, granule < PAGE ? granule : PAGE))
		return -EINVAL;
	return ioas->map.count < MAPPINGS_MAX ? 0 : -ENOMEM;
}

static int check_memory(const struct uapi_ioas *ioas, const struct request *request)
{
	uint64_t bytes;

	return __builtin_add_overflow(ioas->bytes, request->size, &bytes) || bytes > ioas->max_bytes
		       ? -ENOMEM
		       : 0;
}

/* With the lock: the mapping is there, as are its parts. */
static int record(struct uapi_ioas *ioas, const struct request *request, uint64_t flags)
{
	struct uvf_interval mapping = {
		.first = request->iova,
		.last = request->last,
		.value = flags,
	};
	int error = uvf_interval_map_insert(&ioas->map, &mapping);

	if (!error)
		ioas->bytes += request->size;
	return error;
}

/* With the lock: takes back the first @size bytes of what was mapped. */
static void take_back(struct uapi_ioas *ioas, uint64_t iova, uint64_t size)
{
	if (size)
		uvf_unmap(ioas->space, iova, size, NULL);
}

static int map_parts(struct uapi_ioas *ioas, struct uapi_call *call, const struct request *request)
{
	uint64_t done = 0;
	int error = 0;

	while (!error && done < request->size) {
		struct uapi_part part = {0};

		error = uapi_programs_find(&ioas->programs, call, request->source + done,
					   request->size - done, request->prot, &part);
		if (error)
			break;
		error = uvf_map(ioas->space, request->iova + done, part.size, request->prot,
				part.memory, part.offset);
		uvf_memory_put(part.memory);
		if (!error)
			done += part.size;
	}
	if (error)
		take_back(ioas, request->iova, done);
	return error;
}

int uapi_ioas_map(struct uapi_ioas *ioas, struct uapi_call *call, enum uapi_ioas_rules rules,
		  uint64_t iova, uint64_t size, unsigned prot, uint64_t vaddr)
{
	struct request request = {.iova = iova, .size = size, .prot = prot, .source = vaddr};
	int error;

	pthread_mutex_lock(&ioas->lock);
	error = rules == UAPI_RULES_TYPE1 ? check_type1(ioas, &request)
					  : check_iommufd(ioas, &request);
	if (!error)
		error = check_memory(ioas, &request);
	if (!error)
		error = map_parts(ioas, call, &request);
	if (!error) {
		error = record(ioas, &request, prot & UVF_PROT_WRITE ? UAPI_MAPPING_WRITABLE : 0);
		if (error)
			take_back(ioas, iova, size);
	}
	pthread_mutex_unlock(&ioas->lock);
	return error;
}
