/* SPDX-License-Identifier: BSD-3-Clause */
/* A device's state as bytes: taken, taken over, and changed in between as an attacker would. */
#ifndef STREAM_H
#define STREAM_H

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <uvfio/client.h>
#include <uvfio/migration.h>

#include "base/bytes.h"

#define STREAM_HEADER 40 /* of the stream, and of each section */

struct stream {
	uint8_t *bytes;
	size_t size;
};

static inline void stream_free(struct stream *stream)
{
	free(stream->bytes);
	*stream = (struct stream){0};
}

/* Stops @dev and takes its state; the device stays in STOP_COPY. */
static inline void stream_save(struct uvf_device *dev, struct stream *stream)
{
	size_t capacity = 1 << 16;
	ssize_t ret;

	*stream = (struct stream){.bytes = malloc(capacity)};
	assert_int_equal(uvf_migration_set_state(dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
	while ((ret = uvf_migration_read(dev, stream->bytes + stream->size,
					 capacity - stream->size)) > 0) {
		stream->size += (size_t)ret;
		if (stream->size == capacity) {
			capacity *= 2;
			stream->bytes = realloc(stream->bytes, capacity);
		}
	}
	assert_int_equal(ret, 0);
}

/* Into a device that is then RUNNING, or, where it was refused, where it was refused. */
static inline int stream_load(struct uvf_device *dev, const struct stream *stream)
{
	ssize_t ret;

	assert_int_equal(uvf_migration_set_state(dev, VFIO_DEVICE_STATE_RESUMING), 0);
	ret = uvf_migration_write(dev, stream->bytes, stream->size);
	if (ret < 0)
		return (int)ret;
	return uvf_migration_set_state(dev, VFIO_DEVICE_STATE_RUNNING);
}

static inline struct stream stream_copy(const struct stream *stream)
{
	struct stream copy = {malloc(stream->size), stream->size};

	memcpy(copy.bytes, stream->bytes, stream->size);
	return copy;
}

/* As zlib's. */
static inline uint32_t stream_checksum(const uint8_t *bytes, size_t size)
{
	uint32_t crc = UINT32_MAX;

	while (size--) {
		crc ^= *bytes++;
		for (unsigned i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
	}
	return ~crc;
}

/* The header of a section, or NULL. */
static inline uint8_t *stream_find(struct stream *stream, const char *name, uint32_t instance)
{
	for (size_t at = STREAM_HEADER; at + STREAM_HEADER <= stream->size;) {
		uint8_t *header = stream->bytes + at;

		if (!strcmp((char *)header, name) && uvf_get_le32(header + 16) == instance)
			return header;
		at += STREAM_HEADER + uvf_get_le64(header + 24);
	}
	return NULL;
}

/* The checksums become right again. */
static inline void stream_seal(struct stream *stream)
{
	uvf_put_le32(stream->bytes + 36, stream_checksum(stream->bytes, 36));
	for (size_t at = STREAM_HEADER; at + STREAM_HEADER <= stream->size;) {
		uint8_t *header = stream->bytes + at;
		size_t length = uvf_get_le64(header + 24);

		uvf_put_le32(header + 32, stream_checksum(header + STREAM_HEADER, length));
		uvf_put_le32(header + 36, stream_checksum(header, 36));
		at += STREAM_HEADER + length;
	}
}

/* The bytes of a field of a section that is a list of fields. */
static inline uint8_t *stream_field(struct stream *stream, const char *section, uint32_t instance,
				    uint16_t number)
{
	uint8_t *header = stream_find(stream, section, instance), *at = header + STREAM_HEADER;

	assert_non_null(header);
	while (at < header + STREAM_HEADER + uvf_get_le64(header + 24)) {
		if (uvf_get_le16(at) == number)
			return at + 8;
		at += 8 + uvf_get_le32(at + 4);
	}
	fail_msg("section %s has no field %u", section, number);
	return NULL;
}

/* Puts a section in front of all others. */
static inline void stream_add(struct stream *stream, const char *name, uint32_t flags,
			      const void *content, size_t length)
{
	uint8_t *bytes = calloc(1, stream->size + STREAM_HEADER + length), *header = bytes + 40;

	memcpy(bytes, stream->bytes, STREAM_HEADER);
	strncpy((char *)header, name, 15);
	uvf_put_le32(header + 20, flags);
	uvf_put_le64(header + 24, length);
	if (length)
		memcpy(header + STREAM_HEADER, content, length);
	memcpy(header + STREAM_HEADER + length, stream->bytes + STREAM_HEADER,
	       stream->size - STREAM_HEADER);
	free(stream->bytes);
	stream->bytes = bytes;
	stream->size += STREAM_HEADER + length;
	stream_seal(stream);
}

#endif
