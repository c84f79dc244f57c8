/* SPDX-License-Identifier: BSD-3-Clause */
/* Read and Write: straight to memory, nowhere, or through the back end's channel. */
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <stdlib.h>

#define RW_FUA (1u << 30) /* CDW12 */

static void count(_Atomic uint64_t *counter, uint64_t by)
{
	/* One writer: no need for an atomic addition. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* Pins what the segments name. -EOPNOTSUPP: it has to go through a bounce buffer. */
static int pin_segments(struct nvme_slot *slot, const struct nvme_segments *segments, bool write)
{
	struct uvf_device *dev = slot->poller->ctrl->dev;
	uint32_t max = slot->ns->backend->max_iovecs;
	int used = 0, ret = 0;

	if (max > NVME_MAX_SEGMENTS)
		max = NVME_MAX_SEGMENTS;
	for (unsigned i = 0; i < segments->count; i++) {
		const struct nvme_segment *segment = &segments->at[i];

		ret = -EOPNOTSUPP;
		if (segment->bucket || used >= (int)max)
			break;
		ret = uvf_dma_pin(dev, UVF_PASID_NONE, segment->iova, segment->size,
				  write ? UVF_PROT_READ : UVF_PROT_WRITE,
				  &slot->pins[slot->pin_count], &slot->iov[used], (int)max - used);
		if (ret < 0)
			break;
		slot->pin_count++;
		used += ret;
	}
	if (ret >= 0) {
		slot->io.iov_count = used;
		return 0;
	}
	while (slot->pin_count)
		uvf_dma_unpin(dev, &slot->pins[--slot->pin_count]);
	return ret == -ENOBUFS ? -EOPNOTSUPP : ret;
}

/* Memory that isn't mapped here, or in too many pieces. */
static int use_bounce(struct nvme_slot *slot, const struct nvme_segments *segments, uint64_t size,
		      bool write)
{
	slot->bounce = malloc(size);
	if (!slot->bounce)
		return -ENOMEM;
	slot->iov[0] = (struct iovec){.iov_base = slot->bounce, .iov_len = size};
	slot->io.iov_count = 1;
	if (write)
		return nvme_segments_read(slot->poller->ctrl, segments, slot->bounce);
	slot->segments = malloc(sizeof(*slot->segments));
	if (!slot->segments)
		return -ENOMEM;
	memcpy(slot->segments, segments, sizeof(*segments));
	return 0;
}

static uint16_t rw_step(struct nvme_slot *slot, int result)
{
	bool write = slot->io.op == NVME_IO_WRITE;

	if (!slot->started)
		return NVME_SUBMIT;
	if (result < 0) {
		uint16_t status = nvme_status(result, write);

		if (status >> 8 == 2)
			count(&slot->poller->counters.media_errors, 1);
		return status;
	}
	if (write && !nvme_bad_clear(slot->ns, slot->offset >> slot->ns->block_shift,
				     slot->left >> slot->ns->block_shift))
		return NVME_SC_WRITE_FAULT;
	if (slot->segments && nvme_segments_write(slot->poller->ctrl, slot->segments, slot->bounce))
		return NVME_SC_DATA_TRANSFER;
	return 0;
}

static uint16_t rw_slowly(struct nvme_request *request, const struct nvme_segments *segments,
			  uint64_t offset, uint64_t size, bool write)
{
	struct nvme_slot *slot = nvme_slot_take(request);
	bool through = le32toh(request->sqe->cdw12) & RW_FUA ||
		       !atomic_load(&request->ctrl->features.write_cache);
	int ret = pin_segments(slot, segments, write);

	if (ret == -EOPNOTSUPP)
		ret = use_bounce(slot, segments, size, write);
	slot->io.op = write ? NVME_IO_WRITE : NVME_IO_READ;
	slot->io.flags = write && through ? NVME_IO_FUA : 0;
	slot->io.offset = slot->offset = offset;
	slot->io.size = slot->left = size;
	slot->io.iov = slot->iov;
	slot->step = ret ? nvme_failed_step : rw_step;
	if (ret)
		slot->result = ret == -ENOMEM ? NVME_SC_INTERNAL : NVME_SC_DATA_TRANSFER;
	return nvme_slot_start(slot, request);
}

/* For a slot that has nothing more to do: its status is in @result. */
uint16_t nvme_failed_step(struct nvme_slot *slot, int result)
{
	uint16_t status = (uint16_t)slot->result;

	slot->result = 0;
	return status;
}

/* Between the driver's memory and storage that is memory. */
static int move(struct nvme_request *request, const struct nvme_segments *segments, uint64_t offset,
		uint64_t size, bool write)
{
	uint8_t *stored = (uint8_t *)request->ns->backend->bytes + offset;

	int ret;

	if (!write)
		return nvme_segments_write(request->ctrl, segments, stored);
	ret = nvme_segments_read(request->ctrl, segments, stored);
	nvme_storage_written(request->ns, offset, size);
	return ret;
}

uint16_t nvme_io_rw(struct nvme_request *request)
{
	const struct nvme_sqe *sqe = request->sqe;
	struct nvme_namespace *ns = request->ns;
	struct nvme_backend *backend = ns->backend;
	struct nvme_segments *segments = &request->poller->segments;
	struct nvme_counters *counters = &request->poller->counters;
	bool write = sqe->opcode == NVME_CMD_WRITE;
	uint64_t lba = nvme_lba(sqe);
	uint64_t blocks = (le32toh(sqe->cdw12) & 0xffff) + 1;
	uint64_t size = blocks << ns->block_shift;
	uint16_t status;
	int ret;

	if (size > (uint64_t)NVME_PAGE_SIZE << request->ctrl->mdts)
		return NVME_INVALID_FIELD;
	if (!uvf_range_inside(lba, blocks, ns->blocks))
		return NVME_SC_LBA_OUT_OF_RANGE | NVME_SC_DNR;
	status = nvme_map_data(request, size, !write, segments);
	if (status)
		return status;
	if (write) {
		count(&counters->writes, 1);
		count(&counters->written_blocks, size >> 9);
	} else {
		if (nvme_bad_any(ns, lba, blocks)) {
			count(&counters->media_errors, 1);
			return NVME_SC_UNRECOVERED_READ;
		}
		count(&counters->reads, 1);
		count(&counters->read_blocks, size >> 9);
	}
	if (!backend->bytes && !backend->moves_no_data)
		return rw_slowly(request, segments, lba << ns->block_shift, size, write);
	ret = backend->moves_no_data ? 0
				     : move(request, segments, lba << ns->block_shift, size, write);
	if (ret)
		return NVME_SC_DATA_TRANSFER;
	/* Blocks are readable again only when they have been written. */
	return write && !nvme_bad_clear(ns, lba, blocks) ? NVME_SC_WRITE_FAULT : 0;
}
