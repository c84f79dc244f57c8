/* SPDX-License-Identifier: BSD-3-Clause */
/* A controller's state on its way from one device to another, and the file that they share. */
#ifndef NVME_STREAM_H
#define NVME_STREAM_H

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#define STREAM_SIZE (16u << 20)

struct stream {
	uint8_t *bytes;
	size_t size;
};

static inline int setup(void **state)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	stream->bytes = malloc(STREAM_SIZE);
	*state = stream;
	return 0;
}

static inline int teardown(void **state)
{
	struct stream *stream = *state;

	free(stream->bytes);
	free(stream);
	return 0;
}

static inline struct uvf_device *make(const char *spec)
{
	struct uvf_error error = {0};
	struct uvf_device *dev;

	if (uvf_model_create(spec, &dev, &error))
		fail_msg("%s: %s", spec, error.text);
	return dev;
}

static inline int go(struct uvf_device *dev, enum vfio_device_mig_state state)
{
	return uvf_migration_set_state(dev, state);
}

/* Stops @dev and takes its state. */
static inline void save(struct uvf_device *dev, struct stream *stream)
{
	ssize_t ret;

	assert_int_equal(go(dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
	stream->size = 0;
	while ((ret = uvf_migration_read(dev, stream->bytes + stream->size,
					 STREAM_SIZE - stream->size)) > 0)
		stream->size += (size_t)ret;
	assert_int_equal(ret, 0);
}

static inline int load_into(struct uvf_device *dev, const struct stream *stream)
{
	ssize_t ret;

	assert_int_equal(go(dev, VFIO_DEVICE_STATE_RESUMING), 0);
	ret = uvf_migration_write(dev, stream->bytes, stream->size);
	if (ret < 0)
		return (int)ret;
	return go(dev, VFIO_DEVICE_STATE_RUNNING);
}

static inline void leave(struct uvf_device *dev)
{
	uvf_device_close(dev);
	uvf_device_free(dev);
}

struct disk {
	char path[64], there[96], to_come[112];
};

static inline void disk_make(struct disk *disk)
{
	int fd;

	strcpy(disk->path, "nvme-migration-XXXXXX");
	fd = mkstemp(disk->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	snprintf(disk->there, sizeof(disk->there), "nvme,file=%s", disk->path);
	snprintf(disk->to_come, sizeof(disk->to_come), "%s,incoming", disk->there);
}

#endif
