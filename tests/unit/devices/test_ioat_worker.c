/* SPDX-License-Identifier: BSD-3-Clause */
/* The DMA engine with its worker: what the driver and others do while descriptors are executed. */
#include "ioat_rig.h"

#include <pthread.h>
#include <semaphore.h>

static int setup(void **state)
{
	struct rig *rig = malloc(sizeof(*rig));

	rig_open(rig, "ioat", false);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	rig_close(*state);
	free(*state);
	return 0;
}

/* A copy that leads to itself, @count times. */
static void start_loop(struct rig *rig, uint16_t count)
{
	rig_describe(rig, 0,
		     (struct ioat_descriptor){.size = 1u << 20,
					      .source = rig_iova(RIG_SOURCE),
					      .destination = rig_iova(RIG_TARGET),
					      .next = rig_descriptor(0)});
	rig_start(rig, 0, count);
}

/* That the loop has written, and after this does not. */
static void wait_for_loop(struct rig *rig)
{
	while (!rig_completed(rig))
		;
}

static void check_quiet(struct rig *rig)
{
	memset(rig->memory + RIG_TARGET, 0, 1u << 20);
	/* Were it still at it, it would be done with that before this. */
	rig_null(rig, 1, IOAT_DESC_COMPLETION);
	rig_start(rig, 1, 1);
	rig_wait(rig, IOAT_DONE);
	assert_int_equal(rig_record(rig), rig_descriptor(1) | IOAT_DONE);
	for (uint32_t at = 0; at < 1u << 20; at += 4096)
		assert_int_equal(uvf_get_le64(rig->memory + RIG_TARGET + at), 0);
}

/* Who sees DONE finds the data, the completion and the interrupt. */
static void test_done_is_last(void **state)
{
	struct rig *rig = *state;

	rig_irqs(rig, VFIO_PCI_MSIX_IRQ_INDEX, rig->irqs, 1);
	rig_put(rig, IOAT_INTRCTRL, IOAT_INTRCTRL_MSIX_VECTOR_CONTROL, 1);
	for (unsigned i = 0; i < 500; i++) {
		uint32_t size = 1 + i * 77;

		memset(rig->memory + RIG_TARGET, 0, size);
		memset(rig->memory + RIG_RECORD, 0, 8);
		rig_copy(rig, i % 8, size, IOAT_DESC_COMPLETION | IOAT_DESC_INT);
		rig_chan_put(rig, IOAT_CHANCTRL, IOAT_CHANCTRL_INT_REARM, 2);
		rig_start(rig, i % 8, 1);
		while (rig_status(rig) != IOAT_DONE)
			;
		assert_memory_equal(rig->memory + RIG_TARGET, rig->memory + RIG_SOURCE, size);
		assert_int_equal(rig_record(rig), rig_descriptor(i % 8) | IOAT_DONE);
		assert_int_equal(rig_count(rig->irqs[0]), 1);
		rig_chan_put(rig, IOAT_CHANCMD, IOAT_CHANCMD_SUSPEND, 1);
		assert_int_equal(rig_status(rig), IOAT_SUSPENDED);
	}
}

static void test_reset_of_the_channel(void **state)
{
	struct rig *rig = *state;

	start_loop(rig, 0xffff);
	wait_for_loop(rig);
	rig_chan_put(rig, IOAT_CHANCMD, IOAT_CHANCMD_RESET, 1);
	assert_int_equal(rig_status(rig), IOAT_HALTED);
	while (rig_chan_get(rig, IOAT_CHANCMD, 1) & IOAT_CHANCMD_RESET)
		;
	check_quiet(rig);
}

static void test_reset_of_the_device(void **state)
{
	struct rig *rig = *state;

	start_loop(rig, 0xffff);
	wait_for_loop(rig);
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
	rig_config_put(rig, PCI_COMMAND, RIG_COMMAND, 2);
	check_quiet(rig);
}

static void test_suspend(void **state)
{
	struct rig *rig = *state;

	start_loop(rig, 0xffff);
	wait_for_loop(rig);
	rig_chan_put(rig, IOAT_CHANCMD, IOAT_CHANCMD_SUSPEND, 1);
	rig_wait(rig, IOAT_SUSPENDED);
	check_quiet(rig);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), 0);
}

/* Off the bus in the middle of a descriptor: no error, and it goes on with that one. */
static void test_bus_master(void **state)
{
	struct rig *rig = *state;

	start_loop(rig, 300);
	for (unsigned i = 0; i < 100; i++) {
		rig_config_put(rig, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
		rig_config_put(rig, PCI_COMMAND, RIG_COMMAND, 2);
	}
	rig_wait(rig, IOAT_DONE);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), 0);
	assert_memory_equal(rig->memory + RIG_TARGET, rig->memory + RIG_SOURCE, 1u << 20);
}

