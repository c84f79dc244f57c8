/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of a control socket. */
#ifndef UVF_CLI_COMMANDS_H
#define UVF_CLI_COMMANDS_H

#include <uvfio/run.h>

#include "cli/faults.h"
#include "cli/move.h"

struct json_object;

/* Where commands are given. */
struct commands_place {
	const struct faults *faults;
	struct uvf_run *run; /* NULL: no program runs */
	struct moves *moves; /* NULL: nothing can be moved */
	int connection;	     /* by which they came */
};

/*
 * What @line asks for is done: the answer, {"result": ...} or {"error": ...}. *@given becomes true
 * where the connection has been copied for somebody else, and is no longer for commands.
 */
struct json_object *commands_run(const struct commands_place *place, const char *line, bool *given);

/* An array of how often which calls were made, and how long they took. */
struct json_object *commands_stats(struct uvf_run *run);

#endif
