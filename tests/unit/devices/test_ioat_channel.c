/* SPDX-License-Identifier: BSD-3-Clause */
/* A DMA channel's states, its commands, its interrupts, and what else ends or holds a chain. */
#include "ioat_rig.h"

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

static void command(struct rig *rig, uint8_t value)
{
	rig_chan_put(rig, IOAT_CHANCMD, value, 1);
}

/* @count null descriptors from the memory's beginning. */
static void describe_nulls(struct rig *rig, unsigned count, uint32_t control)
{
	for (unsigned i = 0; i < count; i++)
		rig_null(rig, i, control);
}

/* ---- States ---- */

static void test_armed(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_status(rig), IOAT_HALTED);
	rig_chan_put(rig, IOAT_DMACOUNT, 5, 2); /* of nothing */
	assert_int_equal(rig_status(rig), IOAT_HALTED);
	/* In halves, too, as Linux does. */
	rig_chan_put(rig, IOAT_CHAINADDR, rig_descriptor(0), 4);
	rig_chan_put(rig, IOAT_CHAINADDR + 4, 0, 4);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_ARMED);
	assert_int_equal(rig_chan_get(rig, IOAT_DMACOUNT, 2), 0);
	rig_chan_put(rig, IOAT_DMACOUNT, 0, 2);
	assert_int_equal(rig_status(rig), IOAT_ARMED);
}

static void test_suspend(void **state)
{
	struct rig *rig = *state;

	command(rig, IOAT_CHANCMD_SUSPEND);
	assert_int_equal(rig_status(rig), IOAT_HALTED);
	describe_nulls(rig, 8, 0);
	rig_chan_put(rig, IOAT_CHAINADDR, rig_descriptor(0), 8);
	command(rig, IOAT_CHANCMD_SUSPEND);
	assert_int_equal(rig_status(rig), IOAT_SUSPENDED);
	rig_chan_put(rig, IOAT_DMACOUNT, 4, 2);
	assert_int_equal(ioat_run(rig->ioat, 1), 0);
	assert_int_equal(rig_status(rig), IOAT_SUSPENDED);
	command(rig, IOAT_CHANCMD_RESUME);
	assert_int_equal(rig_status(rig), IOAT_ACTIVE);
	assert_int_equal(ioat_run(rig->ioat, 2), 2);
	command(rig, IOAT_CHANCMD_SUSPEND);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), rig_descriptor(1) | IOAT_SUSPENDED);
	assert_int_equal(ioat_run(rig->ioat, 1), 0);
	command(rig, IOAT_CHANCMD_RESUME);
	command(rig, IOAT_CHANCMD_RESUME);
	assert_int_equal(ioat_run(rig->ioat, 8), 2);
	assert_int_equal(rig_status(rig), IOAT_DONE);
	command(rig, IOAT_CHANCMD_SUSPEND);
	assert_int_equal(rig_status(rig), IOAT_SUSPENDED);
	command(rig, IOAT_CHANCMD_RESUME);
	assert_int_equal(rig_status(rig), IOAT_DONE);
	/* Another chain needs no RESUME. */
	command(rig, IOAT_CHANCMD_SUSPEND);
	rig_start(rig, 0, 1);
	assert_int_equal(ioat_run(rig->ioat, 8), 1);
	assert_int_equal(rig_status(rig), IOAT_DONE);
	/* Nothing begun, nothing to go on with. */
	rig_chan_put(rig, IOAT_CHAINADDR, rig_descriptor(0), 8);
	command(rig, IOAT_CHANCMD_SUSPEND);
	command(rig, IOAT_CHANCMD_RESUME);
	assert_int_equal(rig_status(rig), IOAT_ARMED);
}

static void test_abort(void **state)
{
	struct rig *rig = *state;

	describe_nulls(rig, 4, 0);
	rig_start(rig, 0, 4);
	ioat_run(rig->ioat, 1);
	command(rig, IOAT_CHANCMD_ABORT);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), rig_descriptor(0) | IOAT_HALTED);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), 0);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCMP, 8), rig_iova(RIG_RECORD));
	assert_int_equal(ioat_run(rig->ioat, 1), 0);
	rig_start(rig, 0, 4);
	assert_int_equal(ioat_run(rig->ioat, 8), 4);
}

