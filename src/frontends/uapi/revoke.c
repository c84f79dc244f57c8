/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mappings that are brought in line with areas that have changed, without the program's help.
 *
 *   FREEZING  all processes that have something to be fixed, or have pages that trap, are traced,
 *             and all of their threads stop, or are blocked in calls that they can't return from.
 *             Mappings that are being made are waited for. So nobody maps, unmaps or forks, and
 *             what /proc says of a process stays true
 *   FIXING    one process after the other: one of its threads is made to map the right files over
 *             what it has. If all wait for us, a call that waits for this is sent back, to be made
 *             anew, so that its thread can stop
 *
 * A process without a page that traps isn't traced any more afterwards. After ten
 * seconds, the device has long given up, the threads go on anyway.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "frontends/uapi/descendants.h"
#include "frontends/uapi/device.h"
#include "frontends/uapi/tracer_private.h"

#define LIMIT_NS  10000000000ULL
#define TRIES_MAX 8

/* ---- All that is traced ---- */

struct cursor {
	size_t bucket;
	struct uapi_tracee *next;
};

/* The next one that is kept; what it gave before can be gone by now. */
static struct uapi_tracee *next_kept(struct uapi_tracer *tracer, struct cursor *cursor)
{
	for (;;) {
		struct uapi_tracee *tracee = cursor->next;

		while (!tracee && cursor->bucket < TRACEE_BUCKETS)
			tracee = tracer->tracees[cursor->bucket++];
		if (!tracee)
			return NULL;
		cursor->next = tracee->next;
		if (tracee->process->keeps)
			return tracee;
	}
}

static bool is_kept(struct uapi_tracer *tracer, pid_t process)
{
	for (const struct uapi_traced *at = tracer->processes; at; at = at->next)
		if (at->process == process && at->keeps)
			return true;
	return false;
}

static bool is_mapping(struct uapi_tracer *tracer, const struct uapi_traced *process)
{
	for (size_t i = 0; i < TRACEE_BUCKETS; i++)
		for (const struct uapi_tracee *at = tracer->tracees[i]; at; at = at->next)
			if (at->process == process && at->mapping)
				return true;
	return false;
}

/* ---- Processes that have to be fixed ---- */

struct gathering {
	struct uapi_tracer *tracer;
	int added;
	int error;
};

/* By a thread that is there: the first may have ended. */
static int find_fixes(struct uapi_tracer *tracer, pid_t process, struct uapi_fixes *fixes)
{
	return uapi_fixes_find(tracer, uapi_descendants_thread(process), fixes);
}

static void gather_process(void *opaque, pid_t process)
{
	struct gathering *gathering = opaque;
	struct uapi_fixes fixes;
	int ret;

	if (gathering->error || is_kept(gathering->tracer, process) ||
	    find_fixes(gathering->tracer, process, &fixes) < 0)
		return;
	if (fixes.count) {
		ret = uapi_process_keep(gathering->tracer, process);
		if (!ret || ret == -EINPROGRESS)
			gathering->added++;
		else if (ret != -ESRCH)
			gathering->error = ret;
	}
	uapi_fixes_free(&fixes);
}

/* Returns how many were found that weren't traced, or a negative errno. */
static int gather(struct uapi_tracer *tracer)
{
	struct gathering gathering = {tracer, 0, 0};

	/* Without a namespace of their own they are followed from their first mapping on. */
	if (tracer->run->mount_namespace)
		uapi_descendants_each(tracer->run, gather_process, &gathering);
	return gathering.error ? gathering.error : gathering.added;
}

/* ---- The end ---- */

/* Whether nothing of it traps: then nobody has to be there for that. */
static bool can_leave(struct uapi_tracer *tracer, const struct uapi_traced *process)
{
	struct uapi_fixes fixes;
	bool traps;

	if (is_mapping(tracer, process) || find_fixes(tracer, process->process, &fixes) < 0)
		return false;
	traps = fixes.traps || fixes.count || (fixes.areas && !tracer->run->mount_namespace);
	uapi_fixes_free(&fixes);
	return !traps;
}

