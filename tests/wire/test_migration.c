/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device that migrates and one whose writes are followed, by raw messages; and what is left of
 * both when the client goes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "migrating.h"

static uint64_t get64(struct harness *h, uint32_t number)
{
	struct reply reply;
	uint64_t value;

	assert_int_equal(ask_feature(h, VFIO_DEVICE_FEATURE_GET | number, 8 + sizeof(value), NULL,
				     0, &reply),
			 0);
	assert_int_equal(reply.size, 8 + sizeof(value));
	memcpy(&value, reply.payload + 8, sizeof(value));
	return value;
}

static struct uvf_wire_precopy_info precopy_info(struct harness *h)
{
	struct uvf_wire_precopy_info info;
	struct reply reply;

	assert_int_equal(ask_feature(h, VFIO_DEVICE_FEATURE_GET | UVF_WIRE_FEATURE_PRECOPY_INFO,
				     8 + sizeof(info), NULL, 0, &reply),
			 0);
	assert_int_equal(reply.size, 8 + sizeof(info));
	memcpy(&info, reply.payload + 8, sizeof(info));
	return info;
}

/* ---- What there is ---- */

static void what_it_can(void **state)
{
	struct harness *h = *state;

	assert_int_equal(get64(h, VFIO_DEVICE_FEATURE_MIGRATION),
			 VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY);
	assert_int_equal(where(h), RUNNING);
	assert_true(get64(h, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE) > 0);
}

static const struct {
	const char *proposed, *answered, *not_answered;
} versions[] = {
	{"{}", "\"capabilities\"", "migration"},
	{"{\"capabilities\":{\"migration\":{}}}",
	 "\"migration\":{\"pgsize\":4096,\"max_bitmap_size\":65536}", "nothing"},
	{"{\"capabilities\":{\"migration\":{\"pgsize\":65536,\"max_bitmap_size\":268435456}}}",
	 "\"migration\":{\"pgsize\":4096,\"max_bitmap_size\":65536}", "nothing"},
	{"{\"capabilities\":{\"migration\":{\"max_bitmap_size\":512}}}",
	 "\"migration\":{\"pgsize\":4096,\"max_bitmap_size\":512}", "nothing"},
};

static void what_version_says(void **state)
{
	struct harness *h = *state;
	uint64_t bitmap[MAX_DATA / 8];

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		uint64_t most = strstr(versions[i].proposed, "512") ? 512 : MAX_DATA;
		struct reply reply;
		char *text;

		h->client = harness_connect(h);
		assert_int_equal(negotiate_on(h, h->client, versions[i].proposed, &reply), 0);
		text = (char *)reply.payload + sizeof(struct uvf_wire_version);
		if (!strstr(text, versions[i].answered) || strstr(text, versions[i].not_answered))
			fail_msg("%s", text);
		/* What was said holds. */
		assert_int_equal(log_start(h), 0);
		assert_int_equal(log_report(h, 0, most * 8 * PAGE, PAGE, bitmap), 0);
		assert_int_equal(log_report(h, 0, (most * 8 + 1) * PAGE, PAGE, bitmap), -E2BIG);
		close(h->client);
		h->client = -1;
		harness_step(h);
	}
}

static void versions_that_are_refused(void **state)
{
	static const char *const texts[] = {
		"{\"capabilities\":{\"migration\":true}}",
		"{\"capabilities\":{\"migration\":{\"pgsize\":0}}}",
		"{\"capabilities\":{\"migration\":{\"pgsize\":5000}}}",
		"{\"capabilities\":{\"migration\":{\"pgsize\":-4096}}}",
		"{\"capabilities\":{\"migration\":{\"max_bitmap_size\":\"all\"}}}",
	};
	struct harness *h = *state;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int sock = harness_connect(h);
		struct reply reply;

		assert_int_equal(negotiate_on(h, sock, texts[i], &reply), -EINVAL);
		close(sock);
		harness_step(h);
	}
}

/* ---- A whole migration ---- */

static void fill(struct harness *h, uint8_t seed)
{
	for (size_t i = 0; i < BUFFER_SIZE; i++)
		h->device->buffer[i] = (uint8_t)(i * 7 + i / 251 + seed);
	for (size_t i = 0; i < AREA_SIZE; i++)
		h->device->area[i] = (uint8_t)(i * 3 + seed);
	h->device->changed = true;
	assert_int_equal(region_write32(h, 0, REG_SCRATCH, 0x1234U + seed), 0);
}

