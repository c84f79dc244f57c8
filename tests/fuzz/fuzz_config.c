/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device from a description that the input gives, then accesses, resets, interrupts and errors
 * in the input's order. Whatever a driver does: bits that are fixed stay, the lists of capabilities
 * end and are those of the description, and no interrupt waits behind a mask that isn't there.
 */
#include "base/bytes.h"
#include "core/core.h"
#include "pci/config.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_STEPS 200
#define MAX_GIVEN 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- Input: past its end it is zeros ---- */

struct input {
	const uint8_t *data;
	size_t size;
};

static uint32_t take(struct input *input, unsigned bytes)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < bytes; i++) {
		uint32_t byte = input->size ? *input->data : 0;

		value |= byte << 8 * i;
		input->data += input->size != 0;
		input->size -= input->size != 0;
	}
	return value;
}

static void take_bytes(struct input *input, uint8_t *to, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = (uint8_t)take(input, 1);
}

/* Ends the program with a trace when something that must hold doesn't. */
static void must(bool holds)
{
	if (!holds)
		abort();
}

/* ---- Description ---- */

static int bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	memset(buf, (int)offset, count);
	return 0;
}

static int bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count)
{
	return 0;
}

static const uint8_t bytes[256] = {1, 2, 3, 4, 5, 6, 7, 8};
static const uint8_t masks[256] = {0xff, 0x0f, 0, 0xf0, 0xaa};

static void describe_capability(struct input *input, struct uvf_pci_capability *given)
{
	static const struct {
		uint16_t id;
		bool extended;
	} kinds[] = {
		{PCI_CAP_ID_PM, false},	      {PCI_CAP_ID_MSI, false},
		{PCI_CAP_ID_MSIX, false},     {PCI_CAP_ID_EXP, false},
		{PCI_CAP_ID_VNDR, false},     {PCI_EXT_CAP_ID_ERR, true},
		{PCI_EXT_CAP_ID_DSN, true},   {PCI_EXT_CAP_ID_ARI, true},
		{PCI_EXT_CAP_ID_ACS, true},   {PCI_EXT_CAP_ID_VNDR, true},
		{PCI_EXT_CAP_ID_SRIOV, true},
	};
	uint32_t kind = take(input, 1) % UVF_ARRAY_SIZE(kinds);
	uint32_t value = take(input, 4);

	given->id = kinds[kind].id;
	given->extended = kinds[kind].extended;
	given->offset = value & 1 ? (uint16_t)take(input, 2) : 0;
	switch (given->extended ? 0 : given->id) {
	case PCI_CAP_ID_PM:
		given->pm.no_soft_reset = value & 2;
		return;
	case PCI_CAP_ID_MSI:
		given->msi.vectors = (uint8_t)(1U << (value >> 8 & 7));
		given->msi.maskable = value & 2;
		given->msi.address64 = value & 4;
		return;
	case PCI_CAP_ID_MSIX:
		given->msix.vectors = value >> 8 & 0xfff;
		given->msix.pba_bar = value >> 20 & 1;
		given->msix.table_offset = (uint32_t)(value >> 24) * 8;
		given->msix.pba_offset = take(input, 2);
		return;
	case PCI_CAP_ID_EXP:
		given->express.flr = value & 2;
		given->express.root_complex_integrated = value & 4;
		given->express.max_payload = value >> 8 & 7;
		return;
	}
	if (given->id == PCI_EXT_CAP_ID_ACS && given->extended)
		given->acs.capabilities = (uint16_t)(value >> 8);
	if ((given->id == PCI_CAP_ID_VNDR && !given->extended) ||
	    (given->id == PCI_EXT_CAP_ID_VNDR && given->extended)) {
		given->vendor.data = value & 2 ? bytes : NULL;
		given->vendor.writable = value & 4 ? masks : NULL;
		given->vendor.size = (uint16_t)(value >> 8 & 0xff);
		given->vendor.vsec_rev = (uint8_t)(value >> 16 & 0x1f);
	}
}

