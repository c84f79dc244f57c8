/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migration at the waist: all ways from state to state, sessions, streams that are whole, cut,
 * changed, of other versions; and what a model is asked, in which order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/core.h"
#include "core/migration_state.h"
#include "core/state.h"

#define ALL (VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY)

#define STOP	     VFIO_DEVICE_STATE_STOP
#define RUNNING	     VFIO_DEVICE_STATE_RUNNING
#define STOP_COPY    VFIO_DEVICE_STATE_STOP_COPY
#define RESUMING     VFIO_DEVICE_STATE_RESUMING
#define RUNNING_P2P  VFIO_DEVICE_STATE_RUNNING_P2P
#define PRE_COPY     VFIO_DEVICE_STATE_PRE_COPY
#define PRE_COPY_P2P VFIO_DEVICE_STATE_PRE_COPY_P2P
#define ERROR	     VFIO_DEVICE_STATE_ERROR

/* ---- A model that counts ---- */

struct counter {
	struct uvf_device *dev;
	bool flag;
	uint8_t small;
	uint16_t medium;
	uint32_t large;
	uint64_t huge;
	uint8_t bytes[5];
	char calls[256]; /* a letter for each call */
	int fail;	 /* the letter that fails next */
	bool changed;	 /* since the last early save */
	uint8_t *memory;
	char log[256];
};

static const struct uvf_state_field fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_BOOL, struct counter, flag),
	UVF_STATE_FIELD(2, UVF_FIELD_U8, struct counter, small),
	UVF_STATE_FIELD(3, UVF_FIELD_U16, struct counter, medium),
	UVF_STATE_FIELD(4, UVF_FIELD_U32, struct counter, large),
	UVF_STATE_FIELD(5, UVF_FIELD_U64, struct counter, huge),
	UVF_STATE_FIELD(6, UVF_FIELD_BYTES, struct counter, bytes),
	{0},
};

static int note(struct uvf_device *dev, char letter)
{
	struct counter *counter = uvf_device_opaque(dev);
	size_t length = strlen(counter->calls);

	assert_true(length + 1 < sizeof(counter->calls));
	counter->calls[length] = letter;
	if (counter->fail != letter)
		return 0;
	counter->fail = 0;
	return -EIO;
}

static int quiesce(struct uvf_device *dev)
{
	return note(dev, 'q');
}

static int unquiesce(struct uvf_device *dev)
{
	return note(dev, 'u');
}

static int stop(struct uvf_device *dev)
{
	return note(dev, 's');
}

static int start(struct uvf_device *dev)
{
	return note(dev, 'r');
}

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	int ret = note(dev, 'w');

	return ret ? ret
		   : uvf_state_write(writer, (struct uvf_state_section){.name = "counter"}, fields,
				     uvf_device_opaque(dev));
}

static int save_early(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct counter *counter = uvf_device_opaque(dev);
	int ret = note(dev, 'e');

	if (ret || !counter->changed)
		return ret;
	counter->changed = false;
	return uvf_state_write_bytes(writer,
				     (struct uvf_state_section){.name = "early", .instance = 7},
				     counter->bytes, sizeof(counter->bytes));
}

static int check(struct uvf_device *dev, struct uvf_state_reader *reader, struct uvf_error *error)
{
	return note(dev, 'c') ? uvf_fail(error, -EINVAL, "not today") : 0;
}

static int load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	int ret = note(dev, 'l');

	return ret ? ret : uvf_state_read(reader, "counter", 0, fields, uvf_device_opaque(dev));
}

static const char *const sections[] = {"counter", "early", NULL};
static const struct uvf_migration_ops migration = {
	.name = "counter",
	.major = 3,
	.minor = 1,
	.sections = sections,
	.quiesce = quiesce,
	.unquiesce = unquiesce,
	.stop = stop,
	.start = start,
	.save = save,
	.save_early = save_early,
	.check = check,
	.load = load,
};

static int reset(struct uvf_device *dev, enum uvf_reset kind)
{
	return 0;
}

