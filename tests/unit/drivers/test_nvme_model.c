/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The NVMe driver against the NVMe model, in this process and over a socket, by each way in which
 * doorbells are rung and completions are heard of. Data is verified, many commands deep.
 */
#include "nvme_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uvfio/model.h>
#include <uvfio/server.h>
/* cmocka.h needs those before it. */
#include <cmocka.h>

#define DEPTH  48u
#define ROUNDS 40u /* of DEPTH writes and DEPTH reads */
#define BLOCKS 16u /* at most, a command */
#define QUEUES 5u  /* at most, of a way */
#define REGION 64u /* blocks that a command identifier has for itself */

struct way {
	const char *name, *spec;
	struct nvme_driver_config config;
	bool socket, mapped, io_fds;
};

#define WAYS(where, is_socket)                                                                 \
	{where ": traps", "nvme,mem=4M", {0}, is_socket, false},                               \
		{where ": traps, sleeping", "nvme,mem=4M,poll=off", {0}, is_socket, false},    \
		{where ": mapped doorbells", "nvme,mem=4M,poll=on", {0}, is_socket, true},     \
		{where ": mappable, but trapped",                                              \
		 "nvme,mem=4M,poll=on",                                                        \
		 {.no_mapped_doorbells = true},                                                \
		 is_socket,                                                                    \
		 false},                                                                       \
		{where ": shadow doorbells",                                                   \
		 "nvme,mem=4M",                                                                \
		 {.shadow_doorbells = true},                                                   \
		 is_socket,                                                                    \
		 false},                                                                       \
		{where ": shadow doorbells, sleeping",                                         \
		 "nvme,mem=4M,poll=off",                                                       \
		 {.shadow_doorbells = true},                                                   \
		 is_socket,                                                                    \
		 false},                                                                       \
		{where ": shadow doorbells, mapped",                                           \
		 "nvme,mem=4M,poll=on",                                                        \
		 {.shadow_doorbells = true},                                                   \
		 is_socket,                                                                    \
		 true},                                                                        \
		{where ": eventfds",                                                           \
		 "nvme,mem=4M,poll=off,ioeventfd",                                             \
		 {.shadow_doorbells = true},                                                   \
		 is_socket,                                                                    \
		 false,                                                                        \
		 true},                                                                        \
		{where ": eventfds, interrupts, three pollers",                                \
		 "nvme,mem=16M,ioeventfd,pollers=3",                                           \
		 {.interrupts = true, .shadow_doorbells = true, .queues = 5},                  \
		 is_socket,                                                                    \
		 false,                                                                        \
		 true},                                                                        \
		{where ": eventfds, but no shadow",                                            \
		 "nvme,mem=4M,poll=off,ioeventfd",                                             \
		 {0},                                                                          \
		 is_socket,                                                                    \
		 false},                                                                       \
		{where ": interrupts", "nvme,mem=4M", {.interrupts = true}, is_socket, false}, \
		{where ": interrupts, shadow doorbells, two pollers",                          \
		 "nvme,mem=4M,poll=off,pollers=2",                                             \
		 {.interrupts = true, .shadow_doorbells = true, .queues = 2},                  \
		 is_socket,                                                                    \
		 false},                                                                       \
	{                                                                                      \
		where ": interrupts, mapped doorbells", "nvme,mem=4M,poll=on",                 \
			{.interrupts = true}, is_socket, true                                  \
	}

static struct way ways[] = {WAYS("here", false), WAYS("socket", true)};

struct world {
	struct uvf_device *model, *dev;
	struct uvf_server *server;
	struct nvme_driver *driver;
	char directory[32], path[48];
};

static void world_open(struct world *world, const struct way *way)
{
	struct nvme_driver_config config = way->config;
	struct uvf_error error = {""};

	memset(world, 0, sizeof(*world));
	config.depth = DEPTH;
	config.timeout_ms = 100000; /* for a machine that has a lot to do */
	if (uvf_model_create(way->spec, &world->model, &error))
		fail_msg("%s", error.text);
	world->dev = world->model;
	if (way->socket) {
		struct uvf_server_config server = {.path = world->path,
						   .client_timeout_ms = 100000};
		struct uvf_client_config client = {.path = world->path, .timeout_ms = 100000};

		strcpy(world->directory, "/tmp/uvfio-nvme-XXXXXX");
		assert_non_null(mkdtemp(world->directory));
		snprintf(world->path, sizeof(world->path), "%s/socket", world->directory);
		if (uvf_server_new(world->model, &server, &world->server, &error))
			fail_msg("%s", error.text);
		assert_int_equal(uvf_server_start(world->server), 0);
		if (uvf_client_connect(&client, &world->dev, &error))
			fail_msg("%s", error.text);
	}
	if (nvme_driver_open(world->dev, &config, &world->driver, &error))
		fail_msg("%s: %s", way->name, error.text);
}

