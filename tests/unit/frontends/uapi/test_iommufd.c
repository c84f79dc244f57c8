/* SPDX-License-Identifier: BSD-3-Clause */
/* How an iommufd takes its commands in, its ids, and the compatibility mode. */
#include "iommufd_rig.h"

#include <linux/capability.h>
#include <sys/syscall.h>

#include "frontends/uapi/iommufd.h"

#define COMMANDS 21

/* What Linux has always had of each struct, and what we know. */
static const struct {
	unsigned number;
	uint32_t minimum, size;
} commands[COMMANDS] = {
	{IOMMU_DESTROY, 8, 8},
	{IOMMU_IOAS_ALLOC, 12, 12},
	{IOMMU_IOAS_ALLOW_IOVAS, 24, 24},
	{IOMMU_IOAS_COPY, 40, 40},
	{IOMMU_IOAS_IOVA_RANGES, 32, 32},
	{IOMMU_IOAS_MAP, 40, 40},
	{IOMMU_IOAS_UNMAP, 24, 24},
	{IOMMU_OPTION, 24, 24},
	{IOMMU_VFIO_IOAS, 12, 12},
	{IOMMU_HWPT_ALLOC, 24, 48},
	{IOMMU_GET_HW_INFO, 32, 40},
	{IOMMU_HWPT_SET_DIRTY_TRACKING, 16, 16},
	{IOMMU_HWPT_GET_DIRTY_BITMAP, 48, 48},
	{IOMMU_HWPT_INVALIDATE, 32, 32},
	{IOMMU_FAULT_QUEUE_ALLOC, 16, 16},
	{IOMMU_IOAS_MAP_FILE, 40, 40},
	{IOMMU_VIOMMU_ALLOC, 24, 40},
	{IOMMU_VDEVICE_ALLOC, 24, 24},
	{IOMMU_IOAS_CHANGE_PROCESS, 8, 8},
	{IOMMU_VEVENTQ_ALLOC, 28, 32},
	{IOMMU_HW_QUEUE_ALLOC, 40, 40},
};

/* What each command says of a struct of zeros, but for its size. */
static long of_zeros(struct world *world, int fd, unsigned number, uint32_t size)
{
	uint64_t bytes[1024] = {size};

	return world_ioctl_of(world, fd, number, bytes);
}

static void sizes_are_checked(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world);
	uint8_t *pages =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(pages != MAP_FAILED);
	assert_int_equal(munmap(pages + PAGE, PAGE), 0);
	for (size_t i = 0; i < COMMANDS; i++) {
		unsigned number = commands[i].number;
		uint32_t size = commands[i].size, minimum = commands[i].minimum;
		uint8_t *end = pages + PAGE - size;
		uint64_t longer[64] = {0};
		long right;

		assert_int_equal(world_ioctl(world, fd, number, NOWHERE), -EFAULT);
		assert_int_equal(of_zeros(world, fd, number, 0), -EINVAL);
		assert_int_equal(of_zeros(world, fd, number, minimum - 1), -EINVAL);
		right = of_zeros(world, fd, number, size);
		assert_int_not_equal(right, -EFAULT);
		assert_int_not_equal(right, -E2BIG);
		assert_int_not_equal(right, -ENOTTY);
		/* Longer, and 0 in what we don't know. */
		assert_int_equal(of_zeros(world, fd, number, 8000), right);
		assert_int_equal(of_zeros(world, fd, number, minimum), right);
		longer[0] = sizeof(longer);
		((uint8_t *)longer)[size] = 1;
		assert_int_equal(world_ioctl_of(world, fd, number, longer), -E2BIG);
		longer[0] = size;
		assert_int_equal(world_ioctl_of(world, fd, number, longer), right);
		/* Up to the end of memory; and beyond it. */
		memset(end, 0, size);
		memcpy(end, &size, sizeof(size));
		assert_int_equal(world_ioctl_of(world, fd, number, end), right);
		size++;
		memcpy(end, &size, sizeof(size));
		assert_int_equal(world_ioctl_of(world, fd, number, end), -EFAULT);
		size -= 2;
		if (size >= minimum)
			assert_int_equal(world_ioctl_of(world, fd, number, end), -EFAULT);
	}
	munmap(pages, PAGE);
	world_close(world, fd);
}

