/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which threads of the program are traced, and what to do when one stops. A thread is traced while
 * it maps; one of a process that has pages which trap, for as long as the process has its memory:
 * until execve() or its end. A thread that ends is let go before it is dead, so that its parent
 * can wait for it as if it had never been traced.
 *
 * A thread that was inside clone() when it was seized makes one that isn't traced, and isn't in
 * /proc before that is over. So where all of a process are wanted, each that may be there is made
 * to stop, which it does behind it, and then /proc is looked through again.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontends/uapi/tracer_private.h"

#define OPTIONS                                                                                   \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | \
	 PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)

/* ---- The table ---- */

static struct uapi_tracee **bucket(struct uapi_tracer *tracer, pid_t thread)
{
	return &tracer->tracees[(unsigned)thread % TRACEE_BUCKETS];
}

struct uapi_tracee *uapi_tracee_find(struct uapi_tracer *tracer, pid_t thread)
{
	for (struct uapi_tracee *at = *bucket(tracer, thread); at; at = at->next)
		if (at->thread == thread)
			return at;
	return NULL;
}

static struct uapi_traced *get_process(struct uapi_tracer *tracer, pid_t process)
{
	struct uapi_traced *at;

	for (at = tracer->processes; at; at = at->next)
		if (at->process == process)
			break;
	if (!at) {
		at = calloc(1, sizeof(*at));
		if (!at)
			return NULL;
		at->process = process;
		at->maps = at->memory = -1;
		at->next = tracer->processes;
		tracer->processes = at;
	}
	at->references++;
	return at;
}

static void put_process(struct uapi_tracer *tracer, struct uapi_traced *process)
{
	if (--process->references)
		return;
	for (struct uapi_traced **link = &tracer->processes; *link; link = &(*link)->next)
		if (*link == process) {
			*link = process->next;
			break;
		}
	if (process->maps >= 0)
		close(process->maps);
	if (process->memory >= 0)
		close(process->memory);
	free(process);
}

static struct uapi_tracee *add(struct uapi_tracer *tracer, pid_t thread, pid_t process)
{
	struct uapi_tracee *tracee = calloc(1, sizeof(*tracee));

	if (!tracee)
		return NULL;
	tracee->thread = thread;
	tracee->process = get_process(tracer, process);
	if (!tracee->process) {
		free(tracee);
		return NULL;
	}
	tracee->next = *bucket(tracer, thread);
	*bucket(tracer, thread) = tracee;
	return tracee;
}

static void free_tracee(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	uapi_trap_free(tracee->trap);
	put_process(tracer, tracee->process);
	free(tracee);
}

static void settle(struct uapi_tracee *tracee)
{
	if (tracee->unsettled)
		tracee->process->unsettled--;
	tracee->unsettled = false;
}

static void try_to_leave(struct uapi_tracer *tracer, struct uapi_traced *process);

void uapi_tracee_forget(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	struct uapi_mapping *mapping = tracee->mapping;

	settle(tracee);
	if (!tracee->gone)
		for (struct uapi_tracee **link = bucket(tracer, tracee->thread); *link;
		     link = &(*link)->next)
			if (*link == tracee) {
				*link = tracee->next;
				break;
			}
	tracee->gone = true;
	tracee->mapping = NULL;
	tracee->owes = false;
	uapi_revocation_lost(tracer, tracee);
	try_to_leave(tracer, tracee->process);
	if (mapping)
		uapi_mapping_abandon(tracer, mapping);
	/* Else when its trap is over. */
	if (!tracee->trapping)
		free_tracee(tracer, tracee);
}

void uapi_tracees_free(struct uapi_tracer *tracer)
{
	for (size_t i = 0; i < TRACEE_BUCKETS; i++)
		while (tracer->tracees[i])
			uapi_tracee_forget(tracer, tracer->tracees[i]);
}

/* ---- What /proc says of a thread ---- */

struct thread_state {
	pid_t process;
	pid_t tracer;
	bool dead;
};

