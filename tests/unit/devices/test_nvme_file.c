/* SPDX-License-Identifier: BSD-3-Clause */
/* Files as NVMe storage: what is written is there, whole, whatever gets in the way. */
#include "nvme_file_world.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "base/guard.h"

static void reads_and_writes(void **state)
{
	struct world *world = world_or_skip(state);
	char *bytes = world->memory;
	const uint64_t offset = 512 * 7, size = 1 << 20;

	assert_int_equal(run(world->channel, NVME_IO_READ, 0, offset, bytes, size), 0);
	check_filled(bytes, offset, size, PATTERN);
	fill(bytes, offset, size, UPDATE);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, offset, bytes, size), 0);
	assert_int_equal(run(world->channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
	check_file(world, offset, size, UPDATE);
	fill(bytes, offset, size, PATTERN);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, NVME_IO_FUA, offset, bytes, size), 0);
	check_file(world, 0, 0, 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, bytes, 0), 0);
}

/* Pieces of odd lengths at odd addresses, larger than a bounce buffer. */
static void iovecs_need_no_alignment(void **state)
{
	static const size_t lengths[] = {1, 4095, 77777, 4, 100000, 512, 2};
	struct world *world = world_or_skip(state);
	const uint64_t offset = 512 * 5, size = 512 * 600;
	char *bytes = world->memory + 3;
	struct request request;

	for (int op = NVME_IO_READ; op <= NVME_IO_WRITE; op++) {
		size_t used = 0;

		request_make(&request, (enum nvme_io_op)op, offset, bytes, size);
		for (int i = 0; i < 7; i++) {
			request.iov[i] = (struct iovec){bytes + used, lengths[i]};
			used += lengths[i];
		}
		request.iov[7] = (struct iovec){bytes + used, size - used};
		request.io.iov_count = 8;
		fill(bytes, offset, size, UPDATE);
		bytes[size] = 99;
		assert_int_equal(request_run(world->channel, &request), 0);
		assert_int_equal(bytes[size], 99);
		if (op == NVME_IO_READ)
			check_filled(bytes, offset, size, PATTERN);
		else
			check_file(world, offset, size, UPDATE);
	}
}

static void zeroes_exactly(void **state)
{
	static const struct {
		uint64_t offset, size;
	} ranges[] = {
		{512, 512}, {512 * 3, 512 * 20}, {4096, 8192}, {512, SIZE - 1024}, {0, SIZE},
	};
	static const struct {
		enum nvme_io_op op;
		unsigned flags;
	} ways[] = {
		{NVME_IO_DISCARD, 0},
		{NVME_IO_WRITE_ZEROES, 0},
		{NVME_IO_WRITE_ZEROES, NVME_IO_UNMAP | NVME_IO_FUA},
	};
	struct world *world = world_or_skip(state);
	struct file_backend *file = (struct file_backend *)world->backend;
	char *bytes = world->memory;

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]) * 6; i++) {
		uint64_t offset = ranges[i / 6].offset, size = ranges[i / 6].size;
		size_t way = i % 6 % 3;

		/* The second three times as on a file system that can't. */
		if (ways[way].op == NVME_IO_DISCARD &&
		    (i % 6 >= 3 || !world->backend->discard_zeroes))
			continue;
		file->no_punch = i % 6 >= 3;
		file->no_zero_range = i % 6 >= 3;
		assert_int_equal(
			run(world->channel, ways[way].op, ways[way].flags, offset, NULL, size), 0);
		check_file(world, offset, size, 0);
		fill(bytes, offset, size, PATTERN);
		assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, offset, bytes, size), 0);
	}
}

