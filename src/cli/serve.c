/* SPDX-License-Identifier: BSD-3-Clause */
/* uvfio serve: offers devices on sockets until it is told to end. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uvfio/device.h>
#include <uvfio/model.h>
#include <uvfio/server.h>

#include "cli/cli.h"
#include "cli/control.h"
#include "cli/guard.h"
#include "cli/registry.h"
#include "cli/sandbox.h"

/* How long a move waits for a silent driver's connection, which is looked at so often. */
#define MOVE_WAIT_MS 1000

struct pair {
	const char *spec;
	struct guard_pair *guarded;
	struct uvf_device *dev;
	struct uvf_server *server;
	struct registry_entry published;
};

struct serving {
	const struct cli_verb *verb;
	struct uvf_log log;
	bool sandbox;
	struct sandbox_user user;
	size_t count;
	struct pair *pairs;
	struct guard_pair *guarded; /* of the pairs, and behind them the control socket */
	const char *control_path;
	struct control *control;
	struct moves *moves; /* with a control socket */
	size_t injection_count;
	const char **injections;
	struct faults faults;
};

/* ---- Arguments ---- */

enum {
	OPTION_SOCKET,
	OPTION_CONTROL,
	OPTION_INJECT,
	OPTION_USER,
	OPTION_SANDBOX,
	OPTION_VERBOSE,
};

static const struct cli_option options[] = {
	[OPTION_SOCKET] = {"--socket", "PATH", "The unix socket for the device before it"},
	[OPTION_CONTROL] = {"--control", "PATH", "A unix socket for uvfio ctl"},
	[OPTION_INJECT] = {"--inject", "SPEC", "A fault: see uvfio-inject(7)"},
	[OPTION_USER] = {"--user", "NAME", "Become this user when all is open"},
	[OPTION_SANDBOX] = {"--sandbox", NULL, "Give up files, capabilities and system calls"},
	[OPTION_VERBOSE] = {"--verbose", NULL, "Say more"},
	{},
};

/* The device that waits for its socket, or NULL. */
static struct pair *open_pair(struct serving *serving)
{
	struct pair *last = serving->count ? &serving->pairs[serving->count - 1] : NULL;

	return last && !last->guarded->socket ? last : NULL;
}

static int add_device(struct serving *serving, const char *spec)
{
	struct pair *open = open_pair(serving), *pair;

	if (open)
		return cli_fail(serving->verb, CLI_USAGE, "%s: expected --socket PATH after it",
				open->spec);
	pair = &serving->pairs[serving->count];
	pair->spec = spec;
	pair->guarded = &serving->guarded[serving->count++];
	pair->published.fd = -1;
	return CLI_OK;
}

static int add_socket(struct serving *serving, const char *path)
{
	struct pair *open = open_pair(serving);

	if (!open)
		return cli_fail(serving->verb, CLI_USAGE,
				"--socket %s: expected a DEVICE before it", path);
	if (!path[0])
		return cli_fail(serving->verb, CLI_USAGE, "--socket: expected PATH, got ''");
	open->guarded->socket = path;
	return CLI_OK;
}

static int set_control(struct serving *serving, const char *path)
{
	if (!path[0])
		return cli_fail(serving->verb, CLI_USAGE, "--control: expected PATH, got ''");
	if (serving->control_path)
		return cli_fail(serving->verb, CLI_USAGE, "--control is given twice");
	serving->control_path = path;
	return CLI_OK;
}

static int add_injection(struct serving *serving, const char *spec)
{
	struct uvf_error error;
	char device[128];

	if (uvf_inject_device(spec, device, sizeof(device), &error))
		return cli_fail(serving->verb, CLI_USAGE, "--inject: %s", error.text);
	serving->injections[serving->injection_count++] = spec;
	return CLI_OK;
}

static int take_argument(struct serving *serving, int row, const char *value)
{
	struct uvf_error error;

	switch (row) {
	case CLI_OPERAND:
		return add_device(serving, value);
	case OPTION_SOCKET:
		return add_socket(serving, value);
	case OPTION_CONTROL:
		return set_control(serving, value);
	case OPTION_INJECT:
		return add_injection(serving, value);
	case OPTION_USER:
		if (sandbox_find_user(value, &serving->user, &error))
			return cli_fail(serving->verb, CLI_USAGE, "--user: %s", error.text);
		return CLI_OK;
	case OPTION_SANDBOX:
		serving->sandbox = true;
		return CLI_OK;
	case OPTION_VERBOSE:
		serving->log.level = UVF_LOG_DEBUG;
		return CLI_OK;
	}
	return CLI_USAGE;
}

