/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Worker threads. One waits for a notification inside the kernel, and handles it itself: no other
 * way is as short. More than one would all be woken by each notification (Linux wakes all), so
 * others come only where they are of use: when notifications were there already whenever somebody
 * looked, and when nobody waits because a call is slow. That a watchdog sees, which looks every
 * 100 us while there are calls. Too many that wait park, and end when they have been parked for
 * long.
 *
 * What waits in the kernel can only be woken from outside by a signal; so workers are cancelled,
 * asynchronously, and only while they wait.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "frontends/uapi/call.h"
#include "frontends/uapi/fd_tables.h"
#include "frontends/uapi/notify.h"
#include "frontends/uapi/stats.h"
#include "frontends/uapi/uapi.h"

/* Linux 6.6: the answer's receiver runs at once, on the same processor. */
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

#define WAITING_MAX 4
/* One that was there already, and how many of them in a row are a backlog. */
#define AT_ONCE_NS 1500
#define BACKLOG	   16
/* Waited for as long as this, others aren't needed. */
#define QUIET_NS       20000
#define WATCH_NS       100000
#define WATCH_IDLE     200
#define WORKERS_MAX    512
#define PARKED_SECONDS 5
#define GRACE_NS       20000000
#define STACK_SIZE     (256UL << 10)

struct worker {
	struct uapi_notifier *notifier;
	pthread_t thread;
	struct worker *next;
};

struct uapi_notifier {
	struct uvf_run *run;
	int listener;
	int reserved_first;
	size_t notification_size, response_size;
	struct uapi_fd_tables *fd_tables;
	struct uapi_stats *stats;
	pthread_mutex_t placing;

	atomic_int waiting;   /* in the kernel, or about to */
	atomic_int wanted;    /* as many may wait */
	atomic_uint received; /* calls so far */
	atomic_bool watched;  /* the watchdog is awake */
	pthread_t watchdog;
	bool has_watchdog;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* somebody shall come out of parking, or workers became fewer */
	struct worker *workers;
	unsigned count;
	unsigned parked;
	unsigned called; /* of the parked */
	bool stopping;
};

static void *run_worker(void *opaque);

/* ---- The listener ---- */

int uapi_notifier_is_valid(struct uapi_notifier *notifier, uint64_t id)
{
	return ioctl(notifier->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) < 0 ? -errno : 0;
}

int uapi_notifier_send(struct uapi_notifier *notifier, uint64_t id, int64_t result)
{
	struct seccomp_notif_resp response = {.id = id};

	if (result == UAPI_CONTINUE)
		response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else if (result < 0)
		response.error = (int)result;
	else
		response.val = result;
	return ioctl(notifier->listener, SECCOMP_IOCTL_NOTIF_SEND, &response) < 0 ? -errno : 0;
}

int uapi_notifier_add_fd(struct uapi_notifier *notifier, uint64_t id, int fd, int number, int flags)
{
	struct seccomp_notif_addfd add = {
		.id = id,
		.flags = number >= 0 ? SECCOMP_ADDFD_FLAG_SETFD : 0,
		.srcfd = (unsigned)fd,
		.newfd = number >= 0 ? (unsigned)number : 0,
		.newfd_flags = (unsigned)flags,
	};
	int result = ioctl(notifier->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);

	return result < 0 ? -errno : result;
}

struct uapi_fd_tables *uapi_notifier_fd_tables(struct uapi_notifier *notifier)
{
	return notifier->fd_tables;
}

struct uapi_stats *uapi_notifier_stats(struct uapi_notifier *notifier)
{
	return notifier->stats;
}

int uapi_notifier_reserved_first(const struct uapi_notifier *notifier)
{
	return notifier->reserved_first;
}

void uapi_notifier_lock_placing(struct uapi_notifier *notifier)
{
	pthread_mutex_lock(&notifier->placing);
}

