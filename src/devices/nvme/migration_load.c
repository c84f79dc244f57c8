/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migration, where it arrives: whether a stream is of a controller like this one and makes sense,
 * and the controller that is made of it. All under the device's lock, with no poller doing
 * anything.
 */
#include "devices/nvme/migration.h"

#include <errno.h>
#include <stdlib.h>

#define NO_SENSE(error, what) uvf_fail((error), -EINVAL, "%s makes no sense", (what))

/* ---- Reading ---- */

static int read_image(struct uvf_state_reader *reader, struct nvme_image *image,
		      struct uvf_error *error)
{
	for (const struct nvme_image_part *part = nvme_image_parts; part->name; part++) {
		for (unsigned i = 0; i < part->count; i++) {
			char *to = (char *)image + part->offset + i * part->size;
			int ret = uvf_state_read(reader, part->name, i, part->fields, to);

			if (ret == -ENOENT && part->count > 1)
				continue;
			if (ret)
				return uvf_fail(error, -EINVAL, "its section %s is %s", part->name,
						ret == -ENOENT ? "missing" : "not as it should be");
		}
	}
	return 0;
}

/* ---- Whether it is of a controller like this one ---- */

static int check_make(const struct nvme *ctrl, struct nvme_image *image, struct uvf_error *error)
{
	struct nvme_make *its = &image->make, ours = {0};
	bool lasting = ctrl->serial_given;

	nvme_make_fill(ctrl, &ours);
	its->serial[sizeof(its->serial) - 1] = '\0';
	its->model[sizeof(its->model) - 1] = '\0';
	for (unsigned i = 0; i < ctrl->namespace_count; i++)
		lasting |= ctrl->namespaces[i].backend->lasting;
	if (its->namespaces != ours.namespaces)
		return uvf_fail(error, -EINVAL, "it has %u namespaces, not %u", its->namespaces,
				ours.namespaces);
	if (its->queues != ours.queues || its->mdts != ours.mdts)
		return uvf_fail(error, -EINVAL,
				"it is of a controller with queues=%u,mdts=%u, not %u and %u",
				its->queues, its->mdts, ours.queues, ours.mdts);
	if (its->mapped_doorbells != ours.mapped_doorbells)
		return uvf_fail(error, -EINVAL, "its doorbells are %s a driver (poll=)",
				its->mapped_doorbells ? "mapped into" : "not mapped into");
	if (its->ioeventfds != ours.ioeventfds)
		return uvf_fail(error, -EINVAL, "it is of a controller with ioeventfd=%s",
				its->ioeventfds ? "on" : "off");
	if (strcmp(its->model, ours.model))
		return uvf_fail(error, -EINVAL, "its model number is '%s', not '%s'", its->model,
				ours.model);
	/* Of what has no identity of its own any can be taken over. */
	if (lasting && strcmp(its->serial, ours.serial))
		return uvf_fail(error, -EINVAL, "its serial number is '%s', not '%s' (serial=)",
				its->serial, ours.serial);
	return 0;
}

static int check_namespace(const struct nvme *ctrl, unsigned index,
			   struct nvme_namespace_image *its, struct uvf_error *error)
{
	const struct nvme_namespace *ns = &ctrl->namespaces[index];
	struct nvme_namespace_image ours = {0};

	nvme_namespace_fill(ctrl, index, &ours);
	its->kind[sizeof(its->kind) - 1] = '\0';
	if (strcmp(its->kind, ours.kind))
		return uvf_fail(error, -EINVAL, "its namespace %u is %s=, not %s=", ns->id,
				its->kind, ours.kind);
	if (its->size != ours.size)
		return uvf_fail(error, -EINVAL, "its namespace %u has %llu bytes, not %llu", ns->id,
				(unsigned long long)its->size, (unsigned long long)ours.size);
	if (its->read_only != ours.read_only)
		return uvf_fail(error, -EINVAL, "its namespaces have readonly=%s",
				its->read_only ? "on" : "off");
	if (its->smallest_block != ours.smallest_block)
		return uvf_fail(
			error, -EINVAL,
			"its namespace %u has blocks of %u bytes at least, not %u (direct=)",
			ns->id, its->smallest_block, ours.smallest_block);
	if ((its->block_shift != 9 && its->block_shift != 12) ||
	    1u << its->block_shift < its->smallest_block || its->size >> its->block_shift == 0)
		return NO_SENSE(error, "its format");
	if ((ctrl->serial_given || ns->backend->lasting) &&
	    memcmp(its->uuid, ours.uuid, sizeof(ours.uuid)))
		return uvf_fail(error, -EINVAL, "its namespace %u is another one, by its UUID",
				ns->id);
	return 0;
}

