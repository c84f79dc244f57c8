/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doorbells. A queue's is either its register (mapped into the driver, or written by trap; the same
 * array here) or, once doorbell buffers are configured, the shadow in the driver's memory. The
 * admin queue stays with its register: drivers don't keep a shadow of it.
 *
 * doorbells=trapped-while-saving takes the mapped array away while state is saved. Until nobody has
 * it mapped, writes go there, by mapping and by trap. From then on all are traps, which go to an
 * array of our own: what anybody still stored in the old one would be lost, so that a driver or VMM
 * that follows badly is found out. Back again the mapped array gets the values first.
 *
 * EventIdx. The driver rings the register only when its shadow passes EventIdx. While a queue is
 * polled EventIdx is kept behind its head, where a driver never gets. Before the poller sleeps it
 * is set to where the shadow is, and then, after a full barrier, the shadow is read once more: of
 * the driver's (write shadow, read EventIdx) and ours one sees the other's.
 *
 * Values are the driver's: read once, checked, and a wrong one is ignored and reported.
 */
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <stdlib.h>

#define NO_VALUE UINT32_MAX
#define COUNT	 (NVME_DOORBELL_SIZE / sizeof(uint32_t))

static bool uses_shadow(const struct nvme *ctrl, uint16_t queue)
{
	return queue && atomic_load_explicit(&ctrl->shadowed, memory_order_relaxed);
}

/* False: it can't be read now. */
static bool read_doorbell(struct nvme_poller *poller, uint16_t queue, uint32_t number,
			  uint32_t *value)
{
	struct nvme *ctrl = poller->ctrl;

	if (!uses_shadow(ctrl, queue)) {
		_Atomic uint32_t *doorbells =
			atomic_load_explicit(&ctrl->doorbells, memory_order_acquire);

		*value = le32toh(atomic_load_explicit(&doorbells[number], memory_order_acquire));
		return true;
	}
	if (!nvme_ring_ready(poller, &poller->shadow, "a doorbell buffer") ||
	    nvme_ring_read(ctrl, &poller->shadow, number * 4, value, sizeof(*value)))
		return false;
	atomic_thread_fence(memory_order_acquire);
	*value = le32toh(*value);
	return true;
}

static void write_event_index(struct nvme_poller *poller, uint32_t number, uint32_t value)
{
	uint32_t bytes = htole32(value);

	if (nvme_ring_ready(poller, &poller->event, "a doorbell buffer") &&
	    nvme_ring_write(poller->ctrl, &poller->event, number * 4, &bytes, sizeof(bytes)))
		poller->retry = true;
}

static uint32_t distance(uint32_t from, uint32_t to, uint32_t size)
{
	return to >= from ? to - from : to + size - from;
}

/* Keeps EventIdx behind @at, lazily: well before the driver can come round to the old one. */
static void suppress(struct nvme_poller *poller, uint16_t queue, uint32_t number, uint32_t at,
		     uint32_t size, uint32_t *event_index)
{
	if (!uses_shadow(poller->ctrl, queue) || distance(*event_index, at, size) <= size / 2)
		return;
	*event_index = at ? at - 1 : size - 1;
	write_event_index(poller, number, *event_index);
}

static void refuse(struct nvme *ctrl, uint32_t value, uint32_t *last_refused)
{
	if (value == *last_refused)
		return;
	*last_refused = value;
	nvme_event(ctrl, NVME_EVENT_ERROR, NVME_ERROR_DOORBELL_VALUE, 1);
}

bool nvme_sq_tail(struct nvme_poller *poller, struct nvme_sq *sq)
{
	struct nvme_sq_state *state = &sq->state;
	uint32_t value;

	if (read_doorbell(poller, sq->id, NVME_DOORBELL_SQ(sq->id), &value) &&
	    value != state->tail) {
		if (value < state->size) {
			state->tail = value;
			sq->bad_doorbell = NO_VALUE;
		} else {
			refuse(poller->ctrl, value, &sq->bad_doorbell);
		}
	}
	suppress(poller, sq->id, NVME_DOORBELL_SQ(sq->id), state->head, state->size,
		 &sq->event_index);
	return state->tail != state->head;
}

void nvme_cq_head(struct nvme_poller *poller, struct nvme_cq *cq)
{
	struct nvme_cq_state *state = &cq->state;
	uint32_t value;

	if (read_doorbell(poller, cq->id, NVME_DOORBELL_CQ(cq->id), &value) &&
	    value != state->head) {
		/* It can't take entries that aren't there. */
		if (value < state->size &&
		    distance(state->head, value, state->size) <=
			    distance(state->head, state->tail, state->size)) {
			state->head = value;
			cq->bad_doorbell = NO_VALUE;
		} else {
			refuse(poller->ctrl, value, &cq->bad_doorbell);
		}
	}
	suppress(poller, cq->id, NVME_DOORBELL_CQ(cq->id), state->head, state->size,
		 &cq->event_index);
}

