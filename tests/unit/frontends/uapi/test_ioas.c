/* SPDX-License-Identifier: BSD-3-Clause */
/* Address spaces of the program: what is mapped, refused and unmapped. */
#include <errno.h>

#include "ioas_rig.h"

static char memory[16 * PAGE] __attribute__((aligned(4096)));

static void a_mapping_is_the_programs_memory(void **unused)
{
	struct rig rig;
	uint64_t unmapped;
	char buf[16];

	rig_new(&rig, NULL);
	assert_int_equal(rig_map(&rig, 0x10000, 2 * PAGE, UVF_PROT_RW, memory), 0);
	strcpy(memory + PAGE - 2, "across");
	assert_int_equal(uvf_attachment_read(rig.attachment, 0x10000 + PAGE - 2, buf, 7), 0);
	assert_string_equal(buf, "across");
	assert_int_equal(uvf_attachment_write(rig.attachment, 0x10000, "written", 8), 0);
	assert_string_equal(memory, "written");
	assert_int_equal(uapi_ioas_unmap(rig.ioas, 0, UINT64_MAX, &unmapped), 0);
	assert_int_equal(unmapped, 2 * PAGE);
	assert_int_equal(uvf_attachment_read(rig.attachment, 0x10000, buf, 7), -EFAULT);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mapping_is_the_programs_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
