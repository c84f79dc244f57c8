/* SPDX-License-Identifier: BSD-3-Clause */
/* What sysfs says of one PCI device: its attributes, its BARs, the files of its VFIO cdev. */
#include "frontends/uapi/sysfs_device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <uvfio/uapi.h>

#include "base/bytes.h"
#include "frontends/uapi/sysfs.h"
#include "frontends/uapi/sysfs_cpus.h"

/* Lines of `resource`: six BARs, the ROM, six of SR-IOV. */
#define RESOURCE_LINES 13

/* The kernel's flags in `resource`: it has them in no header for programs. */
#define RESOURCE_IO	   0x00000100u
#define RESOURCE_MEMORY	   0x00000200u
#define RESOURCE_PREFETCH  0x00002000u
#define RESOURCE_READONLY  0x00004000u
#define RESOURCE_SIZEALIGN 0x00040000u
#define RESOURCE_MEMORY64  0x00100000u

#define IO_LIMIT       0x10000u
#define MEMORY32_FIRST 0xc0000000u
#define MEMORY32_LIMIT 0xfe000000u /* below the I/O APIC */

void uapi_bus_space_init(struct uapi_bus_space *space)
{
	*space = (struct uapi_bus_space){
		.io = 0x1000,
		.memory32 = MEMORY32_FIRST,
		.memory64 = 1ULL << 38, /* above any RAM */
	};
}

/* The next free address for @size bytes, aligned to it; 0 where there is no more room. */
static uint64_t allocate(uint64_t *next, uint64_t limit, uint64_t size, uint64_t granule)
{
	uint64_t first, step = granule;

	while (step < size && step << 1)
		step <<= 1;
	if (step < size || __builtin_add_overflow(*next, step - 1, &first))
		return 0;
	first &= ~(step - 1);
	if (first >= limit || step > limit - first)
		return 0;
	*next = first + step;
	return first;
}

static uint64_t region_size(struct uapi_device *device, uint32_t index)
{
	struct uvf_region_info info;

	return uvf_region_get_info(device->dev, index, &info) < 0 ? 0 : info.size;
}

/* Gives BAR @bar, whose register reads @value, an address. */
static void place_bar(struct uapi_sysfs_device *sysfs, unsigned bar, uint32_t value, uint64_t size,
		      struct uapi_bus_space *space)
{
	struct uapi_resource *resource = &sysfs->resources[bar];
	uint32_t kind;

	if (value & PCI_BASE_ADDRESS_SPACE_IO) {
		kind = value & ~(uint32_t)PCI_BASE_ADDRESS_IO_MASK;
		resource->address = allocate(&space->io, IO_LIMIT, size, 16);
		resource->flags = RESOURCE_IO;
	} else {
		bool wide =
			(value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64 &&
			bar + 1 < UAPI_BARS;

		kind = value & ~(uint32_t)PCI_BASE_ADDRESS_MEM_MASK;
		resource->address = wide ? allocate(&space->memory64, UINT64_MAX, size, 4096)
					 : allocate(&space->memory32, MEMORY32_LIMIT, size, 4096);
		resource->flags = RESOURCE_MEMORY | (wide ? RESOURCE_MEMORY64 : 0) |
				  (value & PCI_BASE_ADDRESS_MEM_PREFETCH ? RESOURCE_PREFETCH : 0);
		if (wide)
			sysfs->bars[bar + 1] = (uint32_t)(resource->address >> 32);
	}
	resource->flags |= RESOURCE_SIZEALIGN | kind;
	resource->size = size;
	sysfs->bars[bar] = (uint32_t)resource->address | kind;
}

int uapi_sysfs_device_init(struct uapi_sysfs_device *sysfs, struct uapi_device *device,
			   struct uapi_bus_space *space)
{
	uint8_t config[UAPI_CONFIG_MAX] = {0};
	uint64_t size = region_size(device, VFIO_PCI_CONFIG_REGION_INDEX);
	uint64_t rom = region_size(device, VFIO_PCI_ROM_REGION_INDEX);
	ssize_t result;

