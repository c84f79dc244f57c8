/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Injected faults: what the core's paths ask. Each path has one branch on what it reads anyway
 * (dma.c) or on the device's `armed`; all here is behind that branch.
 *
 * The injector's lock is a leaf but for the delayer's: it is taken with a vector's or a device's
 * lock held, and nothing is called with it held.
 */
#ifndef UVF_CORE_INJECT_H
#define UVF_CORE_INJECT_H

#include "core/device.h"

#include <uvfio/inject.h>

enum inject_kind {
	INJECT_DMA_FAIL,
	INJECT_MAP_FAIL,
	INJECT_IRQ_DROP,
	INJECT_IRQ_DELAY,
	INJECT_REMOVE,
	INJECT_AER,
	INJECT_READ_SLOW,
	INJECT_WRITE_SLOW,
	INJECT_DIRTY_LOSE,
	INJECT_KINDS,
};

#define INJECT_ANY UINT32_MAX

/* A fault, decoded. What a kind doesn't have is 0. */
struct inject_fault {
	enum inject_kind kind;
	uint64_t nth;	/* 0: at once */
	uint64_t count; /* 0: from the nth on, for ever */
	int error;	/* negative */
	unsigned prot;	/* UVF_PROT_*: the transfers it is for */
	uvf_iova_t first, last;
	uint32_t index; /* of an interrupt or a region, or INJECT_ANY */
	uint32_t vector;
	uint64_t delay_us;
	bool tells_error, tells_request; /* removal: by which interrupts */
	bool correctable;
	unsigned bit;
	uint32_t header[4];
};

/* inject_spec.c. @device may be NULL. */
int uvf_inject_parse(const char *spec, struct inject_fault *fault, char *device, size_t size,
		     struct uvf_error *error);
unsigned uvf_inject_class(enum inject_kind kind);

/* ---- The paths: inject.c ---- */

/* A transfer or pin: 0, or the error that it fails with. */
int uvf_inject_dma(struct uvf_device *dev, unsigned prot, uvf_iova_t iova, uint64_t size);
/* An interrupt is about to be signalled; false: it isn't, now. */
bool uvf_inject_irq(struct uvf_device *dev, uint32_t index, uint32_t vector, bool level);
/* An access to a region, with no lock held: may take its time, and may remove the device. */
void uvf_inject_access(struct uvf_device *dev, uint32_t index, bool write);
/* A report of the device's own dirty log: true: it is one of nothing. */
bool uvf_inject_hides(struct uvf_device *dev, uvf_iova_t iova, uint64_t size);
/* The owner has gone: what waits for him is forgotten. */
void uvf_inject_closed(struct uvf_device *dev);
void uvf_inject_free(struct uvf_device *dev);
/* The space is about to be taken away from the device, or has been given to it. */
void uvf_inject_detached(struct uvf_device *dev);
void uvf_inject_attached(struct uvf_device *dev, struct uvf_address_space *space);

/* ---- Removal: inject_remove.c ---- */

/*
 * As uvf_device_remove(), once, and tells the owner by these interrupts. With @tells_request the
 * device must have a delayer: the owner is asked again until he closes it.
 */
void uvf_device_pull_out(struct uvf_device *dev, bool tells_error, bool tells_request);

#endif
