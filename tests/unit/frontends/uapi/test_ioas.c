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

/* A device that pins gets an address here, of the file that the program has mapped. */
static void shared_memory_is_mapped_here(void **unused)
{
	int fd = memfd_create("shared", MFD_CLOEXEC);
	struct uvf_address_space_stats stats;
	struct uvf_pin pin;
	struct iovec iov;
	struct rig rig;
	char *at;

	assert_int_equal(ftruncate(fd, 8 * PAGE), 0);
	at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 2 * PAGE);
	assert_ptr_not_equal(at, MAP_FAILED);
	rig_new(&rig, NULL);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rig_map(&rig, i * 2 * PAGE, PAGE, UVF_PROT_RW, at + i * PAGE), 0);
	uvf_address_space_stats(uapi_ioas_space(rig.ioas), &stats);
	assert_int_equal(stats.windows, 1);
	assert_int_equal(
		uvf_attachment_pin(rig.attachment, 2 * PAGE, 8, UVF_PROT_RW, &pin, &iov, 1), 1);
	strcpy(iov.iov_base, "device");
	assert_string_equal(at + PAGE, "device");
	uvf_attachment_unpin(&pin);
	rig_free(&rig);
	munmap(at, 4 * PAGE);
	close(fd);
}

static void what_is_not_there_is_refused(void **unused)
{
	char *at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rig rig;

	rig_new(&rig, NULL);
	assert_int_equal(mprotect(at + PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(at + 2 * PAGE, PAGE, PROT_NONE), 0);
	assert_int_equal(munmap(at + 3 * PAGE, PAGE), 0);
	assert_int_equal(rig_map(&rig, 0, 2 * PAGE, UVF_PROT_RW, at), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, 3 * PAGE, UVF_PROT_READ, at), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, PAGE, UVF_PROT_READ, at + 2 * PAGE), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, PAGE, UVF_PROT_READ, at + 3 * PAGE), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, 2 * PAGE, UVF_PROT_READ, at), 0);
	assert_int_equal(rig_map(&rig, 2 * PAGE, PAGE, UVF_PROT_RW, at), 0);
	rig_free(&rig);
	munmap(at, 3 * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mapping_is_the_programs_memory),
		cmocka_unit_test(shared_memory_is_mapped_here),
		cmocka_unit_test(what_is_not_there_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
