/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Layouts and numbers of the NVM Express base specification 1.4. All fields are little-endian.
 */
#ifndef UVF_NVME_SPEC_H
#define UVF_NVME_SPEC_H

#include <stddef.h>
#include <stdint.h>

#define NVME_PAGE_SHIFT 12
#define NVME_PAGE_SIZE	(1u << NVME_PAGE_SHIFT)
#define NVME_NSID_ALL	UINT32_MAX

/* Registers. */
enum {
	NVME_REG_CAP = 0x00,
	NVME_REG_VS = 0x08,
	NVME_REG_INTMS = 0x0c,
	NVME_REG_INTMC = 0x10,
	NVME_REG_CC = 0x14,
	NVME_REG_CSTS = 0x1c,
	NVME_REG_AQA = 0x24,
	NVME_REG_ASQ = 0x28,
	NVME_REG_ACQ = 0x30,
	NVME_REG_END = 0x38,
	NVME_REG_DOORBELLS = 0x1000,
};

#define NVME_VERSION 0x00010400u

#define NVME_CC_EN		(1u << 0)
#define NVME_CC_CSS(cc)		((cc) >> 4 & 7)
#define NVME_CC_MPS(cc)		((cc) >> 7 & 15)
#define NVME_CC_AMS(cc)		((cc) >> 11 & 7)
#define NVME_CC_SHN(cc)		((cc) >> 14 & 3)
#define NVME_CC_IOSQES(cc)	((cc) >> 16 & 15)
#define NVME_CC_IOCQES(cc)	((cc) >> 20 & 15)
#define NVME_CC_WRITABLE	0x00fffff1u
#define NVME_CSTS_RDY		(1u << 0)
#define NVME_CSTS_CFS		(1u << 1)
#define NVME_CSTS_SHST_MASK	(3u << 2)
#define NVME_CSTS_SHST_ONGOING	(1u << 2)
#define NVME_CSTS_SHST_COMPLETE (2u << 2)

#define NVME_SQES 6 /* log2 of the size of a submission queue entry */
#define NVME_CQES 4

enum {
	NVME_ADM_DELETE_SQ = 0x00,
	NVME_ADM_CREATE_SQ = 0x01,
	NVME_ADM_GET_LOG_PAGE = 0x02,
	NVME_ADM_DELETE_CQ = 0x04,
	NVME_ADM_CREATE_CQ = 0x05,
	NVME_ADM_IDENTIFY = 0x06,
	NVME_ADM_ABORT = 0x08,
	NVME_ADM_SET_FEATURES = 0x09,
	NVME_ADM_GET_FEATURES = 0x0a,
	NVME_ADM_ASYNC_EVENT = 0x0c,
	NVME_ADM_DOORBELL_BUFFER = 0x7c,
	NVME_ADM_FORMAT = 0x80,
};

enum {
	NVME_CMD_FLUSH = 0x00,
	NVME_CMD_WRITE = 0x01,
	NVME_CMD_READ = 0x02,
	NVME_CMD_WRITE_UNCORRECTABLE = 0x04,
	NVME_CMD_COMPARE = 0x05,
	NVME_CMD_WRITE_ZEROES = 0x08,
	NVME_CMD_DATASET_MANAGEMENT = 0x09,
	NVME_CMD_VERIFY = 0x0c,
};

/* Status: Status Code, Status Code Type << 8, and the two bits above them. */
enum {
	NVME_SC_SUCCESS = 0x00,
	NVME_SC_INVALID_OPCODE = 0x01,
	NVME_SC_INVALID_FIELD = 0x02,
	NVME_SC_DATA_TRANSFER = 0x04,
	NVME_SC_INTERNAL = 0x06,
	NVME_SC_ABORT_REQUESTED = 0x07,
	NVME_SC_SQ_DELETED = 0x08,
	NVME_SC_INVALID_NAMESPACE = 0x0b,
	NVME_SC_COMMAND_SEQUENCE = 0x0c,
	NVME_SC_INVALID_SGL_SEGMENT = 0x0d,
	NVME_SC_INVALID_SGL_COUNT = 0x0e,
	NVME_SC_DATA_SGL_LENGTH = 0x0f,
	NVME_SC_SGL_TYPE = 0x11,
	NVME_SC_PRP_OFFSET = 0x13,
	NVME_SC_WRITE_PROTECTED = 0x20,
	NVME_SC_LBA_OUT_OF_RANGE = 0x80,
	NVME_SC_CAPACITY_EXCEEDED = 0x81,
	NVME_SC_NAMESPACE_NOT_READY = 0x82,
	NVME_SC_FORMAT_IN_PROGRESS = 0x84,

