/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI Express, version 2: an endpoint, or one integrated in the root complex (which has no link).
 * Function Level Reset is asked for here.
 */
#include "pci/config.h"

#include <errno.h>

#define EXPRESS_SIZE	       0x3c
#define LINK_2_5GT_X1	       0x11   /* capability and status have the same fields */
#define DEVICE_CONTROL_DEFAULT 0x2810 /* relaxed ordering, no snoop, 512-byte read requests */

static int express_check(const struct uvf_pci_description *description,
			 const struct uvf_pci_capability *given, struct uvf_error *error)
{
	if (given->express.max_payload > 5)
		return uvf_fail(error, -EINVAL, "PCI Express: max_payload %u; expected 0 to 5",
				given->express.max_payload);
	return 0;
}

static int express_init(struct uvf_pci *pci, const struct pci_capability *capability,
			const struct uvf_pci_capability *given)
{
	bool integrated = given->express.root_complex_integrated;
	unsigned type = integrated ? PCI_EXP_TYPE_RC_END : PCI_EXP_TYPE_ENDPOINT;

	pci_init16(pci, capability, PCI_EXP_FLAGS, (uint16_t)(2 | type << 4));
	pci_init32(pci, capability, PCI_EXP_DEVCAP,
		   given->express.max_payload | PCI_EXP_DEVCAP_EXT_TAG | PCI_EXP_DEVCAP_RBER |
			   (given->express.flr ? (uint32_t)PCI_EXP_DEVCAP_FLR : 0));
	pci_init16(pci, capability, PCI_EXP_DEVCTL, DEVICE_CONTROL_DEFAULT);
	pci_init32(pci, capability, PCI_EXP_DEVCAP2, PCI_EXP_DEVCAP2_COMP_TMOUT_DIS);
	if (integrated)
		return 0;
	pci_init32(pci, capability, PCI_EXP_LNKCAP, LINK_2_5GT_X1);
	pci_init16(pci, capability, PCI_EXP_LNKSTA, LINK_2_5GT_X1);
	pci_init32(pci, capability, PCI_EXP_LNKCAP2, PCI_EXP_LNKCAP2_SLS_2_5GB);
	pci_init16(pci, capability, PCI_EXP_LNKCTL2, PCI_EXP_LNKCTL2_TLS_2_5GT);
	return 0;
}

static uint32_t device_control_exists(const struct uvf_pci *pci,
				      const struct pci_capability *capability, uint16_t offset)
{
	/* A function that can only do 128 bytes has nothing to set. */
	if (pci_get32(pci, capability, PCI_EXP_DEVCAP) & PCI_EXP_DEVCAP_PAYLOAD)
		return UINT32_MAX;
	return ~(uint32_t)PCI_EXP_DEVCTL_PAYLOAD;
}

static void device_control_written(struct uvf_pci *pci, const struct pci_capability *capability,
				   const struct pci_write *write)
{
	if (!(write->written & PCI_EXP_DEVCTL_BCR_FLR) ||
	    !(pci_get32(pci, capability, PCI_EXP_DEVCAP) & PCI_EXP_DEVCAP_FLR))
		return;
	if (uvf_device_do_reset(pci->dev, UVF_RESET_FLR))
		uvf_device_log(pci->dev, UVF_LOG_ERROR, "function level reset failed");
}

/* There is no link inside a root complex. */
static uint32_t link_control_exists(const struct uvf_pci *pci,
				    const struct pci_capability *capability, uint16_t offset)
{
	return pci_get32(pci, capability, PCI_EXP_LNKCAP) ? UINT32_MAX : 0;
}

void pci_express_error(struct uvf_pci *pci, uint16_t device_status)
{
	const struct pci_capability *express = pci_find(pci, PCI_CAP_ID_EXP, false);

	if (express)
		pci_put16(pci, express, PCI_EXP_DEVSTA,
			  pci_get16(pci, express, PCI_EXP_DEVSTA) | device_status);
}

static const struct pci_register registers[] = {
	{
		.offset = PCI_EXP_DEVCTL,
		.size = 2,
		/* Initiate Function Level Reset always reads as 0. */
		.writable = PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE |
			    PCI_EXP_DEVCTL_URRE | PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_PAYLOAD |
			    PCI_EXP_DEVCTL_EXT_TAG | PCI_EXP_DEVCTL_NOSNOOP_EN |
			    PCI_EXP_DEVCTL_READRQ,
		.kept = PCI_EXP_DEVCTL_PAYLOAD,
		.exists = device_control_exists,
		.written = device_control_written,
	},
	{
		.offset = PCI_EXP_DEVSTA,
		.size = 2,
		.clear = PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED |
			 PCI_EXP_DEVSTA_URD,
	},
	{
		.offset = PCI_EXP_LNKCTL,
		.size = 2,
		.writable = PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC |
			    PCI_EXP_LNKCTL_ES,
		.kept = PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC |
			PCI_EXP_LNKCTL_ES,
		.exists = link_control_exists,
	},
	{.offset = PCI_EXP_DEVCTL2, .size = 2, .writable = PCI_EXP_DEVCTL2_COMP_TMOUT_DIS},
	{0},
};

const struct pci_capability_class pci_cap_express = {
	.name = "PCI Express",
	.id = PCI_CAP_ID_EXP,
	.minimum = EXPRESS_SIZE,
	.registers = registers,
	.check = express_check,
	.init = express_init,
};
