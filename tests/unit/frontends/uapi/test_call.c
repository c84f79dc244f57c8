/* SPDX-License-Identifier: BSD-3-Clause */
/* What a handler can do with a program's memory and descriptors: with this process's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/file.h"
#include "frontends/uapi/notify.h"
#include "frontends/uapi/uapi.h"

#define PAGE 4096

/* A page, and nothing after it. */
static char *last_page(void)
{
	char *pages =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(pages, MAP_FAILED);
	assert_int_equal(munmap(pages + PAGE, PAGE), 0);
	return pages;
}

static void test_memory(void **state)
{
	struct uapi_call call = {0};
	char *page = last_page();
	char buffer[16] = "";

	memcpy(page + PAGE - 8, "12345678", 8);
	assert_int_equal(uapi_call_read(&call, (uintptr_t)page + PAGE - 8, buffer, 8), 0);
	assert_memory_equal(buffer, "12345678", 8);
	assert_int_equal(uapi_call_read(&call, (uintptr_t)page + PAGE - 8, buffer, 9), -EFAULT);
	assert_int_equal(uapi_call_read(&call, 8, buffer, 1), -EFAULT);
	assert_int_equal(uapi_call_read(&call, UINT64_MAX, buffer, 1), -EFAULT);
	assert_int_equal(uapi_call_read(&call, 8, buffer, 0), 0);
	assert_int_equal(uapi_call_write(&call, (uintptr_t)page, "abc", 3), 0);
	assert_memory_equal(page, "abc", 3);
	assert_int_equal(uapi_call_write(&call, (uintptr_t)page + PAGE - 1, "abc", 3), -EFAULT);
	assert_int_equal(uapi_call_write(&call, 8, "abc", 0), 0);
	assert_int_equal(mprotect(page, PAGE, PROT_READ), 0);
	assert_int_equal(uapi_call_write(&call, (uintptr_t)page, "xyz", 3), -EFAULT);
	munmap(page, PAGE);
}

static void test_strings(void **state)
{
	struct uapi_call call = {0};
	char *page = last_page();
	char buffer[3 * PAGE];

	strcpy(page + PAGE - 4, "abc");
	assert_int_equal(
		uapi_call_read_string(&call, (uintptr_t)page + PAGE - 4, buffer, sizeof(buffer)),
		3);
	assert_string_equal(buffer, "abc");
	assert_int_equal(uapi_call_read_string(&call, (uintptr_t)page + PAGE - 4, buffer, 4), 3);
	assert_int_equal(uapi_call_read_string(&call, (uintptr_t)page + PAGE - 4, buffer, 3),
			 -ENAMETOOLONG);
	page[PAGE - 1] = 'd'; /* it has no end */
	assert_int_equal(
		uapi_call_read_string(&call, (uintptr_t)page + PAGE - 4, buffer, sizeof(buffer)),
		-EFAULT);
	assert_int_equal(uapi_call_read_string(&call, 8, buffer, sizeof(buffer)), -EFAULT);
	munmap(page, PAGE);
}

static void test_sized(void **state)
{
	struct {
		uint32_t argsz, flags, a, b;
	} from = {12, 1, 2, 3}, to;
	struct uapi_call call = {0};
	uint64_t address = (uintptr_t)&from;

	memset(&to, 0xff, sizeof(to));
	assert_int_equal(uapi_call_read_sized(&call, address, &to, 8, sizeof(to)), 0);
	assert_int_equal(to.a, 2);
	assert_int_equal(to.b, 0); /* past argsz */
	assert_int_equal(uapi_call_read_sized(&call, address, &to, 13, sizeof(to)), -EINVAL);
	assert_int_equal(uapi_call_read_sized(&call, 8, &to, 8, sizeof(to)), -EFAULT);
	from.argsz = 1000;
	assert_int_equal(uapi_call_read_sized(&call, address, &to, 8, sizeof(to)), 0);
	assert_int_equal(to.argsz, 1000);
	assert_int_equal(to.b, 3);
}

static void test_descriptors(void **state)
{
	struct uapi_call call = {0};
	struct stat one, two;
	int copy, placed;

	assert_int_equal(uapi_call_get_fd(&call, -1), -EBADF);
	assert_int_equal(uapi_call_get_fd(&call, 12345), -EBADF);
	copy = uapi_call_get_fd(&call, 0);
	assert_true(copy > 2);
	assert_int_equal(fcntl(copy, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fstat(0, &one), 0);
	assert_int_equal(fstat(copy, &two), 0);
	assert_int_equal(one.st_ino, two.st_ino);
	placed = uapi_call_place_fd(&call, copy, 0);
	assert_int_equal(fcntl(placed, F_GETFD), 0);
	close(placed);
	placed = uapi_call_place_fd(&call, copy, O_CLOEXEC);
	assert_int_equal(fcntl(placed, F_GETFD), FD_CLOEXEC);
	close(placed);
	close(copy);
	assert_int_equal(uapi_call_process(&call), getpid());
}

/* A listener that receives nothing. */
static int new_listener(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	const struct sock_fprog filter = {1, &allow};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			    &filter);
}

/* Its thread was killed, and another has its number: this one, which has called nothing. */
static int ask_after_the_end(void)
{
	struct uvf_run run = {.config = {0}};
	int listener = new_listener(), fd, number;
	struct uapi_call call = {.thread = gettid(), .id = 1};

	if (listener < 0 || uapi_notifier_new(&run, listener, 1000))
		return 2;
	call.notifier = run.notifier;
	number = dup(0);
	close(number);
	fd = uapi_call_get_fd(&call, 0);
	/* Nothing of it is left, either. */
	return fd != -EBADF || dup(0) != number;
}

static void test_gone(void **state)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(ask_after_the_end());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Another process's memory, as tests of address spaces have it. */
static void test_process(void **state)
{
	static char text[16];
	struct uapi_call call = {0};
	char buffer[16];
	int status;
	pid_t pid;

	strcpy(text, "parent");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		strcpy(text, "child");
		raise(SIGSTOP);
		_exit(strcmp(text, "test") != 0);
	}
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	call.process = pid;
	assert_int_equal(uapi_call_read_string(&call, (uintptr_t)text, buffer, sizeof(buffer)), 5);
	assert_string_equal(buffer, "child");
	assert_int_equal(uapi_call_write(&call, (uintptr_t)text, "test", 5), 0);
	assert_string_equal(text, "parent");
	assert_int_equal(uapi_call_process(&call), pid);
	kill(pid, SIGCONT);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory), cmocka_unit_test(test_strings),
		cmocka_unit_test(test_sized),  cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_gone),   cmocka_unit_test(test_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
