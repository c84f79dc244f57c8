/* SPDX-License-Identifier: BSD-3-Clause */
/* A line for each call of the program, readable as strace's are. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/stats.h"
#include "frontends/uapi/trace.h"
#include "frontends/uapi/uapi.h"

void uapi_trace_call(struct uapi_call *call, int64_t result, uint64_t duration_ns)
{
	const struct uvf_run_config *config = &call->run->config;
	char line[512];

	if (result == UAPI_CONTINUE)
		return;
	snprintf(line, sizeof(line), "[%d] %s(%lld<%s>, %#llx, %#llx) = %lld%s%s <%llu.%06llu>",
		 call->thread, uapi_kind_name(uapi_kind_of_call(call, false)),
		 (long long)call->arguments[0], call->file_name ? call->file_name : "",
		 (unsigned long long)call->arguments[1], (unsigned long long)call->arguments[2],
		 (long long)result, result < 0 ? " " : "",
		 result < 0 ? strerrorname_np((int)-result) : "",
		 (unsigned long long)(duration_ns / 1000000000),
		 (unsigned long long)(duration_ns / 1000 % 1000000));
	config->trace(config->trace_opaque, line);
}

void uapi_trace_note(struct uapi_call *call, const char *format, va_list args)
{
	const struct uvf_run_config *config = &call->run->config;
	char line[512];
	int length = snprintf(line, sizeof(line), "[%d]   ", call->thread);

	vsnprintf(line + length, sizeof(line) - (size_t)length, format, args);
	config->trace(config->trace_opaque, line);
}
