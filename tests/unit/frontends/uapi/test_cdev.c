/* SPDX-License-Identifier: BSD-3-Clause */
/* Devices as files of their own: bound to an iommufd, attached, and let go of. */
#include "iommufd_rig.h"

#include <pthread.h>
#include <sys/eventfd.h>

static char memory[4 * PAGE] __attribute__((aligned(4096)));

static void nothing_before_binding(void **state)
{
	struct world *world = *state;
	int cdev = open_cdev(world, 0);
	struct uapi_call call = world_call(world);
	struct uapi_file *file = uapi_file_find(&call, cdev);
	const struct uapi_access access = {.count = 4};
	const struct uapi_mmap map = {.size = PAGE};
	uint32_t id = 1;

	assert_non_null(file);
	assert_int_equal(world_ioctl(world, cdev, VFIO_DEVICE_RESET, 0), -EINVAL);
	assert_int_equal(world_ioctl(world, cdev, VFIO_DEVICE_GET_INFO, NOWHERE), -EINVAL);
	assert_int_equal(attach_cdev(world, cdev, &id), -EINVAL);
	assert_int_equal(detach_cdev(world, cdev), -EINVAL);
	assert_int_equal(world_ioctl(world, cdev, _IO(';', 1), 0), -EINVAL);
	assert_int_equal(file->ops->access(file, &call, &access), -EINVAL);
	assert_int_equal(file->ops->mmap(file, &call, &map), -EINVAL);
	assert_null(uapi_cdev_device(file));
	uapi_file_put(file);
	world_close(world, cdev);
	assert_int_equal(world->models[0].opened, 0);
}

static void binding(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world), cdev = open_cdev(world, 0), second;
	struct uapi_call call = world_call(world);
	struct uapi_file *file = uapi_file_find(&call, cdev), *iommufd = uapi_file_find(&call, fd);
	uint32_t id, other;

	assert_int_equal(bind_cdev(world, cdev, fd, &id), 0);
	assert_true(id > 0);
	assert_ptr_equal(uapi_cdev_device(file), &world->devices[0]);
	assert_ptr_equal(uapi_file_device(file), &world->devices[0]);
	assert_int_equal(uapi_iommufd_device_id(iommufd, &world->devices[0]), id);
	assert_int_equal(uapi_iommufd_device_id(iommufd, &world->devices[1]), 0);
	assert_int_equal(world->models[0].opened, 1);
	assert_int_equal(world_ioctl(world, cdev, VFIO_DEVICE_GET_INFO, NOWHERE), -EFAULT);
	/* Once, by whichever file. */
	assert_int_equal(bind_cdev(world, cdev, fd, &other), -EINVAL);
	second = open_cdev(world, 0);
	assert_int_equal(bind_cdev(world, second, fd, &other), -EINVAL);
	assert_int_equal(world_ioctl(world, second, VFIO_DEVICE_GET_INFO, NOWHERE), -EINVAL);
	assert_int_equal(world_open_group(world, 0), -EBUSY);
	assert_int_equal(destroy(world, fd, id), -EBUSY);
	uapi_file_put(file);
	world_close(world, cdev);
	assert_int_equal(world->models[0].closed, 1);
	assert_int_equal(uapi_iommufd_device_id(iommufd, &world->devices[0]), 0);
	assert_int_equal(destroy(world, fd, id), -ENOENT);
	assert_int_equal(bind_cdev(world, second, fd, &other), 0);
	assert_int_equal(other, id);
	uapi_file_put(iommufd);
	world_close(world, second);
	world_close(world, fd);
}

