/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Access to a configuration space: cut into naturally aligned pieces of at most a dword, each
 * dispatched through the register table of the capability that owns the dword.
 */
#include "pci/config.h"

#include "base/bytes.h"
#include "core/core.h"

#include <assert.h>

/* ---- Bytes by capability ---- */

uint16_t pci_get16(const struct uvf_pci *pci, const struct pci_capability *capability,
		   uint16_t offset)
{
	return uvf_get_le16(pci->config + capability->offset + offset);
}

uint32_t pci_get32(const struct uvf_pci *pci, const struct pci_capability *capability,
		   uint16_t offset)
{
	return uvf_get_le32(pci->config + capability->offset + offset);
}

void pci_put16(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
	       uint16_t value)
{
	uvf_put_le16(pci->config + capability->offset + offset, value);
}

void pci_put32(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
	       uint32_t value)
{
	uvf_put_le32(pci->config + capability->offset + offset, value);
}

void pci_init8(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
	       uint8_t value)
{
	pci->initial[capability->offset + offset] = value;
}

void pci_init16(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
		uint16_t value)
{
	uvf_put_le16(pci->initial + capability->offset + offset, value);
}

void pci_init32(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
		uint32_t value)
{
	uvf_put_le32(pci->initial + capability->offset + offset, value);
}

/* ---- Registers in a dword ---- */

static const struct pci_capability *owner_of(const struct uvf_pci *pci, uint16_t at)
{
	uint8_t owner = pci->owners[at / 4];

	return owner && owner != PCI_OWNER_MODEL ? &pci->capabilities[owner - 1] : NULL;
}

/* There are a few at most, and the owner says where. */
static const struct uvf_pci_register *model_register(const struct uvf_pci *pci, uint16_t at)
{
	if (pci->owners[at / 4] != PCI_OWNER_MODEL)
		return NULL;
	for (size_t i = 0; i < pci->register_count; i++) {
		if (pci->registers[i].offset == at)
			return &pci->registers[i];
	}
	return NULL;
}

/* The registers of @row that lie in the dword at @dword of the capability: [first, end). */
static unsigned first_register(const struct pci_register *row, unsigned dword)
{
	return row->offset > dword ? row->offset : dword;
}

static unsigned end_register(const struct pci_register *row, unsigned dword)
{
	unsigned end = row->offset + row->size * (row->count ? row->count : 1U);

	return end < dword + 4 ? end : dword + 4;
}

static uint32_t register_mask(const struct pci_register *row)
{
	return row->size == 4 ? UINT32_MAX : (1U << row->size * 8) - 1;
}

static uint32_t existing_bits(const struct uvf_pci *pci, const struct pci_capability *capability,
			      const struct pci_register *row, unsigned offset)
{
	return row->exists ? row->exists(pci, capability, (uint16_t)offset) : UINT32_MAX;
}

/* ---- Reading ---- */

static uint32_t read_dword(struct uvf_pci *pci, uint16_t at)
{
	const struct pci_capability *capability = owner_of(pci, at);
	uint32_t value = uvf_get_le32(pci->config + at);
	unsigned dword;

	if (!capability) {
		const struct uvf_pci_register *own = model_register(pci, at);

		return own ? own->read(pci->dev, at) : value;
	}
	dword = at - capability->offset;
	for (const struct pci_register *row = capability->registers; row->size; row++) {
		unsigned offset = first_register(row, dword);

		if (row->read && offset < end_register(row, dword))
			value |= row->read(pci, capability) << (offset - dword) * 8;
	}
	return value;
}

/* How many of @left bytes from @at are one access on the bus. */
static unsigned natural_size(uint64_t at, size_t left)
{
	if (!(at & 3) && left >= 4)
		return 4;
	return !(at & 1) && left >= 2 ? 2 : 1;
}

