/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller's states, all entered on poller 0:
 *   disabled  CSTS.RDY is 0, no queue exists. CC.EN takes it to ready, or to failed.
 *   ready     queues are served. CC.EN to 0 or a reset takes it to disabled once no command is in
 *             progress and nothing of the driver's memory is held; CC.SHN flushes.
 *   failed    CSTS.CFS is 1: nothing is fetched or posted. Only a reset ends it.
 */
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <time.h>

void nvme_fatal(struct nvme *ctrl, const char *why)
{
	bool first = false;

	pthread_mutex_lock(&ctrl->state_lock);
	if (!(ctrl->registers.csts & NVME_CSTS_CFS)) {
		ctrl->registers.csts |= NVME_CSTS_CFS;
		first = true;
	}
	atomic_store(&ctrl->live, false);
	pthread_mutex_unlock(&ctrl->state_lock);
	if (first)
		uvf_device_log(ctrl->dev, UVF_LOG_WARNING, "controller fatal status: %s", why);
}

/* Why the controller can't be enabled as it is set up, or NULL. */
static const char *refuse_enable(const struct nvme_registers *registers)
{
	if (NVME_CC_MPS(registers->cc) != NVME_PAGE_SHIFT - 12)
		return "CC.MPS is not offered";
	if (NVME_CC_CSS(registers->cc))
		return "CC.CSS is not offered";
	if (NVME_CC_AMS(registers->cc))
		return "CC.AMS is not offered";
	if (!(registers->aqa & 0xfff) || !(registers->aqa >> 16 & 0xfff))
		return "AQA has a queue of one entry";
	return NULL;
}

static void enable(struct nvme *ctrl, const struct nvme_registers *registers)
{
	const char *why = refuse_enable(registers);
	struct nvme_cq *cq = &ctrl->cqs[0];
	struct nvme_sq *sq = &ctrl->sqs[0];
	uint32_t sq_size = (registers->aqa & 0xfff) + 1;
	uint32_t cq_size = (registers->aqa >> 16 & 0xfff) + 1;
	struct uvf_error error;
	int ret;

	if (why) {
		nvme_fatal(ctrl, why);
		return;
	}
	/* After a migration, another process may have it. */
	if (nvme_storage_claim(ctrl, &error)) {
		nvme_fatal(ctrl, error.text);
		return;
	}
	cq->ring = (struct nvme_ring){
		.iova = registers->acq, .size = cq_size << NVME_CQES, .prot = UVF_PROT_WRITE};
	sq->ring = (struct nvme_ring){
		.iova = registers->asq, .size = sq_size << NVME_SQES, .prot = UVF_PROT_READ};
	ret = nvme_ring_pin(ctrl, &cq->ring);
	if (!ret)
		ret = nvme_ring_pin(ctrl, &sq->ring);
	/* Without bus mastering memory can't be looked at before it is used. */
	if (ret && ret != -EPERM) {
		nvme_ring_unpin(ctrl, &cq->ring);
		nvme_fatal(ctrl, "the admin queue's memory is not mapped");
		return;
	}
	nvme_cq_start(ctrl, 0, cq_size, true, 0);
	nvme_sq_start(ctrl, 0, cq, sq_size);
	pthread_mutex_lock(&ctrl->state_lock);
	ctrl->registers.csts |= NVME_CSTS_RDY;
	atomic_store(&ctrl->live, true);
	pthread_mutex_unlock(&ctrl->state_lock);
}

void nvme_queues_drop(struct nvme *ctrl)
{
	ctrl->deleting = 0;
	for (unsigned id = 0; id < NVME_QUEUES; id++)
		nvme_sq_stop(ctrl, &ctrl->sqs[id]);
	for (unsigned id = 0; id < NVME_QUEUES; id++)
		nvme_cq_stop(ctrl, &ctrl->cqs[id]);
	for (unsigned i = 0; i < ctrl->poller_count; i++) {
		nvme_ring_unpin(ctrl, &ctrl->pollers[i].shadow);
		nvme_ring_unpin(ctrl, &ctrl->pollers[i].event);
	}
	for (unsigned i = 0; i < 2 * NVME_QUEUES; i++)
		nvme_doorbell_clear(ctrl, i);
	atomic_store(&ctrl->shadowed, false);
	nvme_events_reset(ctrl);
	nvme_features_reset(ctrl);
}

static void disable(struct nvme *ctrl)
{
	atomic_store(&ctrl->live, false);
	for (unsigned i = 0; i < ctrl->poller_count; i++) {
		nvme_poller_enter(&ctrl->pollers[i]);
		nvme_slots_abort(&ctrl->pollers[i], NULL, NVME_SC_SQ_DELETED);
		nvme_poller_leave(&ctrl->pollers[i]);
	}
	for (unsigned i = 0; i < ctrl->poller_count; i++)
		nvme_poller_quiesce(&ctrl->pollers[i]);
	nvme_queues_drop(ctrl);
	for (unsigned i = 0; i < ctrl->poller_count; i++)
		nvme_poller_release(&ctrl->pollers[i]);
}

