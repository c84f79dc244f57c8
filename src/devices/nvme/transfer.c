/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a command's data is: PRPs and SGLs become segments, checked; bytes moved by them. */
#include "devices/nvme/nvme.h"

#include <errno.h>

#define MAX_SGL_SEGMENTS 64
/* Of one command. Those that describe nothing would otherwise cost nothing but our time. */
#define MAX_SGL_DESCRIPTORS (1u << 16)
#define SGL_CHUNK	    32 /* descriptors read at once */

static bool add(struct nvme_segments *segments, uvf_iova_t iova, uint32_t size, bool bucket)
{
	struct nvme_segment *last = &segments->at[segments->count];

	if (segments->count && last[-1].bucket == bucket &&
	    (bucket || (last[-1].iova + last[-1].size == iova && iova))) {
		last[-1].size += size;
		return true;
	}
	if (segments->count == NVME_MAX_SEGMENTS)
		return false;
	*last = (struct nvme_segment){.iova = iova, .size = size, .bucket = bucket};
	segments->count++;
	return true;
}

/* @list points to entries; the last of a page points to the next page if more are needed. */
static uint16_t map_prp_list(struct nvme *ctrl, uvf_iova_t list, uint64_t left,
			     struct nvme_segments *segments)
{
	uint64_t entries[NVME_PAGE_SIZE / 8];

	if (list & 7)
		return NVME_SC_PRP_OFFSET | NVME_SC_DNR;
	while (left) {
		uint64_t needed = (left + NVME_PAGE_SIZE - 1) >> NVME_PAGE_SHIFT;
		uint64_t here = (NVME_PAGE_SIZE - (list & (NVME_PAGE_SIZE - 1))) / 8;
		bool more = needed > here;
		uint64_t count = more ? here : needed;

		if (uvf_dma_read(ctrl->dev, UVF_PASID_NONE, list, entries, count * 8))
			return NVME_SC_DATA_TRANSFER;
		if (more)
			count--;
		for (uint64_t i = 0; i < count; i++) {
			uint64_t page = le64toh(entries[i]);
			uint32_t size = left < NVME_PAGE_SIZE ? (uint32_t)left : NVME_PAGE_SIZE;

			if (page & (NVME_PAGE_SIZE - 1))
				return NVME_SC_PRP_OFFSET | NVME_SC_DNR;
			add(segments, page, size, false);
			left -= size;
		}
		if (more) {
			list = le64toh(entries[count]);
			if (list & (NVME_PAGE_SIZE - 1))
				return NVME_SC_PRP_OFFSET | NVME_SC_DNR;
		}
	}
	return 0;
}

static uint16_t map_prp(struct nvme *ctrl, const struct nvme_sqe *sqe, uint64_t size,
			struct nvme_segments *segments)
{
	uint64_t prp1 = le64toh(sqe->prp1), prp2 = le64toh(sqe->prp2);
	uint64_t first = NVME_PAGE_SIZE - (prp1 & (NVME_PAGE_SIZE - 1));

	if (prp1 & 3)
		return NVME_SC_PRP_OFFSET | NVME_SC_DNR;
	if (size <= first) {
		add(segments, prp1, (uint32_t)size, false);
		return 0;
	}
	add(segments, prp1, (uint32_t)first, false);
	size -= first;
	if (size > NVME_PAGE_SIZE)
		return map_prp_list(ctrl, prp2, size, segments);
	if (prp2 & (NVME_PAGE_SIZE - 1))
		return NVME_SC_PRP_OFFSET | NVME_SC_DNR;
	add(segments, prp2, (uint32_t)size, false);
	return 0;
}

/* Walks a chain of SGL segments. */
struct sgl_walk {
	struct nvme *ctrl;
	struct nvme_segments *segments;
	uint64_t left; /* of the command's data */
	bool to_driver;
	/* The next segment. */
	uvf_iova_t iova;
	uint32_t length;
	bool last;
	unsigned segments_seen, descriptors_seen;
};

static uint16_t sgl_enter(struct sgl_walk *walk, const struct nvme_sgl *descriptor)
{
	walk->iova = le64toh(descriptor->address);
	walk->length = le32toh(descriptor->length);
	walk->last = descriptor->type >> 4 == NVME_SGL_LAST_SEGMENT;
	if (!walk->length || walk->length % sizeof(*descriptor))
		return NVME_SC_INVALID_SGL_SEGMENT | NVME_SC_DNR;
	if (++walk->segments_seen > MAX_SGL_SEGMENTS)
		return NVME_SC_INVALID_SGL_COUNT | NVME_SC_DNR;
	return 0;
}

static uint16_t sgl_data(struct sgl_walk *walk, const struct nvme_sgl *descriptor)
{
	bool bucket = descriptor->type >> 4 == NVME_SGL_BIT_BUCKET;
	uint32_t length = le32toh(descriptor->length);

	/* A bit bucket where the driver is the source holds nothing. */
	if (bucket && !walk->to_driver)
		return 0;
	if (length > walk->left)
		length = (uint32_t)walk->left;
	if (length &&
	    !add(walk->segments, bucket ? 0 : le64toh(descriptor->address), length, bucket))
		return NVME_SC_INVALID_SGL_COUNT | NVME_SC_DNR;
	walk->left -= length;
	return 0;
}

