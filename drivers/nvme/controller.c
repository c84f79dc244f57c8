/* SPDX-License-Identifier: BSD-3-Clause */
/* The controller's life: enabled, identified, its queues made; shut down. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uvfio/uapi.h>

#define DEFAULT_DEPTH	   128u
#define DEFAULT_MEMORY	   (4ULL << 20)
#define DEFAULT_TIMEOUT_MS 10000u
#define MAX_DEPTH	   4096u
#define MAX_QUEUES	   64u

const struct nvme_driver_info *nvme_driver_get_info(const struct nvme_driver *driver)
{
	return &driver->info;
}

void *nvme_driver_alloc(struct nvme_driver *driver, uint64_t size, uvf_iova_t *iovap)
{
	return dma_memory_take(&driver->memory, size, iovap);
}

struct nvme_driver_queue *nvme_driver_queue(struct nvme_driver *driver, unsigned index)
{
	return index < driver->info.queues ? &driver->queues[index] : NULL;
}

int nvme_driver_admin(struct nvme_driver *driver, const struct nvme_driver_command *command,
		      uint32_t *result)
{
	return nvme_driver_execute(&driver->admin, command, result);
}

/* Waits until (CSTS & @mask) == @value. */
static int wait_status(struct nvme_driver *driver, uint32_t mask, uint32_t value,
		       uint32_t timeout_ms)
{
	uint64_t end = now_ms() + timeout_ms;

	for (;;) {
		const struct timespec pause = {.tv_nsec = 200000};
		uint32_t csts;
		int ret = register_read32(driver, NVME_REG_CSTS, &csts);

		if (ret)
			return ret;
		if (csts == UINT32_MAX)
			return -ENODEV; /* what a device that is gone reads as */
		if ((csts & mask) == value)
			return 0;
		if (csts & NVME_CSTS_CFS && value)
			return -EIO;
		if (now_ms() > end)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
}

static int enable(struct nvme_driver *driver, struct uvf_error *error)
{
	const struct nvme_driver_queue *admin = &driver->admin;
	uint32_t ready_ms = (NVME_CAP_TO(driver->cap) + 1) * 500;
	uint32_t aqa = (ADMIN_ENTRIES * CQ_FACTOR - 1) << 16 | (ADMIN_ENTRIES - 1);
	int ret = register_write32(driver, NVME_REG_CC, 0);

	if (!ret)
		ret = wait_status(driver, NVME_CSTS_RDY, 0, ready_ms);
	if (!ret)
		ret = register_write32(driver, NVME_REG_AQA, aqa);
	if (!ret)
		ret = register_write64(driver, NVME_REG_ASQ, admin->sq_iova);
	if (!ret)
		ret = register_write64(driver, NVME_REG_ACQ, admin->cq_iova);
	if (!ret)
		ret = register_write32(driver, NVME_REG_CC,
				       NVME_CC_EN | NVME_CC_IOSQES_64 | NVME_CC_IOCQES_16);
	if (!ret)
		ret = wait_status(driver, NVME_CSTS_RDY, NVME_CSTS_RDY, ready_ms);
	if (ret)
		return uvf_fail(error, ret, "the controller does not get ready: %s",
				strerror(-ret));
	return 0;
}

/* Turns what a command returned into an errno, with what it was in @error. */
static int admin_result(int ret, const char *what, struct uvf_error *error)
{
	if (ret < 0)
		return uvf_fail(error, ret, "%s: %s", what, strerror(-ret));
	if (ret > 0)
		return uvf_fail(error, -EIO, "%s: status %#x", what, (unsigned)ret);
	return 0;
}

static int identify(struct nvme_driver *driver, uint8_t cns, uint32_t nsid, uvf_iova_t iova,
		    struct uvf_error *error)
{
	const struct nvme_driver_command command = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = htole32(nsid),
		.prp1 = htole64(iova),
		.cdw10 = htole32(cns),
	};

	return admin_result(nvme_driver_admin(driver, &command, NULL), "Identify", error);
}

