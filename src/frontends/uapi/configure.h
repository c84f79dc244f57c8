/* SPDX-License-Identifier: BSD-3-Clause */
/* A run's configuration: checked, copied, with defaults filled in. */
#ifndef UVF_UAPI_CONFIGURE_H
#define UVF_UAPI_CONFIGURE_H

#include <uvfio/run.h>

/* Makes a run whose devices and groups are there, and nothing else. Errors: -EINVAL, -ENOMEM. */
int uapi_configure(const struct uvf_run_config *config, struct uvf_run **runp,
		   struct uvf_error *error);
void uapi_configure_free(struct uvf_run *run);

#endif