static void unknown_commands(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world);
	uint64_t zeros[8] = {64};

	assert_int_equal(world_ioctl_of(world, fd, _IO(';', 0x95), zeros), -ENOTTY);
	assert_int_equal(world_ioctl_of(world, fd, _IO(';', 0x7f), zeros), -ENOTTY);
	assert_int_equal(world_ioctl_of(world, fd, _IO(';', 0xff), zeros), -ENOTTY);
	assert_int_equal(world_ioctl_of(world, fd, _IO(';', 0), zeros), -ENOTTY);
	/* The right number of another type or direction: the size is read first. */
	assert_int_equal(world_ioctl_of(world, fd, _IO('a', 0x81), zeros), -ENOTTY);
	assert_int_equal(world_ioctl_of(world, fd, _IOWR(';', 0x81, int), zeros), -ENOTTY);
	assert_int_equal(world_ioctl(world, fd, _IO('a', 0x81), NOWHERE), -EFAULT);
	world_close(world, fd);
}

static void ids_are_the_lowest_free(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world), other = world_open_iommufd(world);

	for (uint32_t i = 1; i <= 40; i++)
		assert_int_equal(ioas_alloc(world, fd), i);
	assert_int_equal(ioas_alloc(world, other), 1);
	assert_int_equal(destroy(world, fd, 17), 0);
	assert_int_equal(destroy(world, fd, 3), 0);
	assert_int_equal(destroy(world, fd, 3), -ENOENT);
	assert_int_equal(destroy(world, fd, 0), -ENOENT);
	assert_int_equal(destroy(world, fd, 41), -ENOENT);
	assert_int_equal(destroy(world, fd, UINT32_MAX), -ENOENT);
	assert_int_equal(ioas_alloc(world, fd), 3);
	assert_int_equal(ioas_alloc(world, fd), 17);
	assert_int_equal(ioas_alloc(world, fd), 41);
	world_close(world, fd);
	world_close(world, other);
}

static void objects_have_a_limit(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world);
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};

	for (uint32_t i = 1; i <= UAPI_OBJECTS_MAX; i++)
		assert_int_equal(ioas_alloc(world, fd), i);
	assert_int_equal(world_ioctl_of(world, fd, IOMMU_IOAS_ALLOC, &alloc), -ENOMEM);
	assert_int_equal(destroy(world, fd, 5), 0);
	assert_int_equal(ioas_alloc(world, fd), 5);
	world_close(world, fd);
}

/* An id that can't be told is free again. */
static void an_id_is_rolled_back(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world);
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc), .flags = 1}, *readable;

	assert_int_equal(world_ioctl_of(world, fd, IOMMU_IOAS_ALLOC, &alloc), -EOPNOTSUPP);
	readable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(readable != MAP_FAILED);
	readable->size = sizeof(alloc);
	assert_int_equal(mprotect(readable, PAGE, PROT_READ), 0);
	assert_int_equal(world_ioctl_of(world, fd, IOMMU_IOAS_ALLOC, readable), -EFAULT);
	assert_int_equal(destroy(world, fd, 1), -ENOENT);
	assert_int_equal(ioas_alloc(world, fd), 1);
	munmap(readable, PAGE);
	world_close(world, fd);
}

/* ---- Options ---- */

static long option(struct world *world, int fd, uint32_t which, uint16_t op, uint32_t id,
		   uint64_t *value)
{
	struct iommu_option option = {
		.size = sizeof(option),
		.option_id = which,
		.op = op,
		.object_id = id,
		.val64 = *value,
	};
	long ret = world_ioctl_of(world, fd, IOMMU_OPTION, &option);

	*value = option.val64;
	return ret;
}

