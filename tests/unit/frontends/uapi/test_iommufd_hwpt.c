/* SPDX-License-Identifier: BSD-3-Clause */
/* iommufd's page tables, dirty tracking, what the hardware is, and what it hasn't. */
#include "iommufd_rig.h"

static char memory[64 * PAGE] __attribute__((aligned(4096)));

struct setup {
	struct world *world;
	int fd, cdev;
	uint32_t ioas, device;
};

static struct setup set_up(void **state)
{
	struct setup s = {.world = *state};

	s.fd = world_open_iommufd(s.world);
	s.cdev = open_cdev(s.world, 2);
	s.ioas = ioas_alloc(s.world, s.fd);
	assert_int_equal(bind_cdev(s.world, s.cdev, s.fd, &s.device), 0);
	return s;
}

static void tear_down(const struct setup *s)
{
	world_close(s->world, s->cdev);
	world_close(s->world, s->fd);
}

static void a_page_table(void **state)
{
	struct setup s = set_up(state);
	uint32_t one, two, id;

	assert_int_equal(hwpt_alloc(s.world, s.fd, 0, s.device, s.ioas, &one), 0);
	assert_int_equal(hwpt_alloc(s.world, s.fd, 0, s.device, s.ioas, &two), 0);
	assert_int_not_equal(one, two);
	assert_int_equal(destroy(s.world, s.fd, s.ioas), -EBUSY);
	id = one;
	assert_int_equal(attach_cdev(s.world, s.cdev, &id), 0);
	assert_int_equal(id, one);
	assert_int_equal(destroy(s.world, s.fd, one), -EBUSY);
	id = two;
	assert_int_equal(attach_cdev(s.world, s.cdev, &id), 0);
	assert_int_equal(destroy(s.world, s.fd, one), 0);
	/* One that was made by hand stays when no device needs it. */
	assert_int_equal(detach_cdev(s.world, s.cdev), 0);
	assert_int_equal(destroy(s.world, s.fd, two), 0);
	assert_int_equal(destroy(s.world, s.fd, s.ioas), 0);
	tear_down(&s);
}

/* Attaching to the address space never uses one that was made by hand. */
static void automatic_page_tables(void **state)
{
	struct setup s = set_up(state);
	int other = open_cdev(s.world, 0);
	uint32_t hwpt, first = s.ioas, second = s.ioas, device;

	assert_int_equal(hwpt_alloc(s.world, s.fd, 0, s.device, s.ioas, &hwpt), 0);
	assert_int_equal(bind_cdev(s.world, other, s.fd, &device), 0);
	assert_int_equal(attach_cdev(s.world, s.cdev, &first), 0);
	assert_int_not_equal(first, hwpt);
	assert_int_equal(attach_cdev(s.world, other, &second), 0);
	assert_int_equal(first, second);
	assert_int_equal(detach_cdev(s.world, s.cdev), 0);
	assert_int_equal(destroy(s.world, s.fd, first), -EBUSY);
	world_close(s.world, other);
	assert_int_equal(destroy(s.world, s.fd, first), -ENOENT);
	tear_down(&s);
}

