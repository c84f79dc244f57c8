/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tracer's thread. It starts the program, and from then on waits: for the program's end, for
 * threads that it traces to stop, and for the bell, which says that somebody wants something.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "frontends/uapi/tracer_private.h"

#define LOOK_NS 50000

struct start {
	struct uapi_tracer *tracer;
	pid_t (*spawn)(void *opaque);
	void *opaque;
};

/* ---- Requests ---- */

void uapi_tracer_give_back(struct uapi_tracer *tracer, struct uapi_trap *trap)
{
	pthread_mutex_lock(&tracer->lock);
	trap->next = tracer->traps;
	tracer->traps = trap;
	uapi_bell_ring(&tracer->bell);
	pthread_mutex_unlock(&tracer->lock);
}

static struct uapi_mapping *take_request(struct uapi_tracer *tracer)
{
	struct uapi_mapping **link, *mapping;

	pthread_mutex_lock(&tracer->lock);
	/* The oldest. */
	for (link = &tracer->requests; *link && (*link)->next; link = &(*link)->next)
		continue;
	mapping = *link;
	if (mapping) {
		*link = NULL;
		mapping->next = tracer->mappings;
		tracer->mappings = mapping;
	}
	pthread_mutex_unlock(&tracer->lock);
	return mapping;
}

static struct uapi_trap *take_trap(struct uapi_tracer *tracer)
{
	struct uapi_trap *trap;

	pthread_mutex_lock(&tracer->lock);
	trap = tracer->traps;
	if (trap)
		tracer->traps = trap->next;
	pthread_mutex_unlock(&tracer->lock);
	return trap;
}

static void serve_requests(struct uapi_tracer *tracer)
{
	struct uapi_mapping *mapping;
	struct uapi_trap *trap;

	while ((trap = take_trap(tracer)))
		uapi_trap_end(trap);
	while ((mapping = take_request(tracer)))
		uapi_mapping_start(tracer, mapping);
	uapi_revocation_step(tracer);
}

/* ---- The thread ---- */

static void program_ended(struct uapi_tracer *tracer, int status)
{
	pthread_mutex_lock(&tracer->lock);
	tracer->ended = true;
	tracer->wait_status = status;
	pthread_cond_broadcast(&tracer->changed);
	pthread_mutex_unlock(&tracer->lock);
}

/* It rings; or somebody who kills whatever he can has killed it, too. */
static void on_bell(struct uapi_tracer *tracer, int status)
{
	int ret = 0;

	if (WIFSTOPPED(status)) {
		uapi_bell_rearm(&tracer->bell);
	} else {
		pthread_mutex_lock(&tracer->lock);
		ret = uapi_bell_renew(&tracer->bell);
		pthread_mutex_unlock(&tracer->lock);
	}
	if (ret < 0)
		uvf_logf(&tracer->run->config.log, UVF_LOG_ERROR, "uapi",
			 "nothing can be mapped any more: %s", strerror(-ret));
	serve_requests(tracer);
}

/* An event of a thread that waitpid() reported. */
static void on_event(struct uapi_tracer *tracer, pid_t thread, int status)
{
	/* A traced thread that calls execve() takes the first one's number, which may have ended.
	 */
	bool is_traced = uapi_tracee_find(tracer, thread) || status >> 16;

	if (thread == tracer->bell.pid) {
		on_bell(tracer, status);
		return;
	}
	if (thread != tracer->program || is_traced)
		uapi_tracee_event(tracer, thread, status);
	if (thread == tracer->program && (WIFEXITED(status) || WIFSIGNALED(status)))
		program_ended(tracer, status);
}

static bool is_over(struct uapi_tracer *tracer)
{
	bool over;

	pthread_mutex_lock(&tracer->lock);
	over = tracer->ended && tracer->stopping;
	pthread_mutex_unlock(&tracer->lock);
	return over;
}

static void serve(struct uapi_tracer *tracer)
{
	const struct timespec some = {.tv_nsec = LOOK_NS};

	while (!is_over(tracer)) {
		/* A revocation also goes on by what makes no event. */
		bool looks = uapi_revocation_is_on(&tracer->revocation);
		int status;
		/* Not WCONTINUED: that is one event for all who wait, and others' parents do, too.
		 */
		pid_t thread = waitpid(-1, &status,
				       __WALL | __WNOTHREAD | WUNTRACED | (looks ? WNOHANG : 0));

		if (thread > 0) {
			on_event(tracer, thread, status);
			uapi_mapping_resume(tracer);
		} else if (thread == 0) {
			nanosleep(&some, NULL);
		} else if (errno != EINTR) {
			break;
		}
		if (looks)
			uapi_revocation_step(tracer);
	}
}

