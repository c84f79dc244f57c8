/* SPDX-License-Identifier: BSD-3-Clause */
/* Orphans are waited for; what is the tracer's is left to it, also when nothing can be opened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontends/uapi/descendants.h"
#include "frontends/uapi/uapi.h"

/* Ends at once. */
static pid_t start_child(bool traced)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (traced)
			ptrace(PTRACE_TRACEME, 0, 0, 0);
		_exit(0);
	}
	return pid;
}

/* Until it has ended. */
static void await_end(pid_t pid)
{
	siginfo_t info;

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | __WALL), 0);
}

struct tracer {
	pthread_t thread;
	bool traced;
	pthread_barrier_t ended, reaped;
	int result;
};

/* A thread with a child that has ended, while the first thread waits for orphans. */
static void *be_tracer(void *opaque)
{
	struct tracer *tracer = opaque;
	pid_t pid = start_child(tracer->traced);

	await_end(pid);
	pthread_barrier_wait(&tracer->ended);
	pthread_barrier_wait(&tracer->reaped);
	tracer->result = waitpid(pid, NULL, WNOHANG | __WALL) == pid;
	return NULL;
}

static bool survives(bool traced)
{
	const struct uvf_run run = {.pid = -1};
	struct tracer tracer = {.traced = traced};

	pthread_barrier_init(&tracer.ended, NULL, 2);
	pthread_barrier_init(&tracer.reaped, NULL, 2);
	assert_int_equal(pthread_create(&tracer.thread, NULL, be_tracer, &tracer), 0);
	pthread_barrier_wait(&tracer.ended);
	uapi_descendants_reap(&run);
	pthread_barrier_wait(&tracer.reaped);
	pthread_join(tracer.thread, NULL);
	pthread_barrier_destroy(&tracer.ended);
	pthread_barrier_destroy(&tracer.reaped);
	return tracer.result;
}

static void another_threads_children(void **state)
{
	assert_true(survives(false));
	assert_true(survives(true));
}

static void no_descriptors(void **state)
{
	struct rlimit before, none;

	getrlimit(RLIMIT_NOFILE, &before);
	none = (struct rlimit){0, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_true(survives(true));
	setrlimit(RLIMIT_NOFILE, &before);
}

/* Those that are nobody else's. */
static void orphans(void **state)
{
	const struct uvf_run run = {.pid = start_child(false)};
	pid_t one = start_child(false), other = start_child(false);

	await_end(one);
	await_end(other);
	for (int i = 0; i < 3; i++)
		uapi_descendants_reap(&run);
	/* The program itself is left alone; and so may be what comes behind it, for a while. */
	assert_int_equal(waitpid(run.pid, NULL, 0), run.pid);
	uapi_descendants_reap(&run);
	assert_int_equal(waitpid(one, NULL, WNOHANG), -1);
	assert_int_equal(waitpid(other, NULL, WNOHANG), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_threads_children),
		cmocka_unit_test(no_descriptors),
		cmocka_unit_test(orphans),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
