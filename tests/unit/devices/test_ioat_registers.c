/* SPDX-License-Identifier: BSD-3-Clause */
/* The DMA engine's registers, in BAR 0 and in configuration space. */
#include "ioat_rig.h"

#include <errno.h>

static int setup(void **state)
{
	struct rig *rig = malloc(sizeof(*rig));

	rig_open(rig, "ioat", true);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	rig_close(*state);
	free(*state);
	return 0;
}

#define CHANNEL(offset) (IOAT_CHANNEL_0 + (offset))

/* What each has after a reset, and what is left of all ones that are written. */
static const struct {
	uint64_t offset;
	size_t size;
	uint64_t initial, written;
} registers[] = {
	{IOAT_CHANCNT, 1, 1, 1},
	{IOAT_XFERCAP, 1, 20, 20},
	{IOAT_GENCTRL, 1, 0, 1},
	{IOAT_INTRCTRL, 1, 0, 0x09},
	{IOAT_ATTNSTATUS, 4, 0, 0},
	{IOAT_CBVER, 1, 0x33, 0x33},
	{IOAT_PERPORTOFFSET, 2, 0, 0},
	{IOAT_INTRDELAY, 2, 0, 0x3fff},
	{IOAT_CS_STATUS, 2, 0, 0},
	{IOAT_DMACAPABILITY, 4, 0x40, 0x40},
	{IOAT_DCAOFFSET, 2, 0, 0},
	{IOAT_CBPRIO, 1, 0, 0},
	{CHANNEL(IOAT_CHANCTRL), 2, 0, 0xf33c},
	{CHANNEL(IOAT_DMA_COMP), 2, 6, 6},
	{CHANNEL(IOAT_DMACOUNT), 2, 0, 0xffff},
	{CHANNEL(IOAT_CHANSTS), 8, IOAT_HALTED, IOAT_HALTED},
	{CHANNEL(IOAT_CHANCMP), 8, 0, UINT64_MAX},
	{CHANNEL(IOAT_CDAR), 8, 0, 0},
	{CHANNEL(IOAT_CHANERR), 4, 0, 0},
	{CHANNEL(IOAT_CHANERR_MASK), 4, 0, 0x7ffff},
	{CHANNEL(IOAT_CHANNEL_REGISTERS), 8, 0, 0}, /* no Direct Cache Access */
	{CHANNEL(IOAT_CHANNEL_SIZE), 8, 0, 0},	    /* no second channel */
	{IOAT_BAR_SIZE - 8, 8, 0, 0},
};

static void test_values(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(registers); i++) {
		uint64_t at = registers[i].offset;

		if (rig_get(rig, at, registers[i].size) != registers[i].initial)
			fail_msg("0x%llx begins otherwise", (unsigned long long)at);
		rig_put(rig, at, UINT64_MAX, registers[i].size);
		if (rig_get(rig, at, registers[i].size) != registers[i].written)
			fail_msg("0x%llx takes otherwise", (unsigned long long)at);
	}
	/* A reset of the device takes all of it back. */
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
	rig_config_put(rig, PCI_COMMAND, RIG_COMMAND, 2);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(registers); i++)
		if (rig_get(rig, registers[i].offset, registers[i].size) != registers[i].initial)
			fail_msg("0x%llx is not reset", (unsigned long long)registers[i].offset);
}

/* An access touches what it covers, in pieces of any size, and nothing else. */
static void test_pieces(void **state)
{
	struct rig *rig = *state;
	uint8_t bytes[32];

	rig_chan_put(rig, IOAT_CHANCMP, 0x1122334455667788, 8);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCMP + 3, 4), 0x22334455);
	rig_chan_put(rig, IOAT_CHANCMP + 4, 0xaabbccdd, 4);
	rig_chan_put(rig, IOAT_CHANCMP + 1, 0xeeff, 2);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCMP, 8), 0xaabbccdd55eeff88);
	/* CHAINADDR's last byte, CHANCMP, CDAR's first. */
	memset(bytes, 0x5a, sizeof(bytes));
	assert_int_equal(uvf_region_write(rig->dev, 0, CHANNEL(IOAT_CHANCMP) - 1, bytes, 10), 10);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCMP, 8), 0x5a5a5a5a5a5a5a5a);
	assert_int_equal(rig_chan_get(rig, IOAT_CHAINADDR, 8), 0x5aull << 56);
	assert_int_equal(rig_chan_get(rig, IOAT_CDAR, 8), 0x5aull << 56);
	/* One read of several registers. */
	assert_int_equal(rig_get(rig, IOAT_CHANCNT, 4), 0x00001401);
	assert_int_equal(uvf_region_read(rig->dev, 0, IOAT_CBVER, bytes, 12), 12);
	assert_int_equal(bytes[0], 0x33);
	assert_int_equal(bytes[IOAT_DMACAPABILITY - IOAT_CBVER], 0x40);
	/* Past the end there is nothing. */
	assert_int_equal(uvf_region_read(rig->dev, 0, IOAT_BAR_SIZE - 4, bytes, 8), -EINVAL);
	assert_int_equal(uvf_region_write(rig->dev, 0, IOAT_BAR_SIZE, bytes, 1), -EINVAL);
}

