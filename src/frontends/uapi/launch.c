/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starts the program. A child is forked, makes its namespaces, installs the filter, sends the
 * filter's listener to us and calls execve(). It comes from a process with many threads: between
 * fork and execve() it calls only what is async-signal-safe, and what it needs is prepared before.
 *
 * One socket carries all that the child has to say: the listener, or what went wrong. Its end is
 * close-on-exec: the end of the stream says that execve() succeeded.
 *
 * An ordinary user's program gets a user namespace in which it has its own ids, and so may mount; a
 * superuser's needs the mount namespace alone, where the kernel lets it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontends/uapi/launch.h"
#include "frontends/uapi/sysfs.h"
#include "frontends/uapi/uapi.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

/* What the child says. `what` is in memory that both have since before the fork. */
struct report {
	int error; /* 0: the listener comes with it */
	const char *what;
};

struct child {
	const struct uapi_launch *launch;
	pid_t supervisor;
	int socket;
	bool namespaces;
	bool root;
	struct sock_fprog filter;
	char uid_map[48], gid_map[48];
};

int uapi_reserved_first(void)
{
	struct rlimit limit;
	rlim_t end = 1024;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < end)
		end = limit.rlim_cur;
	end -= end % UAPI_RESERVED_FDS;
	/* The lowest numbers are not for us. */
	return end < 2 * UAPI_RESERVED_FDS ? -1 : (int)end - UAPI_RESERVED_FDS;
}

/* ---- In the child ---- */

static void say(int socket, const struct report *report, int fd)
{
	struct iovec iov = {(void *)(uintptr_t)report, sizeof(*report)};
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0 && errno == EINTR)
		continue;
}

static _Noreturn void give_up(const struct child *child, int error, const char *what)
{
	const struct report report = {error, what};

	say(child->socket, &report, -1);
	_exit(127);
}

static bool write_file(const char *path, const char *text)
{
	size_t size = strlen(text);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written = fd < 0 ? -1 : write(fd, text, size);

	if (fd >= 0)
		close(fd);
	return written == (ssize_t)size;
}

static void enter_namespaces(const struct child *child)
{
	const char *what = "";
	int result;

	if (!child->root || unshare(CLONE_NEWNS) < 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
			give_up(child, errno, "unshare(2), of a user namespace, is refused here");
		/* Not there: gid maps don't need it, either. */
		if (!write_file("/proc/self/setgroups", "deny") && errno != ENOENT)
			give_up(child, errno, "/proc/self/setgroups");
		if (!write_file("/proc/self/gid_map", child->gid_map))
			give_up(child, errno, "/proc/self/gid_map");
		if (!write_file("/proc/self/uid_map", child->uid_map))
			give_up(child, errno, "/proc/self/uid_map");
	}
	/* What is mounted in here stays in here. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		give_up(child, errno, "mount(2) is refused here");
	result = uapi_sysfs_mount(child->launch->run, &what);
	if (result < 0)
		give_up(child, -result, what);
}

static int install_filter(const struct child *child)
{
	static const unsigned flags[] = {
		/* Signals then don't interrupt a call that is being handled. */
		SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		SECCOMP_FILTER_FLAG_NEW_LISTENER,
	};
	long listener = -1;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		give_up(child, errno, "PR_SET_NO_NEW_PRIVS");
	for (size_t i = 0; i < 2 && listener < 0; i++)
		listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags[i], &child->filter);
	if (listener < 0)
		give_up(child, errno,
			errno == EBUSY ? "already under a seccomp supervisor"
				       : "seccomp(2), for user notifications, is refused here");
	return (int)listener;
}

