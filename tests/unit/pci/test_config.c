/* SPDX-License-Identifier: BSD-3-Clause */
/* Every register of every capability: its value after a reset and what a driver can change. */
#include "pci_test.h"

static int setup(void **state)
{
	static struct model model;

	*state = device_from(&everything, &model);
	return 0;
}

static int teardown(void **state)
{
	uvf_device_free(*state);
	return 0;
}

/*
 * A register after a reset, and which of its bits a driver can write. Registers whose write does
 * more than that have their own tests.
 */
struct register_row {
	const char *name;
	uint16_t id;
	bool extended;
	uint16_t offset;
	uint8_t size;
	uint32_t initial;
	uint32_t writable;
};

#define HEADER		 0, false
#define CONVENTIONAL(id) (id), false
#define EXTENDED(id)	 (id), true

/* clang-format off: a table. */
static const struct register_row rows[] = {
	{"Vendor ID", HEADER, 0x00, 2, 0x1b36, 0},
	{"Device ID", HEADER, 0x02, 2, 0x0010, 0},
	{"Command", HEADER, 0x04, 2, 0, 0x0547},
	{"Status", HEADER, 0x06, 2, 0x0010, 0},
	{"Revision ID", HEADER, 0x08, 1, 7, 0},
	{"Class Code", HEADER, 0x08, 4, 0x01080207, 0},
	{"Cache Line Size", HEADER, 0x0c, 1, 0, 0xff},
	{"Latency Timer, Header Type, BIST", HEADER, 0x0d, 1, 0, 0},
	{"Header Type", HEADER, 0x0e, 2, 0, 0},
	{"BAR 0: 64-bit memory of 16 KiB", HEADER, 0x10, 4, 0x4, 0xffffc000},
	{"BAR 1: its upper half", HEADER, 0x14, 4, 0, 0xffffffff},
	{"BAR 2: prefetchable memory of 256 bytes", HEADER, 0x18, 4, 0x8, 0xffffff00},
	{"BAR 3: I/O of 8 bytes", HEADER, 0x1c, 4, 0x1, 0xfffffff8},
	{"BAR 4: none", HEADER, 0x20, 4, 0, 0},
	{"BAR 5: none", HEADER, 0x24, 4, 0, 0},
	{"CardBus CIS", HEADER, 0x28, 4, 0, 0},
	{"Subsystem", HEADER, 0x2c, 4, 0x11001af4, 0},
	{"ROM of 4 KiB", HEADER, 0x30, 4, 0, 0xfffff001},
	{"Capabilities Pointer", HEADER, 0x34, 4, 0x40, 0},
	{"Reserved", HEADER, 0x38, 4, 0, 0},
	{"Interrupt Line and Pin", HEADER, 0x3c, 4, 0x100, 0xff},
	{"PM: id", CONVENTIONAL(PCI_CAP_ID_PM), 0, 2, 0x4801, 0},
	{"PM: capabilities", CONVENTIONAL(PCI_CAP_ID_PM), 2, 2, 0x0003, 0},
	{"PM: bridge, data", CONVENTIONAL(PCI_CAP_ID_PM), 6, 2, 0, 0},
	{"MSI: id", CONVENTIONAL(PCI_CAP_ID_MSI), 0, 2, 0x6005, 0},
	{"MSI: control", CONVENTIONAL(PCI_CAP_ID_MSI), 2, 2, 0x0186, 0x0071},
	{"MSI: address", CONVENTIONAL(PCI_CAP_ID_MSI), 4, 4, 0, 0xfffffffc},
	{"MSI: upper address", CONVENTIONAL(PCI_CAP_ID_MSI), 8, 4, 0, 0xffffffff},
	{"MSI: data", CONVENTIONAL(PCI_CAP_ID_MSI), 12, 4, 0, 0x0000ffff},
	{"MSI: mask", CONVENTIONAL(PCI_CAP_ID_MSI), 16, 4, 0, 0x000000ff},
	{"MSI: pending", CONVENTIONAL(PCI_CAP_ID_MSI), 20, 4, 0, 0},
	{"MSI-X: id", CONVENTIONAL(PCI_CAP_ID_MSIX), 0, 2, 0x6c11, 0},
	{"MSI-X: control", CONVENTIONAL(PCI_CAP_ID_MSIX), 2, 2, MSIX_VECTORS - 1, 0xc000},
	{"MSI-X: table", CONVENTIONAL(PCI_CAP_ID_MSIX), 4, 4, MSIX_TABLE, 0},
	{"MSI-X: PBA", CONVENTIONAL(PCI_CAP_ID_MSIX), 8, 4, MSIX_PBA, 0},
	{"Express: id", CONVENTIONAL(PCI_CAP_ID_EXP), 0, 2, 0xa810, 0},
	{"Express: capabilities", CONVENTIONAL(PCI_CAP_ID_EXP), 2, 2, 0x0002, 0},
	{"Express: device capabilities", CONVENTIONAL(PCI_CAP_ID_EXP), 4, 4, 0x10008021, 0},
	/* Bit 15 would reset. */
	{"Express: device control", CONVENTIONAL(PCI_CAP_ID_EXP), 8, 1, 0x10, 0xff},
	{"Express: device status", CONVENTIONAL(PCI_CAP_ID_EXP), 10, 2, 0, 0},
	{"Express: link capabilities", CONVENTIONAL(PCI_CAP_ID_EXP), 12, 4, 0x11, 0},
	{"Express: link control", CONVENTIONAL(PCI_CAP_ID_EXP), 16, 2, 0, 0x00cb},
	{"Express: link status", CONVENTIONAL(PCI_CAP_ID_EXP), 18, 2, 0x11, 0},
	{"Express: slot capabilities", CONVENTIONAL(PCI_CAP_ID_EXP), 20, 4, 0, 0},
	{"Express: slot control and status", CONVENTIONAL(PCI_CAP_ID_EXP), 24, 4, 0, 0},
	{"Express: root control", CONVENTIONAL(PCI_CAP_ID_EXP), 28, 4, 0, 0},
	{"Express: root status", CONVENTIONAL(PCI_CAP_ID_EXP), 32, 4, 0, 0},
	{"Express: device capabilities 2", CONVENTIONAL(PCI_CAP_ID_EXP), 36, 4, 0x10, 0},
	{"Express: device control 2", CONVENTIONAL(PCI_CAP_ID_EXP), 40, 4, 0, 0x10},
	{"Express: link capabilities 2", CONVENTIONAL(PCI_CAP_ID_EXP), 44, 4, 2, 0},
	{"Express: link control 2", CONVENTIONAL(PCI_CAP_ID_EXP), 48, 4, 1, 0},
	{"Express: slot 2", CONVENTIONAL(PCI_CAP_ID_EXP), 52, 4, 0, 0},
	{"Express: slot control 2", CONVENTIONAL(PCI_CAP_ID_EXP), 56, 4, 0, 0},
	{"vendor: head", CONVENTIONAL(PCI_CAP_ID_VNDR), 0, 4, 0x01080009, 0xff000000},
	{"vendor: data", CONVENTIONAL(PCI_CAP_ID_VNDR), 4, 4, 0x05040302, 0xf0000f00},
	{"AER: head", EXTENDED(PCI_EXT_CAP_ID_ERR), 0, 4, 0x14820001, 0},
	{"AER: uncorrectable status", EXTENDED(PCI_EXT_CAP_ID_ERR), 4, 4, 0, 0},
	{"AER: uncorrectable mask", EXTENDED(PCI_EXT_CAP_ID_ERR), 8, 4, 0x00400000, 0x03fff010},
	{"AER: severity", EXTENDED(PCI_EXT_CAP_ID_ERR), 12, 4, 0x00462010, 0x03fff010},
	{"AER: correctable status", EXTENDED(PCI_EXT_CAP_ID_ERR), 16, 4, 0, 0},
	{"AER: correctable mask", EXTENDED(PCI_EXT_CAP_ID_ERR), 20, 4, 0xe000, 0xf1c1},
	{"AER: control", EXTENDED(PCI_EXT_CAP_ID_ERR), 24, 4, 0, 0},
	{"AER: header log", EXTENDED(PCI_EXT_CAP_ID_ERR), 28, 4, 0, 0},
	{"AER: header log, end", EXTENDED(PCI_EXT_CAP_ID_ERR), 40, 4, 0, 0},
	{"AER: prefix log", EXTENDED(PCI_EXT_CAP_ID_ERR), 56, 4, 0, 0},
	{"DSN: head", EXTENDED(PCI_EXT_CAP_ID_DSN), 0, 4, 0x15410003, 0},
	{"DSN: low", EXTENDED(PCI_EXT_CAP_ID_DSN), 4, 4, 0x55667788, 0},
	{"DSN: high", EXTENDED(PCI_EXT_CAP_ID_DSN), 8, 4, 0x11223344, 0},
	{"ARI: head", EXTENDED(PCI_EXT_CAP_ID_ARI), 0, 4, 0x15c1000e, 0},
	{"ARI: capability and control", EXTENDED(PCI_EXT_CAP_ID_ARI), 4, 4, 0x0300, 0},
	{"ACS: head", EXTENDED(PCI_EXT_CAP_ID_ACS), 0, 4, 0x16c1000d, 0},
	{"ACS: capability and control", EXTENDED(PCI_EXT_CAP_ID_ACS), 4, 4, 0x2861, 0x00610000},
	{"ACS: egress vector", EXTENDED(PCI_EXT_CAP_ID_ACS), 8, 4, 0, 0xffffffff},
	{"ACS: egress vector, its 40 bits' end", EXTENDED(PCI_EXT_CAP_ID_ACS), 12, 4, 0, 0xff},
	{"VSEC: head", EXTENDED(PCI_EXT_CAP_ID_VNDR), 0, 4, 0x0001000b, 0},
	{"VSEC: id, rev, length", EXTENDED(PCI_EXT_CAP_ID_VNDR), 4, 4, 0x00d21234, 0},
	{"VSEC: data", EXTENDED(PCI_EXT_CAP_ID_VNDR), 8, 4, 0x04030201, 0x000f00ff},
	{"VSEC: data, end", EXTENDED(PCI_EXT_CAP_ID_VNDR), 12, 4, 5, 0xf0},
};
/* clang-format on */

