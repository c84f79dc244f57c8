/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uvfio migrate: moves a device from one server to another while its driver works. It introduces
 * two movers (move.h) to one another, and says how it goes; when it ends, so does the move.
 */
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fdpass.h"
#include "base/spec.h"
#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/migrate.h"

#define LINE_MAX_BYTES 65536
/* Nobody takes longer to answer a command. */
#define ANSWER_SECONDS 60
/* For the other side's last word, when one has said how it ended. */
#define LAST_WORD_MS 5000
/* Where nobody looks at a terminal. */
#define LINE_EVERY_NS	     1000000000
#define DEFAULT_MAX_DOWNTIME 300
#define MAX_MAX_DOWNTIME     3600000

enum { OPTION_BANDWIDTH, OPTION_DOWNTIME, OPTION_JSON, OPTION_REPORT };

static const struct cli_option options[] = {
	[OPTION_BANDWIDTH] = {"--bandwidth", "SIZE", "At most so many bytes a second"},
	[OPTION_DOWNTIME] = {"--max-downtime", "MS", "Stop the device for so long; 300"},
	[OPTION_JSON] = {"--json", NULL, "The report as JSON"},
	[OPTION_REPORT] = {"--report", "FILE", "A page of HTML with drawings"},
	{},
};

struct end {
	const char *operand;
	struct sockaddr_un address;
	const char *device; /* "" for the only one */
	int fd;
	char line[LINE_MAX_BYTES];
	size_t have;
	bool over;		    /* hung up: it is free for the next move */
	struct json_object *answer; /* its last word */
};

struct migration {
	const struct cli_verb *verb;
	struct end source, destination;
	uint64_t bandwidth, max_downtime_ms;
	bool json;
	const char *page_path;
	FILE *page;
	bool terminal, drawn;
	uint64_t last_line;
	struct json_object *samples;
};

/* ---- Arguments ---- */

static int set_operand(struct migration *migration, const char *text)
{
	struct end *end = !migration->source.operand ? &migration->source : &migration->destination;

	if (end->operand)
		return cli_fail(migration->verb, CLI_USAGE,
				"'%s' is one operand too many: expected SOURCE DESTINATION", text);
	end->operand = text;
	return CLI_OK;
}

static int set_number(struct migration *migration, int row, const char *text)
{
	bool size = row == OPTION_BANDWIDTH;
	uint64_t value = 0, max = size ? 1ULL << 50 : MAX_MAX_DOWNTIME;

	if (!uvf_parse_number(text, size, &value) || !value || value > max)
		return cli_fail(
			migration->verb, CLI_USAGE, "%s: expected %s, got '%s'", options[row].name,
			size ? "bytes a second, as 100M" : "1 to 3600000 milliseconds", text);
	if (size)
		migration->bandwidth = value;
	else
		migration->max_downtime_ms = value;
	return CLI_OK;
}