static void page_tables_refused(void **state)
{
	struct setup s = set_up(state);
	const uint32_t flags[] = {IOMMU_HWPT_ALLOC_NEST_PARENT, IOMMU_HWPT_ALLOC_PASID, 1 << 4,
				  1U << 31};
	struct iommu_hwpt_alloc alloc =
					{
						.size = sizeof(alloc),
						.dev_id = 99,
						.pt_id = 99,
						.__reserved = 1,
						.data_len = 1,
					},
				*readable;
	uint32_t id, hwpt;

	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_ALLOC, &alloc), -EOPNOTSUPP);
	alloc.__reserved = 0;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_ALLOC, &alloc), -EINVAL);
	alloc.data_len = 0;
	alloc.data_type = IOMMU_HWPT_DATA_VTD_S1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_ALLOC, &alloc), -EINVAL);
	alloc.data_type = IOMMU_HWPT_DATA_NONE;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_ALLOC, &alloc), -ENOENT);
	assert_int_equal(hwpt_alloc(s.world, s.fd, 1U << 31, s.ioas, s.ioas, &id), -ENOENT);
	assert_int_equal(hwpt_alloc(s.world, s.fd, 1U << 31, s.device, 99, &id), -EINVAL);
	assert_int_equal(hwpt_alloc(s.world, s.fd, 1U << 31, s.device, s.device, &id), -EINVAL);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		assert_int_equal(hwpt_alloc(s.world, s.fd, flags[i], s.device, s.ioas, &id),
				 -EOPNOTSUPP);
	assert_int_equal(
		hwpt_alloc(s.world, s.fd, IOMMU_HWPT_FAULT_ID_VALID, s.device, s.ioas, &id),
		-ENOENT);
	/* Data is for hardware; nested ones need a parent that can be one. */
	alloc = (struct iommu_hwpt_alloc){
		.size = sizeof(alloc),
		.dev_id = s.device,
		.pt_id = s.ioas,
		.data_type = IOMMU_HWPT_DATA_VTD_S1,
		.data_len = 8,
		.data_uptr = (uintptr_t)&alloc,
	};
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_ALLOC, &alloc), -EOPNOTSUPP);
	assert_int_equal(hwpt_alloc(s.world, s.fd, 0, s.device, s.ioas, &hwpt), 0);
	assert_int_equal(hwpt_alloc(s.world, s.fd, 0, s.device, hwpt, &id), -EOPNOTSUPP);
	alloc.pt_id = hwpt;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_ALLOC, &alloc), -EOPNOTSUPP);
	/* What can't be told is undone. */
	readable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(readable != MAP_FAILED);
	*readable = (struct iommu_hwpt_alloc){
		.size = sizeof(*readable), .dev_id = s.device, .pt_id = s.ioas};
	assert_int_equal(mprotect(readable, PAGE, PROT_READ), 0);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_ALLOC, readable), -EFAULT);
	assert_int_equal(destroy(s.world, s.fd, hwpt), 0);
	assert_int_equal(destroy(s.world, s.fd, s.ioas), 0);
	munmap(readable, PAGE);
	tear_down(&s);
}

/* ---- Dirty tracking ---- */

static long set_tracking(struct setup *s, uint32_t hwpt, uint32_t flags)
{
	struct iommu_hwpt_set_dirty_tracking arguments = {sizeof(arguments), flags, hwpt, 0};

	return world_ioctl_of(s->world, s->fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &arguments);
}

static long get_bitmap(struct setup *s, uint32_t hwpt, uint32_t flags, uint64_t iova, uint64_t size,
		       uint64_t page_size, void *bitmap)
{
	struct iommu_hwpt_get_dirty_bitmap arguments = {
		.size = sizeof(arguments),
		.hwpt_id = hwpt,
		.flags = flags,
		.iova = iova,
		.length = size,
		.page_size = page_size,
		.data = (uintptr_t)bitmap,
	};

	return world_ioctl_of(s->world, s->fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &arguments);
}

static uint32_t tracking_table(struct setup *s)
{
	uint32_t hwpt, id;

	assert_int_equal(hwpt_alloc(s->world, s->fd, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, s->device,
				    s->ioas, &hwpt),
			 0);
	id = hwpt;
	assert_int_equal(attach_cdev(s->world, s->cdev, &id), 0);
	assert_int_equal(ioas_map_fixed(s->world, s->fd, s->ioas, memory, 64 * PAGE, 0x100000), 0);
	return hwpt;
}

