/* SPDX-License-Identifier: BSD-3-Clause */
/* Groups: status, container, descriptors of devices, and what keeps what when they are closed. */
#include "helpers.h"

#include <fcntl.h>
#include <stdlib.h>

static uint32_t status_of(struct world *world, int group)
{
	struct vfio_group_status status = {.argsz = sizeof(status), .flags = UINT32_MAX};

	assert_int_equal(world_ioctl_of(world, group, VFIO_GROUP_GET_STATUS, &status), 0);
	assert_int_equal(status.argsz, sizeof(status));
	return status.flags;
}

static void test_status(void **state)
{
	struct world *world = *state;
	int group = world_open_group(world, 0), container = world_open_container(world);
	struct vfio_group_status status = {.argsz = sizeof(status) - 1};

	assert_int_equal(status_of(world, group), VFIO_GROUP_FLAGS_VIABLE);
	assert_int_equal(world_ioctl_of(world, group, VFIO_GROUP_GET_STATUS, &status), -EINVAL);
	assert_int_equal(world_ioctl(world, group, VFIO_GROUP_GET_STATUS, 8), -EFAULT);
	assert_int_equal(world_set_container(world, group, container), 0);
	assert_int_equal(status_of(world, group),
			 VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
	assert_int_equal(world_ioctl(world, group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(status_of(world, group), VFIO_GROUP_FLAGS_VIABLE);
	assert_int_equal(world_ioctl(world, group, VFIO_GET_API_VERSION, 0), -ENOTTY);
	assert_int_equal(world_ioctl(world, group, _IO(VFIO_TYPE, VFIO_BASE + 77), 0), -ENOTTY);
	world_close(world, container);
	world_close(world, group);
}

static void test_opened_once(void **state)
{
	struct world *world = *state;
	int group = world_open_group(world, 0), copy, other;

	assert_int_equal(world_open_group(world, 0), -EBUSY);
	other = world_open_group(world, 1);
	assert_true(other >= 0);
	copy = dup(group);
	world_close(world, group);
	assert_int_equal(world_open_group(world, 0), -EBUSY);
	close(copy); /* and nobody drains: opening does */
	group = world_open_group(world, 0);
	assert_true(group >= 0);
	world_close(world, group);
	world_close(world, other);
}

static void test_set_container(void **state)
{
	struct world *world = *state;
	int group = world_open_group(world, 0), other = world_open_group(world, 1);
	int container = world_open_container(world), second = world_open_container(world);
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(world_ioctl(world, group, VFIO_GROUP_SET_CONTAINER, 8), -EFAULT);
	assert_int_equal(world_set_container(world, group, -1), -EBADF);
	assert_int_equal(world_set_container(world, group, 1 << 30), -EBADF);
	assert_int_equal(world_set_container(world, group, ends[0]), -EBADFD);
	assert_int_equal(world_set_container(world, group, other), -EBADFD);
	assert_int_equal(world_set_container(world, group, group), -EBADFD);
	assert_int_equal(world_ioctl(world, group, VFIO_GROUP_UNSET_CONTAINER, 0), -EINVAL);
	assert_int_equal(world_set_container(world, group, container), 0);
	/* Whether it is a descriptor at all is asked before, what it is of after. */
	assert_int_equal(world_set_container(world, group, container), -EINVAL);
	assert_int_equal(world_set_container(world, group, second), -EINVAL);
	assert_int_equal(world_set_container(world, group, ends[0]), -EINVAL);
	assert_int_equal(world_set_container(world, group, -1), -EBADF);
	assert_int_equal(world_ioctl(world, group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(world_set_container(world, group, second), 0);
	close(ends[0]);
	close(ends[1]);
	world_close(world, container);
	world_close(world, second);
	world_close(world, other);
	world_close(world, group);
}

static const struct {
	const char *name;
	long error; /* 0: found */
} names[] = {
	{"0000:65:00.0", 0},
	{"0000:65:00.0 ", 0},
	{"0000:65:00.0    ", 0},
	{"0000:65:00.0 vf_token=14d63f20-8445-11ea-8900-1f9ce7d5650d", -EINVAL},
	{"0000:65:00.0 what", -EINVAL},
	{"0000:65:00.0  x", -EINVAL},
	{"0000:65:00.0\t", -ENODEV},
	{"0000:65:00.00", -ENODEV},
	{"0000:65:00.", -ENODEV},
	{"65:00.0", -ENODEV},
	{" 0000:65:00.0", -ENODEV},
	{"", -ENODEV},
	{"0000:66:00.0", 0},
	{"0000:67:00.0", -ENODEV}, /* of the other group */
};

static void test_names(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	char *longest = malloc(PAGE + 1);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		long ret = world_get_device(world, opened.group, names[i].name);

		if (names[i].error) {
			assert_int_equal(ret, names[i].error);
		} else {
			assert_true(ret >= 0);
			assert_true(fcntl((int)ret, F_GETFD) & FD_CLOEXEC);
			world_close(world, (int)ret);
		}
	}
	assert_non_null(longest);
	memset(longest, ' ', PAGE + 1);
	longest[PAGE] = '\0';
	memcpy(longest, names[0].name, strlen(names[0].name));
	assert_int_equal(world_get_device(world, opened.group, longest), -EINVAL);
	longest[PAGE - 1] = '\0';
	world_close(world, (int)world_get_device(world, opened.group, longest));
	free(longest);
	assert_int_equal(world_ioctl(world, opened.group, VFIO_GROUP_GET_DEVICE_FD, 8), -EFAULT);
	world_close_all(world, &opened);
}

/* The name is looked at first, and then whether there is an IOMMU. */
static void test_device_needs_iommu(void **state)
{
	struct world *world = *state;
	int container = world_open_container(world), group = world_open_group(world, 0);
	const char *name = world->devices[0].address;

	assert_int_equal(world_get_device(world, group, "nothing"), -ENODEV);
	assert_int_equal(world_get_device(world, group, name), -EINVAL);
	assert_int_equal(world_set_container(world, group, container), 0);
	assert_int_equal(world_get_device(world, group, name), -EINVAL);
	assert_int_equal(world->models[0].opened, 0);
	world_close(world, group);
	world_close(world, container);
}

/* Opened by the first descriptor, closed by the last; UNSET_CONTAINER waits for all. */
static void test_openings(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	int again, other;

	again = (int)world_get_device(world, opened.group, world->devices[0].address);
	other = (int)world_get_device(world, opened.group, world->devices[1].address);
	assert_int_equal(world->models[0].opened, 1);
	assert_int_equal(world->models[1].opened, 1);
	assert_int_equal(world->groups[0].users, 2);
	assert_int_equal(world_ioctl(world, opened.group, VFIO_GROUP_UNSET_CONTAINER, 0), -EBUSY);
	world_close(world, opened.device);
	assert_int_equal(world->models[0].closed, 0);
	world_close(world, again);
	assert_int_equal(world->models[0].closed, 1);
	assert_int_equal(world_ioctl(world, opened.group, VFIO_GROUP_UNSET_CONTAINER, 0), -EBUSY);
	close(other); /* undrained */
	assert_int_equal(world_ioctl(world, opened.group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(world->models[1].closed, 1);
	world_close(world, opened.group);
	world_close(world, opened.container);
}

/* Closed and opened again it is a device that was reset, though nobody drained in between. */
static void test_reopened(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);

	close(opened.device);
	opened.device = (int)world_get_device(world, opened.group, world->devices[0].address);
	assert_int_equal(world->models[0].opened, 2);
	assert_int_equal(world->models[0].closed, 1);
	world_close_all(world, &opened);
}

/* A group whose descriptor is gone stays open for the devices that were opened through it. */
static void test_device_keeps_group(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	int group;

	world_close(world, opened.group);
	assert_int_equal(world_open_group(world, 0), -EBUSY);
	assert_int_equal(world_available(world, opened.container), 65535);
	close(opened.device);
	group = world_open_group(world, 0);
	assert_true(group >= 0);
	assert_int_equal(status_of(world, group), VFIO_GROUP_FLAGS_VIABLE);
	assert_int_equal(world_ioctl(world, opened.container, VFIO_IOMMU_GET_INFO, 0), -EINVAL);
	world_close(world, group);
	world_close(world, opened.container);
}

/* The three descriptors in each order, one by one, and all at once as by a kill. */
static void test_closed_in_any_order(void **state)
{
	static const uint8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
					     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	struct world *world = *state;

	for (unsigned i = 0; i < 12; i++) {
		struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
		int fds[3] = {opened.container, opened.group, opened.device};

		for (unsigned j = 0; j < 3; j++) {
			close(fds[orders[i % 6][j]]);
			if (i < 6)
				uapi_files_drain_slow(&world->run);
		}
		uapi_files_drain_slow(&world->run);
		assert_int_equal(world->devices[0].ownership, UAPI_FREE);
		assert_null(world->groups[0].file);
		assert_null(world->groups[0].container);
		assert_int_equal(world->models[0].closed, i + 1);
	}
}

static void test_failing_device(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	const char *name = world->devices[1].address;
	int device;

	world->models[1].fail_open = -EIO;
	assert_int_equal(world_get_device(world, opened.group, name), -EIO);
	assert_int_equal(world->groups[0].users, 1);
	world->models[1].fail_open = 0;
	world->models[1].fail_attach = -ENOSPC;
	assert_int_equal(world_get_device(world, opened.group, name), -ENOSPC);
	assert_int_equal(world->groups[0].users, 1);
	assert_int_equal(world->devices[1].ownership, UAPI_FREE);
	world->models[1].fail_attach = 0;
	device = (int)world_get_device(world, opened.group, name);
	assert_true(device >= 0);
	world_close(world, device);
	world_close_all(world, &opened);
}

/* ---- An iommufd in compat mode instead of a container ---- */

/* Devices don't keep the group then, nor need an IOMMU to be set; each keeps the iommufd. */
static void test_compat(void **state)
{
	struct world *world = *state;
	int iommufd = world_open_iommufd(world), container = world_open_container(world);
	int group = world_open_group(world, 0), device;

	assert_int_equal(world_set_container(world, group, iommufd), 0);
	assert_int_equal(status_of(world, group),
			 VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
	assert_int_equal(world_set_container(world, group, container), -EINVAL);
	device = (int)world_get_device(world, group, world->devices[0].address);
	assert_true(device >= 0);
	assert_non_null(world->devices[0].ioas);
	assert_int_equal(world_ioctl(world, group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(world_ioctl(world, group, VFIO_GROUP_UNSET_CONTAINER, 0), -EINVAL);
	assert_int_equal(status_of(world, group), 0);
	/* The group's DMA is the iommufd's as long as the device is open. */
	assert_int_equal(world_set_container(world, group, container), -EPERM);
	world_close(world, iommufd);
	world_close(world, group);
	group = world_open_group(world, 0);
	assert_true(group >= 0);
	assert_int_equal(world_set_container(world, group, container), -EPERM);
	world_close(world, device);
	assert_int_equal(world_set_container(world, group, container), 0);
	world_close(world, group);
	world_close(world, container);
}

/* With the group closed, a device that is open through it is nobody else's. */
static void test_compat_and_cdev(void **state)
{
	struct world *world = *state;
	int iommufd = world_open_iommufd(world), group = world_open_group(world, 0), device;
	struct uapi_call call = world_call(world);
	struct uapi_file *file = uapi_file_find(&call, iommufd);

	assert_int_equal(world_set_container(world, group, iommufd), 0);
	device = (int)world_get_device(world, group, world->devices[0].address);
	assert_true(device >= 0);
	assert_int_equal(uapi_device_bind(&world->devices[1], file), -EBUSY);
	world_close(world, group);
	assert_int_equal(uapi_device_bind(&world->devices[0], file), -EINVAL);
	assert_int_equal(uapi_device_bind(&world->devices[1], file), 0);
	assert_int_equal(world_open_group(world, 0), -EBUSY);
	uapi_device_unbind(&world->devices[1]);
	uapi_file_put(file);
	world_close(world, device);
	world_close(world, iommufd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_status, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_opened_once, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_set_container, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_names, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_device_needs_iommu, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_openings, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_reopened, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_device_keeps_group, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_closed_in_any_order, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_failing_device, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_compat, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_compat_and_cdev, world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