static void world_close(struct world *world)
{
	nvme_driver_close(world->driver);
	if (world->server) {
		uvf_device_free(world->dev);
		uvf_server_stop(world->server);
		uvf_server_free(world->server);
		rmdir(world->directory);
	}
	uvf_device_free(world->model);
}

struct load {
	struct nvme_driver_queue *queue;
	uint8_t *buffer; /* BLOCKS blocks a command identifier, and a page */
	uvf_iova_t iova;
	uint64_t first; /* of the queue's part of the namespace, in blocks */
	uint64_t state;
	uint32_t lba[DEPTH], blocks[DEPTH];
};

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*state >> 33);
}

static uint8_t *buffer_of(const struct load *load, unsigned cid)
{
	return load->buffer + (size_t)cid * BLOCKS * 512;
}

/* What block @lba holds after round @round. */
static uint8_t content(uint64_t lba, unsigned round, unsigned i)
{
	return (uint8_t)(lba * 7 + round * 13 + i + (i >> 8));
}

static void fill_or_check(const struct load *load, unsigned cid, unsigned round, bool check)
{
	uint8_t *at = buffer_of(load, cid);

	for (unsigned i = 0; i < load->blocks[cid] * 512; i++) {
		uint8_t expected = content(load->first + load->lba[cid] + i / 512, round, i % 512);

		if (!check)
			at[i] = expected;
		else if (at[i] != expected)
			fail_msg("block %u, byte %u", load->lba[cid] + i / 512, i % 512);
	}
	if (!check)
		return;
	memset(at, 0xee, load->blocks[cid] * 512);
}

/* DEPTH commands at once, waited for in whatever order. */
static void submit_all(struct load *load, uint8_t opcode, unsigned round)
{
	struct nvme_driver_done done[DEPTH];
	unsigned completed = 0;

	for (unsigned i = 0; i < DEPTH; i++) {
		/* The identifier that it will get: prepare_io() takes the last free one. */
		uint16_t cid = load->queue->free[load->queue->free_count - 1];

		if (opcode == NVME_IO_WRITE) {
			load->blocks[cid] = 1 + next_random(&load->state) % BLOCKS;
			load->lba[cid] =
				cid * REGION + next_random(&load->state) % (REGION - BLOCKS);
			fill_or_check(load, cid, round, false);
		}
		assert_int_equal(nvme_driver_prepare_io(load->queue, opcode,
							load->first + load->lba[cid],
							load->blocks[cid],
							load->iova + (uint64_t)cid * BLOCKS * 512),
				 cid);
		if (i % 7 == 6)
			nvme_driver_ring(load->queue);
	}
	nvme_driver_ring(load->queue);
	while (completed < DEPTH) {
		int count = nvme_driver_wait(load->queue, done, DEPTH, 100000);

		if (count <= 0)
			fail_msg("waiting: %d", count);
		for (int i = 0; i < count; i++)
			assert_int_equal(done[i].status, 0);
		completed += (unsigned)count;
	}
}

static void data_at_depth(void **state)
{
	const struct way *way = *state;
	struct load loads[QUEUES] = {0};
	const struct nvme_driver_info *info;
	struct world world;

	world_open(&world, way);
	info = nvme_driver_get_info(world.driver);
	assert_int_equal(info->mapped_doorbells, way->mapped);
	assert_int_equal(info->io_fds, way->io_fds);
	assert_int_equal(info->shadow_doorbells, way->config.shadow_doorbells);
	assert_int_equal(info->block_size, 512);
	assert_true(info->queues <= QUEUES);
	for (unsigned q = 0; q < info->queues; q++) {
		loads[q].queue = nvme_driver_queue(world.driver, q);
		loads[q].first = (uint64_t)q * DEPTH * REGION;
		loads[q].state = 42 + q;
		loads[q].buffer =
			nvme_driver_alloc(world.driver, DEPTH * BLOCKS * 512, &loads[q].iova);
		assert_non_null(loads[q].buffer);
	}
	assert_true(info->queues * DEPTH * REGION <= info->blocks);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned q = 0; q < info->queues; q++) {
			struct load *load = &loads[q];

			submit_all(load, NVME_IO_WRITE, round);
			memset(load->buffer, 0xee, (size_t)DEPTH * BLOCKS * 512);
			submit_all(load, NVME_IO_READ, round);
			for (unsigned cid = 0; cid < DEPTH; cid++)
				fill_or_check(load, cid, round, true);
		}
		if (round % 8 == 7) /* long enough for pollers to sleep */
			usleep(300);
	}
	for (unsigned q = 0; q < info->queues; q++)
		assert_int_equal(nvme_driver_flush(loads[q].queue), 0);
	world_close(&world);
}

int main(void)
{
	struct CMUnitTest tests[sizeof(ways) / sizeof(ways[0])];
	size_t count = sizeof(ways) / sizeof(ways[0]);

	for (size_t i = 0; i < count; i++)
		tests[i] = (struct CMUnitTest){ways[i].name, data_at_depth, NULL, NULL, &ways[i]};
	return _cmocka_run_group_tests("ways", tests, count, NULL, NULL);
}
