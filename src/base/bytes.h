/* SPDX-License-Identifier: BSD-3-Clause */
/* Checked sums, alignment and little-endian bytes: what every layer does to numbers from outside.
 */
#ifndef UVF_BASE_BYTES_H
#define UVF_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define UVF_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* Whether [offset, offset + size) lies in [0, limit). */
static inline bool uvf_range_inside(uint64_t offset, uint64_t size, uint64_t limit)
{
	return offset <= limit && size <= limit - offset;
}

/* Whether [a, a + a_size) and [b, b + b_size) share a byte. Neither may wrap. */
static inline bool uvf_ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a_size && b_size && a < b + b_size && b < a + a_size;
}

/* Last byte of [first, first + size); false if size is 0 or it passes 2^64. */
static inline bool uvf_range_last(uint64_t first, uint64_t size, uint64_t *last)
{
	return size && !__builtin_add_overflow(first, size - 1, last);
}

static inline bool uvf_is_power_of_two(uint64_t value)
{
	return value && !(value & (value - 1));
}

static inline bool uvf_is_aligned(uint64_t value, uint64_t alignment)
{
	return !(value & (alignment - 1));
}

static inline uint64_t uvf_align_down(uint64_t value, uint64_t alignment)
{
	return value & ~(alignment - 1);
}

/* May wrap to 0: check first where the value is from outside. */
static inline uint64_t uvf_align_up(uint64_t value, uint64_t alignment)
{
	return uvf_align_down(value + alignment - 1, alignment);
}

static inline uint16_t uvf_get_le16(const void *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static inline uint32_t uvf_get_le32(const void *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static inline uint64_t uvf_get_le64(const void *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

static inline void uvf_put_le16(void *at, uint16_t value)
{
	value = htole16(value);
	memcpy(at, &value, sizeof(value));
}

static inline void uvf_put_le32(void *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static inline void uvf_put_le64(void *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

#endif