static void test_reset(void **state)
{
	struct rig *rig = *state;

	describe_nulls(rig, 4, 0);
	rig_chan_put(rig, IOAT_CHANERR_MASK, IOAT_ERR_LENGTH, 4);
	rig_chan_put(rig, IOAT_CHANCTRL, IOAT_CHANCTRL_ERR_INT_EN, 2);
	rig_start(rig, 0, 4);
	ioat_run(rig->ioat, 1);
	command(rig, IOAT_CHANCMD_RESET);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCMD, 1), 0);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_HALTED);
	assert_int_equal(rig_chan_get(rig, IOAT_CHAINADDR, 8), 0);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCMP, 8), 0);
	assert_int_equal(rig_chan_get(rig, IOAT_DMACOUNT, 2), 0);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCTRL, 2), 0);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR_MASK, 4), IOAT_ERR_LENGTH);
	assert_int_equal(ioat_run(rig->ioat, 1), 0);
}

static void test_wrong_commands(void **state)
{
	static const uint8_t commands[] = {0x01, 0x02, 0x40, 0x80, 0x24, 0x14, 0xff};
	struct rig *rig = *state;

	describe_nulls(rig, 4, 0);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(commands); i++) {
		rig_start(rig, 0, 4);
		command(rig, 0);
		assert_int_equal(rig_status(rig), IOAT_ACTIVE);
		command(rig, commands[i]);
		assert_int_equal(rig_status(rig), IOAT_HALTED);
		assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), IOAT_ERR_CHANCMD);
		rig_recover(rig);
	}
}

/* While a chain is executed there is no other. */
static void test_chain_is_fixed_while_active(void **state)
{
	struct rig *rig = *state;

	describe_nulls(rig, 4, 0);
	rig_start(rig, 0, 4);
	rig_chan_put(rig, IOAT_CHAINADDR, RIG_NOWHERE, 8);
	assert_int_equal(rig_chan_get(rig, IOAT_CHAINADDR, 8), rig_descriptor(0));
	assert_int_equal(ioat_run(rig->ioat, 8), 4);
	assert_int_equal(rig_status(rig), IOAT_DONE);
}

/* ---- Interrupts ---- */

static void test_msix(void **state)
{
	struct rig *rig = *state;

	rig_irqs(rig, VFIO_PCI_MSIX_IRQ_INDEX, rig->irqs, 1);
	rig_put(rig, IOAT_INTRCTRL, IOAT_INTRCTRL_MSIX_VECTOR_CONTROL, 1);
	describe_nulls(rig, 8, IOAT_DESC_INT);
	rig_null(rig, 7, 0);
	rig_start(rig, 0, 1);
	rig_run(rig);
	assert_int_equal(rig_count(rig->irqs[0]), 1);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCTRL, 2), IOAT_CHANCTRL_INT_REARM);
	/* Those that come before it is rearmed are one. */
	rig_chan_put(rig, IOAT_DMACOUNT, 4, 2);
	rig_run(rig);
	assert_int_equal(rig_count(rig->irqs[0]), 0);
	rig_chan_put(rig, IOAT_CHANCTRL, 0, 2);
	assert_int_equal(rig_count(rig->irqs[0]), 0);
	rig_chan_put(rig, IOAT_CHANCTRL, IOAT_CHANCTRL_INT_REARM, 2);
	assert_int_equal(rig_count(rig->irqs[0]), 1);
	rig_chan_put(rig, IOAT_CHANCTRL, IOAT_CHANCTRL_INT_REARM, 2);
	assert_int_equal(rig_count(rig->irqs[0]), 0);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCTRL, 2), 0);
	rig_chan_put(rig, IOAT_DMACOUNT, 5, 2);
	rig_run(rig);
	assert_int_equal(rig_count(rig->irqs[0]), 1);
	/* One that doesn't ask gets none. */
	rig_chan_put(rig, IOAT_CHANCTRL, IOAT_CHANCTRL_INT_REARM, 2);
	rig_start(rig, 7, 1);
	rig_run(rig);
	assert_int_equal(rig_count(rig->irqs[0]), 0);
	assert_int_equal(rig_get(rig, IOAT_ATTNSTATUS, 4), 0);
}

static void test_vector_of_each_channel(void **state)
{
	struct rig rig;

	rig_open(&rig, "ioat,channels=8", true);
	rig_irqs(&rig, VFIO_PCI_MSIX_IRQ_INDEX, rig.irqs, 8);
	rig_put(&rig, IOAT_INTRCTRL, IOAT_INTRCTRL_MSIX_VECTOR_CONTROL, 1);
	rig_null(&rig, 0, IOAT_DESC_INT);
	for (unsigned i = 0; i < 8; i++) {
		uint64_t at = IOAT_CHANNEL_0 + i * IOAT_CHANNEL_SIZE;

		rig_put(&rig, at + IOAT_CHAINADDR, rig_descriptor(0), 8);
		rig_put(&rig, at + IOAT_DMACOUNT, 1, 2);
		rig_run(&rig);
		for (unsigned other = 0; other < 8; other++)
			assert_int_equal(rig_count(rig.irqs[other]), other == i);
	}
	rig_close(&rig);
}

