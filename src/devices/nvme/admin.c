/* SPDX-License-Identifier: BSD-3-Clause */
/* Admin commands that change things: queues, abort, doorbell buffers, format. On poller 0. */
#include "devices/nvme/nvme.h"

#include <errno.h>

#define QUEUE_CONTIGUOUS (1u << 0)
#define CQ_INTERRUPTS	 (1u << 1)

static uint32_t cc(struct nvme *ctrl)
{
	uint32_t value;

	pthread_mutex_lock(&ctrl->state_lock);
	value = ctrl->registers.cc;
	pthread_mutex_unlock(&ctrl->state_lock);
	return value;
}

static uint16_t check_create(struct nvme_request *request, bool exists)
{
	uint32_t cdw10 = le32toh(request->sqe->cdw10);
	uint16_t id = (uint16_t)cdw10;

	if (!id || id > request->ctrl->queues || exists)
		return NVME_SC_INVALID_QUEUE_ID | NVME_SC_DNR;
	if (!(cdw10 >> 16))
		return NVME_SC_INVALID_QUEUE_SIZE | NVME_SC_DNR;
	/* CAP.CQR. */
	if (!(le32toh(request->sqe->cdw11) & QUEUE_CONTIGUOUS))
		return NVME_INVALID_FIELD;
	if (le64toh(request->sqe->prp1) & (NVME_PAGE_SIZE - 1))
		return NVME_SC_PRP_OFFSET | NVME_SC_DNR;
	return 0;
}

static uint16_t create_cq(struct nvme_request *request)
{
	struct nvme *ctrl = request->ctrl;
	const struct nvme_sqe *sqe = request->sqe;
	uint16_t id = (uint16_t)le32toh(sqe->cdw10);
	uint32_t size = (le32toh(sqe->cdw10) >> 16) + 1, cdw11 = le32toh(sqe->cdw11);
	uint16_t status = check_create(request, id < NVME_QUEUES && ctrl->cqs[id].state.size);
	struct nvme_poller *poller;
	struct nvme_cq *cq;
	int ret;

	if (status)
		return status;
	if (NVME_CC_IOCQES(cc(ctrl)) != NVME_CQES)
		return NVME_INVALID_FIELD;
	if (cdw11 >> 16 > NVME_MAX_QUEUES)
		return NVME_SC_INVALID_VECTOR | NVME_SC_DNR;
	cq = &ctrl->cqs[id];
	poller = nvme_poller_of(ctrl, id);
	nvme_poller_enter(poller);
	cq->ring = (struct nvme_ring){
		.iova = le64toh(sqe->prp1), .size = size << NVME_CQES, .prot = UVF_PROT_WRITE};
	ret = nvme_ring_pin(ctrl, &cq->ring);
	if (!ret)
		nvme_cq_start(ctrl, id, size, cdw11 & CQ_INTERRUPTS, (uint16_t)(cdw11 >> 16));
	nvme_poller_leave(poller);
	return ret ? NVME_SC_DATA_TRANSFER : 0;
}

static uint16_t create_sq(struct nvme_request *request)
{
	struct nvme *ctrl = request->ctrl;
	const struct nvme_sqe *sqe = request->sqe;
	uint16_t id = (uint16_t)le32toh(sqe->cdw10);
	uint16_t cq_id = (uint16_t)(le32toh(sqe->cdw11) >> 16);
	uint32_t size = (le32toh(sqe->cdw10) >> 16) + 1;
	uint16_t status = check_create(request, id < NVME_QUEUES && ctrl->sqs[id].state.size);
	struct nvme_cq *cq;
	struct nvme_sq *sq;
	int ret;

	if (status)
		return status;
	if (!cq_id || cq_id > ctrl->queues)
		return NVME_SC_INVALID_QUEUE_ID | NVME_SC_DNR;
	if (!ctrl->cqs[cq_id].state.size)
		return NVME_SC_CQ_INVALID | NVME_SC_DNR;
	if (NVME_CC_IOSQES(cc(ctrl)) != NVME_SQES)
		return NVME_INVALID_FIELD;
	cq = &ctrl->cqs[cq_id];
	sq = &ctrl->sqs[id];
	nvme_poller_enter(cq->poller);
	sq->ring = (struct nvme_ring){
		.iova = le64toh(sqe->prp1), .size = size << NVME_SQES, .prot = UVF_PROT_READ};
	ret = nvme_ring_pin(ctrl, &sq->ring);
	if (!ret)
		nvme_sq_start(ctrl, id, cq, size);
	nvme_poller_leave(cq->poller);
	return ret ? NVME_SC_DATA_TRANSFER : 0;
}

/* False: the storage still has commands of it. */
static bool delete_finish(struct nvme *ctrl, struct nvme_sq *sq)
{
	struct nvme_poller *poller = sq->cq->poller;
	bool done;

	nvme_poller_enter(poller);
	done = !sq->pending;
	if (done) {
		sq->deleting = false;
		nvme_cq_flush_all(poller);
		nvme_sq_stop(ctrl, sq);
		ctrl->deleting--;
	}
	nvme_poller_leave(poller);
	return done;
}

