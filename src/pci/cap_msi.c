/* SPDX-License-Identifier: BSD-3-Clause */
/* MSI: four layouts, by width of the address and presence of mask bits. */
#include "pci/config.h"

#include "base/bytes.h"

#include <errno.h>

static int msi_check(const struct uvf_pci_description *description,
		     const struct uvf_pci_capability *given, struct uvf_error *error)
{
	if (!uvf_is_power_of_two(given->msi.vectors) || given->msi.vectors > 32)
		return uvf_fail(error, -EINVAL,
				"MSI: %u vectors; expected a power of two, at most 32",
				given->msi.vectors);
	return 0;
}

static int msi_init(struct uvf_pci *pci, const struct pci_capability *capability,
		    const struct uvf_pci_capability *given)
{
	unsigned log2_vectors = (unsigned)__builtin_ctz(given->msi.vectors);

	pci_init16(pci, capability, PCI_MSI_FLAGS,
		   (uint16_t)(log2_vectors << 1 | (given->msi.address64 ? PCI_MSI_FLAGS_64BIT : 0) |
			      (given->msi.maskable ? PCI_MSI_FLAGS_MASKBIT : 0)));
	pci->interrupts.msi.vectors = given->msi.vectors;
	return 0;
}

/* ---- Raising ---- */

static bool can_deliver(struct uvf_pci *pci)
{
	return uvf_irq_enabled(pci->dev, VFIO_PCI_MSI_IRQ_INDEX);
}

void pci_msi_raise(struct uvf_pci *pci, uint32_t vector)
{
	struct pci_msi *msi = &pci->interrupts.msi;

	if (vector >= msi->folds)
		vector = 0;
	if (msi->masked >> vector & 1)
		msi->pending |= 1U << vector;
	else
		uvf_irq_trigger(pci->dev, VFIO_PCI_MSI_IRQ_INDEX, vector);
}

void pci_msi_deliver(struct uvf_pci *pci)
{
	struct pci_msi *msi = &pci->interrupts.msi;

	if (!can_deliver(pci))
		return;
	for (uint32_t now = msi->pending & ~msi->masked; now; now &= now - 1) {
		uint32_t vector = (uint32_t)__builtin_ctz(now);

		msi->pending &= ~(1U << vector);
		uvf_irq_trigger(pci->dev, VFIO_PCI_MSI_IRQ_INDEX, vector);
	}
}

/* ---- Registers ---- */

/* Until the driver has enabled MSI here it may have bound as many eventfds as there are vectors. */
static uint8_t folds_at(const struct pci_msi *msi, uint32_t control)
{
	unsigned allocated = 1U << ((control & PCI_MSI_FLAGS_QSIZE) >> 4);

	if (!(control & PCI_MSI_FLAGS_ENABLE) || allocated > msi->vectors)
		return msi->vectors;
	return (uint8_t)allocated;
}

static void control_written(struct uvf_pci *pci, const struct pci_capability *capability,
			    const struct pci_write *write)
{
	struct pci_msi *msi = &pci->interrupts.msi;

	pthread_mutex_lock(&pci->interrupts.lock);
	msi->folds = folds_at(msi, write->after);
	if (write->before & ~write->after & PCI_MSI_FLAGS_ENABLE)
		msi->pending = 0;
	pthread_mutex_unlock(&pci->interrupts.lock);
}

/* The vectors that there are: their mask bits can be written. */
static uint32_t vectors_exist(const struct uvf_pci *pci, const struct pci_capability *capability,
			      uint16_t offset)
{
	return (uint32_t)((1ULL << pci->interrupts.msi.vectors) - 1);
}

static void mask_written(struct uvf_pci *pci, const struct pci_capability *capability,
			 const struct pci_write *write)
{
	pthread_mutex_lock(&pci->interrupts.lock);
	pci->interrupts.msi.masked = write->after;
	pci_msi_deliver(pci);
	pthread_mutex_unlock(&pci->interrupts.lock);
}

static uint32_t pending_read(struct uvf_pci *pci, const struct pci_capability *capability)
{
	uint32_t pending;

	pthread_mutex_lock(&pci->interrupts.lock);
	pending = pci->interrupts.msi.pending;
	pthread_mutex_unlock(&pci->interrupts.lock);
	return pending;
}

static void msi_reset(struct uvf_pci *pci, const struct pci_capability *capability)
{
	struct pci_msi *msi = &pci->interrupts.msi;

	pthread_mutex_lock(&pci->interrupts.lock);
	msi->folds = msi->vectors;
	msi->masked = 0;
	msi->pending = 0;
	pthread_mutex_unlock(&pci->interrupts.lock);
}

/* clang-format off: each row on a line, so that the layouts can be compared. */
#define CONTROL                                                                 \
	{                                                                       \
		.offset = PCI_MSI_FLAGS, .size = 2, .written = control_written, \
		.writable = PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE          \
	}
#define ADDRESS_LOW                                                      \
	{                                                                \
		.offset = PCI_MSI_ADDRESS_LO, .size = 4, .writable = ~3U \
	}
#define ADDRESS_HIGH                                                            \
	{                                                                       \
		.offset = PCI_MSI_ADDRESS_HI, .size = 4, .writable = UINT32_MAX \
	}
#define DATA(at)                                              \
	{                                                     \
		.offset = (at), .size = 2, .writable = 0xffff \
	}
#define MASK(at)                                                                            \
	{                                                                                   \
		.offset = (at), .size = 4, .writable = UINT32_MAX, .exists = vectors_exist, \
		.written = mask_written                                                     \
	}
#define PENDING(at)                                                                    \
	{                                                                              \
		.offset = (at), .size = 4, .virtual = UINT32_MAX, .read = pending_read \
	}

static const struct pci_register layout_32[] = {
	CONTROL,
	ADDRESS_LOW,
	DATA(PCI_MSI_DATA_32),
	{0},
};
static const struct pci_register layout_64[] = {
	CONTROL, ADDRESS_LOW, ADDRESS_HIGH, DATA(PCI_MSI_DATA_64), {0},
};
static const struct pci_register layout_32_maskable[] = {
	CONTROL,
	ADDRESS_LOW,
	DATA(PCI_MSI_DATA_32),
	MASK(PCI_MSI_MASK_32),
	PENDING(PCI_MSI_PENDING_32),
	{0},
};
static const struct pci_register layout_64_maskable[] = {
	CONTROL,
	ADDRESS_LOW,
	ADDRESS_HIGH,
	DATA(PCI_MSI_DATA_64),
	MASK(PCI_MSI_MASK_64),
	PENDING(PCI_MSI_PENDING_64),
	{0},
};
/* clang-format on */

static const struct {
	const struct pci_register *registers;
	size_t size;
} layouts[2][2] = {
	/* [64-bit address][maskable] */
	{{layout_32, 0x0c}, {layout_32_maskable, 0x14}},
	{{layout_64, 0x10}, {layout_64_maskable, 0x18}},
};

static const struct pci_register *msi_layout(const struct uvf_pci_capability *given)
{
	return layouts[given->msi.address64][given->msi.maskable].registers;
}

static size_t msi_size(const struct uvf_pci_capability *given)
{
	return layouts[given->msi.address64][given->msi.maskable].size;
}

const struct pci_capability_class pci_cap_msi = {
	.name = "MSI",
	.id = PCI_CAP_ID_MSI,
	.layout = msi_layout,
	.size = msi_size,
	.check = msi_check,
	.init = msi_init,
	.reset = msi_reset,
};
