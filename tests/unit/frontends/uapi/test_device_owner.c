/* SPDX-License-Identifier: BSD-3-Clause */
/* Who has a device: groups against cdevs, several iommufds, and devices that take their time. */
#include "helpers.h"

#include <pthread.h>
#include <sched.h>

/* Binding asks nothing of an iommufd but who it is: containers serve as well here. */
static struct uapi_file *some_file(struct world *world, int fd)
{
	struct uapi_call call = world_call(world);
	struct uapi_file *file = uapi_file_find(&call, fd);

	assert_non_null(file);
	uapi_file_put(file);
	return file;
}

static void test_group_or_cdev(void **state)
{
	struct world *world = *state;
	int fd = world_open_container(world), group;
	struct uapi_file *iommufd = some_file(world, fd);

	assert_int_equal(uapi_device_bind(&world->devices[0], iommufd), 0);
	assert_int_equal(world->models[0].opened, 1);
	assert_int_equal(world_open_group(world, 0), -EBUSY);
	assert_int_equal(uapi_device_bind(&world->devices[0], iommufd), -EINVAL);
	group = world_open_group(world, 1);
	assert_true(group >= 0);
	assert_int_equal(uapi_device_bind(&world->devices[2], iommufd), -EBUSY);
	close(group); /* and binding drains */
	assert_int_equal(uapi_device_bind(&world->devices[2], iommufd), 0);
	uapi_device_unbind(&world->devices[2]);
	uapi_device_unbind(&world->devices[0]);
	assert_int_equal(world->models[0].closed, 1);
	group = world_open_group(world, 0);
	assert_true(group >= 0);
	world_close(world, group);
	world_close(world, fd);
}

/* The devices of a group are one iommufd's. */
static void test_group_of_one_iommufd(void **state)
{
	struct world *world = *state;
	int fds[2] = {world_open_container(world), world_open_container(world)};
	struct uapi_file *one = some_file(world, fds[0]), *other = some_file(world, fds[1]);

	assert_int_equal(uapi_device_bind(&world->devices[0], one), 0);
	assert_int_equal(uapi_device_bind(&world->devices[1], other), -EPERM);
	assert_int_equal(uapi_device_bind(&world->devices[2], other), 0);
	assert_int_equal(uapi_device_bind(&world->devices[1], one), 0);
	uapi_device_unbind(&world->devices[0]);
	assert_int_equal(uapi_device_bind(&world->devices[0], other), -EPERM);
	uapi_device_unbind(&world->devices[1]);
	assert_int_equal(uapi_device_bind(&world->devices[0], other), 0);
	uapi_device_unbind(&world->devices[0]);
	uapi_device_unbind(&world->devices[2]);
	world_close(world, fds[0]);
	world_close(world, fds[1]);
}

static void test_failing_bind(void **state)
{
	struct world *world = *state;
	int fd = world_open_container(world), group;

	world->models[0].fail_open = -EIO;
	assert_int_equal(uapi_device_bind(&world->devices[0], some_file(world, fd)), -EIO);
	assert_int_equal(world->groups[0].bound, 0);
	assert_int_equal(world->groups[0].claims, 0);
	group = world_open_group(world, 0);
	assert_true(group >= 0);
	world_close(world, group);
	world_close(world, fd);
}

static void test_attach(void **state)
{
	struct world *world = *state;
	struct uapi_device *device = &world->devices[0];
	int fd = world_open_container(world);
	struct uapi_ioas *one, *other;

	assert_int_equal(uapi_ioas_new(&world->run, &one), 0);
	assert_int_equal(uapi_ioas_new(&world->run, &other), 0);
	assert_int_equal(uapi_device_bind(device, some_file(world, fd)), 0);
	assert_int_equal(uapi_device_attach(device, one), 0);
	assert_ptr_equal(device->ioas, one);
	world->models[0].fail_attach = -ENOSPC;
	assert_int_equal(uapi_device_attach(device, other), -ENOSPC);
	assert_ptr_equal(device->ioas, one);
	world->models[0].fail_attach = 0;
	assert_int_equal(uapi_device_attach(device, other), 0);
	assert_ptr_equal(device->ioas, other);
	assert_int_equal(uapi_device_attach(device, NULL), 0);
	assert_null(device->ioas);
	assert_int_equal(uapi_device_attach(device, one), 0);
	uapi_ioas_put(one);
	uapi_ioas_put(other);
	uapi_device_unbind(device); /* lets go of the last reference */
	world_close(world, fd);
}

/* ---- A device that takes its time ---- */

struct opener {
	struct world *world;
	int group;
	unsigned device;
	long fd;
};

static void *open_device(void *opaque)
{
	struct opener *opener = opaque;

	opener->fd = world_get_device(opener->world, opener->group,
				      opener->world->devices[opener->device].address);
	return NULL;
}

/*
 * While it opens, whoever wants the same device waits, and gets an opening of it; other devices
 * open, the group answers, and can't lose its container.
 */
static void test_slow_open(void **state)
{
	struct world *world = *state;
	int container = world_open_container(world), group = world_open_group(world, 0);
	struct opener openers[3];
	struct vfio_group_status status = {.argsz = sizeof(status)};
	pthread_t threads[3];
	int other;

	assert_int_equal(world_set_container(world, group, container), 0);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	world->models[0].hold_open = true;
	for (unsigned i = 0; i < 3; i++) {
		openers[i] = (struct opener){.world = world, .group = group};
		assert_int_equal(pthread_create(&threads[i], NULL, open_device, &openers[i]), 0);
	}
	while (world->models[0].waiting_open == 0)
		sched_yield();
	other = (int)world_get_device(world, group, world->devices[1].address);
	assert_true(other >= 0);
	assert_int_equal(world_ioctl_of(world, group, VFIO_GROUP_GET_STATUS, &status), 0);
	world_close(world, other);
	assert_int_equal(world_ioctl(world, group, VFIO_GROUP_UNSET_CONTAINER, 0), -EBUSY);
	assert_int_equal(world->models[0].waiting_open, 1);
	world->models[0].hold_open = false;
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		assert_true(openers[i].fd >= 0);
	}
	assert_int_equal(world->models[0].opened, 1);
	pthread_mutex_lock(&world->run.topology);
	assert_int_equal(world->devices[0].openings, 3);
	pthread_mutex_unlock(&world->run.topology);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(world->models[0].closed, 0);
		world_close(world, (int)openers[i].fd);
	}
	world_close(world, group);
	world_close(world, container);
}

#define ROUNDS 300

static void *open_and_close(void *opaque)
{
	struct opener *opener = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		open_device(opener);
		if (opener->fd >= 0)
			world_close(opener->world, (int)opener->fd);
		else if (!opener->world->models[0].fail_open)
			return (void *)1;
	}
	return NULL;
}

/* Openings and closings of one device from four threads: it is never open twice, nor left so. */
static void test_many_openers(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	struct opener openers[4];
	pthread_t threads[4];
	void *failed;

	world_close(world, opened.device);
	for (unsigned i = 0; i < 4; i++) {
		openers[i] = (struct opener){.world = world, .group = opened.group};
		assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, &openers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	uapi_files_drain_slow(&world->run);
	assert_int_equal(world->devices[0].ownership, UAPI_FREE);
	assert_int_equal(world->groups[0].users, 0);
	world_close(world, opened.group);
	world_close(world, opened.container);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_group_or_cdev, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_group_of_one_iommufd, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_failing_bind, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_attach, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_slow_open, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_many_openers, world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
