/* SPDX-License-Identifier: BSD-3-Clause */
/* The PCI side: registers through regions, the command register, mapped doorbells, MSI-X. */
#include "driver.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/uapi.h>

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int moved(ssize_t ret, size_t count)
{
	if (ret < 0)
		return (int)ret;
	return (size_t)ret == count ? 0 : -EIO;
}

static int region_read(struct nvme_driver *driver, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	return moved(uvf_region_read(driver->dev, index, offset, buf, count), count);
}

static int region_write(struct nvme_driver *driver, uint32_t index, uint64_t offset,
			const void *buf, size_t count)
{
	return moved(uvf_region_write(driver->dev, index, offset, buf, count), count);
}

int register_read32(struct nvme_driver *driver, uint64_t offset, uint32_t *value)
{
	int ret = region_read(driver, VFIO_PCI_BAR0_REGION_INDEX, offset, value, sizeof(*value));

	*value = le32toh(*value);
	return ret;
}

/* By halves: a controller need not take 64-bit accesses. */
int register_read64(struct nvme_driver *driver, uint64_t offset, uint64_t *value)
{
	uint32_t low = 0, high = 0;
	int ret = register_read32(driver, offset, &low);

	if (!ret)
		ret = register_read32(driver, offset + 4, &high);
	*value = (uint64_t)high << 32 | low;
	return ret;
}

int register_write32(struct nvme_driver *driver, uint64_t offset, uint32_t value)
{
	value = htole32(value);
	return region_write(driver, VFIO_PCI_BAR0_REGION_INDEX, offset, &value, sizeof(value));
}

int register_write64(struct nvme_driver *driver, uint64_t offset, uint64_t value)
{
	int ret = register_write32(driver, offset, (uint32_t)value);

	return ret ? ret : register_write32(driver, offset + 4, (uint32_t)(value >> 32));
}

static int config_update16(struct nvme_driver *driver, uint64_t offset, uint16_t clear,
			   uint16_t set)
{
	uint16_t value = 0;
	int ret = region_read(driver, VFIO_PCI_CONFIG_REGION_INDEX, offset, &value, sizeof(value));

	if (ret)
		return ret;
	value = htole16((uint16_t)((le16toh(value) & ~clear) | set));
	return region_write(driver, VFIO_PCI_CONFIG_REGION_INDEX, offset, &value, sizeof(value));
}

static int config_find_capability(struct nvme_driver *driver, uint8_t id, uint8_t *offset)
{
	uint8_t at = 0, entry[2];
	int ret = region_read(driver, VFIO_PCI_CONFIG_REGION_INDEX, PCI_CAPABILITY_LIST, &at, 1);

	/* No more than fit: a list that a broken device made a ring of ends. */
	for (unsigned left = 48; !ret && at >= PCI_STD_HEADER_SIZEOF && left; left--) {
		at &= 0xfc;
		ret = region_read(driver, VFIO_PCI_CONFIG_REGION_INDEX, at, entry, sizeof(entry));
		if (!ret && entry[0] == id) {
			*offset = at;
			return 0;
		}
		at = entry[1];
	}
	return ret ? ret : -ENOENT;
}

static int check_class(struct nvme_driver *driver, struct uvf_error *error)
{
	uint8_t class_code[3] = {0};
	struct uvf_region_info bar;
	int ret = region_read(driver, VFIO_PCI_CONFIG_REGION_INDEX, PCI_CLASS_PROG, class_code,
			      sizeof(class_code));

	if (ret)
		return uvf_fail(error, ret, "can't read configuration space: %s", strerror(-ret));
	if (class_code[0] != 0x02 || class_code[1] != 0x08 || class_code[2] != 0x01)
		return uvf_fail(error, -ENODEV, "class %02x%02x%02x is not an NVMe controller's",
				class_code[2], class_code[1], class_code[0]);
	ret = uvf_region_get_info(driver->dev, VFIO_PCI_BAR0_REGION_INDEX, &bar);
	if (ret || bar.size < NVME_REG_DOORBELLS + 16)
		return uvf_fail(error, -ENODEV, "BAR 0 is too small for an NVMe controller");
	return 0;
}

int bus_up(struct nvme_driver *driver, const struct nvme_driver_config *config,
	   struct uvf_error *error)
{
	int ret = uvf_device_open(driver->dev);

