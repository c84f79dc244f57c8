/* SPDX-License-Identifier: BSD-3-Clause */
/* An NBD server with an export, and that opened as NVMe storage; threads that verify it. */
#ifndef NVME_NBD_WORLD_H
#define NVME_NBD_WORLD_H

#include "nvme_nbd_server.h"
#include "nvme_storage.h"

#include <pthread.h>

#include "devices/nvme/nbd.h"

#define SIZE (4u << 20)
#define DEEP 64u

struct world {
	struct server server;
	struct nvme_backend *backend;
	struct nvme_channel *channel;
	char *memory, *back; /* SIZE bytes each */
	char said[4096];     /* in the log */
	pthread_mutex_t said_lock;
};

static inline void world_log(void *opaque, enum uvf_log_level level, const char *who,
			     const char *text)
{
	struct world *world = opaque;
	size_t used;

	pthread_mutex_lock(&world->said_lock);
	used = strlen(world->said);
	snprintf(world->said + used, sizeof(world->said) - used, "%s\n", text);
	pthread_mutex_unlock(&world->said_lock);
}

static inline bool world_said(struct world *world, const char *text)
{
	bool found;

	pthread_mutex_lock(&world->said_lock);
	found = strstr(world->said, text);
	pthread_mutex_unlock(&world->said_lock);
	return found;
}

static inline int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	pthread_mutex_init(&world->said_lock, NULL);
	server_make(&world->server, SIZE);
	world->memory = aligned_alloc(4096, SIZE);
	world->back = aligned_alloc(4096, SIZE);
	fill(world->memory, 0, SIZE, 1);
	memset(world->back, 0, SIZE);
	*state = world;
	return 0;
}

static inline int open_with(struct world *world, uint32_t block, uint32_t reconnect,
			    struct uvf_error *error)
{
	const struct nvme_nbd_config config = {
		.common = {.who = "test",
			   .block_size = block,
			   .log = {world_log, world, UVF_LOG_DEBUG}},
		.uri = world->server.uri,
		.reconnect = reconnect,
	};

	return nvme_backend_open_nbd(&config, &world->backend, error);
}

static inline void open_export_for(struct world *world, uint32_t block, uint32_t reconnect)
{
	struct uvf_error error = {""};

	if (open_with(world, block, reconnect, &error))
		fail_msg("%s", error.text);
	assert_int_equal(nvme_channel_open(world->backend, DEEP, &world->channel, NULL), 0);
}

static inline void open_export(struct world *world, uint32_t block)
{
	open_export_for(world, block, 60);
}

static inline void close_export(struct world *world)
{
	nvme_channel_close(world->channel);
	nvme_backend_close(world->backend);
	world->channel = NULL;
	world->backend = NULL;
}

static inline int teardown(void **state)
{
	struct world *world = *state;

	close_export(world);
	server_remove(&world->server);
	pthread_mutex_destroy(&world->said_lock);
	free(world->memory);
	free(world->back);
	free(world);
	return 0;
}

/* With a server that was lost and is there again. */
static inline void release_when_up(struct world *world)
{
	int ret;

	while ((ret = nvme_backend_release(world->backend)) == -EAGAIN)
		server_moment();
	assert_int_equal(ret, 0);
}

/* ---- Several threads ---- */

struct worker {
	struct world *world;
	struct nvme_channel *channel;
	unsigned number;
	unsigned failed;
};

static inline void *work(void *opaque)
{
	struct worker *worker = opaque;
	uint64_t at = (uint64_t)worker->number * (SIZE / 4);
	char *bytes = worker->world->memory + at, *back = worker->world->back + at;

	for (unsigned round = 0; round < 100; round++) {
		struct request requests[8];

		fill(bytes, 0, 65536, round);
		for (unsigned i = 0; i < 8; i++) {
			request_make(&requests[i], NVME_IO_WRITE, at + i * 8192u, bytes + i * 8192u,
				     8192);
			request_submit(worker->channel, &requests[i]);
		}
		while (worker->channel->in_flight)
			wait_for_one(worker->channel);
		for (unsigned i = 0; i < 8; i++)
			worker->failed += requests[i].result != 0;
		worker->failed += run(worker->channel, NVME_IO_READ, 0, at, back, 65536) != 0;
		worker->failed += memcmp(bytes, back, 65536) != 0;
		worker->failed += run(worker->channel, NVME_IO_FLUSH, 0, 0, NULL, 0) != 0;
	}
	return NULL;
}

/* Four threads, a channel each; a connection each where the server is said to be coherent. */
static inline void threads(struct world *world, unsigned connections, unsigned kills)
{
	struct worker workers[4];
	pthread_t ids[4];
	struct uvf_error error = {""};

	if (open_with(world, 0, 60, &error))
		fail_msg("%s", error.text);
	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (struct worker){.world = world, .number = i};
		assert_int_equal(nvme_channel_open(world->backend, 8, &workers[i].channel, &error),
				 0);
	}
	assert_int_equal(((struct nbd_channel *)workers[0].channel)->connection ==
				 ((struct nbd_channel *)workers[1].channel)->connection,
			 connections == 1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&ids[i], NULL, work, &workers[i]), 0);
	for (unsigned i = 0; i < kills; i++) {
		for (unsigned n = 0; n < 20; n++)
			server_moment();
		server_kill(&world->server);
		server_start_again(&world->server);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(ids[i], NULL);
	release_when_up(world);
	for (unsigned i = 0; i < 4; i++) {
		nvme_channel_close(workers[i].channel);
		assert_int_equal(workers[i].failed, 0);
	}
}

#endif
