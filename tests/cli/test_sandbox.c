/* SPDX-License-Identifier: BSD-3-Clause */
/* What a process in the sandbox can't do, tried from inside; and that its threads still can work.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cli/sandbox.h"

/* ---- What must fail ---- */

static long try_open(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY, 0);
}

static long try_old_open(void)
{
#ifdef SYS_open
	return syscall(SYS_open, "/dev/null", O_RDONLY, 0);
#else
	return try_open();
#endif
}

static long try_unlink(void)
{
	return syscall(SYS_unlinkat, AT_FDCWD, "/no/such/file", 0);
}

static long try_exec(void)
{
	char *const none[] = {NULL};

	return syscall(SYS_execve, "/bin/true", none, none);
}

static long try_fork(void)
{
	long pid = syscall(SYS_clone, (long)SIGCHLD, NULL, NULL, NULL, NULL);

	if (!pid)
		_exit(0);
	return pid;
}

static long try_user_namespace(void)
{
	return syscall(SYS_unshare, CLONE_NEWUSER);
}

static long try_socket(void)
{
	return syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
}

/* Could be sent from to any address. */
static long try_datagram_pair(void)
{
	int fds[2];

	return syscall(SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds);
}

static long try_connect(void)
{
	const struct sockaddr address = {.sa_family = AF_UNIX};

	return syscall(SYS_connect, -1, &address, sizeof(address));
}

static long try_kill(void)
{
	return syscall(SYS_kill, getppid(), 0);
}

static long try_thread_kill(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static long try_ptrace(void)
{
	return syscall(SYS_ptrace, PTRACE_TRACEME, 0, NULL, NULL);
}

static long try_other_memory(void)
{
	return syscall(SYS_process_vm_readv, getppid(), NULL, 0UL, NULL, 0UL, 0UL);
}

static long try_new_ring(void)
{
	struct io_uring_params params = {0};

	return syscall(SYS_io_uring_setup, 1, &params);
}

static long try_ring_files(void)
{
	return syscall(SYS_io_uring_register, -1, IORING_REGISTER_FILES, NULL, 0);
}

static long try_terminal_input(void)
{
	return syscall(SYS_ioctl, 0, TIOCSTI, "x");
}

static long try_executable_memory(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED ? -1 : 0;
}

static long try_make_executable(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static long try_become_root(void)
{
	return syscall(SYS_setresuid, 0, 0, 0);
}

static long try_new_root(void)
{
	return syscall(SYS_chroot, "/");
}

static const struct {
	const char *name;
	long (*call)(void);
} forbidden[] = {
	{"openat", try_open},
	{"open", try_old_open},
	{"unlinkat", try_unlink},
	{"execve", try_exec},
	{"clone of a process", try_fork},
	{"unshare", try_user_namespace},
	{"socket", try_socket},
	{"socketpair of datagrams", try_datagram_pair},
	{"connect", try_connect},
	{"kill", try_kill},
	{"tgkill of another process", try_thread_kill},
	{"ptrace", try_ptrace},
	{"process_vm_readv", try_other_memory},
	{"io_uring_setup", try_new_ring},
	{"io_uring_register of files", try_ring_files},
	{"ioctl TIOCSTI", try_terminal_input},
	{"mmap of executable memory", try_executable_memory},
	{"mprotect to executable", try_make_executable},
	{"setresuid", try_become_root},
	{"chroot", try_new_root},
};

/* Says on @fd what was allowed. */
static void try_all(int fd, const char *who)
{
	char line[128];

	for (size_t i = 0; i < UVF_ARRAY_SIZE(forbidden); i++) {
		int size;

		errno = 0;
		if (forbidden[i].call() == -1 && errno == EPERM)
			continue;
		size = snprintf(line, sizeof(line), "%s: %s gave errno %d\n", who,
				forbidden[i].name, errno);
		if (write(fd, line, (size_t)size) < 0)
			_exit(2);
	}
}

/* ---- In a process of its own ---- */

static int report;
static pthread_barrier_t entered;

static void *thread_from_before(void *opaque)
{
	pthread_barrier_wait(&entered);
	try_all(report, "a thread from before");
	return opaque;
}

static void *thread_from_inside(void *opaque)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	try_all(report, "a thread from inside");
	return page == MAP_FAILED || munmap(page, 4096) ? NULL : opaque;
}

static void say(const char *text)
{
	if (write(report, text, strlen(text)) < 0)
		_exit(2);
}

static void enter(void)
{
	struct sandbox_user user = {.name = NULL};
	struct uvf_error error = {""};

	if ((!geteuid() && sandbox_find_user("nobody", &user, &error)) ||
	    sandbox_leave_files(&error) || sandbox_become(&user, &error) ||
	    sandbox_filter_calls(&error))
		say(error.text);
}

static void inside(void)
{
	struct uvf_error error = {""};
	pthread_t before, after;
	void *result = NULL;
	int fds[2];

	if (sandbox_prepare(&error))
		say(error.text);
	pthread_barrier_init(&entered, NULL, 2);
	if (pthread_create(&before, NULL, thread_from_before, NULL))
		say("no thread before\n");
	enter();
	pthread_barrier_wait(&entered);
	pthread_join(before, NULL);
	try_all(report, "the first thread");
	/* What serving needs. */
	if (pthread_create(&after, NULL, thread_from_inside, &report))
		say("no thread inside\n");
	else if (pthread_join(after, &result) || result != &report)
		say("a thread inside has no memory\n");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		say("no pair of sockets\n");
	if (syscall(SYS_tgkill, getpid(), gettid(), 0))
		say("no signal to itself\n");
	_exit(0);
}

static void test_forbidden_calls_fail(void **state)
{
	char said[4096] = "";
	size_t size = 0;
	ssize_t got;
	int fds[2], status;
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		close(fds[0]);
		report = fds[1];
		inside();
	}
	close(fds[1]);
	while ((got = read(fds[0], said + size, sizeof(said) - 1 - size)) > 0)
		size += (size_t)got;
	close(fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_string_equal(said, "");
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden_calls_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
