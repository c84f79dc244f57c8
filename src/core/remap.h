/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions whose areas change, and the driver that follows: private to the core. The protocol is
 * described in <uvfio/remap.h>.
 *
 * Each change of a region's list is a generation. Of each region there are the generations that
 * the driver has read (its change flag is set while this isn't the newest), that it has
 * acknowledged, and that a revoker has dealt with. What waits looks at those and at the claims,
 * again whenever one of them changes: on the device's timer thread, because the driver
 * acknowledges from places where the device's lock can't be taken.
 *
 * Locks: `lock` is taken after the device's and before a vector's. Which lists are current, and
 * what waits, is the device lock's.
 */
#ifndef UVF_CORE_REMAP_H
#define UVF_CORE_REMAP_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/areas.h"
#include "core/claims.h"

struct irq_index;

/* Of a region whose areas change. */
struct region_changes {
	struct area_list
		*_Atomic current; /* what can be mapped: under both locks; read with none */
	/* Under the device's lock. */
	struct area_lists lists;
	struct area_list
		*wanted;   /* the model's; while state is saved `current` is what stays of it */
	uint64_t possible; /* a bit a list: by which a driver with a revoker may have mapped */
	bool taken;	   /* something of it, for saving */
	bool waits;	   /* the model is to be told that it has settled */
	uint64_t deadline;
	/* Under `lock`. */
	uint64_t generation, read, acknowledged;
	uint64_t asked, revoked; /* generations: of the revoker, and its answer */
	int revoke_result;
};

struct remap {
	_Atomic(uint64_t) references; /* the device's, and one of each memory made of areas */
	pthread_mutex_t lock;
	struct uvf_device *dev; /* NULL: it has gone. Under `lock` */
	struct claims claims;	/* under `lock` */
	uint32_t unread;	/* regions with a change that wasn't read. Under `lock` */
	bool waiting;		/* something waits. Under `lock` */
	bool over;		/* the model is no more to be called. Under the device's lock */
	/* What uvf_remap_can_follow() says may be another; or NULL. Under `lock` */
	void (*watch)(struct uvf_device *dev);
	/* Before the device is offered. */
	bool has_irq;
	uint32_t irq;
	uint32_t *regions; /* that change: rising */
	uint32_t region_count;
	uint64_t timeout_ns;
	bool by_hand; /* tests: no thread */
	/* Under the device's lock. */
	struct uvf_revoker revoker; /* areas_changed NULL: none */
	bool saving;		    /* areas that go while state is saved are away */
	bool settled;		    /* and all have followed */
	bool saving_waits;	    /* for that */
	uint64_t saving_deadline;
};

/* The device's, made where there is none. NULL: no memory. */
struct remap *uvf_remap_get(struct uvf_device *dev);
void uvf_remap_put(struct remap *remap);
/* From here on neither the model is called nor who watches. Without a lock. */
void uvf_remap_end(struct uvf_device *dev);
/* The device goes: no work is under way or comes any more. */
void uvf_remap_free(struct uvf_device *dev);

/* Before the device is offered: a region whose areas change, the IRQ that tells of it. */
int uvf_remap_add_region(struct uvf_device *dev, uint32_t index);
int uvf_remap_add_irq(struct uvf_device *dev, struct irq_index *irq);

/* The driver unmasks the IRQ: all that it has read is acknowledged. With no lock but the device's.
 */
void uvf_remap_acknowledge(struct remap *remap);
/* What is waited for may have come. With any lock but `lock`. */
void uvf_remap_poke(struct remap *remap);
/* Goes to a list of the region. With the device's lock held. */
void uvf_remap_apply(struct uvf_device *dev, uint32_t index, struct area_list *list);
/* With both locks: whatever has changed, the driver knows it. */
void uvf_remap_forget(struct uvf_device *dev);
/* A driver comes; it has gone, and with it what it had mapped. With the device's lock held. */
void uvf_remap_open(struct uvf_device *dev);
void uvf_remap_close(struct uvf_device *dev);

/*
 * Before RUNNING -> PRE_COPY: takes away what must go. 0: it has gone. -EINPROGRESS:
 * uvf_transition_settled() is called later. Any other: nothing has changed. And gives it back. With
 * the device's lock held.
 */
int uvf_remap_save_begin(struct uvf_device *dev);
void uvf_remap_save_end(struct uvf_device *dev);

/*
 * Looks at all that waits, as at time @now; returns when to look again, UINT64_MAX: never. Without
 * a lock. The timer thread's, and tests'.
 */
uint64_t uvf_remap_work(struct uvf_device *dev, uint64_t now);

#endif
