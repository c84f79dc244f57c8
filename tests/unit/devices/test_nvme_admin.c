/* SPDX-License-Identifier: BSD-3-Clause */
/* Registers, admin commands, queues, doorbells, events, resets, memory that comes and goes. */
#include "nvme_rig.h"

#include <sys/eventfd.h>

#define A RIG_DATA

static const uint8_t *data(struct rig *rig)
{
	return rig->memory + A;
}

static void registers(void **state)
{
	struct rig rig;
	uint64_t cap = 0, value;
	uint8_t byte = 0xff;

	rig_open(&rig, "nvme,null=1G");
	assert_int_equal(uvf_region_read(rig.dev, 0, 0, &cap, 8), 8);
	assert_int_equal(cap & 0xffff, 0xffff);
	assert_true(cap & 1 << 16);
	assert_true(cap & 1ull << 37);
	assert_int_equal(rig_read32(&rig, NVME_REG_VS), NVME_VERSION);
	/* A byte in the middle, reserved ones, past the end. */
	assert_int_equal(uvf_region_read(rig.dev, 0, 10, &byte, 1), 1);
	assert_int_equal(byte, 1);
	assert_int_equal(rig_read32(&rig, 0x18), 0);
	assert_int_equal(rig_read32(&rig, 0x800), 0);
	/* Read-only; odd sizes do nothing. */
	rig_write32(&rig, NVME_REG_VS, 0);
	assert_int_equal(rig_read32(&rig, NVME_REG_VS), NVME_VERSION);
	assert_int_equal(uvf_region_write(rig.dev, 0, NVME_REG_AQA, &byte, 1), 1);
	assert_int_equal(rig_read32(&rig, NVME_REG_AQA), 0);
	value = htole64(0x123456789abcdef0);
	assert_int_equal(uvf_region_write(rig.dev, 0, NVME_REG_ASQ, &value, 8), 8);
	assert_int_equal(rig_read32(&rig, NVME_REG_ASQ), 0x9abcd000);
	assert_int_equal(rig_read32(&rig, NVME_REG_ASQ + 4), 0x12345678);
	rig_write32(&rig, NVME_REG_INTMS, 5);
	rig_write32(&rig, NVME_REG_INTMC, 1);
	assert_int_equal(rig_read32(&rig, NVME_REG_INTMS), 4);
	/* Can't be enabled: a queue of one entry, a page size, unmapped memory. */
	rig_write32(&rig, NVME_REG_CC, RIG_CC);
	rig_wait_status(&rig, NVME_CSTS_CFS, NVME_CSTS_CFS);
	assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), 0);
	rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig_read32(&rig, NVME_REG_CSTS), 0);
	assert_int_equal(rig_read32(&rig, NVME_REG_ASQ), 0);
	rig_write32(&rig, NVME_REG_AQA, 0x000f000f);
	rig_write32(&rig, NVME_REG_CC, RIG_CC);
	rig_wait_status(&rig, NVME_CSTS_CFS, NVME_CSTS_CFS);
	rig_disable(&rig);
	rig_write32(&rig, NVME_REG_CC, RIG_CC | 1 << 7);
	rig_wait_status(&rig, NVME_CSTS_CFS, NVME_CSTS_CFS);
	rig_write32(&rig, NVME_REG_CC, 0);
	rig_wait_status(&rig, NVME_CSTS_CFS, 0);
	rig_enable(&rig);
	rig_close(&rig);
}

