/* SPDX-License-Identifier: BSD-3-Clause */
/* The core's own sections of a migration stream: interrupts, and the memory behind areas. */
#include "core/own_sections.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "core/device.h"

const char *const uvf_own_sections[] = {"irqs", "memory", NULL};

enum { VECTOR_PENDING = 1 << 0, VECTOR_ASSERTED = 1 << 1 };

/*
 * Whether a driver can have missed the last signal: its eventfd has not been read. A VMM that reads
 * them itself, and saves its interrupt controllers first, never passes it on; so it is pending
 * still. One too many is harmless. A line's level moves in any case, and the interrupts for the
 * device's owner (errors, requests) are about where the device is now.
 * #syscalls: poll
 */
static bool is_unread(const struct uvf_device *dev, const struct irq_index *irq,
		      const struct irq_vector *vector)
{
	struct pollfd readable = {.fd = vector->trigger, .events = POLLIN};
	bool is_owners = dev->flags & VFIO_DEVICE_FLAGS_PCI &&
			 irq->description.index > VFIO_PCI_MSIX_IRQ_INDEX;

	if (vector->trigger < 0 || is_owners || irq->description.flags & VFIO_IRQ_INFO_AUTOMASKED)
		return false;
	return poll(&readable, 1, 0) == 1 && readable.revents & POLLIN;
}

static int save_irq(struct uvf_device *dev, struct uvf_state_writer *writer, struct irq_index *irq)
{
	uint32_t count = irq->description.count;
	uint8_t *bytes = calloc(count ? count : 1, 1);
	bool any = false;
	int ret = 0;

	if (!bytes)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		struct irq_vector *vector = &irq->vectors[i];

		pthread_mutex_lock(&vector->lock);
		if (vector->pending || is_unread(dev, irq, vector))
			bytes[i] |= VECTOR_PENDING;
		if (vector->asserted)
			bytes[i] |= VECTOR_ASSERTED;
		pthread_mutex_unlock(&vector->lock);
		any |= bytes[i];
	}
	if (any)
		ret = uvf_state_write_bytes(writer,
					    (struct uvf_state_section){
						    .name = "irqs",
						    .instance = irq->description.index,
					    },
					    bytes, count);
	free(bytes);
	return ret;
}

static int load_irq(struct uvf_state_reader *reader, struct irq_index *irq)
{
	const void *bytes;
	ssize_t size = uvf_state_read_bytes(reader, "irqs", irq->description.index, &bytes);

	if (size == -ENOENT)
		return 0;
	if (size != (ssize_t)irq->description.count)
		return -EINVAL;
	for (uint32_t i = 0; i < irq->description.count; i++) {
		struct irq_vector *vector = &irq->vectors[i];
		uint8_t flags = ((const uint8_t *)bytes)[i];

		pthread_mutex_lock(&vector->lock);
		vector->pending = flags & VECTOR_PENDING;
		vector->asserted = flags & VECTOR_ASSERTED;
		pthread_mutex_unlock(&vector->lock);
	}
	return 0;
}

/* The memory behind areas: what the driver may have written without a call. */
static int save_memory(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	int ret = 0;

	for (size_t i = 0; i < dev->memory_count && !ret; i++)
		ret = uvf_state_write_bytes(writer,
					    (struct uvf_state_section){
						    .name = "memory",
						    .instance = dev->memories[i].index,
					    },
					    dev->memories[i].address, dev->memories[i].size);
	return ret;
}

static int load_memory(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	for (size_t i = 0; i < dev->memory_count; i++) {
		const void *bytes;
		ssize_t size =
			uvf_state_read_bytes(reader, "memory", dev->memories[i].index, &bytes);

		if (size < 0 || (uint64_t)size != dev->memories[i].size)
			return -EINVAL;
		memcpy(dev->memories[i].address, bytes, (size_t)size);
	}
	return 0;
}

/* What the driver was told of areas here has nothing to say of areas elsewhere. */
static bool moves(const struct irq_index *irq)
{
	return irq && !irq->remap;
}

int uvf_own_sections_save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	int ret = save_memory(dev, writer);

	for (uint32_t i = 0; i < dev->irq_count && !ret; i++)
		if (moves(dev->irqs[i]))
			ret = save_irq(dev, writer, dev->irqs[i]);
	return ret;
}

int uvf_own_sections_load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	int ret = load_memory(dev, reader);

	for (uint32_t i = 0; i < dev->irq_count && !ret; i++)
		if (moves(dev->irqs[i]))
			ret = load_irq(reader, dev->irqs[i]);
	return ret;
}
