/* SPDX-License-Identifier: BSD-3-Clause */
/* uvfio models: which devices there are, and what each can be told. */
#include <json-c/json.h>
#include <stdio.h>
#include <uvfio/model.h>

#include "base/suggest.h"
#include "cli/cli.h"
#include "cli/describe.h"

static const char *const kinds[] = {
	[UVF_KEY_STRING] = "string", [UVF_KEY_SIZE] = "size",	  [UVF_KEY_NUMBER] = "number",
	[UVF_KEY_BOOL] = "bool",     [UVF_KEY_CHOICE] = "choice",
};

static const char *key_expects(const struct uvf_model_key *key)
{
	static const char *const expects[] = {
		[UVF_KEY_STRING] = "TEXT", [UVF_KEY_SIZE] = "SIZE",   [UVF_KEY_NUMBER] = "NUMBER",
		[UVF_KEY_BOOL] = "on|off", [UVF_KEY_CHOICE] = "WORD",
	};

	return key->expects ? key->expects : expects[key->kind];
}

/* ---- JSON ---- */

static void add_string(struct json_object *object, const char *name, const char *value)
{
	if (value)
		json_object_object_add(object, name, json_object_new_string(value));
}

static struct json_object *key_json(const struct uvf_model_key *key)
{
	struct json_object *object = json_object_new_object();

	add_string(object, "name", key->name);
	add_string(object, "kind", kinds[key->kind]);
	add_string(object, "expects", key_expects(key));
	add_string(object, "default", key->default_value);
	add_string(object, "help", key->help);
	if (key->min || key->max)
		json_object_object_add(object, "min", json_object_new_uint64(key->min));
	if (key->max)
		json_object_object_add(object, "max", json_object_new_uint64(key->max));
	if (key->repeated)
		json_object_object_add(object, "repeated", json_object_new_boolean(true));
	return object;
}

static struct json_object *model_json(const struct uvf_model *model)
{
	struct json_object *object = json_object_new_object();
	struct json_object *keys = json_object_new_array();

	add_string(object, "name", model->name);
	add_string(object, "summary", model->summary);
	for (const struct uvf_model_key *key = model->keys; key->name; key++)
		json_object_array_add(keys, key_json(key));
	json_object_object_add(object, "keys", keys);
	return object;
}

/* ---- Text ---- */

static void print_model(const struct uvf_model *model)
{
	char left[80];

	printf("%s: %s\n", model->name, model->summary);
	for (const struct uvf_model_key *key = model->keys; key->name; key++) {
		snprintf(left, sizeof(left), "%s=%s", key->name, key_expects(key));
		printf("  %-40s %s", left, key->help ? key->help : "");
		if (key->default_value)
			printf(" (default: %s)", key->default_value);
		if (key->repeated)
			fputs(" (may be given several times)", stdout);
		putchar('\n');
	}
}

static int unknown_model(const struct cli_verb *verb, const char *name)
{
	struct uvf_suggestion near = {.word = name};
	const struct uvf_model *model;

	for (size_t nth = 0; (model = uvf_model_nth(nth)); nth++)
		uvf_suggest_offer(&near, model->name);
	if (near.best)
		return cli_fail(verb, CLI_USAGE, "model '%s' is not known; did you mean '%s'?",
				name, near.best);
	return cli_fail(verb, CLI_USAGE, "model '%s' is not known", name);
}

static int run_models(const struct cli_verb *verb, int argc, char **argv)
{
	const struct uvf_model *model;
	struct json_object *all;
	const char *name = NULL;
	bool json = false;
	int ret = cli_simple_arguments(verb, argc, argv, &name, &json);

	if (ret)
		return ret;
	if (name) {
		model = uvf_model_find(name);
		if (!model)
			return unknown_model(verb, name);
		if (json)
			print_tree(model_json(model), true);
		else
			print_model(model);
		return CLI_OK;
	}
	all = json_object_new_array();
	for (size_t nth = 0; (model = uvf_model_nth(nth)); nth++) {
		if (json)
			json_object_array_add(all, model_json(model));
		else
			printf("%-12s %s\n", model->name, model->summary);
	}
	if (json)
		print_tree(all, true);
	else
		json_object_put(all);
	return CLI_OK;
}

static const struct cli_option options[] = {
	{"--json", NULL, "As JSON"},
	{},
};

static struct cli_verb models_verb = {
	.name = "models",
	.usage = "[NAME] [--json]",
	.summary = "Lists the devices that can be served, and their keys",
	.options = options,
	.run = run_models,
};

CLI_REGISTER_VERB(models_verb)
