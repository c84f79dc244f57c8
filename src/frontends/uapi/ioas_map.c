/* SPDX-License-Identifier: BSD-3-Clause */
/* Mapping memory of the program, and files: what is refused in which order, and the parts. */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bytes.h"
#include "frontends/uapi/ioas_private.h"

/* As many mappings as an iommufd may make, which has no limit of its own: they cost memory here. */
#define MAPPINGS_MAX (1U << 20)

#define PAGE 4096ULL

static bool is_mapped(const struct uapi_ioas *ioas, const struct uapi_mapping_request *request)
{
	struct uvf_interval mapping;

	return uvf_interval_map_next(&ioas->map, request->iova, &mapping) &&
	       mapping.first <= request->last;
}

static bool is_prot(unsigned prot)
{
	return prot && !(prot & ~(unsigned)UVF_PROT_RW);
}

static int check_memory(const struct uapi_ioas *ioas, uint64_t size)
{
	uint64_t bytes;

	return __builtin_add_overflow(ioas->bytes, size, &bytes) || bytes > ioas->max_bytes
		       ? -ENOMEM
		       : 0;
}

/* With the lock, in the order in which the kernel's type1 looks. */
static int check_type1(const struct uapi_ioas *ioas, struct uapi_mapping_request *request)
{
	uint64_t ignored;

	if (!is_prot(request->prot) || !request->size)
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
	if (!uapi_ioas_in_range(ioas, request->iova, request->last))
		return -EINVAL;
	return check_memory(ioas, request->size);
}

int uapi_ioas_check_iommufd(const struct uapi_ioas *ioas, struct uapi_mapping_request *request)
{
	uint64_t granule = uapi_ioas_granule(ioas), ignored;

	if (!is_prot(request->prot) || !request->size)
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
	return ioas->map.count < MAPPINGS_MAX ? check_memory(ioas, request->size) : -ENOMEM;
}

int uapi_ioas_record(struct uapi_ioas *ioas, const struct uapi_mapping_request *request,
		     bool writable)
{
	struct uapi_mapping *mapping = malloc(sizeof(*mapping));
	struct uvf_interval interval = {
		.first = request->iova,
		.last = request->last,
		.object = (uintptr_t)mapping,
	};
	int error;

	if (!mapping)
		return -ENOMEM;
	*mapping = (struct uapi_mapping){.writable = writable};
	error = uvf_interval_map_insert(&ioas->map, &interval);
	if (error) {
		free(mapping);
		return error;
	}
	ioas->bytes += request->size;
	return 0;
}

void uapi_ioas_take_back(struct uapi_ioas *ioas, uint64_t iova, uint64_t size)
{
	if (size)
		uvf_unmap(ioas->space, iova, size, NULL);
}

/* ---- The program's memory ---- */

/* Maps a part; a file that can't be mapped here is reached through the process. */
static int map_part(struct uapi_ioas *ioas, struct uapi_call *call, uint64_t iova, unsigned prot,
		    uint64_t address, const struct uapi_part *part)
{
	struct uapi_part other;
	int error = -ENOENT;

	if (part->memory)
		error = uvf_map(ioas->space, iova, part->size, prot, part->memory, part->offset);
	else if (part->fd >= 0)
		error = uvf_map_fd(ioas->space, iova, part->size, prot, part->fd, part->offset);
	if (!error || !part->is_file)
		return error;
	error = uapi_programs_find_process(&ioas->programs, call, address, part->size, prot,
					   &other);
	if (error)
		return error;
	error = uvf_map(ioas->space, iova, part->size, prot, other.memory, other.offset);
	uapi_part_destroy(&other);
	return error;
}

static int map_program(struct uapi_ioas *ioas, struct uapi_call *call, enum uapi_ioas_rules rules,
		       const struct uapi_mapping_request *request)
{
	uint64_t done = 0;
	int error = 0;

	while (!error && done < request->size) {
		uint64_t address = request->source + done;
		struct uapi_part part;

		error = uapi_programs_find(&ioas->programs, call, rules, address,
					   request->size - done, request->prot, &part);
		if (error)
			break;
		error = map_part(ioas, call, request->iova + done, request->prot, address, &part);
		if (!error)
			done += part.size;
		uapi_part_destroy(&part);
	}
	if (error)
		uapi_ioas_take_back(ioas, request->iova, done);
	return error;
}

/* With the lock: the parts are there. */
static int record_or_take_back(struct uapi_ioas *ioas, const struct uapi_mapping_request *request)
{
	int error = uapi_ioas_record(ioas, request, request->prot & UVF_PROT_WRITE);

	if (error)
		uapi_ioas_take_back(ioas, request->iova, request->size);
	return error;
}

int uapi_ioas_map(struct uapi_ioas *ioas, struct uapi_call *call, enum uapi_ioas_rules rules,
		  uint64_t iova, uint64_t size, unsigned prot, uint64_t vaddr)
{
	struct uapi_mapping_request request = {
		.iova = iova, .size = size, .prot = prot, .source = vaddr};
	int error;

	pthread_mutex_lock(&ioas->lock);
	error = rules == UAPI_RULES_TYPE1 ? check_type1(ioas, &request)
					  : uapi_ioas_check_iommufd(ioas, &request);
	if (!error)
		error = uvf_injector_map(ioas->injector, iova, size);
	if (!error)
		error = map_program(ioas, call, rules, &request);
	if (!error)
		error = record_or_take_back(ioas, &request);
	pthread_mutex_unlock(&ioas->lock);
	return error;
}

/* ---- Files ---- */

/* What the kernel can pin pages of. */
static bool is_memory_file(int fd)
{
	struct statfs statfs;

	return !fstatfs(fd, &statfs) &&
	       (statfs.f_type == TMPFS_MAGIC || statfs.f_type == HUGETLBFS_MAGIC);
}

static int map_file(struct uapi_ioas *ioas, const struct uapi_mapping_request *request, int fd)
{
	int error = uvf_map_fd(ioas->space, request->iova, request->size, request->prot, fd,
			       request->source);

	/* Beyond its end, and not opened for it. */
	return error == -EFAULT ? -EINVAL : error == -EACCES ? -EPERM : error;
}

int uapi_ioas_map_file(struct uapi_ioas *ioas, uint64_t iova, uint64_t size, unsigned prot, int fd,
		       uint64_t start)
{
	struct uapi_mapping_request request = {
		.iova = iova, .size = size, .prot = prot, .source = start};
	int error;

	pthread_mutex_lock(&ioas->lock);
	error = uapi_ioas_check_iommufd(ioas, &request);
	if (!error && !is_memory_file(fd))
		error = -EINVAL;
	if (!error)
		error = uvf_injector_map(ioas->injector, iova, size);
	if (!error)
		error = map_file(ioas, &request, fd);
	if (!error)
		error = record_or_take_back(ioas, &request);
	pthread_mutex_unlock(&ioas->lock);
	return error;
}