static void dirty_pages(void **state)
{
	struct setup s = set_up(state);
	uint32_t hwpt = tracking_table(&s);
	uint64_t bitmap = 0;

	assert_int_equal(get_bitmap(&s, hwpt, 0, 0x100000, 64 * PAGE, PAGE, &bitmap), 0);
	assert_int_equal(bitmap, 0);
	assert_int_equal(set_tracking(&s, hwpt, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 0);
	assert_int_equal(dma_write(s.world, 2, 0x100000 + 3 * PAGE, "x", 1), 0);
	assert_int_equal(dma_write(s.world, 2, 0x100000 + 63 * PAGE - 1, "xx", 2), 0);
	assert_int_equal(get_bitmap(&s, hwpt, IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR, 0x100000,
				    64 * PAGE, PAGE, &bitmap),
			 0);
	assert_int_equal(bitmap, 1ULL << 3 | 1ULL << 62 | 1ULL << 63);
	/* Bits are added to those that are there. */
	bitmap = 1;
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0x100000, 64 * PAGE, PAGE, &bitmap), 0);
	assert_int_equal(bitmap, 1 | 1ULL << 3 | 1ULL << 62 | 1ULL << 63);
	bitmap = 0;
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0x100000, 64 * PAGE, PAGE, &bitmap), 0);
	assert_int_equal(bitmap, 0);
	/* Larger pages; and ranges where nothing is mapped. */
	assert_int_equal(dma_write(s.world, 2, 0x100000 + 9 * PAGE, "x", 1), 0);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0, 1ULL << 21, 65536, &bitmap), 0);
	assert_int_equal(bitmap, 1 << 16);
	assert_int_equal(set_tracking(&s, hwpt, 0), 0);
	bitmap = 0;
	assert_int_equal(dma_write(s.world, 2, 0x100000, "x", 1), 0);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0x100000, 64 * PAGE, PAGE, &bitmap), 0);
	assert_int_equal(bitmap, 0);
	tear_down(&s);
}

/* A bitmap in several pieces, most of which isn't memory: only what is dirty is written. */
static void a_large_range(void **state)
{
	struct setup s = set_up(state);
	uint32_t hwpt = tracking_table(&s);
	uint64_t size = 1ULL << 38, at = 1ULL << 37, pages = size / PAGE;
	uint8_t *bitmap = mmap(NULL, pages / 8, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(bitmap != MAP_FAILED);
	assert_int_equal(ioas_map_fixed(s.world, s.fd, s.ioas, memory, PAGE, at), 0);
	assert_int_equal(set_tracking(&s, hwpt, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 0);
	assert_int_equal(dma_write(s.world, 2, at, "x", 1), 0);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0, size, PAGE, bitmap), 0);
	assert_int_equal(bitmap[at / PAGE / 8], 1);
	/* As small pages as can be, over nearly everything: only mappings cost time. */
	assert_int_equal(get_bitmap(&s, hwpt, 0, at + PAGE, (1ULL << 63) - at - PAGE, 1, NULL), 0);
	/* A bitmap that isn't there: what was dirty stays so. */
	assert_int_equal(dma_write(s.world, 2, at, "x", 1), 0);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0, size, PAGE, (void *)(uintptr_t)PAGE), -EFAULT);
	bitmap[at / PAGE / 8] = 0;
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0, size, PAGE, bitmap), 0);
	assert_int_equal(bitmap[at / PAGE / 8], 1);
	munmap(bitmap, pages / 8);
	tear_down(&s);
}

