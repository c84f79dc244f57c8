/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a driver holds of a device, for a device of another process that takes its place: the memory
 * that it may have mapped, the eventfds by which it is told and tells.
 *
 * Descriptors keep their numbers when they are replaced, because models know them.
 */
#include "core/device.h"

#include "base/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int uvf_device_can_hand_over(struct uvf_device *dev, struct uvf_error *error)
{
	if (!uvf_migration_flags(dev))
		return uvf_fail(error, -ENOTTY, "%s can't be migrated", dev->name);
	if (dev->ops->set_irqs)
		return uvf_fail(error, -EOPNOTSUPP, "%s is in another process still", dev->name);
	if (uvf_attachment_log_is_on(dev->attachment))
		return uvf_fail(error, -EBUSY, "its driver follows what %s writes", dev->name);
	if (dev->remap)
		return uvf_fail(error, -EOPNOTSUPP, "%s: areas of its regions change", dev->name);
	for (uint32_t i = 0; i < dev->region_count; i++) {
		const struct region *region = dev->regions[i];

		for (size_t a = 0; region && a < region->areas.count; a++)
			if (region->areas.areas[a].fd != dev->memory_fd)
				return uvf_fail(error, -EOPNOTSUPP,
						"%s: region %u is mapped from a file of its own",
						dev->name, i);
	}
	return 0;
}

/* ---- Memory ---- */

int uvf_device_memory_fd(const struct uvf_device *dev)
{
	return dev->memory_fd;
}

/* All that is mapped here of the device's memory is of @fd instead. */
static int map_memory(struct uvf_device *dev, int fd)
{
	for (size_t i = 0; i < dev->memory_count; i++) {
		const struct region_memory *memory = &dev->memories[i];

		if (mmap(memory->address, memory->size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd,
			 (off_t)((uint64_t)memory->index << UVF_REGION_SHIFT)) == MAP_FAILED)
			return -errno;
	}
	for (uint32_t i = 0; i < dev->region_count; i++) {
		const struct region *region = dev->regions[i];

		for (size_t a = 0; region && a < region->areas.count; a++) {
			const struct uvf_area *area = &region->areas.areas[a];
			uint32_t flags = region->description.flags;
			int prot = (flags & VFIO_REGION_INFO_FLAG_READ ? PROT_READ : 0) |
				   (flags & VFIO_REGION_INFO_FLAG_WRITE ? PROT_WRITE : 0);

			if (area->fd == dev->memory_fd &&
			    mmap(region->areas.mapped[a], area->size, prot, MAP_SHARED | MAP_FIXED,
				 fd, (off_t)area->fd_offset) == MAP_FAILED)
				return -errno;
		}
	}
	return 0;
}

/*
 * Whether @fd is a file like ours: a driver may hold it, so it must not be able to cut it.
 * #syscalls: fcntl fstat newfstatat
 */
static int check_memory(const struct uvf_device *dev, int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat stat;

	if (seals < 0 || fstat(fd, &stat))
		return -EINVAL;
	if (!(seals & F_SEAL_SHRINK) || seals & F_SEAL_WRITE ||
	    (uint64_t)stat.st_size != dev->memory_size)
		return -EINVAL;
	return 0;
}

/* #syscalls: fcntl dup3 close */
int uvf_device_adopt_memory(struct uvf_device *dev, int fd, int *oldp)
{
	int old, ret;

	if (dev->memory_fd < 0)
		return -ENOENT;
	ret = check_memory(dev, fd);
	if (ret)
		return ret;
	/* Who doesn't want it takes no descriptor: there may be none left to undo what was done. */
	old = oldp ? fcntl(dev->memory_fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (oldp && old < 0)
		return -errno;
	uvf_device_lock(dev);
	ret = map_memory(dev, fd);
	if (!ret && dup3(fd, dev->memory_fd, O_CLOEXEC) < 0)
		ret = -errno;
	if (ret)
		map_memory(dev, dev->memory_fd);
	uvf_device_unlock(dev);
	if (ret && old >= 0)
		close(old);
	else if (oldp)
		*oldp = old;
	return ret;
}

/* #syscalls: memfd_create ftruncate fcntl close */
int uvf_device_new_memory(struct uvf_device *dev, int *fdp)
{
	int fd = memfd_create("uvfio-regions", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)dev->memory_size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		int error = errno;

		close(fd);
		return -error;
	}
	*fdp = fd;
	return 0;
}

