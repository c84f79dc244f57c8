/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines for `--verbose`, like strace's. Only where the configuration has a function for them. */
#ifndef UVF_UAPI_TRACE_H
#define UVF_UAPI_TRACE_H

#include <stdint.h>

struct uapi_call;

void uapi_trace_call(struct uapi_call *call, int64_t result, uint64_t duration_ns);

#endif