void uapi_notifier_unlock_placing(struct uapi_notifier *notifier)
{
	pthread_mutex_unlock(&notifier->placing);
}

/* ---- The pool ---- */

/* With the lock. */
static int start_worker(struct uapi_notifier *notifier)
{
	struct worker *worker;
	pthread_attr_t attributes;
	int result;

	if (notifier->count >= WORKERS_MAX)
		return -EAGAIN;
	worker = calloc(1, sizeof(*worker));
	if (!worker)
		return -ENOMEM;
	worker->notifier = notifier;
	worker->next = notifier->workers;
	atomic_fetch_add(&notifier->waiting, 1);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	result = -pthread_create(&worker->thread, &attributes, run_worker, worker);
	pthread_attr_destroy(&attributes);
	if (result) {
		atomic_fetch_sub(&notifier->waiting, 1);
		free(worker);
		return result;
	}
	notifier->workers = worker;
	notifier->count++;
	return 0;
}

/* Sees to it that one more waits for notifications. */
static void call_another(struct uapi_notifier *notifier)
{
	pthread_mutex_lock(&notifier->lock);
	if (notifier->parked > notifier->called) {
		notifier->called++;
		atomic_fetch_add(&notifier->waiting, 1);
		pthread_cond_broadcast(&notifier->changed);
	} else if (!notifier->stopping) {
		start_worker(notifier);
	}
	pthread_mutex_unlock(&notifier->lock);
}

/*
 * Waits until it is called: true, and it counts as waiting already. False: the worker shall end.
 */
static bool park(struct uapi_notifier *notifier)
{
	struct timespec until;
	int result = 0;
	bool called;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PARKED_SECONDS;
	pthread_mutex_lock(&notifier->lock);
	notifier->parked++;
	while (!notifier->called && !notifier->stopping && result != ETIMEDOUT)
		result = pthread_cond_clockwait(&notifier->changed, &notifier->lock,
						CLOCK_MONOTONIC, &until);
	notifier->parked--;
	called = notifier->called > 0;
	if (called)
		notifier->called--;
	pthread_mutex_unlock(&notifier->lock);
	return called;
}

/* Also when it was cancelled. */
static void leave(void *opaque)
{
	struct worker *worker = opaque;
	struct uapi_notifier *notifier = worker->notifier;

	pthread_mutex_lock(&notifier->lock);
	for (struct worker **link = &notifier->workers; *link; link = &(*link)->next) {
		if (*link == worker) {
			*link = worker->next;
			break;
		}
	}
	notifier->count--;
	free(worker);
	pthread_cond_broadcast(&notifier->changed);
	pthread_mutex_unlock(&notifier->lock);
}

/* ---- A worker ---- */

/* Returns 0, -ENOENT (the caller was gone before we had it), or what says that all is over. */
static int receive(struct uapi_notifier *notifier, struct seccomp_notif *notification)
{
	int result;
	int state;

	memset(notification, 0, notifier->notification_size);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	result = ioctl(notifier->listener, SECCOMP_IOCTL_NOTIF_RECV, notification) < 0 ? -errno : 0;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return result;
}

static void handle(struct uapi_notifier *notifier, const struct seccomp_notif *notification)
{
	struct uapi_call call = {
		.run = notifier->run,
		.notifier = notifier,
		.id = notification->id,
		.thread = (pid_t)notification->pid,
		.number = notification->data.nr,
		.instruction_pointer = notification->data.instruction_pointer,
		.begun_ns = uvf_now_ns(),
	};
	int64_t result;

	for (size_t i = 0; i < 6; i++)
		call.arguments[i] = notification->data.args[i];
	result = uapi_dispatch(&call);
	if (result != UAPI_TAKEN)
		uapi_call_answer(&call, result);
}

