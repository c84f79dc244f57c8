/* SPDX-License-Identifier: BSD-3-Clause */
/* Specs: "name,key=value,flag" read against a table of keys. */
#include "base/spec.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"

struct spec_value {
	const struct uvf_model_key *key;
	const char *text;
	uint64_t number;
};

struct uvf_spec {
	const struct uvf_model_key *keys;
	char *text; /* the name, then the values, each with its end; what `values` points into */
	size_t count;
	struct spec_value values[];
};

static const char *const kind_expects[] = {
	[UVF_KEY_STRING] = "a text",   [UVF_KEY_SIZE] = "a size such as 512, 64K or 1G",
	[UVF_KEY_NUMBER] = "a number", [UVF_KEY_BOOL] = "on|off",
	[UVF_KEY_CHOICE] = "a word",
};

static const struct uvf_model_key *find_key(const struct uvf_model_key *keys, const char *name)
{
	for (const struct uvf_model_key *key = keys; key->name; key++)
		if (!strcmp(key->name, name))
			return key;
	return NULL;
}

/* ---- Values ---- */

bool uvf_parse_number(const char *text, bool size, uint64_t *value)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	uint64_t number;
	char *end;
	int base = 10;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		base = 16;
		text += 2;
	}
	/* strtoull() would also take spaces, signs and, in base 16, a second "0x". */
	if (!strchr(base == 16 ? "0123456789abcdefABCDEF" : "0123456789", text[0]) || !text[0])
		return false;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return false;
	errno = 0;
	number = strtoull(text, &end, base);
	if (errno)
		return false;
	if (size && *end) {
		/* Of a space too, what is left without the bit of small letters is the end. */
		suffix = *end == ' ' ? NULL : strchr(suffixes, *end & ~0x20);
		if (!suffix || end[1])
			return false;
		if (__builtin_mul_overflow(number, 1ULL << (10 * (suffix - suffixes + 1)), &number))
			return false;
	} else if (*end) {
		return false;
	}
	*value = number;
	return true;
}

bool uvf_parse_range(const char *text, bool size, uint64_t *first, uint64_t *last)
{
	const char *dash = strchr(text, '-');
	char begin[32];

	if (!dash) {
		if (!uvf_parse_number(text, size, first))
			return false;
		*last = *first;
		return true;
	}
	if ((size_t)(dash - text) >= sizeof(begin))
		return false;
	memcpy(begin, text, (size_t)(dash - text));
	begin[dash - text] = '\0';
	return uvf_parse_number(begin, size, first) && uvf_parse_number(dash + 1, size, last) &&
	       *first <= *last;
}

static bool parse_choice(const char *words, const char *text, uint64_t *position)
{
	size_t length = strlen(text);

	for (*position = 0; words; (*position)++) {
		const char *end = strchrnul(words, '|');

		if ((size_t)(end - words) == length && !memcmp(words, text, length))
			return true;
		words = *end ? end + 1 : NULL;
	}
	return false;
}

static bool within_limits(const struct uvf_model_key *key, uint64_t number)
{
	return number >= key->min && (!key->max || number <= key->max);
}

/* The number that stands for @text: of a choice its position, of a flag 0 or 1, of a text 0. */
static bool parse_value(const struct uvf_model_key *key, const char *text, uint64_t *number)
{
	*number = 0;
	switch (key->kind) {
	case UVF_KEY_STRING:
		return true;
	case UVF_KEY_SIZE:
	case UVF_KEY_NUMBER:
		return uvf_parse_number(text, key->kind == UVF_KEY_SIZE, number) &&
		       within_limits(key, *number);
	case UVF_KEY_BOOL:
		return parse_choice("off|on", text, number);
	case UVF_KEY_CHOICE:
		return parse_choice(key->expects, text, number);
	}
	return false;
}

static int refuse(const char *spec, const struct uvf_model_key *key, const char *text,
		  struct uvf_error *error)
{
	bool numeric = key->kind == UVF_KEY_SIZE || key->kind == UVF_KEY_NUMBER;
	const char *expects = key->expects && !numeric ? key->expects : kind_expects[key->kind];
	char limits[64] = "";

	if (numeric && key->max)
		snprintf(limits, sizeof(limits), " from %" PRIu64 " to %" PRIu64, key->min,
			 key->max);
	else if (numeric && key->min)
		snprintf(limits, sizeof(limits), " of at least %" PRIu64, key->min);
	return uvf_fail(error, -EINVAL, "%s: %s=: expected %s%s, got '%s'", spec, key->name,
			expects, limits, text);
}

/* ---- Parsing ---- */

size_t uvf_spec_name_length(const char *text)
{
	return strcspn(text, ",");
}

/* Ends the item at @item, undoubles its commas, and returns the next item or NULL. */
static char *cut_item(char *item)
{
	char *to = item;

	for (char *from = item; *from; from++) {
		if (*from == ',') {
			if (from[1] != ',') {
				*to = '\0';
				return from + 1;
			}
			from++;
		}
		*to++ = *from;
	}
	*to = '\0';
	return NULL;
}

