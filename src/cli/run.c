/* SPDX-License-Identifier: BSD-3-Clause */
/* uvfio run: starts a program for which devices are behind Linux's VFIO. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uvfio/device.h>
#include <uvfio/model.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/control.h"
#include "cli/setup.h"
#include "cli/signals.h"

struct running {
	const struct cli_verb *verb;
	struct setup setup;
	struct faults faults;
	struct signals signals;
	struct control *control;
	struct uvf_run *run;
	struct uvf_log log;
	const char *control_path, *trace_path;
	int trace_fd; /* -1: no trace */
	bool verbose, stats;
	char **argv; /* the program's */
};

/* ---- Arguments ---- */

enum {
	OPTION_CONTROL,
	OPTION_DEVICE,
	OPTION_INJECT,
	OPTION_IOMMU,
	OPTION_STATS,
	OPTION_TOPOLOGY,
	OPTION_TRACE,
	OPTION_VERBOSE,
};

static const struct cli_option options[] = {
	[OPTION_CONTROL] = {"--control", "PATH", "A unix socket for uvfio ctl"},
	[OPTION_DEVICE] = {"--device", "MODEL[,...]", "A device that the program finds"},
	[OPTION_INJECT] = {"--inject", "SPEC", "A fault: see uvfio-inject(7)"},
	[OPTION_IOMMU] = {"--iommu", "KEY=VALUE,...", "What the IOMMU can do"},
	[OPTION_STATS] = {"--stats", NULL, "Print the calls and their times at the end"},
	[OPTION_TOPOLOGY] = {"--topology", "FILE", "Devices, IOMMU and faults as JSON"},
	[OPTION_TRACE] = {"--trace", "FILE", "Print each call into a file"},
	[OPTION_VERBOSE] = {"--verbose", NULL, "Print each call, and say more"},
	{},
};

static int refuse(const struct running *running, int row, const struct uvf_error *error)
{
	return cli_fail(running->verb, CLI_RUN_FAILED, "%s: %s", options[row].name, error->text);
}

static int set_path(const struct running *running, int row, const char *value, const char **path)
{
	if (!value[0])
		return cli_fail(running->verb, CLI_RUN_FAILED, "%s: expected %s, got ''",
				options[row].name, options[row].argument);
	if (*path)
		return cli_fail(running->verb, CLI_RUN_FAILED, "%s is given twice",
				options[row].name);
	*path = value;
	return 0;
}

static int add_fault(struct running *running, const char *spec, struct uvf_error *error)
{
	char device[128];
	int ret = uvf_inject_device(spec, device, sizeof(device), error);

	if (!ret && setup_add_fault(&running->setup, spec))
		ret = uvf_fail(error, -ENOMEM, "no memory, or too many faults");
	return ret;
}

static int take_option(struct running *running, int row, const char *value)
{
	struct uvf_error error = {""};
	int ret = 0;

	switch (row) {
	case OPTION_CONTROL:
		return set_path(running, row, value, &running->control_path);
	case OPTION_TRACE:
		return set_path(running, row, value, &running->trace_path);
	case OPTION_DEVICE:
		ret = setup_device_option(&running->setup, value, &error);
		break;
	case OPTION_INJECT:
		ret = add_fault(running, value, &error);
		break;
	case OPTION_IOMMU:
		ret = setup_iommu_option(&running->setup, value, &error);
		break;
	case OPTION_TOPOLOGY:
		ret = setup_topology(&running->setup, value, &error);
		break;
	case OPTION_STATS:
		running->stats = true;
		break;
	case OPTION_VERBOSE:
		running->verbose = true;
		running->log.level = UVF_LOG_DEBUG;
		break;
	}
	return ret ? refuse(running, row, &error) : 0;
}

