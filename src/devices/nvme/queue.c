/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Submission queues fetched, completion queues posted to. A command is fetched only when there is
 * room for its completion, so that posting never waits and never overwrites.
 */
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <uvfio/pci.h>

#define POST_AT	       8 /* completions */
#define PREFETCH_LINES 8

static uint32_t used(const struct nvme_cq *cq)
{
	const struct nvme_cq_state *state = &cq->state;

	return state->tail >= state->head ? state->tail - state->head
					  : state->tail + state->size - state->head;
}

uint32_t nvme_cq_room(struct nvme_poller *poller, struct nvme_cq *cq)
{
	uint32_t limit = cq->state.size - 1;

	/* The head is read before it is needed, so that its EventIdx moves too. */
	if (used(cq) + cq->outstanding > limit / 2)
		nvme_cq_head(poller, cq);
	return limit - used(cq) - cq->outstanding;
}

/*
 * Writes @count entries in a row. The driver looks at one entry only until its phase changes: the
 * first goes last, and its phase with the last store.
 */
static int post_run(struct nvme *ctrl, struct nvme_cq *cq, struct nvme_cqe *entries, uint32_t count)
{
	uint32_t at = cq->state.tail * (uint32_t)sizeof(*entries);
	const uint8_t *first = (const uint8_t *)entries;
	int ret = 0;

	for (uint32_t i = 0; i < count; i++)
		entries[i].status |= htole16(cq->state.phase);
	if (count > 1)
		ret = nvme_ring_write(ctrl, &cq->ring, at + (uint32_t)sizeof(*entries), entries + 1,
				      (count - 1) * sizeof(*entries));
	if (!ret)
		ret = nvme_ring_write(ctrl, &cq->ring, at, first, 8);
	atomic_thread_fence(memory_order_release);
	if (!ret)
		ret = nvme_ring_write(ctrl, &cq->ring, at + 8, first + 8, 8);
	return ret;
}

void nvme_pin_update(struct nvme *ctrl, struct nvme_cq *cq)
{
	bool waiting = cq && cq->state.size && cq->state.interrupts && used(cq);
	bool asserted = false;
	uint32_t masked;

	pthread_mutex_lock(&ctrl->pin_lock);
	if (cq && waiting != cq->pin_waiting) {
		cq->pin_waiting = waiting;
		if (waiting)
			atomic_fetch_add(&ctrl->pin_waiting[cq->state.vector & 31], 1);
		else
			atomic_fetch_sub(&ctrl->pin_waiting[cq->state.vector & 31], 1);
	}
	masked = atomic_load(&ctrl->registers.intms);
	for (unsigned i = 0; i < UVF_ARRAY_SIZE(ctrl->pin_waiting); i++)
		asserted |= atomic_load(&ctrl->pin_waiting[i]) && !(masked >> i & 1);
	uvf_pci_intx(ctrl->dev, asserted);
	pthread_mutex_unlock(&ctrl->pin_lock);
}

/* Gives the driver what is staged, without an interrupt. */
static void cq_post(struct nvme_poller *poller, struct nvme_cq *cq)
{
	struct nvme *ctrl = poller->ctrl;
	struct nvme_cq_state *state = &cq->state;
	uint32_t done = 0;

	if (!atomic_load_explicit(&ctrl->live, memory_order_relaxed)) {
		cq->outstanding -= cq->staged_count;
		cq->staged_count = 0;
		return;
	}
	/* What was fetched before bus mastering went completes when it is back. */
	if (!atomic_load_explicit(&ctrl->bus_master, memory_order_relaxed))
		return;
	if (!nvme_ring_ready(poller, &cq->ring, "a queue"))
		return;
	while (done < cq->staged_count) {
		uint32_t count = cq->staged_count - done;

		if (count > state->size - state->tail)
			count = state->size - state->tail;
		if (post_run(ctrl, cq, cq->staged + done, count)) {
			nvme_fatal(ctrl, "a completion queue can't be written");
			return;
		}
		done += count;
		state->tail += count;
		if (state->tail == state->size) {
			state->tail = 0;
			state->phase ^= 1;
		}
	}
	cq->outstanding -= done;
	cq->staged_count = 0;
	cq->posted = true;
}

