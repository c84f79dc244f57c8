/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Resample eventfds: a driver that acknowledges a level-triggered interrupt by signalling an
 * eventfd (ACTION_UNMASK with DATA_EVENTFD). One thread a device waits for them, from the first
 * that is given until the device is freed.
 *
 * What is no eventfd can look like one (irq.c): an epoll or a signalfd that is ready stays so,
 * because it can't be read as one. It is found out then, and no longer waited for.
 *
 * The table is guarded by `lock`; the thread copies an entry under it and then unmasks without it,
 * so that a vector's lock is never taken inside.
 */
#include "core/device.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_RESAMPLES 64

struct resample {
	struct irq_index *irq;
	struct irq_vector *vector;
	int fd;
	bool is_dead; /* not waited for: it is no eventfd */
};

struct resampler {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t idle; /* the thread waits with no old fd in its hands */
	int wake;	     /* eventfd: the table changed, or stop */
	bool stop;
	uint64_t generation; /* of the table */
	uint64_t seen;	     /* the generation that the thread works from */
	struct resample entries[MAX_RESAMPLES];
	size_t count;
};

static size_t take_table(struct resampler *resampler, struct resample *entries, struct pollfd *fds)
{
	size_t count;

	pthread_mutex_lock(&resampler->lock);
	count = resampler->stop ? 0 : resampler->count;
	for (size_t i = 0; i < count; i++) {
		entries[i] = resampler->entries[i];
		fds[i + 1] = (struct pollfd){.fd = entries[i].is_dead ? -1 : entries[i].fd,
					     .events = POLLIN};
	}
	resampler->seen = resampler->generation;
	pthread_cond_broadcast(&resampler->idle);
	pthread_mutex_unlock(&resampler->lock);
	fds[0] = (struct pollfd){.fd = resampler->wake, .events = POLLIN};
	return count;
}

static bool resampler_stopped(struct resampler *resampler)
{
	bool stop;

	pthread_mutex_lock(&resampler->lock);
	stop = resampler->stop;
	pthread_mutex_unlock(&resampler->lock);
	return stop;
}

/*
 * Never waits, whatever the driver does with its end at the same time: -EAGAIN where somebody else
 * was quicker. Other errors: it can't be read.
 * #syscalls: preadv2 read
 */
static int drain(int fd)
{
	uint64_t value;
	struct iovec iov = {&value, sizeof(value)};
	ssize_t ret = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

	if (ret < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return ret == sizeof(value) ? 0 : -EINVAL;
}

static void give_up(struct resampler *resampler, const struct resample *entry)
{
	pthread_mutex_lock(&resampler->lock);
	for (size_t i = 0; i < resampler->count; i++)
		if (resampler->seen == resampler->generation &&
		    resampler->entries[i].vector == entry->vector)
			resampler->entries[i].is_dead = true;
	pthread_mutex_unlock(&resampler->lock);
}

static void acknowledge(struct resampler *resampler, const struct resample *entry)
{
	int ret = drain(entry->fd);

	if (!ret)
		uvf_irq_unmask(entry->irq, entry->vector);
	else if (ret != -EAGAIN)
		give_up(resampler, entry);
}

/* #syscalls: poll */
static void *resampler_run(void *opaque)
{
	struct resampler *resampler = opaque;
	struct resample entries[MAX_RESAMPLES];
	struct pollfd fds[MAX_RESAMPLES + 1];

	while (!resampler_stopped(resampler)) {
		size_t count = take_table(resampler, entries, fds);

		if (poll(fds, count + 1, -1) < 0)
			continue;
		if (fds[0].revents) {
			drain(resampler->wake);
			continue;
		}
		for (size_t i = 0; i < count; i++)
			if (fds[i + 1].revents)
				acknowledge(resampler, &entries[i]);
	}
	return NULL;
}

/* #syscalls: write */
static void resampler_wake(struct resampler *resampler)
{
	uint64_t one = 1;

	while (write(resampler->wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* #syscalls: eventfd2 */
static struct resampler *resampler_new(void)
{
	struct resampler *resampler = calloc(1, sizeof(*resampler));

	if (!resampler)
		return NULL;
	pthread_mutex_init(&resampler->lock, NULL);
	pthread_cond_init(&resampler->idle, NULL);
	resampler->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (resampler->wake >= 0 &&
	    !pthread_create(&resampler->thread, NULL, resampler_run, resampler))
		return resampler;
	if (resampler->wake >= 0)
		close(resampler->wake);
	free(resampler);
	return NULL;
}

/* Changes the table; returns the fd that was there, or -1; -ENOSPC if there is no room. */
static int table_set(struct resampler *resampler, struct resample entry)
{
	int old = -1;
	size_t i;

	for (i = 0; i < resampler->count && resampler->entries[i].vector != entry.vector; i++)
		;
	if (i < resampler->count)
		old = resampler->entries[i].fd;
	if (entry.fd >= 0 && i == MAX_RESAMPLES)
		return -ENOSPC;
	if (entry.fd >= 0) {
		resampler->entries[i] = entry;
		resampler->count += i == resampler->count;
	} else if (i < resampler->count) {
		resampler->entries[i] = resampler->entries[--resampler->count];
	}
	resampler->generation++;
	return old;
}

int uvf_resampler_set(struct uvf_device *dev, struct irq_index *irq, struct irq_vector *vector,
		      int fd)
{
	struct resampler *resampler = dev->resampler;
	int old;

	if (fd < 0 && (!resampler || vector->unmask < 0))
		return 0;
	if (!resampler)
		resampler = dev->resampler = resampler_new();
	if (!resampler) {
		close(fd);
		return -ENOMEM;
	}
	pthread_mutex_lock(&resampler->lock);
	old = table_set(resampler, (struct resample){irq, vector, fd, false});
	resampler_wake(resampler);
	/* An fd is closed only when the thread has let go of it. */
	while (old >= 0 && resampler->seen != resampler->generation)
		pthread_cond_wait(&resampler->idle, &resampler->lock);
	pthread_mutex_unlock(&resampler->lock);
	if (old == -ENOSPC) {
		close(fd);
		return old;
	}
	vector->unmask = fd;
	if (old >= 0)
		close(old);
	return 0;
}

void uvf_resampler_free(struct uvf_device *dev)
{
	struct resampler *resampler = dev->resampler;

	if (!resampler)
		return;
	pthread_mutex_lock(&resampler->lock);
	resampler->stop = true;
	pthread_mutex_unlock(&resampler->lock);
	resampler_wake(resampler);
	pthread_join(resampler->thread, NULL);
	for (size_t i = 0; i < resampler->count; i++)
		close(resampler->entries[i].fd);
	close(resampler->wake);
	pthread_cond_destroy(&resampler->idle);
	pthread_mutex_destroy(&resampler->lock);
	free(resampler);
	dev->resampler = NULL;
}