static void test_registers(void **state)
{
	struct uvf_device *dev = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(rows); i++) {
		const struct register_row *row = &rows[i];
		uint64_t at = (row->id ? find(dev, row->id, row->extended) : 0U) + row->offset;
		uint32_t all = row->size == 4 ? UINT32_MAX : (1U << row->size * 8) - 1;
		uint32_t initial = config_read(dev, at, row->size), ones, zeros;

		config_write(dev, at, all, row->size);
		ones = config_read(dev, at, row->size);
		config_write(dev, at, 0, row->size);
		zeros = config_read(dev, at, row->size);
		if (initial != row->initial)
			fail_msg("%s: 0x%x after a reset, not 0x%x", row->name, initial,
				 row->initial);
		if (ones != (row->initial | row->writable) ||
		    zeros != (row->initial & ~row->writable))
			fail_msg("%s: ones give 0x%x, zeros 0x%x", row->name, ones, zeros);
		assert_int_equal(uvf_device_reset(dev, UVF_RESET_DEVICE), 0);
	}
}

/* ---- Shape ---- */

static void test_lists(void **state)
{
	struct uvf_device *dev = *state;
	const uint8_t conventional[] = {PCI_CAP_ID_PM, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX,
					PCI_CAP_ID_EXP, PCI_CAP_ID_VNDR};
	const uint16_t extended[] = {PCI_EXT_CAP_ID_ERR, PCI_EXT_CAP_ID_DSN, PCI_EXT_CAP_ID_ARI,
				     PCI_EXT_CAP_ID_ACS, PCI_EXT_CAP_ID_VNDR};
	uint32_t at = config_read(dev, PCI_CAPABILITY_LIST, 1);

	for (size_t i = 0; i < UVF_ARRAY_SIZE(conventional); i++) {
		assert_int_equal(config_read(dev, at, 1), conventional[i]);
		assert_int_equal(uvf_pci_find_capability(dev, conventional[i], false), at);
		at = config_read(dev, at + 1, 1);
	}
	assert_int_equal(at, 0);
	at = PCI_CFG_SPACE_SIZE;
	for (size_t i = 0; i < UVF_ARRAY_SIZE(extended); i++) {
		uint32_t head = config_read(dev, at, 4);

		assert_int_equal(PCI_EXT_CAP_ID(head), extended[i]);
		assert_int_equal(uvf_pci_find_capability(dev, extended[i], true), at);
		at = PCI_EXT_CAP_NEXT(head);
	}
	assert_int_equal(at, 0);
	assert_int_equal(uvf_pci_find_capability(dev, PCI_CAP_ID_AGP, false), 0);
	/* An extended id is not a conventional one. */
	assert_int_equal(uvf_pci_find_capability(dev, PCI_CAP_ID_EXP, true), 0);
	assert_int_equal(uvf_pci_find_capability(dev, 0, false), 0);
}

