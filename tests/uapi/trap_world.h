/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices for programs that map what traps, and what both sides know of them. The same binary is
 * the supervisor and the program.
 */
#ifndef TRAP_WORLD_H
#define TRAP_WORLD_H

#include <linux/vfio.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE 4096UL

/* BAR 0, by pages. */
#define BAR_SIZE (16 * PAGE)
#define STORAGE	 (0 * PAGE) /* keeps what is written; each access is counted */
#define AREA	 (1 * PAGE) /* can be mapped: two pages */
#define CONTROL	 (3 * PAGE)
#define SECOND	 (4 * PAGE) /* another area: a page */
#define MORE	 (5 * PAGE) /* keeps what is written, to the end */

/* Registers of CONTROL, of 8 bytes. */
enum {
	LAST_SIZE = CONTROL, /* of the last access to STORAGE */
	LAST_OFFSET = CONTROL + 8,
	ACCESSES = CONTROL + 16, /* to STORAGE */
	COUNTER = CONTROL + 24,	 /* one more at each read */
	SLEEPY = CONTROL + 32,	 /* a read takes some milliseconds */
	GATED = CONTROL + 40,	 /* a read waits for a write to GATE of device 0 */
	GATE = CONTROL + 48,
	WAITING = CONTROL + 56, /* reads of GATED that wait */
};

#define GROUP(device) (7 + (device))

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                       \
		}                                                                       \
	} while (0)

/* The device file of device 0 or 1, its memory enabled; of BAR 0. */
int open_device(unsigned device);
/* All or a part of BAR 0. */
volatile void *map_bar(int fd, uint64_t offset, uint64_t size);
/* The tracer of this thread: its thread id, or 0. */
int tracer_of_self(void);

/* BAR 0 of device 0, once it is mapped. */
extern volatile uint8_t *bar;
#define AT(type, offset) (*(volatile type *)(bar + (offset)))
void map_all(void);

/* Programs, by name; a row without one ends them. */
struct trap_case {
	const char *name;
	void (*run)(void);
	int kill_after_ms; /* the supervisor kills it then */
};
#define TRAP_CASE(name)        \
	{                      \
#name, name, 0 \
	}
extern const struct trap_case trap_access_cases[], trap_thread_cases[];

#endif
