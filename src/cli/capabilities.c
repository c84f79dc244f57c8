/* SPDX-License-Identifier: BSD-3-Clause */
/* PCI configuration space, decoded for people: the header, and a row for each capability. */
#include "cli/capabilities.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <uvfio/uapi.h>

#include "base/bytes.h"

/* ---- Fields ---- */

/* Past the end of what the device has, everything is 0. */
static uint32_t get(const struct config_space *config, size_t offset, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++)
		if (offset + i < config->size)
			value |= (uint32_t)config->bytes[offset + i] << (8 * i);
	return value;
}

static void add_hex(struct json_object *object, const char *name, uint64_t value, int digits)
{
	char text[24];

	snprintf(text, sizeof(text), "%0*" PRIx64, digits, value);
	json_object_object_add(object, name, json_object_new_string(text));
}

static void add_number(struct json_object *object, const char *name, uint64_t value)
{
	json_object_object_add(object, name, json_object_new_uint64(value));
}

static void add_flag(struct json_object *object, const char *name, bool value)
{
	json_object_object_add(object, name, json_object_new_boolean(value));
}

static void add_string(struct json_object *object, const char *name, const char *value)
{
	json_object_object_add(object, name, json_object_new_string(value));
}

/* ---- Header ---- */

static const char *class_name(uint32_t class_code)
{
	static const struct {
		uint32_t class_code, mask;
		const char *name;
	} classes[] = {
		{0x010802, 0xffffff, "NVM Express controller"},
		{0x010000, 0xff0000, "storage controller"},
		{0x020000, 0xff0000, "network controller"},
		{0x030000, 0xff0000, "display controller"},
		{0x070002, 0xffffff, "serial port, 16550"},
		{0x070000, 0xff0000, "communication controller"},
		{0x080600, 0xffff00, "IOMMU"},
		{0x080000, 0xff0000, "system peripheral"},
		{0x120000, 0xff0000, "processing accelerator"},
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(classes); i++)
		if ((class_code & classes[i].mask) == classes[i].class_code)
			return classes[i].name;
	return "other";
}

struct json_object *decode_header(const struct config_space *config)
{
	struct json_object *object = json_object_new_object();
	uint32_t command = get(config, PCI_COMMAND, 2);
	uint32_t class_code = get(config, PCI_CLASS_PROG, 3);

	add_hex(object, "vendor", get(config, PCI_VENDOR_ID, 2), 4);
	add_hex(object, "device", get(config, PCI_DEVICE_ID, 2), 4);
	add_hex(object, "subsystem_vendor", get(config, PCI_SUBSYSTEM_VENDOR_ID, 2), 4);
	add_hex(object, "subsystem", get(config, PCI_SUBSYSTEM_ID, 2), 4);
	add_hex(object, "class", class_code, 6);
	add_string(object, "class_name", class_name(class_code));
	add_number(object, "revision", get(config, PCI_REVISION_ID, 1));
	add_hex(object, "command", command, 4);
	add_hex(object, "status", get(config, PCI_STATUS, 2), 4);
	add_flag(object, "io", command & PCI_COMMAND_IO);
	add_flag(object, "memory", command & PCI_COMMAND_MEMORY);
	add_flag(object, "bus_master", command & PCI_COMMAND_MASTER);
	add_number(object, "interrupt_pin", get(config, PCI_INTERRUPT_PIN, 1));
	return object;
}

