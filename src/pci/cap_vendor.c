/* SPDX-License-Identifier: BSD-3-Clause */
/* Vendor-specific capabilities, conventional and extended: bytes and a mask from the model. */
#include "pci/config.h"

#include <errno.h>
#include <string.h>

#define VENDOR_HEAD 3 /* id, next, length */
#define VENDOR_MAX  255
#define VSEC_HEAD   8 /* extended head; Vendor-Specific ID, Rev and Length */
#define VSEC_MAX    4095

static int vendor_check(const struct uvf_pci_description *description,
			const struct uvf_pci_capability *given, struct uvf_error *error)
{
	unsigned most = given->extended ? VSEC_MAX - VSEC_HEAD : VENDOR_MAX - VENDOR_HEAD;

	if (given->vendor.size > most)
		return uvf_fail(error, -EINVAL,
				"vendor-specific capability: %u bytes; expected at most %u",
				given->vendor.size, most);
	if (given->extended && given->vendor.vsec_rev > 15)
		return uvf_fail(error, -EINVAL,
				"vendor-specific capability: revision %u; expected 0 to 15",
				given->vendor.vsec_rev);
	return 0;
}

static void init_body(struct uvf_pci *pci, const struct pci_capability *capability, unsigned head,
		      const struct uvf_pci_capability *given)
{
	size_t at = (size_t)capability->offset + head;

	if (given->vendor.data)
		memcpy(pci->initial + at, given->vendor.data, given->vendor.size);
	if (given->vendor.writable)
		memcpy(pci->vendor_writable + at, given->vendor.writable, given->vendor.size);
}

static size_t vendor_size(const struct uvf_pci_capability *given)
{
	return VENDOR_HEAD + (size_t)given->vendor.size;
}

static int vendor_init(struct uvf_pci *pci, const struct pci_capability *capability,
		       const struct uvf_pci_capability *given)
{
	pci_init8(pci, capability, 2, (uint8_t)vendor_size(given));
	init_body(pci, capability, VENDOR_HEAD, given);
	return 0;
}

static size_t vsec_size(const struct uvf_pci_capability *given)
{
	return VSEC_HEAD + (size_t)given->vendor.size;
}

static int vsec_init(struct uvf_pci *pci, const struct pci_capability *capability,
		     const struct uvf_pci_capability *given)
{
	pci_init32(pci, capability, PCI_VNDR_HEADER,
		   given->vendor.vsec_id | (uint32_t)given->vendor.vsec_rev << 16 |
			   (uint32_t)vsec_size(given) << 20);
	init_body(pci, capability, VSEC_HEAD, given);
	return 0;
}

static uint32_t body_exists(const struct uvf_pci *pci, const struct pci_capability *capability,
			    uint16_t offset)
{
	return pci->vendor_writable[capability->offset + offset];
}

static const struct pci_register vendor_registers[] = {
	{
		.offset = VENDOR_HEAD,
		.size = 1,
		.count = VENDOR_MAX - VENDOR_HEAD,
		.writable = 0xff,
		.exists = body_exists,
	},
	{0},
};

static const struct pci_register vsec_registers[] = {
	{
		.offset = VSEC_HEAD,
		.size = 1,
		.count = VSEC_MAX - VSEC_HEAD,
		.writable = 0xff,
		.exists = body_exists,
	},
	{0},
};

const struct pci_capability_class pci_cap_vendor = {
	.name = "vendor-specific",
	.id = PCI_CAP_ID_VNDR,
	.repeatable = true,
	.registers = vendor_registers,
	.size = vendor_size,
	.check = vendor_check,
	.init = vendor_init,
};

const struct pci_capability_class pci_ext_vendor = {
	.name = "extended vendor-specific",
	.id = PCI_EXT_CAP_ID_VNDR,
	.extended = true,
	.version = 1,
	.repeatable = true,
	.registers = vsec_registers,
	.size = vsec_size,
	.check = vendor_check,
	.init = vsec_init,
};
