/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller comes to rest, and goes on: before and after its state moves. At rest no command
 * is in progress, and what poller 0 is told to do stays told. Its storage is let go of when it
 * stops, so that whoever takes over can have it.
 */
#include "devices/nvme/nvme.h"

#include <errno.h>
#include <time.h>

/* Nothing that it began is left. Without bus mastering what is staged stays staged, and moves. */
static bool at_rest(const struct nvme_poller *poller)
{
	struct nvme *ctrl = poller->ctrl;

	if (poller->free_count != NVME_SLOTS)
		return false;
	if (poller->dirty_count && atomic_load(&ctrl->bus_master))
		return false;
	return poller->index || (!atomic_load(&ctrl->work) && !ctrl->deleting);
}

/*
 * Takes its lock, once nothing is left. False: not in time. It may hold the lock itself for as long
 * as an access to the driver's memory takes.
 * #syscalls: clock_nanosleep
 */
static bool wait_for_rest(struct nvme_poller *poller, uint64_t until)
{
	static const struct timespec moment = {.tv_nsec = 50000};

	while (nvme_poller_pause_until(poller, until)) {
		if (at_rest(poller)) {
			atomic_fetch_sub(&poller->waiters, 1);
			return true;
		}
		nvme_poller_resume(poller);
		if (nvme_now_ms() >= until)
			break;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
	}
	return false;
}

static void go_on(struct nvme *ctrl)
{
	for (unsigned i = 0; i < ctrl->poller_count; i++)
		atomic_fetch_sub(&ctrl->pollers[i].quiesced, 1);
	atomic_store(&ctrl->work, true);
	for (unsigned i = 0; i < ctrl->poller_count; i++)
		nvme_poller_wake(&ctrl->pollers[i]);
}

int nvme_quiesce(struct uvf_device *dev)
{
	struct nvme *ctrl = uvf_device_opaque(dev);
	uint64_t until = nvme_now_ms() + ctrl->reset_limit_ms;
	bool rest;

	for (unsigned i = 0; i < ctrl->poller_count; i++)
		atomic_fetch_add(&ctrl->pollers[i].quiesced, 1);
	if (ctrl->by_hand)
		nvme_run(ctrl);
	/* Poller 0 first: its commands end others'. And last: it completes what waited for those.
	 */
	rest = wait_for_rest(&ctrl->pollers[0], until);
	if (rest)
		pthread_mutex_unlock(&ctrl->pollers[0].lock);
	for (unsigned i = 1; i < ctrl->poller_count && rest; i++) {
		rest = wait_for_rest(&ctrl->pollers[i], until);
		if (rest)
			pthread_mutex_unlock(&ctrl->pollers[i].lock);
	}
	if (!rest || !wait_for_rest(&ctrl->pollers[0], until)) {
		go_on(ctrl);
		uvf_device_log(dev, UVF_LOG_ERROR,
			       "it does not come to rest within %u ms: commands are still in the "
			       "storage, or an access to the driver's memory has not ended",
			       ctrl->reset_limit_ms);
		return -ETIMEDOUT;
	}
	atomic_store(&ctrl->still, true);
	atomic_store(&ctrl->bus_master, false);
	pthread_mutex_unlock(&ctrl->pollers[0].lock);
	return 0;
}

/* Nothing, where it isn't at rest. */
int nvme_unquiesce(struct uvf_device *dev)
{
	struct nvme *ctrl = uvf_device_opaque(dev);

	if (!atomic_load(&ctrl->still))
		return 0;
	atomic_store(&ctrl->bus_master, ctrl->bus_mastering);
	atomic_store(&ctrl->still, false);
	go_on(ctrl);
	return 0;
}

static void storage_release(struct nvme *ctrl, unsigned count)
{
	while (count--)
		nvme_backend_release(ctrl->namespaces[count].backend);
}

int nvme_storage_claim(struct nvme *ctrl, struct uvf_error *error)
{
	for (unsigned i = 0; i < ctrl->namespace_count; i++) {
		int ret = nvme_backend_claim(ctrl->namespaces[i].backend, error);

		if (!ret)
			continue;
		storage_release(ctrl, i);
		return ret;
	}
	return 0;
}

int nvme_stop(struct uvf_device *dev)
{
	struct nvme *ctrl = uvf_device_opaque(dev);
	struct uvf_error error;

	for (unsigned i = 0; i < ctrl->namespace_count; i++) {
		int ret = nvme_backend_release(ctrl->namespaces[i].backend);

		if (!ret)
			continue;
		uvf_device_log(dev, UVF_LOG_ERROR, "namespace %u's storage can't be let go of: %s",
			       i + 1, strerror(-ret));
		if (nvme_storage_claim(ctrl, &error))
			nvme_fatal(ctrl, error.text);
		return ret;
	}
	return 0;
}

int nvme_start(struct uvf_device *dev)
{
	struct nvme *ctrl = uvf_device_opaque(dev);
	struct uvf_error error;
	int ret = nvme_storage_claim(ctrl, &error);

	if (ret)
		uvf_device_log(dev, UVF_LOG_ERROR, "it can't go on: %s", error.text);
	return ret;
}