static bool has_sys_resource(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	assert_int_equal(syscall(SYS_capget, &header, data), 0);
	return data[0].effective >> CAP_SYS_RESOURCE & 1;
}

static void rlimit_mode(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world);
	struct iommu_option reserved = {.size = sizeof(reserved), .__reserved = 1};
	uint64_t value = 9, one = 1, two = 2;
	long may = has_sys_resource() ? 0 : -EPERM;

	assert_int_equal(world_ioctl_of(world, fd, IOMMU_OPTION, &reserved), -EOPNOTSUPP);
	assert_int_equal(option(world, fd, 2, IOMMU_OPTION_OP_GET, 0, &value), -EOPNOTSUPP);
	assert_int_equal(
		option(world, fd, IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_GET, 1, &value),
		-EOPNOTSUPP);
	assert_int_equal(option(world, fd, IOMMU_OPTION_RLIMIT_MODE, 2, 0, &value), -EOPNOTSUPP);
	assert_int_equal(
		option(world, fd, IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_GET, 0, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(option(world, fd, IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, 0, &one),
			 may);
	assert_int_equal(option(world, fd, IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, 0, &two),
			 may ? may : -EINVAL);
	assert_int_equal(
		option(world, fd, IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_GET, 0, &value), 0);
	assert_int_equal(value, may ? 0 : 1);
	ioas_alloc(world, fd);
	assert_int_equal(option(world, fd, IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, 0, &one),
			 may ? may : -EBUSY);
	world_close(world, fd);
}

static void huge_pages(void **state)
{
	static char memory[PAGE] __attribute__((aligned(4096)));
	struct world *world = *state;
	int fd = world_open_iommufd(world), cdev = open_cdev(world, 2);
	uint32_t id = ioas_alloc(world, fd), device, table = id;
	uint64_t value = 9, zero = 0, one = 1, two = 2;

	assert_int_equal(option(world, fd, IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_GET, 7, &value),
			 -ENOENT);
	assert_int_equal(option(world, fd, IOMMU_OPTION_HUGE_PAGES, 2, id, &value), -EOPNOTSUPP);
	assert_int_equal(
		option(world, fd, IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_GET, id, &value), 0);
	assert_int_equal(value, 1);
	assert_int_equal(option(world, fd, IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, id, &two),
			 -EINVAL);
	assert_int_equal(option(world, fd, IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, id, &zero),
			 0);
	assert_int_equal(
		option(world, fd, IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_GET, id, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(option(world, fd, IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, id, &one),
			 0);
	/* Not any more when pages have been combined. */
	assert_int_equal(bind_cdev(world, cdev, fd, &device), 0);
	assert_int_equal(attach_cdev(world, cdev, &table), 0);
	assert_int_equal(ioas_map_fixed(world, fd, id, memory, PAGE, 0x10000), 0);
	assert_int_equal(option(world, fd, IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, id, &zero),
			 -EINVAL);
	world_close(world, cdev);
	world_close(world, fd);
}

/* ---- The compatibility mode ---- */

static long vfio_ioas(struct world *world, int fd, uint16_t op, uint32_t *id)
{
	struct iommu_vfio_ioas arguments = {sizeof(arguments), *id, op, 0};
	long ret = world_ioctl_of(world, fd, IOMMU_VFIO_IOAS, &arguments);

	*id = arguments.ioas_id;
	return ret;
}

static void the_compat_address_space(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world);
	struct iommu_vfio_ioas reserved = {sizeof(reserved), 0, IOMMU_VFIO_IOAS_GET, 1};
	uint32_t id = 0, one, two;

	assert_int_equal(world_ioctl_of(world, fd, IOMMU_VFIO_IOAS, &reserved), -EOPNOTSUPP);
	assert_int_equal(vfio_ioas(world, fd, 3, &id), -EOPNOTSUPP);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_GET, &id), -ENODEV);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_CLEAR, &id), 0);
	id = 5;
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_SET, &id), -ENOENT);
	one = ioas_alloc(world, fd);
	two = ioas_alloc(world, fd);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_SET, &one), 0);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_SET, &two), 0);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_GET, &id), 0);
	assert_int_equal(id, two);
	assert_int_equal(destroy(world, fd, two), 0);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_GET, &id), -ENODEV);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_SET, &one), 0);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_CLEAR, &id), 0);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_GET, &id), -ENODEV);
	world_close(world, fd);
}