/* What was read from @h is taken over by a new device, in pieces of @piece. */
static void take_over(const uint8_t *bytes, size_t size, uint32_t piece, struct test_device *like)
{
	struct harness *to = harness_new(NULL);
	struct reply reply;

	to->client = harness_connect(to);
	assert_int_equal(negotiate_on(to, to->client, NULL, &reply), 0);
	assert_int_equal(go(to, RESUMING), 0);
	for (size_t done = 0; done < size; done += piece) {
		uint32_t count = size - done < piece ? (uint32_t)(size - done) : piece;

		assert_int_equal(state_write(to, bytes + done, count), 0);
	}
	assert_int_equal(go(to, RUNNING), 0);
	assert_memory_equal(to->device->buffer, like->buffer, BUFFER_SIZE);
	assert_memory_equal(to->device->area, like->area, AREA_SIZE);
	assert_memory_equal(to->device->registers, like->registers, PAGE);
	harness_free(to);
}

static void stop_and_copy(void **state)
{
	struct harness *h = *state;
	uint8_t *bytes = malloc(STATE_MAX);
	size_t size = 0;

	assert_non_null(bytes);
	fill(h, 1);
	assert_int_equal(go(h, STOP_COPY), 0);
	assert_true(get64(h, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE) > BUFFER_SIZE);
	state_read_all(h, MAX_DATA, bytes, &size);
	assert_int_equal(get64(h, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE), 0);
	take_over(bytes, size, MAX_DATA, h->device);
	take_over(bytes, size, 12345, h->device);
	assert_int_equal(go(h, RUNNING), 0);
	free(bytes);
}

static void copied_before(void **state)
{
	struct harness *h = *state;
	uint8_t *bytes = malloc(STATE_MAX);
	struct uvf_wire_precopy_info info;
	size_t size = 0;

	assert_non_null(bytes);
	fill(h, 2);
	assert_int_equal(go(h, PRE_COPY), 0);
	info = precopy_info(h);
	assert_true(info.initial_bytes > BUFFER_SIZE);
	assert_int_equal(info.dirty_bytes, 0);
	state_read_all(h, 4096, bytes, &size);
	assert_true(size > BUFFER_SIZE);
	info = precopy_info(h);
	assert_int_equal(info.initial_bytes, 0);
	assert_int_equal(info.dirty_bytes, 0);
	/* Nothing is there at the moment, and then more is. */
	assert_int_equal(state_read(h, bytes + size, 4096), 0);
	assert_int_equal(region_write32(h, VFIO_PCI_BAR2_REGION_INDEX, 100, 0x11223344), 0);
	assert_true(precopy_info(h).dirty_bytes > BUFFER_SIZE);
	assert_int_equal(state_read(h, bytes + size, 4096), 4096);
	size += 4096;
	assert_int_equal(go(h, PRE_COPY_P2P), 0);
	assert_int_equal(go(h, STOP_COPY), 0);
	state_read_all(h, MAX_DATA, bytes, &size);
	take_over(bytes, size, MAX_DATA, h->device);
	assert_int_equal(go(h, STOP), 0);
	free(bytes);
}

static void refused_streams(void **state)
{
	struct harness *h = *state;
	uint8_t *bytes = malloc(STATE_MAX);
	size_t size = 0;

	assert_non_null(bytes);
	assert_int_equal(go(h, STOP_COPY), 0);
	state_read_all(h, MAX_DATA, bytes, &size);
	/* Changed: refused while it is written. */
	bytes[20] ^= 1;
	assert_int_equal(go(h, RESUMING), 0);
	assert_int_equal(state_write(h, bytes, 4096), -EINVAL);
	assert_int_equal(state_write(h, bytes + 4096, 4096), -EINVAL);
	assert_int_equal(go(h, RUNNING), -EINVAL);
	assert_int_equal(where(h), VFIO_DEVICE_STATE_ERROR);
	assert_int_equal(go(h, RUNNING), -EINVAL);
	assert_int_equal(simple(h, VFIO_USER_DEVICE_RESET, NULL, 0), 0);
	assert_int_equal(where(h), RUNNING);
	/* Cut. */
	bytes[20] ^= 1;
	assert_int_equal(go(h, RESUMING), 0);
	assert_int_equal(state_write(h, bytes, 4096), 0);
	assert_int_equal(go(h, RUNNING), -EINVAL);
	assert_int_equal(where(h), VFIO_DEVICE_STATE_ERROR);
	free(bytes);
}

