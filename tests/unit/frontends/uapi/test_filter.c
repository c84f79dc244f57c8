/* SPDX-License-Identifier: BSD-3-Clause */
/* What the seccomp filter decides of a call: the program is run here, as the kernel does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "frontends/uapi/launch.h"

#define REFUSED (SECCOMP_RET_ERRNO | ENOSYS)
#define FIRST	960

static uint32_t run(const struct sock_fprog *program, const struct seccomp_data *data)
{
	uint32_t accumulator = 0;

	for (size_t at = 0; at < program->len; at++) {
		const struct sock_filter *line = &program->filter[at];
		bool is_true = false;

		switch (line->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(line->k + 4 <= sizeof(*data));
			memcpy(&accumulator, (const char *)data + line->k, 4);
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			accumulator &= line->k;
			continue;
		case BPF_RET | BPF_K:
			return line->k;
		case BPF_JMP | BPF_JA:
			at += line->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			is_true = accumulator == line->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			is_true = accumulator >= line->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			is_true = accumulator > line->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			is_true = accumulator & line->k;
			break;
		default:
			fail_msg("instruction %#x", line->code);
		}
		at += is_true ? line->jt : line->jf;
	}
	fail_msg("the end of the program");
	return 0;
}

struct decision {
	long number;
	uint64_t arguments[6];
	uint32_t action;
};

#define NOTIFY SECCOMP_RET_USER_NOTIF
#define ALLOW  SECCOMP_RET_ALLOW
#define FAR    (1ULL << 40)
/* Descriptors are ints. */
#define DIRTY(fd) (0xdead00000000ULL | (fd))

static void decide(const struct sock_fprog *program, uint32_t arch,
		   const struct decision *decisions, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct seccomp_data data = {.nr = (int)decisions[i].number, .arch = arch};
		uint32_t action;

		memcpy(data.args, decisions[i].arguments, sizeof(data.args));
		action = run(program, &data);
		if (action != decisions[i].action)
			fail_msg("row %zu: call %ld: %#x", i, decisions[i].number, action);
	}
}