	if (ret)
		return uvf_fail(error, ret, "can't open the device: %s", strerror(-ret));
	driver->opened = true;
	ret = check_class(driver, error);
	if (ret)
		return ret;
	ret = uvf_address_space_new(NULL, &driver->space);
	if (!ret)
		ret = uvf_device_attach(driver->dev, UVF_PASID_NONE, driver->space);
	if (!ret)
		ret = uvf_map_fd(driver->space, DMA_BASE, driver->memory.size, UVF_PROT_RW,
				 driver->memory.fd, 0);
	if (ret)
		return uvf_fail(error, ret, "can't map memory for the device: %s", strerror(-ret));
	ret = config_update16(driver, PCI_COMMAND, 0, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	if (ret)
		return uvf_fail(error, ret, "can't enable bus mastering: %s", strerror(-ret));
	if (!config->no_mapped_doorbells)
		doorbells_map(driver, (config->queues ? config->queues : 1u) + 1u);
	return 0;
}

void doorbells_map(struct nvme_driver *driver, unsigned queues)
{
	uint64_t first = NVME_REG_DOORBELLS;
	uint64_t stride = 4; /* CAP is not known yet: 4 KiB holds any stride of few queues */
	uint64_t last = first + 2ULL * queues * stride;
	struct uvf_region_info bar;
	void *address;

	if (uvf_region_get_info(driver->dev, VFIO_PCI_BAR0_REGION_INDEX, &bar))
		return;
	for (size_t i = 0; i < bar.area_count; i++) {
		const struct uvf_area *area = &bar.areas[i];

		if (area->offset > first || area->size < last - area->offset)
			continue;
		if (uvf_region_map(driver->dev, VFIO_PCI_BAR0_REGION_INDEX, area->offset,
				   area->size, &address))
			continue;
		driver->doorbells = address;
		driver->doorbells_map_offset = area->offset;
		driver->doorbells_map_size = area->size;
		return;
	}
}

/* A vector's mask bit in the MSI-X table. */
static int vectors_unmask(struct nvme_driver *driver, uint8_t capability, unsigned vectors)
{
	uint32_t where = 0;
	int ret = region_read(driver, VFIO_PCI_CONFIG_REGION_INDEX, capability + PCI_MSIX_TABLE,
			      &where, sizeof(where));
	const uint32_t unmasked = 0;

	where = le32toh(where);
	for (unsigned i = 0; !ret && i < vectors; i++)
		ret = region_write(driver, where & PCI_MSIX_TABLE_BIR,
				   (where & PCI_MSIX_TABLE_OFFSET) +
					   (uint64_t)i * PCI_MSIX_ENTRY_SIZE +
					   PCI_MSIX_ENTRY_VECTOR_CTRL,
				   &unmasked, sizeof(unmasked));
	return ret;
}

/* Vector 0 is the admin queue's, which is polled; vector n is I/O queue n's. */
int interrupts_up(struct nvme_driver *driver, unsigned vectors)
{
	int fds[1 + UINT8_MAX];
	struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = vectors,
		.fds = fds,
	};
	struct uvf_irq_info info;
	uint8_t capability;
	int ret = uvf_irq_get_info(driver->dev, VFIO_PCI_MSIX_IRQ_INDEX, &info);

	if (ret)
		return ret;
	if (vectors > info.count || vectors > sizeof(fds) / sizeof(fds[0]))
		return -ENOTSUP;
	ret = config_find_capability(driver, PCI_CAP_ID_MSIX, &capability);
	if (ret)
		return ret;
	fds[0] = -1;
	for (unsigned i = 1; i < vectors; i++) {
		driver->queues[i - 1].eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (driver->queues[i - 1].eventfd < 0)
			return -errno;
		fds[i] = driver->queues[i - 1].eventfd;
	}
	ret = uvf_irq_set(driver->dev, &set);
	if (ret)
		return ret;
	ret = vectors_unmask(driver, capability, vectors);
	if (ret)
		return ret;
	return config_update16(driver, capability + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_MASKALL,
			       PCI_MSIX_FLAGS_ENABLE);
}

void bus_down(struct nvme_driver *driver)
{
	if (driver->doorbells)
		uvf_region_unmap(driver->dev, VFIO_PCI_BAR0_REGION_INDEX,
				 driver->doorbells_map_offset, driver->doorbells_map_size,
				 driver->doorbells);
	if (driver->opened) {
		config_update16(driver, PCI_COMMAND, PCI_COMMAND_MASTER, 0);
		uvf_device_detach(driver->dev, UVF_PASID_NONE);
		uvf_device_close(driver->dev);
	}
	if (driver->space)
		uvf_address_space_put(driver->space);
}
