/* SPDX-License-Identifier: BSD-3-Clause */
/* Exports of NBD servers as storage: what they say they are, and bytes, flushes, trims, errors. */
#include "nvme_nbd_world.h"

#include <sys/mman.h>

#include "base/guard.h"
#include "devices/nvme/nbd.h"

/* ---- What it is ---- */

static void describes_itself(void **state)
{
	struct world *world = *state;

	server_disk_size(&world->server, SIZE + 700);
	SERVER_START(&world->server, "file", world->server.disk);
	open_export(world, 0);
	assert_string_equal(world->backend->kind, "nbd");
	assert_int_equal(world->backend->size, SIZE + 512);
	assert_int_equal(world->backend->block_size, 512);
	assert_true(world->backend->volatile_write_cache);
	assert_true(world->backend->lasting);
	assert_false(world->backend->no_discard);
	assert_false(world->backend->discard_zeroes);
	assert_false(world->backend->read_only);
	assert_null(world->backend->bytes);
	assert_int_equal(nvme_channel_reap(world->channel), 0);
	assert_true(nvme_channel_arm(world->channel));
	/* The last block that is whole. */
	assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, SIZE, world->memory, 512), 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, SIZE, world->back, 512), 0);
	assert_memory_equal(world->memory, world->back, 512);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, SIZE + 512, world->back, 512),
			 -EINVAL);
}

static void blocks_that_the_server_wants(void **state)
{
	struct world *world = *state;
	struct uvf_error error = {""};

	SERVER_START(&world->server, "--filter=blocksize-policy", "file", world->server.disk,
		     "blocksize-minimum=4096", "blocksize-preferred=16384", "blocksize-maximum=64K",
		     "blocksize-error-policy=error");
	assert_int_equal(open_with(world, 512, 60, &error), -EINVAL);
	assert_non_null(strstr(error.text, "block=4096"));
	open_export(world, 4096);
	assert_int_equal(world->backend->block_size, 4096);
	assert_int_equal(world->backend->physical_block_size, 16384);
	/* Cut into pieces that the server doesn't refuse. */
	assert_int_equal(
		run(world->channel, NVME_IO_WRITE, NVME_IO_FUA, 4096, world->memory, 1 << 20), 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 4096, world->back, 1 << 20), 0);
	assert_memory_equal(world->memory, world->back, 1 << 20);
	assert_int_equal(run(world->channel, NVME_IO_WRITE_ZEROES, 0, 0, NULL, SIZE), 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, world->back, 1 << 20), 0);
	check_zero(world->back, 1 << 20);
	close_export(world);
	server_kill(&world->server);
	SERVER_START(&world->server, "--filter=blocksize-policy", "file", world->server.disk,
		     "blocksize-minimum=64K", "blocksize-preferred=64K");
	assert_int_equal(open_with(world, 4096, 60, &error), -EINVAL);
	assert_non_null(strstr(error.text, "no namespace"));
}

static void what_can_not_be_opened(void **state)
{
	struct world *world = *state;
	struct uvf_error error = {""};

	assert_int_equal(open_with(world, 0, 60, &error), -ENOENT);
	assert_non_null(strstr(error.text, world->server.uri));
	server_disk_size(&world->server, 511);
	SERVER_START(&world->server, "file", world->server.disk);
	assert_int_equal(open_with(world, 0, 60, &error), -EINVAL);
	assert_int_equal(open_with(world, 0, UINT32_MAX, &error), -EINVAL);
	strcpy(world->server.uri, "nbd+unix:///?sock=/tmp");
	assert_true(open_with(world, 0, 60, &error) < 0);
	strcpy(world->server.uri, "http://localhost/");
	assert_true(open_with(world, 0, 60, &error) < 0);
}

static void read_only_exports(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "-r", "file", world->server.disk);
	open_export(world, 0);
	assert_true(world->backend->read_only);
	assert_true(world->backend->no_discard);
	assert_false(world->backend->volatile_write_cache);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, 0, world->memory, 512), -EROFS);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, world->back, 4096), 0);
	check_zero(world->back, 4096);
	assert_int_equal(nvme_backend_release(world->backend), 0);
}

