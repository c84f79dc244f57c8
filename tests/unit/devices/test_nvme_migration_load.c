/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller goes from one device to another and back, while a driver has commands in its queues:
 * none is lost, none is done twice, and all data is what it should be.
 */
#include "nvme_stream.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "driver.h"

#define MOVES  20
#define QUEUES 3u
#define DEPTH  16u
#define BLOCKS 8u
#define REGION 64u /* blocks of a command identifier */

struct load {
	struct nvme_driver *driver;
	pthread_rwlock_t running; /* held for writing: the driver's processors are stopped */
	atomic_bool stop;
	_Atomic uint64_t verified;
	uint8_t *buffers;
	uvf_iova_t iova;
	struct {
		uint8_t value;
		bool written, reading;
	} of[QUEUES][DEPTH];
};

static void moment(void)
{
	const struct timespec time = {.tv_nsec = 100000};

	nanosleep(&time, NULL);
}

static uint8_t *buffer_of(struct load *load, unsigned queue, unsigned cid)
{
	return load->buffers + (queue * DEPTH + cid) * 4096u;
}

static void completed(struct load *load, unsigned queue, const struct nvme_driver_done *done)
{
	const uint8_t *bytes = buffer_of(load, queue, done->cid);

	assert_int_equal(done->status, 0);
	if (!load->of[queue][done->cid].reading) {
		load->of[queue][done->cid].written = true;
		return;
	}
	for (unsigned i = 0; i < BLOCKS * 512; i++)
		if (bytes[i] != load->of[queue][done->cid].value)
			assert_int_equal(bytes[i], load->of[queue][done->cid].value);
	atomic_fetch_add(&load->verified, 1);
	load->of[queue][done->cid].written = false;
	load->of[queue][done->cid].value++;
}

/* Each command identifier writes its blocks and reads them, by turns. */
static void fill_queue(struct load *load, unsigned index)
{
	struct nvme_driver_queue *queue = nvme_driver_queue(load->driver, index);
	struct nvme_driver_command *command;

	while ((command = nvme_driver_prepare(queue))) {
		uint16_t cid = le16toh(command->cid);
		bool reading = load->of[index][cid].written;
		uint8_t *bytes = buffer_of(load, index, cid);

		load->of[index][cid].reading = reading;
		memset(bytes, reading ? 0xff : load->of[index][cid].value, BLOCKS * 512);
		nvme_driver_fill(command, reading ? NVME_IO_READ : NVME_IO_WRITE, 1,
				 (uint64_t)(index * DEPTH + cid) * REGION, BLOCKS,
				 load->iova + (uint64_t)(bytes - load->buffers), 0);
	}
	nvme_driver_ring(queue);
}

/* Returns whether all commands of the queue have completed. */
static bool turn(struct load *load, unsigned index, bool fill)
{
	struct nvme_driver_queue *queue = nvme_driver_queue(load->driver, index);
	struct nvme_driver_done done[DEPTH];
	int count;

	pthread_rwlock_rdlock(&load->running);
	if (fill)
		fill_queue(load, index);
	count = nvme_driver_poll(queue, done, DEPTH);
	pthread_rwlock_unlock(&load->running);
	assert_true(count >= 0);
	for (int i = 0; i < count; i++)
		completed(load, index, &done[i]);
	return queue->free_count == DEPTH;
}

static void *worker(void *opaque)
{
	struct load *load = opaque;

	while (!atomic_load(&load->stop)) {
		for (unsigned index = 0; index < QUEUES; index++)
			turn(load, index, true);
		sched_yield();
	}
	/* Each that was begun ends: else this does not. */
	for (unsigned index = 0; index < QUEUES; index++)
		while (!turn(load, index, false))
			sched_yield();
	return NULL;
}

static void under_load(struct stream *stream, const char *spec, const char *other_spec, bool shadow)
{
	const struct nvme_driver_config config = {.queues = QUEUES,
						  .depth = DEPTH,
						  .shadow_doorbells = shadow,
						  .no_mapped_doorbells = true,
						  .timeout_ms = 100000};
	struct load load = {0};
	struct uvf_error error = {0};
	struct uvf_device *devices[2] = {make(spec), make(other_spec)};
	pthread_t thread;

	if (nvme_driver_open(devices[0], &config, &load.driver, &error))
		fail_msg("%s: %s", spec, error.text);
	assert_int_equal(uvf_device_open(devices[1]), 0);
	assert_int_equal(uvf_device_attach(devices[1], UVF_PASID_NONE, load.driver->space), 0);
	load.buffers = nvme_driver_alloc(load.driver, QUEUES * DEPTH * 4096, &load.iova);
	pthread_rwlock_init(&load.running, NULL);
	assert_int_equal(pthread_create(&thread, NULL, worker, &load), 0);
	for (unsigned i = 0; i < MOVES; i++) {
		struct uvf_device *from = devices[i % 2], *to = devices[(i + 1) % 2];
		uint64_t before = atomic_load(&load.verified);

		/* Half of them with time in which the device rests and the driver doesn't. */
		if (i % 2)
			assert_int_equal(go(from, VFIO_DEVICE_STATE_RUNNING_P2P), 0);
		pthread_rwlock_wrlock(&load.running);
		save(from, stream);
		assert_int_equal(load_into(to, stream), 0);
		load.driver->dev = to;
		pthread_rwlock_unlock(&load.running);
		assert_int_equal(uvf_device_reset(from, UVF_RESET_DEVICE), 0);
		while (atomic_load(&load.verified) < before + 4 * DEPTH)
			moment();
	}
	atomic_store(&load.stop, true);
	pthread_join(thread, NULL);
	assert_ptr_equal(load.driver->dev, devices[0]);
	nvme_driver_close(load.driver);
	leave(devices[1]);
	uvf_device_free(devices[0]);
	pthread_rwlock_destroy(&load.running);
}

static void memory_under_load(void **state)
{
	under_load(*state, "nvme,mem=2M,pollers=2", "nvme,mem=2M,poll=off", false);
}

static void shadow_doorbells_under_load(void **state)
{
	under_load(*state, "nvme,mem=2M,poll=off", "nvme,mem=2M,pollers=3", true);
}

static void mapped_doorbells_under_load(void **state)
{
	under_load(*state, "nvme,mem=2M,poll=on", "nvme,mem=2M,poll=on", true);
}

static void file_under_load(void **state)
{
	char spec[160], other[160];
	struct disk disk;

	disk_make(&disk);
	assert_int_equal(truncate(disk.path, 2 << 20), 0);
	snprintf(spec, sizeof(spec), "%s,pollers=2", disk.there);
	snprintf(other, sizeof(other), "%s", disk.to_come);
	under_load(*state, spec, other, true);
	unlink(disk.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_under_load),
		cmocka_unit_test(shadow_doorbells_under_load),
		cmocka_unit_test(mapped_doorbells_under_load),
		cmocka_unit_test(file_under_load),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
