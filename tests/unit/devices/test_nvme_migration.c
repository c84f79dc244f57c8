/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller goes to another device and goes on there: all that a driver can notice, events that
 * it asked for, a file that only one of the two may have. Both reach the driver's memory, as if it
 * had been copied.
 */
#include "nvme_rig.h"
#include "nvme_stream.h"

#include <errno.h>

#include "devices/nvme/nvme.h"

/* Another device beside the rig's, on the same memory. */
static struct uvf_device *beside(struct rig *rig, const char *spec)
{
	struct uvf_device *dev = make(spec);

	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, rig->space), 0);
	return dev;
}

/* The rig's device goes on as @to, and what it was is new. */
static struct uvf_device *move(struct rig *rig, struct uvf_device *to, struct stream *stream)
{
	struct uvf_device *from = rig->dev;

	save(from, stream);
	assert_int_equal(load_into(to, stream), 0);
	assert_int_equal(uvf_device_reset(from, UVF_RESET_DEVICE), 0);
	rig->dev = to;
	return from;
}

static void close_both(struct rig *rig, struct uvf_device *other)
{
	leave(other);
	rig_close(rig);
}

/* ---- What a driver can notice is as it was ---- */

#define GET_FEATURE(rig, id, cdw11) rig_admin(rig, NVME_ADM_GET_FEATURES, 0, id, cdw11)
#define SET_FEATURE(rig, id, cdw11) rig_admin(rig, NVME_ADM_SET_FEATURES, 0, id, cdw11)

static void get_log(struct rig *rig, uint8_t log, uint32_t size)
{
	memset(rig->memory + RIG_DATA, 0xee, size);
	assert_int_equal(rig_admin(rig, NVME_ADM_GET_LOG_PAGE, UINT32_MAX,
				   log | 1u << 15 | (size / 4 - 1) << 16, 0),
			 0);
}

static void all_of_it(void **state)
{
	static const uint64_t registers[] = {NVME_REG_CC,  NVME_REG_CSTS, NVME_REG_AQA,
					     NVME_REG_ASQ, NVME_REG_ACQ,  NVME_REG_INTMS};
	struct stream *stream = *state;
	uint8_t errors[64], smart[512], identify[4096];
	uint32_t before[UVF_ARRAY_SIZE(registers)];
	struct uvf_device *other;
	struct rig rig;

	rig_start(&rig, "nvme,mem=5M,mem=1M");
	rig_create_queue(&rig, 2);
	rig_write32(&rig, NVME_REG_INTMS, 0x30);
	memset(rig.memory + RIG_DATA, 0x5a, 4096);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 8000, 8, RIG_DATA), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE_UNCORRECTABLE, 100, 3, RIG_DATA), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 101, 1, RIG_DATA), NVME_SC_UNRECOVERED_READ);
	assert_int_equal(SET_FEATURE(&rig, 0x01, 3), 0);
	assert_int_equal(SET_FEATURE(&rig, 0x08, 0x1234), 0);
	assert_int_equal(SET_FEATURE(&rig, 0x09, 1u << 16 | 7), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 2, 0x05, 77), 0);
	/* The other namespace, with larger blocks. */
	assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 2, 1, 0), 0);
	get_log(&rig, 1, sizeof(errors));
	memcpy(errors, rig.memory + RIG_DATA, sizeof(errors));
	get_log(&rig, 2, sizeof(smart));
	memcpy(smart, rig.memory + RIG_DATA, sizeof(smart));
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
	memcpy(identify, rig.memory + RIG_DATA, sizeof(identify));
	for (size_t i = 0; i < UVF_ARRAY_SIZE(registers); i++)
		before[i] = rig_read32(&rig, registers[i]);

	/* Memory has no identity to insist on: that of the source is taken over. */
	other = move(&rig, beside(&rig, "nvme,mem=5M,mem=1M,pollers=2"), stream);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(registers); i++)
		assert_int_equal(rig_read32(&rig, registers[i]), before[i]);
	get_log(&rig, 1, sizeof(errors));
	assert_memory_equal(rig.memory + RIG_DATA, errors, sizeof(errors));
	get_log(&rig, 2, sizeof(smart));
	assert_memory_equal(rig.memory + RIG_DATA, smart, sizeof(smart));
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
	assert_memory_equal(rig.memory + RIG_DATA, identify, sizeof(identify));
	assert_int_equal(GET_FEATURE(&rig, 0x01, 0), 0);
	assert_int_equal(rig.result, 3);
	assert_int_equal(GET_FEATURE(&rig, 0x08, 0), 0);
	assert_int_equal(rig.result, 0x1234);
	assert_int_equal(GET_FEATURE(&rig, 0x09, 7), 0);
	assert_int_equal(rig.result, 1u << 16 | 7);
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_FEATURES, 2, 0x05, 0), 0);
	assert_int_equal(rig.result, 77);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 102, 1, RIG_DATA), NVME_SC_UNRECOVERED_READ);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 8000, 8, RIG_DATA), 0);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(rig.memory[RIG_DATA + i], 0x5a);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 2, 0, 0), 0);
	assert_int_equal(rig.memory[RIG_DATA + 26] & 15, 1); /* FLBAS */
	close_both(&rig, other);
}