static int take_arguments(struct serving *serving, int argc, char **argv)
{
	struct cli_arguments arguments = {.verb = serving->verb, .left = argc, .at = argv};
	struct pair *open;
	int row, ret;

	while ((row = cli_next(&arguments)) != CLI_END) {
		ret = take_argument(serving, row, arguments.value);
		if (ret)
			return ret;
	}
	if (!serving->count)
		return cli_fail(serving->verb, CLI_USAGE,
				"expected DEVICE[,key=value...] --socket PATH");
	open = open_pair(serving);
	if (open)
		return cli_fail(serving->verb, CLI_USAGE, "%s: expected --socket PATH after it",
				open->spec);
	return CLI_OK;
}

/* ---- Serving ---- */

/* A model that isn't there was not understood; a file that isn't there can't be used. */
static int status_of(const struct pair *pair, int code)
{
	char name[64];

	if (code != -ENOENT)
		return code == -EINVAL ? CLI_USAGE : CLI_FAILED;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(pair->spec, ","), pair->spec);
	return uvf_model_find(name) ? CLI_FAILED : CLI_USAGE;
}

/* A driver may connect from now on, but nobody answers it: that takes a thread. */
static int make_pair(struct serving *serving, struct pair *pair, unsigned nth)
{
	const char *socket = pair->guarded->socket;
	struct uvf_server_config config = {.path = socket,
					   .fd = -1,
					   .move_wait_ms = serving->moves ? MOVE_WAIT_MS : 0,
					   .log = serving->log};
	struct uvf_log log = serving->log;
	struct uvf_error error = {""};
	int ret;

	ret = uvf_model_create(pair->spec, &pair->dev, &error);
	if (ret)
		return cli_fail(serving->verb, status_of(pair, ret), "%s",
				error.text[0] ? error.text : strerror(-ret));
	if (serving->moves)
		moves_log(serving->moves, nth, &serving->log, &log);
	uvf_device_set_log(pair->dev, &log);
	ret = uvf_server_new(pair->dev, &config, &pair->server, &error);
	if (ret && strstr(error.text, socket))
		return cli_fail(serving->verb, CLI_FAILED, "--socket: %s", error.text);
	if (ret)
		return cli_fail(serving->verb, CLI_FAILED, "--socket %s: %s", socket,
				error.text[0] ? error.text : strerror(-ret));
	pair->guarded->made = true;
	if (serving->moves)
		moves_set(serving->moves, nth, pair->dev, pair->server);
	ret = registry_publish(&pair->published, nth, pair->spec, socket);
	if (ret)
		cli_fail(serving->verb, 0, "%s will not be listed: %s", socket, strerror(-ret));
	return CLI_OK;
}

/* What is asked for beforehand, and the socket by which more can be asked for. */
static int make_faults(struct serving *serving)
{
	struct guard_pair *guarded = &serving->guarded[serving->count];
	struct uvf_error error;

	for (size_t i = 0; i < serving->count; i++)
		serving->faults.targets[i] = (struct fault_target){
			.dev = serving->pairs[i].dev,
			.address = serving->pairs[i].guarded->socket,
		};
	serving->faults.count = serving->count;
	for (size_t i = 0; i < serving->injection_count; i++)
		if (faults_inject(&serving->faults, serving->injections[i], &error))
			return cli_fail(serving->verb, CLI_USAGE, "--inject: %s", error.text);
	if (!serving->control_path)
		return CLI_OK;
	if (control_new(serving->control_path, &serving->faults, &serving->control, &error))
		return cli_fail(serving->verb, CLI_FAILED, "--control: %s", error.text);
	control_set_moves(serving->control, serving->moves);
	guarded->socket = serving->control_path;
	guarded->made = true;
	return CLI_OK;
}

static int start_pair(struct serving *serving, struct pair *pair)
{
	const char *socket = pair->guarded->socket;
	int ret = uvf_server_start(pair->server);

	if (ret)
		return cli_fail(serving->verb, CLI_FAILED, "%s: no thread: %s", socket,
				strerror(-ret));
	dprintf(STDERR_FILENO, "uvfio: serving %s at %s\n", uvf_device_name(pair->dev), socket);
	return CLI_OK;
}

