/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A DMA engine goes from one server to another in the middle of a chain, its memory moved by the
 * reports of its dirty log alone: where it arrives, and when it is done, not a byte differs.
 */
#include "../unit/devices/ioat_rig.h"
#include "far.h"

#define DESCRIPTORS 400u /* in a circle */
#define CIRCLES	    10u
#define PIECE	    0x10000u
#define TARGETS	    30u

static uint32_t source_of(unsigned nth, unsigned round)
{
	return RIG_SOURCE + (nth * 7 + round) % 400 * 4096;
}

static void describe_chain(struct rig *rig, unsigned round)
{
	for (unsigned i = 0; i < DESCRIPTORS; i++)
		rig_describe(rig, i,
			     (struct ioat_descriptor){
				     .size = PIECE,
				     .control = i == DESCRIPTORS - 1 ? IOAT_DESC_COMPLETION : 0,
				     .source = rig_iova(source_of(i, round)),
				     .destination = rig_iova(RIG_TARGET + i % TARGETS * PIECE),
				     .next = rig_descriptor((i + 1) % DESCRIPTORS),
			     });
	memset(rig->memory + RIG_RECORD, 0, 8);
}

static void check_chain(struct rig *rig, unsigned round)
{
	rig_wait(rig, IOAT_DONE);
	assert_int_equal(rig_completed(rig), rig_descriptor(DESCRIPTORS - 1));
	assert_int_equal(rig_record(rig), rig_descriptor(DESCRIPTORS - 1) | IOAT_DONE);
	for (unsigned i = DESCRIPTORS - TARGETS; i < DESCRIPTORS; i++)
		assert_memory_equal(rig->memory + RIG_TARGET + i % TARGETS * PIECE,
				    rig->memory + source_of(i, round), PIECE);
}

/* Returns whether it was still at work. */
static bool migrate(struct rig *from, struct rig *to, unsigned round)
{
	bool active;

	assert_int_equal(uvf_device_logging_start(from->dev), 0);
	describe_chain(from, round);
	memcpy(to->memory, from->memory, RIG_MEMORY);
	rig_start(from, 0, DESCRIPTORS * CIRCLES);
	assert_int_equal(uvf_migration_set_state(from->dev, VFIO_DEVICE_STATE_PRE_COPY), 0);
	far_copy_dirty(from->dev, RIG_IOVA, from->memory, to->memory, RIG_MEMORY);
	assert_int_equal(uvf_migration_set_state(to->dev, VFIO_DEVICE_STATE_RESUMING), 0);
	far_pass_state(from->dev, to->dev);
	assert_int_equal(uvf_migration_set_state(from->dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
	far_copy_dirty(from->dev, RIG_IOVA, from->memory, to->memory, RIG_MEMORY);
	assert_memory_equal(to->memory, from->memory, RIG_MEMORY);
	far_pass_state(from->dev, to->dev);
	assert_int_equal(uvf_migration_set_state(to->dev, VFIO_DEVICE_STATE_RUNNING), 0);
	active = rig_status(to) == IOAT_ACTIVE;
	assert_int_equal(uvf_device_reset(from->dev, UVF_RESET_DEVICE), 0);
	return active;
}

static void in_the_middle_of_a_chain(void **state)
{
	struct far far[2];
	struct rig rigs[2];
	unsigned active = 0;

	for (unsigned i = 0; i < 2; i++) {
		far_open(&far[i], "ioat", false);
		rig_open_device(&rigs[i], far[i].dev);
	}
	for (unsigned round = 0; round < 20; round++) {
		struct rig *from = &rigs[round % 2], *to = &rigs[!(round % 2)];

		/* Each is new when its turn comes. */
		assert_int_equal(uvf_device_reset(from->dev, UVF_RESET_DEVICE), 0);
		rig_config_put(from, PCI_COMMAND, RIG_COMMAND, 2);
		active += migrate(from, to, round);
		check_chain(to, round);
		assert_int_equal(uvf_device_logging_stop(from->dev), 0);
	}
	print_message("%u of 20 were at work when they arrived\n", active);
	for (unsigned i = 0; i < 2; i++) {
		uvf_device_close(rigs[i].dev);
		uvf_address_space_put(rigs[i].space);
		munmap(rigs[i].memory, RIG_MEMORY);
		close(rigs[i].fd);
		close(rigs[i].pin);
		for (unsigned n = 0; n < RIG_VECTORS; n++)
			close(rigs[i].irqs[n]);
		far_close(&far[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_the_middle_of_a_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