/* ---- Bytes ---- */

/* In buffers of each kind: alone, of any size, and large enough to go straight. */
static void scattered(struct world *world)
{
	static const size_t sizes[][4] = {
		{1, 1000, 3, 3092},
		{4, 4, 4, 4084},
		{32768, 65536, 32768, 131072},
		{32768, 100, 412, 32768},
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct request request;
		size_t at = 0;

		request_make(&request, NVME_IO_WRITE, 512, world->memory, 0);
		for (int n = 0; n < 4; n++) {
			request.iov[n] = (struct iovec){world->memory + at, sizes[i][n]};
			at += sizes[i][n];
		}
		request.io.iov_count = 4;
		request.io.size = at;
		fill(world->memory, 0, at, (unsigned)i);
		assert_int_equal(request_run(world->channel, &request), 0);
		request_make(&request, NVME_IO_READ, 512, world->back, 0);
		/* Otherwise than they were written. */
		for (int n = 0, to = 0; n < 4; n++) {
			request.iov[n] = (struct iovec){world->back + to, sizes[i][3 - n]};
			to += (int)sizes[i][3 - n];
		}
		request.io.iov_count = 4;
		request.io.size = at;
		assert_int_equal(request_run(world->channel, &request), 0);
		check_filled(world->back, 0, at, (unsigned)i);
	}
}

static void many_in_flight(struct world *world)
{
	struct request *requests = calloc(2 * DEEP, sizeof(*requests));
	size_t size = SIZE / (2 * DEEP);

	for (unsigned round = 0; round < 4; round++) {
		bool write = !(round & 1);

		fill(world->memory, round / 2 * 977, SIZE, 5);
		for (unsigned i = 0; i < 2 * DEEP; i++) {
			request_make(&requests[i], write ? NVME_IO_WRITE : NVME_IO_READ, i * size,
				     (write ? world->memory : world->back) + i * size, size);
			request_submit(world->channel, &requests[i]);
		}
		while (world->channel->in_flight)
			wait_for_one(world->channel);
		for (unsigned i = 0; i < 2 * DEEP; i++) {
			assert_int_equal(requests[i].completed, 1);
			assert_int_equal(requests[i].result, 0);
		}
		if (!write)
			assert_memory_equal(world->memory, world->back, SIZE);
	}
	free(requests);
}

static void zeroes_and_discards(struct world *world)
{
	assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, 0, world->memory, 1 << 20), 0);
	assert_int_equal(run(world->channel, NVME_IO_WRITE_ZEROES, 0, 512, NULL, 1024), 0);
	assert_int_equal(
		run(world->channel, NVME_IO_WRITE_ZEROES, NVME_IO_UNMAP, 8192, NULL, 65536), 0);
	assert_int_equal(run(world->channel, NVME_IO_WRITE_ZEROES, NVME_IO_FUA, 1 << 19, NULL, 512),
			 0);
	assert_int_equal(run(world->channel, NVME_IO_DISCARD, 0, 1 << 20, NULL, 1 << 20), 0);
	assert_int_equal(run(world->channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, world->back, 1 << 20), 0);
	memset(world->memory + 512, 0, 1024);
	memset(world->memory + 8192, 0, 65536);
	memset(world->memory + (1 << 19), 0, 512);
	assert_memory_equal(world->memory, world->back, 1 << 20);
}

static void everything(struct world *world)
{
	open_export(world, 0);
	scattered(world);
	many_in_flight(world);
	zeroes_and_discards(world);
	assert_int_equal(nvme_backend_release(world->backend), 0);
}

static void with_nbdkit(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "file", world->server.disk);
	everything(world);
}

/* Replies in another order than the requests. */
static void with_delays(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "--filter=delay", "memory", "4M", "rdelay=3ms", "wdelay=5ms");
	everything(world);
}

