/* SPDX-License-Identifier: BSD-3-Clause */
/* The model "nvme": its keys, its PCI function, how one is made and freed. */
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <uvfio/pci.h>

#include "base/spec.h"
#include "core/model.h"

/* Nobody's vendor ID: drivers bind by class. */
#define PCI_VENDOR	  0x7576 /* "uv" */
#define PCI_DEVICE	  0x0001
#define CLASS_NVM_EXPRESS 0x010802

#define RESET_LIMIT_MS 30000 /* as long as CAP.TO allows */

static const struct uvf_model_key keys[] = {
	{"file", UVF_KEY_STRING, .expects = "PATH", .repeated = true,
	 .help = "a namespace in a file or block device"},
	{"nbd", UVF_KEY_STRING, .expects = "URI", .repeated = true,
	 .help = "a namespace in an NBD server's export"},
	{"mem", UVF_KEY_SIZE, .expects = "SIZE", .min = 1 << 20, .max = 1ULL << 44,
	 .repeated = true, .help = "a namespace in memory"},
	{"null", UVF_KEY_SIZE, .expects = "SIZE", .min = 1 << 20, .max = 1ULL << 60,
	 .repeated = true, .help = "a namespace that moves no data"},
	{"block", UVF_KEY_CHOICE, "512", "512|4096",
	 "bytes in a logical block, until the driver formats a namespace otherwise"},
	{"direct", UVF_KEY_BOOL, "off", "on|off", "files past the page cache"},
	{"reconnect", UVF_KEY_NUMBER, "60", "0-86400",
	 "seconds that commands wait for an NBD server that was lost", .min = 0, .max = 86400},
	{"readonly", UVF_KEY_BOOL, "off", "on|off", "write protected namespaces"},
	{"poll", UVF_KEY_CHOICE, "adaptive", "on|off|adaptive",
	 "look at queues always, when told, or for a while after that"},
	{"doorbells", UVF_KEY_CHOICE, "mapped", "mapped|trapped-while-saving",
	 "with poll=on: whether a driver keeps them mapped while the state is saved"},
	{"pollers", UVF_KEY_NUMBER, "1", "1-16", "threads", .min = 1, .max = NVME_MAX_POLLERS},
	{"ioeventfd", UVF_KEY_BOOL, "off", "on|off",
	 "doorbells by eventfd too, for drivers that use shadow doorbells"},
	{"queues", UVF_KEY_NUMBER, "64", "1-64", "I/O queue pairs", .min = 1,
	 .max = NVME_MAX_QUEUES},
	{"mdts", UVF_KEY_NUMBER, "8", "1-8", "largest transfer: 2^N pages of 4 KiB", .min = 1,
	 .max = 8},
	{"incoming", UVF_KEY_BOOL, "off", "on|off",
	 "files are locked when the device is first used: it is where a migration goes to"},
	{"serial", UVF_KEY_STRING, NULL, "TEXT",
	 "serial number, at most 20 bytes; else one made from the first file's or export's "
	 "identity"},
	{"model", UVF_KEY_STRING, "uvfio NVMe controller", "TEXT",
	 "model number, at most 40 bytes"},
	{0},
};

static void nvme_bus_master_changed(struct uvf_device *dev, bool enabled)
{
	struct nvme *ctrl = uvf_device_opaque(dev);

	ctrl->bus_mastering = enabled;
	enabled = enabled && !atomic_load(&ctrl->still);
	atomic_store(&ctrl->bus_master, enabled);
	for (unsigned i = 0; enabled && i < ctrl->poller_count; i++)
		nvme_poller_wake(&ctrl->pollers[i]);
}

