/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migration streams as they are read: bytes come in any pieces, and are refused as soon as they
 * can't be taken over.
 */
#include "core/state.h"

#include <endian.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define FORMAT_MAJOR 1
/* What a section costs beside its bytes: itself, a place in the tree, and what malloc() adds. */
#define SECTION_OVERHEAD (sizeof(struct uvf_section) + 128)

static bool checksum_is(uint32_t expected, const void *bytes, size_t size)
{
	return le32toh(expected) == (uint32_t)crc32_z(0, bytes, size);
}

/* ---- The stream ---- */

static int take_header(struct uvf_state_reader *reader)
{
	struct uvf_stream_header header;

	memcpy(&header, reader->part, sizeof(header));
	if (memcmp(header.magic, "UVFSTATE", sizeof(header.magic)) ||
	    !checksum_is(header.checksum, &header, offsetof(struct uvf_stream_header, checksum)))
		return uvf_fail(&reader->error, -EINVAL, "it is no device's state, or was changed");
	header.model[sizeof(header.model) - 1] = 0;
	if (le16toh(header.format_major) != FORMAT_MAJOR)
		return uvf_fail(&reader->error, -EINVAL, "its format is version %u, not %u",
				le16toh(header.format_major), FORMAT_MAJOR);
	if (strcmp(header.model, reader->model))
		return uvf_fail(&reader->error, -EINVAL, "it is the state of a '%s', not of a '%s'",
				header.model, reader->model);
	if (le16toh(header.model_major) != reader->major)
		return uvf_fail(&reader->error, -EINVAL, "it is version %u of '%s', not %u",
				le16toh(header.model_major), header.model, reader->major);
	reader->minor = le16toh(header.model_minor);
	reader->has_header = true;
	return 0;
}

static bool is_known(const struct uvf_state_reader *reader, const char *name)
{
	for (const char *const *known = reader->names; *known; known++)
		if (!strcmp(*known, name))
			return true;
	return false;
}

static int compare(const void *a, const void *b)
{
	const struct uvf_section_header *one = &((const struct uvf_section *)a)->header;
	const struct uvf_section_header *other = &((const struct uvf_section *)b)->header;
	uint32_t instance = le32toh(one->instance), others = le32toh(other->instance);
	int order = strcmp(one->name, other->name);

	return order ? order : (instance > others) - (instance < others);
}

static struct uvf_section *find(const struct uvf_state_reader *reader, const char *name,
				uint32_t instance)
{
	struct uvf_section key = {.header.instance = htole32(instance)};
	struct uvf_section *const *found;

	memcpy(key.header.name, name, strnlen(name, sizeof(key.header.name) - 1));
	found = tfind(&key, &reader->sections, compare);
	return found ? *found : NULL;
}

static void section_free(void *opaque)
{
	struct uvf_section *section = opaque;

	if (section && !section->placed)
		free(section->bytes);
	free(section);
}

/* What one costs that is kept; its length was checked. */
static size_t cost_of(const struct uvf_section *section)
{
	return SECTION_OVERHEAD + le64toh(section->header.length);
}

/* A section that comes again takes the place of what was there. */
static void replace(struct uvf_state_reader *reader, const struct uvf_section_header *header)
{
	struct uvf_section *old = find(reader, header->name, le32toh(header->instance));

	if (!old)
		return;
	tdelete(old, &reader->sections, compare);
	reader->total -= cost_of(old);
	reader->count--;
	section_free(old);
}

/* A section that is about to be filled. NULL: no memory. */
static struct uvf_section *section_new(const struct uvf_state_reader *reader,
				       const struct uvf_section_header *header)
{
	struct uvf_section *section = calloc(1, sizeof(*section));
	uint64_t length = le64toh(header->length);

	if (!section)
		return NULL;
	section->header = *header;
	if (!is_known(reader, header->name))
		return section;
	if (reader->place)
		section->bytes =
			reader->place(reader->dev, header->name, le32toh(header->instance), length);
	section->placed = section->bytes;
	if (!section->placed)
		section->bytes = malloc(length ? length : 1);
	if (section->bytes)
		return section;
	free(section);
	return NULL;
}

static bool is_kept(const struct uvf_section *section)
{
	return section->bytes && !section->placed;
}

static int take_section_header(struct uvf_state_reader *reader)
{
	struct uvf_section *section;
	struct uvf_section_header header;
	uint64_t length;

	memcpy(&header, reader->part, sizeof(header));
	if (!checksum_is(header.checksum, &header, offsetof(struct uvf_section_header, checksum)))
		return uvf_fail(&reader->error, -EINVAL, "a section's header was changed");
	header.name[sizeof(header.name) - 1] = 0;
	length = le64toh(header.length);
	if (!strcmp(header.name, "end")) {
		if (length)
			return uvf_fail(&reader->error, -EINVAL, "its end is not one");
		reader->complete = true;
		return 0;
	}
	if (!is_known(reader, header.name) && !(le32toh(header.flags) & UVF_SECTION_OPTIONAL))
		return uvf_fail(&reader->error, -EINVAL, "section '%s' is not known here",
				header.name);
	replace(reader, &header);
	if (length > reader->max || reader->max - length < SECTION_OVERHEAD ||
	    reader->total > reader->max - length - SECTION_OVERHEAD)
		return uvf_fail(&reader->error, -ENOSPC, "section '%s' is too large", header.name);
	section = section_new(reader, &header);
	if (!section)
		return -ENOMEM;
	if (is_kept(section)) {
		if (reader->count == UVF_SECTIONS_MAX) {
			section_free(section);
			return uvf_fail(&reader->error, -ENOSPC, "it has more than %u sections",
					UVF_SECTIONS_MAX);
		}
		reader->total += cost_of(section);
		reader->count++;
	}
	reader->filling = section;
	reader->filled = 0;
	return 0;
}