static void test_regions_and_irqs(void **state)
{
	static const struct {
		uint32_t flags;
		uint64_t size;
	} regions[] = {
		{3, 0x4000}, {0, 0}, {3, 0x100}, {3, 8}, {0, 0}, {0, 0}, {1, 4096}, {3, 4096},
	};
	static const struct {
		uint32_t flags;
		uint32_t count;
	} irqs[] = {{7, 1}, {9, 8}, {9, MSIX_VECTORS}, {9, 1}, {9, 1}};
	struct uvf_device *dev = *state;
	struct uvf_device_info info;

	uvf_device_get_info(dev, &info);
	assert_int_equal(info.flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
	assert_int_equal(info.regions, UVF_ARRAY_SIZE(regions));
	assert_int_equal(info.irqs, UVF_ARRAY_SIZE(irqs));
	for (uint32_t i = 0; i < info.regions; i++) {
		struct uvf_region_info region;

		assert_int_equal(uvf_region_get_info(dev, i, &region), 0);
		assert_int_equal(region.flags, regions[i].flags);
		assert_int_equal(region.size, regions[i].size);
	}
	for (uint32_t i = 0; i < info.irqs; i++) {
		struct uvf_irq_info irq;

		assert_int_equal(uvf_irq_get_info(dev, i, &irq), 0);
		assert_int_equal(irq.flags, irqs[i].flags);
		assert_int_equal(irq.count, irqs[i].count);
	}
}

/* ---- Accesses that are not one register ---- */

static void read_all(struct uvf_device *dev, uint8_t bytes[4096])
{
	assert_int_equal(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, bytes, 4096), 4096);
}

