/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The threads that serve queues. A poller with nothing to do spins for a while (adaptive), for ever
 * (on) or not at all (off), and then sleeps on an eventfd and on its back ends' fds.
 *
 * System calls: poll, read, write, futex, sched_yield, clock_gettime, clock_nanosleep, and those of
 * the back ends.
 */
#include "base/clock.h"
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SPIN_NS	     50000 /* about what it costs to sleep and be woken */
#define RETRY_MS     5
#define MAX_ROUNDS   1000 /* of nvme_run() */
#define EAGER_ROUNDS 1000 /* idle ones without a pause: it would be in each command's latency */
#define CLOCK_EVERY  32	  /* idle rounds between looks at the clock */

uint64_t nvme_now_ms(void)
{
	return uvf_now_ns() / 1000000u;
}

/* #syscalls: sched_yield */
static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

struct nvme_poller *nvme_poller_of(struct nvme *ctrl, uint16_t cq_id)
{
	return &ctrl->pollers[cq_id ? (cq_id - 1u) % ctrl->poller_count : 0];
}

/* #syscalls: write */
void nvme_poller_wake(struct nvme_poller *poller)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&poller->sleeping))
		eventfd_write(poller->wake, 1);
}

void nvme_poller_pause(struct nvme_poller *poller)
{
	atomic_fetch_add(&poller->waiters, 1);
	pthread_mutex_lock(&poller->lock);
}

/* #syscalls: clock_nanosleep */
bool nvme_poller_pause_until(struct nvme_poller *poller, uint64_t until)
{
	static const struct timespec moment = {.tv_nsec = 50000};

	atomic_fetch_add(&poller->waiters, 1);
	while (pthread_mutex_trylock(&poller->lock)) {
		if (nvme_now_ms() >= until) {
			atomic_fetch_sub(&poller->waiters, 1);
			return false;
		}
		clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
	}
	return true;
}

void nvme_poller_resume(struct nvme_poller *poller)
{
	pthread_mutex_unlock(&poller->lock);
	atomic_fetch_sub(&poller->waiters, 1);
}

void nvme_poller_enter(struct nvme_poller *poller)
{
	if (poller->index)
		nvme_poller_pause(poller);
}

void nvme_poller_leave(struct nvme_poller *poller)
{
	if (!poller->index)
		return;
	nvme_poller_resume(poller);
	nvme_poller_wake(poller);
}

static bool in_progress(const struct nvme_poller *poller)
{
	return poller->free_count != NVME_SLOTS;
}

void nvme_poller_quiesce(struct nvme_poller *poller)
{
	const struct timespec moment = {.tv_nsec = 50000};

	if (!poller->index) {
		while (in_progress(poller))
			for (unsigned i = 0; i < poller->async_count; i++)
				nvme_channel_drain(poller->async[i]);
		return;
	}
	atomic_fetch_add(&poller->quiesced, 1);
	for (;;) {
		nvme_poller_pause(poller);
		if (!in_progress(poller))
			return;
		nvme_poller_resume(poller);
		clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
	}
}

void nvme_poller_release(struct nvme_poller *poller)
{
	if (!poller->index)
		return;
	nvme_poller_resume(poller);
	atomic_fetch_sub(&poller->quiesced, 1);
	nvme_poller_wake(poller);
}

static bool may_fetch(struct nvme_poller *poller)
{
	struct nvme *ctrl = poller->ctrl;

	return atomic_load_explicit(&ctrl->live, memory_order_relaxed) &&
	       atomic_load_explicit(&ctrl->bus_master, memory_order_relaxed) &&
	       !atomic_load_explicit(&poller->quiesced, memory_order_relaxed);
}

