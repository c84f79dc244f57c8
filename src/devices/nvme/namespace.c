/* SPDX-License-Identifier: BSD-3-Clause */
/* Namespaces: a back end each, and the blocks of it that were made unreadable. */
#include "devices/nvme/nvme.h"

#include <stdio.h>
#include <stdlib.h>

struct nvme_namespace *nvme_namespace(struct nvme *ctrl, uint32_t nsid)
{
	return nsid - 1 < ctrl->namespace_count ? &ctrl->namespaces[nsid - 1] : NULL;
}

/* FNV-1a, then mixed: all of it depends on each byte. */
static uint64_t hash(uint64_t seed, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	seed ^= 0xcbf29ce484222325u;
	for (size_t i = 0; i < size; i++)
		seed = (seed ^ at[i]) * 0x100000001b3u;
	seed = (seed ^ seed >> 32) * 0xd6e8feb86659fd93u;
	return seed ^ seed >> 32;
}

/* What a namespace is known by, of 16 bytes: as a UUID (an invented one), and as NGUID. */
static void make_uuid(struct nvme_namespace *ns, const void *identity, size_t size)
{
	uint64_t half = hash(ns->id, identity, size);

	memcpy(ns->uuid, &half, sizeof(half));
	half = hash(half, identity, size);
	memcpy(ns->uuid + 8, &half, sizeof(half));
	ns->uuid[6] = (uint8_t)((ns->uuid[6] & 0x0f) | 0x40);
	ns->uuid[8] = (uint8_t)((ns->uuid[8] & 0x3f) | 0x80);
}

void nvme_identify_as(struct nvme *ctrl, const char *serial)
{
	const struct nvme_backend *first = ctrl->namespaces[0].backend;

	for (unsigned i = ctrl->namespace_count; i--;)
		if (ctrl->namespaces[i].backend->lasting)
			first = ctrl->namespaces[i].backend;
	if (serial)
		strcpy(ctrl->serial, serial);
	else
		snprintf(ctrl->serial, sizeof(ctrl->serial), "UV%016llX",
			 (unsigned long long)hash(0, first->identity, sizeof(first->identity)));
	for (unsigned i = 0; i < ctrl->namespace_count; i++) {
		struct nvme_namespace *ns = &ctrl->namespaces[i];

		/* Whoever gives a serial number means one disk, wherever its file is. */
		if (serial)
			make_uuid(ns, serial, strlen(serial));
		else
			make_uuid(ns, ns->backend->identity, sizeof(ns->backend->identity));
	}
}

void nvme_namespace_add(struct nvme *ctrl, struct nvme_backend *backend, uint32_t block_size)
{
	struct nvme_namespace *ns = &ctrl->namespaces[ctrl->namespace_count];

	ns->backend = backend;
	ns->id = ++ctrl->namespace_count;
	ns->block_shift = (uint8_t)__builtin_ctz(block_size);
	ns->blocks = backend->size >> ns->block_shift;
	pthread_mutex_init(&ns->bad_lock, NULL);
	ctrl->any_volatile |= backend->volatile_write_cache;
	ctrl->any_discard |= !backend->no_discard;
}

void nvme_namespaces_free(struct nvme *ctrl)
{
	for (unsigned i = 0; i < ctrl->namespace_count; i++) {
		nvme_backend_close(ctrl->namespaces[i].backend);
		free(ctrl->namespaces[i].copy.placed);
		uvf_page_set_destroy(&ctrl->namespaces[i].copy.changed);
		pthread_mutex_destroy(&ctrl->namespaces[i].bad_lock);
	}
	free(ctrl->namespaces);
}

static bool bad_overlaps(const struct nvme_namespace *ns, unsigned i, uint64_t first, uint64_t last)
{
	return ns->bad[i].first <= last && ns->bad[i].last >= first;
}

bool nvme_bad_any(struct nvme_namespace *ns, uint64_t lba, uint64_t blocks)
{
	bool found = false;
	unsigned count;

	if (!atomic_load_explicit(&ns->bad_count, memory_order_acquire))
		return false;
	pthread_mutex_lock(&ns->bad_lock);
	count = atomic_load(&ns->bad_count);
	for (unsigned i = 0; i < count && !found; i++)
		found = bad_overlaps(ns, i, lba, lba + blocks - 1);
	pthread_mutex_unlock(&ns->bad_lock);
	return found;
}

static bool clear_locked(struct nvme_namespace *ns, uint64_t first, uint64_t last)
{
	unsigned count = atomic_load(&ns->bad_count);

	for (unsigned i = 0; i < count;) {
		uint64_t bad_last = ns->bad[i].last;

		if (!bad_overlaps(ns, i, first, last)) {
			i++;
			continue;
		}
		if (ns->bad[i].first >= first && bad_last <= last) {
			ns->bad[i] = ns->bad[--count];
			continue;
		}
		if (ns->bad[i].first >= first) {
			ns->bad[i].first = last + 1;
		} else if (bad_last <= last) {
			ns->bad[i].last = first - 1;
		} else {
			if (count == NVME_BAD_RANGES)
				return false;
			ns->bad[i].last = first - 1;
			ns->bad[count].first = last + 1;
			ns->bad[count++].last = bad_last;
		}
		i++;
	}
	atomic_store(&ns->bad_count, count);
	return true;
}

bool nvme_bad_clear(struct nvme_namespace *ns, uint64_t lba, uint64_t blocks)
{
	bool done;

	if (!atomic_load_explicit(&ns->bad_count, memory_order_acquire))
		return true;
	pthread_mutex_lock(&ns->bad_lock);
	done = clear_locked(ns, lba, lba + blocks - 1);
	pthread_mutex_unlock(&ns->bad_lock);
	return done;
}

bool nvme_bad_add(struct nvme_namespace *ns, uint64_t lba, uint64_t blocks)
{
	unsigned count;
	bool done;

	pthread_mutex_lock(&ns->bad_lock);
	done = clear_locked(ns, lba, lba + blocks - 1);
	count = atomic_load(&ns->bad_count);
	if (done && count < NVME_BAD_RANGES) {
		ns->bad[count].first = lba;
		ns->bad[count].last = lba + blocks - 1;
		atomic_store(&ns->bad_count, count + 1);
	} else {
		done = false;
	}
	pthread_mutex_unlock(&ns->bad_lock);
	return done;
}
