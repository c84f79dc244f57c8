/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vfio-user protocol's messages as they lie on the wire: numbers and layouts of QEMU's
 * docs/interop/vfio-user. All values are in the host's own byte order: so the specification says.
 *
 * What is not in the specification:
 *   UVF_WIRE_FEATURE_PRECOPY_INFO  VFIO_MIG_GET_PRECOPY_INFO, which has no message: a feature that
 *                                  a client probes.
 *   MIG_DATA_SIZE                  Linux's feature 9 with Linux's data; likewise.
 *   the states with P2P            are used where the device has them: its flags say so.
 *   "migration" in VERSION         {"pgsize": bytes, "max_bitmap_size": bytes}, as older
 *                                  specifications had it: answered where it was proposed. A bitmap
 *                                  is never larger than what the server says there, nor than its
 *                                  max_data_xfer_size: who asks for more is told E2BIG.
 *   "uvfio" in VERSION             {"areas": 1}: <uvfio/remap.h>, with its messages.
 *   MIG_DATA_READ in PRE_COPY      with nothing there at the moment is answered with size 0, which
 *                                  is the specification's "no more": more can come until STOP_COPY
 *                                  has been read to its end. A client also takes ENOMSG for that.
 */
#ifndef UVF_WIRE_PROTOCOL_H
#define UVF_WIRE_PROTOCOL_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <uvfio/remap.h>
#include <uvfio/uapi.h>

#define UVF_WIRE_MAJOR 0
#define UVF_WIRE_MINOR 0

enum uvf_wire_command {
	VFIO_USER_VERSION = 1,
	VFIO_USER_DMA_MAP = 2,
	VFIO_USER_DMA_UNMAP = 3,
	VFIO_USER_DEVICE_GET_INFO = 4,
	VFIO_USER_DEVICE_GET_REGION_INFO = 5,
	VFIO_USER_DEVICE_GET_REGION_IO_FDS = 6,
	VFIO_USER_DEVICE_GET_IRQ_INFO = 7,
	VFIO_USER_DEVICE_SET_IRQS = 8,
	VFIO_USER_REGION_READ = 9,
	VFIO_USER_REGION_WRITE = 10,
	VFIO_USER_DMA_READ = 11,  /* server to client */
	VFIO_USER_DMA_WRITE = 12, /* server to client */
	VFIO_USER_DEVICE_RESET = 13,
	VFIO_USER_REGION_WRITE_MULTI = 15,
	VFIO_USER_DEVICE_FEATURE = 16,
	VFIO_USER_MIG_DATA_READ = 17,
	VFIO_USER_MIG_DATA_WRITE = 18,
};

struct uvf_wire_header {
	uint16_t id; /* the sender's; comes back in the reply */
	uint16_t command;
	uint32_t size; /* of the whole message */
	uint32_t flags;
	uint32_t error; /* an errno, in a reply with UVF_WIRE_ERROR */
};
static_assert(sizeof(struct uvf_wire_header) == 16, "layout");
static_assert(offsetof(struct uvf_wire_header, error) == 12, "layout");

#define UVF_WIRE_TYPE	  0xfU
#define UVF_WIRE_REQUEST  0x0U
#define UVF_WIRE_REPLY	  0x1U
#define UVF_WIRE_NO_REPLY (1U << 4)
#define UVF_WIRE_ERROR	  (1U << 5)

/* Followed by JSON text with its NUL. */
struct uvf_wire_version {
	uint16_t major;
	uint16_t minor;
};
static_assert(sizeof(struct uvf_wire_version) == 4, "layout");

struct uvf_wire_dma_map {
	uint32_t argsz;
	uint32_t flags; /* VFIO_DMA_MAP_FLAG_READ, _WRITE */
	uint64_t offset;
	uint64_t address;
	uint64_t size;
};
static_assert(sizeof(struct uvf_wire_dma_map) == 32, "layout");
static_assert(offsetof(struct uvf_wire_dma_map, address) == 16, "layout");

struct uvf_wire_dma_unmap {
	uint32_t argsz;
	uint32_t flags; /* VFIO_DMA_UNMAP_FLAG_ALL */
	uint64_t address;
	uint64_t size;
};
static_assert(sizeof(struct uvf_wire_dma_unmap) == 24, "layout");

struct uvf_wire_device_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t regions;
	uint32_t irqs;
};
static_assert(sizeof(struct uvf_wire_device_info) == 16, "layout");

/* A reply is followed by capabilities (struct vfio_info_cap_header). */
struct uvf_wire_region_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t cap_offset;
	uint64_t size;
	uint64_t offset;
};
static_assert(sizeof(struct uvf_wire_region_info) == 32, "layout");