static void a_quiesce_that_fails(void **state)
{
	struct harness *h = *state;

	h->device->quiesce_error = -ENOSPC;
	assert_int_equal(go(h, STOP_COPY), -ENOSPC);
	assert_int_equal(where(h), RUNNING);
	assert_int_equal(go(h, PRE_COPY), 0);
	h->device->quiesce_error = -EIO;
	assert_int_equal(go(h, STOP_COPY), -EIO);
	assert_int_equal(where(h), PRE_COPY);
	assert_int_equal(go(h, STOP_COPY), 0);
}

static void a_device_that_cannot(void **state)
{
	static const struct uvf_device_ops ops = {.open = NULL};
	struct harness *h = harness_new(NULL);
	struct uvf_server_config config = {.path = h->path};
	struct uvf_device *dev;
	struct reply reply;
	uint8_t byte;

	/* In the place of the one that can. */
	uvf_server_free(h->server);
	assert_int_equal(uvf_device_new("plain", &ops, 0, NULL, &dev), 0);
	uvf_device_set_silent(dev);
	assert_int_equal(uvf_server_new(dev, &config, &h->server, NULL), 0);
	h->client = harness_connect(h);
	assert_int_equal(
		negotiate_on(h, h->client, "{\"capabilities\":{\"migration\":{}}}", &reply), 0);
	assert_null(strstr((char *)reply.payload + 4, "migration"));
	for (uint32_t number = 0; number < 13; number++)
		for (uint32_t operation = 0; operation < 2; operation++) {
			static const uint8_t sizes[2][9] = {
				{[8] = 24},
				{[2] = 8, [6] = 16},
			};
			uint32_t flags = number | (operation ? VFIO_DEVICE_FEATURE_SET
							     : VFIO_DEVICE_FEATURE_GET);
			uint8_t data[24] = {0, 16};
			size_t size = number < 9 ? sizes[operation][number] : 0;

			/* START and REPORT say what is right as far as they can be checked. */
			data[17] = 16;
			data[9] = number == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT ? 16 : 0;
			assert_int_equal(ask_feature(h, flags, 64, data, size, &reply), -ENOTTY);
			assert_int_equal(ask_feature(h, flags | VFIO_DEVICE_FEATURE_PROBE, 64, NULL,
						     0, &reply),
					 -ENOTTY);
		}
	assert_int_equal(ask_feature(h,
				     VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET |
					     UVF_WIRE_FEATURE_PRECOPY_INFO,
				     8, NULL, 0, &reply),
			 -ENOTTY);
	assert_int_equal(state_read(h, &byte, 1), -ENOTTY);
	assert_int_equal(state_write(h, &byte, 1), -ENOTTY);
	close(h->client);
	h->client = -1;
	harness_step(h);
	uvf_server_free(h->server);
	h->server = NULL;
	uvf_device_free(dev);
	harness_free(h);
}

/* ---- The dirty log ---- */

#define BASE 0x100000000ULL

/* The device writes @size bytes at @address. */
static void device_writes(struct harness *h, uint64_t address, uint32_t size)
{
	assert_int_equal(region_write32(h, 0, REG_BUS_MASTER, 1), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_ADDRESS, (uint32_t)address), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_ADDRESS + 4, (uint32_t)(address >> 32)), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_SIZE, size), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_WRITE, 1), 0);
	assert_int_equal(region_write32(h, 0, REG_DOORBELL, 1), 0);
	assert_int_equal(h->device->dma_result, 0);
}

static void writes_are_followed(void **state)
{
	struct harness *h = *state;
	int fd = memory_file(1 << 20);
	uint64_t bitmap[4];

	assert_int_equal(
		dma_map(h, BASE, 1 << 20, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, fd, 0),
		0);
	device_writes(h, BASE, PAGE);
	assert_int_equal(log_start(h), 0);
	device_writes(h, BASE + 3 * PAGE - 1, 2);
	device_writes(h, BASE + 70 * PAGE, 1);
	/* From where it is asked, in pages that it is asked for; the rest of the last word is 0. */
	assert_int_equal(log_report(h, BASE + 64 * PAGE, 8 * PAGE, PAGE, bitmap), 0);
	assert_int_equal(bitmap[0], 1 << 6);
	assert_int_equal(log_report(h, BASE, 256 * PAGE, PAGE, bitmap), 0);
	assert_int_equal(bitmap[0], 3 << 2);
	assert_int_equal(bitmap[1] | bitmap[2] | bitmap[3], 0);
	assert_int_equal(log_report(h, BASE, 256 * PAGE, PAGE, bitmap), 0);
	assert_int_equal(bitmap[0] | bitmap[1] | bitmap[2] | bitmap[3], 0);
	device_writes(h, BASE + 17 * PAGE, 1);
	assert_int_equal(log_report(h, BASE, 256 * PAGE, 16 * PAGE, bitmap), 0);
	assert_int_equal(bitmap[0], 1 << 1);
	assert_int_equal(
		simple(h, VFIO_USER_DEVICE_FEATURE,
		       &(struct uvf_wire_feature){8, VFIO_DEVICE_FEATURE_SET |
							     VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP},
		       8),
		0);
	assert_int_equal(log_report(h, BASE, 256 * PAGE, PAGE, bitmap), -EINVAL);
	close(fd);
}

