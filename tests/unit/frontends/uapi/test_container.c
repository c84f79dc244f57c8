/* SPDX-License-Identifier: BSD-3-Clause */
/* Containers: what they answer with and without an IOMMU, and when they get and lose it. */
#include "helpers.h"

#define RESERVED_NESTING 6

static void test_version(void **state)
{
	struct world *world = *state;
	int container = world_open_container(world);

	assert_int_equal(world_ioctl(world, container, VFIO_GET_API_VERSION, 0), VFIO_API_VERSION);
	assert_int_equal(world_ioctl(world, container, VFIO_GET_API_VERSION, 12345), 0);
	world_close(world, container);
}

static const struct {
	uint64_t extension;
	long without, with; /* an IOMMU */
} extensions[] = {
	{VFIO_TYPE1_IOMMU, 1, 1},
	{VFIO_TYPE1v2_IOMMU, 1, 1},
	{VFIO_UNMAP_ALL, 1, 1},
	{VFIO_UPDATE_VADDR, 0, 1},
	{VFIO_DMA_CC_IOMMU, 0, 1},
	{VFIO_SPAPR_TCE_IOMMU, 0, 0},
	{VFIO_SPAPR_TCE_v2_IOMMU, 0, 0},
	{VFIO_EEH, 0, 0},
	{RESERVED_NESTING, 0, 0},
	{VFIO_NOIOMMU_IOMMU, 0, 0},
	{0, 0, 0},
	{1ULL << 32 | VFIO_TYPE1_IOMMU, 0, 0},
	{UINT64_MAX, 0, 0},
};

static void test_extensions(void **state)
{
	struct world *world = *state;
	int container = world_open_container(world);
	struct opened opened;

	for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++)
		assert_int_equal(world_ioctl(world, container, VFIO_CHECK_EXTENSION,
					     extensions[i].extension),
				 extensions[i].without);
	world_close(world, container);
	opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++)
		assert_int_equal(world_ioctl(world, opened.container, VFIO_CHECK_EXTENSION,
					     extensions[i].extension),
				 extensions[i].with);
	world_close_all(world, &opened);
}

/* The kernel looks for a group first, then for a driver, then asks it. */
static void test_set_iommu(void **state)
{
	struct world *world = *state;
	int container = world_open_container(world), group = world_open_group(world, 0);

	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU),
			 -EINVAL);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, 99), -EINVAL);
	assert_int_equal(world_set_container(world, group, container), 0);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, 99), -ENODEV);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_SPAPR_TCE_IOMMU),
			 -ENODEV);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU),
			 -ENODEV);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, RESERVED_NESTING), -ENODEV);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_DMA_CC_IOMMU), -ENODEV);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_UNMAP_ALL), -EINVAL);
	assert_int_equal(
		world_ioctl(world, container, VFIO_SET_IOMMU, 1ULL << 32 | VFIO_TYPE1_IOMMU),
		-ENODEV);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), 0);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), -EINVAL);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, 99), -EINVAL);
	world_close(world, group);
	world_close(world, container);
}

static void test_without_iommu(void **state)
{
	struct world *world = *state;
	int container = world_open_container(world);
	struct opened opened;

	assert_int_equal(world_ioctl(world, container, VFIO_IOMMU_GET_INFO, 0), -EINVAL);
	assert_int_equal(world_ioctl(world, container, VFIO_IOMMU_MAP_DMA, 0), -EINVAL);
	assert_int_equal(world_ioctl(world, container, VFIO_IOMMU_DIRTY_PAGES, 0), -EINVAL);
	assert_int_equal(world_ioctl(world, container, _IO(VFIO_TYPE, VFIO_BASE + 77), 0), -EINVAL);
	world_close(world, container);
	opened = world_open_all(world, VFIO_TYPE1_IOMMU);
	assert_int_equal(world_ioctl(world, opened.container, _IO(VFIO_TYPE, VFIO_BASE + 77), 0),
			 -ENOTTY);
	assert_int_equal(world_ioctl(world, opened.container, VFIO_GROUP_GET_STATUS, 0), -ENOTTY);
	world_close_all(world, &opened);
}

/* Two groups share what is mapped; the last that leaves takes it away, and a new IOMMU is empty. */
static void test_groups_share(void **state)
{
	struct world *world = *state;
	int container = world_open_container(world);
	int first = world_open_group(world, 0), second = world_open_group(world, 1);
	void *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int device;

	assert_int_equal(world_set_container(world, first, container), 0);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	assert_int_equal(world_set_container(world, second, container), 0);
	assert_int_equal(world_map(world, container, VFIO_DMA_MAP_FLAG_READ, 0, PAGE, memory), 0);
	device = (int)world_get_device(world, second, world->devices[2].address);
	assert_true(device >= 0);
	assert_ptr_equal(world->devices[2].ioas, uapi_container_ioas(world->groups[0].container));
	uapi_ioas_put(world->devices[2].ioas);

	assert_int_equal(world_ioctl(world, first, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(world_available(world, container), 65534);
	world_close(world, device);
	assert_int_equal(world_available(world, container), 65534);
	assert_int_equal(world_ioctl(world, second, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(world_ioctl(world, container, VFIO_IOMMU_GET_INFO, 0), -EINVAL);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU),
			 -EINVAL);

	assert_int_equal(world_set_container(world, second, container), 0);
	assert_int_equal(world_ioctl(world, container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), 0);
	assert_int_equal(world_available(world, container), 65535);
	world_close(world, first);
	world_close(world, second);
	world_close(world, container);
	munmap(memory, PAGE);
}

/* While mappings have no address nobody new can be let in. */
static void test_join_without_vaddr(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	int second = world_open_group(world, 1);
	void *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t size = PAGE;

	assert_int_equal(
		world_map(world, opened.container, VFIO_DMA_MAP_FLAG_READ, 0, PAGE, memory), 0);
	assert_int_equal(world_unmap(world, opened.container, VFIO_DMA_UNMAP_FLAG_VADDR, 0, &size),
			 0);
	assert_int_equal(world_set_container(world, second, opened.container), -EBUSY);
	assert_int_equal(world->groups[1].claims, 0);
	assert_int_equal(
		world_map(world, opened.container, VFIO_DMA_MAP_FLAG_VADDR, 0, PAGE, memory), 0);
	assert_int_equal(world_set_container(world, second, opened.container), 0);
	world_close(world, second);
	world_close_all(world, &opened);
	munmap(memory, PAGE);
}

/* A container without descriptors lives in its group, and gives it back at the end. */
static void test_outlives_descriptor(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);

	world_close(world, opened.container);
	assert_non_null(world->groups[0].container);
	assert_int_equal(world_ioctl(world, opened.group, VFIO_GROUP_UNSET_CONTAINER, 0), -EBUSY);
	world_close(world, opened.device);
	assert_int_equal(world_ioctl(world, opened.group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_null(world->groups[0].container);
	world_close(world, opened.group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_version, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_extensions, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_set_iommu, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_without_iommu, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_groups_share, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_join_without_vaddr, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_outlives_descriptor, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