static bool is_data(const struct nvme_sgl *descriptor)
{
	return descriptor->type >> 4 <= NVME_SGL_BIT_BUCKET;
}

static bool is_segment(const struct nvme_sgl *descriptor)
{
	uint8_t type = descriptor->type >> 4;

	return type == NVME_SGL_SEGMENT || type == NVME_SGL_LAST_SEGMENT;
}

/* One segment's descriptors. Sets *@ended, or enters the segment that its last one names. */
static uint16_t sgl_segment(struct sgl_walk *walk, bool *ended)
{
	uint32_t count = walk->length / (uint32_t)sizeof(struct nvme_sgl);
	uvf_iova_t iova = walk->iova;
	bool last = walk->last;

	*ended = true;
	while (count && walk->left) {
		struct nvme_sgl chunk[SGL_CHUNK];
		uint32_t here = count < SGL_CHUNK ? count : SGL_CHUNK;

		walk->descriptors_seen += here;
		if (walk->descriptors_seen > MAX_SGL_DESCRIPTORS)
			return NVME_SC_INVALID_SGL_COUNT | NVME_SC_DNR;
		if (uvf_dma_read(walk->ctrl->dev, UVF_PASID_NONE, iova, chunk,
				 here * sizeof(chunk[0])))
			return NVME_SC_DATA_TRANSFER;
		count -= here;
		iova += here * sizeof(chunk[0]);
		for (uint32_t i = 0; i < here && walk->left; i++) {
			uint16_t status;

			if (chunk[i].type & 15 || (!is_data(&chunk[i]) && !is_segment(&chunk[i])))
				return NVME_SC_SGL_TYPE | NVME_SC_DNR;
			if (is_segment(&chunk[i])) {
				if (last || count || i + 1 < here)
					return NVME_SC_INVALID_SGL_SEGMENT | NVME_SC_DNR;
				*ended = false;
				return sgl_enter(walk, &chunk[i]);
			}
			status = sgl_data(walk, &chunk[i]);
			if (status)
				return status;
		}
	}
	/* A segment that isn't the last has to name the next. */
	return walk->left && !last ? NVME_SC_INVALID_SGL_SEGMENT | NVME_SC_DNR : 0;
}

static uint16_t map_sgl(struct nvme_request *request, uint64_t size, bool to_driver,
			struct nvme_segments *segments)
{
	const struct nvme_sgl *first = &request->sqe->sgl;
	struct sgl_walk walk = {
		.ctrl = request->ctrl, .segments = segments, .left = size, .to_driver = to_driver};
	bool ended = false;
	uint16_t status;

	if (first->type & 15 || (!is_data(first) && !is_segment(first)))
		return NVME_SC_SGL_TYPE | NVME_SC_DNR;
	if (is_data(first)) {
		status = sgl_data(&walk, first);
		ended = true;
	} else {
		status = sgl_enter(&walk, first);
	}
	while (!status && !ended)
		status = sgl_segment(&walk, &ended);
	if (!status && walk.left)
		status = NVME_SC_DATA_SGL_LENGTH | NVME_SC_DNR;
	return status;
}

uint16_t nvme_map_data(struct nvme_request *request, uint64_t size, bool to_driver,
		       struct nvme_segments *segments)
{
	segments->count = 0;
	if (request->sqe->flags >> 6)
		return map_sgl(request, size, to_driver, segments);
	return map_prp(request->ctrl, request->sqe, size, segments);
}

int nvme_segments_write(struct nvme *ctrl, const struct nvme_segments *segments,
			const uint8_t *bytes)
{
	for (unsigned i = 0; i < segments->count; i++) {
		const struct nvme_segment *segment = &segments->at[i];
		int ret = segment->bucket ? 0
					  : uvf_dma_write(ctrl->dev, UVF_PASID_NONE, segment->iova,
							  bytes, segment->size);

		if (ret)
			return ret;
		bytes += segment->size;
	}
	return 0;
}

int nvme_segments_read(struct nvme *ctrl, const struct nvme_segments *segments, uint8_t *bytes)
{
	for (unsigned i = 0; i < segments->count; i++) {
		const struct nvme_segment *segment = &segments->at[i];
		int ret = uvf_dma_read(ctrl->dev, UVF_PASID_NONE, segment->iova, bytes,
				       segment->size);

		if (ret)
			return ret;
		bytes += segment->size;
	}
	return 0;
}

uint16_t nvme_data_out(struct nvme_request *request, const void *bytes, uint32_t size)
{
	struct nvme_segments *segments = &request->poller->segments;
	uint16_t status = nvme_map_data(request, size, true, segments);

	if (!status && nvme_segments_write(request->ctrl, segments, bytes))
		status = NVME_SC_DATA_TRANSFER;
	return status;
}

uint16_t nvme_data_in(struct nvme_request *request, void *bytes, uint32_t size)
{
	struct nvme_segments *segments = &request->poller->segments;
	uint16_t status = nvme_map_data(request, size, false, segments);

	if (!status && nvme_segments_read(request->ctrl, segments, bytes))
		status = NVME_SC_DATA_TRANSFER;
	return status;
}
