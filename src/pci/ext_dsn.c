/* SPDX-License-Identifier: BSD-3-Clause */
/* Device Serial Number. */
#include "pci/config.h"

static int dsn_init(struct uvf_pci *pci, const struct pci_capability *capability,
		    const struct uvf_pci_capability *given)
{
	pci_init32(pci, capability, 4, (uint32_t)given->dsn.serial);
	pci_init32(pci, capability, 8, (uint32_t)(given->dsn.serial >> 32));
	return 0;
}

static const struct pci_register registers[] = {{0}};

const struct pci_capability_class pci_ext_dsn = {
	.name = "Device Serial Number",
	.id = PCI_EXT_CAP_ID_DSN,
	.extended = true,
	.version = 1,
	.minimum = PCI_EXT_CAP_DSN_SIZEOF,
	.registers = registers,
	.init = dsn_init,
};
