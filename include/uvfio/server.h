/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vfio-user server: offers one device on one unix socket, to one client at a time. A second
 * client is refused with EBUSY in the reply to its VERSION. When a client goes, the device is
 * closed (and so reset) before the next is served.
 *
 * Two ways to run it: embedded (uvf_server_fd() in the caller's poll loop, uvf_server_process()
 * when it is readable), or on a thread of its own (uvf_server_start()). Not both at once.
 */
#ifndef UVFIO_SERVER_H
#define UVFIO_SERVER_H

#include <sys/stat.h>
#include <uvfio/types.h>

UVF_BEGIN_DECLS

struct uvf_server;

struct uvf_server_config {
	const char *path; /* of the unix socket to make; a stale socket there is replaced. Beside
			    it PATH.lock is there for a moment */
	int fd;		  /* with path NULL: a listening socket; taken over */
	mode_t mode;	  /* of the socket; 0: 0600 */
	uint32_t max_msg_fds;	     /* 0: 16 */
	uint32_t max_data_xfer_size; /* 0: 1 MiB */
	uint32_t max_dma_maps;	     /* 0: 65535 */
	uint32_t max_dma_files;	     /* that one client's memory lies in; 0: 256 */
	uint64_t page_sizes;	     /* 0: 4 KiB */
	uint32_t client_timeout_ms;  /* for what the client owes: VERSION, the rest of a message, a
					reply. 0: 10 s */
	uint32_t move_wait_ms; /* its clients can be handed over (handover.h), within this time of
				  asking for it: so often an idle connection is looked at. 0: they
				  can't */
	struct uvf_log log;
};

/*
 * @dev stays the caller's and must outlive the server. The socket listens when this returns.
 * Errors: -EINVAL, -EADDRINUSE (a live server, or a file that is no socket, has the path),
 * -ENAMETOOLONG, those of bind(2).
 */
UVF_API int uvf_server_new(struct uvf_device *dev, const struct uvf_server_config *config,
			   struct uvf_server **serverp, struct uvf_error *error);

/* An fd that is readable (POLLIN) when there is something to do. */
UVF_API int uvf_server_fd(const struct uvf_server *server);
/*
 * Does what is ready and never waits. Returns how many messages were handled, or a negative errno
 * where the server itself can't go on (a client's faults end the client only).
 */
UVF_API int uvf_server_process(struct uvf_server *server);

/* Serves on a thread of its own, until uvf_server_stop(). Errors: -EAGAIN, -EALREADY, -EBUSY (a
 * client is being served by uvf_server_process()). */
UVF_API int uvf_server_start(struct uvf_server *server);
UVF_API void uvf_server_stop(struct uvf_server *server);

/* Disconnects the client, removes the socket, frees. NULL is allowed. */
UVF_API void uvf_server_free(struct uvf_server *server);

UVF_END_DECLS

#endif