static void test_decisions(void **state)
{
	static const struct decision decisions[] = {
		{SYS_openat, {0}, NOTIFY},
		{SYS_open, {0}, NOTIFY},
		{SYS_openat2, {0}, NOTIFY},
		{SYS_creat, {0}, NOTIFY},
		{SYS_getpid, {0}, ALLOW},
		{SYS_close, {FIRST}, ALLOW},
		{SYS_execve, {0}, ALLOW},
		{SYS_ioctl, {3, VFIO_GET_API_VERSION}, NOTIFY},
		{SYS_ioctl, {3, VFIO_DEVICE_FEATURE | 0xc0000000 | 0x100000}, NOTIFY},
		{SYS_ioctl, {3, 0x5401}, ALLOW},
		{SYS_ioctl, {FIRST, 0x5401}, ALLOW},
		{SYS_pread64, {3, 0, 4, FAR - 1}, ALLOW},
		{SYS_pread64, {3, 0, 4, FAR}, NOTIFY},
		{SYS_pread64, {3, 0, 4, FAR + 1}, NOTIFY},
		{SYS_pread64, {3, 0, 4, 8 * FAR + 3}, NOTIFY},
		{SYS_pread64, {3, 0, 4, UINT64_MAX}, NOTIFY},
		{SYS_pread64, {3, 0, 4, UINT32_MAX}, ALLOW},
		{SYS_pread64, {3, 0, 4, 0}, ALLOW},
		{SYS_pread64, {FIRST, 0, 4, 0}, NOTIFY},
		{SYS_pread64, {FIRST + 63, 0, 4, 0}, NOTIFY},
		{SYS_pread64, {FIRST + 64, 0, 4, 0}, ALLOW},
		{SYS_pread64, {FIRST - 1, 0, 4, 0}, ALLOW},
		{SYS_pread64, {DIRTY(FIRST), 0, 4, 0}, NOTIFY},
		{SYS_pwrite64, {3, 0, 4, FAR}, NOTIFY},
		{SYS_preadv, {3, 0, 4, FAR}, NOTIFY},
		{SYS_pwritev2, {FIRST + 1, 0, 4, 1}, NOTIFY},
		{SYS_mmap, {0, 1, 1, 1, 3, FAR}, NOTIFY},
		{SYS_mmap, {0, 1, 1, 1, FIRST + 5, 0}, NOTIFY},
		{SYS_mmap, {0, 1, 1, 1, UINT64_MAX, 0}, ALLOW},
		{SYS_mmap, {0, 1, 1, 1, UINT32_MAX, 0}, ALLOW},
		{SYS_read, {3}, ALLOW},
		{SYS_read, {FIRST}, NOTIFY},
		{SYS_write, {DIRTY(FIRST + 7)}, NOTIFY},
		{SYS_readv, {FIRST + 7}, NOTIFY},
		{SYS_sendfile, {FIRST, 3}, NOTIFY},
		{SYS_sendfile, {3, FIRST}, NOTIFY},
		{SYS_sendfile, {3, 4}, ALLOW},
		{SYS_splice, {3, 0, FIRST}, NOTIFY},
		{SYS_fstat, {FIRST}, NOTIFY},
		{SYS_fstat, {3}, ALLOW},
		{SYS_newfstatat, {FIRST}, NOTIFY},
		{SYS_newfstatat, {(uint64_t)AT_FDCWD}, ALLOW},
		{SYS_newfstatat, {(uint32_t)AT_FDCWD}, ALLOW},
		{SYS_statx, {FIRST}, NOTIFY},
		{SYS_dup, {FIRST}, NOTIFY},
		{SYS_dup, {3}, ALLOW},
		{SYS_dup2, {FIRST, 3}, ALLOW},
		{SYS_dup2, {3, FIRST}, NOTIFY},
		{SYS_dup3, {3, FIRST, O_CLOEXEC}, NOTIFY},
		{SYS_fcntl, {FIRST, F_DUPFD, 0}, NOTIFY},
		{SYS_fcntl, {FIRST, F_DUPFD_CLOEXEC, 0}, NOTIFY},
		{SYS_fcntl, {FIRST, F_GETFL, 0}, NOTIFY},
		{SYS_fcntl, {FIRST, F_GETFD, 0}, ALLOW},
		{SYS_fcntl, {3, F_DUPFD, FIRST + 3}, NOTIFY},
		{SYS_fcntl, {3, F_DUPFD_CLOEXEC, FIRST + 3}, NOTIFY},
		{SYS_fcntl, {3, F_SETFL, FIRST + 3}, ALLOW},
		{SYS_fcntl, {3, F_DUPFD, 3}, ALLOW},
		{SYS_io_uring_setup, {0}, REFUSED},
	};
	/* As 32-bit programs number them. */
	static const struct decision other[] = {
		{5 /* open */, {0}, ALLOW},    {54 /* ioctl */, {3, VFIO_GET_API_VERSION}, REFUSED},
		{54, {3, 0x5401}, ALLOW},      {425 /* io_uring_setup */, {0}, REFUSED},
		{20 /* getpid */, {0}, ALLOW},
	};
	static const struct decision x32[] = {
		{0x40000000 | SYS_getpid, {0}, REFUSED},
		{0x40000000 | SYS_openat, {0}, REFUSED},
	};
	struct sock_fprog program = {0};

	assert_int_equal(uapi_filter_new(FIRST, &program), 0);
	decide(&program, AUDIT_ARCH_X86_64, decisions, sizeof(decisions) / sizeof(decisions[0]));
	decide(&program, AUDIT_ARCH_X86_64, x32, 2);
	decide(&program, AUDIT_ARCH_I386, other, sizeof(other) / sizeof(other[0]));
	decide(&program, AUDIT_ARCH_ARM, &(struct decision){1, {0}, REFUSED}, 1);
	uapi_filter_free(&program);
}

static void test_without_reserved(void **state)
{
	static const struct decision decisions[] = {
		{SYS_pread64, {FIRST, 0, 4, 0}, ALLOW},
		{SYS_pread64, {3, 0, 4, FAR}, NOTIFY},
		{SYS_read, {FIRST}, ALLOW},
		{SYS_fcntl, {3, F_DUPFD, 3}, ALLOW},
		{SYS_dup2, {3, UINT32_MAX - 62}, ALLOW},
		{SYS_openat, {0}, NOTIFY},
	};
	struct sock_fprog program = {0};

	assert_int_equal(uapi_filter_new(-1, &program), 0);
	decide(&program, AUDIT_ARCH_X86_64, decisions, sizeof(decisions) / sizeof(decisions[0]));
	uapi_filter_free(&program);
}

static void test_reserved(void **state)
{
	static const struct {
		rlim_t limit;
		int first;
	} rows[] = {{1024, 960}, {1000000, 960}, {1023, 896}, {300, 192},
		    {128, 64},	 {127, -1},	 {64, -1},    {3, -1}};
	struct rlimit before, limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		limit.rlim_cur = rows[i].limit < before.rlim_max ? rows[i].limit : before.rlim_max;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		assert_int_equal(uapi_reserved_first(), rows[i].first);
	}
	setrlimit(RLIMIT_NOFILE, &before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decisions),
		cmocka_unit_test(test_without_reserved),
		cmocka_unit_test(test_reserved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
