/* SPDX-License-Identifier: BSD-3-Clause */
/* Walks the arguments of a verb against its table of options. */
#include <string.h>

#include "base/suggest.h"
#include "cli/cli.h"

/* Sets @value to what follows '=', if anything does. */
static int find_option(const struct cli_option *options, const char *text, const char **value)
{
	size_t length = strcspn(text, "=");

	*value = text[length] ? text + length + 1 : NULL;
	for (int i = 0; options[i].name; i++)
		if (strlen(options[i].name) == length && !memcmp(options[i].name, text, length))
			return i;
	return CLI_BAD;
}

static int unknown_option(const struct cli_verb *verb, const char *text)
{
	struct uvf_suggestion near = {.word = text};

	for (const struct cli_option *option = verb->options; option->name; option++)
		uvf_suggest_offer(&near, option->name);
	if (near.best)
		cli_fail(verb, CLI_USAGE, "%s is not known; did you mean %s?", text, near.best);
	else
		cli_fail(verb, CLI_USAGE, "%s is not known; see uvfio help %s", text, verb->name);
	return CLI_BAD;
}

static const char *take(struct cli_arguments *arguments)
{
	arguments->left--;
	return *arguments->at++;
}

int cli_next(struct cli_arguments *arguments)
{
	const struct cli_verb *verb = arguments->verb;
	const struct cli_option *option;
	const char *text;
	int row;

	if (!arguments->left)
		return CLI_END;
	text = take(arguments);
	if (arguments->only_operands || text[0] != '-') {
		arguments->value = text;
		return CLI_OPERAND;
	}
	if (!strcmp(text, "--")) {
		arguments->only_operands = true;
		return cli_next(arguments);
	}
	row = find_option(verb->options, text, &arguments->value);
	if (row < 0)
		return unknown_option(verb, text);
	option = &verb->options[row];
	if (!option->argument && arguments->value) {
		cli_fail(verb, CLI_USAGE, "%s: expected nothing after it, got '%s'", option->name,
			 arguments->value);
		return CLI_BAD;
	}
	if (option->argument && !arguments->value) {
		if (!arguments->left) {
			cli_fail(verb, CLI_USAGE, "%s: expected %s after it", option->name,
				 option->argument);
			return CLI_BAD;
		}
		arguments->value = take(arguments);
	}
	return row;
}

int cli_simple_arguments(const struct cli_verb *verb, int argc, char **argv, const char **operand,
			 bool *json)
{
	struct cli_arguments arguments = {.verb = verb, .left = argc, .at = argv};
	int row;

	while ((row = cli_next(&arguments)) != CLI_END) {
		if (row == CLI_BAD)
			return CLI_USAGE;
		if (row >= 0)
			*json = true;
		else if (operand && !*operand)
			*operand = arguments.value;
		else
			return cli_fail(verb, CLI_USAGE,
					"'%s' is one operand too many: expected %s",
					arguments.value, *verb->usage ? verb->usage : "none");
	}
	return CLI_OK;
}
