/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The worker: executes descriptors, one of each active channel in turn, so that a chain without an
 * end keeps neither the driver's registers nor another channel waiting.
 */
#include "devices/ioat/ioat.h"

#include <signal.h>
#include <string.h>

#include "base/bytes.h"

static bool next_job(struct ioat *ioat)
{
	if (!ioat->bus_master || ioat->stalled || ioat->quiesced)
		return false;
	for (unsigned i = 0; i < ioat->channels; i++) {
		unsigned channel = (ioat->next_channel + i) % ioat->channels;
		const struct ioat_channel_state *state = &ioat->state.channels[channel];

		if (state->status != IOAT_ACTIVE)
			continue;
		ioat->next_channel = channel + 1;
		ioat->job = (struct ioat_job){
			.channel = channel,
			.epoch = ioat->epochs[channel],
			.bus_epoch = ioat->bus_epoch,
			.at_start = state->at_start,
			.address = state->current,
			.chancmp = state->chancmp,
		};
		return true;
	}
	return false;
}

/* Returns CHANERR bits. */
static uint32_t write_completion(struct ioat *ioat, struct ioat_job *job, uint64_t value)
{
	uint8_t bytes[8];

	if (!uvf_is_aligned(job->chancmp, sizeof(bytes)))
		return IOAT_ERR_COMPLETION_ADDRESS;
	uvf_put_le64(bytes, value);
	return ioat_write(ioat, job, job->chancmp, bytes, sizeof(bytes))
		       ? 0
		       : IOAT_ERR_COMPLETION_ADDRESS;
}

/*
 * A channel that lost the bus in the middle of a descriptor begins that one again. DMA is refused
 * before the device is told why, so who is refused waits to be told.
 */
static bool still_counts(struct ioat *ioat, const struct ioat_job *job, uint32_t errors)
{
	if (ioat->epochs[job->channel] != job->epoch)
		return false;
	if (!errors || !job->off_bus)
		return true;
	ioat->stalled = ioat->bus_epoch == job->bus_epoch;
	ioat_channel_let_go(ioat, job->channel);
	return false;
}

/* What CHANCMP's memory gets, if it gets anything. */
static bool completion_value(const struct ioat *ioat, const struct ioat_job *job, uint32_t errors,
			     uint64_t *value)
{
	const struct ioat_channel_state *state = &ioat->state.channels[job->channel];

	if (errors) {
		*value = state->completed | IOAT_HALTED;
		return state->chanctrl & IOAT_CHANCTRL_ERR_COMPLETION_EN;
	}
	*value = job->address | ioat_channel_after(ioat, job->channel);
	return job->descriptor.control & IOAT_DESC_COMPLETION;
}

/* With `lock` held, which it gives up in between. */
static void execute_job(struct ioat *ioat)
{
	struct ioat_job *job = &ioat->job;
	uint32_t errors, completion_errors = 0;
	uint64_t value;

	pthread_mutex_unlock(&ioat->lock);
	errors = ioat_execute(ioat, job);
	pthread_mutex_lock(&ioat->lock);
	if (!still_counts(ioat, job, errors))
		return;
	if (completion_value(ioat, job, errors, &value)) {
		ioat_channel_error(ioat, job->channel, errors);
		pthread_mutex_unlock(&ioat->lock);
		completion_errors = write_completion(ioat, job, value);
		pthread_mutex_lock(&ioat->lock);
		/* Errors that have been shown stay, whatever became of the bus. */
		if (!still_counts(ioat, job, errors ? 0 : completion_errors))
			return;
	}
	ioat_channel_finish(ioat, job, errors | completion_errors);
}

static bool run_one(struct ioat *ioat)
{
	if (!next_job(ioat))
		return false;
	ioat->busy = true;
	execute_job(ioat);
	ioat->busy = false;
	pthread_cond_broadcast(&ioat->idle);
	return true;
}

/* #syscalls: futex */
static void *run(void *opaque)
{
	struct ioat *ioat = opaque;

	pthread_mutex_lock(&ioat->lock);
	while (!ioat->stop) {
		if (!run_one(ioat))
			pthread_cond_wait(&ioat->work, &ioat->lock);
	}
	pthread_mutex_unlock(&ioat->lock);
	return NULL;
}

unsigned ioat_run(struct ioat *ioat, unsigned limit)
{
	unsigned count = 0;

	pthread_mutex_lock(&ioat->lock);
	while (count < limit && run_one(ioat))
		count++;
	pthread_mutex_unlock(&ioat->lock);
	return count;
}

/* #syscalls: futex */
void ioat_worker_wake(struct ioat *ioat)
{
	pthread_cond_signal(&ioat->work);
}

/* #syscalls: futex */
void ioat_worker_wait(struct ioat *ioat)
{
	while (ioat->busy)
		pthread_cond_wait(&ioat->idle, &ioat->lock);
}

/* Signals are the program's: its threads take them, this one does not. */
int ioat_worker_start(struct ioat *ioat)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all);
	/* The guard against truncated files is a handler of it. */
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	ret = pthread_create(&ioat->thread, NULL, run, ioat);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	ioat->thread_runs = !ret;
	return -ret;
}

void ioat_worker_stop(struct ioat *ioat)
{
	if (!ioat->thread_runs)
		return;
	pthread_mutex_lock(&ioat->lock);
	ioat->stop = true;
	for (unsigned i = 0; i < ioat->channels; i++)
		ioat->epochs[i]++;
	ioat_worker_wake(ioat);
	pthread_mutex_unlock(&ioat->lock);
	pthread_join(ioat->thread, NULL);
}
