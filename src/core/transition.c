/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A way to another migration state that waits for the driver to follow changed areas, as a state
 * of the device and never as a thread that holds its lock. One at a time; those that have ended
 * wait to be told of, for that is done without a lock.
 */
#include "core/transition.h"

#include <errno.h>
#include <stdlib.h>

#include "core/device.h"

struct transition {
	struct transition *next; /* that has ended */
	enum vfio_device_mig_state to;
	void (*done)(void *opaque, int result);
	void *opaque;
	int result;
};

/* ---- With the device's lock ---- */

static bool is_by_hand(const struct uvf_device *dev)
{
	return dev->remap && dev->remap->by_hand;
}

static bool tells_later(struct uvf_device *dev)
{
	return is_by_hand(dev) || !uvf_delayer_start(dev);
}

static void finish(struct uvf_device *dev, int result)
{
	struct transition *transition = dev->transition, **at = &dev->finished;

	dev->transition = NULL;
	transition->result = result;
	while (*at)
		at = &(*at)->next;
	*at = transition;
}

void uvf_transition_settled(struct uvf_device *dev, int result)
{
	if (!dev->transition)
		return;
	if (!result)
		result = dev->migration_way->set_state(dev, dev->transition->to);
	else
		dev->migration_way->cancel(dev);
	finish(dev, result);
}

void uvf_transition_cancel(struct uvf_device *dev)
{
	if (!dev->transition)
		return;
	if (dev->migration_way->cancel)
		dev->migration_way->cancel(dev);
	finish(dev, -ECANCELED);
	if (!is_by_hand(dev))
		uvf_delayer_look(dev, 0);
}

static int start(struct uvf_device *dev, const struct transition *transition)
{
	struct transition *copy;
	int ret;

	if (dev->transition) {
		if (transition->to != dev->migration_way->state(dev))
			return -EBUSY;
		uvf_transition_cancel(dev);
		return 0;
	}
	/* Before anything is taken away. */
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *transition;
	ret = dev->migration_way->set_state(dev, transition->to);
	/* Who waits is told by a thread when it is given up: so there must be one from here on. */
	if (ret == -EINPROGRESS && !tells_later(dev)) {
		if (dev->migration_way->cancel)
			dev->migration_way->cancel(dev);
		ret = -ENOMEM;
	}
	if (ret == -EINPROGRESS)
		dev->transition = copy;
	else
		free(copy);
	return ret;
}

/* ---- Without it ---- */

void uvf_transitions_deliver(struct uvf_device *dev)
{
	struct transition *finished, *next;

	uvf_device_lock(dev);
	finished = dev->finished;
	dev->finished = NULL;
	uvf_device_unlock(dev);
	for (; finished; finished = next) {
		next = finished->next;
		finished->done(finished->opaque, finished->result);
		free(finished);
	}
}

void uvf_migration_arrived(struct uvf_device *dev, int result)
{
	if (dev->transition)
		finish(dev, result);
}

int uvf_migration_start_change(struct uvf_device *dev, enum vfio_device_mig_state state,
			       enum vfio_device_mig_state *before,
			       void (*done)(void *opaque, int result), void *opaque)
{
	const struct transition transition = {.to = state, .done = done, .opaque = opaque};
	int ret = uvf_migration_enter(dev);

	if (ret)
		return ret;
	*before = dev->migration_way->state(dev);
	ret = start(dev, &transition);
	uvf_device_unlock(dev);
	return ret;
}

int uvf_migration_start_state(struct uvf_device *dev, enum vfio_device_mig_state state,
			      void (*done)(void *opaque, int result), void *opaque)
{
	enum vfio_device_mig_state before;

	return uvf_migration_start_change(dev, state, &before, done, opaque);
}

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
	int result;
};

static void wake(void *opaque, int result)
{
	struct waiter *waiter = opaque;

	pthread_mutex_lock(&waiter->lock);
	waiter->done = true;
	waiter->result = result;
	pthread_cond_signal(&waiter->changed);
	pthread_mutex_unlock(&waiter->lock);
}

int uvf_migration_set_state(struct uvf_device *dev, enum vfio_device_mig_state state)
{
	struct waiter waiter = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0};
	int ret = uvf_migration_start_state(dev, state, wake, &waiter);

	if (ret != -EINPROGRESS)
		return ret;
	pthread_mutex_lock(&waiter.lock);
	while (!waiter.done)
		pthread_cond_wait(&waiter.changed, &waiter.lock);
	pthread_mutex_unlock(&waiter.lock);
	pthread_mutex_destroy(&waiter.lock);
	pthread_cond_destroy(&waiter.changed);
	return waiter.result;
}
