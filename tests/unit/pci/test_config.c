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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
