/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the driver needs of the NVM Express base specification 1.4: registers, entries, opcodes. The
 * driver has its own declarations, apart from the device's, so that each checks the other.
 */
#ifndef NVME_SPEC_H
#define NVME_SPEC_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>

/* Registers, in BAR 0. */
enum {
	NVME_REG_CAP = 0x00,
	NVME_REG_VS = 0x08,
	NVME_REG_CC = 0x14,
	NVME_REG_CSTS = 0x1c,
	NVME_REG_AQA = 0x24,
	NVME_REG_ASQ = 0x28,
	NVME_REG_ACQ = 0x30,
	NVME_REG_DOORBELLS = 0x1000,
};

#define NVME_CAP_MQES(cap)   ((uint32_t)((cap)&0xffff))
#define NVME_CAP_TO(cap)     ((uint32_t)((cap) >> 24 & 0xff)) /* in 500 ms */
#define NVME_CAP_DSTRD(cap)  ((uint32_t)((cap) >> 32 & 0xf))
#define NVME_CAP_MPSMIN(cap) ((uint32_t)((cap) >> 48 & 0xf))

#define NVME_CC_EN	   (1u << 0)
#define NVME_CC_SHN_NORMAL (1u << 14)
#define NVME_CC_IOSQES_64  (6u << 16)
#define NVME_CC_IOCQES_16  (4u << 20)

#define NVME_CSTS_RDY	     (1u << 0)
#define NVME_CSTS_CFS	     (1u << 1)
#define NVME_CSTS_SHST(csts) ((csts) >> 2 & 3)
#define NVME_SHST_COMPLETE   2u

enum {
	NVME_ADMIN_DELETE_SQ = 0x00,
	NVME_ADMIN_CREATE_SQ = 0x01,
	NVME_ADMIN_DELETE_CQ = 0x04,
	NVME_ADMIN_CREATE_CQ = 0x05,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_DBBUF_CONFIG = 0x7c,
};

enum {
	NVME_IO_FLUSH = 0x00,
	NVME_IO_WRITE = 0x01,
	NVME_IO_READ = 0x02,
};

enum {
	NVME_CNS_NAMESPACE = 0,
	NVME_CNS_CONTROLLER = 1,
	NVME_CNS_ACTIVE_NAMESPACES = 2,
};

#define NVME_FEATURE_QUEUES 0x07
#define NVME_OACS_DBBUF	    (1u << 8)

#define NVME_QUEUE_CONTIGUOUS (1u << 0) /* PC, in CDW11 of both create commands */
#define NVME_CQ_INTERRUPTS    (1u << 1) /* IEN */

/* A submission queue entry. Little-endian. */
struct nvme_driver_command {
	uint8_t opcode;
	uint8_t flags;
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2, cdw3;
	uint64_t mptr;
	uint64_t prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct nvme_driver_command) == 64, "size");
_Static_assert(offsetof(struct nvme_driver_command, prp1) == 24, "prp1");
_Static_assert(offsetof(struct nvme_driver_command, cdw10) == 40, "cdw10");

/* A completion queue entry. Little-endian. */
struct nvme_driver_completion {
	uint32_t result;
	uint32_t reserved;
	uint16_t sq_head;
	uint16_t sq_id;
	uint16_t cid;
	uint16_t status; /* bit 0 is the phase */
};
_Static_assert(sizeof(struct nvme_driver_completion) == 16, "size");
_Static_assert(offsetof(struct nvme_driver_completion, status) == 14, "status");

/* Offsets into the Identify Controller data. */
enum {
	NVME_ID_SN = 4,
	NVME_ID_MN = 24,
	NVME_ID_FR = 64,
	NVME_ID_MDTS = 77,
	NVME_ID_OACS = 256,
};

/* Offsets into the Identify Namespace data. */
enum {
	NVME_NS_NSZE = 0,
	NVME_NS_FLBAS = 26,
	NVME_NS_LBAF = 128, /* 4 bytes a format; LBADS is the third */
};

#endif
