/* SPDX-License-Identifier: BSD-3-Clause */
/* Formats a message for a log that the program gave us. */
#include "base/log.h"

#include <stdio.h>

void uvf_logv(const struct uvf_log *log, enum uvf_log_level level, const char *who,
	      const char *format, va_list args)
{
	char text[512];

	if (!log->fn || level > log->level)
		return;
	vsnprintf(text, sizeof(text), format, args);
	log->fn(log->opaque, level, who, text);
}

void uvf_logf(const struct uvf_log *log, enum uvf_log_level level, const char *who,
	      const char *format, ...)
{
	va_list args;

	va_start(args, format);
	uvf_logv(log, level, who, format, args);
	va_end(args);
}