static void with_a_small_maximum(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "--filter=blocksize-policy", "memory", "4M",
		     "blocksize-minimum=512", "blocksize-preferred=512", "blocksize-maximum=4096",
		     "blocksize-error-policy=error");
	everything(world);
}

static void with_qemu(void **state)
{
	struct world *world = *state;

	if (!server_there("qemu-nbd"))
		skip();
	server_start_qemu(&world->server);
	everything(world);
}

/* ---- What reaches the server ---- */

static void commands_reach_the_server(void **state)
{
	struct world *world = *state;
	char logfile[96];

	snprintf(logfile, sizeof(logfile), "logfile=%s", world->server.log);
	SERVER_START(&world->server, "--filter=log", "file", world->server.disk, logfile);
	open_export(world, 0);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, 0, world->memory, 4096), 0);
	assert_int_equal(server_logged(&world->server, " Write ", "fua=0"), 1);
	assert_int_equal(server_logged(&world->server, " Flush ", ""), 0);
	assert_int_equal(run(world->channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(server_logged(&world->server, " Flush ", ""), 1);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, NVME_IO_FUA, 0, world->memory, 4096),
			 0);
	assert_int_equal(server_logged(&world->server, " Write ", "fua=1"), 1);
	assert_int_equal(run(world->channel, NVME_IO_DISCARD, 0, 4096, NULL, 8192), 0);
	assert_int_equal(server_logged(&world->server, " Trim ", "count=0x2000"), 1);
	assert_int_equal(run(world->channel, NVME_IO_WRITE_ZEROES, 0, 4096, NULL, 8192), 0);
	assert_int_equal(server_logged(&world->server, " Zero ", " trim=0"), 1);
	assert_int_equal(run(world->channel, NVME_IO_WRITE_ZEROES, NVME_IO_UNMAP | NVME_IO_FUA,
			     4096, NULL, 8192),
			 0);
	assert_int_equal(server_logged(&world->server, " Zero ", " trim=1"), 1);
	assert_int_equal(server_logged(&world->server, " Zero ", "fua=1"), 1);
	assert_int_equal(nvme_backend_release(world->backend), 0);
	assert_int_equal(server_logged(&world->server, " Flush ", ""), 2);
}

/* A server without FUA and zeroes: a flush after the write, and writes of zeroes. */
static void what_the_server_lacks(void **state)
{
	struct world *world = *state;
	char logfile[96];

	snprintf(logfile, sizeof(logfile), "logfile=%s", world->server.log);
	SERVER_START(&world->server, "--filter=log", "--filter=nozero", "--filter=fua", "file",
		     world->server.disk, logfile);
	open_export(world, 0);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, NVME_IO_FUA, 0, world->memory, 1 << 20),
			 0);
	assert_int_equal(server_logged(&world->server, " Write ", "fua=1"), 0);
	assert_int_equal(server_logged(&world->server, " Flush ", ""), 1);
	assert_int_equal(run(world->channel, NVME_IO_WRITE_ZEROES, NVME_IO_UNMAP, 512, NULL, 1024),
			 0);
	assert_int_equal(run(world->channel, NVME_IO_WRITE_ZEROES, NVME_IO_FUA, 1 << 19, NULL, 512),
			 0);
	assert_int_equal(server_logged(&world->server, " Zero ", ""), 0);
	assert_int_equal(server_logged(&world->server, " Flush ", ""), 2);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, world->back, 1 << 20), 0);
	memset(world->memory + 512, 0, 1024);
	memset(world->memory + (1 << 19), 0, 512);
	assert_memory_equal(world->memory, world->back, 1 << 20);
}

