/* SPDX-License-Identifier: BSD-3-Clause */
/* Storage that is not a file: memory, and nothing; and the checks that all have in common. */
#include "nvme_storage.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define SIZE	(8u << 20)
#define PATTERN 7

struct world {
	struct nvme_backend *backend;
	struct nvme_channel *channel;
};

static const struct nvme_backend_config plain = {.who = "test"};

static int setup_mem(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_int_equal(nvme_backend_open_mem(&plain, SIZE, &world->backend, NULL), 0);
	assert_int_equal(nvme_channel_open(world->backend, 4, &world->channel, NULL), 0);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	nvme_channel_close(world->channel);
	nvme_backend_close(world->backend);
	free(world);
	return 0;
}

static void mem_describes_itself(void **state)
{
	struct world *world = *state;

	assert_string_equal(world->backend->kind, "mem");
	assert_int_equal(world->backend->size, SIZE);
	assert_int_equal(world->backend->block_size, 512);
	assert_true(world->backend->discard_zeroes);
	assert_false(world->backend->volatile_write_cache);
	assert_int_equal(world->channel->fd, -1);
	assert_true(nvme_channel_arm(world->channel));
	assert_int_equal(nvme_channel_reap(world->channel), 0);
	check_zero(world->backend->bytes, SIZE);
}

static void mem_reads_what_was_written(void **state)
{
	struct world *world = *state;
	char bytes[4096], back[4096];
	struct request request;

	fill(bytes, 512, sizeof(bytes), PATTERN);
	request_make(&request, NVME_IO_WRITE, 512, bytes, sizeof(bytes));
	request.io.iov_count = 3;
	request.iov[0] = (struct iovec){bytes, 1};
	request.iov[1] = (struct iovec){bytes + 1, 1000};
	request.iov[2] = (struct iovec){bytes + 1001, 3095};
	assert_int_equal(nvme_channel_submit(world->channel, &request.io), 0);
	assert_int_equal(request.completed, 0);
	check_filled((char *)world->backend->bytes + 512, 512, sizeof(bytes), PATTERN);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 512, back, sizeof(back)), 0);
	assert_memory_equal(bytes, back, sizeof(back));
	assert_int_equal(run(world->channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
}

/* Each range is tried by each way to make zeroes; what is around it stays. */
static void mem_zeroes_exactly(void **state)
{
	static const struct {
		uint64_t offset, size;
	} ranges[] = {
		{0, 512},
		{512, 3584},
		{512, 4096},
		{4096, 4096},
		{4096, 1 << 20},
		{3584, 1024},
		{512, (1 << 20) + 1024},
		{SIZE - 512, 512},
		{0, SIZE},
		{SIZE - 8192, 8192},
	};
	static const struct {
		enum nvme_io_op op;
		unsigned flags;
	} ways[] = {
		{NVME_IO_DISCARD, 0},
		{NVME_IO_WRITE_ZEROES, 0},
		{NVME_IO_WRITE_ZEROES, NVME_IO_UNMAP},
	};
	struct world *world = *state;
	char *bytes = world->backend->bytes;

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]) * 3; i++) {
		uint64_t offset = ranges[i / 3].offset, size = ranges[i / 3].size;
		uint64_t before = offset < 8192 ? offset : 8192;
		uint64_t after = SIZE - offset - size < 8192 ? SIZE - offset - size : 8192;

		fill(bytes + offset - before, offset - before, before + size + after, PATTERN);
		assert_int_equal(
			run(world->channel, ways[i % 3].op, ways[i % 3].flags, offset, NULL, size),
			0);
		check_filled(bytes + offset - before, offset - before, before, PATTERN);
		check_zero(bytes + offset, size);
		check_filled(bytes + offset + size, offset + size, after, PATTERN);
	}
}

static void bad_requests_are_refused(void **state)
{
	static const struct {
		unsigned op;
		uint64_t offset, size;
	} bad[] = {
		{NVME_IO_READ, 1, 512},
		{NVME_IO_READ, 0, 511},
		{NVME_IO_READ, SIZE, 512},
		{NVME_IO_WRITE, SIZE - 512, 1024},
		{NVME_IO_WRITE, UINT64_MAX - 511, 512},
		{NVME_IO_DISCARD, 512, UINT64_MAX - 511},
		{NVME_IO_WRITE_ZEROES, 0, SIZE + 512},
		{NVME_IO_WRITE_ZEROES + 1, 0, 512},
		{255, 0, 512},
	};
	struct world *world = *state;
	static char bytes[2048];
	struct request request;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
			run(world->channel, bad[i].op, 0, bad[i].offset, bytes, bad[i].size),
			-EINVAL);
	/* iovecs that don't cover the size, or more than it */
	request_make(&request, NVME_IO_WRITE, 0, bytes, 1024);
	request.iov[0].iov_len = 512;
	assert_int_equal(request_run(world->channel, &request), -EINVAL);
	request_make(&request, NVME_IO_WRITE, 0, bytes, 1024);
	request.iov[0].iov_len = 2048;
	assert_int_equal(request_run(world->channel, &request), -EINVAL);
	request_make(&request, NVME_IO_READ, 0, bytes, 1024);
	request.io.iov_count = -1;
	assert_int_equal(request_run(world->channel, &request), -EINVAL);
}

