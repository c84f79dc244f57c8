/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A control socket: listens, cuts what clients send into lines, sends the answers. One thread,
 * which never waits for a client: one that doesn't read its answers is disconnected.
 */
#include "cli/control.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/accept.h"
#include "cli/commands.h"

/* After which a client that couldn't be accepted is looked at again. */
#define RETRY_MS 100

struct client {
	int fd; /* -1: a free row */
	size_t have;
	char line[CONTROL_MAX_LINE];
};

struct control {
	struct sockaddr_un address;
	const struct faults *faults;
	struct uvf_run *run;
	struct moves *moves; /* NULL: nothing here can be moved */
	int listener, stop;
	int spare; /* base/accept.h */
	bool started;
	pthread_t thread;
	struct client clients[CONTROL_MAX_CLIENTS];
};

/* ---- The socket ---- */

/*
 * Whether who listened is gone. What a killed process had forked may be dying still, with a copy of
 * its socket.
 */
static bool is_orphaned(int fd)
{
	struct ucred listener;
	socklen_t size = sizeof(listener);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &size) && listener.pid > 0 &&
	       kill(listener.pid, 0) && errno == ESRCH;
}

/* Whether a socket that nobody listens at is in the way. */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat there;
	bool stale;
	int fd;

	if (lstat(address->sun_path, &there) || !S_ISSOCK(there.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		stale = errno == ECONNREFUSED;
	else
		stale = is_orphaned(fd);
	close(fd);
	return stale;
}

static int bind_socket(const struct control *control)
{
	const struct sockaddr *address = (const struct sockaddr *)&control->address;

	/* A socket is made with the rights that its descriptor has. */
	if (fchmod(control->listener, 0600))
		return -errno;
	if (!bind(control->listener, address, sizeof(control->address)))
		return 0;
	if (errno != EADDRINUSE || !is_stale(&control->address))
		return -errno;
	unlink(control->address.sun_path);
	return bind(control->listener, address, sizeof(control->address)) ? -errno : 0;
}

static int listen_at(struct control *control, const char *path, struct uvf_error *error)
{
	int ret;

	if (strlen(path) >= sizeof(control->address.sun_path))
		return uvf_fail(error, -ENAMETOOLONG, "%s: %s", path, strerror(ENAMETOOLONG));
	if (!path[0])
		return uvf_fail(error, -EINVAL, "expected PATH, got ''");
	control->address.sun_family = AF_UNIX;
	memcpy(control->address.sun_path, path, strlen(path) + 1);
	control->stop = eventfd(0, EFD_CLOEXEC);
	control->spare = uvf_accept_spare();
	control->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (control->stop < 0 || control->spare < 0 || control->listener < 0)
		return uvf_fail(error, -errno, "%s: %s", path, strerror(errno));
	ret = bind_socket(control);
	if (ret) {
		control->address.sun_path[0] = '\0';
		return uvf_fail(error, ret, "%s: %s", path, strerror(-ret));
	}
	if (listen(control->listener, CONTROL_MAX_CLIENTS))
		return uvf_fail(error, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

int control_new(const char *path, const struct faults *faults, struct control **controlp,
		struct uvf_error *error)
{
	struct control *control = calloc(1, sizeof(*control));
	int ret;

	if (!control)
		return uvf_fail(error, -ENOMEM, "no memory");
	control->faults = faults;
	control->listener = control->stop = control->spare = -1;
	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++)
		control->clients[i].fd = -1;
	ret = listen_at(control, path, error);
	if (ret)
		control_free(control);
	else
		*controlp = control;
	return ret;
}

/* ---- Clients ---- */

static void disconnect(struct client *client)
{
	close(client->fd);
	client->fd = -1;
	client->have = 0;
}

/* False: there is one that can't be accepted now. #syscalls: close */
static bool accept_client(struct control *control)
{
	int fd = uvf_accept(control->listener, SOCK_CLOEXEC | SOCK_NONBLOCK, &control->spare);

	if (fd < 0)
		return fd == -EMFILE || (fd == -EAGAIN && control->spare >= 0);
	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++) {
		if (control->clients[i].fd >= 0)
			continue;
		control->clients[i].fd = fd;
		return true;
	}
	close(fd);
	return true;
}

/* All of it, or the client is too slow. *@given: the connection is a mover's. #syscalls: sendto */
static bool answer(const struct control *control, const struct client *client, const char *line,
		   bool *given)
{
	const struct commands_place place = {
		.faults = control->faults,
		.run = control->run,
		.moves = control->moves,
		.connection = client->fd,
	};
	struct json_object *object = commands_run(&place, line, given);
	const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE);
	size_t length = strlen(text);
	bool sent = send(client->fd, text, length, MSG_NOSIGNAL | MSG_MORE) == (ssize_t)length &&
		    send(client->fd, "\n", 1, MSG_NOSIGNAL) == 1;

	json_object_put(object);
	return sent;
}

/* Every whole line that is there. False: the client goes. */
static bool answer_lines(const struct control *control, struct client *client)
{
	char *begin = client->line, *end;
	bool given = false;

	while ((end = memchr(begin, '\n', client->have - (size_t)(begin - client->line)))) {
		*end = '\0';
		/* A byte 0 inside would end the line early. */
		if (strlen(begin) != (size_t)(end - begin) ||
		    !answer(control, client, begin, &given) || given)
			return false;
		begin = end + 1;
	}
	client->have -= (size_t)(begin - client->line);
	memmove(client->line, begin, client->have);
	return client->have < sizeof(client->line);
}

/* #syscalls: recvfrom */
static void serve_client(const struct control *control, struct client *client)
{
	ssize_t got = recv(client->fd, client->line + client->have,
			   sizeof(client->line) - client->have, 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got > 0)
		client->have += (size_t)got;
	if (got <= 0 || !answer_lines(control, client))
		disconnect(client);
}

/* #syscalls: poll */
static void *control_thread(void *opaque)
{
	struct control *control = opaque;
	struct pollfd fds[2 + CONTROL_MAX_CLIENTS];
	bool accepts = true;

	for (;;) {
		fds[0] = (struct pollfd){.fd = control->stop, .events = POLLIN};
		fds[1] = (struct pollfd){.fd = accepts ? control->listener : -1, .events = POLLIN};
		for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++)
			fds[2 + i] =
				(struct pollfd){.fd = control->clients[i].fd, .events = POLLIN};
		if (poll(fds, 2 + CONTROL_MAX_CLIENTS, accepts ? -1 : RETRY_MS) < 0)
			continue;
		if (fds[0].revents)
			return NULL;
		for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++)
			if (fds[2 + i].revents)
				serve_client(control, &control->clients[i]);
		accepts = !fds[1].revents || accept_client(control);
	}
}

void control_set_moves(struct control *control, struct moves *moves)
{
	control->moves = moves;
}

int control_start(struct control *control, struct uvf_run *run)
{
	int ret;

	control->run = run;
	ret = -pthread_create(&control->thread, NULL, control_thread, control);
	control->started = !ret;
	return ret;
}

/* #syscalls: write unlink */
void control_free(struct control *control)
{
	uint64_t one = 1;

	if (!control)
		return;
	if (control->started) {
		while (write(control->stop, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_join(control->thread, NULL);
	}
	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++)
		if (control->clients[i].fd >= 0)
			disconnect(&control->clients[i]);
	if (control->listener >= 0)
		close(control->listener);
	if (control->stop >= 0)
		close(control->stop);
	if (control->spare >= 0)
		close(control->spare);
	if (control->address.sun_path[0])
		unlink(control->address.sun_path);
	free(control);
}
