/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller in this process and the smallest driver that can be: queues driven by hand, so that
 * a test can do what no driver would.
 */
#ifndef NVME_RIG_H
#define NVME_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "base/bytes.h"
#include "devices/nvme/spec.h"

#define RIG_IOVA    0x100000ull
#define RIG_MEMORY  (8u << 20)
#define RIG_QUEUES  4
#define RIG_ENTRIES 16u
/* Pages of the memory: each queue has one for its SQ and one for its CQ. */
#define RIG_DATA     0x100000u /* offset of what the tests use */
#define RIG_DATA_END RIG_MEMORY
#define RIG_SHADOW   0x80000u
#define RIG_EVENT    0x81000u

struct rig_queue {
	uint32_t sq_tail, cq_head, phase, sq_size, cq_size;
	struct nvme_sqe *sq;
	struct nvme_cqe *cq;
};

/* What the driver's memory is to the device. */
enum rig_memory { RIG_FILE, RIG_REMOTE, RIG_PROCESS };

struct rig {
	struct uvf_device *dev;
	struct uvf_address_space *space;
	int fd;
	uint8_t *memory;
	uint8_t *remote; /* the same, as messages reach it */
	struct rig_queue queues[RIG_QUEUES];
	uint16_t next_cid;
	uint32_t result; /* Dword 0 of the last completion */
	bool shadow;
};

static inline uint64_t rig_iova(uint32_t offset)
{
	return RIG_IOVA + offset;
}

static inline uint32_t rig_read32(struct rig *rig, uint64_t offset)
{
	uint32_t value = 0;

	assert_int_equal(uvf_region_read(rig->dev, VFIO_PCI_BAR0_REGION_INDEX, offset, &value, 4),
			 4);
	return le32toh(value);
}

static inline void rig_write32(struct rig *rig, uint64_t offset, uint32_t value)
{
	value = htole32(value);
	assert_int_equal(uvf_region_write(rig->dev, VFIO_PCI_BAR0_REGION_INDEX, offset, &value, 4),
			 4);
}

static inline void rig_command(struct rig *rig, uint16_t value)
{
	value = htole16(value);
	assert_int_equal(
		uvf_region_write(rig->dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &value, 2),
		2);
}

static inline void rig_moment(void)
{
	const struct timespec moment = {.tv_nsec = 100000};

	nanosleep(&moment, NULL);
}

/* For as long as it takes: what hangs is ended by the test's limit. */
static inline void rig_wait_status(struct rig *rig, uint32_t mask, uint32_t value)
{
	while ((rig_read32(rig, NVME_REG_CSTS) & mask) != value)
		rig_moment();
}

static inline void rig_queue_init(struct rig *rig, unsigned id, uint32_t sq_size, uint32_t cq_size)
{
	struct rig_queue *queue = &rig->queues[id];

	*queue = (struct rig_queue){
		.phase = 1,
		.sq_size = sq_size,
		.cq_size = cq_size,
		.sq = (void *)(rig->memory + id * 0x2000),
		.cq = (void *)(rig->memory + id * 0x2000 + 0x1000),
	};
	memset(queue->sq, 0, 0x2000);
}

#define RIG_CC (NVME_CC_EN | NVME_SQES << 16 | NVME_CQES << 20)

static inline void rig_enable(struct rig *rig)
{
	rig_queue_init(rig, 0, RIG_ENTRIES, RIG_ENTRIES);
	rig->shadow = false;
	rig_write32(rig, NVME_REG_AQA, (RIG_ENTRIES - 1) << 16 | (RIG_ENTRIES - 1));
	rig_write32(rig, NVME_REG_ASQ, (uint32_t)rig_iova(0));
	rig_write32(rig, NVME_REG_ASQ + 4, 0);
	rig_write32(rig, NVME_REG_ACQ, (uint32_t)rig_iova(0x1000));
	rig_write32(rig, NVME_REG_ACQ + 4, 0);
	rig_write32(rig, NVME_REG_CC, RIG_CC);
	rig_wait_status(rig, NVME_CSTS_RDY, NVME_CSTS_RDY);
}

static inline void rig_disable(struct rig *rig)
{
	rig_write32(rig, NVME_REG_CC, 0);
	rig_wait_status(rig, NVME_CSTS_RDY, 0);
}

static inline int rig_remote_read(void *opaque, uint64_t offset, void *buf, size_t count)
{
	memcpy(buf, ((struct rig *)opaque)->remote + offset, count);
	return 0;
}