static void identify(void **state)
{
	struct rig rig;
	const struct nvme_id_controller *id;
	const struct nvme_id_namespace *ns;

	rig_start(&rig, "nvme,mem=4M,mem=8M,block=4096,serial=S1,model=M1");
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
	id = (const void *)data(&rig);
	assert_memory_equal(id->sn, "S1                  ", 20);
	assert_int_equal(le32toh(id->nn), 2);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 2, 0, 0), 0);
	ns = (const void *)data(&rig);
	assert_int_equal(le64toh(ns->nsze), 2048);
	assert_int_equal(ns->lbaf[ns->flbas & 15].lbads, 12);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 3, 0, 0),
			 DNR(NVME_SC_INVALID_NAMESPACE));
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 1, 2, 0), 0);
	assert_int_equal(uvf_get_le32(data(&rig)), 2);
	assert_int_equal(uvf_get_le32(data(&rig) + 4), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, UINT32_MAX, 2, 0),
			 DNR(NVME_SC_INVALID_NAMESPACE));
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 1, 3, 0), 0);
	assert_int_equal(data(&rig)[0], 2);
	assert_int_equal(data(&rig)[20], 3);
	assert_int_equal(data(&rig)[40], 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 9, 3, 0),
			 DNR(NVME_SC_INVALID_NAMESPACE));
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 0x77, 0),
			 DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(rig_admin(&rig, 0x55, 0, 0, 0), DNR(NVME_SC_INVALID_OPCODE));
	rig_close(&rig);
}

static void logs(void **state)
{
	struct rig rig;
	const struct nvme_error_entry *entry;
	const struct nvme_smart_log *smart;

	rig_start(&rig, "nvme,mem=4M");
	rig_io(&rig, NVME_CMD_WRITE, 0, 8, A);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 1 << 20, 1, A), DNR(NVME_SC_LBA_OUT_OF_RANGE));
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_LOG_PAGE, 0, 15u << 16 | 1, 0), 0);
	entry = (const void *)data(&rig);
	assert_int_equal(le64toh(entry->error_count), 1);
	assert_int_equal(le16toh(entry->sq_id), 1);
	assert_int_equal(le64toh(entry->lba), 1 << 20);
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_LOG_PAGE, UINT32_MAX, 127u << 16 | 2, 0), 0);
	smart = (const void *)data(&rig);
	assert_int_equal(smart->host_writes[0], 1);
	assert_int_equal(smart->data_units_written[0], 1);
	assert_int_equal(smart->error_entries[0], 1);
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_LOG_PAGE, 1, 127u << 16 | 2, 0),
			 DNR(NVME_SC_INVALID_FIELD));
	for (uint32_t log = 3; log <= 5; log++)
		assert_int_equal(rig_admin(&rig, NVME_ADM_GET_LOG_PAGE, 0, 127u << 16 | log, 0), 0);
	assert_int_equal(uvf_get_le32(data(&rig) + NVME_ADM_IDENTIFY * 4), 1);
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_LOG_PAGE, 0, 127u << 16 | 0x99, 0),
			 DNR(NVME_SC_INVALID_LOG_PAGE));
	/* An offset past the end; more than there is. */
	struct nvme_sqe sqe = {.opcode = NVME_ADM_GET_LOG_PAGE,
			       .prp1 = htole64(rig_iova(A)),
			       .cdw10 = htole32(127u << 16 | 3),
			       .cdw12 = htole32(516)};
	assert_int_equal(rig_do(&rig, 0, &sqe), DNR(NVME_SC_INVALID_FIELD));
	sqe.cdw12 = htole32(2);
	assert_int_equal(rig_do(&rig, 0, &sqe), DNR(NVME_SC_INVALID_FIELD));
	sqe.cdw12 = htole32(512);
	sqe.cdw11 = htole32(0xffff);
	assert_int_equal(rig_do(&rig, 0, &sqe), 0);
	rig_close(&rig);
}

