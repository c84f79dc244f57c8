/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session on its way to another server: a header, then arrays in the order of their counts in it,
 * then bytes that the driver has sent. Descriptors are numbers into the list that goes along.
 * Both sides are on one host; their versions can differ.
 */
#ifndef UVF_FRONTENDS_VFIO_USER_HANDOVER_H
#define UVF_FRONTENDS_VFIO_USER_HANDOVER_H

#include <stdint.h>

#define UVF_HANDOVER_MAGIC   0x6f766f646e414855ULL /* "UHAndovo" */
#define UVF_HANDOVER_VERSION 1
#define UVF_HANDOVER_NO_FD   UINT32_MAX

struct uvf_handover_header {
	uint64_t magic;
	uint32_t version;
	uint32_t fd_count;
	/* What the client said of itself. */
	uint64_t client_page_sizes, client_max_dma_maps;
	uint32_t client_max_msg_fds, client_max_data_xfer_size;
	uint64_t client_migration_page_size, client_max_bitmap_size;
	uint8_t client_write_multiple, client_twin_socket, client_migration;
	/* Who reads remote memory had learnt which layout it has: remote.c. */
	uint8_t remote_layout;
	uint8_t reserved[4];
	/* What it was told. */
	uint64_t page_sizes, max_dma_maps, max_bitmap_size;
	uint32_t max_msg_fds, max_data_xfer_size;
	/* Descriptors. The token is an eventfd with 1 in it: who reads that has the session. */
	uint32_t token, connection, twin, memory;
	/* What follows. */
	uint32_t io_fd_count, irq_count, mapping_count, input_fd_count;
	uint64_t input_size;
};
_Static_assert(sizeof(struct uvf_handover_header) == 136, "the same in all versions");

/* After the header: io_fd_count times a descriptor. */

struct uvf_handover_irq {
	uint32_t index, vector;
	uint32_t trigger, unmask; /* descriptors */
	uint8_t masked, pending, asserted;
	uint8_t reserved[5];
};
_Static_assert(sizeof(struct uvf_handover_irq) == 24, "the same in all versions");

struct uvf_handover_mapping {
	uint64_t iova, size, offset;
	uint32_t fd; /* none: the client serves it by messages */
	uint32_t prot;
};
_Static_assert(sizeof(struct uvf_handover_mapping) == 32, "the same in all versions");

/* A descriptor that the client has sent, with the byte of the input that it came with. */
struct uvf_handover_input_fd {
	uint64_t at;
	uint32_t fd;
	uint32_t reserved;
};
_Static_assert(sizeof(struct uvf_handover_input_fd) == 16, "the same in all versions");

#endif
