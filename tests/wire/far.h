/* SPDX-License-Identifier: BSD-3-Clause */
/* A model's device behind a server of its own, and the client's device that stands for it. */
#ifndef TESTS_WIRE_FAR_H
#define TESTS_WIRE_FAR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

struct far {
	char directory[64], path[96];
	struct uvf_device *model;
	struct uvf_server *server;
	struct uvf_device *dev; /* the client's */
};

static inline void far_open(struct far *far, const char *spec, bool no_twin)
{
	struct uvf_server_config config = {.path = far->path, .client_timeout_ms = 120000};
	struct uvf_client_config client = {
		.path = far->path,
		.timeout_ms = 120000,
		.no_twin_socket = no_twin,
	};
	struct uvf_error error = {""};

	*far = (struct far){.directory = "/tmp/uvfio-far-XXXXXX"};
	assert_non_null(mkdtemp(far->directory));
	strcat(strcpy(far->path, far->directory), "/s");
	if (uvf_model_create(spec, &far->model, &error) ||
	    uvf_server_new(far->model, &config, &far->server, &error) ||
	    uvf_server_start(far->server) || uvf_client_connect(&client, &far->dev, &error))
		fail_msg("%s: %s", spec, error.text);
}

/* The client's device must be closed. */
static inline void far_close(struct far *far)
{
	uvf_device_free(far->dev);
	uvf_server_free(far->server);
	uvf_device_free(far->model);
	assert_int_equal(rmdir(far->directory), 0);
}

/*
 * What a migration does for memory: the pages of [iova, iova + size) that the device has written
 * since the last call are copied. Returns how many.
 */
static inline unsigned far_copy_dirty(struct uvf_device *dev, uvf_iova_t iova, const uint8_t *from,
				      uint8_t *to, size_t size)
{
	uint64_t bytes = uvf_dirty_bitmap_size(size, 4096), *bitmap = calloc(1, bytes);
	unsigned copied = 0;

	assert_non_null(bitmap);
	assert_int_equal(uvf_device_logging_report(dev, iova, size, 4096, bitmap, bytes), 0);
	for (size_t page = 0; page < size / 4096; page++) {
		if (!(bitmap[page / 64] >> page % 64 & 1))
			continue;
		memcpy(to + page * 4096, from + page * 4096, 4096);
		copied++;
	}
	free(bitmap);
	return copied;
}

/* All that there is to read now goes to the other; how much. */
static inline uint64_t far_pass_state(struct uvf_device *from, struct uvf_device *to)
{
	static uint8_t piece[32768]; /* as QEMU */
	uint64_t passed = 0;
	ssize_t got;

	while ((got = uvf_migration_read(from, piece, sizeof(piece))) > 0) {
		assert_int_equal(uvf_migration_write(to, piece, (size_t)got), got);
		passed += (uint64_t)got;
	}
	assert_true(got == 0 || got == -ENOMSG);
	return passed;
}

#endif
