/* SPDX-License-Identifier: BSD-3-Clause */
/* Which paths are ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frontends/uapi/paths.h"

static void test_nodes(void **state)
{
	static const struct {
		const char *path;
		bool is_node;
		uint64_t number;
	} rows[] = {
		{"/dev/vfio/vfio", true, 0},
		{"/dev/iommu", true, 0},
		{"/dev/vfio/0", true, 0},
		{"/dev/vfio/17", true, 17},
		{"/dev/vfio/999999999", true, 999999999},
		{"/dev/vfio/devices/vfio0", true, 0},
		{"/dev/vfio/devices/vfio12", true, 12},
		{"/dev/vfio/devices/vfio", false, 0},
		{"/dev/vfio/devices/vfio01", false, 0},
		{"/dev/vfio/devices", false, 0},
		{"/dev/vfio/", false, 0},
		{"/dev/vfio", false, 0},
		{"/dev/vfio/01", false, 0},
		{"/dev/vfio/-1", false, 0},
		{"/dev/vfio/+1", false, 0},
		{"/dev/vfio/1x", false, 0},
		{"/dev/vfio/18446744073709551617", false, 0},
		{"/dev/vfio/vfio2", false, 0},
		{"/dev/iommu0", false, 0},
		{"/dev/vfiox", false, 0},
		{"", false, 0},
		{"/", false, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t number = 0;
		bool found = uapi_node_find(rows[i].path, &number) != NULL;

		if (found != rows[i].is_node || (found && number != rows[i].number))
			fail_msg("%s", rows[i].path);
	}
}

static void test_names(void **state)
{
	static const char *const may[] = {"vfio", "x/vfio", "/a/b/iommu", "7", "../7", "vfio3"};
	static const char *const cannot[] = {"",       "/",  "passwd", "vfio/", "x/7/",
					     "vfio/x", "..", ".",      "07",	"vfiox"};

	for (size_t i = 0; i < sizeof(may) / sizeof(may[0]); i++)
		if (!uapi_path_may_be_node(may[i]))
			fail_msg("%s", may[i]);
	for (size_t i = 0; i < sizeof(cannot) / sizeof(cannot[0]); i++)
		if (uapi_path_may_be_node(cannot[i]))
			fail_msg("%s", cannot[i]);
}

static void test_plain(void **state)
{
	static const char *const plain[] = {"/a", "/dev/vfio/vfio", "/a.b/..c/c..", "/.../x"};
	static const char *const others[] = {"",      "/",	"a",	   "a/b",   "/a/",  "//a",
					     "/a//b", "/a/./b", "/a/../b", "/a/..", "/a/.", "/./a"};

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (!uapi_path_is_plain(plain[i]))
			fail_msg("%s", plain[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (uapi_path_is_plain(others[i]))
			fail_msg("%s", others[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
