/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Accesses to memory that may vanish: a file that its other owner truncates raises SIGBUS, which
 * becomes -EFAULT on that one access.
 *
 * Theory of operation (x86-64): each guarded instruction's address range is a row of a table in
 * the program; the one SIGBUS handler looks the faulting instruction up and continues at the row's
 * fixup. An access that doesn't fault costs nothing extra. A fault elsewhere goes to the handler
 * that was there before ours, or has the default effect. On other architectures an access leaves
 * a jump buffer for the handler.
 *
 * A thread that makes guarded accesses must not block SIGBUS: the kernel kills a process whose
 * fault can't be delivered.
 */
#ifndef UVF_BASE_GUARD_H
#define UVF_BASE_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Installs the handler, or puts it back on top of one that was installed since. Whoever makes
 * memory that needs a guard calls it each time; it costs a system call.
 */
void uvf_guard_install(void);

/* As uvf_guarded_copy() (dma.h), for who knows that the handler is installed. */
int uvf_guard_copy(void *to, const void *from, size_t size);

/*
 * Atomic compare-and-swap of 4 or 8 naturally aligned bytes. Returns 1 if it stored, 0 if not
 * (then *@expected is what memory holds), or -EFAULT.
 */
int uvf_guard_compare_and_swap(void *at, size_t size, uint64_t *expected, uint64_t desired);

#endif