/* A field of spaces at the end, as a string. */
static void copy_text(char *to, const uint8_t *from, size_t size)
{
	while (size && (from[size - 1] == ' ' || !from[size - 1]))
		size--;
	memcpy(to, from, size);
	to[size] = '\0';
}

static int identify_namespace(struct nvme_driver *driver, const uint8_t *page, uvf_iova_t iova,
			      struct uvf_error *error)
{
	struct nvme_driver_info *info = &driver->info;
	uint32_t format;
	uint8_t shift;
	int ret = identify(driver, NVME_CNS_ACTIVE_NAMESPACES, 0, iova, error);

	if (ret)
		return ret;
	while (info->namespaces < NVME_PAGE / 4) {
		uint32_t nsid;

		memcpy(&nsid, page + 4 * (size_t)info->namespaces, sizeof(nsid));
		if (!nsid)
			break;
		if (!info->namespaces++)
			info->nsid = le32toh(nsid);
	}
	if (!info->nsid)
		return 0;
	ret = identify(driver, NVME_CNS_NAMESPACE, info->nsid, iova, error);
	if (ret)
		return ret;
	memcpy(&info->blocks, page + NVME_NS_NSZE, sizeof(info->blocks));
	info->blocks = le64toh(info->blocks);
	format = page[NVME_NS_FLBAS] & 0xf;
	shift = page[NVME_NS_LBAF + 4 * format + 2];
	if (shift < 9 || shift > 16)
		return uvf_fail(error, -EIO, "Identify: blocks of 2^%u bytes", shift);
	info->block_size = 1u << shift;
	return 0;
}

/* @oacs: Optional Admin Command Support. */
static int identify_all(struct nvme_driver *driver, uint16_t *oacs, struct uvf_error *error)
{
	struct nvme_driver_info *info = &driver->info;
	uint32_t page_shift = 12 + NVME_CAP_MPSMIN(driver->cap);
	uvf_iova_t iova;
	uint8_t *page = nvme_driver_alloc(driver, NVME_PAGE, &iova);
	uint8_t mdts;
	int ret;

	if (!page)
		return uvf_fail(error, -ENOMEM, "no DMA memory");
	ret = identify(driver, NVME_CNS_CONTROLLER, 0, iova, error);
	if (ret)
		return ret;
	copy_text(info->serial, page + NVME_ID_SN, 20);
	copy_text(info->model, page + NVME_ID_MN, 40);
	copy_text(info->firmware, page + NVME_ID_FR, 8);
	memcpy(oacs, page + NVME_ID_OACS, sizeof(*oacs));
	*oacs = le16toh(*oacs);
	/* One list page, and a first page of any offset. */
	info->max_transfer = LIST_ENTRIES * NVME_PAGE;
	mdts = page[NVME_ID_MDTS];
	if (mdts && page_shift + mdts < 31 && info->max_transfer > 1u << (page_shift + mdts))
		info->max_transfer = 1u << (page_shift + mdts);
	return identify_namespace(driver, page, iova, error);
}

static int use_shadow_doorbells(struct nvme_driver *driver, uint16_t oacs, struct uvf_error *error)
{
	uvf_iova_t shadow, event;
	int ret;

	if (!(oacs & NVME_OACS_DBBUF))
		return uvf_fail(error, -ENOTSUP, "the controller has no shadow doorbells");
	driver->shadow = nvme_driver_alloc(driver, NVME_PAGE, &shadow);
	driver->event = nvme_driver_alloc(driver, NVME_PAGE, &event);
	if (!driver->shadow || !driver->event)
		return uvf_fail(error, -ENOMEM, "no DMA memory");
	ret = nvme_driver_admin(driver,
				&(struct nvme_driver_command){
					.opcode = NVME_ADMIN_DBBUF_CONFIG,
					.prp1 = htole64(shadow),
					.prp2 = htole64(event),
				},
				NULL);
	ret = admin_result(ret, "Doorbell Buffer Config", error);
	if (ret)
		return ret;
	/* The admin queue stays with its registers, as Linux's driver has it. */
	driver->info.shadow_doorbells = true;
	return 0;
}

