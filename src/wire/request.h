/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests as checked structs: nothing that the other side sent is used before it went through
 * here. */
#ifndef UVF_WIRE_REQUEST_H
#define UVF_WIRE_REQUEST_H

#include "wire/channel.h"

struct uvf_wire_limits {
	uint32_t max_data_xfer_size; /* ours: the largest count we take */
	bool areas;		     /* the extension's messages are allowed */
};

struct uvf_wire_request {
	uint16_t id;
	uint16_t command;
	bool no_reply;
	union {
		struct uvf_wire_version version;
		struct uvf_wire_dma_map dma_map;
		struct uvf_wire_dma_unmap dma_unmap;
		struct uvf_wire_device_info device_info;
		struct uvf_wire_region_info region_info;
		struct uvf_wire_region_io_fds region_io_fds;
		struct uvf_wire_irq_info irq_info;
		struct uvf_wire_irq_set irq_set;
		struct uvf_wire_region_access region_access;
		struct uvf_wire_dma_access dma_access;
		struct uvf_wire_write_multi write_multi;
		struct uvf_wire_feature feature;
		struct uvf_wire_mig_data mig_data;
		struct uvf_user_region_mapping region_mapping;
	};
	const uint8_t *data; /* what follows the fixed part; in the receive buffer */
	size_t data_size;
	const int *fds; /* borrowed from the message */
	size_t fd_count;
};

/*
 * Checks what can be known from the message alone: sizes against counts, argsz, flags, and how many
 * descriptors came. Which region or vector is meant, the core checks.
 * Errors: -EINVAL, -EOPNOTSUPP (no such command), -E2BIG (more than was advertised).
 */
int uvf_wire_decode(const struct uvf_message *message, const struct uvf_wire_limits *limits,
		    struct uvf_wire_request *request);

/* The write number @index of a WRITE_MULTI that was decoded. */
struct uvf_wire_write uvf_wire_write_nth(const struct uvf_wire_request *request, uint64_t index);

#endif
