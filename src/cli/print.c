/* SPDX-License-Identifier: BSD-3-Clause */
/* Prints what was found, from one tree: as JSON, or as text for people. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/describe.h"

static bool is_flat(struct json_object *object)
{
	if (!json_object_is_type(object, json_type_object))
		return false;
	json_object_object_foreach(object, name, value)
	{
		(void)name;
		if (json_object_is_type(value, json_type_object) ||
		    json_object_is_type(value, json_type_array))
			return false;
	}
	return true;
}

static void print_scalar(struct json_object *value)
{
	if (json_object_is_type(value, json_type_boolean))
		fputs(json_object_get_boolean(value) ? "yes" : "no", stdout);
	else
		fputs(json_object_get_string(value), stdout);
}

/* "name=value ..."; a flag that is set is its name alone, one that isn't is not there. */
static void print_flat(struct json_object *object)
{
	const char *between = "";

	json_object_object_foreach(object, name, value)
	{
		if (!value)
			continue;
		if (json_object_is_type(value, json_type_boolean)) {
			if (!json_object_get_boolean(value))
				continue;
			printf("%s%s", between, name);
		} else {
			const char *text = json_object_get_string(value);
			const char *quote = strchr(text, ' ') ? "\"" : "";

			printf("%s%s=%s%s%s", between, name, quote, text, quote);
		}
		between = " ";
	}
	putchar('\n');
}

static void print_value(struct json_object *value, int depth);

static void print_array(struct json_object *array, int depth)
{
	size_t count = json_object_array_length(array);

	for (size_t i = 0; i < count; i++) {
		printf("%*s- ", depth * 2, "");
		print_value(json_object_array_get_idx(array, i), depth + 1);
	}
}

static void print_object(struct json_object *object, int depth)
{
	bool first = true;

	json_object_object_foreach(object, name, value)
	{
		/* The first one stands beside the dash, or the name, that introduces it. */
		printf("%*s%s:", first ? 0 : depth * 2, "", name);
		first = false;
		if (json_object_is_type(value, json_type_array) &&
		    !json_object_array_length(value)) {
			puts(" none");
			continue;
		}
		if (is_flat(value) || !(json_object_is_type(value, json_type_object) ||
					json_object_is_type(value, json_type_array)))
			putchar(' ');
		else
			printf("\n%*s",
			       json_object_is_type(value, json_type_object) ? depth * 2 + 2 : 0,
			       "");
		print_value(value, depth + 1);
	}
}

static void print_value(struct json_object *value, int depth)
{
	if (is_flat(value)) {
		print_flat(value);
	} else if (json_object_is_type(value, json_type_object)) {
		print_object(value, depth);
	} else if (json_object_is_type(value, json_type_array)) {
		print_array(value, depth);
	} else {
		if (value)
			print_scalar(value);
		putchar('\n');
	}
}

void print_tree(struct json_object *object, bool json)
{
	if (json)
		puts(json_object_to_json_string_ext(
			object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
					JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		print_value(object, 0);
	json_object_put(object);
}
