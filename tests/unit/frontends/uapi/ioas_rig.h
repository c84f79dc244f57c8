/* SPDX-License-Identifier: BSD-3-Clause */
/* An address space of a program that is this process, and a device's way into it. */
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

#define PAGE 4096ULL

struct rig {
	struct uvf_run run;
	struct uapi_call call;
	struct uapi_ioas *ioas;
	struct uvf_attachment *attachment;
};

static inline void rig_new(struct rig *rig, const struct uvf_run_config *config)
{
	static const struct uvf_attachment_ops ops;

	*rig = (struct rig){0};
	if (config)
		rig->run.config = *config;
	rig->call = (struct uapi_call){.run = &rig->run, .thread = gettid(), .process = getpid()};
	assert_int_equal(uapi_ioas_new(&rig->run, &rig->ioas), 0);
	assert_int_equal(uvf_attachment_new(&ops, NULL, &rig->attachment), 0);
	assert_int_equal(uvf_attachment_set(rig->attachment, uapi_ioas_space(rig->ioas)), 0);
	uvf_attachment_enable(rig->attachment, true);
}

static inline void rig_free(struct rig *rig)
{
	uvf_attachment_free(rig->attachment);
	uapi_ioas_put(rig->ioas);
}

static inline int rig_map(struct rig *rig, uint64_t iova, uint64_t size, unsigned prot,
			  const void *address)
{
	return uapi_ioas_map(rig->ioas, &rig->call, UAPI_RULES_TYPE1, iova, size, prot,
			     (uintptr_t)address);
}

#endif