static void binding_refused(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world), cdev = open_cdev(world, 0), group, event;
	struct vfio_device_bind_iommufd bind = {.argsz = 15, .iommufd = fd}, *readable;
	uint32_t id;

	assert_int_equal(world_ioctl(world, cdev, VFIO_DEVICE_BIND_IOMMUFD, NOWHERE), -EFAULT);
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL);
	bind.argsz = sizeof(bind);
	bind.flags = 2;
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL);
	bind.flags = VFIO_DEVICE_BIND_FLAG_TOKEN; /* of a device that has none */
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL);
	assert_int_equal(bind_cdev(world, cdev, -1, &id), -EINVAL);
	assert_int_equal(bind_cdev(world, cdev, 1000000, &id), -EBADF);
	event = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(bind_cdev(world, cdev, event, &id), -EBADFD);
	assert_int_equal(bind_cdev(world, cdev, cdev, &id), -EBADFD);
	/* Its group is open: before what is said of the iommufd. */
	group = world_open_group(world, 0);
	assert_int_equal(bind_cdev(world, cdev, 1000000, &id), -EBUSY);
	assert_int_equal(bind_cdev(world, cdev, fd, &id), -EBUSY);
	close(group); /* and binding learns of it */
	world->models[0].fail_open = -EIO;
	assert_int_equal(bind_cdev(world, cdev, fd, &id), -EIO);
	world->models[0].fail_open = 0;
	/* What can't be told is undone. */
	readable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(readable != MAP_FAILED);
	*readable = (struct vfio_device_bind_iommufd){.argsz = 16, .iommufd = fd};
	assert_int_equal(mprotect(readable, PAGE, PROT_READ), 0);
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_BIND_IOMMUFD, readable), -EFAULT);
	assert_int_equal(world->models[0].opened, world->models[0].closed);
	assert_int_equal(bind_cdev(world, cdev, fd, &id), 0);
	assert_int_equal(id, 1);
	munmap(readable, PAGE);
	close(event);
	world_close(world, cdev);
	world_close(world, fd);
}

static void a_group_belongs_to_one_iommufd(void **state)
{
	struct world *world = *state;
	int fds[2] = {world_open_iommufd(world), world_open_iommufd(world)};
	int cdevs[2] = {open_cdev(world, 0), open_cdev(world, 1)};
	uint32_t id;

	assert_int_equal(bind_cdev(world, cdevs[0], fds[0], &id), 0);
	assert_int_equal(bind_cdev(world, cdevs[1], fds[1], &id), -EPERM);
	assert_int_equal(bind_cdev(world, cdevs[1], fds[0], &id), 0);
	for (size_t i = 0; i < 2; i++) {
		world_close(world, cdevs[i]);
		world_close(world, fds[i]);
	}
}

/* ---- Attaching ---- */

static void attaching(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world), cdev = open_cdev(world, 2);
	uint32_t device, ioas, table;
	char buf[8];

	assert_int_equal(bind_cdev(world, cdev, fd, &device), 0);
	ioas = ioas_alloc(world, fd);
	assert_int_equal(ioas_map_fixed(world, fd, ioas, memory, PAGE, 0x10000), 0);
	assert_int_not_equal(dma_read(world, 2, 0x10000, buf, 4), 0);
	table = ioas;
	assert_int_equal(attach_cdev(world, cdev, &table), 0);
	assert_int_not_equal(table, ioas);
	assert_int_equal(dma_read(world, 2, 0x10000, buf, 4), 0);
	assert_int_equal(destroy(world, fd, ioas), -EBUSY);
	assert_int_equal(destroy(world, fd, table), -EBUSY);
	assert_int_equal(destroy(world, fd, device), -EBUSY);
	/* Again to the same: nothing changes. */
	device = ioas;
	assert_int_equal(attach_cdev(world, cdev, &device), 0);
	assert_int_equal(device, table);
	assert_int_equal(detach_cdev(world, cdev), 0);
	assert_int_not_equal(dma_read(world, 2, 0x10000, buf, 4), 0);
	assert_int_equal(detach_cdev(world, cdev), 0);
	/* The page table has gone with its last device. */
	assert_int_equal(destroy(world, fd, table), -ENOENT);
	assert_int_equal(destroy(world, fd, ioas), 0);
	world_close(world, cdev);
	world_close(world, fd);
}