static void nvme_free(struct nvme *ctrl)
{
	nvme_pollers_stop(ctrl);
	nvme_namespaces_free(ctrl);
	nvme_ioeventfds_close(ctrl);
	free(ctrl->own_doorbells);
	pthread_mutex_destroy(&ctrl->state_lock);
	pthread_mutex_destroy(&ctrl->pin_lock);
	pthread_mutex_destroy(&ctrl->event_lock);
	pthread_mutex_destroy(&ctrl->log_lock);
	pthread_mutex_destroy(&ctrl->doorbell_lock);
	pthread_cond_destroy(&ctrl->state_changed);
	free(ctrl);
}

static void nvme_destroy(struct uvf_device *dev)
{
	nvme_free(uvf_device_opaque(dev));
}

static const struct uvf_device_ops ops = {
	.reset = nvme_reset,
	.dma_unmap = nvme_dma_unmap,
	.bus_master_changed = nvme_bus_master_changed,
	.areas_settled = nvme_doorbells_unmapped,
	.areas_return = nvme_doorbells_return,
	.destroy = nvme_destroy,
};

/* The device isn't made before its storage; until then nobody has set its log either. */
static void forward_log(void *opaque, enum uvf_log_level level, const char *who, const char *text)
{
	struct nvme *ctrl = opaque;

	if (ctrl->dev)
		uvf_device_log(ctrl->dev, level, "%s", text);
}

static int open_nbd(struct nvme *ctrl, const struct uvf_spec *spec, const char *uri, uint32_t block,
		    struct nvme_backend **backendp, struct uvf_error *error)
{
	struct nvme_nbd_config config = {
		.common = {.block_size = block,
			   .read_only = uvf_spec_bool(spec, "readonly"),
			   .log = {forward_log, ctrl, UVF_LOG_DEBUG},
			   .who = "nvme"},
		.uri = uri,
		.reconnect = (uint32_t)uvf_spec_number(spec, "reconnect"),
	};

	return nvme_backend_open_nbd(&config, backendp, error);
}

static int open_backend(struct nvme *ctrl, const struct uvf_spec *spec, const char *kind,
			const char *value, uint32_t block, struct nvme_backend **backendp,
			struct uvf_error *error)
{
	struct nvme_file_config config = {
		.common = {.block_size = 512,
			   .read_only = uvf_spec_bool(spec, "readonly"),
			   .who = "nvme"},
		.path = value,
		.direct = uvf_spec_bool(spec, "direct"),
		.later = uvf_spec_bool(spec, "incoming"),
	};
	uint64_t size = 0;

	if (!strcmp(kind, "nbd"))
		return open_nbd(ctrl, spec, value, block, backendp, error);
	if (!strcmp(kind, "file")) {
		/* Direct I/O may not go in smaller blocks; through the cache any do. */
		if (config.direct)
			config.common.block_size = block;
		return nvme_backend_open_file(&config, backendp, error);
	}
	if (!uvf_parse_number(value, true, &size))
		return uvf_fail(error, -EINVAL, "%s=%s: not a size", kind, value);
	if (!strcmp(kind, "mem"))
		return nvme_backend_open_mem(&config.common, size, backendp, error);
	return nvme_backend_open_null(&config.common, size, backendp, error);
}

static int open_namespace(struct nvme *ctrl, const struct uvf_spec *spec, const char *kind,
			  const char *value, struct uvf_error *error)
{
	uint32_t block = uvf_spec_number(spec, "block") ? 4096 : 512;
	struct nvme_backend *backend;
	int ret;

	if (ctrl->namespace_count == NVME_MAX_NAMESPACES)
		return uvf_fail(error, -EINVAL, "more than %u namespaces", NVME_MAX_NAMESPACES);
	ret = open_backend(ctrl, spec, kind, value, block, &backend, error);
	if (ret)
		return ret;
	if (backend->size < block) {
		nvme_backend_close(backend);
		return uvf_fail(error, -EINVAL, "%s=%s: smaller than a block", kind, value);
	}
	nvme_namespace_add(ctrl, backend, block);
	return 0;
}