/* A reply is followed by struct uvf_wire_io_fd. */
struct uvf_wire_region_io_fds {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t count;
};
static_assert(sizeof(struct uvf_wire_region_io_fds) == 16, "layout");

enum { VFIO_USER_IO_FD_TYPE_IOEVENTFD = 0, VFIO_USER_IO_FD_TYPE_IOREGIONFD = 1 };
#define UVF_WIRE_IOEVENTFD_DATAMATCH 1U /* KVM_IOEVENTFD_FLAG_DATAMATCH */

struct uvf_wire_io_fd {
	uint64_t offset;
	uint64_t size;
	uint32_t fd_index;
	uint32_t type;
	uint32_t flags;
	uint32_t padding;
	uint64_t datamatch;
};
static_assert(sizeof(struct uvf_wire_io_fd) == 40, "layout");

struct uvf_wire_irq_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t count;
};
static_assert(sizeof(struct uvf_wire_irq_info) == 16, "layout");

/* DATA_BOOL: followed by @count bytes. DATA_EVENTFD: @count descriptors, or none. */
struct uvf_wire_irq_set {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t start;
	uint32_t count;
};
static_assert(sizeof(struct uvf_wire_irq_set) == 20, "layout");

/* Followed by the data, in the request of a write and the reply to a read. */
struct uvf_wire_region_access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
};
static_assert(sizeof(struct uvf_wire_region_access) == 16, "layout");

struct uvf_wire_dma_access {
	uint64_t address;
	uint64_t count;
};
static_assert(sizeof(struct uvf_wire_dma_access) == 16, "layout");

/* Followed by @count struct uvf_wire_write. */
struct uvf_wire_write_multi {
	uint64_t count;
};
static_assert(sizeof(struct uvf_wire_write_multi) == 8, "layout");

struct uvf_wire_write {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
	uint8_t data[8];
};
static_assert(sizeof(struct uvf_wire_write) == 24, "layout");

/* Followed by the feature's data. */
struct uvf_wire_feature {
	uint32_t argsz;
	uint32_t flags; /* VFIO_DEVICE_FEATURE_* */
};
static_assert(sizeof(struct uvf_wire_feature) == 8, "layout");

/* MIGRATION, MIG_DEVICE_STATE and MIG_DATA_SIZE have Linux's data, with a data_fd of -1. */
static_assert(sizeof(struct vfio_device_feature_migration) == 8, "layout");
static_assert(sizeof(struct vfio_device_feature_mig_state) == 8, "layout");
static_assert(offsetof(struct vfio_device_feature_mig_state, data_fd) == 4, "layout");
static_assert(sizeof(struct vfio_device_feature_mig_data_size) == 8, "layout");

/* DMA_LOGGING_START: followed by @num_ranges ranges; none: all. */
struct uvf_wire_logging_control {
	uint64_t page_size; /* a hint; in the reply what the device does */
	uint32_t num_ranges;
	uint32_t reserved;
};
static_assert(sizeof(struct uvf_wire_logging_control) == 16, "layout");
static_assert(sizeof(struct vfio_device_feature_dma_logging_range) == 16, "layout");
static_assert(offsetof(struct vfio_device_feature_dma_logging_range, length) == 8, "layout");

/* DMA_LOGGING_REPORT: in the reply followed by the bitmap, whole 64-bit words. */
struct uvf_wire_logging_report {
	uint64_t iova;
	uint64_t length;
	uint64_t page_size;
};
static_assert(sizeof(struct uvf_wire_logging_report) == 24, "layout");
static_assert(offsetof(struct uvf_wire_logging_report, page_size) == 16, "layout");

/* Ours: GET alone; refused outside PRE_COPY. */
#define UVF_WIRE_FEATURE_PRECOPY_INFO 0xfe01U
struct uvf_wire_precopy_info {
	uint64_t initial_bytes;
	uint64_t dirty_bytes;
};
static_assert(sizeof(struct uvf_wire_precopy_info) == 16, "layout");

/* Followed by the data, in the request of a write and the reply to a read. */
struct uvf_wire_mig_data {
	uint32_t argsz;
	uint32_t size;
};
static_assert(sizeof(struct uvf_wire_mig_data) == 8, "layout");
static_assert(offsetof(struct uvf_wire_mig_data, size) == 4, "layout");

/* UVF_USER_REGION_MAPPED and _UNMAPPED. */
static_assert(sizeof(struct uvf_user_region_mapping) == 32, "layout");
static_assert(offsetof(struct uvf_user_region_mapping, offset) == 16, "layout");

/* The largest fixed part of a message that data of max_data_xfer_size can follow. */
#define UVF_WIRE_FIXED_MAX \
	(sizeof(struct uvf_wire_feature) + sizeof(struct uvf_wire_logging_report))

#endif
