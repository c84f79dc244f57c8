/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NBD servers for tests: real ones, nbdkit and qemu-nbd, on unix sockets in a directory of their
 * own, which can be killed and started again. They end with the test, however that ends.
 */
#ifndef NVME_NBD_SERVER_H
#define NVME_NBD_SERVER_H

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SERVER_ARGUMENTS 32

struct server {
	char directory[32], disk[64], socket[64], log[64], other[64], uri[96];
	uint16_t port; /* or 0: at the socket */
	char port_text[8];
	pid_t pid;
	const char *arguments[SERVER_ARGUMENTS];
};

static inline void server_moment(void)
{
	const struct timespec moment = {.tv_nsec = 2000000};

	nanosleep(&moment, NULL);
}

static inline void server_disk_size(struct server *server, off_t size)
{
	int fd = open(server->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static inline void server_make(struct server *server, off_t size)
{
	memset(server, 0, sizeof(*server));
	strcpy(server->directory, "/tmp/uvfio-nbd-XXXXXX");
	assert_non_null(mkdtemp(server->directory));
	snprintf(server->disk, sizeof(server->disk), "%s/disk", server->directory);
	snprintf(server->socket, sizeof(server->socket), "%s/socket", server->directory);
	snprintf(server->log, sizeof(server->log), "%s/log", server->directory);
	snprintf(server->other, sizeof(server->other), "%s/other", server->directory);
	snprintf(server->uri, sizeof(server->uri), "nbd+unix:///?socket=%s", server->socket);
	if (size)
		server_disk_size(server, size);
}

static inline bool server_answers(const struct server *server)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct sockaddr_in loopback = {.sin_family = AF_INET,
				       .sin_port = htons(server->port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int sock = socket(server->port ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool answers;

	strcpy(local.sun_path, server->socket);
	answers = !connect(sock,
			   server->port ? (struct sockaddr *)&loopback : (struct sockaddr *)&local,
			   server->port ? sizeof(loopback) : sizeof(local));
	close(sock);
	return answers;
}

/* Again with the arguments of the last time. What doesn't start is ended by the test's limit. */
static inline void server_start_again(struct server *server)
{
	pid_t parent = getpid();

	unlink(server->socket);
	server->pid = fork();
	assert_true(server->pid >= 0);
	if (!server->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		execvp(server->arguments[0], (char *const *)server->arguments);
		_exit(127);
	}
	while (!server_answers(server)) {
		assert_int_equal(waitpid(server->pid, NULL, WNOHANG), 0);
		server_moment();
	}
}

/* nbdkit ARGUMENT... with a NULL at the end. */
static inline void server_start(struct server *server, const char *const *arguments)
{
	size_t count = 0;

	server->arguments[count++] = "nbdkit";
	server->arguments[count++] = "-f";
	server->arguments[count++] = server->port ? "-p" : "-U";
	server->arguments[count++] = server->port ? server->port_text : server->socket;
	while (*arguments)
		server->arguments[count++] = *arguments++;
	server->arguments[count] = NULL;
	server_start_again(server);
}
#define SERVER_START(server, ...) server_start((server), (const char *const[]){__VA_ARGS__, NULL})

/* At a port of the loopback from now on; one that was free a moment ago. */
static inline void server_use_port(struct server *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(sock, (struct sockaddr *)&address, size), 0);
	assert_int_equal(getsockname(sock, (struct sockaddr *)&address, &size), 0);
	close(sock);
	server->port = ntohs(address.sin_port);
	snprintf(server->port_text, sizeof(server->port_text), "%u", server->port);
	snprintf(server->uri, sizeof(server->uri), "nbd://127.0.0.1:%u/name", server->port);
}

static inline void server_start_qemu(struct server *server)
{
	static const char *const arguments[] = {"qemu-nbd", "-t", "-f",	       "raw",
						"-e",	    "8",  "--discard", "unmap"};
	size_t count = sizeof(arguments) / sizeof(arguments[0]);

	memcpy(server->arguments, arguments, sizeof(arguments));
	server->arguments[count++] = "-k";
	server->arguments[count++] = server->socket;
	server->arguments[count++] = server->disk;
	server->arguments[count] = NULL;
	server_start_again(server);
}

static inline void server_kill(struct server *server)
{
	if (!server->pid)
		return;
	kill(server->pid, SIGKILL);
	waitpid(server->pid, NULL, 0);
	server->pid = 0;
}

/* None of its threads does anything when this returns. */
static inline void server_freeze(struct server *server)
{
	int status;

	kill(server->pid, SIGSTOP);
	assert_int_equal(waitpid(server->pid, &status, WUNTRACED), server->pid);
	assert_true(WIFSTOPPED(status));
}

static inline void server_remove(struct server *server)
{
	server_kill(server);
	unlink(server->disk);
	unlink(server->socket);
	unlink(server->log);
	unlink(server->other);
	rmdir(server->directory);
}

/* Lines of nbdkit's log in which both words are. */
static inline unsigned server_logged(const struct server *server, const char *word,
				     const char *other)
{
	FILE *file = fopen(server->log, "re");
	unsigned count = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		count += strstr(line, word) && strstr(line, other);
	if (file)
		fclose(file);
	return count;
}

/* Without the servers there is nothing to test with. */
static inline bool server_there(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/usr/bin/%s", name);
	if (!access(path, X_OK))
		return true;
	snprintf(path, sizeof(path), "/usr/sbin/%s", name);
	return !access(path, X_OK);
}

#endif
