/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the program's addresses lead to.
 *
 *   program_memory.c  the processes that map, and their memory
 *   program_maps.c    what is mapped at an address of a process
 *   program_region.c  memory that is a part of a device's region
 *   program_files.c   the file behind shared memory, among those that a process has open
 *
 * Threads: one at a time, with the address space's lock.
 */
#ifndef UVF_UAPI_PROGRAM_MEMORY_H
#define UVF_UAPI_PROGRAM_MEMORY_H

#include <stdbool.h>
#include <sys/types.h>
#include <uvfio/client.h>

#include "frontends/uapi/ioas.h"

struct uapi_call;

/*
 * A process that maps, and the memory that it has: what a fork shares at most until it writes, and
 * execve() puts another one in place of. Both descriptors of /proc/PID are bound to the memory that
 * the process had when they were opened, and give nothing once that is gone.
 *
 * That a thread is of a process that still has that memory is known by asking the kernel whether it
 * is of that thread group, by the group not having ended, whose number could be another's then, and
 * by 16 random bytes that the kernel puts into each new memory (AT_RANDOM).
 */
struct uapi_program {
	pid_t process; /* 0: none */
	int pidfd;
	int maps;		   /* /proc/PID/maps */
	struct uvf_memory *memory; /* /proc/PID/mem */
	uint64_t random_address;
	uint8_t random[16];
};

#define UAPI_PROGRAMS_MAX 4
#define UAPI_FINDS_MAX	  16

/*
 * Where a file was found that isn't mapped now: the number of a descriptor, to look there first. It
 * isn't kept open, which would keep the memory that the program frees. Or that there was none.
 */
struct uapi_find {
	dev_t device;
	ino_t inode;
	bool write;
	int number;    /* or one of the next two */
	unsigned left; /* UAPI_NOT_FOUND: so often it isn't looked for; 0: this find is unused */
};
#define UAPI_NOT_FOUND	   (-1)
#define UAPI_FOUND_BY_LINK (-2)

struct uapi_programs {
	struct uvf_address_space *space; /* whose files are known; borrowed */
	/* The processes that mapped last: each has one memory, however many mappings. */
	struct uapi_program program[UAPI_PROGRAMS_MAX];
	unsigned next; /* to be replaced */
	struct uapi_find find[UAPI_FINDS_MAX];
	unsigned next_find;
};
void uapi_programs_init(struct uapi_programs *programs, struct uvf_address_space *space);
void uapi_programs_destroy(struct uapi_programs *programs);

/* A part of a mapping that lies in one memory: `memory`, or the one of the file `fd`. */
struct uapi_part {
	struct uvf_memory *memory; /* a reference; or NULL */
	int fd;			   /* ours; or -1 */
	uint64_t offset;
	uint64_t size;
	bool is_file; /* that the process has mapped: it can be reached through the process too */
};
void uapi_part_destroy(struct uapi_part *part);

/*
 * Where the calling process's @address is, for as much of @size bytes as is in one memory.
 * Errors: -EFAULT (nothing there, or not for @prot), -ENOMEM.
 */
int uapi_programs_find(struct uapi_programs *programs, struct uapi_call *call,
		       enum uapi_ioas_rules rules, uint64_t address, uint64_t size, unsigned prot,
		       struct uapi_part *part);
/* The same, through the process, whatever it is: all @size bytes. */
int uapi_programs_find_process(struct uapi_programs *programs, struct uapi_call *call,
			       uint64_t address, uint64_t size, unsigned prot,
			       struct uapi_part *part);

/* ---- program_maps.c ---- */

/* What is mapped at an address. */
struct uapi_vma {
	uint64_t begin, end;
	unsigned prot; /* enum uvf_prot */
	bool execute, shared;
	uint64_t offset; /* in the file */
	dev_t device;
	ino_t inode; /* 0: not of a file */
};

/* Errors: -EFAULT (nothing), -ESRCH (the memory that @maps is bound to is gone). */
int uapi_vma_find(int maps, uint64_t address, struct uapi_vma *vma);
/* The same, by reading @maps: for kernels before 6.11. */
int uapi_vma_find_in_text(int maps, uint64_t address, struct uapi_vma *vma);
/*
 * Calls @take for each mapping of a thread's memory, rising, until it returns something else than
 * 0, which is returned. Errors: -ESRCH, -EACCES (not to be looked at).
 */
int uapi_vmas_each(pid_t thread, int (*take)(void *opaque, const struct uapi_vma *vma),
		   void *opaque);

/* ---- program_region.c ---- */

/*
 * Errors: -ENOENT (not of a region), -EFAULT (@rules don't let it be mapped, or the region is
 * gone), -ENOMEM.
 */
int uapi_program_find_region(struct uvf_run *run, const struct uapi_vma *vma, uint64_t address,
			     uint64_t size, enum uapi_ioas_rules rules, struct uapi_part *part);

/* The area that holds @offset, or NULL; shortens @left to what is on one side of its borders. */
const struct uvf_area *uapi_area_at(const struct uvf_region_info *info, uint64_t offset,
				    uint64_t *left);

/*
 * Where a region's [@offset, +size) is, for as much of it as is in one memory. Of a region whose
 * areas change it is never an area's file: those who have that mapped are threads of the program,
 * from whom it can be taken.
 */
int uapi_program_region_part(struct uvf_device *dev, uint32_t index, uint64_t offset, uint64_t size,
			     struct uapi_part *part);

/* ---- program_files.c ---- */

/*
 * A duplicate of a descriptor of the file behind @vma that the process has open for @prot, or -1.
 * *@number is where to look first, or UAPI_NOT_FOUND; and then where it was found.
 */
int uapi_program_find_file(const struct uapi_program *program, const struct uapi_vma *vma,
			   unsigned prot, int *number);

#endif