/* Looks at everything once. Returns whether anything was there. */
static bool one_round(struct nvme_poller *poller)
{
	struct nvme *ctrl = poller->ctrl;
	bool busy = false;

	poller->retry = false;
	if (!poller->index &&
	    (atomic_load_explicit(&ctrl->work, memory_order_relaxed) || poller->events_blocked) &&
	    !atomic_load(&ctrl->still)) {
		atomic_store(&ctrl->work, false);
		nvme_controller_work(ctrl);
		busy = !poller->events_blocked;
	}
	if (may_fetch(poller))
		for (unsigned i = 0; i < poller->sq_count; i++)
			busy |= nvme_sq_process(poller, poller->sqs[i]);
	for (unsigned i = 0; i < poller->async_count; i++) {
		nvme_channel_kick(poller->async[i]);
		busy |= nvme_channel_reap(poller->async[i]) > 0;
	}
	if (poller->dirty_count)
		nvme_cq_flush_all(poller);
	return busy;
}

/* False: something came up. */
static bool prepare_to_sleep(struct nvme_poller *poller)
{
	struct nvme *ctrl = poller->ctrl;

	atomic_store(&poller->sleeping, true);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&ctrl->stop) ||
	    (!poller->index && atomic_load(&ctrl->work) && !atomic_load(&ctrl->still)))
		return false;
	if (may_fetch(poller) && !nvme_doorbells_arm(poller))
		return false;
	for (unsigned i = 0; i < poller->async_count; i++)
		if (!nvme_channel_arm(poller->async[i]))
			return false;
	return true;
}

/* #syscalls: poll read */
static void sleep_until_woken(struct nvme_poller *poller)
{
	struct nvme *ctrl = poller->ctrl;
	struct pollfd fds[NVME_MAX_NAMESPACES + 2] = {{.fd = poller->wake, .events = POLLIN},
						      {.fd = -1, .events = POLLIN}};
	bool retry = poller->retry || poller->dirty_count;
	nfds_t count = 2;
	eventfd_t value;

	if (!prepare_to_sleep(poller)) {
		atomic_store(&poller->sleeping, false);
		return;
	}
	retry |= poller->retry;
	if (poller->index < ctrl->ioeventfd_count)
		fds[1].fd = ctrl->ioeventfds[poller->index];
	for (unsigned i = 0; i < poller->async_count; i++)
		if (nvme_channel_busy(poller->async[i]))
			fds[count++] =
				(struct pollfd){.fd = poller->async[i]->fd, .events = POLLIN};
	pthread_mutex_unlock(&poller->lock);
	poll(fds, count, retry ? RETRY_MS : -1);
	atomic_store(&poller->sleeping, false);
	if (fds[0].revents)
		eventfd_read(poller->wake, &value);
	if (fds[1].revents)
		nvme_ioeventfd_rung(poller);
	pthread_mutex_lock(&poller->lock);
}

/* #syscalls: clock_nanosleep */
static void let_others_in(struct nvme_poller *poller)
{
	pthread_mutex_unlock(&poller->lock);
	while (atomic_load(&poller->waiters))
		sched_yield();
	pthread_mutex_lock(&poller->lock);
}

static bool keep_spinning(struct nvme_poller *poller, unsigned idle_rounds, uint64_t *idle_since)
{
	struct nvme *ctrl = poller->ctrl;

	if (ctrl->poll == NVME_POLL_OFF || poller->retry || !may_fetch(poller))
		return false;
	if (ctrl->poll == NVME_POLL_ON)
		return poller->sq_count;
	if (idle_rounds % CLOCK_EVERY)
		return true;
	if (!*idle_since)
		*idle_since = uvf_now_ns();
	return uvf_now_ns() - *idle_since < SPIN_NS;
}

static void *poller_run(void *opaque)
{
	struct nvme_poller *poller = opaque;
	unsigned idle_rounds = 0;
	uint64_t idle_since = 0;

	pthread_mutex_lock(&poller->lock);
	while (!atomic_load_explicit(&poller->ctrl->stop, memory_order_relaxed)) {
		if (atomic_load_explicit(&poller->waiters, memory_order_relaxed))
			let_others_in(poller);
		if (one_round(poller)) {
			idle_rounds = 0;
			idle_since = 0;
		} else if (keep_spinning(poller, ++idle_rounds, &idle_since)) {
			if (idle_rounds > EAGER_ROUNDS)
				relax();
		} else {
			sleep_until_woken(poller);
			idle_rounds = 0;
			idle_since = 0;
		}
	}
	for (unsigned i = 0; i < poller->async_count; i++)
		nvme_channel_drain(poller->async[i]);
	pthread_mutex_unlock(&poller->lock);
	return NULL;
}

