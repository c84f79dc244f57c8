/* SPDX-License-Identifier: BSD-3-Clause */
/* A PCI device: the layer between the core and a model. */
#include "pci/config.h"

#include "core/core.h"

#include <errno.h>
#include <stdlib.h>

static void pci_free(struct uvf_pci *pci)
{
	pci_interrupts_free(pci);
	free(pci->capabilities);
	free(pci->registers);
	free(pci->config);
	free(pci->initial);
	free(pci->owners);
	free(pci->vendor_writable);
	free(pci);
}

static void layer_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	pci_config_reset(uvf_device_layer(dev), kind);
}

static void layer_destroy(struct uvf_device *dev)
{
	pci_free(uvf_device_layer(dev));
}

static const struct uvf_device_layer_ops layer_ops = {
	.reset = layer_reset,
	.irq_changed = pci_irq_changed,
	.inject_error = uvf_pci_inject_error,
	.destroy = layer_destroy,
	.sections = pci_sections,
	.save = pci_save,
	.load = pci_load,
};

static struct uvf_pci *pci_new(const struct uvf_pci_description *description)
{
	struct uvf_pci *pci = calloc(1, sizeof(*pci));

	if (!pci)
		return NULL;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct uvf_pci_bar *bar = &description->bars[i];

		pci->bars[i] = (struct pci_bar){
			.kind = bar->kind,
			.prefetchable = bar->prefetchable,
			.size = bar->size,
			.read = bar->read,
			.write = bar->write,
		};
	}
	pci->rom = description->rom;
	pci->rom_size = description->rom_size;
	pci_interrupts_init(pci, description);
	return pci;
}

static int build(struct uvf_pci *pci, const struct uvf_pci_description *description,
		 struct uvf_error *error)
{
	int ret = pci_add_regions(pci, description, error);

	if (ret)
		return ret;
	ret = pci_add_irqs(pci);
	if (ret)
		return uvf_fail(error, ret, "interrupts can't be made");
	pci_config_reset(pci, UVF_RESET_DEVICE);
	return 0;
}

int uvf_pci_new(const char *name, const struct uvf_pci_description *description,
		const struct uvf_device_ops *ops, void *opaque, struct uvf_device **devp,
		struct uvf_error *error)
{
	struct uvf_pci *pci;
	int ret = pci_describe_check(description, error);

	if (ret)
		return ret;
	pci = pci_new(description);
	if (!pci)
		return uvf_fail(error, -ENOMEM, "out of memory");
	ret = pci_layout(pci, description, error);
	if (ret) {
		pci_free(pci);
		return ret;
	}
	ret = uvf_device_new(name, ops, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET, opaque,
			     &pci->dev);
	if (ret) {
		pci_free(pci);
		return uvf_fail(error, ret, "a device can't be made");
	}
	uvf_device_set_layer(pci->dev, pci, &layer_ops);
	ret = build(pci, description, error);
	if (ret) {
		/* The model's state is still its maker's. */
		uvf_device_discard(pci->dev);
		return ret;
	}
	*devp = pci->dev;
	return 0;
}

void *uvf_pci_bar_memory(struct uvf_device *dev, unsigned bar)
{
	const struct uvf_pci *pci = uvf_device_layer(dev);

	return bar < PCI_BARS ? pci->bars[bar].memory : NULL;
}

uint16_t uvf_pci_find_capability(struct uvf_device *dev, uint16_t id, bool extended)
{
	const struct pci_capability *capability = pci_find(uvf_device_layer(dev), id, extended);

	return capability ? capability->offset : 0;
}