static void features(void **state)
{
	static const struct {
		uint32_t feature, value;
	} stored[] = {{1, 3}, {4, 400}, {8, 0x102}, {9, 0x10003}, {0xa, 1}, {0xb, 1}};
	struct rig rig;

	rig_start(&rig, "nvme,mem=4M,queues=3");
	for (size_t i = 0; i < UVF_ARRAY_SIZE(stored); i++) {
		uint32_t which = stored[i].feature == 9 ? 3 : 0;

		assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0, stored[i].feature,
					   stored[i].value),
				 0);
		assert_int_equal(
			rig_admin(&rig, NVME_ADM_GET_FEATURES, 0, stored[i].feature, which), 0);
		assert_int_equal(rig.result, stored[i].value);
		assert_int_equal(rig_admin(&rig, NVME_ADM_GET_FEATURES, 0,
					   stored[i].feature | 3 << 8, which),
				 0);
		assert_int_equal(rig.result, 4);
		assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0,
					   stored[i].feature | 1u << 31, stored[i].value),
				 DNR(NVME_SC_NOT_SAVEABLE));
		assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 1, stored[i].feature,
					   stored[i].value),
				 DNR(NVME_SC_NOT_NAMESPACE_SPECIFIC));
	}
	/* The number of queues is settled before there are any. */
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0, 7, 0x003f003f),
			 DNR(NVME_SC_COMMAND_SEQUENCE));
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_SQ, 0, 1, 0), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_CQ, 0, 1, 0), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0, 7, 0x003f003f), 0);
	assert_int_equal(rig.result, 0x00020002);
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0, 7, 0xffff),
			 DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0, 2, 1),
			 DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 1, 5, 7), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 2, 5, 7),
			 DNR(NVME_SC_INVALID_NAMESPACE));
	/* There is no volatile cache in memory. */
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0, 6, 0),
			 DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_FEATURES, 0, 0x7f, 0),
			 DNR(NVME_SC_INVALID_FIELD));
	uvf_put_le64(rig.memory + A, 123456789);
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0, 0xe, 0), 0);
	memset(rig.memory + A, 0, 8);
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_FEATURES, 0, 0xe, 0), 0);
	assert_true((uvf_get_le64(data(&rig)) & 0xffffffffffff) >= 123456789);
	assert_int_equal(data(&rig)[6], 2);
	rig_close(&rig);
}

static void queues(void **state)
{
	struct rig rig;
	struct nvme_sqe sqe;

	rig_start(&rig, "nvme,mem=4M,queues=2,pollers=2");
	assert_int_equal(rig_create_cq(&rig, 1, 16), DNR(NVME_SC_INVALID_QUEUE_ID));
	assert_int_equal(rig_create_sq(&rig, 1, 16, 1), DNR(NVME_SC_INVALID_QUEUE_ID));
	assert_int_equal(rig_create_cq(&rig, 3, 16), DNR(NVME_SC_INVALID_QUEUE_ID));
	assert_int_equal(rig_create_cq(&rig, 0, 16), DNR(NVME_SC_INVALID_QUEUE_ID));
	assert_int_equal(rig_create_cq(&rig, 2, 1), DNR(NVME_SC_INVALID_QUEUE_SIZE));
	assert_int_equal(rig_create_sq(&rig, 2, 16, 2), DNR(NVME_SC_CQ_INVALID));
	assert_int_equal(rig_create_sq(&rig, 2, 16, 0), DNR(NVME_SC_INVALID_QUEUE_ID));
	assert_int_equal(rig_create_sq(&rig, 2, 16, 9), DNR(NVME_SC_INVALID_QUEUE_ID));
	sqe = (struct nvme_sqe){.opcode = NVME_ADM_CREATE_CQ,
				.prp1 = htole64(rig_iova(0x5000)),
				.cdw10 = htole32(15u << 16 | 2),
				.cdw11 = 0};
	assert_int_equal(rig_do(&rig, 0, &sqe), DNR(NVME_SC_INVALID_FIELD));
	sqe.cdw11 = htole32(100u << 16 | 3);
	assert_int_equal(rig_do(&rig, 0, &sqe), DNR(NVME_SC_INVALID_VECTOR));
	sqe.cdw11 = htole32(1);
	sqe.prp1 |= htole64(16);
	assert_int_equal(rig_do(&rig, 0, &sqe), DNR(NVME_SC_PRP_OFFSET));
	sqe.prp1 = htole64(0xfffffffff000);
	assert_int_equal(rig_do(&rig, 0, &sqe), NVME_SC_DATA_TRANSFER);
	rig_create_queue(&rig, 2);
	sqe = rig_rw(NVME_CMD_READ, 0, 1, A);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(rig_do(&rig, 2, &sqe), 0);
	/* In the right order only. */
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_CQ, 0, 2, 0),
			 DNR(NVME_SC_INVALID_QUEUE_DELETION));
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_SQ, 0, 0, 0),
			 DNR(NVME_SC_INVALID_QUEUE_ID));
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_SQ, 0, 2, 0), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_SQ, 0, 2, 0),
			 DNR(NVME_SC_INVALID_QUEUE_ID));
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_CQ, 0, 2, 0), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_CQ, 0, 2, 0),
			 DNR(NVME_SC_INVALID_QUEUE_ID));
	rig_create_queue(&rig, 2);
	assert_int_equal(rig_do(&rig, 2, &sqe), 0);
	/* Both submission queues on one completion queue. */
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_SQ, 0, 2, 0), 0);
	rig_queue_init(&rig, 2, 16, 16);
	assert_int_equal(rig_create_sq(&rig, 2, 16, 1), 0);
	rig_submit(&rig, 2, &sqe);
	assert_int_equal(rig_take(&rig, 1, NULL), 0);
	rig_close(&rig);
}

