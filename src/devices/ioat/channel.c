/* SPDX-License-Identifier: BSD-3-Clause */
/* A channel's state machine: commands, the chain, the doorbell, errors and interrupts. */
#include "devices/ioat/ioat.h"

#include <uvfio/pci.h>

#include "base/bytes.h"

static struct ioat_channel_state *state_of(struct ioat *ioat, unsigned channel)
{
	return &ioat->state.channels[channel];
}

static uint16_t left_of(const struct ioat_channel_state *state)
{
	return (uint16_t)(state->dmacount - state->executed);
}

/* ---- Interrupts ---- */

void ioat_legacy_update(struct ioat *ioat)
{
	bool asserted =
		ioat->state.attnstatus && ioat->state.intrctrl & IOAT_INTRCTRL_MASTER_INT_EN;

	if (asserted == ioat->legacy_asserted)
		return;
	ioat->legacy_asserted = asserted;
	/* By message only the edge counts. */
	if (!asserted || !uvf_pci_msi(ioat->dev, 0))
		uvf_pci_intx(ioat->dev, asserted);
}

static void interrupt(struct ioat *ioat, unsigned channel)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	/*
	 * One that comes before the driver rearms is held: it may have looked at the completion
	 * already, and would else wait for its time limit.
	 */
	state->interrupt_held = state->chanctrl & IOAT_CHANCTRL_INT_REARM;
	if (state->interrupt_held)
		return;
	state->chanctrl |= IOAT_CHANCTRL_INT_REARM;
	if (ioat->state.intrctrl & IOAT_INTRCTRL_MSIX_VECTOR_CONTROL) {
		uvf_pci_msi(ioat->dev, channel);
		return;
	}
	ioat->state.attnstatus |= 1u << channel;
	ioat_legacy_update(ioat);
}

void ioat_channel_rearm(struct ioat *ioat, unsigned channel)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	state->chanctrl &= (uint16_t)~IOAT_CHANCTRL_INT_REARM;
	if (state->interrupt_held)
		interrupt(ioat, channel);
}

/* ---- Errors ---- */

void ioat_channel_error(struct ioat *ioat, unsigned channel, uint32_t errors)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	state->chanerr |= errors;
	ioat->state.chanerr_int |= errors & ~ioat->state.chanerrmsk_int;
}

/* An error that CHANERR_MASK has halts too, but silently. */
static void halt(struct ioat *ioat, unsigned channel, uint32_t errors)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	ioat_channel_error(ioat, channel, errors);
	state->status = IOAT_HALTED;
	state->suspend_wanted = false;
	uvf_device_log(ioat->dev, UVF_LOG_DEBUG, "channel %u: halted at 0x%llx: CHANERR 0x%x",
		       channel, (unsigned long long)state->current, errors);
	if (state->chanctrl & IOAT_CHANCTRL_ERR_INT_EN && errors & ~state->chanerr_mask)
		interrupt(ioat, channel);
}

/* ---- Descriptors ---- */

enum ioat_status ioat_channel_after(const struct ioat *ioat, unsigned channel)
{
	const struct ioat_channel_state *state = &ioat->state.channels[channel];

	return left_of(state) == 1 ? IOAT_DONE : IOAT_ACTIVE;
}

void ioat_channel_finish(struct ioat *ioat, const struct ioat_job *job, uint32_t errors)
{
	struct ioat_channel_state *state = state_of(ioat, job->channel);

	if (errors) {
		halt(ioat, job->channel, errors);
		return;
	}
	state->status = state->suspend_wanted ? IOAT_SUSPENDED
					      : (uint8_t)ioat_channel_after(ioat, job->channel);
	state->suspend_wanted = false;
	state->executed++;
	state->completed = job->address;
	state->current = job->descriptor.next;
	state->at_start = false;
	if (job->descriptor.control & IOAT_DESC_INT)
		interrupt(ioat, job->channel);
}

void ioat_channel_let_go(struct ioat *ioat, unsigned channel)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	if (state->suspend_wanted)
		state->status = IOAT_SUSPENDED;
	state->suspend_wanted = false;
}

/* ---- What the driver does ---- */

void ioat_channel_chain(struct ioat *ioat, unsigned channel, uint64_t address)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	if (state->status == IOAT_ACTIVE)
		return;
	state->chainaddr = address;
	state->current = address;
	state->at_start = true;
	state->dmacount = 0;
	state->executed = 0;
	if (!state->chanerr)
		state->status = IOAT_ARMED;
}

static void start(struct ioat *ioat, unsigned channel)
{
	state_of(ioat, channel)->status = IOAT_ACTIVE;
	ioat_worker_wake(ioat);
}

void ioat_channel_count(struct ioat *ioat, unsigned channel, uint16_t count)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	/* The descriptor that is executed now can't be taken back. */
	if (state->status == IOAT_ACTIVE && count == state->executed)
		return;
	state->dmacount = count;
	if ((state->status == IOAT_ARMED || state->status == IOAT_DONE) && left_of(state))
		start(ioat, channel);
}

static void suspend_channel(struct ioat *ioat, unsigned channel)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	if (state->status == IOAT_ACTIVE && ioat->busy && ioat->job.channel == channel &&
	    ioat->job.epoch == ioat->epochs[channel])
		state->suspend_wanted = true;
	else if (state->status != IOAT_HALTED)
		state->status = IOAT_SUSPENDED;
}

static void resume_channel(struct ioat *ioat, unsigned channel)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	state->suspend_wanted = false;
	if (state->status != IOAT_SUSPENDED)
		return;
	if (left_of(state))
		start(ioat, channel);
	else
		state->status = state->at_start ? IOAT_ARMED : IOAT_DONE;
}

/* What is executed now is nobody's any more; its last piece may still be moved. */
static void abort_channel(struct ioat *ioat, unsigned channel)
{
	struct ioat_channel_state *state = state_of(ioat, channel);

	ioat->epochs[channel]++;
	state->status = IOAT_HALTED;
	state->suspend_wanted = false;
}

void ioat_channel_init(struct ioat *ioat, unsigned channel)
{
	struct ioat_channel_state *state = state_of(ioat, channel);
	/* These a channel's reset leaves alone: the driver clears errors by itself. */
	struct ioat_channel_state after = {
		.status = IOAT_HALTED,
		.chanerr = state->chanerr,
		.chanerr_mask = state->chanerr_mask,
	};

	abort_channel(ioat, channel);
	*state = after;
}

bool ioat_channel_resetting(const struct ioat *ioat, unsigned channel)
{
	return ioat->busy && ioat->job.channel == channel &&
	       ioat->job.epoch != ioat->epochs[channel];
}

void ioat_channel_command(struct ioat *ioat, unsigned channel, uint8_t command)
{
	static const struct {
		uint8_t command;
		void (*act)(struct ioat *ioat, unsigned channel);
	} commands[] = {
		{IOAT_CHANCMD_RESET, ioat_channel_init},
		{IOAT_CHANCMD_ABORT, abort_channel},
		{IOAT_CHANCMD_SUSPEND, suspend_channel},
		{IOAT_CHANCMD_RESUME, resume_channel},
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(commands); i++) {
		if (commands[i].command == command) {
			commands[i].act(ioat, channel);
			return;
		}
	}
	if (command) {
		abort_channel(ioat, channel);
		halt(ioat, channel, IOAT_ERR_CHANCMD);
	}
}