/* ---- Whether it makes sense ---- */

static uint32_t used(const struct nvme_cq_image *cq)
{
	return cq->tail >= cq->head ? cq->tail - cq->head : cq->tail + cq->size - cq->head;
}

static bool ring_makes_sense(uint32_t size, uint32_t head, uint32_t tail, uint64_t iova)
{
	return size >= 2 && size <= NVME_MAX_ENTRIES && head < size && tail < size &&
	       !(iova & (NVME_PAGE_SIZE - 1));
}

static int check_queues(const struct nvme_image *image, struct uvf_error *error)
{
	bool ready = image->registers.csts & NVME_CSTS_RDY;

	for (unsigned id = 0; id < NVME_QUEUES; id++) {
		const struct nvme_cq_image *cq = &image->cqs[id];
		const struct nvme_sq_image *sq = &image->sqs[id];

		if ((cq->size || sq->size) && id > image->make.queues)
			return NO_SENSE(error, "a queue's number");
		if (cq->size && (!ring_makes_sense(cq->size, cq->head, cq->tail, cq->iova) ||
				 cq->vector > NVME_MAX_QUEUES || cq->phase > 1))
			return NO_SENSE(error, "a completion queue");
		if (sq->size &&
		    (!ring_makes_sense(sq->size, sq->head, sq->tail, sq->iova) ||
		     sq->cq_id >= NVME_QUEUES || !image->cqs[sq->cq_id].size || !sq->cq_id != !id))
			return NO_SENSE(error, "a submission queue");
	}
	/* All else hangs on the admin queue. */
	if (ready && (!image->cqs[0].size || !image->sqs[0].size))
		return NO_SENSE(error, "a controller that is ready without an admin queue");
	return 0;
}

static int check_state(struct uvf_state_reader *reader, const struct nvme_image *image,
		       struct uvf_error *error)
{
	const struct nvme_register_image *registers = &image->registers;
	const struct nvme_event_image *events = &image->events;
	const void *bytes;

	if (registers->csts & ~(uint32_t)(NVME_CSTS_RDY | NVME_CSTS_CFS | NVME_CSTS_SHST_MASK) ||
	    registers->cc & ~(uint32_t)NVME_CC_WRITABLE)
		return NO_SENSE(error, "a register");
	if (registers->shadowed && (registers->shadow | registers->event) & (NVME_PAGE_SIZE - 1))
		return NO_SENSE(error, "a doorbell buffer");
	if (events->cid_count > NVME_AERS || image->features.arbitration > 7)
		return NO_SENSE(error, "a feature");
	if (uvf_state_read_bytes(reader, "doorbells", 0, &bytes) !=
	    2 * NVME_QUEUES * (ssize_t)sizeof(uint32_t))
		return NO_SENSE(error, "its doorbells");
	if (uvf_state_read_bytes(reader, "errors", 0, &bytes) !=
	    NVME_ERRORS * (ssize_t)sizeof(struct nvme_error_entry))
		return NO_SENSE(error, "its error log");
	for (unsigned id = 0; id < NVME_QUEUES; id++) {
		const struct nvme_cq_image *cq = &image->cqs[id];
		ssize_t size = uvf_state_read_bytes(reader, "staged", id, &bytes);

		if (size < 0)
			continue;
		if (!cq->size || size % (ssize_t)sizeof(struct nvme_cqe) ||
		    (size_t)size > sizeof(((struct nvme_cq *)0)->staged) ||
		    (size_t)size / sizeof(struct nvme_cqe) > cq->size - 1 - used(cq))
			return NO_SENSE(error, "what is to be completed");
	}
	return 0;
}

