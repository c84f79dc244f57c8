/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Features, as a table. None is saved: each reset gives the defaults back.
 */
#include "devices/nvme/nvme.h"

#include <time.h>

#define FEATURE_SAVE	   (1u << 31) /* CDW10 of Set Features */
#define SMART_EVENT_OVER   1	      /* Asynchronous Event Information: temperature */
#define CRITICAL_THRESHOLD (1u << 1)
#define OVER_DEFAULT	   (NVME_TEMPERATURE + 33)
#define EVENTS_OFFERED	   0x1f /* AEC: SMART critical warnings */

enum { SELECT_CURRENT, SELECT_DEFAULT, SELECT_SAVED, SELECT_CAPABILITIES };

struct feature {
	/* @current: else the default. */
	uint16_t (*get)(struct nvme_request *request, bool current);
	uint16_t (*set)(struct nvme_request *request, uint32_t value);
	bool per_namespace;
};

static struct nvme_features *features(struct nvme_request *request)
{
	return &request->ctrl->features;
}

void nvme_features_reset(struct nvme *ctrl)
{
	struct nvme_features *all = &ctrl->features;

	all->arbitration = 7; /* no limit but our own */
	all->power = 0;
	all->over_temperature = OVER_DEFAULT;
	all->under_temperature = 0;
	memset(all->error_recovery, 0, sizeof(all->error_recovery));
	all->interrupt_coalescing = 0;
	memset(all->vector_config, 0, sizeof(all->vector_config));
	all->write_atomicity = 0;
	all->async_events = EVENTS_OFFERED;
	atomic_store(&all->write_cache, true);
	atomic_store(&all->burst, NVME_BATCH);
}

static uint16_t get_arbitration(struct nvme_request *request, bool current)
{
	request->result = current ? features(request)->arbitration : 7;
	return 0;
}

static uint16_t set_arbitration(struct nvme_request *request, uint32_t value)
{
	uint32_t burst = value & 7;

	/* The weights are for an arbitration that isn't offered. */
	features(request)->arbitration = burst;
	atomic_store(&features(request)->burst,
		     1u << burst < NVME_BATCH ? 1u << burst : NVME_BATCH);
	return 0;
}

static uint16_t get_power(struct nvme_request *request, bool current)
{
	request->result = current ? features(request)->power : 0;
	return 0;
}

static uint16_t set_power(struct nvme_request *request, uint32_t value)
{
	if (value & 31) /* there is one state */
		return NVME_INVALID_FIELD;
	features(request)->power = value & 0xff;
	return 0;
}

/* THSEL: which threshold, TMPSEL: of which sensor. NULL: there isn't one. */
static uint32_t *threshold(struct nvme_request *request, uint32_t value)
{
	uint32_t sensor = value >> 16 & 15, type = value >> 20 & 3;

	if (type > 1 || (sensor && sensor != 15))
		return NULL;
	return type ? &features(request)->under_temperature : &features(request)->over_temperature;
}

static uint16_t get_temperature(struct nvme_request *request, bool current)
{
	uint32_t which = le32toh(request->sqe->cdw11);
	const uint32_t *at = threshold(request, which);

	if (!at || (which >> 16 & 15) == 15)
		return NVME_INVALID_FIELD;
	request->result = current ? *at : which >> 20 & 3 ? 0 : OVER_DEFAULT;
	return 0;
}

static uint16_t set_temperature(struct nvme_request *request, uint32_t value)
{
	struct nvme_features *all = features(request);
	uint32_t *at = threshold(request, value);

	if (!at)
		return NVME_INVALID_FIELD;
	*at = value & 0xffff;
	if ((NVME_TEMPERATURE >= all->over_temperature ||
	     NVME_TEMPERATURE <= all->under_temperature) &&
	    all->async_events & CRITICAL_THRESHOLD)
		nvme_event(request->ctrl, NVME_EVENT_SMART, SMART_EVENT_OVER, 2);
	return 0;
}

static uint16_t get_error_recovery(struct nvme_request *request, bool current)
{
	struct nvme_namespace *ns = nvme_namespace(request->ctrl, le32toh(request->sqe->nsid));

	if (!ns)
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	request->result = current ? features(request)->error_recovery[ns->id - 1] : 0;
	return 0;
}

static uint16_t set_error_recovery(struct nvme_request *request, uint32_t value)
{
	uint32_t nsid = le32toh(request->sqe->nsid);

	if (nsid != NVME_NSID_ALL && !nvme_namespace(request->ctrl, nsid))
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	if (value & 1u << 16) /* errors for deallocated blocks: not offered */
		return NVME_INVALID_FIELD;
	for (uint32_t i = 0; i < request->ctrl->namespace_count; i++)
		if (nsid == NVME_NSID_ALL || nsid == i + 1)
			features(request)->error_recovery[i] = value & 0xffff;
	return 0;
}

static uint16_t get_write_cache(struct nvme_request *request, bool current)
{
	if (!request->ctrl->any_volatile)
		return NVME_INVALID_FIELD;
	request->result = current ? atomic_load(&features(request)->write_cache) : 1;
	return 0;
}

static uint16_t set_write_cache(struct nvme_request *request, uint32_t value)
{
	struct nvme_slot *slot;

	if (!request->ctrl->any_volatile)
		return NVME_INVALID_FIELD;
	atomic_store(&features(request)->write_cache, value & 1);
	if (value & 1)
		return 0;
	/* What was written before must be stable too. */
	slot = nvme_slot_take(request);
	slot->end = request->ctrl->namespace_count;
	slot->step = nvme_flush_step;
	return nvme_slot_start(slot, request);
}

