/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of a control socket: a table of them, and what each does. */
#include "cli/commands.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/device.h>

#include "base/suggest.h"
#include "cli/control.h"

#define MAX_STATS 256

struct asked {
	const struct faults *faults;
	struct uvf_run *run;
	const struct commands_place *place;
	const char *operand; /* "" where there is none */
	bool *given;
};

/* Each gives its result, or NULL with the reason. */
static struct json_object *run_clear(const struct asked *asked, struct uvf_error *error)
{
	if (faults_clear(asked->faults, asked->operand, error))
		return NULL;
	return json_object_new_boolean(true);
}

static struct json_object *run_devices(const struct asked *asked, struct uvf_error *error)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < asked->faults->count; i++) {
		const struct fault_target *target = &asked->faults->targets[i];
		struct json_object *row = json_object_new_object();
		unsigned group;

		json_object_object_add(row, "address", json_object_new_string(target->address));
		if (target->name)
			json_object_object_add(row, "name", json_object_new_string(target->name));
		json_object_object_add(row, "device",
				       json_object_new_string(uvf_device_name(target->dev)));
		if (asked->run && uvf_run_address(asked->run, i, &group))
			json_object_object_add(row, "group", json_object_new_int64(group));
		json_object_array_add(array, row);
	}
	return array;
}

static struct json_object *run_inject(const struct asked *asked, struct uvf_error *error)
{
	if (faults_inject(asked->faults, asked->operand, error))
		return NULL;
	return json_object_new_boolean(true);
}

static struct json_object *run_list(const struct asked *asked, struct uvf_error *error)
{
	return faults_list(asked->faults);
}

static struct json_object *run_request(const struct asked *asked, struct uvf_error *error)
{
	size_t nth;
	int ret;

	if (!asked->run) {
		uvf_fail(error, -ENOTTY, "no program runs here");
		return NULL;
	}
	if (faults_find(asked->faults, asked->operand, &nth, error))
		return NULL;
	ret = uvf_run_request(asked->run, nth);
	if (!ret)
		return json_object_new_boolean(true);
	if (ret == -ENOTCONN)
		uvf_fail(error, ret, "%s: the program hasn't opened it",
			 asked->faults->targets[nth].address);
	else if (ret == -ENOTTY)
		uvf_fail(error, ret, "%s: the program doesn't listen to requests",
			 asked->faults->targets[nth].address);
	else
		uvf_fail(error, ret, "%s", strerror(-ret));
	return NULL;
}

static struct json_object *move(const struct asked *asked, bool out, struct uvf_error *error)
{
	size_t nth;

	if (!asked->place->moves) {
		uvf_fail(error, -ENOTTY, "no driver outside has a device of this program");
		return NULL;
	}
	if (faults_find(asked->faults, asked->operand, &nth, error) ||
	    moves_begin(asked->place->moves, nth, out, asked->place->connection, error))
		return NULL;
	*asked->given = true;
	return json_object_new_boolean(true);
}

static struct json_object *run_migrate_in(const struct asked *asked, struct uvf_error *error)
{
	return move(asked, false, error);
}

static struct json_object *run_migrate_out(const struct asked *asked, struct uvf_error *error)
{
	return move(asked, true, error);
}

struct json_object *commands_stats(struct uvf_run *run)
{
	struct uvf_run_stat *stats = calloc(MAX_STATS, sizeof(*stats));
	size_t count = stats ? uvf_run_stats(run, stats, MAX_STATS) : 0;
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < count && i < MAX_STATS; i++) {
		const struct uvf_run_stat *stat = &stats[i];
		struct json_object *row = json_object_new_object();
		const struct {
			const char *name;
			uint64_t value;
		} numbers[] = {
			{"count", stat->count},
			{"errors", stat->errors},
			{"mean_ns", stat->count ? stat->total_ns / stat->count : 0},
			{"p50_ns", stat->p50_ns},
			{"p99_ns", stat->p99_ns},
			{"max_ns", stat->max_ns},
		};

		json_object_object_add(row, "call", json_object_new_string(stat->name));
		for (size_t n = 0; n < sizeof(numbers) / sizeof(numbers[0]); n++)
			json_object_object_add(row, numbers[n].name,
					       json_object_new_int64((int64_t)numbers[n].value));
		json_object_array_add(array, row);
	}
	free(stats);
	return array;
}

