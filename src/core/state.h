/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migration streams inside: what is written to one and read from one. The layout is described in
 * docs/migration-stream.md.
 */
#ifndef UVF_CORE_STATE_H
#define UVF_CORE_STATE_H

#include <uvfio/migration.h>

/* What a stream begins with, and how each section does. Little-endian. */
struct uvf_stream_header {
	uint8_t magic[8];
	uint16_t format_major, format_minor;
	uint16_t model_major, model_minor;
	char model[16];
	uint32_t reserved;
	uint32_t checksum; /* of what is before it */
} __attribute__((packed));
_Static_assert(sizeof(struct uvf_stream_header) == 40, "as described");

struct uvf_section_header {
	char name[16];
	uint32_t instance;
	uint32_t flags;
	uint64_t length;	   /* of what follows */
	uint32_t content_checksum; /* of what follows */
	uint32_t checksum;	   /* of what is before it */
} __attribute__((packed));
_Static_assert(sizeof(struct uvf_section_header) == 40, "as described");

#define UVF_SECTION_OPTIONAL (1U << 0)

/* A field, in front of its bytes. */
struct uvf_field_header {
	uint16_t number;
	uint16_t reserved;
	uint32_t size;
} __attribute__((packed));
_Static_assert(sizeof(struct uvf_field_header) == 8, "as described");

/* ---- Writing: a queue of bytes that its reader takes from ---- */

struct uvf_state_writer {
	uint8_t *bytes;
	size_t begin, end, capacity;
	size_t max; /* that wait to be read */
};

/* Errors: -ENOMEM, -ENOSPC. */
int uvf_state_begin(struct uvf_state_writer *writer, const char *model, uint16_t major,
		    uint16_t minor);
int uvf_state_end(struct uvf_state_writer *writer);
size_t uvf_state_take(struct uvf_state_writer *writer, void *buf, size_t size);
void uvf_state_writer_free(struct uvf_state_writer *writer);

/* ---- Reading ---- */

struct uvf_section {
	struct uvf_section_header header;
	uint8_t *bytes;	   /* NULL: nobody here knows it, and it is left out */
	bool placed;	   /* `bytes` is the device's */
	uint32_t checksum; /* of what came, where it is left out */
};

/* That are kept until the end, of one stream. */
#define UVF_SECTIONS_MAX 65536u

struct uvf_state_reader {
	/* Who may write what: set before the first byte. */
	const char *model;
	uint16_t major;
	const char *const *names; /* of the sections that are known; ends with NULL */
	size_t max;		  /* of what is kept */
	/* As its namesake in struct uvf_migration_ops; or NULL. */
	void *(*place)(struct uvf_device *dev, const char *section, uint32_t instance,
		       uint64_t size);
	struct uvf_device *dev;
	/* What a refusal was for. */
	struct uvf_error error;

	bool has_header, complete;
	uint16_t minor; /* of the stream */
	uint8_t part[40];
	size_t part_size;
	struct uvf_section *filling; /* a section whose bytes are coming */
	size_t filled;
	size_t total; /* memory for `sections`, with what each costs */
	size_t count;
	void *sections; /* a tree of tsearch(3): a client chooses how many, and in which order */
};

/*
 * Takes the next bytes of a stream. -EINVAL (with the reason in reader->error), -ENOSPC, -ENOMEM:
 * it takes no more after that.
 */
int uvf_state_feed(struct uvf_state_reader *reader, const void *bytes, size_t size);
void uvf_state_reader_free(struct uvf_state_reader *reader);

#endif
