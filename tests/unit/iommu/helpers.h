/* SPDX-License-Identifier: BSD-3-Clause */
/* What several tests of address spaces need. */
#ifndef UVF_TESTS_IOMMU_HELPERS_H
#define UVF_TESTS_IOMMU_HELPERS_H

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

#include "iommu/iommu.h"

#define PAGE 4096ULL

static const struct uvf_attachment_ops no_ops;

static inline int new_file(uint64_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static inline struct uvf_address_space *new_space(void)
{
	struct uvf_address_space *space;

	assert_int_equal(uvf_address_space_new(NULL, &space), 0);
	return space;
}

/* An attachment to @space with bus mastering on. */
static inline struct uvf_attachment *new_attachment(struct uvf_address_space *space,
						    const struct uvf_attachment_ops *ops,
						    void *opaque)
{
	struct uvf_attachment *attachment;

	assert_int_equal(uvf_attachment_new(ops, opaque, &attachment), 0);
	assert_int_equal(uvf_attachment_set(attachment, space), 0);
	uvf_attachment_enable(attachment, true);
	return attachment;
}

static inline struct uvf_address_space_stats stats_of(struct uvf_address_space *space)
{
	struct uvf_address_space_stats stats;

	uvf_address_space_stats(space, &stats);
	return stats;
}

#endif
