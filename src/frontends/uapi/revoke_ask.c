/* SPDX-License-Identifier: BSD-3-Clause */
/* What devices ask of the tracer: that mappings follow areas; and what they are told of it. */
#include <uvfio/remap.h>

#include "frontends/uapi/tracer_private.h"

void uapi_tracer_areas_changed(struct uapi_device *device, uint32_t index, uint64_t generation)
{
	struct uapi_tracer *tracer = device->run->tracer;

	if (!tracer || index >= UAPI_BARS)
		return;
	pthread_mutex_lock(&tracer->lock);
	device->changes[index].generation = generation;
	device->changes[index].asked = true;
	tracer->areas_changed = true;
	uapi_bell_ring(&tracer->bell);
	pthread_mutex_unlock(&tracer->lock);
}

bool uapi_revocation_take(struct uapi_tracer *tracer)
{
	struct uvf_run *run = tracer->run;
	bool any;

	pthread_mutex_lock(&tracer->lock);
	any = tracer->areas_changed;
	tracer->areas_changed = false;
	for (size_t i = 0; i < run->device_count && any; i++)
		for (size_t index = 0; index < UAPI_BARS; index++) {
			struct uapi_change *change = &run->devices[i].changes[index];

			if (!change->asked)
				continue;
			change->asked = false;
			change->taken = true;
			change->taken_generation = change->generation;
		}
	pthread_mutex_unlock(&tracer->lock);
	return any;
}

void uapi_revocation_tell(struct uapi_tracer *tracer, int result)
{
	struct uvf_run *run = tracer->run;

	for (size_t i = 0; i < run->device_count; i++)
		for (uint32_t index = 0; index < UAPI_BARS; index++) {
			struct uapi_change *change = &run->devices[i].changes[index];

			if (change->taken)
				uvf_region_revoked(run->devices[i].dev, index,
						   change->taken_generation, result);
			change->taken = false;
		}
}
