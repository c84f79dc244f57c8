/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The seccomp filter: which of the program's calls come to the supervisor.
 *
 * A filter sees numbers only, so each row says what a call's arguments have to look like if it is
 * for us. Most calls don't need one: a VFIO file's ioctls have the type ';', its regions lie at
 * offsets from 1 << 40 up. What is left (read(), dup(), small offsets) is told by the descriptor,
 * if it is one of the reserved numbers.
 *
 * Calls of 32-bit programs are let through, but VFIO's ioctls, which fail with ENOSYS: they find no
 * VFIO here. Calls of the x32 kind all fail with ENOSYS.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontends/uapi/launch.h"

enum condition {
	ALWAYS,
	VFIO_IOCTL,    /* the argument is an ioctl command of type ';' */
	REGION_OFFSET, /* is 1 << 40 or more */
	RESERVED,      /* is a reserved descriptor */
	EQUALS,
};

/* What has to be true of one argument. */
struct term {
	enum condition condition;
	unsigned argument;
	uint64_t value; /* EQUALS */
};

/* A call is sent to the supervisor if all terms of any of its rows are true. */
struct rule {
	int number;
	struct term terms[2];
};

#define FD_ARGUMENT(call, argument)                \
	{                                          \
		SCMP_SYS(call),                    \
		{                                  \
			{                          \
				RESERVED, argument \
			}                          \
		}                                  \
	}
#define OFFSET_ARGUMENT(call, argument)                 \
	{                                               \
		SCMP_SYS(call),                         \
		{                                       \
			{                               \
				REGION_OFFSET, argument \
			}                               \
		}                                       \
	}

static const struct rule rules[] = {
	{SCMP_SYS(open)},
	{SCMP_SYS(openat)},
	{SCMP_SYS(openat2)},
	{SCMP_SYS(creat)},
	{SCMP_SYS(ioctl), {{VFIO_IOCTL, 1}}},
	OFFSET_ARGUMENT(mmap, 5),
	OFFSET_ARGUMENT(pread64, 3),
	OFFSET_ARGUMENT(pwrite64, 3),
	OFFSET_ARGUMENT(preadv, 3),
	OFFSET_ARGUMENT(pwritev, 3),
	OFFSET_ARGUMENT(preadv2, 3),
	OFFSET_ARGUMENT(pwritev2, 3),
	FD_ARGUMENT(mmap, 4),
	FD_ARGUMENT(pread64, 0),
	FD_ARGUMENT(pwrite64, 0),
	FD_ARGUMENT(preadv, 0),
	FD_ARGUMENT(pwritev, 0),
	FD_ARGUMENT(preadv2, 0),
	FD_ARGUMENT(pwritev2, 0),
	FD_ARGUMENT(read, 0),
	FD_ARGUMENT(write, 0),
	FD_ARGUMENT(readv, 0),
	FD_ARGUMENT(writev, 0),
	FD_ARGUMENT(sendfile, 0),
	FD_ARGUMENT(sendfile, 1),
	FD_ARGUMENT(splice, 0),
	FD_ARGUMENT(splice, 2),
	FD_ARGUMENT(fstat, 0),
	FD_ARGUMENT(newfstatat, 0),
	FD_ARGUMENT(statx, 0),
	FD_ARGUMENT(dup, 0),
	FD_ARGUMENT(dup2, 1),
	FD_ARGUMENT(dup3, 1),
	{SCMP_SYS(fcntl), {{RESERVED, 0}, {EQUALS, 1, F_DUPFD}}},
	{SCMP_SYS(fcntl), {{RESERVED, 0}, {EQUALS, 1, F_DUPFD_CLOEXEC}}},
	{SCMP_SYS(fcntl), {{RESERVED, 0}, {EQUALS, 1, F_GETFL}}},
	{SCMP_SYS(fcntl), {{EQUALS, 1, F_DUPFD}, {RESERVED, 2}}},
	{SCMP_SYS(fcntl), {{EQUALS, 1, F_DUPFD_CLOEXEC}, {RESERVED, 2}}},
};

