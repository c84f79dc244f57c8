/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of a control socket. */
#ifndef UVF_CLI_COMMANDS_H
#define UVF_CLI_COMMANDS_H

#include <uvfio/run.h>

#include "cli/faults.h"

struct json_object;

/* What @line asks for is done: the answer, {"result": ...} or {"error": ...}. @run may be NULL. */
struct json_object *commands_run(const struct faults *faults, struct uvf_run *run,
				 const char *line);

/* An array of how often which calls were made, and how long they took. */
struct json_object *commands_stats(struct uvf_run *run);

#endif