static void describe(struct input *input, struct uvf_pci_description *description,
		     struct uvf_pci_capability given[MAX_GIVEN])
{
	uint32_t flags = take(input, 1);

	description->interrupt_pin = flags & 7;
	if (flags & 8) {
		description->rom = bytes;
		description->rom_size = sizeof(bytes);
	}
	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint32_t bar = take(input, 1);

		description->bars[i].kind = bar & 3;
		description->bars[i].size = bar & 3 ? 4ULL << (bar >> 3) : 0;
		description->bars[i].prefetchable = bar & 4;
		description->bars[i].read = bar_read;
		description->bars[i].write = bar_write;
	}
	description->capabilities = given;
	description->capability_count = take(input, 1) % (MAX_GIVEN + 1);
	for (size_t i = 0; i < description->capability_count; i++)
		describe_capability(input, &given[i]);
}

/* ---- What must hold ---- */

/* Of each byte, the bits that nothing may change. */
static void find_fixed(const struct uvf_pci *pci, uint8_t *fixed)
{
	memset(fixed, 0xff, pci->config_size);
	for (size_t i = 0; i < pci->capability_count; i++) {
		const struct pci_capability *capability = &pci->capabilities[i];

		for (const struct pci_register *row = capability->registers; row->size; row++) {
			for (unsigned nth = 0; nth < (row->count ? row->count : 1U); nth++) {
				unsigned offset = row->offset + nth * row->size;
				uint32_t exists, free_bits;

				if (offset >= capability->size)
					break;
				exists = row->exists
						 ? row->exists(pci, capability, (uint16_t)offset)
						 : UINT32_MAX;
				free_bits = ((row->writable | row->clear) & exists) | row->virtual;
				for (unsigned byte = 0; byte < row->size; byte++)
					fixed[capability->offset + offset + byte] &=
						(uint8_t) ~(free_bits >> 8 * byte);
			}
		}
	}
}

static void check_bits(struct uvf_device *dev, const struct uvf_pci *pci, const uint8_t *fixed)
{
	static uint8_t now[PCI_CONFIG_SIZE_EXP];

	must(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, now, pci->config_size) ==
	     pci->config_size);
	for (unsigned at = 0; at < pci->config_size; at++)
		must(!((now[at] ^ pci->initial[at]) & fixed[at]));
}

static void check_lists(struct uvf_device *dev, const struct uvf_pci *pci)
{
	size_t found = 1;
	uint8_t head[4];
	unsigned at;

	must(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_CAPABILITY_LIST, head, 1) == 1);
	for (at = head[0]; at; at = head[1]) {
		must(at >= PCI_HEADER_SIZE && !(at & 3) && found < pci->capability_count);
		must(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, at, head, 2) == 2);
		found++;
	}
	for (at = PCI_CONFIG_SIZE; at && pci->config_size > PCI_CONFIG_SIZE;) {
		must(at >= PCI_CONFIG_SIZE && !(at & 3));
		must(uvf_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, at, head, 4) == 4);
		found += uvf_get_le32(head) != 0;
		must(found <= pci->capability_count);
		at = PCI_EXT_CAP_NEXT(uvf_get_le32(head));
	}
	must(found == pci->capability_count);
}

/* Nothing waits for what isn't masked. */
static void check_pending(struct uvf_device *dev, const struct uvf_pci *pci)
{
	const struct pci_msix *msix = &pci->interrupts.msix;
	const struct pci_msi *msi = &pci->interrupts.msi;

	if (uvf_irq_enabled(dev, VFIO_PCI_MSI_IRQ_INDEX))
		must(!(msi->pending & ~msi->masked));
	if (!uvf_irq_enabled(dev, VFIO_PCI_MSIX_IRQ_INDEX) || msix->function_masked)
		return;
	for (unsigned vector = 0; vector < msix->vectors; vector++) {
		if (msix->pending[vector / 64] >> vector % 64 & 1)
			must(msix->table[vector * 16 + PCI_MSIX_ENTRY_VECTOR_CTRL] & 1);
	}
}

