/* SPDX-License-Identifier: BSD-3-Clause */
/* The devices of this process by the names that people use, and the faults that are put into them.
 */
#include "cli/faults.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <uvfio/device.h>

#include "base/suggest.h"

static bool is_called(const struct fault_target *target, const char *name)
{
	return !strcmp(target->address, name) ||
	       (!strncmp(target->address, "0000:", 5) && !strcmp(target->address + 5, name)) ||
	       (target->name && !strcmp(target->name, name)) ||
	       !strcmp(uvf_device_name(target->dev), name);
}

static int not_found(const struct faults *faults, const char *name, struct uvf_error *error)
{
	struct uvf_suggestion near = {.word = name};

	for (size_t i = 0; i < faults->count; i++) {
		uvf_suggest_offer(&near, faults->targets[i].address);
		uvf_suggest_offer(&near, uvf_device_name(faults->targets[i].dev));
		if (faults->targets[i].name)
			uvf_suggest_offer(&near, faults->targets[i].name);
	}
	if (near.best)
		return uvf_fail(error, -ENOENT, "device '%s' is not there; did you mean '%s'?",
				name, near.best);
	return uvf_fail(error, -ENOENT, "device '%s' is not there", name);
}

int faults_find(const struct faults *faults, const char *name, size_t *nth, struct uvf_error *error)
{
	size_t found = 0;

	for (size_t i = 0; i < faults->count; i++) {
		if (name[0] && !is_called(&faults->targets[i], name))
			continue;
		*nth = i;
		found++;
	}
	if (found == 1)
		return 0;
	if (!found)
		return not_found(faults, name, error);
	if (!name[0])
		return uvf_fail(error, -EINVAL, "expected a device: there are %zu", found);
	return uvf_fail(error, -EINVAL, "device '%s' is one of %zu: say its address", name, found);
}

static int find_injector(const struct faults *faults, const char *spec,
			 struct uvf_injector **injector, struct uvf_error *error)
{
	char device[128];
	size_t nth;
	int ret = uvf_inject_device(spec, device, sizeof(device), error);

	if (ret)
		return ret;
	/* Mappings belong to the program, until someone says to which device. */
	if (!device[0] && faults->maps && !strncmp(spec, "map-fail", strcspn(spec, ","))) {
		*injector = faults->maps;
		return 0;
	}
	ret = faults_find(faults, device, &nth, error);
	if (ret)
		return ret;
	*injector = uvf_device_injector(faults->targets[nth].dev);
	return *injector ? 0 : uvf_fail(error, -ENOMEM, "no memory");
}

int faults_inject(const struct faults *faults, const char *spec, struct uvf_error *error)
{
	struct uvf_injector *injector;
	int ret = find_injector(faults, spec, &injector, error);

	return ret ? ret : uvf_inject(injector, spec, error);
}

int faults_clear(const struct faults *faults, const char *name, struct uvf_error *error)
{
	size_t first = 0, last = faults->count;
	int ret;

	if (name[0]) {
		ret = faults_find(faults, name, &first, error);
		if (ret)
			return ret;
		last = first + 1;
	} else if (faults->maps) {
		uvf_injector_clear(faults->maps);
	}
	for (size_t i = first; i < last; i++) {
		struct uvf_injector *injector = uvf_device_injector(faults->targets[i].dev);

		if (injector)
			uvf_injector_clear(injector);
	}
	return 0;
}

static void list(struct json_object *array, const char *device, struct uvf_injector *injector)
{
	struct uvf_injected all[UVF_INJECT_MAX];
	size_t count = injector ? uvf_injector_list(injector, all, UVF_INJECT_MAX) : 0;

	for (size_t i = 0; i < count; i++) {
		struct json_object *row = json_object_new_object();

		if (device)
			json_object_object_add(row, "device", json_object_new_string(device));
		json_object_object_add(row, "fault", json_object_new_string(all[i].spec));
		json_object_object_add(row, "seen", json_object_new_int64((int64_t)all[i].seen));
		json_object_object_add(row, "hits", json_object_new_int64((int64_t)all[i].hits));
		json_object_object_add(row, "over", json_object_new_boolean(all[i].over));
		json_object_array_add(array, row);
	}
}

struct json_object *faults_list(const struct faults *faults)
{
	struct json_object *array = json_object_new_array();

	list(array, NULL, faults->maps);
	for (size_t i = 0; i < faults->count; i++)
		list(array, faults->targets[i].address,
		     uvf_device_injector(faults->targets[i].dev));
	return array;
}
