/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file as NVMe storage, for tests: each runs with and without the page cache, with io_uring and
 * without. Files are in a directory where the test is run, which is on a disk: beside the build.
 */
#ifndef TEST_NVME_FILE_WORLD_H
#define TEST_NVME_FILE_WORLD_H

#include "nvme_storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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

static inline struct nvme_file_config config_of(const struct world *world)
{
	return (struct nvme_file_config){
		.common = {.who = "test"},
		.path = world->path,
		.direct = world->variant->direct,
		.no_uring = world->variant->no_uring,
	};
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

static inline struct world *world_or_skip(void **state)
{
	struct world *world = *state;

	if (!world->channel)
		skip();
	return world;
}

/* The whole file: PATTERN, but for [offset, offset + size), which is UPDATE or (seed 0) zeroes. */
static inline void check_file(const struct world *world, uint64_t offset, uint64_t size,
			      unsigned seed)
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

struct named_test {
	const char *name;
	CMUnitTestFunction function;
};
#define TEST(name)          \
	{                   \
#name, name \
	}
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Each of @count tests, in each variant. */
static inline int run_all(const struct named_test *tests, size_t count)
{
	static struct variant variants[] = {
		{false, false},
		{false, true},
		{true, false},
		{true, true},
	};
	struct CMUnitTest all[64];
	char names[64][96];

	assert_true(count * COUNT(variants) <= 64);
	for (size_t i = 0; i < count * COUNT(variants); i++) {
		struct variant *variant = &variants[i / count];

		snprintf(names[i], sizeof(names[i]), "%s (%s, %s)", tests[i % count].name,
			 variant->direct ? "direct" : "buffered",
			 variant->no_uring ? "no io_uring" : "io_uring");
		all[i] = (struct CMUnitTest){names[i], tests[i % count].function, setup, teardown,
					     variant};
	}
	return _cmocka_run_group_tests("files", all, count * COUNT(variants), NULL, NULL);
}

#endif