/* A completion queue smaller than what is submitted: nothing is overwritten, nothing lost. */
static void full_completion_queue(void **state)
{
	struct rig rig;
	struct nvme_sqe sqe = rig_rw(NVME_CMD_READ, 0, 1, A);

	rig_open(&rig, "nvme,mem=4M");
	rig_enable(&rig);
	rig_queue_init(&rig, 1, 16, 4);
	assert_int_equal(rig_create_cq(&rig, 1, 4), 0);
	assert_int_equal(rig_create_sq(&rig, 1, 16, 1), 0);
	for (unsigned round = 0; round < 20; round++) {
		uint16_t first = (uint16_t)(rig.next_cid + 1), cid;

		for (unsigned i = 0; i < 15; i++)
			rig_put(&rig, 1, &sqe);
		rig_ring(&rig, 2, rig.queues[1].sq_tail);
		for (unsigned i = 0; i < 15; i++) {
			assert_int_equal(rig_take(&rig, 1, &cid), 0);
			assert_int_equal(cid, first + i);
		}
	}
	rig_close(&rig);
}

static void events_and_abort(void **state)
{
	const struct nvme_sqe event = {.opcode = NVME_ADM_ASYNC_EVENT};
	struct rig rig;
	uint16_t cids[5], cid;

	rig_start(&rig, "nvme,mem=4M");
	for (unsigned i = 0; i < 4; i++)
		cids[i] = rig_submit(&rig, 0, &event);
	assert_int_equal(rig_do(&rig, 0, &event), DNR(NVME_SC_ASYNC_EVENT_LIMIT));
	/* Abort: the event request and then Abort itself; one that isn't there. */
	cids[4] = rig_submit(&rig, 0,
			     &(struct nvme_sqe){.opcode = NVME_ADM_ABORT,
						.cdw10 = htole32((uint32_t)cids[0] << 16)});
	assert_int_equal(rig_take(&rig, 0, &cid), NVME_SC_ABORT_REQUESTED);
	assert_int_equal(cid, cids[0]);
	assert_int_equal(rig_take(&rig, 0, &cid), 0);
	assert_int_equal(cid, cids[4]);
	assert_int_equal(rig.result, 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_ABORT, 0, 0x99990001, 0), 0);
	assert_int_equal(rig.result, 1);
	/* A doorbell of no queue; masked until the log is read. */
	rig_write32(&rig, NVME_REG_DOORBELLS + 8 * 40, 1);
	assert_int_equal(rig_take(&rig, 0, &cid), 0);
	assert_int_equal(rig.result, 0x010000);
	/* A value past the end. The queue goes on. */
	rig_write32(&rig, NVME_REG_DOORBELLS + 8, 16);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 1, A), 0);
	cid = rig_submit(&rig, 0,
			 &(struct nvme_sqe){.opcode = NVME_ADM_GET_LOG_PAGE,
					    .prp1 = htole64(rig_iova(A)),
					    .cdw10 = htole32(15u << 16 | 1)});
	for (unsigned i = 0; i < 2; i++) {
		uint16_t done;

		assert_int_equal(rig_take(&rig, 0, &done), 0);
		if (done != cid)
			assert_int_equal(rig.result & 0xff00ff, 0x010000);
	}
	/* The threshold is below the temperature. */
	cid = rig_submit(&rig, 0,
			 &(struct nvme_sqe){.opcode = NVME_ADM_SET_FEATURES,
					    .cdw10 = htole32(4),
					    .cdw11 = htole32(300)});
	for (unsigned i = 0; i < 2; i++) {
		uint16_t done;

		assert_int_equal(rig_take(&rig, 0, &done), 0);
		if (done != cid)
			assert_int_equal(rig.result, 0x020101);
	}
	rig_close(&rig);
}

