/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device's state from a stranger. The checksums of what comes are made right first, for most of
 * it, so that what they guard is reached.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct target {
	bool flag;
	uint8_t small;
	uint16_t medium;
	uint32_t large;
	uint64_t huge;
	uint8_t bytes[5];
};

static const struct uvf_state_field fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_BOOL, struct target, flag),
	UVF_STATE_FIELD(2, UVF_FIELD_U8, struct target, small),
	UVF_STATE_FIELD(3, UVF_FIELD_U16, struct target, medium),
	UVF_STATE_FIELD(4, UVF_FIELD_U32, struct target, large),
	UVF_STATE_FIELD(5, UVF_FIELD_U64, struct target, huge),
	UVF_STATE_FIELD(6, UVF_FIELD_BYTES, struct target, bytes),
	{0},
};

static uint32_t checksum(const void *bytes, size_t size)
{
	return htole32((uint32_t)crc32_z(0, bytes, size));
}

static void make_right(uint8_t *bytes, size_t size)
{
	struct uvf_stream_header header;
	struct uvf_section_header section;
	size_t at = sizeof(header);

	if (size < sizeof(header))
		return;
	memcpy(&header, bytes, sizeof(header));
	header.checksum = checksum(&header, offsetof(struct uvf_stream_header, checksum));
	memcpy(bytes, &header, sizeof(header));
	while (size - at >= sizeof(section)) {
		uint64_t length;

		memcpy(&section, bytes + at, sizeof(section));
		length = le64toh(section.length);
		if (length <= size - at - sizeof(section))
			section.content_checksum =
				checksum(bytes + at + sizeof(section), (size_t)length);
		section.checksum =
			checksum(&section, offsetof(struct uvf_section_header, checksum));
		memcpy(bytes + at, &section, sizeof(section));
		if (length > size - at - sizeof(section))
			return;
		at += sizeof(section) + (size_t)length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"a", "b", NULL};
	struct uvf_state_reader reader = {.model = "m", .major = 1, .names = names, .max = 65536};
	struct target target = {0};
	size_t piece = size ? data[0] % 64 + 1 : 1;
	uint8_t *bytes;

	if (!size)
		return 0;
	bytes = malloc(size);
	memcpy(bytes, data + 1, --size);
	if (data[0] < 0xf0)
		make_right(bytes, size);
	for (size_t at = 0; at < size; at += piece)
		if (uvf_state_feed(&reader, bytes + at, size - at < piece ? size - at : piece))
			break;
	uvf_state_read(&reader, "a", 0, fields, &target);
	uvf_state_read(&reader, "b", 1, fields, &target);
	uvf_state_reader_free(&reader);
	free(bytes);
	return 0;
}