static void discards_free_space(void **state)
{
	struct world *world = world_or_skip(state);
	struct stat before, after;

	if (!world->backend->discard_zeroes)
		skip();
	assert_int_equal(run(world->channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(fstat(world->fd, &before), 0);
	assert_int_equal(run(world->channel, NVME_IO_DISCARD, 0, 0, NULL, SIZE / 2), 0);
	assert_int_equal(fstat(world->fd, &after), 0);
	assert_true(after.st_blocks < before.st_blocks);
	assert_int_equal(after.st_size, SIZE);
}

/* Far more than the depth, each bounced if direct; completions submit the next ones. */
#define MANY 300

struct chained {
	struct request request;
	struct world *world;
	struct chained *then;
};

static void chained_done(struct nvme_io *io, int result)
{
	struct chained *chained = (struct chained *)io;

	request_done(io, result);
	if (chained->then)
		request_submit(chained->world->channel, &chained->then->request);
}

static void many_in_flight(void **state)
{
	struct world *world = world_or_skip(state);
	struct chained *all = calloc(MANY, sizeof(*all));
	unsigned completed = 0;

	for (unsigned i = 0; i < MANY; i++) {
		uint64_t offset = i * 8192ull;
		char *bytes = world->memory + offset + i % 2;

		request_make(&all[i].request, i % 3 ? NVME_IO_WRITE : NVME_IO_READ, offset, bytes,
			     4096);
		fill(bytes, offset, 4096, UPDATE);
		all[i].request.io.done = chained_done;
		all[i].world = world;
		all[i].then = i < MANY / 2 ? &all[i + MANY / 2] : NULL;
	}
	for (unsigned i = 0; i < MANY / 2; i++)
		request_submit(world->channel, &all[i].request);
	while (world->channel->in_flight)
		wait_for_one(world->channel);
	for (unsigned i = 0; i < MANY; i++) {
		char bytes[4096];

		completed += all[i].request.completed;
		assert_int_equal(all[i].request.result, 0);
		assert_int_equal(pread(world->fd, bytes, 4096, i * 8192), 4096);
		check_filled(bytes, i * 8192, 4096, i % 3 ? UPDATE : PATTERN);
		if (i % 3 == 0)
			check_filled(world->memory + i * 8192 + i % 2, i * 8192, 4096, PATTERN);
	}
	assert_int_equal(completed, MANY);
	free(all);
}

static void a_truncated_file_is_an_error(void **state)
{
	struct world *world = world_or_skip(state);
	char *bytes = world->memory;

	assert_int_equal(ftruncate(world->fd, SIZE / 2), 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, SIZE - 4096, bytes, 4096), -EIO);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, SIZE / 2 - 4096, bytes, 8192), -EIO);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, SIZE / 2 - 4096, bytes, 4096), 0);
	check_filled(bytes, SIZE / 2 - 4096, 4096, PATTERN);
	assert_int_equal(ftruncate(world->fd, 1000), 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 512, bytes, 4096), -EIO);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, bytes, 512), 0);
}

static void missing_memory_is_a_fault(void **state)
{
	struct world *world = world_or_skip(state);
	char *nothing = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(nothing, 8192);
	for (int op = NVME_IO_READ; op <= NVME_IO_WRITE; op++)
		assert_int_equal(run(world->channel, (enum nvme_io_op)op, 0, 4096, nothing, 8192),
				 -EFAULT);
	check_file(world, 0, 0, 0);
}

/* Its owner truncates the file behind it, while it is pinned. */
static void truncated_memory_is_a_fault(void **state)
{
	struct world *world = world_or_skip(state);
	int fd = memfd_create("memory", MFD_CLOEXEC);
	char *memory;

	/* cmocka takes SIGBUS for itself at the start of each test. */
	uvf_guard_install();
	assert_int_equal(ftruncate(fd, 16384), 0);
	memory = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(memory != MAP_FAILED);
	assert_int_equal(ftruncate(fd, 0), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(run(world->channel, i % 2 ? NVME_IO_READ : NVME_IO_WRITE, 0, 4096,
				     memory + i / 2, 8192),
				 -EFAULT);
	check_file(world, 0, 0, 0);
	munmap(memory, 16384);
	close(fd);
}

static void a_limit_is_an_error(void **state)
{
	struct world *world = world_or_skip(state);
	struct rlimit old, limit;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = SIZE / 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, SIZE / 2, world->memory, 4096),
			 -EFBIG);
	/* The first half of it fits. */
	assert_int_equal(
		run(world->channel, NVME_IO_WRITE, 0, SIZE / 2 - 4096, world->memory, 8192),
		-EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, SIZE / 2, world->memory, 4096), 0);
}

