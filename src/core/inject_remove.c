/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device that is pulled out: its registers read as all ones, writes are lost, it does no DMA and
 * has no interrupts, and can't be reset or opened. What is left is its owner, who is asked to give
 * it back, as the kernel asks when a slot is emptied.
 */
#include "core/inject.h"

#include <errno.h>
#include <string.h>

/* How often the owner is asked. */
#define REQUEST_NS 1000000000ULL

/* What a driver has mapped can't be taken from it; it reads ones until someone writes there. */
static void fill_memory(const struct uvf_device *dev)
{
	for (size_t i = 0; i < dev->memory_count; i++)
		memset(dev->memories[i].address, 0xff, dev->memories[i].size);
}

/* Past faults and removal: this is not an interrupt of the device's. */
static void signal_owner(struct uvf_device *dev, uint32_t index)
{
	const struct uvf_irq_set loopback = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = index,
		.count = 1,
	};

	uvf_device_lock(dev);
	if (!atomic_load(&dev->open))
		;
	else if (dev->ops->set_irqs)
		dev->ops->set_irqs(dev, &loopback);
	else
		uvf_irq_deliver(dev, index, 0, false);
	uvf_device_unlock(dev);
}

/* With the ownership lock. False: it has been done. */
static bool end_all(struct uvf_device *dev)
{
	bool first;

	dev->returns = false;
	uvf_device_lock(dev);
	first = !(atomic_fetch_or(&dev->armed, UVF_ARMED_REMOVED) & UVF_ARMED_REMOVED);
	/* All that the device does ends, and bus mastering with it. */
	if (first && atomic_load(&dev->open))
		uvf_device_do_reset(dev, UVF_RESET_HOT);
	if (first)
		fill_memory(dev);
	uvf_device_unlock(dev);
	/* A device in another process has a copy of the mappings. */
	if (first && dev->ops->attach && uvf_attachment_space(dev->attachment))
		dev->ops->attach(dev, UVF_PASID_NONE, NULL);
	return first;
}

void uvf_device_pull_out(struct uvf_device *dev, bool tells_error, bool tells_request)
{
	bool first, open;

	pthread_mutex_lock(&dev->ownership);
	first = end_all(dev);
	open = atomic_load(&dev->open);
	pthread_mutex_unlock(&dev->ownership);
	if (!first || !open)
		return;
	if (tells_error)
		signal_owner(dev, VFIO_PCI_ERR_IRQ_INDEX);
	if (!tells_request)
		return;
	signal_owner(dev, VFIO_PCI_REQ_IRQ_INDEX);
	uvf_delayer_add(dev,
			(struct delayed){
				.index = VFIO_PCI_REQ_IRQ_INDEX,
				.again_ns = REQUEST_NS,
			},
			REQUEST_NS);
}

void uvf_device_remove(struct uvf_device *dev)
{
	uvf_device_pull_out(dev, false, false);
}
