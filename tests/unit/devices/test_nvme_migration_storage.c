/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage that is memory moves while its driver writes to it: what is there in the end is what was
 * written last, and once the driver has stopped no more is left to move than what it changed.
 */
#include "nvme_rig.h"
#include "nvme_stream.h"

#include <errno.h>
#include <pthread.h>

#include "devices/nvme/nvme.h"

#define PIECE 65536u
/* Neither a whole number of pieces. */
#define SPEC   "nvme,mem=5132K,mem=1025K,serial=moves"
#define BLOCKS 10264u /* of the first */

static uint64_t state_of_random = 1;

static unsigned random_below(unsigned limit)
{
	state_of_random = state_of_random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(state_of_random >> 33) % limit;
}

static struct uvf_device *beside(struct rig *rig, const char *spec)
{
	struct uvf_device *dev = make(spec);

	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, rig->space), 0);
	return dev;
}

static const struct nvme_backend *storage_of(struct uvf_device *dev, unsigned index)
{
	return ((struct nvme *)uvf_device_opaque(dev))->namespaces[index].backend;
}

/* Some more of the state, in pieces of any size; what it says when there is no more now. */
static ssize_t give(struct uvf_device *from, struct uvf_device *to, uint64_t *most)
{
	static uint8_t bytes[1 << 20];

	while (*most) {
		size_t size = 1 + random_below(sizeof(bytes));
		ssize_t got = uvf_migration_read(from, bytes, size < *most ? size : *most);

		if (got <= 0)
			return got;
		assert_int_equal(uvf_migration_write(to, bytes, (size_t)got), got);
		*most -= (uint64_t)got;
	}
	return 1;
}

static uint64_t give_all(struct uvf_device *from, struct uvf_device *to, ssize_t end)
{
	uint64_t most = UINT64_MAX;

	assert_int_equal(give(from, to, &most), end);
	return UINT64_MAX - most;
}

static void expect_alike(struct uvf_device *one, struct uvf_device *other)
{
	for (unsigned i = 0; i < 2; i++)
		assert_memory_equal(storage_of(one, i)->bytes, storage_of(other, i)->bytes,
				    storage_of(one, i)->size);
}

static void scribble(struct rig *rig, unsigned blocks_from, unsigned blocks_to)
{
	unsigned lba = blocks_from + random_below(blocks_to - blocks_from), count;
	unsigned kind = random_below(8);
	struct nvme_sqe sqe;

	count = 1 + random_below(blocks_to - lba < 200 ? blocks_to - lba : 200);
	if (kind == 0) {
		sqe = (struct nvme_sqe){.opcode = NVME_CMD_WRITE_ZEROES,
					.nsid = htole32(1),
					.cdw10 = htole32(lba),
					.cdw12 = htole32(count - 1)};
	} else if (kind == 1) {
		/* A range to be forgotten. */
		uvf_put_le32(rig->memory + RIG_DATA, 0);
		uvf_put_le32(rig->memory + RIG_DATA + 4, count);
		uvf_put_le64(rig->memory + RIG_DATA + 8, lba);
		sqe = (struct nvme_sqe){.opcode = NVME_CMD_DATASET_MANAGEMENT,
					.nsid = htole32(1),
					.cdw11 = htole32(4),
					.prp1 = htole64(rig_iova(RIG_DATA))};
	} else {
		count = count < 8 ? count : 8;
		memset(rig->memory + RIG_DATA, (int)random_below(256), 4096);
		sqe = rig_rw(NVME_CMD_WRITE, lba, count, RIG_DATA);
		if (kind == 2) {
			sqe.nsid = htole32(2);
			sqe.cdw10 = htole32(lba % 2040);
		}
	}
	assert_int_equal(rig_do(rig, 1, &sqe), 0);
}

static void while_it_is_written_to(void **state)
{
	for (unsigned round = 0; round < 5; round++) {
		struct uvf_device *from, *to;
		uint64_t size, all;
		struct rig rig;

		rig_start(&rig, SPEC);
		from = rig.dev;
		to = beside(&rig, SPEC);
		for (unsigned i = 0; i < 500; i++)
			scribble(&rig, 0, BLOCKS);
		assert_int_equal(go(from, VFIO_DEVICE_STATE_PRE_COPY), 0);
		assert_int_equal(go(to, VFIO_DEVICE_STATE_RESUMING), 0);
		for (unsigned i = 0; i < 200; i++) {
			uint64_t most = random_below(PIECE);

			scribble(&rig, 0, BLOCKS);
			give(from, to, &most);
		}
		give_all(from, to, -ENOMSG);
		for (unsigned i = 0; i < 20; i++)
			scribble(&rig, 0, 2000);
		if (round % 2) {
			/* Back once more, which some do. */
			assert_int_equal(go(from, VFIO_DEVICE_STATE_PRE_COPY_P2P), 0);
			assert_int_equal(go(from, VFIO_DEVICE_STATE_PRE_COPY), 0);
			scribble(&rig, 0, 2000);
		}
		assert_int_equal(uvf_migration_data_size(from, &size), 0);
		assert_int_equal(go(from, VFIO_DEVICE_STATE_STOP_COPY), 0);
		all = give_all(from, to, 0);
		assert_true(all <= size);
		assert_true(all < 3 << 20);
		assert_int_equal(go(to, VFIO_DEVICE_STATE_RUNNING), 0);
		expect_alike(from, to);
		/* It goes on there. */
		rig.dev = to;
		assert_int_equal(uvf_device_reset(from, UVF_RESET_DEVICE), 0);
		scribble(&rig, 0, BLOCKS);
		leave(from);
		rig_close(&rig);
	}
}