/* Numbered from 1 in the order in which they were given, of whatever kind. */
static int open_namespaces(struct nvme *ctrl, const struct uvf_spec *spec, struct uvf_error *error)
{
	static const char *const kinds[] = {"file", "mem", "nbd", "null"};
	const char *name, *value;

	ctrl->namespaces = calloc(NVME_MAX_NAMESPACES, sizeof(*ctrl->namespaces));
	if (!ctrl->namespaces)
		return uvf_fail(error, -ENOMEM, "no memory");
	for (size_t n = 0; (name = uvf_spec_pair(spec, n, &value)); n++) {
		for (size_t kind = 0; kind < UVF_ARRAY_SIZE(kinds); kind++) {
			int ret = 0;

			if (!strcmp(name, kinds[kind]))
				ret = open_namespace(ctrl, spec, name, value, error);
			if (ret)
				return ret;
		}
	}
	if (!ctrl->namespace_count)
		return uvf_fail(error, -EINVAL,
				"nvme needs file=PATH, nbd=URI, mem=SIZE or null=SIZE");
	return 0;
}

/* The largest transfer that all back ends take in one request. */
static void limit_transfers(struct nvme *ctrl)
{
	for (unsigned i = 0; i < ctrl->namespace_count; i++) {
		const struct nvme_backend *backend = ctrl->namespaces[i].backend;

		while (!backend->bytes && !backend->moves_no_data && ctrl->mdts > 1 &&
		       (uint64_t)NVME_PAGE_SIZE << ctrl->mdts > backend->max_io_size)
			ctrl->mdts--;
	}
}

static int read_spec(struct nvme *ctrl, const struct uvf_spec *spec, struct uvf_error *error)
{
	const char *serial = uvf_spec_string(spec, "serial");
	const char *model = uvf_spec_string(spec, "model");
	int ret;

	if (serial && strlen(serial) >= sizeof(ctrl->serial))
		return uvf_spec_refuse(spec, "serial", error);
	if (strlen(model) >= sizeof(ctrl->model))
		return uvf_spec_refuse(spec, "model", error);
	strcpy(ctrl->model, model);
	ctrl->serial_given = serial;
	ctrl->poll = (enum nvme_poll)uvf_spec_number(spec, "poll");
	ctrl->traps_while_saving = uvf_spec_number(spec, "doorbells");
	if (ctrl->traps_while_saving && ctrl->poll != NVME_POLL_ON)
		return uvf_fail(error, -EINVAL,
				"doorbells=trapped-while-saving needs poll=on: "
				"otherwise they can't be mapped");
	ctrl->queues = (unsigned)uvf_spec_number(spec, "queues");
	ctrl->mdts = (uint8_t)uvf_spec_number(spec, "mdts");
	ret = open_namespaces(ctrl, spec, error);
	if (!ret)
		nvme_identify_as(ctrl, serial);
	return ret;
}

