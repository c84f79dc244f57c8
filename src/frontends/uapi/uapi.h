/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Linux's VFIO UAPI in user space: what its parts share.
 *
 * Theory of operation. The program runs with a seccomp filter that sends the calls that may be for
 * us to a listener; each is answered, or let go on to the kernel. What the program holds as a VFIO
 * file is one end of a socketpair; we hold the other, and know which one a call is for by its inode
 * at each call, so that dup(), fork() and SCM_RIGHTS need no bookkeeping, and a hang-up is the last
 * close. Where a call needs memory mapped in the program, it is stopped by ptrace() and made to
 * call mmap() on files of ours; accesses to pages that are not there raise SIGBUS, are decoded and
 * carried out by the tracer.
 *
 *   run.c notify.c filter.c ...   the program's start, its calls, its end
 *   call.h                        a call: what a handler sees of the program
 *   file.h                        what the program holds: containers, groups, devices, iommufds
 *   ioas.h                        address spaces as the program maps and unmaps them
 *   tracer.h                      mmap() in the program and trapped accesses
 *   this header                   the devices and groups that are offered
 *
 * Locks, in the order in which they are taken:
 *   topology   who has which group, container, iommufd and device; never held over a call into a
 *              device, a mapping or a wait
 *   ioas       one address space's mappings (ioas.h)
 *   leaf locks of single objects
 */
#ifndef UVF_UAPI_H
#define UVF_UAPI_H

#include <pthread.h>
#include <stdatomic.h>
#include <uvfio/client.h>
#include <uvfio/run.h>

#include "frontends/uapi/file.h"

#define UAPI_BARS 6

struct uapi_group;
struct uapi_ioas;
struct uapi_notifier;
struct uapi_session;
struct uapi_tracer;
struct uapi_files;
struct uapi_sysfs;

/*
 * Who has a device. It has no owner, or is opened through its group (each VFIO_GROUP_GET_DEVICE_FD
 * is an opening), or is bound to an iommufd (once). BUSY: an owner is being put in or taken out,
 * which may take long; wait for `changed`.
 */
enum uapi_ownership { UAPI_FREE, UAPI_BUSY, UAPI_GROUP, UAPI_BOUND };

struct uapi_transition;

/* Areas of a BAR that changed: what the tracer was asked, and what it has taken in hand. */
struct uapi_change {
	uint64_t generation; /* with the next, under the tracer's lock */
	bool asked;
	bool taken; /* the tracer's own */
	uint64_t taken_generation;
};

/* What the program has mapped of areas that change, where it isn't taken away: device_areas.c. */
struct uapi_known_mapping;
struct uapi_known {
	pthread_mutex_t lock; /* held over calls into the device that don't wait */
	struct uapi_known_mapping *mappings;
	size_t count;
	unsigned in_progress; /* of any region */
	bool unknown;
};

/* An offered device. It lives as long as the run. */
struct uapi_device {
	struct uvf_run *run;
	struct uvf_device *dev;
	size_t number; /* in the configuration, and N in /dev/vfio/devices/vfioN */
	struct uapi_group *group;
	uint32_t domain; /* of PCI; with the next two its address */
	uint8_t bus, devfn;
	char address[20]; /* "0000:65:00.0"; a domain can have 8 digits */
	int numa_node;
	enum uvf_run_trap trap[UAPI_BARS];
	pthread_mutex_t migrating; /* one state is set at a time, and its data are one session's */
	atomic_uint transfers;	   /* of its state: how many have begun, and owners gone */
	atomic_bool revokes; /* mappings are taken away by the tracer where its areas change */
	struct uapi_change changes[UAPI_BARS];
	struct uapi_known known;
	struct uapi_transition *transitions; /* with `migrating`: those that wait */

