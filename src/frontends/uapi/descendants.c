/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The program and all that it started: until they are gone. Whoever has the filter counts as one of
 * them; the listener hangs up after the last. They are found by their mount namespace: parents are
 * forgotten when they end.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontends/uapi/descendants.h"
#include "frontends/uapi/notify.h"
#include "frontends/uapi/uapi.h"

#define REAP_MS	   200
#define KILL_MS	   100
#define KILL_TRIES 50

/* Or may be: who can't tell leaves it alone. */
static bool is_traced(pid_t pid)
{
	char path[32], line[128];
	bool traced;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	traced = !file;
	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, "TracerPid:", 10) == 0)
			traced = strtol(line + 10, NULL, 10) != 0;
	if (file)
		fclose(file);
	return traced;
}

/*
 * The first thread is their parent, and asks for its own alone: what is another's, the tracer's
 * above all, would be taken from it. Another thread has to ask for everything, and then to look.
 */
void uapi_descendants_reap(const struct uvf_run *run)
{
	int own = gettid() == getpid() ? __WNOTHREAD : 0;
	siginfo_t info = {0};

	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | own) == 0 &&
	       info.si_pid != 0 && info.si_pid != run->pid && !is_traced(info.si_pid)) {
		waitpid(info.si_pid, NULL, WNOHANG | own);
		info.si_pid = 0;
	}
}

void uapi_descendants_wait(struct uvf_run *run)
{
	bool is_first = getpid() == 1;

	while (!uapi_notifier_is_over(run->notifier, is_first ? REAP_MS : -1))
		if (is_first)
			uapi_descendants_reap(run);
}

static bool is_ours(const struct uvf_run *run, pid_t pid)
{
	struct stat namespace;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	return stat(path, &namespace) == 0 && namespace.st_ino == run->mount_namespace;
}

static void kill_process(const struct uvf_run *run, pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (pidfd < 0)
		return;
	/* The number has been the descriptor's process's since before this look. */
	if (is_ours(run, pid))
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	close(pidfd);
}

void uapi_descendants_each(const struct uvf_run *run, void (*take)(void *opaque, pid_t process),
			   void *opaque)
{
	const struct dirent *entry;
	DIR *folder = opendir("/proc");

	if (!folder)
		return;
	while ((entry = readdir(folder)) != NULL) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid > 0 && is_ours(run, pid))
			take(opaque, pid);
	}
	closedir(folder);
}

pid_t uapi_descendants_thread(pid_t process)
{
	char path[32];
	const struct dirent *entry;
	pid_t thread = process;
	struct stat file;
	DIR *folder;

	/* What has ended has no program any more. */
	snprintf(path, sizeof(path), "/proc/%d/exe", process);
	if (stat(path, &file) == 0)
		return process;
	snprintf(path, sizeof(path), "/proc/%d/task", process);
	folder = opendir(path);
	while (folder && (entry = readdir(folder)) != NULL) {
		pid_t other = (pid_t)strtol(entry->d_name, NULL, 10);

		snprintf(path, sizeof(path), "/proc/%d/exe", other);
		if (other > 0 && stat(path, &file) == 0) {
			thread = other;
			break;
		}
	}
	if (folder)
		closedir(folder);
	return thread;
}

static void kill_one(void *opaque, pid_t process)
{
	kill_process(opaque, process);
}

void uapi_descendants_kill(struct uvf_run *run)
{
	for (int i = 0; i < KILL_TRIES; i++) {
		if (uapi_notifier_is_over(run->notifier, i ? KILL_MS : 0))
			return;
		syscall(SYS_pidfd_send_signal, run->pidfd, SIGKILL, NULL, 0);
		if (run->mount_namespace)
			uapi_descendants_each(run, kill_one, run);
		else
			i = KILL_TRIES - 1;
	}
}