static bool needs_head(const struct nvme_poller *poller, const struct nvme_sq *sq)
{
	const struct nvme_cq *cq = sq->cq;
	uint32_t used = distance(cq->state.head, cq->state.tail, cq->state.size);

	return cq->pin_waiting || used + cq->outstanding >= cq->state.size - 1;
}

bool nvme_doorbells_arm(struct nvme_poller *poller)
{
	struct nvme *ctrl = poller->ctrl;
	bool head_wanted = false;

	for (unsigned i = 0; i < poller->sq_count; i++) {
		struct nvme_sq *sq = poller->sqs[i];

		/* Each time: the buffer may be another one by now, or have been written to. */
		if (uses_shadow(ctrl, sq->id)) {
			sq->event_index = sq->state.tail;
			write_event_index(poller, NVME_DOORBELL_SQ(sq->id), sq->state.tail);
		}
		if (!needs_head(poller, sq))
			continue;
		head_wanted = true;
		if (uses_shadow(ctrl, sq->id)) {
			sq->cq->event_index = sq->cq->state.head;
			write_event_index(poller, NVME_DOORBELL_CQ(sq->cq->id), sq->cq->state.head);
		}
	}
	atomic_store(&poller->head_wanted, head_wanted);
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < poller->sq_count; i++) {
		struct nvme_sq *sq = poller->sqs[i];
		uint32_t head = sq->cq->state.head;

		if (needs_head(poller, sq)) {
			nvme_cq_head(poller, sq->cq);
			if (head != sq->cq->state.head)
				return false;
		}
		if (nvme_sq_tail(poller, sq) && !sq->deleting && nvme_cq_room(poller, sq->cq) &&
		    poller->free_count && !poller->retry)
			return false;
	}
	return true;
}

void nvme_doorbell_write(struct nvme *ctrl, uint32_t number, uint32_t value)
{
	uint16_t queue = (uint16_t)(number / 2);
	bool is_cq = number & 1;
	struct nvme_poller *poller;
	uint32_t limit = 0;

	if (queue < NVME_QUEUES)
		limit = atomic_load(is_cq ? &ctrl->cqs[queue].limit : &ctrl->sqs[queue].limit);
	if (value >= limit) {
		nvme_event(ctrl, NVME_EVENT_ERROR,
			   limit ? NVME_ERROR_DOORBELL_VALUE : NVME_ERROR_DOORBELL_REGISTER, 1);
		return;
	}
	atomic_store(&ctrl->doorbells[number], htole32(value));
	poller = nvme_poller_of(ctrl, is_cq ? queue : atomic_load(&ctrl->sqs[queue].cq_id));
	if (!is_cq || atomic_load(&poller->head_wanted))
		nvme_poller_wake(poller);
}

void nvme_doorbell_clear(struct nvme *ctrl, uint32_t number)
{
	pthread_mutex_lock(&ctrl->doorbell_lock);
	if (ctrl->mapped_doorbells)
		atomic_store(&ctrl->mapped_doorbells[number], 0);
	if (ctrl->own_doorbells)
		atomic_store(&ctrl->own_doorbells[number], 0);
	pthread_mutex_unlock(&ctrl->doorbell_lock);
}

/* ---- Mapped or not ---- */

int nvme_doorbells_make(struct nvme *ctrl, void *mapped)
{
	ctrl->mapped_doorbells = mapped;
	atomic_store(&ctrl->doorbells, mapped);
	if (mapped && !ctrl->traps_while_saving)
		return 0;
	ctrl->own_doorbells = calloc(COUNT, sizeof(*ctrl->own_doorbells));
	if (!ctrl->own_doorbells)
		return -ENOMEM;
	if (!mapped)
		atomic_store(&ctrl->doorbells, ctrl->own_doorbells);
	return 0;
}

static void go_to(struct nvme *ctrl, _Atomic uint32_t *to)
{
	_Atomic uint32_t *from;

	pthread_mutex_lock(&ctrl->doorbell_lock);
	from = atomic_load(&ctrl->doorbells);
	for (size_t i = 0; from != to && i < COUNT; i++)
		atomic_store(&to[i], atomic_load(&from[i]));
	atomic_store(&ctrl->doorbells, to);
	pthread_mutex_unlock(&ctrl->doorbell_lock);
}

void nvme_doorbells_unmapped(struct uvf_device *dev, uint32_t index, int result)
{
	struct nvme *ctrl = uvf_device_opaque(dev);

	if (!result)
		go_to(ctrl, ctrl->own_doorbells);
}

void nvme_doorbells_return(struct uvf_device *dev, uint32_t index)
{
	struct nvme *ctrl = uvf_device_opaque(dev);

	go_to(ctrl, ctrl->mapped_doorbells);
}
