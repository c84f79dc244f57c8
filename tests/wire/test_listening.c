/* SPDX-License-Identifier: BSD-3-Clause */
/* A server and its surroundings: its path, its process's descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"

/* A file that is no socket is somebody's, not a server's that has gone. */
static void a_file_in_the_way(void **state)
{
	char path[] = "/tmp/uvfio-file-XXXXXX", text[16] = "";
	int fd = mkstemp(path);
	struct test_device *device = test_device_new();
	struct uvf_server_config config = {.path = path};
	struct uvf_server *server;

	assert_int_equal(write(fd, "precious", 8), 8);
	close(fd);
	assert_int_equal(uvf_server_new(device->dev, &config, &server, NULL), -EADDRINUSE);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text)), 8);
	assert_string_equal(text, "precious");
	close(fd);
	unlink(path);
	test_device_free(device);
}

/* With none left, not even the spare one's place can be had: another thread may have taken it. */
static void no_descriptors_left(void **state)
{
	struct harness *h = *state;
	struct rlimit limit, few;
	int second = harness_connect(h);
	struct reply reply;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = (struct rlimit){3, limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	alarm(20);
	assert_int_equal(uvf_server_process(h->server), 0);
	assert_int_equal(uvf_server_process(h->server), 0);
	alarm(0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	h->client = harness_connect(h);
	close(second);
	harness_step(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_in_the_way),
		cmocka_unit_test_setup_teardown(no_descriptors_left, harness_setup_server,
						harness_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