/* Holes stay holes. #syscalls: lseek pread64 pwrite64 */
int uvf_device_copy_memory(struct uvf_device *dev, int fd)
{
	const size_t piece = 1 << 20;
	char *buffer = malloc(piece);
	off_t at = 0;
	int ret = buffer ? 0 : -ENOMEM;

	while (!ret && (at = lseek(dev->memory_fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(dev->memory_fd, at, SEEK_HOLE);

		while (!ret && at < end) {
			size_t left = (size_t)(end - at);
			ssize_t got =
				pread(dev->memory_fd, buffer, left < piece ? left : piece, at);

			if (got <= 0 || pwrite(fd, buffer, (size_t)got, at) != got)
				ret = -EIO;
			else
				at += got;
		}
	}
	free(buffer);
	return ret;
}

/* ---- Doorbells by eventfd ---- */

size_t uvf_device_io_fds(const struct uvf_device *dev, int *fds, size_t max)
{
	size_t count = 0;

	for (uint32_t i = 0; i < dev->region_count; i++) {
		const struct region *region = dev->regions[i];

		for (size_t n = 0; region && n < region->description.io_fd_count; n++) {
			size_t known = 0;

			while (known < count && known < max && fds[known] != region->io_fds[n].fd)
				known++;
			if (known < count)
				continue;
			if (count < max)
				fds[count] = region->io_fds[n].fd;
			count++;
		}
	}
	return count;
}

/* #syscalls: dup3 */
int uvf_device_replace_io_fds(struct uvf_device *dev, const int *fds, size_t count)
{
	int *ours = calloc(count + 1, sizeof(*ours));
	int ret = 0;

	if (!ours)
		return -ENOMEM;
	if (uvf_device_io_fds(dev, ours, count) != count)
		ret = -EINVAL;
	for (size_t i = 0; i < count && !ret; i++)
		if (dup3(fds[i], ours[i], O_CLOEXEC) < 0)
			ret = -errno;
	free(ours);
	return ret;
}

/* #syscalls: eventfd2 close */
int uvf_device_renew_io_fds(struct uvf_device *dev)
{
	size_t count = uvf_device_io_fds(dev, NULL, 0);
	int *fresh = calloc(count + 1, sizeof(*fresh));
	size_t made = 0;
	int ret = fresh ? 0 : -ENOMEM;

	for (; made < count && !ret; made++) {
		fresh[made] = eventfd(0, EFD_CLOEXEC);
		if (fresh[made] < 0)
			ret = -errno;
	}
	if (!ret)
		ret = uvf_device_replace_io_fds(dev, fresh, count);
	for (size_t i = 0; i < made; i++)
		if (fresh[i] >= 0)
			close(fresh[i]);
	free(fresh);
	return ret;
}

/* ---- Interrupts ---- */

/* #syscalls: fcntl */
static int copy_of(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/*
 * One vector's, or nothing of it. The unmask eventfd is given up before the state is looked at: who
 * waited for it may have changed that.
 */
static int give_vector(struct uvf_device *dev, struct irq_index *irq, uint32_t number,
		       struct uvf_irq_handover *given)
{
	struct irq_vector *vector = &irq->vectors[number];
	/* Both are set with the device's lock held, which is. */
	int trigger = copy_of(vector->trigger), unmask = copy_of(vector->unmask);

	if ((vector->trigger >= 0 && trigger < 0) || (vector->unmask >= 0 && unmask < 0)) {
		uvf_fdpass_close((int[]){trigger, unmask}, 2);
		return -EMFILE;
	}
	uvf_resampler_set(dev, irq, vector, -1);
	*given = (struct uvf_irq_handover){
		.index = irq->description.index,
		.vector = number,
		.trigger = trigger,
		.unmask = unmask,
	};
	pthread_mutex_lock(&vector->lock);
	given->masked = vector->masked;
	given->pending = vector->pending;
	given->asserted = vector->asserted;
	pthread_mutex_unlock(&vector->lock);
	return 0;
}

static size_t count_vectors(const struct uvf_device *dev)
{
	size_t count = 0;

	for (uint32_t i = 0; i < dev->irq_count; i++)
		if (dev->irqs[i] && atomic_load(&dev->irqs[i]->enabled))
			count += dev->irqs[i]->description.count;
	return count;
}

int uvf_device_give_irqs(struct uvf_device *dev, struct uvf_irq_handover **irqsp, size_t *countp)
{
	struct uvf_irq_handover *irqs;
	size_t count = 0;
	int ret = 0;

	uvf_device_lock(dev);
	irqs = calloc(count_vectors(dev) + 1, sizeof(*irqs));
	if (!irqs)
		ret = -ENOMEM;
	for (uint32_t i = 0; i < dev->irq_count && !ret; i++) {
		struct irq_index *irq = dev->irqs[i];

		if (!irq || !atomic_load(&irq->enabled))
			continue;
		for (uint32_t n = 0; n < irq->description.count && !ret; n++) {
			ret = give_vector(dev, irq, n, &irqs[count]);
			if (!ret)
				count++;
		}
	}
	uvf_device_unlock(dev);
	*irqsp = irqs;
	*countp = count;
	return ret;
}

static struct irq_vector *vector_at(const struct uvf_device *dev, uint32_t index, uint32_t number)
{
	struct irq_index *irq = index < dev->irq_count ? dev->irqs[index] : NULL;

	return irq && number < irq->description.count ? &irq->vectors[number] : NULL;
}

int uvf_device_check_irqs(struct uvf_device *dev, const struct uvf_irq_handover *irqs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct uvf_irq_handover *irq = &irqs[i];
		uint32_t flags;

		if (!vector_at(dev, irq->index, irq->vector))
			return -EINVAL;
		flags = dev->irqs[irq->index]->description.flags;
		if (!(flags & VFIO_IRQ_INFO_EVENTFD) ||
		    (irq->unmask >= 0 && !(flags & VFIO_IRQ_INFO_MASKABLE)) ||
		    (irq->trigger >= 0 && !uvf_is_eventfd(irq->trigger)) ||
		    (irq->unmask >= 0 && !uvf_is_eventfd(irq->unmask)))
			return -EINVAL;
	}
	return 0;
}

/* #syscalls: close */
static int take_vector(struct uvf_device *dev, struct uvf_irq_handover *taken)
{
	struct irq_vector *vector = vector_at(dev, taken->index, taken->vector);
	int unmask = taken->unmask, old;

	pthread_mutex_lock(&vector->lock);
	old = vector->trigger;
	vector->trigger = taken->trigger;
	vector->masked = taken->masked;
	vector->pending = taken->pending;
	vector->asserted = taken->asserted;
	pthread_mutex_unlock(&vector->lock);
	taken->trigger = taken->unmask = -1;
	if (old >= 0)
		close(old);
	atomic_store_explicit(&dev->irqs[taken->index]->enabled, true, memory_order_release);
	return unmask < 0 ? 0 : uvf_resampler_set(dev, dev->irqs[taken->index], vector, unmask);
}

int uvf_device_take_irqs(struct uvf_device *dev, struct uvf_irq_handover *irqs, size_t count)
{
	int ret = uvf_device_check_irqs(dev, irqs, count);

	if (ret)
		return ret;
	uvf_device_lock(dev);
	/* All that can be: what one lacks is no reason to take nothing of the next. */
	for (size_t i = 0; i < count; i++) {
		int error = take_vector(dev, &irqs[i]);

		ret = ret ? ret : error;
	}
	for (uint32_t i = 0; i < dev->irq_count; i++)
		if (dev->irqs[i] && atomic_load(&dev->irqs[i]->enabled))
			uvf_irq_index_changed(dev, i);
	uvf_device_unlock(dev);
	return ret;
}

void uvf_irq_handover_free(struct uvf_irq_handover *irqs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (irqs[i].trigger >= 0)
			close(irqs[i].trigger);
		if (irqs[i].unmask >= 0)
			close(irqs[i].unmask);
	}
	free(irqs);
}