/* False: nothing can be so. */
static bool comparison(const struct term *term, int reserved_first, struct scmp_arg_cmp *compare)
{
	compare->arg = term->argument;
	switch (term->condition) {
	case VFIO_IOCTL:
		compare->op = SCMP_CMP_MASKED_EQ;
		compare->datum_a = 0xff00;
		compare->datum_b = ';' << 8;
		return true;
	case REGION_OFFSET:
		compare->op = SCMP_CMP_GE;
		compare->datum_a = 1ULL << 40;
		return true;
	case RESERVED:
		/* Descriptors are ints: what the upper half holds means nothing. */
		compare->op = SCMP_CMP_MASKED_EQ;
		compare->datum_a = UINT32_MAX & ~(uint64_t)(UAPI_RESERVED_FDS - 1);
		compare->datum_b = (uint64_t)reserved_first;
		return reserved_first >= 0;
	case EQUALS:
		compare->op = SCMP_CMP_MASKED_EQ;
		compare->datum_a = UINT32_MAX;
		compare->datum_b = term->value;
		return true;
	case ALWAYS:
		break;
	}
	return false;
}

static int add_rules(scmp_filter_ctx filter, int reserved_first)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		struct scmp_arg_cmp compare[2];
		unsigned count = 0;
		bool possible = true;
		int result;

		for (size_t j = 0; j < 2 && rules[i].terms[j].condition != ALWAYS; j++)
			possible &=
				comparison(&rules[i].terms[j], reserved_first, &compare[count++]);
		if (!possible)
			continue;
		result = seccomp_rule_add_exact_array(filter, SCMP_ACT_NOTIFY, rules[i].number,
						      count, compare);
		if (result)
			return result;
	}
	/* Its requests pass by the filter. */
	return seccomp_rule_add_exact(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(io_uring_setup), 0);
}

#ifdef __x86_64__
/* Adds what is said to 32-bit calls. */
static int add_32_bit(scmp_filter_ctx filter)
{
	scmp_filter_ctx other = seccomp_init(SCMP_ACT_ALLOW);
	int result;

	if (!other)
		return -ENOMEM;
	result = seccomp_arch_remove(other, SCMP_ARCH_NATIVE);
	if (!result)
		result = seccomp_arch_add(other, SCMP_ARCH_X86);
	if (!result)
		result = seccomp_attr_set(other, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
	if (!result)
		result = seccomp_attr_set(other, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!result)
		result = seccomp_rule_add_exact(other, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(ioctl), 1,
						SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00, ';' << 8));
	if (!result)
		result = seccomp_rule_add_exact(other, SCMP_ACT_ERRNO(ENOSYS),
						SCMP_SYS(io_uring_setup), 0);
	if (!result)
		result = seccomp_merge(filter, other);
	if (result)
		seccomp_release(other);
	return result;
}
#else
static int add_32_bit(scmp_filter_ctx filter)
{
	return 0;
}
#endif

/* libseccomp writes programs to files only. */
static int export_program(scmp_filter_ctx filter, struct sock_fprog *program)
{
	int fd = memfd_create("filter", MFD_CLOEXEC);
	struct stat stat;
	int result = -errno;

	if (fd < 0)
		return result;
	result = seccomp_export_bpf(filter, fd);
	if (!result && fstat(fd, &stat) < 0)
		result = -errno;
	if (!result) {
		size_t size = (size_t)stat.st_size;

		program->filter = malloc(size);
		program->len = (unsigned short)(size / sizeof(*program->filter));
		if (!program->filter || pread(fd, program->filter, size, 0) != (ssize_t)size) {
			free(program->filter);
			result = -ENOMEM;
		}
	}
	close(fd);
	return result;
}

int uapi_filter_new(int reserved_first, struct sock_fprog *program)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int result;

	if (!filter)
		return -ENOMEM;
	result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
	if (!result) /* a binary tree, and not a list of calls */
		result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!result)
		result = add_rules(filter, reserved_first);
	if (!result)
		result = add_32_bit(filter);
	if (!result)
		result = export_program(filter, program);
	seccomp_release(filter);
	return result;
}

void uapi_filter_free(struct sock_fprog *program)
{
	free(program->filter);
	program->filter = NULL;
}