/* Bytes read the same in whatever pieces. */
static void test_read_pieces(void **state)
{
	struct uvf_device *dev = *state;
	uint8_t whole[4096], piece[9];

	read_all(dev, whole);
	for (size_t at = 0; at < 4096; at++) {
		for (size_t size = 1; size <= sizeof(piece) && at + size <= 4096; size++) {
			assert_int_equal(
				uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, at, piece, size),
				size);
			assert_memory_equal(piece, whole + at, size);
		}
	}
}

static void test_past_the_end(void **state)
{
	struct uvf_device *dev = *state;
	uint8_t bytes[8] = {0};

	assert_int_equal(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, 4096, bytes, 1),
			 -EINVAL);
	assert_int_equal(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, 4093, bytes, 4),
			 -EINVAL);
	assert_int_equal(uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, 4092, bytes, 8),
			 -EINVAL);
	assert_int_equal(uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, UINT64_MAX, bytes, 2),
			 -EINVAL);
	assert_int_equal(uvf_region_write(dev, VFIO_PCI_ROM_REGION_INDEX, 0, bytes, 1), -EINVAL);
}

/*
 * Writing @size bytes of ones anywhere must do what writing them one by one does: no access gets
 * to bits that smaller ones don't.
 */
static void test_write_pieces(void **state)
{
	static uint8_t by_byte[4096], at_once[4096];
	uint8_t ones[16];
	struct uvf_device *dev = *state;
	uint16_t express = find(dev, PCI_CAP_ID_EXP, false);

	memset(ones, 0xff, sizeof(ones));
	for (size_t at = 0; at + sizeof(ones) <= 0x300; at++) {
		/* Neither a power state that isn't there nor a reset. */
		bool pm = at < find(dev, PCI_CAP_ID_PM, false) + 5U &&
			  at + sizeof(ones) > find(dev, PCI_CAP_ID_PM, false) + 4U;
		bool flr = at <= express + 9U && at + sizeof(ones) > express + 9U;

		if (pm || flr)
			continue;
		uvf_device_reset(dev, UVF_RESET_DEVICE);
		for (size_t i = 0; i < sizeof(ones); i++)
			config_write(dev, at + i, 0xff, 1);
		read_all(dev, by_byte);
		uvf_device_reset(dev, UVF_RESET_DEVICE);
		assert_int_equal(
			uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, at, ones, sizeof(ones)),
			sizeof(ones));
		read_all(dev, at_once);
		assert_memory_equal(by_byte, at_once, sizeof(by_byte));
	}
}