	pthread_mutex_init(&sysfs->lock, NULL);
	if (size < PCI_STD_HEADER_SIZEOF)
		return -EINVAL;
	sysfs->config_size = size < sizeof(config) ? (size_t)size : sizeof(config);
	snprintf(sysfs->folder, sizeof(sysfs->folder), "/sys/devices/pci%04x:%02x/%s",
		 device->domain, device->bus, device->address);
	result = uvf_region_read(device->dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, config,
				 sysfs->config_size);
	if (result < 0)
		return (int)result;
	for (unsigned bar = 0; bar < UAPI_BARS; bar++) {
		size = region_size(device, VFIO_PCI_BAR0_REGION_INDEX + bar);
		if (size)
			place_bar(sysfs, bar, uvf_get_le32(config + PCI_BASE_ADDRESS_0 + 4 * bar),
				  size, space);
	}
	if (rom) {
		sysfs->resources[UAPI_BARS] = (struct uapi_resource){
			.address = allocate(&space->memory32, MEMORY32_LIMIT, rom, 4096),
			.size = rom,
			.flags = RESOURCE_MEMORY | RESOURCE_PREFETCH | RESOURCE_READONLY |
				 RESOURCE_SIZEALIGN,
		};
		sysfs->rom = (uint32_t)sysfs->resources[UAPI_BARS].address;
	}
	result = uapi_sysfs_device_config(sysfs, device, sysfs->config);
	return result < 0 ? (int)result : 0;
}

ssize_t uapi_sysfs_device_config(const struct uapi_sysfs_device *sysfs, struct uapi_device *device,
				 uint8_t config[UAPI_CONFIG_MAX])
{
	ssize_t result = uvf_region_read(device->dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, config,
					 sysfs->config_size);

	if (result < 0)
		return result;
	/* Nothing answers any more: that is how a driver sees that a device was pulled. */
	if (uvf_get_le16(config + PCI_VENDOR_ID) == UINT16_MAX)
		return result;
	for (unsigned bar = 0; bar < UAPI_BARS; bar++)
		uvf_put_le32(config + PCI_BASE_ADDRESS_0 + 4 * bar, sysfs->bars[bar]);
	uvf_put_le32(config + PCI_ROM_ADDRESS, sysfs->rom);
	return (ssize_t)sysfs->config_size;
}

static void describe_resources(const struct uapi_sysfs_device *sysfs, struct uapi_tree *tree)
{
	char lines[RESOURCE_LINES * 57 + 1];
	size_t length = 0;

	for (unsigned i = 0; i < RESOURCE_LINES; i++) {
		static const struct uapi_resource none;
		const struct uapi_resource *resource = i <= UAPI_BARS && sysfs->resources[i].address
							       ? &sysfs->resources[i]
							       : &none;
		char name[16];

		length += (size_t)snprintf(
			lines + length, sizeof(lines) - length,
			"0x%016" PRIx64 " 0x%016" PRIx64 " 0x%016" PRIx64 "\n", resource->address,
			resource->size ? resource->address + resource->size - 1 : 0,
			resource->flags);
		if (!resource->size || i >= UAPI_BARS)
			continue;
		snprintf(name, sizeof(name), "resource%u", i);
		uapi_tree_bytes(tree, sysfs->folder, name, 0600, NULL, 0, resource->size);
	}
	uapi_tree_file(tree, sysfs->folder, "resource", 0444, "%s", lines);
}

static void describe_ids(const struct uapi_sysfs_device *sysfs, const struct uapi_device *device,
			 struct uapi_tree *tree)
{
	const uint8_t *config = sysfs->config;
	const char *folder = sysfs->folder;
	unsigned vendor = uvf_get_le16(config + PCI_VENDOR_ID),
		 id = uvf_get_le16(config + PCI_DEVICE_ID);
	unsigned subsystem_vendor = uvf_get_le16(config + PCI_SUBSYSTEM_VENDOR_ID);
	unsigned subsystem = uvf_get_le16(config + PCI_SUBSYSTEM_ID);
	unsigned class_code = uvf_get_le32(config + PCI_CLASS_REVISION) >> 8;
	char alias[80];