/* As a handler of a shared pin works: reads INTRCTRL, then ATTNSTATUS, writes INTRCTRL back. */
static void test_pin(void **state)
{
	struct rig *rig = *state;
	struct uvf_irq_set unmask = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = VFIO_PCI_INTX_IRQ_INDEX,
		.count = 1,
	};

	rig_irqs(rig, VFIO_PCI_INTX_IRQ_INDEX, &rig->pin, 1);
	describe_nulls(rig, 4, IOAT_DESC_INT);
	rig_start(rig, 0, 1);
	rig_run(rig);
	/* It is off: it comes when it is switched on. */
	assert_int_equal(rig_count(rig->pin), 0);
	assert_int_equal(rig_get(rig, IOAT_INTRCTRL, 1), IOAT_INTRCTRL_INT_STATUS);
	rig_put(rig, IOAT_INTRCTRL, IOAT_INTRCTRL_MASTER_INT_EN, 1);
	assert_int_equal(rig_count(rig->pin), 1);
	assert_int_equal(rig_get(rig, IOAT_INTRCTRL, 1), IOAT_INTRCTRL_MASTER_INT_EN |
								 IOAT_INTRCTRL_INT_STATUS |
								 IOAT_INTRCTRL_INT);
	assert_int_equal(rig_get(rig, IOAT_INTRCTRL, 1), IOAT_INTRCTRL_INT_STATUS);
	assert_int_equal(rig_get(rig, IOAT_ATTNSTATUS, 4), 1);
	assert_int_equal(rig_get(rig, IOAT_ATTNSTATUS, 4), 0);
	rig_put(rig, IOAT_INTRCTRL, IOAT_INTRCTRL_MASTER_INT_EN, 1);
	assert_int_equal(uvf_irq_set(rig->dev, &unmask), 0);
	assert_int_equal(rig_count(rig->pin), 0);
	/* The next. */
	rig_chan_put(rig, IOAT_CHANCTRL, IOAT_CHANCTRL_INT_REARM, 2);
	rig_chan_put(rig, IOAT_DMACOUNT, 2, 2);
	rig_run(rig);
	assert_int_equal(rig_count(rig->pin), 1);
	/* A reset takes it back. */
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(uvf_irq_set(rig->dev, &unmask), 0);
	assert_int_equal(rig_count(rig->pin), 0);
	assert_int_equal(rig_config_get(rig, PCI_COMMAND) >> 16 & PCI_STATUS_INTERRUPT, 0);
}

/* Without a vector a channel, vector 0 is for all, as the pin would be. */
static void test_one_vector_for_all(void **state)
{
	struct rig rig;

	rig_open(&rig, "ioat,channels=2", true);
	rig_irqs(&rig, VFIO_PCI_MSIX_IRQ_INDEX, rig.irqs, 2);
	rig_put(&rig, IOAT_INTRCTRL, IOAT_INTRCTRL_MASTER_INT_EN, 1);
	rig_null(&rig, 0, IOAT_DESC_INT);
	rig_put(&rig, IOAT_CHANNEL_0 + IOAT_CHANNEL_SIZE + IOAT_CHAINADDR, rig_descriptor(0), 8);
	rig_put(&rig, IOAT_CHANNEL_0 + IOAT_CHANNEL_SIZE + IOAT_DMACOUNT, 1, 2);
	rig_run(&rig);
	assert_int_equal(rig_count(rig.irqs[0]), 1);
	assert_int_equal(rig_count(rig.irqs[1]), 0);
	assert_int_equal(rig_get(&rig, IOAT_ATTNSTATUS, 4), 2);
	rig_close(&rig);
}

