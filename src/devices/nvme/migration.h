/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller as it is in a migration stream: plain structs, which migration.c fills from the
 * controller and migration_load.c makes the controller from. Numbers of queues are instances.
 */
#ifndef UVF_NVME_MIGRATION_H
#define UVF_NVME_MIGRATION_H

#include "devices/nvme/nvme.h"

/* What the two sides must have alike. */
struct nvme_make {
	uint16_t queues;
	uint8_t mdts, namespaces;
	bool mapped_doorbells, ioeventfds;
	char serial[21], model[41];
};

struct nvme_namespace_image {
	char kind[8];
	uint64_t size;
	uint32_t smallest_block;
	bool read_only;
	uint8_t block_shift;
	uint8_t uuid[16];
	uint32_t error_recovery;
};

struct nvme_register_image {
	uint32_t cc, csts, aqa, intms;
	uint64_t asq, acq;
	bool reset_wanted, shutdown_wanted;
	bool shadowed;
	uint64_t shadow, event;
	uint64_t uptime; /* ms */
	uint64_t unsafe_shutdowns, error_count;
	uint64_t read_blocks, written_blocks, reads, writes, media_errors;
};

struct nvme_feature_image {
	uint32_t arbitration, power, over_temperature, under_temperature;
	uint32_t interrupt_coalescing, write_atomicity, async_events;
	uint8_t not_coalesced[NVME_QUEUES]; /* by vector */
	uint64_t timestamp;
	bool timestamp_from_host, write_cache;
};

struct nvme_event_image {
	uint8_t cid_count, pending, masked;
	uint8_t cids[2 * NVME_AERS];
	uint8_t infos[8], logs[8];
};

struct nvme_cq_image {
	uint32_t size, head, tail; /* size 0: doesn't exist */
	uint16_t vector, phase;
	bool interrupts, pin_waiting;
	uint32_t bad_doorbell, event_index;
	uint64_t iova;
};

struct nvme_sq_image {
	uint32_t size, head, tail; /* size 0: doesn't exist */
	uint16_t cq_id;
	uint32_t bad_doorbell, event_index;
	uint64_t iova;
};

struct nvme_bad_range {
	uint64_t first, last; /* little-endian */
};

struct nvme_image {
	struct nvme_make make;
	struct nvme_register_image registers;
	struct nvme_feature_image features;
	struct nvme_event_image events;
	struct nvme_namespace_image namespaces[NVME_MAX_NAMESPACES];
	struct nvme_cq_image cqs[NVME_QUEUES];
	struct nvme_sq_image sqs[NVME_QUEUES];
};

/* A section that is a part of the image. */
struct nvme_image_part {
	const char *name;
	size_t offset, size;
	unsigned count;
	const struct uvf_state_field *fields;
};

extern const struct nvme_image_part nvme_image_parts[]; /* ends without a name */

void nvme_make_fill(const struct nvme *ctrl, struct nvme_make *make);
void nvme_namespace_fill(const struct nvme *ctrl, unsigned index,
			 struct nvme_namespace_image *image);
/* Whether parts of that number are there at all. */
bool nvme_part_exists(const struct nvme_image *image, const struct nvme_image_part *part,
		      unsigned instance);

/* migration_storage.c: storage that is memory. Its namesakes in struct uvf_migration_ops; */
int nvme_save_early(struct uvf_device *dev, struct uvf_state_writer *writer);
void nvme_early_size(struct uvf_device *dev, uint64_t *initial, uint64_t *dirty);
void nvme_end_early(struct uvf_device *dev);
void *nvme_place(struct uvf_device *dev, const char *section, uint32_t instance, uint64_t size);
/* what save(), size(), check() and load() do of it. */
int nvme_storage_write(struct nvme *ctrl, struct nvme_namespace *ns,
		       struct uvf_state_writer *writer);
uint64_t nvme_storage_size(struct nvme *ctrl);
/* -EINVAL: the list names what is not there. */
int nvme_storage_check(const struct nvme_namespace *ns, struct uvf_state_reader *reader);
int nvme_storage_load(struct nvme *ctrl, struct nvme_namespace *ns,
		      struct uvf_state_reader *reader);
/* What was placed is the device's from now on. */
void nvme_storage_keep(struct nvme *ctrl);

/* migration_load.c */
int nvme_check(struct uvf_device *dev, struct uvf_state_reader *reader, struct uvf_error *error);
int nvme_load(struct uvf_device *dev, struct uvf_state_reader *reader);

#endif
