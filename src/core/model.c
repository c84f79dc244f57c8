/* SPDX-License-Identifier: BSD-3-Clause */
/* Models by name: the list that the library's models put themselves on, and devices from specs. */
#include "core/model.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/spec.h"
#include "base/suggest.h"

/* Filled before main(), sorted by name, constant from there on. */
static const struct uvf_model *models[64];
static size_t model_count;

void uvf_model_register(const struct uvf_model *model)
{
	size_t at = model_count;

	assert(model_count < UVF_ARRAY_SIZE(models));
	while (at && strcmp(models[at - 1]->name, model->name) > 0) {
		models[at] = models[at - 1];
		at--;
	}
	models[at] = model;
	model_count++;
}

const struct uvf_model *uvf_model_nth(size_t nth)
{
	return nth < model_count ? models[nth] : NULL;
}

const struct uvf_model *uvf_model_find(const char *name)
{
	for (size_t i = 0; i < model_count; i++)
		if (!strcmp(models[i]->name, name))
			return models[i];
	return NULL;
}

static int unknown_model(const char *name, struct uvf_error *error)
{
	struct uvf_suggestion near = {.word = name};

	for (size_t i = 0; i < model_count; i++)
		uvf_suggest_offer(&near, models[i]->name);
	if (!near.best)
		return uvf_fail(error, -ENOENT, "model '%s' is not known", name);
	return uvf_fail(error, -ENOENT, "model '%s' is not known; did you mean '%s'?", name,
			near.best);
}

int uvf_model_create(const char *text, struct uvf_device **devp, struct uvf_error *error)
{
	const struct uvf_model *model;
	struct uvf_spec *spec;
	char *name;
	int ret;

	name = strndup(text, uvf_spec_name_length(text));
	if (!name)
		return uvf_fail(error, -ENOMEM, "no memory");
	model = uvf_model_find(name);
	ret = model ? uvf_spec_parse(text, model->keys, &spec, error) : unknown_model(name, error);
	free(name);
	if (!model || ret)
		return ret;
	ret = model->create(spec, devp, error);
	uvf_spec_free(spec);
	return ret;
}
