/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MSI-X: the capability, the table and the Pending Bit Array.
 *
 * A virtual machine monitor keeps the table for its guest and never writes this one; it binds
 * eventfds instead. So the mask bit of an entry counts from the driver's first write to that entry
 * on; before, the entry reads as the specification says (masked) and delivers. Function Mask
 * always counts, MSI-X Enable never: what enables vectors is VFIO_DEVICE_SET_IRQS.
 */
#include "pci/config.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>

uint64_t pci_msix_table_size(unsigned vectors)
{
	return (uint64_t)vectors * PCI_MSIX_ENTRY_SIZE;
}

uint64_t pci_msix_pba_size(unsigned vectors)
{
	return (vectors + 63ULL) / 64 * 8;
}

/* ---- Description ---- */

static int check_place(const struct uvf_pci_description *description, const char *what, uint8_t bar,
		       uint32_t offset, uint64_t size, struct uvf_error *error)
{
	enum uvf_pci_bar_kind kind;

	if (bar >= PCI_BARS)
		return uvf_fail(error, -EINVAL, "MSI-X: %s in BAR %u; expected 0 to 5", what, bar);
	kind = description->bars[bar].kind;
	if (kind != UVF_PCI_BAR_MEM32 && kind != UVF_PCI_BAR_MEM64)
		return uvf_fail(error, -EINVAL, "MSI-X: %s in BAR %u, which is not memory", what,
				bar);
	if (!uvf_is_aligned(offset, 8))
		return uvf_fail(error, -EINVAL, "MSI-X: %s at 0x%x, which is not 8-byte aligned",
				what, offset);
	if (!uvf_range_inside(offset, size, description->bars[bar].size))
		return uvf_fail(error, -EINVAL, "MSI-X: %s at 0x%x leaves BAR %u", what, offset,
				bar);
	return 0;
}

/* The driver must not map what the core keeps. */
static int check_areas(const struct uvf_pci_bar *bar, const char *what, uint32_t offset,
		       uint64_t size, struct uvf_error *error)
{
	for (size_t i = 0; i < bar->area_count; i++) {
		if (uvf_ranges_overlap(bar->areas[i].offset, bar->areas[i].size, offset, size))
			return uvf_fail(error, -EINVAL, "MSI-X: %s lies in a mappable area", what);
	}
	for (size_t i = 0; i < bar->io_fd_count; i++) {
		if (uvf_ranges_overlap(bar->io_fds[i].offset, bar->io_fds[i].size, offset, size))
			return uvf_fail(error, -EINVAL, "MSI-X: %s lies under an ioeventfd", what);
	}
	return 0;
}

static int msix_check(const struct uvf_pci_description *description,
		      const struct uvf_pci_capability *given, struct uvf_error *error)
{
	unsigned vectors = given->msix.vectors;
	uint64_t table_size = pci_msix_table_size(vectors);
	uint64_t pba_size = pci_msix_pba_size(vectors);
	uint8_t table_bar = given->msix.table_bar, pba_bar = given->msix.pba_bar;
	int ret;

	if (!vectors || vectors > 2048)
		return uvf_fail(error, -EINVAL, "MSI-X: %u vectors; expected 1 to 2048", vectors);
	ret = check_place(description, "table", table_bar, given->msix.table_offset, table_size,
			  error);
	if (!ret)
		ret = check_place(description, "PBA", pba_bar, given->msix.pba_offset, pba_size,
				  error);
	if (!ret)
		ret = check_areas(&description->bars[table_bar], "table", given->msix.table_offset,
				  table_size, error);
	if (!ret)
		ret = check_areas(&description->bars[pba_bar], "PBA", given->msix.pba_offset,
				  pba_size, error);
	if (!ret && table_bar == pba_bar &&
	    uvf_ranges_overlap(given->msix.table_offset, table_size, given->msix.pba_offset,
			       pba_size))
		ret = uvf_fail(error, -EINVAL, "MSI-X: table and PBA overlap");
	return ret;
}

static int msix_init(struct uvf_pci *pci, const struct pci_capability *capability,
		     const struct uvf_pci_capability *given)
{
	struct pci_msix *msix = &pci->interrupts.msix;
	size_t words = (size_t)pci_msix_pba_size(given->msix.vectors) / 8;

	msix->vectors = given->msix.vectors;
	msix->table_bar = given->msix.table_bar;
	msix->pba_bar = given->msix.pba_bar;
	msix->table_offset = given->msix.table_offset;
	msix->pba_offset = given->msix.pba_offset;
	msix->table = calloc(msix->vectors, PCI_MSIX_ENTRY_SIZE);
	msix->pending = calloc(words, sizeof(uint64_t));
	msix->programmed = calloc(words, sizeof(uint64_t));
	if (!msix->table || !msix->pending || !msix->programmed)
		return -ENOMEM;
	pci_init16(pci, capability, PCI_MSIX_FLAGS, (uint16_t)(msix->vectors - 1));
	pci_init32(pci, capability, PCI_MSIX_TABLE, msix->table_offset | msix->table_bar);
	pci_init32(pci, capability, PCI_MSIX_PBA, msix->pba_offset | msix->pba_bar);
	return 0;
}

/* ---- Raising ---- */

static uint8_t *entry_at(const struct pci_msix *msix, uint32_t vector)
{
	return msix->table + (size_t)vector * PCI_MSIX_ENTRY_SIZE;
}

