/* SPDX-License-Identifier: BSD-3-Clause */
/* Advanced Error Reporting of an endpoint, with errors that a model or a test injects. */
#include "pci/config.h"

#include "base/bytes.h"
#include "core/core.h"

#include <errno.h>

#define AER_SIZE 0x48 /* version 2: up to the TLP Prefix Log */

/* What an endpoint can have; Surprise Down is a port's. */
#define UNCORRECTABLE                                                                         \
	(PCI_ERR_UNC_DLP | PCI_ERR_UNC_POISON_TLP | PCI_ERR_UNC_FCP | PCI_ERR_UNC_COMP_TIME | \
	 PCI_ERR_UNC_COMP_ABORT | PCI_ERR_UNC_UNX_COMP | PCI_ERR_UNC_RX_OVER |                \
	 PCI_ERR_UNC_MALF_TLP | PCI_ERR_UNC_ECRC | PCI_ERR_UNC_UNSUP | PCI_ERR_UNC_ACSV |     \
	 PCI_ERR_UNC_INTN | PCI_ERR_UNC_MCBTLP | PCI_ERR_UNC_ATOMEG | PCI_ERR_UNC_TLPPRE)
#define UNCORRECTABLE_MASKED PCI_ERR_UNC_INTN
#define UNCORRECTABLE_FATAL                                                               \
	(PCI_ERR_UNC_DLP | PCI_ERR_UNC_FCP | PCI_ERR_UNC_RX_OVER | PCI_ERR_UNC_MALF_TLP | \
	 PCI_ERR_UNC_INTN)
#define CORRECTABLE                                                                             \
	(PCI_ERR_COR_RCVR | PCI_ERR_COR_BAD_TLP | PCI_ERR_COR_BAD_DLLP | PCI_ERR_COR_REP_ROLL | \
	 PCI_ERR_COR_REP_TIMER | PCI_ERR_COR_ADV_NFAT | PCI_ERR_COR_INTERNAL |                  \
	 PCI_ERR_COR_LOG_OVER)
#define CORRECTABLE_MASKED (PCI_ERR_COR_ADV_NFAT | PCI_ERR_COR_INTERNAL | PCI_ERR_COR_LOG_OVER)
#define FIRST_ERROR	   0x1fU

static int aer_init(struct uvf_pci *pci, const struct pci_capability *capability,
		    const struct uvf_pci_capability *given)
{
	pci_init32(pci, capability, PCI_ERR_UNCOR_MASK, UNCORRECTABLE_MASKED);
	pci_init32(pci, capability, PCI_ERR_UNCOR_SEVER, UNCORRECTABLE_FATAL);
	pci_init32(pci, capability, PCI_ERR_COR_MASK, CORRECTABLE_MASKED);
	return 0;
}

/* ---- Injection ---- */

static void log_header(struct uvf_pci *pci, const struct pci_capability *aer,
		       const uint32_t header[4])
{
	for (unsigned i = 0; i < 4; i++)
		pci_put32(pci, aer, (uint16_t)(PCI_ERR_HEADER_LOG + 4 * i), header ? header[i] : 0);
}

/* Whether the First Error Pointer names an error that the driver has not cleared. */
static bool first_error_valid(const struct uvf_pci *pci, const struct pci_capability *aer)
{
	uint32_t first = pci_get32(pci, aer, PCI_ERR_CAP) & FIRST_ERROR;
	uint32_t reported = pci_get32(pci, aer, PCI_ERR_UNCOR_STATUS) &
			    ~pci_get32(pci, aer, PCI_ERR_UNCOR_MASK);

	return reported >> first & 1;
}

/* Each returns whether the error is reported. */
static bool inject_correctable(struct uvf_pci *pci, const struct pci_capability *aer, uint32_t bit)
{
	pci_express_error(pci, PCI_EXP_DEVSTA_CED);
	pci_put32(pci, aer, PCI_ERR_COR_STATUS, pci_get32(pci, aer, PCI_ERR_COR_STATUS) | bit);
	return !(pci_get32(pci, aer, PCI_ERR_COR_MASK) & bit);
}

