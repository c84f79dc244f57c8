/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver's session that goes from one vfio-user server to another on this host, while the device
 * behind it moves by migration.h. The driver notices a pause: its connection, its memory, its
 * eventfds and what it has mapped stay what they are.
 *
 *   here                                   there
 *                                          uvf_server_reserve(), RESUMING
 *   uvf_server_prepare(), PRE_COPY
 *   PRE_COPY_P2P, uvf_server_suspend(),
 *   STOP_COPY                      state
 *   uvf_server_offer()           session
 *                                          uvf_server_adopt(): the state is loaded
 *                                          uvf_server_take_over(): RUNNING
 *   uvf_server_let_go()
 *
 * Until it is taken over the session can be withdrawn, whatever has become of the other side; then
 * it never can be taken over, and the device goes on here: uvf_server_withdraw(), RUNNING,
 * uvf_server_go_on(). Of both only one succeeds, also when a process dies at any moment.
 *
 * The bytes and descriptors of an offer are for another process of the same user: what they say is
 * checked, but who has them has the driver's memory.
 *
 * Threads: one at a time for these calls on one server, which has threads of its own
 * (uvf_server_start()) and whose configuration allows it. It must not be stopped
 * meanwhile.
 */
#ifndef UVFIO_HANDOVER_H
#define UVFIO_HANDOVER_H

#include <uvfio/server.h>
#include <uvfio/types.h>

UVF_BEGIN_DECLS

/* ---- The side that gives ---- */

/*
 * Makes the session ready to be suspended at once; it is served as before. Takes up to
 * uvf_server_config.move_wait_ms where the driver is silent.
 * Errors, with the reason: -ENOTCONN (there is no driver, or it has gone), -EBUSY, -EOPNOTSUPP (the
 * server or the device isn't made for it), -ENOTTY (it can't be migrated).
 */
UVF_API int uvf_server_prepare(struct uvf_server *server, struct uvf_error *error);
/*
 * The session stands still between two requests. What the driver sends stays where it is.
 * Errors: -ENOTCONN, -EINVAL (not prepared), -ETIMEDOUT (a request takes longer than @timeout_ms).
 */
UVF_API int uvf_server_suspend(struct uvf_server *server, unsigned timeout_ms,
			       struct uvf_error *error);
/* The session is served again, or needn't be suspended any more. */
UVF_API void uvf_server_go_on(struct uvf_server *server);

/* A session, as bytes and descriptors. All of it the server's, until the session goes on or is let
 * go. */
struct uvf_server_offer {
	const void *bytes;
	size_t size;
	const int *fds;
	size_t fd_count;
};
/*
 * Describes the session that is suspended, of a device that is in STOP_COPY or STOP.
 * Errors, with the reason: -EINVAL (not suspended), -EBUSY (it is in the middle of something),
 * -EMFILE, -ENOMEM.
 */
UVF_API int uvf_server_offer(struct uvf_server *server, struct uvf_server_offer *offer,
			     struct uvf_error *error);
/* Errors: -EALREADY: it was taken over, and is to be let go. */
UVF_API int uvf_server_withdraw(struct uvf_server *server);
/*
 * The session is another server's: the device is reset here without the driver noticing, and its
 * next driver can come. Waits for that.
 */
UVF_API void uvf_server_let_go(struct uvf_server *server);

/* ---- The side that takes ---- */

/*
 * No driver is let in, and the device is open: its state can be written. Ended by
 * uvf_server_take_over() or uvf_server_unreserve().
 * Errors, with the reason: -EBUSY (it has a driver), -EOPNOTSUPP, -ENOTTY, those of
 * uvf_device_open().
 */
UVF_API int uvf_server_reserve(struct uvf_server *server, struct uvf_error *error);
/* Resets and closes the device; drivers are let in. */
UVF_API void uvf_server_unreserve(struct uvf_server *server);
/*
 * Takes a session in, of a device in RESUMING that has its whole state: it is loaded, and the
 * device in RUNNING_P2P. Nothing is served yet. The descriptors stay the caller's.
 * Errors, with the reason: -EINVAL (it can't be what uvf_server_offer() gave, or is of another kind
 * of device), -EPROTONOSUPPORT (of another version), -EBUSY (already), -E2BIG (more than the
 * configuration allows), those of uvf_map() and uvf_migration_set_state().
 */
UVF_API int uvf_server_adopt(struct uvf_server *server, const struct uvf_server_offer *offer,
			     struct uvf_error *error);
/*
 * Serves it from here on. Errors: -ECANCELED: it was withdrawn. -EINVAL: nothing was adopted.
 */
UVF_API int uvf_server_take_over(struct uvf_server *server);

UVF_END_DECLS

#endif
