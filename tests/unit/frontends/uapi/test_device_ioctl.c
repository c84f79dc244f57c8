/* SPDX-License-Identifier: BSD-3-Clause */
/* Resets, hot resets, eventfds that stand for writes, features, mappings that are refused. */
#include "device_rig.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

static struct rig rig;

static int setup(void **state)
{
	rig_new(&rig);
	assert_int_equal(uapi_files_new(&rig.run), 0);
	return 0;
}

static int teardown(void **state)
{
	uapi_files_free(&rig.run);
	rig_free(&rig);
	return 0;
}

static void unknown(void **state)
{
	assert_int_equal(rig_ioctl(&rig, _IO(VFIO_TYPE, VFIO_BASE + 99), NULL), -ENOTTY);
	assert_int_equal(rig_ioctl(&rig, VFIO_SET_IOMMU, NULL), -ENOTTY);
	assert_int_equal(rig_ioctl(&rig, 0, NULL), -ENOTTY);
}

/* ---- Resets ---- */

static void reset_leaves_the_header(void **state)
{
	uint16_t pm = uvf_pci_find_capability(rig.device->dev, PCI_CAP_ID_PM, false);
	uint8_t buf[4];

	rig_set_config(&rig, PCI_BASE_ADDRESS_2, 0xfea00000, 4);
	rig_set_config(&rig, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	rig_set_config(&rig, PCI_INTERRUPT_LINE, 11, 1);
	rig_set_config(&rig, pm + PCI_PM_CTRL, 3, 2);
	assert_int_equal(rig_read(&rig, 0, 0, buf, 4), -EIO);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_RESET, NULL), 0);
	assert_int_equal(rig.model->resets, 1);
	assert_int_equal(rig.model->last_reset, UVF_RESET_DEVICE);
	assert_int_equal(rig_config(&rig, PCI_BASE_ADDRESS_2, 4), 0xfea00000);
	assert_int_equal(rig_config(&rig, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig_config(&rig, PCI_INTERRUPT_LINE, 1), 11);
	assert_int_equal(rig_config(&rig, pm + PCI_PM_CTRL, 2) & 3, 0);
	assert_int_equal(rig_read(&rig, 0, 0, buf, 4), 4);
}

/* The headers of both ioctls, which end in arrays. */
struct header {
	uint32_t argsz, flags, count;
};

struct hot_reset_info {
	struct header header;
	struct vfio_pci_dependent_device devices[4];
};

static void hot_reset_info(void **state)
{
	struct hot_reset_info info = {.header.argsz = sizeof(info.header) - 1};

	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, NULL), -EFAULT);
	info.header = (struct header){.argsz = sizeof(info.header) + 15, .flags = 7};
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -ENOSPC);
	assert_int_equal(info.header.count, 2);
	assert_int_equal(info.header.flags, 0);
	info.header = (struct header){.argsz = sizeof(info)};
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), 0);
	assert_int_equal(info.header.count, 2);
	assert_int_equal(info.header.flags, 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(info.devices[i].group_id, 5 + i);
		assert_int_equal(info.devices[i].segment, 0);
		assert_int_equal(info.devices[i].bus, 0x65);
		assert_int_equal(info.devices[i].devfn, i);
	}
	/* There is no bridge above the root bus. */
	rig.device = &rig.devices[2];
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -ENODEV);
}

struct hot_reset {
	struct header header;
	int32_t fds[4];
};

static long hot_reset(uint32_t count, const int *fds)
{
	struct hot_reset reset = {.header = {.argsz = sizeof(reset), .count = count}};

	memcpy(reset.fds, fds, (count < 4 ? count : 4) * sizeof(*fds));
	return rig_ioctl(&rig, VFIO_DEVICE_PCI_HOT_RESET, &reset);
}

