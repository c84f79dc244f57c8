/* SPDX-License-Identifier: BSD-3-Clause */
/* BARs and ROM: gating, mappable areas, the MSI-X table and PBA inside a BAR. */
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

/* ---- Gating ---- */

static void test_gates(void **state)
{
	static const struct {
		uint32_t bar;
		uint16_t command;
		bool answers;
	} rows[] = {
		{0, 0, false},
		{0, PCI_COMMAND_IO, false},
		{0, PCI_COMMAND_MASTER, false},
		{0, PCI_COMMAND_MEMORY, true},
		{2, PCI_COMMAND_IO, false},
		{2, PCI_COMMAND_MEMORY, true},
		{3, PCI_COMMAND_MEMORY, false},
		{3, PCI_COMMAND_IO, true},
	};
	struct uvf_device *dev = *state;
	struct model *model = uvf_device_opaque(dev);

	for (size_t i = 0; i < UVF_ARRAY_SIZE(rows); i++) {
		uvf_put_le32(model->bar, 0x1000 + (uint32_t)i);
		config_write(dev, PCI_COMMAND, rows[i].command, 2);
		assert_int_equal(bar_read32(dev, rows[i].bar, 0),
				 rows[i].answers ? 0x1000 + i : UINT32_MAX);
		bar_write32(dev, rows[i].bar, 0, 0x2000);
		assert_int_equal(uvf_get_le32(model->bar), rows[i].answers ? 0x2000 : 0x1000 + i);
	}
}

/* Also for what the core itself keeps. */
static void test_table_is_gated(void **state)
{
	struct uvf_device *dev = *state;

	assert_int_equal(bar_read32(dev, 0, MSIX_TABLE), UINT32_MAX);
	assert_int_equal(bar_read32(dev, 0, MSIX_PBA), UINT32_MAX);
	bar_write32(dev, 0, MSIX_TABLE, 0x1000);
	enable_memory(dev);
	assert_int_equal(bar_read32(dev, 0, MSIX_TABLE), 0);
}

static void test_rom(void **state)
{
	struct uvf_device *dev = *state;
	uint8_t tail[1200];

	assert_int_equal(bar_read32(dev, VFIO_PCI_ROM_REGION_INDEX, 0), 0xaa55);
	assert_int_equal(uvf_region_read(dev, VFIO_PCI_ROM_REGION_INDEX, 2900, tail, 1196), 1196);
	assert_memory_equal(tail, rom_bytes + 2900, 100);
	for (size_t i = 100; i < 1196; i++)
		assert_int_equal(tail[i], 0xff);
	assert_int_equal(uvf_region_read(dev, VFIO_PCI_ROM_REGION_INDEX, 4095, tail, 2), -EINVAL);
}

/* ---- MSI-X table and PBA ---- */

static void test_table_after_reset(void **state)
{
	static const uint8_t entry[16] = {[PCI_MSIX_ENTRY_VECTOR_CTRL] = 1};
	struct uvf_device *dev = *state;
	uint8_t bytes[16];

	enable_memory(dev);
	for (unsigned i = 0; i < MSIX_VECTORS; i++) {
		assert_int_equal(uvf_region_read(dev, 0, MSIX_TABLE + 16 * i, bytes, 16), 16);
		assert_memory_equal(bytes, entry, 16);
	}
	for (unsigned i = 0; i < 16; i += 4)
		assert_int_equal(bar_read32(dev, 0, MSIX_PBA + i), 0);
}

static void test_table_registers(void **state)
{
	static const uint32_t writable[4] = {0xfffffffc, 0xffffffff, 0xffffffff, 1};
	struct uvf_device *dev = *state;

	enable_memory(dev);
	for (unsigned i = 0; i < MSIX_VECTORS * 4; i++) {
		bar_write32(dev, 0, MSIX_TABLE + 4 * i, UINT32_MAX);
		assert_int_equal(bar_read32(dev, 0, MSIX_TABLE + 4 * i), writable[i % 4]);
		bar_write32(dev, 0, MSIX_TABLE + 4 * i, 0);
		assert_int_equal(bar_read32(dev, 0, MSIX_TABLE + 4 * i), 0);
	}
	uvf_device_reset(dev, UVF_RESET_DEVICE);
	enable_memory(dev);
	assert_int_equal(bar_read32(dev, 0, MSIX_TABLE + 12), 1);
}

static void test_pba_is_read_only(void **state)
{
	struct uvf_device *dev = *state;
	struct model *model = uvf_device_opaque(dev);

	enable_memory(dev);
	bar_write32(dev, 0, MSIX_PBA, UINT32_MAX);
	assert_int_equal(bar_read32(dev, 0, MSIX_PBA), 0);
	assert_int_equal(uvf_get_le32(model->bar + MSIX_PBA), 0);
}

