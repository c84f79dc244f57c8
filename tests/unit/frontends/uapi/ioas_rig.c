/* SPDX-License-Identifier: BSD-3-Clause */
/* The rig. */
#include "ioas_rig.h"

void rig_new(struct rig *rig, const struct uvf_run_config *config)
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

void rig_free(struct rig *rig)
{
	uvf_attachment_free(rig->attachment);
	uapi_ioas_put(rig->ioas);
}

void rig_call_from(struct rig *rig, pid_t process)
{
	rig->call.process = process;
	rig->call.thread = process;
	/* One without a listener: all that it says is that the call isn't this process's. */
	memset(rig->notifier, 0xff, sizeof(rig->notifier));
	rig->call.notifier = process == getpid() ? NULL : (struct uapi_notifier *)rig->notifier;
}

int rig_map(struct rig *rig, uint64_t iova, uint64_t size, unsigned prot, const void *address)
{
	return uapi_ioas_map(rig->ioas, &rig->call, UAPI_RULES_TYPE1, iova, size, prot,
			     (uintptr_t)address);
}

int rig_map_iommufd(struct rig *rig, uint64_t iova, uint64_t size, unsigned prot,
		    const void *address)
{
	return uapi_ioas_map(rig->ioas, &rig->call, UAPI_RULES_IOMMUFD, iova, size, prot,
			     (uintptr_t)address);
}

uint64_t rig_unmap(struct rig *rig, uint64_t first, uint64_t last)
{
	uint64_t unmapped;

	assert_int_equal(uapi_ioas_unmap(rig->ioas, first, last, &unmapped), 0);
	return unmapped;
}

struct uvf_address_space_stats rig_stats(const struct rig *rig)
{
	struct uvf_address_space_stats stats;

	uvf_address_space_stats(uapi_ioas_space(rig->ioas), &stats);
	return stats;
}

char *rig_pages(size_t pages)
{
	char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0);

	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

char *rig_file(size_t pages, int *fd)
{
	char *at;

	*fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, (off_t)(pages * PAGE)), 0);
	at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}
