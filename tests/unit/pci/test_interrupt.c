/* SPDX-License-Identifier: BSD-3-Clause */
/* INTx, MSI and MSI-X: levels, masks, pending bits, folding, and races between them. */
#include "pci_test.h"

#include <pthread.h>

static int setup(void **state)
{
	static struct model model;

	*state = device_from(&everything, &model);
	enable_memory(*state);
	return 0;
}

static int teardown(void **state)
{
	uvf_device_free(*state);
	return 0;
}

/* ---- INTx ---- */

static bool interrupt_status(struct uvf_device *dev)
{
	return config_read(dev, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT;
}

static void unmask_intx(struct uvf_device *dev)
{
	const struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = VFIO_PCI_INTX_IRQ_INDEX,
		.count = 1,
	};

	assert_int_equal(uvf_irq_set(dev, &set), 0);
}

static void test_intx(void **state)
{
	struct uvf_device *dev = *state;
	int fd;

	bind_irqs(dev, VFIO_PCI_INTX_IRQ_INDEX, 1, &fd);
	uvf_pci_intx(dev, true);
	assert_int_equal(signals(fd), 1);
	assert_true(interrupt_status(dev));
	/* The status bit can't be written. */
	config_write(dev, PCI_STATUS, 0xffff, 2);
	assert_true(interrupt_status(dev));
	uvf_pci_intx(dev, false);
	assert_false(interrupt_status(dev));
	unmask_intx(dev);
	assert_int_equal(signals(fd), 0);
	uvf_pci_intx(dev, true);
	assert_int_equal(signals(fd), 1);
	unmask_intx(dev);
	assert_int_equal(signals(fd), 1);
	close(fd);
}

static void test_intx_disable(void **state)
{
	struct uvf_device *dev = *state;
	int fd;

	bind_irqs(dev, VFIO_PCI_INTX_IRQ_INDEX, 1, &fd);
	config_write(dev, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, 2);
	uvf_pci_intx(dev, true);
	assert_int_equal(signals(fd), 0);
	assert_true(interrupt_status(dev));
	config_write(dev, PCI_COMMAND, 0, 2);
	assert_int_equal(signals(fd), 1);
	uvf_device_reset(dev, UVF_RESET_DEVICE);
	assert_false(interrupt_status(dev));
	unmask_intx(dev);
	assert_int_equal(signals(fd), 0);
	close(fd);
}

/* ---- MSI ---- */

static void test_msi(void **state)
{
	struct uvf_device *dev = *state;
	uint32_t at = find(dev, PCI_CAP_ID_MSI, false);
	int fds[8];

	assert_false(uvf_pci_msi(dev, 0));
	bind_irqs(dev, VFIO_PCI_MSI_IRQ_INDEX, 8, fds);
	/* MSI Enable is not asked for. */
	assert_true(uvf_pci_msi(dev, 5));
	assert_int_equal(signals(fds[5]), 1);
	/* Four are allocated: the others fold onto the first. */
	config_write(dev, at + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | 2 << 4, 2);
	assert_true(uvf_pci_msi(dev, 3));
	assert_true(uvf_pci_msi(dev, 4));
	assert_true(uvf_pci_msi(dev, UINT32_MAX));
	assert_int_equal(signals(fds[3]), 1);
	assert_int_equal(signals(fds[4]), 0);
	assert_int_equal(signals(fds[0]), 2);
	/* More than there are: all of them. */
	config_write(dev, at + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | 7 << 4, 2);
	assert_true(uvf_pci_msi(dev, 7));
	assert_int_equal(signals(fds[7]), 1);
	disable_irqs(dev, VFIO_PCI_MSI_IRQ_INDEX);
	assert_false(uvf_pci_msi(dev, 0));
	close_all(fds, 8);
}

static void test_msi_masks(void **state)
{
	struct uvf_device *dev = *state;
	uint32_t at = find(dev, PCI_CAP_ID_MSI, false);
	int fds[8];

	bind_irqs(dev, VFIO_PCI_MSI_IRQ_INDEX, 8, fds);
	config_write(dev, at + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | 3 << 4, 2);
	config_write(dev, at + PCI_MSI_MASK_64, 0x06, 4);
	uvf_pci_msi(dev, 1);
	uvf_pci_msi(dev, 1);
	uvf_pci_msi(dev, 2);
	uvf_pci_msi(dev, 3);
	assert_int_equal(signals(fds[1]), 0);
	assert_int_equal(signals(fds[3]), 1);
	assert_int_equal(config_read(dev, at + PCI_MSI_PENDING_64, 4), 0x06);
	config_write(dev, at + PCI_MSI_PENDING_64, 0, 4);
	assert_int_equal(config_read(dev, at + PCI_MSI_PENDING_64, 4), 0x06);
	/* Only what is unmasked is delivered, once. */
	config_write(dev, at + PCI_MSI_MASK_64, 0x04, 1);
	assert_int_equal(signals(fds[1]), 1);
	assert_int_equal(signals(fds[2]), 0);
	assert_int_equal(config_read(dev, at + PCI_MSI_PENDING_64, 4), 0x04);
	/* Switching MSI off forgets. */
	config_write(dev, at + PCI_MSI_FLAGS, 0, 2);
	assert_int_equal(config_read(dev, at + PCI_MSI_PENDING_64, 4), 0);
	config_write(dev, at + PCI_MSI_MASK_64, 0, 4);
	assert_int_equal(signals(fds[2]), 0);
	close_all(fds, 8);
}

