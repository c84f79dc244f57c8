/* SPDX-License-Identifier: BSD-3-Clause */
/* A server and its surroundings: its path. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_in_the_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
