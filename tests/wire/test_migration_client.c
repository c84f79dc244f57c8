/* SPDX-License-Identifier: BSD-3-Clause */
/* A device behind a socket migrates, and its writes are followed, by the calls of any device. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "migrating.h"

#define BASE 0x100000000ULL

struct remote {
	struct harness *h;
	struct uvf_device *dev;
	struct uvf_address_space *space;
};

static struct remote *open_remote(uint32_t max_data)
{
	struct remote *r = calloc(1, sizeof(*r));
	const struct uvf_server_config server = {.max_data_xfer_size = max_data};
	struct uvf_client_config config = {.timeout_ms = LONG_TIME_MS};
	struct uvf_error error = {""};

	assert_non_null(r);
	r->h = harness_new(&server);
	assert_int_equal(uvf_server_start(r->h->server), 0);
	config.path = r->h->path;
	if (uvf_client_connect(&config, &r->dev, &error))
		fail_msg("%s", error.text);
	assert_int_equal(uvf_device_open(r->dev), 0);
	assert_int_equal(uvf_address_space_new(NULL, &r->space), 0);
	assert_int_equal(uvf_device_attach(r->dev, UVF_PASID_NONE, r->space), 0);
	return r;
}

static void close_remote(struct remote *r)
{
	uvf_device_close(r->dev);
	uvf_device_free(r->dev);
	uvf_address_space_put(r->space);
	harness_free(r->h);
	free(r);
}

static int setup(void **state)
{
	*state = open_remote(MAX_DATA);
	return 0;
}

static int setup_small(void **state)
{
	*state = open_remote(8);
	return 0;
}

static int teardown(void **state)
{
	close_remote(*state);
	return 0;
}

static int to(struct remote *r, enum vfio_device_mig_state state)
{
	return uvf_migration_set_state(r->dev, state);
}

static void write32(struct remote *r, uint32_t region, uint64_t offset, uint32_t value)
{
	assert_int_equal(uvf_region_write(r->dev, region, offset, &value, 4), 4);
}

/* ---- States ---- */

