/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An I/OAT engine through Linux's VFIO, as a program of anybody's would use one: opened through its
 * group, or bound to an iommufd; and a copy by it.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <stddef.h>
#include <stdint.h>

#define PAGE   4096UL
#define MEMORY (16 * PAGE)
#define IOVA   0x10000000ULL
#define VENDOR 0x20218086

struct engine {
	int container, group, device;
	uint64_t bar, config; /* where they are in the device's file */
	uint8_t *memory;
};

extern const char *address; /* the device's */
extern char group_path[64]; /* of its group */

/* Each of these ends the program when something fails. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
void must(int result, const char *what);
void find_group(void);
struct engine open_engine(void);
void close_engine(const struct engine *engine);
/* Lets the device work, once there is a descriptor of it. */
void enable(struct engine *engine);
uint32_t read_config(const struct engine *engine, unsigned at);
uint64_t get(const struct engine *engine, unsigned at, size_t size);
/* Gives the engine memory of its own, anonymous: MAP_PRIVATE or MAP_SHARED. */
void allocate(struct engine *engine, int flags);
void give_memory(struct engine *engine, int flags);
/* Page 1 of the memory to page 2: all of it, or in steps. */
void copy(const struct engine *engine, unsigned seed);
void prepare_copy(const struct engine *engine, unsigned seed);
void run_copy(const struct engine *engine);
void check_copy(const struct engine *engine);
void wait_for(int child);

/* As ioctl(). */
int map_at(const struct engine *engine, void *memory, uint64_t iova, uint64_t size);
int unmap_at(const struct engine *engine, uint64_t iova, uint64_t size);

/* iommufd.c: the verb. */
void do_iommufd(void);

#endif