/* The group's file as a descriptor of this process. */
static int open_group(struct uapi_group *group)
{
	struct uapi_file *file;
	int fd;

	assert_int_equal(uapi_group_open(group, &file), 0);
	fd = uapi_call_place(&rig.call, file, O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void hot_reset_needs_all_groups(void **state)
{
	int fds[4] = {open_group(&rig.groups[0]), open_group(&rig.groups[1]),
		      open_group(&rig.groups[2]), open("/dev/null", O_RDONLY)};
	int two[2] = {fds[0], 9999};
	struct hot_reset reset = {.header = {.argsz = sizeof(reset.header) - 1, .count = 1}};

	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
	reset.header = (struct header){.argsz = sizeof(reset), .flags = 1, .count = 1};
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_PCI_HOT_RESET, NULL), -EFAULT);
	assert_int_equal(hot_reset(0, fds), -EINVAL);
	assert_int_equal(hot_reset(3, fds), -EINVAL);
	assert_int_equal(hot_reset(UINT32_MAX, fds), -EINVAL);
	assert_int_equal(hot_reset(1, fds), -EINVAL);
	assert_int_equal(hot_reset(2, two), -EBADF);
	two[1] = fds[3];
	assert_int_equal(hot_reset(2, two), -EINVAL);
	two[1] = fds[2];
	assert_int_equal(hot_reset(2, two), -EINVAL);
	assert_int_equal(rig.models[0].resets, 0);
	assert_int_equal(hot_reset(2, fds), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(rig.models[i].resets, i < 2);
		if (i < 2)
			assert_int_equal(rig.models[i].last_reset, UVF_RESET_HOT);
	}
	rig.device = &rig.devices[2];
	assert_int_equal(hot_reset(1, fds + 2), -ENODEV);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	uapi_files_drain(&rig.run);
}

/* Bound to an iommufd no groups are shown, and nobody else's device may be on the bus. */
static void hot_reset_by_iommufd(void **state)
{
	struct hot_reset_info info = {.header = {.argsz = sizeof(info)}};
	struct uapi_file *iommufd;
	int fd = open("/dev/null", O_RDONLY);

	assert_int_equal(uapi_iommufd_open(&rig.run, &iommufd), 0);
	rig.device->ownership = UAPI_BOUND;
	rig.device->iommufd = iommufd;
	assert_int_equal(uapi_group_claim(rig.device->group, iommufd), 0);
	assert_int_equal(hot_reset(1, &fd), -EINVAL);
	assert_int_equal(hot_reset(0, &fd), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), 0);
	assert_int_equal(info.header.flags, VFIO_PCI_HOT_RESET_FLAG_DEV_ID);
	assert_int_equal(info.devices[0].group_id, VFIO_PCI_DEVID_OWNED);
	assert_int_equal(info.devices[1].group_id, (uint32_t)VFIO_PCI_DEVID_NOT_OWNED);
	assert_int_equal(uapi_group_claim(&rig.groups[1], iommufd), 0);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), 0);
	assert_int_equal(info.header.flags,
			 VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED);
	assert_int_equal(hot_reset(0, &fd), 0);
	assert_int_equal(rig.models[1].resets, 1);
	rig.device->ownership = UAPI_GROUP;
	rig.device->iommufd = NULL;
	close(fd);
}

/* ---- VFIO_DEVICE_IOEVENTFD ---- */

static long ioeventfd(uint32_t index, uint64_t offset, uint64_t data, uint32_t size, int fd)
{
	struct vfio_device_ioeventfd argument = {
		.argsz = sizeof(argument),
		.flags = size,
		.offset = (uint64_t)index << 40 | offset,
		.data = data,
		.fd = fd,
	};

	return rig_ioctl(&rig, VFIO_DEVICE_IOEVENTFD, &argument);
}

/* Asks the device, as it is written to by another thread. */
static uint8_t byte_at(uint32_t index, uint64_t offset)
{
	uint8_t byte;

	assert_int_equal(uvf_region_read(rig.device->dev, index, offset, &byte, 1), 1);
	return byte;
}

static void wait_for(uint32_t index, uint64_t offset, uint8_t value)
{
	for (int i = 0; byte_at(index, offset) != value; i++) {
		assert_int_not_equal(i, 5000);
		usleep(1000);
	}
}

static void clear(uint64_t offset)
{
	const uint8_t none = 0;

	assert_int_equal(uvf_region_write(rig.device->dev, 0, offset, &none, 1), 1);
}

static void ioeventfds_are_refused(void **state)
{
	struct vfio_device_ioeventfd argument = {.argsz = sizeof(argument) - 1, .flags = 4};
	int event = eventfd(0, 0), null = open("/dev/null", O_RDONLY);
	int others = epoll_create1(0);

	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_IOEVENTFD, &argument), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_IOEVENTFD, NULL), -EFAULT);
	assert_int_equal(ioeventfd(0, 0, 0, 0, event), -EINVAL);
	assert_int_equal(ioeventfd(0, 0, 0, 3, event), -EINVAL);
	assert_int_equal(ioeventfd(0, 0, 0, 16, event), -EINVAL);
	assert_int_equal(ioeventfd(0, 0, 0, 8, event), -EINVAL);
	assert_int_equal(ioeventfd(0, 0, 0, 4, -2), -EINVAL);
	assert_int_equal(ioeventfd(0, RIG_BAR_SIZE - 2, 0, 4, event), -EINVAL);
	assert_int_equal(ioeventfd(1, 0, 0, 4, event), -EINVAL);
	assert_int_equal(ioeventfd(VFIO_PCI_ROM_REGION_INDEX, 0, 0, 4, event), -EINVAL);
	assert_int_equal(ioeventfd(VFIO_PCI_CONFIG_REGION_INDEX, 0, 0, 4, event), -EINVAL);
	assert_int_equal(ioeventfd(0x800000, 0, 0, 4, event), -EINVAL);
	assert_int_equal(ioeventfd(0, RIG_TABLE - 2, 0, 4, event), -EINVAL);
	assert_int_equal(ioeventfd(0, 0, 0, 4, -1), -ENODEV);
	assert_int_equal(ioeventfd(0, 0, 0, 4, 9999), -EBADF);
	assert_int_equal(ioeventfd(0, 0, 0, 4, null), -EINVAL);
	/* It can be waited for, but is no eventfd. */
	assert_int_equal(ioeventfd(0, 0, 0, 4, others), -EINVAL);
	close(others);
	close(event);
	close(null);
}