/* Two page tables of one address space each see each write. */
static void two_tables_track(void **state)
{
	struct setup s = set_up(state);
	uint32_t one = tracking_table(&s), two;
	uint64_t bitmap = 0;

	assert_int_equal(
		hwpt_alloc(s.world, s.fd, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, s.device, s.ioas, &two),
		0);
	assert_int_equal(set_tracking(&s, one, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 0);
	assert_int_equal(set_tracking(&s, two, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 0);
	assert_int_equal(dma_write(s.world, 2, 0x100000, "x", 1), 0);
	assert_int_equal(get_bitmap(&s, one, 0, 0x100000, 64 * PAGE, PAGE, &bitmap), 0);
	assert_int_equal(bitmap, 1);
	bitmap = 0;
	assert_int_equal(get_bitmap(&s, two, 0, 0x100000, 64 * PAGE, PAGE, &bitmap), 0);
	assert_int_equal(bitmap, 1);
	/* One that goes while it tracks leaves the other's log on; then nobody's is. */
	assert_int_equal(destroy(s.world, s.fd, two), 0);
	assert_int_equal(get_bitmap(&s, one, 0, 0x100000, 64 * PAGE, PAGE, &bitmap), 0);
	bitmap = 0;
	assert_int_equal(get_bitmap(&s, one, 0, 0x100000, 64 * PAGE, PAGE, &bitmap), 0);
	assert_int_equal(bitmap, 0);
	assert_int_equal(detach_cdev(s.world, s.cdev), 0);
	assert_int_equal(destroy(s.world, s.fd, one), 0);
	one = s.ioas;
	assert_int_equal(attach_cdev(s.world, s.cdev, &one), 0);
	tear_down(&s);
}

static void dirty_tracking_refused(void **state)
{
	struct setup s = set_up(state);
	uint32_t hwpt = tracking_table(&s), plain;
	struct iommu_hwpt_get_dirty_bitmap reserved = {
		.size = sizeof(reserved), .hwpt_id = 99, .__reserved = 1};
	uint64_t bitmap = 0;

	assert_int_equal(hwpt_alloc(s.world, s.fd, 0, s.device, s.ioas, &plain), 0);
	assert_int_equal(set_tracking(&s, 99, 2), -EOPNOTSUPP);
	assert_int_equal(set_tracking(&s, 99, 1), -ENOENT);
	assert_int_equal(set_tracking(&s, s.ioas, 1), -ENOENT);
	assert_int_equal(set_tracking(&s, plain, 1), -EOPNOTSUPP);
	assert_int_equal(set_tracking(&s, plain, 0), -EOPNOTSUPP);
	assert_int_equal(set_tracking(&s, hwpt, 0), 0);
	assert_int_equal(set_tracking(&s, hwpt, 1), 0);
	assert_int_equal(set_tracking(&s, hwpt, 1), 0);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &reserved),
			 -EOPNOTSUPP);
	assert_int_equal(get_bitmap(&s, 99, 2, 0, PAGE, PAGE, &bitmap), -EOPNOTSUPP);
	assert_int_equal(get_bitmap(&s, 99, 0, 0, PAGE, PAGE, &bitmap), -ENOENT);
	assert_int_equal(get_bitmap(&s, plain, 0, 0ULL - PAGE, 2 * PAGE, PAGE, &bitmap),
			 -EOVERFLOW);
	assert_int_equal(get_bitmap(&s, plain, 0, 0, PAGE, PAGE, &bitmap), -EOPNOTSUPP);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0, 0, PAGE, &bitmap), -EINVAL);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 1, PAGE, PAGE, &bitmap), -EINVAL);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0, PAGE + 1, PAGE, &bitmap), -EINVAL);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0, PAGE, 0, &bitmap), -EINVAL);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0, PAGE, 3 * PAGE, &bitmap), -EINVAL);
	assert_int_equal(get_bitmap(&s, hwpt, 0, PAGE, PAGE, 2 * PAGE, &bitmap), -EINVAL);
	assert_int_equal(get_bitmap(&s, hwpt, 0, 0, PAGE, 2 * PAGE, &bitmap), -EINVAL);
	tear_down(&s);
}

/* ---- The hardware ---- */

