/* SPDX-License-Identifier: BSD-3-Clause */
/* What another server needs to go on with a session, and what it takes to have it back. */
#ifndef UVF_FRONTENDS_VFIO_USER_OFFER_H
#define UVF_FRONTENDS_VFIO_USER_OFFER_H

#include "core/core.h"

struct uvf_offer {
	uint8_t *bytes;
	size_t size, capacity;
	int *fds; /* duplicates */
	size_t fd_count, fd_capacity;
	int token;	/* one of them */
	int new_memory; /* for the device when the session has gone; -1: it needs none */
	/* What the device was made to give up. */
	struct uvf_irq_handover *irqs;
	size_t irq_count;
	int *io_fds; /* in fds */
	size_t io_fd_count;
	bool gave_io_fds;
};

/* The device has again what it gave up. That takes no descriptor. */
void uvf_offer_undo(struct uvf_device *dev, struct uvf_offer *offer);

#endif
