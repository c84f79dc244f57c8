/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migration: a device goes from state to state, and its own state is read and written meanwhile.
 * All of it under the device's lock.
 */
#include "core/migration_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/device.h"
#include "core/own_sections.h"
#include "core/state.h"
#include "core/transition.h"

/* What of a state waits to be read, or was written, at most. */
#define STREAM_MAX (4ULL << 30)

struct migration {
	const struct uvf_migration_ops *ops;
	enum vfio_device_mig_state state;
	const char **sections; /* all that are known: the core's, the layer's, the model's */

	/* A session: PRE_COPY and STOP_COPY, or RESUMING. */
	struct uvf_state_writer writer;
	struct uvf_state_reader reader;
	uint64_t initial; /* bytes of what was there when PRE_COPY began that weren't read */
	struct uvf_device *early; /* that gives parts of its state early; or NULL */
	uint64_t last_size;	  /* of the last whole state */
	bool rest;		  /* STOP_COPY has not saved all yet: that is done as it is read */
	bool told;		  /* that a stream is refused */
	bool loaded;		  /* a state was taken over, and did not run yet */
};

/* ---- Sessions ---- */

static void end_session(struct migration *migration)
{
	struct uvf_device *early = migration->early;

	migration->early = NULL;
	migration->rest = false;
	if (early && migration->ops->end_early)
		migration->ops->end_early(early);
	uvf_state_writer_free(&migration->writer);
	uvf_state_reader_free(&migration->reader);
	migration->initial = 0;
}

static int begin_saving(struct migration *migration)
{
	end_session(migration);
	migration->writer.max = STREAM_MAX;
	return uvf_state_begin(&migration->writer, migration->ops->name, migration->ops->major,
			       migration->ops->minor);
}

static int begin_loading(struct uvf_device *dev)
{
	struct migration *migration = dev->migration;

	end_session(migration);
	migration->told = false;
	migration->reader = (struct uvf_state_reader){
		.model = migration->ops->name,
		.major = migration->ops->major,
		.names = migration->sections,
		.max = STREAM_MAX,
		.place = migration->ops->place,
		.dev = dev,
	};
	return 0;
}

static size_t waiting(const struct migration *migration)
{
	return migration->writer.end - migration->writer.begin;
}

static int save_all(struct uvf_device *dev)
{
	struct migration *migration = dev->migration;
	size_t before = waiting(migration);
	int ret = uvf_own_sections_save(dev, &migration->writer);

	if (!ret && dev->layer_ops && dev->layer_ops->save)
		ret = dev->layer_ops->save(dev, &migration->writer);
	if (!ret && migration->ops->save)
		ret = migration->ops->save(dev, &migration->writer);
	if (!ret)
		ret = uvf_state_end(&migration->writer);
	if (!ret)
		migration->last_size = waiting(migration) - before;
	return ret;
}

static int load_all(struct uvf_device *dev)
{
	struct migration *migration = dev->migration;
	struct uvf_state_reader *reader = &migration->reader;
	int ret = 0;

	if (reader->error.text[0])
		return -EINVAL;
	/* Nothing was written: a destination that was prepared and isn't used. */
	if (!reader->has_header && !reader->part_size)
		return 0;
	if (!reader->complete)
		return -EINVAL;
	if (dev->layer_ops && dev->layer_ops->load)
		ret = dev->layer_ops->load(dev, reader);
	if (!ret)
		ret = uvf_own_sections_load(dev, reader);
	if (!ret && migration->ops->load)
		ret = migration->ops->load(dev, reader);
	return ret;
}

/* ---- Arcs ---- */

static int call(int (*fn)(struct uvf_device *), struct uvf_device *dev)
{
	return fn ? fn(dev) : 0;
}

static int quiesce(struct uvf_device *dev)
{
	return call(dev->migration->ops->quiesce, dev);
}

static int unquiesce(struct uvf_device *dev)
{
	int ret = call(dev->migration->ops->unquiesce, dev);

	/* What its driver was not told where it comes from. */
	if (!ret && dev->migration->loaded)
		uvf_irq_catch_up(dev);
	if (!ret)
		dev->migration->loaded = false;
	return ret;
}

static int stop(struct uvf_device *dev)
{
	return call(dev->migration->ops->stop, dev);
}

static int start(struct uvf_device *dev)
{
	return call(dev->migration->ops->start, dev);
}

/* A large state isn't kept a second time: what could be given early is given as it is read. */
static int begin_stop_copy(struct uvf_device *dev)
{
	struct migration *migration = dev->migration;
	int ret = begin_saving(migration);

	if (ret)
		return ret;
	if (!migration->ops->save_early || !migration->ops->early_size)
		return save_all(dev);
	migration->early = dev;
	migration->rest = true;
	ret = migration->ops->save_early(dev, &migration->writer);
	if (ret)
		end_session(migration);
	return ret;
}

