/* SPDX-License-Identifier: BSD-3-Clause */
/* The options --device and --iommu: specs with keys that belong to the run. */
#include "cli/setup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/spec.h"

/* What of a device's spec is not the model's. No model has keys of these names. */
static const struct uvf_model_key place_keys[] = {
	{"bdf", UVF_KEY_STRING, NULL, "ADDRESS", "Where it is, as 0000:65:00.0"},
	{"group", UVF_KEY_NUMBER, NULL, "N", "Its IOMMU group", .max = INT_MAX},
	{"name", UVF_KEY_STRING, NULL, "NAME", "What people call it"},
	{"numa", UVF_KEY_NUMBER, NULL, "N", "Its NUMA node", .max = 1023},
	{"trap", UVF_KEY_BOOL, "on", "on|off", "Whether accesses to mapped registers are trapped"},
	{"trap0", UVF_KEY_BOOL, NULL, "on|off", "Of BAR 0 alone"},
	{"trap1", UVF_KEY_BOOL, NULL, "on|off", "Of BAR 1 alone"},
	{"trap2", UVF_KEY_BOOL, NULL, "on|off", "Of BAR 2 alone"},
	{"trap3", UVF_KEY_BOOL, NULL, "on|off", "Of BAR 3 alone"},
	{"trap4", UVF_KEY_BOOL, NULL, "on|off", "Of BAR 4 alone"},
	{"trap5", UVF_KEY_BOOL, NULL, "on|off", "Of BAR 5 alone"},
	{},
};

static const struct uvf_model_key iommu_keys[] = {
	{"pgsizes", UVF_KEY_STRING, NULL, "SIZE[+SIZE...]", "Page sizes"},
	{"aperture", UVF_KEY_STRING, NULL, "FIRST-LAST", "Where mappings can be"},
	{"reserved", UVF_KEY_STRING, NULL, "FIRST-LAST", "Where they can't be", .repeated = true},
	{"mappings", UVF_KEY_NUMBER, NULL, "N", "At most so many, of a container", .min = 1},
	{"locked", UVF_KEY_SIZE, NULL, "SIZE", "At most so much is mapped", .min = 1},
	{},
};

static bool is_place_key(const char *item)
{
	size_t length = strcspn(item, "=,");

	for (const struct uvf_model_key *key = place_keys; key->name; key++)
		if (strlen(key->name) == length && !memcmp(key->name, item, length))
			return true;
	return false;
}

/* How long the item at @item is: up to a comma that is not doubled. */
static size_t item_length(const char *item)
{
	size_t length = 0;

	while (item[length] && (item[length] != ',' || item[length + 1] == ','))
		length += item[length] == ',' ? 2 : 1;
	return length;
}

/* The items of @text go to @model or @place, each of which begins with the model's name. */
static void split(const char *text, char *model, char *place)
{
	size_t length = uvf_spec_name_length(text);

	model = mempcpy(model, text, length);
	place = mempcpy(place, text, length);
	for (text += length; *text; text += length) {
		char **to;

		to = is_place_key(++text) ? &place : &model;
		length = item_length(text);
		*(*to)++ = ',';
		*to = mempcpy(*to, text, length);
	}
	*model = *place = '\0';
}

static int set_place(struct setup_device *device, const struct uvf_spec *spec,
		     struct uvf_error *error)
{
	enum uvf_run_trap trap = uvf_spec_bool(spec, "trap") ? UVF_RUN_TRAP_ON : UVF_RUN_TRAP_OFF;

	for (unsigned bar = 0; bar < 6; bar++) {
		const char name[] = {'t', 'r', 'a', 'p', (char)('0' + bar), '\0'};

		device->trap[bar] = trap;
		if (uvf_spec_given(spec, name))
			device->trap[bar] =
				uvf_spec_bool(spec, name) ? UVF_RUN_TRAP_ON : UVF_RUN_TRAP_OFF;
	}
	if (uvf_spec_given(spec, "group"))
		device->group = (int)uvf_spec_number(spec, "group");
	if (uvf_spec_given(spec, "numa"))
		device->numa_node = (int)uvf_spec_number(spec, "numa");
	if (uvf_spec_given(spec, "name")) {
		device->name = strdup(uvf_spec_string(spec, "name"));
		if (!device->name)
			return uvf_fail(error, -ENOMEM, "no memory");
	}
	if (uvf_spec_given(spec, "bdf"))
		return setup_set_address(device, uvf_spec_string(spec, "bdf"), error);
	return 0;
}

