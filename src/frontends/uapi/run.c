/* SPDX-License-Identifier: BSD-3-Clause */
/* A run from uvf_run_start() to its end. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frontends/uapi/configure.h"
#include "frontends/uapi/descendants.h"
#include "frontends/uapi/device.h"
#include "frontends/uapi/launch.h"
#include "frontends/uapi/notify.h"
#include "frontends/uapi/rights.h"
#include "frontends/uapi/stats.h"
#include "frontends/uapi/sysfs.h"
#include "frontends/uapi/tracer.h"
#include "frontends/uapi/uapi.h"

/* Whether the system forgets at once how a child has ended. */
static bool forgets_children(void)
{
	struct sigaction action;

	return sigaction(SIGCHLD, NULL, &action) == 0 &&
	       (action.sa_handler == SIG_IGN || action.sa_flags & SA_NOCLDWAIT);
}

/* Starts the program and what serves it. */
static int start(struct uvf_run *run, struct uvf_error *error)
{
	struct uapi_launch launch = {
		.run = run,
		.error = error,
		.reserved_first = uapi_reserved_first(),
	};
	int result;

	if (forgets_children())
		return uvf_fail(error, -EINVAL, "SIGCHLD is ignored: no end of a program is seen");
	result = uapi_check_rights(error);
	if (result)
		return result;
	result = uapi_files_new(run);
	if (result)
		return uvf_fail(error, result, "%s", strerror(-result));
	if (!run->config.namespaces_off) {
		result = uapi_sysfs_new(run, error);
		if (result)
			return result;
	}
	if (run->config.signal_mask)
		launch.signals = *run->config.signal_mask;
	else
		pthread_sigmask(SIG_SETMASK, NULL, &launch.signals);
	result = uapi_tracer_new(run, uapi_launch, &launch);
	if (result < 0)
		return result;
	run->pid = result;
	run->pidfd = launch.pidfd;
	run->mount_namespace = launch.mount_namespace;
	result = uapi_notifier_new(run, launch.listener, launch.reserved_first);
	return result ? uvf_fail(error, result, "threads: %s", strerror(-result)) : 0;
}

int uvf_run_start(const struct uvf_run_config *config, struct uvf_run **runp,
		  struct uvf_error *error)
{
	struct uvf_run *run;
	int result = uapi_configure(config, &run, error);

	if (result)
		return result;
	result = start(run, error);
	if (result) {
		uvf_run_free(run);
		return result;
	}
	*runp = run;
	return 0;
}

const char *uvf_run_address(const struct uvf_run *run, size_t device, unsigned *group)
{
	if (device >= run->device_count)
		return NULL;
	*group = run->devices[device].group->number;
	return run->devices[device].address;
}

pid_t uvf_run_pid(const struct uvf_run *run)
{
	return run->pid;
}

int uvf_run_signal(struct uvf_run *run, int signal)
{
	return syscall(SYS_pidfd_send_signal, run->pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

int uvf_run_wait(struct uvf_run *run, int *wait_status)
{
	int result;

	uapi_descendants_wait(run);
	uapi_notifier_stop(run->notifier);
	result = uapi_tracer_wait(run, wait_status);
	uapi_files_drain_slow(run);
	return result;
}

size_t uvf_run_stats(struct uvf_run *run, struct uvf_run_stat *stats, size_t max)
{
	return uapi_stats_read(uapi_notifier_stats(run->notifier), stats, max);
}

void uvf_run_free(struct uvf_run *run)
{
	if (!run)
		return;
	/* The tracer answers calls, too: it ends between the notifier's threads and its memory. */
	if (run->notifier) {
		uapi_descendants_kill(run);
		uapi_notifier_stop(run->notifier);
	} else if (run->pidfd >= 0) {
		syscall(SYS_pidfd_send_signal, run->pidfd, SIGKILL, NULL, 0);
	}
	for (size_t i = 0; i < run->device_count; i++)
		uapi_device_end_revoking(&run->devices[i]);
	uapi_tracer_free(run);
	uapi_transitions_forget(run);
	uapi_notifier_free(run->notifier);
	uapi_files_free(run);
	uapi_transitions_free(run);
	uapi_sysfs_free(run);
	if (run->pidfd >= 0)
		close(run->pidfd);
	uapi_configure_free(run);
}