/* One access over the end of the table: the model gets its part only. */
static void test_cut_access(void **state)
{
	const uint64_t end = MSIX_TABLE + MSIX_VECTORS * 16;
	struct uvf_device *dev = *state;
	struct model *model = uvf_device_opaque(dev);
	uint8_t bytes[16];

	enable_memory(dev);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(uvf_region_write(dev, 0, end - 8, bytes, 16), 16);
	assert_int_equal(model->bar[end - 1], 0);
	assert_int_equal(model->bar[end], 0xff);
	assert_int_equal(model->bar[end + 7], 0xff);
	assert_int_equal(model->bar[end + 8], 0);
	assert_int_equal(uvf_region_read(dev, 0, end - 8, bytes, 16), 16);
	assert_int_equal(uvf_get_le32(bytes), UINT32_MAX);
	assert_int_equal(uvf_get_le32(bytes + 4), 1);
	assert_int_equal(uvf_get_le64(bytes + 8), UINT64_MAX);
	/* And over its beginning. */
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(uvf_region_write(dev, 0, MSIX_TABLE - 3, bytes, 4), 4);
	assert_int_equal(model->bar[MSIX_TABLE - 1], 0xff);
	assert_int_equal(model->bar[MSIX_TABLE], 0);
	assert_int_equal(bar_read32(dev, 0, MSIX_TABLE), 0xfc);
}

/* From before the table to after the PBA in one access. */
static void test_whole_bar(void **state)
{
	static uint8_t bytes[0x4000];
	struct uvf_device *dev = *state;
	struct model *model = uvf_device_opaque(dev);

	enable_memory(dev);
	memset(model->bar, 0x5a, sizeof(model->bar));
	assert_int_equal(uvf_region_read(dev, 0, 0, bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(bytes[MSIX_TABLE - 1], 0x5a);
	assert_int_equal(bytes[MSIX_TABLE], 0);
	assert_int_equal(bytes[MSIX_TABLE + MSIX_VECTORS * 16], 0x5a);
	assert_int_equal(bytes[MSIX_PBA], 0);
	assert_int_equal(bytes[MSIX_PBA + 15], 0);
	assert_int_equal(bytes[MSIX_PBA + 16], 0x5a);
	assert_int_equal(bytes[0x3fff], 0x5a);
	assert_int_equal(uvf_region_read(dev, 0, 1, bytes, sizeof(bytes)), -EINVAL);
}

/* ---- Areas ---- */

static const struct uvf_pci_bar_area areas[] = {{0x1000, 0x1000}, {0x3000, 0x1000}};
static const struct uvf_pci_capability msix_beside_areas = {
	.id = PCI_CAP_ID_MSIX,
	.msix = {.vectors = 4, .table_offset = 0x2000, .pba_offset = 0x2800},
};

static void test_areas(void **state)
{
	struct uvf_pci_description description = everything;
	struct uvf_region_info info;
	struct uvf_device *dev;
	struct model model;
	uint8_t *memory;
	void *mapped;

	description.capabilities = &msix_beside_areas;
	description.capability_count = 1;
	description.bars[0].areas = areas;
	description.bars[0].area_count = 2;
	dev = device_from(&description, &model);
	assert_int_equal(uvf_region_get_info(dev, 0, &info), 0);
	assert_int_equal(info.area_count, 2);
	assert_true(info.flags & VFIO_REGION_INFO_FLAG_MMAP);
	memory = uvf_pci_bar_memory(dev, 0);
	assert_non_null(memory);
	assert_null(uvf_pci_bar_memory(dev, 2));

	assert_int_equal(uvf_region_map(dev, 0, 0x3000, 0x1000, &mapped), 0);
	*(volatile uint32_t *)mapped = 0x11223344;
	assert_int_equal(uvf_get_le32(memory + 0x3000), 0x11223344);
	uvf_region_unmap(dev, 0, 0x3000, 0x1000, mapped);
	/* What the core keeps is not to be had. */
	assert_int_equal(uvf_region_map(dev, 0, 0x2000, 0x1000, &mapped), -EINVAL);
	enable_memory(dev);
	bar_write32(dev, 0, 0x1000, 7);
	assert_int_equal(memory[0x1000], 7);
	assert_int_equal(model.bar[0x1000], 0);
	bar_write32(dev, 0, 0x2ffc, 9);
	assert_int_equal(model.bar[0x2ffc], 9);
	uvf_device_free(dev);
}

/* ---- A BAR for MSI-X alone ---- */

static void test_bar_without_model(void **state)
{
	struct uvf_pci_description description = everything;
	struct uvf_device *dev;
	struct model model;
	uint32_t value = 0;

	description.bars[0].read = NULL;
	description.bars[0].write = NULL;
	dev = device_from(&description, &model);
	enable_memory(dev);
	assert_int_equal(bar_read32(dev, 0, MSIX_TABLE + 12), 1);
	assert_int_equal(uvf_region_read(dev, 0, 0, &value, 4), -EINVAL);
	assert_int_equal(uvf_region_write(dev, 0, 0, &value, 4), -EINVAL);
	uvf_device_free(dev);
}

#define WITH_DEVICE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DEVICE(test_gates),
		WITH_DEVICE(test_table_is_gated),
		WITH_DEVICE(test_rom),
		WITH_DEVICE(test_table_after_reset),
		WITH_DEVICE(test_table_registers),
		WITH_DEVICE(test_pba_is_read_only),
		WITH_DEVICE(test_cut_access),
		WITH_DEVICE(test_whole_bar),
		cmocka_unit_test(test_areas),
		cmocka_unit_test(test_bar_without_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