/* Up to the program's name: what follows is its own. */
static int take_arguments(struct running *running, int argc, char **argv)
{
	struct cli_arguments arguments = {.verb = running->verb, .left = argc, .at = argv};
	int row, ret;

	while ((row = cli_next(&arguments)) >= 0) {
		ret = take_option(running, row, arguments.value);
		if (ret)
			return ret;
	}
	if (row == CLI_BAD)
		return CLI_RUN_FAILED;
	if (row == CLI_END)
		return cli_fail(running->verb, CLI_RUN_FAILED, "expected a PROGRAM");
	if (!running->setup.device_count)
		return cli_fail(running->verb, CLI_RUN_FAILED,
				"expected --device MODEL[,key=value...] or --topology FILE");
	running->argv = arguments.at - 1;
	return 0;
}

/* ---- What the program is offered ---- */

static int make_devices(struct running *running)
{
	struct setup *setup = &running->setup;
	struct uvf_error error = {""};
	int ret = setup_finish(setup, &error);

	for (size_t i = 0; i < setup->device_count && !ret; i++) {
		ret = uvf_model_create(setup->devices[i].spec, &setup->devices[i].dev, &error);
		if (ret && !error.text[0])
			uvf_fail(&error, ret, "%s: %s", setup->devices[i].spec, strerror(-ret));
		if (!ret)
			uvf_device_set_log(setup->devices[i].dev, &running->log);
	}
	if (ret)
		return cli_fail(running->verb, CLI_RUN_FAILED, "%s", error.text);
	return 0;
}

static int make_faults(struct running *running)
{
	const struct setup *setup = &running->setup;
	struct faults *faults = &running->faults;
	struct uvf_error error;

	faults->targets = calloc(setup->device_count, sizeof(*faults->targets));
	faults->maps = uvf_injector_new();
	if (!faults->targets || !faults->maps)
		return cli_fail(running->verb, CLI_RUN_FAILED, "no memory");
	for (size_t i = 0; i < setup->device_count; i++)
		faults->targets[faults->count++] = (struct fault_target){
			.dev = setup->devices[i].dev,
			.address = setup->devices[i].address,
			.name = setup->devices[i].name,
		};
	for (size_t i = 0; i < setup->fault_count; i++)
		if (faults_inject(faults, setup->faults[i], &error))
			return cli_fail(running->verb, CLI_RUN_FAILED, "%s: %s", setup->faults[i],
					error.text);
	return 0;
}

