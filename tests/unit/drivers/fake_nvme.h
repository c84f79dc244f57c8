/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller that does the least, and whatever is wrong as a test wants it: what a driver must
 * survive. It is driven by its doorbells alone and does each command before they return.
 */
#ifndef FAKE_NVME_H
#define FAKE_NVME_H

#include "nvme_spec.h"

#include <uvfio/client.h>
#include <uvfio/dma.h>

#define FAKE_QUEUES 3 /* the admin queue's pair and two */
#define FAKE_BLOCKS 4096u
#define FAKE_SIZE   (FAKE_BLOCKS * 512u)

struct fake_ring {
	uvf_iova_t base;
	uint32_t entries, head, tail;
	uint16_t phase;
};

struct fake_nvme {
	struct uvf_device *dev;
	uint8_t config[256];
	uint8_t disk[FAKE_SIZE];
	uint64_t cap, asq, acq;
	uint32_t cc, csts, aqa;
	struct fake_ring sq[FAKE_QUEUES], cq[FAKE_QUEUES];
	unsigned done;		    /* commands */
	unsigned tail_writes;	    /* of submission doorbells of I/O queues */
	uint32_t list_entries_seen; /* of the last PRP list */

	/* What it does wrong. */
	bool never_ready, fatal, gone, silent, wrong_cid, no_queues;
	uint8_t fail_opcode; /* admin; 0xff: none */
	uint8_t block_shift;
	uint16_t io_status;
	unsigned silent_after; /* commands; 0: never */
};

void fake_nvme_new(struct fake_nvme *fake);
void fake_nvme_free(struct fake_nvme *fake);

#endif
