/* SPDX-License-Identifier: BSD-3-Clause */
/* Programs of many threads and processes that share mapped registers. Each function is one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trap_world.h"

#define THREADS 64
#define ROUNDS	200

static void *use_registers(void *opaque)
{
	uint64_t own = (uintptr_t)opaque;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		AT(uint64_t, MORE + own * 8) = i;
		CHECK(AT(uint64_t, MORE + own * 8) == i);
		__atomic_fetch_add(&AT(uint32_t, MORE + PAGE), 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void wait_for(pid_t child, int expected)
{
	int status;

	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == expected);
}

static void threads(void)
{
	pthread_t all[THREADS];

	map_all();
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&all[i], NULL, use_registers, (void *)i) == 0);
	for (int i = 0; i < 20; i++) {
		pid_t child = fork();

		if (child == 0)
			_exit(AT(uint32_t, MORE + 2 * PAGE) == 0 ? 3 : 1);
		wait_for(child, 3 << 8);
	}
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
	CHECK(AT(uint32_t, MORE + PAGE) == THREADS * ROUNDS);
}

static void *map_many(void *opaque)
{
	int fd = *(int *)opaque;

	for (int i = 0; i < 20; i++) {
		volatile uint32_t *all = map_bar(fd, 0, BAR_SIZE);
		volatile uint32_t *area = map_bar(fd, AREA, PAGE);

		CHECK(all[MORE / 4] == 0);
		CHECK(area[0] == all[AREA / 4]);
		CHECK(munmap((void *)all, BAR_SIZE) == 0);
		CHECK(munmap((void *)area, PAGE) == 0);
	}
	return NULL;
}

/* Threads that were there before the first mapping are traced as well. */
static void mapping_threads(void)
{
	pthread_t all[16];
	int fd = open_device(0);

	for (size_t i = 0; i < 16; i++)
		CHECK(pthread_create(&all[i], NULL, map_many, &fd) == 0);
	for (size_t i = 0; i < 16; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
}

/* ---- A thread that begins while another maps ---- */

/* Held up in clone() by a page that isn't there yet: its process descriptor's number goes there. */
static struct {
	int faults;
	int *held;
	int device;
	atomic_bool is_mapped, is_done;
	char stack[16 * PAGE] __attribute__((aligned(16)));
} cloned;

/* It has the thread-local storage of who made it, and so calls nothing. */
__attribute__((no_sanitize("address", "thread"))) static int use_when_mapped(void *opaque)
{
	while (!atomic_load_explicit(&cloned.is_mapped, memory_order_acquire))
		__builtin_ia32_pause();
	AT(uint64_t, MORE) = 11;
	atomic_store_explicit(&cloned.is_done, true, memory_order_release);
	return 0;
}

static void *clone_slowly(void *opaque)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			  CLONE_SYSVSEM | CLONE_PIDFD;

	CHECK(clone(use_when_mapped, cloned.stack + sizeof(cloned.stack), flags, NULL,
		    cloned.held) > 0);
	return NULL;
}

/* When the mapping is made, or waits for this: not for ever, for it may have to. */
static void *let_go(void *opaque)
{
	struct uffdio_zeropage zero = {.range = {(uintptr_t)cloned.held, PAGE}};

	for (int i = 0; i < 500 && !atomic_load(&cloned.is_mapped); i++)
		usleep(1000);
	CHECK(ioctl(cloned.faults, UFFDIO_ZEROPAGE, &zero) == 0);
	return NULL;
}

/* False: not here. Threads with process descriptors are there from Linux 6.9 on. */
static bool prepare_clone(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.range = {0, PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};

	cloned.faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	cloned.held = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (uintptr_t)cloned.held;
	return syscall(SYS_pidfd_open, gettid(), O_EXCL) >= 0 && cloned.faults >= 0 &&
	       !ioctl(cloned.faults, UFFDIO_API, &api) &&
	       !ioctl(cloned.faults, UFFDIO_REGISTER, &range);
}

