/* SPDX-License-Identifier: BSD-3-Clause */
/* What went wrong, for a person. */
#include <stdarg.h>
#include <stdio.h>
#include <uvfio/types.h>

int uvf_fail(struct uvf_error *error, int code, const char *format, ...)
{
	va_list args;

	if (error) {
		va_start(args, format);
		vsnprintf(error->text, sizeof(error->text), format, args);
		va_end(args);
	}
	return code;
}
