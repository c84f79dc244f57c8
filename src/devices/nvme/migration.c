/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migration: what a controller at rest is made of, and how it is written. All under the device's
 * lock, with no poller doing anything.
 */
#include "devices/nvme/migration.h"

#include <errno.h>
#include <stdlib.h>

static const char *const sections[] = {
	"make",	  "registers", "features", "events", "namespace",   "cq",      "sq",
	"staged", "doorbells", "errors",   "bad",    "storage.map", "storage", NULL,
};

static const struct uvf_state_field make_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U16, struct nvme_make, queues),
	UVF_STATE_FIELD(2, UVF_FIELD_U8, struct nvme_make, mdts),
	UVF_STATE_FIELD(3, UVF_FIELD_U8, struct nvme_make, namespaces),
	UVF_STATE_FIELD(4, UVF_FIELD_BOOL, struct nvme_make, mapped_doorbells),
	UVF_STATE_FIELD(5, UVF_FIELD_BOOL, struct nvme_make, ioeventfds),
	UVF_STATE_FIELD(6, UVF_FIELD_BYTES, struct nvme_make, serial),
	UVF_STATE_FIELD(7, UVF_FIELD_BYTES, struct nvme_make, model),
	{0},
};

static const struct uvf_state_field namespace_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_BYTES, struct nvme_namespace_image, kind),
	UVF_STATE_FIELD(2, UVF_FIELD_U64, struct nvme_namespace_image, size),
	UVF_STATE_FIELD(3, UVF_FIELD_U32, struct nvme_namespace_image, smallest_block),
	UVF_STATE_FIELD(4, UVF_FIELD_BOOL, struct nvme_namespace_image, read_only),
	UVF_STATE_FIELD(5, UVF_FIELD_U8, struct nvme_namespace_image, block_shift),
	UVF_STATE_FIELD(6, UVF_FIELD_BYTES, struct nvme_namespace_image, uuid),
	UVF_STATE_FIELD(7, UVF_FIELD_U32, struct nvme_namespace_image, error_recovery),
	{0},
};

static const struct uvf_state_field register_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U32, struct nvme_register_image, cc),
	UVF_STATE_FIELD(2, UVF_FIELD_U32, struct nvme_register_image, csts),
	UVF_STATE_FIELD(3, UVF_FIELD_U32, struct nvme_register_image, aqa),
	UVF_STATE_FIELD(4, UVF_FIELD_U32, struct nvme_register_image, intms),
	UVF_STATE_FIELD(5, UVF_FIELD_U64, struct nvme_register_image, asq),
	UVF_STATE_FIELD(6, UVF_FIELD_U64, struct nvme_register_image, acq),
	UVF_STATE_FIELD(7, UVF_FIELD_BOOL, struct nvme_register_image, reset_wanted),
	UVF_STATE_FIELD(8, UVF_FIELD_BOOL, struct nvme_register_image, shutdown_wanted),
	UVF_STATE_FIELD(9, UVF_FIELD_BOOL, struct nvme_register_image, shadowed),
	UVF_STATE_FIELD(10, UVF_FIELD_U64, struct nvme_register_image, shadow),
	UVF_STATE_FIELD(11, UVF_FIELD_U64, struct nvme_register_image, event),
	UVF_STATE_FIELD(12, UVF_FIELD_U64, struct nvme_register_image, uptime),
	UVF_STATE_FIELD(13, UVF_FIELD_U64, struct nvme_register_image, unsafe_shutdowns),
	UVF_STATE_FIELD(14, UVF_FIELD_U64, struct nvme_register_image, error_count),
	UVF_STATE_FIELD(15, UVF_FIELD_U64, struct nvme_register_image, read_blocks),
	UVF_STATE_FIELD(16, UVF_FIELD_U64, struct nvme_register_image, written_blocks),
	UVF_STATE_FIELD(17, UVF_FIELD_U64, struct nvme_register_image, reads),
	UVF_STATE_FIELD(18, UVF_FIELD_U64, struct nvme_register_image, writes),
	UVF_STATE_FIELD(19, UVF_FIELD_U64, struct nvme_register_image, media_errors),
	{0},
};