void nvme_deletions_finish(struct nvme *ctrl)
{
	for (unsigned id = 1; ctrl->deleting && id < NVME_QUEUES; id++) {
		struct nvme_sq *sq = &ctrl->sqs[id];

		if (sq->deleting && delete_finish(ctrl, sq))
			nvme_cq_add(&ctrl->sqs[0], sq->delete_cid, 0, 0);
	}
}

/* What wasn't fetched is gone, what waits is aborted, what the storage has completes first. */
static uint16_t delete_sq(struct nvme_request *request)
{
	struct nvme *ctrl = request->ctrl;
	uint16_t id = (uint16_t)le32toh(request->sqe->cdw10);
	struct nvme_poller *poller;
	struct nvme_sq *sq;

	if (!id || id >= NVME_QUEUES || !ctrl->sqs[id].state.size || ctrl->sqs[id].deleting)
		return NVME_SC_INVALID_QUEUE_ID | NVME_SC_DNR;
	sq = &ctrl->sqs[id];
	poller = sq->cq->poller;
	nvme_poller_enter(poller);
	sq->deleting = true;
	sq->delete_cid = request->sqe->cid;
	atomic_store(&sq->limit, 0);
	ctrl->deleting++;
	nvme_slots_abort(poller, sq, NVME_SC_SQ_DELETED);
	nvme_poller_leave(poller);
	return delete_finish(ctrl, sq) ? 0 : NVME_PENDING;
}

static uint16_t delete_cq(struct nvme_request *request)
{
	struct nvme *ctrl = request->ctrl;
	uint16_t id = (uint16_t)le32toh(request->sqe->cdw10);
	struct nvme_poller *poller;

	if (!id || id >= NVME_QUEUES || !ctrl->cqs[id].state.size)
		return NVME_SC_INVALID_QUEUE_ID | NVME_SC_DNR;
	if (ctrl->cqs[id].sq_count)
		return NVME_SC_INVALID_QUEUE_DELETION | NVME_SC_DNR;
	poller = ctrl->cqs[id].poller;
	nvme_poller_enter(poller);
	nvme_cq_stop(ctrl, &ctrl->cqs[id]);
	nvme_poller_leave(poller);
	return 0;
}

static uint16_t abort_command(struct nvme_request *request)
{
	struct nvme *ctrl = request->ctrl;
	uint32_t cdw10 = le32toh(request->sqe->cdw10);
	uint16_t id = (uint16_t)cdw10, cid = htole16((uint16_t)(cdw10 >> 16));
	bool done = false;

	if (!id) {
		done = nvme_events_abort(ctrl, cid);
	} else if (id < NVME_QUEUES && ctrl->sqs[id].state.size) {
		struct nvme_poller *poller = ctrl->sqs[id].cq->poller;

		nvme_poller_enter(poller);
		done = nvme_slot_abort(poller, &ctrl->sqs[id], cid);
		nvme_poller_leave(poller);
	}
	request->result = done ? 0 : 1;
	return 0;
}

static uint16_t doorbell_buffer(struct nvme_request *request)
{
	struct nvme *ctrl = request->ctrl;
	uint64_t shadow = le64toh(request->sqe->prp1), event = le64toh(request->sqe->prp2);
	int ret = 0;

	if (!shadow || !event || (shadow | event) & (NVME_PAGE_SIZE - 1))
		return NVME_INVALID_FIELD;
	atomic_store(&ctrl->shadowed, false);
	for (unsigned i = 0; i < ctrl->poller_count && !ret; i++) {
		struct nvme_poller *poller = &ctrl->pollers[i];

		nvme_poller_enter(poller);
		nvme_ring_unpin(ctrl, &poller->shadow);
		nvme_ring_unpin(ctrl, &poller->event);
		poller->shadow = (struct nvme_ring){
			.iova = shadow, .size = NVME_PAGE_SIZE, .prot = UVF_PROT_READ};
		poller->event = (struct nvme_ring){
			.iova = event, .size = NVME_PAGE_SIZE, .prot = UVF_PROT_WRITE};
		ret = nvme_ring_pin(ctrl, &poller->shadow);
		if (!ret)
			ret = nvme_ring_pin(ctrl, &poller->event);
		nvme_poller_leave(poller);
	}
	if (ret)
		return NVME_SC_DATA_TRANSFER;
	atomic_store(&ctrl->shadowed, true);
	for (unsigned i = 0; i < ctrl->poller_count; i++)
		nvme_poller_wake(&ctrl->pollers[i]);
	return 0;
}

/* ---- Format: from @position to @end, all data gone, blocks of another size ---- */

