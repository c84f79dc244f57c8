/* SPDX-License-Identifier: BSD-3-Clause */
/* A queue of files to be released, and the threads that do it. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "frontends/uapi/file.h"
#include "frontends/uapi/releases.h"

#define THREADS_MAX  64
#define IDLE_SECONDS 2

/* A release that runs. It is on its thread's stack. */
struct release {
	pthread_t thread;
	uint64_t sequence;
	bool settling;
	struct release *next;
};

struct uapi_releases {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct uapi_file *queue, **queue_end;
	struct release *running;
	uint64_t next_sequence;
	unsigned threads, idle_threads;
	bool stopping;
};

/* Runs the first of the queue, or says that there is none. Lets the lock go meanwhile. */
static bool run_first(struct uapi_releases *releases)
{
	struct uapi_file *file = releases->queue;
	struct release release = {.thread = pthread_self(), .next = releases->running};

	if (!file)
		return false;
	releases->queue = file->next;
	if (!releases->queue)
		releases->queue_end = &releases->queue;
	release.sequence = file->sequence;
	releases->running = &release;
	pthread_mutex_unlock(&releases->lock);

	if (file->ops->release)
		file->ops->release(file);
	close(file->peer);
	uapi_file_put(file);

	pthread_mutex_lock(&releases->lock);
	for (struct release **link = &releases->running; *link; link = &(*link)->next) {
		if (*link == &release) {
			*link = release.next;
			break;
		}
	}
	pthread_cond_broadcast(&releases->changed);
	return true;
}

static void *run_thread(void *opaque)
{
	struct uapi_releases *releases = opaque;
	int result = 0;

	pthread_mutex_lock(&releases->lock);
	for (;;) {
		struct timespec until;

		if (run_first(releases)) {
			result = 0;
			continue;
		}
		if (releases->stopping || result == ETIMEDOUT)
			break;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += IDLE_SECONDS;
		releases->idle_threads++;
		result = pthread_cond_clockwait(&releases->changed, &releases->lock,
						CLOCK_MONOTONIC, &until);
		releases->idle_threads--;
	}
	releases->threads--;
	pthread_cond_broadcast(&releases->changed);
	pthread_mutex_unlock(&releases->lock);
	return NULL;
}

/* With the lock. Where no thread can be made, who waits does the work. */
static void start_thread(struct uapi_releases *releases)
{
	pthread_t thread;

	if (releases->threads >= THREADS_MAX ||
	    pthread_create(&thread, NULL, run_thread, releases) != 0)
		return;
	pthread_detach(thread);
	releases->threads++;
}

void uapi_releases_add(struct uapi_releases *releases, struct uapi_file *file)
{
	unsigned waiting = 1;

	pthread_mutex_lock(&releases->lock);
	for (const struct uapi_file *other = releases->queue; other; other = other->next)
		waiting++;
	file->next = NULL;
	file->sequence = releases->next_sequence++;
	*releases->queue_end = file;
	releases->queue_end = &file->next;
	if (releases->idle_threads < waiting)
		start_thread(releases);
	pthread_cond_broadcast(&releases->changed);
	pthread_mutex_unlock(&releases->lock);
}

void uapi_releases_settle(struct uapi_releases *releases)
{
	pthread_mutex_lock(&releases->lock);
	for (struct release *release = releases->running; release; release = release->next)
		if (pthread_equal(release->thread, pthread_self()))
			release->settling = true;
	pthread_cond_broadcast(&releases->changed);
	pthread_mutex_unlock(&releases->lock);
}

/* Whether one with a lower number than @until is queued or runs. */
static bool is_pending(const struct uapi_releases *releases, uint64_t until, bool all)
{
	if (releases->queue && releases->queue->sequence < until)
		return true;
	for (const struct release *release = releases->running; release; release = release->next)
		if (release->sequence < until && (all || !release->settling))
			return true;
	return false;
}

bool uapi_releases_wait(struct uapi_releases *releases, bool all)
{
	uint64_t until;
	bool waited = false;

	pthread_mutex_lock(&releases->lock);
	until = releases->next_sequence;
	while (is_pending(releases, until, all)) {
		waited = true;
		/* Others do the work, so that we needn't wait for more than we want. */
		if (releases->threads || !run_first(releases))
			pthread_cond_wait(&releases->changed, &releases->lock);
	}
	pthread_mutex_unlock(&releases->lock);
	return waited;
}

struct uapi_releases *uapi_releases_new(void)
{
	struct uapi_releases *releases = calloc(1, sizeof(*releases));

	if (!releases)
		return NULL;
	pthread_mutex_init(&releases->lock, NULL);
	pthread_cond_init(&releases->changed, NULL);
	releases->queue_end = &releases->queue;
	return releases;
}

void uapi_releases_free(struct uapi_releases *releases)
{
	if (!releases)
		return;
	uapi_releases_wait(releases, true);
	pthread_mutex_lock(&releases->lock);
	releases->stopping = true;
	pthread_cond_broadcast(&releases->changed);
	while (releases->threads)
		pthread_cond_wait(&releases->changed, &releases->lock);
	pthread_mutex_unlock(&releases->lock);
	pthread_cond_destroy(&releases->changed);
	pthread_mutex_destroy(&releases->lock);
	free(releases);
}
