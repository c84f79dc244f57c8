/* SPDX-License-Identifier: BSD-3-Clause */
/* Checks a description: what is wrong with it is said in words. */
#include "pci/config.h"

#include "base/bytes.h"

#include <errno.h>
#include <unistd.h>

#define MAX_BAR32_SIZE (1ULL << 31)
#define MAX_BAR64_SIZE (1ULL << 40) /* a region's place in VFIO's offsets */
#define MAX_ROM_SIZE   (1ULL << 24)

/* The smallest and largest a BAR of each kind can say. */
static const struct {
	uint64_t smallest, largest;
} bar_limits[] = {
	[UVF_PCI_BAR_MEM32] = {16, MAX_BAR32_SIZE},
	[UVF_PCI_BAR_MEM64] = {16, MAX_BAR64_SIZE},
	[UVF_PCI_BAR_IO] = {4, MAX_BAR32_SIZE},
};

static int check_no_bar(const struct uvf_pci_bar *bar, unsigned index, struct uvf_error *error)
{
	if (bar->size || bar->area_count || bar->io_fd_count || bar->prefetchable)
		return uvf_fail(error, -EINVAL, "BAR %u has no kind but a size, areas or flags",
				index);
	return 0;
}

static int check_areas(const struct uvf_pci_bar *bar, unsigned index, struct uvf_error *error)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t end = 0;

	if (bar->area_count && (!bar->areas || bar->kind == UVF_PCI_BAR_IO))
		return uvf_fail(error, -EINVAL, "BAR %u can't have areas", index);
	for (size_t i = 0; i < bar->area_count; i++) {
		const struct uvf_pci_bar_area *area = &bar->areas[i];

		if (!area->size || !uvf_is_aligned(area->offset | area->size, page))
			return uvf_fail(error, -EINVAL, "BAR %u: area %zu is not page aligned",
					index, i);
		if (!uvf_range_inside(area->offset, area->size, bar->size))
			return uvf_fail(error, -EINVAL, "BAR %u: area %zu leaves the BAR", index,
					i);
		if (area->offset < end)
			return uvf_fail(error, -EINVAL,
					"BAR %u: area %zu overlaps the one before or is below it",
					index, i);
		end = area->offset + area->size;
	}
	if (bar->io_fd_count && !bar->io_fds)
		return uvf_fail(error, -EINVAL, "BAR %u: ioeventfds are missing", index);
	for (size_t i = 0; i < bar->io_fd_count; i++) {
		if (!bar->io_fds[i].size ||
		    !uvf_range_inside(bar->io_fds[i].offset, bar->io_fds[i].size, bar->size))
			return uvf_fail(error, -EINVAL, "BAR %u: ioeventfd %zu leaves the BAR",
					index, i);
	}
	return 0;
}

static int check_bar(const struct uvf_pci_description *description, unsigned index,
		     struct uvf_error *error)
{
	const struct uvf_pci_bar *bar = &description->bars[index];

	if ((unsigned)bar->kind >= UVF_ARRAY_SIZE(bar_limits))
		return uvf_fail(error, -EINVAL, "BAR %u: kind %u is unknown", index,
				(unsigned)bar->kind);
	if (bar->kind == UVF_PCI_BAR_NONE)
		return check_no_bar(bar, index, error);
	if (!uvf_is_power_of_two(bar->size) || bar->size < bar_limits[bar->kind].smallest ||
	    bar->size > bar_limits[bar->kind].largest)
		return uvf_fail(error, -EINVAL,
				"BAR %u: size 0x%llx; expected a power of two, 0x%llx to 0x%llx",
				index, (unsigned long long)bar->size,
				(unsigned long long)bar_limits[bar->kind].smallest,
				(unsigned long long)bar_limits[bar->kind].largest);
	if (bar->kind == UVF_PCI_BAR_IO && bar->prefetchable)
		return uvf_fail(error, -EINVAL, "BAR %u: I/O is never prefetchable", index);
	if (bar->kind == UVF_PCI_BAR_MEM64 &&
	    (index == PCI_BARS - 1 || description->bars[index + 1].kind != UVF_PCI_BAR_NONE))
		return uvf_fail(error, -EINVAL, "BAR %u: 64-bit, and the next BAR is not free",
				index);
	return check_areas(bar, index, error);
}

static int check_capability(const struct uvf_pci_description *description, size_t nth,
			    struct uvf_error *error)
{
	const struct uvf_pci_capability *given = &description->capabilities[nth];
	const struct pci_capability_class *class = pci_class_find(given->id, given->extended);

	if (!class)
		return uvf_fail(error, -EINVAL, "capability %zu: %s id 0x%x is not known", nth,
				given->extended ? "extended" : "conventional", given->id);
	for (size_t i = 0; i < nth && !class->repeatable; i++) {
		const struct uvf_pci_capability *other = &description->capabilities[i];

		if (other->id == given->id && other->extended == given->extended)
			return uvf_fail(error, -EINVAL, "capability %zu: a second %s", nth,
					class->name);
	}
	return class->check ? class->check(description, given, error) : 0;
}

static int check_capabilities(const struct uvf_pci_description *description,
			      struct uvf_error *error)
{
	bool extended = false, express = false;

	if (description->capability_count > PCI_MAX_CAPABILITIES)
		return uvf_fail(error, -EINVAL, "%zu capabilities; expected at most %u",
				description->capability_count, PCI_MAX_CAPABILITIES);
	if (description->capability_count && !description->capabilities)
		return uvf_fail(error, -EINVAL, "capabilities are missing");
	for (size_t i = 0; i < description->capability_count; i++) {
		const struct uvf_pci_capability *given = &description->capabilities[i];
		int ret = check_capability(description, i, error);

		if (ret)
			return ret;
		extended = extended || given->extended;
		express = express || (!given->extended && given->id == PCI_CAP_ID_EXP);
	}
	if (extended && !express)
		return uvf_fail(error, -EINVAL, "extended capabilities need PCI Express");
	if (description->register_count && !description->registers)
		return uvf_fail(error, -EINVAL, "registers are missing");
	return 0;
}

int pci_describe_check(const struct uvf_pci_description *description, struct uvf_error *error)
{
	if (description->class_code > 0xffffff)
		return uvf_fail(error, -EINVAL, "class code 0x%x; expected 24 bits",
				description->class_code);
	if (description->interrupt_pin > 4)
		return uvf_fail(error, -EINVAL, "interrupt pin %u; expected 0 to 4",
				description->interrupt_pin);
	if (!description->rom != !description->rom_size || description->rom_size > MAX_ROM_SIZE)
		return uvf_fail(error, -EINVAL, "ROM of 0x%llx bytes; expected at most 0x%llx",
				(unsigned long long)description->rom_size, MAX_ROM_SIZE);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		int ret = check_bar(description, i, error);

		if (ret)
			return ret;
	}
	return check_capabilities(description, error);
}