static int check_bad(struct uvf_state_reader *reader, const struct nvme_image *image,
		     unsigned index, struct uvf_error *error)
{
	const struct nvme_namespace_image *ns = &image->namespaces[index];
	const struct nvme_bad_range *ranges;
	const void *bytes;
	ssize_t size = uvf_state_read_bytes(reader, "bad", index, &bytes);

	if (size == -ENOENT)
		return 0;
	if (size % (ssize_t)sizeof(*ranges) || size > NVME_BAD_RANGES * (ssize_t)sizeof(*ranges))
		return NO_SENSE(error, "a list of blocks");
	ranges = bytes;
	for (size_t i = 0; i < (size_t)size / sizeof(*ranges); i++) {
		uint64_t first = le64toh(ranges[i].first), last = le64toh(ranges[i].last);

		if (first > last || last >= ns->size >> ns->block_shift)
			return NO_SENSE(error, "a list of blocks");
	}
	return 0;
}

static int read_and_check(const struct nvme *ctrl, struct uvf_state_reader *reader,
			  struct nvme_image *image, struct uvf_error *error)
{
	int ret = read_image(reader, image, error);

	if (!ret)
		ret = check_make(ctrl, image, error);
	for (unsigned i = 0; i < ctrl->namespace_count && !ret; i++) {
		ret = check_namespace(ctrl, i, &image->namespaces[i], error);
		if (!ret)
			ret = check_bad(reader, image, i, error);
		if (!ret && ctrl->namespaces[i].backend->bytes &&
		    nvme_storage_check(&ctrl->namespaces[i], reader))
			ret = NO_SENSE(error, "what is stored");
	}
	if (!ret)
		ret = check_queues(image, error);
	if (!ret)
		ret = check_state(reader, image, error);
	return ret;
}

int nvme_check(struct uvf_device *dev, struct uvf_state_reader *reader, struct uvf_error *error)
{
	struct nvme_image *image = calloc(1, sizeof(*image));
	int ret = image ? read_and_check(uvf_device_opaque(dev), reader, image, error)
			: uvf_fail(error, -ENOMEM, "no memory");

	free(image);
	return ret;
}

/* ---- The controller, from the image ---- */

static void load_registers(struct nvme *ctrl, const struct nvme_register_image *image)
{
	struct nvme_registers *registers = &ctrl->registers;
	struct nvme_counters *counters = &ctrl->pollers[0].counters;

	pthread_mutex_lock(&ctrl->state_lock);
	registers->cc = image->cc;
	registers->csts = image->csts;
	registers->aqa = image->aqa;
	atomic_store(&registers->intms, image->intms);
	registers->asq = image->asq;
	registers->acq = image->acq;
	ctrl->reset_wanted = image->reset_wanted;
	ctrl->shutdown_wanted = image->shutdown_wanted;
	ctrl->unsafe_shutdowns = image->unsafe_shutdowns;
	pthread_mutex_unlock(&ctrl->state_lock);
	ctrl->started_at = nvme_now_ms() - image->uptime;
	for (unsigned i = 0; i < ctrl->poller_count; i++)
		ctrl->pollers[i].counters = (struct nvme_counters){0};
	atomic_store(&counters->read_blocks, image->read_blocks);
	atomic_store(&counters->written_blocks, image->written_blocks);
	atomic_store(&counters->reads, image->reads);
	atomic_store(&counters->writes, image->writes);
	atomic_store(&counters->media_errors, image->media_errors);
	/* Memory is mapped by the time that it is used: where it isn't, as if it had been unmapped.
	 */
	for (unsigned i = 0; i < ctrl->poller_count && image->shadowed; i++) {
		ctrl->pollers[i].shadow = (struct nvme_ring){.iova = image->shadow,
							     .size = NVME_PAGE_SIZE,
							     .prot = UVF_PROT_READ,
							     .lost = true};
		ctrl->pollers[i].event = (struct nvme_ring){.iova = image->event,
							    .size = NVME_PAGE_SIZE,
							    .prot = UVF_PROT_WRITE,
							    .lost = true};
	}
	atomic_store(&ctrl->shadowed, image->shadowed);
}

