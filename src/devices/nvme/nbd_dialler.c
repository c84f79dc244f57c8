/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A process that connects to the server anew. It keeps the rights and the root directory that the
 * program had when the storage was opened: `uvfio serve --sandbox` gives up both, and may make no
 * sockets. So the sandbox need not be opened for anybody, and nobody inside chooses the address.
 *
 * A question is one end of a socket pair; on that come back an errno, and the socket. The process
 * is a fork of one that may have threads, and so calls nothing but system calls.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fdpass.h"
#include "devices/nvme/nbd.h"

#define CONNECT_LIMIT_S	 5
#define KEEP_ALIVE_S	 5
#define KEEP_ALIVE_COUNT 3

struct dial_target {
	struct sockaddr_storage address;
	socklen_t size;
};

/* Nothing of this can fail but on a socket that isn't TCP. */
void nvme_nbd_keep_alive(int sock)
{
	static const struct {
		int level, option, value;
	} options[] = {
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, KEEP_ALIVE_S},
		{IPPROTO_TCP, TCP_KEEPINTVL, KEEP_ALIVE_S},
		{IPPROTO_TCP, TCP_KEEPCNT, KEEP_ALIVE_COUNT},
		{IPPROTO_TCP, TCP_USER_TIMEOUT, KEEP_ALIVE_S * (KEEP_ALIVE_COUNT + 1) * 1000},
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		setsockopt(sock, options[i].level, options[i].option, &options[i].value,
			   sizeof(options[i].value));
}

/* ---- The process ---- */

static int dial(const struct dial_target *target)
{
	static const struct timeval limit = {.tv_sec = CONNECT_LIMIT_S};
	int sock = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ret;

	if (sock < 0)
		return -errno;
	/* It is connect(2)'s time limit too. */
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(sock, (const struct sockaddr *)&target->address, target->size) < 0) {
		ret = errno == EINPROGRESS || errno == EAGAIN ? -ETIMEDOUT : -errno;
		close(sock);
		return ret;
	}
	nvme_nbd_keep_alive(sock);
	return sock;
}

/* Only a signal that can't be blocked ends it, and the end of who asks. */
static void leave_all_else(int control)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, "uvfio-dialler");
	if (control)
		close_range(0, (unsigned)control - 1, 0);
	close_range((unsigned)control + 1, ~0u, 0);
}

static _Noreturn void run(int control, const struct dial_target *target)
{
	leave_all_else(control);
	for (;;) {
		int reply = -1, sock, answer;
		size_t count = 0;
		char byte;

		if (uvf_fdpass_receive(control, &byte, 1, &reply, 1, &count, 0) <= 0)
			_exit(0);
		if (!count)
			continue;
		sock = dial(target);
		answer = sock < 0 ? sock : 0;
		uvf_fdpass_send(reply, &(struct iovec){&answer, sizeof(answer)}, 1, &sock,
				sock >= 0, 0);
		if (sock >= 0)
			close(sock);
		close(reply);
	}
}

/* ---- Who asks ---- */

/* Its parent ends at once, so that nobody has to wait for it later. */
static int start_process(int control, const struct dial_target *target)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (!pid) {
		pid = fork();
		if (!pid)
			run(control, target);
		_exit(pid < 0);
	}
	while (waitpid(pid, &status, 0) < 0) {
		/* Where children are not waited for, none is left behind either. */
		if (errno != EINTR)
			return 0;
	}
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EAGAIN;
}

int nvme_nbd_dialler_start(const struct sockaddr *address, socklen_t size, int *diallerp)
{
	struct dial_target target = {.size = size};
	int fds[2], ret;

	memcpy(&target.address, address, size);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	ret = start_process(fds[1], &target);
	close(fds[1]);
	if (ret) {
		close(fds[0]);
		return ret;
	}
	*diallerp = fds[0];
	return 0;
}

/* #syscalls: close */
int nvme_nbd_dial(int dialler, int *replyp)
{
	char byte = 0;
	ssize_t sent;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	sent = uvf_fdpass_send(dialler, &(struct iovec){&byte, 1}, 1, &fds[1], 1, MSG_DONTWAIT);
	close(fds[1]);
	if (sent < 0) {
		close(fds[0]);
		return (int)sent;
	}
	*replyp = fds[0];
	return 0;
}

int nvme_nbd_dial_end(int reply)
{
	int answer = 0, sock = -1;
	size_t count = 0;
	ssize_t got =
		uvf_fdpass_receive(reply, &answer, sizeof(answer), &sock, 1, &count, MSG_DONTWAIT);

	if (got < 0)
		return (int)got;
	if (got != sizeof(answer) || (!answer && !count))
		return -EPIPE;
	return answer ? answer : sock;
}
