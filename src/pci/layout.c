/* SPDX-License-Identifier: BSD-3-Clause */
/* Places capabilities in a configuration space and links them: those with an offset, then the rest.
 */
#include "pci/config.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct pci_capability_class *const classes[] = {
	&pci_cap_pm,  &pci_cap_msi, &pci_cap_msix,   &pci_cap_express, &pci_cap_vendor,
	&pci_ext_aer, &pci_ext_dsn, &pci_ext_vendor, &pci_ext_acs,     &pci_ext_ari,
};

const struct pci_capability_class *pci_class_find(uint16_t id, bool extended)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(classes); i++) {
		if (classes[i]->id == id && classes[i]->extended == extended)
			return classes[i];
	}
	return NULL;
}

/* ---- Places ---- */

/* The part of the configuration space for capabilities of a kind. */
static unsigned space_start(bool extended)
{
	return extended ? PCI_CONFIG_SIZE : PCI_HEADER_SIZE;
}

static unsigned space_end(bool extended)
{
	return extended ? PCI_CONFIG_SIZE_EXP : PCI_CONFIG_SIZE;
}

static bool is_free(const struct uvf_pci *pci, unsigned offset, unsigned size)
{
	for (unsigned at = offset; at < offset + size; at += 4) {
		if (pci->owners[at / 4])
			return false;
	}
	return true;
}

static void own(struct uvf_pci *pci, const struct pci_capability *capability)
{
	for (unsigned at = capability->offset; at < capability->offset + capability->size; at += 4)
		pci->owners[at / 4] = (uint8_t)(capability - pci->capabilities + 1);
}

static int place_at(struct uvf_pci *pci, struct pci_capability *capability, unsigned offset,
		    struct uvf_error *error)
{
	bool extended = capability->class->extended;

	if (!uvf_is_aligned(offset, 4))
		return uvf_fail(error, -EINVAL, "%s at 0x%x, which is not 4-byte aligned",
				capability->class->name, offset);
	if (offset < space_start(extended) ||
	    !uvf_range_inside(offset, capability->size, space_end(extended)))
		return uvf_fail(error, -EINVAL, "%s at 0x%x; expected inside 0x%x to 0x%x",
				capability->class->name, offset, space_start(extended),
				space_end(extended) - 1);
	if (!is_free(pci, offset, capability->size))
		return uvf_fail(error, -EINVAL, "%s at 0x%x overlaps another capability",
				capability->class->name, offset);
	capability->offset = (uint16_t)offset;
	own(pci, capability);
	return 0;
}

static int place_anywhere(struct uvf_pci *pci, struct pci_capability *capability,
			  struct uvf_error *error)
{
	bool extended = capability->class->extended;

	for (unsigned offset = space_start(extended);
	     offset + capability->size <= space_end(extended); offset += 4) {
		if (is_free(pci, offset, capability->size))
			return place_at(pci, capability, offset, error);
	}
	return uvf_fail(error, -EINVAL, "no room is left for %s", capability->class->name);
}

/* These have their place, and no capability takes it. */
static int place_registers(struct uvf_pci *pci, struct uvf_error *error)
{
	for (size_t i = 0; i < pci->register_count; i++) {
		unsigned offset = pci->registers[i].offset;

		if (!uvf_is_aligned(offset, 4) || !uvf_range_inside(offset, 4, pci->config_size))
			return uvf_fail(error, -EINVAL,
					"register at 0x%x; expected a multiple of 4 below 0x%x",
					offset, pci->config_size);
		if (pci->owners[offset / 4])
			return uvf_fail(
				error, -EINVAL,
				"register at 0x%x overlaps the header, a capability or another",
				offset);
		if (!pci->registers[i].read)
			return uvf_fail(error, -EINVAL, "register at 0x%x can't be read", offset);
		pci->owners[offset / 4] = PCI_OWNER_MODEL;
	}
	return 0;
}

static int place_all(struct uvf_pci *pci, const struct uvf_pci_description *description,
		     struct uvf_error *error)
{
	int ret = 0;

	own(pci, &pci->capabilities[0]);
	for (size_t i = 0; !ret && i < description->capability_count; i++) {
		uint16_t offset = description->capabilities[i].offset;

		if (offset)
			ret = place_at(pci, &pci->capabilities[i + 1], offset, error);
	}
	if (!ret)
		ret = place_registers(pci, error);
	for (size_t i = 0; !ret && i < description->capability_count; i++) {
		if (!description->capabilities[i].offset)
			ret = place_anywhere(pci, &pci->capabilities[i + 1], error);
	}
	return ret;
}

/* ---- Links: in order of place ---- */

static const struct pci_capability *next_capability(const struct uvf_pci *pci, unsigned from,
						    bool extended)
{
	for (unsigned at = from; at < space_end(extended) && at < pci->config_size; at += 4) {
		const struct pci_capability *capability;

		if (!pci->owners[at / 4] || pci->owners[at / 4] == PCI_OWNER_MODEL)
			continue;
		capability = &pci->capabilities[pci->owners[at / 4] - 1];
		if (capability->offset == at)
			return capability;
	}
	return NULL;
}