/* ---- MSI-X ---- */

static uint64_t control_of(unsigned vector)
{
	return MSIX_TABLE + 16ULL * vector + PCI_MSIX_ENTRY_VECTOR_CTRL;
}

static bool is_pending(struct uvf_device *dev, unsigned vector)
{
	return bar_read32(dev, 0, MSIX_PBA + vector / 32 * 4) >> vector % 32 & 1;
}

static void test_msix_entry_masks(void **state)
{
	static const unsigned vectors[] = {0, 31, 32, 63, 64, MSIX_VECTORS - 1};
	struct uvf_device *dev = *state;
	int fds[MSIX_VECTORS];

	bind_irqs(dev, VFIO_PCI_MSIX_IRQ_INDEX, MSIX_VECTORS, fds);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(vectors); i++) {
		unsigned vector = vectors[i];

		/* The table says masked, but nobody has programmed it. */
		assert_int_equal(bar_read32(dev, 0, control_of(vector)), 1);
		assert_true(uvf_pci_msi(dev, vector));
		assert_int_equal(signals(fds[vector]), 1);
		/* The first write makes the mask bit count, even one of the address. */
		bar_write32(dev, 0, MSIX_TABLE + 16 * vector, 0xfee00000);
		assert_true(uvf_pci_msi(dev, vector));
		assert_true(uvf_pci_msi(dev, vector));
		assert_int_equal(signals(fds[vector]), 0);
		assert_true(is_pending(dev, vector));
		bar_write32(dev, 0, control_of(vector), 0);
		assert_int_equal(signals(fds[vector]), 1);
		assert_false(is_pending(dev, vector));
		assert_true(uvf_pci_msi(dev, vector));
		assert_int_equal(signals(fds[vector]), 1);
	}
	/* One that isn't there is nobody's. */
	assert_true(uvf_pci_msi(dev, MSIX_VECTORS));
	assert_true(uvf_pci_msi(dev, UINT32_MAX));
	uvf_device_reset(dev, UVF_RESET_FLR);
	close_all(fds, MSIX_VECTORS);
}

static void test_msix_function_mask(void **state)
{
	struct uvf_device *dev = *state;
	uint32_t at = find(dev, PCI_CAP_ID_MSIX, false);
	int fds[MSIX_VECTORS];

	bind_irqs(dev, VFIO_PCI_MSIX_IRQ_INDEX, MSIX_VECTORS, fds);
	config_write(dev, at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_MASKALL, 2);
	uvf_pci_msi(dev, 0);
	uvf_pci_msi(dev, 69);
	assert_int_equal(signals(fds[0]) + signals(fds[69]), 0);
	assert_true(is_pending(dev, 0) && is_pending(dev, 69));
	bar_write32(dev, 0, control_of(69), 1);
	config_write(dev, at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
	assert_int_equal(signals(fds[0]), 1);
	assert_int_equal(signals(fds[69]), 0);
	assert_true(is_pending(dev, 69));
	/* Switching MSI-X off forgets. */
	config_write(dev, at + PCI_MSIX_FLAGS, 0, 2);
	assert_false(is_pending(dev, 69));
	close_all(fds, MSIX_VECTORS);
}

/* Pending while the vectors have no eventfds yet: delivered when they get them. */
static void test_msix_waits_for_eventfds(void **state)
{
	struct uvf_device *dev = *state;
	int fds[MSIX_VECTORS];

	bind_irqs(dev, VFIO_PCI_MSIX_IRQ_INDEX, MSIX_VECTORS, fds);
	bar_write32(dev, 0, control_of(3), 1);
	uvf_pci_msi(dev, 3);
	disable_irqs(dev, VFIO_PCI_MSIX_IRQ_INDEX);
	close_all(fds, MSIX_VECTORS);
	bar_write32(dev, 0, control_of(3), 0);
	assert_true(is_pending(dev, 3));
	bind_irqs(dev, VFIO_PCI_MSIX_IRQ_INDEX, MSIX_VECTORS, fds);
	assert_int_equal(signals(fds[3]), 1);
	assert_false(is_pending(dev, 3));
	close_all(fds, MSIX_VECTORS);
}

static void test_reset_forgets(void **state)
{
	struct uvf_device *dev = *state;
	int fds[MSIX_VECTORS];

	bind_irqs(dev, VFIO_PCI_MSIX_IRQ_INDEX, MSIX_VECTORS, fds);
	bar_write32(dev, 0, control_of(3), 1);
	uvf_pci_msi(dev, 3);
	uvf_device_reset(dev, UVF_RESET_DEVICE);
	enable_memory(dev);
	assert_false(is_pending(dev, 3));
	assert_int_equal(signals(fds[3]), 0);
	uvf_pci_msi(dev, 3);
	assert_int_equal(signals(fds[3]), 1);
	close_all(fds, MSIX_VECTORS);
}

/* ---- Races ---- */

#define ROUNDS 2000

struct racer {
	struct uvf_device *dev;
	pthread_barrier_t start, end;
	int fd;
	unsigned lost;
};

/* A worker that raises one interrupt a round. */
static void *raise_each_round(void *opaque)
{
	struct racer *racer = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&racer->start);
		uvf_pci_msi(racer->dev, 1);
		pthread_barrier_wait(&racer->end);
	}
	return NULL;
}