static int take_arguments(struct migration *migration, int argc, char **argv)
{
	struct cli_arguments arguments = {.verb = migration->verb, .left = argc, .at = argv};
	int row, ret = CLI_OK;

	while (!ret && (row = cli_next(&arguments)) != CLI_END) {
		switch (row) {
		case CLI_OPERAND:
			ret = set_operand(migration, arguments.value);
			break;
		case OPTION_BANDWIDTH:
		case OPTION_DOWNTIME:
			ret = set_number(migration, row, arguments.value);
			break;
		case OPTION_JSON:
			migration->json = true;
			break;
		case OPTION_REPORT:
			migration->page_path = arguments.value;
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (!ret && !migration->destination.operand)
		return cli_fail(migration->verb, CLI_USAGE, "expected SOURCE DESTINATION");
	return ret;
}

/* ---- The two ends ---- */

/* "PATH#DEVICE", where there is no socket with all of it for a name. */
static int find_address(const struct cli_verb *verb, struct end *end)
{
	const char *operand = end->operand ? end->operand : "", *mark = strrchr(operand, '#');
	size_t length = strlen(operand);
	struct stat there;

	end->device = "";
	if (mark && stat(operand, &there)) {
		end->device = mark + 1;
		length = (size_t)(mark - operand);
	}
	if (!length || length >= sizeof(end->address.sun_path) || strchr(end->device, '\n') ||
	    strlen(end->device) > 256)
		return cli_fail(verb, CLI_USAGE, "expected PATH or PATH#DEVICE, got '%s'", operand);
	end->address.sun_family = AF_UNIX;
	memcpy(end->address.sun_path, operand, length);
	return CLI_OK;
}

static int connect_to(const struct cli_verb *verb, struct end *end)
{
	const struct timeval limit = {.tv_sec = ANSWER_SECONDS};
	int ret = find_address(verb, end);

	if (ret)
		return ret;
	end->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (end->fd < 0 ||
	    connect(end->fd, (const struct sockaddr *)&end->address, sizeof(end->address)) ||
	    setsockopt(end->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		return cli_fail(verb, CLI_FAILED, "%s: %s", end->address.sun_path, strerror(errno));
	return CLI_OK;
}

/* What is there; false: nothing will come any more. */
static bool receive(struct end *end, int flags)
{
	ssize_t got;

	if (end->have == sizeof(end->line))
		return false;
	got = recv(end->fd, end->line + end->have, sizeof(end->line) - end->have, flags);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return flags & MSG_DONTWAIT;
	if (got > 0)
		end->have += (size_t)got;
	return got > 0;
}

/* The next line that is there, as an object, or NULL. */
static struct json_object *next_line(struct end *end)
{
	char *newline = memchr(end->line, '\n', end->have);
	struct json_object *object;
	size_t length;

	if (!newline)
		return NULL;
	*newline = '\0';
	object = json_tokener_parse(end->line);
	length = (size_t)(newline + 1 - end->line);
	end->have -= length;
	memmove(end->line, end->line + length, end->have);
	return object ? object : json_object_new_object();
}

/* Asks for a mover. */
static int ask(const struct cli_verb *verb, struct end *end, const char *command)
{
	struct json_object *answer = NULL, *error;
	int ret = CLI_OK;

	if (dprintf(end->fd, "%s %s\n", command, end->device) < 0)
		return cli_fail(verb, CLI_FAILED, "%s: %s", end->operand, strerror(errno));
	while (!(answer = next_line(end)))
		if (!receive(end, 0))
			return cli_fail(verb, CLI_FAILED, "%s: no answer", end->operand);
	if (json_object_object_get_ex(answer, "error", &error))
		ret = cli_fail(verb, CLI_FAILED, "%s: %s", end->operand,
			       json_object_get_string(error));
	else if (!json_object_object_get_ex(answer, "result", NULL))
		ret = cli_fail(verb, CLI_FAILED, "%s: no control socket answers there",
			       end->operand);
	json_object_put(answer);
	return ret;
}

/* @link, which is closed, goes with its parameters. */
static int introduce(const struct migration *migration, struct end *end, int link)
{
	char line[128];
	int length =
		snprintf(line, sizeof(line), "{\"bandwidth\": %llu, \"max_downtime_ms\": %llu}\n",
			 (unsigned long long)migration->bandwidth,
			 (unsigned long long)migration->max_downtime_ms);
	struct iovec iov = {line, (size_t)length};
	ssize_t sent = uvf_fdpass_send(end->fd, &iov, 1, &link, 1, 0);

	close(link);
	if (sent != length)
		return cli_fail(migration->verb, CLI_FAILED, "%s: it hung up", end->operand);
	return CLI_OK;
}

static int begin(struct migration *migration)
{
	struct end *source = &migration->source, *destination = &migration->destination;
	int link[2], ret;

	ret = connect_to(migration->verb, source);
	if (!ret)
		ret = connect_to(migration->verb, destination);
	if (!ret)
		ret = ask(migration->verb, destination, "migrate-in");
	if (!ret)
		ret = ask(migration->verb, source, "migrate-out");
	if (ret)
		return ret;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link))
		return cli_fail(migration->verb, CLI_FAILED, "socketpair: %s", strerror(errno));
	ret = introduce(migration, destination, link[0]);
	if (ret)
		close(link[1]);
	else
		ret = introduce(migration, source, link[1]);
	return ret;
}

/* ---- How it goes ---- */

static void clear_line(struct migration *migration)
{
	if (migration->drawn)
		fputs("\r\033[K", stderr);
	migration->drawn = false;
}

static void take_event(struct migration *migration, struct json_object *event)
{
	uint64_t now = uvf_now_ns();

	json_object_array_add(migration->samples, json_object_get(event));
	if (!migration->terminal && now - migration->last_line < LINE_EVERY_NS)
		return;
	clear_line(migration);
	migration->last_line = now;
	migrate_print_progress(stderr, event);
	if (migration->terminal)
		migration->drawn = true;
	else
		fputc('\n', stderr);
	fflush(stderr);
}

static void take_lines(struct migration *migration, struct end *end)
{
	bool more = receive(end, MSG_DONTWAIT);
	struct json_object *line;

	while (!end->over && (line = next_line(end))) {
		if (json_object_object_get_ex(line, "event", NULL)) {
			take_event(migration, line);
			json_object_put(line);
		} else if (!end->answer) {
			end->answer = line;
		} else {
			json_object_put(line);
		}
	}
	if (!more)
		end->over = true;
}

/* Until both have hung up, the destination not long after the source has said how it ended. */
static void watch(struct migration *migration)
{
	struct end *ends[] = {&migration->source, &migration->destination};
	uint64_t until = 0;

	while (!ends[0]->over || !ends[1]->over) {
		struct pollfd fds[2];
		int timeout = -1;

		for (int i = 0; i < 2; i++)
			fds[i] = (struct pollfd){ends[i]->over ? -1 : ends[i]->fd, POLLIN, 0};
		/* One of them is enough, if the other takes its time. */
		if (!until && (ends[0]->answer || ends[0]->over))
			until = uvf_now_ns() + LAST_WORD_MS * 1000000ULL;
		if (until) {
			if (uvf_now_ns() >= until)
				break;
			timeout = 100;
		}
		if (poll(fds, 2, timeout) < 0 && errno != EINTR)
			break;
		for (int i = 0; i < 2; i++)
			if (fds[i].revents)
				take_lines(migration, ends[i]);
	}
	clear_line(migration);
}

/* ---- How it ended ---- */

static struct json_object *part(struct json_object *answer, const char *name)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(answer, name, &value);
	return value;
}

static int report(struct migration *migration, struct json_object *result)
{
	json_object_object_add(result, "source", json_object_new_string(migration->source.operand));
	json_object_object_add(result, "destination",
			       json_object_new_string(migration->destination.operand));
	json_object_object_add(result, "max_downtime_ms",
			       json_object_new_int64((int64_t)migration->max_downtime_ms));
	json_object_object_add(result, "bandwidth",
			       json_object_new_int64((int64_t)migration->bandwidth));
	json_object_object_add(result, "progress", json_object_get(migration->samples));
	if (migration->json)
		print_tree(json_object_get(result), true);
	else
		migrate_print_report(stdout, result);
	if (!migration->page)
		return CLI_OK;
	migrate_write_page(migration->page, result);
	if (fflush(migration->page))
		return cli_fail(migration->verb, CLI_FAILED, "%s: %s", migration->page_path,
				strerror(errno));
	return CLI_OK;
}

static int conclude(struct migration *migration)
{
	struct json_object *result = part(migration->source.answer, "result");
	struct json_object *error = part(migration->source.answer, "error");

	if (result)
		return report(migration, result);
	if (error)
		return cli_fail(migration->verb, CLI_FAILED, "%s", json_object_get_string(error));
	/* The source didn't live to say so. */
	if (part(migration->destination.answer, "result"))
		return cli_fail(migration->verb, CLI_FAILED,
				"%s: it hung up; the device is at the destination",
				migration->source.operand);
	return cli_fail(migration->verb, CLI_FAILED, "%s: it hung up", migration->source.operand);
}

static int open_page(struct migration *migration)
{
	if (!migration->page_path)
		return CLI_OK;
	migration->page = fopen(migration->page_path, "we");
	if (migration->page)
		return CLI_OK;
	return cli_fail(migration->verb, CLI_FAILED, "--report %s: %s", migration->page_path,
			strerror(errno));
}

static int run_migrate(const struct cli_verb *verb, int argc, char **argv)
{
	struct migration *migration = calloc(1, sizeof(*migration));
	int ret;

	if (!migration)
		return cli_fail(verb, CLI_FAILED, "no memory");
	migration->verb = verb;
	migration->max_downtime_ms = DEFAULT_MAX_DOWNTIME;
	migration->source.fd = migration->destination.fd = -1;
	migration->terminal = isatty(STDERR_FILENO);
	migration->samples = json_object_new_array();
	ret = take_arguments(migration, argc, argv);
	if (!ret)
		ret = open_page(migration);
	if (!ret)
		ret = begin(migration);
	if (!ret) {
		watch(migration);
		ret = conclude(migration);
	}
	if (migration->page)
		fclose(migration->page);
	for (int i = 0; i < 2; i++) {
		struct end *end = i ? &migration->destination : &migration->source;

		if (end->fd >= 0)
			close(end->fd);
		json_object_put(end->answer);
	}
	json_object_put(migration->samples);
	free(migration);
	return ret;
}

static struct cli_verb migrate_verb = {
	.name = "migrate",
	.usage = "SOURCE[#DEVICE] DESTINATION[#DEVICE]",
	.summary = "Moves a device to another server while its driver works",
	.options = options,
	.run = run_migrate,
};

CLI_REGISTER_VERB(migrate_verb)