static void load_features(struct nvme *ctrl, const struct nvme_image *image)
{
	const struct nvme_feature_image *from = &image->features;
	struct nvme_features *all = &ctrl->features;

	all->arbitration = from->arbitration;
	all->power = from->power;
	all->over_temperature = from->over_temperature;
	all->under_temperature = from->under_temperature;
	all->interrupt_coalescing = from->interrupt_coalescing;
	all->write_atomicity = from->write_atomicity;
	all->async_events = from->async_events;
	for (unsigned i = 0; i < NVME_QUEUES; i++)
		all->vector_config[i] = from->not_coalesced[i] ? 1u << 16 : 0;
	all->timestamp_from_host = from->timestamp_from_host;
	all->timestamp = from->timestamp;
	all->timestamp_set_at = nvme_now_ms();
	atomic_store(&all->write_cache, from->write_cache);
	atomic_store(&all->burst,
		     1u << from->arbitration < NVME_BATCH ? 1u << from->arbitration : NVME_BATCH);
	for (unsigned i = 0; i < ctrl->namespace_count; i++)
		all->error_recovery[i] = image->namespaces[i].error_recovery;
}

static void load_events(struct nvme *ctrl, const struct nvme_event_image *image)
{
	struct nvme_events *events = &ctrl->events;

	pthread_mutex_lock(&ctrl->event_lock);
	events->cid_count = image->cid_count;
	events->masked = image->masked;
	memcpy(events->cids, image->cids, sizeof(events->cids));
	for (unsigned i = 0; i < UVF_ARRAY_SIZE(events->types); i++) {
		events->types[i].pending = image->pending >> i & 1;
		events->types[i].info = image->infos[i];
		events->types[i].log = image->logs[i];
	}
	pthread_mutex_unlock(&ctrl->event_lock);
}

static void load_errors(struct nvme *ctrl, struct uvf_state_reader *reader, uint64_t count)
{
	const void *bytes;

	pthread_mutex_lock(&ctrl->log_lock);
	if (uvf_state_read_bytes(reader, "errors", 0, &bytes) == (ssize_t)sizeof(ctrl->errors))
		memcpy(ctrl->errors, bytes, sizeof(ctrl->errors));
	ctrl->error_count = count;
	pthread_mutex_unlock(&ctrl->log_lock);
}

static void load_cq(struct nvme *ctrl, struct uvf_state_reader *reader, uint16_t id,
		    const struct nvme_cq_image *image)
{
	struct nvme_cq *cq = &ctrl->cqs[id];
	const void *bytes;
	ssize_t size;

	cq->ring = (struct nvme_ring){.iova = image->iova,
				      .size = image->size << NVME_CQES,
				      .prot = UVF_PROT_WRITE,
				      .lost = true};
	nvme_cq_start(ctrl, id, image->size, image->interrupts, image->vector);
	cq->state.head = image->head;
	cq->state.tail = image->tail;
	cq->state.phase = image->phase;
	cq->bad_doorbell = image->bad_doorbell;
	cq->event_index = image->event_index;
	size = uvf_state_read_bytes(reader, "staged", id, &bytes);
	if (size > 0) {
		memcpy(cq->staged, bytes, (size_t)size);
		cq->staged_count = (unsigned)((size_t)size / sizeof(cq->staged[0]));
		cq->outstanding = cq->staged_count;
		cq->queued = true;
		cq->poller->dirty[cq->poller->dirty_count++] = cq;
	}
	if (image->pin_waiting)
		nvme_pin_update(ctrl, cq);
}

