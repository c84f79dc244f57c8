/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory, and windows: what a mapping refers to.
 *
 * A window is a piece of a memory that mappings can use: a part of a file that is mapped here, or
 * the whole of memory of another kind. A mapping holds a reference to one window, a window to its
 * memory. Windows go when no mapping uses them.
 *
 * Threads: any; the memory's lock is for its windows.
 */
#ifndef UVF_IOMMU_MEMORY_H
#define UVF_IOMMU_MEMORY_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <uvfio/iommu.h>

/* What the low bits of a mapping's object word say beside enum uvf_prot; a window is aligned. */
#define UVF_OBJECT_DIRECT ((uintptr_t)1 << 2) /* `value` is an address here */
#define UVF_OBJECT_BITS	  ((uintptr_t)63)

struct uvf_window {
	struct uvf_memory *memory;
	uint64_t value;	 /* of its first byte: an address here, or an offset */
	uint64_t offset; /* in the memory */
	uint64_t size;	 /* of files; others check by themselves */
	uint64_t users;	 /* mappings; under the memory's lock */
	struct uvf_window *next;
} __attribute__((aligned(64)));

/* What a kind of memory can do. */
struct uvf_memory_kind {
	bool direct;
	/* Calls need nobody but the kernel: who unmaps waits for those that have begun. */
	bool ends;
	/* NULL for direct ones. Never called by a reader inside: they may block. */
	int (*read)(struct uvf_memory *memory, uint64_t offset, void *buf, size_t count);
	int (*write)(struct uvf_memory *memory, uint64_t offset, const void *buf, size_t count);
	/*
	 * The window with [offset, offset + size), with one user more. Returns 1 if that took an
	 * mmap, 0 if not. Errors: -EFAULT (not there), -EACCES, -EINVAL, -ENOMEM.
	 */
	int (*window_get)(struct uvf_memory *memory, uint64_t offset, uint64_t size,
			  struct uvf_window **windowp);
	/* One user less. True: it was the last one of an mmap, which has gone. */
	bool (*window_put)(struct uvf_window *window);
	void (*destroy)(struct uvf_memory *memory);
};

struct uvf_memory {
	const struct uvf_memory_kind *kind;
	_Atomic(uint64_t) references;
	unsigned prot;
	int fd; /* file, process; else -1 */
	pthread_mutex_t lock;
	struct uvf_window *windows; /* files: what is mapped, last used first */
	struct uvf_window whole;    /* others */
	struct uvf_memory_remote_ops ops;
	void *opaque;
	/*
	 * Files: what they are. Those that an address space made in uvf_map_fd() are in its table
	 * while it maps them; the rest is under its lock.
	 */
	struct uvf_address_space *home;
	struct uvf_memory *next;
	dev_t device;
	ino_t inode;
	int access;
	uint64_t mappings;
};

/* A memory without any specifics, with one reference. NULL: no memory. */
struct uvf_memory *uvf_memory_alloc(const struct uvf_memory_kind *kind, unsigned prot);
/* For kinds that have one window, of any offset below @size. */
int uvf_memory_whole_get(struct uvf_memory *memory, uint64_t offset, uint64_t size,
			 struct uvf_window **windowp);
bool uvf_memory_whole_put(struct uvf_window *window);

#endif