static int begin_pre_copy(struct uvf_device *dev)
{
	struct migration *migration = dev->migration;
	int ret = begin_saving(migration);

	if (!ret && migration->ops->save_early) {
		migration->early = dev;
		ret = migration->ops->save_early(dev, &migration->writer);
	}
	migration->initial = waiting(migration);
	if (ret)
		end_session(migration);
	return ret;
}

static int stop_and_copy(struct uvf_device *dev)
{
	int ret = stop(dev);

	dev->migration->initial = 0;
	if (ret)
		return ret;
	ret = save_all(dev);
	/* It is where it was, where nothing is stopped. */
	if (ret)
		start(dev);
	return ret;
}

static int end_copy(struct uvf_device *dev)
{
	end_session(dev->migration);
	return 0;
}

static int begin_resuming(struct uvf_device *dev)
{
	return begin_loading(dev);
}

static int finish_resuming(struct uvf_device *dev)
{
	int ret = load_all(dev);

	if (ret)
		uvf_device_log(dev, UVF_LOG_ERROR, "its state can't be taken over: %s",
			       dev->migration->reader.complete ? strerror(-ret)
							       : "the stream is cut");
	dev->migration->loaded = !ret;
	end_session(dev->migration);
	return ret;
}

struct arc {
	uint8_t from, to;
	int (*walk)(struct uvf_device *dev);
	bool fatal; /* if it fails the device is neither here nor there */
};

static const struct arc arcs[] = {
	{VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_RUNNING_P2P, quiesce, false},
	{VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_RUNNING, unquiesce, false},
	{VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP, stop, false},
	{VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING_P2P, start, false},
	{VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY, begin_stop_copy, false},
	{VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP, end_copy, false},
	{VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RESUMING, begin_resuming, false},
	{VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_STOP, finish_resuming, true},
	{VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_PRE_COPY, begin_pre_copy, false},
	{VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_RUNNING, end_copy, false},
	{VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P, quiesce, false},
	{VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_PRE_COPY, unquiesce, false},
	{VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_RUNNING_P2P, end_copy, false},
	{VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_STOP_COPY, stop_and_copy, false},
};

static int walk(struct uvf_device *dev, enum vfio_device_mig_state to)
{
	struct migration *migration = dev->migration;

	for (size_t i = 0; i < sizeof(arcs) / sizeof(arcs[0]); i++) {
		int ret;

		if (arcs[i].from != migration->state || arcs[i].to != to)
			continue;
		ret = arcs[i].walk(dev);
		if (!ret)
			migration->state = to;
		else if (arcs[i].fatal)
			migration->state = VFIO_DEVICE_STATE_ERROR;
		uvf_device_log(dev, UVF_LOG_DEBUG, "migration: %s%s",
			       uvf_migration_state_name(migration->state),
			       ret ? ", as the next failed" : "");
		return ret;
	}
	return -EINVAL;
}

/* To the next state, once what must go of areas has gone. */
static int step(struct uvf_device *dev, enum vfio_device_mig_state to)
{
	int ret = 0;

	if (to == VFIO_DEVICE_STATE_PRE_COPY && dev->migration->state == VFIO_DEVICE_STATE_RUNNING)
		ret = uvf_remap_save_begin(dev);
	if (ret)
		return ret;
	ret = walk(dev, to);
	if (dev->migration->state == VFIO_DEVICE_STATE_RUNNING)
		uvf_remap_save_end(dev);
	/* A model's has no meaning: nobody would end the wait. */
	return ret == -EINPROGRESS ? -EIO : ret;
}

static int own_set_state(struct uvf_device *dev, enum vfio_device_mig_state to)
{
	struct migration *migration = dev->migration;

	do {
		enum vfio_device_mig_state next =
			uvf_migration_next(dev->migration_flags, migration->state, to);
		int ret;

		if (next == VFIO_DEVICE_STATE_ERROR)
			return -EINVAL;
		if (next == migration->state)
			return 0;
		ret = step(dev, next);
		if (ret)
			return ret;
	} while (migration->state != to);
	return 0;
}

/* ---- As a way ---- */

void uvf_migration_free(struct uvf_device *dev)
{
	if (!dev->migration)
		return;
	end_session(dev->migration);
	free(dev->migration->sections);
	free(dev->migration);
}

void uvf_migration_reset(struct uvf_device *dev)
{
	uvf_transition_cancel(dev);
	if (!dev->migration)
		return;
	end_session(dev->migration);
	dev->migration->loaded = false;
	dev->migration->state = VFIO_DEVICE_STATE_RUNNING;
	uvf_remap_save_end(dev);
}