static void spawned(struct uapi_tracer *tracer, int result)
{
	pthread_mutex_lock(&tracer->lock);
	tracer->spawned = true;
	tracer->spawn_result = result;
	pthread_cond_broadcast(&tracer->changed);
	pthread_mutex_unlock(&tracer->lock);
}

static void *run_tracer(void *opaque)
{
	const struct start start = *(const struct start *)opaque;
	struct uapi_tracer *tracer = start.tracer;
	int ret;

	tracer->thread_id = (pid_t)syscall(SYS_gettid);
	ret = uapi_bell_new(&tracer->bell);
	if (ret < 0) {
		spawned(tracer, ret);
		return NULL;
	}
	ret = start.spawn(start.opaque);
	tracer->program = ret > 0 ? ret : -1;
	spawned(tracer, ret);
	if (ret > 0)
		serve(tracer);
	uapi_bell_free(&tracer->bell);
	return NULL;
}

/* ---- Start and end ---- */

/* Signals of the process are for others; those of a fault are this thread's own. */
static int start_thread(struct uapi_tracer *tracer, struct start *start)
{
	sigset_t signals, before;
	int error;

	sigfillset(&signals);
	sigdelset(&signals, SIGBUS);
	sigdelset(&signals, SIGSEGV);
	sigdelset(&signals, SIGFPE);
	sigdelset(&signals, SIGILL);
	pthread_sigmask(SIG_SETMASK, &signals, &before);
	error = pthread_create(&tracer->thread, NULL, run_tracer, start);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		return -error;
	pthread_mutex_lock(&tracer->lock);
	while (!tracer->spawned)
		pthread_cond_wait(&tracer->changed, &tracer->lock);
	pthread_mutex_unlock(&tracer->lock);
	if (tracer->spawn_result <= 0)
		pthread_join(tracer->thread, NULL);
	return tracer->spawn_result;
}

static void free_tracer(struct uapi_tracer *tracer)
{
	if (tracer->workers)
		uapi_trap_workers_free(tracer);
	/* Those that a worker had given back. */
	for (struct uapi_trap *trap; (trap = take_trap(tracer));) {
		trap->tracee->trapping = false;
		if (trap->tracee->gone)
			uapi_tracee_forget(tracer, trap->tracee);
	}
	for (struct uapi_mapping *mapping; (mapping = take_request(tracer));)
		uapi_mapping_abandon(tracer, mapping);
	uapi_tracees_free(tracer);
	uapi_trap_files_free(tracer);
	pthread_cond_destroy(&tracer->changed);
	pthread_mutex_destroy(&tracer->lock);
	free(tracer);
}

int uapi_tracer_new(struct uvf_run *run, pid_t (*spawn)(void *opaque), void *opaque)
{
	struct uapi_tracer *tracer = calloc(1, sizeof(*tracer));
	struct start start = {tracer, spawn, opaque};
	int ret;

	if (!tracer)
		return -ENOMEM;
	tracer->run = run;
	pthread_mutex_init(&tracer->lock, NULL);
	pthread_cond_init(&tracer->changed, NULL);
	uapi_xstate_layout(&tracer->layout);
	ret = uapi_trap_workers_new(tracer);
	/* Handlers can be called as soon as the program is there. */
	run->tracer = tracer;
	if (!ret)
		ret = start_thread(tracer, &start);
	if (ret <= 0) {
		run->tracer = NULL;
		free_tracer(tracer);
	}
	return ret;
}

int uapi_tracer_wait(struct uvf_run *run, int *wait_status)
{
	struct uapi_tracer *tracer = run->tracer;

	pthread_mutex_lock(&tracer->lock);
	while (!tracer->ended)
		pthread_cond_wait(&tracer->changed, &tracer->lock);
	*wait_status = tracer->wait_status;
	pthread_mutex_unlock(&tracer->lock);
	return 0;
}

void uapi_tracer_free(struct uvf_run *run)
{
	struct uapi_tracer *tracer = run->tracer;

	if (!tracer)
		return;
	pthread_mutex_lock(&tracer->lock);
	tracer->stopping = true;
	uapi_bell_ring(&tracer->bell);
	pthread_mutex_unlock(&tracer->lock);
	pthread_join(tracer->thread, NULL);
	run->tracer = NULL;
	free_tracer(tracer);
}