static void keep_log(void *opaque, enum uvf_log_level level, const char *who, const char *text)
{
	struct counter *counter = opaque;

	if (level == UVF_LOG_ERROR)
		snprintf(counter->log, sizeof(counter->log), "%s", text);
}

static struct counter *counter_new(void)
{
	static const struct uvf_device_ops ops = {.reset = reset};
	struct counter *counter = calloc(1, sizeof(*counter));
	struct uvf_log log = {.fn = keep_log, .opaque = counter, .level = UVF_LOG_ERROR};
	struct uvf_irq irq = {.index = 2, .count = 4, .flags = VFIO_IRQ_INFO_EVENTFD};
	uint64_t offset;
	void *address;
	int fd;

	assert_int_equal(uvf_device_new("counter", &ops, 0, counter, &counter->dev), 0);
	uvf_device_set_log(counter->dev, &log);
	assert_int_equal(uvf_device_add_irq(counter->dev, &irq), 0);
	assert_int_equal(uvf_device_region_memory(counter->dev, 1, 4096, &fd, &offset, &address),
			 0);
	counter->memory = address;
	uvf_device_set_migration(counter->dev, &migration);
	assert_int_equal(uvf_device_open(counter->dev), 0);
	return counter;
}

static void counter_free(struct counter *counter)
{
	uvf_device_close(counter->dev);
	uvf_device_free(counter->dev);
	free(counter);
}

static struct counter *a_full_one(void)
{
	struct counter *counter = counter_new();

	counter->flag = true;
	counter->small = 0x12;
	counter->medium = 0x1234;
	counter->large = 0x12345678;
	counter->huge = 0x123456789abcdef0;
	memcpy(counter->bytes, "bytes", 5);
	memset(counter->memory, 0x5a, 4096);
	return counter;
}

/* ---- States ---- */

/* Linux's table: the first step from a state (row) towards another (column). */
static void table(void **state)
{
	static const uint8_t expected[8][8] = {
		[STOP] = {[STOP] = STOP,
			  [RUNNING] = RUNNING_P2P,
			  [PRE_COPY] = RUNNING_P2P,
			  [PRE_COPY_P2P] = RUNNING_P2P,
			  [STOP_COPY] = STOP_COPY,
			  [RESUMING] = RESUMING,
			  [RUNNING_P2P] = RUNNING_P2P},
		[RUNNING] = {[STOP] = RUNNING_P2P,
			     [RUNNING] = RUNNING,
			     [PRE_COPY] = PRE_COPY,
			     [PRE_COPY_P2P] = PRE_COPY,
			     [STOP_COPY] = RUNNING_P2P,
			     [RESUMING] = RUNNING_P2P,
			     [RUNNING_P2P] = RUNNING_P2P},
		[PRE_COPY] = {[STOP] = RUNNING,
			      [RUNNING] = RUNNING,
			      [PRE_COPY] = PRE_COPY,
			      [PRE_COPY_P2P] = PRE_COPY_P2P,
			      [STOP_COPY] = PRE_COPY_P2P,
			      [RESUMING] = RUNNING,
			      [RUNNING_P2P] = RUNNING},
		[PRE_COPY_P2P] = {[STOP] = RUNNING_P2P,
				  [RUNNING] = RUNNING_P2P,
				  [PRE_COPY] = PRE_COPY,
				  [PRE_COPY_P2P] = PRE_COPY_P2P,
				  [STOP_COPY] = STOP_COPY,
				  [RESUMING] = RUNNING_P2P,
				  [RUNNING_P2P] = RUNNING_P2P},
		[STOP_COPY] = {[STOP] = STOP,
			       [RUNNING] = STOP,
			       [PRE_COPY] = STOP,
			       [PRE_COPY_P2P] = STOP,
			       [STOP_COPY] = STOP_COPY,
			       [RESUMING] = STOP,
			       [RUNNING_P2P] = STOP},
		[RESUMING] = {[STOP] = STOP,
			      [RUNNING] = STOP,
			      [PRE_COPY] = STOP,
			      [PRE_COPY_P2P] = STOP,
			      [STOP_COPY] = STOP,
			      [RESUMING] = RESUMING,
			      [RUNNING_P2P] = STOP},
		[RUNNING_P2P] = {[STOP] = STOP,
				 [RUNNING] = RUNNING,
				 [PRE_COPY] = RUNNING,
				 [PRE_COPY_P2P] = RUNNING,
				 [STOP_COPY] = STOP,
				 [RESUMING] = STOP,
				 [RUNNING_P2P] = RUNNING_P2P},
	};

	for (unsigned from = 0; from < 8; from++)
		for (unsigned to = 0; to < 8; to++)
			assert_int_equal(uvf_migration_next(ALL, from, to), expected[from][to]);
	assert_int_equal(uvf_migration_next(ALL, RUNNING, 8), ERROR);
	/* Without P2P, or PRE_COPY, their states are gone through or not there. */
	assert_int_equal(uvf_migration_next(VFIO_MIGRATION_STOP_COPY, RUNNING, STOP_COPY), STOP);
	assert_int_equal(uvf_migration_next(VFIO_MIGRATION_STOP_COPY, STOP, RUNNING), RUNNING);
	assert_int_equal(uvf_migration_next(VFIO_MIGRATION_STOP_COPY, RUNNING, RUNNING_P2P), ERROR);
	assert_int_equal(uvf_migration_next(VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P, RUNNING,
					    PRE_COPY),
			 ERROR);
}

