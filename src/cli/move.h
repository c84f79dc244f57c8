/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The two ends of uvfio migrate, in the processes that serve: one moves a device out, the other
 * takes it in, each on a thread of its own.
 *
 * A control connection that asks for either (migrate-out, migrate-in) is the mover's from the
 * answer on. uvfio migrate then sends one line of JSON, and with it one end of a socket pair (the
 * link) of which the other mover gets the other end; what is on the link is in move_link.h. The
 * mover says on the control connection how it goes, a line of JSON each: {"event": ...} any number
 * of times, then {"result": ...} or {"error": "text"}. A hang-up of the control connection, before
 * the destination has taken over, undoes all.
 */
#ifndef UVF_CLI_MOVE_H
#define UVF_CLI_MOVE_H

#include <stdbool.h>
#include <uvfio/handover.h>
#include <uvfio/types.h>

struct json_object;
struct moves;

/* Room for @count devices. NULL: no memory. */
struct moves *moves_new(size_t count);
/* The @nth device. It and its server must stay until moves_free(). */
void moves_set(struct moves *moves, size_t nth, struct uvf_device *dev, struct uvf_server *server);
/* For the log of the @nth device: passes on to @log, and keeps the last error for who asks why. */
void moves_log(struct moves *moves, size_t nth, const struct uvf_log *log, struct uvf_log *own);
/* Undoes what is under way, waits for it, frees. NULL: nothing. */
void moves_free(struct moves *moves);

/* Begins a move of the @nth device, on a copy of @fd. Errors, with the reason: -EBUSY, -EAGAIN. */
int moves_begin(struct moves *moves, size_t nth, bool out, int fd, struct uvf_error *error);

#endif