static int make_device(struct nvme *ctrl, const struct uvf_io_fd *io_fds, struct uvf_error *error)
{
	const struct uvf_pci_bar_area doorbells = {
		.offset = NVME_REG_DOORBELLS,
		.size = NVME_DOORBELL_SIZE,
		.flags = ctrl->traps_while_saving ? UVF_AREA_NOT_WHILE_SAVING : 0,
	};
	static const struct uvf_pci_capability capabilities[] = {
		{.id = PCI_CAP_ID_PM, .pm = {.no_soft_reset = true}},
		{.id = PCI_CAP_ID_EXP, .express = {.flr = true, .max_payload = 1}},
		{.id = PCI_CAP_ID_MSIX,
		 .msix = {.vectors = NVME_QUEUES,
			  .table_offset = NVME_MSIX_TABLE,
			  .pba_offset = NVME_MSIX_PBA}},
	};
	const struct uvf_pci_description description = {
		.vendor = PCI_VENDOR,
		.device = PCI_DEVICE,
		.subsystem_vendor = PCI_VENDOR,
		.subsystem = PCI_DEVICE,
		.class_code = CLASS_NVM_EXPRESS,
		.revision = 1,
		.interrupt_pin = 1,
		.bars[0] = {.kind = UVF_PCI_BAR_MEM64,
			    .size = NVME_BAR_SIZE,
			    .read = nvme_bar_read,
			    .write = nvme_bar_write,
			    .areas = &doorbells,
			    /* Only a poller that never sleeps sees a store into memory. */
			    .area_count = ctrl->poll == NVME_POLL_ON,
			    .areas_change = ctrl->traps_while_saving,
			    .io_fds = io_fds,
			    .io_fd_count = io_fds ? 2 * ctrl->queues : 0},
		.capabilities = capabilities,
		.capability_count = UVF_ARRAY_SIZE(capabilities),
	};
	uint8_t *bar;
	int ret = uvf_pci_new("nvme", &description, &ops, ctrl, &ctrl->dev, error);

	if (ret)
		return ret;
	uvf_device_set_migration(ctrl->dev, &nvme_migration);
	bar = uvf_pci_bar_memory(ctrl->dev, 0);
	ret = nvme_doorbells_make(ctrl, bar ? bar + NVME_REG_DOORBELLS : NULL);
	return ret ? uvf_fail(error, ret, "no memory") : 0;
}

static int create(const struct uvf_spec *spec, bool by_hand, struct uvf_device **devp,
		  struct uvf_error *error)
{
	struct nvme *ctrl = calloc(1, sizeof(*ctrl));
	unsigned pollers = (unsigned)uvf_spec_number(spec, "pollers");
	struct uvf_io_fd *io_fds = NULL;
	pthread_condattr_t monotonic;
	int ret;

	if (!ctrl)
		return uvf_fail(error, -ENOMEM, "no memory");
	pthread_mutex_init(&ctrl->state_lock, NULL);
	pthread_mutex_init(&ctrl->pin_lock, NULL);
	pthread_mutex_init(&ctrl->event_lock, NULL);
	pthread_mutex_init(&ctrl->log_lock, NULL);
	pthread_mutex_init(&ctrl->doorbell_lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&ctrl->state_changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	ctrl->by_hand = by_hand;
	ctrl->reset_limit_ms = RESET_LIMIT_MS;
	ctrl->started_at = nvme_now_ms();
	nvme_features_reset(ctrl);
	ret = read_spec(ctrl, spec, error);
	if (!ret && uvf_spec_bool(spec, "ioeventfd")) {
		ret = nvme_ioeventfds_make(ctrl, pollers, &io_fds);
		if (ret)
			uvf_fail(error, ret, "no eventfds for doorbells: %s", strerror(-ret));
	}
	if (!ret) {
		limit_transfers(ctrl);
		ret = make_device(ctrl, io_fds, error);
	}
	free(io_fds);
	if (!ret)
		ret = nvme_pollers_start(ctrl, pollers, error);
	if (!ret) {
		*devp = ctrl->dev;
		return 0;
	}
	if (ctrl->dev)
		uvf_device_free(ctrl->dev); /* and, by destroy, @ctrl */
	else
		nvme_free(ctrl);
	return ret;
}

static int nvme_create(const struct uvf_spec *spec, struct uvf_device **devp,
		       struct uvf_error *error)
{
	return create(spec, false, devp, error);
}

int nvme_new_by_hand(const char *text, struct uvf_device **devp, struct uvf_error *error)
{
	struct uvf_spec *spec;
	int ret = uvf_spec_parse(text, keys, &spec, error);

	if (ret)
		return ret;
	ret = create(spec, true, devp, error);
	uvf_spec_free(spec);
	return ret;
}

static const struct uvf_model nvme_model = {
	.name = "nvme",
	.summary =
		"an NVMe 1.4 controller: namespaces in files, at NBD servers, in memory or nowhere",
	.keys = keys,
	.create = nvme_create,
};

UVF_REGISTER_MODEL(nvme_model)
