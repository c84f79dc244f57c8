/* SPDX-License-Identifier: BSD-3-Clause */
/* Alternative Routing-ID Interpretation: a function without function groups. */
#include "pci/config.h"

static int ari_init(struct uvf_pci *pci, const struct pci_capability *capability,
		    const struct uvf_pci_capability *given)
{
	pci_init16(pci, capability, PCI_ARI_CAP, (uint16_t)(given->ari.next_function << 8));
	return 0;
}

/* Without groups the control register is fixed too. */
static const struct pci_register registers[] = {{0}};

const struct pci_capability_class pci_ext_ari = {
	.name = "ARI",
	.id = PCI_EXT_CAP_ID_ARI,
	.extended = true,
	.version = 1,
	.minimum = PCI_EXT_CAP_ARI_SIZEOF,
	.registers = registers,
	.init = ari_init,
};