/* From each state to each, by set_state: it arrives, and asks what it must. */
static void every_way(void **state)
{
	for (unsigned from = 1; from < 8; from++)
		for (unsigned to = 0; to < 9; to++) {
			struct counter *counter = counter_new();
			int ret;

			assert_int_equal(uvf_migration_set_state(counter->dev, from), 0);
			assert_int_equal(uvf_migration_state(counter->dev), from);
			ret = uvf_migration_set_state(counter->dev, to);
			assert_int_equal(ret, to == ERROR || to == 8 ? -EINVAL : 0);
			assert_int_equal(uvf_migration_state(counter->dev), ret ? from : to);
			counter_free(counter);
		}
}

static void what_is_asked(void **state)
{
	struct counter *counter = counter_new();

	assert_int_equal(uvf_migration_set_state(counter->dev, RUNNING), 0);
	assert_string_equal(counter->calls, "");
	assert_int_equal(uvf_migration_set_state(counter->dev, STOP_COPY), 0);
	assert_string_equal(counter->calls, "qsw");
	assert_int_equal(uvf_migration_set_state(counter->dev, RUNNING), 0);
	assert_string_equal(counter->calls, "qswru");
	counter->calls[0] = 0;
	memset(counter->calls, 0, sizeof(counter->calls));
	assert_int_equal(uvf_migration_set_state(counter->dev, PRE_COPY), 0);
	assert_int_equal(uvf_migration_set_state(counter->dev, STOP_COPY), 0);
	assert_string_equal(counter->calls, "eqsw");
	counter_free(counter);
}

static void an_arc_that_fails(void **state)
{
	static const struct {
		char letter;
		unsigned stays;
	} cases[] = {{'q', RUNNING}, {'s', RUNNING_P2P}, {'w', STOP}};

	for (unsigned i = 0; i < 3; i++) {
		struct counter *counter = counter_new();

		counter->fail = cases[i].letter;
		assert_int_equal(uvf_migration_set_state(counter->dev, STOP_COPY), -EIO);
		assert_int_equal(uvf_migration_state(counter->dev), cases[i].stays);
		assert_int_equal(uvf_migration_set_state(counter->dev, RUNNING), 0);
		counter_free(counter);
	}
}

