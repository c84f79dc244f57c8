/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Topology files: what a program is offered, as JSON. Each object has a table of its members; what
 * isn't in it is refused with its place. The schema is in docs/topology.md.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/spec.h"
#include "base/suggest.h"
#include "cli/setup.h"

#define MAX_SIZE  (1 << 20)
#define MAX_DEPTH 8

/* Where in the file something is: "devices[1].trap". */
struct place {
	const char *path;
	char at[96];
};

struct reading {
	struct setup *setup;
	struct setup_device *device; /* while one is read */
	struct uvf_error *error;
};

struct member {
	const char *name;
	int (*read)(struct reading *reading, struct json_object *value, const struct place *place);
};

static int refuse(struct reading *reading, const struct place *place, const char *format, ...)
	UVF_PRINTF(3, 4);

static int refuse(struct reading *reading, const struct place *place, const char *format, ...)
{
	char text[160];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	uvf_fail(reading->error, -EINVAL, "%s: %s%s%s", place->path, place->at,
		 place->at[0] ? ": " : "", text);
	return -EINVAL;
}

static struct place inside(const struct place *place, const char *name)
{
	struct place there = {.path = place->path};

	snprintf(there.at, sizeof(there.at), "%.60s%s%.32s", place->at, place->at[0] ? "." : "",
		 name);
	return there;
}

static struct place nth_of(const struct place *place, size_t nth)
{
	struct place there = {.path = place->path};

	snprintf(there.at, sizeof(there.at), "%.70s[%zu]", place->at, nth);
	return there;
}

/* ---- Shapes ---- */

static int unknown_member(struct reading *reading, const struct member *members, const char *name,
			  const struct place *place)
{
	struct uvf_suggestion near = {.word = name};

	for (const struct member *member = members; member->name; member++)
		uvf_suggest_offer(&near, member->name);
	if (near.best)
		return refuse(reading, place, "'%.40s' is not known; did you mean '%s'?", name,
			      near.best);
	return refuse(reading, place, "'%.40s' is not known", name);
}

static int read_object(struct reading *reading, const struct member *members,
		       struct json_object *object, const struct place *place)
{
	if (!json_object_is_type(object, json_type_object))
		return refuse(reading, place, "expected an object");
	json_object_object_foreach(object, name, value)
	{
		const struct member *member = members;
		struct place there = inside(place, name);
		int ret;

		while (member->name && strcmp(member->name, name))
			member++;
		if (!member->name)
			return unknown_member(reading, members, name, place);
		ret = member->read(reading, value, &there);
		if (ret)
			return ret;
	}
	return 0;
}

static int read_array(struct reading *reading, struct json_object *array,
		      int (*read)(struct reading *reading, struct json_object *value,
				  const struct place *place),
		      const struct place *place)
{
	int ret = 0;

	if (!json_object_is_type(array, json_type_array))
		return refuse(reading, place, "expected an array");
	for (size_t i = 0; i < json_object_array_length(array) && !ret; i++) {
		struct place there = nth_of(place, i);

		ret = read(reading, json_object_array_get_idx(array, i), &there);
	}
	return ret;
}

/* JSON has no byte 0 in its texts for us. */
static int read_text(struct reading *reading, struct json_object *value, const char **text,
		     const struct place *place)
{
	*text = "";
	if (!json_object_is_type(value, json_type_string))
		return refuse(reading, place, "expected a text");
	*text = json_object_get_string(value);
	if (strlen(*text) != (size_t)json_object_get_string_len(value))
		return refuse(reading, place, "expected a text without a byte 0");
	return 0;
}

/* A number, or a text such as "64K" or "0xfee00000". */
static int read_number(struct reading *reading, struct json_object *value, uint64_t max,
		       uint64_t *number, const struct place *place)
{
	bool valid = false;

	*number = 0;
	if (json_object_is_type(value, json_type_int)) {
		valid = json_object_get_int64(value) >= 0;
		*number = json_object_get_uint64(value);
	} else if (json_object_is_type(value, json_type_string)) {
		valid = uvf_parse_number(json_object_get_string(value), true, number);
	}
	if (!valid || *number > max)
		return refuse(reading, place, "expected a number of at most %" PRIu64 ", got %.40s",
			      max, json_object_to_json_string(value));
	return 0;
}

/* ---- Devices ---- */

/* First of all: a device begins with its spec. */
static int skip(struct reading *reading, struct json_object *value, const struct place *place)
{
	return 0;
}

