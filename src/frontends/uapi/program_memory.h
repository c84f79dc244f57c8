/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the program's addresses lead to.
 *
 * Threads: one at a time, with the address space's lock.
 */
#ifndef UVF_UAPI_PROGRAM_MEMORY_H
#define UVF_UAPI_PROGRAM_MEMORY_H

#include <uvfio/iommu.h>

struct uapi_call;

/* A process that has mapped, and the memory that it had then. */
struct uapi_program {
	pid_t process; /* 0: none */
	struct uvf_memory *memory;
};

#define UAPI_PROGRAMS_MAX 4

/* The processes that mapped last: each has one memory, however many mappings. */
struct uapi_programs {
	struct uapi_program program[UAPI_PROGRAMS_MAX];
	unsigned next; /* to be replaced */
};
void uapi_programs_init(struct uapi_programs *programs);
void uapi_programs_destroy(struct uapi_programs *programs);

/* A part of a mapping that lies in one memory. */
struct uapi_part {
	struct uvf_memory *memory; /* a reference */
	uint64_t offset;
	uint64_t size;
};

/*
 * Where the calling process's @address is, for as much of @size bytes as is in one memory.
 * Errors: -EFAULT (nothing there, or not for @prot), -ENOMEM.
 */
int uapi_programs_find(struct uapi_programs *programs, struct uapi_call *call, uint64_t address,
		       uint64_t size, unsigned prot, struct uapi_part *part);

#endif
