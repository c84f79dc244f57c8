/* SPDX-License-Identifier: BSD-3-Clause */
/* Which threads are traced: the tracer's parts, on this thread, and processes that are its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontends/uapi/notify.h"
#include "frontends/uapi/tracer_private.h"

/* Of a process of this one, which does nothing. */
static pid_t start_child(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static pid_t tracer_of(pid_t thread)
{
	char path[64], line[256];
	pid_t tracer = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "TracerPid:", 10))
			tracer = (pid_t)strtol(line + 10, NULL, 10);
	if (file)
		fclose(file);
	return tracer;
}

/* ---- A call whose thread is another's by now ---- */

/* A listener that receives nothing. */
static int new_listener(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	const struct sock_fprog filter = {1, &allow};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			    &filter);
}

static int map_for_a_dead_thread(void)
{
	struct uvf_run run = {.config = {0}};
	struct uapi_tracer tracer = {.run = &run, .thread_id = gettid()};
	struct uapi_device device = {.run = &run, .known.in_progress = 1};
	struct uapi_mapping *mapping = calloc(1, sizeof(*mapping));
	pid_t other = start_child();
	int listener = new_listener();

	if (listener < 0 || uapi_notifier_new(&run, listener, 1000))
		return 2;
	pthread_mutex_init(&tracer.lock, NULL);
	pthread_mutex_init(&device.known.lock, NULL);
	mapping->device = &device;
	mapping->call = (struct uapi_call){
		.run = &run, .notifier = run.notifier, .thread = other, .process = other, .id = 1};
	tracer.mappings = mapping;
	uapi_mapping_start(&tracer, mapping);
	return tracer.mappings || uapi_tracee_find(&tracer, other) || tracer_of(other) ? 3 : 0;
}

static void a_dead_callers_number(void **state)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(map_for_a_dead_thread());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* It was found out too late: it is traced for a moment, as one of the wrong process. */
static void what_was_not_meant_is_let_go(void **state)
{
	struct uapi_tracer tracer = {.thread_id = gettid()};
	pid_t other = start_child();
	struct uapi_tracee *tracee;
	int status;

	pthread_mutex_init(&tracer.lock, NULL);
	assert_int_equal(uapi_tracee_seize(&tracer, other, getpid(), &tracee), 0);
	assert_int_equal(tracer_of(other), gettid());
	uapi_tracee_release(&tracer, tracee);
	assert_int_equal(waitpid(other, &status, __WALL), other);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(uapi_tracee_find(&tracer, other)->process->process, other);
	uapi_tracee_event(&tracer, other, status);
	assert_null(uapi_tracee_find(&tracer, other));
	assert_null(tracer.processes);
	assert_int_equal(tracer_of(other), 0);
	kill(other, SIGKILL);
	assert_int_equal(waitpid(other, NULL, 0), other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_dead_callers_number),
		cmocka_unit_test(what_was_not_meant_is_let_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