static void states_are_the_devices(void **state)
{
	static const enum vfio_device_mig_state way[] = {
		VFIO_DEVICE_STATE_PRE_COPY,  VFIO_DEVICE_STATE_PRE_COPY_P2P,
		VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP,
		VFIO_DEVICE_STATE_RESUMING,  VFIO_DEVICE_STATE_RUNNING_P2P,
		VFIO_DEVICE_STATE_RUNNING,   VFIO_DEVICE_STATE_RUNNING,
		VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RUNNING,
	};
	struct remote *r = *state;

	assert_int_equal(uvf_migration_flags(r->dev),
			 VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY);
	assert_int_equal(uvf_migration_state(r->dev), RUNNING);
	for (size_t i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
		assert_int_equal(to(r, way[i]), 0);
		assert_int_equal(uvf_migration_state(r->dev), way[i]);
		assert_int_equal(uvf_migration_state(r->h->device->dev), way[i]);
	}
	assert_int_equal(to(r, (enum vfio_device_mig_state)8), -EINVAL);
	assert_int_equal(to(r, VFIO_DEVICE_STATE_ERROR), -EINVAL);
	/* Nobody is told of a reset but who is there. */
	assert_int_equal(to(r, VFIO_DEVICE_STATE_STOP), 0);
	assert_int_equal(uvf_device_reset(r->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(uvf_migration_state(r->dev), RUNNING);
}

static void as_features(void **state)
{
	struct remote *r = *state;
	struct vfio_device_feature_mig_state data = {VFIO_DEVICE_STATE_STOP, 5};
	uint64_t flags;

	assert_int_equal(uvf_device_feature(r->dev,
					    VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION,
					    &flags, 8),
			 8);
	assert_int_equal(flags, uvf_migration_flags(r->h->device->dev));
	assert_int_equal(
		uvf_device_feature(r->dev,
				   VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
				   &data, sizeof(data)),
		sizeof(data));
	assert_int_equal(data.data_fd, -1);
	assert_int_equal(uvf_migration_state(r->h->device->dev), STOP);
	assert_int_equal(uvf_device_feature(r->dev,
					    VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET |
						    VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
					    NULL, 0),
			 0);
	/* What has pointers of this process in it stays in it. */
	assert_int_equal(
		uvf_device_feature(r->dev,
				   VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
				   &data, sizeof(data)),
		-EINVAL);
}

static void arcs_that_fail(void **state)
{
	struct remote *r = *state;
	uint8_t bytes[64] = {1};

	r->h->device->quiesce_error = -ENOSPC;
	assert_int_equal(to(r, VFIO_DEVICE_STATE_STOP), -ENOSPC);
	assert_int_equal(uvf_migration_state(r->dev), RUNNING);
	assert_int_equal(uvf_migration_read(r->dev, bytes, 64), -EINVAL);
	assert_int_equal(uvf_migration_write(r->dev, bytes, 64), -EINVAL);
	assert_int_equal(to(r, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(uvf_migration_write(r->dev, bytes, 64), -EINVAL);
	assert_int_equal(to(r, VFIO_DEVICE_STATE_RUNNING), -EINVAL);
	assert_int_equal(uvf_migration_state(r->dev), VFIO_DEVICE_STATE_ERROR);
	assert_int_equal(uvf_device_reset(r->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(uvf_migration_state(r->dev), RUNNING);
}

/* ---- Data ---- */

static void early_and_late(void **state)
{
	struct remote *r = *state, *other = open_remote(12345);
	uint8_t *bytes = malloc(STATE_MAX);
	uint64_t initial, dirty, size;
	size_t total = 0;
	ssize_t got;

	assert_non_null(bytes);
	assert_int_equal(uvf_migration_precopy_info(r->dev, &initial, &dirty), -EINVAL);
	for (size_t i = 0; i < BUFFER_SIZE; i++)
		r->h->device->buffer[i] = (uint8_t)(i * 5 + i / 253);
	memset(r->h->device->area, 0x5a, AREA_SIZE);
	write32(r, 0, REG_SCRATCH, 0xabcd);
	assert_int_equal(to(r, VFIO_DEVICE_STATE_PRE_COPY), 0);
	assert_int_equal(uvf_migration_precopy_info(r->dev, &initial, &dirty), 0);
	assert_true(initial > BUFFER_SIZE);
	assert_int_equal(dirty, 0);
	/* As much at once as is asked for, however many messages it takes. */
	got = uvf_migration_read(r->dev, bytes, BUFFER_SIZE);
	assert_int_equal(got, BUFFER_SIZE);
	total += (size_t)got;
	got = uvf_migration_read(r->dev, bytes + total, STATE_MAX - total);
	assert_int_equal(got, initial - BUFFER_SIZE);
	total += (size_t)got;
	assert_int_equal(uvf_migration_read(r->dev, bytes + total, 100), -ENOMSG);
	assert_int_equal(uvf_migration_read(r->dev, bytes + total, 0), 0);
	write32(r, VFIO_PCI_BAR2_REGION_INDEX, 0, 1);
	assert_int_equal(uvf_migration_precopy_info(r->dev, &initial, &dirty), 0);
	assert_int_equal(initial, 0);
	assert_true(dirty > BUFFER_SIZE);
	assert_int_equal(to(r, VFIO_DEVICE_STATE_STOP_COPY), 0);
	assert_int_equal(uvf_migration_data_size(r->dev, &size), 0);
	got = uvf_migration_read(r->dev, bytes + total, STATE_MAX - total);
	assert_int_equal(got, size);
	total += (size_t)got;
	assert_int_equal(uvf_migration_read(r->dev, bytes + total, 100), 0);

	assert_int_equal(to(other, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(uvf_migration_write(other->dev, bytes, total), total);
	assert_int_equal(to(other, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_memory_equal(other->h->device->buffer, r->h->device->buffer, BUFFER_SIZE);
	assert_memory_equal(other->h->device->area, r->h->device->area, AREA_SIZE);
	assert_memory_equal(other->h->device->registers, r->h->device->registers, PAGE);
	close_remote(other);
	free(bytes);
}

/* ---- The log ---- */

static void device_writes(struct remote *r, uint64_t address, uint32_t size)
{
	write32(r, 0, REG_BUS_MASTER, 1);
	write32(r, 0, REG_DMA_ADDRESS, (uint32_t)address);
	write32(r, 0, REG_DMA_ADDRESS + 4, (uint32_t)(address >> 32));
	write32(r, 0, REG_DMA_SIZE, size);
	write32(r, 0, REG_DMA_WRITE, 1);
	write32(r, 0, REG_DOORBELL, 1);
	assert_int_equal(r->h->device->dma_result, 0);
}

static int report(struct remote *r, uint64_t iova, uint64_t size, uint64_t page_size,
		  uint64_t *bitmap)
{
	return uvf_device_logging_report(r->dev, iova, size, page_size, bitmap,
					 uvf_dirty_bitmap_size(size, page_size));
}

static int memory_read(void *opaque, uint64_t offset, void *buf, size_t count)
{
	memset(buf, 0, count);
	return 0;
}

static int memory_write(void *opaque, uint64_t offset, const void *buf, size_t count)
{
	return 0;
}

static void memory_release(void *opaque)
{
}

/* Files, memory that is reached by messages, and reports of many pieces. */
static void writes_are_followed(void **state)
{
	static const struct uvf_memory_remote_ops ops = {memory_read, memory_write, memory_release};
	struct remote *r = *state;
	const uint64_t pages = 1 << 20;
	uint64_t *bitmap = calloc(pages / 64, 8);
	struct uvf_memory *memory;
	int fd = memory_file(1 << 20);

	assert_non_null(bitmap);
	assert_int_equal(uvf_map_fd(r->space, BASE, 1 << 20, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(uvf_memory_new_remote(&ops, NULL, &memory), 0);
	assert_int_equal(uvf_map(r->space, BASE + (3ULL << 30), 1 << 20, UVF_PROT_RW, memory, 0),
			 0);
	uvf_memory_put(memory);
	assert_true(uvf_device_can_log(r->dev));
	assert_int_equal(report(r, BASE, PAGE, PAGE, bitmap), -EINVAL);
	device_writes(r, BASE, PAGE);
	assert_int_equal(uvf_device_logging_start(r->dev), 0);
	assert_int_equal(uvf_device_logging_start(r->dev), -EINVAL);
	device_writes(r, BASE + 2 * PAGE - 4, 8);
	device_writes(r, BASE + 255 * PAGE, 4);
	device_writes(r, BASE + (3ULL << 30) + 5 * PAGE, 100);
	bitmap[1] = 1ULL << 33;
	assert_int_equal(report(r, BASE, pages * PAGE, PAGE, bitmap), 0);
	assert_true(bitmap[0] == 6 && bitmap[1] == 1ULL << 33 && bitmap[3] == 1ULL << 63);
	assert_true(bitmap[(3 << 18) / 64] == 1 << 5);
	memset(bitmap, 0, pages / 8);
	assert_int_equal(report(r, BASE, pages * PAGE, PAGE, bitmap), 0);
	for (uint64_t i = 0; i < pages / 64; i++)
		assert_true(!bitmap[i]);
	/* What couldn't be passed on is in the next. */
	bitmap[0] = 1 << 9;
	uvf_device_logging_restore(r->dev, BASE, 64 * PAGE, PAGE, bitmap);
	bitmap[0] = 0;
	device_writes(r, BASE + 17 * PAGE, 1);
	assert_int_equal(report(r, BASE, 256 * PAGE, 16 * PAGE, bitmap), 0);
	assert_int_equal(bitmap[0], 3);
	assert_int_equal(uvf_device_logging_stop(r->dev), 0);
	assert_int_equal(uvf_device_logging_stop(r->dev), 0);
	assert_int_equal(report(r, BASE, PAGE, PAGE, bitmap), -EINVAL);
	free(bitmap);
	close(fd);
}

static void reports_that_are_wrong(void **state)
{
	struct remote *r = *state;
	uint64_t bitmap[2] = {0, 0};

	assert_int_equal(uvf_device_logging_start(r->dev), 0);
	assert_int_equal(uvf_device_logging_report(r->dev, BASE, 65 * PAGE, PAGE, bitmap, 8),
			 -EINVAL);
	assert_int_equal(report(r, BASE + 1, PAGE, PAGE, bitmap), -EINVAL);
	assert_int_equal(report(r, BASE, 0, PAGE, bitmap), -EINVAL);
	assert_int_equal(report(r, BASE, PAGE, 0, bitmap), -EINVAL);
	assert_int_equal(uvf_device_logging_report(r->dev, -4096ULL, 2 * PAGE, PAGE, bitmap, 8),
			 -EOVERFLOW);
	assert_int_equal(report(r, -4096ULL, PAGE, PAGE, bitmap), 0);
	assert_int_equal(report(r, 0, 1ULL << 63, 1ULL << 62, bitmap), 0);
	assert_true(!bitmap[0] && !bitmap[1]);
}

/* ---- Owners ---- */

static void what_ends_with_its_owner(void **state)
{
	struct remote *r = *state;
	uint64_t bitmap = 0;

	for (enum vfio_device_mig_state s = VFIO_DEVICE_STATE_STOP;
	     s <= VFIO_DEVICE_STATE_PRE_COPY_P2P; s++) {
		assert_int_equal(uvf_device_logging_start(r->dev), 0);
		assert_int_equal(to(r, s), 0);
		uvf_device_close(r->dev);
		assert_int_equal(uvf_device_logging_start(r->dev), -ENODEV);
		assert_int_equal(to(r, VFIO_DEVICE_STATE_RUNNING), -ENODEV);
		assert_int_equal(uvf_migration_state(r->h->device->dev), RUNNING);
		assert_int_equal(uvf_device_open(r->dev), 0);
		assert_int_equal(uvf_migration_state(r->dev), RUNNING);
		assert_int_equal(report(r, BASE, PAGE, PAGE, &bitmap), -EINVAL);
	}
	assert_int_equal(uvf_device_attach(r->dev, UVF_PASID_NONE, r->space), 0);
}

/* A server that dies: nothing hangs, and nothing is taken for what it isn't. */
static void a_server_that_dies(void **state)
{
	for (enum vfio_device_mig_state s = VFIO_DEVICE_STATE_STOP;
	     s <= VFIO_DEVICE_STATE_PRE_COPY_P2P; s++) {
		struct remote *r = open_remote(MAX_DATA);
		uint64_t bitmap = 0, size;
		uint8_t byte;

		assert_int_equal(uvf_device_logging_start(r->dev), 0);
		assert_int_equal(to(r, s), 0);
		uvf_server_stop(r->h->server);
		assert_int_equal(uvf_migration_state(r->dev), VFIO_DEVICE_STATE_ERROR);
		assert_int_equal(to(r, VFIO_DEVICE_STATE_RUNNING), -ENOTCONN);
		assert_int_equal(uvf_migration_read(r->dev, &byte, 1), -ENOTCONN);
		assert_int_equal(uvf_migration_write(r->dev, &byte, 1), -ENOTCONN);
		assert_int_equal(uvf_migration_data_size(r->dev, &size), -ENOTCONN);
		assert_int_equal(report(r, BASE, PAGE, PAGE, &bitmap), -ENOTCONN);
		assert_int_equal(uvf_device_logging_stop(r->dev), 0);
		close_remote(r);
	}
}

/* The address space's own log knows nothing of what a device elsewhere writes: all can be it. */
static void a_spaces_log_tells_of_all(void **state)
{
	struct remote *r = *state;
	uint64_t bitmap = 0;
	int fd = memory_file(1 << 20);

	assert_int_equal(uvf_map_fd(r->space, BASE, 4 * PAGE, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(uvf_device_logging_start(r->dev), 0);
	assert_int_equal(uvf_dirty_start(r->space), 0);
	assert_int_equal(uvf_dirty_report(r->space, BASE, 8 * PAGE, PAGE, 0, &bitmap, 8), 0);
	assert_int_equal(bitmap, 0xf);
	uvf_dirty_stop(r->space);
	close(fd);
}

static void a_server_without(void **state)
{
	static const struct uvf_device_ops ops = {.open = NULL};
	struct harness *h = harness_new(NULL);
	struct uvf_server_config server = {.path = h->path};
	struct uvf_client_config config = {.path = h->path, .timeout_ms = LONG_TIME_MS};
	struct uvf_device *plain, *dev;
	uint64_t value;
	uint8_t byte;

	uvf_server_free(h->server);
	assert_int_equal(uvf_device_new("plain", &ops, 0, NULL, &plain), 0);
	uvf_device_set_silent(plain);
	assert_int_equal(uvf_server_new(plain, &server, &h->server, NULL), 0);
	assert_int_equal(uvf_server_start(h->server), 0);
	assert_int_equal(uvf_client_connect(&config, &dev, NULL), 0);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_migration_flags(dev), 0);
	assert_int_equal(uvf_migration_state(dev), RUNNING);
	assert_int_equal(uvf_migration_set_state(dev, VFIO_DEVICE_STATE_STOP), -ENOTTY);
	assert_int_equal(uvf_migration_read(dev, &byte, 1), -ENOTTY);
	assert_int_equal(uvf_migration_write(dev, &byte, 1), -ENOTTY);
	assert_int_equal(uvf_migration_data_size(dev, &value), -ENOTTY);
	assert_int_equal(uvf_migration_precopy_info(dev, &value, &value), -ENOTTY);
	assert_false(uvf_device_can_log(dev));
	assert_int_equal(uvf_device_logging_start(dev), -ENOTTY);
	uvf_device_close(dev);
	uvf_device_free(dev);
	uvf_server_free(h->server);
	h->server = NULL;
	uvf_device_free(plain);
	harness_free(h);
}

/* A device that can't be reset, and is given back in the middle. */
static void without_a_reset(void **state)
{
	static const struct uvf_device_ops ops = {.open = NULL};
	static const char *const sections[] = {NULL};
	static const struct uvf_migration_ops migration = {
		.name = "plain", .major = 1, .sections = sections};
	struct harness *h = harness_new(NULL);
	struct uvf_server_config server = {.path = h->path};
	struct uvf_client_config config = {.path = h->path, .timeout_ms = LONG_TIME_MS};
	struct uvf_device *plain, *dev;

	uvf_server_free(h->server);
	assert_int_equal(uvf_device_new("plain", &ops, 0, NULL, &plain), 0);
	uvf_device_set_migration(plain, &migration);
	assert_int_equal(uvf_server_new(plain, &server, &h->server, NULL), 0);
	assert_int_equal(uvf_server_start(h->server), 0);
	assert_int_equal(uvf_client_connect(&config, &dev, NULL), 0);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_migration_set_state(dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
	uvf_device_close(dev);
	assert_int_equal(uvf_migration_state(plain), RUNNING);
	uvf_device_free(dev);
	uvf_server_free(h->server);
	h->server = NULL;
	uvf_device_free(plain);
	harness_free(h);
}

/* ---- The far end of a far end ---- */

static void through_two_servers(void **state)
{
	struct remote *r = *state;
	struct harness *h = harness_new(NULL);
	struct uvf_server_config server = {.path = h->path};
	struct uvf_client_config config = {.path = h->path, .timeout_ms = LONG_TIME_MS};
	struct uvf_device *dev;
	uint8_t *bytes = malloc(STATE_MAX);
	ssize_t size;

	assert_non_null(bytes);
	uvf_device_close(r->dev);
	uvf_server_free(h->server);
	assert_int_equal(uvf_server_new(r->dev, &server, &h->server, NULL), 0);
	assert_int_equal(uvf_server_start(h->server), 0);
	assert_int_equal(uvf_client_connect(&config, &dev, NULL), 0);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_device_logging_start(dev), 0);
	assert_int_equal(uvf_migration_set_state(dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
	size = uvf_migration_read(dev, bytes, STATE_MAX);
	assert_true(size > (ssize_t)BUFFER_SIZE);
	assert_int_equal(uvf_migration_set_state(dev, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(uvf_migration_write(dev, bytes, (size_t)size), size);
	assert_int_equal(uvf_migration_set_state(dev, VFIO_DEVICE_STATE_RUNNING), 0);
	uvf_device_close(dev);
	uvf_device_free(dev);
	uvf_server_free(h->server);
	h->server = NULL;
	harness_free(h);
	assert_int_equal(uvf_device_open(r->dev), 0);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(states_are_the_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(as_features, setup, teardown),
		cmocka_unit_test_setup_teardown(arcs_that_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(early_and_late, setup, teardown),
		cmocka_unit_test_setup_teardown(writes_are_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(writes_are_followed, setup_small, teardown),
		cmocka_unit_test_setup_teardown(reports_that_are_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(what_ends_with_its_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(a_spaces_log_tells_of_all, setup, teardown),
		cmocka_unit_test(a_server_that_dies),
		cmocka_unit_test(a_server_without),
		cmocka_unit_test(without_a_reset),
		cmocka_unit_test_setup_teardown(through_two_servers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
