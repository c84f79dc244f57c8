/* SPDX-License-Identifier: BSD-3-Clause */
/* Devices that aren't owned, and devices that are gone. */
#include "pci_test.h"

#include <poll.h>

static bool is_signalled(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};

	return poll(&readable, 1, 0) == 1;
}

static void test_unowned(void **state)
{
	struct model model;
	struct uvf_device *dev = device_from(&everything, &model);
	uint8_t byte = 0;

	uvf_device_close(dev);
	assert_int_equal(config_read(dev, PCI_VENDOR_ID, 2), 0x1b36);
	assert_int_equal(uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, 0x3c, &byte, 1),
			 -ENODEV);
	assert_int_equal(uvf_region_read(dev, 0, 0, &byte, 1), -ENODEV);
	assert_int_equal(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, 4096, &byte, 1),
			 -EINVAL);
	uvf_device_free(dev);
}

static void test_removed(void **state)
{
	struct model model;
	struct uvf_device *dev = device_from(&everything, &model);
	uint8_t bytes[8] = {0};
	int trigger = eventfd(0, 0);
	struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = 1,
		.fds = &trigger,
	};

	config_write(dev, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	assert_int_equal(uvf_irq_set(dev, &set), 0);
	assert_true(model.bus_master);

	uvf_device_remove(dev);
	assert_false(model.bus_master);
	assert_int_equal(config_read(dev, PCI_VENDOR_ID, 4), UINT32_MAX);
	assert_int_equal(uvf_region_read(dev, 0, 0, bytes, 8), 8);
	assert_int_equal(uvf_get_le64(bytes), UINT64_MAX);
	assert_int_equal(uvf_region_read(dev, 0, 0x4000, bytes, 8), -EINVAL);
	model.bar[0] = 7;
	bytes[0] = 1;
	assert_int_equal(uvf_region_write(dev, 0, 0, bytes, 1), 1);
	assert_int_equal(model.bar[0], 7);
	config_write(dev, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	assert_false(model.bus_master);
	uvf_pci_msi(dev, 0);
	uvf_irq_trigger(dev, VFIO_PCI_MSIX_IRQ_INDEX, 0);
	assert_false(is_signalled(trigger));
	assert_int_equal(uvf_irq_set(dev, &set), -ENODEV);
	assert_int_equal(uvf_device_reset(dev, UVF_RESET_DEVICE), -ENODEV);
	assert_int_equal(uvf_device_feature(dev,
					    VFIO_DEVICE_FEATURE_MIGRATION | VFIO_DEVICE_FEATURE_GET,
					    bytes, sizeof(bytes)),
			 -ENODEV);

	uvf_device_close(dev);
	assert_int_equal(uvf_device_open(dev), -ENODEV);
	close(trigger);
	uvf_device_free(dev);
	assert_int_equal(model.destroyed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unowned),
		cmocka_unit_test(test_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