static int give_up_rights(const struct serving *serving)
{
	struct uvf_error error;
	int ret = 0;

	if (serving->sandbox)
		ret = sandbox_leave_files(&error);
	if (!ret)
		ret = sandbox_become(&serving->user, &error);
	if (!ret && serving->user.name)
		guard_renew();
	if (!ret && serving->sandbox)
		ret = sandbox_filter_calls(&error);
	if (ret)
		return cli_fail(serving->verb, CLI_FAILED, "%s: %s",
				serving->sandbox ? "--sandbox" : "--user", error.text);
	return CLI_OK;
}

/*
 * No driver is answered before the rights are gone.
 * #syscalls: rt_sigtimedwait write exit_group
 */
static int serve_until_told(struct serving *serving, const sigset_t *ends)
{
	int received, ret = CLI_OK;

	if (serving->control_path) {
		serving->moves = moves_new(serving->count);
		if (!serving->moves)
			return cli_fail(serving->verb, CLI_FAILED, "no memory");
	}
	for (size_t i = 0; i < serving->count && !ret; i++)
		ret = make_pair(serving, &serving->pairs[i], (unsigned)i);
	if (!ret)
		ret = make_faults(serving);
	if (!ret)
		ret = give_up_rights(serving);
	if (!ret && serving->control && control_start(serving->control, NULL))
		ret = cli_fail(serving->verb, CLI_FAILED, "--control: no thread");
	for (size_t i = 0; i < serving->count && !ret; i++)
		ret = start_pair(serving, &serving->pairs[i]);
	if (ret)
		return ret;
	while (sigwait(ends, &received))
		;
	return CLI_OK;
}

/* All servers first: none takes a new client while others wind down. */
static void stop(struct serving *serving)
{
	control_free(serving->control);
	moves_free(serving->moves);
	for (size_t i = 0; i < serving->count; i++)
		if (serving->pairs[i].server)
			uvf_server_stop(serving->pairs[i].server);
	for (size_t i = 0; i < serving->count; i++) {
		struct pair *pair = &serving->pairs[i];

		uvf_server_free(pair->server);
		uvf_device_free(pair->dev);
		registry_remove(&pair->published);
	}
}

static int serve(struct serving *serving)
{
	struct uvf_error error;
	sigset_t ends;
	int ret;

	/* Blocked before there are threads, so that only sigwait() gets them. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	if (serving->sandbox && !geteuid() && !serving->user.name &&
	    sandbox_find_user("nobody", &serving->user, &error))
		return cli_fail(serving->verb, CLI_FAILED, "--sandbox: %s", error.text);
	/* Root keeps its capabilities, by which it is not held by anything else. */
	if (serving->sandbox && !geteuid() && !serving->user.uid)
		return cli_fail(serving->verb, CLI_USAGE,
				"--user: expected a user other than root with --sandbox, got '%s'",
				serving->user.name);
	if (serving->sandbox && sandbox_prepare(&error))
		return cli_fail(serving->verb, CLI_FAILED, "--sandbox: %s", error.text);
	if (serving->sandbox || serving->user.name) {
		ret = guard_start(serving->guarded, serving->count + 1);
		if (ret >= 0)
			return ret;
	}
	ret = serve_until_told(serving, &ends);
	stop(serving);
	return ret;
}

static int run_serve(const struct cli_verb *verb, int argc, char **argv)
{
	struct serving serving = {
		.verb = verb,
		.log = {.fn = cli_print_log, .level = UVF_LOG_INFO},
	};
	int ret;

	/* There can't be more devices than arguments. */
	serving.pairs = calloc((size_t)argc + 1, sizeof(*serving.pairs));
	serving.guarded = guard_new((size_t)argc + 1);
	serving.faults.targets = calloc((size_t)argc + 1, sizeof(*serving.faults.targets));
	serving.injections = calloc((size_t)argc + 1, sizeof(*serving.injections));
	if (!serving.pairs || !serving.guarded || !serving.faults.targets || !serving.injections)
		ret = cli_fail(verb, CLI_FAILED, "no memory");
	else
		ret = take_arguments(&serving, argc, argv);
	if (!ret)
		ret = serve(&serving);
	free(serving.pairs);
	free(serving.faults.targets);
	free(serving.injections);
	return ret;
}

static struct cli_verb serve_verb = {
	.name = "serve",
	.usage = "DEVICE[,key=value...] --socket PATH [DEVICE ... --socket PATH]...",
	.summary = "Offers devices on sockets, until SIGTERM or SIGINT",
	.options = options,
	.run = run_serve,
};

CLI_REGISTER_VERB(serve_verb)
