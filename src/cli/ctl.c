/* SPDX-License-Identifier: BSD-3-Clause */
/* uvfio ctl: one command to a control socket, and its answer. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/control.h"
#include "cli/describe.h"

/* A removal waits for what the device is doing. */
#define ANSWER_SECONDS 60

enum { OPTION_JSON };

static const struct cli_option options[] = {
	[OPTION_JSON] = {"--json", NULL, "As JSON"},
	{},
};

struct question {
	const struct cli_verb *verb;
	const char *path;
	bool json;
	char line[CONTROL_MAX_LINE];
};

static int add_word(struct question *question, const char *word)
{
	size_t used = strlen(question->line);

	/* With its newline it is one byte longer. */
	if (used + strlen(word) + 3 > sizeof(question->line))
		return cli_fail(question->verb, CLI_USAGE, "expected at most %d bytes of COMMAND",
				CONTROL_MAX_LINE - 2);
	if (strchr(word, '\n'))
		return cli_fail(question->verb, CLI_USAGE, "expected one line of COMMAND");
	snprintf(question->line + used, sizeof(question->line) - used, "%s%s", used ? " " : "",
		 word);
	return CLI_OK;
}

static int take_arguments(struct question *question, int argc, char **argv)
{
	struct cli_arguments arguments = {.verb = question->verb, .left = argc, .at = argv};
	int row, ret;

	while ((row = cli_next(&arguments)) != CLI_END) {
		if (row == CLI_BAD)
			return CLI_USAGE;
		if (row == OPTION_JSON) {
			question->json = true;
		} else if (!question->path[0]) {
			question->path = arguments.value;
		} else {
			ret = add_word(question, arguments.value);
			if (ret)
				return ret;
		}
	}
	if (!question->path[0] || !question->line[0])
		return cli_fail(question->verb, CLI_USAGE, "expected SOCKET COMMAND");
	return CLI_OK;
}

static int connect_to(const struct question *question)
{
	const struct timeval limit = {.tv_sec = ANSWER_SECONDS};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(question->path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, question->path, strlen(question->path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit))) {
		close(fd);
		return -1;
	}
	return fd;
}

static int print_answer(const struct question *question, const char *text)
{
	struct json_object *answer = json_tokener_parse(text), *error, *result;
	int ret = CLI_OK;

	if (json_object_object_get_ex(answer, "error", &error))
		ret = cli_fail(question->verb, CLI_FAILED, "%s", json_object_get_string(error));
	else if (!json_object_object_get_ex(answer, "result", &result))
		ret = cli_fail(question->verb, CLI_FAILED, "%s: no control socket answers there",
			       question->path);
	else if (question->json || !json_object_is_type(result, json_type_boolean))
		print_tree(json_object_get(result), question->json);
	json_object_put(answer);
	return ret;
}

static int ask(const struct question *question)
{
	int fd = connect_to(question), ret;
	char *text = NULL;
	size_t size = 0;
	FILE *stream;

	if (fd < 0)
		return cli_fail(question->verb, CLI_FAILED, "%s: %s", question->path,
				strerror(errno));
	stream = fdopen(fd, "r");
	if (!stream) {
		close(fd);
		return cli_fail(question->verb, CLI_FAILED, "no memory");
	}
	if (dprintf(fd, "%s\n", question->line) < 0 || getline(&text, &size, stream) <= 0)
		ret = cli_fail(question->verb, CLI_FAILED, "%s: no answer: %s", question->path,
			       feof(stream) ? "it hung up" : strerror(errno));
	else
		ret = print_answer(question, text);
	free(text);
	fclose(stream);
	return ret;
}

static int run_ctl(const struct cli_verb *verb, int argc, char **argv)
{
	struct question question = {.verb = verb, .path = ""};
	int ret = take_arguments(&question, argc, argv);

	return ret ? ret : ask(&question);
}

static struct cli_verb ctl_verb = {
	.name = "ctl",
	.usage = "SOCKET COMMAND... [--json]",
	.summary = "Talks to a control socket",
	.options = options,
	.run = run_ctl,
};

CLI_REGISTER_VERB(ctl_verb)
