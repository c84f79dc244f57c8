/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that are ended before their time: by Abort, by the deletion of their queue, by resets.
 * With direct I/O more commands can be fetched than have a buffer, so that some wait for a turn.
 */
#include "nvme_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>

#include "devices/nvme/nvme.h"

#define A	RIG_DATA
#define ENTRIES 64u /* a page of submission queue */
#define SIZE	(16u << 20)

/* A file beside the build, which is on a disk, more likely one with direct I/O than /tmp. */
struct world {
	struct rig rig;
	char directory[32], path[48];
	bool opened;
};

static void world_open(struct world *world, const char *keys)
{
	char spec[128];
	int fd;

	memset(world, 0, sizeof(*world));
	strcpy(world->directory, "nvme-end-XXXXXX");
	assert_non_null(mkdtemp(world->directory));
	snprintf(world->path, sizeof(world->path), "%s/disk", world->directory);
	fd = open(world->path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
	fd = open(world->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0 && strstr(keys, "direct"))
		return;
	close(fd);
	snprintf(spec, sizeof(spec), "nvme,file=%s,%s", world->path, keys);
	rig_open(&world->rig, spec);
	world->opened = true;
}

static void world_close(struct world *world)
{
	if (world->opened)
		rig_close(&world->rig);
	unlink(world->path);
	rmdir(world->directory);
}

static void create_queue(struct rig *rig, unsigned id)
{
	rig_queue_init(rig, id, ENTRIES, ENTRIES);
	assert_int_equal(rig_create_cq(rig, id, ENTRIES), 0);
	assert_int_equal(rig_create_sq(rig, id, ENTRIES, id), 0);
}

/* Fills the queue with writes out of memory that direct I/O can't use: with one doorbell. */
static uint16_t submit_many(struct rig *rig, unsigned id, unsigned count)
{
	uint16_t first = 0;

	for (unsigned i = 0; i < count; i++) {
		struct nvme_sqe sqe = rig_rw(NVME_CMD_WRITE, i * 8, 8, A + 0x2000 * i + 4);
		uint16_t cid = rig_put(rig, id, &sqe);

		first = i ? first : cid;
	}
	rig_ring(rig, 2 * id, rig->queues[id].sq_tail);
	return first;
}

/* How many have completed, and how many of those with @status; the rest with success. */
static unsigned take_all(struct rig *rig, unsigned id, uint16_t status, unsigned *with_status)
{
	unsigned count = 0;

	*with_status = 0;
	for (; rig_ready(rig, id); count++) {
		uint16_t got = rig_take(rig, id, NULL);

		assert_true(!got || got == status);
		*with_status += got == status;
	}
	return count;
}

static void deleting_a_queue(void **state)
{
	static const char *const keys[] = {"direct", "direct,pollers=2", "direct,poll=on",
					   "pollers=2", "poll=off"};
	unsigned aborted = 0, done;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(keys); i++) {
		struct world world;

		world_open(&world, keys[i]);
		if (!world.opened) {
			world_close(&world);
			continue;
		}
		rig_enable(&world.rig);
		for (unsigned round = 0; round < 20; round++) {
			unsigned id = 1 + round % 2, count, was;

			create_queue(&world.rig, id);
			submit_many(&world.rig, id, ENTRIES - 1);
			assert_int_equal(rig_admin(&world.rig, NVME_ADM_DELETE_SQ, 0, id, 0), 0);
			/* All that will ever complete has. */
			count = take_all(&world.rig, id, NVME_SC_SQ_DELETED, &done);
			aborted += done;
			assert_true(count < ENTRIES);
			for (unsigned wait = 0; wait < 3; wait++)
				rig_moment();
			was = world.rig.queues[id].cq_head;
			take_all(&world.rig, id, 0, &done);
			assert_int_equal(world.rig.queues[id].cq_head, was);
			assert_int_equal(rig_admin(&world.rig, NVME_ADM_DELETE_SQ, 0, id, 0),
					 DNR(NVME_SC_INVALID_QUEUE_ID));
			assert_int_equal(rig_admin(&world.rig, NVME_ADM_DELETE_CQ, 0, id, 0), 0);
		}
		world_close(&world);
	}
	print_message("%u commands were aborted\n", aborted);
}

