/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A server's socket in the file system.
 *
 * A socket that was left behind is replaced, and for that nobody else may be between finding it
 * stale and having one there that listens: else of two servers that start at once each could take
 * the other's away. So all of it is done with a lock: a file beside the socket, which is there for
 * that long only. A lock file is held by whoever has flock() on the file that has the name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "frontends/vfio_user/server.h"

static int lock_once(const char *name, int *fdp)
{
	struct stat ours, named;
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int ret;

	if (fd < 0)
		return -errno;
	/* Who else may open it could hold it for ever. */
	if (fstat(fd, &ours) || !S_ISREG(ours.st_mode) || ours.st_uid != geteuid()) {
		close(fd);
		return -EPERM;
	}
	do
		ret = flock(fd, LOCK_EX) ? -errno : 0;
	while (ret == -EINTR);
	/* Its last holder took the name away meanwhile, perhaps. */
	if (!ret &&
	    (stat(name, &named) || named.st_dev != ours.st_dev || named.st_ino != ours.st_ino))
		ret = -EAGAIN;
	if (ret) {
		close(fd);
		return ret;
	}
	*fdp = fd;
	return 0;
}

static int lock(const char *name, int *fdp)
{
	int ret;

	do
		ret = lock_once(name, fdp);
	while (ret == -EAGAIN);
	return ret;
}

static void unlock(const char *name, int fd)
{
	unlink(name);
	close(fd);
}

/* A socket file whose server has gone refuses connections. No other file does us any harm. */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat stat_buf;
	bool stale;
	int fd;

	if (lstat(address->sun_path, &stat_buf) || !S_ISSOCK(stat_buf.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
		errno == ECONNREFUSED;
	close(fd);
	return stale;
}

/* With the lock held. */
static int bind_and_listen(struct uvf_server *server, const struct sockaddr_un *address,
			   struct uvf_error *error)
{
	const char *path = address->sun_path;
	const struct sockaddr *generic = (const struct sockaddr *)address;
	struct stat stat_buf;
	int ret;

	/* The file is made with the socket's own mode: nobody connects before it is right. */
	fchmod(server->listener, server->config.mode);
	ret = bind(server->listener, generic, sizeof(*address)) ? -errno : 0;
	if (ret == -EADDRINUSE && is_stale(address)) {
		unlink(path);
		ret = bind(server->listener, generic, sizeof(*address)) ? -errno : 0;
	}
	if (ret == -EADDRINUSE)
		return uvf_fail(error, ret, "%s: another server, or a file, has it", path);
	if (ret)
		return uvf_fail(error, ret, "%s: %s", path, strerror(-ret));
	server->owns_path = true;
	/* And with what the umask took. */
	if (chmod(path, server->config.mode) || stat(path, &stat_buf))
		return uvf_fail(error, -errno, "%s: %s", path, strerror(errno));
	server->path_device = stat_buf.st_dev;
	server->path_inode = stat_buf.st_ino;
	if (listen(server->listener, SOMAXCONN))
		return uvf_fail(error, -errno, "listen: %s", strerror(errno));
	return 0;
}

int uvf_server_bind(struct uvf_server *server, struct uvf_error *error)
{
	const char *path = server->config.path;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char name[sizeof(address.sun_path) + sizeof(".lock")];
	int fd = -1, ret;

	if (strlen(path) >= sizeof(address.sun_path))
		return uvf_fail(error, -ENAMETOOLONG, "%s: at most %zu characters", path,
				sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	snprintf(name, sizeof(name), "%s.lock", path);
	server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->listener < 0)
		return uvf_fail(error, -errno, "socket: %s", strerror(errno));
	ret = lock(name, &fd);
	if (ret)
		return uvf_fail(error, ret, "%s: %s", ret == -ENOENT ? path : name, strerror(-ret));
	ret = bind_and_listen(server, &address, error);
	unlock(name, fd);
	return ret;
}

/* Unless somebody has put another one there. Ours still listens: no server takes it for stale. */
void uvf_server_unbind(struct uvf_server *server)
{
	struct stat stat_buf;

	if (server->owns_path && !lstat(server->config.path, &stat_buf) &&
	    stat_buf.st_dev == server->path_device && stat_buf.st_ino == server->path_inode)
		unlink(server->config.path);
}
