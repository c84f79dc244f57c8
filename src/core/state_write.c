/* SPDX-License-Identifier: BSD-3-Clause */
/* Migration streams as they are written: header, sections, fields. */
#include "core/state.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define FORMAT_MAJOR 1
#define FORMAT_MINOR 0

static uint32_t checksum(const void *bytes, size_t size)
{
	return htole32((uint32_t)crc32_z(0, bytes, size));
}

/* Room for @size more bytes at the end. */
static int make_room(struct uvf_state_writer *writer, size_t size)
{
	size_t used = writer->end - writer->begin, capacity = writer->capacity;
	uint8_t *bytes;

	if (size > writer->max || used > writer->max - size)
		return -ENOSPC;
	if (writer->begin) {
		memmove(writer->bytes, writer->bytes + writer->begin, used);
		writer->begin = 0;
		writer->end = used;
	}
	if (capacity - used >= size)
		return 0;
	while (capacity - used < size)
		capacity = capacity ? capacity * 2 : 4096;
	bytes = realloc(writer->bytes, capacity);
	if (!bytes)
		return -ENOMEM;
	writer->bytes = bytes;
	writer->capacity = capacity;
	return 0;
}

/* There is room. */
static void append(struct uvf_state_writer *writer, const void *bytes, size_t size)
{
	if (!size)
		return;
	assert(writer->bytes && size <= writer->capacity - writer->end);
	memcpy(writer->bytes + writer->end, bytes, size);
	writer->end += size;
}

int uvf_state_begin(struct uvf_state_writer *writer, const char *model, uint16_t major,
		    uint16_t minor)
{
	struct uvf_stream_header header = {
		.magic = "UVFSTATE",
		.format_major = htole16(FORMAT_MAJOR),
		.format_minor = htole16(FORMAT_MINOR),
		.model_major = htole16(major),
		.model_minor = htole16(minor),
	};
	int ret = make_room(writer, sizeof(header));

	if (ret)
		return ret;
	strncpy(header.model, model, sizeof(header.model) - 1);
	header.checksum = checksum(&header, offsetof(struct uvf_stream_header, checksum));
	append(writer, &header, sizeof(header));
	return 0;
}

int uvf_state_write_bytes(struct uvf_state_writer *writer, struct uvf_state_section section,
			  const void *bytes, size_t size)
{
	struct uvf_section_header header = {
		.instance = htole32(section.instance),
		.flags = htole32(section.optional ? UVF_SECTION_OPTIONAL : 0),
		.length = htole64(size),
	};
	size_t whole, at;
	int ret;

	assert(strlen(section.name) < sizeof(header.name));
	if (__builtin_add_overflow(size, sizeof(header), &whole))
		return -ENOSPC;
	ret = make_room(writer, whole);
	if (ret)
		return ret;
	strncpy(header.name, section.name, sizeof(header.name) - 1);
	at = writer->end;
	append(writer, &header, sizeof(header));
	append(writer, bytes, size);
	/* Of what was copied: the device may be writing to it. */
	header.content_checksum = checksum(writer->bytes + at + sizeof(header), size);
	header.checksum = checksum(&header, offsetof(struct uvf_section_header, checksum));
	memcpy(writer->bytes + at, &header, sizeof(header));
	return 0;
}

int uvf_state_end(struct uvf_state_writer *writer)
{
	return uvf_state_write_bytes(writer, (struct uvf_state_section){.name = "end"}, NULL, 0);
}

/* A member as little-endian bytes; returns where they are. */
static const void *encode(const struct uvf_state_field *field, const void *member,
			  uint8_t number[8])
{
	uint64_t value = 0;

	switch (field->kind) {
	case UVF_FIELD_BYTES:
		return member;
	case UVF_FIELD_BOOL:
		value = *(const bool *)member;
		break;
	case UVF_FIELD_U8:
		value = *(const uint8_t *)member;
		break;
	case UVF_FIELD_U16:
		value = *(const uint16_t *)member;
		break;
	case UVF_FIELD_U32:
		value = *(const uint32_t *)member;
		break;
	case UVF_FIELD_U64:
		value = *(const uint64_t *)member;
		break;
	}
	value = htole64(value);
	memcpy(number, &value, sizeof(value));
	return number;
}

int uvf_state_write(struct uvf_state_writer *writer, struct uvf_state_section section,
		    const struct uvf_state_field *fields, const void *from)
{
	struct uvf_state_writer content = {.max = writer->max};
	int ret = 0;

	for (; fields->number && !ret; fields++) {
		struct uvf_field_header header = {
			.number = htole16(fields->number),
			.size = htole32((uint32_t)fields->size),
		};
		uint8_t number[8];

		ret = make_room(&content, sizeof(header) + fields->size);
		if (ret)
			break;
		append(&content, &header, sizeof(header));
		append(&content, encode(fields, (const char *)from + fields->offset, number),
		       fields->size);
	}
	if (!ret)
		ret = uvf_state_write_bytes(writer, section, content.bytes, content.end);
	uvf_state_writer_free(&content);
	return ret;
}

size_t uvf_state_take(struct uvf_state_writer *writer, void *buf, size_t size)
{
	size_t left = writer->end - writer->begin;

	if (size > left)
		size = left;
	if (size)
		memcpy(buf, writer->bytes + writer->begin, size);
	writer->begin += size;
	return size;
}

void uvf_state_writer_free(struct uvf_state_writer *writer)
{
	free(writer->bytes);
	*writer = (struct uvf_state_writer){.max = writer->max};
}
