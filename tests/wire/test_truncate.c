/* SPDX-License-Identifier: BSD-3-Clause */
/* A client that takes its memory file away while the device, in another process, moves data. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define PAGES	  64U
#define TRANSFERS 400U

/* A server in a process of its own, which ends when @alive's other end is closed. */
static void serve(struct harness *h, int alive)
{
	struct pollfd ready[] = {{uvf_server_fd(h->server), POLLIN, 0}, {alive, POLLIN, 0}};

	while (!ready[1].revents && uvf_server_process(h->server) >= 0)
		poll(ready, 2, -1);
}

struct world {
	struct harness *h;
	pid_t pid;
	int alive;
	int memory;
	atomic_bool stop;
	atomic_uint truncations;
};

static int setup(void **state)
{
	static struct world world;
	struct reply reply;
	int pipe_ends[2];

	world = (struct world){.h = harness_new(NULL)};
	/* The server's process makes its own steps. */
	world.h->threaded = true;
	assert_int_equal(pipe(pipe_ends), 0);
	world.pid = fork();
	assert_true(world.pid >= 0);
	if (!world.pid) {
		close(pipe_ends[1]);
		serve(world.h, pipe_ends[0]);
		_exit(0);
	}
	close(pipe_ends[0]);
	world.alive = pipe_ends[1];
	world.memory = memory_file(PAGES * PAGE);
	world.h->client = harness_connect(world.h);
	assert_int_equal(negotiate_on(world.h, world.h->client, NULL, &reply), 0);
	assert_int_equal(dma_map(world.h, 0, PAGES * PAGE, UVF_PROT_RW, world.memory, 0), 0);
	assert_int_equal(region_write32(world.h, 0, REG_BUS_MASTER, 1), 0);
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	int status;

	/* It lives to the end, and ends as it was told to. */
	assert_int_equal(waitpid(world->pid, &status, WNOHANG), 0);
	close(world->alive);
	close(world->memory);
	assert_int_equal(waitpid(world->pid, &status, 0), world->pid);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	harness_free(world->h);
	return 0;
}

static int dma(struct harness *h, uint32_t address, uint32_t size, uint32_t write)
{
	uint32_t result;

	assert_int_equal(region_write32(h, 0, REG_DMA_ADDRESS, address), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_SIZE, size), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_WRITE, write), 0);
	assert_int_equal(region_write32(h, 0, REG_DOORBELL, 1), 0);
	assert_int_equal(region_read32(h, 0, REG_DMA_RESULT, &result), 0);
	return (int)result;
}

/* What is gone is an error; what came back is memory; what is left is reached meanwhile. */
static void gone_and_back(void **state)
{
	struct world *world = *state;

	for (uint32_t write = 0; write < 2; write++) {
		assert_int_equal(dma(world->h, 0, PAGES * PAGE, write), 0);
		assert_int_equal(ftruncate(world->memory, PAGE), 0);
		assert_int_equal(dma(world->h, 0, PAGE, write), 0);
		assert_int_equal(dma(world->h, 0, 2 * PAGE, write), -EFAULT);
		assert_int_equal(dma(world->h, PAGE, 1, write), -EFAULT);
		assert_int_equal(dma(world->h, PAGES * PAGE - 8, 8, write), -EFAULT);
		assert_int_equal(ftruncate(world->memory, 0), 0);
		assert_int_equal(dma(world->h, 0, 1, write), -EFAULT);
		assert_int_equal(ftruncate(world->memory, PAGES * PAGE), 0);
		assert_int_equal(dma(world->h, 0, PAGES * PAGE, write), 0);
	}
}

static void *truncate_often(void *opaque)
{
	struct world *world = opaque;

	while (!world->stop) {
		if (ftruncate(world->memory, world->truncations % 3 * PAGE) ||
		    ftruncate(world->memory, PAGES * PAGE))
			break;
		world->truncations++;
	}
	return NULL;
}

static void truncated_all_the_time(void **state)
{
	struct world *world = *state;
	unsigned faults = 0;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, truncate_often, world), 0);
	/* However the two are scheduled: many of the one, and some of the other. */
	for (uint32_t i = 0; i < TRANSFERS || world->truncations < TRANSFERS; i++) {
		int ret = dma(world->h, 0, PAGES * PAGE, i % 2);

		assert_true(!ret || ret == -EFAULT);
		faults += ret == -EFAULT;
	}
	world->stop = true;
	pthread_join(thread, NULL);
	print_message("%u truncations, %u faults\n", world->truncations, faults);
	assert_int_equal(dma(world->h, 0, PAGES * PAGE, 0), 0);
}

/* A hole: nothing is lost but its bytes. */
static void a_hole(void **state)
{
	struct world *world = *state;

	assert_int_equal(dma(world->h, 0, PAGES * PAGE, 1), 0);
	assert_int_equal(fallocate(world->memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				   PAGES * PAGE),
			 0);
	assert_int_equal(dma(world->h, 0, PAGES * PAGE, 0), 0);
}

#define WORLD(test)                                \
	{                                          \
#test, test, setup, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD(gone_and_back),
		WORLD(truncated_all_the_time),
		WORLD(a_hole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