static void ioeventfds_write(void **state)
{
	int events[3] = {eventfd(0, 0), eventfd(0, 0), eventfd(1, 0)};

	assert_int_equal(ioeventfd(0, 0x100, 0x1122334455667788, 4, events[0]), 0);
	assert_int_equal(ioeventfd(0, 0x100, 0x1122334455667788, 4, events[1]), -EEXIST);
	assert_int_equal(ioeventfd(0, 0x100, 0x1122334455667788, 4, 9999), -EEXIST);
	assert_int_equal(ioeventfd(0, 0x105, 0x99, 1, events[1]), 0);
	eventfd_write(events[0], 3);
	eventfd_write(events[1], 1);
	wait_for(0, 0x103, 0x55);
	wait_for(0, 0x105, 0x99);
	assert_int_equal(byte_at(0, 0x104), 0);
	/* One that was signalled before, in an area. */
	assert_int_equal(ioeventfd(2, 0x1800, 0xabcd, 2, events[2]), 0);
	wait_for(2, 0x1801, 0xab);
	assert_int_equal(ioeventfd(0, 0x100, 0x1122334455667788, 4, -1), 0);
	assert_int_equal(ioeventfd(0, 0x100, 0x1122334455667788, 4, -1), -ENODEV);
	clear(0x103);
	eventfd_write(events[0], 1);
	clear(0x105);
	eventfd_write(events[1], 1);
	wait_for(0, 0x105, 0x99);
	assert_int_equal(byte_at(0, 0x103), 0);
	for (int i = 0; i < 3; i++)
		close(events[i]);
}

static void a_thousand_ioeventfds(void **state)
{
	int event = eventfd(0, 0);

	for (uint64_t i = 0; i < 1000; i++) {
		long ret = ioeventfd(0, 4 * (i % 512), i, 4, event);

		if (ret == -EMFILE)
			skip();
		assert_int_equal(ret, 0);
	}
	assert_int_equal(ioeventfd(0, 4, 1000, 4, event), -ENOSPC);
	assert_int_equal(ioeventfd(0, 4, 1, 4, event), -EEXIST);
	assert_int_equal(ioeventfd(0, 4, 1, 4, -1), 0);
	assert_int_equal(ioeventfd(0, 4, 1000, 4, event), 0);
	close(event);
}

/* ---- VFIO_DEVICE_FEATURE ---- */

struct feature {
	uint32_t argsz, flags;
	uint64_t data[2];
};

static ssize_t model_feature(struct uvf_device *dev, uint32_t flags, void *data, size_t size)
{
	uint64_t value = 0x1234;

	if ((flags & VFIO_DEVICE_FEATURE_MASK) != VFIO_DEVICE_FEATURE_MIG_DATA_SIZE)
		return -ENOTTY;
	if (flags & VFIO_DEVICE_FEATURE_PROBE)
		return 0;
	assert_int_equal(size, sizeof(value));
	memcpy(data, &value, sizeof(value));
	return sizeof(value);
}

static long feature(struct feature *argument, uint32_t flags, uint32_t argsz)
{
	memset(argument, 0, sizeof(*argument));
	argument->flags = flags;
	argument->argsz = argsz;
	return rig_ioctl(&rig, VFIO_DEVICE_FEATURE, argument);
}