	/* Under the topology lock. */
	enum uapi_ownership ownership;
	unsigned openings;	      /* UAPI_GROUP */
	bool uses_container;	      /* UAPI_GROUP: the opening counts in the group's `users` */
	struct uapi_file *iommufd;    /* UAPI_BOUND, and UAPI_GROUP in compat mode; a reference */
	struct uapi_ioas *ioas;	      /* attached to; a reference */
	struct uapi_session *session; /* while it has an owner: device.h */
};

/*
 * A group: /dev/vfio/NUMBER. It lives as long as the run.
 *
 * Whoever opens it has it to himself, until his last descriptor of it is gone and so are the
 * devices that he opened through it and a container: those keep the group open, the group its
 * container, and the container the address space. An iommufd in compat mode is kept alike, but
 * devices then don't keep the group open: each keeps the iommufd itself.
 */
struct uapi_group {
	struct uvf_run *run;
	unsigned number;
	struct uapi_device **devices;
	size_t device_count;
	struct uvf_group *together; /* what the devices, if they are several, are told; or NULL */

	/* Under the topology lock. */
	struct uapi_file *file; /* who has it open: one at a time; a reference */
	bool closing;		/* his last descriptor of it is gone: closes with the last user */
	struct uapi_file *container; /* a container or, in compat mode, an iommufd; a reference */
	unsigned users;		     /* devices opened through a container: keep both */
	unsigned bound; /* devices bound through their cdevs: then it can't be opened */
	/* Who may let its devices do DMA: a container or an iommufd; counts what claimed it. */
	const struct uapi_file *owner;
	unsigned claims;
};

struct uvf_run {
	struct uvf_run_config config; /* with defaults filled in; pointers in it are our copies */
	struct uapi_device *devices;
	size_t device_count;
	struct uapi_group *groups;
	size_t group_count;

	pthread_mutex_t topology;
	pthread_cond_t changed; /* with topology: an ownership that was BUSY no longer is */

	struct uapi_files *files;
	struct uapi_notifier *notifier;
	struct uapi_tracer *tracer;
	struct uapi_sysfs *sysfs;

	pid_t pid; /* the program's */
	int pidfd;
	ino_t mount_namespace; /* the program's; 0: not its own */
};

/* ---- Device ownership: device_owner.c ---- */

/*
 * One more opening through the group, which is open: the first opens the device and attaches it to
 * what the group is set to. May take as long as the device does. Not with the topology lock.
 * Errors: -EINVAL (the group has no container, or that has no IOMMU), -EPERM (another device of the
 * group belongs to another iommufd), -ENODEV, those of uvf_device_open() and uvf_device_attach().
 */
int uapi_device_open(struct uapi_device *device);
/* Takes an opening back: the last detaches and closes the device. */
void uapi_device_close(struct uapi_device *device);

/*
 * Binds to an iommufd: opens, not attached. Keeps a reference to @iommufd until it is unbound.
 * Errors: -EBUSY (its group is open), -EINVAL (it has an owner), -EPERM (another device of the
 * group is bound to another iommufd), uvf_device_open()'s.
 */
int uapi_device_bind(struct uapi_device *device, struct uapi_file *iommufd);
void uapi_device_unbind(struct uapi_device *device);
/* NULL detaches. Replaces what was attached without a gap. Takes a reference to @ioas. */
int uapi_device_attach(struct uapi_device *device, struct uapi_ioas *ioas);

/*
 * A group's DMA belongs to one container or iommufd at a time, which may claim it several times.
 * With the topology lock. Errors: -EPERM (it is another's).
 */
int uapi_group_claim(struct uapi_group *group, const struct uapi_file *owner);
void uapi_group_disclaim(struct uapi_group *group);

/* ---- Files that programs open by path or get from an ioctl ---- */

/* /dev/vfio/vfio: container.c. */
int uapi_container_open(struct uvf_run *run, struct uapi_file **filep);
/*
 * For groups, with the topology lock. Whether @file is a container; the address space it is set to,
 * with a reference, or NULL; a group that comes, or goes: the last takes the IOMMU with it, and
 * what is returned (NULL: nothing) has to be put without the lock.
 */