static int read_address(struct reading *reading, struct json_object *value,
			const struct place *place)
{
	struct uvf_error why;
	const char *text;
	int ret = read_text(reading, value, &text, place);

	if (!ret && setup_set_address(reading->device, text, &why))
		ret = refuse(reading, place, "%s", why.text);
	return ret;
}

static int read_name(struct reading *reading, struct json_object *value, const struct place *place)
{
	const char *text;
	int ret = read_text(reading, value, &text, place);

	if (ret)
		return ret;
	reading->device->name = strdup(text);
	return reading->device->name ? 0 : uvf_fail(reading->error, -ENOMEM, "no memory");
}

static int read_group(struct reading *reading, struct json_object *value, const struct place *place)
{
	uint64_t number;
	int ret = read_number(reading, value, INT_MAX, &number, place);

	if (!ret)
		reading->device->group = (int)number;
	return ret;
}

static int read_numa(struct reading *reading, struct json_object *value, const struct place *place)
{
	uint64_t number;
	int ret = read_number(reading, value, 1023, &number, place);

	if (!ret)
		reading->device->numa_node = (int)number;
	return ret;
}

static int read_trap_of(struct reading *reading, struct json_object *value,
			const struct place *place)
{
	const char *bar = strrchr(place->at, '.') + 1;

	if (!json_object_is_type(value, json_type_boolean))
		return refuse(reading, place, "expected true or false");
	reading->device->trap[bar[3] - '0'] =
		json_object_get_boolean(value) ? UVF_RUN_TRAP_ON : UVF_RUN_TRAP_OFF;
	return 0;
}

static int read_trap(struct reading *reading, struct json_object *value, const struct place *place)
{
	static const struct member bars[] = {
		{"bar0", read_trap_of},
		{"bar1", read_trap_of},
		{"bar2", read_trap_of},
		{"bar3", read_trap_of},
		{"bar4", read_trap_of},
		{"bar5", read_trap_of},
		{},
	};

	if (json_object_is_type(value, json_type_object))
		return read_object(reading, bars, value, place);
	if (!json_object_is_type(value, json_type_boolean))
		return refuse(reading, place, "expected true, false or an object of BARs");
	for (unsigned bar = 0; bar < 6; bar++)
		reading->device->trap[bar] =
			json_object_get_boolean(value) ? UVF_RUN_TRAP_ON : UVF_RUN_TRAP_OFF;
	return 0;
}

static int read_device(struct reading *reading, struct json_object *value,
		       const struct place *place)
{
	static const struct member members[] = {
		{"spec", skip},
		{"address", read_address},
		{"group", read_group},
		{"name", read_name},
		{"numa_node", read_numa},
		{"trap", read_trap},
		{},
	};
	struct place there = inside(place, "spec");
	struct json_object *spec;
	const char *text;
	int ret;

	if (!json_object_is_type(value, json_type_object))
		return refuse(reading, place, "expected an object");
	if (!json_object_object_get_ex(value, "spec", &spec))
		return refuse(reading, place, "expected a spec, such as \"nvme,file=disk.img\"");
	ret = read_text(reading, spec, &text, &there);
	if (ret)
		return ret;
	reading->device = setup_add_device(reading->setup, text);
	if (!reading->device)
		return refuse(reading, place, "no memory, or too many devices");
	return read_object(reading, members, value, place);
}

static int read_devices(struct reading *reading, struct json_object *value,
			const struct place *place)
{
	return read_array(reading, value, read_device, place);
}

/* ---- The IOMMU ---- */

static int read_page_size(struct reading *reading, struct json_object *value,
			  const struct place *place)
{
	struct uvf_error why;
	uint64_t size;
	int ret = read_number(reading, value, UINT64_MAX, &size, place);

	if (!ret && setup_add_page_size(reading->setup, size, &why))
		ret = refuse(reading, place, "%s", why.text);
	return ret;
}

static int read_page_sizes(struct reading *reading, struct json_object *value,
			   const struct place *place)
{
	int ret = read_array(reading, value, read_page_size, place);

	return ret || reading->setup->page_sizes ? ret : refuse(reading, place, "expected a size");
}

static int read_range(struct reading *reading, struct json_object *value,
		      struct uvf_iova_range *range, const struct place *place)
{
	struct place first = nth_of(place, 0), last = nth_of(place, 1);
	int ret;