static void test_unmap(void **state)
{
	const uint32_t possible = IOAT_ERR_READ_DATA | IOAT_ERR_WRITE_DATA | IOAT_ERR_NEXT_ADDRESS;
	struct rig *rig = *state;

	start_loop(rig, 0xffff);
	wait_for_loop(rig);
	assert_int_equal(uvf_unmap(rig->space, RIG_IOVA, RIG_MEMORY, NULL), 0);
	rig_wait(rig, IOAT_HALTED);
	assert_int_not_equal(rig_chan_get(rig, IOAT_CHANERR, 4) & possible, 0);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4) & ~(uint64_t)possible, 0);
}

/* The driver goes, and the next finds a device that does nothing. */
static void test_close(void **state)
{
	struct rig *rig = *state;

	start_loop(rig, 0xffff);
	wait_for_loop(rig);
	uvf_device_close(rig->dev);
	assert_int_equal(uvf_device_open(rig->dev), 0);
	assert_int_equal(uvf_device_attach(rig->dev, UVF_PASID_NONE, rig->space), 0);
	rig_config_put(rig, PCI_COMMAND, RIG_COMMAND, 2);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_HALTED);
	check_quiet(rig);
}

static void test_free_in_the_middle(void **state)
{
	struct rig rig;

	rig_open(&rig, "ioat,channels=8", false);
	start_loop(&rig, 0xffff);
	wait_for_loop(&rig);
	rig_close(&rig);
}

/* ---- Memory that answers late ---- */

struct slow {
	struct rig *rig;
	sem_t asked, answer;
};

static int slow_read(void *opaque, uint64_t offset, void *buf, size_t count)
{
	struct slow *slow = opaque;

	sem_post(&slow->asked);
	while (sem_wait(&slow->answer))
		;
	memset(buf, 0x77, count);
	return 0;
}

static int slow_write(void *opaque, uint64_t offset, const void *buf, size_t count)
{
	return 0;
}

static void slow_release(void *opaque)
{
}

/* While a DMA is waited for, registers answer; a reset counts at once and is then seen to end. */
static void test_registers_wait_for_no_memory(void **state)
{
	static const struct uvf_memory_remote_ops ops = {slow_read, slow_write, slow_release};
	struct rig *rig = *state;
	struct slow slow = {.rig = rig};
	struct uvf_memory *memory;

	sem_init(&slow.asked, 0, 0);
	sem_init(&slow.answer, 0, 0);
	assert_int_equal(uvf_memory_new_remote(&ops, &slow, &memory), 0);
	assert_int_equal(uvf_map(rig->space, RIG_NOWHERE, 0x1000, UVF_PROT_RW, memory, 0), 0);
	uvf_memory_put(memory);
	rig_describe(rig, 0,
		     (struct ioat_descriptor){.size = 64,
					      .control = IOAT_DESC_COMPLETION,
					      .source = RIG_NOWHERE,
					      .destination = rig_iova(RIG_TARGET)});
	rig_null(rig, 1, IOAT_DESC_COMPLETION);

	rig_start(rig, 0, 1);
	sem_wait(&slow.asked);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_ACTIVE);
	rig_chan_put(rig, IOAT_CHANCMD, IOAT_CHANCMD_SUSPEND, 1);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_ACTIVE);
	sem_post(&slow.answer);
	rig_wait(rig, IOAT_SUSPENDED);
	assert_int_equal(rig_completed(rig), rig_descriptor(0));
	assert_int_equal(rig->memory[RIG_TARGET], 0x77);

	memset(rig->memory + RIG_RECORD, 0, 8);
	rig_start(rig, 0, 1);
	sem_wait(&slow.asked);
	rig_chan_put(rig, IOAT_CHANCMD, IOAT_CHANCMD_RESET, 1);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCMD, 1), IOAT_CHANCMD_RESET);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_HALTED);
	/* The next chain can be given already; it waits for its turn. */
	rig_chan_put(rig, IOAT_CHAINADDR, rig_descriptor(1), 8);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_ARMED);
	rig_chan_put(rig, IOAT_CHANCMP, rig_iova(RIG_RECORD), 8);
	rig_chan_put(rig, IOAT_DMACOUNT, 1, 2);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_ACTIVE);
	assert_int_equal(rig_record(rig), 0);
	sem_post(&slow.answer);
	rig_wait(rig, IOAT_DONE);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANCMD, 1), 0);
	assert_int_equal(rig_record(rig), rig_descriptor(1) | IOAT_DONE);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), 0);
	assert_int_equal(uvf_unmap(rig->space, RIG_NOWHERE, 0x1000, NULL), 0);
	sem_destroy(&slow.asked);
	sem_destroy(&slow.answer);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_done_is_last),
		WITH_RIG(test_reset_of_the_channel),
		WITH_RIG(test_reset_of_the_device),
		WITH_RIG(test_suspend),
		WITH_RIG(test_bus_master),
		WITH_RIG(test_unmap),
		WITH_RIG(test_close),
		cmocka_unit_test(test_free_in_the_middle),
		WITH_RIG(test_registers_wait_for_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