static inline int rig_remote_write(void *opaque, uint64_t offset, const void *buf, size_t count)
{
	memcpy(((struct rig *)opaque)->remote + offset, buf, count);
	return 0;
}

static inline void rig_remote_release(void *opaque)
{
}

static inline void rig_map(struct rig *rig, enum rig_memory kind)
{
	static const struct uvf_memory_remote_ops ops = {rig_remote_read, rig_remote_write,
							 rig_remote_release};
	struct uvf_memory *memory;
	uint64_t offset = 0;
	int ret;

	if (kind == RIG_FILE) {
		assert_int_equal(
			uvf_map_fd(rig->space, RIG_IOVA, RIG_MEMORY, UVF_PROT_RW, rig->fd, 0), 0);
		return;
	}
	if (kind == RIG_PROCESS) {
		ret = uvf_memory_new_process(getpid(), &memory);
		offset = (uintptr_t)rig->remote;
	} else {
		ret = uvf_memory_new_remote(&ops, rig, &memory);
	}
	assert_int_equal(ret, 0);
	assert_int_equal(uvf_map(rig->space, RIG_IOVA, RIG_MEMORY, UVF_PROT_RW, memory, offset), 0);
	uvf_memory_put(memory);
}

/* Takes @dev over, wherever it is. */
static inline void rig_open_device(struct rig *rig, struct uvf_device *dev, enum rig_memory kind)
{
	memset(rig, 0, sizeof(*rig));
	rig->dev = dev;
	assert_int_equal(uvf_device_open(rig->dev), 0);
	assert_int_equal(uvf_address_space_new(NULL, &rig->space), 0);
	assert_int_equal(uvf_device_attach(rig->dev, UVF_PASID_NONE, rig->space), 0);
	rig->fd = memfd_create("rig", MFD_CLOEXEC);
	assert_true(rig->fd >= 0);
	assert_int_equal(ftruncate(rig->fd, RIG_MEMORY), 0);
	rig->memory = mmap(NULL, RIG_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, rig->fd, 0);
	assert_ptr_not_equal(rig->memory, MAP_FAILED);
	rig->remote = mmap(NULL, RIG_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, rig->fd, 0);
	assert_ptr_not_equal(rig->remote, MAP_FAILED);
	rig_map(rig, kind);
	rig_command(rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static inline void rig_open_on(struct rig *rig, const char *spec, enum rig_memory kind)
{
	struct uvf_error error = {0};
	struct uvf_device *dev;

	if (uvf_model_create(spec, &dev, &error))
		fail_msg("%s: %s", spec, error.text);
	rig_open_device(rig, dev, kind);
}

static inline void rig_open(struct rig *rig, const char *spec)
{
	rig_open_on(rig, spec, RIG_FILE);
}

static inline void rig_close(struct rig *rig)
{
	uvf_device_close(rig->dev);
	uvf_device_free(rig->dev);
	uvf_address_space_put(rig->space);
	munmap(rig->memory, RIG_MEMORY);
	munmap(rig->remote, RIG_MEMORY);
	close(rig->fd);
}

static inline uint32_t *rig_shadow_of(struct rig *rig, uint32_t base, uint32_t number)
{
	return (uint32_t *)(void *)(rig->memory + base + number * 4);
}

/* As Linux does: the register only if the controller wants it. */
static inline void rig_ring(struct rig *rig, uint32_t number, uint32_t value)
{
	if (rig->shadow && number >= 2) {
		uint32_t *shadow = rig_shadow_of(rig, RIG_SHADOW, number);
		uint16_t old = (uint16_t)*shadow, event;

		__atomic_store_n(shadow, value, __ATOMIC_RELEASE);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		event = (uint16_t)__atomic_load_n(rig_shadow_of(rig, RIG_EVENT, number),
						  __ATOMIC_RELAXED);
		if ((uint16_t)(value - event - 1) >= (uint16_t)(value - old))
			return;
	}
	rig_write32(rig, NVME_REG_DOORBELLS + number * 4, value);
}

/* Puts an entry in place and gives its command identifier. */
static inline uint16_t rig_put(struct rig *rig, unsigned id, const struct nvme_sqe *sqe)
{
	struct rig_queue *queue = &rig->queues[id];
	struct nvme_sqe *entry = &queue->sq[queue->sq_tail];

	*entry = *sqe;
	entry->cid = htole16(++rig->next_cid);
	queue->sq_tail = (queue->sq_tail + 1) % queue->sq_size;
	return rig->next_cid;
}

static inline uint16_t rig_submit(struct rig *rig, unsigned id, const struct nvme_sqe *sqe)
{
	uint16_t cid = rig_put(rig, id, sqe);

	rig_ring(rig, 2 * id, rig->queues[id].sq_tail);
	return cid;
}

static inline bool rig_ready(struct rig *rig, unsigned id)
{
	const struct rig_queue *queue = &rig->queues[id];

	return (__atomic_load_n(&queue->cq[queue->cq_head].status, __ATOMIC_ACQUIRE) & 1) ==
	       queue->phase;
}

/* Waits for the next completion. The status has no More and no phase. */
static inline uint16_t rig_take(struct rig *rig, unsigned id, uint16_t *cid)
{
	struct rig_queue *queue = &rig->queues[id];
	struct nvme_cqe *entry = &queue->cq[queue->cq_head];

	while (!rig_ready(rig, id))
		rig_moment();
	if (cid)
		*cid = le16toh(entry->cid);
	rig->result = le32toh(entry->result);
	queue->cq_head = (queue->cq_head + 1) % queue->cq_size;
	if (!queue->cq_head)
		queue->phase ^= 1;
	rig_ring(rig, 2 * id + 1, queue->cq_head);
	return (uint16_t)((le16toh(entry->status) >> 1) & ~NVME_SC_MORE);
}

static inline uint16_t rig_do(struct rig *rig, unsigned id, const struct nvme_sqe *sqe)
{
	uint16_t submitted = rig_submit(rig, id, sqe), cid = 0;
	uint16_t status = rig_take(rig, id, &cid);

	assert_int_equal(cid, submitted);
	return status;
}

static inline uint16_t rig_create_cq(struct rig *rig, unsigned id, uint32_t size)
{
	return rig_do(rig, 0,
		      &(struct nvme_sqe){.opcode = NVME_ADM_CREATE_CQ,
					 .prp1 = htole64(rig_iova(id * 0x2000 + 0x1000)),
					 .cdw10 = htole32((size - 1) << 16 | id),
					 .cdw11 = htole32(id << 16 | 3)});
}

static inline uint16_t rig_create_sq(struct rig *rig, unsigned id, uint32_t size, unsigned cq)
{
	return rig_do(rig, 0,
		      &(struct nvme_sqe){.opcode = NVME_ADM_CREATE_SQ,
					 .prp1 = htole64(rig_iova(id * 0x2000)),
					 .cdw10 = htole32((size - 1) << 16 | id),
					 .cdw11 = htole32(cq << 16 | 1)});
}

static inline void rig_create_queue(struct rig *rig, unsigned id)
{
	rig_queue_init(rig, id, RIG_ENTRIES, RIG_ENTRIES);
	assert_int_equal(rig_create_cq(rig, id, RIG_ENTRIES), 0);
	assert_int_equal(rig_create_sq(rig, id, RIG_ENTRIES, id), 0);
}

static inline void rig_start_on(struct rig *rig, const char *spec, enum rig_memory kind)
{
	rig_open_on(rig, spec, kind);
	rig_enable(rig);
	rig_create_queue(rig, 1);
}

static inline void rig_start(struct rig *rig, const char *spec)
{
	rig_start_on(rig, spec, RIG_FILE);
}

/* A command on blocks of namespace 1, its data at @offset of the memory. */
static inline struct nvme_sqe rig_rw(uint8_t opcode, uint64_t lba, uint32_t blocks, uint32_t offset)
{
	uint64_t first = rig_iova(offset);

	return (struct nvme_sqe){.opcode = opcode,
				 .nsid = htole32(1),
				 .prp1 = htole64(first),
				 .prp2 = htole64((first & ~0xfffull) + 0x1000),
				 .cdw10 = htole32((uint32_t)lba),
				 .cdw11 = htole32((uint32_t)(lba >> 32)),
				 .cdw12 = htole32(blocks - 1)};
}

static inline uint16_t rig_io(struct rig *rig, uint8_t opcode, uint64_t lba, uint32_t blocks,
			      uint32_t offset)
{
	struct nvme_sqe sqe = rig_rw(opcode, lba, blocks, offset);

	return rig_do(rig, 1, &sqe);
}

static inline uint16_t rig_admin(struct rig *rig, uint8_t opcode, uint32_t nsid, uint32_t cdw10,
				 uint32_t cdw11)
{
	return rig_do(rig, 0,
		      &(struct nvme_sqe){.opcode = opcode,
					 .nsid = htole32(nsid),
					 .prp1 = htole64(rig_iova(RIG_DATA)),
					 .cdw10 = htole32(cdw10),
					 .cdw11 = htole32(cdw11)});
}

#define DNR(status) ((status) | NVME_SC_DNR)

#endif