static void null_moves_nothing(void **state)
{
	struct nvme_backend *backend;
	struct nvme_channel *channel;
	char bytes[512];

	assert_int_equal(nvme_backend_open_null(&plain, 1ull << 50, &backend, NULL), 0);
	assert_int_equal(nvme_channel_open(backend, 4, &channel, NULL), 0);
	assert_true(backend->moves_no_data);
	assert_null(backend->bytes);
	fill(bytes, 0, sizeof(bytes), PATTERN);
	assert_int_equal(run(channel, NVME_IO_READ, 0, 1ull << 49, bytes, sizeof(bytes)), 0);
	check_filled(bytes, 0, sizeof(bytes), PATTERN);
	assert_int_equal(run(channel, NVME_IO_WRITE, 0, 0, NULL, 512), 0);
	assert_int_equal(run(channel, NVME_IO_DISCARD, 0, 0, NULL, 512), 0);
	assert_int_equal(run(channel, NVME_IO_WRITE_ZEROES, 0, 0, NULL, 512), 0);
	assert_int_equal(run(channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(run(channel, NVME_IO_READ, 0, 1ull << 50, bytes, 512), -EINVAL);
	nvme_channel_close(channel);
	nvme_backend_close(backend);
}

static void sizes_are_whole_blocks(void **state)
{
	struct nvme_backend_config config = plain;
	struct nvme_backend *backend;
	struct uvf_error error = {""};

	config.block_size = 4096;
	assert_int_equal(nvme_backend_open_mem(&config, 10000, &backend, NULL), 0);
	assert_int_equal(backend->size, 8192);
	nvme_backend_close(backend);
	assert_int_equal(nvme_backend_open_mem(&config, 4095, &backend, &error), -EINVAL);
	assert_non_null(strstr(error.text, "4096"));
	assert_int_equal(nvme_backend_open_null(&config, 0, &backend, &error), -EINVAL);
	config.block_size = 1000;
	assert_int_equal(nvme_backend_open_null(&config, 8192, &backend, &error), -EINVAL);
	assert_non_null(strstr(error.text, "1000"));
	assert_int_equal(nvme_backend_open_mem(&plain, UINT64_MAX, &backend, &error), -EINVAL);
	assert_int_equal(nvme_backend_open_mem(&plain, 1ull << 62, &backend, &error), -ENOMEM);
	nvme_backend_close(NULL);
	nvme_channel_close(NULL);
}

static void read_only_is_not_written(void **state)
{
	struct nvme_backend_config config = {.who = "test", .read_only = true};
	struct nvme_backend *backend;
	struct nvme_channel *channel;
	char bytes[512];

	assert_int_equal(nvme_backend_open_mem(&config, SIZE, &backend, NULL), 0);
	assert_int_equal(nvme_channel_open(backend, 4, &channel, NULL), 0);
	assert_int_equal(run(channel, NVME_IO_WRITE, 0, 0, bytes, 512), -EROFS);
	assert_int_equal(run(channel, NVME_IO_DISCARD, 0, 0, NULL, 512), -EROFS);
	assert_int_equal(run(channel, NVME_IO_WRITE_ZEROES, 0, 0, NULL, 512), -EROFS);
	assert_int_equal(run(channel, NVME_IO_READ, 0, 0, bytes, 512), 0);
	assert_int_equal(run(channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
	nvme_channel_close(channel);
	nvme_backend_close(backend);
}

struct worker {
	struct nvme_backend *backend;
	uint64_t first;
};

static void *work(void *opaque)
{
	struct worker *worker = opaque;
	struct nvme_channel *channel;
	char bytes[4096], back[4096];

	assert_int_equal(nvme_channel_open(worker->backend, 4, &channel, NULL), 0);
	for (uint64_t offset = worker->first; offset < SIZE; offset += 2 * sizeof(bytes)) {
		fill(bytes, offset, sizeof(bytes), PATTERN);
		assert_int_equal(run(channel, NVME_IO_WRITE, 0, offset, bytes, sizeof(bytes)), 0);
		assert_int_equal(run(channel, NVME_IO_READ, 0, offset, back, sizeof(back)), 0);
		assert_memory_equal(bytes, back, sizeof(back));
		assert_int_equal(run(channel, NVME_IO_DISCARD, 0, offset, NULL, 4096), 0);
	}
	nvme_channel_close(channel);
	return NULL;
}

static void threads_share_memory(void **state)
{
	struct world *world = *state;
	struct worker workers[2] = {{world->backend, 0}, {world->backend, 4096}};
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	check_zero(world->backend->bytes, SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(mem_describes_itself, setup_mem, teardown),
		cmocka_unit_test_setup_teardown(mem_reads_what_was_written, setup_mem, teardown),
		cmocka_unit_test_setup_teardown(mem_zeroes_exactly, setup_mem, teardown),
		cmocka_unit_test_setup_teardown(bad_requests_are_refused, setup_mem, teardown),
		cmocka_unit_test_setup_teardown(threads_share_memory, setup_mem, teardown),
		cmocka_unit_test(null_moves_nothing),
		cmocka_unit_test(sizes_are_whole_blocks),
		cmocka_unit_test(read_only_is_not_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