static int read_state(pid_t thread, struct thread_state *state)
{
	char path[32], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	file = fopen(path, "re");
	if (!file)
		return -ESRCH;
	*state = (struct thread_state){0};
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "Tgid:", 5) == 0)
			state->process = (pid_t)strtol(line + 5, NULL, 10);
		else if (strncmp(line, "TracerPid:", 10) == 0)
			state->tracer = (pid_t)strtol(line + 10, NULL, 10);
		else if (strncmp(line, "State:", 6) == 0)
			state->dead = strpbrk(line + 6, "ZX") != NULL;
	}
	fclose(file);
	return state->process ? 0 : -ESRCH;
}

/* ---- Attaching ---- */

int uapi_tracee_seize(struct uapi_tracer *tracer, pid_t thread, pid_t process,
		      struct uapi_tracee **traceep)
{
	struct uapi_tracee *tracee = uapi_tracee_find(tracer, thread);
	struct thread_state state;

	if (!tracee && ptrace(PTRACE_SEIZE, thread, 0, OPTIONS) < 0) {
		int error = -errno;

		/* It may be dead; or it has just been cloned by one that is traced. */
		if (error != -EPERM || read_state(thread, &state) < 0 || state.dead)
			return error == -EPERM ? -ESRCH : error;
		if (state.tracer != tracer->thread_id)
			return -EPERM;
	}
	if (!tracee)
		tracee = add(tracer, thread, process);
	if (!tracee)
		return -ENOMEM;
	*traceep = tracee;
	return 0;
}

void uapi_tracee_release(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	pid_t thread = tracee->thread;
	struct thread_state state;

	/* It isn't of the process for which it was traced. */
	if (read_state(thread, &state) == 0 && state.process != tracee->process->process) {
		uapi_tracee_forget(tracer, tracee);
		add(tracer, thread, state.process);
	}
	ptrace(PTRACE_INTERRUPT, thread, 0, 0);
}

/* Of clone3(), in the program. */
static uint64_t clone_flags(pid_t thread, uint64_t address)
{
	uint64_t flags = CLONE_THREAD;
	struct iovec local = {&flags, sizeof(flags)};
	struct iovec remote = {(void *)(uintptr_t)address, sizeof(flags)};

	process_vm_readv(thread, &local, 1, &remote, 1, 0);
	return flags;
}

/*
 * Whether a thread that has just been seized may be making another. One that waits in another call
 * isn't, and is left in peace; one that makes a process can wait there for long, and is no matter.
 */
static bool may_be_cloning(pid_t thread)
{
	unsigned long long argument = CLONE_THREAD;
	char path[32], line[256];
	bool has_line = false;
	long number = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/syscall", thread);
	file = fopen(path, "re");
	if (file) {
		has_line = fgets(line, sizeof(line), file);
		fclose(file);
	}
	/* Running, or it can't be told. */
	if (!has_line || sscanf(line, "%ld %llx", &number, &argument) < 1)
		return true;
	if (number == SYS_clone3)
		argument = clone_flags(thread, argument);
	return (number == SYS_clone || number == SYS_clone3) && argument & CLONE_THREAD;
}

static void unsettle(struct uapi_tracee *tracee)
{
	if (!may_be_cloning(tracee->thread))
		return;
	tracee->unsettled = true;
	tracee->process->unsettled++;
	ptrace(PTRACE_INTERRUPT, tracee->thread, 0, 0);
}

/* Returns how many threads are newly traced, or a negative errno. */
static int seize_threads(struct uapi_tracer *tracer, struct uapi_traced *process)
{
	struct dirent *entry;
	char path[32];
	int added = 0, ret = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", process->process);
	tasks = opendir(path);
	if (!tasks)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!ret && (entry = readdir(tasks))) {
		pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
		struct uapi_tracee *tracee = NULL;

		if (thread <= 0 || uapi_tracee_find(tracer, thread))
			continue;
		ret = uapi_tracee_seize(tracer, thread, process->process, &tracee);
		if (tracee) {
			unsettle(tracee);
			added++;
		}
		if (ret == -ESRCH)
			ret = 0;
	}
	closedir(tasks);
	return ret < 0 ? ret : added;
}

