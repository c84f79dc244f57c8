/* SPDX-License-Identifier: BSD-3-Clause */
/* The other commands of the NVM command set. */
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <stdlib.h>

#define CDW12_DEALLOCATE (1u << 25) /* Write Zeroes: DEAC */
#define CDW12_FUA	 (1u << 30)
#define DSM_DEALLOCATE	 (1u << 2) /* CDW11: AD */

/* The blocks that CDW10..12 name, in bytes. */
static uint16_t range(struct nvme_request *request, uint64_t *lba, uint64_t *blocks)
{
	*lba = nvme_lba(request->sqe);
	*blocks = (le32toh(request->sqe->cdw12) & 0xffff) + 1;
	if (!uvf_range_inside(*lba, *blocks, request->ns->blocks))
		return NVME_SC_LBA_OUT_OF_RANGE | NVME_SC_DNR;
	return 0;
}

static void prepare(struct nvme_slot *slot, enum nvme_io_op op, uint64_t offset, uint64_t size)
{
	slot->io.op = (uint8_t)op;
	slot->io.flags = 0;
	slot->io.offset = offset;
	slot->io.size = size;
	slot->io.iov = slot->iov;
	slot->io.iov_count = 0;
}

/* ---- Flush: of one namespace, or of each from @position to @end ---- */

uint16_t nvme_flush_step(struct nvme_slot *slot, int result)
{
	struct nvme *ctrl = slot->poller->ctrl;

	if (result < 0)
		return nvme_status(result, true);
	while (slot->position < slot->end) {
		slot->ns = &ctrl->namespaces[slot->position++];
		if (!slot->ns->backend->volatile_write_cache)
			continue;
		prepare(slot, NVME_IO_FLUSH, 0, 0);
		return NVME_SUBMIT;
	}
	return 0;
}

uint16_t nvme_io_flush(struct nvme_request *request)
{
	struct nvme_slot *slot;

	if (request->ns && !request->ns->backend->volatile_write_cache)
		return 0;
	slot = nvme_slot_take(request);
	slot->position = request->ns ? request->ns->id - 1 : 0;
	slot->end = request->ns ? request->ns->id : request->ctrl->namespace_count;
	slot->step = nvme_flush_step;
	return nvme_slot_start(slot, request);
}

/* ---- Compare: what is stored is read into a buffer of ours first ---- */

static uint16_t compare(struct nvme *ctrl, const struct nvme_segments *segments,
			const uint8_t *stored)
{
	uint8_t chunk[NVME_PAGE_SIZE];

	for (unsigned i = 0; i < segments->count; i++) {
		uvf_iova_t iova = segments->at[i].iova;
		uint32_t left = segments->at[i].size;

		while (left) {
			uint32_t size = left < sizeof(chunk) ? left : (uint32_t)sizeof(chunk);

			if (uvf_dma_read(ctrl->dev, UVF_PASID_NONE, iova, chunk, size))
				return NVME_SC_DATA_TRANSFER;
			if (memcmp(chunk, stored, size))
				return NVME_SC_COMPARE_FAILURE;
			iova += size;
			stored += size;
			left -= size;
		}
	}
	return 0;
}

static uint16_t compare_step(struct nvme_slot *slot, int result)
{
	if (!slot->started)
		return NVME_SUBMIT;
	if (result < 0)
		return nvme_status(result, false);
	return compare(slot->poller->ctrl, slot->segments, slot->bounce);
}

uint16_t nvme_io_compare(struct nvme_request *request)
{
	struct nvme_segments *segments = &request->poller->segments;
	struct nvme_namespace *ns = request->ns;
	uint64_t lba, blocks, size;
	struct nvme_slot *slot;
	uint16_t status = range(request, &lba, &blocks);

	if (status)
		return status;
	size = blocks << ns->block_shift;
	if (size > (uint64_t)NVME_PAGE_SIZE << request->ctrl->mdts)
		return NVME_INVALID_FIELD;
	status = nvme_map_data(request, size, false, segments);
	if (status)
		return status;
	if (nvme_bad_any(ns, lba, blocks))
		return NVME_SC_UNRECOVERED_READ;
	if (ns->backend->moves_no_data)
		return 0;
	if (ns->backend->bytes)
		return compare(request->ctrl, segments,
			       (const uint8_t *)ns->backend->bytes + (lba << ns->block_shift));
	slot = nvme_slot_take(request);
	slot->bounce = malloc(size);
	slot->segments = malloc(sizeof(*slot->segments));
	slot->step = compare_step;
	if (!slot->bounce || !slot->segments) {
		slot->result = NVME_SC_INTERNAL;
		slot->step = nvme_failed_step;
		return nvme_slot_start(slot, request);
	}
	memcpy(slot->segments, segments, sizeof(*segments));
	prepare(slot, NVME_IO_READ, lba << ns->block_shift, size);
	slot->iov[0] = (struct iovec){.iov_base = slot->bounce, .iov_len = size};
	slot->io.iov_count = 1;
	return nvme_slot_start(slot, request);
}

/* ---- Verify: a read that goes nowhere, in pieces ---- */