int setup_device_option(struct setup *setup, const char *text, struct uvf_error *error)
{
	char *model = malloc(strlen(text) + 1), *place = malloc(strlen(text) + 1);
	struct setup_device *device = NULL;
	struct uvf_spec *spec;
	int ret = -ENOMEM;

	if (model && place) {
		split(text, model, place);
		device = setup_add_device(setup, model);
	}
	if (!device) {
		uvf_fail(error, -ENOMEM, "%s: no memory, or too many devices", text);
	} else {
		ret = uvf_spec_parse(place, place_keys, &spec, error);
		if (!ret) {
			ret = set_place(device, spec, error);
			uvf_spec_free(spec);
		}
	}
	free(model);
	free(place);
	return ret;
}

/* ---- The IOMMU ---- */

static int add_page_sizes(struct setup *setup, const char *text, struct uvf_error *error)
{
	while (*text) {
		size_t length = strcspn(text, "+");
		struct uvf_error why = {"expected a size such as 4K"};
		uint64_t size;
		char word[32];

		snprintf(word, sizeof(word), "%.*s", (int)(length > 31 ? 31 : length), text);
		if (!uvf_parse_number(word, true, &size) || setup_add_page_size(setup, size, &why))
			return uvf_fail(error, -EINVAL, "pgsizes=: %s, got '%s'", why.text, word);
		text += length + (text[length] == '+');
	}
	if (!setup->page_sizes)
		return uvf_fail(error, -EINVAL, "pgsizes=: expected SIZE[+SIZE...], got ''");
	return 0;
}

static int set_range(const struct uvf_spec *spec, const char *key, size_t nth,
		     struct uvf_iova_range *range, struct uvf_error *error)
{
	const char *text = uvf_spec_nth(spec, key, nth);

	if (strchr(text, '-') && uvf_parse_range(text, true, &range->first, &range->last))
		return 0;
	uvf_fail(error, -EINVAL, "%s=: expected FIRST-LAST, got '%s'", key, text);
	return -EINVAL;
}

static int set_iommu(struct setup *setup, const struct uvf_spec *spec, struct uvf_error *error)
{
	int ret = 0;

	if (uvf_spec_given(spec, "pgsizes"))
		ret = add_page_sizes(setup, uvf_spec_string(spec, "pgsizes"), error);
	if (!ret && uvf_spec_given(spec, "aperture"))
		ret = set_range(spec, "aperture", 0, &setup->aperture, error);
	for (size_t nth = 0; !ret && uvf_spec_nth(spec, "reserved", nth); nth++) {
		struct uvf_iova_range range;

		ret = set_range(spec, "reserved", nth, &range, error);
		if (!ret && setup_add_reserved(setup, range))
			ret = uvf_fail(error, -ENOMEM, "reserved=: too many of them");
	}
	setup->max_mappings = uvf_spec_number(spec, "mappings");
	setup->max_locked = uvf_spec_number(spec, "locked");
	return ret;
}

int setup_iommu_option(struct setup *setup, const char *text, struct uvf_error *error)
{
	struct uvf_spec *spec;
	char *whole;
	int ret;

	if (setup->iommu_given)
		return uvf_fail(error, -EINVAL, "it is given twice");
	setup->iommu_given = true;
	if (asprintf(&whole, "iommu,%s", text) < 0)
		return uvf_fail(error, -ENOMEM, "no memory");
	ret = uvf_spec_parse(whole, iommu_keys, &spec, error);
	if (!ret) {
		ret = set_iommu(setup, spec, error);
		uvf_spec_free(spec);
	}
	free(whole);
	return ret;
}