static void load_sq(struct nvme *ctrl, uint16_t id, const struct nvme_sq_image *image)
{
	struct nvme_sq *sq = &ctrl->sqs[id];

	sq->ring = (struct nvme_ring){.iova = image->iova,
				      .size = image->size << NVME_SQES,
				      .prot = UVF_PROT_READ,
				      .lost = true};
	nvme_sq_start(ctrl, id, &ctrl->cqs[image->cq_id], image->size);
	sq->state.head = image->head;
	sq->state.tail = image->tail;
	sq->bad_doorbell = image->bad_doorbell;
	sq->event_index = image->event_index;
}

static int load_namespace(struct nvme *ctrl, struct uvf_state_reader *reader, unsigned index,
			  const struct nvme_namespace_image *image)
{
	struct nvme_namespace *ns = &ctrl->namespaces[index];
	const struct nvme_bad_range *ranges;
	const void *bytes = NULL;
	ssize_t size = uvf_state_read_bytes(reader, "bad", index, &bytes);
	unsigned count = size > 0 ? (unsigned)((size_t)size / sizeof(*ranges)) : 0;

	ns->block_shift = image->block_shift;
	ns->blocks = image->size >> image->block_shift;
	memcpy(ns->uuid, image->uuid, sizeof(ns->uuid));
	ranges = bytes;
	pthread_mutex_lock(&ns->bad_lock);
	for (unsigned i = 0; i < count; i++) {
		ns->bad[i].first = le64toh(ranges[i].first);
		ns->bad[i].last = le64toh(ranges[i].last);
	}
	atomic_store(&ns->bad_count, count);
	pthread_mutex_unlock(&ns->bad_lock);
	return ns->backend->bytes ? nvme_storage_load(ctrl, ns, reader) : 0;
}

/* With all pollers' locks. */
static int load_all(struct nvme *ctrl, struct uvf_state_reader *reader,
		    const struct nvme_image *image)
{
	uint32_t csts = image->registers.csts;
	const void *doorbells = NULL;
	int ret = 0;

	atomic_store(&ctrl->live, false);
	nvme_queues_drop(ctrl);
	strcpy(ctrl->serial, image->make.serial);
	for (unsigned i = 0; i < ctrl->namespace_count && !ret; i++)
		ret = load_namespace(ctrl, reader, i, &image->namespaces[i]);
	load_registers(ctrl, &image->registers);
	load_features(ctrl, image);
	load_events(ctrl, &image->events);
	load_errors(ctrl, reader, image->registers.error_count);
	for (unsigned id = 0; id < NVME_QUEUES; id++)
		if (image->cqs[id].size)
			load_cq(ctrl, reader, (uint16_t)id, &image->cqs[id]);
	for (unsigned id = 0; id < NVME_QUEUES; id++)
		if (image->sqs[id].size)
			load_sq(ctrl, (uint16_t)id, &image->sqs[id]);
	if (uvf_state_read_bytes(reader, "doorbells", 0, &doorbells) > 0)
		for (unsigned i = 0; i < 2 * NVME_QUEUES; i++)
			atomic_store(&ctrl->doorbells[i],
				     htole32(uvf_get_le32((const uint8_t *)doorbells + 4 * i)));
	atomic_store(&ctrl->live, (csts & (NVME_CSTS_RDY | NVME_CSTS_CFS)) == NVME_CSTS_RDY);
	return ret;
}

int nvme_load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	struct nvme *ctrl = uvf_device_opaque(dev);
	struct nvme_image *image = calloc(1, sizeof(*image));
	struct uvf_error error;
	int ret = image ? read_and_check(ctrl, reader, image, &error) : -ENOMEM;

	if (!ret) {
		for (unsigned i = 0; i < ctrl->poller_count; i++)
			nvme_poller_pause(&ctrl->pollers[i]);
		ret = load_all(ctrl, reader, image);
		for (unsigned i = ctrl->poller_count; i--;)
			nvme_poller_resume(&ctrl->pollers[i]);
	}
	if (!ret)
		nvme_storage_keep(ctrl);
	free(image);
	return ret;
}
