/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slots: commands that take time. A slot goes from step to step, each an I/O of its back end, until
 * the command's status is known or it is aborted: between two steps, or while an I/O still waits
 * for its turn. What the storage has been given is waited for.
 */
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <stdlib.h>

/* On the poller's thread, or with its lock held. */
static void count_pending(struct nvme_sq *sq, int by)
{
	if (!sq)
		return;
	sq->pending += (unsigned)by;
	/* Poller 0 completes the deletion. */
	if (sq->deleting && !sq->pending)
		nvme_controller_call(sq->cq->poller->ctrl);
}

/* There is one: no more commands are fetched than there are slots. */
struct nvme_slot *nvme_slot_take(struct nvme_request *request)
{
	struct nvme_poller *poller = request->poller;
	struct nvme_slot *slot = poller->free_slots;

	poller->free_slots = slot->next;
	poller->free_count--;
	slot->sq = request->sq;
	slot->ns = request->ns;
	if (request->sqe)
		slot->sqe = *request->sqe;
	slot->result = 0;
	slot->position = slot->end = 0;
	slot->offset = slot->left = 0;
	slot->started = false;
	slot->pin_count = 0;
	slot->aborted = 0;
	count_pending(slot->sq, 1);
	return slot;
}

static void slot_release(struct nvme_slot *slot)
{
	struct nvme_poller *poller = slot->poller;

	for (unsigned i = 0; i < slot->pin_count; i++)
		uvf_dma_unpin(poller->ctrl->dev, &slot->pins[i]);
	slot->pin_count = 0;
	free(slot->bounce);
	slot->bounce = NULL;
	free(slot->segments);
	slot->segments = NULL;
	slot->step = NULL;
	slot->next = poller->free_slots;
	poller->free_slots = slot;
	poller->free_count++;
	count_pending(slot->sq, -1);
}

static void io_done(struct nvme_io *io, int result);

/* Steps and I/Os by turns, until one is pending or the command is complete. */
static uint16_t slot_run(struct nvme_slot *slot, int result)
{
	for (;;) {
		uint16_t status = slot->step(slot, result);

		if (status != NVME_SUBMIT)
			return status && slot->aborted ? slot->aborted : status;
		slot->started = true;
		/* No step submits more once it was given an error. */
		if (slot->aborted) {
			result = -ECANCELED;
			continue;
		}
		slot->io.done = io_done;
		result = nvme_channel_submit(slot->poller->channels[slot->ns->id - 1], &slot->io);
		if (result == NVME_IO_PENDING)
			return NVME_PENDING;
		if (slot->io.op != NVME_IO_READ && slot->io.op != NVME_IO_FLUSH)
			nvme_storage_written(slot->ns, slot->io.offset, slot->io.size);
	}
}

uint16_t nvme_slot_start(struct nvme_slot *slot, struct nvme_request *request)
{
	uint16_t status = slot_run(slot, 0);

	if (status == NVME_PENDING)
		return status;
	request->result = slot->result;
	slot_release(slot);
	return status;
}

static void run_and_complete(struct nvme_slot *slot, int result)
{
	struct nvme *ctrl = slot->poller->ctrl;
	uint16_t status = slot_run(slot, result);

	if (status == NVME_PENDING)
		return;
	if (!slot->sq) {
		nvme_shutdown_done(ctrl, status);
	} else {
		if (status) {
			nvme_log_error(ctrl, slot->sq, &slot->sqe, status);
			status |= NVME_SC_MORE;
		}
		nvme_cq_add(slot->sq, slot->sqe.cid, status, slot->result);
	}
	slot_release(slot);
}

static void io_done(struct nvme_io *io, int result)
{
	run_and_complete((struct nvme_slot *)(void *)((char *)io - offsetof(struct nvme_slot, io)),
			 result);
}

static bool take_back(struct nvme_slot *slot, uint16_t status)
{
	if (!nvme_channel_cancel(slot->poller->channels[slot->ns->id - 1], &slot->io))
		return false;
	slot->aborted = status;
	run_and_complete(slot, -ECANCELED);
	return true;
}

void nvme_slots_abort(struct nvme_poller *poller, const struct nvme_sq *sq, uint16_t status)
{
	for (unsigned i = 0; i < NVME_SLOTS; i++) {
		struct nvme_slot *slot = &poller->slots[i];

		if (!slot->step || (sq && slot->sq != sq))
			continue;
		/* The flush of a shutdown is nobody's command, and is only let go of unbegun. */
		if (!take_back(slot, status) && slot->sq)
			slot->aborted = status;
	}
}

bool nvme_slot_abort(struct nvme_poller *poller, const struct nvme_sq *sq, uint16_t cid)
{
	for (unsigned i = 0; i < NVME_SLOTS; i++) {
		struct nvme_slot *slot = &poller->slots[i];

		if (slot->step && slot->sq == sq && slot->sqe.cid == cid)
			return take_back(slot, NVME_SC_ABORT_REQUESTED);
	}
	return false;
}
