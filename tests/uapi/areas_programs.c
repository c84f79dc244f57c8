/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Programs that know nothing of areas that change, while they do: no doorbell is missed. Each
 * function is one.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <uvfio/migration.h>

#include "areas_world.h"

#define ROUNDS	   100
#define FEW_ROUNDS 20

static int device;
static volatile uint8_t *doorbells, *completions;
/* Whether areas alone make the program traced: without namespaces of its own. */
static bool is_traced;
/* Of all processes: when to end; and that a debugger has begun. */
static atomic_bool *stopping;

static void begin(void)
{
	device = open_device(0);
	doorbells = map_bar(device, DOORBELLS, 2 * PAGE);
	completions = map_bar(device, COMPLETIONS, PAGE);
	is_traced = tracer_of_self();
	stopping = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(stopping != MAP_FAILED);
}

static volatile uint64_t *doorbell(unsigned slot)
{
	return (volatile uint64_t *)(void *)doorbells + slot;
}

static void await_completion(unsigned slot, uint64_t value)
{
	volatile uint64_t *completion = (volatile uint64_t *)(void *)completions + slot;

	for (unsigned i = 0; *completion < value; i++) {
		struct timespec some = {0, 10000};

		CHECK(i < 1000000);
		nanosleep(&some, NULL);
	}
	CHECK(*completion == value);
}

/* Some in a row, then each of them has to arrive. */
static uint64_t ring_some(unsigned slot, uint64_t from, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		*doorbell(slot) = ++from;
	await_completion(slot, from);
	return from;
}

static void *ring(void *opaque)
{
	unsigned slot = (unsigned)(uintptr_t)opaque;
	uint64_t value = *((volatile uint64_t *)(void *)completions + slot);

	while (!atomic_load(stopping))
		value = ring_some(slot, value, 1 + (unsigned)(value & 63));
	return NULL;
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

static void wait_for(pid_t child, int expected)
{
	int status;

	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == expected);
}

/* By what waits for an answer: one round. */
static void go_and_return(unsigned slot)
{
	uint64_t before = *((volatile uint64_t *)(void *)completions + slot);

	int ret = set_state(device, VFIO_DEVICE_STATE_PRE_COPY);

	if (ret)
		fprintf(stderr, "PRE_COPY: %s\n", strerror(-ret));
	CHECK(ret == 0);
	before = ring_some(slot, before, 3);
	CHECK(set_state(device, VFIO_DEVICE_STATE_RUNNING) == 0);
	ring_some(slot, before, 3);
}

/* What is native again costs no call, and nobody traces. */
static void check_native(unsigned slot, bool traps)
{
	uint64_t value = *((volatile uint64_t *)(void *)completions + slot), calls = UINT64_MAX;

	/* The areas are back before they are mapped again. */
	for (unsigned i = 0; i < 10000 && calls != read_register(device, CALLS); i++) {
		calls = read_register(device, CALLS);
		value = ring_some(slot, value, 1);
	}
	calls = read_register(device, CALLS);
	ring_some(slot, value, 10000);
	/* Who made it so is told after. */
	for (unsigned i = 0; !traps && is_traced != (tracer_of_self() != 0); i++) {
		CHECK(i < 100000);
		usleep(100);
	}
	CHECK(read_register(device, CALLS) == calls);
}