static void features(void **state)
{
	static const struct uvf_device_ops ops = {.feature = model_feature};
	static const struct uvf_pci_description description = {.vendor = 1};
	const uint32_t get = VFIO_DEVICE_FEATURE_GET, set = VFIO_DEVICE_FEATURE_SET;
	const uint32_t probe = VFIO_DEVICE_FEATURE_PROBE, size = VFIO_DEVICE_FEATURE_MIG_DATA_SIZE;
	struct uvf_error error;
	struct uvf_device *dev;
	struct feature argument;

	/* The first model has none at all. */
	assert_int_equal(feature(&argument, size | get, sizeof(argument)), -ENOTTY);
	assert_int_equal(feature(&argument, size | probe, sizeof(argument)), -ENOTTY);
	assert_int_equal(uvf_pci_new("features", &description, &ops, NULL, &dev, &error), 0);
	rig_replace(&rig, dev);
	assert_int_equal(feature(&argument, size | get, 7), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_FEATURE, NULL), -EFAULT);
	assert_int_equal(feature(&argument, size | get | 1U << 20, sizeof(argument)), -EINVAL);
	assert_int_equal(feature(&argument, size | get | set, sizeof(argument)), -EINVAL);
	assert_int_equal(feature(&argument, size, sizeof(argument)), -EINVAL);
	assert_int_equal(feature(&argument, size | set, sizeof(argument)), -EINVAL);
	assert_int_equal(feature(&argument, size | get, 8 + 7), -EINVAL);
	assert_int_equal(feature(&argument, size | probe, 8), 0);
	assert_int_equal(feature(&argument, size | probe | get, 8), 0);
	assert_int_equal(feature(&argument, size | probe | get | set, 8), -EINVAL);
	assert_int_equal(feature(&argument, size | get, sizeof(argument)), 0);
	assert_int_equal(argument.data[0], 0x1234);
	assert_int_equal(argument.data[1], 0);
	assert_int_equal(feature(&argument, 0xffff | get, sizeof(argument)), -ENOTTY);
	assert_int_equal(feature(&argument, VFIO_DEVICE_FEATURE_MIGRATION | get, 8), -ENOTTY);
}

/* ---- mmap() ---- */

static long map_region(uint32_t index, uint64_t offset, uint64_t size, int prot, int flags)
{
	const struct uapi_mmap map = {
		.size = size,
		.prot = prot,
		.flags = flags,
		.offset = (uint64_t)index << 40 | offset,
	};

	return uapi_device_mmap(rig.device, NULL, &rig.call, &map);
}

static void mappings_are_refused(void **state)
{
	const int prot = PROT_READ | PROT_WRITE;

	assert_int_equal(map_region(0, 0, 4096, prot, MAP_PRIVATE), -EINVAL);
	assert_int_equal(map_region(0, 0, 4096, prot, MAP_SHARED_VALIDATE | MAP_SYNC), -EOPNOTSUPP);
	assert_int_equal(map_region(0, 0, 0, prot, MAP_SHARED), -EINVAL);
	assert_int_equal(map_region(0, 0, UINT64_MAX, prot, MAP_SHARED), -ENOMEM);
	assert_int_equal(map_region(0, 512, 4096, prot, MAP_SHARED), -EINVAL);
	assert_int_equal(map_region(0, 0, RIG_BAR_SIZE + 1, prot, MAP_SHARED), -EINVAL);
	assert_int_equal(map_region(0, RIG_BAR_SIZE, 4096, prot, MAP_SHARED), -EINVAL);
	assert_int_equal(map_region(1, 0, 4096, prot, MAP_SHARED), -EINVAL);
	assert_int_equal(map_region(3, 0, 4096, prot, MAP_SHARED), -EINVAL);
	assert_int_equal(map_region(4, 0, 256, prot, MAP_SHARED), -EINVAL); /* less than a page */
	assert_int_equal(map_region(VFIO_PCI_ROM_REGION_INDEX, 0, 4096, PROT_READ, MAP_SHARED),
			 -EINVAL);
	assert_int_equal(map_region(VFIO_PCI_CONFIG_REGION_INDEX, 0, 4096, prot, MAP_SHARED),
			 -EINVAL);
	assert_int_equal(map_region(VFIO_PCI_VGA_REGION_INDEX, 0, 4096, prot, MAP_SHARED), -EINVAL);
	assert_int_equal(map_region(9, 0, 4096, prot, MAP_SHARED), -EINVAL);
	assert_int_equal(map_region(0x800000, 0, 4096, prot, MAP_SHARED), -EINVAL);
	rig.device->trap[0] = UVF_RUN_TRAP_OFF;
	assert_int_equal(map_region(0, 0, 4096, prot, MAP_SHARED), -EINVAL);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(unknown),
		TEST(reset_leaves_the_header),
		TEST(hot_reset_info),
		TEST(hot_reset_needs_all_groups),
		TEST(hot_reset_by_iommufd),
		TEST(ioeventfds_are_refused),
		TEST(ioeventfds_write),
		TEST(a_thousand_ioeventfds),
		TEST(features),
		TEST(mappings_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