static void thaw(struct uapi_tracer *tracer)
{
	tracer->frozen = false;
	/* Those that weren't kept in time. */
	for (struct uapi_traced *at = tracer->processes; at; at = at->next)
		at->keeping &= is_mapping(tracer, at);
	for (size_t i = 0; i < TRACEE_BUCKETS; i++)
		for (struct uapi_tracee *tracee = tracer->tracees[i], *next; tracee;
		     tracee = next) {
			next = tracee->next;
			uapi_tracee_thaw(tracer, tracee);
		}
}

static void finish(struct uapi_tracer *tracer, int result)
{
	struct uapi_revocation *revocation = &tracer->revocation;

	uapi_fixes_free(&revocation->fixes);
	revocation->stage = REVOCATION_NONE;
	if (tracer->frozen) {
		for (struct uapi_traced *at = tracer->processes; at && !result; at = at->next)
			if (at->keeps && can_leave(tracer, at))
				uapi_process_leave(tracer, at);
		thaw(tracer);
	}
	if (result < 0)
		uvf_logf(&tracer->run->config.log, UVF_LOG_WARNING, "uapi",
			 "what the program has mapped can't be taken away: %s", strerror(-result));
	uapi_revocation_tell(tracer, result);
}

/* ---- One process ---- */

static void set_placing(struct uapi_tracer *tracer, pid_t thread, int fd)
{
	pthread_mutex_lock(&tracer->lock);
	tracer->revocation.placing_thread = thread;
	tracer->revocation.placing_fd = fd;
	pthread_mutex_unlock(&tracer->lock);
}

