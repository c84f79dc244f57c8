/* SPDX-License-Identifier: BSD-3-Clause */
/* Queue pairs: their memory, doorbells that are not just a store, waiting, PRP lists. */
#include "driver.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uvfio/uapi.h>

static uint64_t pages(uint64_t size)
{
	return (size + NVME_PAGE - 1) & ~(uint64_t)(NVME_PAGE - 1);
}

uint64_t queue_memory(uint32_t entries, uint32_t depth)
{
	return pages((uint64_t)entries * sizeof(struct nvme_driver_command)) +
	       pages((uint64_t)entries * CQ_FACTOR * sizeof(struct nvme_driver_completion)) +
	       (uint64_t)depth * NVME_PAGE;
}

static void doorbell_init(struct nvme_driver *driver, struct nvme_driver_doorbell *doorbell,
			  uint32_t number)
{
	doorbell->io_fd = -1;
	doorbell->offset =
		NVME_REG_DOORBELLS + (uint64_t)number * (4u << NVME_CAP_DSTRD(driver->cap));
	if (driver->doorbells &&
	    doorbell->offset + 4 <= driver->doorbells_map_offset + driver->doorbells_map_size)
		doorbell->mapped = (uint32_t *)(void *)(driver->doorbells + doorbell->offset -
							driver->doorbells_map_offset);
}

int queue_init(struct nvme_driver *driver, struct nvme_driver_queue *queue, uint16_t id,
	       uint32_t entries, uint32_t depth)
{
	uint32_t cq_entries = entries * CQ_FACTOR;

	*queue = (struct nvme_driver_queue){
		.driver = driver,
		.id = id,
		.eventfd = -1,
		.sq_mask = entries - 1,
		.cq_mask = cq_entries - 1,
		.cq_ring_at = cq_entries / 4,
		.phase = 1,
		.depth = (uint16_t)depth,
	};
	queue->sq = dma_memory_take(&driver->memory, entries * sizeof(*queue->sq), &queue->sq_iova);
	queue->cq =
		dma_memory_take(&driver->memory, cq_entries * sizeof(*queue->cq), &queue->cq_iova);
	queue->lists =
		dma_memory_take(&driver->memory, (uint64_t)depth * NVME_PAGE, &queue->lists_iova);
	queue->free = calloc(depth, sizeof(*queue->free));
	queue->in_flight = calloc(depth, sizeof(*queue->in_flight));
	if (!queue->sq || !queue->cq || !queue->lists || !queue->free || !queue->in_flight)
		return -ENOMEM;
	for (uint32_t i = 0; i < depth; i++)
		queue->free[queue->free_count++] = (uint16_t)(depth - 1 - i);
	doorbell_init(driver, &queue->tail_doorbell, 2u * id);
	doorbell_init(driver, &queue->head_doorbell, 2u * id + 1);
	return 0;
}

void queue_free(struct nvme_driver_queue *queue)
{
	free(queue->free);
	free(queue->in_flight);
	queue->free = NULL;
	queue->in_flight = NULL;
	if (queue->driver && queue->eventfd >= 0) /* driver NULL: never initialised */
		close(queue->eventfd);
}

/*
 * The device's eventfd for a doorbell, or -1. It says that the register was written and not with
 * what: enough where the value is in the shadow.
 */
static int io_fd_of(struct nvme_driver *driver, uint64_t offset)
{
	struct uvf_region_info info;

	if (uvf_region_get_info(driver->dev, VFIO_PCI_BAR0_REGION_INDEX, &info))
		return -1;
	for (size_t i = 0; i < info.io_fd_count; i++)
		if (info.io_fds[i].offset == offset && info.io_fds[i].size == 4 &&
		    !info.io_fds[i].match)
			return info.io_fds[i].fd;
	return -1;
}

static void doorbell_use_shadow(struct nvme_driver *driver, struct nvme_driver_doorbell *doorbell)
{
	uint64_t offset = doorbell->offset - NVME_REG_DOORBELLS;

	/* The buffers are one page each; a queue whose doorbell lies past it has none. */
	if (offset + 4 > NVME_PAGE)
		return;
	doorbell->shadow = driver->shadow + offset / 4;
	doorbell->event = driver->event + offset / 4;
	doorbell->io_fd = io_fd_of(driver, doorbell->offset);
	driver->info.io_fds |= doorbell->io_fd >= 0;
}

void queue_use_shadow(struct nvme_driver_queue *queue)
{
	doorbell_use_shadow(queue->driver, &queue->tail_doorbell);
	doorbell_use_shadow(queue->driver, &queue->head_doorbell);
}

