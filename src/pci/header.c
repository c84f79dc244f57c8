/* SPDX-License-Identifier: BSD-3-Clause */
/* The type 0 header: command and status, BARs and ROM, interrupt line and pin. */
#include "pci/config.h"

#include "base/bytes.h"

/* The address bits of a BAR: what sizing finds to be writable. */
static uint32_t bar_exists(const struct uvf_pci *pci, const struct pci_capability *header,
			   uint16_t offset)
{
	unsigned index = (offset - PCI_BASE_ADDRESS_0) / 4U;
	const struct pci_bar *bar = &pci->bars[index];

	if (index && pci->bars[index - 1].kind == UVF_PCI_BAR_MEM64)
		return (uint32_t)(~(pci->bars[index - 1].size - 1) >> 32);
	return bar->kind == UVF_PCI_BAR_NONE ? 0 : (uint32_t) ~(bar->size - 1);
}

uint64_t pci_rom_bar_size(uint64_t rom_size)
{
	uint64_t size = 2048; /* the least that the register can say */

	while (size < rom_size)
		size *= 2;
	return rom_size ? size : 0;
}

static uint32_t rom_exists(const struct uvf_pci *pci, const struct pci_capability *header,
			   uint16_t offset)
{
	if (!pci->rom)
		return 0;
	return (uint32_t) ~(pci_rom_bar_size(pci->rom_size) - 1) | PCI_ROM_ADDRESS_ENABLE;
}

static uint32_t status_read(struct uvf_pci *pci, const struct pci_capability *header)
{
	return pci_intx_asserted(pci) ? PCI_STATUS_INTERRUPT : 0;
}

void pci_update_bus_master(struct uvf_pci *pci)
{
	bool enabled = uvf_get_le16(pci->config + PCI_COMMAND) & PCI_COMMAND_MASTER;

	enabled = enabled && pci_powered(pci);
	if (enabled == pci->bus_master)
		return;
	pci->bus_master = enabled;
	uvf_device_set_bus_master(pci->dev, enabled);
}

static void command_written(struct uvf_pci *pci, const struct pci_capability *header,
			    const struct pci_write *write)
{
	pci_intx_disable(pci, write->after & PCI_COMMAND_INTX_DISABLE);
	pci_update_bus_master(pci);
}

static void header_reset(struct uvf_pci *pci, const struct pci_capability *header)
{
	/* The core has switched bus mastering off already. */
	pci->bus_master = false;
	pci_intx_reset(pci);
}

bool pci_bar_enabled(const struct uvf_pci *pci, unsigned bar)
{
	uint16_t command = uvf_get_le16(pci->config + PCI_COMMAND);
	uint16_t space =
		pci->bars[bar].kind == UVF_PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;

	return command & space && pci_powered(pci);
}

static uint32_t bar_type(const struct pci_bar *bar)
{
	static const uint32_t types[] = {
		[UVF_PCI_BAR_NONE] = 0,
		[UVF_PCI_BAR_MEM32] = PCI_BASE_ADDRESS_MEM_TYPE_32,
		[UVF_PCI_BAR_MEM64] = PCI_BASE_ADDRESS_MEM_TYPE_64,
		[UVF_PCI_BAR_IO] = PCI_BASE_ADDRESS_SPACE_IO,
	};

	return types[bar->kind] | (bar->prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
}

void pci_header_init(struct uvf_pci *pci, const struct uvf_pci_description *description)
{
	const struct pci_capability *header = &pci->capabilities[0];

	pci_init16(pci, header, PCI_VENDOR_ID, description->vendor);
	pci_init16(pci, header, PCI_DEVICE_ID, description->device);
	pci_init32(pci, header, PCI_REVISION_ID,
		   description->class_code << 8 | description->revision);
	for (unsigned i = 0; i < PCI_BARS; i++)
		pci_init32(pci, header, (uint16_t)(PCI_BASE_ADDRESS_0 + 4 * i),
			   bar_type(&pci->bars[i]));
	pci_init16(pci, header, PCI_SUBSYSTEM_VENDOR_ID, description->subsystem_vendor);
	pci_init16(pci, header, PCI_SUBSYSTEM_ID, description->subsystem);
	pci_init8(pci, header, PCI_INTERRUPT_PIN, description->interrupt_pin);
}

static const struct pci_register registers[] = {
	{
		.offset = PCI_COMMAND,
		.size = 2,
		.writable = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
			    PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE,
		.written = command_written,
	},
	{
		.offset = PCI_STATUS,
		.size = 2,
		.clear = PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT |
			 PCI_STATUS_REC_TARGET_ABORT | PCI_STATUS_REC_MASTER_ABORT |
			 PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY,
		.virtual = PCI_STATUS_INTERRUPT,
		.read = status_read,
	},
	{.offset = PCI_CACHE_LINE_SIZE, .size = 1, .writable = 0xff},
	{
		.offset = PCI_BASE_ADDRESS_0,
		.size = 4,
		.count = PCI_BARS,
		.writable = UINT32_MAX,
		.exists = bar_exists,
	},
	{
		.offset = PCI_ROM_ADDRESS,
		.size = 4,
		.writable = (uint32_t)PCI_ROM_ADDRESS_MASK | PCI_ROM_ADDRESS_ENABLE,
		.exists = rom_exists,
	},
	{.offset = PCI_INTERRUPT_LINE, .size = 1, .writable = 0xff},
	{0},
};

const struct pci_capability_class pci_header = {
	.name = "header",
	.minimum = PCI_HEADER_SIZE,
	.registers = registers,
	.reset = header_reset,
};