static const struct uvf_state_field feature_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U32, struct nvme_feature_image, arbitration),
	UVF_STATE_FIELD(2, UVF_FIELD_U32, struct nvme_feature_image, power),
	UVF_STATE_FIELD(3, UVF_FIELD_U32, struct nvme_feature_image, over_temperature),
	UVF_STATE_FIELD(4, UVF_FIELD_U32, struct nvme_feature_image, under_temperature),
	UVF_STATE_FIELD(5, UVF_FIELD_U32, struct nvme_feature_image, interrupt_coalescing),
	UVF_STATE_FIELD(6, UVF_FIELD_U32, struct nvme_feature_image, write_atomicity),
	UVF_STATE_FIELD(7, UVF_FIELD_U32, struct nvme_feature_image, async_events),
	UVF_STATE_FIELD(8, UVF_FIELD_BYTES, struct nvme_feature_image, not_coalesced),
	UVF_STATE_FIELD(9, UVF_FIELD_U64, struct nvme_feature_image, timestamp),
	UVF_STATE_FIELD(10, UVF_FIELD_BOOL, struct nvme_feature_image, timestamp_from_host),
	UVF_STATE_FIELD(11, UVF_FIELD_BOOL, struct nvme_feature_image, write_cache),
	{0},
};

static const struct uvf_state_field event_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U8, struct nvme_event_image, cid_count),
	UVF_STATE_FIELD(2, UVF_FIELD_U8, struct nvme_event_image, pending),
	UVF_STATE_FIELD(3, UVF_FIELD_U8, struct nvme_event_image, masked),
	UVF_STATE_FIELD(4, UVF_FIELD_BYTES, struct nvme_event_image, cids),
	UVF_STATE_FIELD(5, UVF_FIELD_BYTES, struct nvme_event_image, infos),
	UVF_STATE_FIELD(6, UVF_FIELD_BYTES, struct nvme_event_image, logs),
	{0},
};

static const struct uvf_state_field cq_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U32, struct nvme_cq_image, size),
	UVF_STATE_FIELD(2, UVF_FIELD_U32, struct nvme_cq_image, head),
	UVF_STATE_FIELD(3, UVF_FIELD_U32, struct nvme_cq_image, tail),
	UVF_STATE_FIELD(4, UVF_FIELD_U16, struct nvme_cq_image, vector),
	UVF_STATE_FIELD(5, UVF_FIELD_U16, struct nvme_cq_image, phase),
	UVF_STATE_FIELD(6, UVF_FIELD_BOOL, struct nvme_cq_image, interrupts),
	UVF_STATE_FIELD(7, UVF_FIELD_BOOL, struct nvme_cq_image, pin_waiting),
	UVF_STATE_FIELD(8, UVF_FIELD_U32, struct nvme_cq_image, bad_doorbell),
	UVF_STATE_FIELD(9, UVF_FIELD_U32, struct nvme_cq_image, event_index),
	UVF_STATE_FIELD(10, UVF_FIELD_U64, struct nvme_cq_image, iova),
	{0},
};

static const struct uvf_state_field sq_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U32, struct nvme_sq_image, size),
	UVF_STATE_FIELD(2, UVF_FIELD_U32, struct nvme_sq_image, head),
	UVF_STATE_FIELD(3, UVF_FIELD_U32, struct nvme_sq_image, tail),
	UVF_STATE_FIELD(4, UVF_FIELD_U16, struct nvme_sq_image, cq_id),
	UVF_STATE_FIELD(5, UVF_FIELD_U32, struct nvme_sq_image, bad_doorbell),
	UVF_STATE_FIELD(6, UVF_FIELD_U32, struct nvme_sq_image, event_index),
	UVF_STATE_FIELD(7, UVF_FIELD_U64, struct nvme_sq_image, iova),
	{0},
};

#define PART(section, member, parts, part_fields)                                             \
	{                                                                                     \
		.name = (section), .offset = offsetof(struct nvme_image, member),             \
		.size = sizeof(((struct nvme_image *)0)->member) / (parts), .count = (parts), \
		.fields = (part_fields)                                                       \
	}

const struct nvme_image_part nvme_image_parts[] = {
	PART("make", make, 1, make_fields),
	PART("registers", registers, 1, register_fields),
	PART("features", features, 1, feature_fields),
	PART("events", events, 1, event_fields),
	PART("namespace", namespaces, NVME_MAX_NAMESPACES, namespace_fields),
	PART("cq", cqs, NVME_QUEUES, cq_fields),
	PART("sq", sqs, NVME_QUEUES, sq_fields),
	{0},
};

bool nvme_part_exists(const struct nvme_image *image, const struct nvme_image_part *part,
		      unsigned instance)
{
	if (part->fields == namespace_fields)
		return instance < image->make.namespaces;
	if (part->fields == cq_fields)
		return image->cqs[instance].size;
	if (part->fields == sq_fields)
		return image->sqs[instance].size;
	return true;
}

/* ---- The image, from the controller ---- */

