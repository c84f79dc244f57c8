/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller goes from one server to another while its driver works, as a VMM does it: memory by
 * the device's dirty log, state by messages. Each has memory of its own, and both reach the disk.
 */
#include <stdio.h>

#include "../unit/devices/nvme_rig.h"
#include "far.h"

#define BLOCKS 64u

static uint8_t pattern(uint32_t block, unsigned round)
{
	return (uint8_t)(block * 7 + round * 31 + 1);
}

static void write_blocks(struct rig *rig, unsigned round)
{
	for (uint32_t block = 0; block < BLOCKS; block++) {
		memset(rig->memory + RIG_DATA, pattern(block, round), 512);
		assert_int_equal(rig_io(rig, NVME_CMD_WRITE, block, 1, RIG_DATA), 0);
	}
}

static void check_blocks(struct rig *rig, unsigned round)
{
	for (uint32_t block = 0; block < BLOCKS; block++) {
		uint32_t at = RIG_DATA + 0x10000 + block % 8 * 4096;

		memset(rig->memory + at, 0, 512);
		assert_int_equal(rig_io(rig, NVME_CMD_READ, block, 1, at), 0);
		for (unsigned i = 0; i < 512; i++)
			assert_int_equal(rig->memory[at + i], pattern(block, round));
	}
}

/* What the driver itself writes, a VMM knows. */
static void copy_drivers(const struct rig *from, struct rig *to)
{
	memcpy(to->memory, from->memory, 0x1000);
	memcpy(to->memory + 0x2000, from->memory + 0x2000, 0x1000);
	memcpy(to->memory + RIG_DATA, from->memory + RIG_DATA, 4096);
	for (unsigned i = 0; i < 8; i++)
		memcpy(to->memory + RIG_DATA + 0x10000 + i * 4096,
		       from->memory + RIG_DATA + 0x10000 + i * 4096, 4096);
}

/* The driver goes on beside @to with what it knew. */
static void take_driver(const struct rig *from, struct rig *to)
{
	memcpy(to->queues, from->queues, sizeof(to->queues));
	for (unsigned i = 0; i < 2; i++) {
		to->queues[i].sq = (void *)(to->memory + i * 0x2000);
		to->queues[i].cq = (void *)(to->memory + i * 0x2000 + 0x1000);
	}
	to->next_cid = from->next_cid;
}

/* Reads that land where nobody but the log tells of. */
static void read_silently(struct rig *rig, unsigned round)
{
	for (uint32_t i = 0; i < 16; i++)
		assert_int_equal(rig_io(rig, NVME_CMD_READ, i, 1,
					RIG_DATA + 0x100000 + (round * 16 + i) % 64 * 0x3000),
				 0);
}

