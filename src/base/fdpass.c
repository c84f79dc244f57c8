/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes and file descriptors over a unix stream socket. */
#include "base/fdpass.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * UVF_FDPASS_MAX)];
};

/* #syscalls: sendmsg */
ssize_t uvf_fdpass_send(int sock, const struct iovec *iov, size_t iov_count, const int *fds,
			size_t fd_count, int flags)
{
	union control control;
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = iov_count};
	ssize_t sent;

	if (fd_count > UVF_FDPASS_MAX)
		return -E2BIG;
	if (fd_count) {
		/* What the padding holds would leave the process. */
		memset(&control, 0, CMSG_SPACE(fd_count * sizeof(int)));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	do
		sent = sendmsg(sock, &message, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

static size_t take_fds(struct msghdr *message, int *fds, size_t fd_max)
{
	size_t count = 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
	     header = CMSG_NXTHDR(message, header)) {
		size_t here;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		/* The control buffer has room for fd_max only. */
		if (here > fd_max - count)
			here = fd_max - count;
		memcpy(fds + count, CMSG_DATA(header), here * sizeof(int));
		count += here;
	}
	return count;
}

/* #syscalls: recvmsg */
ssize_t uvf_fdpass_receive(int sock, void *buf, size_t size, int *fds, size_t fd_max,
			   size_t *fd_count, int flags)
{
	union control control;
	struct iovec iov = {buf, size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t received;

	*fd_count = 0;
	if (fd_max > UVF_FDPASS_MAX)
		fd_max = UVF_FDPASS_MAX;
	message.msg_control = &control;
	/* CMSG_LEN, not _SPACE: the padding would let one more in. */
	message.msg_controllen = CMSG_LEN(fd_max * sizeof(int));
	received = recvmsg(sock, &message, flags | MSG_CMSG_CLOEXEC);
	if (received < 0)
		return -errno;
	if (message.msg_controllen)
		*fd_count = take_fds(&message, fds, fd_max);
	if (message.msg_flags & MSG_CTRUNC) {
		uvf_fdpass_close(fds, *fd_count);
		*fd_count = 0;
		return -E2BIG;
	}
	return received;
}

/* #syscalls: close */
void uvf_fdpass_close(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}
