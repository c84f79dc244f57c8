/* SPDX-License-Identifier: BSD-3-Clause */
/* Ways to another migration state that wait for the driver: uvf_migration_start_state(). */
#ifndef UVF_CORE_TRANSITION_H
#define UVF_CORE_TRANSITION_H

#include <uvfio/migration.h>

struct transition;

/* The core's own way: what must go of areas has (0), or why not. With the device's lock held. */
void uvf_transition_settled(struct uvf_device *dev, int result);
/* Ends the wait, if there is one, with -ECANCELED: with the device's lock held. */
void uvf_transition_cancel(struct uvf_device *dev);
#endif
