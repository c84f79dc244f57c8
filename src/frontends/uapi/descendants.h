/* SPDX-License-Identifier: BSD-3-Clause */
/* The program and all that it started: until they are gone. */
#ifndef UVF_UAPI_DESCENDANTS_H
#define UVF_UAPI_DESCENDANTS_H

#include <sys/types.h>

struct uvf_run;

void uapi_descendants_wait(struct uvf_run *run);
/* Waits for children that have ended and are nobody's here: of a container's first process. */
void uapi_descendants_reap(const struct uvf_run *run);
/* Kills them, and waits for a while. */
void uapi_descendants_kill(struct uvf_run *run);
/* All that are found: none without a mount namespace of their own. */
void uapi_descendants_each(const struct uvf_run *run, void (*take)(void *opaque, pid_t process),
			   void *opaque);
/* A thread of it that hasn't ended, or its first. */
pid_t uapi_descendants_thread(pid_t process);

#endif