/* ---- Events ---- */

static void events(void **state)
{
	struct stream *stream = *state;
	uint16_t first, second, cid;
	struct uvf_device *other;
	struct rig rig;

	rig_start(&rig, "nvme,mem=1M,poll=off");
	first = rig_submit(&rig, 0, &(struct nvme_sqe){.opcode = NVME_ADM_ASYNC_EVENT});
	second = rig_submit(&rig, 0, &(struct nvme_sqe){.opcode = NVME_ADM_ASYNC_EVENT});
	other = move(&rig, beside(&rig, "nvme,mem=1M"), stream);
	/* Both are still asked for: one is delivered, of its type no more until its log is read. */
	rig_write32(&rig, NVME_REG_DOORBELLS + 4 * NVME_DOORBELL_SQ(1), RIG_ENTRIES);
	assert_int_equal(rig_take(&rig, 0, &cid), 0);
	assert_true(cid == first || cid == second);
	assert_int_equal(rig.result, NVME_ERROR_DOORBELL_VALUE << 8 | 1u << 16);
	rig_write32(&rig, NVME_REG_DOORBELLS + 4 * NVME_DOORBELL_SQ(9), 0);
	assert_int_equal(GET_FEATURE(&rig, 1, 0), 0);
	other = move(&rig, other, stream);
	/* The one that waited for it comes there. */
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_LOG_PAGE, UINT32_MAX, 1 | 15u << 16, 0), 0);
	assert_int_equal(rig_take(&rig, 0, &cid), 0);
	assert_true(cid == first || cid == second);
	assert_int_equal(rig.result, NVME_ERROR_DOORBELL_REGISTER << 8 | 1u << 16);
	close_both(&rig, other);
}

/* ---- At rest ---- */

/* What is asked of it meanwhile is done afterwards; a reset ends the rest. */
static void while_it_rests(void **state)
{
	struct stream *stream = *state;
	struct nvme_sqe flush = {.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)};
	struct uvf_device *other;
	struct rig rig;

	rig_start(&rig, "nvme,mem=1M");
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING_P2P), 0);
	rig_submit(&rig, 1, &flush);
	for (unsigned i = 0; i < 20; i++)
		rig_moment();
	assert_false(rig_ready(&rig, 1));
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(rig_take(&rig, 1, NULL), 0);
	/* The same where the other device does it. */
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING_P2P), 0);
	rig_submit(&rig, 1, &flush);
	other = move(&rig, beside(&rig, "nvme,mem=1M"), stream);
	assert_int_equal(rig_take(&rig, 1, NULL), 0);
	/* To be disabled, too. */
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING_P2P), 0);
	rig_write32(&rig, NVME_REG_CC, 0);
	other = move(&rig, other, stream);
	rig_wait_status(&rig, NVME_CSTS_RDY, 0);
	rig_enable(&rig);
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_STOP), 0);
	assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), 0);
	rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_enable(&rig);
	rig_create_queue(&rig, 1);
	assert_int_equal(rig_do(&rig, 1, &flush), 0);
	close_both(&rig, other);
}

