/* SPDX-License-Identifier: BSD-3-Clause */
/* Giving up what serving doesn't need. The theory of operation is in sandbox.h. */
#include "cli/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"

/* Made by sandbox_calls.py: SANDBOX_CALLS, names of system calls as strings. */
#include <sandbox_calls.h>

int sandbox_find_user(const char *name, struct sandbox_user *user, struct uvf_error *error)
{
	const struct passwd *row = getpwnam(name);

	if (!row)
		return uvf_fail(error, -ENOENT, "expected the name of a user, got '%s'", name);
	*user = (struct sandbox_user){row->pw_uid, row->pw_gid, name};
	return 0;
}

int sandbox_prepare(struct uvf_error *error)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	if (!geteuid())
		return 0;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) ||
	    syscall(SYS_capset, &header, none))
		return uvf_fail(error, -errno, "capabilities can't be dropped: %s",
				strerror(errno));
	return 0;
}

int sandbox_leave_files(struct uvf_error *error)
{
	char empty[] = "/tmp/uvfio-root-XXXXXX";

	if (geteuid())
		return 0;
	if (!mkdtemp(empty) || chdir(empty) || rmdir(empty) || chroot("."))
		return uvf_fail(error, -errno, "no empty root directory: %s", strerror(errno));
	return 0;
}

int sandbox_become(const struct sandbox_user *user, struct uvf_error *error)
{
	if (!user->name)
		return 0;
	if (user->uid == geteuid() && user->uid == getuid())
		return 0;
	if (setgroups(0, NULL) || setresgid(user->gid, user->gid, user->gid) ||
	    setresuid(user->uid, user->uid, user->uid))
		return uvf_fail(error, -errno, "can't become %s: %s", user->name, strerror(errno));
	return 0;
}

/* ---- The filter ---- */

/* The rest of socketpair(2)'s type are flags. */
#define SOCKET_TYPE_MASK 0xf

/*
 * Calls whose arguments matter. New threads, not processes: clone3(2) keeps its flags where a
 * filter can't see them, so it is made to look missing and the C library uses clone(2).
 * Memory may be mapped but never be made executable. Sockets are streams to whom they are connected
 * to: a datagram could be sent to any address. Signals are for ourselves.
 */
static int add_special_rules(scmp_filter_ctx filter)
{
	const unsigned long thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
	int ret;

	ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			       SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* Block devices are told what is not needed any more; no other ioctl(2) is used. */
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_EQ, BLKDISCARD));
	/* Rings are made before; each is enabled by the thread that uses it. */
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(io_uring_register), 1,
				       SCMP_A1(SCMP_CMP_EQ, IORING_REGISTER_ENABLE_RINGS));
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 2,
				       SCMP_A0(SCMP_CMP_EQ, AF_UNIX),
				       SCMP_A1(SCMP_CMP_MASKED_EQ, SOCKET_TYPE_MASK, SOCK_STREAM));
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				       SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	return ret;
}

/*
 * What the C library, liburcu and the compilers' sanitizers do by themselves: memory, locks, the
 * ends of threads, aborting.
 * #syscalls: brk munmap mremap madvise futex membarrier set_robust_list rseq sched_getaffinity
 * #syscalls: rt_sigaction rt_sigprocmask rt_sigreturn restart_syscall getrandom clock_gettime
 * #syscalls: newfstatat fstat lseek gettid getpid exit sigaltstack nanosleep
 */
static int add_rules(scmp_filter_ctx filter, struct uvf_error *error)
{
	static const char *const calls[] = {SANDBOX_CALLS};
	int ret = add_special_rules(filter);

	for (size_t i = 0; !ret && i < UVF_ARRAY_SIZE(calls); i++) {
		int number = seccomp_syscall_resolve_name(calls[i]);

		if (number == __NR_SCMP_ERROR)
			return uvf_fail(error, -EINVAL, "system call '%s' is not known", calls[i]);
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
	}
	if (!ret)
		ret = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!ret)
		ret = seccomp_load(filter);
	if (ret)
		return uvf_fail(error, ret, "no seccomp filter: %s", strerror(-ret));
	return 0;
}

/* libseccomp sets no_new_privs itself. */
int sandbox_filter_calls(struct uvf_error *error)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int ret;

	if (!filter)
		return uvf_fail(error, -ENOMEM, "no memory");
	ret = add_rules(filter, error);
	seccomp_release(filter);
	return ret;
}