int64_t uapi_tracer_place(struct uapi_call *call)
{
	struct uapi_tracer *tracer = call->run->tracer;
	int fd = -1, number;

	if (!tracer)
		return -ENOTTY;
	pthread_mutex_lock(&tracer->lock);
	if (tracer->revocation.placing_thread == call->thread)
		fd = fcntl(tracer->revocation.placing_fd, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_unlock(&tracer->lock);
	if (fd < 0)
		return -ENOTTY;
	number = uapi_call_place_fd(call, fd, O_CLOEXEC);
	close(fd);
	return number;
}

static struct uapi_fix *next_fix(struct uapi_revocation *revocation)
{
	struct uapi_fixes *fixes = &revocation->fixes;
	struct uapi_fix *first = NULL;

	for (size_t i = 0; i < fixes->count && !revocation->result; i++) {
		if (fixes->fixes[i].done)
			continue;
		if (revocation->theirs < 0 || fixes->fixes[i].file == revocation->file)
			return &fixes->fixes[i];
		first = &fixes->fixes[i];
	}
	return first;
}

/* Begins the next call. Returns 1, 0 when there is none, or -ESRCH. */
static int next_call(struct uapi_tracer *tracer)
{
	struct uapi_revocation *revocation = &tracer->revocation;
	struct uapi_fix *fix = next_fix(revocation);
	uint64_t arguments[6] = {0};
	long number = SYS_ioctl;
	int ret;

	revocation->placing = false;
	if (revocation->theirs >= 0 && (!fix || fix->file != revocation->file)) {
		arguments[0] = (uint64_t)revocation->theirs;
		revocation->theirs = -1;
		number = SYS_close;
	} else if (!fix) {
		return 0;
	} else if (revocation->theirs < 0) {
		revocation->placing = true;
		revocation->file = fix->file;
		set_placing(tracer, revocation->fixer->thread,
			    revocation->fixes.files[fix->file].fd);
		arguments[0] = UINT64_MAX;
		arguments[1] = UAPI_PLACE_COMMAND;
	} else {
		fix->done = true;
		number = SYS_mmap;
		arguments[0] = fix->address;
		arguments[1] = fix->size;
		arguments[2] = (uint64_t)fix->prot;
		arguments[3] = MAP_SHARED | MAP_FIXED;
		arguments[4] = (uint64_t)revocation->theirs;
		arguments[5] = fix->offset;
	}
	ret = uapi_inject_call(&revocation->injection, number, arguments);
	return ret < 0 ? ret : 1;
}

bool uapi_revocation_takes(struct uapi_tracer *tracer, const struct uapi_tracee *tracee)
{
	return tracer->revocation.fixer == tracee;
}

/* The thread stops once more, where it was, and is held. */
static void end_process(struct uapi_tracer *tracer)
{
	struct uapi_revocation *revocation = &tracer->revocation;
	struct uapi_tracee *fixer = revocation->fixer;

	uapi_inject_undo(&revocation->injection);
	ptrace(PTRACE_CONT, fixer->thread, 0, 0);
	uapi_fixes_free(&revocation->fixes);
	revocation->fixer = NULL;
	set_placing(tracer, 0, -1);
}

void uapi_revocation_stop(struct uapi_tracer *tracer, struct uapi_tracee *tracee, int status)
{
	struct uapi_revocation *revocation = &tracer->revocation;
	int64_t result;

	if (uapi_inject_step(&revocation->injection, status, &result) <= 0)
		return;
	if (result < 0)
		revocation->result = (int)result;
	else if (revocation->placing)
		revocation->theirs = (int)result;
	if (next_call(tracer) == 0)
		end_process(tracer);
}

void uapi_revocation_lost(struct uapi_tracer *tracer, const struct uapi_tracee *tracee)
{
	struct uapi_revocation *revocation = &tracer->revocation;

	if (revocation->fixer != tracee)
		return;
	/* Another thread does it, or nobody is left: next time. */
	uapi_fixes_free(&revocation->fixes);
	revocation->fixer = NULL;
	set_placing(tracer, 0, -1);
}

/* A thread that is held; one in a call, if there is one. */
static struct uapi_tracee *find_fixer(struct uapi_tracer *tracer, const struct uapi_traced *process)
{
	struct uapi_tracee *found = NULL;
	struct cursor cursor = {0};

	for (struct uapi_tracee *tracee; (tracee = next_kept(tracer, &cursor));) {
		if (tracee->process != process || !tracee->held)
			continue;
		found = tracee;
		if (uapi_inject_is_at_call(tracee->thread))
			break;
	}
	return found;
}

/* All wait for answers of ours. */
static void send_back(struct uapi_tracer *tracer, const struct uapi_traced *process)
{
	struct cursor cursor = {0};

	for (struct uapi_tracee *tracee; (tracee = next_kept(tracer, &cursor));)
		if (tracee->process == process)
			uapi_transitions_send_back(tracer->run, tracee->thread);
}

/* Begins with what was found. */
static void begin_process(struct uapi_tracer *tracer, struct uapi_traced *process)
{
	struct uapi_revocation *revocation = &tracer->revocation;
	struct uapi_tracee *fixer = find_fixer(tracer, process);
	int ret;

	if (!fixer) {
		uapi_fixes_free(&revocation->fixes);
		send_back(tracer, process);
		return;
	}
	revocation->tries = revocation->last_fixed == process->process ? revocation->tries + 1 : 1;
	revocation->last_fixed = process->process;
	ret = revocation->tries > TRIES_MAX
		      ? -EIO
		      : uapi_inject_begin_anywhere(&revocation->injection, fixer->thread);
	if (ret) {
		uapi_fixes_free(&revocation->fixes);
		/* Killed: its end comes next. */
		revocation->result = ret == -ESRCH ? 0 : ret;
		return;
	}
	revocation->injection.group_stop = fixer->group_stopped;
	revocation->fixer = fixer;
	revocation->theirs = -1;
	fixer->held = false;
	next_call(tracer);
}

/* ---- Stages ---- */

/* Of processes that are kept: asks those to stop that weren't asked. */
static bool all_have_stopped(struct uapi_tracer *tracer)
{
	struct cursor cursor = {0};
	bool all = true;

	for (struct uapi_tracee *tracee; (tracee = next_kept(tracer, &cursor));) {
		if (!tracee->held && !tracee->asked) {
			tracee->asked = true;
			ptrace(PTRACE_INTERRUPT, tracee->thread, 0, 0);
		}
		if (tracee->mapping)
			all = false;
		else if (!tracee->held && !tracee->trapping && all)
			all = uapi_thread_is_blocked(tracee->thread);
	}
	return all;
}

static bool older_are_mapping(struct uapi_tracer *tracer)
{
	const struct uapi_mapping *mapping;

	pthread_mutex_lock(&tracer->lock);
	for (mapping = tracer->mappings; mapping; mapping = mapping->next)
		if (mapping->older)
			break;
	pthread_mutex_unlock(&tracer->lock);
	return mapping;
}

static void freeze(struct uapi_tracer *tracer)
{
	struct uapi_revocation *revocation = &tracer->revocation;
	int added;

	if (older_are_mapping(tracer) || !all_have_stopped(tracer))
		return;
	added = gather(tracer);
	if (added < 0)
		revocation->result = added;
	else if (added == 0)
		revocation->stage = REVOCATION_FIXING;
	else
		all_have_stopped(tracer);
}

static void fix(struct uapi_tracer *tracer)
{
	struct uapi_revocation *revocation = &tracer->revocation;

	for (struct uapi_traced *at = tracer->processes; at; at = at->next) {
		int ret;

		/* What is being mapped now is mapped right. */
		if (!at->keeps || is_mapping(tracer, at))
			continue;
		ret = find_fixes(tracer, at->process, &revocation->fixes);
		if (ret == -ENOMEM || ret == -EMFILE) {
			revocation->result = ret;
			return;
		}
		if (ret < 0)
			continue; /* it is gone */
		if (revocation->fixes.count) {
			begin_process(tracer, at);
			return;
		}
		uapi_fixes_free(&revocation->fixes);
	}
	finish(tracer, 0);
}

/* Nothing to be done where nothing was ever mapped. */
static bool is_needed(struct uapi_tracer *tracer)
{
	bool needed;

	pthread_mutex_lock(&tracer->lock);
	needed = tracer->area_files || tracer->mappings || tracer->requests;
	for (const struct uapi_trap_file *file = tracer->files; file; file = file->next)
		needed |= file->changes;
	for (struct uapi_mapping *mapping = tracer->mappings; mapping; mapping = mapping->next)
		mapping->older = true;
	pthread_mutex_unlock(&tracer->lock);
	return needed;
}

static void begin(struct uapi_tracer *tracer)
{
	struct uapi_revocation *revocation = &tracer->revocation;
	int added;

	revocation->stage = REVOCATION_FREEZING;
	revocation->deadline = uvf_now_ns() + LIMIT_NS;
	revocation->result = 0;
	revocation->last_fixed = 0;
	if (!is_needed(tracer)) {
		finish(tracer, 0);
		return;
	}
	tracer->frozen = true;
	for (struct uapi_traced *at = tracer->processes; at; at = at->next)
		at->leaves = false;
	added = gather(tracer);
	if (added < 0)
		revocation->result = added;
	all_have_stopped(tracer);
}

void uapi_revocation_step(struct uapi_tracer *tracer)
{
	struct uapi_revocation *revocation = &tracer->revocation;

	while (!revocation->fixer) {
		enum uapi_revocation_stage stage = revocation->stage;

		if (stage == REVOCATION_NONE && !uapi_revocation_take(tracer))
			return;
		if (stage == REVOCATION_NONE)
			begin(tracer);
		else if (revocation->result)
			finish(tracer, revocation->result);
		else if (uvf_now_ns() > revocation->deadline)
			finish(tracer, -ETIMEDOUT);
		else if (stage == REVOCATION_FREEZING)
			freeze(tracer);
		else
			fix(tracer);
		if (revocation->stage == stage && !revocation->result)
			return;
	}
}
