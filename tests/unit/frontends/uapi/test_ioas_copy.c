/* SPDX-License-Identifier: BSD-3-Clause */
/* Copies of mappings, and mappings of files. */
#include <errno.h>
#include <fcntl.h>

#include "ioas_rig.h"

#define RW UVF_PROT_RW

static void check_byte(const struct rig *rig, uint64_t iova, char expected)
{
	char byte = 0;

	assert_int_equal(uvf_attachment_read(rig->attachment, iova, &byte, 1), 0);
	assert_int_equal(byte, expected);
}

/* From the middle of one mapping to the middle of the next, of private memory and of a file. */
static void copies(void **unused)
{
	char *private = rig_pages(4);
	struct rig from, to;
	int fd;
	char *file = rig_file(4, &fd);

	rig_new(&from, NULL);
	rig_new(&to, NULL);
	for (unsigned i = 0; i < 4; i++) {
		private[i * PAGE] = (char)('0' + i);
		file[i * PAGE] = (char)('a' + i);
	}
	assert_int_equal(rig_map(&from, 0x10000, 4 * PAGE, RW, private), 0);
	assert_int_equal(rig_map(&from, 0x14000, 4 * PAGE, RW, file), 0);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0x100000, 4 * PAGE, RW, from.ioas, 0x12000), 0);
	check_byte(&to, 0x100000, '2');
	check_byte(&to, 0x101000, '3');
	check_byte(&to, 0x102000, 'a');
	check_byte(&to, 0x103000, 'b');
	/* Into itself. */
	assert_int_equal(uapi_ioas_copy(from.ioas, 0x20000, PAGE, RW, from.ioas, 0x17000), 0);
	check_byte(&from, 0x20000, 'd');
	/* The source may go. */
	assert_int_equal(rig_unmap(&from, 0, UINT64_MAX), 9 * PAGE);
	rig_free(&from);
	check_byte(&to, 0x100000, '2');
	check_byte(&to, 0x103000, 'b');
	/* Each mapping there is one here. */
	assert_true(uapi_ioas_cuts(to.ioas, 0x100000, 0x100fff));
	assert_int_equal(rig_unmap(&to, 0x100000, 0x101fff), 2 * PAGE);
	assert_int_equal(rig_unmap(&to, 0, UINT64_MAX), 2 * PAGE);
	rig_free(&to);
	munmap(private, 4 * PAGE);
	munmap(file, 4 * PAGE);
	close(fd);
}

static void refused_copies(void **unused)
{
	const struct uvf_run_config config = {.max_locked_memory = 4 * PAGE};
	char *at = rig_pages(4);
	struct rig from, to;

	rig_new(&from, NULL);
	rig_new(&to, &config);
	assert_int_equal(rig_map(&from, 0x10000, 2 * PAGE, UVF_PROT_READ, at), 0);
	assert_int_equal(rig_map(&from, 0x12000, 2 * PAGE, RW, at), 0);
	assert_int_equal(rig_map(&from, 0x15000, PAGE, RW, at), 0);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, 0, RW, from.ioas, 0x12000), -EINVAL);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, PAGE, 0, from.ioas, 0x12000), -EINVAL);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, PAGE, RW, from.ioas, 0x14000), -ENOENT);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, PAGE, RW, from.ioas, 0xf000), -ENOENT);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, 4 * PAGE, RW, from.ioas, 0x12000), -ENOENT);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, 2 * PAGE, RW, from.ioas, TOP_PAGE), -EOVERFLOW);
	assert_int_equal(uapi_ioas_copy(to.ioas, TOP_PAGE, 2 * PAGE, RW, from.ioas, 0x12000),
			 -EOVERFLOW);
	assert_int_equal(uapi_ioas_copy(to.ioas, 1, PAGE, RW, from.ioas, 0x12000), -EINVAL);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, PAGE, RW, from.ioas, 0x12001), -EINVAL);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, 1, RW, from.ioas, 0x12000), -EINVAL);
	/* What was mapped for reading is never written to. */
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, 2 * PAGE, RW, from.ioas, 0x11000), -EPERM);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, PAGE, UVF_PROT_WRITE, from.ioas, 0x11000),
			 -EPERM);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0, 2 * PAGE, UVF_PROT_READ, from.ioas, 0x11000),
			 0);
	assert_int_equal(uapi_ioas_copy(to.ioas, PAGE, PAGE, RW, from.ioas, 0x12000), -EEXIST);
	/* A copy for reading of what can be written: its copy can be written again. */
	assert_int_equal(uapi_ioas_copy(to.ioas, 0x2000, PAGE, RW, to.ioas, 0x1000), 0);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0x3000, PAGE, RW, to.ioas, 0), -EPERM);
	assert_int_equal(uapi_ioas_copy(to.ioas, 0x4000, 2 * PAGE, RW, from.ioas, 0x12000),
			 -ENOMEM);
	assert_int_equal(rig_stats(&to).bytes, 3 * PAGE);
	rig_free(&from);
	rig_free(&to);
	munmap(at, 4 * PAGE);
}