int pci_config_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	struct uvf_pci *pci = uvf_device_layer(dev);
	uint8_t *to = buf;

	while (count) {
		unsigned size = natural_size(offset, count);
		uint8_t bytes[4];

		uvf_put_le32(bytes, read_dword(pci, (uint16_t)(offset & ~3ULL)));
		memcpy(to, bytes + (offset & 3), size);
		to += size;
		offset += size;
		count -= size;
	}
	return 0;
}

/* ---- Writing ---- */

static uint32_t merge(const struct uvf_pci *pci, const struct pci_capability *capability,
		      unsigned dword, uint32_t before, uint32_t value, uint32_t enabled)
{
	uint32_t after = before;

	for (const struct pci_register *row = capability->registers; row->size; row++) {
		for (unsigned offset = first_register(row, dword);
		     offset < end_register(row, dword); offset += row->size) {
			unsigned shift = (offset - dword) * 8;
			uint32_t exists = existing_bits(pci, capability, row, offset);
			uint32_t writable = ((row->writable & exists) << shift) & enabled;
			uint32_t clear = ((row->clear & exists) << shift) & enabled;

			after = (after & ~writable) | (value & writable);
			after &= ~(value & clear);
		}
	}
	return after;
}

static void call_hooks(struct uvf_pci *pci, const struct pci_capability *capability, unsigned dword,
		       uint32_t before, uint32_t after, uint32_t value, uint32_t enabled)
{
	for (const struct pci_register *row = capability->registers; row->size; row++) {
		if (!row->written)
			continue;
		for (unsigned offset = first_register(row, dword);
		     offset < end_register(row, dword); offset += row->size) {
			unsigned shift = (offset - dword) * 8;
			uint32_t mask = register_mask(row);
			struct pci_write write = {
				.offset = (uint16_t)offset,
				.written = ((value & enabled) >> shift) & mask,
				.before = (before >> shift) & mask,
				.after = (after >> shift) & mask,
			};

			if ((enabled >> shift) & mask)
				row->written(pci, capability, &write);
		}
	}
}

static void write_dword(struct uvf_pci *pci, uint16_t at, uint32_t value, uint32_t enabled)
{
	const struct pci_capability *capability = owner_of(pci, at);
	uint32_t before = uvf_get_le32(pci->config + at);
	uint32_t after;

	if (!capability) {
		const struct uvf_pci_register *own = model_register(pci, at);

		if (own && own->write)
			own->write(pci->dev, at, value & enabled, enabled);
		return;
	}
	after = merge(pci, capability, at - capability->offset, before, value, enabled);
	uvf_put_le32(pci->config + at, after);
	call_hooks(pci, capability, at - capability->offset, before, after, value, enabled);
}

int pci_config_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count)
{
	struct uvf_pci *pci = uvf_device_layer(dev);
	const uint8_t *from = buf;

	while (count) {
		unsigned size = natural_size(offset, count);
		uint8_t value[4] = {0}, enabled[4] = {0};

		memcpy(value + (offset & 3), from, size);
		memset(enabled + (offset & 3), 0xff, size);
		write_dword(pci, (uint16_t)(offset & ~3ULL), uvf_get_le32(value),
			    uvf_get_le32(enabled));
		from += size;
		offset += size;
		count -= size;
	}
	return 0;
}

/* ---- Reset ---- */

static uint32_t surviving_bits(const struct pci_capability *capability, unsigned dword,
			       enum uvf_reset kind)
{
	uint32_t bits = 0;

	for (const struct pci_register *row = capability->registers; row->size; row++) {
		for (unsigned offset = first_register(row, dword);
		     offset < end_register(row, dword); offset += row->size)
			bits |= (row->sticky | (kind == UVF_RESET_HOT ? 0 : row->kept))
				<< (offset - dword) * 8;
	}
	return bits;
}

/* VFIO's reset and a new owner make the device new; what the bus resets leaves some bits alone.
 */