/* Whether @event, what the controller waits for, lies in (@from, @to] of a ring. */
static bool event_passed(uint32_t event, uint32_t from, uint32_t to)
{
	return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

static int signal_io_fd(int fd)
{
	uint64_t one = 1;

	return write(fd, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

int nvme_driver_ring_slowly(struct nvme_driver_queue *queue, struct nvme_driver_doorbell *doorbell,
			    uint32_t from, uint32_t to)
{
	int ret;

	if (doorbell->shadow) {
		uint32_t event;

		__atomic_store_n(doorbell->shadow, htole32(to), __ATOMIC_RELEASE);
		/* The store must be seen before the event index is read: both sides check. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		event = le32toh(__atomic_load_n(doorbell->event, __ATOMIC_RELAXED));
		if (!event_passed(event, from, to))
			return 0;
	}
	if (doorbell->mapped) {
		__atomic_store_n(doorbell->mapped, htole32(to), __ATOMIC_RELEASE);
		return 0;
	}
	ret = doorbell->io_fd >= 0 ? signal_io_fd(doorbell->io_fd)
				   : register_write32(queue->driver, doorbell->offset, to);
	if (ret && !queue->fault)
		queue->fault = ret;
	return ret;
}

/* Sleeps until the queue's interrupt, or a little so that the other side can run. */
static void wait_once(struct nvme_driver_queue *queue, unsigned round)
{
	if (queue->eventfd >= 0) {
		struct pollfd fd = {.fd = queue->eventfd, .events = POLLIN};
		uint64_t count;

		/* Not for ever: the other side may have gone. */
		if (poll(&fd, 1, 100) > 0 && read(queue->eventfd, &count, sizeof(count)) > 0)
			queue->interrupts += count;
		return;
	}
	if (round % 64)
		__builtin_ia32_pause();
	else
		sched_yield();
}

int nvme_driver_wait(struct nvme_driver_queue *queue, struct nvme_driver_done *done, unsigned max,
		     uint32_t timeout_ms)
{
	uint64_t end = 0;

	for (unsigned round = 1;; round++) {
		int count = nvme_driver_poll(queue, done, max);

		if (count)
			return count;
		if (queue->eventfd >= 0 || round % 1024 == 0) {
			uint32_t csts = 0;
			uint64_t now = now_ms();

			if (!end)
				end = now + timeout_ms;
			if (now > end)
				return -ETIMEDOUT;
			/* A device that has gone never completes: ask its registers. */
			if (round % (1u << 20) == 0 || queue->eventfd >= 0) {
				int ret = register_read32(queue->driver, NVME_REG_CSTS, &csts);

				if (ret || csts & NVME_CSTS_CFS)
					return queue->fault = ret ? ret : -EIO;
			}
		}
		wait_once(queue, round);
	}
}

int nvme_driver_execute(struct nvme_driver_queue *queue, const struct nvme_driver_command *command,
			uint32_t *result)
{
	struct nvme_driver_command *entry;
	struct nvme_driver_done done = {0};
	uint16_t cid;
	int ret;

	if (queue->fault)
		return queue->fault;
	entry = nvme_driver_prepare(queue);
	if (!entry)
		return -EAGAIN;
	cid = entry->cid;
	*entry = *command;
	entry->cid = cid;
	nvme_driver_ring(queue);
	ret = nvme_driver_wait(queue, &done, 1, queue->driver->timeout_ms);
	if (ret < 0)
		return queue->fault = ret; /* whatever it still does is not ours to guess */
	if (result) {
		uint32_t last = (queue->cq_head - 1) & queue->cq_mask;

		*result = le32toh(queue->cq[last].result);
	}
	return done.status;
}

int nvme_driver_prepare_io(struct nvme_driver_queue *queue, uint8_t opcode, uint64_t lba,
			   uint32_t blocks, uvf_iova_t iova)
{
	const struct nvme_driver_info *info = &queue->driver->info;
	uint64_t size = (uint64_t)blocks * info->block_size;
	uint64_t first = NVME_PAGE - (iova & (NVME_PAGE - 1)); /* bytes that PRP1 covers */
	uint64_t page = iova + first;
	struct nvme_driver_command *command;
	uvf_iova_t prp2 = 0;
	uint16_t cid;

	if (!blocks || size > info->max_transfer || iova & 3)
		return -EINVAL;
	if (queue->fault)
		return queue->fault;
	command = nvme_driver_prepare(queue);
	if (!command)
		return -EAGAIN;
	cid = le16toh(command->cid);
	if (size > first && size - first <= NVME_PAGE) {
		prp2 = page;
	} else if (size > first) {
		uint64_t *list = queue->lists + (size_t)cid * LIST_ENTRIES;
		uint64_t count = pages(size - first) / NVME_PAGE;

		for (uint64_t i = 0; i < count; i++)
			list[i] = htole64(page + i * NVME_PAGE);
		prp2 = queue->lists_iova + (uint64_t)cid * NVME_PAGE;
	}
	nvme_driver_fill(command, opcode, info->nsid, lba, blocks, iova, prp2);
	return cid;
}

int nvme_driver_io(struct nvme_driver_queue *queue, uint8_t opcode, uint64_t lba, uint32_t blocks,
		   uvf_iova_t iova)
{
	struct nvme_driver_done done = {0};
	int ret = nvme_driver_prepare_io(queue, opcode, lba, blocks, iova);

	if (ret < 0)
		return ret;
	nvme_driver_ring(queue);
	ret = nvme_driver_wait(queue, &done, 1, queue->driver->timeout_ms);
	if (ret < 0)
		return queue->fault = ret;
	return done.status;
}

int nvme_driver_flush(struct nvme_driver_queue *queue)
{
	const struct nvme_driver_command command = {
		.opcode = NVME_IO_FLUSH,
		.nsid = htole32(queue->driver->info.nsid),
	};

	return nvme_driver_execute(queue, &command, NULL);
}