/* Each time the sleeper is woken, though nothing completes before it sleeps, or all does. */
static void sleepers_are_woken(void **state)
{
	struct world *world = world_or_skip(state);
	struct pollfd fd = {.fd = world->channel->fd, .events = POLLIN};
	struct request requests[4];
	unsigned slept = 0;

	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 4; i++) {
			request_make(&requests[i], i < 3 ? NVME_IO_WRITE : NVME_IO_FLUSH,
				     (uint64_t)i * 8192, i < 3 ? world->memory : NULL, 8192);
			request_submit(world->channel, &requests[i]);
		}
		while (world->channel->in_flight) {
			if (nvme_channel_arm(world->channel)) {
				assert_int_equal(poll(&fd, 1, 30000), 1);
				slept++;
			}
			nvme_channel_reap(world->channel);
		}
		/* Nothing is left over that would wake it for nothing for ever. */
		assert_true(nvme_channel_arm(world->channel));
		assert_true(poll(&fd, 1, 0) >= 0);
	}
	if (!world->variant->no_uring)
		assert_true(slept > 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(requests[i].result, 0);
}

/* A poller that never sleeps sees completions too. */
static void pollers_need_not_sleep(void **state)
{
	struct world *world = world_or_skip(state);
	time_t deadline = time(NULL) + 30;
	struct request requests[8];

	for (unsigned i = 0; i < 8; i++) {
		request_make(&requests[i], i % 2 ? NVME_IO_FLUSH : NVME_IO_WRITE, i * 8192ull,
			     i % 2 ? NULL : world->memory + i * 8192ull, 8192);
		requests[i].io.flags = NVME_IO_FUA;
		request_submit(world->channel, &requests[i]);
	}
	nvme_channel_kick(world->channel);
	while (world->channel->in_flight) {
		assert_true(time(NULL) < deadline);
		nvme_channel_reap(world->channel);
	}
	for (int i = 0; i < 8; i++)
		assert_int_equal(requests[i].result, 0);
}

static void closing_drains(void **state)
{
	struct world *world = world_or_skip(state);
	struct request requests[32];

	for (unsigned i = 0; i < 32; i++) {
		request_make(&requests[i], NVME_IO_WRITE, i * 8192ull,
			     world->memory + i * 8192ull + i % 2, 4096);
		request_submit(world->channel, &requests[i]);
	}
	nvme_channel_close(world->channel);
	world->channel = NULL;
	for (int i = 0; i < 32; i++) {
		assert_int_equal(requests[i].completed, 1);
		assert_int_equal(requests[i].result, 0);
	}
}

static void *work(void *opaque)
{
	struct world *world = opaque;
	uint64_t first = world->channel ? 0 : 4096;
	struct nvme_channel *channel = world->channel;
	char *bytes = world->memory + first;

	if (!channel)
		assert_int_equal(nvme_channel_open(world->backend, 2, &channel, NULL), 0);
	for (uint64_t offset = first; offset < SIZE; offset += 8192) {
		fill(bytes, offset, 4096, UPDATE);
		assert_int_equal(run(channel, NVME_IO_WRITE, 0, offset, bytes, 4096), 0);
		if (offset % (1 << 20) < 8192)
			assert_int_equal(run(channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
	}
	if (!world->channel)
		nvme_channel_close(channel);
	return NULL;
}

/* One channel was made by another thread than uses it, and is closed by that one. */
static void threads_share_a_file(void **state)
{
	struct world *world = world_or_skip(state), other = *world;
	pthread_t threads[2];

	other.channel = NULL;
	assert_int_equal(pthread_create(&threads[0], NULL, work, world), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, work, &other), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	check_file(world, 0, SIZE, UPDATE);
}

int main(void)
{
	static const struct named_test tests[] = {
		TEST(reads_and_writes),
		TEST(iovecs_need_no_alignment),
		TEST(zeroes_exactly),
		TEST(discards_free_space),
		TEST(many_in_flight),
		TEST(a_truncated_file_is_an_error),
		TEST(missing_memory_is_a_fault),
		TEST(truncated_memory_is_a_fault),
		TEST(a_limit_is_an_error),
		TEST(sleepers_are_woken),
		TEST(pollers_need_not_sleep),
		TEST(closing_drains),
		TEST(threads_share_a_file),
	};

	return run_all(tests, COUNT(tests));
}
