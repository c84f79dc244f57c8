/* SPDX-License-Identifier: BSD-3-Clause */
/* Configuration space and interrupts in a migration stream. */
#include "pci/config.h"

#include <errno.h>
#include <string.h>

#include "core/core.h"

const char *const pci_sections[] = {
	"pci.config", "pci.pins", "msix.table", "msix.pending", "msix.set", NULL,
};

/* The interrupts' state that is in no register. */
struct pins {
	bool asserted;
	uint32_t msi_pending;
};

static const struct uvf_state_field pins_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_BOOL, struct pins, asserted),
	UVF_STATE_FIELD(2, UVF_FIELD_U32, struct pins, msi_pending),
	{0},
};

static struct uvf_state_section section(const char *name)
{
	return (struct uvf_state_section){.name = name};
}

/* With the interrupts' lock held. */
static int save_msix(const struct pci_msix *msix, struct uvf_state_writer *writer)
{
	size_t bits = (size_t)pci_msix_pba_size(msix->vectors);
	int ret = uvf_state_write_bytes(writer, section("msix.table"), msix->table,
					(size_t)pci_msix_table_size(msix->vectors));

	if (!ret)
		ret = uvf_state_write_bytes(writer, section("msix.pending"), msix->pending, bits);
	if (!ret)
		ret = uvf_state_write_bytes(writer, section("msix.set"), msix->programmed, bits);
	return ret;
}

int pci_save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct uvf_pci *pci = uvf_device_layer(dev);
	struct pins pins;
	int ret =
		uvf_state_write_bytes(writer, section("pci.config"), pci->config, pci->config_size);

	if (ret)
		return ret;
	pthread_mutex_lock(&pci->interrupts.lock);
	pins = (struct pins){pci->interrupts.asserted, pci->interrupts.msi.pending};
	ret = uvf_state_write(writer, section("pci.pins"), pins_fields, &pins);
	if (!ret && pci->interrupts.msix.vectors)
		ret = save_msix(&pci->interrupts.msix, writer);
	pthread_mutex_unlock(&pci->interrupts.lock);
	return ret;
}

/* A section that is exactly as large as what it is for. */
static int load_bytes(struct uvf_state_reader *reader, const char *name, void *to, size_t size)
{
	const void *bytes;
	ssize_t found = uvf_state_read_bytes(reader, name, 0, &bytes);

	if (found < 0 || (size_t)found != size)
		return -EINVAL;
	memcpy(to, bytes, size);
	return 0;
}

/* With the interrupts' lock held. Of what was pending, what has no vector is not. */
static int load_msix(struct pci_msix *msix, struct uvf_state_reader *reader)
{
	size_t bits = (size_t)pci_msix_pba_size(msix->vectors);
	int ret = load_bytes(reader, "msix.table", msix->table,
			     (size_t)pci_msix_table_size(msix->vectors));

	if (!ret)
		ret = load_bytes(reader, "msix.pending", msix->pending, bits);
	if (!ret)
		ret = load_bytes(reader, "msix.set", msix->programmed, bits);
	if (!ret && msix->vectors % 64) {
		uint64_t there = (1ULL << msix->vectors % 64) - 1;

		msix->pending[msix->vectors / 64] &= there;
		msix->programmed[msix->vectors / 64] &= there;
	}
	return ret;
}

int pci_load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	struct uvf_pci *pci = uvf_device_layer(dev);
	struct pins pins = {0};
	const void *config;
	ssize_t size = uvf_state_read_bytes(reader, "pci.config", 0, &config);
	int ret;

	if (size != (ssize_t)pci->config_size || !pci_config_is_alike(pci, config))
		return -EINVAL;
	ret = uvf_state_read(reader, "pci.pins", 0, pins_fields, &pins);
	if (ret)
		return ret;
	pci_config_load(pci, config);
	pthread_mutex_lock(&pci->interrupts.lock);
	pci->interrupts.asserted = pins.asserted;
	pci->interrupts.msi.pending = pins.msi_pending;
	if (pci->interrupts.msix.vectors)
		ret = load_msix(&pci->interrupts.msix, reader);
	pthread_mutex_unlock(&pci->interrupts.lock);
	return ret;
}
