/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A user-space driver for NVMe controllers, over client.h: for tests, benchmarks and the demo.
 *
 * The device can be in this process or behind a socket. No call on the hot path (prepare, ring,
 * poll) makes a system call where the doorbells can be mapped or shadow doorbells are on.
 *
 * Threads: a queue belongs to one thread at a time, queues are independent; all else from the
 * thread that opened the driver.
 * Results: 0 or a count; a negative errno; from commands also a positive NVMe status, Status Code
 * Type << 8 | Status Code.
 */
#ifndef NVME_DRIVER_H
#define NVME_DRIVER_H

#include "nvme_spec.h"

#include <errno.h>
#include <string.h>
#include <uvfio/client.h>

UVF_BEGIN_DECLS

struct nvme_driver;

struct nvme_driver_config {
	uint16_t queues;       /* I/O queue pairs; 0: 1 */
	uint16_t depth;	       /* commands in flight on each; 0: 128 */
	uint64_t memory;       /* bytes for nvme_driver_alloc() beside the driver's own; 0: 4 MiB */
	bool shadow_doorbells; /* Doorbell Buffer Config; -ENOTSUP where it isn't offered */
	bool no_mapped_doorbells; /* write them as registers even where they can be mapped */
	bool interrupts;	  /* MSI-X; nvme_driver_wait() then sleeps */
	bool hugepages;		  /* DMA memory from 2 MiB pages, where the system has some */
	uint32_t timeout_ms;	  /* of each command that is waited for; 0: 10 s */
};

struct nvme_driver_info {
	char model[41], serial[21], firmware[9];
	uint32_t version;    /* VS: major << 16 | minor << 8 | tertiary */
	uint32_t namespaces; /* active ones */
	uint32_t nsid;	     /* of the first of them, which is the one described here */
	uint32_t block_size; /* bytes */
	uint64_t blocks;
	uint32_t max_transfer;	/* bytes a command, by MDTS and by our own PRP lists */
	uint16_t queues, depth; /* as made */
	bool shadow_doorbells, mapped_doorbells, io_fds, hugepages;
};

/*
 * Takes the device, enables the controller and makes the queues. The device stays the caller's and
 * must outlive the driver.
 * Errors: those of client.h; -ENODEV (not an NVMe controller), -ETIMEDOUT (it does not get ready),
 * -EIO (it failed a command, or reports a fatal status), -ENOTSUP.
 */
int nvme_driver_open(struct uvf_device *dev, const struct nvme_driver_config *config,
		     struct nvme_driver **driverp, struct uvf_error *error);
/* Shuts the controller down and gives the device back. NULL is allowed. */
void nvme_driver_close(struct nvme_driver *driver);

const struct nvme_driver_info *nvme_driver_get_info(const struct nvme_driver *driver);

/* DMA memory, page aligned and zeroed; freed with the driver. Returns NULL when there is no more.
 */
void *nvme_driver_alloc(struct nvme_driver *driver, uint64_t size, uvf_iova_t *iovap);

/* An admin command, waited for. @result (may be NULL) gets Dword 0 of the completion. */
int nvme_driver_admin(struct nvme_driver *driver, const struct nvme_driver_command *command,
		      uint32_t *result);

/* ---- Queues ---- */

/* Where a doorbell is written. */
struct nvme_driver_doorbell {
	uint32_t *mapped; /* or NULL: by uvf_region_write() at @offset */
	uint32_t *shadow; /* or NULL: no shadow doorbells */
	uint32_t *event;  /* the controller wants the doorbell once it passes this */
	uint64_t offset;
	int io_fd; /* with a shadow: signalled instead of a write at @offset; -1: none */
};

struct nvme_driver_done {
	uint16_t cid;
	uint16_t status; /* 0, or Status Code Type << 8 | Status Code */
};

/* Its fields are the driver's own: here so that the hot path is inline. */
struct nvme_driver_queue {
	/* Submission. */
	struct nvme_driver_command *sq;
	uint32_t sq_tail, sq_mask;
	uint32_t sq_rung;    /* the tail that the controller knows */
	uint32_t free_count; /* of the command identifiers in free[] */
	uint16_t *free;
	uint8_t *in_flight; /* by command identifier */
	/* Completion. */
	struct nvme_driver_completion *cq;
	uint32_t cq_head, cq_mask;
	uint32_t cq_unrung;  /* entries taken since the head was last told */
	uint32_t cq_ring_at; /* tell it from so many on */
	uint16_t phase, depth;
	int fault; /* a negative errno, once the controller broke the protocol or has gone */

	struct nvme_driver_doorbell tail_doorbell, head_doorbell;
	struct nvme_driver *driver;
	uint64_t *lists; /* a PRP list, one page, a command identifier */
	uvf_iova_t lists_iova;
	uvf_iova_t sq_iova, cq_iova;
	int eventfd; /* or -1 */
	uint16_t id;
	uint64_t interrupts; /* that ended a wait */
};

/* @index from 0: the I/O queues. */
struct nvme_driver_queue *nvme_driver_queue(struct nvme_driver *driver, unsigned index);

/* Writes a doorbell that can't be just stored to, or may not have to be. */
int nvme_driver_ring_slowly(struct nvme_driver_queue *queue, struct nvme_driver_doorbell *doorbell,
			    uint32_t from, uint32_t to);