/* ---- Steps ---- */

static void access_region(struct uvf_device *dev, struct input *input, bool is_write)
{
	uint32_t where = take(input, 1);
	uint32_t index = where % VFIO_PCI_NUM_REGIONS;
	uint32_t offset = take(input, 2);
	uint8_t buffer[64];
	size_t count = where >> 4 ? where >> 4 : 64;

	if (is_write) {
		take_bytes(input, buffer, count);
		(void)uvf_region_write(dev, index, offset, buffer, count);
	} else {
		(void)uvf_region_read(dev, index, offset, buffer, count);
	}
}

static void step_read(struct uvf_device *dev, struct input *input)
{
	access_region(dev, input, false);
}

static void step_write(struct uvf_device *dev, struct input *input)
{
	access_region(dev, input, true);
}

/* Opens up what nearly all inputs would find closed. */
static void step_enable(struct uvf_device *dev, struct input *input)
{
	const uint8_t command[2] = {PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER};

	(void)uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command, 2);
}

static void step_reset(struct uvf_device *dev, struct input *input)
{
	(void)uvf_device_reset(dev, take(input, 1) % UVF_RESET_CLOSE);
}

static void step_reopen(struct uvf_device *dev, struct input *input)
{
	uvf_device_close(dev);
	must(!uvf_device_open(dev));
}

static void step_message(struct uvf_device *dev, struct input *input)
{
	(void)uvf_pci_msi(dev, take(input, 2));
}

static void step_pin(struct uvf_device *dev, struct input *input)
{
	uvf_pci_intx(dev, take(input, 1) & 1);
}

static void step_error(struct uvf_device *dev, struct input *input)
{
	const uint32_t header[4] = {1, 2, 3, 4};
	uint32_t what = take(input, 1);

	uvf_device_lock(dev);
	(void)uvf_pci_inject_error(dev, what & 0x40, what & 0x3f, what & 0x80 ? header : NULL);
	uvf_device_unlock(dev);
}

static void step_irqs(struct uvf_device *dev, struct input *input)
{
	uint32_t what = take(input, 1);
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	const struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
			 (what & 0x80 ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD),
		.index = what % VFIO_PCI_NUM_IRQS,
		.start = what & 0x80 ? 0 : what >> 3 & 7,
		.count = what & 0x80 ? 0 : 1,
		.fds = &fd,
	};

	(void)uvf_irq_set(dev, &set);
	close(fd);
}

static void (*const steps[])(struct uvf_device *dev, struct input *input) = {
	step_write,   step_read, step_enable, step_reset, step_reopen,
	step_message, step_pin,	 step_error,  step_irqs,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct uvf_device_ops ops;
	static uint8_t fixed[PCI_CONFIG_SIZE_EXP];
	struct uvf_pci_capability given[MAX_GIVEN] = {0};
	struct uvf_pci_description description = {.vendor = 1, .device = 2};
	struct input input = {data, size};
	struct uvf_device *dev;
	const struct uvf_pci *pci;

	describe(&input, &description, given);
	if (uvf_pci_new("fuzz", &description, &ops, NULL, &dev, NULL))
		return 0;
	pci = uvf_device_layer(dev);
	must(!uvf_device_open(dev));
	find_fixed(pci, fixed);
	check_lists(dev, pci);
	for (unsigned i = 0; i < MAX_STEPS && input.size; i++) {
		steps[take(&input, 1) % UVF_ARRAY_SIZE(steps)](dev, &input);
		check_bits(dev, pci, fixed);
		check_pending(dev, pci);
	}
	check_lists(dev, pci);
	uvf_device_free(dev);
	return 0;
}
