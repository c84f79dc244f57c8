/* SPDX-License-Identifier: BSD-3-Clause */
/* uvfio ls: the devices that are being served on this machine. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/registry.h"

static const char *text_of(struct json_object *object, const char *name)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, name, &value) || !value)
		return "?";
	return json_object_get_string(value);
}

static int by_socket(const void *a, const void *b)
{
	return strcmp(text_of(*(struct json_object *const *)a, "socket"),
		      text_of(*(struct json_object *const *)b, "socket"));
}

static int run_ls(const struct cli_verb *verb, int argc, char **argv)
{
	struct json_object *all;
	bool json = false;
	int ret = cli_simple_arguments(verb, argc, argv, NULL, &json);

	if (ret)
		return ret;
	all = registry_read();
	json_object_array_sort(all, by_socket);
	if (json) {
		print_tree(all, true);
		return CLI_OK;
	}
	for (size_t i = 0; i < json_object_array_length(all); i++) {
		struct json_object *entry = json_object_array_get_idx(all, i);

		printf("%-40s %8s  %s\n", text_of(entry, "socket"), text_of(entry, "pid"),
		       text_of(entry, "spec"));
	}
	json_object_put(all);
	return CLI_OK;
}

static const struct cli_option options[] = {
	{"--json", NULL, "As JSON"},
	{},
};

static struct cli_verb ls_verb = {
	.name = "ls",
	.usage = "[--json]",
	.summary = "Lists the devices that are being served on this machine",
	.options = options,
	.run = run_ls,
};

CLI_REGISTER_VERB(ls_verb)
