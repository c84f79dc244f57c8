/* SPDX-License-Identifier: BSD-3-Clause */
/* What a device says of itself: VFIO_DEVICE_GET_INFO, GET_REGION_INFO, GET_IRQ_INFO. */
#include "device_rig.h"

static struct rig rig;

static int setup(void **state)
{
	rig_new(&rig);
	return 0;
}

static int teardown(void **state)
{
	rig_free(&rig);
	return 0;
}

/* ---- The device ---- */

static void device_info(void **state)
{
	struct {
		struct vfio_device_info info;
		uint32_t after[4];
	} answer;

	memset(&answer, 0x5a, sizeof(answer));
	answer.info.argsz = 16;
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_INFO, &answer), 0);
	assert_int_equal(answer.info.flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
	assert_int_equal(answer.info.num_regions, VFIO_PCI_NUM_REGIONS);
	assert_int_equal(answer.info.num_irqs, VFIO_PCI_NUM_IRQS);
	assert_int_equal(answer.info.cap_offset, 0x5a5a5a5a); /* not asked for */
	answer.info.argsz = 4096;
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_INFO, &answer), 0);
	assert_int_equal(answer.info.cap_offset, 0);
	assert_int_equal(((uint32_t *)&answer)[5], 0);
	assert_int_equal(((uint32_t *)&answer)[6], 0x5a5a5a5a);
	answer.info.argsz = 15;
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_INFO, &answer), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_INFO, NULL), -EFAULT);
}

/* ---- Regions ---- */

union region_answer {
	struct vfio_region_info info;
	uint8_t bytes[256];
};

static long region_info(union region_answer *answer, uint32_t index, uint32_t argsz)
{
	memset(answer, 0, sizeof(*answer));
	answer->info.argsz = argsz;
	answer->info.index = index;
	return rig_ioctl(&rig, VFIO_DEVICE_GET_REGION_INFO, answer);
}

static const void *find_capability(const union region_answer *answer, uint16_t id)
{
	uint32_t at = answer->info.cap_offset;

	while (at) {
		const struct vfio_info_cap_header *header = (const void *)(answer->bytes + at);

		assert_in_range(at, sizeof(answer->info), sizeof(*answer) - sizeof(*header));
		assert_int_equal(at % 8, 0);
		assert_int_equal(header->version, 1);
		if (header->id == id)
			return header;
		at = header->next;
	}
	return NULL;
}

#define READ_WRITE (VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE)
#define MAPPABLE   (READ_WRITE | VFIO_REGION_INFO_FLAG_MMAP)

static void regions(void **state)
{
	static const struct {
		uint32_t index, flags;
		uint64_t size;
	} expected[] = {
		{0, MAPPABLE | VFIO_REGION_INFO_FLAG_CAPS, RIG_BAR_SIZE},
		{1, 0, 0},
		{2, MAPPABLE | VFIO_REGION_INFO_FLAG_CAPS, RIG_BAR_SIZE},
		{3, READ_WRITE, 16},
		{4, READ_WRITE, 256},
		{5, 0, 0},
		{VFIO_PCI_ROM_REGION_INDEX, VFIO_REGION_INFO_FLAG_READ, 4096},
		{VFIO_PCI_CONFIG_REGION_INDEX, READ_WRITE, 4096},
	};
	union region_answer answer;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(expected); i++) {
		assert_int_equal(region_info(&answer, expected[i].index, sizeof(answer)), 0);
		assert_int_equal(answer.info.flags, expected[i].flags);
		assert_int_equal(answer.info.size, expected[i].size);
		assert_int_equal(answer.info.offset, (uint64_t)expected[i].index << 40);
	}
	assert_int_equal(region_info(&answer, VFIO_PCI_VGA_REGION_INDEX, sizeof(answer)), -EINVAL);
	assert_int_equal(region_info(&answer, 9, sizeof(answer)), -EINVAL);
	assert_int_equal(region_info(&answer, UINT32_MAX, sizeof(answer)), -EINVAL);
	assert_int_equal(region_info(&answer, 0, 31), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_REGION_INFO, NULL), -EFAULT);
}