static int create_queue(struct nvme_driver *driver, const struct nvme_driver_queue *queue,
			struct uvf_error *error)
{
	struct nvme_driver_command create_cq = {
		.opcode = NVME_ADMIN_CREATE_CQ,
		.prp1 = htole64(queue->cq_iova),
		.cdw10 = htole32(queue->cq_mask << 16 | queue->id),
		.cdw11 = htole32(NVME_QUEUE_CONTIGUOUS),
	};
	const struct nvme_driver_command create_sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp1 = htole64(queue->sq_iova),
		.cdw10 = htole32(queue->sq_mask << 16 | queue->id),
		.cdw11 = htole32((uint32_t)queue->id << 16 | NVME_QUEUE_CONTIGUOUS),
	};
	int ret;

	if (driver->interrupts)
		create_cq.cdw11 |= htole32((uint32_t)queue->id << 16 | NVME_CQ_INTERRUPTS);
	ret = nvme_driver_admin(driver, &create_cq, NULL);
	ret = admin_result(ret, "Create I/O Completion Queue", error);
	if (ret)
		return ret;
	ret = nvme_driver_admin(driver, &create_sq, NULL);
	return admin_result(ret, "Create I/O Submission Queue", error);
}

/*
 * The submission queue's entries for @depth: a power of two, and one more than may be in use. A
 * page of them at least, where the controller has so many: the larger the completion queue, the
 * more rarely its head is told.
 */
static uint32_t entries_for(uint32_t depth, uint32_t entries)
{
	while (entries < depth + 1)
		entries <<= 1;
	return entries;
}

static int create_queues(struct nvme_driver *driver, uint32_t entries, struct uvf_error *error)
{
	struct nvme_driver_info *info = &driver->info;
	uint32_t wanted = info->queues - 1u, granted;
	const struct nvme_driver_command command = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = htole32(NVME_FEATURE_QUEUES),
		.cdw11 = htole32(wanted << 16 | wanted),
	};
	int ret = admin_result(nvme_driver_admin(driver, &command, &granted), "Number of Queues",
			       error);

	if (ret)
		return ret;
	if ((granted & 0xffff) < wanted || granted >> 16 < wanted)
		return uvf_fail(error, -ENOTSUP, "the controller has %u queue pairs, not %u",
				(granted & 0xffff) + 1, info->queues);
	for (unsigned i = 0; i < info->queues; i++) {
		struct nvme_driver_queue *queue = &driver->queues[i];

		ret = queue_init(driver, queue, (uint16_t)(i + 1), entries, info->depth);
		if (ret)
			return uvf_fail(error, ret, "no memory for queue %u", i + 1);
	}
	if (driver->interrupts) {
		ret = interrupts_up(driver, info->queues + 1u);
		if (ret)
			return uvf_fail(error, ret, "can't enable interrupts: %s", strerror(-ret));
	}
	for (unsigned i = 0; i < info->queues && !ret; i++) {
		ret = create_queue(driver, &driver->queues[i], error);
		if (!ret && driver->shadow)
			queue_use_shadow(&driver->queues[i]);
	}
	return ret;
}

