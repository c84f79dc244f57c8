/* SPDX-License-Identifier: BSD-3-Clause */
/* The parent that stays behind to clean up when the serving process has given its rights away. */
#include "cli/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/registry.h"

struct guard_pair *guard_new(size_t count)
{
	void *pairs = mmap(NULL, count * sizeof(struct guard_pair), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return pairs == MAP_FAILED ? NULL : pairs;
}

static void remove_files(const struct guard_pair *pairs, size_t count, pid_t child)
{
	char published[256];
	struct stat there;

	for (unsigned nth = 0; nth < count; nth++) {
		if (!pairs[nth].made)
			continue;
		if (!lstat(pairs[nth].socket, &there) && S_ISSOCK(there.st_mode))
			unlink(pairs[nth].socket);
		registry_path(published, child, nth);
		unlink(published);
	}
}

static int wait_for(pid_t child)
{
	sigset_t awaited;
	int received, status;

	sigemptyset(&awaited);
	sigaddset(&awaited, SIGTERM);
	sigaddset(&awaited, SIGINT);
	sigaddset(&awaited, SIGCHLD);
	while (waitpid(child, &status, WNOHANG) != child) {
		if (!sigwait(&awaited, &received) && received != SIGCHLD)
			kill(child, SIGTERM);
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return cli_fail(NULL, CLI_FAILED, "the serving process %d was killed by signal %d",
			(int)child, WTERMSIG(status));
}

void guard_renew(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

int guard_start(const struct guard_pair *pairs, size_t count)
{
	pid_t guard = getpid(), child;
	sigset_t awaited;
	int status;

	/* Blocked before the fork, so that no end of the child is missed. */
	sigemptyset(&awaited);
	sigaddset(&awaited, SIGCHLD);
	sigprocmask(SIG_BLOCK, &awaited, NULL);
	child = fork();
	if (child < 0)
		return cli_fail(NULL, CLI_FAILED, "fork: %s", strerror(errno));
	if (!child) {
		guard_renew();
		/* It may have ended before we asked to be told. */
		if (getppid() != guard)
			_exit(CLI_FAILED);
		return -1;
	}
	status = wait_for(child);
	remove_files(pairs, count, child);
	return status;
}