void nvme_make_fill(const struct nvme *ctrl, struct nvme_make *make)
{
	make->queues = (uint16_t)ctrl->queues;
	make->mdts = ctrl->mdts;
	make->namespaces = (uint8_t)ctrl->namespace_count;
	make->mapped_doorbells = ctrl->poll == NVME_POLL_ON;
	make->ioeventfds = ctrl->ioeventfd_count;
	strcpy(make->serial, ctrl->serial);
	strcpy(make->model, ctrl->model);
}

void nvme_namespace_fill(const struct nvme *ctrl, unsigned index,
			 struct nvme_namespace_image *image)
{
	const struct nvme_namespace *ns = &ctrl->namespaces[index];

	strncpy(image->kind, ns->backend->kind, sizeof(image->kind) - 1);
	image->size = ns->backend->size;
	image->smallest_block = ns->backend->block_size;
	image->read_only = ns->backend->read_only;
	image->block_shift = ns->block_shift;
	memcpy(image->uuid, ns->uuid, sizeof(image->uuid));
	image->error_recovery = ctrl->features.error_recovery[index];
}

static void fill_registers(struct nvme *ctrl, struct nvme_register_image *image)
{
	const struct nvme_registers *registers = &ctrl->registers;

	pthread_mutex_lock(&ctrl->state_lock);
	image->cc = registers->cc;
	image->csts = registers->csts;
	image->aqa = registers->aqa;
	image->intms = atomic_load(&registers->intms);
	image->asq = registers->asq;
	image->acq = registers->acq;
	image->reset_wanted = ctrl->reset_wanted;
	image->shutdown_wanted = ctrl->shutdown_wanted;
	image->unsafe_shutdowns = ctrl->unsafe_shutdowns;
	pthread_mutex_unlock(&ctrl->state_lock);
	image->shadowed = atomic_load(&ctrl->shadowed);
	image->shadow = ctrl->pollers[0].shadow.iova;
	image->event = ctrl->pollers[0].event.iova;
	image->uptime = nvme_now_ms() - ctrl->started_at;
	pthread_mutex_lock(&ctrl->log_lock);
	image->error_count = ctrl->error_count;
	pthread_mutex_unlock(&ctrl->log_lock);
	for (unsigned i = 0; i < ctrl->poller_count; i++) {
		struct nvme_counters *counters = &ctrl->pollers[i].counters;

		image->read_blocks += atomic_load(&counters->read_blocks);
		image->written_blocks += atomic_load(&counters->written_blocks);
		image->reads += atomic_load(&counters->reads);
		image->writes += atomic_load(&counters->writes);
		image->media_errors += atomic_load(&counters->media_errors);
	}
}

static void fill_features(struct nvme *ctrl, struct nvme_feature_image *image)
{
	struct nvme_features *all = &ctrl->features;

	image->arbitration = all->arbitration;
	image->power = all->power;
	image->over_temperature = all->over_temperature;
	image->under_temperature = all->under_temperature;
	image->interrupt_coalescing = all->interrupt_coalescing;
	image->write_atomicity = all->write_atomicity;
	image->async_events = all->async_events;
	for (unsigned i = 0; i < NVME_QUEUES; i++)
		image->not_coalesced[i] = all->vector_config[i] != 0;
	image->timestamp_from_host = all->timestamp_from_host;
	if (all->timestamp_from_host)
		image->timestamp = all->timestamp + (nvme_now_ms() - all->timestamp_set_at);
	image->write_cache = atomic_load(&all->write_cache);
}

static void fill_events(struct nvme *ctrl, struct nvme_event_image *image)
{
	const struct nvme_events *events = &ctrl->events;

	pthread_mutex_lock(&ctrl->event_lock);
	image->cid_count = (uint8_t)events->cid_count;
	image->masked = events->masked;
	memcpy(image->cids, events->cids, sizeof(image->cids));
	for (unsigned i = 0; i < UVF_ARRAY_SIZE(events->types); i++) {
		image->pending |= (uint8_t)(events->types[i].pending << i);
		image->infos[i] = events->types[i].info;
		image->logs[i] = events->types[i].log;
	}
	pthread_mutex_unlock(&ctrl->event_lock);
}

static void fill_queues(struct nvme *ctrl, struct nvme_image *image)
{
	for (unsigned id = 0; id < NVME_QUEUES; id++) {
		const struct nvme_cq *cq = &ctrl->cqs[id];
		const struct nvme_sq *sq = &ctrl->sqs[id];

		if (cq->state.size)
			image->cqs[id] = (struct nvme_cq_image){
				.size = cq->state.size,
				.head = cq->state.head,
				.tail = cq->state.tail,
				.vector = cq->state.vector,
				.phase = cq->state.phase,
				.interrupts = cq->state.interrupts,
				.pin_waiting = cq->pin_waiting,
				.bad_doorbell = cq->bad_doorbell,
				.event_index = cq->event_index,
				.iova = cq->ring.iova,
			};
		if (sq->state.size)
			image->sqs[id] = (struct nvme_sq_image){
				.size = sq->state.size,
				.head = sq->state.head,
				.tail = sq->state.tail,
				.cq_id = sq->state.cq_id,
				.bad_doorbell = sq->bad_doorbell,
				.event_index = sq->event_index,
				.iova = sq->ring.iova,
			};
	}
}

