/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapping what another mapping is of. The source's memory is looked up first, with its lock alone:
 * each mapping there that the range touches, and the parts that it has. So it doesn't matter
 * whether the two address spaces are one, or are copied both ways at a time.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "frontends/uapi/ioas_private.h"

/* What one mapping of the source contributes. */
struct piece {
	uint64_t size;
	bool writable;
};

struct source {
	uint64_t first, last;
	struct piece *pieces;
	size_t piece_count, piece_room;
	struct uapi_part *parts;
	size_t part_count, part_room;
};

static void *grow(void *array, size_t *room, size_t count, size_t size)
{
	void *larger;

	if (count < *room)
		return array;
	larger = reallocarray(array, *room ? *room * 2 : 8, size);
	if (larger)
		*room = *room ? *room * 2 : 8;
	return larger;
}

static int add_piece(struct source *source, uint64_t size, bool writable)
{
	struct piece *pieces =
		grow(source->pieces, &source->piece_room, source->piece_count, sizeof(*pieces));

	if (!pieces)
		return -ENOMEM;
	source->pieces = pieces;
	pieces[source->piece_count++] = (struct piece){size, writable};
	return 0;
}

static int add_part(void *opaque, const struct uvf_mapping *mapping)
{
	struct source *source = opaque;
	uint64_t first = mapping->first > source->first ? mapping->first : source->first;
	uint64_t last = mapping->last < source->last ? mapping->last : source->last;
	struct uapi_part *parts =
		grow(source->parts, &source->part_room, source->part_count, sizeof(*parts));

	if (!parts)
		return -ENOMEM;
	source->parts = parts;
	parts[source->part_count++] = (struct uapi_part){
		.memory = uvf_memory_get(mapping->memory),
		.fd = -1,
		.offset = mapping->offset + (first - mapping->first),
		.size = last - first + 1,
	};
	return 0;
}

/* With the source's lock. */
static int find_pieces(const struct uapi_ioas *ioas, struct source *source)
{
	uint64_t next = source->first;
	struct uvf_interval interval;

	for (;;) {
		uint64_t last;
		int error;

		if (!uvf_interval_map_next(&ioas->map, next, &interval) || interval.first > next)
			return -ENOENT;
		last = interval.last < source->last ? interval.last : source->last;
		error = add_piece(source, last - next + 1, uapi_mapping_of(&interval)->writable);
		if (error || last == source->last)
			return error;
		next = last + 1;
	}
}

static int look_up(struct uapi_ioas *ioas, struct source *source)
{
	int error;

	pthread_mutex_lock(&ioas->lock);
	error = find_pieces(ioas, source);
	if (!error)
		error = uvf_for_each_mapping_in(ioas->space, source->first, source->last, add_part,
						source);
	pthread_mutex_unlock(&ioas->lock);
	return error;
}

/* With the destination's lock. */
static int check_writable(const struct source *source, unsigned prot)
{
	for (size_t i = 0; i < source->piece_count && prot & UVF_PROT_WRITE; i++)
		if (!source->pieces[i].writable)
			return -EPERM;
	return 0;
}

static int map_parts(struct uapi_ioas *ioas, uint64_t iova, unsigned prot,
		     const struct source *source)
{
	uint64_t done = 0;

	for (size_t i = 0; i < source->part_count; i++) {
		const struct uapi_part *part = &source->parts[i];
		int error = uvf_map(ioas->space, iova + done, part->size, prot, part->memory,
				    part->offset);

		if (error) {
			uapi_ioas_take_back(ioas, iova, done);
			return error;
		}
		done += part->size;
	}
	return 0;
}

/* Each mapping of the source becomes one here. */
static int record(struct uapi_ioas *ioas, const struct uapi_mapping_request *whole,
		  const struct source *source)
{
	struct uapi_mapping_request request = {.iova = whole->iova};
	uint64_t unmapped;

	for (size_t i = 0; i < source->piece_count; i++) {
		int error;

		request.size = source->pieces[i].size;
		request.last = request.iova + (request.size - 1);
		error = uapi_ioas_record(ioas, &request, source->pieces[i].writable);
		if (error) {
			uapi_ioas_take_back(ioas, request.iova, whole->last - request.iova + 1);
			if (request.iova > whole->iova)
				uapi_ioas_unmap_locked(ioas, whole->iova, request.iova - 1,
						       &unmapped);
			return error;
		}
		request.iova = request.last + 1;
	}
	return 0;
}

static int map_source(struct uapi_ioas *ioas, struct uapi_mapping_request *request,
		      const struct source *source)
{
	int error;

	pthread_mutex_lock(&ioas->lock);
	error = uapi_ioas_check_iommufd(ioas, request);
	if (!error)
		error = check_writable(source, request->prot);
	if (!error)
		error = uvf_injector_map(ioas->injector, request->iova, request->size);
	if (!error)
		error = map_parts(ioas, request->iova, request->prot, source);
	if (!error)
		error = record(ioas, request, source);
	pthread_mutex_unlock(&ioas->lock);
	return error;
}

int uapi_ioas_copy(struct uapi_ioas *ioas, uint64_t iova, uint64_t size, unsigned prot,
		   struct uapi_ioas *source, uint64_t source_iova)
{
	struct uapi_mapping_request request = {
		.iova = iova, .size = size, .prot = prot, .source = source_iova};
	struct source found = {.first = source_iova};
	int error;

	if (!uvf_range_last(source_iova, size, &found.last))
		return size ? -EOVERFLOW : -EINVAL;
	error = look_up(source, &found);
	if (!error)
		error = map_source(ioas, &request, &found);
	for (size_t i = 0; i < found.part_count; i++)
		uapi_part_destroy(&found.parts[i]);
	free(found.parts);
	free(found.pieces);
	return error;
}