typedef void set_mask(struct uvf_device *dev, bool masked);

static void mask_msi(struct uvf_device *dev, bool masked)
{
	config_write(dev, find(dev, PCI_CAP_ID_MSI, false) + (uint32_t)PCI_MSI_MASK_64,
		     masked ? 2 : 0, 4);
}

static void mask_entry(struct uvf_device *dev, bool masked)
{
	bar_write32(dev, 0, control_of(1), masked);
}

static void mask_function(struct uvf_device *dev, bool masked)
{
	config_write(dev, find(dev, PCI_CAP_ID_MSIX, false) + (uint32_t)PCI_MSIX_FLAGS,
		     PCI_MSIX_FLAGS_ENABLE | (masked ? PCI_MSIX_FLAGS_MASKALL : 0), 2);
}

/*
 * In each round the driver masks and unmasks while the worker raises. Nothing comes after that
 * would deliver what was left behind: each round must have been signalled when it ends.
 */
static void race(struct uvf_device *dev, uint32_t index, uint32_t count, set_mask *mask)
{
	struct racer racer = {.dev = dev};
	int fds[MSIX_VECTORS];
	pthread_t thread;

	bind_irqs(dev, index, count, fds);
	racer.fd = fds[1];
	pthread_barrier_init(&racer.start, NULL, 2);
	pthread_barrier_init(&racer.end, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, raise_each_round, &racer), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&racer.start);
		mask(dev, true);
		mask(dev, false);
		pthread_barrier_wait(&racer.end);
		racer.lost += signals(racer.fd) != 1;
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&racer.start);
	pthread_barrier_destroy(&racer.end);
	assert_int_equal(racer.lost, 0);
	close_all(fds, count);
}

static void test_race_msi(void **state)
{
	race(*state, VFIO_PCI_MSI_IRQ_INDEX, 8, mask_msi);
}

static void test_race_entry(void **state)
{
	race(*state, VFIO_PCI_MSIX_IRQ_INDEX, MSIX_VECTORS, mask_entry);
}

static void test_race_function(void **state)
{
	race(*state, VFIO_PCI_MSIX_IRQ_INDEX, MSIX_VECTORS, mask_function);
}

/* A worker moves the line while the driver switches it off and on and reads its status. */
static void *toggle(void *opaque)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		uvf_pci_intx(opaque, i % 2);
	uvf_pci_intx(opaque, true);
	return NULL;
}

static void test_race_intx(void **state)
{
	struct uvf_device *dev = *state;
	pthread_t thread;
	int fd;

	bind_irqs(dev, VFIO_PCI_INTX_IRQ_INDEX, 1, &fd);
	assert_int_equal(pthread_create(&thread, NULL, toggle, dev), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		config_write(dev, PCI_COMMAND, i % 2 ? PCI_COMMAND_INTX_DISABLE : 0, 2);
		(void)interrupt_status(dev);
	}
	config_write(dev, PCI_COMMAND, 0, 2);
	pthread_join(thread, NULL);
	assert_true(interrupt_status(dev));
	unmask_intx(dev);
	assert_true(signals(fd) > 0);
	close(fd);
}

#define WITH_DEVICE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DEVICE(test_intx),
		WITH_DEVICE(test_intx_disable),
		WITH_DEVICE(test_msi),
		WITH_DEVICE(test_msi_masks),
		WITH_DEVICE(test_msix_entry_masks),
		WITH_DEVICE(test_msix_function_mask),
		WITH_DEVICE(test_msix_waits_for_eventfds),
		WITH_DEVICE(test_reset_forgets),
		WITH_DEVICE(test_race_msi),
		WITH_DEVICE(test_race_entry),
		WITH_DEVICE(test_race_function),
		WITH_DEVICE(test_race_intx),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
