/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes and file descriptors over a unix stream socket. What is received is close-on-exec, and is
 * closed here whenever it can't all be handed to the caller.
 */
#ifndef UVF_BASE_FDPASS_H
#define UVF_BASE_FDPASS_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/* What the kernel takes in one message (SCM_MAX_FD). */
#define UVF_FDPASS_MAX 253

/* Sends once; @fds go with the first byte. Returns the bytes taken or a negative errno. */
ssize_t uvf_fdpass_send(int sock, const struct iovec *iov, size_t iov_count, const int *fds,
			size_t fd_count, int flags);

/*
 * Receives once, and at most @fd_max descriptors, whose number goes to @fd_count. Returns the
 * bytes, 0 at the end of the stream, or a negative errno; -E2BIG: more descriptors came.
 */
ssize_t uvf_fdpass_receive(int sock, void *buf, size_t size, int *fds, size_t fd_max,
			   size_t *fd_count, int flags);

/* Closes those that aren't -1. */
void uvf_fdpass_close(const int *fds, size_t count);

#endif
