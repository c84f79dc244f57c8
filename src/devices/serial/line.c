/* SPDX-License-Identifier: BSD-3-Clause */
/* The line of a serial port: opening each kind, and what is the same for all. */
#include "devices/serial/line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "base/accept.h"
#include "base/bytes.h"

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- pty ---- */

/* A link that an earlier run left is replaced; anything else at that path is not touched. */
static int make_link(struct line *line, const char *target, const char *path,
		     struct uvf_error *error)
{
	struct stat there;

	if (!lstat(path, &there) && S_ISLNK(there.st_mode))
		unlink(path);
	if (symlink(target, path))
		return uvf_fail(error, -errno, "link %s: %s", path, strerror(errno));
	line->remove = strdup(path);
	return line->remove ? 0 : -ENOMEM;
}

static int open_pty(struct line *line, const char *unused, const char *link,
		    struct uvf_error *error)
{
	struct termios raw;
	char name[64];

	line->in = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (line->in < 0)
		return uvf_fail(error, -errno, "pty: %s", strerror(errno));
	if (grantpt(line->in) || unlockpt(line->in) || ptsname_r(line->in, name, sizeof(name)))
		return uvf_fail(error, -errno, "pty: %s", strerror(errno));
	line->keep = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (line->keep < 0)
		return uvf_fail(error, -errno, "%s: %s", name, strerror(errno));
	/* Every byte goes through as it is, and nothing is echoed back to the driver. */
	if (tcgetattr(line->keep, &raw))
		return uvf_fail(error, -errno, "%s: %s", name, strerror(errno));
	cfmakeraw(&raw);
	if (tcsetattr(line->keep, TCSANOW, &raw))
		return uvf_fail(error, -errno, "%s: %s", name, strerror(errno));
	line->out = fcntl(line->in, F_DUPFD_CLOEXEC, 0);
	if (line->out < 0)
		return uvf_fail(error, -errno, "%s: %s", name, strerror(errno));
	if (asprintf(&line->where, "pty %s", name) < 0) {
		line->where = NULL;
		return -ENOMEM;
	}
	return link ? make_link(line, name, link, error) : 0;
}

/* ---- unix ---- */

/* Removes a socket that nobody listens at any more. */
static void remove_stale_socket(const struct sockaddr_un *address)
{
	struct stat there;
	int fd;

	if (lstat(address->sun_path, &there) || !S_ISSOCK(there.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) &&
	    errno == ECONNREFUSED)
		unlink(address->sun_path);
	close(fd);
}

static int open_unix(struct line *line, const char *path, const char *link, struct uvf_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		return uvf_fail(error, -ENAMETOOLONG, "%s: a socket's path has at most %zu bytes",
				path, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	remove_stale_socket(&address);
	line->spare = uvf_accept_spare();
	line->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (line->spare < 0 || line->listener < 0 ||
	    bind(line->listener, (const struct sockaddr *)&address, sizeof(address)))
		return uvf_fail(error, -errno, "%s: %s", path, strerror(errno));
	line->remove = strdup(path);
	if (!line->remove)
		return -ENOMEM;
	if (listen(line->listener, 1))
		return uvf_fail(error, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

/* ---- file, stdio ---- */

static int open_file(struct line *line, const char *path, const char *link, struct uvf_error *error)
{
	line->out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
	if (line->out < 0)
		return uvf_fail(error, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

static int open_stdio(struct line *line, const char *unused, const char *link,
		      struct uvf_error *error)
{
	line->in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	line->out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	if (line->out < 0)
		return uvf_fail(error, -errno, "standard output: %s", strerror(errno));
	return 0;
}

/* ---- All ---- */

static const struct line_kind {
	const char *word; /* with ':' at its end where a path follows */
	int (*open)(struct line *line, const char *argument, const char *link,
		    struct uvf_error *error);
} kinds[] = {
	{"pty", open_pty},
	{"unix:", open_unix},
	{"file:", open_file},
	{"stdio", open_stdio},
};

/* The kind that @text is of, and what follows its word there; NULL where it is of none. */
static const struct line_kind *find_kind(const char *text, const char **argument)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(kinds); i++) {
		size_t length = strlen(kinds[i].word);
		bool takes_path = kinds[i].word[length - 1] == ':';

		if (strncmp(text, kinds[i].word, length) || takes_path != !!text[length])
			continue;
		*argument = text + length;
		return &kinds[i];
	}
	return NULL;
}

bool line_known(const char *text)
{
	const char *argument;

	return find_kind(text, &argument);
}

int line_open(struct line *line, const char *text, const char *link, struct uvf_error *error)
{
	const struct line_kind *kind;
	const char *argument;
	int ret;

	*line = (struct line){.in = -1, .out = -1, .listener = -1, .spare = -1, .keep = -1};
	kind = find_kind(text, &argument);
	if (!kind)
		return uvf_fail(error, -EINVAL, "expected " LINE_EXPECTS ", got '%s'", text);
	ret = kind->open(line, argument, link, error);
	if (!ret && !line->where) {
		line->where = strdup(text);
		ret = line->where ? 0 : -ENOMEM;
	}
	if (ret == -ENOMEM)
		uvf_fail(error, ret, "no memory");
	if (ret)
		line_close(line);
	return ret;
}

/* #syscalls: close */
void line_close(struct line *line)
{
	if (line->remove)
		unlink(line->remove);
	free(line->remove);
	free(line->where);
	line->remove = NULL;
	line->where = NULL;
	close_fd(&line->in);
	close_fd(&line->out);
	close_fd(&line->listener);
	close_fd(&line->spare);
	close_fd(&line->keep);
}

/* #syscalls: fcntl */
int line_accept(struct line *line)
{
	int fd = uvf_accept(line->listener, SOCK_CLOEXEC | SOCK_NONBLOCK, &line->spare);

	if (fd < 0)
		return fd;
	line->in = fd;
	line->out = fcntl(line->in, F_DUPFD_CLOEXEC, 0);
	if (line->out < 0) {
		close_fd(&line->in);
		return -EMFILE;
	}
	return 0;
}

/* #syscalls: close */
void line_hang_up(struct line *line)
{
	close_fd(&line->in);
	if (line->listener >= 0)
		close_fd(&line->out);
}

/* #syscalls: read */
ssize_t line_read(const struct line *line, void *bytes, size_t count)
{
	ssize_t got = read(line->in, bytes, count);

	return got < 0 ? -errno : got;
}

/* #syscalls: write */
ssize_t line_write(const struct line *line, const void *bytes, size_t count)
{
	ssize_t put = write(line->out, bytes, count);

	return put < 0 ? -errno : put;
}
