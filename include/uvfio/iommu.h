/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Address spaces: IOVA -> memory, with permissions and a granule.
 *
 * Lifetime: address spaces and memories are reference counted; *_new() gives one reference,
 * *_put() takes one away.
 * Threads: any thread may call anything here. Changes to one address space are serialised by its
 * own lock; lookups take no lock.
 */
#ifndef UVFIO_IOMMU_H
#define UVFIO_IOMMU_H

#include <uvfio/types.h>

UVF_BEGIN_DECLS

struct uvf_memory;

struct uvf_iova_range {
	uvf_iova_t first;
	uvf_iova_t last; /* inclusive */
};

/* ---- Memory: where bytes live ---- */

/*
 * Memory behind a file descriptor (memfd, tmpfs, hugetlbfs, a regular file; nothing else can be
 * mapped). @fd is duplicated; the caller keeps its own. Ranges of the file are mapped here in large
 * windows, one mmap a window however many mappings use it. @prot says what @fd was opened for.
 * A file that is truncated behind our back makes accesses fail with -EFAULT, nothing else: threads
 * that make transfers must not block SIGBUS.
 * Errors: -EBADF, -EINVAL (not a file that can be mapped), -EACCES, -ENOMEM, -EMFILE.
 */
UVF_API int uvf_memory_new_file(int fd, unsigned prot, struct uvf_memory **memoryp);

/* Memory of this process. It must stay until the last reference is gone. */
UVF_API int uvf_memory_new_local(void *base, uint64_t size, struct uvf_memory **memoryp);

/*
 * Memory of another process, through /proc/PID/mem. Offsets in it are that process's addresses.
 * Errors: -ESRCH, -EACCES, -EMFILE, -ENOMEM.
 */
UVF_API int uvf_memory_new_process(pid_t pid, struct uvf_memory **memoryp);

/*
 * Memory reached by messages: the far end of a connection. Both functions may block for as long
 * as the connection's own limit, may be called from any thread, and return 0 or a negative errno.
 * @release is called when the last reference goes.
 */
struct uvf_memory_remote_ops {
	int (*read)(void *opaque, uint64_t offset, void *buf, size_t count);
	int (*write)(void *opaque, uint64_t offset, const void *buf, size_t count);
	void (*release)(void *opaque);
};
UVF_API int uvf_memory_new_remote(const struct uvf_memory_remote_ops *ops, void *opaque,
				  struct uvf_memory **memoryp);

UVF_API struct uvf_memory *uvf_memory_get(struct uvf_memory *memory);
UVF_API void uvf_memory_put(struct uvf_memory *memory);

/* The file behind @memory, or -1 where it has none. Borrowed: valid while the memory is. */
UVF_API int uvf_memory_fd(const struct uvf_memory *memory);

/* ---- Groups ---- */

/*
 * Devices that an IOMMU can't tell apart, as whoever puts a system together says it by
 * uvf_device_set_group(). That they are several widens what dirty reports have (dirty.h), as none
 * can speak for the others. Freeing a group leaves its devices alone; it must not be done while one
 * of them is told a group, or freed. Errors: -ENOMEM.
 */
struct uvf_group;
UVF_API int uvf_group_new(struct uvf_group **groupp);
UVF_API void uvf_group_free(struct uvf_group *group);

/* ---- Address spaces ---- */

struct uvf_address_space_config {
	uint64_t page_sizes;		/* bitmap; 0 means 4 KiB. The lowest bit is the granule */
	struct uvf_iova_range aperture; /* {0, 0} means all 64 bits */
	const struct uvf_iova_range *reserved; /* never mappable; copied */
	size_t reserved_count;
	uint64_t max_mappings; /* 0: no limit */
	uint64_t max_bytes;    /* sum of the mappings' sizes; 0: no limit */
	uint64_t max_files;    /* that uvf_map_fd() keeps open at a time; 0: no limit */
	uint64_t max_windows;  /* sum of the windows' sizes, that is of our own addresses; 0: no
				  limit */
};

/* @config may be NULL: all defaults. Errors: -EINVAL, -ENOMEM. */
UVF_API int uvf_address_space_new(const struct uvf_address_space_config *config,
				  struct uvf_address_space **spacep);
UVF_API struct uvf_address_space *uvf_address_space_get(struct uvf_address_space *space);
UVF_API void uvf_address_space_put(struct uvf_address_space *space);

UVF_API uint64_t uvf_address_space_page_sizes(const struct uvf_address_space *space);

/*
 * Maps [iova, iova + size) to @memory at @offset, taking a reference to @memory. Listeners are told
 * first; if one refuses, nothing is mapped and its error is returned.
 * Errors: -EINVAL (zero size, not aligned to the granule (@offset: to 4 KiB if the granule is
 * larger), no permission in @prot, outside the aperture, reserved), -EOVERFLOW (iova + size or
 * offset + size passes 2^64), -EEXIST (overlaps a mapping), -EACCES (@memory allows less than
 * @prot), -ENOSPC (max_mappings, max_files), -ENOMEM (max_bytes, max_windows or no memory), -EFAULT
 * (the range of @memory is not there; of a file: ends beyond where the file did when its window was
 * made).
 */