static uint16_t verify_step(struct nvme_slot *slot, int result)
{
	uint32_t limit = slot->ns->backend->max_io_size;
	uint64_t size = slot->left;

	if (result < 0)
		return nvme_status(result, false);
	if (!slot->left)
		return 0;
	if (limit > NVME_MAX_TRANSFER)
		limit = NVME_MAX_TRANSFER;
	if (size > limit)
		size = uvf_align_down(limit, NVME_PAGE_SIZE);
	prepare(slot, NVME_IO_READ, slot->offset, size);
	slot->iov[0] = (struct iovec){.iov_base = slot->bounce, .iov_len = size};
	slot->io.iov_count = 1;
	slot->offset += size;
	slot->left -= size;
	return NVME_SUBMIT;
}

uint16_t nvme_io_verify(struct nvme_request *request)
{
	struct nvme_namespace *ns = request->ns;
	struct nvme_slot *slot;
	uint64_t lba, blocks;
	uint16_t status = range(request, &lba, &blocks);

	if (status)
		return status;
	if (nvme_bad_any(ns, lba, blocks))
		return NVME_SC_UNRECOVERED_READ;
	if (ns->backend->moves_no_data || ns->backend->bytes)
		return 0;
	slot = nvme_slot_take(request);
	slot->offset = lba << ns->block_shift;
	slot->left = blocks << ns->block_shift;
	slot->bounce = malloc(slot->left < NVME_MAX_TRANSFER ? slot->left : NVME_MAX_TRANSFER);
	slot->step = slot->bounce ? verify_step : nvme_failed_step;
	if (!slot->bounce)
		slot->result = NVME_SC_INTERNAL;
	return nvme_slot_start(slot, request);
}

/* ---- Write Zeroes, Write Uncorrectable ---- */

static uint16_t zeroes_step(struct nvme_slot *slot, int result)
{
	uint8_t shift = slot->ns->block_shift;

	if (!slot->started)
		return NVME_SUBMIT;
	if (!result && !nvme_bad_clear(slot->ns, slot->offset >> shift, slot->left >> shift))
		return NVME_SC_WRITE_FAULT;
	return nvme_status(result, true);
}

uint16_t nvme_io_write_zeroes(struct nvme_request *request)
{
	uint32_t cdw12 = le32toh(request->sqe->cdw12);
	struct nvme_slot *slot;
	uint64_t lba, blocks;
	uint16_t status = range(request, &lba, &blocks);

	if (status)
		return status;
	slot = nvme_slot_take(request);
	slot->offset = lba << request->ns->block_shift;
	slot->left = blocks << request->ns->block_shift;
	prepare(slot, NVME_IO_WRITE_ZEROES, slot->offset, slot->left);
	if (cdw12 & CDW12_DEALLOCATE)
		slot->io.flags |= NVME_IO_UNMAP;
	if (cdw12 & CDW12_FUA || !atomic_load(&request->ctrl->features.write_cache))
		slot->io.flags |= NVME_IO_FUA;
	slot->step = zeroes_step;
	return nvme_slot_start(slot, request);
}

uint16_t nvme_io_write_uncorrectable(struct nvme_request *request)
{
	uint64_t lba, blocks;
	uint16_t status = range(request, &lba, &blocks);

	if (!status && !nvme_bad_add(request->ns, lba, blocks))
		status = NVME_SC_WRITE_FAULT;
	return status;
}

/* ---- Dataset Management: deallocation; other attributes are hints that change nothing ---- */

static uint16_t dataset_step(struct nvme_slot *slot, int result)
{
	const struct nvme_dsm_range *ranges = (const void *)slot->bounce;
	struct nvme_namespace *ns = slot->ns;

	if (result < 0)
		return nvme_status(result, true);
	while (slot->position < slot->end) {
		const struct nvme_dsm_range *at = &ranges[slot->position++];
		uint64_t blocks = le32toh(at->blocks);

		if (!blocks)
			continue;
		nvme_bad_clear(ns, le64toh(at->lba), blocks);
		prepare(slot, NVME_IO_DISCARD, le64toh(at->lba) << ns->block_shift,
			blocks << ns->block_shift);
		return NVME_SUBMIT;
	}
	return 0;
}

uint16_t nvme_io_dataset(struct nvme_request *request)
{
	uint32_t count = (le32toh(request->sqe->cdw10) & 0xff) + 1;
	uint32_t size = count * (uint32_t)sizeof(struct nvme_dsm_range);
	struct nvme_dsm_range ranges[256];
	struct nvme_slot *slot;
	uint16_t status;

	if (!request->ctrl->any_discard)
		return NVME_SC_INVALID_OPCODE | NVME_SC_DNR;
	status = nvme_data_in(request, ranges, size);
	if (status || !(le32toh(request->sqe->cdw11) & DSM_DEALLOCATE))
		return status;
	for (uint32_t i = 0; i < count; i++)
		if (!uvf_range_inside(le64toh(ranges[i].lba), le32toh(ranges[i].blocks),
				      request->ns->blocks))
			return NVME_SC_LBA_OUT_OF_RANGE | NVME_SC_DNR;
	slot = nvme_slot_take(request);
	slot->end = count;
	slot->bounce = malloc(size);
	slot->step = slot->bounce ? dataset_step : nvme_failed_step;
	if (slot->bounce)
		memcpy(slot->bounce, ranges, size);
	else
		slot->result = NVME_SC_INTERNAL;
	return nvme_slot_start(slot, request);
}
