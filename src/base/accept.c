/* SPDX-License-Identifier: BSD-3-Clause */
/* Accepting when descriptors have run out. */
#include "base/accept.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* #syscalls: eventfd2 */
int uvf_accept_spare(void)
{
	return eventfd(0, EFD_CLOEXEC);
}

/* #syscalls: accept4 close */
static int drop_one(int listener, int *spare)
{
	int fd;

	if (*spare >= 0)
		close(*spare);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	*spare = uvf_accept_spare();
	return fd >= 0 ? -EMFILE : -EAGAIN;
}

/* #syscalls: accept4 */
int uvf_accept(int listener, int flags, int *spare)
{
	int fd = accept4(listener, NULL, NULL, flags);

	if (fd >= 0)
		return fd;
	if (errno == EMFILE || errno == ENFILE)
		return drop_one(listener, spare);
	return errno == ECONNABORTED || errno == EINTR ? -EAGAIN : -errno;
}
