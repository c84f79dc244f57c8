/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The threads that receive the program's calls and answer them. Each handles a call to its end;
 * there are always some that wait, so that a slow call holds up no other.
 */
#ifndef UVF_UAPI_NOTIFY_H
#define UVF_UAPI_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

struct uvf_run;
struct uapi_call;
struct uapi_fd_tables;
struct uapi_notifier;
struct uapi_stats;

/* Takes @listener over, also if it fails. @run->notifier is set: it belongs to the threads. */
int uapi_notifier_new(struct uvf_run *run, int listener, int reserved_first);
/* Whether nothing is left that could call: waits for that, but not longer than @timeout_ms. */
bool uapi_notifier_is_over(struct uapi_notifier *notifier, int timeout_ms);
/* Ends the threads: waits for handlers. */
void uapi_notifier_stop(struct uapi_notifier *notifier);
/* What still calls gets ENOSYS from here on. Waits for handlers. NULL is allowed. */
void uapi_notifier_free(struct uapi_notifier *notifier);

/* Of any thread. */
struct uapi_fd_tables *uapi_notifier_fd_tables(struct uapi_notifier *notifier);
struct uapi_stats *uapi_notifier_stats(struct uapi_notifier *notifier);
int uapi_notifier_reserved_first(const struct uapi_notifier *notifier);

/* The listener's requests. Return what ioctl() does, or a negative errno. */
int uapi_notifier_is_valid(struct uapi_notifier *notifier, uint64_t id);
int uapi_notifier_send(struct uapi_notifier *notifier, uint64_t id, int64_t result);
/* @number: -1 for the lowest that is free. */
int uapi_notifier_add_fd(struct uapi_notifier *notifier, uint64_t id, int fd, int number,
			 int flags);

/* Held while a number for a descriptor is chosen and used. */
void uapi_notifier_lock_placing(struct uapi_notifier *notifier);
void uapi_notifier_unlock_placing(struct uapi_notifier *notifier);

/* What a call that was received is answered with: dispatch.c. */
int64_t uapi_dispatch(struct uapi_call *call);

#endif
