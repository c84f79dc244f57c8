/* SPDX-License-Identifier: BSD-3-Clause */
/* What the verbs of the program share: how they make themselves known, options, messages. */
#ifndef UVF_CLI_H
#define UVF_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <uvfio/types.h>

/* What a verb returns, and so the program's exit status. The man pages promise these. */
enum {
	CLI_OK = 0,
	CLI_FAILED = 1, /* what was asked could not be done */
	CLI_USAGE = 2,	/* what was asked was not understood */
	/* Of the verb that runs a program, whose own statuses the others are. */
	CLI_RUN_FAILED = 125, /* not understood, or could not be done */
	CLI_RUN_NOT_EXECUTABLE = 126,
	CLI_RUN_NOT_FOUND = 127,
};

/* An option of a verb. The table ends with a row without a name. */
struct cli_option {
	const char *name;     /* with its dashes */
	const char *argument; /* for people: "PATH"; NULL: it takes none */
	const char *help;
};

/* A verb. It puts itself on the list by CLI_REGISTER_VERB: there is no list anywhere else. */
struct cli_verb {
	const char *name;
	const char *usage; /* its operands: "SOCKET" */
	const char *summary;
	const struct cli_option *options;
	int (*run)(const struct cli_verb *verb, int argc, char **argv); /* without the verb */
	struct cli_verb *next;						/* the list's */
};

/* Called before main() only. */
void cli_register_verb(struct cli_verb *verb);

#define CLI_REGISTER_VERB(verb)                                        \
	__attribute__((constructor)) static void register_##verb(void) \
	{                                                              \
		cli_register_verb(&(verb));                            \
	}

/* "uvfio VERB: message" on standard error. Returns @status, so that `return cli_fail(...)` works.
 */
int cli_fail(const struct cli_verb *verb, int status, const char *format, ...) UVF_PRINTF(3, 4);

/* For struct uvf_log: a line on standard error. */
void cli_print_log(void *opaque, enum uvf_log_level level, const char *who, const char *text);

/* What SIGPIPE did before main() took it away: for programs that are run. */
typedef void (*cli_signal_handler)(int signal);
cli_signal_handler cli_inherited_sigpipe(void);

/*
 * Walks a verb's arguments in order. cli_next() returns the row of an option, with @value set where
 * it takes an argument ("--name value" or "--name=value"); CLI_OPERAND with @value set; CLI_END;
 * or CLI_BAD when it has said what was wrong.
 */
struct cli_arguments {
	const struct cli_verb *verb;
	int left;
	char **at;
	bool only_operands; /* "--" was seen */
	const char *value;
};
enum { CLI_END = -1, CLI_OPERAND = -2, CLI_BAD = -3 };
int cli_next(struct cli_arguments *arguments);

/* For verbs that take only --json and at most one operand. Returns CLI_OK or CLI_USAGE. */
int cli_simple_arguments(const struct cli_verb *verb, int argc, char **argv, const char **operand,
			 bool *json);

#endif
