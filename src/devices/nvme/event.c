/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asynchronous events. One that was reported masks its type until the driver reads the log that
 * belongs to it.
 */
#include "devices/nvme/nvme.h"

void nvme_event(struct nvme *ctrl, uint8_t type, uint8_t info, uint8_t log)
{
	struct nvme_events *events = &ctrl->events;

	pthread_mutex_lock(&ctrl->event_lock);
	if (!events->types[type].pending) {
		events->types[type].pending = true;
		events->types[type].info = info;
		events->types[type].log = log;
	}
	pthread_mutex_unlock(&ctrl->event_lock);
	atomic_store(&ctrl->work, true);
	nvme_poller_wake(&ctrl->pollers[0]);
}

void nvme_events_deliver(struct nvme *ctrl)
{
	struct nvme_events *events = &ctrl->events;
	struct nvme_sq *sq = &ctrl->sqs[0];
	struct nvme_poller *poller = &ctrl->pollers[0];
	uint32_t room = nvme_cq_room(poller, sq->cq);

	poller->events_blocked = false;
	pthread_mutex_lock(&ctrl->event_lock);
	for (unsigned type = 0; type < UVF_ARRAY_SIZE(events->types); type++) {
		uint32_t result;

		if (!events->types[type].pending || events->masked >> type & 1)
			continue;
		if (!events->cid_count)
			break;
		if (!room) {
			poller->events_blocked = poller->retry = true;
			break;
		}
		room--;
		events->types[type].pending = false;
		events->masked |= (uint8_t)(1u << type);
		result = type | (uint32_t)events->types[type].info << 8 |
			 (uint32_t)events->types[type].log << 16;
		sq->cq->outstanding++;
		nvme_cq_add(sq, events->cids[--events->cid_count], 0, result);
	}
	pthread_mutex_unlock(&ctrl->event_lock);
}

uint16_t nvme_admin_async_event(struct nvme_request *request)
{
	struct nvme *ctrl = request->ctrl;
	struct nvme_events *events = &ctrl->events;
	uint16_t status = NVME_NO_CQE;

	pthread_mutex_lock(&ctrl->event_lock);
	if (events->cid_count == NVME_AERS)
		status = NVME_SC_ASYNC_EVENT_LIMIT | NVME_SC_DNR;
	else
		events->cids[events->cid_count++] = request->sqe->cid;
	pthread_mutex_unlock(&ctrl->event_lock);
	atomic_store(&ctrl->work, true);
	return status;
}

void nvme_events_log_read(struct nvme *ctrl, uint8_t log)
{
	struct nvme_events *events = &ctrl->events;

	pthread_mutex_lock(&ctrl->event_lock);
	for (unsigned type = 0; type < UVF_ARRAY_SIZE(events->types); type++)
		if (events->types[type].log == log)
			events->masked &= (uint8_t) ~(1u << type);
	pthread_mutex_unlock(&ctrl->event_lock);
	atomic_store(&ctrl->work, true);
}

bool nvme_events_abort(struct nvme *ctrl, uint16_t cid)
{
	struct nvme_events *events = &ctrl->events;
	struct nvme_cq *cq = &ctrl->cqs[0];
	bool found = false;
	/* For this completion; the one of Abort has its place already. */
	uint32_t room = nvme_cq_room(cq->poller, cq);

	pthread_mutex_lock(&ctrl->event_lock);
	for (unsigned i = 0; room && i < events->cid_count && !found; i++) {
		if (events->cids[i] != cid)
			continue;
		events->cids[i] = events->cids[--events->cid_count];
		cq->outstanding++;
		nvme_cq_add(&ctrl->sqs[0], cid, NVME_SC_ABORT_REQUESTED, 0);
		found = true;
	}
	pthread_mutex_unlock(&ctrl->event_lock);
	return found;
}

void nvme_events_reset(struct nvme *ctrl)
{
	pthread_mutex_lock(&ctrl->event_lock);
	memset(&ctrl->events, 0, sizeof(ctrl->events));
	pthread_mutex_unlock(&ctrl->event_lock);
}
