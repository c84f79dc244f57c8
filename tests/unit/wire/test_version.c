/* SPDX-License-Identifier: BSD-3-Clause */
/* What VERSION says, there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "wire/wire.h"

static void there_and_back(void **state)
{
	const struct uvf_wire_capabilities given = {
		.max_msg_fds = 253,
		.max_data_xfer_size = 64 << 20,
		.max_dma_maps = UINT32_MAX,
		.page_sizes = 1ULL << 63 | 0x40201000,
		.write_multiple = true,
		.twin_socket = true,
		.twin_fd_index = 3,
		.migration = true,
		.migration_page_size = 65536,
		.max_bitmap_size = 1ULL << 40,
	};
	struct uvf_wire_capabilities back;
	char text[UVF_WIRE_VERSION_MAX];
	int size = uvf_wire_capabilities_encode(&given, text, sizeof(text));

	assert_int_equal(size, strlen(text) + 1);
	assert_int_equal(uvf_wire_capabilities_decode(text, (size_t)size, &back), 0);
	assert_int_equal(back.max_msg_fds, given.max_msg_fds);
	assert_int_equal(back.max_data_xfer_size, given.max_data_xfer_size);
	assert_int_equal(back.max_dma_maps, given.max_dma_maps);
	assert_true(back.page_sizes == given.page_sizes);
	assert_true(back.write_multiple);
	assert_true(back.twin_socket);
	assert_int_equal(back.twin_fd_index, 3);
	assert_true(back.migration);
	assert_int_equal(back.migration_page_size, 65536);
	assert_true(back.max_bitmap_size == given.max_bitmap_size);
}

static void defaults_are_the_specifications(void **state)
{
	struct uvf_wire_capabilities capabilities;

	assert_int_equal(uvf_wire_capabilities_decode(NULL, 0, &capabilities), 0);
	assert_int_equal(capabilities.max_msg_fds, 1);
	assert_int_equal(capabilities.max_data_xfer_size, 1048576);
	assert_int_equal(capabilities.max_dma_maps, 65535);
	assert_int_equal(capabilities.page_sizes, 4096);
	assert_false(capabilities.write_multiple);
	assert_false(capabilities.twin_socket);
	assert_int_equal(capabilities.twin_fd_index, -1);
	assert_false(capabilities.migration);
	assert_int_equal(capabilities.migration_page_size, 4096);
	assert_int_equal(capabilities.max_bitmap_size, 256 << 20);
}

static void too_small_a_buffer(void **state)
{
	const struct uvf_wire_capabilities given = {.max_msg_fds = 1};
	char text[16];

	assert_int_equal(uvf_wire_capabilities_encode(&given, text, sizeof(text)), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(defaults_are_the_specifications),
		cmocka_unit_test(too_small_a_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
