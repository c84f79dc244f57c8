/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the PCI core share: a device with everything, and access to it. */
#ifndef PCI_TEST_H
#define PCI_TEST_H

/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* clang-format off */
#include <cmocka.h>
/* clang-format on */

#include "base/bytes.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uvfio/client.h>
#include <uvfio/pci.h>

/* What the model under the PCI core was asked. */
struct model {
	unsigned resets;
	enum uvf_reset last_reset;
	bool bus_master;
	unsigned destroyed;
	uint8_t bar[0x4000];
};

static inline int model_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct model *model = uvf_device_opaque(dev);

	model->resets++;
	model->last_reset = kind;
	return 0;
}

static inline void model_bus_master(struct uvf_device *dev, bool enabled)
{
	struct model *model = uvf_device_opaque(dev);

	model->bus_master = enabled;
}

static inline void model_destroy(struct uvf_device *dev)
{
	struct model *model = uvf_device_opaque(dev);

	model->destroyed++;
}

static const struct uvf_device_ops model_ops = {
	.reset = model_reset,
	.bus_master_changed = model_bus_master,
	.destroy = model_destroy,
};

static inline int bar_model_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
				 size_t count)
{
	struct model *model = uvf_device_opaque(dev);

	memcpy(buf, model->bar + offset, count);
	return 0;
}

static inline int bar_model_write(struct uvf_device *dev, uint32_t index, uint64_t offset,
				  const void *buf, size_t count)
{
	struct model *model = uvf_device_opaque(dev);

	memcpy(model->bar + offset, buf, count);
	return 0;
}

static const uint8_t rom_bytes[3000] = {0x55, 0xaa, [2999] = 0x77};
static const uint8_t vendor_data[5] = {1, 2, 3, 4, 5};
static const uint8_t vendor_writable[5] = {0xff, 0, 0x0f, 0, 0xf0};

#define MSIX_VECTORS 70
#define MSIX_TABLE   0x1000
#define MSIX_PBA     0x2000

static const struct uvf_pci_capability all_capabilities[] = {
	{.id = PCI_CAP_ID_PM},
	{.id = PCI_CAP_ID_MSI, .msi = {.vectors = 8, .maskable = true, .address64 = true}},
	{.id = PCI_CAP_ID_MSIX,
	 .msix = {.vectors = MSIX_VECTORS, .table_offset = MSIX_TABLE, .pba_offset = MSIX_PBA}},
	{.id = PCI_CAP_ID_EXP, .express = {.flr = true, .max_payload = 1}},
	{.id = PCI_CAP_ID_VNDR,
	 .vendor = {.data = vendor_data, .writable = vendor_writable, .size = 5}},
	{.id = PCI_EXT_CAP_ID_ERR, .extended = true},
	{.id = PCI_EXT_CAP_ID_DSN, .extended = true, .dsn = {.serial = 0x1122334455667788}},
	{.id = PCI_EXT_CAP_ID_ARI, .extended = true, .ari = {.next_function = 3}},
	{.id = PCI_EXT_CAP_ID_ACS, .extended = true, .acs = {.capabilities = 0x2861}},
	{.id = PCI_EXT_CAP_ID_VNDR,
	 .extended = true,
	 .vendor = {.data = vendor_data,
		    .writable = vendor_writable,
		    .size = 5,
		    .vsec_id = 0x1234,
		    .vsec_rev = 2}},
};

static const struct uvf_pci_description everything = {
	.vendor = 0x1b36,
	.device = 0x0010,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class_code = 0x010802,
	.revision = 7,
	.interrupt_pin = 1,
	.bars =
		{
			[0] = {.kind = UVF_PCI_BAR_MEM64,
			       .size = 0x4000,
			       .read = bar_model_read,
			       .write = bar_model_write},
			[2] = {.kind = UVF_PCI_BAR_MEM32,
			       .prefetchable = true,
			       .size = 0x100,
			       .read = bar_model_read,
			       .write = bar_model_write},
			[3] = {.kind = UVF_PCI_BAR_IO,
			       .size = 8,
			       .read = bar_model_read,
			       .write = bar_model_write},
		},
	.rom = rom_bytes,
	.rom_size = sizeof(rom_bytes),
	.capabilities = all_capabilities,
	.capability_count = UVF_ARRAY_SIZE(all_capabilities),
};

/* An open device. */
static inline struct uvf_device *device_from(const struct uvf_pci_description *description,
					     struct model *model)
{
	struct uvf_error error = {""};
	struct uvf_device *dev = NULL;

	*model = (struct model){0};
	if (uvf_pci_new("test", description, &model_ops, model, &dev, &error))
		fail_msg("%s", error.text);
	assert_int_equal(uvf_device_open(dev), 0);
	return dev;
}

/* ---- Configuration space ---- */

static inline uint32_t config_read(struct uvf_device *dev, uint64_t offset, size_t count)
{
	uint8_t bytes[4] = {0};

	assert_int_equal(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, count),
			 count);
	return uvf_get_le32(bytes);
}

static inline void config_write(struct uvf_device *dev, uint64_t offset, uint32_t value,
				size_t count)
{
	uint8_t bytes[4];

	uvf_put_le32(bytes, value);
	assert_int_equal(uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, count),
			 count);
}

static inline uint16_t find(struct uvf_device *dev, uint16_t id, bool extended)
{
	uint16_t at = uvf_pci_find_capability(dev, id, extended);

	assert_int_not_equal(at, 0);
	return at;
}

/* ---- BARs ---- */

static inline uint32_t bar_read32(struct uvf_device *dev, uint32_t bar, uint64_t offset)
{
	uint8_t bytes[4];

	assert_int_equal(uvf_region_read(dev, bar, offset, bytes, 4), 4);
	return uvf_get_le32(bytes);
}

static inline void bar_write32(struct uvf_device *dev, uint32_t bar, uint64_t offset,
			       uint32_t value)
{
	uint8_t bytes[4];

	uvf_put_le32(bytes, value);
	assert_int_equal(uvf_region_write(dev, bar, offset, bytes, 4), 4);
}

static inline void enable_memory(struct uvf_device *dev)
{
	config_write(dev, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

/* ---- Interrupts ---- */

static inline void bind_irqs(struct uvf_device *dev, uint32_t index, uint32_t count, int *fds)
{
	const struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = index,
		.count = count,
		.fds = fds,
	};

	for (uint32_t i = 0; i < count; i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		assert_true(fds[i] >= 0);
	}
	assert_int_equal(uvf_irq_set(dev, &set), 0);
}

static inline void disable_irqs(struct uvf_device *dev, uint32_t index)
{
	const struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = index,
	};

	assert_int_equal(uvf_irq_set(dev, &set), 0);
}

/* How often it was signalled since it was last looked at. */
static inline uint64_t signals(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static inline void close_all(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

#endif
