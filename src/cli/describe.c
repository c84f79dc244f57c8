/* SPDX-License-Identifier: BSD-3-Clause */
/* A device as its driver sees it, as a tree: the header, regions, IRQs, capabilities decoded. */
#include "cli/describe.h"

#include <json-c/json.h>
#include <string.h>
#include <uvfio/client.h>
#include <uvfio/uapi.h>

#include "base/bytes.h"
#include "cli/capabilities.h"

/* What a name or a flag of the UAPI is called here. */
struct bit_row {
	uint32_t bit;
	const char *name;
};

static void add_bits(struct json_object *object, const struct bit_row *row, uint32_t bits)
{
	for (; row->name; row++)
		json_object_object_add(object, row->name,
				       json_object_new_boolean((bits & row->bit) != 0));
}

static void add_index(struct json_object *object, uint32_t index, const char *const *names,
		      size_t count)
{
	json_object_object_add(object, "index", json_object_new_uint64(index));
	json_object_object_add(
		object, "name",
		json_object_new_string(index < count ? names[index] : "device specific"));
}

static void add_type(struct json_object *object, uint32_t type, uint32_t subtype)
{
	if (!type)
		return;
	json_object_object_add(object, "type", json_object_new_uint64(type));
	json_object_object_add(object, "subtype", json_object_new_uint64(subtype));
}

/* ---- Regions ---- */

static struct json_object *describe_areas(const struct uvf_region_info *info)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < info->area_count; i++) {
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "offset",
				       json_object_new_uint64(info->areas[i].offset));
		json_object_object_add(object, "size", json_object_new_uint64(info->areas[i].size));
		json_object_array_add(array, object);
	}
	return array;
}

static struct json_object *describe_region(uint32_t index, const struct uvf_region_info *info,
					   const struct config_space *config)
{
	static const char *const names[] = {"bar0", "bar1", "bar2",   "bar3", "bar4",
					    "bar5", "rom",  "config", "vga"};
	static const struct bit_row flags[] = {
		{VFIO_REGION_INFO_FLAG_READ, "read"},
		{VFIO_REGION_INFO_FLAG_WRITE, "write"},
		{VFIO_REGION_INFO_FLAG_MMAP, "map"},
		{},
	};
	struct json_object *object = json_object_new_object();

	_Static_assert(VFIO_PCI_CONFIG_REGION_INDEX == 7 && VFIO_PCI_VGA_REGION_INDEX == 8,
		       "the names are in the UAPI's order");
	add_index(object, index, names, UVF_ARRAY_SIZE(names));
	json_object_object_add(object, "size", json_object_new_uint64(info->size));
	if (index <= VFIO_PCI_BAR5_REGION_INDEX && config->size)
		decode_bar(config, index, object);
	add_type(object, info->type, info->subtype);
	add_bits(object, flags, info->flags);
	if (info->area_count)
		json_object_object_add(object, "areas", describe_areas(info));
	return object;
}

static int describe_regions(struct uvf_device *dev, const struct config_space *config,
			    uint32_t count, struct json_object *array)
{
	for (uint32_t index = 0; index < count; index++) {
		struct uvf_region_info info;
		int ret = uvf_region_get_info(dev, index, &info);

		if (ret)
			return ret;
		if (info.size)
			json_object_array_add(array, describe_region(index, &info, config));
	}
	return 0;
}

/* ---- IRQs ---- */

static int describe_irqs(struct uvf_device *dev, uint32_t count, struct json_object *array)
{
	static const char *const names[] = {"intx", "msi", "msix", "err", "req"};
	static const struct bit_row flags[] = {
		{VFIO_IRQ_INFO_EVENTFD, "eventfd"},
		{VFIO_IRQ_INFO_MASKABLE, "maskable"},
		{VFIO_IRQ_INFO_AUTOMASKED, "automasked"},
		{VFIO_IRQ_INFO_NORESIZE, "noresize"},
		{},
	};

	for (uint32_t index = 0; index < count; index++) {
		struct json_object *object;
		struct uvf_irq_info info;
		int ret = uvf_irq_get_info(dev, index, &info);

		if (ret)
			return ret;
		if (!info.count)
			continue;
		object = json_object_new_object();
		add_index(object, index, names, UVF_ARRAY_SIZE(names));
		json_object_object_add(object, "count", json_object_new_uint64(info.count));
		add_type(object, info.type, info.subtype);
		add_bits(object, flags, info.flags);
		json_object_array_add(array, object);
	}
	return 0;
}

/* ---- All ---- */

/* By fours, as drivers read it. */
static int read_config(struct uvf_device *dev, const struct uvf_device_info *device,
		       struct config_space *config)
{
	struct uvf_region_info info;
	int ret;

	memset(config, 0, sizeof(*config));
	if (device->regions <= VFIO_PCI_CONFIG_REGION_INDEX)
		return 0;
	ret = uvf_region_get_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	if (ret)
		return ret;
	config->size = info.size < CONFIG_SPACE_MAX ? info.size & ~3ULL : CONFIG_SPACE_MAX;
	for (size_t at = 0; at < config->size; at += 4) {
		ssize_t got = uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, at,
					      config->bytes + at, 4);

		if (got < 0)
			return (int)got;
	}
	return 0;
}

int describe_device(struct uvf_device *dev, struct json_object *object)
{
	static const struct bit_row flags[] = {
		{VFIO_DEVICE_FLAGS_PCI, "pci"},
		{VFIO_DEVICE_FLAGS_RESET, "reset"},
		{},
	};
	struct json_object *regions = json_object_new_array();
	struct json_object *irqs = json_object_new_array();
	struct json_object *device = json_object_new_object();
	struct uvf_device_info info;
	struct config_space config;
	int ret;

	uvf_device_get_info(dev, &info);
	add_bits(device, flags, info.flags);
	json_object_object_add(object, "device", device);
	ret = read_config(dev, &info, &config);
	if (!ret)
		ret = describe_regions(dev, &config, info.regions, regions);
	if (!ret)
		ret = describe_irqs(dev, info.irqs, irqs);
	if (config.size)
		json_object_object_add(object, "header", decode_header(&config));
	json_object_object_add(object, "regions", regions);
	json_object_object_add(object, "irqs", irqs);
	if (config.size) {
		json_object_object_add(object, "capabilities", decode_capabilities(&config));
		json_object_object_add(object, "extended_capabilities",
				       decode_extended_capabilities(&config));
	}
	return ret;
}
