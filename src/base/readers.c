/* SPDX-License-Identifier: BSD-3-Clause */
/* Waiting for readers, and what a reader does the first time. */
#include "base/readers.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Looks at slots of busy threads before a barrier: some microseconds, less than that costs them. */
#define SPINS 100
/* Looks at one that is inside before we give our time away, and then before we sleep. */
#define YIELD_AFTER 1000
#define SLEEP_AFTER 1100
#define SLEEP_NS    50000

/* #syscalls: membarrier */
static long membarrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0);
}

/* Nothing before it is seen after what comes behind it. */
static void full_fence(void)
{
#ifdef UVF_TSAN
	/* Which doesn't know fences. */
	_Atomic(int) word = 0;

	atomic_fetch_add(&word, 1);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#endif
}

void uvf_readers_init(struct uvf_readers *readers)
{
	*readers = (struct uvf_readers){
		.generation = 2,
		/* liburcu has asked for it too: to ask again costs next to nothing. */
		.has_barrier = !membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED),
	};
}

struct uvf_reader_slot *uvf_readers_claim(struct uvf_readers *readers)
{
	uintptr_t self = (uintptr_t)__builtin_thread_pointer();

	if (!readers->has_barrier)
		return NULL;
	for (unsigned i = 0; i < UVF_READER_SLOTS; i++) {
		struct uvf_reader_slot *slot =
			&readers->slot[(uvf_thread_number() + i) % UVF_READER_SLOTS];
		uintptr_t owner = atomic_load_explicit(&slot->owner, memory_order_relaxed);

		if (owner == self)
			return slot;
		if (!owner && atomic_compare_exchange_strong(&slot->owner, &owner, self)) {
			full_fence();
			return slot;
		}
	}
	return NULL;
}

void uvf_readers_enter_crowd(struct uvf_readers *readers)
{
	if (!atomic_load_explicit(&readers->crowded, memory_order_relaxed))
		atomic_store_explicit(&readers->crowded, true, memory_order_relaxed);
	uvf_rcu_read_lock();
	/* A waiter that doesn't see `crowded` after its change has made that before our loads. */
	full_fence();
}

static bool is_past(uint64_t state, uint64_t generation, bool fenced)
{
	bool inside = state & 1;

	/* The difference, as a generation may wrap. */
	return (int64_t)((state & ~1ULL) - generation) >= 0 || (fenced && !inside);
}

static void fence_all(struct uvf_grace *grace)
{
	/* It was allowed when we asked for it. After that, there is no other way to be sure. */
	if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
		abort();
	grace->fenced = true;
}

static void wait_for_slot(const struct uvf_reader_slot *slot, uint64_t generation,
			  struct uvf_grace *grace)
{
	const struct timespec pause = {.tv_nsec = SLEEP_NS};
	uint64_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
	/* It has seen the generation before: it most likely is busy, and will see this one. */
	bool busy = (int64_t)((state & ~1ULL) - (generation - 2)) >= 0;

	for (unsigned looks = 0; !is_past(state, generation, grace->fenced); looks++) {
		if (!grace->fenced && (!busy || grace->spins++ >= SPINS))
			fence_all(grace);
		else if (looks >= SLEEP_AFTER)
			clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		else if (looks >= YIELD_AFTER)
			sched_yield();
		else
			relax();
		state = atomic_load_explicit(&slot->state, memory_order_acquire);
	}
}

/* #syscalls: membarrier sched_yield clock_nanosleep */
void uvf_readers_wait(struct uvf_readers *readers, struct uvf_grace *grace)
{
	uint64_t generation = atomic_fetch_add(&readers->generation, 2) + 2;

	/* Between the change and our looks at who is there. */
	full_fence();
	for (unsigned i = 0; i < UVF_READER_SLOTS; i++) {
		uintptr_t owner =
			atomic_load_explicit(&readers->slot[i].owner, memory_order_relaxed);

		/* We ourselves aren't inside. */
		if (owner && owner != (uintptr_t)__builtin_thread_pointer())
			wait_for_slot(&readers->slot[i], generation, grace);
	}
	if (atomic_load_explicit(&readers->crowded, memory_order_relaxed))
		uvf_rcu_synchronize();
}
