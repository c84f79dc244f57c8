/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * BARs and ROM as regions: gated by the command register and the power state, with the MSI-X table
 * and PBA cut out of what the model sees.
 */
#include "pci/config.h"

#include "base/bytes.h"
#include "core/core.h"

#include <errno.h>
#include <stdlib.h>

enum part { PART_MODEL, PART_TABLE, PART_PBA };

/*
 * Whose the byte at @offset is. *@within becomes its place in that part, *@piece how many of
 * @count bytes from there are in the same part.
 */
static enum part part_at(const struct uvf_pci *pci, uint32_t index, uint64_t offset, size_t count,
			 uint64_t *within, size_t *piece)
{
	const struct pci_msix *msix = &pci->interrupts.msix;
	const struct {
		enum part part;
		uint8_t bar;
		uint64_t offset;
		uint64_t size;
	} windows[] = {
		{PART_TABLE, msix->table_bar, msix->table_offset,
		 pci_msix_table_size(msix->vectors)},
		{PART_PBA, msix->pba_bar, msix->pba_offset, pci_msix_pba_size(msix->vectors)},
	};

	*within = offset;
	*piece = count;
	for (size_t i = 0; i < UVF_ARRAY_SIZE(windows); i++) {
		uint64_t window = windows[i].offset, size = windows[i].size;

		/* Only what the nearest window so far has left over. */
		if (windows[i].bar != index || !uvf_ranges_overlap(offset, *piece, window, size))
			continue;
		if (offset < window) {
			*piece = (size_t)(window - offset);
			continue;
		}
		*within = offset - window;
		if (*piece > size - *within)
			*piece = (size_t)(size - *within);
		return windows[i].part;
	}
	return PART_MODEL;
}

static int read_part(struct uvf_pci *pci, uint32_t index, enum part part, uint64_t offset,
		     void *buf, size_t count)
{
	const struct pci_bar *bar = &pci->bars[index];

	if (part == PART_TABLE)
		pci_msix_table_read(pci, offset, buf, count);
	else if (part == PART_PBA)
		pci_msix_pba_read(pci, offset, buf, count);
	else
		return bar->read ? bar->read(pci->dev, index, offset, buf, count) : -EINVAL;
	return 0;
}

static int bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	struct uvf_pci *pci = uvf_device_layer(dev);
	uint8_t *to = buf;

	if (!pci_bar_enabled(pci, index)) {
		memset(buf, 0xff, count);
		return 0;
	}
	for (size_t done = 0, piece; done < count; done += piece) {
		uint64_t within;
		enum part part = part_at(pci, index, offset + done, count - done, &within, &piece);
		int ret = read_part(pci, index, part, within, to + done, piece);

		if (ret < 0)
			return ret;
	}
	return 0;
}

static int write_part(struct uvf_pci *pci, uint32_t index, enum part part, uint64_t offset,
		      const void *buf, size_t count)
{
	const struct pci_bar *bar = &pci->bars[index];

	/* A driver's writes to the PBA are ignored. */
	if (part == PART_TABLE)
		pci_msix_table_write(pci, offset, buf, count);
	else if (part == PART_MODEL)
		return bar->write ? bar->write(pci->dev, index, offset, buf, count) : -EINVAL;
	return 0;
}

static int bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count)
{
	struct uvf_pci *pci = uvf_device_layer(dev);
	const uint8_t *from = buf;

	if (!pci_bar_enabled(pci, index))
		return 0;
	for (size_t done = 0, piece; done < count; done += piece) {
		uint64_t within;
		enum part part = part_at(pci, index, offset + done, count - done, &within, &piece);
		int ret = write_part(pci, index, part, within, from + done, piece);

		if (ret < 0)
			return ret;
	}
	return 0;
}

/*
 * VFIO reads a ROM for its driver, whatever the ROM's and the memory space's enable bits are. Past
 * its end it is blank.
 */
static int rom_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	struct uvf_pci *pci = uvf_device_layer(dev);
	size_t there = 0;

	if (pci_powered(pci) && offset < pci->rom_size)
		there = pci->rom_size - offset < count ? (size_t)(pci->rom_size - offset) : count;
	if (there)
		memcpy(buf, (const uint8_t *)pci->rom + offset, there);
	memset((uint8_t *)buf + there, 0xff, count - there);
	return 0;
}

/* ---- Description ---- */

static int describe_areas(struct uvf_pci *pci, unsigned index, const struct uvf_pci_bar *bar,
			  struct uvf_area *areas)
{
	uint64_t fd_offset;
	int fd, ret;

	if (!bar->area_count)
		return 0;
	ret = uvf_device_region_memory(pci->dev, index, bar->size, &fd, &fd_offset,
				       &pci->bars[index].memory);
	for (size_t i = 0; !ret && i < bar->area_count; i++)
		areas[i] = (struct uvf_area){
			.offset = bar->areas[i].offset,
			.size = bar->areas[i].size,
			.fd = fd,
			.fd_offset = fd_offset + bar->areas[i].offset,
			.flags = bar->areas[i].flags,
		};
	return ret;
}

static int add_bar(struct uvf_pci *pci, unsigned index, const struct uvf_pci_bar *bar)
{
	struct uvf_area *areas = calloc(bar->area_count + 1, sizeof(*areas));
	const struct uvf_region region = {
		.index = VFIO_PCI_BAR0_REGION_INDEX + index,
		.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
		.size = bar->size,
		.read = bar_read,
		.write = bar_write,
		.areas = areas,
		.area_count = bar->area_count,
		.areas_change = bar->areas_change,
		.io_fds = bar->io_fds,
		.io_fd_count = bar->io_fd_count,
	};
	int ret;

	if (!areas)
		return -ENOMEM;
	ret = describe_areas(pci, index, bar, areas);
	if (!ret)
		ret = uvf_device_add_region(pci->dev, &region);
	free(areas);
	return ret;
}

int pci_add_regions(struct uvf_pci *pci, const struct uvf_pci_description *description,
		    struct uvf_error *error)
{
	const struct uvf_region rom = {
		.index = VFIO_PCI_ROM_REGION_INDEX,
		.flags = VFIO_REGION_INFO_FLAG_READ,
		.size = pci_rom_bar_size(description->rom_size),
		.read = rom_read,
	};
	const struct uvf_region config = {
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
		.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
		.size = pci->config_size,
		.read = pci_config_read,
		.write = pci_config_write,
	};
	int ret;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (description->bars[i].kind == UVF_PCI_BAR_NONE)
			continue;
		ret = add_bar(pci, i, &description->bars[i]);
		if (ret)
			return uvf_fail(error, ret, "BAR %u can't be made", i);
	}
	ret = rom.size ? uvf_device_add_region(pci->dev, &rom) : 0;
	if (!ret)
		ret = uvf_device_add_region(pci->dev, &config);
	return ret ? uvf_fail(error, ret, "regions can't be made") : 0;
}