static void neither_flush_nor_trim(void **state)
{
	struct world *world = *state;
	char read[128], write[128];

	snprintf(read, sizeof(read), "pread=dd if=%s skip=$4 count=$3 iflag=count_bytes,skip_bytes",
		 world->server.disk);
	snprintf(write, sizeof(write), "pwrite=dd of=%s seek=$4 conv=notrunc oflag=seek_bytes",
		 world->server.disk);
	SERVER_START(&world->server, "eval", "get_size=echo 4M", read, write);
	open_export(world, 0);
	assert_true(world->backend->no_discard);
	assert_false(world->backend->volatile_write_cache);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, NVME_IO_FUA, 512, world->memory, 4096),
			 0);
	assert_int_equal(run(world->channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(run(world->channel, NVME_IO_DISCARD, 0, 0, NULL, SIZE), 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 512, world->back, 4096), 0);
	assert_memory_equal(world->memory, world->back, 4096);
	assert_int_equal(nvme_backend_release(world->backend), 0);
}

static void errors(void **state)
{
	static const struct {
		const char *said;
		int result;
	} kinds[] = {
		{"error=EIO", -EIO},	{"error=ENOSPC", -ENOSPC}, {"error=EPERM", -EROFS},
		{"error=ENOMEM", -EIO}, {"error=EINVAL", -EIO},
	};
	struct world *world = *state;
	char trigger[96];

	snprintf(trigger, sizeof(trigger), "error-file=%s", world->server.other);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		SERVER_START(&world->server, "--filter=error", "file", world->server.disk,
			     kinds[i].said, "error-rate=100%", trigger);
		open_export(world, 0);
		assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, 0, world->memory, 512), 0);
		close(open(world->server.other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, 0, world->memory, 512),
				 kinds[i].result);
		assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, world->back, 1 << 20),
				 kinds[i].result);
		assert_int_equal(run(world->channel, NVME_IO_DISCARD, 0, 0, NULL, 4096),
				 kinds[i].result);
		assert_int_equal(run(world->channel, NVME_IO_WRITE_ZEROES, 0, 0, NULL, 4096),
				 kinds[i].result);
		unlink(world->server.other);
		assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, world->back, 512), 0);
		close_export(world);
		server_kill(&world->server);
	}
}

/* Memory that its owner truncates: the request fails, and nothing else. */
static void memory_that_goes(void **state)
{
	struct world *world = *state;
	int fd = memfd_create("driver", MFD_CLOEXEC);
	char *gone;

	/* cmocka takes SIGBUS for itself at the start of each test. */
	uvf_guard_install();
	assert_int_equal(ftruncate(fd, 8192), 0);
	gone = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(gone, MAP_FAILED);
	assert_int_equal(ftruncate(fd, 4096), 0);
	SERVER_START(&world->server, "file", world->server.disk);
	open_export(world, 0);
	for (unsigned i = 0; i < 4; i++) {
		struct request whole;

		request_make(&whole, NVME_IO_WRITE, 65536, world->memory, 65536);
		request_submit(world->channel, &whole);
		assert_int_equal(run(world->channel, i & 1 ? NVME_IO_READ : NVME_IO_WRITE, 0, 0,
				     gone + (i & 2 ? 512 : 4096), 4096),
				 -EFAULT);
		while (!whole.completed)
			wait_for_one(world->channel);
		assert_int_equal(whole.result, 0);
	}
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 65536, world->back, 65536), 0);
	assert_memory_equal(world->memory, world->back, 65536);
	munmap(gone, 8192);
	close(fd);
}

static void a_connection_each(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "file", world->server.disk);
	threads(world, 4, 0);
}

static void one_connection(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "--filter=multi-conn", "file", world->server.disk,
		     "multi-conn-mode=disable");
	threads(world, 1, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(describes_itself),
		TEST(blocks_that_the_server_wants),
		TEST(what_can_not_be_opened),
		TEST(read_only_exports),
		TEST(with_nbdkit),
		TEST(with_delays),
		TEST(with_a_small_maximum),
		TEST(with_qemu),
		TEST(commands_reach_the_server),
		TEST(what_the_server_lacks),
		TEST(neither_flush_nor_trim),
		TEST(errors),
		TEST(memory_that_goes),
		TEST(a_connection_each),
		TEST(one_connection),
	};

	if (!server_there("nbdkit"))
		return 77; /* skipped */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