static void format(void **state)
{
	struct rig rig;

	rig_start(&rig, "nvme,mem=4M,mem=4M,pollers=3");
	memset(rig.memory + A, 0x55, 512);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 0, 1, A), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE_UNCORRECTABLE, 5, 1, A), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 1, 1, 0), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 1023, 1, A), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 1024, 1, A), DNR(NVME_SC_LBA_OUT_OF_RANGE));
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 1, A), 0);
	assert_int_equal(data(&rig)[0], 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, UINT32_MAX, 0, 0), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 8191, 1, A), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 1, 2, 0), DNR(NVME_SC_INVALID_FORMAT));
	assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 1, 1 << 5, 0),
			 DNR(NVME_SC_INVALID_FORMAT));
	assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 1, 2 << 9, 0),
			 DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 3, 0, 0), DNR(NVME_SC_INVALID_NAMESPACE));
	rig_close(&rig);
}

static void shadow_doorbells(void **state)
{
	static const char *const specs[] = {"nvme,mem=4M", "nvme,mem=4M,poll=off",
					    "nvme,mem=4M,poll=on"};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(specs); i++) {
		struct nvme_sqe config = {.opcode = NVME_ADM_DOORBELL_BUFFER,
					  .prp1 = htole64(rig_iova(RIG_SHADOW)),
					  .prp2 = htole64(rig_iova(RIG_EVENT + 4))};
		struct rig rig;

		rig_open(&rig, specs[i]);
		rig_enable(&rig);
		assert_int_equal(rig_do(&rig, 0, &config), DNR(NVME_SC_INVALID_FIELD));
		config.prp2 = htole64(0xffffff000);
		assert_int_equal(rig_do(&rig, 0, &config), NVME_SC_DATA_TRANSFER);
		config.prp2 = htole64(rig_iova(RIG_EVENT));
		assert_int_equal(rig_do(&rig, 0, &config), 0);
		rig.shadow = true;
		rig_create_queue(&rig, 1);
		for (unsigned n = 0; n < 2000; n++) {
			if (n % 100 == 0) /* long enough for the poller to sleep */
				rig_moment();
			assert_int_equal(rig_io(&rig, NVME_CMD_READ, n, 1, A), 0);
		}
		rig_close(&rig);
	}
}

