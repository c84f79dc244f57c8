/* SPDX-License-Identifier: BSD-3-Clause */
/* The controller that tests of the driver are free to break. */
#include "fake_nvme.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/uapi.h>

static void put_text(uint8_t *to, const char *text, size_t size)
{
	memset(to, ' ', size);
	memcpy(to, text, strlen(text));
}

static void identify(struct fake_nvme *fake, const struct nvme_driver_command *command)
{
	uint8_t page[4096] = {0};
	uint64_t blocks = FAKE_BLOCKS;

	switch (command->cdw10) {
	case NVME_CNS_CONTROLLER:
		put_text(page + NVME_ID_SN, "fake serial", 20);
		put_text(page + NVME_ID_MN, "fake model", 40);
		put_text(page + NVME_ID_FR, "1", 8);
		page[NVME_ID_MDTS] = 5; /* 128 KiB */
		break;
	case NVME_CNS_ACTIVE_NAMESPACES:
		page[0] = 1;
		break;
	case NVME_CNS_NAMESPACE:
		memcpy(page, &blocks, sizeof(blocks));
		page[NVME_NS_LBAF + 2] = fake->block_shift;
		break;
	}
	uvf_dma_write(fake->dev, UVF_PASID_NONE, command->prp1, page, sizeof(page));
}

static uint16_t admin(struct fake_nvme *fake, const struct nvme_driver_command *command,
		      uint32_t *result)
{
	unsigned id = command->cdw10 & 0xffff;
	struct fake_ring ring = {
		.base = command->prp1,
		.entries = (command->cdw10 >> 16) + 1,
		.phase = 1,
	};

	if (command->opcode == fake->fail_opcode)
		return 0x6;
	switch (command->opcode) {
	case NVME_ADMIN_IDENTIFY:
		identify(fake, command);
		break;
	case NVME_ADMIN_SET_FEATURES:
		*result = fake->no_queues ? 0 : 1 << 16 | 1;
		break;
	case NVME_ADMIN_CREATE_CQ:
		assert(id < FAKE_QUEUES);
		fake->cq[id] = ring;
		break;
	case NVME_ADMIN_CREATE_SQ:
		assert(id < FAKE_QUEUES);
		fake->sq[id] = ring;
		break;
	}
	return 0;
}

/* One page's part of a read or write. */
static void move(struct fake_nvme *fake, bool write, uvf_iova_t iova, uint64_t at, size_t size)
{
	assert(at + size <= FAKE_SIZE);
	if (write)
		uvf_dma_read(fake->dev, UVF_PASID_NONE, iova, fake->disk + at, size);
	else
		uvf_dma_write(fake->dev, UVF_PASID_NONE, iova, fake->disk + at, size);
}

static uint16_t io(struct fake_nvme *fake, const struct nvme_driver_command *command)
{
	uint64_t at = ((uint64_t)command->cdw11 << 32 | command->cdw10) * 512;
	uint64_t left = ((command->cdw12 & 0xffff) + 1ULL) * 512;
	uint64_t part = 4096 - (command->prp1 & 4095), entry = command->prp2;
	bool write = command->opcode == NVME_IO_WRITE, list;

	if (fake->io_status || command->opcode == NVME_IO_FLUSH)
		return fake->io_status;
	part = part < left ? part : left;
	move(fake, write, command->prp1, at, part);
	left -= part;
	list = left > 4096;
	fake->list_entries_seen = 0;
	for (uint64_t i = 0; left; i++) {
		at += part;
		part = left < 4096 ? left : 4096;
		if (list) {
			uvf_dma_read(fake->dev, UVF_PASID_NONE, command->prp2 + i * 8, &entry, 8);
			fake->list_entries_seen++;
		}
		move(fake, write, entry, at, part);
		left -= part;
	}
	return 0;
}

static void complete(struct fake_nvme *fake, unsigned id, uint16_t cid, uint16_t status,
		     uint32_t result)
{
	struct fake_ring *cq = &fake->cq[id];
	struct nvme_driver_completion entry = {
		.result = result,
		.sq_head = (uint16_t)fake->sq[id].head,
		.sq_id = (uint16_t)id,
		.cid = fake->wrong_cid && id ? 0x7777 : cid,
		.status = (uint16_t)(status << 1 | cq->phase),
	};

	/* The driver must have said that it took what this entry held. */
	assert((cq->tail + 1) % cq->entries != cq->head);
	uvf_dma_write(fake->dev, UVF_PASID_NONE, cq->base + cq->tail * sizeof(entry), &entry,
		      sizeof(entry));
	cq->tail = (cq->tail + 1) % cq->entries;
	if (!cq->tail)
		cq->phase ^= 1;
	fake->done++;
}