	NVME_SC_CQ_INVALID = 0x100,
	NVME_SC_INVALID_QUEUE_ID = 0x101,
	NVME_SC_INVALID_QUEUE_SIZE = 0x102,
	NVME_SC_ASYNC_EVENT_LIMIT = 0x105,
	NVME_SC_INVALID_VECTOR = 0x108,
	NVME_SC_INVALID_LOG_PAGE = 0x109,
	NVME_SC_INVALID_FORMAT = 0x10a,
	NVME_SC_INVALID_QUEUE_DELETION = 0x10c,
	NVME_SC_NOT_SAVEABLE = 0x10d,
	NVME_SC_NOT_CHANGEABLE = 0x10e,
	NVME_SC_NOT_NAMESPACE_SPECIFIC = 0x10f,

	NVME_SC_WRITE_FAULT = 0x280,
	NVME_SC_UNRECOVERED_READ = 0x281,
	NVME_SC_COMPARE_FAILURE = 0x285,

	NVME_SC_MORE = 1 << 13,
	NVME_SC_DNR = 1 << 14,
};

/* SGL descriptor types; the subtype is in the low four bits. */
enum {
	NVME_SGL_DATA = 0,
	NVME_SGL_BIT_BUCKET = 1,
	NVME_SGL_SEGMENT = 2,
	NVME_SGL_LAST_SEGMENT = 3,
};

struct nvme_sgl {
	uint64_t address;
	uint32_t length;
	uint8_t reserved[3];
	uint8_t type;
};
_Static_assert(sizeof(struct nvme_sgl) == 16, "size");
_Static_assert(offsetof(struct nvme_sgl, type) == 15, "type");

struct nvme_sqe {
	uint8_t opcode;
	uint8_t flags; /* FUSE 1:0, PSDT 7:6 */
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2, cdw3;
	uint64_t mptr;
	union {
		struct {
			uint64_t prp1, prp2;
		};
		struct nvme_sgl sgl;
	};
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct nvme_sqe) == 1 << NVME_SQES, "size");
_Static_assert(offsetof(struct nvme_sqe, prp1) == 24, "prp1");
_Static_assert(offsetof(struct nvme_sqe, cdw10) == 40, "cdw10");

struct nvme_cqe {
	uint32_t result;
	uint32_t reserved;
	uint16_t sq_head;
	uint16_t sq_id;
	uint16_t cid;
	uint16_t status; /* bit 0: the phase */
};
_Static_assert(sizeof(struct nvme_cqe) == 1 << NVME_CQES, "size");
_Static_assert(offsetof(struct nvme_cqe, status) == 14, "status");

struct nvme_dsm_range {
	uint32_t attributes;
	uint32_t blocks;
	uint64_t lba;
};
_Static_assert(sizeof(struct nvme_dsm_range) == 16, "size");

struct nvme_power_state {
	uint16_t max_power; /* in 0.01 W */
	uint8_t rest[30];
};