/* What the controller has to ask for is in the driver's memory, not in what it wrote there once. */
static void event_index_is_renewed(void **state)
{
	const struct nvme_sqe config = {.opcode = NVME_ADM_DOORBELL_BUFFER,
					.prp1 = htole64(rig_iova(RIG_SHADOW)),
					.prp2 = htole64(rig_iova(RIG_EVENT))};
	unsigned moments = 0;
	struct rig rig;

	rig_open(&rig, "nvme,mem=4M,poll=off");
	rig_enable(&rig);
	assert_int_equal(rig_do(&rig, 0, &config), 0);
	rig.shadow = true;
	rig_create_queue(&rig, 1);
	for (unsigned n = 0; n < 5; n++)
		assert_int_equal(rig_io(&rig, NVME_CMD_READ, n, 1, A), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_SQ, 0, 1, 0), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_CQ, 0, 1, 0), 0);
	/* The driver cleans its own buffer only. */
	*rig_shadow_of(&rig, RIG_SHADOW, 2) = *rig_shadow_of(&rig, RIG_SHADOW, 3) = 0;
	*rig_shadow_of(&rig, RIG_EVENT, 2) = 5;
	rig_create_queue(&rig, 1);
	while (__atomic_load_n(rig_shadow_of(&rig, RIG_EVENT, 2), __ATOMIC_ACQUIRE)) {
		assert_true(moments++ < 50000);
		rig_moment();
	}
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 1, A), 0);
	rig_close(&rig);
}

/* Memory goes and comes back under live queues, as firmware and QEMU do it. */
static void remapped(void **state)
{
	struct rig rig;

	rig_start(&rig, "nvme,mem=4M");
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(uvf_unmap(rig.space, RIG_IOVA, RIG_MEMORY, NULL), 0);
		assert_int_equal(
			uvf_map_fd(rig.space, RIG_IOVA, RIG_MEMORY, UVF_PROT_RW, rig.fd, 0), 0);
		assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 8, A), 0);
		assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
	}
	/* Rung while it is away: served when it is back. */
	uint16_t cid,
		put = rig_put(&rig, 1,
			      &(struct nvme_sqe){.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)});

	assert_int_equal(uvf_unmap(rig.space, RIG_IOVA, RIG_MEMORY, NULL), 0);
	rig_ring(&rig, 2, rig.queues[1].sq_tail);
	rig_moment();
	assert_int_equal(uvf_map_fd(rig.space, RIG_IOVA, RIG_MEMORY, UVF_PROT_RW, rig.fd, 0), 0);
	assert_int_equal(rig_take(&rig, 1, &cid), 0);
	assert_int_equal(cid, put);
	/* Bus mastering off: nothing is fetched. */
	rig_command(&rig, PCI_COMMAND_MEMORY);
	rig_submit(&rig, 1, &(struct nvme_sqe){.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)});
	for (unsigned i = 0; i < 20; i++)
		rig_moment();
	assert_false(rig_ready(&rig, 1));
	rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig_take(&rig, 1, &cid), 0);
	/* Away for good: the controller fails and a reset mends it. */
	assert_int_equal(uvf_unmap(rig.space, RIG_IOVA, RIG_MEMORY, NULL), 0);
	rig_ring(&rig, 2, (rig.queues[1].sq_tail + 1) % RIG_ENTRIES);
	rig_wait_status(&rig, NVME_CSTS_CFS, NVME_CSTS_CFS);
	assert_int_equal(uvf_map_fd(rig.space, RIG_IOVA, RIG_MEMORY, UVF_PROT_RW, rig.fd, 0), 0);
	rig_write32(&rig, NVME_REG_CC, 0);
	rig_wait_status(&rig, NVME_CSTS_CFS, 0);
	rig_enable(&rig);
	rig_close(&rig);
}

