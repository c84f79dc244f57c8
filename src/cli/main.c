/* SPDX-License-Identifier: BSD-3-Clause */
/* The program `uvfio`: finds the verb and runs it; help and version. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/suggest.h"
#include "cli/cli.h"

/* Filled before main(), sorted by name. */
static struct cli_verb *verbs;
static cli_signal_handler inherited_sigpipe;

void cli_register_verb(struct cli_verb *verb)
{
	struct cli_verb **at = &verbs;

	while (*at && strcmp((*at)->name, verb->name) < 0)
		at = &(*at)->next;
	verb->next = *at;
	*at = verb;
}

int cli_fail(const struct cli_verb *verb, int status, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (verb)
		fprintf(stderr, "uvfio %s: %s\n", verb->name, text);
	else
		fprintf(stderr, "uvfio: %s\n", text);
	return status;
}

void cli_print_log(void *opaque, enum uvf_log_level level, const char *who, const char *text)
{
	static const char *const words[] = {
		[UVF_LOG_ERROR] = "error: ",
		[UVF_LOG_WARNING] = "warning: ",
		[UVF_LOG_INFO] = "",
		[UVF_LOG_DEBUG] = "",
	};

	/* One write: lines of several threads stay whole. */
	dprintf(STDERR_FILENO, "uvfio: %s: %s%s\n", who, words[level], text);
}

cli_signal_handler cli_inherited_sigpipe(void)
{
	return inherited_sigpipe;
}

static const struct cli_verb *find_verb(const char *name)
{
	for (const struct cli_verb *verb = verbs; verb; verb = verb->next)
		if (!strcmp(verb->name, name))
			return verb;
	return NULL;
}

static int unknown_verb(const char *name)
{
	struct uvf_suggestion near = {.word = name};

	for (const struct cli_verb *verb = verbs; verb; verb = verb->next)
		uvf_suggest_offer(&near, verb->name);
	if (near.best)
		return cli_fail(NULL, CLI_USAGE, "'%s' is not known; did you mean '%s'?", name,
				near.best);
	return cli_fail(NULL, CLI_USAGE, "'%s' is not known; see uvfio help", name);
}

static int print_version(void)
{
	puts("uvfio " UVFIO_VERSION);
	return CLI_OK;
}

/* ---- help ---- */

static void print_verbs(FILE *to)
{
	fputs("Usage: uvfio VERB ...\n\nPCI devices in software, for drivers that know VFIO.\n\n",
	      to);
	for (const struct cli_verb *verb = verbs; verb; verb = verb->next)
		fprintf(to, "  %-8s %s\n", verb->name, verb->summary);
	fputs("\nuvfio help VERB says more, the manual page uvfio-VERB(1) everything.\n", to);
}

static void print_verb(const struct cli_verb *verb)
{
	char left[40];

	printf("Usage: uvfio %s%s%s\n\n%s\n", verb->name, *verb->usage ? " " : "", verb->usage,
	       verb->summary);
	if (verb->options->name)
		putchar('\n');
	for (const struct cli_option *option = verb->options; option->name; option++) {
		snprintf(left, sizeof(left), "%s %s", option->name,
			 option->argument ? option->argument : "");
		printf("  %-18s %s\n", left, option->help);
	}
}

static const struct cli_option help_options[] = {{}};

static int run_help(const struct cli_verb *verb, int argc, char **argv)
{
	const struct cli_verb *about;
	const char *name = NULL;
	int ret = cli_simple_arguments(verb, argc, argv, &name, NULL);

	if (ret)
		return ret;
	if (!name) {
		print_verbs(stdout);
		return CLI_OK;
	}
	about = find_verb(name);
	if (!about)
		return unknown_verb(name);
	print_verb(about);
	return CLI_OK;
}

static struct cli_verb help_verb = {
	.name = "help",
	.usage = "[VERB]",
	.summary = "Says what there is",
	.options = help_options,
	.run = run_help,
};

CLI_REGISTER_VERB(help_verb)

int main(int argc, char **argv)
{
	const struct cli_verb *verb;
	const char *name;

	/* A reader of our output that goes away is an error of write(2), not our end. */
	inherited_sigpipe = signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		print_verbs(stderr);
		return CLI_USAGE;
	}
	name = argv[1];
	if (!strcmp(name, "--version"))
		return print_version();
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	verb = find_verb(name);
	if (!verb)
		return unknown_verb(name);
	if (argc > 2 && !strcmp(argv[2], "--help")) {
		print_verb(verb);
		return CLI_OK;
	}
	return verb->run(verb, argc - 2, argv + 2);
}
