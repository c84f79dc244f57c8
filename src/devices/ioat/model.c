/* SPDX-License-Identifier: BSD-3-Clause */
/* The model "ioat": its keys, its PCI function, its resets, how one is made and freed. */
#include "devices/ioat/ioat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/pci.h>

#include "base/bytes.h"
#include "base/spec.h"
#include "core/model.h"

#define CLASS_SYSTEM_PERIPHERAL 0x088000
#define SKYLAKE_REVISION	4
#define MIN_TRANSFER		4096
#define MAX_TRANSFER		(1ULL << 31)

static const struct uvf_model_key keys[] = {
	{"channels", UVF_KEY_NUMBER, "1", "1-8", "DMA channels, each with a vector of MSI-X",
	 .min = 1, .max = IOAT_MAX_CHANNELS},
	{"xfercap", UVF_KEY_SIZE, "1M", "SIZE",
	 "longest transfer of a descriptor: a power of two, 4K to 2G", .min = MIN_TRANSFER,
	 .max = MAX_TRANSFER},
	{0},
};

/* ---- What happens to the device ---- */

static int reset_ioat(struct uvf_device *dev, enum uvf_reset kind)
{
	struct ioat *ioat = uvf_device_opaque(dev);

	pthread_mutex_lock(&ioat->lock);
	memset(&ioat->state, 0, sizeof(ioat->state));
	ioat->quiesced = false;
	for (unsigned i = 0; i < ioat->channels; i++)
		ioat_channel_init(ioat, i);
	ioat_legacy_update(ioat);
	ioat_worker_wait(ioat);
	pthread_mutex_unlock(&ioat->lock);
	return 0;
}

static void bus_changed(struct ioat *ioat)
{
	ioat->bus_epoch++;
	ioat->stalled = false;
	ioat_worker_wake(ioat);
}

static void bus_master_changed(struct uvf_device *dev, bool enabled)
{
	struct ioat *ioat = uvf_device_opaque(dev);

	pthread_mutex_lock(&ioat->lock);
	ioat->bus_master = enabled;
	bus_changed(ioat);
	pthread_mutex_unlock(&ioat->lock);
}

static int attach_ioat(struct uvf_device *dev, uint32_t pasid, struct uvf_address_space *space)
{
	struct ioat *ioat = uvf_device_opaque(dev);

	pthread_mutex_lock(&ioat->lock);
	bus_changed(ioat);
	pthread_mutex_unlock(&ioat->lock);
	return 0;
}

static void free_ioat(struct ioat *ioat)
{
	ioat_worker_stop(ioat);
	pthread_cond_destroy(&ioat->idle);
	pthread_cond_destroy(&ioat->work);
	pthread_mutex_destroy(&ioat->lock);
	free(ioat);
}

static void destroy_ioat(struct uvf_device *dev)
{
	free_ioat(uvf_device_opaque(dev));
}

static const struct uvf_device_ops ops = {
	.reset = reset_ioat,
	.bus_master_changed = bus_master_changed,
	.attach = attach_ioat,
	.destroy = destroy_ioat,
};

/* ---- Making one ---- */

static int make_device(struct ioat *ioat, struct uvf_error *error)
{
	const struct uvf_pci_capability capabilities[] = {
		{.id = PCI_CAP_ID_MSIX,
		 .offset = 0x80,
		 .msix = {.vectors = (uint16_t)ioat->channels,
			  .table_offset = IOAT_MSIX_TABLE,
			  .pba_offset = IOAT_MSIX_PBA}},
		{.id = PCI_CAP_ID_EXP,
		 .offset = 0x90,
		 .express = {.root_complex_integrated = true, .flr = true, .max_payload = 1}},
		{.id = PCI_CAP_ID_PM, .offset = 0xe0, .pm = {.no_soft_reset = true}},
		{.id = PCI_EXT_CAP_ID_ERR, .extended = true, .offset = 0x100},
	};
	/* DMAUNCERRSTS reads as 0, like all that nobody owns: this device has no such error. */
	static const struct uvf_pci_register registers[] = {
		{IOAT_PCI_CHANERR_INT, ioat_config_read, ioat_config_write},
		{IOAT_PCI_CHANERRMSK_INT, ioat_config_read, ioat_config_write},
	};
	const struct uvf_pci_description description = {
		.vendor = IOAT_PCI_VENDOR,
		.device = IOAT_PCI_DEVICE,
		.subsystem_vendor = IOAT_PCI_VENDOR,
		.class_code = CLASS_SYSTEM_PERIPHERAL,
		.revision = SKYLAKE_REVISION,
		.interrupt_pin = 1,
		/* Nothing can be mapped: a register's write has its effect before the next read. */
		.bars[0] = {.kind = UVF_PCI_BAR_MEM64,
			    .size = IOAT_BAR_SIZE,
			    .read = ioat_bar_read,
			    .write = ioat_bar_write},
		.capabilities = capabilities,
		.capability_count = UVF_ARRAY_SIZE(capabilities),
		.registers = registers,
		.register_count = UVF_ARRAY_SIZE(registers),
	};
	int ret;

	ret = uvf_pci_new("ioat", &description, &ops, ioat, &ioat->dev, error);
	if (!ret)
		uvf_device_set_migration(ioat->dev, &ioat_migration);
	return ret;
}

static struct ioat *new_ioat(unsigned channels, uint64_t transfer)
{
	struct ioat *ioat = calloc(1, sizeof(*ioat));

	if (!ioat)
		return NULL;
	pthread_mutex_init(&ioat->lock, NULL);
	pthread_cond_init(&ioat->work, NULL);
	pthread_cond_init(&ioat->idle, NULL);
	ioat->channels = channels;
	ioat->xfercap = (uint8_t)__builtin_ctzll(transfer);
	for (unsigned i = 0; i < channels; i++)
		ioat_channel_init(ioat, i);
	return ioat;
}

static int create(const struct uvf_spec *spec, bool by_hand, struct uvf_device **devp,
		  struct uvf_error *error)
{
	uint64_t transfer = uvf_spec_number(spec, "xfercap");
	struct ioat *ioat;
	int ret;

	if (!uvf_is_power_of_two(transfer))
		return uvf_spec_refuse(spec, "xfercap", error);
	ioat = new_ioat((unsigned)uvf_spec_number(spec, "channels"), transfer);
	if (!ioat)
		return uvf_fail(error, -ENOMEM, "ioat: no memory");
	ret = make_device(ioat, error);
	if (ret) {
		free_ioat(ioat);
		return ret;
	}
	ret = by_hand ? 0 : ioat_worker_start(ioat);
	if (ret) {
		uvf_device_free(ioat->dev);
		return uvf_fail(error, ret, "ioat: no thread: %s", strerror(-ret));
	}
	*devp = ioat->dev;
	return 0;
}

static int create_ioat(const struct uvf_spec *spec, struct uvf_device **devp,
		       struct uvf_error *error)
{
	return create(spec, false, devp, error);
}

int ioat_new_by_hand(const char *text, struct uvf_device **devp, struct uvf_error *error)
{
	struct uvf_spec *spec;
	int ret = uvf_spec_parse(text, keys, &spec, error);

	if (ret)
		return ret;
	ret = create(spec, true, devp, error);
	uvf_spec_free(spec);
	return ret;
}

static const struct uvf_model ioat_model = {
	.name = "ioat",
	.summary = "Intel's I/OAT DMA engine, version 3.3 as in Skylake-X: copies, fills",
	.keys = keys,
	.create = create_ioat,
};

UVF_REGISTER_MODEL(ioat_model)
