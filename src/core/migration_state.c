/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of next states. */
#include "core/migration_state.h"

#include <stdbool.h>

enum {
	ERR = VFIO_DEVICE_STATE_ERROR,
	STOP = VFIO_DEVICE_STATE_STOP,
	RUN = VFIO_DEVICE_STATE_RUNNING,
	COPY = VFIO_DEVICE_STATE_STOP_COPY,
	RES = VFIO_DEVICE_STATE_RESUMING,
	P2P = VFIO_DEVICE_STATE_RUNNING_P2P,
	PRE = VFIO_DEVICE_STATE_PRE_COPY,
	PREP = VFIO_DEVICE_STATE_PRE_COPY_P2P,
};

/* From a row's state towards a column's. */
static const uint8_t next_state[UVF_MIGRATION_STATES][UVF_MIGRATION_STATES] = {
	/*         ERR  STOP  RUN   COPY  RES   P2P   PRE   PREP */
	[STOP] = {ERR, STOP, P2P, COPY, RES, P2P, P2P, P2P},
	[RUN] = {ERR, P2P, RUN, P2P, P2P, P2P, PRE, PRE},
	[COPY] = {ERR, STOP, STOP, COPY, STOP, STOP, STOP, STOP},
	[RES] = {ERR, STOP, STOP, STOP, RES, STOP, STOP, STOP},
	[P2P] = {ERR, STOP, RUN, STOP, STOP, P2P, RUN, RUN},
	[PRE] = {ERR, RUN, RUN, PREP, RUN, RUN, PRE, PREP},
	[PREP] = {ERR, P2P, P2P, COPY, P2P, P2P, PRE, PREP},
};

static bool has(uint64_t flags, unsigned state)
{
	switch (state) {
	case P2P:
		return flags & VFIO_MIGRATION_P2P;
	case PRE:
		return flags & VFIO_MIGRATION_PRE_COPY;
	case PREP:
		return flags & VFIO_MIGRATION_PRE_COPY && flags & VFIO_MIGRATION_P2P;
	case ERR:
		return false;
	}
	return flags & VFIO_MIGRATION_STOP_COPY;
}

enum vfio_device_mig_state uvf_migration_next(uint64_t flags, enum vfio_device_mig_state from,
					      enum vfio_device_mig_state to)
{
	unsigned state = from;

	if ((unsigned)from >= UVF_MIGRATION_STATES || (unsigned)to >= UVF_MIGRATION_STATES ||
	    !has(flags, from) || !has(flags, to))
		return VFIO_DEVICE_STATE_ERROR;
	/* A state that the device hasn't is gone through. */
	do {
		state = next_state[state][to];
	} while (state != ERR && !has(flags, state));
	return state;
}

const char *uvf_migration_state_name(enum vfio_device_mig_state state)
{
	static const char *const names[UVF_MIGRATION_STATES] = {
		[ERR] = "ERROR",      [STOP] = "STOP",	       [RUN] = "RUNNING",
		[COPY] = "STOP_COPY", [RES] = "RESUMING",      [P2P] = "RUNNING_P2P",
		[PRE] = "PRE_COPY",   [PREP] = "PRE_COPY_P2P",
	};

	return (unsigned)state < UVF_MIGRATION_STATES ? names[state] : "?";
}