int uapi_tracee_keep(struct uapi_tracer *tracer, struct uapi_traced *process)
{
	int added;

	process->leaves = false;
	if (process->keeps)
		return 0;
	if (process->unsettled)
		return -EINPROGRESS;
	/* Those that aren't traced yet may make more. */
	do
		added = seize_threads(tracer, process);
	while (added > 0 && !process->unsettled);
	process->keeping = added >= 0 && process->unsettled;
	process->keeps = added >= 0 && !process->unsettled;
	return process->keeping ? -EINPROGRESS : added;
}

/* What has come to wait in another call since has left clone() as well: its answer may be ours. */
static void settle_blocked(struct uapi_tracer *tracer, const struct uapi_traced *process)
{
	for (size_t i = 0; i < TRACEE_BUCKETS; i++)
		for (struct uapi_tracee *at = tracer->tracees[i]; at; at = at->next)
			if (at->process == process && at->unsettled && !may_be_cloning(at->thread))
				settle(at);
}

int uapi_process_keep(struct uapi_tracer *tracer, pid_t process)
{
	struct uapi_traced *traced = get_process(tracer, process);
	int ret;

	if (!traced)
		return -ENOMEM;
	settle_blocked(tracer, traced);
	ret = uapi_tracee_keep(tracer, traced);
	/* Its threads have it, if there are any. */
	put_process(tracer, traced);
	return ret < 0 ? ret : 0;
}

/* All threads of a process that leaves are asked to stop once more, and let go then. */
static void try_to_leave(struct uapi_tracer *tracer, struct uapi_traced *process)
{
	if (!process->leaves)
		return;
	for (size_t i = 0; i < TRACEE_BUCKETS; i++)
		for (const struct uapi_tracee *at = tracer->tracees[i]; at; at = at->next)
			if (at->process == process && at->owes)
				return;
	process->keeps = process->leaves = false;
	for (size_t i = 0; i < TRACEE_BUCKETS; i++)
		for (const struct uapi_tracee *at = tracer->tracees[i]; at; at = at->next)
			if (at->process == process && !at->mapping)
				ptrace(PTRACE_INTERRUPT, at->thread, 0, 0);
}

void uapi_process_leave(struct uapi_tracer *tracer, struct uapi_traced *process)
{
	for (size_t i = 0; i < TRACEE_BUCKETS; i++)
		for (struct uapi_tracee *at = tracer->tracees[i]; at; at = at->next)
			if (at->process == process)
				at->owes = at->trapping || uapi_thread_has_fault(at->thread);
	process->leaves = true;
	try_to_leave(tracer, process);
}

void uapi_tracee_settle(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	tracee->owes = false;
	try_to_leave(tracer, tracee->process);
}

/* ---- Stops ---- */

static void detach(struct uapi_tracer *tracer, struct uapi_tracee *tracee, int signal)
{
	ptrace(PTRACE_DETACH, tracee->thread, 0, (long)signal);
	uapi_tracee_forget(tracer, tracee);
}

void uapi_tracee_continue(struct uapi_tracer *tracer, struct uapi_tracee *tracee, int signal)
{
	if (!tracee->process->keeps && !tracee->process->keeping && !tracee->mapping) {
		detach(tracer, tracee, signal);
		return;
	}
	/* It stops again at once, with its signal delivered, and is held then. */
	if (tracer->frozen && tracee->process->keeps && !tracee->mapping)
		ptrace(PTRACE_INTERRUPT, tracee->thread, 0, 0);
	ptrace(PTRACE_CONT, tracee->thread, 0, (long)signal);
}

void uapi_tracee_thaw(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	bool keeps = tracee->process->keeps || tracee->process->keeping;

	tracee->asked = false;
	if (tracee->held) {
		tracee->held = false;
		if (tracee->group_stopped && keeps)
			ptrace(PTRACE_LISTEN, tracee->thread, 0, 0);
		else
			uapi_tracee_continue(tracer, tracee, 0);
	} else if (!keeps && !tracee->mapping) {
		/* Seized in vain: let go when it stops. */
		ptrace(PTRACE_INTERRUPT, tracee->thread, 0, 0);
	}
}