/* ---- Files ---- */

static void files(void **unused)
{
	char path[64], name[] = "/tmp/uvfio-ioas-XXXXXX";
	int fd, reader, pipes[2], disk;
	struct rig rig;
	char *at = rig_file(4, &fd);

	rig_new(&rig, NULL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0, 4 * PAGE, RW, fd, 0), 0);
	at[PAGE] = 'x';
	check_byte(&rig, PAGE, 'x');
	assert_int_equal(rig_stats(&rig).windows, 1);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x10000, PAGE, RW, fd, PAGE), 0);
	assert_int_equal(rig_stats(&rig).windows, 1);
	check_byte(&rig, 0x10000, 'x');
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x20000, 0, RW, fd, 0), -EINVAL);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x20000, PAGE, 0, fd, 0), -EINVAL);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x20000, PAGE, RW, fd, 1), -EINVAL);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x20000, PAGE, RW, fd, 4 * PAGE), -EINVAL);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x20000, 2 * PAGE, RW, fd, 3 * PAGE),
			 -EINVAL);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x20000, 2 * PAGE, RW, fd, TOP_PAGE),
			 -EOVERFLOW);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, PAGE, PAGE, RW, fd, 0), -EEXIST);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x20000, PAGE, RW, pipes[0], 0), -EINVAL);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x20000, PAGE, RW, reader, 0), -EPERM);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x20000, PAGE, UVF_PROT_READ, reader, 0), 0);
	check_byte(&rig, 0x20000, 0);
	/* Not memory, unless /tmp is. */
	disk = mkstemp(name);
	assert_true(disk >= 0);
	unlink(name);
	assert_int_equal(ftruncate(disk, PAGE), 0);
	if (uapi_ioas_map_file(rig.ioas, 0x30000, PAGE, RW, disk, 0))
		assert_int_equal(uapi_ioas_map_file(rig.ioas, 0x30000, PAGE, RW, disk, 0), -EINVAL);
	rig_free(&rig);
	munmap(at, 4 * PAGE);
	close(disk);
	close(fd);
	close(reader);
	close(pipes[0]);
	close(pipes[1]);
}

/* A file that mustn't be written to any more. */
static void sealed_file(void **unused)
{
	struct rig rig;
	int fd;
	char *at = rig_file(1, &fd);

	munmap(at, PAGE);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	rig_new(&rig, NULL);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0, PAGE, RW, fd, 0), -EPERM);
	assert_int_equal(uapi_ioas_map_file(rig.ioas, 0, PAGE, UVF_PROT_READ, fd, 0), 0);
	rig_free(&rig);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies),
		cmocka_unit_test(refused_copies),
		cmocka_unit_test(files),
		cmocka_unit_test(sealed_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
