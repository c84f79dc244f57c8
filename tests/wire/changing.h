/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device whose regions' areas change, and what a client says and hears of that by raw messages.
 * Each region has pages of the device's memory as areas: pages 1 and 3, of which the second goes
 * while state is saved.
 */
#ifndef TESTS_WIRE_CHANGING_H
#define TESTS_WIRE_CHANGING_H

#include "harness.h"

#include <stdatomic.h>

#define CHANGING_SIZE (6 * PAGE)
#define STAYS	      PAGE /* the areas' places */
#define GOES	      (3 * PAGE)
/* Who names the extension. */
#define AREAS_VERSION "{\"capabilities\":{\"max_msg_fds\":16,\"uvfio\":{\"areas\":1}}}"
/* The remap IRQ's index. */
#define REMAP_IRQ VFIO_PCI_NUM_IRQS

struct changing {
	struct uvf_device *dev;
	unsigned regions;
	struct uvf_area areas[2]; /* of region 0 */
	/*
	 * The last number that was written to region 0, at GOES. While that is away the numbers
	 * come as calls, each one more than the last: what is wrong then is counted.
	 */
	_Atomic uint64_t *number;
	uint64_t last;
	bool away;
	unsigned wrong;
	unsigned calls; /* of those */
	atomic_uint settled, settled_result;
};

/* @regions of them, all of which change. */
struct changing *changing_new(unsigned regions);
void changing_free(struct changing *changing);
/* The model leaves those of region @index's two areas whose bit is set. */
int changing_set_areas(struct changing *changing, uint32_t index, unsigned mask);

/* A server that offers it on threads of its own, or embedded, and a client that names @version. */
struct harness *changing_serve(struct changing *changing, bool threaded, const char *version);

/* ---- By messages ---- */

/* What a reply says of a region. */
struct told_region {
	struct uvf_wire_region_info info;
	unsigned areas, saving; /* bits: 0 at STAYS, 1 at GOES */
	bool has_areas, has_saving, has_changes;
	uint32_t changes;
	int fd; /* the caller's; -1 */
};
int ask_region(struct harness *h, uint32_t index, uint32_t argsz, struct told_region *told);
/* Only whether it has changed. */
uint32_t ask_changes(struct harness *h, uint32_t index);
int tell_mapping(struct harness *h, uint16_t command, uint32_t index, uint64_t offset,
		 uint64_t size);
/* Sets the remap IRQ's eventfd, -1: takes it away; or unmasks it. */
int set_remap_irq(struct harness *h, int fd);
int unmask_remap_irq(struct harness *h);
/* Whether an eventfd was signalled: waits for it. */
void expect_event(int fd);

/* Asks for a state without waiting for the answer; the request's id. */
uint16_t begin_state(struct harness *h, uint32_t state, uint32_t flags);
/* The answer to request @id, which must be the next message: 0 or the error. */
int end_state(struct harness *h, uint16_t id);

#endif