/* A vendor capability of 8 bytes, and what is behind it: nobody's. */
static void test_borders(void **state)
{
	struct uvf_device *dev = *state;
	uint16_t vendor = find(dev, PCI_CAP_ID_VNDR, false);
	uint16_t msix = find(dev, PCI_CAP_ID_MSIX, false);
	uint16_t express = find(dev, PCI_CAP_ID_EXP, false);

	config_write(dev, vendor + 6U, UINT32_MAX, 4);
	assert_int_equal(config_read(dev, vendor + 6U, 4), 0xf504);
	config_write(dev, vendor + 8U, UINT32_MAX, 4);
	assert_int_equal(config_read(dev, vendor + 8U, 4), 0);
	/* From the end of MSI-X into Express's head. */
	assert_int_equal(msix + 12, express);
	config_write(dev, express - 2U, UINT32_MAX, 4);
	assert_int_equal(config_read(dev, express, 2), 0xa810);
	/* A dword across two registers: their hooks see only their own. */
	config_write(dev, msix, 0xc000ffff, 4);
	assert_int_equal(config_read(dev, msix, 4), (0xc000U | (MSIX_VECTORS - 1)) << 16 | 0x6c11);
}

static void test_unaligned_dword(void **state)
{
	struct uvf_device *dev = *state;

	/* The last bytes of BAR 0, the first of BAR 1. */
	config_write(dev, 0x12, 0x44332211, 4);
	assert_int_equal(config_read(dev, 0x10, 4), 0x22110004);
	assert_int_equal(config_read(dev, 0x14, 4), 0x4433);
	/* One byte of a BAR leaves the others. */
	config_write(dev, 0x11, 0xff, 1);
	assert_int_equal(config_read(dev, 0x10, 4), 0x2211c004);
}

/* ---- Command and status ---- */

