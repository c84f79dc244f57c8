/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the SIGBUS handler and the architecture's guarded accesses. */
#ifndef UVF_BASE_GUARD_TABLE_H
#define UVF_BASE_GUARD_TABLE_H

#include <stdbool.h>

/* In the handler: continues after a guarded access. False: the fault isn't one of ours. */
bool uvf_guard_fix_up(void *context);

#endif
