/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs a program that is confined as in a container: the system calls that are named fail with
 * EPERM.
 *
 *   deny NAME... -- PROGRAM ARGUMENT...
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int i;

	for (i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM),
				     seccomp_syscall_resolve_name(argv[i]), 0))
			return 99;
	if (i + 1 >= argc || seccomp_load(filter))
		return 99;
	execvp(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 99;
}