/* One interrupt for all that was posted since the last. */
static void cq_flush(struct nvme_poller *poller, struct nvme_cq *cq)
{
	struct nvme *ctrl = poller->ctrl;

	if (cq->staged_count)
		cq_post(poller, cq);
	if (!cq->posted)
		return;
	cq->posted = false;
	if (cq->state.interrupts && !uvf_pci_msi(ctrl->dev, cq->state.vector))
		nvme_pin_update(ctrl, cq);
}

void nvme_cq_flush_all(struct nvme_poller *poller)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < poller->dirty_count; i++) {
		struct nvme_cq *cq = poller->dirty[i];

		cq_flush(poller, cq);
		if (cq->staged_count)
			poller->dirty[kept++] = cq;
		else
			cq->queued = false;
	}
	poller->dirty_count = kept;
}

void nvme_cq_add(struct nvme_sq *sq, uint16_t cid, uint16_t status, uint32_t result)
{
	struct nvme_cq *cq = sq->cq;
	struct nvme_poller *poller = cq->poller;

	cq->staged[cq->staged_count++] = (struct nvme_cqe){
		.result = htole32(result),
		.sq_head = htole16((uint16_t)sq->state.head),
		.sq_id = htole16(sq->id),
		.cid = cid,
		.status = htole16((uint16_t)(status << 1)),
	};
	if (!cq->queued) {
		cq->queued = true;
		poller->dirty[poller->dirty_count++] = cq;
	}
}

static uint32_t fetchable(struct nvme_poller *poller, struct nvme_sq *sq)
{
	const struct nvme_sq_state *state = &sq->state;
	uint32_t count = (state->tail > state->head ? state->tail : state->size) - state->head;
	uint32_t burst = atomic_load_explicit(&poller->ctrl->features.burst, memory_order_relaxed);
	uint32_t room = nvme_cq_room(poller, sq->cq);

	if (count > burst)
		count = burst;
	if (count > room)
		count = room;
	if (count > poller->free_count)
		count = poller->free_count;
	return count;
}

static void execute(struct nvme_poller *poller, struct nvme_sq *sq, const struct nvme_sqe *sqe)
{
	struct nvme_request request = {
		.ctrl = poller->ctrl,
		.poller = poller,
		.sq = sq,
		.sqe = sqe,
	};
	uint16_t status = nvme_execute(&request);

	if (__builtin_expect(status == NVME_PENDING, 0))
		return;
	if (__builtin_expect(status == NVME_NO_CQE, 0)) {
		sq->cq->outstanding--;
		return;
	}
	nvme_cq_add(sq, sqe->cid, status, request.result);
}

/*
 * The data of a read to come: where it lies in memory, its first lines are on their way while the
 * command before is executed. The processor finds out about the rest by itself.
 */
static void prefetch(struct nvme *ctrl, const struct nvme_sqe *sqe)
{
	const struct nvme_namespace *ns = nvme_namespace(ctrl, le32toh(sqe->nsid));
	uint64_t lba = nvme_lba(sqe);
	const char *bytes;

	if (!ns || !ns->backend->bytes || sqe->opcode != NVME_CMD_READ || lba >= ns->blocks)
		return;
	bytes = (const char *)ns->backend->bytes + (lba << ns->block_shift);
	for (unsigned line = 0; line < PREFETCH_LINES; line++)
		__builtin_prefetch(bytes + line * 64);
}

