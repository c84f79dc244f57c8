/* SPDX-License-Identifier: BSD-3-Clause */
/* Formats a message for a log that the program gave us. */
#ifndef UVF_BASE_LOG_H
#define UVF_BASE_LOG_H

#include <stdarg.h>
#include <uvfio/types.h>

void uvf_logv(const struct uvf_log *log, enum uvf_log_level level, const char *who,
	      const char *format, va_list args);
void uvf_logf(const struct uvf_log *log, enum uvf_log_level level, const char *who,
	      const char *format, ...) UVF_PRINTF(4, 5);

#endif
