/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An I/OAT device: what its files share.
 *
 * Two parties meet here: the driver, through registers, and the worker, which executes descriptors
 * of all channels in turn. What they share is under `lock`, which is never held during DMA, so a
 * register access waits for no memory. The worker never takes the device's lock: a reset waits for
 * it with that held.
 *
 * A channel, by its status:
 * HALTED: after a reset, an abort or an error. Only CHAINADDR leads out of it, and only when
 * CHANERR is 0.
 * ARMED: has a chain and has executed nothing of it. DMACOUNT starts it.
 * ACTIVE: the worker may execute it. Its chain can't be changed. SUSPEND takes effect after the
 * descriptor that is executed now.
 * DONE: DMACOUNT descriptors have been executed. A higher one goes on.
 * SUSPENDED: RESUME goes on with the chain, CHAINADDR begins another.
 *
 * A reset or an abort acts at once, but not on the piece that the worker is moving: `epoch` tells
 * the worker that its descriptor is nobody's any more, CHANCMD shows RESET until it has seen it.
 *
 * What is visible when: CHANERR before the completion is in memory; then, in one step, the
 * interrupt and CHANSTS. So who is woken by an interrupt reads the new status, who polls the status
 * finds the completion in memory, and who polls memory can read the errors.
 */
#ifndef UVF_IOAT_H
#define UVF_IOAT_H

#include <pthread.h>
#include <stdbool.h>
#include <uvfio/device.h>
#include <uvfio/dma.h>
#include <uvfio/migration.h>

#include "devices/ioat/spec.h"

#define IOAT_MAX_CHANNELS 8
#define IOAT_PIECE	  32768 /* bytes moved between looks at the epoch; stays in a cache */

/* All of a channel that a driver can notice. */
struct ioat_channel_state {
	uint8_t status;	     /* enum ioat_status */
	bool suspend_wanted; /* ACTIVE only */
	bool at_start;	     /* `current` is from CHAINADDR, not from a descriptor */
	bool interrupt_held; /* one is due when the driver rearms */
	uint16_t chanctrl;
	uint16_t dmacount; /* descriptors to execute since CHAINADDR was written, modulo 2^16 */
	uint16_t executed; /* how many have been */
	uint32_t chanerr;
	uint32_t chanerr_mask;
	uint64_t chainaddr;
	uint64_t chancmp;
	uint64_t current;   /* the descriptor that is or will be executed next */
	uint64_t completed; /* the last that was; 0: none */
};

struct ioat_state {
	uint8_t genctrl;
	uint8_t intrctrl; /* MASTER_INT_EN and MSIX_VECTOR_CONTROL */
	uint16_t intrdelay;
	uint32_t attnstatus;
	uint32_t chanerr_int;
	uint32_t chanerrmsk_int;
	struct ioat_channel_state channels[IOAT_MAX_CHANNELS];
};

/* What the worker is at. */
struct ioat_job {
	unsigned channel;
	uint32_t epoch;	    /* of the channel, when it began */
	uint32_t bus_epoch; /* of the device, when it began */
	bool at_start;
	bool off_bus;	  /* a DMA was refused: the device may not use the bus */
	uint64_t address; /* of the descriptor */
	uint64_t chancmp;
	struct ioat_descriptor descriptor; /* in the processor's byte order */
};

struct ioat {
	struct uvf_device *dev;
	unsigned channels;
	uint8_t xfercap; /* log2 */

	pthread_mutex_t lock;
	pthread_cond_t work; /* for the worker */
	pthread_cond_t idle; /* the worker has let go of a descriptor */

	/* Under `lock`. */
	struct ioat_state state;
	bool legacy_asserted;
	uint32_t epochs[IOAT_MAX_CHANNELS];
	bool bus_master;
	bool stalled;	    /* the bus is lost, and what became of it not told yet */
	uint32_t bus_epoch; /* how often bus mastering or the address space has changed */
	bool busy;	    /* `job` is being executed */
	bool quiesced;	    /* no descriptor is begun */
	bool stop;
	struct ioat_job job;

	/* The worker's. */
	unsigned next_channel;
	uint8_t piece[IOAT_PIECE];
	pthread_t thread;
	bool thread_runs;
};

/* ---- registers.c: BAR 0 and what is in configuration space ---- */

int ioat_bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf, size_t count);
int ioat_bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		   size_t count);
/* CHANERR_INT: errors of any channel. CHANERRMSK_INT: those that it leaves out. */
uint32_t ioat_config_read(struct uvf_device *dev, uint16_t offset);
void ioat_config_write(struct uvf_device *dev, uint16_t offset, uint32_t value, uint32_t mask);

/* ---- channel.c: the state machine; all with `lock` held ---- */

void ioat_channel_init(struct ioat *ioat, unsigned channel);
void ioat_channel_command(struct ioat *ioat, unsigned channel, uint8_t command);
void ioat_channel_count(struct ioat *ioat, unsigned channel, uint16_t count);
void ioat_channel_chain(struct ioat *ioat, unsigned channel, uint64_t address);
void ioat_channel_rearm(struct ioat *ioat, unsigned channel);
bool ioat_channel_resetting(const struct ioat *ioat, unsigned channel);
/* Records errors; they halt nothing by themselves. */
void ioat_channel_error(struct ioat *ioat, unsigned channel, uint32_t errors);
/* The status once a descriptor has been executed. */
enum ioat_status ioat_channel_after(const struct ioat *ioat, unsigned channel);
/* Makes the end of a descriptor visible; with @errors the channel halts. */
void ioat_channel_finish(struct ioat *ioat, const struct ioat_job *job, uint32_t errors);
/* A descriptor that was begun lost the bus: it will be begun again. */
void ioat_channel_let_go(struct ioat *ioat, unsigned channel);
/* After INTRCTRL or ATTNSTATUS has changed: the interrupt for all channels. */
void ioat_legacy_update(struct ioat *ioat);

/* ---- descriptor.c: what the worker does without `lock` ---- */

/* DMA for a job; false where it fails. */
bool ioat_read(struct ioat *ioat, struct ioat_job *job, uint64_t from, void *to, size_t size);
bool ioat_write(struct ioat *ioat, struct ioat_job *job, uint64_t to, const void *from,
		size_t size);

/* Whether the job is still wanted: no reset has come in between. */
bool ioat_job_wanted(struct ioat *ioat, const struct ioat_job *job);
/* Fetches, checks and executes. Returns CHANERR bits. */
uint32_t ioat_execute(struct ioat *ioat, struct ioat_job *job);

/* ---- migration.c ---- */

extern const struct uvf_migration_ops ioat_migration;

/* ---- worker.c ---- */

int ioat_worker_start(struct ioat *ioat);
void ioat_worker_stop(struct ioat *ioat);
/* With `lock` held: there is something to do. */
void ioat_worker_wake(struct ioat *ioat);
/* With `lock` held: until no descriptor that was begun before is executed any more. */
void ioat_worker_wait(struct ioat *ioat);
/* Of a device by hand: executes at most @limit descriptors, returns how many. */
unsigned ioat_run(struct ioat *ioat, unsigned limit);

/* ---- model.c ---- */

/* A device without a thread: it executes descriptors in ioat_run() only. For tests. */
int ioat_new_by_hand(const char *text, struct uvf_device **devp, struct uvf_error *error);

#endif
