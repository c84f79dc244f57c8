/* SPDX-License-Identifier: BSD-3-Clause */
/* A configuration space and its interrupts go to another device: the same bytes, the same masks. */
#include "pci_test.h"

#include <stdlib.h>
#include <uvfio/migration.h>

static const struct uvf_migration_ops migration = {.name = "test"};

static struct uvf_device *migratable(const struct uvf_pci_description *description,
				     struct model *model)
{
	struct uvf_device *dev = device_from(description, model);

	uvf_device_set_migration(dev, &migration);
	return dev;
}

static size_t save(struct uvf_device *dev, uint8_t *stream, size_t size)
{
	size_t used = 0;
	ssize_t ret;

	assert_int_equal(uvf_migration_set_state(dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
	while ((ret = uvf_migration_read(dev, stream + used, size - used)) > 0)
		used += (size_t)ret;
	assert_int_equal(ret, 0);
	return used;
}

static int load(struct uvf_device *dev, const uint8_t *stream, size_t size)
{
	assert_int_equal(uvf_migration_set_state(dev, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(uvf_migration_write(dev, stream, size), size);
	return uvf_migration_set_state(dev, VFIO_DEVICE_STATE_RUNNING);
}

/* What a driver may do, but nothing that resets: power management and FLR. */
static void scribble(struct uvf_device *dev)
{
	uint16_t power = find(dev, PCI_CAP_ID_PM, false);
	uint16_t express = find(dev, PCI_CAP_ID_EXP, false);

	for (unsigned i = 0; i < 20000; i++) {
		uint16_t at = (uint16_t)(rand() % 0x1000);
		uint8_t value = (uint8_t)rand();

		if (at / 4 == (power + 4) / 4 || (at == express + PCI_EXP_DEVCTL + 1))
			continue;
		assert_int_equal(uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, at, &value, 1),
				 1);
	}
	enable_memory(dev);
	for (unsigned i = 0; i < 200; i++)
		bar_write32(dev, 0, MSIX_TABLE + (uint64_t)(rand() % (MSIX_VECTORS * 4)) * 4,
			    (uint32_t)rand());
}

static void assert_alike(struct uvf_device *a, struct uvf_device *b)
{
	for (uint64_t at = 0; at < 0x1000; at += 4)
		if (config_read(a, at, 4) != config_read(b, at, 4))
			fail_msg("config at %#lx: %#x is %#x", (unsigned long)at,
				 config_read(a, at, 4), config_read(b, at, 4));
	for (uint64_t at = 0; at < 0x3000; at += 4)
		assert_int_equal(bar_read32(a, 0, at), bar_read32(b, 0, at));
}

static void everything_goes(void **state)
{
	static uint8_t stream[65536];

	for (unsigned i = 0; i < 20; i++) {
		struct model models[2];
		struct uvf_device *from = migratable(&everything, &models[0]);
		struct uvf_device *to = migratable(&everything, &models[1]);

		srand(i);
		scribble(from);
		uvf_pci_intx(from, i & 1);
		assert_int_equal(load(to, stream, save(from, stream, sizeof(stream))), 0);
		assert_alike(from, to);
		assert_true(models[1].bus_master);
		assert_int_equal(models[1].resets, 0);
		uvf_device_free(from);
		uvf_device_free(to);
	}
}

/* A message that waits for its mask to go is signalled on the other side. */
static void pending_messages(void **state)
{
	static uint8_t stream[65536];
	struct model models[2];
	struct uvf_device *from = migratable(&everything, &models[0]);
	struct uvf_device *to = migratable(&everything, &models[1]);
	int fds[4];

	enable_memory(from);
	bind_irqs(from, VFIO_PCI_MSIX_IRQ_INDEX, 4, fds);
	bar_write32(from, 0, MSIX_TABLE + 2 * 16 + 12, 1);
	assert_true(uvf_pci_msi(from, 2));
	assert_int_equal(signals(fds[2]), 0);
	assert_int_equal(load(to, stream, save(from, stream, sizeof(stream))), 0);
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
	bind_irqs(to, VFIO_PCI_MSIX_IRQ_INDEX, 4, fds);
	assert_int_equal(bar_read32(to, 0, MSIX_PBA), 1 << 2);
	assert_int_equal(signals(fds[2]), 0);
	bar_write32(to, 0, MSIX_TABLE + 2 * 16 + 12, 0);
	assert_int_equal(signals(fds[2]), 1);
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
	uvf_device_free(from);
	uvf_device_free(to);
}

/* An asserted line interrupts as soon as the driver has its eventfd there. */
static void asserted_line(void **state)
{
	static uint8_t stream[65536];
	struct model models[2];
	struct uvf_device *from = migratable(&everything, &models[0]);
	struct uvf_device *to = migratable(&everything, &models[1]);
	int fd;

	uvf_pci_intx(from, true);
	assert_int_equal(load(to, stream, save(from, stream, sizeof(stream))), 0);
	bind_irqs(to, VFIO_PCI_INTX_IRQ_INDEX, 1, &fd);
	assert_int_equal(signals(fd), 1);
	close(fd);
	uvf_device_free(from);
	uvf_device_free(to);
}

/* Also where its eventfd was there before the state was: QEMU's order. Once is enough. */
static void asserted_line_with_eventfd(void **state)
{
	static uint8_t stream[65536];
	struct model models[2];
	struct uvf_device *from = migratable(&everything, &models[0]);
	struct uvf_device *to = migratable(&everything, &models[1]);
	size_t size;
	int fd;

	uvf_pci_intx(from, true);
	size = save(from, stream, sizeof(stream));
	assert_int_equal(uvf_migration_set_state(to, VFIO_DEVICE_STATE_RESUMING), 0);
	bind_irqs(to, VFIO_PCI_INTX_IRQ_INDEX, 1, &fd);
	assert_int_equal(uvf_migration_write(to, stream, size), size);
	assert_int_equal(uvf_migration_set_state(to, VFIO_DEVICE_STATE_RUNNING_P2P), 0);
	assert_int_equal(signals(fd), 0);
	assert_int_equal(uvf_migration_set_state(to, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(signals(fd), 1);
	assert_int_equal(uvf_migration_set_state(to, VFIO_DEVICE_STATE_STOP), 0);
	assert_int_equal(uvf_migration_set_state(to, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(signals(fd), 0);
	close(fd);
	uvf_device_free(from);
	uvf_device_free(to);
}

/* A message that lost its mask while interrupts were off. */
static void pending_messages_with_eventfds(void **state)
{
	static uint8_t stream[65536];
	struct model models[2];
	struct uvf_device *from = migratable(&everything, &models[0]);
	struct uvf_device *to = migratable(&everything, &models[1]);
	struct uvf_irq_set off = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
	};
	size_t size;
	int fds[4];

	enable_memory(from);
	bind_irqs(from, VFIO_PCI_MSIX_IRQ_INDEX, 4, fds);
	bar_write32(from, 0, MSIX_TABLE + 2 * 16 + 12, 1);
	assert_true(uvf_pci_msi(from, 2));
	assert_int_equal(uvf_irq_set(from, &off), 0);
	bar_write32(from, 0, MSIX_TABLE + 2 * 16 + 12, 0);
	size = save(from, stream, sizeof(stream));
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
	bind_irqs(to, VFIO_PCI_MSIX_IRQ_INDEX, 4, fds);
	assert_int_equal(load(to, stream, size), 0);
	assert_int_equal(signals(fds[2]), 1);
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
	uvf_device_free(from);
	uvf_device_free(to);
}

/*
 * A signal that nobody has read, as by a VMM that was told to stop meanwhile, comes once more on
 * the other side; one that was read doesn't, and what is for the owner here has nothing to say
 * there.
 */
static void messages_that_nobody_read(void **state)
{
	static uint8_t stream[65536];
	struct model models[2];
	struct uvf_device *from = migratable(&everything, &models[0]);
	struct uvf_device *to = migratable(&everything, &models[1]);
	int fds[4], far_fds[4], request, far_request;
	size_t size;

	bind_irqs(from, VFIO_PCI_MSIX_IRQ_INDEX, 4, fds);
	bind_irqs(from, VFIO_PCI_REQ_IRQ_INDEX, 1, &request);
	assert_true(uvf_pci_msi(from, 1));
	assert_int_equal(signals(fds[1]), 1);
	assert_true(uvf_pci_msi(from, 2));
	uvf_irq_trigger(from, VFIO_PCI_REQ_IRQ_INDEX, 0);
	size = save(from, stream, sizeof(stream));
	bind_irqs(to, VFIO_PCI_MSIX_IRQ_INDEX, 4, far_fds);
	bind_irqs(to, VFIO_PCI_REQ_IRQ_INDEX, 1, &far_request);
	assert_int_equal(load(to, stream, size), 0);
	assert_int_equal(signals(far_fds[1]), 0);
	assert_int_equal(signals(far_fds[2]), 1);
	assert_int_equal(signals(far_request), 0);

	/* Who goes on where it was is told nothing twice. */
	assert_int_equal(uvf_migration_set_state(from, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(signals(fds[2]), 1);
	assert_int_equal(signals(request), 1);
	close_all(fds, 4);
	close_all(far_fds, 4);
	close(request);
	close(far_request);
	uvf_device_free(from);
	uvf_device_free(to);
}

/* A device of another make doesn't take it, and says so when it is to run. */
static void another_make(void **state)
{
	static uint8_t stream[65536];
	struct uvf_pci_description other = everything;
	struct model models[2];
	struct uvf_device *from = migratable(&everything, &models[0]), *to;
	size_t size = save(from, stream, sizeof(stream));

	other.device++;
	to = migratable(&other, &models[1]);
	assert_int_equal(load(to, stream, size), -EINVAL);
	assert_int_equal(uvf_migration_state(to), VFIO_DEVICE_STATE_ERROR);
	uvf_device_free(to);
	other = everything;
	other.capability_count--;
	to = migratable(&other, &models[1]);
	assert_int_equal(load(to, stream, size), -EINVAL);
	uvf_device_free(to);
	uvf_device_free(from);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_goes),
		cmocka_unit_test(pending_messages),
		cmocka_unit_test(asserted_line),
		cmocka_unit_test(asserted_line_with_eventfd),
		cmocka_unit_test(pending_messages_with_eventfds),
		cmocka_unit_test(messages_that_nobody_read),
		cmocka_unit_test(another_make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
