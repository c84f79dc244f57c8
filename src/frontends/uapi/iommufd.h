/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An iommufd: a table of objects, that commands make, use and destroy by their ids.
 *
 *   iommufd.c           the file; commands and the structs they take; the compatibility mode
 *   iommufd_object.c    the table
 *   iommufd_ioas.c      address spaces: mapping and unmapping
 *   iommufd_iova.c      which addresses: allowed ones, and the choice of one
 *   iommufd_hwpt.c      page tables, what the hardware is, and what it isn't
 *   iommufd_dirty.c     dirty tracking
 *   iommufd_device.c    devices that are bound, and what they are attached to
 *
 * Lifetime: an object is in use while another needs it: an address space while a page table is
 * made of it, a page table while a device is attached to it, a device while it is bound. What is
 * in use can't be destroyed by its id. Commands look at objects with the lock alone; what they go
 * on with without it, an address space, is reference counted itself.
 * Locks: `lock` is taken after the topology lock and is held over nothing that waits. Two are taken
 * before both: a group's `changing`, held while a device is attached or detached, and `tracking`,
 * held while dirty logs are switched and read, and page tables destroyed.
 */
#ifndef UVF_UAPI_IOMMUFD_H
#define UVF_UAPI_IOMMUFD_H

#include <uvfio/uapi_iommufd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/uapi.h"

/* Of one iommufd; each holds memory here. */
#define UAPI_OBJECTS_MAX 4096
#define UAPI_ALLOWED_MAX 65536

enum uapi_object_kind {
	UAPI_OBJECT_RESERVED, /* an id of an object that isn't finished: nobody finds it */
	UAPI_OBJECT_IOAS,
	UAPI_OBJECT_HWPT,
	UAPI_OBJECT_DEVICE,
};

struct uapi_object {
	enum uapi_object_kind kind;
	uint32_t id;
	unsigned users; /* what else needs it */
};

/* Where mappings without an address of their own may be put. Never changes. */
struct uapi_allowed {
	atomic_uint references;
	size_t count;
	struct uvf_iova_range ranges[]; /* rising, apart */
};

struct uapi_object_ioas {
	struct uapi_object object;
	struct uapi_ioas *ioas;	       /* a reference */
	struct uapi_allowed *allowed;  /* a reference; NULL: all */
	uint64_t hint;		       /* where the last choice of an address ended */
	bool small_pages;	       /* IOMMU_OPTION_HUGE_PAGES was set to 0 */
	unsigned tracking;	       /* page tables that do; with the lock of that name */
	struct uapi_object_hwpt *made; /* the page table that attaching to this made, or NULL */
};

struct uapi_object_hwpt {
	struct uapi_object object;
	struct uapi_object_ioas *ioas; /* counted in its users */
	bool made;		       /* by attaching: goes with the last device */
	bool tracks;		       /* IOMMU_HWPT_ALLOC_DIRTY_TRACKING */
	bool tracking;		       /* switched on; with the lock of that name */
};

/* A group of which devices are bound to the iommufd. They are all attached to one page table. */
struct uapi_iommufd_group {
	struct uapi_iommufd_group *next;
	const struct uapi_group *group;
	unsigned bound;
	pthread_mutex_t changing;
	/* With `changing`, and written with the iommufd's lock too. */
	struct uapi_object_hwpt *hwpt;	     /* NULL: none is attached */
	struct uapi_object_device *attached; /* the first of them */
};

struct uapi_object_device {
	struct uapi_object object;
	struct uapi_device *device;
	struct uapi_iommufd_group *group;
	struct uapi_object_device *next; /* of those attached */
	bool is_attached;
};

struct uapi_iommufd {
	struct uapi_file file;
	pthread_mutex_t tracking;
	pthread_mutex_t lock;
	struct uapi_object **objects; /* by id; 0 is none */
	size_t capacity;
	size_t count;
	uint32_t lowest_free; /* no smaller id is free */
	struct uapi_object_ioas *compat;
	struct uapi_iommufd_group *groups;
	bool accounts_process; /* IOMMU_OPTION_RLIMIT_MODE */
};

/* A command as it is carried out. */
struct uapi_iommufd_command {
	struct uapi_iommufd *iommufd;
	struct uapi_call *call;
	uint64_t address; /* of the program's struct */
	uint32_t size;	  /* that the program says it has */
	union {
		struct iommu_destroy destroy;
		struct iommu_fault_alloc fault;
		struct iommu_hw_info info;
		struct iommu_hw_queue_alloc hw_queue;
		struct iommu_hwpt_alloc hwpt;
		struct iommu_hwpt_get_dirty_bitmap get_dirty_bitmap;
		struct iommu_hwpt_invalidate invalidate;
		struct iommu_hwpt_set_dirty_tracking set_dirty_tracking;
		struct iommu_ioas_alloc alloc;
		struct iommu_ioas_allow_iovas allow_iovas;
		struct iommu_ioas_change_process change_process;
		struct iommu_ioas_copy copy;
		struct iommu_ioas_iova_ranges iova_ranges;
		struct iommu_ioas_map map;
		struct iommu_ioas_map_file map_file;
		struct iommu_ioas_unmap unmap;
		struct iommu_option option;
		struct iommu_vdevice_alloc vdevice;
		struct iommu_veventq_alloc veventq;
		struct iommu_vfio_ioas vfio_ioas;
		struct iommu_viommu_alloc viommu;
	};
};

