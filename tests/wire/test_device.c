/* SPDX-License-Identifier: BSD-3-Clause */
/* A device to test with: registers, an area, a buffer, interrupts, and a DMA engine. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "harness.h"

static void doorbell(struct test_device *device)
{
	uint64_t address;
	uint32_t size, write;
	int32_t result = -EINVAL;

	memcpy(&address, device->registers + REG_DMA_ADDRESS, sizeof(address));
	memcpy(&size, device->registers + REG_DMA_SIZE, sizeof(size));
	memcpy(&write, device->registers + REG_DMA_WRITE, sizeof(write));
	if (size <= BUFFER_SIZE)
		result = write ? uvf_dma_write(device->dev, UVF_PASID_NONE, address, device->buffer,
					       size)
			       : uvf_dma_read(device->dev, UVF_PASID_NONE, address, device->buffer,
					      size);
	device->dma_result = result;
	memcpy(device->registers + REG_DMA_RESULT, &result, sizeof(result));
}

static void written(struct test_device *device, uint64_t offset, uint32_t value)
{
	if (offset == REG_BUS_MASTER)
		uvf_device_set_bus_master(device->dev, value);
	else if (offset == REG_DOORBELL)
		doorbell(device);
	else if (offset == REG_TRIGGER)
		uvf_irq_trigger(device->dev, VFIO_PCI_MSIX_IRQ_INDEX, value);
	else if (offset == REG_INTX_LEVEL)
		uvf_irq_set_level(device->dev, VFIO_PCI_INTX_IRQ_INDEX, 0, value);
}

static uint8_t *memory_of(struct test_device *device, uint32_t index, uint64_t offset)
{
	if (index == VFIO_PCI_BAR2_REGION_INDEX)
		return device->buffer + offset;
	if (index == VFIO_PCI_CONFIG_REGION_INDEX)
		return device->config + offset;
	return device->registers + offset % PAGE;
}

static int region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	struct test_device *device = uvf_device_opaque(dev);

	if (!index && offset == REG_FAIL)
		return -EIO;
	memcpy(buf, memory_of(device, index, offset), count);
	return 0;
}

static int region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count)
{
	struct test_device *device = uvf_device_opaque(dev);
	uint32_t value = 0;

	if (!index && offset == REG_FAIL)
		return -EIO;
	memcpy(memory_of(device, index, offset), buf, count);
	device->changed |= index == VFIO_PCI_BAR2_REGION_INDEX;
	memcpy(&value, buf, count < sizeof(value) ? count : sizeof(value));
	if (!index)
		written(device, offset, value);
	return 0;
}

static int device_open(struct uvf_device *dev)
{
	struct test_device *device = uvf_device_opaque(dev);

	if (!device->open_error)
		device->opens++;
	return device->open_error;
}

static void device_close(struct uvf_device *dev)
{
	struct test_device *device = uvf_device_opaque(dev);

	device->closes++;
}

static int device_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct test_device *device = uvf_device_opaque(dev);

	device->resets++;
	memset(device->registers, 0, sizeof(device->registers));
	return 0;
}

static const struct uvf_device_ops ops = {
	.open = device_open,
	.close = device_close,
	.reset = device_reset,
};

/* ---- Migration: the registers and the buffer ---- */

static int quiesce(struct uvf_device *dev)
{
	struct test_device *device = uvf_device_opaque(dev);
	int ret = device->quiesce_error;

	if (device->holds) {
		sem_post(&device->held);
		sem_wait(&device->let_go);
	}
	device->quiesce_error = 0;
	return ret;
}

static int save_early(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct test_device *device = uvf_device_opaque(dev);

	if (!device->changed)
		return 0;
	device->changed = false;
	return uvf_state_write_bytes(writer, (struct uvf_state_section){.name = "buffer"},
				     device->buffer, BUFFER_SIZE);
}

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct test_device *device = uvf_device_opaque(dev);
	int ret = uvf_state_write_bytes(writer, (struct uvf_state_section){.name = "registers"},
					device->registers, sizeof(device->registers));

	device->changed = true;
	return ret ? ret : save_early(dev, writer);
}

