/* SPDX-License-Identifier: BSD-3-Clause */
/* What the program's addresses lead to: its memory through /proc/PID/mem. */
#include "frontends/uapi/program_memory.h"

#include <errno.h>
#include <unistd.h>

#include "frontends/uapi/call.h"

void uapi_programs_init(struct uapi_programs *programs)
{
	*programs = (struct uapi_programs){0};
}

void uapi_programs_destroy(struct uapi_programs *programs)
{
	for (unsigned i = 0; i < UAPI_PROGRAMS_MAX; i++)
		if (programs->program[i].process)
			uvf_memory_put(programs->program[i].memory);
}

int uapi_programs_find(struct uapi_programs *programs, struct uapi_call *call, uint64_t address,
		       uint64_t size, unsigned prot, struct uapi_part *part)
{
	pid_t process = call->notifier ? call->thread : getpid();
	int error;

	error = uvf_memory_new_process(process, &part->memory);
	if (error)
		return error == -ESRCH || error == -EACCES ? -EFAULT : -ENOMEM;
	part->offset = address;
	part->size = size;
	return 0;
}
