/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For other processors than x86-64, whose instructions nobody decodes here: starts the program and
 * waits for it; nothing can be mapped.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/tracer.h"
#include "frontends/uapi/uapi.h"

int uapi_tracer_new(struct uvf_run *run, pid_t (*spawn)(void *opaque), void *opaque)
{
	return spawn(opaque);
}

int uapi_tracer_wait(struct uvf_run *run, int *wait_status)
{
	while (waitpid(run->pid, wait_status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	run->pid = 0;
	return 0;
}

void uapi_tracer_free(struct uvf_run *run)
{
	int status;

	if (run->pid > 0)
		uapi_tracer_wait(run, &status);
}

int64_t uapi_tracer_map(struct uapi_call *call, struct uapi_device *device, uint32_t index,
			uint64_t region_offset, const struct uapi_mmap *map, bool may_trap)
{
	return -ENODEV;
}

void uapi_tracer_areas_changed(struct uapi_device *device, uint32_t index, uint64_t generation)
{
}

int64_t uapi_tracer_place(struct uapi_call *call)
{
	return -ENOTTY;
}

bool uapi_tracer_is_mapping(struct uvf_run *run, pid_t thread)
{
	return false;
}

int uapi_tracer_find(struct uvf_run *run, const struct uapi_vma *vma, uint64_t address,
		     struct uapi_device **devicep, uint32_t *index, uint64_t *offset,
		     uint64_t *size)
{
	return -ENOENT;
}
