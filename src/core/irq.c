/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IRQ indexes: what the driver sets (VFIO_DEVICE_SET_IRQS) and what the device signals.
 *
 * An eventfd is the driver's: it may be full, and then writing would block. So it is polled first;
 * a driver that fills it on purpose in between stops its own device's thread until it reads.
 */
#include "base/bytes.h"
#include "core/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A PCI device has one of INTx, MSI and MSI-X enabled at a time; they are the first indexes. */
#define PCI_EXCLUSIVE_IRQS (VFIO_PCI_MSIX_IRQ_INDEX + 1)

static struct irq_index *irq_at(const struct uvf_device *dev, uint32_t index)
{
	return index < dev->irq_count ? dev->irqs[index] : NULL;
}

/* ---- Description ---- */

static void irq_free(struct irq_index *irq)
{
	for (uint32_t i = 0; irq->vectors && i < irq->description.count; i++)
		pthread_mutex_destroy(&irq->vectors[i].lock);
	free(irq->vectors);
	free(irq);
}

static struct irq_index *irq_new(const struct uvf_irq *description)
{
	struct irq_index *irq = calloc(1, sizeof(*irq));

	if (!irq)
		return NULL;
	irq->description = *description;
	irq->vectors = calloc(description->count ? description->count : 1, sizeof(*irq->vectors));
	if (!irq->vectors) {
		free(irq);
		return NULL;
	}
	for (uint32_t i = 0; i < description->count; i++) {
		pthread_mutex_init(&irq->vectors[i].lock, NULL);
		irq->vectors[i].trigger = -1;
		irq->vectors[i].unmask = -1;
	}
	return irq;
}

int uvf_device_add_irq(struct uvf_device *dev, const struct uvf_irq *description)
{
	struct irq_index **irqs;
	struct irq_index *irq;
	int ret;

	if (description->index >= UVF_MAX_IRQS || description->count > UVF_MAX_IRQS)
		return -EINVAL;
	if (irq_at(dev, description->index))
		return -EEXIST;
	irq = irq_new(description);
	if (!irq)
		return -ENOMEM;
	if (description->index >= dev->irq_count) {
		irqs = reallocarray(dev->irqs, description->index + 1, sizeof(*irqs));
		if (!irqs) {
			irq_free(irq);
			return -ENOMEM;
		}
		memset(irqs + dev->irq_count, 0,
		       (description->index + 1 - dev->irq_count) * sizeof(*irqs));
		dev->irqs = irqs;
		dev->irq_count = description->index + 1;
	}
	ret = uvf_remap_add_irq(dev, irq);
	if (ret) {
		irq_free(irq);
		return ret;
	}
	dev->irqs[description->index] = irq;
	return 0;
}

void uvf_device_free_irqs(struct uvf_device *dev)
{
	for (uint32_t i = 0; i < dev->irq_count; i++) {
		if (dev->irqs[i])
			irq_free(dev->irqs[i]);
	}
	free(dev->irqs);
}

int uvf_irq_get_info(struct uvf_device *dev, uint32_t index, struct uvf_irq_info *info)
{
	const struct irq_index *irq = irq_at(dev, index);

	if (index >= dev->irq_count)
		return -EINVAL;
	*info = (struct uvf_irq_info){0};
	if (irq) {
		info->flags = irq->description.flags;
		info->count = irq->description.count;
		info->type = irq->description.type;
		info->subtype = irq->description.subtype;
		if (irq->remap) {
			info->regions = irq->remap->regions;
			info->region_count = irq->remap->region_count;
		}
	}
	return 0;
}

/* ---- Signalling: with the vector's lock held ---- */

