/* SPDX-License-Identifier: BSD-3-Clause */
/* Copies of memory that is there, in part there and not there. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <uvfio/dma.h>

#include "base/guard.h"

#define PAGE 4096

/* Two pages of a file that has one. */
static char *half_a_file(void)
{
	int fd = memfd_create("guard", 0);
	char *at;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	close(fd);
	return at;
}

static void all_sizes(void **unused)
{
	unsigned char from[9000], to[9000];

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)(i * 7 + i / 256);
	for (size_t size = 0; size < 8200; size = size < 300 ? size + 1 : size + 97) {
		for (size_t shift = 0; shift < 3; shift++) {
			memset(to, 0xee, sizeof(to));
			assert_int_equal(uvf_guarded_copy(to + 8 + shift, from + 5, size), 0);
			assert_memory_equal(to + 8 + shift, from + 5, size);
			assert_int_equal(to[7 + shift], 0xee);
			assert_int_equal(to[8 + shift + size], 0xee);
		}
	}
}

static void faults(void **unused)
{
	char *at = half_a_file();
	char buf[2 * PAGE] = {0};

	uvf_guard_install(); /* cmocka has put its own there */
	for (size_t size = 1; size <= PAGE; size = size < 200 ? size + 1 : size + 61) {
		assert_int_equal(uvf_guarded_copy(buf, at + PAGE, size), -EFAULT);
		assert_int_equal(uvf_guarded_copy(at + PAGE, buf, size), -EFAULT);
		assert_int_equal(uvf_guarded_copy(buf, at + PAGE - size, size), 0);
		assert_int_equal(uvf_guarded_copy(at + PAGE - size, buf, size), 0);
		if (size > 1) {
			assert_int_equal(uvf_guarded_copy(buf, at + PAGE - size / 2, size),
					 -EFAULT);
			assert_int_equal(uvf_guarded_copy(at + PAGE - size / 2, buf, size),
					 -EFAULT);
		}
	}
	assert_int_equal(uvf_guarded_copy(buf, at, sizeof(buf)), -EFAULT);
	munmap(at, 2 * PAGE);
}

static void compare_and_swap(void **unused)
{
	char *at = half_a_file();
	uint64_t expected = 0;

	uvf_guard_install();
	assert_int_equal(uvf_guard_compare_and_swap(at, 8, &expected, 0x1122334455667788), 1);
	assert_int_equal(uvf_guard_compare_and_swap(at, 8, &expected, 1), 0);
	assert_int_equal(expected, 0x1122334455667788);
	expected = 0x55667788;
	assert_int_equal(uvf_guard_compare_and_swap(at, 4, &expected, 7), 1);
	expected = 9;
	assert_int_equal(uvf_guard_compare_and_swap(at, 4, &expected, 8), 0);
	assert_int_equal(expected, 7);
	assert_int_equal(uvf_guard_compare_and_swap(at + PAGE, 4, &expected, 8), -EFAULT);
	assert_int_equal(uvf_guard_compare_and_swap(at + PAGE, 8, &expected, 8), -EFAULT);
	munmap(at, 2 * PAGE);
}

/* What isn't ours ends as it would have without us. */
static int status_of(void (*child)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		child();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void touch(void)
{
	char *at = half_a_file();

	signal(SIGBUS, SIG_DFL);
	uvf_guard_install();
	*(volatile char *)(at + PAGE) = 1;
}

static void sent(void)
{
	signal(SIGBUS, SIG_DFL);
	uvf_guard_install();
	raise(SIGBUS);
}

static void unguarded(void **unused)
{
	int status = status_of(touch);

	/* A sanitizer reports and exits instead. */
	assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0);
	status = status_of(sent);
	assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unguarded), /* before the handler is there */
		cmocka_unit_test(all_sizes),
		cmocka_unit_test(faults),
		cmocka_unit_test(compare_and_swap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