static int open_files(struct running *running)
{
	struct uvf_error error;

	if (running->trace_path)
		running->trace_fd = open(running->trace_path,
					 O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	else if (running->verbose)
		running->trace_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (running->trace_path && running->trace_fd < 0)
		return cli_fail(running->verb, CLI_RUN_FAILED, "--trace: %s: %s",
				running->trace_path, strerror(errno));
	if (running->control_path &&
	    control_new(running->control_path, &running->faults, &running->control, &error))
		return refuse(running, OPTION_CONTROL, &error);
	return 0;
}

/* ---- The program ---- */

static void print_trace(void *opaque, const char *line)
{
	const struct running *running = opaque;

	/* One write: lines of several threads stay whole. */
	dprintf(running->trace_fd, "%s\n", line);
}

/* The text of an error of execve(2) begins with the program's name. */
static int start_failed(const struct running *running, int code, const struct uvf_error *error)
{
	size_t length = strlen(running->argv[0]);
	int status = CLI_RUN_FAILED;

	if (!strncmp(error->text, running->argv[0], length) &&
	    !strncmp(error->text + length, ": ", 2))
		status = code == -ENOENT ? CLI_RUN_NOT_FOUND : CLI_RUN_NOT_EXECUTABLE;
	return cli_fail(running->verb, status, "%s",
			error->text[0] ? error->text : strerror(-code));
}

/*
 * A program's descriptors become ours too: eventfds of a device with 2048 vectors, and files of
 * memory. What was its limit stays its.
 */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int start(struct running *running)
{
	const struct setup *setup = &running->setup;
	struct uvf_run_device *devices = calloc(setup->device_count, sizeof(*devices));
	struct uvf_run_config config = {
		.devices = devices,
		.device_count = setup->device_count,
		.argv = running->argv,
		.page_sizes = setup->page_sizes,
		.aperture = setup->aperture,
		.reserved = setup->reserved,
		.reserved_count = setup->reserved_count,
		.max_mappings = setup->max_mappings,
		.max_locked_memory = setup->max_locked,
		.signal_mask = &running->signals.inherited,
		.injector = running->faults.maps,
		.trace = running->trace_fd >= 0 ? print_trace : NULL,
		.trace_opaque = running,
		.log = running->log,
	};
	struct uvf_error error = {""};
	int ret;

	if (!devices)
		return cli_fail(running->verb, CLI_RUN_FAILED, "no memory");
	for (size_t i = 0; i < setup->device_count; i++) {
		const struct setup_device *from = &setup->devices[i];

		devices[i] = (struct uvf_run_device){
			.dev = from->dev,
			.address = from->address,
			.group = from->group,
			.numa_node = from->numa_node,
		};
		memcpy(devices[i].trap, from->trap, sizeof(from->trap));
	}
	ret = uvf_run_start(&config, &running->run, &error);
	free(devices);
	if (ret)
		return start_failed(running, ret, &error);
	raise_limit();
	return 0;
}

static void print_stats(const struct running *running)
{
	struct json_object *stats = commands_stats(running->run);
	static const char *const times[] = {"mean_ns", "p50_ns", "p99_ns", "max_ns"};

	dprintf(STDERR_FILENO, "%-36s %10s %8s %10s %10s %10s %10s\n", "call", "count", "errors",
		"mean us", "p50 us", "p99 us", "max us");
	for (size_t i = 0; i < json_object_array_length(stats); i++) {
		struct json_object *row = json_object_array_get_idx(stats, i);
		char line[160];
		int length =
			snprintf(line, sizeof(line), "%-36s %10s %8s",
				 json_object_get_string(json_object_object_get(row, "call")),
				 json_object_get_string(json_object_object_get(row, "count")),
				 json_object_get_string(json_object_object_get(row, "errors")));

		for (size_t n = 0; n < 4 && length < 110; n++)
			length += snprintf(line + length, sizeof(line) - (size_t)length, " %10.1f",
					   (double)json_object_get_int64(
						   json_object_object_get(row, times[n])) /
						   1000);
		dprintf(STDERR_FILENO, "%s\n", line);
	}
	json_object_put(stats);
}

/* The program has been started: until it ends. The status that waitpid(2) would give. */
static int follow(struct running *running, int *wait_status)
{
	int ret = signals_start(&running->signals, uvf_run_pid(running->run));

	if (!ret) {
		if (running->control)
			ret = control_start(running->control, running->run);
		if (!ret)
			ret = uvf_run_wait(running->run, wait_status);
		signals_stop(&running->signals);
	}
	if (ret)
		return cli_fail(running->verb, CLI_RUN_FAILED, "%s", strerror(-ret));
	if (running->stats)
		print_stats(running);
	return 0;
}

static int run_program(struct running *running, int *wait_status)
{
	int ret, early;

	signals_block(&running->signals);
	ret = make_devices(running);
	if (!ret)
		ret = make_faults(running);
	if (!ret)
		ret = open_files(running);
	early = signals_ended_early(&running->signals);
	if (!ret && early) {
		*wait_status = early;
		return 0;
	}
	if (!ret)
		ret = start(running);
	return ret ? ret : follow(running, wait_status);
}

static int run_run(const struct cli_verb *verb, int argc, char **argv)
{
	struct running running = {
		.verb = verb,
		.log = {.fn = cli_print_log, .level = UVF_LOG_WARNING},
		.trace_fd = -1,
	};
	int wait_status = 0;
	int ret = take_arguments(&running, argc, argv);

	if (!ret)
		ret = run_program(&running, &wait_status);
	control_free(running.control);
	uvf_run_free(running.run);
	uvf_injector_free(running.faults.maps);
	free(running.faults.targets);
	setup_free(&running.setup);
	if (running.trace_fd >= 0)
		close(running.trace_fd);
	return ret ? ret : signals_end_as(&running.signals, wait_status);
}

static struct cli_verb run_verb = {
	.name = "run",
	.usage = "[OPTION...] [--] PROGRAM [ARGUMENT...]",
	.summary = "Runs a program that finds devices behind Linux's VFIO",
	.options = options,
	.run = run_run,
};

CLI_REGISTER_VERB(run_verb)