/* A completion that bus mastering keeps back is given by the other device. */
static void without_bus_mastering(void **state)
{
	struct stream *stream = *state;
	struct nvme_sqe flush = {.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)};
	struct uvf_device *other;
	struct nvme *ctrl;
	struct rig rig;

	rig_start(&rig, "nvme,mem=1M");
	ctrl = uvf_device_opaque(rig.dev);
	/* As if it had been fetched just before. */
	nvme_poller_pause(&ctrl->pollers[0]);
	atomic_store(&ctrl->bus_master, false);
	ctrl->cqs[1].outstanding++;
	nvme_cq_add(&ctrl->sqs[1], htole16(99), 0, 0);
	nvme_poller_resume(&ctrl->pollers[0]);
	rig_command(&rig, PCI_COMMAND_MEMORY);
	save(rig.dev, stream);
	other = rig.dev;
	rig.dev = beside(&rig, "nvme,mem=1M");
	assert_int_equal(load_into(rig.dev, stream), 0);
	for (unsigned i = 0; i < 20; i++)
		rig_moment();
	assert_false(rig_ready(&rig, 1));
	rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	while (!rig_ready(&rig, 1))
		rig_moment();
	assert_int_equal(le16toh(rig.queues[1].cq[0].cid), 99);
	assert_int_equal(rig_take(&rig, 1, NULL), 0);
	assert_int_equal(rig_do(&rig, 1, &flush), 0);
	close_both(&rig, other);
}

/* ---- Streams that are refused ---- */

static void of_another_make(void **state)
{
	static const char *const others[] = {
		"nvme,mem=2M",
		"nvme,mem=1M,mem=1M",
		"nvme,null=1M",
		"nvme,mem=1M,queues=8",
		"nvme,mem=1M,mdts=4",
		"nvme,mem=1M,poll=on",
		"nvme,mem=1M,ioeventfd",
		"nvme,mem=1M,readonly",
		"nvme,mem=1M,serial=another",
		"nvme,mem=1M,model=another",
	};
	struct stream *stream = *state;
	struct rig rig;

	rig_start(&rig, "nvme,mem=1M");
	save(rig.dev, stream);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(others); i++) {
		struct uvf_device *other = beside(&rig, others[i]);

		assert_int_equal(load_into(other, stream), -EINVAL);
		assert_int_equal(uvf_device_reset(other, UVF_RESET_DEVICE), 0);
		leave(other);
	}
	/* The source can go on. */
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 1, RIG_DATA), 0);
	rig_close(&rig);
}

static void cut(void **state)
{
	struct stream *stream = *state;
	struct uvf_device *other;
	size_t whole;
	struct rig rig;

	rig_start(&rig, "nvme,null=1M");
	other = beside(&rig, "nvme,null=1M");
	save(rig.dev, stream);
	whole = stream->size;
	for (stream->size = 1; stream->size < whole; stream->size += 997) {
		assert_true(load_into(other, stream) < 0);
		assert_int_equal(uvf_device_reset(other, UVF_RESET_DEVICE), 0);
	}
	stream->size = whole;
	assert_int_equal(load_into(other, stream), 0);
	assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), 0);
	close_both(&rig, other);
}

/* ---- The lock of a file ---- */

static void of_a_file(void **state)
{
	struct stream *stream = *state;
	struct uvf_error error = {0};
	struct uvf_device *other, *third;
	struct disk disk;
	struct rig rig;

	disk_make(&disk);
	rig_start(&rig, disk.there);
	memset(rig.memory + RIG_DATA, 0x11, 512);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 5, 1, RIG_DATA), 0);
	assert_int_equal(uvf_model_create(disk.there, &third, &error), -EBUSY);
	other = beside(&rig, disk.to_come);
	other = move(&rig, other, stream);
	/* It is the destination's now. */
	assert_int_equal(uvf_model_create(disk.there, &third, &error), -EBUSY);
	memset(rig.memory + RIG_DATA, 0, 512);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 5, 1, RIG_DATA), 0);
	assert_int_equal(rig.memory[RIG_DATA + 511], 0x11);
	/* And back again: it isn't asked for before the device is used. */
	other = move(&rig, other, stream);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 5, 1, RIG_DATA), 0);
	close_both(&rig, other);
	unlink(disk.path);
}