static void type1_on_an_iommufd(void **state)
{
	static char memory[2 * PAGE] __attribute__((aligned(4096)));
	const uint32_t rw = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	struct world *world = *state;
	int fd = world_open_iommufd(world), group = world_open_group(world, 1), device;
	uint64_t size = PAGE;
	uint32_t id = 0;
	char buf[4];

	assert_int_equal(world_ioctl(world, fd, VFIO_GET_API_VERSION, 0), VFIO_API_VERSION);
	assert_int_equal(world_ioctl(world, fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU), 1);
	assert_int_equal(world_ioctl(world, fd, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR), 0);
	assert_int_equal(world_ioctl(world, fd, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU), -ENODEV);
	assert_int_equal(world_ioctl(world, fd, VFIO_SET_IOMMU, 99), -EINVAL);
	assert_int_equal(world_ioctl(world, fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), -ENODEV);
	assert_int_equal(world_map(world, fd, rw, 0, PAGE, memory), -ENODEV);

	/* A group makes the address space. */
	assert_int_equal(world_set_container(world, group, fd), 0);
	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_GET, &id), 0);
	assert_int_equal(world_ioctl(world, fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	assert_int_equal(world_ioctl(world, fd, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU), 1);
	device = (int)world_get_device(world, group, world->devices[2].address);
	assert_true(device >= 0);
	assert_int_equal(world_map(world, fd, rw, 0x20000, PAGE, memory), 0);
	assert_int_equal(dma_write(world, 2, 0x20000, "dma", 4), 0);
	assert_string_equal(memory, "dma");
	assert_int_equal(ioas_map_fixed(world, fd, id, memory + PAGE, PAGE, 0x20000), -EEXIST);
	assert_int_equal(ioas_map_fixed(world, fd, id, memory + PAGE, PAGE, 0x30000), 0);
	/* Its devices translate through it. */
	assert_int_equal(destroy(world, fd, id), -EBUSY);
	/* Large pages can't be undone now. */
	assert_int_equal(world_ioctl(world, fd, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), -EINVAL);
	assert_int_equal(world_unmap(world, fd, 0, 0x20000, &size), 0);
	assert_int_equal(dma_read(world, 2, 0x20000, buf, 4), -EFAULT);
	assert_int_equal(dma_read(world, 2, 0x30000, buf, 4), 0);
	/* The device keeps the iommufd. */
	world_close(world, fd);
	world_close(world, group);
	assert_int_equal(dma_read(world, 2, 0x30000, buf, 4), 0);
	world_close(world, device);
}

static void type1_without_large_pages(void **state)
{
	struct world *world = *state;
	int fd = world_open_iommufd(world);
	uint32_t id = ioas_alloc(world, fd);
	uint64_t value = 1;

	assert_int_equal(vfio_ioas(world, fd, IOMMU_VFIO_IOAS_SET, &id), 0);
	assert_int_equal(world_ioctl(world, fd, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), 0);
	assert_int_equal(
		option(world, fd, IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_GET, id, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(world_ioctl(world, fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	world_close(world, fd);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sizes_are_checked),
		TEST(unknown_commands),
		TEST(ids_are_the_lowest_free),
		TEST(objects_have_a_limit),
		TEST(an_id_is_rolled_back),
		TEST(rlimit_mode),
		TEST(huge_pages),
		TEST(the_compat_address_space),
		TEST(type1_on_an_iommufd),
		TEST(type1_without_large_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