void decode_bar(const struct config_space *config, unsigned bar, struct json_object *object)
{
	uint32_t value = get(config, PCI_BASE_ADDRESS_0 + 4 * bar, 4);

	if (value & PCI_BASE_ADDRESS_SPACE_IO) {
		add_string(object, "kind", "io");
		return;
	}
	add_string(object, "kind",
		   (value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64
			   ? "mem64"
			   : "mem32");
	add_flag(object, "prefetchable", value & PCI_BASE_ADDRESS_MEM_PREFETCH);
}

/* ---- Capabilities ---- */

typedef void decode_fn(const struct config_space *config, size_t at, struct json_object *object);

static void decode_pm(const struct config_space *config, size_t at, struct json_object *object)
{
	uint32_t control = get(config, at + PCI_PM_CTRL, 2);

	add_number(object, "version", get(config, at + PCI_PM_PMC, 2) & PCI_PM_CAP_VER_MASK);
	add_number(object, "state", control & PCI_PM_CTRL_STATE_MASK);
	add_flag(object, "no_soft_reset", control & PCI_PM_CTRL_NO_SOFT_RESET);
}

static void decode_msi(const struct config_space *config, size_t at, struct json_object *object)
{
	uint32_t flags = get(config, at + PCI_MSI_FLAGS, 2);

	add_number(object, "vectors", 1U << ((flags & PCI_MSI_FLAGS_QMASK) >> 1));
	add_flag(object, "address64", flags & PCI_MSI_FLAGS_64BIT);
	add_flag(object, "maskable", flags & PCI_MSI_FLAGS_MASKBIT);
	add_flag(object, "enabled", flags & PCI_MSI_FLAGS_ENABLE);
}

static void decode_msix(const struct config_space *config, size_t at, struct json_object *object)
{
	uint32_t flags = get(config, at + PCI_MSIX_FLAGS, 2);
	uint32_t table = get(config, at + PCI_MSIX_TABLE, 4);
	uint32_t pba = get(config, at + PCI_MSIX_PBA, 4);

	add_number(object, "vectors", (flags & PCI_MSIX_FLAGS_QSIZE) + 1);
	add_number(object, "table_bar", table & PCI_MSIX_TABLE_BIR);
	add_hex(object, "table_offset", table & PCI_MSIX_TABLE_OFFSET, 1);
	add_number(object, "pba_bar", pba & PCI_MSIX_PBA_BIR);
	add_hex(object, "pba_offset", pba & PCI_MSIX_PBA_OFFSET, 1);
	add_flag(object, "enabled", flags & PCI_MSIX_FLAGS_ENABLE);
	add_flag(object, "masked", flags & PCI_MSIX_FLAGS_MASKALL);
}

static void decode_express(const struct config_space *config, size_t at, struct json_object *object)
{
	static const char *const types[16] = {
		[0] = "endpoint",
		[1] = "legacy endpoint",
		[4] = "root port",
		[5] = "upstream port",
		[6] = "downstream port",
		[9] = "root complex integrated endpoint",
		[10] = "root complex event collector",
	};
	uint32_t flags = get(config, at + PCI_EXP_FLAGS, 2);
	uint32_t device = get(config, at + PCI_EXP_DEVCAP, 4);
	const char *type = types[(flags & PCI_EXP_FLAGS_TYPE) >> 4];

	add_number(object, "version", flags & PCI_EXP_FLAGS_VERS);
	add_string(object, "type", type ? type : "other");
	add_number(object, "max_payload", 128U << (device & PCI_EXP_DEVCAP_PAYLOAD));
	add_flag(object, "flr", device & PCI_EXP_DEVCAP_FLR);
}

static void decode_vendor(const struct config_space *config, size_t at, struct json_object *object)
{
	add_number(object, "length", get(config, at + PCI_CAP_FLAGS, 1));
}

static void decode_dsn(const struct config_space *config, size_t at, struct json_object *object)
{
	uint64_t high = get(config, at + 8, 4);

	add_hex(object, "serial", high << 32 | get(config, at + 4, 4), 16);
}

static void decode_aer(const struct config_space *config, size_t at, struct json_object *object)
{
	add_hex(object, "uncorrectable", get(config, at + PCI_ERR_UNCOR_STATUS, 4), 8);
	add_hex(object, "uncorrectable_mask", get(config, at + PCI_ERR_UNCOR_MASK, 4), 8);
	add_hex(object, "correctable", get(config, at + PCI_ERR_COR_STATUS, 4), 8);
	add_hex(object, "correctable_mask", get(config, at + PCI_ERR_COR_MASK, 4), 8);
}

static void decode_ari(const struct config_space *config, size_t at, struct json_object *object)
{
	add_number(object, "next_function", get(config, at + PCI_ARI_CAP + 1, 1));
}

static void decode_acs(const struct config_space *config, size_t at, struct json_object *object)
{
	add_hex(object, "capabilities", get(config, at + PCI_ACS_CAP, 2), 4);
	add_hex(object, "control", get(config, at + PCI_ACS_CTRL, 2), 4);
}

static void decode_vsec(const struct config_space *config, size_t at, struct json_object *object)
{
	uint32_t header = get(config, at + 4, 4);

	add_hex(object, "vsec", header & 0xffff, 4);
	add_number(object, "revision", header >> 16 & 0xf);
	add_number(object, "length", header >> 20);
}

static const struct capability_row {
	uint16_t id;
	const char *name;
	decode_fn *decode; /* NULL: the name says all that we know */
} capabilities[] = {
	{PCI_CAP_ID_PM, "power management", decode_pm},
	{PCI_CAP_ID_VPD, "vital product data", NULL},
	{PCI_CAP_ID_MSI, "MSI", decode_msi},
	{PCI_CAP_ID_VNDR, "vendor specific", decode_vendor},
	{PCI_CAP_ID_EXP, "PCI Express", decode_express},
	{PCI_CAP_ID_MSIX, "MSI-X", decode_msix},
	{PCI_CAP_ID_AF, "advanced features", NULL},
	{},
};

static const struct capability_row extended_capabilities[] = {
	{PCI_EXT_CAP_ID_ERR, "advanced error reporting", decode_aer},
	{PCI_EXT_CAP_ID_DSN, "device serial number", decode_dsn},
	{PCI_EXT_CAP_ID_VNDR, "vendor specific", decode_vsec},
	{PCI_EXT_CAP_ID_ACS, "access control services", decode_acs},
	{PCI_EXT_CAP_ID_ARI, "alternative routing-id", decode_ari},
	{PCI_EXT_CAP_ID_ATS, "address translation services", NULL},
	{PCI_EXT_CAP_ID_SRIOV, "single root I/O virtualization", NULL},
	{PCI_EXT_CAP_ID_PRI, "page request interface", NULL},
	{PCI_EXT_CAP_ID_PASID, "process address space id", NULL},
	{PCI_EXT_CAP_ID_DVSEC, "designated vendor specific", NULL},
	{},
};

static struct json_object *decode_one(const struct config_space *config, size_t at, uint16_t id,
				      const struct capability_row *row)
{
	struct json_object *object = json_object_new_object();

	while (row->name && row->id != id)
		row++;
	add_hex(object, "offset", at, 2);
	add_hex(object, "id", id, 2);
	add_string(object, "name", row->name ? row->name : "unknown");
	if (row->decode)
		row->decode(config, at, object);
	return object;
}

static void add_error(struct json_object *array, size_t at, const char *text)
{
	struct json_object *object = json_object_new_object();

	add_hex(object, "offset", at, 2);
	add_string(object, "error", text);
	json_object_array_add(array, object);
}

struct json_object *decode_capabilities(const struct config_space *config)
{
	struct json_object *array = json_object_new_array();
	bool seen[PCI_CFG_SPACE_SIZE] = {false};
	size_t at = 0;

	if (get(config, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST)
		at = get(config, PCI_CAPABILITY_LIST, 1) & ~3U;
	while (at) {
		if (at < PCI_STD_HEADER_SIZEOF || seen[at]) {
			add_error(array, at, "the list of capabilities leads astray");
			break;
		}
		seen[at] = true;
		json_object_array_add(
			array, decode_one(config, at, (uint16_t)get(config, at, 1), capabilities));
		at = get(config, at + PCI_CAP_LIST_NEXT, 1) & ~3U;
	}
	return array;
}

struct json_object *decode_extended_capabilities(const struct config_space *config)
{
	struct json_object *array = json_object_new_array();
	bool seen[CONFIG_SPACE_MAX] = {false};
	size_t at = PCI_CFG_SPACE_SIZE;

	while (at && at < config->size) {
		uint32_t header = get(config, at, 4);

		/* Where there is none the first place is empty. */
		if (at == PCI_CFG_SPACE_SIZE && (!header || header == UINT32_MAX))
			break;
		if (at < PCI_CFG_SPACE_SIZE || seen[at]) {
			add_error(array, at, "the list of capabilities leads astray");
			break;
		}
		seen[at] = true;
		json_object_array_add(array,
				      decode_one(config, at, (uint16_t)PCI_EXT_CAP_ID(header),
						 extended_capabilities));
		at = PCI_EXT_CAP_NEXT(header);
	}
	return array;
}