static bool is_pre_copy(const struct migration *migration)
{
	return migration->state == VFIO_DEVICE_STATE_PRE_COPY ||
	       migration->state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/* What an early save would still write. */
static void early_size(struct uvf_device *dev, uint64_t *initial, uint64_t *dirty)
{
	const struct uvf_migration_ops *ops = dev->migration->ops;

	*initial = *dirty = 0;
	if (ops->early_size)
		ops->early_size(dev, initial, dirty);
}

/* What was not saved yet, or has changed since, comes after what was read. */
static int save_more(struct uvf_device *dev)
{
	struct migration *migration = dev->migration;
	uint64_t initial, dirty;
	int ret;

	if (!is_pre_copy(migration) || waiting(migration) || !migration->ops->save_early)
		return 0;
	early_size(dev, &initial, &dirty);
	ret = migration->ops->save_early(dev, &migration->writer);
	if (initial)
		migration->initial = waiting(migration);
	return ret;
}

/* STOP_COPY: the next of what isn't saved yet. */
static int save_rest(struct uvf_device *dev)
{
	struct migration *migration = dev->migration;
	uint64_t initial, dirty;
	int ret = 0;

	while (migration->rest && !waiting(migration) && !ret) {
		early_size(dev, &initial, &dirty);
		if (initial || dirty) {
			ret = migration->ops->save_early(dev, &migration->writer);
			continue;
		}
		ret = save_all(dev);
		migration->rest = ret;
	}
	return ret;
}

static ssize_t own_read(struct uvf_device *dev, void *buf, size_t size)
{
	struct migration *migration = dev->migration;
	size_t taken;
	int ret;

	if (!is_pre_copy(migration) && migration->state != VFIO_DEVICE_STATE_STOP_COPY)
		return -EINVAL;
	ret = is_pre_copy(migration) ? save_more(dev) : save_rest(dev);
	if (ret)
		return ret;
	taken = uvf_state_take(&migration->writer, buf, size);
	migration->initial -= taken < migration->initial ? taken : migration->initial;
	if (!taken && size && is_pre_copy(migration))
		return -ENOMSG;
	return (ssize_t)taken;
}

static ssize_t own_write(struct uvf_device *dev, const void *buf, size_t size)
{
	struct migration *migration = dev->migration;
	struct uvf_state_reader *reader = &migration->reader;
	int ret;

	if (migration->state != VFIO_DEVICE_STATE_RESUMING)
		return -EINVAL;
	ret = uvf_state_feed(reader, buf, size);
	if (!ret && reader->complete && migration->ops->check)
		ret = migration->ops->check(dev, reader, &reader->error);
	if (!ret)
		return (ssize_t)size;
	if (!migration->told)
		uvf_device_log(dev, UVF_LOG_ERROR, "a state is refused: %s", reader->error.text);
	migration->told = true;
	return ret;
}

static int own_data_size(struct uvf_device *dev, uint64_t *size)
{
	struct migration *migration = dev->migration;

	if (migration->state == VFIO_DEVICE_STATE_STOP_COPY && !migration->rest) {
		*size = waiting(migration);
		return 0;
	}
	*size = waiting(migration) + 4096;
	for (size_t i = 0; i < dev->memory_count; i++)
		*size += dev->memories[i].size;
	if (migration->ops->size)
		*size += migration->ops->size(dev);
	else if (*size < migration->last_size)
		*size = migration->last_size;
	return 0;
}

static int own_precopy_info(struct uvf_device *dev, uint64_t *initial_bytes, uint64_t *dirty_bytes)
{
	struct migration *migration = dev->migration;
	uint64_t initial, dirty;
	int ret;

	if (!is_pre_copy(migration))
		return -EINVAL;
	ret = save_more(dev);
	early_size(dev, &initial, &dirty);
	*initial_bytes = migration->initial + initial;
	*dirty_bytes = waiting(migration) - migration->initial + dirty;
	return ret;
}

static enum vfio_device_mig_state own_state(struct uvf_device *dev)
{
	return dev->migration->state;
}

static const struct uvf_migration_way own_way = {
	.state = own_state,
	.set_state = own_set_state,
	.cancel = uvf_remap_save_end,
	.read = own_read,
	.write = own_write,
	.data_size = own_data_size,
	.precopy_info = own_precopy_info,
};

void uvf_device_set_migration(struct uvf_device *dev, const struct uvf_migration_ops *ops)
{
	static const char *const none[] = {NULL};
	const char *const *lists[] = {
		uvf_own_sections,
		dev->layer_ops && dev->layer_ops->sections ? dev->layer_ops->sections : none,
		ops->sections ? ops->sections : none,
	};
	struct migration *migration = calloc(1, sizeof(*migration));
	size_t count = 0;

	if (!migration)
		return;
	for (size_t i = 0; i < 3; i++)
		for (const char *const *name = lists[i]; *name; name++)
			count++;
	migration->sections = calloc(count + 1, sizeof(*migration->sections));
	if (!migration->sections) {
		free(migration);
		return;
	}
	count = 0;
	for (size_t i = 0; i < 3; i++)
		for (const char *const *name = lists[i]; *name; name++)
			migration->sections[count++] = *name;
	migration->ops = ops;
	migration->state = VFIO_DEVICE_STATE_RUNNING;
	dev->migration = migration;
	uvf_device_set_migration_way(
		dev, VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
		&own_way);
}