static struct json_object *run_stats(const struct asked *asked, struct uvf_error *error)
{
	if (asked->run)
		return commands_stats(asked->run);
	uvf_fail(error, -ENOTTY, "no program runs here");
	return NULL;
}

static struct json_object *run_help(const struct asked *asked, struct uvf_error *error);

enum operand { NO_OPERAND, MAY_HAVE_OPERAND, NEEDS_OPERAND };

static const struct command {
	const char *name;
	enum operand takes;
	const char *operand;
	const char *help;
	struct json_object *(*run)(const struct asked *asked, struct uvf_error *error);
} commands[] = {
	{"clear", MAY_HAVE_OPERAND, "[DEVICE]", "Forgets the faults of a device, or all",
	 run_clear},
	{"devices", NO_OPERAND, "", "The devices and their names", run_devices},
	{"help", NO_OPERAND, "", "The commands", run_help},
	{"inject", NEEDS_OPERAND, "SPEC", "Asks for a fault", run_inject},
	{"list", NO_OPERAND, "", "The faults, and how often they hit", run_list},
	{"migrate-in", MAY_HAVE_OPERAND, "[DEVICE]", "For uvfio migrate: takes a device over",
	 run_migrate_in},
	{"migrate-out", MAY_HAVE_OPERAND, "[DEVICE]", "For uvfio migrate: gives a device away",
	 run_migrate_out},
	{"request", MAY_HAVE_OPERAND, "[DEVICE]", "Asks the program for a device back",
	 run_request},
	{"stats", NO_OPERAND, "", "The program's calls and how long they took", run_stats},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static struct json_object *run_help(const struct asked *asked, struct uvf_error *error)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < COMMANDS; i++) {
		struct json_object *row = json_object_new_object();
		char usage[48];

		snprintf(usage, sizeof(usage), "%s%s%s", commands[i].name,
			 commands[i].operand[0] ? " " : "", commands[i].operand);
		json_object_object_add(row, "command", json_object_new_string(usage));
		json_object_object_add(row, "help", json_object_new_string(commands[i].help));
		json_object_array_add(array, row);
	}
	return array;
}

/* ---- Lines ---- */

static const struct command *find_command(const char *line, size_t length, struct uvf_error *error)
{
	char name[32];
	struct uvf_suggestion near = {.word = name};

	for (size_t i = 0; i < COMMANDS; i++)
		if (strlen(commands[i].name) == length && !memcmp(commands[i].name, line, length))
			return &commands[i];
	snprintf(name, sizeof(name), "%.*s", length > 31 ? 31 : (int)length, line);
	for (size_t i = 0; i < COMMANDS; i++)
		uvf_suggest_offer(&near, commands[i].name);
	if (near.best)
		uvf_fail(error, -EINVAL, "'%s' is not known; did you mean '%s'?", name, near.best);
	else
		uvf_fail(error, -EINVAL, "'%s' is not known; see help", name);
	return NULL;
}

static struct json_object *run_line(struct asked *asked, const char *line, struct uvf_error *error)
{
	size_t length = strcspn(line, " ");
	const struct command *command = find_command(line, length, error);

	if (!command)
		return NULL;
	asked->operand = line + length + strspn(line + length, " ");
	if (command->takes == NO_OPERAND && asked->operand[0]) {
		uvf_fail(error, -EINVAL, "%s: expected nothing after it, got '%.100s'",
			 command->name, asked->operand);
		return NULL;
	}
	if (command->takes == NEEDS_OPERAND && !asked->operand[0]) {
		uvf_fail(error, -EINVAL, "%s: expected %s after it", command->name,
			 command->operand);
		return NULL;
	}
	return command->run(asked, error);
}

struct json_object *commands_run(const struct commands_place *place, const char *line, bool *given)
{
	struct asked asked = {
		.faults = place->faults,
		.run = place->run,
		.place = place,
		.operand = "",
		.given = given,
	};
	struct json_object *answer = json_object_new_object();
	struct uvf_error error = {""};
	struct json_object *result = run_line(&asked, line, &error);

	if (result)
		json_object_object_add(answer, "result", result);
	else
		json_object_object_add(answer, "error", json_object_new_string(error.text));
	return answer;
}