static int controller_up(struct nvme_driver *driver, const struct nvme_driver_config *config,
			 uint32_t entries, struct uvf_error *error)
{
	uint16_t oacs = 0;
	int ret = register_read64(driver, NVME_REG_CAP, &driver->cap);

	if (!ret)
		ret = register_read32(driver, NVME_REG_VS, &driver->info.version);
	if (ret)
		return uvf_fail(error, ret, "can't read registers: %s", strerror(-ret));
	if (NVME_CAP_MPSMIN(driver->cap))
		return uvf_fail(error, -ENOTSUP, "the controller does not do 4 KiB pages");
	if (entries * CQ_FACTOR - 1 > NVME_CAP_MQES(driver->cap))
		entries = entries_for(driver->info.depth, 2);
	if (entries * CQ_FACTOR - 1 > NVME_CAP_MQES(driver->cap))
		return uvf_fail(error, -ENOTSUP, "queues have at most %u entries",
				NVME_CAP_MQES(driver->cap) + 1);
	ret = queue_init(driver, &driver->admin, 0, ADMIN_ENTRIES, ADMIN_ENTRIES - 1);
	if (ret)
		return uvf_fail(error, ret, "no memory for the admin queue");
	ret = enable(driver, error);
	if (!ret)
		ret = identify_all(driver, &oacs, error);
	if (!ret && config->shadow_doorbells)
		ret = use_shadow_doorbells(driver, oacs, error);
	return ret ? ret : create_queues(driver, entries, error);
}

int nvme_driver_open(struct uvf_device *dev, const struct nvme_driver_config *config,
		     struct nvme_driver **driverp, struct uvf_error *error)
{
	struct nvme_driver *driver = calloc(1, sizeof(*driver));
	uint32_t depth = config->depth ? config->depth : DEFAULT_DEPTH;
	uint32_t queues = config->queues ? config->queues : 1;
	uint32_t entries = entries_for(depth, NVME_PAGE / sizeof(struct nvme_driver_command));
	uint64_t memory = config->memory ? config->memory : DEFAULT_MEMORY;
	int ret;

	if (!driver)
		return uvf_fail(error, -ENOMEM, "no memory");
	driver->dev = dev;
	driver->memory.fd = -1;
	driver->interrupts = config->interrupts;
	driver->timeout_ms = config->timeout_ms ? config->timeout_ms : DEFAULT_TIMEOUT_MS;
	if (depth > MAX_DEPTH || queues > MAX_QUEUES || memory > 1ULL << 40) {
		ret = uvf_fail(error, -EINVAL, "at most %u queues of %u commands", MAX_QUEUES,
			       MAX_DEPTH);
		goto fail;
	}
	driver->info.queues = (uint16_t)queues;
	driver->info.depth = (uint16_t)depth;
	driver->queues = calloc(queues, sizeof(*driver->queues));
	ret = driver->queues ? 0 : -ENOMEM;
	if (!ret) /* three pages more: Identify's, the shadow doorbells' */
		ret = dma_memory_open(&driver->memory,
				      memory + queue_memory(ADMIN_ENTRIES, ADMIN_ENTRIES) +
					      queues * queue_memory(entries, depth) +
					      3ULL * NVME_PAGE,
				      config->hugepages);
	if (ret) {
		uvf_fail(error, ret, "no DMA memory: %s", strerror(-ret));
		goto fail;
	}
	driver->info.hugepages = driver->memory.hugepages;
	ret = bus_up(driver, config, error);
	if (!ret)
		ret = controller_up(driver, config, entries, error);
	if (ret)
		goto fail;
	driver->info.mapped_doorbells = driver->doorbells;
	*driverp = driver;
	return 0;
fail:
	nvme_driver_close(driver);
	return ret;
}

void nvme_driver_close(struct nvme_driver *driver)
{
	if (!driver)
		return;
	/* The order of a normal shutdown; a controller that doesn't answer is left to the reset. */
	if (driver->admin.driver && !driver->admin.fault &&
	    !register_write32(driver, NVME_REG_CC,
			      NVME_CC_EN | NVME_CC_SHN_NORMAL | NVME_CC_IOSQES_64 |
				      NVME_CC_IOCQES_16) &&
	    !wait_status(driver, 3u << 2, NVME_SHST_COMPLETE << 2, driver->timeout_ms))
		register_write32(driver, NVME_REG_CC, 0);
	bus_down(driver);
	for (unsigned i = 0; driver->queues && i < driver->info.queues; i++)
		queue_free(&driver->queues[i]);
	queue_free(&driver->admin);
	free(driver->queues);
	dma_memory_close(&driver->memory);
	free(driver);
}
