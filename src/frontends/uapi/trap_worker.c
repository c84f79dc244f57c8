/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who carries a trapped access out. The tracer's thread does it itself: that is the quickest. But a
 * device can take its time, or hold its lock for another call that does; and meanwhile all other
 * threads that trap would wait. So one that has been slow gets a thread of its own, for as long as
 * it goes on being slow now and then. Accesses to one device come one after the other either way:
 * a locked instruction is one.
 *
 * Time alone doesn't tell a slow device from a busy machine. What does costs a system call, so only
 * its thread asks: a device that seemed slow is on trial there for some accesses. One that is
 * inside another call at the moment isn't waited for here, either.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "core/core.h"
#include "frontends/uapi/tracer_private.h"

#define SLOW_NS	    100000ULL
#define SLOW_FOR_NS 10000000000ULL
#define TRIAL	    8

struct uapi_trap_worker {
	bool started;
	pthread_t thread;
	struct uapi_tracer *tracer;
	atomic_uint_least64_t slow_until;
	atomic_uint trial;   /* accesses that it has to be quick at */
	atomic_uint waiting; /* given to the thread and not done */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct uapi_trap *first, **last;
	bool stopping;
};

static uint64_t cpu_ns(const struct rusage *usage)
{
	return ((uint64_t)usage->ru_utime.tv_sec + (uint64_t)usage->ru_stime.tv_sec) *
		       1000000000ULL +
	       ((uint64_t)usage->ru_utime.tv_usec + (uint64_t)usage->ru_stime.tv_usec) * 1000ULL;
}

static void run_here(struct uapi_trap_worker *worker, struct uapi_trap *trap)
{
	uint64_t begun = uvf_now_ns();

	uapi_trap_run(trap);
	if (uvf_now_ns() - begun > SLOW_NS)
		atomic_store(&worker->trial, TRIAL);
}

/* Whoever was only not scheduled wasn't slow. */
static void run_on_trial(struct uapi_trap_worker *worker, struct uapi_trap *trap)
{
	struct rusage before, after;
	uint64_t begun, ended;

	getrusage(RUSAGE_THREAD, &before);
	begun = uvf_now_ns();
	uapi_trap_run(trap);
	ended = uvf_now_ns();
	getrusage(RUSAGE_THREAD, &after);
	if (ended - begun > SLOW_NS &&
	    (after.ru_nvcsw != before.ru_nvcsw || cpu_ns(&after) - cpu_ns(&before) > SLOW_NS))
		atomic_store(&worker->slow_until, ended + SLOW_FOR_NS);
	else if (atomic_load(&worker->trial))
		atomic_fetch_sub(&worker->trial, 1);
}

static void *work(void *opaque)
{
	struct uapi_trap_worker *worker = opaque;

	pthread_mutex_lock(&worker->lock);
	for (;;) {
		struct uapi_trap *trap = worker->first;

		if (!trap && worker->stopping)
			break;
		if (!trap) {
			pthread_cond_wait(&worker->changed, &worker->lock);
			continue;
		}
		worker->first = trap->next;
		if (!worker->first)
			worker->last = &worker->first;
		pthread_mutex_unlock(&worker->lock);
		run_on_trial(worker, trap);
		atomic_fetch_sub(&worker->waiting, 1);
		uapi_tracer_give_back(worker->tracer, trap);
		pthread_mutex_lock(&worker->lock);
	}
	pthread_mutex_unlock(&worker->lock);
	return NULL;
}

/* False: there is no thread for it. */
static bool hand_over(struct uapi_trap_worker *worker, struct uapi_trap *trap)
{
	if (!worker->started && pthread_create(&worker->thread, NULL, work, worker))
		return false;
	worker->started = true;
	trap->tracee->trapping = true;
	trap->next = NULL;
	atomic_fetch_add(&worker->waiting, 1);
	pthread_mutex_lock(&worker->lock);
	*worker->last = trap;
	worker->last = &trap->next;
	pthread_cond_signal(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
	return true;
}

void uapi_trap_schedule(struct uapi_trap *trap, struct uapi_device *device)
{
	struct uapi_trap_worker *worker = &trap->tracer->workers[device->number];

	if ((atomic_load(&worker->waiting) || atomic_load(&worker->trial) ||
	     uvf_now_ns() < atomic_load(&worker->slow_until) || uvf_device_is_busy(device->dev)) &&
	    hand_over(worker, trap))
		return;
	run_here(worker, trap);
	uapi_trap_end(trap);
}

int uapi_trap_workers_new(struct uapi_tracer *tracer)
{
	size_t count = tracer->run->device_count;

	tracer->workers = calloc(count ? count : 1, sizeof(*tracer->workers));
	if (!tracer->workers)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct uapi_trap_worker *worker = &tracer->workers[i];

		worker->tracer = tracer;
		worker->last = &worker->first;
		pthread_mutex_init(&worker->lock, NULL);
		pthread_cond_init(&worker->changed, NULL);
	}
	return 0;
}

void uapi_trap_workers_free(struct uapi_tracer *tracer)
{
	for (size_t i = 0; i < tracer->run->device_count; i++) {
		struct uapi_trap_worker *worker = &tracer->workers[i];

		if (worker->started) {
			pthread_mutex_lock(&worker->lock);
			worker->stopping = true;
			pthread_cond_signal(&worker->changed);
			pthread_mutex_unlock(&worker->lock);
			pthread_join(worker->thread, NULL);
		}
		pthread_cond_destroy(&worker->changed);
		pthread_mutex_destroy(&worker->lock);
	}
	free(tracer->workers);
}