static _Noreturn void run_child(const struct child *child)
{
	const struct uapi_launch *launch = child->launch;
	const struct report ready = {0, NULL};
	char *const *argv = launch->run->config.argv;
	int listener;

	if (child->namespaces)
		enter_namespaces(child);
	/*
	 * A program whose calls nobody answers is of no use. (After the namespaces, which forget
	 * it. The thread that forked, whose end counts, is there until the program has ended.)
	 */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != child->supervisor)
		_exit(127);
	/* The table of descriptors grows here once, and not when the first is placed. */
	if (launch->reserved_first >= 0) {
		int last = launch->reserved_first + UAPI_RESERVED_FDS - 1;

		if (fcntl(last, F_GETFD) < 0 &&
		    syscall(SYS_dup3, child->socket, last, O_CLOEXEC) >= 0)
			close(last);
	}
	listener = install_filter(child);
	say(child->socket, &ready, listener);
	close(listener);
	sigprocmask(SIG_SETMASK, &launch->signals, NULL);
	execvp(argv[0], argv);
	give_up(child, errno, argv[0]);
}

/* ---- In the parent ---- */

/* Takes what the child says until it ends. Returns 0 or a negative errno. */
static int listen_to_child(struct uapi_launch *launch, int socket)
{
	struct report report;
	int fd;

	for (;;) {
		struct iovec iov = {&report, sizeof(report)};
		union {
			struct cmsghdr header;
			char bytes[CMSG_SPACE(sizeof(int))];
		} control;
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		ssize_t size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
		struct cmsghdr *header = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0)
			return uvf_fail(launch->error, -errno, "the program's start: %s",
					strerror(errno));
		if (size == 0)
			break;
		if (report.error)
			return uvf_fail(launch->error, -report.error, "%s: %s", report.what,
					strerror(report.error));
		if (header && header->cmsg_type == SCM_RIGHTS) {
			memcpy(&fd, CMSG_DATA(header), sizeof(fd));
			launch->listener = fd;
		}
	}
	if (launch->listener < 0)
		return uvf_fail(launch->error, -ECHILD, "the program ended before its start");
	return 0;
}

/* Which mount namespace the child has made. */
static ino_t find_namespace(const struct uapi_launch *launch, pid_t pid)
{
	struct stat stat_child;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	if (launch->run->config.namespaces_off || stat(path, &stat_child) < 0)
		return 0;
	return stat_child.st_ino;
}

/* Waits for the child's word; takes back all if it is a bad one. */
static int follow_child(struct uapi_launch *launch, pid_t pid, int socket)
{
	int result = listen_to_child(launch, socket);

	if (!result) {
		launch->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (launch->pidfd < 0)
			result = uvf_fail(launch->error, -errno, "pidfd_open: %s", strerror(errno));
		launch->mount_namespace = find_namespace(launch, pid);
	}
	if (result) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			continue;
		if (launch->listener >= 0)
			close(launch->listener);
		launch->listener = -1;
	}
	return result;
}

pid_t uapi_launch(void *opaque)
{
	struct uapi_launch *launch = opaque;
	struct child child = {
		.launch = launch,
		.supervisor = getpid(),
		.namespaces = !launch->run->config.namespaces_off,
		.root = geteuid() == 0,
	};
	int sockets[2];
	pid_t pid = -1;
	int result;

	launch->listener = launch->pidfd = -1;
	result = uapi_filter_new(launch->reserved_first, &child.filter);
	if (result)
		return uvf_fail(launch->error, result, "seccomp filter: %s", strerror(-result));
	snprintf(child.uid_map, sizeof(child.uid_map), "%u %u 1", geteuid(), geteuid());
	snprintf(child.gid_map, sizeof(child.gid_map), "%u %u 1", getegid(), getegid());
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) {
		result = uvf_fail(launch->error, -errno, "socketpair: %s", strerror(errno));
		goto out;
	}
	child.socket = sockets[1];
	pid = fork();
	if (pid == 0)
		run_child(&child);
	result = pid < 0 ? -errno : 0;
	close(sockets[1]);
	if (result)
		uvf_fail(launch->error, result, "fork: %s", strerror(-result));
	else
		result = follow_child(launch, pid, sockets[0]);
	close(sockets[0]);
out:
	uapi_filter_free(&child.filter);
	return result ? result : pid;
}
