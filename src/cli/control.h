/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A control socket: faults are injected and questions asked while devices are in use. A line in is
 * a command and its operands, a line out is JSON: {"result": ...} or {"error": "text"}. The
 * commands are in uvfio-ctl(1).
 *
 * What a client can take is bounded: CONTROL_MAX_LINE bytes a line, CONTROL_MAX_CLIENTS of them,
 * and the answers that it hasn't read; who asks for more is disconnected.
 */
#ifndef UVF_CLI_CONTROL_H
#define UVF_CLI_CONTROL_H

#include <uvfio/run.h>

#include "cli/faults.h"
#include "cli/move.h"

#define CONTROL_MAX_LINE    1024
#define CONTROL_MAX_CLIENTS 16

struct control;

/*
 * Makes the socket, for its user alone. Nobody is answered yet. @faults must stay.
 * Errors, with the reason: -EADDRINUSE (someone has it, or it is no socket), those of bind(2).
 */
int control_new(const char *path, const struct faults *faults, struct control **controlp,
		struct uvf_error *error);
/* Answers from here on, on a thread. @run: NULL where no program runs. Errors: -EAGAIN. */
int control_start(struct control *control, struct uvf_run *run);
/* Lets devices be moved, in the order of the faults' targets; before it is started. */
void control_set_moves(struct control *control, struct moves *moves);
/* Ends the thread, removes the socket. NULL: nothing. */
void control_free(struct control *control);

#endif