bool uapi_file_is_container(const struct uapi_file *file);
struct uapi_ioas *uapi_container_ioas(struct uapi_file *container);
int uapi_container_join(struct uapi_file *container);
struct uapi_ioas *uapi_container_leave(struct uapi_file *container);
/* /dev/vfio/N: group.c. Errors: -EBUSY (open, or a device of it is bound through its cdev). */
int uapi_group_open(struct uapi_group *group, struct uapi_file **filep);
/* One of the group's `users` has gone. Without the topology lock. */
void uapi_group_unuse(struct uapi_group *group);
/* /dev/vfio/devices/vfioN: cdev.c. Any number of times; until it is bound all else is -EINVAL. */
int uapi_cdev_open(struct uapi_device *device, struct uapi_file **filep);
/* The device behind a cdev's file that is bound; else NULL. For uapi_file_device(). */
struct uapi_device *uapi_cdev_device(struct uapi_file *file);
/*
 * /dev/iommu: iommufd.c. Its objects live as long as there is a reference to its file: groups and
 * devices keep one, past the last descriptor.
 */
int uapi_iommufd_open(struct uvf_run *run, struct uapi_file **filep);
bool uapi_file_is_iommufd(const struct uapi_file *file);
/* The compat mode's address space: makes it where there is none. For VFIO_GROUP_SET_CONTAINER. */
int uapi_iommufd_make_compat(struct uapi_file *iommufd);
/* That address space, with a reference through @ioasp. Errors: -ENODEV (there is none). */
int uapi_iommufd_compat_ioas(struct uapi_file *iommufd, struct uapi_ioas **ioasp);
/* What VFIO_DEVICE_BIND_IOMMUFD gave for @device in this iommufd; 0: it isn't bound to it. */
uint32_t uapi_iommufd_device_id(struct uapi_file *iommufd, const struct uapi_device *device);

/*
 * What VFIO_GROUP_GET_DEVICE_FD gives: a file of an opening that was made by uapi_device_open(),
 * which its release takes back. device_file.c.
 */
int uapi_device_file_new(struct uapi_device *device, struct uapi_file **filep);

/*
 * The device behind a device's file: one of the above, or a cdev's that is bound. NULL where
 * @file is something else or not bound. device_file.c.
 */
struct uapi_device *uapi_file_device(struct uapi_file *file);
/* The group behind a group's file, or NULL. group.c. */
struct uapi_group *uapi_file_group(struct uapi_file *file);

/*
 * What a container and the compat mode of an iommufd share: type1's ioctls on an address space, and
 * VFIO_CHECK_EXTENSION. type1.c. The struct is made up for a call, and whoever calls holds the
 * reference to the address space. Errors: -ENOTTY for what isn't type1's.
 */
struct uapi_call;
struct uapi_type1 {
	struct uapi_ioas *ioas; /* NULL: none yet */
	unsigned version;	/* VFIO_TYPE1_IOMMU or VFIO_TYPE1v2_IOMMU */
	bool compat;		/* an iommufd's: the kernel's two differ in details */
};
long uapi_type1_ioctl(const struct uapi_type1 *type1, struct uapi_call *call, unsigned command,
		      uint64_t argument);

/*
 * The operations of a device that is owned, whichever way: a device file's operations call them,
 * and so do a bound cdev's, which adds BIND, ATTACH and DETACH. device_ioctl.c, device_access.c.
 */
long uapi_device_ioctl(struct uapi_device *device, struct uapi_file *file, struct uapi_call *call,
		       unsigned command, uint64_t argument);
ssize_t uapi_device_access(struct uapi_device *device, struct uapi_call *call,
			   const struct uapi_access *access);
long uapi_device_mmap(struct uapi_device *device, struct uapi_file *file, struct uapi_call *call,
		      const struct uapi_mmap *map);

#endif
