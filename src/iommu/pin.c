/* SPDX-License-Identifier: BSD-3-Clause */
/* Pins: added, taken away, waited for. */
#include "iommu/pin.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned narrow_shard(uvf_iova_t iova)
{
	return (unsigned)(((iova >> UVF_PIN_STRETCH) * 0x9e3779b97f4a7c15ULL) >> 58);
}
_Static_assert(UVF_PIN_NARROW == 1 << (64 - 58), "the hash gives a shard's number");

/* #syscalls: futex */
static void futex(_Atomic(uint32_t) *word, int operation, uint32_t value)
{
	syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

void uvf_pins_init(struct uvf_pins *pins)
{
	for (unsigned i = 0; i < UVF_PIN_SHARDS; i++) {
		pthread_mutex_init(&pins->shard[i].lock, NULL);
		pins->shard[i].pins = pins;
		pins->shard[i].first = NULL;
	}
}

void uvf_pins_destroy(struct uvf_pins *pins)
{
	for (unsigned i = 0; i < UVF_PIN_SHARDS; i++)
		pthread_mutex_destroy(&pins->shard[i].lock);
}

void uvf_pins_add(struct uvf_pins *pins, struct uvf_pin *pin, void *owner, unsigned thread)
{
	bool narrow = pin->first >> UVF_PIN_STRETCH == pin->last >> UVF_PIN_STRETCH;
	unsigned index = narrow ? narrow_shard(pin->first) : UVF_PIN_NARROW + thread % UVF_PIN_WIDE;
	struct uvf_pin_shard *shard = &pins->shard[index];

	pin->owner = owner;
	pin->shard = shard;
	pin->era = atomic_load_explicit(&pins->era, memory_order_relaxed);
	pthread_mutex_lock(&shard->lock);
	pin->next = shard->first;
	pin->prevp = &shard->first;
	if (pin->next)
		pin->next->prevp = &pin->next;
	shard->first = pin;
	pthread_mutex_unlock(&shard->lock);
}

void uvf_pins_remove(struct uvf_pin *pin)
{
	struct uvf_pin_shard *shard = pin->shard;
	struct uvf_pins *pins = shard->pins;
	bool wake;

	pthread_mutex_lock(&shard->lock);
	*pin->prevp = pin->next;
	if (pin->next)
		pin->next->prevp = pin->prevp;
	wake = atomic_load_explicit(&pins->waiters, memory_order_relaxed);
	if (wake)
		atomic_fetch_add_explicit(&pins->changes, 1, memory_order_relaxed);
	pthread_mutex_unlock(&shard->lock);
	/* From here on who waited may free it all: the address is only a number for the kernel. */
	if (wake)
		futex(&pins->changes, FUTEX_WAKE, INT_MAX);
}

static bool shard_for_each(struct uvf_pin_shard *shard, uvf_iova_t first, uvf_iova_t last,
			   bool (*fn)(void *opaque, const struct uvf_pin *pin), void *opaque)
{
	bool done = false;

	pthread_mutex_lock(&shard->lock);
	for (const struct uvf_pin *pin = shard->first; pin && !done; pin = pin->next)
		if (pin->first <= last && first <= pin->last)
			done = fn(opaque, pin);
	pthread_mutex_unlock(&shard->lock);
	return done;
}

bool uvf_pins_for_each(struct uvf_pins *pins, uvf_iova_t first, uvf_iova_t last,
		       bool (*fn)(void *opaque, const struct uvf_pin *pin), void *opaque)
{
	uint64_t stretch = first >> UVF_PIN_STRETCH, end = last >> UVF_PIN_STRETCH;
	uint64_t wanted = UINT64_MAX; /* a bit for each narrow shard */

	if (end - stretch < UVF_PIN_NARROW)
		for (wanted = 0; stretch <= end; stretch++)
			wanted |= 1ULL << narrow_shard(stretch << UVF_PIN_STRETCH);
	for (unsigned i = 0; i < UVF_PIN_SHARDS; i++)
		if (i >= UVF_PIN_NARROW || wanted >> i & 1)
			if (shard_for_each(&pins->shard[i], first, last, fn, opaque))
				return true;
	return false;
}

/* Waits until @counts is true of no pin that overlaps [first, last]. */
static void wait_for(struct uvf_pins *pins, uvf_iova_t first, uvf_iova_t last,
		     bool (*counts)(void *opaque, const struct uvf_pin *pin), void *opaque)
{
	atomic_fetch_add_explicit(&pins->waiters, 1, memory_order_relaxed);
	for (;;) {
		uint32_t changes = atomic_load_explicit(&pins->changes, memory_order_relaxed);

		/* An unpin after this look changes the word, and then the futex doesn't sleep. */
		if (!uvf_pins_for_each(pins, first, last, counts, opaque))
			break;
		futex(&pins->changes, FUTEX_WAIT, changes);
	}
	atomic_fetch_sub_explicit(&pins->waiters, 1, memory_order_relaxed);
}

static bool is_owners(void *opaque, const struct uvf_pin *pin)
{
	return !opaque || pin->owner == opaque;
}

void uvf_pins_wait(struct uvf_pins *pins, const void *owner, uvf_iova_t first, uvf_iova_t last)
{
	wait_for(pins, first, last, is_owners, (void *)owner);
}

uint32_t uvf_pins_new_era(struct uvf_pins *pins)
{
	return atomic_fetch_add_explicit(&pins->era, 1, memory_order_relaxed) + 1;
}

static bool is_before(void *opaque, const struct uvf_pin *pin)
{
	/* It wraps after 2^32 replacements: none of a pin's age is that far away. */
	return (int32_t)(pin->era - *(const uint32_t *)opaque) < 0;
}

void uvf_pins_wait_before(struct uvf_pins *pins, uint32_t era, uvf_iova_t first, uvf_iova_t last)
{
	wait_for(pins, first, last, is_before, &era);
}

static bool count_one(void *opaque, const struct uvf_pin *pin)
{
	++*(uint64_t *)opaque;
	return false;
}

uint64_t uvf_pins_count(struct uvf_pins *pins)
{
	uint64_t count = 0;

	uvf_pins_for_each(pins, 0, UINT64_MAX, count_one, &count);
	return count;
}
