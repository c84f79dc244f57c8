/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What needs ptrace(): mappings made in the program, and accesses that trap.
 *
 * One thread does all of it, since the kernel lets only the thread that attached use ptrace() on
 * another. It also starts the program, whose parent it so is, and waits for it. A thread of the
 * program is stopped only while it maps, unless it maps pages that trap: then its process is
 * traced from there on, and all that it forks.
 */
#ifndef UVF_UAPI_TRACER_H
#define UVF_UAPI_TRACER_H

#include <uvfio/types.h>

struct uvf_run;
struct uapi_call;
struct uapi_device;
struct uapi_mmap;
struct uapi_vma;

/*
 * Starts the tracer's thread, which calls @spawn once (it forks the program and returns its process
 * id or a negative errno) and then serves. Returns what @spawn did.
 */
int uapi_tracer_new(struct uvf_run *run, pid_t (*spawn)(void *opaque), void *opaque);
/* The thread ends when the program has: gives its wait status. */
int uapi_tracer_wait(struct uvf_run *run, int *wait_status);
void uapi_tracer_free(struct uvf_run *run);

/*
 * Carries out the program's mmap() of [region_offset, +map->size) of region @index: parts that are
 * in an area become mappings of the area's file; the others trap, where @may_trap, else they are
 * refused with -EINVAL. The caller has checked that the range is in the region, that the mapping
 * is shared, and its protection.
 * Returns UAPI_TAKEN: the call is answered with the address when the program has it. Errors:
 * -EPERM (another tracer, a debugger, has the thread).
 */
int64_t uapi_tracer_map(struct uapi_call *call, struct uapi_device *device, uint32_t index,
			uint64_t region_offset, const struct uapi_mmap *map, bool may_trap);

/*
 * The areas of a region whose accesses can trap have changed: what the program has mapped of it is
 * brought in line, then uvf_region_revoked() is called. Any thread.
 */
void uapi_tracer_areas_changed(struct uapi_device *device, uint32_t index, uint64_t generation);
/*
 * An ioctl() of this command, with -1 in place of a descriptor, is how a thread that the tracer has
 * stopped gets a file of ours. Returns its number. Errors: -ENOTTY (the thread has no business
 * with it), those of uapi_call_place_fd(). Any thread.
 */
#define UAPI_PLACE_COMMAND 0x3bff
int64_t uapi_tracer_place(struct uapi_call *call);

/* Whether @thread is at an mmap() that the tracer makes it call: let it. Thread-safe. */
bool uapi_tracer_is_mapping(struct uvf_run *run, pid_t thread);

/*
 * What a process has at @address, which is in @vma, if it is a part of a region: for peer-to-peer
 * DMA mappings. Returns 0 or -ENOENT.
 */
int uapi_tracer_find(struct uvf_run *run, const struct uapi_vma *vma, uint64_t address,
		     struct uapi_device **devicep, uint32_t *index, uint64_t *offset,
		     uint64_t *size);

#endif