static int unknown_key(const struct uvf_spec *spec, const char *name, struct uvf_error *error)
{
	struct uvf_suggestion near = {.word = name};

	if (!name[0])
		return uvf_fail(error, -EINVAL, "%s: expected key=value, got nothing", spec->text);
	for (const struct uvf_model_key *key = spec->keys; key->name; key++)
		uvf_suggest_offer(&near, key->name);
	if (!near.best)
		return uvf_fail(error, -EINVAL, "%s: key '%s' is not known", spec->text, name);
	return uvf_fail(error, -EINVAL, "%s: key '%s' is not known; did you mean '%s'?", spec->text,
			name, near.best);
}

static int add_item(struct uvf_spec *spec, char *item, struct uvf_error *error)
{
	struct spec_value *value = &spec->values[spec->count];
	char *equals = strchr(item, '=');

	if (equals)
		*equals = '\0';
	value->key = find_key(spec->keys, item);
	if (!value->key)
		return unknown_key(spec, item, error);
	if (!value->key->repeated && uvf_spec_given(spec, item))
		return uvf_fail(error, -EINVAL, "%s: %s= is given twice", spec->text, item);
	if (equals)
		value->text = equals + 1;
	else if (value->key->kind == UVF_KEY_BOOL)
		value->text = "on";
	else
		return uvf_fail(error, -EINVAL, "%s: %s needs a value: expected %s=%s", spec->text,
				item, item, value->key->expects ? value->key->expects : "VALUE");
	if (!parse_value(value->key, value->text, &value->number))
		return refuse(spec->text, value->key, value->text, error);
	spec->count++;
	return 0;
}

int uvf_spec_parse(const char *text, const struct uvf_model_key *keys, struct uvf_spec **specp,
		   struct uvf_error *error)
{
	size_t name_length = uvf_spec_name_length(text);
	struct uvf_spec *spec;
	size_t commas = 0;
	char *item = NULL;
	int ret = 0;

	for (const char *at = text; *at; at++)
		commas += *at == ',';
	spec = calloc(1, sizeof(*spec) + commas * sizeof(spec->values[0]));
	if (!spec)
		return uvf_fail(error, -ENOMEM, "no memory");
	spec->keys = keys;
	spec->text = strdup(text);
	if (!spec->text) {
		free(spec);
		return uvf_fail(error, -ENOMEM, "no memory");
	}
	if (text[name_length]) {
		spec->text[name_length] = '\0';
		item = spec->text + name_length + 1;
	}
	while (item && !ret) {
		char *next = cut_item(item);

		ret = add_item(spec, item, error);
		item = next;
	}
	if (ret)
		uvf_spec_free(spec);
	else
		*specp = spec;
	return ret;
}

void uvf_spec_free(struct uvf_spec *spec)
{
	if (!spec)
		return;
	free(spec->text);
	free(spec);
}

/* ---- Reading ---- */

static const struct spec_value *nth_value(const struct uvf_spec *spec, const char *name, size_t nth)
{
	for (size_t i = 0; i < spec->count; i++)
		if (!strcmp(spec->values[i].key->name, name) && !nth--)
			return &spec->values[i];
	return NULL;
}

static const struct uvf_model_key *known_key(const struct uvf_spec *spec, const char *name)
{
	const struct uvf_model_key *key = find_key(spec->keys, name);

	assert(key && "a model reads keys that are in its table");
	return key;
}

const char *uvf_spec_string(const struct uvf_spec *spec, const char *name)
{
	const struct uvf_model_key *key = known_key(spec, name);
	const struct spec_value *value = nth_value(spec, name, 0);

	return value ? value->text : key->default_value;
}

uint64_t uvf_spec_number(const struct uvf_spec *spec, const char *name)
{
	const struct uvf_model_key *key = known_key(spec, name);
	const struct spec_value *value = nth_value(spec, name, 0);
	uint64_t number = 0;
	bool valid = true;

	if (value)
		return value->number;
	if (key->default_value)
		valid = parse_value(key, key->default_value, &number);
	assert(valid && "a model's defaults are what its keys expect");
	return valid ? number : 0;
}

bool uvf_spec_bool(const struct uvf_spec *spec, const char *name)
{
	return uvf_spec_number(spec, name);
}

bool uvf_spec_given(const struct uvf_spec *spec, const char *name)
{
	return nth_value(spec, name, 0);
}

const char *uvf_spec_nth(const struct uvf_spec *spec, const char *name, size_t nth)
{
	const struct spec_value *value = nth_value(spec, name, nth);

	return value ? value->text : NULL;
}

const char *uvf_spec_pair(const struct uvf_spec *spec, size_t nth, const char **value)
{
	if (nth >= spec->count)
		return NULL;
	*value = spec->values[nth].text;
	return spec->values[nth].key->name;
}

int uvf_spec_refuse(const struct uvf_spec *spec, const char *name, struct uvf_error *error)
{
	const char *text = uvf_spec_string(spec, name);

	return refuse(spec->text, known_key(spec, name), text ? text : "", error);
}