static bool inject_uncorrectable(struct uvf_pci *pci, const struct pci_capability *aer,
				 uint32_t bit, const uint32_t header[4])
{
	const struct pci_capability *type0 = &pci->capabilities[0];
	bool first = !first_error_valid(pci, aer);
	bool fatal = pci_get32(pci, aer, PCI_ERR_UNCOR_SEVER) & bit;
	uint32_t control = pci_get32(pci, aer, PCI_ERR_CAP) & ~FIRST_ERROR;

	pci_express_error(pci, (uint16_t)((fatal ? PCI_EXP_DEVSTA_FED : PCI_EXP_DEVSTA_NFED) |
					  (bit == PCI_ERR_UNC_UNSUP ? PCI_EXP_DEVSTA_URD : 0)));
	pci_put32(pci, aer, PCI_ERR_UNCOR_STATUS, pci_get32(pci, aer, PCI_ERR_UNCOR_STATUS) | bit);
	if (pci_get32(pci, aer, PCI_ERR_UNCOR_MASK) & bit)
		return false;
	if (first) {
		pci_put32(pci, aer, PCI_ERR_CAP, control | (uint32_t)__builtin_ctz(bit));
		log_header(pci, aer, header);
	}
	if (pci_get16(pci, type0, PCI_COMMAND) & PCI_COMMAND_SERR)
		pci_put16(pci, type0, PCI_STATUS,
			  pci_get16(pci, type0, PCI_STATUS) | PCI_STATUS_SIG_SYSTEM_ERROR);
	return true;
}

int uvf_pci_inject_error(struct uvf_device *dev, bool correctable, unsigned bit,
			 const uint32_t header[4])
{
	struct uvf_pci *pci = uvf_device_layer(dev);
	const struct pci_capability *aer = pci_find(pci, PCI_EXT_CAP_ID_ERR, true);
	bool reported;

	if (!aer)
		return -ENOTTY;
	if (bit > 31 || !((correctable ? CORRECTABLE : UNCORRECTABLE) >> bit & 1))
		return -EINVAL;
	if (correctable)
		reported = inject_correctable(pci, aer, 1U << bit);
	else
		reported = inject_uncorrectable(pci, aer, 1U << bit, header);
	if (reported)
		uvf_irq_trigger(dev, VFIO_PCI_ERR_IRQ_INDEX, 0);
	return 0;
}

/* ---- Registers: all that a driver can change is sticky ---- */

static const struct pci_register registers[] = {
	{
		.offset = PCI_ERR_UNCOR_STATUS,
		.size = 4,
		.clear = UNCORRECTABLE,
		.sticky = UNCORRECTABLE,
	},
	{
		.offset = PCI_ERR_UNCOR_MASK,
		.size = 4,
		.writable = UNCORRECTABLE,
		.sticky = UNCORRECTABLE,
	},
	{
		.offset = PCI_ERR_UNCOR_SEVER,
		.size = 4,
		.writable = UNCORRECTABLE,
		.sticky = UNCORRECTABLE,
	},
	{
		.offset = PCI_ERR_COR_STATUS,
		.size = 4,
		.clear = CORRECTABLE,
		.sticky = CORRECTABLE,
	},
	{
		.offset = PCI_ERR_COR_MASK,
		.size = 4,
		.writable = CORRECTABLE,
		.sticky = CORRECTABLE,
	},
	{.offset = PCI_ERR_CAP, .size = 4, .virtual = FIRST_ERROR, .sticky = FIRST_ERROR},
	{
		.offset = PCI_ERR_HEADER_LOG,
		.size = 4,
		.count = 4,
		.virtual = UINT32_MAX,
		.sticky = UINT32_MAX,
	},
	{0},
};

const struct pci_capability_class pci_ext_aer = {
	.name = "AER",
	.id = PCI_EXT_CAP_ID_ERR,
	.extended = true,
	.version = 2,
	.minimum = AER_SIZE,
	.registers = registers,
	.init = aer_init,
};
