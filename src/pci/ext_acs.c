/* SPDX-License-Identifier: BSD-3-Clause */
/* Access Control Services: what the capability register names can be enabled. */
#include "pci/config.h"

#define ACS_SERVICES	0x7f /* source validation to direct translated P2P */
#define EGRESS_MAX_BITS 256

/* Bits of the Egress Control Vector: there are none without P2P Egress Control. */
static unsigned egress_bits(uint16_t capabilities)
{
	unsigned bits = capabilities >> 8;

	if (!(capabilities & PCI_ACS_EC))
		return 0;
	return bits ? bits : EGRESS_MAX_BITS;
}

static size_t acs_size(const struct uvf_pci_capability *given)
{
	return PCI_ACS_EGRESS_CTL_V + (egress_bits(given->acs.capabilities) + 31U) / 32 * 4;
}

static int acs_init(struct uvf_pci *pci, const struct pci_capability *capability,
		    const struct uvf_pci_capability *given)
{
	uint16_t vector_size =
		given->acs.capabilities & PCI_ACS_EC ? given->acs.capabilities & 0xff00 : 0;

	pci_init16(pci, capability, PCI_ACS_CAP,
		   (uint16_t)((given->acs.capabilities & ACS_SERVICES) | vector_size));
	return 0;
}

static uint32_t control_exists(const struct uvf_pci *pci, const struct pci_capability *capability,
			       uint16_t offset)
{
	return pci_get16(pci, capability, PCI_ACS_CAP) & ACS_SERVICES;
}

static uint32_t vector_exists(const struct uvf_pci *pci, const struct pci_capability *capability,
			      uint16_t offset)
{
	unsigned first = (offset - PCI_ACS_EGRESS_CTL_V) * 8U;
	unsigned bits = egress_bits(pci_get16(pci, capability, PCI_ACS_CAP));

	if (bits <= first)
		return 0;
	return bits - first >= 32 ? UINT32_MAX : (1U << (bits - first)) - 1;
}

static const struct pci_register registers[] = {
	{
		.offset = PCI_ACS_CTRL,
		.size = 2,
		.writable = ACS_SERVICES,
		.exists = control_exists,
	},
	{
		.offset = PCI_ACS_EGRESS_CTL_V,
		.size = 4,
		.count = EGRESS_MAX_BITS / 32,
		.writable = UINT32_MAX,
		.exists = vector_exists,
	},
	{0},
};

const struct pci_capability_class pci_ext_acs = {
	.name = "ACS",
	.id = PCI_EXT_CAP_ID_ACS,
	.extended = true,
	.version = 1,
	.registers = registers,
	.size = acs_size,
	.init = acs_init,
};
