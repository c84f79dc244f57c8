/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * BAR 0: controller registers and, where they are not mapped into the driver, doorbells. Reads of
 * any size and alignment work, reserved bytes are 0. Writes are whole registers or their halves, 4
 * or 8 bytes, aligned; the specification leaves others undefined and here they do nothing.
 */
#include "devices/nvme/nvme.h"

#define CAP_CQR	    (1ULL << 16)
#define CAP_TO(t)   ((uint64_t)(t) << 24) /* in 500 ms */
#define CAP_CSS_NVM (1ULL << 37)

uint64_t nvme_cap(const struct nvme *ctrl)
{
	return (NVME_MAX_ENTRIES - 1) | CAP_CQR | CAP_TO(60) | CAP_CSS_NVM;
}

static void fill(struct nvme *ctrl, uint8_t image[NVME_REG_END])
{
	const struct nvme_registers *registers = &ctrl->registers;
	uint32_t intms;

	pthread_mutex_lock(&ctrl->state_lock);
	intms = atomic_load(&registers->intms);
	memset(image, 0, NVME_REG_END);
	uvf_put_le64(image + NVME_REG_CAP, nvme_cap(ctrl));
	uvf_put_le32(image + NVME_REG_VS, NVME_VERSION);
	uvf_put_le32(image + NVME_REG_INTMS, intms);
	uvf_put_le32(image + NVME_REG_INTMC, intms);
	uvf_put_le32(image + NVME_REG_CC, registers->cc);
	uvf_put_le32(image + NVME_REG_CSTS, registers->csts);
	uvf_put_le32(image + NVME_REG_AQA, registers->aqa);
	uvf_put_le64(image + NVME_REG_ASQ, registers->asq);
	uvf_put_le64(image + NVME_REG_ACQ, registers->acq);
	pthread_mutex_unlock(&ctrl->state_lock);
}

int nvme_bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf, size_t count)
{
	uint8_t image[NVME_REG_END];

	memset(buf, 0, count);
	if (offset >= NVME_REG_END)
		return 0;
	fill(uvf_device_opaque(dev), image);
	memcpy(buf, image + offset,
	       count < NVME_REG_END - offset ? count : (size_t)(NVME_REG_END - offset));
	return 0;
}

static void write_cc(struct nvme *ctrl, uint32_t value)
{
	struct nvme_registers *registers = &ctrl->registers;
	uint32_t before;

	value &= NVME_CC_WRITABLE;
	pthread_mutex_lock(&ctrl->state_lock);
	before = registers->cc;
	registers->cc = value;
	if (before & NVME_CC_EN && !(value & NVME_CC_EN))
		ctrl->reset_wanted = true;
	if (NVME_CC_SHN(value) && !NVME_CC_SHN(before)) {
		registers->csts &= ~NVME_CSTS_SHST_MASK;
		registers->csts |= NVME_CSTS_SHST_ONGOING;
		ctrl->shutdown_wanted = true;
	} else if (!NVME_CC_SHN(value) && !ctrl->shutdown_wanted &&
		   (registers->csts & NVME_CSTS_SHST_MASK) == NVME_CSTS_SHST_COMPLETE) {
		registers->csts &= ~NVME_CSTS_SHST_MASK;
	}
	pthread_mutex_unlock(&ctrl->state_lock);
	nvme_controller_call(ctrl);
}

static void write_base(struct nvme *ctrl, uint64_t *base, uint32_t value, bool high)
{
	pthread_mutex_lock(&ctrl->state_lock);
	if (high)
		*base = (*base & UINT32_MAX) | (uint64_t)value << 32;
	else
		*base = (*base & ~(uint64_t)UINT32_MAX) | (value & ~(NVME_PAGE_SIZE - 1));
	pthread_mutex_unlock(&ctrl->state_lock);
}

static void write_register(struct nvme *ctrl, uint64_t offset, uint32_t value)
{
	struct nvme_registers *registers = &ctrl->registers;

	switch (offset) {
	case NVME_REG_INTMS:
		atomic_fetch_or(&registers->intms, value);
		nvme_pin_update(ctrl, NULL);
		break;
	case NVME_REG_INTMC:
		atomic_fetch_and(&registers->intms, ~value);
		nvme_pin_update(ctrl, NULL);
		break;
	case NVME_REG_CC:
		write_cc(ctrl, value);
		break;
	case NVME_REG_AQA:
		pthread_mutex_lock(&ctrl->state_lock);
		registers->aqa = value & 0x0fff0fff;
		pthread_mutex_unlock(&ctrl->state_lock);
		break;
	case NVME_REG_ASQ:
	case NVME_REG_ASQ + 4:
		write_base(ctrl, &registers->asq, value, offset & 4);
		break;
	case NVME_REG_ACQ:
	case NVME_REG_ACQ + 4:
		write_base(ctrl, &registers->acq, value, offset & 4);
		break;
	default: /* read-only or reserved */
		break;
	}
}

int nvme_bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		   size_t count)
{
	struct nvme *ctrl = uvf_device_opaque(dev);
	const uint8_t *bytes = buf;

	if ((count != 4 && count != 8) || offset % count)
		return 0;
	for (size_t at = 0; at < count; at += 4) {
		uint32_t value = uvf_get_le32(bytes + at);

		if (offset + at < NVME_REG_DOORBELLS)
			write_register(ctrl, offset + at, value);
		else if (offset + at < NVME_REG_DOORBELLS + NVME_DOORBELL_SIZE)
			nvme_doorbell_write(ctrl, (uint32_t)(offset + at - NVME_REG_DOORBELLS) / 4,
					    value);
	}
	return 0;
}