/* ---- Clients that go ---- */

static const uint32_t states[] = {STOP, RUNNING, STOP_COPY, RESUMING, P2P, PRE_COPY, PRE_COPY_P2P};

/* In each state, with data half way and the log on; the next client finds a new device. */
static void a_client_that_goes(void **state)
{
	struct harness *h = *state;
	uint64_t bitmap;

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		uint8_t bytes[100] = {0};
		struct reply reply;
		uint32_t value;

		h->client = harness_connect(h);
		assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
		assert_int_equal(where(h), RUNNING);
		assert_int_equal(log_report(h, BASE, PAGE, PAGE, &bitmap), -EINVAL);
		assert_int_equal(region_read32(h, 0, REG_SCRATCH, &value), 0);
		assert_int_equal(value, 0);
		assert_int_equal(state_read(h, bytes, 1), -EINVAL);
		assert_int_equal(state_write(h, bytes, 1), -EINVAL);

		fill(h, (uint8_t)i);
		assert_int_equal(log_start(h), 0);
		assert_int_equal(go(h, states[i]), 0);
		if (state_read(h, bytes, sizeof(bytes)) < 0)
			state_write(h, bytes, 3);
		close(h->client);
		h->client = -1;
		harness_step(h);
		assert_int_equal(uvf_migration_state(h->device->dev), RUNNING);
	}
}

/* A device that quiesces for long holds up its own session and no other. */
static void a_long_arc(void **state)
{
	struct harness *slow = harness_new(NULL), *other = harness_new(NULL);
	const struct {
		struct uvf_wire_feature feature;
		struct vfio_device_feature_mig_state state;
	} to_stop = {{16, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE},
		     {STOP, -1}};
	struct reply reply;
	uint32_t value;

	assert_int_equal(uvf_server_start(slow->server), 0);
	assert_int_equal(uvf_server_start(other->server), 0);
	slow->threaded = other->threaded = true;
	slow->client = harness_connect(slow);
	other->client = harness_connect(other);
	assert_int_equal(negotiate_on(slow, slow->client, NULL, &reply), 0);
	assert_int_equal(negotiate_on(other, other->client, NULL, &reply), 0);
	slow->device->holds = true;
	send_request_on(slow->client, 1, VFIO_USER_DEVICE_FEATURE, 0, &to_stop, sizeof(to_stop),
			NULL, 0);
	assert_int_equal(sem_wait(&slow->device->held), 0);
	assert_int_equal(go(other, STOP_COPY), 0);
	assert_int_equal(region_read32(other, 0, REG_SCRATCH, &value), 0);
	/* Who comes meanwhile is refused at once. */
	close(other->client);
	other->client = harness_connect(slow);
	assert_int_equal(negotiate_on(slow, other->client, NULL, &reply), -EBUSY);
	sem_post(&slow->device->let_go);
	assert_true(receive_message(slow->client, &reply));
	assert_int_equal(reply.header.flags & UVF_WIRE_ERROR, 0);
	slow->device->holds = false;
	assert_int_equal(where(slow), STOP);
	close(slow->client);
	slow->client = -1;
	uvf_server_stop(slow->server);
	harness_free(other);
	harness_free(slow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_it_can, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(what_version_says, harness_setup_server,
						harness_teardown),
		cmocka_unit_test_setup_teardown(versions_that_are_refused, harness_setup_server,
						harness_teardown),
		cmocka_unit_test_setup_teardown(stop_and_copy, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(copied_before, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(refused_streams, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(a_quiesce_that_fails, harness_setup,
						harness_teardown),
		cmocka_unit_test(a_device_that_cannot),
		cmocka_unit_test_setup_teardown(writes_are_followed, harness_setup,
						harness_teardown),
		cmocka_unit_test_setup_teardown(a_client_that_goes, harness_setup_server,
						harness_teardown),
		cmocka_unit_test(a_long_arc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
