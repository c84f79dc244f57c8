/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files as NVMe storage, for real: each test with and without the page cache, with io_uring and
 * without. Files are in a directory beside the build, on a disk.
 */
#include "nvme_storage.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "devices/nvme/file.h"

#define SIZE	(4u << 20)
#define PATTERN 11
#define UPDATE	12

struct variant {
	bool direct, no_uring;
};

struct world {
	const struct variant *variant;
	char directory[64], path[96];
	int fd; /* of the file, for looks behind the backend's back */
	struct nvme_backend *backend;
	struct nvme_channel *channel;
	char *memory; /* SIZE bytes and a page, aligned */
};

static struct nvme_file_config config_of(const struct world *world)
{
	return (struct nvme_file_config){
		.common = {.who = "test"},
		.path = world->path,
		.direct = world->variant->direct,
		.no_uring = world->variant->no_uring,
	};
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct nvme_file_config config;
	struct uvf_error error;
	int ret;

	world->variant = *state;
	strcpy(world->directory, "nvme-file-XXXXXX");
	assert_non_null(mkdtemp(world->directory));
	snprintf(world->path, sizeof(world->path), "%s/disk", world->directory);
	world->memory = aligned_alloc(4096, SIZE + 4096);
	fill(world->memory, 0, SIZE, PATTERN);
	world->fd = open(world->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(world->fd, world->memory, SIZE), SIZE);
	memset(world->memory, 0, SIZE);
	config = config_of(world);
	*state = world;
	ret = nvme_backend_open_file(&config, &world->backend, &error);
	/* Where the build is may have no direct I/O: that it is said clearly is all there is. */
	if (ret == -EINVAL && config.direct && strstr(error.text, "no direct I/O"))
		return 0;
	assert_int_equal(ret, 0);
	assert_int_equal(nvme_channel_open(world->backend, 8, &world->channel, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	nvme_channel_close(world->channel);
	nvme_backend_close(world->backend);
	close(world->fd);
	unlink(world->path);
	rmdir(world->directory);
	free(world->memory);
	free(world);
	return 0;
}

static struct world *world_or_skip(void **state)
{
	struct world *world = *state;

	if (!world->channel)
		skip();
	return world;
}

/* The whole file: PATTERN, but for [offset, offset + size), which is UPDATE or (seed 0) zeroes. */
static void check_file(const struct world *world, uint64_t offset, uint64_t size, unsigned seed)
{
	char *bytes = malloc(SIZE);

	assert_int_equal(pread(world->fd, bytes, SIZE, 0), SIZE);
	check_filled(bytes, 0, offset, PATTERN);
	if (seed)
		check_filled(bytes + offset, offset, size, seed);
	else
		check_zero(bytes + offset, size);
	check_filled(bytes + offset + size, offset + size, SIZE - offset - size, PATTERN);
	free(bytes);
}

static void describes_itself(void **state)
{
	struct world *world = world_or_skip(state);
	struct nvme_backend *backend = world->backend;

	assert_string_equal(backend->kind, "file");
	assert_int_equal(backend->size, SIZE);
	assert_null(backend->bytes);
	assert_true(backend->volatile_write_cache);
	assert_true(backend->physical_block_size >= 512);
	assert_int_equal(backend->max_iovecs, 1024);
	assert_true(world->channel->fd >= 0);
}

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

static void others_are_locked_out(void **state)
{
	struct world *world = world_or_skip(state);
	struct nvme_file_config config = config_of(world);
	struct nvme_backend *first, *second;
	struct uvf_error error;

	assert_int_equal(nvme_backend_open_file(&config, &second, &error), -EBUSY);
	assert_non_null(strstr(error.text, "in use by another process"));
	config.common.read_only = true;
	assert_int_equal(nvme_backend_open_file(&config, &second, &error), -EBUSY);
	config.no_lock = true;
	assert_int_equal(nvme_backend_open_file(&config, &second, &error), 0);
	nvme_backend_close(second);

	nvme_channel_close(world->channel);
	nvme_backend_close(world->backend);
	world->channel = NULL;
	world->backend = NULL;
	config.no_lock = false;
	assert_int_equal(nvme_backend_open_file(&config, &first, &error), 0);
	assert_int_equal(nvme_backend_open_file(&config, &second, &error), 0);
	assert_true(first->read_only && !first->volatile_write_cache);
	config.common.read_only = false;
	assert_int_equal(nvme_backend_open_file(&config, &world->backend, &error), -EBUSY);
	nvme_backend_close(first);
	nvme_backend_close(second);
	assert_int_equal(nvme_backend_open_file(&config, &world->backend, &error), 0);
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

/* In a child with a small file system of its own. Exits with what is wrong, or 77: not allowed. */
static int fill_up(const struct variant *variant, const char *directory)
{
	struct nvme_file_config config = {
		.common = {.who = "test"},
		.path = "disk",
		.direct = variant->direct,
		.no_uring = variant->no_uring,
	};
	static char bytes[1 << 20] __attribute__((aligned(4096)));
	struct nvme_backend *backend;
	struct nvme_channel *channel;
	int ret = 0, fd;

	if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("small", directory, "tmpfs", 0, "size=2m") < 0 || chdir(directory) < 0)
		return 77;
	fd = open("disk", O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, SIZE) < 0 || nvme_backend_open_file(&config, &backend, NULL))
		return variant->direct ? 77 : 1;
	if (nvme_channel_open(backend, 4, &channel, NULL))
		return 2;
	for (uint64_t offset = 0; !ret && offset < SIZE; offset += sizeof(bytes))
		ret = run(channel, NVME_IO_WRITE, 0, offset, bytes, sizeof(bytes));
	if (ret != -ENOSPC)
		return 3;
	/* Room again, and all is well. */
	if (run(channel, NVME_IO_DISCARD, 0, 0, NULL, SIZE) ||
	    run(channel, NVME_IO_WRITE, 0, SIZE - 4096, bytes, 4096) ||
	    run(channel, NVME_IO_FLUSH, 0, 0, NULL, 0))
		return 4;
	nvme_channel_close(channel);
	nvme_backend_close(backend);
	return 0;
}

static void a_full_disk_says_so(void **state)
{
	struct world *world = world_or_skip(state);
	pid_t child = fork();
	int status;

	if (!child)
		_exit(fill_up(world->variant, world->directory));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void opening_fails_clearly(void **state)
{
	struct world *world = world_or_skip(state);
	struct nvme_file_config config = config_of(world);
	struct nvme_backend *backend;
	struct uvf_error error;
	char fifo[96];

	config.path = "nowhere/disk";
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -ENOENT);
	assert_non_null(strstr(error.text, "nowhere/disk"));
	config.path = world->directory;
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
	config.path = "/dev/null";
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
	assert_non_null(strstr(error.text, "neither"));
	snprintf(fifo, sizeof(fifo), "%s/fifo", world->directory);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	config.path = fifo;
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
	unlink(fifo);

	config.path = world->path;
	config.no_lock = true;
	assert_int_equal(ftruncate(world->fd, SIZE - 1), 0);
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), 0);
	assert_int_equal(backend->size, SIZE - 512);
	nvme_backend_close(backend);
	config.common.block_size = 1;
	if (config.direct)
		assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
	config.common.block_size = 0;
	assert_int_equal(ftruncate(world->fd, 0), 0);
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

