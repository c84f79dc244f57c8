/* SPDX-License-Identifier: BSD-3-Clause */
/* Servers that want the same path at the same time. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness.h"

#define SERVERS 4
#define ROUNDS	100

struct place {
	char directory[64];
	char path[96];
	pthread_barrier_t barrier;
	atomic_int holders, most, unreachable, errors;
};

struct contender {
	struct place *place;
	struct test_device *device;
	struct uvf_server *server;
	pthread_t thread;
	int result;
	unsigned served;
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	strcpy(place->directory, "/tmp/uvfio-path-XXXXXX");
	assert_non_null(mkdtemp(place->directory));
	snprintf(place->path, sizeof(place->path), "%s/s", place->directory);
	pthread_barrier_init(&place->barrier, NULL, SERVERS);
	*state = place;
	return 0;
}

/* Nothing is left behind: no socket, no lock. */
static int teardown(void **state)
{
	struct place *place = *state;

	assert_int_equal(rmdir(place->directory), 0);
	pthread_barrier_destroy(&place->barrier);
	free(place);
	return 0;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ret;

	strcpy(address.sun_path, path);
	ret = connect(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	close(fd);
	return ret;
}

/* What a server that was killed leaves. */
static void leave_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(fd);
	assert_int_equal(connect_to(path), -ECONNREFUSED);
}

static int serve(struct contender *contender)
{
	struct uvf_server_config config = {.path = contender->place->path};

	return uvf_server_new(contender->device->dev, &config, &contender->server, NULL);
}

static void *serve_once(void *opaque)
{
	struct contender *contender = opaque;

	pthread_barrier_wait(&contender->place->barrier);
	contender->result = serve(contender);
	return NULL;
}

static void run(struct place *place, struct contender *contenders, void *(*main)(void *))
{
	for (size_t i = 0; i < SERVERS; i++) {
		contenders[i].place = place;
		assert_int_equal(pthread_create(&contenders[i].thread, NULL, main, &contenders[i]),
				 0);
	}
	for (size_t i = 0; i < SERVERS; i++)
		pthread_join(contenders[i].thread, NULL);
}

static void make_devices(struct contender *contenders)
{
	memset(contenders, 0, SERVERS * sizeof(*contenders));
	for (size_t i = 0; i < SERVERS; i++)
		contenders[i].device = test_device_new();
}

static void free_devices(struct contender *contenders)
{
	for (size_t i = 0; i < SERVERS; i++)
		test_device_free(contenders[i].device);
}

/* One gets it, all others are told, and the one can be reached. */
static void one_replaces_a_stale_socket(void **state)
{
	struct place *place = *state;
	struct contender contenders[SERVERS];

	make_devices(contenders);
	for (int round = 0; round < ROUNDS; round++) {
		struct contender *winner = NULL;

		leave_socket(place->path);
		run(place, contenders, serve_once);
		for (size_t i = 0; i < SERVERS; i++) {
			if (contenders[i].result) {
				assert_int_equal(contenders[i].result, -EADDRINUSE);
				continue;
			}
			assert_null(winner);
			winner = &contenders[i];
		}
		assert_non_null(winner);
		assert_int_equal(connect_to(place->path), 0);
		assert_int_equal(uvf_server_process(winner->server) >= 0, 1);
		uvf_server_free(winner->server);
		assert_int_equal(connect_to(place->path), -ENOENT);
	}
	free_devices(contenders);
}

/* Comes and goes. */
static void *serve_often(void *opaque)
{
	struct contender *contender = opaque;
	struct place *place = contender->place;

	pthread_barrier_wait(&place->barrier);
	for (int round = 0; round < ROUNDS; round++) {
		int ret = serve(contender), holders;

		if (ret == -EADDRINUSE)
			continue;
		if (ret) {
			place->errors++;
			break;
		}
		holders = ++place->holders;
		if (holders > place->most)
			place->most = holders;
		if (connect_to(place->path))
			place->unreachable++;
		contender->served++;
		place->holders--;
		uvf_server_free(contender->server);
	}
	return NULL;
}

static void never_two_at_once(void **state)
{
	struct place *place = *state;
	struct contender contenders[SERVERS];
	unsigned served = 0;

	make_devices(contenders);
	leave_socket(place->path);
	run(place, contenders, serve_often);
	for (size_t i = 0; i < SERVERS; i++)
		served += contenders[i].served;
	assert_true(served > 0);
	assert_int_equal(place->most, 1);
	assert_int_equal(place->unreachable, 0);
	assert_int_equal(place->errors, 0);
	free_devices(contenders);
}

/* ---- The lock ---- */

static void lock_path(const struct place *place, char *name, size_t size)
{
	snprintf(name, size, "%s.lock", place->path);
}

/* A lock file that a killed server left is nobody's. */
static void a_lock_left_behind(void **state)
{
	struct place *place = *state;
	struct contender contender = {.place = place, .device = test_device_new()};
	char name[128];
	int fd;

	lock_path(place, name, sizeof(name));
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(serve(&contender), 0);
	assert_int_equal(access(name, F_OK), -1);
	uvf_server_free(contender.server);
	test_device_free(contender.device);
}

/* What is no file of ours, or leads elsewhere, is not touched. */
static void no_lock_at_the_locks_name(void **state)
{
	struct place *place = *state;
	struct contender contender = {.place = place, .device = test_device_new()};
	char name[128];

	lock_path(place, name, sizeof(name));
	assert_int_equal(symlink("elsewhere", name), 0);
	assert_int_equal(serve(&contender), -ELOOP);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(mkfifo(name, 0600), 0);
	assert_int_equal(serve(&contender), -EPERM);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(mkdir(name, 0700), 0);
	assert_int_equal(serve(&contender), -EISDIR);
	assert_int_equal(rmdir(name), 0);
	if (!geteuid()) {
		int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

		assert_int_equal(fchown(fd, 1234, 1234), 0);
		close(fd);
		assert_int_equal(serve(&contender), -EPERM);
		assert_int_equal(unlink(name), 0);
	}
	test_device_free(contender.device);
}

#define PLACED(test)                               \
	{                                          \
#test, test, setup, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLACED(one_replaces_a_stale_socket),
		PLACED(never_two_at_once),
		PLACED(a_lock_left_behind),
		PLACED(no_lock_at_the_locks_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