static void test_bus_master(void **state)
{
	struct uvf_device *dev = *state;
	struct model *model = uvf_device_opaque(dev);

	config_write(dev, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	assert_true(model->bus_master);
	config_write(dev, PCI_COMMAND + 1, 0xff, 1);
	assert_true(model->bus_master);
	config_write(dev, PCI_COMMAND, 0, 1);
	assert_false(model->bus_master);
	config_write(dev, PCI_COMMAND, PCI_COMMAND_MASTER, 4);
	assert_true(model->bus_master);
	uvf_device_reset(dev, UVF_RESET_DEVICE);
	assert_false(model->bus_master);
	assert_int_equal(config_read(dev, PCI_COMMAND, 2), 0);
	config_write(dev, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	assert_true(model->bus_master);
}

/* ---- Resets ---- */

static void test_flr(void **state)
{
	struct uvf_device *dev = *state;
	struct model *model = uvf_device_opaque(dev);
	uint16_t express = find(dev, PCI_CAP_ID_EXP, false);
	uint16_t aer = find(dev, PCI_EXT_CAP_ID_ERR, true);

	config_write(dev, PCI_BASE_ADDRESS_0, 0xabcd0000, 4);
	config_write(dev, PCI_COMMAND, 7, 2);
	config_write(dev, aer + (uint32_t)PCI_ERR_COR_MASK, 0x1, 4);
	config_write(dev, express + (uint32_t)PCI_EXP_LNKCTL, 0x40, 2);
	config_write(dev, express + (uint32_t)PCI_EXP_DEVCTL, 0x8020, 2);
	assert_int_equal(model->resets, 1);
	assert_int_equal(model->last_reset, UVF_RESET_FLR);
	assert_false(model->bus_master);
	assert_int_equal(config_read(dev, PCI_BASE_ADDRESS_0, 4), 4);
	assert_int_equal(config_read(dev, PCI_COMMAND, 2), 0);
	/* Sticky, and what a function level reset leaves alone. */
	assert_int_equal(config_read(dev, aer + (uint32_t)PCI_ERR_COR_MASK, 4), 1);
	assert_int_equal(config_read(dev, express + (uint32_t)PCI_EXP_LNKCTL, 2), 0x40);
	assert_int_equal(config_read(dev, express + (uint32_t)PCI_EXP_DEVCTL, 2), 0x2830);
	/* A write without the bit is none, nor is one of the other byte. */
	config_write(dev, express + (uint32_t)PCI_EXP_DEVCTL, 0x80, 1);
	assert_int_equal(model->resets, 1);
	config_write(dev, express + PCI_EXP_DEVCTL + 1U, 0x80, 1);
	assert_int_equal(model->resets, 2);
	assert_int_equal(uvf_device_reset(dev, UVF_RESET_HOT), 0);
	assert_int_equal(config_read(dev, express + (uint32_t)PCI_EXP_LNKCTL, 2), 0);
	assert_int_equal(config_read(dev, aer + (uint32_t)PCI_ERR_COR_MASK, 4), 1);
	assert_int_equal(uvf_device_reset(dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(config_read(dev, aer + (uint32_t)PCI_ERR_COR_MASK, 4), 0xe000);
}

static void test_next_owner_sees_nothing(void **state)
{
	static uint8_t before[4096], after[4096];
	struct uvf_device *dev = *state;
	uint8_t ones[64];

	memset(ones, 0xff, sizeof(ones));
	read_all(dev, before);
	for (uint64_t at = 0; at < 4096; at += sizeof(ones))
		assert_int_equal(
			uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, at, ones, sizeof(ones)),
			sizeof(ones));
	uvf_device_close(dev);
	assert_int_equal(uvf_device_open(dev), 0);
	read_all(dev, after);
	assert_memory_equal(before, after, sizeof(before));
}

/* ---- Power management ---- */

static void test_power_states(void **state)
{
	struct uvf_device *dev = *state;
	struct model *model = uvf_device_opaque(dev);
	uint32_t control = find(dev, PCI_CAP_ID_PM, false) + (uint32_t)PCI_PM_CTRL;

	enable_memory(dev);
	bar_write32(dev, 0, 0, 0x12345678);
	/* D1 and D2 are not there. */
	config_write(dev, control, 1, 2);
	assert_int_equal(config_read(dev, control, 2), 0);
	config_write(dev, control, 2, 2);
	assert_int_equal(config_read(dev, control, 2), 0);
	assert_int_equal(bar_read32(dev, 0, 0), 0x12345678);

	config_write(dev, control, 3, 2);
	assert_int_equal(config_read(dev, control, 2), 3);
	assert_int_equal(bar_read32(dev, 0, 0), UINT32_MAX);
	bar_write32(dev, 0, 0, 1);
	assert_false(model->bus_master);
	assert_int_equal(model->resets, 0);
	config_write(dev, PCI_COMMAND, 7, 2);
	assert_false(model->bus_master);
	config_write(dev, control, 2, 2);
	assert_int_equal(config_read(dev, control, 2), 3);

	config_write(dev, control, 0, 2);
	assert_int_equal(config_read(dev, control, 2), 0);
	assert_int_equal(model->resets, 1);
	assert_int_equal(model->last_reset, UVF_RESET_PM);
	assert_int_equal(config_read(dev, PCI_COMMAND, 2), 0);
	enable_memory(dev);
	assert_int_equal(bar_read32(dev, 0, 0), 0x12345678);
	/* The ROM is off in D3hot too. */
	assert_int_equal(bar_read32(dev, VFIO_PCI_ROM_REGION_INDEX, 0), 0xaa55);
	config_write(dev, control, 3, 2);
	assert_int_equal(bar_read32(dev, VFIO_PCI_ROM_REGION_INDEX, 0), UINT32_MAX);
}

static void test_no_soft_reset(void **state)
{
	const struct uvf_pci_capability pm = {.id = PCI_CAP_ID_PM, .pm = {.no_soft_reset = true}};
	struct uvf_pci_description description = everything;
	struct model model;
	struct uvf_device *dev;
	uint32_t control;

	description.capabilities = &pm;
	description.capability_count = 1;
	dev = device_from(&description, &model);
	control = find(dev, PCI_CAP_ID_PM, false) + (uint32_t)PCI_PM_CTRL;
	assert_int_equal(config_read(dev, control, 2), PCI_PM_CTRL_NO_SOFT_RESET);
	enable_memory(dev);
	config_write(dev, control, 3, 2);
	assert_false(model.bus_master);
	config_write(dev, control, 0, 2);
	assert_true(model.bus_master);
	assert_int_equal(model.resets, 0);
	assert_int_equal(config_read(dev, PCI_COMMAND, 2), 6);
	uvf_device_free(dev);
}

/* ---- Variants ---- */

static void test_small(void **state)
{
	const struct uvf_pci_description description = {.vendor = 1, .device = 2};
	struct model model;
	struct uvf_device *dev = device_from(&description, &model);
	struct uvf_region_info info;
	struct uvf_irq_info irq;
	uint8_t byte = 0;

	assert_int_equal(uvf_region_get_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info), 0);
	assert_int_equal(info.size, 256);
	assert_int_equal(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, 256, &byte, 1),
			 -EINVAL);
	/* No list, no pin, no ROM. */
	assert_int_equal(config_read(dev, PCI_STATUS, 2), 0);
	assert_int_equal(config_read(dev, PCI_CAPABILITY_LIST, 1), 0);
	assert_int_equal(config_read(dev, PCI_INTERRUPT_PIN, 1), 0);
	config_write(dev, PCI_ROM_ADDRESS, UINT32_MAX, 4);
	assert_int_equal(config_read(dev, PCI_ROM_ADDRESS, 4), 0);
	assert_int_equal(uvf_irq_get_info(dev, VFIO_PCI_INTX_IRQ_INDEX, &irq), 0);
	assert_int_equal(irq.count, 0);
	uvf_pci_intx(dev, true);
	assert_int_equal(config_read(dev, PCI_STATUS, 2), 0);
	assert_false(uvf_pci_msi(dev, 0));
	assert_int_equal(uvf_pci_inject_error(dev, true, 0, NULL), -ENOTTY);
	assert_null(uvf_pci_bar_memory(dev, 0));
	assert_null(uvf_pci_bar_memory(dev, 6));
	uvf_device_free(dev);
	assert_int_equal(model.destroyed, 1);
}

static void test_root_complex_integrated(void **state)
{
	const struct uvf_pci_capability express = {
		.id = PCI_CAP_ID_EXP,
		.express = {.root_complex_integrated = true},
	};
	const struct uvf_pci_description description = {.capabilities = &express,
							.capability_count = 1};
	struct model model;
	struct uvf_device *dev = device_from(&description, &model);
	uint32_t at = find(dev, PCI_CAP_ID_EXP, false);

	assert_int_equal(config_read(dev, at + PCI_EXP_FLAGS, 2), 0x0092);
	assert_int_equal(config_read(dev, at + PCI_EXP_LNKCAP, 4), 0);
	config_write(dev, at + PCI_EXP_LNKCTL, 0xffff, 2);
	assert_int_equal(config_read(dev, at + PCI_EXP_LNKCTL, 2), 0);
	/* Neither FLR nor a payload over 128 bytes. */
	config_write(dev, at + PCI_EXP_DEVCTL, 0xffff, 2);
	assert_int_equal(model.resets, 0);
	assert_int_equal(config_read(dev, at + PCI_EXP_DEVCTL, 2), 0x791f);
	/* There are no extended capabilities: the walk ends at once. */
	assert_int_equal(config_read(dev, 0x100, 4), 0);
	uvf_device_free(dev);
}

static void test_msi_layouts(void **state)
{
	static const struct {
		bool address64, maskable;
		uint16_t control;
		uint8_t size;
		uint8_t data, mask; /* mask 0: none */
	} layouts[] = {
		{false, false, 0x0004, 0x0c, 0x08, 0},
		{true, false, 0x0084, 0x10, 0x0c, 0},
		{false, true, 0x0104, 0x14, 0x08, 0x0c},
		{true, true, 0x0184, 0x18, 0x0c, 0x10},
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(layouts); i++) {
		const struct uvf_pci_capability capabilities[] = {
			{.id = PCI_CAP_ID_MSI,
			 .msi = {.vectors = 4,
				 .address64 = layouts[i].address64,
				 .maskable = layouts[i].maskable}},
			{.id = PCI_CAP_ID_PM},
		};
		const struct uvf_pci_description description = {
			.capabilities = capabilities,
			.capability_count = UVF_ARRAY_SIZE(capabilities),
		};
		struct model model;
		struct uvf_device *dev = device_from(&description, &model);
		uint32_t at = find(dev, PCI_CAP_ID_MSI, false);

		assert_int_equal(config_read(dev, at + PCI_MSI_FLAGS, 2), layouts[i].control);
		assert_int_equal(find(dev, PCI_CAP_ID_PM, false), at + layouts[i].size);
		config_write(dev, at + layouts[i].data, 0xffffffff, 4);
		assert_int_equal(config_read(dev, at + layouts[i].data, 4), 0xffff);
		if (layouts[i].mask) {
			config_write(dev, at + layouts[i].mask, 0xffffffff, 4);
			assert_int_equal(config_read(dev, at + layouts[i].mask, 4), 0xf);
		}
		uvf_device_free(dev);
	}
}

#define WITH_DEVICE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DEVICE(test_registers),
		WITH_DEVICE(test_lists),
		WITH_DEVICE(test_regions_and_irqs),
		WITH_DEVICE(test_read_pieces),
		WITH_DEVICE(test_past_the_end),
		WITH_DEVICE(test_write_pieces),
		WITH_DEVICE(test_borders),
		WITH_DEVICE(test_unaligned_dword),
		WITH_DEVICE(test_bus_master),
		WITH_DEVICE(test_flr),
		WITH_DEVICE(test_next_owner_sees_nothing),
		WITH_DEVICE(test_power_states),
		cmocka_unit_test(test_no_soft_reset),
		cmocka_unit_test(test_small),
		cmocka_unit_test(test_root_complex_integrated),
		cmocka_unit_test(test_msi_layouts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