bool nvme_sq_process(struct nvme_poller *poller, struct nvme_sq *sq)
{
	struct nvme *ctrl = poller->ctrl;
	struct nvme_cq *cq = sq->cq;
	uint32_t count, at;

	if (sq->cq->pin_waiting) {
		nvme_cq_head(poller, sq->cq);
		nvme_pin_update(ctrl, sq->cq);
	}
	if (!nvme_sq_tail(poller, sq) || sq->cq->staged_count || sq->deleting)
		return false;
	if (!nvme_ring_ready(poller, &sq->ring, "a queue") ||
	    !nvme_ring_ready(poller, &sq->cq->ring, "a queue"))
		return false;
	count = fetchable(poller, sq);
	if (!count)
		return false;
	at = sq->state.head * (uint32_t)sizeof(struct nvme_sqe);
	if (nvme_ring_read(ctrl, &sq->ring, at, poller->batch, count * sizeof(struct nvme_sqe))) {
		nvme_fatal(ctrl, "a submission queue can't be read");
		return false;
	}
	sq->state.head += count;
	if (sq->state.head == sq->state.size)
		sq->state.head = 0;
	cq->outstanding += count;
	for (uint32_t i = 0; i < count && sq->state.size; i++) {
		if (i + 1 < count && sq->id)
			prefetch(ctrl, &poller->batch[i + 1]);
		execute(poller, sq, &poller->batch[i]);
		/* The driver goes on with these meanwhile. */
		if (cq->staged_count >= POST_AT)
			cq_post(poller, cq);
	}
	nvme_cq_flush_all(poller);
	return true;
}

void nvme_cq_start(struct nvme *ctrl, uint16_t id, uint32_t size, bool interrupts, uint16_t vector)
{
	struct nvme_cq *cq = &ctrl->cqs[id];

	cq->id = id;
	cq->poller = nvme_poller_of(ctrl, id);
	cq->state = (struct nvme_cq_state){
		.size = size, .phase = 1, .interrupts = interrupts, .vector = vector};
	cq->outstanding = cq->sq_count = cq->staged_count = 0;
	cq->posted = false;
	cq->bad_doorbell = UINT32_MAX;
	cq->event_index = 0;
	nvme_doorbell_clear(ctrl, NVME_DOORBELL_CQ(id));
	atomic_store(&cq->limit, size);
}

void nvme_sq_start(struct nvme *ctrl, uint16_t id, struct nvme_cq *cq, uint32_t size)
{
	struct nvme_sq *sq = &ctrl->sqs[id];

	sq->id = id;
	sq->cq = cq;
	sq->state = (struct nvme_sq_state){.size = size, .cq_id = cq->id};
	sq->bad_doorbell = UINT32_MAX;
	sq->event_index = sq->pending = 0;
	nvme_doorbell_clear(ctrl, NVME_DOORBELL_SQ(id));
	cq->sq_count++;
	cq->poller->sqs[cq->poller->sq_count++] = sq;
	atomic_store(&sq->cq_id, cq->id);
	atomic_store(&sq->limit, size);
}

void nvme_sq_stop(struct nvme *ctrl, struct nvme_sq *sq)
{
	struct nvme_poller *poller;

	if (!sq->state.size)
		return;
	poller = sq->cq->poller;
	atomic_store(&sq->limit, 0);
	for (unsigned i = 0; i < poller->sq_count; i++) {
		if (poller->sqs[i] != sq)
			continue;
		poller->sqs[i] = poller->sqs[--poller->sq_count];
		break;
	}
	nvme_ring_unpin(ctrl, &sq->ring);
	sq->deleting = false;
	sq->cq->sq_count--;
	sq->cq = NULL;
	sq->state = (struct nvme_sq_state){0};
}

void nvme_cq_stop(struct nvme *ctrl, struct nvme_cq *cq)
{
	struct nvme_poller *poller = cq->poller;

	if (!cq->state.size)
		return;
	atomic_store(&cq->limit, 0);
	for (unsigned i = 0; cq->queued && i < poller->dirty_count; i++) {
		if (poller->dirty[i] != cq)
			continue;
		poller->dirty[i] = poller->dirty[--poller->dirty_count];
		cq->queued = false;
	}
	cq->state.interrupts = false;
	nvme_pin_update(ctrl, cq);
	nvme_ring_unpin(ctrl, &cq->ring);
	cq->poller = NULL;
	cq->staged_count = 0;
	cq->state = (struct nvme_cq_state){0};
}