static void threads(void)
{
	pthread_t all[3];
	pid_t child;

	begin();
	for (uintptr_t i = 0; i < 3; i++)
		CHECK(pthread_create(&all[i], NULL, ring, (void *)i) == 0);
	child = fork_child();
	if (child == 0) {
		ring((void *)3);
		_exit(4);
	}
	for (unsigned i = 0; i < ROUNDS; i++)
		go_and_return(4);
	atomic_store(stopping, true);
	for (size_t i = 0; i < 3; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
	wait_for(child, 4 << 8);
	CHECK(read_register(device, CALLS) > ROUNDS);
	check_native(4, false);
}

static void single(void)
{
	begin();
	for (unsigned i = 0; i < ROUNDS; i++)
		go_and_return(0);
	CHECK(read_register(device, CALLS) >= 3 * ROUNDS);
	check_native(0, false);
}

/* All of the BAR is mapped: it traps in part, whatever happens. */
static void whole(void)
{
	volatile uint8_t *bar;
	pthread_t thread;

	begin();
	bar = map_bar(device, 0, BAR_SIZE);
	doorbells = bar + DOORBELLS;
	completions = bar + COMPLETIONS;
	CHECK(pthread_create(&thread, NULL, ring, (void *)1) == 0);
	for (unsigned i = 0; i < FEW_ROUNDS; i++) {
		go_and_return(0);
		CHECK(*(volatile uint64_t *)(void *)(bar + CALLS) > 0);
	}
	atomic_store(stopping, true);
	CHECK(pthread_join(thread, NULL) == 0);
	check_native(0, true);
}

/* The areas change for a reason of the device's: no call waits for it. */
static void run_time(void)
{
	pthread_t thread;

	begin();
	CHECK(pthread_create(&thread, NULL, ring, (void *)1) == 0);
	for (unsigned i = 0; i < FEW_ROUNDS; i++) {
		uint64_t calls = read_register(device, CALLS);

		write_register(device, SHUFFLE, 1);
		while (read_register(device, CALLS) < calls + 3)
			continue;
		write_register(device, SHUFFLE, 0);
	}
	atomic_store(stopping, true);
	CHECK(pthread_join(thread, NULL) == 0);
	check_native(1, false);
}

/* ---- What is mapped ---- */

struct vma {
	uint64_t offset;
	unsigned long inode;
	char flags[5];
	char path[128];
};

static void find_vma(volatile void *address, struct vma *vma)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned long begin_at, end;
	char line[512];

	CHECK(file);
	for (;;) {
		CHECK(fgets(line, sizeof(line), file));
		vma->path[0] = '\0';
		CHECK(sscanf(line, "%lx-%lx %4s %lx %*s %lu %127[^\n]", &begin_at, &end, vma->flags,
			     &vma->offset, &vma->inode, vma->path) >= 5);
		if ((uintptr_t)address >= begin_at && (uintptr_t)address < end)
			break;
	}
	fclose(file);
}

