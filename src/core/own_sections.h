/* SPDX-License-Identifier: BSD-3-Clause */
/* The core's own sections of a migration stream: interrupts, and the memory behind areas. */
#ifndef UVF_CORE_OWN_SECTIONS_H
#define UVF_CORE_OWN_SECTIONS_H

#include <uvfio/migration.h>

/* Their names; ends with NULL. */
extern const char *const uvf_own_sections[];

/* With the device's lock held. Errors: as uvf_state_write(). */
int uvf_own_sections_save(struct uvf_device *dev, struct uvf_state_writer *writer);
/* With the device's lock held, of a device that was reset. -EINVAL: they are of another device. */
int uvf_own_sections_load(struct uvf_device *dev, struct uvf_state_reader *reader);

#endif