static void reset_in_the_middle(void **state)
{
	struct rig rig;
	struct nvme_sqe sqe = rig_rw(NVME_CMD_WRITE, 0, 16, A);

	rig_open(&rig, "nvme,mem=4M,pollers=2");
	for (unsigned i = 0; i < 50; i++) {
		rig_enable(&rig);
		rig_create_queue(&rig, 1);
		rig_create_queue(&rig, 2);
		for (unsigned n = 0; n < 15; n++) {
			rig_put(&rig, 1, &sqe);
			rig_put(&rig, 2, &sqe);
		}
		rig_ring(&rig, 2, rig.queues[1].sq_tail);
		rig_ring(&rig, 4, rig.queues[2].sq_tail);
		if (i % 2) {
			rig_disable(&rig);
		} else {
			assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), 0);
			rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		}
	}
	rig_close(&rig);
}

static void interrupts(void **state)
{
	struct rig rig;
	int fd = eventfd(0, EFD_CLOEXEC);
	struct uvf_irq_set set = {.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
				  .index = VFIO_PCI_INTX_IRQ_INDEX,
				  .count = 1,
				  .fds = &fd};
	eventfd_t count;

	rig_start(&rig, "nvme,mem=4M,poll=off");
	rig_write32(&rig, NVME_REG_INTMS, UINT32_MAX);
	assert_int_equal(uvf_irq_set(rig.dev, &set), 0);
	rig_submit(&rig, 1, &(struct nvme_sqe){.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)});
	while (!rig_ready(&rig, 1))
		rig_moment();
	rig_write32(&rig, NVME_REG_INTMC, UINT32_MAX);
	assert_int_equal(eventfd_read(fd, &count), 0);
	assert_int_equal(rig_take(&rig, 1, NULL), 0);
	rig_close(&rig);
	close(fd);
}