/* ---- The stream ---- */

static int write_image(const struct nvme_image *image, struct uvf_state_writer *writer)
{
	int ret = 0;

	for (const struct nvme_image_part *part = nvme_image_parts; part->name; part++) {
		for (unsigned i = 0; i < part->count && !ret; i++) {
			const struct uvf_state_section section = {.name = part->name,
								  .instance = i};

			if (nvme_part_exists(image, part, i))
				ret = uvf_state_write(writer, section, part->fields,
						      (const char *)image + part->offset +
							      i * part->size);
		}
	}
	return ret;
}

static int write_bytes(struct uvf_state_writer *writer, const char *name, uint32_t instance,
		       const void *bytes, size_t size)
{
	const struct uvf_state_section section = {.name = name, .instance = instance};

	return uvf_state_write_bytes(writer, section, bytes, size);
}

static int write_bad(struct nvme_namespace *ns, uint32_t index, struct uvf_state_writer *writer)
{
	struct nvme_bad_range ranges[NVME_BAD_RANGES];
	unsigned count;

	pthread_mutex_lock(&ns->bad_lock);
	count = atomic_load(&ns->bad_count);
	for (unsigned i = 0; i < count; i++)
		ranges[i] = (struct nvme_bad_range){htole64(ns->bad[i].first),
						    htole64(ns->bad[i].last)};
	pthread_mutex_unlock(&ns->bad_lock);
	if (!count)
		return 0;
	return write_bytes(writer, "bad", index, ranges, count * sizeof(ranges[0]));
}

static int write_rest(struct nvme *ctrl, struct uvf_state_writer *writer)
{
	int ret = write_bytes(writer, "doorbells", 0, (const void *)atomic_load(&ctrl->doorbells),
			      2 * NVME_QUEUES * sizeof(uint32_t));

	if (!ret) {
		pthread_mutex_lock(&ctrl->log_lock);
		ret = write_bytes(writer, "errors", 0, ctrl->errors, sizeof(ctrl->errors));
		pthread_mutex_unlock(&ctrl->log_lock);
	}
	for (unsigned id = 0; id < NVME_QUEUES && !ret; id++) {
		const struct nvme_cq *cq = &ctrl->cqs[id];

		if (cq->state.size && cq->staged_count)
			ret = write_bytes(writer, "staged", id, cq->staged,
					  cq->staged_count * sizeof(cq->staged[0]));
	}
	for (unsigned i = 0; i < ctrl->namespace_count && !ret; i++) {
		ret = write_bad(&ctrl->namespaces[i], i, writer);
		if (!ret && ctrl->namespaces[i].backend->bytes)
			ret = nvme_storage_write(ctrl, &ctrl->namespaces[i], writer);
	}
	return ret;
}

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct nvme *ctrl = uvf_device_opaque(dev);
	struct nvme_image *image = calloc(1, sizeof(*image));
	int ret;

	if (!image)
		return -ENOMEM;
	nvme_make_fill(ctrl, &image->make);
	for (unsigned i = 0; i < ctrl->namespace_count; i++)
		nvme_namespace_fill(ctrl, i, &image->namespaces[i]);
	fill_registers(ctrl, &image->registers);
	fill_features(ctrl, &image->features);
	fill_events(ctrl, &image->events);
	fill_queues(ctrl, image);
	ret = write_image(image, writer);
	free(image);
	return ret ? ret : write_rest(ctrl, writer);
}

/* The most that it can be: what of the storage is empty isn't looked for. */
static uint64_t size(struct uvf_device *dev)
{
	return 32768 + nvme_storage_size(uvf_device_opaque(dev));
}

const struct uvf_migration_ops nvme_migration = {
	.name = "nvme",
	.major = 1,
	.sections = sections,
	.quiesce = nvme_quiesce,
	.stop = nvme_stop,
	.start = nvme_start,
	.unquiesce = nvme_unquiesce,
	.save = save,
	.check = nvme_check,
	.load = nvme_load,
	.save_early = nvme_save_early,
	.early_size = nvme_early_size,
	.end_early = nvme_end_early,
	.place = nvme_place,
	.size = size,
};
