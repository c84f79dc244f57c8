/* SPDX-License-Identifier: BSD-3-Clause */
/* A controller's state with commands, events and shadow doorbells in it: see golden.h. */
#include "nvme_rig.h"

#include "devices/nvme/nvme.h"
#include "golden.h"

static const char *const releases[] = {"0.1.0"};

#define SPEC "nvme,mem=1M,serial=golden"

static void wait_for(struct rig *rig, unsigned queue)
{
	while (!rig_ready(rig, queue))
		rig_moment();
}

/*
 * Two commands for events: one was answered, the other waits while its event is held back. Shadow
 * doorbells; content, and blocks that can't be read. A completion that could not be written as bus
 * mastering is off, and a command that was not fetched.
 */
static void prepare(struct rig *rig)
{
	const struct nvme_sqe shadow = {.opcode = NVME_ADM_DOORBELL_BUFFER,
					.prp1 = htole64(rig_iova(RIG_SHADOW)),
					.prp2 = htole64(rig_iova(RIG_EVENT))};
	const struct nvme_sqe event = {.opcode = NVME_ADM_ASYNC_EVENT};
	const struct nvme_sqe flush = {.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)};
	struct nvme *ctrl;

	rig_open(rig, SPEC);
	rig_enable(rig);
	assert_int_equal(rig_do(rig, 0, &shadow), 0);
	rig->shadow = true;
	rig_create_queue(rig, 1);
	memset(rig->memory + RIG_DATA, 0x5a, 4096);
	assert_int_equal(rig_io(rig, NVME_CMD_WRITE, 300, 8, RIG_DATA), 0);
	assert_int_equal(rig_io(rig, NVME_CMD_WRITE_UNCORRECTABLE, 100, 3, RIG_DATA), 0);
	assert_int_equal(rig_admin(rig, NVME_ADM_SET_FEATURES, 0, 0x01, 3), 0);
	rig_submit(rig, 0, &event);
	rig_submit(rig, 0, &event);
	rig_write32(rig, NVME_REG_DOORBELLS + 4 * NVME_DOORBELL_SQ(9), 0);
	assert_int_equal(rig_take(rig, 0, NULL), 0);
	rig_write32(rig, NVME_REG_DOORBELLS + 4 * NVME_DOORBELL_SQ(9), 0);
	assert_int_equal(rig_admin(rig, NVME_ADM_GET_FEATURES, 0, 0x01, 0), 0);
	ctrl = uvf_device_opaque(rig->dev);
	nvme_poller_pause(&ctrl->pollers[0]);
	atomic_store(&ctrl->bus_master, false);
	ctrl->cqs[1].outstanding++;
	nvme_cq_add(&ctrl->sqs[1], htole16(99), 0, 0);
	nvme_poller_resume(&ctrl->pollers[0]);
	rig_command(rig, PCI_COMMAND_MEMORY);
	assert_int_equal(uvf_migration_set_state(rig->dev, VFIO_DEVICE_STATE_RUNNING_P2P), 0);
	rig_submit(rig, 1, &flush);
}

static void make_stream(struct stream *stream)
{
	struct rig rig;

	prepare(&rig);
	stream_save(rig.dev, stream);
	rig_close(&rig);
}

static struct uvf_device *beside(struct rig *rig)
{
	struct uvf_error error = {0};
	struct uvf_device *dev;

	if (uvf_model_create(SPEC, &dev, &error))
		fail_msg("%s", error.text);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, rig->space), 0);
	return dev;
}

static void expect(struct rig *rig)
{
	uint16_t cid;

	assert_int_equal(rig_read32(rig, NVME_REG_CSTS), NVME_CSTS_RDY);
	assert_int_equal(rig_read32(rig, NVME_REG_CC), RIG_CC);
	for (unsigned i = 0; i < 20; i++)
		rig_moment();
	assert_false(rig_ready(rig, 1));
	rig_command(rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	/* What was complete, then what had not been fetched. */
	wait_for(rig, 1);
	assert_int_equal(rig_take(rig, 1, &cid), 0);
	assert_int_equal(cid, 99);
	assert_int_equal(rig_take(rig, 1, NULL), 0);
	/* The event that was held back comes when the log is read. */
	assert_false(rig_ready(rig, 0));
	assert_int_equal(rig_admin(rig, NVME_ADM_GET_LOG_PAGE, UINT32_MAX, 1 | 15u << 16, 0), 0);
	assert_int_equal(rig_take(rig, 0, NULL), 0);
	assert_int_equal(rig->result, NVME_ERROR_DOORBELL_REGISTER << 8 | 1u << 16);
	assert_int_equal(rig_admin(rig, NVME_ADM_GET_FEATURES, 0, 0x01, 0), 0);
	assert_int_equal(rig->result, 3);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 102, 1, RIG_DATA), NVME_SC_UNRECOVERED_READ);
	/* More than the ring has, by shadow doorbells. */
	for (unsigned i = 0; i < 50; i++) {
		memset(rig->memory + RIG_DATA, 0, 4096);
		assert_int_equal(rig_io(rig, NVME_CMD_READ, 300, 8, RIG_DATA), 0);
		for (unsigned at = 0; at < 4096; at++)
			assert_int_equal(rig->memory[RIG_DATA + at], 0x5a);
	}
}

static void as_it_was(void **state)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(releases); i++) {
		struct stream stream = golden_read("nvme", releases[i]);
		struct uvf_device *from;
		struct rig rig;

		/* The driver's memory as it was then. */
		prepare(&rig);
		from = rig.dev;
		assert_int_equal(uvf_migration_set_state(from, VFIO_DEVICE_STATE_STOP), 0);
		rig.dev = beside(&rig);
		assert_int_equal(stream_load(rig.dev, &stream), 0);
		expect(&rig);
		uvf_device_close(from);
		uvf_device_free(from);
		rig_close(&rig);
		stream_free(&stream);
	}
}

static void works(void *opaque)
{
	struct rig *rig = opaque;

	rig_command(rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig_read32(rig, NVME_REG_CC), 0);
	rig_enable(rig);
	rig_create_queue(rig, 1);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 300, 8, RIG_DATA), 0);
	for (unsigned at = 0; at < 4096; at++)
		assert_int_equal(rig->memory[RIG_DATA + at], 0);
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
}

static void damaged(void **state)
{
	struct stream stream = golden_read("nvme", releases[UVF_ARRAY_SIZE(releases) - 1]);
	struct rig rig;

	rig_open(&rig, SPEC);
	golden_damage(&(struct golden_victim){rig.dev, works, &rig}, &stream);
	golden_extend(&(struct golden_victim){rig.dev, works, &rig}, &stream);
	rig_close(&rig);
	stream_free(&stream);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_it_was),
		cmocka_unit_test(damaged),
	};

	if (argc == 4 && !strcmp(argv[1], "--make"))
		return golden_make(argv, "nvme", make_stream);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