struct nvme_id_controller {
	uint16_t vid, ssvid;
	char sn[20];
	char mn[40];
	char fr[8];
	uint8_t rab;
	uint8_t ieee[3];
	uint8_t cmic;
	uint8_t mdts;
	uint16_t cntlid;
	uint32_t ver;
	uint32_t rtd3r, rtd3e;
	uint32_t oaes;
	uint32_t ctratt;
	uint16_t rrls;
	uint8_t reserved102[9];
	uint8_t cntrltype;
	uint8_t fguid[16];
	uint8_t reserved128[128];
	uint16_t oacs;
	uint8_t acl;
	uint8_t aerl;
	uint8_t frmw;
	uint8_t lpa;
	uint8_t elpe;
	uint8_t npss;
	uint8_t avscc;
	uint8_t apsta;
	uint16_t wctemp, cctemp;
	uint8_t reserved270[242];
	uint8_t sqes, cqes;
	uint16_t maxcmd;
	uint32_t nn;
	uint16_t oncs;
	uint16_t fuses;
	uint8_t fna;
	uint8_t vwc;
	uint16_t awun, awupf;
	uint8_t nvscc;
	uint8_t nwpc;
	uint16_t acwu;
	uint16_t reserved534;
	uint32_t sgls;
	uint32_t mnan;
	uint8_t reserved544[224];
	char subnqn[256];
	uint8_t reserved1024[1024];
	struct nvme_power_state psd[32];
	uint8_t vendor[1024];
};
_Static_assert(sizeof(struct nvme_id_controller) == 4096, "size");
_Static_assert(offsetof(struct nvme_id_controller, mdts) == 77, "mdts");
_Static_assert(offsetof(struct nvme_id_controller, cntrltype) == 111, "cntrltype");
_Static_assert(offsetof(struct nvme_id_controller, oacs) == 256, "oacs");
_Static_assert(offsetof(struct nvme_id_controller, sqes) == 512, "sqes");
_Static_assert(offsetof(struct nvme_id_controller, sgls) == 536, "sgls");
_Static_assert(offsetof(struct nvme_id_controller, subnqn) == 768, "subnqn");
_Static_assert(offsetof(struct nvme_id_controller, psd) == 2048, "psd");

struct nvme_lba_format {
	uint16_t ms;
	uint8_t lbads;
	uint8_t rp;
};

struct nvme_id_namespace {
	uint64_t nsze, ncap, nuse;
	uint8_t nsfeat;
	uint8_t nlbaf;
	uint8_t flbas;
	uint8_t mc, dpc, dps, nmic, rescap, fpi;
	uint8_t dlfeat;
	uint16_t nawun, nawupf, nacwu, nabsn, nabo, nabspf, noiob;
	uint8_t nvmcap[16];
	uint16_t npwg, npwa, npdg, npda, nows;
	uint8_t reserved74[18];
	uint32_t anagrpid;
	uint8_t reserved96[3];
	uint8_t nsattr;
	uint16_t nvmsetid, endgid;
	uint8_t nguid[16];
	uint8_t eui64[8];
	struct nvme_lba_format lbaf[16];
	uint8_t reserved192[192];
	uint8_t vendor[3712];
};
_Static_assert(sizeof(struct nvme_id_namespace) == 4096, "size");
_Static_assert(offsetof(struct nvme_id_namespace, dlfeat) == 33, "dlfeat");
_Static_assert(offsetof(struct nvme_id_namespace, nvmcap) == 48, "nvmcap");
_Static_assert(offsetof(struct nvme_id_namespace, nsattr) == 99, "nsattr");
_Static_assert(offsetof(struct nvme_id_namespace, nguid) == 104, "nguid");
_Static_assert(offsetof(struct nvme_id_namespace, lbaf) == 128, "lbaf");

struct nvme_error_entry {
	uint64_t error_count;
	uint16_t sq_id, cid;
	uint16_t status; /* as in the completion */
	uint16_t location;
	uint64_t lba;
	uint32_t nsid;
	uint8_t vendor_log;
	uint8_t transport;
	uint8_t reserved[34];
};
_Static_assert(sizeof(struct nvme_error_entry) == 64, "size");
_Static_assert(offsetof(struct nvme_error_entry, nsid) == 24, "nsid");

struct nvme_smart_log {
	uint8_t critical_warning;
	uint8_t temperature[2];
	uint8_t available_spare, available_spare_threshold, percentage_used;
	uint8_t reserved6[26];
	/* 128-bit counters, of which the low half is enough. */
	uint64_t data_units_read[2], data_units_written[2];
	uint64_t host_reads[2], host_writes[2];
	uint64_t busy_minutes[2];
	uint64_t power_cycles[2], power_on_hours[2], unsafe_shutdowns[2];
	uint64_t media_errors[2], error_entries[2];
	uint32_t warning_minutes, critical_minutes;
	uint8_t reserved200[312];
};
_Static_assert(sizeof(struct nvme_smart_log) == 512, "size");
_Static_assert(offsetof(struct nvme_smart_log, data_units_read) == 32, "data_units_read");
_Static_assert(offsetof(struct nvme_smart_log, error_entries) == 176, "error_entries");

#endif
