/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What comes later: interrupts that are put off, and looks at what waits for the driver to follow
 * changed areas. One thread a device, from when it is first needed until the device is freed.
 * Nothing is signalled or called with the lock held.
 */
#include "base/clock.h"
#include "core/inject.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define MAX_DELAYED 1024
#define NEVER	    UINT64_MAX

struct delayer {
	struct uvf_device *dev;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* on CLOCK_MONOTONIC: what waits, or stop */
	pthread_cond_t idle;	/* the thread is signalling nothing */
	bool stop, signalling;
	struct delayed waiting[MAX_DELAYED]; /* in no order */
	size_t count;
	uint64_t look_ns; /* when uvf_remap_work() is due; NEVER */
};

/* With the lock: the earliest, or NULL. */
static struct delayed *find_earliest(struct delayer *delayer)
{
	struct delayed *earliest = NULL;

	for (size_t i = 0; i < delayer->count; i++)
		if (!earliest || delayer->waiting[i].due_ns < earliest->due_ns)
			earliest = &delayer->waiting[i];
	return earliest;
}

/* With the lock, which it gives up meanwhile. */
static void deliver(struct delayer *delayer, struct delayed *at)
{
	struct delayed due = *at;

	if (due.again_ns)
		at->due_ns += due.again_ns;
	else
		*at = delayer->waiting[--delayer->count];
	delayer->signalling = true;
	pthread_mutex_unlock(&delayer->lock);
	uvf_irq_deliver(delayer->dev, due.index, due.vector, due.level);
	pthread_mutex_lock(&delayer->lock);
	delayer->signalling = false;
	pthread_cond_broadcast(&delayer->idle);
}

/* With the lock, which it gives up meanwhile. */
static void look(struct delayer *delayer)
{
	uint64_t next_ns;

	delayer->look_ns = NEVER;
	pthread_mutex_unlock(&delayer->lock);
	next_ns = uvf_remap_work(delayer->dev, uvf_now_ns());
	pthread_mutex_lock(&delayer->lock);
	if (next_ns < delayer->look_ns)
		delayer->look_ns = next_ns;
}

/* With the lock, which it gives up meanwhile. */
static void wait_until(struct delayer *delayer, uint64_t due_ns)
{
	struct timespec until;

	if (due_ns == NEVER) {
		pthread_cond_wait(&delayer->changed, &delayer->lock);
		return;
	}
	until.tv_sec = (time_t)(due_ns / 1000000000ULL);
	until.tv_nsec = (long)(due_ns % 1000000000ULL);
	pthread_cond_timedwait(&delayer->changed, &delayer->lock, &until);
}

static void *delayer_run(void *opaque)
{
	struct delayer *delayer = opaque;

	pthread_mutex_lock(&delayer->lock);
	while (!delayer->stop) {
		struct delayed *next = find_earliest(delayer);
		uint64_t due_ns = next ? next->due_ns : NEVER, now = uvf_now_ns();

		if (delayer->look_ns <= now)
			look(delayer);
		else if (due_ns <= now)
			deliver(delayer, next);
		else
			wait_until(delayer, due_ns < delayer->look_ns ? due_ns : delayer->look_ns);
	}
	pthread_mutex_unlock(&delayer->lock);
	return NULL;
}

static struct delayer *delayer_new(struct uvf_device *dev)
{
	struct delayer *delayer = calloc(1, sizeof(*delayer));
	pthread_condattr_t monotonic;

	if (!delayer)
		return NULL;
	delayer->dev = dev;
	delayer->look_ns = NEVER;
	pthread_mutex_init(&delayer->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&delayer->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_cond_init(&delayer->idle, NULL);
	if (!pthread_create(&delayer->thread, NULL, delayer_run, delayer))
		return delayer;
	free(delayer);
	return NULL;
}

int uvf_delayer_start(struct uvf_device *dev)
{
	struct delayer *delayer;

	if (atomic_load(&dev->delayer))
		return 0;
	delayer = delayer_new(dev);
	atomic_store(&dev->delayer, delayer);
	return delayer ? 0 : -ENOMEM;
}

int uvf_delayer_add(struct uvf_device *dev, struct delayed delayed, uint64_t after_ns)
{
	struct delayer *delayer = atomic_load(&dev->delayer);
	int ret = -ENOSPC;

	delayed.due_ns = uvf_now_ns() + after_ns;
	pthread_mutex_lock(&delayer->lock);
	if (delayer->count < MAX_DELAYED) {
		delayer->waiting[delayer->count++] = delayed;
		pthread_cond_signal(&delayer->changed);
		ret = 0;
	}
	pthread_mutex_unlock(&delayer->lock);
	return ret;
}

void uvf_delayer_look(struct uvf_device *dev, uint64_t due_ns)
{
	struct delayer *delayer = atomic_load(&dev->delayer);

	pthread_mutex_lock(&delayer->lock);
	if (due_ns < delayer->look_ns) {
		delayer->look_ns = due_ns;
		pthread_cond_signal(&delayer->changed);
	}
	pthread_mutex_unlock(&delayer->lock);
}

void uvf_delayer_flush(struct uvf_device *dev)
{
	struct delayer *delayer = atomic_load(&dev->delayer);

	if (!delayer)
		return;
	pthread_mutex_lock(&delayer->lock);
	delayer->count = 0;
	while (delayer->signalling)
		pthread_cond_wait(&delayer->idle, &delayer->lock);
	pthread_mutex_unlock(&delayer->lock);
}

void uvf_delayer_free(struct uvf_device *dev)
{
	struct delayer *delayer = atomic_load(&dev->delayer);

	if (!delayer)
		return;
	pthread_mutex_lock(&delayer->lock);
	delayer->stop = true;
	pthread_cond_signal(&delayer->changed);
	pthread_mutex_unlock(&delayer->lock);
	pthread_join(delayer->thread, NULL);
	pthread_cond_destroy(&delayer->changed);
	pthread_cond_destroy(&delayer->idle);
	pthread_mutex_destroy(&delayer->lock);
	free(delayer);
	atomic_store(&dev->delayer, NULL);
}
