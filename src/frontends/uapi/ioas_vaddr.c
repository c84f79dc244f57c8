/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mappings whose memory goes over to another process, or to other addresses of its own: they are
 * invalidated, and later given the new addresses. In between, and if at the new addresses is
 * nothing, they lead where they did: the kernel's pages stay pinned, whatever is there.
 */
#include <errno.h>
#include <stdlib.h>

#include "frontends/uapi/ioas_private.h"

int uapi_ioas_vaddr_invalidate(struct uapi_ioas *ioas, uint64_t first, uint64_t last,
			       uint64_t *size)
{
	struct uvf_interval interval;
	uint64_t next, bytes = 0;
	int error = 0;

	*size = 0;
	pthread_mutex_lock(&ioas->lock);
	for (next = first;
	     uvf_interval_map_next(&ioas->map, next, &interval) && interval.first <= last && !error;
	     next = interval.last + 1) {
		if (uapi_mapping_of(&interval)->vaddr_invalid)
			error = -EINVAL;
		bytes += interval.last - interval.first + 1;
		if (interval.last == UINT64_MAX)
			break;
	}
	for (next = first;
	     !error && uvf_interval_map_next(&ioas->map, next, &interval) && interval.first <= last;
	     next = interval.last + 1) {
		uapi_mapping_of(&interval)->vaddr_invalid = true;
		ioas->invalid++;
		if (interval.last == UINT64_MAX)
			break;
	}
	pthread_mutex_unlock(&ioas->lock);
	if (!error)
		*size = bytes;
	return error;
}

bool uapi_ioas_has_invalid_vaddr(struct uapi_ioas *ioas)
{
	return atomic_load(&ioas->invalid) > 0;
}

/* ---- Replacing ---- */

/* Where the waist has the next part of the mapping, and what that is of. */
struct current {
	uint64_t first, last;
	unsigned prot;
	uint64_t offset;
	struct uvf_memory *memory; /* to compare with; not a reference */
};

static int note_current(void *opaque, const struct uvf_mapping *mapping)
{
	*(struct current *)opaque = (struct current){
		.first = mapping->first,
		.last = mapping->last,
		.prot = mapping->prot,
		.offset = mapping->offset,
		.memory = mapping->memory,
	};
	return 1;
}

/*
 * The memory at @address, in one: the file's if all of it is of one file, else the process's.
 * Errors: -EFAULT (nothing there), -ENOMEM.
 */
static int find_memory(struct uapi_ioas *ioas, struct uapi_call *call, uint64_t address,
		       const struct current *current, struct uapi_part *part)
{
	uint64_t size = current->last - current->first + 1;
	int error = uapi_programs_find(&ioas->programs, call, UAPI_RULES_TYPE1, address, size,
				       current->prot, part);

	if (error)
		return error;
	if (!part->memory && part->fd >= 0 && part->size == size)
		uvf_memory_new_file(part->fd, current->prot | UVF_PROT_READ, &part->memory);
	if (part->memory && part->size == size)
		return 0;
	uapi_part_destroy(part);
	return uapi_programs_find_process(&ioas->programs, call, address, size, current->prot,
					  part);
}

static int replace_part(struct uapi_ioas *ioas, struct uapi_call *call, uint64_t address,
			const struct current *current)
{
	uint64_t size = current->last - current->first + 1;
	struct uapi_part part;
	int error = find_memory(ioas, call, address, current, &part);

	if (error)
		return error == -EFAULT ? 0 : error;
	if (part.memory != current->memory || part.offset != current->offset)
		error = uvf_replace(ioas->space, current->first, size, part.memory, part.offset);
	uapi_part_destroy(&part);
	/* What isn't there, or not for this, stays what it was. */
	return error == -EFAULT || error == -EACCES ? 0 : error;
}

static int replace_parts(struct uapi_ioas *ioas, struct uapi_call *call,
			 const struct uvf_interval *interval, uint64_t vaddr)
{
	uint64_t next = interval->first;
	struct current current;
	int error;

	for (;;) {
		if (!uvf_for_each_mapping_in(ioas->space, next, interval->last, note_current,
					     &current))
			return 0;
		error = replace_part(ioas, call, vaddr + (current.first - interval->first),
				     &current);
		if (error || current.last == interval->last)
			return error;
		next = current.last + 1;
	}
}

int uapi_ioas_vaddr_replace(struct uapi_ioas *ioas, struct uapi_call *call, uint64_t iova,
			    uint64_t size, uint64_t vaddr)
{
	struct uvf_interval interval;
	struct uapi_mapping *mapping;
	uint64_t last = iova + (size - 1), end;
	int error;

	if (!size)
		return -EINVAL;
	if (last < iova || __builtin_add_overflow(vaddr, size - 1, &end))
		return -EOVERFLOW;
	pthread_mutex_lock(&ioas->lock);
	error = -ENOENT;
	if (!uvf_interval_map_next(&ioas->map, iova, &interval) || interval.first > last)
		goto out;
	error = -EINVAL;
	mapping = uapi_mapping_of(&interval);
	if (!mapping->vaddr_invalid || interval.first != iova || interval.last != last)
		goto out;
	error = replace_parts(ioas, call, &interval, vaddr);
	if (error)
		goto out;
	mapping->vaddr_invalid = false;
	ioas->invalid--;
out:
	pthread_mutex_unlock(&ioas->lock);
	return error;
}