/* What the program did to its mappings stays: protections, holes, copies, and where they are. */
static void mappings(void)
{
	volatile uint8_t *moved, *wanted;
	struct vma before, after;
	void *other;

	begin();
	CHECK(mprotect((void *)(doorbells + PAGE), PAGE, PROT_READ) == 0);
	moved = map_bar(device, DOORBELLS, 2 * PAGE);
	wanted = moved - 64 * PAGE;
	CHECK(mremap((void *)moved, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, wanted) == wanted);
	/* What takes the place of a mapping is left alone. */
	other = mmap((void *)moved, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(other == moved);
	*(volatile uint64_t *)other = 77;
	CHECK(mprotect((void *)(moved + PAGE), PAGE, PROT_NONE) == 0);
	find_vma(doorbells, &before);
	CHECK(!strstr(before.path, "region 0"));

	CHECK(set_state(device, VFIO_DEVICE_STATE_PRE_COPY) == 0);
	find_vma(doorbells, &after);
	CHECK(strstr(after.path, "region 0") && after.offset == DOORBELLS);
	CHECK(strcmp(after.flags, "rw-s") == 0);
	find_vma(doorbells + PAGE, &after);
	CHECK(strstr(after.path, "region 0") && after.offset == DOORBELLS + PAGE);
	CHECK(strcmp(after.flags, "r--s") == 0);
	find_vma(wanted, &after);
	CHECK(strstr(after.path, "region 0") && after.offset == DOORBELLS);
	find_vma(moved, &after);
	CHECK(after.inode == 0 && *(volatile uint64_t *)other == 77);
	find_vma(moved + PAGE, &after);
	CHECK(strstr(after.path, "region 0") && after.offset == DOORBELLS + PAGE);
	CHECK(strcmp(after.flags, "---s") == 0);
	find_vma(completions, &after);
	CHECK(!strstr(after.path, "region 0"));
	CHECK(tracer_of_self() != 0);
	doorbells = wanted;
	ring_some(0, 0, 5);

	CHECK(set_state(device, VFIO_DEVICE_STATE_RUNNING) == 0);
	check_native(0, false);
	find_vma(doorbells, &after);
	CHECK(after.inode == before.inode && strcmp(after.flags, "rw-s") == 0);
	find_vma(moved + PAGE, &after);
	CHECK(after.inode == before.inode && strcmp(after.flags, "---s") == 0);
}

static void *map_and_unmap(void *opaque)
{
	while (!atomic_load(stopping)) {
		volatile uint8_t *area = map_bar(device, DOORBELLS, PAGE);
		uint64_t *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		CHECK(memory != MAP_FAILED);
		*(volatile uint64_t *)(void *)(area + 8 * (uintptr_t)opaque) += 1;
		*memory = 5;
		CHECK(munmap((void *)area, PAGE) == 0);
		CHECK(*memory == 5);
		CHECK(munmap(memory, PAGE) == 0);
	}
	return NULL;
}

/* Mappings are made while the areas change. */
static void mapping_meanwhile(void)
{
	pthread_t all[4];

	begin();
	CHECK(pthread_create(&all[0], NULL, ring, (void *)1) == 0);
	for (uintptr_t i = 1; i < 4; i++)
		CHECK(pthread_create(&all[i], NULL, map_and_unmap, (void *)(i + 10)) == 0);
	for (unsigned i = 0; i < FEW_ROUNDS; i++)
		go_and_return(0);
	atomic_store(stopping, true);
	for (size_t i = 0; i < 4; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
}

/* ---- Processes that come and go ---- */

static void forks(void)
{
	pthread_t thread;
	pid_t parent;

	begin();
	parent = fork_child();
	if (parent == 0) {
		/* Each rings, whatever was mapped when it was forked. */
		for (unsigned i = 0; !atomic_load(stopping); i++) {
			pid_t child = i % 3 ? fork() : vfork();
			unsigned slot = 8 + i % 8;

			CHECK(child >= 0);
			if (child == 0) {
				*doorbell(slot) += 1;
				_exit(7);
			}
			wait_for(child, 7 << 8);
		}
		_exit(0);
	}
	CHECK(pthread_create(&thread, NULL, ring, (void *)1) == 0);
	for (unsigned i = 0; i < FEW_ROUNDS; i++)
		go_and_return(0);
	atomic_store(stopping, true);
	CHECK(pthread_join(thread, NULL) == 0);
	wait_for(parent, 0);
}

/* kill -9, at all moments of a revocation. */
static void killed(void)
{
	begin();
	for (unsigned i = 0; i < FEW_ROUNDS; i++) {
		pid_t child = fork_child();

		if (child == 0) {
			pthread_t thread;

			CHECK(pthread_create(&thread, NULL, ring, (void *)(uintptr_t)2) == 0);
			for (;;)
				pause();
		}
		usleep(1000);
		if (fork_child() == 0) {
			usleep(i * 100);
			kill(child, SIGKILL);
			_exit(0);
		}
		go_and_return(0);
		wait_for(child, SIGKILL);
		CHECK(wait(NULL) > 0);
	}
}

static void killed_by_supervisor(void)
{
	pthread_t thread;

	begin();
	CHECK(pthread_create(&thread, NULL, ring, (void *)(uintptr_t)2) == 0);
	for (;;)
		go_and_return(0);
}

static void debug(pid_t other)
{
	int status;

	CHECK(munmap((void *)doorbells, 2 * PAGE) == 0);
	CHECK(ptrace(PTRACE_SEIZE, other, 0, 0) == 0);
	atomic_store(&stopping[1], true);
	while (!atomic_load(stopping)) {
		if (waitpid(other, &status, __WALL | WNOHANG) == other)
			CHECK(WIFSTOPPED(status) && ptrace(PTRACE_CONT, other, 0, 0) == 0);
		usleep(1000);
	}
	_exit(0);
}

/* A debugger that has one of the threads: it can't be done, and the program goes on. */
static void debugged(void)
{
	pid_t child, parent = getpid();

	begin();
	CHECK(prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY) == 0 || errno == EINVAL);
	/* Without namespaces it is traced from the first mapping on. */
	if (is_traced)
		return;
	child = fork_child();
	if (child == 0)
		debug(parent);
	while (!atomic_load(&stopping[1]))
		usleep(1000);
	ring_some(0, 0, 3);
	CHECK(set_state(device, VFIO_DEVICE_STATE_PRE_COPY) == -EPERM);
	CHECK(get_state(device) == VFIO_DEVICE_STATE_RUNNING);
	ring_some(0, 3, 3);
	atomic_store(stopping, true);
	wait_for(child, 0);
	go_and_return(0);
	check_native(0, false);
}

/* Threads in calls that wait: none is ended by it. */
static void *wait_for_events(void *opaque)
{
	int epoll = *(int *)opaque;
	struct epoll_event event;

	CHECK(epoll_wait(epoll, &event, 1, -1) == 1);
	return NULL;
}

static void *wait_for_signal(void *opaque)
{
	sigset_t signals;
	int signal = 0;

	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	CHECK(sigwait(&signals, &signal) == 0 && signal == SIGUSR1);
	return NULL;
}

static void *read_pipe(void *opaque)
{
	char byte;

	CHECK(read(*(int *)opaque, &byte, 1) == 1);
	return NULL;
}

static void waiting_calls(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int events = epoll_create1(0), ends[2], more[2];
	pthread_t all[3];
	sigset_t signals;

	begin();
	CHECK(pipe(ends) == 0 && pipe(more) == 0);
	CHECK(epoll_ctl(events, EPOLL_CTL_ADD, ends[0], &event) == 0);
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	CHECK(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
	CHECK(pthread_create(&all[0], NULL, wait_for_events, &events) == 0);
	CHECK(pthread_create(&all[1], NULL, wait_for_signal, NULL) == 0);
	CHECK(pthread_create(&all[2], NULL, read_pipe, &more[0]) == 0);
	for (unsigned i = 0; i < 10; i++)
		go_and_return(0);
	CHECK(write(ends[1], "", 1) == 1 && write(more[1], "", 1) == 1);
	CHECK(kill(getpid(), SIGUSR1) == 0);
	for (size_t i = 0; i < 3; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
}

/* A stopped process is still stopped afterwards. */
static void stopped(void)
{
	pid_t child;
	int status;

	begin();
	child = fork_child();
	if (child == 0) {
		ring((void *)5);
		_exit(0);
	}
	for (unsigned i = 0; i < 20; i++) {
		uint64_t before;

		CHECK(kill(child, SIGSTOP) == 0);
		CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
		usleep(1000);
		before = *doorbell(5);
		go_and_return(0);
		usleep(1000);
		CHECK(*doorbell(5) == before);
		CHECK(kill(child, SIGCONT) == 0);
	}
	atomic_store(stopping, true);
	wait_for(child, 0);
}

static atomic_uint handled;

static void on_signal(int signal)
{
	atomic_fetch_add(&handled, 1);
}

/* Signals come meanwhile, and none is lost or makes a call fail. */
static void signals(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	unsigned sent = 0;
	pthread_t thread;
	pid_t child, parent = getpid();

	begin();
	CHECK(sigaction(SIGRTMIN, &action, NULL) == 0);
	CHECK(pthread_create(&thread, NULL, ring, (void *)1) == 0);
	child = fork_child();
	if (child == 0) {
		for (; !atomic_load(stopping); sent++) {
			CHECK(sigqueue(parent, SIGRTMIN, (union sigval){0}) == 0);
			usleep(2000);
		}
		_exit((int)(sent & 127));
	}
	for (unsigned i = 0; i < FEW_ROUNDS; i++)
		go_and_return(0);
	atomic_store(stopping, true);
	CHECK(pthread_join(thread, NULL) == 0);
	{
		int status;

		CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
		CHECK((handled & 127) == (unsigned)WEXITSTATUS(status));
	}
}

const struct areas_case areas_cases[] = {
	{"threads", threads, 0, false},
	{"single", single, 0, false},
	{"whole", whole, 0, false},
	{"run_time", run_time, 0, false},
	{"mappings", mappings, 0, false},
	{"mapping_meanwhile", mapping_meanwhile, 0, false},
	{"forks", forks, 0, false},
	{"killed", killed, 0, false},
	{"killed_by_supervisor", killed_by_supervisor, 300, false},
	{"debugged", debugged, 0, false},
	{"waiting_calls", waiting_calls, 0, false},
	{"stopped", stopped, 0, false},
	{"signals", signals, 0, false},
	{NULL, NULL, 0, false},
};
