/* SPDX-License-Identifier: BSD-3-Clause */
/* The states of a migration and the way from one to another: Linux's table. */
#ifndef UVF_CORE_MIGRATION_STATE_H
#define UVF_CORE_MIGRATION_STATE_H

#include <stdint.h>
#include <uvfio/uapi.h>

#define UVF_MIGRATION_STATES 8

/*
 * Where the single step from @from on the way to @to leads, in a device that can do @flags
 * (VFIO_MIGRATION_*); @from itself when it is there. VFIO_DEVICE_STATE_ERROR: there is no way.
 */
enum vfio_device_mig_state uvf_migration_next(uint64_t flags, enum vfio_device_mig_state from,
					      enum vfio_device_mig_state to);

const char *uvf_migration_state_name(enum vfio_device_mig_state state);

#endif
