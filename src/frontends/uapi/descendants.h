/* SPDX-License-Identifier: BSD-3-Clause */
/* The program and all that it started: until they are gone. */
#ifndef UVF_UAPI_DESCENDANTS_H
#define UVF_UAPI_DESCENDANTS_H

struct uvf_run;

void uapi_descendants_wait(struct uvf_run *run);
/* Waits for children that have ended and are nobody's here: of a container's first process. */
void uapi_descendants_reap(const struct uvf_run *run);
/* Kills them, and waits for a while. */
void uapi_descendants_kill(struct uvf_run *run);

#endif
