/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An address space of a program, and a device's way into it. The program is this process, or a
 * child of it: the rig's call says which.
 */
#ifndef UVF_TESTS_UAPI_IOAS_RIG_H
#define UVF_TESTS_UAPI_IOAS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/uapi.h"
#include "iommu/iommu.h"

#define PAGE	 4096ULL
#define TOP_PAGE 0xfffffffffffff000ULL

struct rig {
	struct uvf_run run;
	struct uapi_call call;
	struct uapi_ioas *ioas;
	struct uvf_attachment *attachment;
	uint64_t notifier[512];
};

/* @config may be NULL: 4 KiB pages, 64 bits, nothing reserved. */
void rig_new(struct rig *rig, const struct uvf_run_config *config);
void rig_free(struct rig *rig);
/* From here on calls are @process's. */
void rig_call_from(struct rig *rig, pid_t process);

/* Type1's map and iommufd's, of memory of this process. */
int rig_map(struct rig *rig, uint64_t iova, uint64_t size, unsigned prot, const void *address);
int rig_map_iommufd(struct rig *rig, uint64_t iova, uint64_t size, unsigned prot,
		    const void *address);
/* How much was unmapped; fails the test on an error. */
uint64_t rig_unmap(struct rig *rig, uint64_t first, uint64_t last);
struct uvf_address_space_stats rig_stats(const struct rig *rig);

/* Anonymous memory of @pages pages, private. */
char *rig_pages(size_t pages);
/* A memfd, and all of it mapped shared. */
char *rig_file(size_t pages, int *fd);

#endif