void nvme_shutdown_done(struct nvme *ctrl, uint16_t status)
{
	if (status)
		uvf_device_log(ctrl->dev, UVF_LOG_ERROR, "the flush at shutdown failed: %#x",
			       status);
	pthread_mutex_lock(&ctrl->state_lock);
	if ((ctrl->registers.csts & NVME_CSTS_SHST_MASK) == NVME_CSTS_SHST_ONGOING)
		ctrl->registers.csts ^= NVME_CSTS_SHST_MASK;
	pthread_mutex_unlock(&ctrl->state_lock);
}

/* False: it has to be tried again. */
static bool shut_down(struct nvme *ctrl)
{
	struct nvme_request request = {.ctrl = ctrl, .poller = &ctrl->pollers[0]};
	struct nvme_slot *slot;
	uint16_t status;

	if (!request.poller->free_count)
		return false;
	slot = nvme_slot_take(&request);
	slot->step = nvme_flush_step;
	slot->end = ctrl->namespace_count;
	status = nvme_slot_start(slot, &request);
	if (status != NVME_PENDING)
		nvme_shutdown_done(ctrl, status);
	return true;
}

void nvme_controller_call(struct nvme *ctrl)
{
	atomic_store(&ctrl->work, true);
	nvme_poller_wake(&ctrl->pollers[0]);
}

void nvme_controller_work(struct nvme *ctrl)
{
	struct nvme_registers registers;
	bool reset, shutdown;

	pthread_mutex_lock(&ctrl->state_lock);
	reset = ctrl->reset_wanted;
	pthread_mutex_unlock(&ctrl->state_lock);
	if (reset)
		disable(ctrl);
	pthread_mutex_lock(&ctrl->state_lock);
	if (reset) {
		ctrl->reset_wanted = false;
		if ((ctrl->registers.csts & (NVME_CSTS_RDY | NVME_CSTS_SHST_MASK)) == NVME_CSTS_RDY)
			ctrl->unsafe_shutdowns++;
		ctrl->registers.csts = 0;
		pthread_cond_broadcast(&ctrl->state_changed);
	}
	shutdown = ctrl->shutdown_wanted;
	ctrl->shutdown_wanted = false;
	registers = ctrl->registers;
	pthread_mutex_unlock(&ctrl->state_lock);
	if (registers.cc & NVME_CC_EN && !(registers.csts & (NVME_CSTS_RDY | NVME_CSTS_CFS)))
		enable(ctrl, &registers);
	if (shutdown && !shut_down(ctrl)) {
		pthread_mutex_lock(&ctrl->state_lock);
		ctrl->shutdown_wanted = true;
		pthread_mutex_unlock(&ctrl->state_lock);
		atomic_store(&ctrl->work, true);
	}
	if (ctrl->deleting)
		nvme_deletions_finish(ctrl);
	if (atomic_load(&ctrl->live))
		nvme_events_deliver(ctrl);
}

/* With state_lock. -ETIMEDOUT: something that is not ours holds it up. */
static int wait_for_reset(struct nvme *ctrl)
{
	struct timespec until;
	int ret = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ctrl->reset_limit_ms / 1000;
	until.tv_nsec += (long)(ctrl->reset_limit_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (ctrl->reset_wanted && !ret)
		ret = -pthread_cond_timedwait(&ctrl->state_changed, &ctrl->state_lock, &until);
	return ctrl->reset_wanted ? ret : 0;
}

/*
 * With the device's lock held. Bus mastering is off: no access to the driver's memory begins any
 * more. One by message that has begun ends with its reply, which its thread receives itself if
 * nobody else does, or with its connection's time limit.
 */
int nvme_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct nvme *ctrl = uvf_device_opaque(dev);
	struct nvme_registers *registers = &ctrl->registers;
	int ret;

	ctrl->bus_mastering = false;
	atomic_store(&ctrl->bus_master, false);
	pthread_mutex_lock(&ctrl->state_lock);
	registers->cc = registers->aqa = 0;
	registers->asq = registers->acq = 0;
	atomic_store(&registers->intms, 0);
	ctrl->shutdown_wanted = false;
	ctrl->reset_wanted = true;
	nvme_unquiesce(dev);
	nvme_controller_call(ctrl);
	if (ctrl->by_hand) {
		pthread_mutex_unlock(&ctrl->state_lock);
		nvme_run(ctrl);
		pthread_mutex_lock(&ctrl->state_lock);
	}
	ret = wait_for_reset(ctrl);
	pthread_mutex_unlock(&ctrl->state_lock);
	if (!ret)
		nvme_storage_give_up(ctrl);
	else
		uvf_device_log(dev, UVF_LOG_ERROR,
			       "the reset is not over after %u ms: commands are still in the "
			       "storage, or an access to the driver's memory has not ended",
			       ctrl->reset_limit_ms);
	return ret;
}
