/* SPDX-License-Identifier: BSD-3-Clause */
/* INTx, the choice between MSI-X and MSI, and the IRQ indexes of a PCI device. */
#include "pci/config.h"

#include "base/bytes.h"
#include "core/core.h"

#include <stdlib.h>

void pci_interrupts_init(struct uvf_pci *pci, const struct uvf_pci_description *description)
{
	pthread_mutex_init(&pci->interrupts.lock, NULL);
	pci->interrupts.pin = description->interrupt_pin != 0;
}

void pci_interrupts_free(struct uvf_pci *pci)
{
	free(pci->interrupts.msix.table);
	free(pci->interrupts.msix.pending);
	free(pci->interrupts.msix.programmed);
	pthread_mutex_destroy(&pci->interrupts.lock);
}

int pci_add_irqs(struct uvf_pci *pci)
{
	const struct uvf_irq irqs[] = {
		{
			.index = VFIO_PCI_INTX_IRQ_INDEX,
			.count = pci->interrupts.pin,
			.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
				 VFIO_IRQ_INFO_AUTOMASKED,
		},
		{
			.index = VFIO_PCI_MSI_IRQ_INDEX,
			.count = pci->interrupts.msi.vectors,
			.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
		},
		{
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = pci->interrupts.msix.vectors,
			.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
		},
		{
			.index = VFIO_PCI_ERR_IRQ_INDEX,
			.count = 1,
			.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
		},
		{
			.index = VFIO_PCI_REQ_IRQ_INDEX,
			.count = 1,
			.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
		},
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(irqs); i++) {
		int ret = uvf_device_add_irq(pci->dev, &irqs[i]);

		if (ret)
			return ret;
	}
	return 0;
}

/* ---- INTx ---- */

/* With the interrupts' lock held. */
static void drive_pin(struct uvf_pci *pci)
{
	uvf_irq_set_level(pci->dev, VFIO_PCI_INTX_IRQ_INDEX, 0,
			  pci->interrupts.asserted && !pci->interrupts.disabled);
}

void uvf_pci_intx(struct uvf_device *dev, bool asserted)
{
	struct uvf_pci *pci = uvf_device_layer(dev);

	if (!pci->interrupts.pin)
		return;
	pthread_mutex_lock(&pci->interrupts.lock);
	pci->interrupts.asserted = asserted;
	drive_pin(pci);
	pthread_mutex_unlock(&pci->interrupts.lock);
}

void pci_intx_disable(struct uvf_pci *pci, bool disable)
{
	pthread_mutex_lock(&pci->interrupts.lock);
	pci->interrupts.disabled = disable;
	drive_pin(pci);
	pthread_mutex_unlock(&pci->interrupts.lock);
}

void pci_intx_reset(struct uvf_pci *pci)
{
	pthread_mutex_lock(&pci->interrupts.lock);
	pci->interrupts.asserted = false;
	pci->interrupts.disabled = false;
	drive_pin(pci);
	pthread_mutex_unlock(&pci->interrupts.lock);
}

bool pci_intx_asserted(struct uvf_pci *pci)
{
	bool asserted;

	pthread_mutex_lock(&pci->interrupts.lock);
	asserted = pci->interrupts.asserted;
	pthread_mutex_unlock(&pci->interrupts.lock);
	return asserted;
}

/* ---- Messages ---- */

bool uvf_pci_msi(struct uvf_device *dev, uint32_t vector)
{
	struct uvf_pci *pci = uvf_device_layer(dev);
	void (*raise)(struct uvf_pci * pci, uint32_t vector);

	if (pci->interrupts.msix.vectors && uvf_irq_enabled(dev, VFIO_PCI_MSIX_IRQ_INDEX))
		raise = pci_msix_raise;
	else if (pci->interrupts.msi.vectors && uvf_irq_enabled(dev, VFIO_PCI_MSI_IRQ_INDEX))
		raise = pci_msi_raise;
	else
		return false;
	pthread_mutex_lock(&pci->interrupts.lock);
	raise(pci, vector);
	pthread_mutex_unlock(&pci->interrupts.lock);
	return true;
}

/* What was unmasked while the index was off is delivered when it comes on. */
void pci_irq_changed(struct uvf_device *dev, uint32_t index)
{
	struct uvf_pci *pci = uvf_device_layer(dev);

	pthread_mutex_lock(&pci->interrupts.lock);
	if (index == VFIO_PCI_MSIX_IRQ_INDEX)
		pci_msix_deliver(pci);
	else if (index == VFIO_PCI_MSI_IRQ_INDEX)
		pci_msi_deliver(pci);
	pthread_mutex_unlock(&pci->interrupts.lock);
}