/* What is in the middle of clone() when its process is seized isn't missed. */
static void cloned_meanwhile(void)
{
	struct uffd_msg fault;
	pthread_t parent, helper;

	if (!prepare_clone())
		return;
	cloned.device = open_device(0);
	CHECK(pthread_create(&parent, NULL, clone_slowly, NULL) == 0);
	CHECK(read(cloned.faults, &fault, sizeof(fault)) == sizeof(fault));
	CHECK(pthread_create(&helper, NULL, let_go, NULL) == 0);
	bar = map_bar(cloned.device, 0, BAR_SIZE);
	atomic_store(&cloned.is_mapped, true);
	while (!atomic_load(&cloned.is_done))
		usleep(1000);
	CHECK(AT(uint64_t, MORE) == 11);
	CHECK(pthread_join(parent, NULL) == 0);
	CHECK(pthread_join(helper, NULL) == 0);
}

/* A child that ends when its parent does. */
static pid_t fork_child(void)
{
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0)
		CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	return child;
}

static void forks(void)
{
	pid_t child;
	int status;

	map_all();
	AT(uint64_t, MORE) = 5;
	child = fork_child();
	if (child == 0) {
		CHECK(AT(uint64_t, MORE) == 5);
		AT(uint64_t, MORE) = 6;
		child = fork_child();
		if (child == 0)
			_exit(AT(uint64_t, MORE) == 6 ? 7 : 1);
		wait_for(child, 7 << 8);
		_exit(8);
	}
	wait_for(child, 8 << 8);
	CHECK(AT(uint64_t, MORE) == 6);
	child = vfork();
	if (child == 0)
		_exit(AT(uint64_t, MORE) == 6 ? 9 : 1);
	wait_for(child, 9 << 8);
	/* One that another kills; one that faults. */
	child = fork_child();
	if (child == 0)
		for (;;)
			AT(uint64_t, COUNTER);
	CHECK(kill(child, SIGKILL) == 0);
	wait_for(child, SIGKILL);
	child = fork_child();
	if (child == 0) {
		AT(uint64_t, MORE);
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* As Linux's selftests wait: a process that poll() says has ended can be waited for. */
static void pidfds(void)
{
	map_all();
	for (int i = 0; i < 100; i++) {
		pid_t child = fork_child();
		struct pollfd poll_child = {.events = POLLIN};
		int status;

		if (child == 0) {
			AT(uint64_t, COUNTER);
			_exit(4);
		}
		poll_child.fd = (int)syscall(SYS_pidfd_open, child, 0);
		CHECK(poll_child.fd >= 0);
		CHECK(poll(&poll_child, 1, 60000) == 1);
		CHECK(waitpid(child, &status, WNOHANG) == child);
		CHECK(status == 4 << 8);
		close(poll_child.fd);
	}
}

static void not_traced(void)
{
	CHECK(tracer_of_self() == 0);
}

static void *exec_self(void *opaque)
{
	execl("/proc/self/exe", "test-trap", "not_traced", NULL);
	_exit(1);
}

static void execs(void)
{
	pthread_t thread;
	pid_t child;

	map_all();
	for (int i = 0; i < 4; i++) {
		child = i & 1 ? vfork() : fork();
		if (child == 0) {
			execl("/proc/self/exe", "test-trap", "not_traced", NULL);
			_exit(1);
		}
		wait_for(child, 0);
	}
	CHECK(AT(uint64_t, COUNTER) == 1);
	/* By a thread that isn't the first, with others that trap. */
	for (uintptr_t i = 0; i < 8; i++)
		CHECK(pthread_create(&thread, NULL, use_registers, (void *)i) == 0);
	CHECK(pthread_create(&thread, NULL, exec_self, NULL) == 0);
	for (;;)
		AT(uint64_t, COUNTER);
}

static void stops(void)
{
	pid_t child;
	int status;

	map_all();
	child = fork_child();
	/* A group whose processes all have parents elsewhere isn't stopped by a terminal's signal.
	 */
	if (child == 0) {
		CHECK(setpgid(0, 0) == 0);
		for (;;)
			AT(uint64_t, COUNTER);
	}
	while (AT(uint64_t, COUNTER) < 4 || getpgid(child) != child)
		continue;
	for (int i = 0; i < 10; i++) {
		uint64_t before;

		CHECK(kill(child, i & 1 ? SIGSTOP : SIGTSTP) == 0);
		CHECK(waitpid(child, &status, WUNTRACED) == child);
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == (i & 1 ? SIGSTOP : SIGTSTP));
		before = AT(uint64_t, COUNTER);
		usleep(20000);
		CHECK(AT(uint64_t, COUNTER) == before + 1);
		CHECK(kill(child, SIGCONT) == 0);
		CHECK(waitpid(child, &status, WCONTINUED) == child);
		CHECK(WIFCONTINUED(status));
		while (AT(uint64_t, COUNTER) < before + 10)
			continue;
	}
	CHECK(kill(child, SIGTERM) == 0);
	wait_for(child, SIGTERM);
}

/* Stopped and continued while it maps. */
static void stops_while_mapping(void)
{
	int fd = open_device(0), status;
	pid_t child = fork_child();

	if (child == 0)
		for (;;)
			map_many(&fd);
	for (int i = 0; i < 50; i++) {
		usleep(1000);
		CHECK(kill(child, SIGSTOP) == 0);
		CHECK(waitpid(child, &status, WUNTRACED) == child);
		CHECK(WIFSTOPPED(status));
		CHECK(kill(child, SIGCONT) == 0);
		CHECK(waitpid(child, &status, WCONTINUED) == child);
	}
	CHECK(kill(child, SIGKILL) == 0);
	wait_for(child, SIGKILL);
}

static void killed_while_mapping(void)
{
	int fd = open_device(0);

	for (int i = 0; i < 50; i++) {
		pthread_t thread;
		pid_t child = fork_child();

		if (child == 0) {
			for (int j = 0; j < 4; j++)
				CHECK(pthread_create(&thread, NULL, map_many, &fd) == 0);
			for (;;)
				map_many(&fd);
		}
		usleep((useconds_t)(i * 200));
		CHECK(kill(child, SIGKILL) == 0);
		wait_for(child, SIGKILL);
	}
}

/* A debugger has it: the mapping fails, the program goes on. */
static void debugged(void)
{
	int fd = open_device(0), status;
	pid_t child = fork_child();

	if (child == 0) {
		void *at;

		CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
		raise(SIGSTOP);
		at = mmap(NULL, BAR_SIZE, PROT_READ, MAP_SHARED, fd, 0);
		CHECK(at == MAP_FAILED && errno == EPERM);
		at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, (off_t)AREA);
		CHECK(at == MAP_FAILED && errno == EPERM);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
	wait_for(child, 0);
}

/* ---- Devices that take long ---- */

static volatile uint8_t *slow;

static void *read_gated(void *opaque)
{
	CHECK(*(volatile uint64_t *)(slow + GATED) == 2);
	return NULL;
}

/* While device 1 holds an access, device 0 is used: by whom the gate is opened. */
static void slow_device(void)
{
	pthread_t all[4];

	map_all();
	slow = map_bar(open_device(1), 0, BAR_SIZE);
	CHECK(*(volatile uint64_t *)(slow + SLEEPY) == 1);
	for (size_t i = 0; i < 4; i++)
		CHECK(pthread_create(&all[i], NULL, read_gated, NULL) == 0);
	while (AT(uint64_t, WAITING) == 0)
		continue;
	for (uint64_t i = 1; i < 1000; i++)
		CHECK(AT(uint64_t, COUNTER) == i);
	AT(uint64_t, GATE) = 1;
	for (size_t i = 0; i < 4; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
}

static void *pread_gated(void *opaque)
{
	uint64_t value = 0;

	CHECK(pread(*(int *)opaque, &value, 8, GATED) == 8 && value == 2);
	return NULL;
}

static void *read_counter(void *opaque)
{
	CHECK(*(volatile uint64_t *)(slow + COUNTER) != 0);
	return NULL;
}

/* The same, where a system call holds device 1, which has never been slow. */
static void busy_device(void)
{
	int fd = open_device(1);
	pthread_t all[5];

	map_all();
	slow = map_bar(fd, 0, BAR_SIZE);
	CHECK(pthread_create(&all[0], NULL, pread_gated, &fd) == 0);
	while (AT(uint64_t, WAITING) == 0)
		continue;
	for (size_t i = 1; i < 5; i++)
		CHECK(pthread_create(&all[i], NULL, read_counter, NULL) == 0);
	for (uint64_t i = 1; i < 1000; i++)
		CHECK(AT(uint64_t, COUNTER) == i);
	AT(uint64_t, GATE) = 1;
	for (size_t i = 0; i < 5; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
}

static void killed(void)
{
	pthread_t thread;

	map_all();
	slow = map_bar(open_device(1), 0, BAR_SIZE);
	CHECK(*(volatile uint64_t *)(slow + SLEEPY) == 1);
	for (size_t i = 0; i < 4; i++)
		CHECK(pthread_create(&thread, NULL, read_gated, NULL) == 0);
	for (uintptr_t i = 0; i < 8; i++)
		CHECK(pthread_create(&thread, NULL, use_registers, (void *)i) == 0);
	for (;;)
		AT(uint64_t, COUNTER);
}

/* The first thread has ended, others go on. */
static void *after_the_first(void *opaque)
{
	usleep(50000);
	for (uint64_t i = 0; i < 100; i++)
		AT(uint64_t, MORE) = i;
	_exit(AT(uint64_t, MORE) != 99);
}

static void first_thread_ends(void)
{
	pthread_t thread;

	map_all();
	CHECK(pthread_create(&thread, NULL, after_the_first, NULL) == 0);
	pthread_exit(NULL);
}

static pid_t parent_of(pid_t process)
{
	char path[32], line[256];
	pid_t parent = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", process);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, "PPid:", 5) == 0)
			parent = (pid_t)strtol(line + 5, NULL, 10);
	if (file)
		fclose(file);
	return parent;
}

/* Kills all children of the supervisor but itself: it goes on serving. */
static void siblings_killed(void)
{
	int fd = open_device(0), killed = 0;
	DIR *processes = opendir("/proc");
	const struct dirent *entry;

	CHECK(processes);
	while ((entry = readdir(processes))) {
		pid_t process = (pid_t)strtol(entry->d_name, NULL, 10);

		if (process > 0 && process != getpid() && parent_of(process) == getppid())
			killed += kill(process, SIGKILL) == 0;
	}
	closedir(processes);
	CHECK(killed == 1);
	for (int i = 0; i < 10; i++) {
		bar = map_bar(fd, 0, BAR_SIZE);
		CHECK(AT(uint64_t, COUNTER) == (uint64_t)i + 1);
	}
}

/* What the program left behind goes on using its registers. */
static void orphans(void)
{
	map_all();
	if (fork() == 0) {
		for (int i = 0; i < 3000; i++)
			AT(uint64_t, COUNTER);
		_exit(0);
	}
}

const struct trap_case trap_thread_cases[] = {
	TRAP_CASE(threads),
	TRAP_CASE(mapping_threads),
	TRAP_CASE(cloned_meanwhile),
	TRAP_CASE(forks),
	TRAP_CASE(pidfds),
	TRAP_CASE(not_traced),
	TRAP_CASE(execs),
	TRAP_CASE(stops),
	TRAP_CASE(stops_while_mapping),
	TRAP_CASE(killed_while_mapping),
	TRAP_CASE(debugged),
	TRAP_CASE(slow_device),
	TRAP_CASE(busy_device),
	{"killed", killed, 300},
	TRAP_CASE(first_thread_ends),
	TRAP_CASE(siblings_killed),
	TRAP_CASE(orphans),
	{0},
};
