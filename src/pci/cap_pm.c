/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Power Management: D0 and D3hot. In D3hot the configuration space answers, BARs do not and DMA
 * is off; going back to D0 resets the device unless it has No_Soft_Reset.
 */
#include "pci/config.h"

static int pm_init(struct uvf_pci *pci, const struct pci_capability *capability,
		   const struct uvf_pci_capability *given)
{
	pci->power = capability;
	/* Version 3, neither D1 nor D2, no PME. */
	pci_init16(pci, capability, PCI_PM_PMC, 3);
	pci_init16(pci, capability, PCI_PM_CTRL,
		   given->pm.no_soft_reset ? PCI_PM_CTRL_NO_SOFT_RESET : 0);
	return 0;
}

bool pci_powered(const struct uvf_pci *pci)
{
	return !pci->power || !(pci_get16(pci, pci->power, PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK);
}

static void state_written(struct uvf_pci *pci, const struct pci_capability *capability,
			  const struct pci_write *write)
{
	uint32_t before = write->before & PCI_PM_CTRL_STATE_MASK;
	uint32_t after = write->after & PCI_PM_CTRL_STATE_MASK;

	/* A write of a state that the function doesn't have is completed and changes nothing. */
	if (after == 1 || after == 2) {
		pci_put16(pci, capability, PCI_PM_CTRL, (uint16_t)write->before);
		return;
	}
	if (!before || after || write->after & PCI_PM_CTRL_NO_SOFT_RESET)
		pci_update_bus_master(pci);
	else if (uvf_device_do_reset(pci->dev, UVF_RESET_PM))
		uvf_device_log(pci->dev, UVF_LOG_ERROR, "reset on the way to D0 failed");
}

static const struct pci_register registers[] = {
	{
		.offset = PCI_PM_CTRL,
		.size = 2,
		.writable = PCI_PM_CTRL_STATE_MASK,
		.written = state_written,
	},
	{0},
};

const struct pci_capability_class pci_cap_pm = {
	.name = "Power Management",
	.id = PCI_CAP_ID_PM,
	.minimum = PCI_PM_SIZEOF,
	.registers = registers,
	.init = pm_init,
};
