/* SPDX-License-Identifier: BSD-3-Clause */
/* What uvfio migrate says: how it goes, and the report. */
#include <json-c/json.h>
#include <string.h>

#include "cli/migrate.h"

char *migrate_bytes(char text[16], double bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;

	while (bytes >= 1024 && unit < 4) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, 16, unit && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
	return text;
}

static double number(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) ? json_object_get_double(value) : 0;
}

static const char *string(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) ? json_object_get_string(value) : "";
}

void migrate_print_progress(FILE *file, struct json_object *event)
{
	char bytes[16], rate[16], dirty[16];

	fprintf(file, "%-12s %8s  %8s/s  dirty %8s/s  expected downtime %.0f ms",
		string(event, "state"), migrate_bytes(bytes, number(event, "bytes")),
		migrate_bytes(rate, number(event, "rate")),
		migrate_bytes(dirty, number(event, "dirty_rate")),
		number(event, "expected_downtime_ms"));
}

void migrate_print_report(FILE *file, struct json_object *report)
{
	struct json_object *states = NULL;
	char pre[16], stop[16];

	fprintf(file, "%s moved from %s to %s\n", string(report, "device"),
		string(report, "source"), string(report, "destination"));
	fprintf(file, "total      %.1f ms\n", number(report, "total_ms"));
	fprintf(file, "downtime   %.1f ms (expected %.1f, at most %.0f)\n",
		number(report, "downtime_ms"), number(report, "expected_downtime_ms"),
		number(report, "max_downtime_ms"));
	fprintf(file, "PRE_COPY   %s in %.0f rounds\n",
		migrate_bytes(pre, number(report, "pre_copy_bytes")), number(report, "rounds"));
	fprintf(file, "STOP_COPY  %s\n", migrate_bytes(stop, number(report, "stop_copy_bytes")));
	json_object_object_get_ex(report, "states", &states);
	for (size_t i = 0; states && i < json_object_array_length(states); i++) {
		struct json_object *state = json_object_array_get_idx(states, i);

		fprintf(file, "%-12s at %9.1f ms for %9.2f ms\n", string(state, "state"),
			number(state, "from_ms"), number(state, "ms"));
	}
}