/* #syscalls: poll write */
static void vector_signal(const struct irq_vector *vector)
{
	struct pollfd writable = {.fd = vector->trigger, .events = POLLOUT};
	uint64_t one = 1;

	if (vector->trigger < 0 || poll(&writable, 1, 0) != 1)
		return;
	while (write(vector->trigger, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void vector_fire(const struct irq_index *irq, struct irq_vector *vector)
{
	if (vector->masked) {
		vector->pending = true;
		return;
	}
	vector->pending = false;
	vector_signal(vector);
	if (irq->description.flags & VFIO_IRQ_INFO_AUTOMASKED)
		vector->masked = vector->trigger >= 0;
}

void uvf_irq_unmask(struct irq_index *irq, struct irq_vector *vector)
{
	/* First: what then fires again is not what has just been acknowledged. */
	if (irq->remap)
		uvf_remap_acknowledge(irq->remap);
	pthread_mutex_lock(&vector->lock);
	if (vector->masked) {
		vector->masked = false;
		if (vector->pending || vector->asserted)
			vector_fire(irq, vector);
	}
	pthread_mutex_unlock(&vector->lock);
}

void uvf_irq_deliver(struct uvf_device *dev, uint32_t index, uint32_t number, bool level)
{
	struct irq_index *irq = irq_at(dev, index);
	struct irq_vector *vector;

	if (!irq || number >= irq->description.count)
		return;
	vector = &irq->vectors[number];
	pthread_mutex_lock(&vector->lock);
	if (vector->trigger >= 0 && (!level || (vector->asserted && !vector->masked)))
		vector_fire(irq, vector);
	pthread_mutex_unlock(&vector->lock);
}

/* Whether faults are injected into interrupts, or the device has been pulled out. */
static bool is_looked_at(struct uvf_device *dev)
{
	unsigned armed = atomic_load_explicit(&dev->armed, memory_order_relaxed);

	return __builtin_expect(armed & (UVF_ARMED_IRQ | UVF_ARMED_REMOVED), 0);
}

void uvf_irq_trigger(struct uvf_device *dev, uint32_t index, uint32_t number)
{
	if (!is_looked_at(dev) || uvf_inject_irq(dev, index, number, false))
		uvf_irq_deliver(dev, index, number, false);
}

void uvf_irq_set_level(struct uvf_device *dev, uint32_t index, uint32_t number, bool asserted)
{
	struct irq_index *irq = irq_at(dev, index);
	struct irq_vector *vector;
	bool rising;

	if (!irq || number >= irq->description.count)
		return;
	vector = &irq->vectors[number];
	pthread_mutex_lock(&vector->lock);
	rising = asserted && !vector->asserted;
	vector->asserted = asserted;
	/* What a masked line misses is not pending: the level itself is looked at on unmasking. */
	if (rising && vector->trigger >= 0 && !vector->masked &&
	    (!is_looked_at(dev) || uvf_inject_irq(dev, index, number, true)))
		vector_fire(irq, vector);
	pthread_mutex_unlock(&vector->lock);
}

bool uvf_irq_enabled(struct uvf_device *dev, uint32_t index)
{
	const struct irq_index *irq = irq_at(dev, index);

	return irq && atomic_load_explicit(&irq->enabled, memory_order_acquire);
}

/* ---- What the driver sets: with the device's lock held ---- */

/*
 * Whether it can be an eventfd: a file would be written to, a pipe or socket could block us for
 * ever. An eventfd has no type of file; what else has none (a timer, an epoll) can't be written.
 * /proc would tell exactly, but it can't be reached from everywhere that a device is served.
 * #syscalls: fstat newfstatat
 */
bool uvf_is_eventfd(int fd)
{
	struct stat info;

	return !fstat(fd, &info) && !(info.st_mode & S_IFMT);
}

/* #syscalls: fcntl */
static int duplicate_eventfd(int fd)
{
	int copy;

	if (!uvf_is_eventfd(fd))
		return fcntl(fd, F_GETFD) < 0 ? -EBADF : -EINVAL;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? -errno : copy;
}

static void vector_set_trigger(struct irq_index *irq, struct irq_vector *vector, int fd)
{
	int old;

	pthread_mutex_lock(&vector->lock);
	old = vector->trigger;
	vector->trigger = fd;
	if (fd < 0) {
		vector->pending = false;
		vector->masked = false;
	} else if (old < 0 && (vector->asserted || vector->pending)) {
		vector_fire(irq, vector);
	}
	pthread_mutex_unlock(&vector->lock);
	if (old >= 0)
		close(old);
}

void uvf_irq_index_changed(struct uvf_device *dev, uint32_t index)
{
	if (dev->layer_ops && dev->layer_ops->irq_changed)
		dev->layer_ops->irq_changed(dev, index);
	if (dev->ops->irq_changed)
		dev->ops->irq_changed(dev, index);
}

static void index_disable(struct uvf_device *dev, struct irq_index *irq)
{
	for (uint32_t i = 0; i < irq->description.count; i++) {
		uvf_resampler_set(dev, irq, &irq->vectors[i], -1);
		vector_set_trigger(irq, &irq->vectors[i], -1);
	}
	atomic_store_explicit(&irq->enabled, false, memory_order_release);
}

void uvf_device_disable_irqs(struct uvf_device *dev)
{
	for (uint32_t i = 0; i < dev->irq_count; i++) {
		struct uvf_irq_set none = {
			.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = i,
		};

		if (!dev->irqs[i])
			continue;
		if (dev->ops->set_irqs && !dev->irqs[i]->remap) {
			dev->ops->set_irqs(dev, &none);
		} else if (atomic_load(&dev->irqs[i]->enabled)) {
			index_disable(dev, dev->irqs[i]);
			uvf_irq_index_changed(dev, i);
		}
	}
}

static bool other_is_enabled(const struct uvf_device *dev, uint32_t index)
{
	if (!(dev->flags & VFIO_DEVICE_FLAGS_PCI) || index >= PCI_EXCLUSIVE_IRQS)
		return false;
	for (uint32_t i = 0; i < PCI_EXCLUSIVE_IRQS && i < dev->irq_count; i++) {
		if (i != index && dev->irqs[i] && atomic_load(&dev->irqs[i]->enabled))
			return true;
	}
	return false;
}

/* All of them or none: the fds are duplicated before the first vector changes. */
static int set_triggers(struct uvf_device *dev, struct irq_index *irq,
			const struct uvf_irq_set *set)
{
	int *copies;
	int ret = 0;

	if (!set->count || other_is_enabled(dev, set->index))
		return -EINVAL;
	copies = calloc(set->count, sizeof(*copies));
	if (!copies)
		return -ENOMEM;
	for (uint32_t i = 0; i < set->count; i++)
		copies[i] = -1;
	for (uint32_t i = 0; i < set->count && !ret; i++) {
		if (set->fds[i] < 0)
			continue;
		copies[i] = duplicate_eventfd(set->fds[i]);
		if (copies[i] < 0)
			ret = copies[i];
	}
	for (uint32_t i = 0; i < set->count; i++) {
		if (!ret)
			vector_set_trigger(irq, &irq->vectors[set->start + i], copies[i]);
		else if (copies[i] >= 0)
			close(copies[i]);
	}
	free(copies);
	if (!ret)
		atomic_store_explicit(&irq->enabled, true, memory_order_release);
	return ret;
}

static int trigger(struct uvf_device *dev, struct irq_index *irq, const struct uvf_irq_set *set)
{
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return set_triggers(dev, irq, set);
	if (set->flags & VFIO_IRQ_SET_DATA_NONE && !set->count) {
		index_disable(dev, irq);
		return 0;
	}
	/* A loopback: signals as the device would, but never masks. */
	if (!set->count || !atomic_load(&irq->enabled))
		return -EINVAL;
	for (uint32_t i = 0; i < set->count; i++) {
		struct irq_vector *vector = &irq->vectors[set->start + i];

		if (set->flags & VFIO_IRQ_SET_DATA_BOOL && !set->bools[i])
			continue;
		pthread_mutex_lock(&vector->lock);
		vector_signal(vector);
		pthread_mutex_unlock(&vector->lock);
	}
	return 0;
}

static void vector_mask(struct irq_vector *vector)
{
	pthread_mutex_lock(&vector->lock);
	vector->masked = true;
	pthread_mutex_unlock(&vector->lock);
}

static int set_masks(struct uvf_device *dev, struct irq_index *irq, const struct uvf_irq_set *set)
{
	bool mask = set->flags & VFIO_IRQ_SET_ACTION_MASK;

	if (!(irq->description.flags & VFIO_IRQ_INFO_MASKABLE))
		return -ENOTTY;
	if (!set->count || !atomic_load(&irq->enabled))
		return -EINVAL;
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD && mask)
		return -ENOTTY;
	for (uint32_t i = 0; i < set->count; i++) {
		struct irq_vector *vector = &irq->vectors[set->start + i];
		int ret = 0;

		if (set->flags & VFIO_IRQ_SET_DATA_BOOL && !set->bools[i])
			continue;
		if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD) {
			int copy = set->fds[i] < 0 ? -1 : duplicate_eventfd(set->fds[i]);

			if (copy < -1)
				return copy;
			ret = uvf_resampler_set(dev, irq, vector, copy);
		} else if (mask) {
			vector_mask(vector);
		} else {
			uvf_irq_unmask(irq, vector);
		}
		if (ret)
			return ret;
	}
	return 0;
}

static bool set_is_valid(const struct irq_index *irq, const struct uvf_irq_set *set)
{
	uint32_t data = set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	uint32_t action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;

	if (set->flags & ~(uint32_t)(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK) ||
	    !uvf_is_power_of_two(data) || !uvf_is_power_of_two(action))
		return false;
	if (!(irq->description.flags & VFIO_IRQ_INFO_EVENTFD) || !irq->description.count)
		return false;
	return set->start < irq->description.count &&
	       set->count <= irq->description.count - set->start;
}

static int irq_set(struct uvf_device *dev, struct irq_index *irq, const struct uvf_irq_set *set)
{
	int ret;

	if (!atomic_load(&dev->open) || uvf_device_is_removed(dev))
		return -ENODEV;
	/* Whoever delivers the device's: of areas the core tells, and hears that it was heard. */
	if (dev->ops->set_irqs && !irq->remap) {
		ret = dev->ops->set_irqs(dev, set);
		if (!ret && set->flags & VFIO_IRQ_SET_ACTION_TRIGGER)
			atomic_store(&irq->enabled, set->count != 0);
		return ret;
	}
	if (set->flags & VFIO_IRQ_SET_ACTION_TRIGGER)
		ret = trigger(dev, irq, set);
	else
		ret = set_masks(dev, irq, set);
	if (!ret)
		uvf_irq_index_changed(dev, set->index);
	/* Whether the driver follows may be another now. */
	if (irq->remap)
		uvf_remap_poke(irq->remap);
	return ret;
}

static void catch_up(struct uvf_device *dev, uint32_t index)
{
	struct irq_index *irq = dev->irqs[index];

	for (uint32_t i = 0; i < irq->description.count; i++) {
		struct irq_vector *vector = &irq->vectors[i];

		pthread_mutex_lock(&vector->lock);
		if (vector->trigger >= 0 && !vector->masked &&
		    (vector->pending || vector->asserted) &&
		    (!is_looked_at(dev) || uvf_inject_irq(dev, index, i, vector->asserted)))
			vector_fire(irq, vector);
		pthread_mutex_unlock(&vector->lock);
	}
	/* The layer has what is pending of its own. */
	if (dev->layer_ops && dev->layer_ops->irq_changed && atomic_load(&irq->enabled))
		dev->layer_ops->irq_changed(dev, index);
}

void uvf_irq_catch_up(struct uvf_device *dev)
{
	for (uint32_t i = 0; i < dev->irq_count; i++)
		if (dev->irqs[i])
			catch_up(dev, i);
}

int uvf_irq_set(struct uvf_device *dev, const struct uvf_irq_set *set)
{
	struct irq_index *irq = irq_at(dev, set->index);
	int ret;

	if (!irq || !set_is_valid(irq, set))
		return -EINVAL;
	uvf_device_lock(dev);
	ret = irq_set(dev, irq, set);
	uvf_device_unlock(dev);
	return ret;
}