	snprintf(alias, sizeof(alias), "pci:v%08Xd%08Xsv%08Xsd%08Xbc%02Xsc%02Xi%02X", vendor, id,
		 subsystem_vendor, subsystem, class_code >> 16, class_code >> 8 & 0xff,
		 class_code & 0xff);
	uapi_tree_file(tree, folder, "vendor", 0444, "0x%04x\n", vendor);
	uapi_tree_file(tree, folder, "device", 0444, "0x%04x\n", id);
	uapi_tree_file(tree, folder, "subsystem_vendor", 0444, "0x%04x\n", subsystem_vendor);
	uapi_tree_file(tree, folder, "subsystem_device", 0444, "0x%04x\n", subsystem);
	uapi_tree_file(tree, folder, "revision", 0444, "0x%02x\n", config[PCI_REVISION_ID]);
	uapi_tree_file(tree, folder, "class", 0444, "0x%06x\n", class_code);
	uapi_tree_file(tree, folder, "modalias", 0444, "%s\n", alias);
	uapi_tree_file(tree, folder, "uevent", 0644,
		       "DRIVER=vfio-pci\nPCI_CLASS=%X\nPCI_ID=%04X:%04X\nPCI_SUBSYS_ID=%04X:%04X\n"
		       "PCI_SLOT_NAME=%s\nMODALIAS=%s\n",
		       class_code, vendor, id, subsystem_vendor, subsystem, device->address, alias);
}

/* Attributes that are the same for every device. */
static const struct {
	const char *name, *text;
	mode_t mode;
} attributes[] = {
	{"ari_enabled", "0\n", 0444},
	{"broken_parity_status", "0\n", 0644},
	{"consistent_dma_mask_bits", "64\n", 0444},
	{"d3cold_allowed", "1\n", 0644},
	{"dma_mask_bits", "64\n", 0444},
	{"driver_override", "vfio-pci\n", 0644},
	{"enable", "1\n", 0644},
	{"msi_bus", "1\n", 0644},
	{"power_state", "D0\n", 0444},
	{"remove", "", 0200},
	{"rescan", "", 0200},
	{"reset", "", 0200},
};

static void describe_cdev(const struct uapi_sysfs_device *sysfs, const struct uapi_device *device,
			  struct uapi_tree *tree)
{
	dev_t rdev = uapi_device_rdev(device->number);
	char folder[128], name[24];

	snprintf(folder, sizeof(folder), "%s/vfio-dev", sysfs->folder);
	uapi_tree_folder(tree, folder);
	snprintf(folder, sizeof(folder), "%s/vfio-dev/vfio%zu", sysfs->folder, device->number);
	uapi_tree_folder(tree, folder);
	uapi_tree_file(tree, folder, "dev", 0444, "%u:%u\n", major(rdev), minor(rdev));
	uapi_tree_file(tree, folder, "uevent", 0644,
		       "MAJOR=%u\nMINOR=%u\nDEVNAME=vfio/devices/vfio%zu\n", major(rdev),
		       minor(rdev), device->number);
	uapi_tree_link(tree, folder, "device", "../../../%s", device->address);
	uapi_tree_link(tree, folder, "subsystem", "../../../../../class/vfio-dev");
	snprintf(name, sizeof(name), "vfio%zu", device->number);
	uapi_tree_link(tree, "/sys/class/vfio-dev", name, "../..%s", folder + strlen("/sys"));
}

void uapi_sysfs_device_describe(const struct uapi_sysfs_device *sysfs,
				const struct uapi_device *device, struct uapi_tree *tree)
{
	const char *folder = sysfs->folder;
	unsigned pin = sysfs->config[PCI_INTERRUPT_PIN];
	struct uapi_cpus cpus;
	char power[96];

	uapi_tree_only(tree, folder);
	describe_ids(sysfs, device, tree);
	describe_resources(sysfs, tree);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(attributes); i++)
		uapi_tree_file(tree, folder, attributes[i].name, attributes[i].mode, "%s",
			       attributes[i].text);
	uapi_tree_bytes(tree, folder, "config", 0644, sysfs->config, sysfs->config_size, 0);
	uapi_tree_file(tree, folder, "irq", 0444, "%u\n", pin ? 15 + pin : 0);
	uapi_tree_file(tree, folder, "numa_node", 0644, "%d\n", device->numa_node);
	uapi_cpus_of_node(device->numa_node, &cpus);
	uapi_tree_file(tree, folder, "local_cpus", 0444, "%s\n", cpus.mask);
	uapi_tree_file(tree, folder, "local_cpulist", 0444, "%s\n", cpus.list);
	uapi_tree_link(tree, folder, "driver", "../../../bus/pci/drivers/vfio-pci");
	uapi_tree_link(tree, folder, "subsystem", "../../../bus/pci");
	uapi_tree_link(tree, folder, "iommu_group", "../../../kernel/iommu_groups/%u",
		       device->group->number);
	snprintf(power, sizeof(power), "%s/power", folder);
	uapi_tree_folder(tree, power);
	uapi_tree_file(tree, power, "control", 0644, "on\n");
	uapi_tree_file(tree, power, "runtime_status", 0444, "active\n");
	describe_cdev(sysfs, device, tree);
}