static void test_errors_are_cleared_by_ones(void **state)
{
	struct rig *rig = *state;

	rig_start(rig, 1000000, 1); /* outside the memory */
	rig_run(rig);
	rig_chan_put(rig, IOAT_CHANCMD, 0x41, 1);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4),
			 IOAT_ERR_CHAIN_ADDRESS | IOAT_ERR_CHANCMD);
	rig_chan_put(rig, IOAT_CHANERR, IOAT_ERR_CHAIN_ADDRESS, 4);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), IOAT_ERR_CHANCMD);
	rig_chan_put(rig, IOAT_CHANERR + 1, 0xff, 1);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), IOAT_ERR_CHANCMD);
	/* A channel's reset leaves it alone. */
	rig_chan_put(rig, IOAT_CHANCMD, IOAT_CHANCMD_RESET, 1);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), IOAT_ERR_CHANCMD);
	rig_chan_put(rig, IOAT_CHANERR, UINT32_MAX, 4);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), 0);
}

static void test_configuration(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_config_get(rig, PCI_VENDOR_ID), 0x20218086);
	assert_int_equal(rig_config_get(rig, PCI_CLASS_REVISION), 0x08800004);
	assert_int_equal(rig_config_get(rig, IOAT_PCI_DMAUNCERRSTS), 0);
	assert_int_equal(rig_config_get(rig, IOAT_PCI_CHANERR_INT), 0);
	rig_config_put(rig, IOAT_PCI_CHANERRMSK_INT, UINT32_MAX, 4);
	assert_int_equal(rig_config_get(rig, IOAT_PCI_CHANERRMSK_INT), IOAT_ERR_ALL);
	rig_config_put(rig, IOAT_PCI_CHANERRMSK_INT + 1, 0, 1);
	assert_int_equal(rig_config_get(rig, IOAT_PCI_CHANERRMSK_INT), 0x700ff);
	rig_config_put(rig, IOAT_PCI_CHANERRMSK_INT, IOAT_ERR_LENGTH, 4);
	/* Length errors don't get there, others do. */
	rig_copy(rig, 0, 0, 0);
	rig_start(rig, 0, 1);
	rig_run(rig);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), IOAT_ERR_LENGTH);
	assert_int_equal(rig_config_get(rig, IOAT_PCI_CHANERR_INT), 0);
	rig_chan_put(rig, IOAT_CHANCMD, 3, 1);
	assert_int_equal(rig_config_get(rig, IOAT_PCI_CHANERR_INT), IOAT_ERR_CHANCMD);
	rig_config_put(rig, IOAT_PCI_CHANERR_INT, IOAT_ERR_LENGTH, 4);
	assert_int_equal(rig_config_get(rig, IOAT_PCI_CHANERR_INT), IOAT_ERR_CHANCMD);
	rig_config_put(rig, IOAT_PCI_CHANERR_INT, IOAT_ERR_CHANCMD, 4);
	assert_int_equal(rig_config_get(rig, IOAT_PCI_CHANERR_INT), 0);
}

static void test_msix(void **state)
{
	struct uvf_irq_info info;
	struct rig *rig = *state;

	assert_int_equal(uvf_irq_get_info(rig->dev, VFIO_PCI_MSIX_IRQ_INDEX, &info), 0);
	assert_int_equal(info.count, 1);
	assert_int_equal(rig_config_get(rig, 0x80) >> 16 & 0x7ff, 0);
	assert_int_equal(rig_config_get(rig, 0x84), IOAT_MSIX_TABLE);
	assert_int_equal(rig_config_get(rig, 0x88), IOAT_MSIX_PBA);
}

/* Registers have effects: none is mapped. */
static void test_nothing_is_mapped(void **state)
{
	struct uvf_region_info info;
	struct rig *rig = *state;
	void *address;

	assert_int_equal(uvf_region_get_info(rig->dev, 0, &info), 0);
	assert_int_equal(info.size, IOAT_BAR_SIZE);
	assert_int_equal(info.area_count, 0);
	assert_int_equal(uvf_region_map(rig->dev, 0, 0, 0x1000, &address), -EINVAL);
}

static void test_keys(void **state)
{
	static const char *const wrong[] = {
		"ioat,channels=0",  "ioat,channels=9",	"ioat,xfercap=2K", "ioat,xfercap=4G",
		"ioat,xfercap=12K", "ioat,xfercap=big", "ioat,worker=on",
	};
	struct uvf_error error;
	struct uvf_device *dev;
	struct rig rig;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(wrong); i++) {
		error.text[0] = 0;
		assert_int_equal(uvf_model_create(wrong[i], &dev, &error), -EINVAL);
		assert_true(error.text[0]);
	}
	rig_open(&rig, "ioat,channels=8,xfercap=2G", true);
	assert_int_equal(rig_get(&rig, IOAT_CHANCNT, 1), 8);
	assert_int_equal(rig_get(&rig, IOAT_XFERCAP, 1), 31);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(rig_get(&rig, CHANNEL(i * IOAT_CHANNEL_SIZE + IOAT_CHANSTS), 8),
				 IOAT_HALTED);
	rig_close(&rig);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_values),
		WITH_RIG(test_pieces),
		WITH_RIG(test_errors_are_cleared_by_ones),
		WITH_RIG(test_configuration),
		WITH_RIG(test_msix),
		WITH_RIG(test_nothing_is_mapped),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