static uint32_t queue_pairs(struct nvme_request *request)
{
	uint32_t last = request->ctrl->queues - 1;

	return last << 16 | last;
}

static uint16_t get_queues(struct nvme_request *request, bool current)
{
	request->result = queue_pairs(request);
	return 0;
}

static uint16_t set_queues(struct nvme_request *request, uint32_t value)
{
	if ((value & 0xffff) == 0xffff || value >> 16 == 0xffff)
		return NVME_INVALID_FIELD;
	for (unsigned id = 1; id < NVME_QUEUES; id++)
		if (request->ctrl->cqs[id].state.size)
			return NVME_SC_COMMAND_SEQUENCE | NVME_SC_DNR;
	/* As many as there are, whatever was asked for. */
	request->result = queue_pairs(request);
	return 0;
}

static uint16_t get_coalescing(struct nvme_request *request, bool current)
{
	request->result = current ? features(request)->interrupt_coalescing : 0;
	return 0;
}

/* A hint: completions of one round share an interrupt anyway. */
static uint16_t set_coalescing(struct nvme_request *request, uint32_t value)
{
	features(request)->interrupt_coalescing = value & 0xffff;
	return 0;
}

static uint16_t get_vector(struct nvme_request *request, bool current)
{
	uint32_t vector = le32toh(request->sqe->cdw11) & 0xffff;

	if (vector >= NVME_QUEUES)
		return NVME_INVALID_FIELD;
	request->result = vector | (current ? features(request)->vector_config[vector] : 0);
	return 0;
}

static uint16_t set_vector(struct nvme_request *request, uint32_t value)
{
	uint32_t vector = value & 0xffff;

	if (vector >= NVME_QUEUES)
		return NVME_INVALID_FIELD;
	features(request)->vector_config[vector] = value & 1u << 16;
	return 0;
}

static uint16_t get_atomicity(struct nvme_request *request, bool current)
{
	request->result = current ? features(request)->write_atomicity : 0;
	return 0;
}

static uint16_t set_atomicity(struct nvme_request *request, uint32_t value)
{
	features(request)->write_atomicity = value & 1;
	return 0;
}

static uint16_t get_events(struct nvme_request *request, bool current)
{
	request->result = current ? features(request)->async_events : EVENTS_OFFERED;
	return 0;
}

static uint16_t set_events(struct nvme_request *request, uint32_t value)
{
	features(request)->async_events = value & EVENTS_OFFERED;
	return 0;
}

/* ms in 48 bits; then whether it was set, and that it never stopped. */
static uint16_t get_timestamp(struct nvme_request *request, bool current)
{
	const struct nvme_features *all = features(request);
	uint64_t now = nvme_now_ms() - request->ctrl->started_at;
	uint8_t bytes[8];

	if (current && all->timestamp_from_host)
		now = all->timestamp + (nvme_now_ms() - all->timestamp_set_at);
	uvf_put_le64(bytes, now & ((1ULL << 48) - 1));
	bytes[6] = current && all->timestamp_from_host ? 1 << 1 : 0;
	return nvme_data_out(request, bytes, sizeof(bytes));
}

static uint16_t set_timestamp(struct nvme_request *request, uint32_t value)
{
	struct nvme_features *all = features(request);
	uint8_t bytes[8];
	uint16_t status = nvme_data_in(request, bytes, sizeof(bytes));

	if (status)
		return status;
	all->timestamp = uvf_get_le64(bytes) & ((1ULL << 48) - 1);
	all->timestamp_set_at = nvme_now_ms();
	all->timestamp_from_host = true;
	return 0;
}

static const struct feature table[256] = {
	[0x01] = {get_arbitration, set_arbitration},
	[0x02] = {get_power, set_power},
	[0x04] = {get_temperature, set_temperature},
	[0x05] = {get_error_recovery, set_error_recovery, .per_namespace = true},
	[0x06] = {get_write_cache, set_write_cache},
	[0x07] = {get_queues, set_queues},
	[0x08] = {get_coalescing, set_coalescing},
	[0x09] = {get_vector, set_vector},
	[0x0a] = {get_atomicity, set_atomicity},
	[0x0b] = {get_events, set_events},
	[0x0e] = {get_timestamp, set_timestamp},
};

uint16_t nvme_admin_get_features(struct nvme_request *request)
{
	uint32_t cdw10 = le32toh(request->sqe->cdw10);
	const struct feature *feature = &table[cdw10 & 0xff];
	uint32_t select = cdw10 >> 8 & 7;

	if (!feature->get || select > SELECT_CAPABILITIES)
		return NVME_INVALID_FIELD;
	if (select == SELECT_CAPABILITIES) {
		/* Saveable, namespace specific, changeable. */
		request->result = 1u << 2 | (feature->per_namespace ? 1u << 1 : 0);
		return 0;
	}
	return feature->get(request, select == SELECT_CURRENT);
}

uint16_t nvme_admin_set_features(struct nvme_request *request)
{
	uint32_t cdw10 = le32toh(request->sqe->cdw10), nsid = le32toh(request->sqe->nsid);
	const struct feature *feature = &table[cdw10 & 0xff];

	if (!feature->set)
		return NVME_INVALID_FIELD;
	if (cdw10 & FEATURE_SAVE)
		return NVME_SC_NOT_SAVEABLE | NVME_SC_DNR;
	if (!feature->per_namespace && nsid && nsid != NVME_NSID_ALL)
		return NVME_SC_NOT_NAMESPACE_SPECIFIC | NVME_SC_DNR;
	return feature->set(request, le32toh(request->sqe->cdw11));
}
