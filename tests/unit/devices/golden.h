/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Golden streams: the state of a device as a release wrote it, in tests/unit/golden. A file is
 * never changed; a release that writes a model's state otherwise, or more of it, adds one:
 *
 *   ninja -C build tests/unit/unit-devices-golden_NAME
 *   build/tests/unit/unit-devices-golden_NAME --make tests/unit/golden VERSION
 *
 * makes the file, and VERSION goes into the list of releases in the model's test. What the test
 * does to a device before its state is taken leaves the same in the driver's memory for ever: the
 * queues and chains that the state is about are there.
 */
#ifndef GOLDEN_H
#define GOLDEN_H

#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static inline void golden_path(char *path, size_t size, const char *directory, const char *model,
			       const char *version)
{
	snprintf(path, size, "%s/%s-%s.stream", directory, model, version);
}

static inline struct stream golden_read(const char *model, const char *version)
{
	const char *directory = getenv("UVF_GOLDEN");
	struct stream stream = {malloc(1 << 20), 0};
	char path[4096];
	ssize_t got;
	int fd;

	golden_path(path, sizeof(path), directory ? directory : "tests/unit/golden", model,
		    version);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	got = read(fd, stream.bytes, 1 << 20);
	assert_in_range(got, STREAM_HEADER, (1 << 20) - 1);
	stream.size = (size_t)got;
	close(fd);
	return stream;
}

/* With "--make DIRECTORY VERSION": writes what @make gives, where there is none yet. */
static inline int golden_make(char **argv, const char *model,
			      void (*make_stream)(struct stream *stream))
{
	struct stream stream;
	char path[4096];
	ssize_t put;
	int fd;

	make_stream(&stream);
	golden_path(path, sizeof(path), argv[2], model, argv[3]);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	put = write(fd, stream.bytes, stream.size);
	close(fd);
	return put == (ssize_t)stream.size ? 0 : 1;
}

/* ---- What is done to a stream, in vain ---- */

/* A device that takes it, and makes sure that it is usable after a reset. */
struct golden_victim {
	struct uvf_device *dev;
	void (*check)(void *opaque);
	void *opaque;
};

static inline void golden_refuse(const struct golden_victim *victim, const struct stream *stream)
{
	ssize_t ret;

	assert_int_equal(uvf_migration_set_state(victim->dev, VFIO_DEVICE_STATE_RESUMING), 0);
	ret = uvf_migration_write(victim->dev, stream->bytes, stream->size);
	if (ret >= 0)
		ret = uvf_migration_set_state(victim->dev, VFIO_DEVICE_STATE_RUNNING);
	assert_true(ret < 0);
	assert_int_equal(uvf_device_reset(victim->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(uvf_migration_state(victim->dev), VFIO_DEVICE_STATE_RUNNING);
}

/* From one byte to the next, with long strides through content that is all alike. */
static inline size_t golden_next(const struct stream *stream, size_t at)
{
	struct stream copy = *stream;
	const uint8_t *header = stream_find(&copy, "storage", 0);
	size_t content = header ? (size_t)(header - stream->bytes) + STREAM_HEADER : SIZE_MAX;

	return at > content && at + 997 < content + 65536 ? at + 997 : at + 1;
}

/* Cut, and altered, at each byte. */
static inline void golden_damage(const struct golden_victim *victim, const struct stream *good)
{
	struct stream bad = stream_copy(good);

	for (size_t at = 1; at < good->size; at = golden_next(good, at)) {
		bad.size = at;
		golden_refuse(victim, &bad);
	}
	victim->check(victim->opaque);
	bad.size = good->size;
	for (size_t at = 0; at < good->size; at = golden_next(good, at)) {
		bad.bytes[at] ^= (uint8_t)(1 << at % 8);
		golden_refuse(victim, &bad);
		bad.bytes[at] = good->bytes[at];
	}
	victim->check(victim->opaque);
	stream_free(&bad);
}

/* A section that nobody knows is refused if it is required, and no other. */
static inline void golden_extend(const struct golden_victim *victim, const struct stream *good)
{
	struct stream bad = stream_copy(good);

	stream_add(&bad, "unheard of", 0, "content", 7);
	golden_refuse(victim, &bad);
	victim->check(victim->opaque);
	stream_free(&bad);
	bad = stream_copy(good);
	uvf_put_le16(bad.bytes + 12, (uint16_t)(uvf_get_le16(bad.bytes + 12) + 1));
	stream_seal(&bad);
	golden_refuse(victim, &bad);
	stream_free(&bad);
	bad = stream_copy(good);
	uvf_put_le16(bad.bytes + 14, (uint16_t)(uvf_get_le16(bad.bytes + 14) + 1));
	stream_add(&bad, "unheard of", 1, "content", 7);
	assert_int_equal(stream_load(victim->dev, &bad), 0);
	assert_int_equal(uvf_device_reset(victim->dev, UVF_RESET_DEVICE), 0);
	stream_free(&bad);
}

#endif