/* A child or thread of a traced thread is traced from its first moment on. */
static struct uapi_tracee *add_child(struct uapi_tracer *tracer, pid_t thread)
{
	struct uapi_tracee *tracee = uapi_tracee_find(tracer, thread);
	struct thread_state state;

	if (tracee)
		return tracee;
	/* What its parent told of may have ended, or left us by execve(), before we read it. */
	if (read_state(thread, &state) < 0 || state.dead || state.tracer != tracer->thread_id)
		return NULL;
	tracee = add(tracer, thread, state.process);
	if (tracee && tracee->process->references == 1)
		tracee->process->keeps = true;
	return tracee;
}

static void on_exec(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	unsigned long former = 0;
	struct uapi_tracee *other;

	/* The thread that called execve() has the process's number now, and its own no more. */
	ptrace(PTRACE_GETEVENTMSG, tracee->thread, 0, &former);
	other = former && (pid_t)former != tracee->thread ? uapi_tracee_find(tracer, (pid_t)former)
							  : NULL;
	if (other)
		uapi_tracee_forget(tracer, other);
	detach(tracer, tracee, 0);
}

static bool is_stop_signal(int signal)
{
	return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

static void on_event_stop(struct uapi_tracer *tracer, struct uapi_tracee *tracee, int signal)
{
	bool stopped = is_stop_signal(signal);

	uapi_inject_restart(tracee->thread);
	if (tracer->frozen && tracee->process->keeps) {
		tracee->held = true;
		tracee->group_stopped = stopped;
	} else if (stopped &&
		   (tracee->process->keeps || tracee->process->keeping || tracee->mapping))
		ptrace(PTRACE_LISTEN, tracee->thread, 0, 0);
	else
		uapi_tracee_continue(tracer, tracee, 0);
}

static void on_stop(struct uapi_tracer *tracer, struct uapi_tracee *tracee, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;
	unsigned long child = 0;

	switch (event) {
	case PTRACE_EVENT_EXEC:
		on_exec(tracer, tracee);
		return;
	case PTRACE_EVENT_EXIT:
		detach(tracer, tracee, 0);
		return;
	case PTRACE_EVENT_CLONE:
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
		if (ptrace(PTRACE_GETEVENTMSG, tracee->thread, 0, &child) == 0)
			add_child(tracer, (pid_t)child);
		uapi_tracee_continue(tracer, tracee, 0);
		return;
	default:
		break;
	}
	if (uapi_revocation_takes(tracer, tracee))
		uapi_revocation_stop(tracer, tracee, status);
	else if (tracee->mapping && (tracee->mapping->injecting || event == PTRACE_EVENT_STOP))
		uapi_mapping_step(tracer, tracee, status);
	else if (event == PTRACE_EVENT_STOP)
		on_event_stop(tracer, tracee, signal);
	else if (signal == (SIGTRAP | 0x80))
		uapi_tracee_continue(tracer, tracee, 0);
	else if (signal != SIGBUS)
		uapi_tracee_continue(tracer, tracee, signal);
	else if (!uapi_trap_begin(tracer, tracee)) {
		uapi_tracee_settle(tracer, tracee);
		uapi_tracee_continue(tracer, tracee, signal);
	}
}

void uapi_tracee_event(struct uapi_tracer *tracer, pid_t thread, int status)
{
	struct uapi_tracee *tracee = uapi_tracee_find(tracer, thread);

	if (WIFSTOPPED(status)) {
		/* A new thread's first stop can come before its parent tells of it. */
		if (!tracee)
			tracee = add_child(tracer, thread);
		if (tracee) {
			settle(tracee);
			on_stop(tracer, tracee, status);
		} else {
			ptrace(PTRACE_DETACH, thread, 0, 0);
		}
	} else if (tracee) {
		uapi_tracee_forget(tracer, tracee);
	}
}
