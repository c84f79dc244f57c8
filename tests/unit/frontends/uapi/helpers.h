/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A run without a program: devices, groups and files are there, and this process makes the calls.
 * Devices 0 and 1 are group 7, device 2 is group 9.
 */
#ifndef UVF_TEST_UAPI_HELPERS_H
#define UVF_TEST_UAPI_HELPERS_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/handlers.h"
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/uapi.h"

#define DEVICES 3
#define GROUPS	2
#define PAGE	4096ULL
#define MIB	(1ULL << 20)

/* What a device of the tests was asked, and what it is to do. */
struct model {
	atomic_uint opened, closed, resets;
	int fail_open;
	int fail_attach;	  /* once */
	atomic_bool hold_open;	  /* open() waits until this is false */
	atomic_uint waiting_open; /* how many do */
};

struct world {
	struct uvf_run run;
	struct uapi_device devices[DEVICES];
	struct uapi_group groups[GROUPS];
	struct uapi_device *members[DEVICES];
	struct model models[DEVICES];
	struct uvf_iova_range reserved;
};

/* As cmocka's setup and teardown: the state is a struct world. */
int world_setup(void **state);
int world_teardown(void **state);

struct uapi_call world_call(struct world *world);

/* Each gives a descriptor or a negative errno, as open(2) would to a program. */
int world_open_container(struct world *world);
int world_open_group(struct world *world, unsigned group);
int world_open_iommufd(struct world *world);

/* ioctl(2), with the result that a program would get; -EBADF for what isn't ours. */
long world_ioctl(struct world *world, int fd, unsigned command, uint64_t argument);
#define world_ioctl_of(world, fd, command, pointer) \
	world_ioctl(world, fd, command, (uintptr_t)(pointer))

/* close(2), and what follows from it. */
void world_close(struct world *world, int fd);

long world_set_container(struct world *world, int group, int container);
long world_get_device(struct world *world, int group, const char *name);

/* A group with a container of @version and, unless NULL, device 0 open. */
struct opened {
	int container, group, device;
};
struct opened world_open_all(struct world *world, unsigned version);
void world_close_all(struct world *world, const struct opened *opened);

long world_map(struct world *world, int fd, uint32_t flags, uint64_t iova, uint64_t size,
	       const void *memory);
/* Gives the size that was unmapped through @size. */
long world_unmap(struct world *world, int fd, uint32_t flags, uint64_t iova, uint64_t *size);
/* VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL. */
uint32_t world_available(struct world *world, int fd);

#endif
