/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several threads at one iommufd and its devices: whatever they do to each other's objects, every
 * call gets an answer that is possible, and at the end nothing is left in use.
 */
#include "iommufd_rig.h"

#include <pthread.h>
#include <stdlib.h>

#define THREADS 6
#define STEPS	3000
#define IDS	12

static char memory[PAGE] __attribute__((aligned(4096)));

struct worker {
	struct world *world;
	int fd;
	int cdevs[DEVICES];
	uint64_t random;
	pthread_t thread;
};

static unsigned choose(struct worker *worker, unsigned below)
{
	worker->random = worker->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)((worker->random >> 33) % below);
}

static bool is_one_of(long result, const long *results, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (results[i] == result)
			return true;
	print_message("result %ld\n", result);
	return false;
}

#define must_be(result, ...)                                                           \
	do {                                                                           \
		const long allowed[] = {__VA_ARGS__};                                  \
		if (!is_one_of(result, allowed, sizeof(allowed) / sizeof(allowed[0]))) \
			abort();                                                       \
	} while (0)

static void step(struct worker *worker)
{
	struct world *world = worker->world;
	uint32_t id = choose(worker, IDS) + 1, other = choose(worker, IDS) + 1, out;
	int cdev = worker->cdevs[choose(worker, DEVICES)];
	uint64_t iova = 0, size = UINT64_MAX;

	switch (choose(worker, 8)) {
	case 0:
		ioas_alloc(world, worker->fd);
		break;
	case 1:
		must_be(destroy(world, worker->fd, id), 0, -ENOENT, -EBUSY);
		break;
	case 2:
		must_be(hwpt_alloc(world, worker->fd, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, id, other,
				   &out),
			0, -ENOENT, -EINVAL, -EOPNOTSUPP);
		break;
	case 3:
		must_be(bind_cdev(world, cdev, worker->fd, &out), 0, -EINVAL);
		break;
	case 4:
		must_be(attach_cdev(world, cdev, &id), 0, -ENOENT, -EINVAL);
		break;
	case 5:
		must_be(detach_cdev(world, cdev), 0, -EINVAL);
		break;
	case 6:
		must_be(ioas_map(world, worker->fd, id, MAP_RW, memory, PAGE, &iova), 0, -ENOENT);
		break;
	default:
		must_be(ioas_unmap(world, worker->fd, id, 0, &size), 0, -ENOENT);
	}
}

static void *work(void *opaque)
{
	struct worker *worker = opaque;

	for (unsigned i = 0; i < STEPS; i++)
		step(worker);
	return NULL;
}

static void threads_meet(void **state)
{
	struct world *world = *state;
	struct worker workers[THREADS];
	int fd = world_open_iommufd(world), cdevs[DEVICES];

	for (size_t i = 0; i < DEVICES; i++)
		cdevs[i] = open_cdev(world, i);
	for (size_t i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.world = world, .fd = fd, .random = i + 1};
		memcpy(workers[i].cdevs, cdevs, sizeof(cdevs));
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	for (size_t i = 0; i < DEVICES; i++)
		world_close(world, cdevs[i]);
	/* Page tables first, and then all of it can go. */
	for (unsigned round = 0; round < 2; round++)
		for (uint32_t id = 1; id < 4096; id++)
			must_be(destroy(world, fd, id), 0, -ENOENT, round ? -ENOENT : -EBUSY);
	world_close(world, fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(threads_meet, world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