UVF_API int uvf_map(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size, unsigned prot,
		    struct uvf_memory *memory, uint64_t offset);

/*
 * As uvf_map(), for memory behind @fd: finds the memory that mappings of the same file in @space
 * already use, or makes one. @fd stays the caller's and can be closed at once.
 */
UVF_API int uvf_map_fd(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
		       unsigned prot, int fd, uint64_t offset);

/*
 * Unmaps every mapping that lies in [iova, iova + size); size 0 with iova 0 means all. A mapping
 * that the range cuts is an error, and then nothing is unmapped. Finding none is success.
 * Returns the bytes unmapped through @unmapped (may be NULL).
 *
 * When it returns, no DMA can reach the memory: readers of the old mappings have ended, and pins
 * on them are gone. Pins are asked to go by their attachments' unmap callbacks first; it waits for
 * those that remain. A transfer to another process's memory is waited for like a pin. One to
 * remote memory that has begun may still end later (its memory stays): to wait for it here could be
 * to wait for ourselves. It must not be called from such a callback or by a thread that holds a
 * pin. Errors: -EINVAL (not aligned, cuts a mapping), -EOVERFLOW.
 */
UVF_API int uvf_unmap(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
		      uint64_t *unmapped);

/*
 * The mapping that is exactly [iova, iova + size) is from now on of @memory at @offset, with the
 * same permissions. There is no gap: who reads or writes meanwhile does so there or where it was
 * before. When it returns, no DMA can reach what was there before, as after uvf_unmap(), and pins
 * have been asked to go as for that. On an error nothing has changed.
 * Errors: -ENOENT (no such mapping), -EINVAL (@offset isn't aligned as for uvf_map()), -EOVERFLOW,
 * -EACCES, -EFAULT and -ENOMEM as uvf_map(), a listener's.
 */
UVF_API int uvf_replace(struct uvf_address_space *space, uvf_iova_t iova, uint64_t size,
			struct uvf_memory *memory, uint64_t offset);

struct uvf_mapping {
	uvf_iova_t first;
	uvf_iova_t last;
	unsigned prot;
	struct uvf_memory *memory; /* borrowed: valid inside the callback */
	uint64_t offset;
};

/* Calls @fn for each mapping in rising order, until it returns non-zero, which is returned. */
UVF_API int uvf_for_each_mapping(struct uvf_address_space *space,
				 int (*fn)(void *opaque, const struct uvf_mapping *mapping),
				 void *opaque);
/* The same, of those that reach into [first, last]. */
UVF_API int uvf_for_each_mapping_in(struct uvf_address_space *space, uvf_iova_t first,
				    uvf_iova_t last,
				    int (*fn)(void *opaque, const struct uvf_mapping *mapping),
				    void *opaque);

struct uvf_address_space_stats {
	uint64_t mappings;
	uint64_t bytes;	  /* mapped */
	uint64_t windows; /* mmaps held */
	uint64_t memory;  /* bytes this address space itself uses, approximately */
	uint64_t pins;
};
UVF_API void uvf_address_space_stats(struct uvf_address_space *space,
				     struct uvf_address_space_stats *stats);

/* ---- Listeners: for who keeps a copy of the mappings ---- */

/*
 * @map is called before a mapping becomes visible and may refuse it with a negative errno. @unmap
 * is called when no DMA from here can use the mapping any more. Both are called with the address
 * space's lock held and must not change it. Memory that is replaced (uvf_replace()) is told as an
 * @unmap and an @map, both before; who refuses the new one is told of the old one again, and should
 * not refuse what it had. A listener that is added is told of all mappings that
 * exist; one that is removed is told nothing.
 * @admit is asked of each mapping that is made, before any listener is told: an error refuses it.
 * It is not asked when memory is replaced or a listener added.
 * @hides is asked of each report of the dirty log (dirty.h): true makes it one of nothing, and what
 * was in the log there is lost. That is for tests of who uses reports. Each of them may be NULL.
 */
struct uvf_listener {
	int (*map)(struct uvf_listener *listener, const struct uvf_mapping *mapping);
	void (*unmap)(struct uvf_listener *listener, uvf_iova_t first, uvf_iova_t last);
	int (*admit)(struct uvf_listener *listener, const struct uvf_mapping *mapping);
	bool (*hides)(struct uvf_listener *listener, uvf_iova_t iova, uint64_t size);
	struct uvf_listener *next; /* the address space's */
};
UVF_API int uvf_listener_add(struct uvf_address_space *space, struct uvf_listener *listener);
UVF_API void uvf_listener_remove(struct uvf_address_space *space, struct uvf_listener *listener);

UVF_END_DECLS

#endif