static bool leaves_bits(enum uvf_reset kind)
{
	return kind == UVF_RESET_FLR || kind == UVF_RESET_PM || kind == UVF_RESET_HOT;
}

void pci_config_reset(struct uvf_pci *pci, enum uvf_reset kind)
{
	assert(pci->capabilities); /* the header at least */
	for (uint16_t at = 0; at < pci->config_size; at = (uint16_t)(at + 4)) {
		const struct pci_capability *capability = owner_of(pci, at);
		uint32_t survives = 0;

		if (!capability)
			continue;
		if (leaves_bits(kind))
			survives = surviving_bits(capability, at - capability->offset, kind);
		uvf_put_le32(pci->config + at, (uvf_get_le32(pci->initial + at) & ~survives) |
						       (uvf_get_le32(pci->config + at) & survives));
	}
	for (size_t i = 0; i < pci->capability_count; i++) {
		const struct pci_capability *capability = &pci->capabilities[i];

		if (capability->class->reset)
			capability->class->reset(pci, capability);
	}
}

/* ---- Another device's bytes ---- */

/* Bits that are cleared by writing 1. */
static uint32_t clearing_bits(const struct pci_capability *capability, unsigned dword)
{
	uint32_t bits = 0;

	for (const struct pci_register *row = capability->registers; row->size; row++)
		for (unsigned offset = first_register(row, dword);
		     offset < end_register(row, dword); offset += row->size)
			bits |= row->clear << (offset - dword) * 8;
	return bits;
}

/* Bits that the driver or the device changes. */
static uint32_t changing_bits(const struct uvf_pci *pci, const struct pci_capability *capability,
			      unsigned dword)
{
	uint32_t bits = 0;

	for (const struct pci_register *row = capability->registers; row->size; row++)
		for (unsigned offset = first_register(row, dword);
		     offset < end_register(row, dword); offset += row->size)
			bits |= ((row->writable | row->clear | row->virtual | row->sticky) &
				 existing_bits(pci, capability, row, offset) & register_mask(row))
				<< (offset - dword) * 8;
	return bits;
}

bool pci_config_is_alike(const struct uvf_pci *pci, const uint8_t *bytes)
{
	for (uint16_t at = 0; at < pci->config_size; at = (uint16_t)(at + 4)) {
		const struct pci_capability *capability = owner_of(pci, at);
		uint32_t fixed = UINT32_MAX;

		if (pci->owners[at / 4] == PCI_OWNER_MODEL)
			continue;
		if (capability)
			fixed = ~changing_bits(pci, capability, at - capability->offset);
		if ((uvf_get_le32(bytes + at) ^ uvf_get_le32(pci->initial + at)) & fixed)
			return false;
	}
	return true;
}

void pci_config_load(struct uvf_pci *pci, const uint8_t *bytes)
{
	for (uint16_t at = 0; at < pci->config_size; at = (uint16_t)(at + 4)) {
		const struct pci_capability *capability = owner_of(pci, at);
		uint32_t before = uvf_get_le32(pci->config + at);
		uint32_t changing, after;

		if (!capability)
			continue;
		changing = changing_bits(pci, capability, at - capability->offset);
		after = (before & ~changing) | (uvf_get_le32(bytes + at) & changing);
		uvf_put_le32(pci->config + at, after);
		/* What follows from the values, as if they had been written; but nothing is
		 * cleared. */
		call_hooks(pci, capability, at - capability->offset, before, after,
			   after & ~clearing_bits(capability, at - capability->offset), UINT32_MAX);
	}
}

const struct pci_capability *pci_find(const struct uvf_pci *pci, uint16_t id, bool extended)
{
	/* The header is not a capability. */
	for (size_t i = 1; i < pci->capability_count; i++) {
		const struct pci_capability_class *class = pci->capabilities[i].class;

		if (class->id == id && class->extended == extended)
			return &pci->capabilities[i];
	}
	return NULL;
}