/* What was received says whether more should wait, or fewer. */
static void judge(struct uapi_notifier *notifier, uint64_t waited_ns, unsigned *at_once)
{
	int wanted = atomic_load_explicit(&notifier->wanted, memory_order_relaxed);

	if (waited_ns >= AT_ONCE_NS) {
		*at_once = 0;
		if (waited_ns > QUIET_NS && wanted > 1)
			atomic_store(&notifier->wanted, 1);
	} else if (++*at_once >= BACKLOG && wanted < WAITING_MAX) {
		*at_once = 0;
		atomic_store(&notifier->wanted, wanted + 1);
		call_another(notifier);
	}
}

static void wake_watchdog(struct uapi_notifier *notifier)
{
	pthread_mutex_lock(&notifier->lock);
	atomic_store(&notifier->watched, true);
	pthread_cond_broadcast(&notifier->changed);
	pthread_mutex_unlock(&notifier->lock);
}

/* Until the listener is done for, or there are too many that wait. */
static void serve(struct uapi_notifier *notifier, struct seccomp_notif *notification)
{
	unsigned at_once = 0;

	for (;;) {
		uint64_t begun = uvf_now_ns();
		int result = receive(notifier, notification);

		if (result == -EINTR)
			continue;
		if (result == -ENOENT) {
			/* Its caller was killed; or (Linux 6.11) all callers are gone for good. */
			if (uapi_notifier_is_over(notifier, 0))
				return;
			continue;
		}
		if (result) {
			uvf_logf(&notifier->run->config.log, UVF_LOG_ERROR, "uapi",
				 "receiving calls: %s", strerror(-result));
			return;
		}
		atomic_fetch_sub(&notifier->waiting, 1);
		atomic_fetch_add(&notifier->received, 1);
		if (!atomic_load(&notifier->watched))
			wake_watchdog(notifier);
		judge(notifier, uvf_now_ns() - begun, &at_once);
		handle(notifier, notification);
		if (atomic_fetch_add(&notifier->waiting, 1) < atomic_load(&notifier->wanted))
			continue;
		atomic_fetch_sub(&notifier->waiting, 1);
		if (!park(notifier))
			return;
	}
}

/* ---- The watchdog ---- */

/* False: the end. */
static bool sleep_until_calls(struct uapi_notifier *notifier)
{
	bool stopping;

	pthread_mutex_lock(&notifier->lock);
	while (!notifier->stopping && !atomic_load(&notifier->watched))
		pthread_cond_wait(&notifier->changed, &notifier->lock);
	stopping = notifier->stopping;
	pthread_mutex_unlock(&notifier->lock);
	return !stopping;
}

/* While there are calls: where nobody waits, and has not for a while, somebody is called. */
static void watch_calls(struct uapi_notifier *notifier)
{
	const struct timespec interval = {.tv_nsec = WATCH_NS};
	unsigned before = atomic_load(&notifier->received);
	unsigned idle = 0;

	while (idle < WATCH_IDLE) {
		unsigned now;
		bool nobody;

		nanosleep(&interval, NULL);
		now = atomic_load(&notifier->received);
		nobody = atomic_load(&notifier->waiting) <= 0;
		if (nobody && now == before)
			call_another(notifier);
		idle = nobody || now != before ? 0 : idle + 1;
		before = now;
	}
	/* A call that comes from here on wakes it; one that came before was counted. */
	atomic_store(&notifier->watched, false);
	if (atomic_load(&notifier->received) != before)
		atomic_store(&notifier->watched, true);
}

static void *run_watchdog(void *opaque)
{
	struct uapi_notifier *notifier = opaque;

	prctl(PR_SET_TIMERSLACK, WATCH_NS / 10);
	while (sleep_until_calls(notifier))
		watch_calls(notifier);
	return NULL;
}

static void *run_worker(void *opaque)
{
	struct worker *worker = opaque;
	struct uapi_notifier *notifier = worker->notifier;
	struct seccomp_notif *notification;
	int before;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before);
	notification = calloc(1, notifier->notification_size);
	pthread_cleanup_push(leave, worker);
	pthread_cleanup_push(free, notification);
	if (notification)
		serve(notifier, notification);
	pthread_cleanup_pop(1);
	pthread_cleanup_pop(1);
	return NULL;
}

