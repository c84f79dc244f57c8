/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What was flushed survives kill -9 at any moment: a child writes blocks that carry a sequence
 * number, flushes, and reports through a pipe how far it has come; then it is killed.
 */
#include "nvme_storage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "devices/nvme/file.h"

#define BLOCKS 256u
#define BLOCK  4096u
#define KILLS  20

struct variant {
	bool direct, no_uring;
};

struct disk {
	const struct variant *variant;
	char directory[64], path[96];
};

static int setup(void **state)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	int fd;

	disk->variant = *state;
	strcpy(disk->directory, "nvme-powercut-XXXXXX");
	assert_non_null(mkdtemp(disk->directory));
	snprintf(disk->path, sizeof(disk->path), "%s/disk", disk->directory);
	fd = open(disk->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, BLOCKS * BLOCK), 0);
	close(fd);
	*state = disk;
	return 0;
}

static int teardown(void **state)
{
	struct disk *disk = *state;

	unlink(disk->path);
	rmdir(disk->directory);
	free(disk);
	return 0;
}

/* The lock of the one that was killed is gone, or goes soon. */
static int open_disk(const struct disk *disk, struct nvme_backend **backend,
		     struct nvme_channel **channel)
{
	struct nvme_file_config config = {
		.common = {.who = "test"},
		.path = disk->path,
		.direct = disk->variant->direct,
		.no_uring = disk->variant->no_uring,
	};
	int ret = nvme_backend_open_file(&config, backend, NULL);

	return ret ? ret : nvme_channel_open(*backend, 8, channel, NULL);
}

/* Block n % BLOCKS holds number n, over and over; every 8 numbers a flush, then a report. */
static void write_until_killed(const struct disk *disk, uint64_t number, int report)
{
	static uint64_t bytes[8][BLOCK / 8] __attribute__((aligned(4096)));
	struct request requests[8];
	struct nvme_backend *backend;
	struct nvme_channel *channel;

	if (open_disk(disk, &backend, &channel))
		_exit(1);
	for (;;) {
		for (unsigned i = 0; i < 8; i++, number++) {
			for (unsigned word = 0; word < BLOCK / 8; word++)
				bytes[i][word] = number;
			request_make(&requests[i], NVME_IO_WRITE, number % BLOCKS * BLOCK, bytes[i],
				     BLOCK);
			request_submit(channel, &requests[i]);
		}
		nvme_channel_drain(channel);
		for (unsigned i = 0; i < 8; i++) {
			if (requests[i].result)
				_exit(2);
		}
		if (run(channel, NVME_IO_FLUSH, 0, 0, NULL, 0))
			_exit(3);
		if (write(report, &number, sizeof(number)) != sizeof(number))
			_exit(4);
	}
}

/* Each block below @flushed is as it was then or later, and whole. */
static void check_disk(const struct disk *disk, uint64_t flushed)
{
	uint64_t bytes[BLOCK / 8] __attribute__((aligned(4096)));
	uint64_t first = flushed > BLOCKS ? flushed - BLOCKS : 0;
	struct nvme_backend *backend;
	struct nvme_channel *channel;

	assert_int_equal(open_disk(disk, &backend, &channel), 0);
	for (uint64_t number = first; number < flushed; number++) {
		assert_int_equal(
			run(channel, NVME_IO_READ, 0, number % BLOCKS * BLOCK, bytes, BLOCK), 0);
		for (unsigned word = 0; word < BLOCK / 8; word++) {
			assert_true(bytes[word] >= number);
			assert_int_equal(bytes[word] % BLOCKS, number % BLOCKS);
		}
	}
	nvme_channel_close(channel);
	nvme_backend_close(backend);
}

static void flushed_is_flushed(void **state)
{
	struct disk *disk = *state;
	uint64_t flushed = 0;

	srandom(20);
	for (int i = 0; i < KILLS; i++) {
		struct timespec pause = {.tv_nsec = random() % 5000000};
		uint64_t number, before = flushed;
		int report[2], status;
		pid_t child;

		assert_int_equal(pipe(report), 0);
		child = fork();
		if (!child)
			write_until_killed(disk, flushed, report[1]);
		close(report[1]);
		/* Killed some time after its first report, so that it is at work. */
		while (flushed == before &&
		       read(report[0], &number, sizeof(number)) == sizeof(number))
			flushed = number;
		nanosleep(&pause, NULL);
		kill(child, SIGKILL);
		while (read(report[0], &number, sizeof(number)) == sizeof(number))
			flushed = number;
		close(report[0]);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		assert_true(flushed > before);
		check_disk(disk, flushed);
	}
}

int main(void)
{
	static struct variant buffered = {false, false}, synchronous = {false, true},
			      direct = {true, false};
	const struct CMUnitTest tests[] = {
		{"buffered", flushed_is_flushed, setup, teardown, &buffered},
		{"buffered, no io_uring", flushed_is_flushed, setup, teardown, &synchronous},
		{"direct", flushed_is_flushed, setup, teardown, &direct},
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
