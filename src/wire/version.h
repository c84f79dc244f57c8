/* SPDX-License-Identifier: BSD-3-Clause */
/* What the two sides tell each other in VERSION: JSON, decoded into a checked struct. */
#ifndef UVF_WIRE_VERSION_H
#define UVF_WIRE_VERSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UVF_WIRE_DEFAULT_DATA_XFER_SIZE 1048576
#define UVF_WIRE_DEFAULT_DMA_MAPS	65535
#define UVF_WIRE_DEFAULT_PAGE_SIZES	4096
#define UVF_WIRE_DEFAULT_BITMAP_SIZE	(256ULL << 20)
#define UVF_WIRE_MIGRATION_PAGE_SIZE	4096
/* Longer texts are refused. */
#define UVF_WIRE_VERSION_MAX 4096

struct uvf_wire_capabilities {
	uint32_t max_msg_fds;
	uint32_t max_data_xfer_size;
	uint64_t max_dma_maps;
	uint64_t page_sizes;
	bool write_multiple;
	bool twin_socket;
	int twin_fd_index; /* -1: not given */
	bool migration;	   /* the next two are said */
	uint64_t migration_page_size;
	uint64_t max_bitmap_size; /* of a report of a dirty log */
	bool areas;		  /* those that change are told of: <uvfio/remap.h> */
};

/*
 * @text has @size bytes with its NUL; size 0: nothing was said, so the specification's defaults.
 * Errors: -EINVAL, -E2BIG, -ENOMEM.
 */
int uvf_wire_capabilities_decode(const void *text, size_t size,
				 struct uvf_wire_capabilities *capabilities);
/* Writes the text with its NUL; returns its size with it, or -ENOMEM, -E2BIG. */
int uvf_wire_capabilities_encode(const struct uvf_wire_capabilities *capabilities, char *text,
				 size_t size);

#endif
