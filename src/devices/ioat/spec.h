/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registers and descriptors of Intel's I/OAT DMA engine ("CB", QuickData), version 3.3, as in the
 * Xeon data sheets and in the drivers of Linux and DPDK, which name them alike.
 */
#ifndef UVF_IOAT_SPEC_H
#define UVF_IOAT_SPEC_H

#include <stdint.h>

/* Skylake-X: one channel in each function, 16 KiB of registers. */
#define IOAT_PCI_VENDOR 0x8086
#define IOAT_PCI_DEVICE 0x2021
#define IOAT_BAR_SIZE	0x4000
#define IOAT_MSIX_TABLE 0x2000
#define IOAT_MSIX_PBA	0x3000
#define IOAT_CBVER_3_3	0x33

/* The device's registers. */
enum {
	IOAT_CHANCNT = 0x00,
	IOAT_XFERCAP = 0x01, /* log2 of the longest transfer */
	IOAT_GENCTRL = 0x02,
	IOAT_INTRCTRL = 0x03,
	IOAT_ATTNSTATUS = 0x04, /* a bit a channel; reading clears */
	IOAT_CBVER = 0x08,
	IOAT_PERPORTOFFSET = 0x0a,
	IOAT_INTRDELAY = 0x0c,
	IOAT_CS_STATUS = 0x0e,
	IOAT_DMACAPABILITY = 0x10,
	IOAT_DCAOFFSET = 0x14,
	IOAT_CBPRIO = 0x40,
	IOAT_CHANNEL_0 = 0x80,
	IOAT_CHANNEL_SIZE = 0x80,
};

/* A channel's, from its own start. */
enum {
	IOAT_CHANCTRL = 0x00,
	IOAT_DMA_COMP = 0x02,
	IOAT_CHANCMD = 0x04,
	IOAT_DMACOUNT = 0x06,
	IOAT_CHANSTS = 0x08,
	IOAT_CHAINADDR = 0x10,
	IOAT_CHANCMP = 0x18,
	IOAT_CDAR = 0x20,
	IOAT_CHANERR = 0x28,
	IOAT_CHANERR_MASK = 0x2c,
	IOAT_CHANNEL_REGISTERS = 0x30,
};

enum {
	IOAT_GENCTRL_DEBUG_EN = 0x01,

	IOAT_INTRCTRL_MASTER_INT_EN = 0x01, /* reading clears */
	IOAT_INTRCTRL_INT_STATUS = 0x02,    /* some bit of ATTNSTATUS is set */
	IOAT_INTRCTRL_INT = 0x04,	    /* both */
	IOAT_INTRCTRL_MSIX_VECTOR_CONTROL = 0x08,

	IOAT_INTRDELAY_MASK = 0x3fff,

	IOAT_CAP_FILL_BLOCK = 0x40,

	IOAT_COMP_V2 = 0x02,
	IOAT_COMP_V3 = 0x04,

	/* Set when the channel has interrupted, which it then does no more; writing 1 clears. */
	IOAT_CHANCTRL_INT_REARM = 0x0001,
	IOAT_CHANCTRL_ERR_COMPLETION_EN = 0x0004,
	IOAT_CHANCTRL_ANY_ERR_ABORT_EN = 0x0008,
	IOAT_CHANCTRL_ERR_INT_EN = 0x0010,
	IOAT_CHANCTRL_SNOOP = 0x0020,
	IOAT_CHANCTRL_IN_USE = 0x0100,
	IOAT_CHANCTRL_COMPL_DCA_EN = 0x0200,
	IOAT_CHANCTRL_PRIORITY = 0xf000,
	IOAT_CHANCTRL_WRITABLE = IOAT_CHANCTRL_ERR_COMPLETION_EN | IOAT_CHANCTRL_ANY_ERR_ABORT_EN |
				 IOAT_CHANCTRL_ERR_INT_EN | IOAT_CHANCTRL_SNOOP |
				 IOAT_CHANCTRL_IN_USE | IOAT_CHANCTRL_COMPL_DCA_EN |
				 IOAT_CHANCTRL_PRIORITY,

	IOAT_CHANCMD_SUSPEND = 0x04,
	IOAT_CHANCMD_ABORT = 0x08,
	IOAT_CHANCMD_RESUME = 0x10,
	IOAT_CHANCMD_RESET = 0x20,
};

/* CHANSTS is the address of the last completed descriptor, and in its low bits one of these. */
enum ioat_status {
	IOAT_ACTIVE = 0,
	IOAT_DONE = 1,
	IOAT_SUSPENDED = 2,
	IOAT_HALTED = 3,
	IOAT_ARMED = 4,
};
#define IOAT_STATUS_MASK 7u

/* CHANERR, and CHANERR_INT in configuration space. */
enum {
	IOAT_ERR_SOURCE_ADDRESS = 0x0001,      /* wraps */
	IOAT_ERR_DESTINATION_ADDRESS = 0x0002, /* wraps */
	IOAT_ERR_NEXT_ADDRESS = 0x0004,	       /* a next descriptor can't be read */
	IOAT_ERR_NEXT_ALIGNMENT = 0x0008,
	IOAT_ERR_CHAIN_ADDRESS = 0x0010, /* CHAINADDR: not aligned, or can't be read */
	IOAT_ERR_CHANCMD = 0x0020,
	IOAT_ERR_READ_DATA = 0x0100,
	IOAT_ERR_WRITE_DATA = 0x0200,
	IOAT_ERR_CONTROL = 0x0400,
	IOAT_ERR_LENGTH = 0x0800,
	IOAT_ERR_COMPLETION_ADDRESS = 0x1000,
	IOAT_ERR_ALL = 0x0007ffff,
};

/* In configuration space, outside any capability. */
enum {
	IOAT_PCI_DMAUNCERRSTS = 0x148,
	IOAT_PCI_CHANERR_INT = 0x180,
	IOAT_PCI_CHANERRMSK_INT = 0x184,
};

/* A descriptor, as in memory: little endian, aligned to its size. */
struct ioat_descriptor {
	uint32_t size;
	uint32_t control;
	uint64_t source; /* of a fill: its pattern */
	uint64_t destination;
	uint64_t next;
	uint64_t reserved[2];
	uint64_t user[2]; /* the driver's own */
};
_Static_assert(sizeof(struct ioat_descriptor) == 64, "a descriptor is 64 bytes");

enum {
	IOAT_DESC_INT = 1u << 0,
	IOAT_DESC_SOURCE_NO_SNOOP = 1u << 1,
	IOAT_DESC_DESTINATION_NO_SNOOP = 1u << 2,
	IOAT_DESC_COMPLETION = 1u << 3, /* write CHANSTS to where CHANCMP points */
	IOAT_DESC_FENCE = 1u << 4,
	IOAT_DESC_NULL = 1u << 5,
	IOAT_DESC_BUNDLE = 1u << 8,
	IOAT_DESC_DCA = 1u << 9,
	IOAT_DESC_HINT = 1u << 10,
	IOAT_DESC_OP_SHIFT = 24,
	IOAT_OP_COPY = 0x00,
	IOAT_OP_FILL = 0x01,
};

#endif