/* What it says is left is what is. */
static void counts(void **state)
{
	uint64_t initial, dirty, size, before;
	struct uvf_device *from, *to;
	struct rig rig;

	rig_start(&rig, SPEC);
	from = rig.dev;
	to = beside(&rig, SPEC);
	memset(rig.memory + RIG_DATA, 0x5a, 4096);
	for (unsigned lba = 0; lba < 8192; lba += 128)
		assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, lba, 8, RIG_DATA), 0);
	assert_int_equal(uvf_migration_precopy_info(from, &initial, &dirty), -EINVAL);
	assert_int_equal(go(from, VFIO_DEVICE_STATE_PRE_COPY), 0);
	assert_int_equal(go(to, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(uvf_migration_precopy_info(from, &initial, &dirty), 0);
	assert_true(initial >= 4 << 20 && initial <= 8 << 20);
	assert_int_equal(dirty, 0);
	/* One that was looked at is dirty, one that wasn't is not yet. */
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 1, 1, RIG_DATA), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 8000, 1, RIG_DATA), 0);
	before = initial;
	assert_int_equal(uvf_migration_precopy_info(from, &initial, &dirty), 0);
	assert_int_equal(initial, before);
	assert_int_equal(dirty, PIECE);
	give_all(from, to, -ENOMSG);
	assert_int_equal(uvf_migration_precopy_info(from, &initial, &dirty), 0);
	assert_int_equal(initial, 0);
	assert_int_equal(dirty, 0);
	assert_int_equal(uvf_migration_data_size(from, &size), 0);
	assert_true(size < PIECE);
	/* Across the edge of two; the same again. */
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 255, 2, RIG_DATA), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 255, 2, RIG_DATA), 0);
	assert_int_equal(uvf_migration_data_size(from, &size), 0);
	assert_true(size >= 2 * PIECE && size < 3 * PIECE);
	assert_int_equal(uvf_migration_precopy_info(from, &initial, &dirty), 0);
	assert_int_equal(initial, 0);
	assert_in_range(dirty, 2 * PIECE, 2 * PIECE + 200);
	assert_in_range(give_all(from, to, -ENOMSG), 2 * PIECE, 2 * PIECE + 200);
	/* Reading is no writing. */
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 255, 2, RIG_DATA), 0);
	assert_int_equal(go(from, VFIO_DEVICE_STATE_STOP_COPY), 0);
	assert_true(give_all(from, to, 0) < PIECE);
	assert_int_equal(go(to, VFIO_DEVICE_STATE_RUNNING), 0);
	expect_alike(from, to);
	leave(to);
	rig_close(&rig);
}