/* Each command completes once: done, or aborted by the Abort that says so. */
static void aborting(void **state)
{
	struct world world;
	unsigned aborted = 0, seen = 0;

	world_open(&world, "direct,pollers=2");
	if (!world.opened) {
		world_close(&world);
		skip();
	}
	rig_enable(&world.rig);
	create_queue(&world.rig, 2);
	for (unsigned round = 0; round < 20; round++) {
		uint16_t first = submit_many(&world.rig, 2, ENTRIES - 1);
		unsigned by_abort = 0, by_status = 0;

		for (unsigned i = ENTRIES - 2; i > ENTRIES - 12; i--) {
			assert_int_equal(
				rig_admin(&world.rig, NVME_ADM_ABORT, 0, (first + i) << 16 | 2, 0),
				0);
			by_abort += !(world.rig.result & 1);
		}
		for (unsigned i = 0; i < ENTRIES - 1; i++) {
			uint16_t status = rig_take(&world.rig, 2, NULL);

			assert_true(!status || status == NVME_SC_ABORT_REQUESTED);
			by_status += status != 0;
		}
		assert_int_equal(by_abort, by_status);
		aborted += by_status;
		seen += ENTRIES - 1;
	}
	assert_int_equal(rig_admin(&world.rig, NVME_ADM_ABORT, 0, 0x12340002, 0), 0);
	assert_int_equal(world.rig.result, 1);
	assert_int_equal(rig_admin(&world.rig, NVME_ADM_ABORT, 0, 0x12340003, 0), 0);
	assert_int_equal(world.rig.result, 1);
	world_close(&world);
	print_message("%u of %u commands were aborted\n", aborted, seen);
}

static void resets_with_commands_in_the_storage(void **state)
{
	static const char *const keys[] = {"pollers=2", "direct,pollers=2", "poll=off"};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(keys); i++) {
		struct world world;

		world_open(&world, keys[i]);
		for (unsigned round = 0; world.opened && round < 20; round++) {
			rig_command(&world.rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
			rig_enable(&world.rig);
			create_queue(&world.rig, 1);
			create_queue(&world.rig, 2);
			submit_many(&world.rig, 1, ENTRIES - 1);
			submit_many(&world.rig, 2, ENTRIES - 1);
			if (round % 3 == 2) { /* with a deletion in progress */
				struct nvme_sqe sqe = {.opcode = NVME_ADM_DELETE_SQ,
						       .cdw10 = htole32(1 + round % 2)};

				rig_submit(&world.rig, 0, &sqe);
			}
			if (round % 2)
				rig_disable(&world.rig);
			else
				assert_int_equal(uvf_device_reset(world.rig.dev, UVF_RESET_DEVICE),
						 0);
		}
		world_close(&world);
	}
}

/* ---- Memory of the driver that doesn't answer ---- */

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool closed, waiting;
	uint8_t *bytes;
};

static int gate_pass(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	while (gate->closed) {
		gate->waiting = true;
		pthread_cond_broadcast(&gate->changed);
		pthread_cond_wait(&gate->changed, &gate->lock);
	}
	gate->waiting = false;
	pthread_mutex_unlock(&gate->lock);
	return 0;
}

static int gate_read(void *opaque, uint64_t offset, void *buf, size_t count)
{
	struct gate *gate = opaque;
	int ret = gate_pass(gate);

	memcpy(buf, gate->bytes + offset, count);
	return ret;
}

static int gate_write(void *opaque, uint64_t offset, const void *buf, size_t count)
{
	struct gate *gate = opaque;
	int ret = gate_pass(gate);

	memcpy(gate->bytes + offset, buf, count);
	return ret;
}

static void gate_release(void *opaque)
{
}

static void gate_set(struct gate *gate, bool closed)
{
	pthread_mutex_lock(&gate->lock);
	gate->closed = closed;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

/* A reset from above says that it can't, in time; it happens when the access has ended. */
static void a_reset_does_not_wait_for_ever(void **state)
{
	static const struct uvf_memory_remote_ops ops = {gate_read, gate_write, gate_release};
	struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};
	struct uvf_memory *memory;
	struct rig rig;
	struct nvme *ctrl;

	rig_start(&rig, "nvme,mem=4M,poll=off");
	ctrl = uvf_device_opaque(rig.dev);
	gate.bytes = rig.memory;
	assert_int_equal(uvf_memory_new_remote(&ops, &gate, &memory), 0);
	assert_int_equal(
		uvf_map(rig.space, RIG_IOVA + RIG_MEMORY, RIG_MEMORY, UVF_PROT_RW, memory, 0), 0);
	gate_set(&gate, true);
	struct nvme_sqe sqe = rig_rw(NVME_CMD_WRITE, 0, 1, RIG_MEMORY + A);

	rig_submit(&rig, 1, &sqe);
	pthread_mutex_lock(&gate.lock);
	while (!gate.waiting)
		pthread_cond_wait(&gate.changed, &gate.lock);
	pthread_mutex_unlock(&gate.lock);
	ctrl->reset_limit_ms = 30;
	assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), -ETIMEDOUT);
	assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), -ETIMEDOUT);
	gate_set(&gate, false);
	ctrl->reset_limit_ms = 60000;
	assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), 0);
	rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_enable(&rig);
	rig_create_queue(&rig, 1);
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	rig_close(&rig);
	uvf_memory_put(memory);
}