static void format_begin(struct nvme_slot *slot)
{
	struct nvme_namespace *ns = &slot->poller->ctrl->namespaces[slot->position++];

	slot->ns = ns;
	slot->io.op = NVME_IO_WRITE_ZEROES;
	slot->io.flags = NVME_IO_UNMAP;
	slot->io.offset = 0;
	slot->io.size = ns->backend->size;
	slot->io.iov_count = 0;
}

static void format_end(struct nvme *ctrl, struct nvme_namespace *ns, uint8_t block_shift, bool done)
{
	for (unsigned i = 0; i < ctrl->poller_count; i++)
		nvme_poller_enter(&ctrl->pollers[i]);
	if (done) {
		ns->block_shift = block_shift;
		ns->blocks = ns->backend->size >> block_shift;
		pthread_mutex_lock(&ns->bad_lock);
		atomic_store(&ns->bad_count, 0);
		pthread_mutex_unlock(&ns->bad_lock);
	}
	atomic_store(&ns->formatting, false);
	for (unsigned i = 0; i < ctrl->poller_count; i++)
		nvme_poller_leave(&ctrl->pollers[i]);
}

static uint16_t format_step(struct nvme_slot *slot, int result)
{
	struct nvme *ctrl = slot->poller->ctrl;
	uint8_t block_shift = le32toh(slot->sqe.cdw10) & 15 ? 12 : 9;

	if (slot->started)
		format_end(ctrl, slot->ns, block_shift, result >= 0);
	if (result >= 0 && slot->position < slot->end) {
		format_begin(slot);
		return NVME_SUBMIT;
	}
	while (slot->position < slot->end)
		atomic_store(&ctrl->namespaces[slot->position++].formatting, false);
	return nvme_status(result, true);
}

static uint16_t format(struct nvme_request *request)
{
	struct nvme *ctrl = request->ctrl;
	uint32_t cdw10 = le32toh(request->sqe->cdw10);
	uint32_t first = request->ns ? request->ns->id - 1 : 0;
	uint32_t end = request->ns ? request->ns->id : ctrl->namespace_count;
	struct nvme_slot *slot;

	/* No metadata, no protection information; cryptographic erase is not offered. */
	if (cdw10 >> 9 & 7 && (cdw10 >> 9 & 7) != 1)
		return NVME_INVALID_FIELD;
	if ((cdw10 & 15) > 1 || cdw10 >> 5 & 7)
		return NVME_SC_INVALID_FORMAT | NVME_SC_DNR;
	for (uint32_t i = first; i < end; i++) {
		struct nvme_backend *backend = ctrl->namespaces[i].backend;

		if (backend->read_only)
			return NVME_SC_WRITE_PROTECTED | NVME_SC_DNR;
		if (atomic_load(&ctrl->namespaces[i].formatting))
			return NVME_SC_FORMAT_IN_PROGRESS;
		/* Larger blocks always fit; smaller ones where the storage takes them. */
		if (backend->block_size > (cdw10 & 15 ? 4096u : 512u) || backend->size < 4096)
			return NVME_SC_INVALID_FORMAT | NVME_SC_DNR;
	}
	for (uint32_t i = first; i < end; i++)
		atomic_store(&ctrl->namespaces[i].formatting, true);
	/* No command that was checked before is in progress afterwards. */
	for (unsigned i = 1; i < ctrl->poller_count; i++) {
		nvme_poller_quiesce(&ctrl->pollers[i]);
		nvme_poller_release(&ctrl->pollers[i]);
	}
	nvme_poller_quiesce(&ctrl->pollers[0]);
	slot = nvme_slot_take(request);
	slot->position = first;
	slot->end = end;
	slot->step = format_step;
	return nvme_slot_start(slot, request);
}

const struct nvme_command nvme_admin_commands[256] = {
	[NVME_ADM_DELETE_SQ] = {delete_sq, .effects = 0x1},
	[NVME_ADM_CREATE_SQ] = {create_sq, .effects = 0x1},
	[NVME_ADM_GET_LOG_PAGE] = {nvme_admin_get_log, .effects = 0x1},
	[NVME_ADM_DELETE_CQ] = {delete_cq, .effects = 0x1},
	[NVME_ADM_CREATE_CQ] = {create_cq, .effects = 0x1},
	[NVME_ADM_IDENTIFY] = {nvme_admin_identify, .effects = 0x1},
	[NVME_ADM_ABORT] = {abort_command, .effects = 0x1},
	[NVME_ADM_SET_FEATURES] = {nvme_admin_set_features, .effects = 0x1},
	[NVME_ADM_GET_FEATURES] = {nvme_admin_get_features, .effects = 0x1},
	[NVME_ADM_ASYNC_EVENT] = {nvme_admin_async_event, .effects = 0x1},
	[NVME_ADM_DOORBELL_BUFFER] = {doorbell_buffer, .effects = 0x1},
	/* Contents and capabilities change; exclusive in its namespace. */
	[NVME_ADM_FORMAT] = {format, NVME_NSID_ONE_OR_ALL, .effects = 0x10007},
};
