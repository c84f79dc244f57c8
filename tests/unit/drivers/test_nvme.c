/* SPDX-License-Identifier: BSD-3-Clause */
/* The NVMe driver against a controller that is small and can be broken. */
#include "fake_nvme.h"
#include "nvme_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka.h needs those before it. */
#include <cmocka.h>

static int setup(void **state)
{
	struct fake_nvme *fake = malloc(sizeof(*fake));

	fake_nvme_new(fake);
	*state = fake;
	return 0;
}

static int teardown(void **state)
{
	fake_nvme_free(*state);
	free(*state);
	return 0;
}

static int open_with(struct fake_nvme *fake, struct nvme_driver_config config,
		     struct nvme_driver **driver, struct uvf_error *error)
{
	config.timeout_ms = config.timeout_ms ? config.timeout_ms : 2000;
	return nvme_driver_open(fake->dev, &config, driver, error);
}

static struct nvme_driver *open_default(struct fake_nvme *fake, uint16_t depth)
{
	struct nvme_driver *driver = NULL;
	struct uvf_error error = {""};
	int ret = open_with(fake, (struct nvme_driver_config){.depth = depth, .queues = 2}, &driver,
			    &error);

	if (ret)
		fail_msg("%s", error.text);
	return driver;
}

static void refused(struct fake_nvme *fake, struct nvme_driver_config config, int expected)
{
	struct nvme_driver *driver;
	struct uvf_error error = {""};

	assert_int_equal(open_with(fake, config, &driver, &error), expected);
	assert_string_not_equal(error.text, "");
	/* The device was given back. */
	assert_int_equal(uvf_device_open(fake->dev), 0);
	uvf_device_close(fake->dev);
}

static void identifies(void **state)
{
	struct nvme_driver *driver = open_default(*state, 8);
	const struct nvme_driver_info *info = nvme_driver_get_info(driver);

	assert_string_equal(info->model, "fake model");
	assert_string_equal(info->serial, "fake serial");
	assert_string_equal(info->firmware, "1");
	assert_int_equal(info->version, 0x10400);
	assert_int_equal(info->namespaces, 1);
	assert_int_equal(info->nsid, 1);
	assert_int_equal(info->block_size, 512);
	assert_int_equal(info->blocks, FAKE_BLOCKS);
	assert_int_equal(info->max_transfer, 128 << 10);
	assert_int_equal(info->queues, 2);
	assert_false(info->mapped_doorbells);
	assert_null(nvme_driver_queue(driver, 2));
	nvme_driver_close(driver);
}

/* From one block to the most, at offsets in a page: no PRP 2, PRP 2 as an address, as a list. */
static void moves_data_of_any_size(void **state)
{
	static const struct {
		uint32_t blocks, offset, list;
	} rows[] = {
		{1, 0, 0},     {8, 0, 0},    {9, 0, 0},	     {16, 0, 0},
		{17, 0, 2},    {1, 3584, 0}, {2, 3584, 0},   {9, 3584, 0},
		{10, 3584, 2}, {256, 0, 31}, {256, 512, 32},
	};
	struct fake_nvme *fake = *state;
	struct nvme_driver *driver = open_default(fake, 4);
	struct nvme_driver_queue *queue = nvme_driver_queue(driver, 1);
	uvf_iova_t iova;
	uint8_t *buffer = nvme_driver_alloc(driver, 256 << 10, &iova);

	assert_non_null(buffer);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t *at = buffer + rows[i].offset;
		size_t size = rows[i].blocks * 512;

		for (size_t j = 0; j < size; j++)
			at[j] = (uint8_t)(i + j / 512 * 3 + j);
		assert_int_equal(nvme_driver_io(queue, NVME_IO_WRITE, 100, rows[i].blocks,
						iova + rows[i].offset),
				 0);
		assert_memory_equal(fake->disk + 51200, at, size);
		memset(at, 0, size);
		assert_int_equal(nvme_driver_io(queue, NVME_IO_READ, 100, rows[i].blocks,
						iova + rows[i].offset),
				 0);
		assert_memory_equal(fake->disk + 51200, at, size);
		assert_int_equal(fake->list_entries_seen, rows[i].list);
	}
	assert_int_equal(nvme_driver_flush(queue), 0);
	assert_int_equal(nvme_driver_prepare_io(queue, NVME_IO_READ, 0, 0, iova), -EINVAL);
	assert_int_equal(nvme_driver_prepare_io(queue, NVME_IO_READ, 0, 257, iova), -EINVAL);
	assert_int_equal(nvme_driver_prepare_io(queue, NVME_IO_READ, 0, 1, iova + 2), -EINVAL);
	nvme_driver_close(driver);
}