static bool content_is_whole(const struct uvf_section *section)
{
	if (!section->bytes)
		return le32toh(section->header.content_checksum) == section->checksum;
	return checksum_is(section->header.content_checksum, section->bytes,
			   le64toh(section->header.length));
}

static int section_is_full(struct uvf_state_reader *reader)
{
	struct uvf_section *section = reader->filling;
	int ret = 0;

	reader->filling = NULL;
	if (!content_is_whole(section))
		ret = uvf_fail(&reader->error, -EINVAL, "section '%s' was changed",
			       section->header.name);
	else if (!is_kept(section))
		;
	else if (tsearch(section, &reader->sections, compare))
		return 0;
	else
		ret = -ENOMEM;
	section_free(section);
	return ret;
}

/* Bytes into what is being filled; returns how many. */
static size_t fill(void *to, size_t have, size_t want, const uint8_t *bytes, size_t size)
{
	if (size > want - have)
		size = want - have;
	memcpy((uint8_t *)to + have, bytes, size);
	return size;
}

/* The same for a section; one that is left out is only checked. */
static size_t fill_section(const struct uvf_state_reader *reader, const uint8_t *bytes, size_t size)
{
	struct uvf_section *section = reader->filling;
	size_t length = le64toh(section->header.length);

	if (section->bytes)
		return fill(section->bytes, reader->filled, length, bytes, size);
	if (size > length - reader->filled)
		size = length - reader->filled;
	section->checksum = (uint32_t)crc32_z(section->checksum, bytes, size);
	return size;
}

static int feed_piece(struct uvf_state_reader *reader, const uint8_t *bytes, size_t size,
		      size_t *used)
{
	int ret;

	if (reader->complete)
		return uvf_fail(&reader->error, -EINVAL, "there is more after its end");
	if (reader->filling) {
		size_t length = le64toh(reader->filling->header.length);

		*used = fill_section(reader, bytes, size);
		reader->filled += *used;
		return reader->filled == length ? section_is_full(reader) : 0;
	}
	*used = fill(reader->part, reader->part_size, sizeof(reader->part), bytes, size);
	reader->part_size += *used;
	if (reader->part_size < sizeof(reader->part))
		return 0;
	reader->part_size = 0;
	if (!reader->has_header)
		return take_header(reader);
	ret = take_section_header(reader);
	if (ret)
		return ret;
	if (reader->filling && !reader->filling->header.length)
		return section_is_full(reader);
	return 0;
}

int uvf_state_feed(struct uvf_state_reader *reader, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;
	int ret = reader->error.text[0] ? -EINVAL : 0;

	while (size && !ret) {
		size_t used = 0;

		ret = feed_piece(reader, at, size, &used);
		at += used;
		size -= used;
	}
	if (ret && !reader->error.text[0])
		uvf_fail(&reader->error, ret, "%s", strerror(-ret));
	return ret;
}

void uvf_state_reader_free(struct uvf_state_reader *reader)
{
	section_free(reader->filling);
	tdestroy(reader->sections, section_free);
	reader->sections = NULL;
	reader->filling = NULL;
}

/* ---- What a model reads ---- */

ssize_t uvf_state_read_bytes(struct uvf_state_reader *reader, const char *name, uint32_t instance,
			     const void **bytes)
{
	const struct uvf_section *section = find(reader, name, instance);

	if (!section)
		return -ENOENT;
	*bytes = section->bytes;
	return (ssize_t)le64toh(section->header.length);
}

static void decode(const struct uvf_state_field *field, const uint8_t *bytes, void *member)
{
	uint64_t value = 0;

	if (field->kind == UVF_FIELD_BYTES) {
		memcpy(member, bytes, field->size);
		return;
	}
	memcpy(&value, bytes, field->size);
	value = le64toh(value);
	switch (field->kind) {
	case UVF_FIELD_BOOL:
		*(bool *)member = value & 1;
		break;
	case UVF_FIELD_U8:
		*(uint8_t *)member = (uint8_t)value;
		break;
	case UVF_FIELD_U16:
		*(uint16_t *)member = (uint16_t)value;
		break;
	case UVF_FIELD_U32:
		*(uint32_t *)member = (uint32_t)value;
		break;
	case UVF_FIELD_U64:
		*(uint64_t *)member = value;
		break;
	case UVF_FIELD_BYTES:
		break;
	}
}

int uvf_state_read(struct uvf_state_reader *reader, const char *name, uint32_t instance,
		   const struct uvf_state_field *fields, void *to)
{
	const void *bytes = NULL;
	ssize_t size = uvf_state_read_bytes(reader, name, instance, &bytes);
	const uint8_t *at = bytes;
	size_t left = (size_t)size;

	if (size < 0)
		return (int)size;
	while (left) {
		const struct uvf_state_field *field = fields;
		struct uvf_field_header header;

		if (left < sizeof(header))
			return -EINVAL;
		memcpy(&header, at, sizeof(header));
		at += sizeof(header);
		left -= sizeof(header);
		if (le32toh(header.size) > left)
			return -EINVAL;
		while (field->number && field->number != le16toh(header.number))
			field++;
		if (field->number) {
			if (le32toh(header.size) != field->size)
				return -EINVAL;
			decode(field, at, (char *)to + field->offset);
		}
		at += le32toh(header.size);
		left -= le32toh(header.size);
	}
	return 0;
}