/* A queue's vector, in the MSI-X table and by its eventfd; masked ones wait in the PBA. */
static void msix(void **state)
{
	struct rig rig;
	int fds[3];
	struct uvf_irq_set set = {.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
				  .index = VFIO_PCI_MSIX_IRQ_INDEX,
				  .count = 3,
				  .fds = fds};
	const uint32_t unmasked = 0, masked = htole32(PCI_MSIX_ENTRY_CTRL_MASKBIT);
	const struct nvme_sqe flush = {.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)};
	uint8_t at = 0, entry[2];
	uint16_t control;
	eventfd_t count;
	uint64_t pending = 0;

	rig_start(&rig, "nvme,mem=4M,poll=off");
	for (unsigned i = 0; i < 3; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_true(fds[i] >= 0);
	}
	for (uint64_t from = PCI_CAPABILITY_LIST;; from = at + 1u) {
		assert_int_equal(
			uvf_region_read(rig.dev, VFIO_PCI_CONFIG_REGION_INDEX, from, &at, 1), 1);
		assert_true(at);
		assert_int_equal(
			uvf_region_read(rig.dev, VFIO_PCI_CONFIG_REGION_INDEX, at, entry, 2), 2);
		if (entry[0] == PCI_CAP_ID_MSIX)
			break;
	}
	assert_int_equal(uvf_irq_set(rig.dev, &set), 0);
	for (uint64_t i = 0; i < 2; i++)
		assert_int_equal(uvf_region_write(rig.dev, 0,
						  0x2000 + i * 16 + PCI_MSIX_ENTRY_VECTOR_CTRL,
						  &unmasked, 4),
				 4);
	control = htole16(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(uvf_region_write(rig.dev, VFIO_PCI_CONFIG_REGION_INDEX,
					  at + PCI_MSIX_FLAGS, &control, 2),
			 2);
	/* The I/O queue has vector 1, the admin queue 0, and 2 is nobody's. */
	assert_int_equal(rig_do(&rig, 1, &flush), 0);
	while (eventfd_read(fds[1], &count))
		rig_moment();
	assert_true(eventfd_read(fds[0], &count) < 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
	while (eventfd_read(fds[0], &count))
		rig_moment();
	assert_true(eventfd_read(fds[1], &count) < 0);
	assert_int_equal(
		uvf_region_write(rig.dev, 0, 0x2010 + PCI_MSIX_ENTRY_VECTOR_CTRL, &masked, 4), 4);
	assert_int_equal(rig_do(&rig, 1, &flush), 0);
	while (!(le64toh(pending) & 2))
		assert_int_equal(uvf_region_read(rig.dev, 0, 0x3000, &pending, 8), 8);
	assert_true(eventfd_read(fds[1], &count) < 0);
	assert_int_equal(
		uvf_region_write(rig.dev, 0, 0x2010 + PCI_MSIX_ENTRY_VECTOR_CTRL, &unmasked, 4), 4);
	assert_int_equal(eventfd_read(fds[1], &count), 0);
	assert_true(eventfd_read(fds[2], &count) < 0);
	rig_close(&rig);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
}

/* Nobody takes completions: an event waits for room, and comes when there is some. */
static void events_wait_for_room(void **state)
{
	static const char *const specs[] = {"nvme,mem=4M,poll=off", "nvme,mem=4M,poll=on"};
	const struct nvme_sqe event = {.opcode = NVME_ADM_ASYNC_EVENT};
	const struct nvme_sqe identify_it = {
		.opcode = NVME_ADM_IDENTIFY, .prp1 = htole64(rig_iova(A)), .cdw10 = htole32(1)};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(specs); i++) {
		struct rig rig;
		uint16_t event_cid, cid, first;

		rig_start(&rig, specs[i]);
		event_cid = rig_submit(&rig, 0, &event);
		/* Once this is done the request has been fetched: there is room for 15. */
		assert_int_equal(rig_do(&rig, 0, &identify_it), 0);
		first = (uint16_t)(event_cid + 2);
		for (unsigned n = 0; n < RIG_ENTRIES - 1; n++)
			rig_put(&rig, 0, &identify_it);
		rig_ring(&rig, 0, rig.queues[0].sq_tail);
		/* Until the last entry is there. */
		while ((__atomic_load_n(&rig.queues[0].cq[(rig.queues[0].cq_head + 14) % 16].status,
					__ATOMIC_ACQUIRE) &
			1) != (rig.queues[0].phase ^ (rig.queues[0].cq_head + 14 >= 16)))
			rig_moment();
		rig_write32(&rig, NVME_REG_DOORBELLS + 8, RIG_ENTRIES); /* past its end */
		for (unsigned n = 0; n < 20; n++)
			rig_moment();
		for (unsigned n = 0; n < RIG_ENTRIES - 1; n++) {
			assert_int_equal(rig_take(&rig, 0, &cid), 0);
			assert_int_equal(cid, first + n);
		}
		assert_int_equal(rig_take(&rig, 0, &cid), 0);
		assert_int_equal(cid, event_cid);
		assert_int_equal(rig.result, 0x010100);
		rig_close(&rig);
	}
}

static void refused_specs(void **state)
{
	static const char *const specs[] = {
		"nvme",
		"nvme,mem=1",
		"nvme,mem=1M,queues=65",
		"nvme,file=/nowhere",
		"nvme,mem=1M,poll=maybe",
		"nvme,mem=1M,pollers=0",
		"nvme,mem=1M,block=513",
		"nvme,mem=1M,serial=123456789012345678901",
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(specs); i++) {
		struct uvf_device *dev;
		struct uvf_error error = {0};

		assert_true(uvf_model_create(specs[i], &dev, &error) < 0);
		assert_true(error.text[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),
		cmocka_unit_test(identify),
		cmocka_unit_test(logs),
		cmocka_unit_test(features),
		cmocka_unit_test(queues),
		cmocka_unit_test(full_completion_queue),
		cmocka_unit_test(events_and_abort),
		cmocka_unit_test(format),
		cmocka_unit_test(shadow_doorbells),
		cmocka_unit_test(event_index_is_renewed),
		cmocka_unit_test(remapped),
		cmocka_unit_test(reset_in_the_middle),
		cmocka_unit_test(interrupts),
		cmocka_unit_test(msix),
		cmocka_unit_test(events_wait_for_room),
		cmocka_unit_test(refused_specs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
