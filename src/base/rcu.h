/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The one flavour of RCU that the library uses: "bp" needs no registration of threads, so that a
 * DMA can come from any thread of the program that we are part of.
 *
 * The functions here add what ThreadSanitizer can't see in an uninstrumented library: that all
 * sections before a grace period happen before its end.
 */
#ifndef UVF_BASE_RCU_H
#define UVF_BASE_RCU_H

/* Read-side functions inline; not where UBSan would see that 0.13's records aren't aligned. */
#ifndef __SANITIZE_ADDRESS__
#define _LGPL_SOURCE
#endif
/* liburcu's own macros do not pass these. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <urcu-bp.h>
#pragma GCC diagnostic pop

#if defined(__SANITIZE_THREAD__)
#define UVF_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UVF_TSAN 1
#endif
#endif

#ifdef UVF_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#endif

static inline void uvf_rcu_read_lock(void)
{
	urcu_bp_read_lock();
}

static inline void uvf_rcu_read_unlock(void)
{
#ifdef UVF_TSAN
	__tsan_release(&urcu_bp_gp);
#endif
	urcu_bp_read_unlock();
}

/* Waits for all sections that have begun. Not inside one. */
static inline void uvf_rcu_synchronize(void)
{
	urcu_bp_synchronize_rcu();
#ifdef UVF_TSAN
	__tsan_acquire(&urcu_bp_gp);
#endif
}

#endif