static void run(struct fake_nvme *fake, unsigned id)
{
	struct fake_ring *sq = &fake->sq[id];

	while (sq->head != sq->tail) {
		struct nvme_driver_command command;
		uint32_t result = 0;
		uint16_t status;

		uvf_dma_read(fake->dev, UVF_PASID_NONE, sq->base + sq->head * sizeof(command),
			     &command, sizeof(command));
		sq->head = (sq->head + 1) % sq->entries;
		if (fake->silent || (fake->silent_after && fake->done >= fake->silent_after))
			continue;
		status = id ? io(fake, &command) : admin(fake, &command, &result);
		complete(fake, id, command.cid, status, result);
	}
}

static void enable(struct fake_nvme *fake)
{
	fake->sq[0] = (struct fake_ring){
		.base = fake->asq,
		.entries = (fake->aqa & 0xfff) + 1,
	};
	fake->cq[0] = (struct fake_ring){
		.base = fake->acq,
		.entries = (fake->aqa >> 16 & 0xfff) + 1,
		.phase = 1,
	};
	fake->csts = fake->fatal ? NVME_CSTS_CFS : fake->never_ready ? 0 : NVME_CSTS_RDY;
}

static int bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	struct fake_nvme *fake = uvf_device_opaque(dev);
	uint32_t value = 0;

	if (offset == NVME_REG_CAP)
		value = (uint32_t)fake->cap;
	else if (offset == NVME_REG_CAP + 4)
		value = (uint32_t)(fake->cap >> 32);
	else if (offset == NVME_REG_VS)
		value = 0x10400;
	else if (offset == NVME_REG_CSTS)
		value = fake->gone ? UINT32_MAX : fake->csts;
	memcpy(buf, &value, count < 4 ? count : 4);
	return 0;
}

static void doorbell(struct fake_nvme *fake, uint32_t number, uint32_t value)
{
	unsigned id = number / 2;

	assert(id < FAKE_QUEUES);
	if (number % 2) {
		assert(value < fake->cq[id].entries);
		fake->cq[id].head = value;
		return;
	}
	assert(value < fake->sq[id].entries);
	fake->sq[id].tail = value;
	fake->tail_writes += id != 0;
	run(fake, id);
}

static int bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count)
{
	struct fake_nvme *fake = uvf_device_opaque(dev);
	uint32_t value;

	assert(count == 4);
	memcpy(&value, buf, 4);
	if (offset >= NVME_REG_DOORBELLS)
		doorbell(fake, (uint32_t)(offset - NVME_REG_DOORBELLS) / 4, value);
	else if (offset == NVME_REG_AQA)
		fake->aqa = value;
	else if (offset == NVME_REG_ASQ || offset == NVME_REG_ASQ + 4)
		memcpy((uint8_t *)&fake->asq + (offset & 4), &value, 4);
	else if (offset == NVME_REG_ACQ || offset == NVME_REG_ACQ + 4)
		memcpy((uint8_t *)&fake->acq + (offset & 4), &value, 4);
	else if (offset == NVME_REG_CC && value & NVME_CC_SHN_NORMAL)
		fake->csts = NVME_CSTS_RDY | NVME_SHST_COMPLETE << 2;
	else if (offset == NVME_REG_CC && value & NVME_CC_EN)
		enable(fake);
	else if (offset == NVME_REG_CC)
		fake->csts = 0;
	return 0;
}

static int config_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	struct fake_nvme *fake = uvf_device_opaque(dev);

	memcpy(buf, fake->config + offset, count);
	return 0;
}

static int config_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count)
{
	struct fake_nvme *fake = uvf_device_opaque(dev);

	memcpy(fake->config + offset, buf, count);
	uvf_device_set_bus_master(dev, fake->config[PCI_COMMAND] & PCI_COMMAND_MASTER);
	return 0;
}

void fake_nvme_new(struct fake_nvme *fake)
{
	static const struct uvf_device_ops ops;
	struct uvf_region config = {
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
		.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
		.size = sizeof(fake->config),
		.read = config_read,
		.write = config_write,
	};
	struct uvf_region bar = config;

	bar.index = VFIO_PCI_BAR0_REGION_INDEX;
	bar.size = 0x2000;
	bar.read = bar_read;
	bar.write = bar_write;
	memset(fake, 0, sizeof(*fake));
	fake->cap = 1023;
	fake->fail_opcode = 0xff;
	fake->block_shift = 9;
	fake->config[PCI_CLASS_PROG] = 2;
	fake->config[PCI_CLASS_PROG + 1] = 8;
	fake->config[PCI_CLASS_PROG + 2] = 1;
	if (uvf_device_new("fake", &ops, VFIO_DEVICE_FLAGS_PCI, fake, &fake->dev) ||
	    uvf_device_add_region(fake->dev, &config) || uvf_device_add_region(fake->dev, &bar))
		abort();
}

void fake_nvme_free(struct fake_nvme *fake)
{
	uvf_device_free(fake->dev);
}
