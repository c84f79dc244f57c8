/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An address space's pins, in shards by address: an unmap, or a dirty report, looks only at those
 * of its range, and threads that work on different memory don't meet.
 *
 * A pin within one 2 MiB stretch is in the shard of that stretch; a wider one in the shard of wide
 * pins that its thread uses. A pin is added inside the reader's section that looked its mappings
 * up: after a grace period, an unmapper finds all pins that saw the old mappings.
 */
#ifndef UVF_IOMMU_PIN_H
#define UVF_IOMMU_PIN_H

#include <pthread.h>
#include <stdatomic.h>
#include <uvfio/dma.h>

#define UVF_PIN_STRETCH 21 /* bits */
#define UVF_PIN_NARROW	64
#define UVF_PIN_WIDE	8
#define UVF_PIN_SHARDS	(UVF_PIN_NARROW + UVF_PIN_WIDE)

struct uvf_pins;

struct uvf_pin_shard {
	pthread_mutex_t lock;
	struct uvf_pin *first;
	struct uvf_pins *pins;
} __attribute__((aligned(64)));

struct uvf_pins {
	/* For who waits for pins to go: their number, and a futex that changes with each unpin. */
	_Atomic(uint32_t) waiters;
	_Atomic(uint32_t) changes;
	/*
	 * Rises when memory is replaced, after the grace period: pins of what was there are of an
	 * earlier era than those that are made from then on.
	 */
	_Atomic(uint32_t) era;
	struct uvf_pin_shard shard[UVF_PIN_SHARDS];
};

void uvf_pins_init(struct uvf_pins *pins);
void uvf_pins_destroy(struct uvf_pins *pins);
/* @owner is the view that it is made through. @thread is any number that differs by thread. */
void uvf_pins_add(struct uvf_pins *pins, struct uvf_pin *pin, void *owner, unsigned thread);
void uvf_pins_remove(struct uvf_pin *pin);
/*
 * Waits until no pin of @owner (NULL: of anybody) overlaps [first, last].
 */
void uvf_pins_wait(struct uvf_pins *pins, const void *owner, uvf_iova_t first, uvf_iova_t last);
/* Begins an era, and gives it. */
uint32_t uvf_pins_new_era(struct uvf_pins *pins);
/* Waits until no pin of an era before @era overlaps [first, last]. */
void uvf_pins_wait_before(struct uvf_pins *pins, uint32_t era, uvf_iova_t first, uvf_iova_t last);
uint64_t uvf_pins_count(struct uvf_pins *pins);
/*
 * Calls @fn for each pin that overlaps [first, last] until it returns true, which is returned. With
 * a shard's lock held: it must be short and not unpin.
 */
bool uvf_pins_for_each(struct uvf_pins *pins, uvf_iova_t first, uvf_iova_t last,
		       bool (*fn)(void *opaque, const struct uvf_pin *pin), void *opaque);

#endif
