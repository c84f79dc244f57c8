/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of an owned device share: device_*.c.
 *
 * A session is what belongs to one owner of a device, from the first opening to the last closing.
 * It is there whenever an operation of one of the device's files runs, since their release waits
 * for those; whoever else wants it takes the topology lock and looks whether the device is owned.
 */
#ifndef UVF_UAPI_DEVICE_H
#define UVF_UAPI_DEVICE_H

#include <uvfio/migration.h>
#include <uvfio/remap.h>

#include "frontends/uapi/uapi.h"

/* Region i of a device's file is at i << 40. */
#define UAPI_REGION_SHIFT 40

struct uapi_worker;

struct uapi_session {
	struct uapi_device *device;

	/* What its configuration space says of it. */
	bool express;	      /* it is a PCI Express device */
	uint16_t power_state; /* where PMCSR is; 0: nowhere */
	bool is_io[UAPI_BARS];
	struct {
		uint32_t bar;
		uint64_t offset, size; /* size 0: no MSI-X */
	} msix_table;

	atomic_uint config_writes; /* and resets; begins with 1 */
	/* Whether the memory BARs are enabled, and at which of the writes that was found out. */
	atomic_uint memory_enabled; /* config_writes << 1 | enabled */

	pthread_mutex_t interrupts; /* SET_IRQS, one at a time; guards what follows */
	uint32_t msi_vectors;	    /* as many were enabled */
	bool has_resample;	    /* INTx has an eventfd that unmasks it */

	struct uapi_worker *worker;
};

/*
 * device_session.c: with the device just opened, or about to be closed; and without the topology
 * lock.
 */
int uapi_session_new(struct uapi_device *device);
void uapi_session_free(struct uapi_device *device);
/* Whether a memory BAR answers: Memory Space Enable, in D0 to D2. */
bool uapi_session_memory_enabled(struct uapi_session *session);
/* As many as VFIO has for a PCI device, or more. */
uint32_t uapi_device_regions(const struct uapi_device *device);
/*
 * Whether all of a region can be mapped since accesses trap: a memory BAR of whole pages. (Of a
 * smaller one a mapping would show more than there is.)
 */
bool uapi_device_traps(const struct uapi_device *device, uint32_t index,
		       const struct uvf_region_info *info);
/*
 * Resets, and gives the header of the configuration space (BARs, command register) back what it
 * had, as the kernel does.
 */
int uapi_device_reset(struct uapi_device *device, enum uvf_reset kind);

/*
 * device_areas.c: areas that change. Between uvf_device_open() and uvf_device_close(), with a
 * session.
 */
void uapi_device_begin_revoking(struct uapi_device *device);
void uapi_device_end_revoking(struct uapi_device *device);
/* Whether what the program has mapped is taken away from it. */
bool uapi_device_revokes(const struct uapi_device *device);
/*
 * What the program has mapped where it isn't taken away: the device is told (uvf_region_mapped()).
 * Between the first two the program is mapping; where the first fails it mustn't. Any thread.
 * Errors: uvf_region_mapped()'s.
 */
int uapi_known_begin_mapping(struct uapi_device *device, uint32_t index, uint64_t offset,
			     uint64_t size);
void uapi_known_end_mapping(struct uapi_device *device);
/* Looks which of it are there still. */
int uapi_known_look(struct uapi_device *device);
/* From now on they can go without our looking for them in time: until the device is closed. */
int uapi_known_set_unknown(struct uapi_device *device);
/* The device is about to be closed. */
void uapi_known_forget(struct uapi_device *device);

/*
 * device_access.c: as uvf_region_read() and uvf_region_write(), but a device that is gone reads as
 * all ones and drops writes.
 */
int uapi_region_read(struct uapi_device *device, uint32_t index, uint64_t offset, void *buf,
		     size_t count);
int uapi_region_write(struct uapi_device *device, uint32_t index, uint64_t offset, const void *buf,
		      size_t count);

/*
 * device_worker.c: a thread that waits for what a session waits for: eventfds that stand for
 * writes, and the time to ask for the device again.
 */
int uapi_worker_new(struct uapi_session *session);
void uapi_worker_free(struct uapi_session *session);

/*
 * Whether @fd is an eventfd, and not something else that can be waited for, which is never read
 * empty: exactly, by its name in /proc.
 */
bool uapi_is_eventfd(int fd);

/* A write that an eventfd stands for. */
struct uapi_ioeventfd {
	uint32_t index, size;
	uint64_t offset, data;
};
/*
 * @fd, which is duplicated, stands for @write from now on. It may be an error instead, which is
 * returned if nothing else is wrong. Errors: -EEXIST, -ENOSPC, -ENOMEM, -EINVAL (not an eventfd).
 */
int uapi_worker_add(struct uapi_session *session, const struct uapi_ioeventfd *write, int fd);
/* When it returns, no such write comes any more. Errors: -ENODEV (nothing stands for it). */
int uapi_worker_remove(struct uapi_session *session, const struct uapi_ioeventfd *write);

/* The eventfd of REQ: takes it over, whatever the result; -1: none. Errors: -EAGAIN (no thread). */
int uapi_worker_set_request_fd(struct uapi_session *session, int fd);
bool uapi_worker_has_request_fd(struct uapi_session *session);
/* Signals it, once, or now and each second; the latter, like has, never waits for the device. */
void uapi_worker_signal_request(struct uapi_session *session);
void uapi_worker_repeat_request(struct uapi_session *session);

/* The ioctls. device_info.c */
typedef long uapi_device_command(struct uapi_device *device, struct uapi_call *call,
				 uint64_t argument);
uapi_device_command uapi_device_get_info, uapi_device_get_region_info, uapi_device_get_irq_info;
uint32_t uapi_device_irq_count(const struct uapi_device *device, uint32_t index);
/* device_irq.c */
uapi_device_command uapi_device_set_irqs;
/* device_reset.c */
uapi_device_command uapi_device_get_hot_reset_info, uapi_device_hot_reset;
/*
 * device_migration.c: features whose data are more than bytes. Whether this is one, and then what
 * came of it.
 */
bool uapi_migration_feature(struct uapi_device *device, struct uapi_call *call, uint64_t address,
			    uint32_t flags, long *result);
/*
 * With `migrating`: a descriptor for the session of data that has just begun. Returns its number.
 */
int uapi_migration_place_file(struct uapi_device *device, struct uapi_call *call, bool writes);
/* device_transition.c: sets the state of migration; maybe UAPI_TAKEN. */
uapi_device_command uapi_device_set_state;
/* A call of @thread that waits, in whichever device, ends for now: the thread makes it again. */
void uapi_transitions_send_back(struct uvf_run *run, pid_t thread);
/* Nobody is left who could be answered. */
void uapi_transitions_forget(struct uvf_run *run);
/* All devices are closed: when this returns there are none. */
void uapi_transitions_free(struct uvf_run *run);
/* What is left of those that ended. */
void uapi_transitions_drop(struct uapi_device *device);
/* device_feature.c */
uapi_device_command uapi_device_feature;

#endif
