/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device whose doorbells go while its state is saved, and what both sides know of it: for
 * programs that map it. The same binary is the supervisor and the program.
 */
#ifndef AREAS_WORLD_H
#define AREAS_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define PAGE 4096UL

/* BAR 0, by pages. */
#define BAR_SIZE (4 * PAGE)
#define CONTROL	 (0 * PAGE) /* no area */
/* An area, but not while state is saved: SLOTS numbers that only rise. Two pages. */
#define DOORBELLS (1 * PAGE)
/* An area: for each doorbell the number up to which the device has seen it. */
#define COMPLETIONS (3 * PAGE)
#define SLOTS	    64

/* Registers of CONTROL, of 8 bytes. */
enum {
	CALLS = CONTROL,      /* read: accesses to doorbells that came as calls */
	SHUFFLE = CONTROL + 8 /* written: 1: the doorbells go, at run time; 0: they come back */
};

/* Device 1 is like device 0, but nothing of it traps. */
#define GROUP(device) (7 + (device))

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                       \
		}                                                                       \
	} while (0)

/* The device's file, its memory enabled. */
int open_device(unsigned device);
volatile uint8_t *map_bar(int fd, uint64_t offset, uint64_t size);
/* VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE. Returns 0 or a negative errno. */
int set_state(int fd, uint32_t state);
uint32_t get_state(int fd);
uint64_t read_register(int fd, uint64_t offset);
void write_register(int fd, uint64_t offset, uint64_t value);
/* The tracer of this thread: its thread id, or 0. */
int tracer_of_self(void);

/* Programs, by name; a row without one ends them. */
struct areas_case {
	const char *name;
	void (*run)(void);
	int kill_after_ms; /* the supervisor kills it then */
	bool namespaces;   /* only with namespaces of its own: else its mappings aren't found */
};
extern const struct areas_case areas_cases[], areas_follow_cases[];

#endif
