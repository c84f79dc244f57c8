/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sections of many readers, which cost two plain stores and never wait, and one who waits for them
 * to end, who pays for all: what RCU is for, for one object. A waiter isn't held up by readers of
 * other objects, and needs no interrupt on the processors of readers that are busy.
 *
 * Theory of operation. Each thread has a slot, with a word that only it writes. On its way in it
 * stores there the object's generation, which it loads, and that it is inside; on its way out, that
 * it is not. A waiter, who has made something unreachable, adds to the generation. Then a reader is
 * past what it did as soon as one of these is true:
 *
 * - The slot shows the new generation. The reader has loaded it (acquire) after the waiter stored
 *   it (release): what it loads later, it loads after the change. What it did before, it did before
 *   it stored the word (release), which the waiter has loaded (acquire). A poller that finds work
 *   is seen that way within one section.
 * - The slot shows that the reader is out, and a barrier was made on all processors between the
 *   change and that look (membarrier). The reader's own order of "store the word, then load" holds
 *   for the compiler alone, so without that barrier it could be inside with its store yet unseen.
 *   With it: sections whose store came before the barrier are seen, and those whose store came
 *   after it also load after it, and find the change.
 *
 * A slot is its thread's for good, known by the thread pointer; one of a thread that has ended is
 * out, and serves the next thread with that pointer. The claim of a slot is a full barrier: if a
 * waiter that comes after its change doesn't see it, then the claimer sees the change. Where there
 * are more threads than slots, or no membarrier, the rest use liburcu, and waiters wait for that
 * too.
 *
 * Sections don't nest, and aren't for signal handlers. After fork() in a process with several
 * threads, the child may not wait: slots of threads that it doesn't have may say "inside".
 */
#ifndef UVF_BASE_READERS_H
#define UVF_BASE_READERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/rcu.h"

#define UVF_READER_SLOTS 16

struct uvf_reader_slot {
	_Atomic(uintptr_t) owner; /* a thread pointer; 0: free */
	_Atomic(uint64_t) state;  /* a generation, and whether it is inside in bit 0 */
} __attribute__((aligned(64)));

struct uvf_readers {
	_Atomic(uint64_t) generation; /* even */
	_Atomic(bool) crowded;	      /* some may use liburcu */
	bool has_barrier;
	struct uvf_reader_slot slot[UVF_READER_SLOTS];
};

/* What several waits after one change have in common. All zero at first. */
struct uvf_grace {
	bool fenced;
	unsigned spins;
};

void uvf_readers_init(struct uvf_readers *readers);
/*
 * Waits until all sections that could have seen what the caller has made unreachable have ended.
 * Any number of threads at once; not inside a section.
 */
void uvf_readers_wait(struct uvf_readers *readers, struct uvf_grace *grace);

/* The slot of this thread, which isn't where it's looked for first. NULL: it has none. */
struct uvf_reader_slot *uvf_readers_claim(struct uvf_readers *readers);
void uvf_readers_enter_crowd(struct uvf_readers *readers);

/* A number that differs by thread, without thread-local storage. */
static inline unsigned uvf_thread_number(void)
{
	/* Thread control blocks are at least a page apart, most often 8 MiB and some. */
	uint64_t pointer = (uint64_t)(uintptr_t)__builtin_thread_pointer();

	return (unsigned)((pointer * 0x9e3779b97f4a7c15ULL) >> 60);
}
_Static_assert(UVF_READER_SLOTS == 1 << (64 - 60), "a thread's number is a slot's");

/* A section: who is inside. */
struct uvf_reading {
	struct uvf_reader_slot *slot; /* NULL: by liburcu */
	uint64_t generation;
};

static inline __attribute__((always_inline)) struct uvf_reading uvf_readers_enter_slot(
	struct uvf_readers *readers, struct uvf_reader_slot *slot)
{
	struct uvf_reading reading = {
		.slot = slot,
		.generation = atomic_load_explicit(&readers->generation, memory_order_acquire),
	};

	atomic_store_explicit(&slot->state, reading.generation | 1, memory_order_release);
	/* The compiler's half of the barrier; the waiter makes the processor's. */
	atomic_signal_fence(memory_order_seq_cst);
	return reading;
}

/* The slot where this thread's is looked for first, or NULL if that isn't its own. */
static inline __attribute__((always_inline)) struct uvf_reader_slot *uvf_readers_own_slot(
	struct uvf_readers *readers)
{
	struct uvf_reader_slot *slot = &readers->slot[uvf_thread_number()];
	uintptr_t owner = atomic_load_explicit(&slot->owner, memory_order_relaxed);

	if (__builtin_expect(owner != (uintptr_t)__builtin_thread_pointer(), 0))
		return NULL;
	return slot;
}

static inline struct uvf_reading uvf_readers_enter(struct uvf_readers *readers)
{
	struct uvf_reader_slot *slot = uvf_readers_own_slot(readers);

	if (!slot)
		slot = uvf_readers_claim(readers);
	if (slot)
		return uvf_readers_enter_slot(readers, slot);
	uvf_readers_enter_crowd(readers);
	return (struct uvf_reading){0};
}

static inline __attribute__((always_inline)) void uvf_readers_exit(struct uvf_reading reading)
{
	if (__builtin_expect(!reading.slot, 0))
		uvf_rcu_read_unlock();
	else
		atomic_store_explicit(&reading.slot->state, reading.generation,
				      memory_order_release);
}

#endif