/* Both rings wrap many times; a batch is one doorbell; no more than depth are in flight. */
static void keeps_its_rings(void **state)
{
	struct fake_nvme *fake = *state;
	struct nvme_driver *driver = open_default(fake, 5);
	struct nvme_driver_queue *queue = nvme_driver_queue(driver, 0);
	struct nvme_driver_done done[8];
	uvf_iova_t iova;

	assert_non_null(nvme_driver_alloc(driver, 4096, &iova));
	for (unsigned round = 0; round < 1000; round++) {
		unsigned before = fake->tail_writes;
		uint16_t seen = 0;

		for (unsigned i = 0; i < 5; i++)
			assert_true(nvme_driver_prepare_io(queue, NVME_IO_READ, round, 1, iova) >=
				    0);
		assert_int_equal(nvme_driver_prepare_io(queue, NVME_IO_READ, 0, 1, iova), -EAGAIN);
		assert_int_equal(nvme_driver_poll(queue, done, 8), 0);
		nvme_driver_ring(queue);
		nvme_driver_ring(queue);
		assert_int_equal(fake->tail_writes, before + 1);
		assert_int_equal(nvme_driver_poll(queue, done, 3), 3);
		assert_int_equal(nvme_driver_poll(queue, done + 3, 5), 2);
		for (unsigned i = 0; i < 5; i++)
			seen |= (uint16_t)(1 << done[i].cid);
		assert_int_equal(seen, 0x1f);
	}
	nvme_driver_close(driver);
}

static void gives_statuses(void **state)
{
	struct fake_nvme *fake = *state;
	struct nvme_driver *driver = open_default(fake, 2);
	struct nvme_driver_queue *queue = nvme_driver_queue(driver, 0);

	fake->io_status = 0x281;
	assert_int_equal(nvme_driver_flush(queue), 0x281);
	fake->io_status = 0;
	assert_int_equal(nvme_driver_flush(queue), 0);
	nvme_driver_close(driver);
}

static void refuses_what_is_not_nvme(void **state)
{
	struct fake_nvme *fake = *state;

	fake->config[PCI_CLASS_PROG + 1] = 6;
	refused(fake, (struct nvme_driver_config){0}, -ENODEV);
}

static void refuses_what_it_cannot_do(void **state)
{
	struct fake_nvme *fake = *state;

	refused(fake, (struct nvme_driver_config){.queues = 3}, -ENOTSUP);
	refused(fake, (struct nvme_driver_config){.depth = 1024}, -ENOTSUP);
	refused(fake, (struct nvme_driver_config){.shadow_doorbells = true}, -ENOTSUP);
	refused(fake, (struct nvme_driver_config){.depth = 5000}, -EINVAL);
	refused(fake, (struct nvme_driver_config){.queues = 65}, -EINVAL);
	fake->no_queues = true;
	refused(fake, (struct nvme_driver_config){.queues = 2}, -ENOTSUP);
	fake->cap |= 1ULL << 48; /* MPSMIN: 8 KiB */
	refused(fake, (struct nvme_driver_config){0}, -ENOTSUP);
}

static void survives_controllers_that_do_not_start(void **state)
{
	struct fake_nvme *fake = *state;

	fake->never_ready = true;
	refused(fake, (struct nvme_driver_config){0}, -ETIMEDOUT);
	fake->fatal = true;
	refused(fake, (struct nvme_driver_config){0}, -EIO);
	fake->gone = true;
	refused(fake, (struct nvme_driver_config){0}, -ENODEV);
}

static void survives_commands_that_fail(void **state)
{
	static const uint8_t opcodes[] = {NVME_ADMIN_IDENTIFY, NVME_ADMIN_SET_FEATURES,
					  NVME_ADMIN_CREATE_CQ, NVME_ADMIN_CREATE_SQ};
	struct fake_nvme *fake = *state;

	for (size_t i = 0; i < sizeof(opcodes); i++) {
		fake->fail_opcode = opcodes[i];
		refused(fake, (struct nvme_driver_config){0}, -EIO);
	}
	fake->fail_opcode = 0xff;
	fake->block_shift = 8;
	refused(fake, (struct nvme_driver_config){0}, -EIO);
	fake->block_shift = 63;
	refused(fake, (struct nvme_driver_config){0}, -EIO);
}

static void survives_silence(void **state)
{
	struct fake_nvme *fake = *state;

	for (fake->silent_after = 1; fake->silent_after < 6; fake->silent_after++) {
		fake->done = 0;
		refused(fake, (struct nvme_driver_config){.timeout_ms = 20}, -ETIMEDOUT);
	}
	fake->silent = true;
	refused(fake, (struct nvme_driver_config){.timeout_ms = 20}, -ETIMEDOUT);
}

/* A completion of what is not in flight ends the queue: nothing is done with the wrong buffer. */
static void refuses_strange_completions(void **state)
{
	struct fake_nvme *fake = *state;
	struct nvme_driver *driver = open_default(fake, 4);
	struct nvme_driver_queue *queue = nvme_driver_queue(driver, 0);

	fake->wrong_cid = true;
	assert_int_equal(nvme_driver_flush(queue), -EPROTO);
	fake->wrong_cid = false;
	assert_int_equal(nvme_driver_flush(queue), -EPROTO);
	nvme_driver_close(driver);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(identifies, setup, teardown),
		cmocka_unit_test_setup_teardown(moves_data_of_any_size, setup, teardown),
		cmocka_unit_test_setup_teardown(keeps_its_rings, setup, teardown),
		cmocka_unit_test_setup_teardown(gives_statuses, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_is_not_nvme, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_it_cannot_do, setup, teardown),
		cmocka_unit_test_setup_teardown(survives_controllers_that_do_not_start, setup,
						teardown),
		cmocka_unit_test_setup_teardown(survives_commands_that_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(survives_silence, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_strange_completions, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