static void a_reset_ends_it(void **state)
{
	struct counter *counter = counter_new();
	char byte;

	assert_int_equal(uvf_migration_set_state(counter->dev, STOP_COPY), 0);
	assert_int_equal(uvf_device_reset(counter->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(uvf_migration_state(counter->dev), RUNNING);
	assert_int_equal(uvf_migration_read(counter->dev, &byte, 1), -EINVAL);
	counter_free(counter);
}

/* ---- Streams ---- */

static uint8_t stream[16384];

/* The whole state of @counter in pieces of @piece bytes, through @way first. */
static size_t read_all(struct counter *counter, size_t piece)
{
	size_t size = 0;
	ssize_t ret;

	assert_int_equal(uvf_migration_set_state(counter->dev, STOP_COPY), 0);
	while ((ret = uvf_migration_read(counter->dev, stream + size, piece)) > 0)
		size += (size_t)ret;
	assert_int_equal(ret, 0);
	return size;
}

/* Writes a stream in pieces; the first error, or 0. */
static int write_all(struct counter *counter, const uint8_t *bytes, size_t size, size_t piece)
{
	assert_int_equal(uvf_migration_set_state(counter->dev, RESUMING), 0);
	for (size_t at = 0; at < size; at += piece) {
		size_t count = size - at < piece ? size - at : piece;
		ssize_t ret = uvf_migration_write(counter->dev, bytes + at, count);

		if (ret < 0)
			return (int)ret;
		assert_int_equal(ret, count);
	}
	return 0;
}

static void assert_same(const struct counter *a, const struct counter *b)
{
	assert_int_equal(a->flag, b->flag);
	assert_int_equal(a->small, b->small);
	assert_int_equal(a->medium, b->medium);
	assert_int_equal(a->large, b->large);
	assert_true(a->huge == b->huge);
	assert_memory_equal(a->bytes, b->bytes, sizeof(a->bytes));
	assert_memory_equal(a->memory, b->memory, 4096);
}

static void moves(void **state)
{
	static const size_t pieces[] = {1, 7, 40, 41, 4096, 16384};

	for (unsigned i = 0; i < 6; i++) {
		struct counter *source = a_full_one(), *destination = counter_new();
		size_t size = read_all(source, pieces[i]);

		assert_int_equal(write_all(destination, stream, size, pieces[5 - i]), 0);
		assert_string_equal(destination->calls, "qsc");
		assert_int_equal(uvf_migration_set_state(destination->dev, RUNNING), 0);
		assert_string_equal(destination->calls, "qsclru");
		assert_same(source, destination);
		counter_free(source);
		counter_free(destination);
	}
}

static void early(void **state)
{
	struct counter *source = a_full_one(), *destination = counter_new();
	uint64_t initial, dirty, length;
	size_t size = 0;
	ssize_t ret;

	assert_int_equal(uvf_migration_precopy_info(source->dev, &initial, &dirty), -EINVAL);
	source->changed = true;
	assert_int_equal(uvf_migration_set_state(source->dev, PRE_COPY), 0);
	assert_int_equal(uvf_migration_precopy_info(source->dev, &initial, &dirty), 0);
	assert_int_equal(initial, 40 + 40 + 5);
	assert_int_equal(dirty, 0);
	while ((ret = uvf_migration_read(source->dev, stream + size, 50)) > 0)
		size += (size_t)ret;
	assert_int_equal(ret, -ENOMSG);
	assert_int_equal(size, 85);
	source->changed = true;
	assert_int_equal(uvf_migration_precopy_info(source->dev, &initial, &dirty), 0);
	assert_int_equal(initial, 0);
	assert_int_equal(dirty, 45);
	assert_int_equal(uvf_migration_set_state(source->dev, STOP_COPY), 0);
	assert_int_equal(uvf_migration_data_size(source->dev, &length), 0);
	while ((ret = uvf_migration_read(source->dev, stream + size, 100)) > 0)
		size += (size_t)ret;
	assert_int_equal(ret, 0);
	assert_int_equal(length, size - 85);
	assert_int_equal(write_all(destination, stream, size, 33), 0);
	assert_int_equal(uvf_migration_set_state(destination->dev, RUNNING), 0);
	assert_same(source, destination);
	counter_free(source);
	counter_free(destination);
}

/* Each byte of a stream in turn is changed, or is where it ends: never taken over. */
static void changed_or_cut(void **state)
{
	struct counter *source = a_full_one();
	size_t size = read_all(source, sizeof(stream));

	for (size_t at = 0; at<size; at += at> 100 && at + 200 < size ? 97 : 1) {
		struct counter *destination = counter_new();

		stream[at] ^= 0x10;
		assert_int_equal(write_all(destination, stream, size, 64), -EINVAL);
		assert_string_not_equal(destination->log, "");
		stream[at] ^= 0x10;
		/* It is still resettable, and then takes the right one. */
		assert_int_equal(uvf_device_reset(destination->dev, UVF_RESET_DEVICE), 0);
		assert_int_equal(write_all(destination, stream, at, 64), 0);
		assert_int_equal(uvf_migration_set_state(destination->dev, RUNNING),
				 at ? -EINVAL : 0);
		assert_int_equal(uvf_migration_state(destination->dev), at ? ERROR : RUNNING);
		assert_int_equal(uvf_device_reset(destination->dev, UVF_RESET_DEVICE), 0);
		assert_int_equal(write_all(destination, stream, size, 64), 0);
		assert_int_equal(uvf_migration_set_state(destination->dev, RUNNING), 0);
		assert_same(source, destination);
		counter_free(destination);
	}
	counter_free(source);
}

static void more_after_the_end(void **state)
{
	struct counter *source = a_full_one(), *destination = counter_new();
	size_t size = read_all(source, sizeof(stream));

	assert_int_equal(write_all(destination, stream, size + 1, sizeof(stream)), -EINVAL);
	assert_non_null(strstr(destination->log, "after its end"));
	counter_free(source);
	counter_free(destination);
}

/* A stream made by hand. */
static size_t compose(const char *model, uint16_t major, uint16_t minor,
		      struct uvf_state_section section, const struct uvf_state_field *of,
		      const struct counter *counter)
{
	struct uvf_state_writer writer = {.max = sizeof(stream)};
	size_t size;

	assert_int_equal(uvf_state_begin(&writer, model, major, minor), 0);
	assert_int_equal(
		uvf_state_write_bytes(&writer,
				      (struct uvf_state_section){.name = "memory", .instance = 1},
				      counter->memory, 4096),
		0);
	assert_int_equal(uvf_state_write(&writer, (struct uvf_state_section){.name = "counter"}, of,
					 counter),
			 0);
	if (section.name)
		assert_int_equal(uvf_state_write_bytes(&writer, section, "?", 1), 0);
	assert_int_equal(uvf_state_end(&writer), 0);
	size = uvf_state_take(&writer, stream, sizeof(stream));
	uvf_state_writer_free(&writer);
	return size;
}

static void versions(void **state)
{
	static const struct uvf_state_field older[] = {
		UVF_STATE_FIELD(2, UVF_FIELD_U8, struct counter, small),
		{0},
	};
	static const struct uvf_state_field newer[] = {
		UVF_STATE_FIELD(2, UVF_FIELD_U8, struct counter, small),
		UVF_STATE_FIELD(99, UVF_FIELD_BYTES, struct counter, bytes),
		UVF_STATE_FIELD(5, UVF_FIELD_U64, struct counter, huge),
		{0},
	};
	static const struct uvf_state_field other_size[] = {
		UVF_STATE_FIELD(2, UVF_FIELD_U16, struct counter, medium),
		{0},
	};
	static const struct {
		const char *model;
		uint16_t major, minor;
		struct uvf_state_section section;
		const struct uvf_state_field *fields;
		int written, loaded;
		const char *says;
	} cases[] = {
		{"counter", 3, 1, {0}, fields, 0, 0, ""},
		{"counter", 3, 0, {0}, older, 0, 0, ""},
		{"counter", 3, 9, {0}, newer, 0, 0, ""},
		{"counter", 3, 9, {.name = "new", .optional = true}, newer, 0, 0, ""},
		{"counter", 3, 9, {.name = "new"}, newer, -EINVAL, 0, "'new' is not known"},
		{"counter", 4, 0, {0}, fields, -EINVAL, 0, "version 4"},
		{"other", 3, 1, {0}, fields, -EINVAL, 0, "'other'"},
		{"counter", 3, 1, {0}, other_size, 0, -EINVAL, "taken over"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct counter *source = a_full_one(), *destination = counter_new();
		size_t size = compose(cases[i].model, cases[i].major, cases[i].minor,
				      cases[i].section, cases[i].fields, source);

		destination->large = 77;
		assert_int_equal(write_all(destination, stream, size, 100), cases[i].written);
		if (!cases[i].written)
			assert_int_equal(uvf_migration_set_state(destination->dev, STOP),
					 cases[i].loaded);
		if (!cases[i].written && !cases[i].loaded) {
			assert_int_equal(destination->small, source->small);
			/* What isn't in the stream stays as it was. */
			assert_int_equal(destination->large,
					 cases[i].fields == fields ? source->large : 77);
		}
		assert_non_null(strstr(destination->log, cases[i].says));
		counter_free(source);
		counter_free(destination);
	}
}

/* ---- Streams that would cost the reader more than it has ---- */

static const uint8_t *header_of(const char *name, uint32_t instance, uint32_t flags,
				const void *content, size_t length)
{
	static struct uvf_section_header header;

	header = (struct uvf_section_header){
		.instance = htole32(instance),
		.flags = htole32(flags),
		.length = htole64(length),
		.content_checksum = htole32((uint32_t)crc32(0, content, (uInt)length)),
	};
	snprintf(header.name, sizeof(header.name), "%s", name);
	header.checksum = htole32((uint32_t)crc32(0, (const uint8_t *)&header,
						  offsetof(struct uvf_section_header, checksum)));
	return (const uint8_t *)&header;
}

static void begin_stream(struct uvf_state_reader *reader)
{
	struct uvf_state_writer writer = {.max = sizeof(stream)};
	size_t size;

	assert_int_equal(uvf_state_begin(&writer, "counter", 3, 1), 0);
	size = uvf_state_take(&writer, stream, sizeof(stream));
	uvf_state_writer_free(&writer);
	assert_int_equal(uvf_state_feed(reader, stream, size), 0);
}

/* Sections without content cost memory, and time, as well. */
static void very_many_sections(void **state)
{
	struct uvf_state_reader reader = {
		.model = "counter", .major = 3, .names = sections, .max = SIZE_MAX};
	const void *bytes;
	int ret = 0;

	begin_stream(&reader);
	for (uint32_t i = 0; i < UVF_SECTIONS_MAX; i++)
		assert_int_equal(uvf_state_feed(&reader, header_of("early", i, 0, NULL, 0),
						sizeof(reader.part)),
				 0);
	/* What comes again is not one more. */
	assert_int_equal(
		uvf_state_feed(&reader, header_of("early", 9, 0, NULL, 0), sizeof(reader.part)), 0);
	assert_int_equal(uvf_state_read_bytes(&reader, "early", UVF_SECTIONS_MAX - 1, &bytes), 0);
	assert_int_equal(uvf_state_read_bytes(&reader, "early", UVF_SECTIONS_MAX, &bytes), -ENOENT);
	ret = uvf_state_feed(&reader, header_of("counter", 0, 0, NULL, 0), sizeof(reader.part));
	assert_int_equal(ret, -ENOSPC);
	assert_non_null(strstr(reader.error.text, "65536 sections"));
	uvf_state_reader_free(&reader);
}

/* Each costs at least itself of what there may be. */
static void sections_cost_more_than_their_content(void **state)
{
	struct uvf_state_reader reader = {
		.model = "counter", .major = 3, .names = sections, .max = 64 << 10};
	uint32_t count = 0;
	int ret;

	begin_stream(&reader);
	do {
		ret = uvf_state_feed(&reader, header_of("early", count, 0, NULL, 0),
				     sizeof(reader.part));
	} while (!ret && ++count < 4096);
	assert_int_equal(ret, -ENOSPC);
	assert_true(count > 100 && count < (64 << 10) / sizeof(struct uvf_section));
	uvf_state_reader_free(&reader);
}

/* Of what nobody here knows nothing is kept; but it is checked. */
static void what_is_left_out(void **state)
{
	struct uvf_state_reader reader = {
		.model = "counter", .major = 3, .names = sections, .max = 4096};
	uint8_t content[1000];
	const void *bytes;

	memset(content, 7, sizeof(content));
	begin_stream(&reader);
	for (uint32_t i = 0; i < 5000; i++) {
		const uint8_t *header =
			header_of("new", i, UVF_SECTION_OPTIONAL, content, sizeof(content));

		assert_int_equal(uvf_state_feed(&reader, header, sizeof(reader.part)), 0);
		assert_int_equal(uvf_state_feed(&reader, content, 300), 0);
		assert_int_equal(uvf_state_feed(&reader, content, 700), 0);
	}
	assert_int_equal(reader.total, 0);
	assert_int_equal(uvf_state_read_bytes(&reader, "new", 0, &bytes), -ENOENT);
	assert_int_equal(
		uvf_state_feed(&reader, header_of("counter", 0, 0, NULL, 0), sizeof(reader.part)),
		0);
	assert_int_equal(uvf_state_read_bytes(&reader, "counter", 0, &bytes), 0);
	assert_int_equal(uvf_state_feed(&reader,
					header_of("new", 0, UVF_SECTION_OPTIONAL, content, 10),
					sizeof(reader.part)),
			 0);
	content[9] = 8;
	assert_int_equal(uvf_state_feed(&reader, content, 10), -EINVAL);
	uvf_state_reader_free(&reader);
}

static void refused_by_the_model(void **state)
{
	struct counter *source = a_full_one(), *destination = counter_new();
	size_t size = read_all(source, sizeof(stream));

	destination->fail = 'c';
	assert_int_equal(write_all(destination, stream, size, 512), -EINVAL);
	assert_non_null(strstr(destination->log, "not today"));
	assert_int_equal(uvf_device_reset(destination->dev, UVF_RESET_DEVICE), 0);
	destination->fail = 'l';
	assert_int_equal(write_all(destination, stream, size, 512), 0);
	assert_int_equal(uvf_migration_set_state(destination->dev, RUNNING), -EIO);
	assert_int_equal(uvf_migration_state(destination->dev), ERROR);
	assert_int_equal(uvf_migration_set_state(destination->dev, RUNNING), -EINVAL);
	assert_int_equal(uvf_device_reset(destination->dev, UVF_RESET_DEVICE), 0);
	assert_int_equal(uvf_migration_state(destination->dev), RUNNING);
	counter_free(source);
	counter_free(destination);
}

static void without_a_session(void **state)
{
	struct counter *counter = counter_new();
	uint64_t size;
	char byte = 0;

	assert_int_equal(uvf_migration_read(counter->dev, &byte, 1), -EINVAL);
	assert_int_equal(uvf_migration_write(counter->dev, &byte, 1), -EINVAL);
	assert_int_equal(uvf_migration_data_size(counter->dev, &size), 0);
	assert_true(size >= 4096);
	assert_int_equal(uvf_migration_flags(counter->dev), ALL);
	uvf_device_close(counter->dev);
	assert_int_equal(uvf_migration_set_state(counter->dev, STOP), -ENODEV);
	counter_free(counter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(every_way),
		cmocka_unit_test(what_is_asked),
		cmocka_unit_test(an_arc_that_fails),
		cmocka_unit_test(a_reset_ends_it),
		cmocka_unit_test(moves),
		cmocka_unit_test(early),
		cmocka_unit_test(changed_or_cut),
		cmocka_unit_test(more_after_the_end),
		cmocka_unit_test(versions),
		cmocka_unit_test(very_many_sections),
		cmocka_unit_test(sections_cost_more_than_their_content),
		cmocka_unit_test(what_is_left_out),
		cmocka_unit_test(refused_by_the_model),
		cmocka_unit_test(without_a_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