/* Nor does coming to rest for a migration: it runs on, and nothing is lost. */
static void rest_is_not_waited_for_for_ever(void **state)
{
	static const struct uvf_memory_remote_ops ops = {gate_read, gate_write, gate_release};
	struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};
	struct uvf_memory *memory;
	struct rig rig;
	struct nvme *ctrl;

	rig_start(&rig, "nvme,mem=4M");
	ctrl = uvf_device_opaque(rig.dev);
	gate.bytes = rig.memory;
	assert_int_equal(uvf_memory_new_remote(&ops, &gate, &memory), 0);
	assert_int_equal(
		uvf_map(rig.space, RIG_IOVA + RIG_MEMORY, RIG_MEMORY, UVF_PROT_RW, memory, 0), 0);
	gate_set(&gate, true);
	struct nvme_sqe sqe = rig_rw(NVME_CMD_WRITE, 0, 1, RIG_MEMORY + A);

	rig_submit(&rig, 1, &sqe);
	pthread_mutex_lock(&gate.lock);
	while (!gate.waiting)
		pthread_cond_wait(&gate.changed, &gate.lock);
	pthread_mutex_unlock(&gate.lock);
	ctrl->reset_limit_ms = 30;
	assert_int_equal(uvf_migration_set_state(rig.dev, VFIO_DEVICE_STATE_STOP), -ETIMEDOUT);
	assert_int_equal(uvf_migration_state(rig.dev), VFIO_DEVICE_STATE_RUNNING);
	gate_set(&gate, false);
	assert_int_equal(rig_take(&rig, 1, NULL), 0);
	ctrl->reset_limit_ms = 60000;
	assert_int_equal(uvf_migration_set_state(rig.dev, VFIO_DEVICE_STATE_STOP), 0);
	assert_int_equal(uvf_migration_set_state(rig.dev, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	rig_close(&rig);
	uvf_memory_put(memory);
}

/*
 * The thread that resets the device is the one that its poller's accesses to the driver's memory
 * would be answered by, at both ends: neither waits for the other.
 */
static void resets_with_memory_behind_a_socket(void **state)
{
	static const char *const specs[] = {"nvme,mem=4M,poll=on", "nvme,mem=4M,poll=off"};

	for (size_t i = 0; i < 2 * UVF_ARRAY_SIZE(specs); i++) {
		char directory[] = "/tmp/uvfio-nvme-XXXXXX", path[64];
		struct uvf_server_config config = {.path = path};
		struct uvf_client_config client = {.path = path, .no_twin_socket = i & 1};
		struct nvme_sqe sqe = rig_rw(NVME_CMD_WRITE, 0, 16, A);
		struct uvf_device *model, *dev;
		struct uvf_server *server;
		struct rig rig;

		assert_non_null(mkdtemp(directory));
		snprintf(path, sizeof(path), "%s/socket", directory);
		assert_int_equal(uvf_model_create(specs[i / 2], &model, NULL), 0);
		assert_int_equal(uvf_server_new(model, &config, &server, NULL), 0);
		assert_int_equal(uvf_server_start(server), 0);
		assert_int_equal(uvf_client_connect(&client, &dev, NULL), 0);
		rig_open_device(&rig, dev, RIG_REMOTE);
		for (unsigned round = 0; round < 20; round++) {
			rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
			rig_enable(&rig);
			rig_create_queue(&rig, 1);
			for (unsigned n = 0; n < RIG_ENTRIES - 1; n++)
				rig_put(&rig, 1, &sqe);
			rig_ring(&rig, 2, rig.queues[1].sq_tail);
			if (round % 2)
				rig_take(&rig, 1, NULL);
			if (round % 3 == 2) /* and an unmap */
				assert_int_equal(uvf_unmap(rig.space, 0, 0, NULL), 0);
			assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), 0);
			if (round % 3 == 2)
				rig_map(&rig, RIG_REMOTE);
		}
		rig_close(&rig);
		uvf_server_stop(server);
		uvf_server_free(server);
		uvf_device_free(model);
		rmdir(directory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deleting_a_queue),
		cmocka_unit_test(aborting),
		cmocka_unit_test(resets_with_commands_in_the_storage),
		cmocka_unit_test(a_reset_does_not_wait_for_ever),
		cmocka_unit_test(rest_is_not_waited_for_for_ever),
		cmocka_unit_test(resets_with_memory_behind_a_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