static void attaching_refused(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world), cdev = open_cdev(world, 2);
	struct {
		uint32_t argsz, flags, pt_id, pasid;
	} attach = {11, 0, 0, 0}, *readable;
	uint32_t device, ioas, id = 99;

	assert_int_equal(bind_cdev(world, cdev, fd, &device), 0);
	ioas = ioas_alloc(world, fd);
	assert_int_equal(world_ioctl(world, cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, NOWHERE), -EFAULT);
	assert_int_equal(world_ioctl(world, cdev, VFIO_DEVICE_DETACH_IOMMUFD_PT, NOWHERE), -EFAULT);
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
			 -EINVAL);
	attach.argsz = 7;
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &attach),
			 -EINVAL);
	attach.argsz = 16;
	attach.flags = 2;
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
			 -EINVAL);
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &attach),
			 -EINVAL);
	assert_int_equal(attach_cdev(world, cdev, &id), -ENOENT);
	assert_int_equal(attach_cdev(world, cdev, &device), -EINVAL);
	/* There are no PASIDs. */
	attach.flags = VFIO_DEVICE_ATTACH_PASID;
	attach.pt_id = ioas;
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
			 -EINVAL);
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &attach), 0);
	attach.pt_id = 99;
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
			 -ENOENT);
	attach.argsz = 12;
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
			 -EINVAL);
	attach.argsz = 8;
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &attach),
			 -EINVAL);
	world->models[2].fail_attach = -ENODEV;
	id = ioas;
	assert_int_equal(attach_cdev(world, cdev, &id), -ENODEV);
	world->models[2].fail_attach = 0;
	assert_int_equal(destroy(world, fd, ioas), 0);
	/* What can't be told is undone. */
	ioas = ioas_alloc(world, fd);
	readable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(readable != MAP_FAILED);
	readable->argsz = 12;
	readable->pt_id = ioas;
	assert_int_equal(mprotect(readable, PAGE, PROT_READ), 0);
	assert_int_equal(world_ioctl_of(world, cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, readable),
			 -EFAULT);
	assert_int_equal(destroy(world, fd, ioas), 0);
	munmap(readable, PAGE);
	world_close(world, cdev);
	world_close(world, fd);
}

static void replacing(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world), cdev = open_cdev(world, 2);
	uint32_t device, one, two, table, other;
	char buf[4];

	assert_int_equal(bind_cdev(world, cdev, fd, &device), 0);
	one = ioas_alloc(world, fd);
	two = ioas_alloc(world, fd);
	strcpy(memory, "one");
	strcpy(memory + PAGE, "two");
	assert_int_equal(ioas_map_fixed(world, fd, one, memory, PAGE, 0x10000), 0);
	assert_int_equal(ioas_map_fixed(world, fd, two, memory + PAGE, PAGE, 0x10000), 0);
	table = one;
	assert_int_equal(attach_cdev(world, cdev, &table), 0);
	other = two;
	assert_int_equal(attach_cdev(world, cdev, &other), 0);
	assert_int_equal(dma_read(world, 2, 0x10000, buf, 4), 0);
	assert_string_equal(buf, "two");
	assert_int_equal(destroy(world, fd, table), -ENOENT);
	/* One that fails leaves all as it was. */
	world->models[2].fail_attach = -EIO;
	table = one;
	assert_int_equal(attach_cdev(world, cdev, &table), -EIO);
	world->models[2].fail_attach = 0;
	table = 99;
	assert_int_equal(attach_cdev(world, cdev, &table), -ENOENT);
	assert_int_equal(dma_read(world, 2, 0x10000, buf, 4), 0);
	assert_string_equal(buf, "two");
	assert_int_equal(destroy(world, fd, one), 0);
	world_close(world, cdev);
	assert_int_equal(destroy(world, fd, two), 0);
	world_close(world, fd);
}