/* Gives the program the first @size bytes of the command's struct, or as many as it has. */
int uapi_iommufd_respond(struct uapi_iommufd_command *command, const void *from, size_t size);

/* ---- The table: with the lock, all of it ---- */

/* An object of @kind, or NULL. */
void *uapi_object_find(struct uapi_iommufd *iommufd, uint32_t id, enum uapi_object_kind kind);
/* Any object, or NULL. */
struct uapi_object *uapi_object_find_any(struct uapi_iommufd *iommufd, uint32_t id);
/* Gives an object the lowest free id; nobody finds it. Errors: -ENOMEM. */
int uapi_object_reserve(struct uapi_iommufd *iommufd, struct uapi_object *object);
/* From now on it is found, as one of @kind. */
void uapi_object_publish(struct uapi_object *object, enum uapi_object_kind kind);
/* The id is free again. The memory is the caller's. */
void uapi_object_remove(struct uapi_iommufd *iommufd, struct uapi_object *object);

/* ---- Address spaces ---- */

/* A new object, without an id. */
int uapi_object_ioas_new(struct uvf_run *run, struct uapi_object_ioas **objectp);
void uapi_object_ioas_free(struct uapi_object_ioas *object);
/* The address space of that id, with a reference. Takes the lock. Errors: -ENOENT. */
int uapi_iommufd_get_ioas(struct uapi_iommufd *iommufd, uint32_t id, struct uapi_ioas **ioasp);
/* Whether devices translate through it. With the topology lock and the lock. */
bool uapi_object_ioas_is_used(struct uapi_iommufd *iommufd, const struct uapi_object_ioas *object);
/* Whether anything is mapped. */
bool uapi_ioas_is_mapped(struct uapi_ioas *ioas);

void uapi_allowed_put(struct uapi_allowed *allowed);
/*
 * An address for a mapping of @size bytes of what lies at @source, in the address space with this
 * id. Errors: -ENOENT, -EOVERFLOW, -EINVAL (@source is less aligned than a page table needs),
 * -ENOSPC, -ENOMEM.
 */
int uapi_iommufd_choose(struct uapi_iommufd *iommufd, uint32_t id, uint64_t source, uint64_t size,
			uint64_t *iova);

/* ---- Devices ---- */

/* Binds @device: the object is there until it is unbound. Errors: uapi_device_bind()'s, -ENOMEM. */
int uapi_iommufd_bind(struct uapi_iommufd *iommufd, struct uapi_device *device,
		      struct uapi_object_device **objectp);
void uapi_iommufd_unbind(struct uapi_iommufd *iommufd, struct uapi_object_device *object);
/*
 * Attaches to what has the id *@id, an address space or page table, or goes over to it; *@id is
 * then the page table's. Errors: -ENOENT, -EINVAL (another kind; or another device of the group is
 * attached to something else), -ENOMEM, uapi_device_attach()'s: nothing has changed.
 */
int uapi_iommufd_attach(struct uapi_iommufd *iommufd, struct uapi_object_device *object,
			uint32_t *id);
void uapi_iommufd_detach(struct uapi_iommufd *iommufd, struct uapi_object_device *object);
/* A page table that attaching made goes when no device needs it. With the lock. */
void uapi_object_hwpt_drop(struct uapi_iommufd *iommufd, struct uapi_object_hwpt *hwpt);
/* @hwpt doesn't track any more. Returns how many of its address space still do. With `tracking`. */
unsigned uapi_object_hwpt_untrack(struct uapi_object_hwpt *hwpt);

/* ---- Commands ---- */

int uapi_iommufd_destroy(struct uapi_iommufd_command *command);
int uapi_iommufd_ioas_alloc(struct uapi_iommufd_command *command);
int uapi_iommufd_ioas_allow_iovas(struct uapi_iommufd_command *command);
int uapi_iommufd_ioas_iova_ranges(struct uapi_iommufd_command *command);
int uapi_iommufd_ioas_map(struct uapi_iommufd_command *command);
int uapi_iommufd_ioas_map_file(struct uapi_iommufd_command *command);
int uapi_iommufd_ioas_copy(struct uapi_iommufd_command *command);
int uapi_iommufd_ioas_unmap(struct uapi_iommufd_command *command);
int uapi_iommufd_ioas_change_process(struct uapi_iommufd_command *command);
int uapi_iommufd_option(struct uapi_iommufd_command *command);
int uapi_iommufd_vfio_ioas(struct uapi_iommufd_command *command);
int uapi_iommufd_hwpt_alloc(struct uapi_iommufd_command *command);
int uapi_iommufd_hwpt_set_dirty_tracking(struct uapi_iommufd_command *command);
int uapi_iommufd_hwpt_get_dirty_bitmap(struct uapi_iommufd_command *command);
int uapi_iommufd_hwpt_invalidate(struct uapi_iommufd_command *command);
int uapi_iommufd_get_hw_info(struct uapi_iommufd_command *command);
int uapi_iommufd_fault_queue_alloc(struct uapi_iommufd_command *command);
int uapi_iommufd_viommu_alloc(struct uapi_iommufd_command *command);
int uapi_iommufd_vdevice_alloc(struct uapi_iommufd_command *command);
int uapi_iommufd_veventq_alloc(struct uapi_iommufd_command *command);
int uapi_iommufd_hw_queue_alloc(struct uapi_iommufd_command *command);

#endif