static void hardware(void **state)
{
	struct setup s = set_up(state);
	uint8_t data[9000];
	struct iommu_hw_info info = {
		.size = sizeof(info),
		.dev_id = s.device,
		.data_len = sizeof(data),
		.data_uptr = (uintptr_t)data,
		.out_max_pasid_log2 = 5,
		.in_data_type = 77, /* doesn't count without the flag */
	};

	memset(data, 0xee, sizeof(data));
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_GET_HW_INFO, &info), 0);
	for (size_t i = 0; i < sizeof(data); i++)
		assert_int_equal(data[i], 0);
	assert_int_equal(info.data_len, 0);
	assert_int_equal(info.out_data_type, IOMMU_HW_INFO_TYPE_NONE);
	assert_int_equal(info.out_max_pasid_log2, 0);
	assert_int_equal(info.out_capabilities, IOMMU_HW_CAP_DIRTY_TRACKING);
	info.flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_GET_HW_INFO, &info), 0);
	info.in_data_type = IOMMU_HW_INFO_TYPE_INTEL_VTD;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_GET_HW_INFO, &info), -EOPNOTSUPP);
	info.flags = 0;
	info.data_len = 1;
	info.data_uptr = NOWHERE;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_GET_HW_INFO, &info), -EFAULT);
	info.dev_id = s.ioas;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_GET_HW_INFO, &info), -ENOENT);
	info.__reserved[2] = 1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_GET_HW_INFO, &info), -EOPNOTSUPP);
	info.__reserved[2] = 0;
	info.flags = 2;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_GET_HW_INFO, &info), -EOPNOTSUPP);
	tear_down(&s);
}

static void what_is_not_there(void **state)
{
	struct setup s = set_up(state);
	struct iommu_fault_alloc fault = {.size = sizeof(fault)};
	struct iommu_viommu_alloc viommu = {.size = sizeof(viommu), .dev_id = 99, .flags = 1};
	struct iommu_vdevice_alloc vdevice = {.size = sizeof(vdevice), .viommu_id = 1};
	struct iommu_veventq_alloc events = {.size = sizeof(events), .viommu_id = 1};
	struct iommu_hw_queue_alloc queue = {.size = sizeof(queue), .viommu_id = 1};
	struct iommu_hwpt_invalidate invalidate = {
		.size = sizeof(invalidate), .hwpt_id = 99, .entry_num = 3, .__reserved = 1};

	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_FAULT_QUEUE_ALLOC, &fault),
			 -EOPNOTSUPP);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_VIOMMU_ALLOC, &viommu), -EOPNOTSUPP);
	viommu.flags = 0;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_VIOMMU_ALLOC, &viommu), -EOPNOTSUPP);
	viommu.type = 1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_VIOMMU_ALLOC, &viommu), -ENOENT);
	viommu.dev_id = s.device;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_VIOMMU_ALLOC, &viommu), -EOPNOTSUPP);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_VDEVICE_ALLOC, &vdevice), -ENOENT);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_VEVENTQ_ALLOC, &events), -EOPNOTSUPP);
	events.type = 1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_VEVENTQ_ALLOC, &events), -EINVAL);
	events.veventq_depth = 1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_VEVENTQ_ALLOC, &events), -ENOENT);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HW_QUEUE_ALLOC, &queue), -EOPNOTSUPP);
	queue.type = 1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HW_QUEUE_ALLOC, &queue), -ENOENT);

	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_INVALIDATE, &invalidate),
			 -EOPNOTSUPP);
	assert_int_equal(invalidate.entry_num, 0);
	invalidate.__reserved = 0;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_INVALIDATE, &invalidate),
			 -ENOENT);
	invalidate.entry_num = 1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_INVALIDATE, &invalidate),
			 -EINVAL);
	invalidate.hwpt_id = s.ioas;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_HWPT_INVALIDATE, &invalidate),
			 -EINVAL);
	tear_down(&s);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_page_table),	      TEST(automatic_page_tables),
		TEST(page_tables_refused),    TEST(dirty_pages),
		TEST(a_large_range),	      TEST(two_tables_track),
		TEST(dirty_tracking_refused), TEST(hardware),
		TEST(what_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