static int load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	struct test_device *device = uvf_device_opaque(dev);
	const void *bytes;

	if (uvf_state_read_bytes(reader, "registers", 0, &bytes) != sizeof(device->registers))
		return -EINVAL;
	memcpy(device->registers, bytes, sizeof(device->registers));
	if (uvf_state_read_bytes(reader, "buffer", 0, &bytes) != BUFFER_SIZE)
		return -EINVAL;
	memcpy(device->buffer, bytes, BUFFER_SIZE);
	return 0;
}

static const char *const sections[] = {"registers", "buffer", NULL};
static const struct uvf_migration_ops migration = {
	.name = "test",
	.major = 1,
	.sections = sections,
	.quiesce = quiesce,
	.save = save,
	.load = load,
	.save_early = save_early,
};

/* ---- Its making ---- */

static void add_regions(struct test_device *device)
{
	const uint32_t access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	struct uvf_area areas[2] = {{AREA_START, PAGE, -1, 0}, {AREA_START + PAGE, PAGE, -1, 0}};
	struct uvf_io_fd io_fd = {.offset = 0x14, .size = 4, .fd = device->io_fd};
	struct uvf_region region = {
		.flags = access,
		.size = BAR0_SIZE,
		.read = region_read,
		.write = region_write,
		.areas = areas,
		.area_count = 2,
		.io_fds = &io_fd,
		.io_fd_count = 1,
	};
	void *address;

	assert_int_equal(uvf_device_region_memory(device->dev, 0, BAR0_SIZE, &areas[0].fd,
						  &areas[0].fd_offset, &address),
			 0);
	areas[0].fd_offset += AREA_START;
	areas[1].fd = areas[0].fd;
	areas[1].fd_offset = areas[0].fd_offset + PAGE;
	device->area = (uint8_t *)address + AREA_START;
	assert_int_equal(uvf_device_add_region(device->dev, &region), 0);
	region.area_count = region.io_fd_count = 0;
	region.index = VFIO_PCI_BAR2_REGION_INDEX;
	region.size = BUFFER_SIZE;
	assert_int_equal(uvf_device_add_region(device->dev, &region), 0);
	region.index = VFIO_PCI_BAR3_REGION_INDEX;
	region.size = PAGE;
	region.flags = VFIO_REGION_INFO_FLAG_READ;
	assert_int_equal(uvf_device_add_region(device->dev, &region), 0);
	region.index = VFIO_PCI_CONFIG_REGION_INDEX;
	region.size = CONFIG_SIZE;
	region.flags = access;
	assert_int_equal(uvf_device_add_region(device->dev, &region), 0);
	region.index = VFIO_PCI_NUM_REGIONS;
	region.type = 0x1234;
	region.subtype = 7;
	region.size = PAGE;
	assert_int_equal(uvf_device_add_region(device->dev, &region), 0);
}

static void add_irqs(struct test_device *device)
{
	static const struct uvf_irq irqs[] = {
		{VFIO_PCI_INTX_IRQ_INDEX, 1,
		 VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED},
		{VFIO_PCI_MSI_IRQ_INDEX, 4, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE},
		{VFIO_PCI_MSIX_IRQ_INDEX, VECTORS, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE},
		{VFIO_PCI_ERR_IRQ_INDEX, 1, VFIO_IRQ_INFO_EVENTFD},
	};

	for (size_t i = 0; i < sizeof(irqs) / sizeof(irqs[0]); i++)
		assert_int_equal(uvf_device_add_irq(device->dev, &irqs[i]), 0);
}

struct test_device *test_device_new(void)
{
	struct test_device *device = calloc(1, sizeof(*device));

	assert_non_null(device);
	device->buffer = calloc(1, BUFFER_SIZE);
	device->io_fd = eventfd(0, EFD_CLOEXEC);
	assert_non_null(device->buffer);
	assert_int_equal(uvf_device_new("test", &ops, VFIO_DEVICE_FLAGS_PCI, device, &device->dev),
			 0);
	add_regions(device);
	add_irqs(device);
	sem_init(&device->held, 0, 0);
	sem_init(&device->let_go, 0, 0);
	device->changed = true;
	uvf_device_set_migration(device->dev, &migration);
	return device;
}

void test_device_free(struct test_device *device)
{
	uvf_device_free(device->dev);
	sem_destroy(&device->held);
	sem_destroy(&device->let_go);
	close(device->io_fd);
	free(device->buffer);
	free(device);
}