static bool is_masked(const struct pci_msix *msix, uint32_t vector)
{
	bool programmed = msix->programmed[vector / 64] >> vector % 64 & 1;

	return msix->function_masked ||
	       (programmed &&
		entry_at(msix, vector)[PCI_MSIX_ENTRY_VECTOR_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

void pci_msix_raise(struct uvf_pci *pci, uint32_t vector)
{
	struct pci_msix *msix = &pci->interrupts.msix;

	if (vector >= msix->vectors)
		return;
	if (is_masked(msix, vector))
		msix->pending[vector / 64] |= 1ULL << vector % 64;
	else
		uvf_irq_trigger(pci->dev, VFIO_PCI_MSIX_IRQ_INDEX, vector);
}

static void deliver_vector(struct uvf_pci *pci, uint32_t vector)
{
	struct pci_msix *msix = &pci->interrupts.msix;
	uint64_t bit = 1ULL << vector % 64;

	if (!(msix->pending[vector / 64] & bit) || is_masked(msix, vector))
		return;
	msix->pending[vector / 64] &= ~bit;
	uvf_irq_trigger(pci->dev, VFIO_PCI_MSIX_IRQ_INDEX, vector);
}

void pci_msix_deliver(struct uvf_pci *pci)
{
	const struct pci_msix *msix = &pci->interrupts.msix;

	if (msix->function_masked || !uvf_irq_enabled(pci->dev, VFIO_PCI_MSIX_IRQ_INDEX))
		return;
	for (uint32_t word = 0; word < (msix->vectors + 63U) / 64; word++) {
		for (uint64_t left = msix->pending[word]; left; left &= left - 1)
			deliver_vector(pci, word * 64 + (uint32_t)__builtin_ctzll(left));
	}
}

/* ---- Table and PBA ---- */

void pci_msix_table_read(struct uvf_pci *pci, uint64_t offset, void *buf, size_t count)
{
	pthread_mutex_lock(&pci->interrupts.lock);
	memcpy(buf, pci->interrupts.msix.table + offset, count);
	pthread_mutex_unlock(&pci->interrupts.lock);
}

/* Of Message Address the two low bits, of Vector Control all but Mask are fixed to 0. */
static void table_byte_write(struct pci_msix *msix, uint64_t offset, uint8_t value)
{
	static const uint8_t writable[PCI_MSIX_ENTRY_SIZE] = {
		0xfc,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff,
		PCI_MSIX_ENTRY_CTRL_MASKBIT,
	};

	msix->table[offset] = value & writable[offset % PCI_MSIX_ENTRY_SIZE];
}

void pci_msix_table_write(struct uvf_pci *pci, uint64_t offset, const void *buf, size_t count)
{
	struct pci_msix *msix = &pci->interrupts.msix;
	const uint8_t *from = buf;
	bool enabled = uvf_irq_enabled(pci->dev, VFIO_PCI_MSIX_IRQ_INDEX);
	uint32_t first = (uint32_t)(offset / PCI_MSIX_ENTRY_SIZE);
	uint32_t last = (uint32_t)((offset + count - 1) / PCI_MSIX_ENTRY_SIZE);

	pthread_mutex_lock(&pci->interrupts.lock);
	for (size_t i = 0; i < count; i++)
		table_byte_write(msix, offset + i, from[i]);
	for (uint32_t vector = first; vector <= last; vector++) {
		msix->programmed[vector / 64] |= 1ULL << vector % 64;
		if (enabled)
			deliver_vector(pci, vector);
	}
	pthread_mutex_unlock(&pci->interrupts.lock);
}

void pci_msix_pba_read(struct uvf_pci *pci, uint64_t offset, void *buf, size_t count)
{
	const struct pci_msix *msix = &pci->interrupts.msix;
	uint8_t *to = buf;

	pthread_mutex_lock(&pci->interrupts.lock);
	for (size_t i = 0; i < count; i++) {
		uint64_t at = offset + i;

		to[i] = (uint8_t)(msix->pending[at / 8] >> at % 8 * 8);
	}
	pthread_mutex_unlock(&pci->interrupts.lock);
}

/* ---- Registers ---- */

static void control_written(struct uvf_pci *pci, const struct pci_capability *capability,
			    const struct pci_write *write)
{
	struct pci_msix *msix = &pci->interrupts.msix;

	pthread_mutex_lock(&pci->interrupts.lock);
	msix->function_masked = write->after & PCI_MSIX_FLAGS_MASKALL;
	/* What was pending for the driver that switches MSI-X off is not for the next. */
	if (write->before & ~write->after & PCI_MSIX_FLAGS_ENABLE)
		memset(msix->pending, 0, (size_t)pci_msix_pba_size(msix->vectors));
	pci_msix_deliver(pci);
	pthread_mutex_unlock(&pci->interrupts.lock);
}

static void msix_reset(struct uvf_pci *pci, const struct pci_capability *capability)
{
	struct pci_msix *msix = &pci->interrupts.msix;

	pthread_mutex_lock(&pci->interrupts.lock);
	msix->function_masked = false;
	memset(msix->table, 0, (size_t)pci_msix_table_size(msix->vectors));
	memset(msix->pending, 0, (size_t)pci_msix_pba_size(msix->vectors));
	memset(msix->programmed, 0, (size_t)pci_msix_pba_size(msix->vectors));
	for (uint32_t vector = 0; vector < msix->vectors; vector++)
		entry_at(msix, vector)[PCI_MSIX_ENTRY_VECTOR_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	pthread_mutex_unlock(&pci->interrupts.lock);
}

static const struct pci_register registers[] = {
	{
		.offset = PCI_MSIX_FLAGS,
		.size = 2,
		.writable = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL,
		.written = control_written,
	},
	{0},
};

const struct pci_capability_class pci_cap_msix = {
	.name = "MSI-X",
	.id = PCI_CAP_ID_MSIX,
	.minimum = 12,
	.registers = registers,
	.check = msix_check,
	.init = msix_init,
	.reset = msix_reset,
};