/* Given up, it is as it was; the next time all is given again. */
static void given_up(void **state)
{
	struct uvf_device *from, *to;
	struct rig rig;

	rig_start(&rig, SPEC);
	from = rig.dev;
	to = beside(&rig, SPEC);
	for (unsigned i = 0; i < 200; i++)
		scribble(&rig, 0, BLOCKS);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(go(from, VFIO_DEVICE_STATE_PRE_COPY), 0);
		assert_int_equal(go(to, VFIO_DEVICE_STATE_RESUMING), 0);
		give_all(from, to, -ENOMSG);
		if (round == 1) {
			assert_int_equal(uvf_device_reset(from, UVF_RESET_DEVICE), 0);
			rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
			rig_enable(&rig);
			rig_create_queue(&rig, 1);
		} else {
			assert_int_equal(go(from, VFIO_DEVICE_STATE_RUNNING), 0);
		}
		/* What came is not left where it is not to stay. */
		assert_true(go(to, VFIO_DEVICE_STATE_RUNNING) < 0);
		assert_int_equal(uvf_device_reset(to, UVF_RESET_DEVICE), 0);
		for (uint64_t i = 0; i < storage_of(to, 0)->size / 8; i++)
			assert_int_equal(((uint64_t *)storage_of(to, 0)->bytes)[i], 0);
		scribble(&rig, 0, BLOCKS);
	}
	assert_int_equal(go(from, VFIO_DEVICE_STATE_STOP_COPY), 0);
	assert_int_equal(go(to, VFIO_DEVICE_STATE_RESUMING), 0);
	give_all(from, to, 0);
	assert_int_equal(go(to, VFIO_DEVICE_STATE_RUNNING), 0);
	expect_alike(from, to);
	/* Nothing came: what is there stays. And what is taken over is not given up by a reset. */
	assert_int_equal(go(to, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(go(to, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(uvf_device_reset(to, UVF_RESET_DEVICE), 0);
	expect_alike(from, to);
	leave(to);
	rig_close(&rig);
}

/* What the other one had is gone, also where the state has nothing in that place. */
static void over_something_else(void **state)
{
	struct uvf_device *from, *to;
	struct rig rig;

	rig_start(&rig, SPEC);
	from = rig.dev;
	to = beside(&rig, SPEC);
	memset(storage_of(to, 0)->bytes, 0x77, storage_of(to, 0)->size);
	memset(storage_of(to, 1)->bytes, 0x77, storage_of(to, 1)->size);
	memset(rig.memory + RIG_DATA, 0x5a, 4096);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 5000, 8, RIG_DATA), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 9000, 8, RIG_DATA), 0);
	assert_int_equal(go(from, VFIO_DEVICE_STATE_PRE_COPY), 0);
	assert_int_equal(go(to, VFIO_DEVICE_STATE_RESUMING), 0);
	give_all(from, to, -ENOMSG);
	/* Given, and then zeroes. */
	memset(rig.memory + RIG_DATA, 0, 4096);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 9000, 8, RIG_DATA), 0);
	assert_int_equal(go(from, VFIO_DEVICE_STATE_STOP_COPY), 0);
	give_all(from, to, 0);
	assert_int_equal(go(to, VFIO_DEVICE_STATE_RUNNING), 0);
	expect_alike(from, to);
	leave(to);
	rig_close(&rig);
}

/* ---- Beside its pollers ---- */

struct reading {
	struct uvf_device *from, *to;
	atomic_bool stop;
};

static void *read_all_the_time(void *opaque)
{
	struct reading *reading = opaque;
	static uint8_t bytes[1 << 18];

	while (!atomic_load(&reading->stop)) {
		ssize_t got = uvf_migration_read(reading->from, bytes, sizeof(bytes));

		if (got > 0)
			assert_int_equal(uvf_migration_write(reading->to, bytes, (size_t)got), got);
	}
	return NULL;
}

static void beside_its_pollers(void **state)
{
	static const char spec[] = "nvme,mem=5132K,mem=1025K,serial=moves,pollers=2";
	struct reading reading = {0};
	pthread_t thread;
	struct rig rig;

	rig_start(&rig, spec);
	reading.from = rig.dev;
	reading.to = beside(&rig, spec);
	assert_int_equal(go(reading.from, VFIO_DEVICE_STATE_PRE_COPY), 0);
	assert_int_equal(go(reading.to, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, &reading), 0);
	for (unsigned i = 0; i < 5000; i++)
		scribble(&rig, 0, 3000);
	atomic_store(&reading.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(go(reading.from, VFIO_DEVICE_STATE_STOP_COPY), 0);
	give_all(reading.from, reading.to, 0);
	assert_int_equal(go(reading.to, VFIO_DEVICE_STATE_RUNNING), 0);
	expect_alike(reading.from, reading.to);
	leave(reading.to);
	rig_close(&rig);
}

/* A poller that something holds up holds up nobody else: neither the way in nor the way back. */
static void a_poller_is_held_up(void **state)
{
	struct nvme_poller *poller;
	struct rig rig;
	struct nvme *ctrl;

	rig_start(&rig, SPEC);
	ctrl = uvf_device_opaque(rig.dev);
	poller = &ctrl->pollers[0];
	nvme_poller_pause(poller);
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_PRE_COPY), -EBUSY);
	assert_int_equal(uvf_migration_state(rig.dev), VFIO_DEVICE_STATE_RUNNING);
	nvme_poller_resume(poller);
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_PRE_COPY), 0);
	nvme_poller_pause(poller);
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING), 0);
	nvme_poller_resume(poller);
	scribble(&rig, 0, BLOCKS);
	rig_close(&rig);
}

/* Storage that isn't memory isn't copied early: nobody is waited for. */
static void nobody_is_waited_for(void **state)
{
	struct rig rig;
	struct nvme *ctrl;

	rig_start(&rig, "nvme,null=1M,serial=moves");
	ctrl = uvf_device_opaque(rig.dev);
	nvme_poller_pause(&ctrl->pollers[0]);
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_PRE_COPY), 0);
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING), 0);
	nvme_poller_resume(&ctrl->pollers[0]);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(while_it_is_written_to),
		cmocka_unit_test(counts),
		cmocka_unit_test(given_up),
		cmocka_unit_test(over_something_else),
		cmocka_unit_test(beside_its_pollers),
		cmocka_unit_test(a_poller_is_held_up),
		cmocka_unit_test(nobody_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