/* The devices of a group are attached to the same, and go over together. */
static void a_group_is_attached_as_one(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world), cdevs[2] = {open_cdev(world, 0), open_cdev(world, 1)};
	uint32_t device, one, two, table, hwpt;
	char buf[4];

	assert_int_equal(bind_cdev(world, cdevs[0], fd, &device), 0);
	assert_int_equal(bind_cdev(world, cdevs[1], fd, &device), 0);
	one = ioas_alloc(world, fd);
	two = ioas_alloc(world, fd);
	assert_int_equal(ioas_map_fixed(world, fd, two, memory, PAGE, 0x10000), 0);
	table = one;
	assert_int_equal(attach_cdev(world, cdevs[0], &table), 0);
	hwpt = two;
	assert_int_equal(attach_cdev(world, cdevs[1], &hwpt), -EINVAL);
	hwpt = one;
	assert_int_equal(attach_cdev(world, cdevs[1], &hwpt), 0);
	assert_int_equal(hwpt, table);
	/* The second fails: the first is back where it was. */
	world->models[0].fail_attach = -EIO;
	hwpt = two;
	assert_int_equal(attach_cdev(world, cdevs[1], &hwpt), -EIO);
	world->models[0].fail_attach = 0;
	assert_int_not_equal(dma_read(world, 0, 0x10000, buf, 4), 0);
	assert_int_not_equal(dma_read(world, 1, 0x10000, buf, 4), 0);
	hwpt = two;
	assert_int_equal(attach_cdev(world, cdevs[1], &hwpt), 0);
	assert_int_equal(dma_read(world, 0, 0x10000, buf, 4), 0);
	assert_int_equal(dma_read(world, 1, 0x10000, buf, 4), 0);
	assert_int_equal(destroy(world, fd, one), 0);
	world_close(world, cdevs[0]);
	assert_int_equal(destroy(world, fd, hwpt), -EBUSY);
	world_close(world, cdevs[1]);
	assert_int_equal(destroy(world, fd, two), 0);
	world_close(world, fd);
}

/* The iommufd and what is mapped stay while a device is bound. */
static void the_iommufd_is_closed_first(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world), cdev = open_cdev(world, 2);
	uint32_t device, ioas, table;
	char buf[4];

	assert_int_equal(bind_cdev(world, cdev, fd, &device), 0);
	ioas = table = ioas_alloc(world, fd);
	assert_int_equal(ioas_map_fixed(world, fd, ioas, memory, PAGE, 0x10000), 0);
	assert_int_equal(attach_cdev(world, cdev, &table), 0);
	world_close(world, fd);
	assert_int_equal(dma_read(world, 2, 0x10000, buf, 4), 0);
	assert_int_equal(detach_cdev(world, cdev), 0);
	table = ioas;
	assert_int_equal(attach_cdev(world, cdev, &table), 0);
	assert_int_equal(dma_read(world, 2, 0x10000, buf, 4), 0);
	world_close(world, cdev);
}

/* A device that takes its time doesn't hold up another's attachment. */
struct slow {
	struct world *world;
	int fd, cdev;
	long result;
};

static void *bind_slowly(void *opaque)
{
	struct slow *slow = opaque;
	uint32_t id;

	slow->result = bind_cdev(slow->world, slow->cdev, slow->fd, &id);
	return NULL;
}

static void a_slow_device(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world), cdev = open_cdev(world, 2);
	struct slow slow = {world, fd, open_cdev(world, 0), -1};
	uint32_t device, table = ioas_alloc(world, fd);
	pthread_t thread;

	world->models[0].hold_open = true;
	assert_int_equal(pthread_create(&thread, NULL, bind_slowly, &slow), 0);
	while (!world->models[0].waiting_open)
		usleep(100);
	assert_int_equal(bind_cdev(world, cdev, fd, &device), 0);
	assert_int_equal(attach_cdev(world, cdev, &table), 0);
	world->models[0].hold_open = false;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(slow.result, 0);
	world_close(world, slow.cdev);
	world_close(world, cdev);
	world_close(world, fd);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_before_binding),
		TEST(binding),
		TEST(binding_refused),
		TEST(a_group_belongs_to_one_iommufd),
		TEST(attaching),
		TEST(attaching_refused),
		TEST(replacing),
		TEST(a_group_is_attached_as_one),
		TEST(the_iommufd_is_closed_first),
		TEST(a_slow_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