static void link_conventional(struct uvf_pci *pci)
{
	const struct pci_capability *capability = next_capability(pci, PCI_HEADER_SIZE, false);
	uint16_t pointer = PCI_CAPABILITY_LIST;

	if (capability)
		uvf_put_le16(pci->initial + PCI_STATUS, PCI_STATUS_CAP_LIST);
	while (capability) {
		pci->initial[pointer] = (uint8_t)capability->offset;
		pci_init8(pci, capability, PCI_CAP_LIST_ID, (uint8_t)capability->class->id);
		pointer = (uint16_t)(capability->offset + PCI_CAP_LIST_NEXT);
		capability = next_capability(pci, capability->offset + capability->size, false);
	}
}

static int link_extended(struct uvf_pci *pci, struct uvf_error *error)
{
	const struct pci_capability *capability = next_capability(pci, PCI_CONFIG_SIZE, true);

	/* A walk begins there and nowhere else. */
	if (capability && capability->offset != PCI_CONFIG_SIZE)
		return uvf_fail(error, -EINVAL,
				"the first extended capability is at 0x%x; expected 0x100",
				capability->offset);
	while (capability) {
		const struct pci_capability *next =
			next_capability(pci, capability->offset + capability->size, true);

		pci_init32(pci, capability, 0,
			   capability->class->id | (uint32_t)capability->class->version << 16 |
				   (next ? (uint32_t)next->offset << 20 : 0));
		capability = next;
	}
	return 0;
}

/* ---- The whole ---- */

static void describe_capabilities(struct uvf_pci *pci,
				  const struct uvf_pci_description *description)
{
	pci->capabilities[0] = (struct pci_capability){
		.class = &pci_header,
		.registers = pci_header.registers,
		.size = PCI_HEADER_SIZE,
	};
	for (size_t i = 0; i < description->capability_count; i++) {
		const struct uvf_pci_capability *given = &description->capabilities[i];
		const struct pci_capability_class *class =
			pci_class_find(given->id, given->extended);
		size_t size = class->size ? class->size(given) : class->minimum;

		pci->capabilities[i + 1] = (struct pci_capability){
			.class = class,
			.registers = class->layout ? class->layout(given) : class->registers,
			.size = (uint16_t)uvf_align_up(size, 4),
		};
	}
}

static int allocate(struct uvf_pci *pci, const struct uvf_pci_description *description)
{
	bool vendor = false;

	pci->config_size = PCI_CONFIG_SIZE;
	for (size_t i = 0; i < description->capability_count; i++) {
		const struct uvf_pci_capability *given = &description->capabilities[i];

		if (!given->extended && given->id == PCI_CAP_ID_EXP)
			pci->config_size = PCI_CONFIG_SIZE_EXP;
		vendor = vendor ||
			 given->id == (given->extended ? PCI_EXT_CAP_ID_VNDR : PCI_CAP_ID_VNDR);
	}
	pci->capability_count = description->capability_count + 1;
	pci->capabilities = calloc(pci->capability_count, sizeof(*pci->capabilities));
	pci->config = calloc(1, pci->config_size);
	pci->initial = calloc(1, pci->config_size);
	pci->owners = calloc(1, pci->config_size / 4);
	pci->register_count = description->register_count;
	pci->registers = calloc(pci->register_count + 1, sizeof(*pci->registers));
	pci->vendor_writable = vendor ? calloc(1, pci->config_size) : NULL;
	if (!pci->capabilities || !pci->config || !pci->initial || !pci->owners ||
	    !pci->registers || (vendor && !pci->vendor_writable))
		return -ENOMEM;
	if (pci->register_count)
		memcpy(pci->registers, description->registers,
		       pci->register_count * sizeof(*pci->registers));
	return 0;
}

static int init_values(struct uvf_pci *pci, const struct uvf_pci_description *description)
{
	pci_header_init(pci, description);
	for (size_t i = 0; i < description->capability_count; i++) {
		const struct pci_capability *capability = &pci->capabilities[i + 1];
		int ret = capability->class->init(pci, capability, &description->capabilities[i]);

		if (ret)
			return ret;
	}
	return 0;
}

int pci_layout(struct uvf_pci *pci, const struct uvf_pci_description *description,
	       struct uvf_error *error)
{
	int ret = allocate(pci, description);

	if (ret)
		return uvf_fail(error, ret, "out of memory");
	describe_capabilities(pci, description);
	ret = place_all(pci, description, error);
	if (ret)
		return ret;
	link_conventional(pci);
	ret = link_extended(pci, error);
	if (ret)
		return ret;
	ret = init_values(pci, description);
	return ret ? uvf_fail(error, ret, "out of memory") : 0;
}