static void migrate(struct rig *from, struct rig *to, unsigned round, bool early)
{
	uint64_t size;

	assert_int_equal(uvf_device_logging_start(from->dev), 0);
	memcpy(to->memory, from->memory, RIG_MEMORY);
	if (early) {
		assert_int_equal(uvf_migration_set_state(to->dev, VFIO_DEVICE_STATE_RESUMING), 0);
		assert_int_equal(uvf_migration_set_state(from->dev, VFIO_DEVICE_STATE_PRE_COPY), 0);
		far_pass_state(from->dev, to->dev);
	}
	read_silently(from, round);
	assert_true(far_copy_dirty(from->dev, RIG_IOVA, from->memory, to->memory, RIG_MEMORY) > 0);
	if (early)
		far_pass_state(from->dev, to->dev);
	read_silently(from, round + 1);
	check_blocks(from, round);
	assert_int_equal(uvf_migration_data_size(from->dev, &size), 0);
	assert_true(size > 0);
	assert_int_equal(uvf_migration_set_state(from->dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
	assert_true(far_copy_dirty(from->dev, RIG_IOVA, from->memory, to->memory, RIG_MEMORY) > 0);
	copy_drivers(from, to);
	assert_memory_equal(to->memory, from->memory, RIG_MEMORY);
	if (!early)
		assert_int_equal(uvf_migration_set_state(to->dev, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_true(far_pass_state(from->dev, to->dev) > 0);
	assert_int_equal(uvf_migration_set_state(to->dev, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(uvf_migration_set_state(from->dev, VFIO_DEVICE_STATE_STOP), 0);
	assert_int_equal(uvf_device_logging_stop(from->dev), 0);
	assert_int_equal(uvf_device_reset(from->dev, UVF_RESET_DEVICE), 0);
	take_driver(from, to);
}

/* ---- Two servers, one disk ---- */

struct pair {
	char path[32];
	struct far far[2];
	struct rig rigs[2];
};

static void open_pair(struct pair *pair, enum rig_memory kind, bool no_twin)
{
	char spec[2][96];
	int fd;

	strcpy(pair->path, "/tmp/uvfio-far-disk-XXXXXX");
	fd = mkstemp(pair->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	snprintf(spec[0], sizeof(spec[0]), "nvme,file=%s", pair->path);
	snprintf(spec[1], sizeof(spec[1]), "nvme,file=%s,incoming", pair->path);
	for (unsigned i = 0; i < 2; i++) {
		far_open(&pair->far[i], spec[i], no_twin);
		rig_open_device(&pair->rigs[i], pair->far[i].dev, kind);
	}
	rig_enable(&pair->rigs[0]);
	rig_create_queue(&pair->rigs[0], 1);
}

static void close_pair(struct pair *pair)
{
	for (unsigned i = 0; i < 2; i++) {
		struct rig *rig = &pair->rigs[i];

		uvf_device_close(rig->dev);
		uvf_address_space_put(rig->space);
		munmap(rig->memory, RIG_MEMORY);
		munmap(rig->remote, RIG_MEMORY);
		close(rig->fd);
		far_close(&pair->far[i]);
	}
	unlink(pair->path);
}

static void back_and_forth(void **state)
{
	struct pair pair;
	struct rig *rig = &pair.rigs[0];

	open_pair(&pair, RIG_FILE, false);
	for (unsigned round = 0; round < 8; round++) {
		struct rig *next = &pair.rigs[!(round % 2)];

		write_blocks(rig, round);
		migrate(rig, next, round, round / 2 % 2);
		rig = next;
		check_blocks(rig, round);
	}
	close_pair(&pair);
}

/* The source is told to be still while it has commands, whose data go by messages or not. */
static void with_commands(enum rig_memory kind, bool no_twin)
{
	struct pair pair;
	struct rig *rig = &pair.rigs[0];

	open_pair(&pair, kind, no_twin);
	write_blocks(rig, 0);
	for (unsigned round = 0; round < 10; round++) {
		struct rig *next = &pair.rigs[!(round % 2)];
		uint32_t at[8], taken = 0;
		uint16_t cid;

		assert_int_equal(uvf_device_logging_start(rig->dev), 0);
		for (uint32_t i = 0; i < 8; i++) {
			struct nvme_sqe read;

			at[i] = RIG_DATA + 0x200000 + (round * 8 + i) * 4096;
			read = rig_rw(NVME_CMD_READ, i * 8, 8, at[i]);
			rig_put(rig, 1, &read);
		}
		memcpy(next->memory, rig->memory, RIG_MEMORY);
		rig_ring(rig, 2, rig->queues[1].sq_tail);
		assert_int_equal(uvf_migration_set_state(rig->dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
		far_copy_dirty(rig->dev, RIG_IOVA, rig->memory, next->memory, RIG_MEMORY);
		assert_memory_equal(next->memory, rig->memory, RIG_MEMORY);
		assert_int_equal(uvf_migration_set_state(next->dev, VFIO_DEVICE_STATE_RESUMING), 0);
		far_pass_state(rig->dev, next->dev);
		assert_int_equal(uvf_migration_set_state(next->dev, VFIO_DEVICE_STATE_RUNNING), 0);
		assert_int_equal(uvf_device_logging_stop(rig->dev), 0);
		assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
		take_driver(rig, next);
		rig = next;
		for (unsigned i = 0; i < 8; i++) {
			assert_int_equal(rig_take(rig, 1, &cid), 0);
			taken |= 1U << (rig->next_cid - cid);
		}
		assert_int_equal(taken, 0xff);
		for (uint32_t i = 0; i < 64; i++)
			assert_int_equal(rig->memory[at[i / 8] + i % 8 * 512 + 511], pattern(i, 0));
	}
	close_pair(&pair);
}

static void commands(void **state)
{
	with_commands(RIG_FILE, false);
}

static void commands_by_messages(void **state)
{
	with_commands(RIG_REMOTE, false);
}

static void commands_by_messages_of_one_socket(void **state)
{
	with_commands(RIG_REMOTE, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(back_and_forth),
		cmocka_unit_test(commands),
		cmocka_unit_test(commands_by_messages),
		cmocka_unit_test(commands_by_messages_of_one_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