static inline void nvme_driver_ring_one(struct nvme_driver_queue *queue,
					struct nvme_driver_doorbell *doorbell, uint32_t from,
					uint32_t to)
{
	if (doorbell->mapped && !doorbell->shadow)
		__atomic_store_n(doorbell->mapped, htole32(to), __ATOMIC_RELEASE);
	else
		nvme_driver_ring_slowly(queue, doorbell, from, to);
}

/*
 * The next submission queue entry, to be filled in whole but for `cid`, which is set; NULL when
 * `depth` commands are in flight. What is prepared is submitted by the next nvme_driver_ring().
 */
static inline struct nvme_driver_command *nvme_driver_prepare(struct nvme_driver_queue *queue)
{
	struct nvme_driver_command *command;
	uint16_t cid;

	if (__builtin_expect(!queue->free_count, 0))
		return NULL;
	cid = queue->free[--queue->free_count];
	queue->in_flight[cid] = 1;
	command = &queue->sq[queue->sq_tail];
	queue->sq_tail = (queue->sq_tail + 1) & queue->sq_mask;
	command->cid = htole16(cid);
	return command;
}

/* Fills an entry with a read or write of @blocks (from 1) that takes at most two PRPs. */
static inline void nvme_driver_fill(struct nvme_driver_command *command, uint8_t opcode,
				    uint32_t nsid, uint64_t lba, uint32_t blocks, uvf_iova_t prp1,
				    uvf_iova_t prp2)
{
	command->opcode = opcode;
	command->flags = 0;
	command->nsid = htole32(nsid);
	command->cdw2 = 0;
	command->cdw3 = 0;
	command->mptr = 0;
	command->prp1 = htole64(prp1);
	command->prp2 = htole64(prp2);
	command->cdw10 = htole32((uint32_t)lba);
	command->cdw11 = htole32((uint32_t)(lba >> 32));
	command->cdw12 = htole32(blocks - 1);
	command->cdw13 = 0;
	command->cdw14 = 0;
	command->cdw15 = 0;
}

/* Submits all that was prepared: one doorbell. */
static inline void nvme_driver_ring(struct nvme_driver_queue *queue)
{
	if (queue->sq_tail == queue->sq_rung)
		return;
	nvme_driver_ring_one(queue, &queue->tail_doorbell, queue->sq_rung, queue->sq_tail);
	queue->sq_rung = queue->sq_tail;
	/* The controller has read the next entry once: ours again before it is written. */
	__builtin_prefetch(&queue->sq[queue->sq_tail], 1);
}

/*
 * Takes up to @max completions, never waits. Returns their number, or queue->fault: -EPROTO (a
 * completion of a command that is not in flight), or what writing a doorbell returned.
 */
static inline int nvme_driver_poll(struct nvme_driver_queue *queue, struct nvme_driver_done *done,
				   unsigned max)
{
	unsigned count = 0;

	while (count < max) {
		struct nvme_driver_completion *entry = &queue->cq[queue->cq_head];
		uint16_t status = le16toh(__atomic_load_n(&entry->status, __ATOMIC_ACQUIRE));
		uint16_t cid;

		if ((status & 1) != queue->phase)
			break;
		cid = le16toh(__atomic_load_n(&entry->cid, __ATOMIC_RELAXED));
		if (__builtin_expect(cid >= queue->depth || !queue->in_flight[cid], 0)) {
			queue->fault = -EPROTO;
			break;
		}
		queue->in_flight[cid] = 0;
		queue->free[queue->free_count++] = cid;
		done[count].cid = cid;
		done[count++].status = (status >> 1) & 0x7ff;
		queue->cq_head = (queue->cq_head + 1) & queue->cq_mask;
		if (!queue->cq_head)
			queue->phase ^= 1;
	}
	queue->cq_unrung += count;
	if (queue->cq_unrung >= queue->cq_ring_at) {
		uint32_t from = (queue->cq_head - queue->cq_unrung) & queue->cq_mask;

		nvme_driver_ring_one(queue, &queue->head_doorbell, from, queue->cq_head);
		queue->cq_unrung = 0;
	}
	return __builtin_expect(queue->fault < 0, 0) ? queue->fault : (int)count;
}

/*
 * As nvme_driver_poll(), but waits until there is one, at most @timeout_ms: by its interrupt where
 * the driver has interrupts, else by polling. Errors: also -ETIMEDOUT.
 */
int nvme_driver_wait(struct nvme_driver_queue *queue, struct nvme_driver_done *done, unsigned max,
		     uint32_t timeout_ms);

/*
 * Prepares a read or write of any size up to max_transfer at @iova (dword aligned), with a PRP list
 * where it needs one. Returns the command identifier. Errors: -EAGAIN (depth), -EINVAL.
 */
int nvme_driver_prepare_io(struct nvme_driver_queue *queue, uint8_t opcode, uint64_t lba,
			   uint32_t blocks, uvf_iova_t iova);

/* One command by itself on an idle queue, waited for. */
int nvme_driver_execute(struct nvme_driver_queue *queue, const struct nvme_driver_command *command,
			uint32_t *result);
int nvme_driver_io(struct nvme_driver_queue *queue, uint8_t opcode, uint64_t lba, uint32_t blocks,
		   uvf_iova_t iova);
int nvme_driver_flush(struct nvme_driver_queue *queue);

UVF_END_DECLS

#endif
