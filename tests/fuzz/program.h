/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of a target's program. A target is its own program, but only this much of it: what
 * else an input's addresses lead to is the fuzzer's and the sanitizers', and isn't there for what
 * is tested, neither to be read nor to be written.
 */
#ifndef UVFIO_FUZZ_PROGRAM_H
#define UVFIO_FUZZ_PROGRAM_H

#include <stdint.h>

#define PAGE 4096u

/* Where it is, so that inputs can know. Its last page can only be read; nothing is behind it. */
#define PROGRAM	      ((uint8_t *)0x200000000000)
#define PROGRAM_PAGES 16

/* Once, before the first call. */
void make_program(void);

#endif
