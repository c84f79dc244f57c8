/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's memory that the controller uses for long: queues and doorbell buffers. It is pinned
 * while it is mapped. Firmware and VMMs unmap and map memory again while a controller is enabled:
 * a pin that had to go is taken again at the next use, and only memory that stays away is a fault.
 */
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <stdio.h>

#define GRACE_MS 1000

int nvme_ring_pin(struct nvme *ctrl, struct nvme_ring *ring)
{
	struct iovec iov;
	uint64_t now;
	int ret;

	if (ring->bytes || ring->remote)
		return 0;
	ret = uvf_dma_pin(ctrl->dev, UVF_PASID_NONE, ring->iova, ring->size, ring->prot, &ring->pin,
			  &iov, 1);
	if (ret == 1) {
		ring->bytes = iov.iov_base;
		ring->lost_since = 0;
		return 0;
	}
	if (ret == -EOPNOTSUPP || ret == -ENOBUFS) {
		ring->remote = true;
		ring->lost_since = 0;
		return 0;
	}
	if (ret == -EPERM || !ring->lost)
		return ret;
	now = nvme_now_ms();
	if (!ring->lost_since)
		ring->lost_since = now;
	return now - ring->lost_since < GRACE_MS ? -EAGAIN : ret;
}

bool nvme_ring_regain(struct nvme_poller *poller, struct nvme_ring *ring, const char *what)
{
	char why[64];
	int ret = nvme_ring_pin(poller->ctrl, ring);

	if (ret == -EAGAIN) {
		poller->retry = true;
	} else if (ret && ret != -EPERM) {
		snprintf(why, sizeof(why), "%s's memory is not mapped", what);
		nvme_fatal(poller->ctrl, why);
	}
	return !ret;
}

void nvme_ring_unpin(struct nvme *ctrl, struct nvme_ring *ring)
{
	if (ring->bytes)
		uvf_dma_unpin(ctrl->dev, &ring->pin);
	ring->bytes = NULL;
	ring->remote = false;
}

int nvme_ring_read(struct nvme *ctrl, struct nvme_ring *ring, uint32_t offset, void *buf,
		   size_t size)
{
	if (ring->bytes)
		return uvf_guarded_copy(buf, ring->bytes + offset, size);
	return uvf_dma_read(ctrl->dev, UVF_PASID_NONE, ring->iova + offset, buf, size);
}

int nvme_ring_write(struct nvme *ctrl, struct nvme_ring *ring, uint32_t offset, const void *buf,
		    size_t size)
{
	if (ring->bytes)
		return uvf_guarded_copy(ring->bytes + offset, buf, size);
	return uvf_dma_write(ctrl->dev, UVF_PASID_NONE, ring->iova + offset, buf, size);
}

static void ring_unmapped(struct nvme *ctrl, struct nvme_ring *ring, uvf_iova_t first,
			  uvf_iova_t last)
{
	if ((!ring->bytes && !ring->remote) || ring->iova > last ||
	    ring->iova + (ring->size - 1) < first)
		return;
	nvme_ring_unpin(ctrl, ring);
	ring->lost = true;
}

void nvme_dma_unmap(struct uvf_device *dev, uint32_t pasid, uvf_iova_t first, uvf_iova_t last)
{
	struct nvme *ctrl = uvf_device_opaque(dev);

	for (unsigned i = 0; i < ctrl->poller_count; i++) {
		struct nvme_poller *poller = &ctrl->pollers[i];

		nvme_poller_pause(poller);
		/* Others' queues come and go under others' locks: they are not looked at. */
		for (unsigned n = 0; n < poller->sq_count; n++)
			ring_unmapped(ctrl, &poller->sqs[n]->ring, first, last);
		for (unsigned id = 0; id < NVME_QUEUES; id++)
			if (nvme_poller_of(ctrl, (uint16_t)id) == poller)
				ring_unmapped(ctrl, &ctrl->cqs[id].ring, first, last);
		ring_unmapped(ctrl, &poller->shadow, first, last);
		ring_unmapped(ctrl, &poller->event, first, last);
		nvme_poller_resume(poller);
	}
}
