/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A process that gives its rights away can't remove the files it made. So before it does, it
 * leaves a guard behind: its parent, which serves nobody and reads nothing from outside. The guard
 * passes SIGTERM and SIGINT on, removes the files when the process has ended, however it did, and
 * ends with its status.
 */
#ifndef UVF_CLI_GUARD_H
#define UVF_CLI_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

/* Shared by both: what the serving process has made, of each pair. */
struct guard_pair {
	const char *socket;
	bool made;
};

/* The pairs, in memory that a fork shares; NULL: no memory. Lives as long as the process. */
struct guard_pair *guard_new(size_t count);

/*
 * Forks. In the child returns -1, with the parent's death its own. In the parent returns when the
 * child has ended: with the program's exit status, or CLI_FAILED where it was killed.
 */
int guard_start(const struct guard_pair *pairs, size_t count);

/* After a change of user, which undoes it: the parent's death is this process's own. */
void guard_renew(void);

#endif