/* What the storage is at when its controller is to rest ends first, or is done where it goes on. */
static void what_the_storage_is_at(void **state)
{
	struct nvme_sqe flush = {.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)};
	struct nvme_sqe write = rig_rw(NVME_CMD_WRITE, 0, 8, RIG_DATA);
	struct stream *stream = *state;
	struct uvf_device *other;
	struct disk disk;
	struct rig rig;

	disk_make(&disk);
	rig_start(&rig, disk.there);
	other = beside(&rig, disk.to_come);
	for (unsigned i = 0; i < 20; i++) {
		uint32_t taken = 0;
		uint16_t cid;

		for (unsigned n = 0; n < 4; n++) {
			rig_submit(&rig, 1, &write);
			rig_submit(&rig, 1, &flush);
		}
		/* The storage has some of them. */
		while (!rig_ready(&rig, 1))
			rig_moment();
		other = move(&rig, other, stream);
		for (unsigned n = 0; n < 8; n++) {
			assert_int_equal(rig_take(&rig, 1, &cid), 0);
			taken |= 1u << (rig.next_cid - cid);
		}
		assert_int_equal(taken, 0xff);
	}
	close_both(&rig, other);
	unlink(disk.path);
}

/* Two can't have it: who comes second can't go on, and says so. */
static void of_a_file_in_use(void **state)
{
	struct stream *stream = *state;
	struct uvf_device *other, *from;
	struct disk disk;
	struct rig rig;

	disk_make(&disk);
	rig_start(&rig, disk.there);
	from = rig.dev;
	other = beside(&rig, disk.to_come);
	save(from, stream);
	assert_int_equal(load_into(other, stream), 0);
	assert_int_equal(go(from, VFIO_DEVICE_STATE_RUNNING), -EBUSY);
	assert_int_equal(uvf_migration_state(from), VFIO_DEVICE_STATE_STOP);
	/* A reset doesn't need it; a controller that is enabled does. */
	assert_int_equal(uvf_device_reset(from, UVF_RESET_DEVICE), 0);
	rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_write32(&rig, NVME_REG_AQA, (RIG_ENTRIES - 1) << 16 | (RIG_ENTRIES - 1));
	rig_write32(&rig, NVME_REG_CC, RIG_CC);
	rig_wait_status(&rig, NVME_CSTS_CFS, NVME_CSTS_CFS);
	/* The destination goes: then it works. */
	leave(other);
	assert_int_equal(uvf_device_reset(from, UVF_RESET_DEVICE), 0);
	rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_enable(&rig);
	rig_create_queue(&rig, 1);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 5, 1, RIG_DATA), 0);
	rig_close(&rig);
	unlink(disk.path);
}

static void of_another_file(void **state)
{
	struct stream *stream = *state;
	struct disk disk, another;
	struct uvf_device *other;
	struct rig rig;

	disk_make(&disk);
	disk_make(&another);
	rig_start(&rig, disk.there);
	other = beside(&rig, another.to_come);
	save(rig.dev, stream);
	assert_int_equal(load_into(other, stream), -EINVAL);
	assert_int_equal(uvf_device_reset(other, UVF_RESET_DEVICE), 0);
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 5, 1, RIG_DATA), 0);
	close_both(&rig, other);
	unlink(disk.path);
	unlink(another.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_it),	    cmocka_unit_test(events),
		cmocka_unit_test(while_it_rests),   cmocka_unit_test(without_bus_mastering),
		cmocka_unit_test(of_another_make),  cmocka_unit_test(cut),
		cmocka_unit_test(of_a_file),	    cmocka_unit_test(what_the_storage_is_at),
		cmocka_unit_test(of_a_file_in_use), cmocka_unit_test(of_another_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