static void test_error_interrupts(void **state)
{
	static const struct {
		uint16_t chanctrl;
		uint32_t mask;
		unsigned count;
	} rows[] = {
		{0, 0, 0},
		{IOAT_CHANCTRL_ERR_INT_EN, 0, 1},
		{IOAT_CHANCTRL_ERR_INT_EN, IOAT_ERR_LENGTH, 0},
		{IOAT_CHANCTRL_ERR_INT_EN, IOAT_ERR_ALL & ~IOAT_ERR_LENGTH, 1},
	};
	struct rig *rig = *state;

	rig_irqs(rig, VFIO_PCI_MSIX_IRQ_INDEX, rig->irqs, 1);
	rig_put(rig, IOAT_INTRCTRL, IOAT_INTRCTRL_MSIX_VECTOR_CONTROL, 1);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(rows); i++) {
		/* The failed one's own wish for an interrupt doesn't count. */
		rig_copy(rig, 0, 0, IOAT_DESC_INT);
		rig_chan_put(rig, IOAT_CHANCTRL, rows[i].chanctrl, 2);
		rig_chan_put(rig, IOAT_CHANERR_MASK, rows[i].mask, 4);
		rig_start(rig, 0, 1);
		rig_run(rig);
		assert_int_equal(rig_status(rig), IOAT_HALTED);
		assert_int_equal(rig_count(rig->irqs[0]), rows[i].count);
		rig_recover(rig);
	}
}

/* ---- The bus ---- */

/* Off the bus a chain waits, and can be ended; it goes on when the bus is back. */
static void test_bus_master(void **state)
{
	struct rig *rig = *state;

	describe_nulls(rig, 4, 0);
	rig_start(rig, 0, 3);
	ioat_run(rig->ioat, 1);
	rig_config_put(rig, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_int_equal(ioat_run(rig->ioat, 1), 0);
	assert_int_equal(rig_status(rig), IOAT_ACTIVE);
	command(rig, IOAT_CHANCMD_SUSPEND);
	assert_int_equal(rig_status(rig), IOAT_SUSPENDED);
	command(rig, IOAT_CHANCMD_RESUME);
	rig_config_put(rig, PCI_COMMAND, RIG_COMMAND, 2);
	assert_int_equal(ioat_run(rig->ioat, 8), 2);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), 0);
}

/* Asleep it does nothing and shows nothing, and keeps its state (No_Soft_Reset). */
static void test_power(void **state)
{
	struct rig *rig = *state;

	describe_nulls(rig, 4, 0);
	rig_start(rig, 0, 3);
	ioat_run(rig->ioat, 1);
	rig_config_put(rig, 0xe4, 3, 2);
	assert_int_equal(ioat_run(rig->ioat, 1), 0);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), UINT64_MAX);
	rig_chan_put(rig, IOAT_CHANCMD, IOAT_CHANCMD_RESET, 1);
	rig_config_put(rig, 0xe4, 0, 2);
	assert_int_equal(ioat_run(rig->ioat, 8), 2);
	assert_int_equal(rig_status(rig), IOAT_DONE);
}

/* As off the bus: it goes on when there is one. */
static void test_no_address_space(void **state)
{
	struct rig *rig = *state;

	describe_nulls(rig, 1, 0);
	assert_int_equal(uvf_device_detach(rig->dev, UVF_PASID_NONE), 0);
	rig_start(rig, 0, 1);
	rig_run(rig);
	assert_int_equal(rig_status(rig), IOAT_ACTIVE);
	assert_int_equal(uvf_device_attach(rig->dev, UVF_PASID_NONE, rig->space), 0);
	rig_run(rig);
	assert_int_equal(rig_status(rig), IOAT_DONE);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), 0);
}

static void test_device_resets(void **state)
{
	static const enum uvf_reset kinds[] = {UVF_RESET_DEVICE, UVF_RESET_FLR, UVF_RESET_HOT};
	struct rig *rig = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(kinds); i++) {
		rig_copy(rig, 0, 0, 0);
		rig_start(rig, 0, 1);
		rig_run(rig);
		assert_int_equal(uvf_device_reset(rig->dev, kinds[i]), 0);
		rig_config_put(rig, PCI_COMMAND, RIG_COMMAND, 2);
		assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_HALTED);
		assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), 0);
		assert_int_equal(rig_config_get(rig, IOAT_PCI_CHANERR_INT), 0);
	}
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_armed),
		WITH_RIG(test_suspend),
		WITH_RIG(test_abort),
		WITH_RIG(test_reset),
		WITH_RIG(test_wrong_commands),
		WITH_RIG(test_chain_is_fixed_while_active),
		WITH_RIG(test_msix),
		cmocka_unit_test(test_vector_of_each_channel),
		WITH_RIG(test_pin),
		cmocka_unit_test(test_one_vector_for_all),
		WITH_RIG(test_error_interrupts),
		WITH_RIG(test_bus_master),
		WITH_RIG(test_power),
		WITH_RIG(test_no_address_space),
		WITH_RIG(test_device_resets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
