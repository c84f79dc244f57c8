/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Areas that change (uvfio/remap.h), between a device and the tracer. A device whose accesses can
 * trap wherever areas change has its mappings taken away by the tracer, and the program needn't
 * know. Of another each mapping counts from when it is made, until somebody looks and it is there
 * no more: munmap() is no call of ours.
 */
#include <errno.h>
#include <stdlib.h>
#include <uvfio/remap.h>

#include "frontends/uapi/descendants.h"
#include "frontends/uapi/device.h"
#include "frontends/uapi/program_memory.h"
#include "frontends/uapi/tracer.h"

static void areas_changed(void *opaque, uint32_t index, uint64_t generation)
{
	uapi_tracer_areas_changed(opaque, index, generation);
}

/* Whether areas change anywhere, and whether accesses trap wherever they do. */
static bool can_revoke(const struct uapi_device *device)
{
	bool changes = false;

	for (uint32_t i = 0; i < uapi_device_regions(device); i++) {
		struct uvf_region_info info;

		if (uvf_region_get_info(device->dev, i, &info) || !info.areas_change)
			continue;
		if (!uapi_device_traps(device, i, &info))
			return false;
		changes = true;
	}
	return changes && device->run->tracer;
}

void uapi_device_begin_revoking(struct uapi_device *device)
{
	const struct uvf_revoker revoker = {areas_changed, device};

	if (!can_revoke(device))
		return;
	atomic_store(&device->revokes, true);
	uvf_device_set_revoker(device->dev, &revoker);
}

void uapi_device_end_revoking(struct uapi_device *device)
{
	if (atomic_exchange(&device->revokes, false))
		uvf_device_set_revoker(device->dev, NULL);
}

bool uapi_device_revokes(const struct uapi_device *device)
{
	return atomic_load(&device->revokes);
}

/* ---- What the program has mapped, where it can't be taken away ---- */

struct uapi_known_mapping {
	uint32_t index;
	uint64_t offset, size;
};

static bool is_same(const struct uapi_known_mapping *a, const struct uapi_known_mapping *b)
{
	return a->index == b->index && a->offset == b->offset && a->size == b->size;
}

static bool has(const struct uapi_known_mapping *mappings, size_t count,
		const struct uapi_known_mapping *wanted)
{
	for (size_t i = 0; i < count; i++)
		if (is_same(&mappings[i], wanted))
			return true;
	return false;
}

/* Where mappings aren't found again, or may go without being looked for, they are never ended. */
static enum uvf_mapped kind_of(const struct uapi_device *device)
{
	return device->run->mount_namespace && !device->known.unknown ? UVF_MAPPED_KNOWN
								      : UVF_MAPPED_UNKNOWN;
}

/* With the lock. */
static int add_known(struct uapi_device *device, const struct uapi_known_mapping *mapping)
{
	enum uvf_mapped kind = kind_of(device);
	struct uapi_known *known = &device->known;
	struct uapi_known_mapping *all;
	int ret;

	if (has(known->mappings, known->count, mapping))
		return 0;
	all = reallocarray(known->mappings, known->count + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	known->mappings = all;
	ret = uvf_region_mapped(device->dev, mapping->index, mapping->offset, mapping->size, kind);
	if (!ret && kind == UVF_MAPPED_KNOWN)
		all[known->count++] = *mapping;
	return ret;
}

/* With the lock. Those that are in @kept stay. */
static void end_known(struct uapi_device *device, const struct uapi_known_mapping *kept,
		      size_t count)
{
	struct uapi_known *known = &device->known;
	size_t left = 0;

	for (size_t i = 0; i < known->count; i++) {
		struct uapi_known_mapping mapping = known->mappings[i];

		if (has(kept, count, &mapping))
			known->mappings[left++] = mapping;
		else
			uvf_region_unmapped(device->dev, mapping.index, mapping.offset,
					    mapping.size);
	}
	known->count = left;
}

int uapi_known_begin_mapping(struct uapi_device *device, uint32_t index, uint64_t offset,
			     uint64_t size)
{
	struct uapi_known *known = &device->known;
	struct uvf_region_info info;
	int ret = uvf_region_get_info(device->dev, index, &info);

	pthread_mutex_lock(&known->lock);
	while (size && !ret && info.areas_change && !uapi_device_revokes(device)) {
		struct uapi_known_mapping mapping = {index, offset, size};

		if (uapi_area_at(&info, offset, &mapping.size))
			ret = add_known(device, &mapping);
		offset += mapping.size;
		size -= mapping.size;
	}
	known->in_progress += !ret;
	pthread_mutex_unlock(&known->lock);
	return ret;
}

void uapi_known_end_mapping(struct uapi_device *device)
{
	pthread_mutex_lock(&device->known.lock);
	device->known.in_progress--;
	pthread_mutex_unlock(&device->known.lock);
}

struct search {
	struct uapi_device *device;
	struct uapi_known_mapping *found;
	size_t count;
	int error;
};

static int add_found(struct search *search, const struct uapi_known_mapping *mapping)
{
	struct uapi_known_mapping *all;
	int ret = add_known(search->device, mapping);

	/* What is no area any more is nobody's business. */
	if (ret)
		return ret == -EINVAL ? 0 : ret;
	all = reallocarray(search->found, search->count + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	search->found = all;
	all[search->count++] = *mapping;
	return 0;
}

static int look_at_vma(void *opaque, const struct uapi_vma *vma)
{
	struct search *search = opaque;

	for (uint64_t at = vma->begin; at < vma->end && vma->inode && !search->error;) {
		struct uapi_known_mapping mapping;
		struct uapi_device *device;

		if (uapi_tracer_find(search->device->run, vma, at, &device, &mapping.index,
				     &mapping.offset, &mapping.size))
			break;
		if (device == search->device)
			search->error = add_found(search, &mapping);
		at += mapping.size;
	}
	return search->error;
}

static void look_at_process(void *opaque, pid_t process)
{
	struct search *search = opaque;

	if (!search->error)
		uapi_vmas_each(uapi_descendants_thread(process), look_at_vma, search);
}

int uapi_known_look(struct uapi_device *device)
{
	struct uapi_known *known = &device->known;
	struct search search = {.device = device};

	pthread_mutex_lock(&known->lock);
	/* What is being mapped just now isn't found, and may be there all the same. */
	if (known->count && !known->in_progress) {
		uapi_descendants_each(device->run, look_at_process, &search);
		if (!search.error)
			end_known(device, search.found, search.count);
	}
	pthread_mutex_unlock(&known->lock);
	free(search.found);
	return search.error;
}

int uapi_known_set_unknown(struct uapi_device *device)
{
	struct uapi_known *known = &device->known;
	int ret = uapi_known_look(device);

	pthread_mutex_lock(&known->lock);
	for (size_t i = 0; i < known->count && !ret; i++) {
		ret = uvf_region_mapped(device->dev, known->mappings[i].index,
					known->mappings[i].offset, known->mappings[i].size,
					UVF_MAPPED_UNKNOWN);
		if (ret == -EINVAL)
			ret = 0;
	}
	known->unknown |= !ret;
	if (!ret)
		end_known(device, NULL, 0);
	pthread_mutex_unlock(&known->lock);
	return ret;
}

void uapi_known_forget(struct uapi_device *device)
{
	struct uapi_known *known = &device->known;

	pthread_mutex_lock(&known->lock);
	free(known->mappings);
	known->mappings = NULL;
	known->count = 0;
	known->unknown = false;
	pthread_mutex_unlock(&known->lock);
}