int main(void)
{
	static const struct {
		const char *name;
		CMUnitTestFunction function;
	} tests[] = {
#define TEST(name) {#name, name}
		TEST(describes_itself),
		TEST(reads_and_writes),
		TEST(iovecs_need_no_alignment),
		TEST(zeroes_exactly),
		TEST(discards_free_space),
		TEST(many_in_flight),
		TEST(a_truncated_file_is_an_error),
		TEST(missing_memory_is_a_fault),
		TEST(a_limit_is_an_error),
		TEST(sleepers_are_woken),
		TEST(pollers_need_not_sleep),
		TEST(closing_drains),
		TEST(others_are_locked_out),
		TEST(threads_share_a_file),
		TEST(a_full_disk_says_so),
		TEST(opening_fails_clearly),
	};
	static struct variant variants[] = {
		{false, false},
		{false, true},
		{true, false},
		{true, true},
	};
	struct CMUnitTest all[COUNT(tests) * COUNT(variants)];
	char names[COUNT(all)][96];

	for (size_t i = 0; i < COUNT(all); i++) {
		struct variant *variant = &variants[i / COUNT(tests)];

		snprintf(names[i], sizeof(names[i]), "%s (%s, %s)", tests[i % COUNT(tests)].name,
			 variant->direct ? "direct" : "buffered",
			 variant->no_uring ? "no io_uring" : "io_uring");
		all[i] = (struct CMUnitTest){names[i], tests[i % COUNT(tests)].function, setup,
					     teardown, variant};
	}
	return cmocka_run_group_tests(all, NULL, NULL);
}