/* ---- Start and end ---- */

/*
 * From Linux 6.11 on workers that wait are woken when nobody is left who could call: where that is
 * so, they needn't be cancelled.
 */
void uapi_notifier_stop(struct uapi_notifier *notifier)
{
	struct timespec until;
	int result = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (until.tv_nsec + GRACE_NS) / 1000000000;
	until.tv_nsec = (until.tv_nsec + GRACE_NS) % 1000000000;
	pthread_mutex_lock(&notifier->lock);
	notifier->stopping = true;
	pthread_cond_broadcast(&notifier->changed);
	while (notifier->count && result != ETIMEDOUT)
		result = pthread_cond_clockwait(&notifier->changed, &notifier->lock,
						CLOCK_MONOTONIC, &until);
	for (const struct worker *worker = notifier->workers; worker; worker = worker->next)
		pthread_cancel(worker->thread);
	while (notifier->count)
		pthread_cond_wait(&notifier->changed, &notifier->lock);
	pthread_mutex_unlock(&notifier->lock);
	if (notifier->has_watchdog)
		pthread_join(notifier->watchdog, NULL);
	notifier->has_watchdog = false;
}

static void free_notifier(struct uapi_notifier *notifier)
{
	close(notifier->listener);
	pthread_cond_destroy(&notifier->changed);
	pthread_mutex_destroy(&notifier->placing);
	pthread_mutex_destroy(&notifier->lock);
	uapi_fd_tables_free(notifier->fd_tables);
	uapi_stats_free(notifier->stats);
	free(notifier);
}

int uapi_notifier_new(struct uvf_run *run, int listener, int reserved_first)
{
	struct uapi_notifier *notifier = calloc(1, sizeof(*notifier));
	struct seccomp_notif_sizes sizes = {0};
	int result;

	if (!notifier) {
		close(listener);
		return -ENOMEM;
	}
	notifier->run = run;
	notifier->listener = listener;
	notifier->reserved_first = reserved_first;
	notifier->wanted = 1;
	pthread_mutex_init(&notifier->lock, NULL);
	pthread_mutex_init(&notifier->placing, NULL);
	pthread_cond_init(&notifier->changed, NULL);
	notifier->fd_tables = uapi_fd_tables_new();
	notifier->stats = uapi_stats_new();
	syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes);
	/* A newer kernel may write more than our headers know. */
	notifier->notification_size = sizes.seccomp_notif > sizeof(struct seccomp_notif)
					      ? sizes.seccomp_notif
					      : sizeof(struct seccomp_notif);
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	run->notifier = notifier;
	result = notifier->fd_tables && notifier->stats ? 0 : -ENOMEM;
	pthread_mutex_lock(&notifier->lock);
	if (!result)
		result = start_worker(notifier);
	pthread_mutex_unlock(&notifier->lock);
	if (!result) {
		result = -pthread_create(&notifier->watchdog, NULL, run_watchdog, notifier);
		notifier->has_watchdog = !result;
	}
	if (result) {
		uapi_notifier_stop(notifier);
		free_notifier(notifier);
		run->notifier = NULL;
	}
	return result;
}

/* A signal that comes while others are at the listener makes an error of it: that is no end. */
bool uapi_notifier_is_over(struct uapi_notifier *notifier, int timeout_ms)
{
	struct pollfd poll_listener = {notifier->listener, 0, 0};

	return poll(&poll_listener, 1, timeout_ms) == 1 && poll_listener.revents & POLLHUP;
}

void uapi_notifier_free(struct uapi_notifier *notifier)
{
	if (!notifier)
		return;
	uapi_notifier_stop(notifier);
	free_notifier(notifier);
}