/* With trapping all can be mapped; the list tells what is memory. */
static void areas_are_listed(void **state)
{
	const struct vfio_region_info_cap_sparse_mmap *list;
	union region_answer answer;

	assert_int_equal(region_info(&answer, 2, sizeof(answer)), 0);
	list = find_capability(&answer, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	assert_non_null(list);
	assert_int_equal(list->nr_areas, 1);
	assert_int_equal(list->areas[0].offset, 0x1000);
	assert_int_equal(list->areas[0].size, 0x1000);
	assert_null(find_capability(&answer, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE));

	assert_int_equal(region_info(&answer, 0, sizeof(answer)), 0);
	list = find_capability(&answer, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	assert_non_null(list);
	assert_int_equal(list->nr_areas, 0);
	assert_non_null(find_capability(&answer, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE));
}

static void without_trapping_only_areas_are_mappable(void **state)
{
	union region_answer answer;

	for (unsigned i = 0; i < UAPI_BARS; i++)
		rig.device->trap[i] = UVF_RUN_TRAP_OFF;
	assert_int_equal(region_info(&answer, 0, sizeof(answer)), 0);
	assert_int_equal(answer.info.flags, READ_WRITE);
	assert_int_equal(region_info(&answer, 2, sizeof(answer)), 0);
	assert_int_equal(answer.info.flags, MAPPABLE | VFIO_REGION_INFO_FLAG_CAPS);
	assert_non_null(find_capability(&answer, VFIO_REGION_INFO_CAP_SPARSE_MMAP));
}

static void too_little_room_for_capabilities(void **state)
{
	union region_answer answer;
	uint32_t needed;

	assert_int_equal(region_info(&answer, 2, sizeof(answer.info)), 0);
	needed = answer.info.argsz;
	assert_int_equal(needed, sizeof(answer.info) + 16 + 16);
	assert_true(answer.info.flags & VFIO_REGION_INFO_FLAG_CAPS);
	assert_int_equal(answer.info.cap_offset, 0);
	assert_int_equal(region_info(&answer, 2, needed - 1), 0);
	assert_int_equal(answer.info.argsz, needed);
	assert_int_equal(answer.info.cap_offset, 0);
	assert_int_equal(answer.bytes[sizeof(answer.info)], 0);
	assert_int_equal(region_info(&answer, 2, needed), 0);
	assert_int_equal(answer.info.cap_offset, sizeof(answer.info));
	assert_non_null(find_capability(&answer, VFIO_REGION_INFO_CAP_SPARSE_MMAP));
}

static void capabilities_that_cannot_be_written(void **state)
{
	uint8_t *cliff = rig_cliff();
	struct vfio_region_info *info = (void *)(cliff + 4096 - sizeof(*info));

	*info = (struct vfio_region_info){.argsz = 256, .index = 2};
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_REGION_INFO, info), -EFAULT);
	munmap(cliff, 8192);
}

/* ---- Interrupts ---- */

static void interrupts(void **state)
{
	static const struct {
		uint32_t flags, count;
	} expected[VFIO_PCI_NUM_IRQS] = {
		{VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED, 1},
		{VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, 8},
		{VFIO_IRQ_INFO_EVENTFD, RIG_VECTORS},
		{VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, 1},
		{VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, 1},
	};
	struct vfio_irq_info info;

	for (uint32_t i = 0; i < VFIO_PCI_NUM_IRQS; i++) {
		info = (struct vfio_irq_info){.argsz = sizeof(info), .index = i};
		assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_IRQ_INFO, &info), 0);
		assert_int_equal(info.flags, expected[i].flags);
		assert_int_equal(info.count, expected[i].count);
	}
	info.index = VFIO_PCI_NUM_IRQS;
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_IRQ_INFO, &info), -EINVAL);
	info = (struct vfio_irq_info){.argsz = sizeof(info) - 1};
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_IRQ_INFO, &info), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_IRQ_INFO, NULL), -EFAULT);
	/* Errors are PCI Express's. */
	rig.device = &rig.devices[2];
	info = (struct vfio_irq_info){.argsz = sizeof(info), .index = VFIO_PCI_ERR_IRQ_INDEX};
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_IRQ_INFO, &info), -EINVAL);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(device_info),
		TEST(regions),
		TEST(areas_are_listed),
		TEST(without_trapping_only_areas_are_mappable),
		TEST(too_little_room_for_capabilities),
		TEST(capabilities_that_cannot_be_written),
		TEST(interrupts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