void nvme_run(struct nvme *ctrl)
{
	bool busy = true;

	/* A command can ring doorbells by what it writes: not for ever. */
	for (unsigned round = 0; busy && round < MAX_ROUNDS; round++) {
		busy = false;
		for (unsigned i = 0; i < ctrl->poller_count; i++) {
			pthread_mutex_lock(&ctrl->pollers[i].lock);
			busy |= one_round(&ctrl->pollers[i]);
			pthread_mutex_unlock(&ctrl->pollers[i].lock);
		}
	}
}

static int open_channels(struct nvme_poller *poller, struct uvf_error *error)
{
	struct nvme *ctrl = poller->ctrl;

	for (unsigned i = 0; i < ctrl->namespace_count; i++) {
		int ret = nvme_channel_open(ctrl->namespaces[i].backend, NVME_SLOTS,
					    &poller->channels[i], error);

		if (ret)
			return ret;
		if (poller->channels[i]->fd >= 0)
			poller->async[poller->async_count++] = poller->channels[i];
	}
	return 0;
}

static int poller_start(struct nvme *ctrl, struct nvme_poller *poller, struct uvf_error *error)
{
	int ret;

	poller->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (poller->wake < 0)
		return uvf_fail(error, -errno, "no eventfd for a poller");
	poller->slots = calloc(NVME_SLOTS, sizeof(*poller->slots));
	if (!poller->slots)
		return uvf_fail(error, -ENOMEM, "no memory for a poller");
	for (unsigned i = 0; i < NVME_SLOTS; i++) {
		poller->slots[i].poller = poller;
		poller->slots[i].next = poller->free_slots;
		poller->free_slots = &poller->slots[i];
	}
	poller->free_count = NVME_SLOTS;
	ret = open_channels(poller, error);
	if (ret)
		return ret;
	if (ctrl->by_hand)
		return 0;
	ret = pthread_create(&poller->thread, NULL, poller_run, poller);
	if (ret)
		return uvf_fail(error, -ret, "no thread for a poller");
	ctrl->poller_threads++;
	return 0;
}

int nvme_pollers_start(struct nvme *ctrl, unsigned count, struct uvf_error *error)
{
	if (posix_memalign((void **)&ctrl->pollers, 64, count * sizeof(*ctrl->pollers)))
		return uvf_fail(error, -ENOMEM, "no memory for pollers");
	memset(ctrl->pollers, 0, count * sizeof(*ctrl->pollers));
	ctrl->poller_count = count;
	/* All of each before any thread runs: they look at one another. */
	for (unsigned i = 0; i < count; i++) {
		ctrl->pollers[i].ctrl = ctrl;
		ctrl->pollers[i].index = i;
		ctrl->pollers[i].wake = -1;
		pthread_mutex_init(&ctrl->pollers[i].lock, NULL);
	}
	for (unsigned i = 0; i < count; i++) {
		int ret = poller_start(ctrl, &ctrl->pollers[i], error);

		if (ret)
			return ret;
	}
	return 0;
}

void nvme_pollers_stop(struct nvme *ctrl)
{
	atomic_store(&ctrl->stop, true);
	for (unsigned i = 0; i < ctrl->poller_threads; i++) {
		nvme_poller_wake(&ctrl->pollers[i]);
		pthread_join(ctrl->pollers[i].thread, NULL);
	}
	for (unsigned i = 0; i < ctrl->poller_count; i++) {
		struct nvme_poller *poller = &ctrl->pollers[i];

		for (unsigned n = 0; n < ctrl->namespace_count; n++)
			nvme_channel_close(poller->channels[n]);
		if (poller->wake >= 0)
			close(poller->wake);
		free(poller->slots);
		pthread_mutex_destroy(&poller->lock);
	}
	free(ctrl->pollers);
}
