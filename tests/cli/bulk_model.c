/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A model for tests: a device that is nothing but state, which changes at a given rate. All of it
 * can be saved early, in pieces; what is loaded is checked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/device.h>
#include <uvfio/migration.h>

#include "base/clock.h"
#include "core/model.h"

#define PIECE 65536u

struct bulk {
	uint64_t count;	      /* pieces */
	double pieces_per_ns; /* that change */
	uint64_t changed_at, next;
	uint64_t *versions;
	bool *dirty;
	uint64_t dirty_count;
};

static void touch(struct bulk *bulk, uint64_t piece)
{
	bulk->versions[piece]++;
	bulk->dirty_count += !bulk->dirty[piece];
	bulk->dirty[piece] = true;
}

/* What has changed by now. */
static void change(struct bulk *bulk)
{
	uint64_t now = uvf_now_ns();
	double pieces = (double)(now - bulk->changed_at) * bulk->pieces_per_ns;

	if (pieces < 1)
		return;
	bulk->changed_at = now;
	for (uint64_t i = 0; i < (uint64_t)pieces && i < bulk->count; i++)
		touch(bulk, bulk->next++ % bulk->count);
}

static void fill(uint64_t *words, uint64_t piece, uint64_t version)
{
	words[0] = piece;
	words[1] = version;
	for (size_t i = 2; i < PIECE / sizeof(*words); i++)
		words[i] = words[i - 1] * 6364136223846793005ULL + words[i - 2];
}

static int write_dirty(struct bulk *bulk, struct uvf_state_writer *writer, uint64_t most)
{
	uint64_t words[PIECE / sizeof(uint64_t)];
	int ret = 0;

	for (uint64_t i = 0; i < bulk->count && most && !ret; i++) {
		if (!bulk->dirty[i])
			continue;
		fill(words, i, bulk->versions[i]);
		ret = uvf_state_write_bytes(
			writer,
			(struct uvf_state_section){.name = "piece", .instance = (uint32_t)i}, words,
			sizeof(words));
		bulk->dirty[i] = false;
		bulk->dirty_count--;
		most--;
	}
	return ret;
}

static int save_early(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct bulk *bulk = uvf_device_opaque(dev);

	change(bulk);
	return write_dirty(bulk, writer, 64);
}

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct bulk *bulk = uvf_device_opaque(dev);
	int ret = write_dirty(bulk, writer, UINT64_MAX);

	if (!ret)
		ret = uvf_state_write_bytes(writer, (struct uvf_state_section){.name = "versions"},
					    bulk->versions, bulk->count * sizeof(uint64_t));
	return ret;
}

static int check(struct uvf_device *dev, struct uvf_state_reader *reader, struct uvf_error *error)
{
	struct bulk *bulk = uvf_device_opaque(dev);
	uint64_t words[PIECE / sizeof(uint64_t)];
	const void *versions, *bytes;

	if (uvf_state_read_bytes(reader, "versions", 0, &versions) !=
	    (ssize_t)(bulk->count * sizeof(uint64_t)))
		return uvf_fail(error, -EINVAL, "it is of another size");
	for (uint64_t i = 0; i < bulk->count; i++) {
		fill(words, i, ((const uint64_t *)versions)[i]);
		if (uvf_state_read_bytes(reader, "piece", (uint32_t)i, &bytes) != PIECE ||
		    memcmp(bytes, words, PIECE) != 0)
			return uvf_fail(error, -EINVAL, "piece %llu is an old one",
					(unsigned long long)i);
	}
	return 0;
}

static int load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	struct bulk *bulk = uvf_device_opaque(dev);
	const void *versions;

	uvf_state_read_bytes(reader, "versions", 0, &versions);
	memcpy(bulk->versions, versions, bulk->count * sizeof(uint64_t));
	for (uint64_t i = 0; i < bulk->count; i++)
		bulk->dirty[i] = true;
	bulk->dirty_count = bulk->count;
	return 0;
}

static uint64_t size(struct uvf_device *dev)
{
	struct bulk *bulk = uvf_device_opaque(dev);

	change(bulk);
	return bulk->dirty_count * PIECE + bulk->count * sizeof(uint64_t);
}

static int reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct bulk *bulk = uvf_device_opaque(dev);

	for (uint64_t i = 0; i < bulk->count; i++)
		touch(bulk, i);
	bulk->changed_at = uvf_now_ns();
	return 0;
}

static void destroy(struct uvf_device *dev)
{
	struct bulk *bulk = uvf_device_opaque(dev);

	free(bulk->versions);
	free(bulk->dirty);
	free(bulk);
}

static const struct uvf_device_ops ops = {.reset = reset, .destroy = destroy};

static const char *const sections[] = {"piece", "versions", NULL};
static const struct uvf_migration_ops migration = {
	.name = "bulk",
	.major = 1,
	.sections = sections,
	.save = save,
	.save_early = save_early,
	.check = check,
	.load = load,
	.size = size,
};

static int create(const struct uvf_spec *spec, struct uvf_device **devp, struct uvf_error *error)
{
	struct bulk *bulk = calloc(1, sizeof(*bulk));
	int ret;

	if (!bulk)
		return -ENOMEM;
	bulk->count = uvf_spec_number(spec, "size") / PIECE;
	bulk->pieces_per_ns = (double)uvf_spec_number(spec, "rate") / PIECE / 1e9;
	bulk->versions = calloc(bulk->count + 1, sizeof(*bulk->versions));
	bulk->dirty = calloc(bulk->count + 1, sizeof(*bulk->dirty));
	ret = bulk->versions && bulk->dirty ? uvf_device_new("bulk", &ops, 0, bulk, devp) : -ENOMEM;
	if (ret) {
		free(bulk->versions);
		free(bulk->dirty);
		free(bulk);
		return ret;
	}
	uvf_device_set_migration(*devp, &migration);
	return reset(*devp, UVF_RESET_DEVICE);
}

static const struct uvf_model_key keys[] = {
	{"size", UVF_KEY_SIZE, "1M", "SIZE", "bytes of state"},
	{"rate", UVF_KEY_SIZE, "0", "SIZE", "bytes that change in a second"},
	{0},
};

static const struct uvf_model bulk_model = {
	.name = "bulk",
	.summary = "state that changes",
	.keys = keys,
	.create = create,
};

UVF_REGISTER_MODEL(bulk_model)