	*range = (struct uvf_iova_range){0};
	if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) != 2)
		return refuse(reading, place, "expected [FIRST, LAST]");
	ret = read_number(reading, json_object_array_get_idx(value, 0), UINT64_MAX, &range->first,
			  &first);
	if (!ret)
		ret = read_number(reading, json_object_array_get_idx(value, 1), UINT64_MAX,
				  &range->last, &last);
	if (!ret && range->first > range->last)
		ret = refuse(reading, place, "the first is past the last");
	return ret;
}

static int read_aperture(struct reading *reading, struct json_object *value,
			 const struct place *place)
{
	return read_range(reading, value, &reading->setup->aperture, place);
}

static int read_reserved_range(struct reading *reading, struct json_object *value,
			       const struct place *place)
{
	struct uvf_iova_range range;
	int ret = read_range(reading, value, &range, place);

	if (!ret && setup_add_reserved(reading->setup, range))
		ret = refuse(reading, place, "too many of them");
	return ret;
}

static int read_reserved(struct reading *reading, struct json_object *value,
			 const struct place *place)
{
	return read_array(reading, value, read_reserved_range, place);
}

static int read_mappings(struct reading *reading, struct json_object *value,
			 const struct place *place)
{
	return read_number(reading, value, UINT64_MAX, &reading->setup->max_mappings, place);
}

static int read_locked(struct reading *reading, struct json_object *value,
		       const struct place *place)
{
	return read_number(reading, value, UINT64_MAX, &reading->setup->max_locked, place);
}

static int read_iommu(struct reading *reading, struct json_object *value, const struct place *place)
{
	static const struct member members[] = {
		{"page_sizes", read_page_sizes}, {"aperture", read_aperture},
		{"reserved", read_reserved},	 {"mappings", read_mappings},
		{"locked", read_locked},	 {},
	};

	if (reading->setup->iommu_given)
		return refuse(reading, place, "it is given twice");
	reading->setup->iommu_given = true;
	return read_object(reading, members, value, place);
}

/* ---- Faults, and the whole ---- */

static int read_fault(struct reading *reading, struct json_object *value, const struct place *place)
{
	const char *text;
	struct uvf_error why;
	char device[128];
	int ret = read_text(reading, value, &text, place);

	if (ret)
		return ret;
	if (uvf_inject_device(text, device, sizeof(device), &why))
		return refuse(reading, place, "%s", why.text);
	if (setup_add_fault(reading->setup, text))
		return refuse(reading, place, "no memory, or too many faults");
	return 0;
}

static int read_faults(struct reading *reading, struct json_object *value,
		       const struct place *place)
{
	return read_array(reading, value, read_fault, place);
}

static const struct member topology[] = {
	{"devices", read_devices},
	{"iommu", read_iommu},
	{"inject", read_faults},
	{},
};

static int parse(const char *text, size_t size, struct reading *reading, const struct place *place)
{
	struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
	enum json_tokener_error why;
	struct json_object *object;
	int line = 1, ret;

	if (!tokener)
		return uvf_fail(reading->error, -ENOMEM, "no memory");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* With the byte 0 behind it: a number at the end is whole. */
	object = json_tokener_parse_ex(tokener, text, (int)size + 1);
	why = json_tokener_get_error(tokener);
	if (why != json_tokener_success) {
		size_t end = json_tokener_get_parse_end(tokener);

		for (size_t i = 0; i < end && i < size; i++)
			line += text[i] == '\n';
		ret = refuse(reading, place, "line %d: %s", line, json_tokener_error_desc(why));
	} else {
		ret = read_object(reading, topology, object, place);
	}
	json_object_put(object);
	json_tokener_free(tokener);
	return ret;
}

int setup_topology(struct setup *setup, const char *path, struct uvf_error *error)
{
	struct reading reading = {.setup = setup, .error = error};
	const struct place place = {.path = path};
	FILE *file = fopen(path, "re");
	char *text = malloc(MAX_SIZE + 1);
	int ret = -EINVAL;
	size_t size;

	if (!file || !text) {
		ret = uvf_fail(error, -errno, "%s: %s", path, strerror(errno));
	} else {
		size = fread(text, 1, MAX_SIZE + 1, file);
		if (ferror(file))
			ret = uvf_fail(error, -EIO, "%s: %s", path, strerror(errno));
		else if (size > MAX_SIZE)
			refuse(&reading, &place, "expected at most 1 MiB");
		else if (memchr(text, '\0', size))
			refuse(&reading, &place, "expected a text");
		else {
			text[size] = '\0';
			ret = parse(text, size, &reading, &place);
		}
	}
	if (file)
		fclose(file);
	free(text);
	return ret;
}
