/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The NVMe controller: private to this folder.
 *
 * Threads. Each poller is a thread that owns completion queues and the submission queues that post
 * to them; poller 0 owns the admin queue too, executes its commands and does whatever changes the
 * controller's state (enable, reset, shutdown). A poller holds its lock while it works, not while
 * it sleeps; others get at its queues by nvme_poller_pause(). Register accesses, under the device's
 * lock, change `registers` and leave the rest to poller 0.
 *
 * Locks, in the order in which they are taken: the device's, pollers' by rising index, then one of
 * state_lock, event_lock, log_lock, pin_lock, doorbell_lock, a namespace's bad_lock, under which no
 * other is taken. A poller never takes the device's lock.
 */
#ifndef UVF_NVME_H
#define UVF_NVME_H

#include <pthread.h>
#include <stdatomic.h>
#include <uvfio/device.h>
#include <uvfio/dma.h>
#include <uvfio/migration.h>

#include "base/bytes.h"
#include "base/page_set.h"
#include "devices/nvme/backend.h"
#include "devices/nvme/spec.h"

#define NVME_MAX_QUEUES	    64 /* I/O queue pairs */
#define NVME_QUEUES	    (NVME_MAX_QUEUES + 1)
#define NVME_MAX_ENTRIES    65536u
#define NVME_MAX_NAMESPACES 64
#define NVME_MAX_POLLERS    16
#define NVME_BATCH	    32	/* commands of one queue executed before another has its turn */
#define NVME_SLOTS	    256 /* commands in progress, a poller */
#define NVME_MAX_TRANSFER   (1u << 20)
#define NVME_MAX_SEGMENTS   (NVME_MAX_TRANSFER / NVME_PAGE_SIZE + 1)
#define NVME_AERS	    4
#define NVME_ERRORS	    64 /* entries of the error log */
#define NVME_BAD_RANGES	    256
#define NVME_TEMPERATURE    310 /* K */

/* BAR 0: registers, the doorbells' page, the MSI-X table and PBA. */
#define NVME_BAR_SIZE	      0x4000u
#define NVME_DOORBELL_SIZE    0x1000u
#define NVME_MSIX_TABLE	      0x2000u
#define NVME_MSIX_PBA	      0x3000u
#define NVME_DOORBELL_SQ(qid) (2u * (qid))
#define NVME_DOORBELL_CQ(qid) (2u * (qid) + 1)

/* What a handler returns beside a status. */
enum {
	NVME_PENDING = 0xffff, /* its slot will complete it */
	NVME_SUBMIT = 0xfffe,  /* a step: slot->io is to be submitted */
	NVME_NO_CQE = 0xfffd,  /* kept elsewhere (an asynchronous event request) */
};
#define NVME_INVALID_FIELD (NVME_SC_INVALID_FIELD | NVME_SC_DNR)

enum nvme_poll { NVME_POLL_ON, NVME_POLL_OFF, NVME_POLL_ADAPTIVE };

/* Memory of the driver that is used for long: pinned, and pinned again after it was remapped. */
struct nvme_ring {
	uvf_iova_t iova;
	uint32_t size;
	unsigned prot;
	uint8_t *bytes;	     /* NULL: not pinned now */
	bool remote;	     /* not mapped in this process: by messages */
	bool lost;	     /* was unmapped under us */
	uint64_t lost_since; /* when pinning it again failed first, in ms; 0: it didn't */
	struct uvf_pin pin;
};

/* What a queue is, for as long as it exists: enough to make it again. */
struct nvme_cq_state {
	uint32_t size; /* 0: doesn't exist */
	uint32_t head, tail;
	uint16_t vector;
	uint16_t phase;
	bool interrupts;
};

struct nvme_sq_state {
	uint32_t size; /* 0: doesn't exist */
	uint32_t head, tail;
	uint16_t cq_id;
};

struct nvme_cq {
	uint16_t id;
	_Atomic uint32_t limit; /* for register writes: the size, 0: no such queue */
	struct nvme_cq_state state;
	struct nvme_poller *poller;
	/* Entries that commands which were fetched will need: so posting never has to wait. */
	uint32_t outstanding;
	uint32_t sq_count;
	uint32_t bad_doorbell; /* reported already */
	uint32_t event_index;  /* as last written */
	bool pin_waiting;      /* counted in nvme.pin_waiting */
	bool queued;	       /* on the poller's list of what is to be posted */
	bool posted;	       /* something, and no interrupt yet */
	unsigned staged_count;
	/* All that can be outstanding: events and deletions take no slot. */
	struct nvme_cqe staged[NVME_SLOTS + NVME_BATCH + NVME_AERS + NVME_QUEUES];
	struct nvme_ring ring;
};

struct nvme_sq {
	uint16_t id;
	_Atomic uint32_t limit; /* for register writes: the size, 0: no such queue */
	_Atomic uint16_t cq_id; /* for register writes */
	struct nvme_sq_state state;
	struct nvme_cq *cq;
	uint32_t bad_doorbell;
	uint32_t event_index;
	uint32_t pending;    /* slots that are its commands */
	bool deleting;	     /* nothing is fetched; goes once nothing is pending */
	uint16_t delete_cid; /* of the admin command that waits for that */
	struct nvme_ring ring;
};

/* A piece of a command's data. Dwords of a bit bucket have no address. */
struct nvme_segment {
	uvf_iova_t iova;
	uint32_t size;
	bool bucket;
};

struct nvme_segments {
	unsigned count;
	struct nvme_segment at[NVME_MAX_SEGMENTS];
};

/* Storage that is memory, while it moves to or from another device: migration_storage.c. */
struct nvme_storage_copy {
	atomic_bool on;		     /* pollers note what they write */
	struct uvf_page_set changed; /* pieces that they did write since it was looked; for good */
	/* With the device's lock. By piece: */
	uint64_t *wanted; /* it is to be given (again) */
	uint64_t *given;  /* it was last given, and not as zeroes */
	uint64_t *placed; /* it came; or NULL */
	char *buffer;	  /* of one piece */
	uint32_t wanted_count;
	uint32_t next;	/* the one that it is at */
	unsigned round; /* 0: until all have been looked at */
};

struct nvme_namespace {
	struct nvme_backend *backend;
	struct nvme_storage_copy copy;
	uint32_t id;
	uint64_t blocks;
	uint8_t block_shift;
	atomic_bool formatting;
	uint8_t uuid[16];
	/* Blocks that Write Uncorrectable made unreadable: apart from each other, rising. */
	pthread_mutex_t bad_lock;
	atomic_uint bad_count;
	struct {
		uint64_t first, last;
	} bad[NVME_BAD_RANGES];
};

void nvme_storage_note(struct nvme_namespace *ns, uint64_t offset, uint64_t size);

/* On a poller, once it has written to storage that may be memory. */
static inline void nvme_storage_written(struct nvme_namespace *ns, uint64_t offset, uint64_t size)
{
	if (__builtin_expect(atomic_load_explicit(&ns->copy.on, memory_order_relaxed), 0))
		nvme_storage_note(ns, offset, size);
}

struct nvme_request {
	struct nvme *ctrl;
	struct nvme_poller *poller;
	struct nvme_sq *sq;
	const struct nvme_sqe *sqe;
	struct nvme_namespace *ns;
	uint32_t result;
};

/* A command in progress that can't complete at once. */
struct nvme_slot {
	struct nvme_io io;
	struct nvme_slot *next;
	struct nvme_poller *poller;
	struct nvme_sq *sq; /* NULL: the controller's own */
	struct nvme_namespace *ns;
	struct nvme_sqe sqe;
	/*
	 * Called with 0, then with the result of each I/O: NVME_SUBMIT or the command's status, and
	 * always a status for an error. NULL: the slot is free.
	 */
	uint16_t (*step)(struct nvme_slot *slot, int result);
	uint16_t aborted; /* the status to end with instead of another step; 0: go on */
	uint32_t result;
	uint32_t position, end; /* of a step that repeats */
	uint64_t offset, left;
	bool to_driver;
	bool started; /* an I/O was submitted */
	uint8_t *bounce;
	struct nvme_segments *segments; /* kept for what goes through the bounce buffer */
	unsigned pin_count;
	struct uvf_pin pins[NVME_MAX_SEGMENTS];
	struct iovec iov[NVME_MAX_SEGMENTS];
};

/* Written by their poller only, read by whoever makes the SMART log. */
struct nvme_counters {
	_Atomic uint64_t read_blocks, written_blocks; /* of 512 bytes */
	_Atomic uint64_t reads, writes;
	_Atomic uint64_t media_errors;
};

struct nvme_poller {
	struct nvme *ctrl;
	unsigned index;
	pthread_t thread;
	pthread_mutex_t lock;
	atomic_uint waiters;  /* who wants the lock */
	atomic_uint quiesced; /* no commands are fetched while it isn't 0 */
	atomic_bool sleeping;
	atomic_bool head_wanted; /* sleeps until a completion queue's head moves */
	int wake;		 /* eventfd */
	unsigned sq_count;
	struct nvme_sq *sqs[NVME_QUEUES];
	unsigned dirty_count;
	struct nvme_cq *dirty[NVME_QUEUES];
	struct nvme_channel *channels[NVME_MAX_NAMESPACES];
	unsigned async_count; /* channels that have something to reap, ever */
	struct nvme_channel *async[NVME_MAX_NAMESPACES];
	struct nvme_slot *slots, *free_slots;
	unsigned free_count;
	struct nvme_ring shadow, event; /* pins of its own on the doorbell buffers */
	bool events_blocked;		/* an event waits for room in the admin queue */
	bool retry;			/* something waits for memory to be mapped again */
	struct nvme_segments segments;
	struct nvme_counters counters;
	_Alignas(64) struct nvme_sqe batch[NVME_BATCH];
};

/* The register file. Under state_lock. */
struct nvme_registers {
	uint32_t cc, csts, aqa;
	_Atomic uint32_t intms; /* read without the lock */
	uint64_t asq, acq;
};

/* What Set Features changes. Poller 0's; `write_cache` and `burst` are read by all. */
struct nvme_features {
	uint32_t arbitration, power, over_temperature, under_temperature;
	uint32_t error_recovery[NVME_MAX_NAMESPACES];
	uint32_t interrupt_coalescing, write_atomicity, async_events;
	uint32_t vector_config[NVME_QUEUES];
	uint32_t queues;
	bool queues_set;
	uint64_t timestamp, timestamp_set_at; /* ms */
	bool timestamp_from_host;
	atomic_bool write_cache;
	atomic_uint burst;
};

/* Asynchronous events. Under event_lock. */
struct nvme_events {
	uint16_t cids[NVME_AERS];
	unsigned cid_count;
	struct {
		bool pending;
		uint8_t info, log;
	} types[8];
	uint8_t masked; /* types reported whose log has not been read */
};

struct nvme {
	struct uvf_device *dev;
	struct uvf_log log;
	char serial[21], model[41];
	bool serial_given;
	enum nvme_poll poll;
	unsigned queues;
	uint8_t mdts; /* log2 of pages */
	uint64_t started_at;
	uint32_t reset_limit_ms; /* how long a reset from above is waited for */
	bool by_hand;		 /* no threads: nvme_run() */
	bool traps_while_saving; /* doorbells=trapped-while-saving */

	int ioeventfds[NVME_MAX_POLLERS]; /* one a poller, or none */
	unsigned ioeventfd_count;

	struct nvme_namespace *namespaces;
	unsigned namespace_count;
	bool any_volatile, any_discard;
	bool gives_early; /* storage is copied beside the driver's work */

	pthread_mutex_t state_lock;
	pthread_cond_t state_changed;
	struct nvme_registers registers;
	bool reset_wanted;    /* CC.EN went to 0, or a reset from above */
	bool shutdown_wanted; /* CC.SHN was written */

	atomic_bool work;	/* for poller 0: something of the above, or an event */
	atomic_bool stop;	/* threads end */
	atomic_bool bus_master; /* not while it is still */
	bool bus_mastering;	/* as configured. Under the device's lock */
	atomic_bool still;	/* quiesced for a migration: poller 0 leaves its work where it is */
	atomic_bool live;	/* enabled, not failed: queues are served */
	atomic_bool shadowed;	/* doorbell buffers are in use */

	/* What pollers look at: one of the next two. */
	_Atomic uint32_t *_Atomic doorbells;
	_Atomic uint32_t *mapped_doorbells; /* in the BAR; NULL: a driver can't map them */
	_Atomic uint32_t *own_doorbells;    /* while it has none mapped; NULL: it always may */
	/* Held by who changes which it is, and by who clears one without the device's lock. */
	pthread_mutex_t doorbell_lock;

	unsigned deleting; /* submission queues. Poller 0's */
	struct nvme_sq sqs[NVME_QUEUES];
	struct nvme_cq cqs[NVME_QUEUES];

	pthread_mutex_t pin_lock;
	atomic_uint pin_waiting[32]; /* by vector: queues with entries not consumed */

	struct nvme_features features;
	pthread_mutex_t event_lock;
	struct nvme_events events;

	pthread_mutex_t log_lock;
	struct nvme_error_entry errors[NVME_ERRORS];
	uint64_t error_count;
	uint64_t unsafe_shutdowns;

	unsigned poller_count, poller_threads;
	struct nvme_poller *pollers;
};

static inline uint64_t nvme_lba(const struct nvme_sqe *sqe)
{
	return le32toh(sqe->cdw10) | (uint64_t)le32toh(sqe->cdw11) << 32;
}

/* model.c. Tests only: a controller without threads, on memory or nothing. */
int nvme_new_by_hand(const char *spec, struct uvf_device **devp, struct uvf_error *error);
/* Does what its threads would, until there is nothing left to do. */
void nvme_run(struct nvme *ctrl);

/* registers.c */
int nvme_bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf, size_t count);
int nvme_bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		   size_t count);
uint64_t nvme_cap(const struct nvme *ctrl);

/* controller.c: poller 0 but for the next, nvme_fatal() and nvme_reset(). */
void nvme_controller_call(struct nvme *ctrl); /* there is work for it */
void nvme_controller_work(struct nvme *ctrl);
void nvme_fatal(struct nvme *ctrl, const char *why);
int nvme_reset(struct uvf_device *dev, enum uvf_reset kind);
/* Queues, doorbells, events and features as when new. With all pollers' locks, and none busy. */
void nvme_queues_drop(struct nvme *ctrl);
void nvme_shutdown_done(struct nvme *ctrl, uint16_t status);

/* ring.c: with the poller's lock. 0, -EPERM (bus master off), -EAGAIN (not now), or lost. */
int nvme_ring_pin(struct nvme *ctrl, struct nvme_ring *ring);
bool nvme_ring_regain(struct nvme_poller *poller, struct nvme_ring *ring, const char *what);
/* Whether the ring, which is @what, can be used now. Where its memory stays away: fatal. */
static inline bool nvme_ring_ready(struct nvme_poller *poller, struct nvme_ring *ring,
				   const char *what)
{
	return ring->bytes || ring->remote || nvme_ring_regain(poller, ring, what);
}
void nvme_ring_unpin(struct nvme *ctrl, struct nvme_ring *ring);
int nvme_ring_read(struct nvme *ctrl, struct nvme_ring *ring, uint32_t offset, void *buf,
		   size_t size);
int nvme_ring_write(struct nvme *ctrl, struct nvme_ring *ring, uint32_t offset, const void *buf,
		    size_t size);
void nvme_dma_unmap(struct uvf_device *dev, uint32_t pasid, uvf_iova_t first, uvf_iova_t last);

/* doorbell.c: with the poller's lock. */
bool nvme_sq_tail(struct nvme_poller *poller, struct nvme_sq *sq);
void nvme_cq_head(struct nvme_poller *poller, struct nvme_cq *cq);
/* Asks for the doorbells to be rung, as nobody will look. False: there is something to do. */
bool nvme_doorbells_arm(struct nvme_poller *poller);
void nvme_doorbell_write(struct nvme *ctrl, uint32_t number, uint32_t value);
void nvme_doorbell_clear(struct nvme *ctrl, uint32_t number);
/* With the device's lock: nobody has the doorbells mapped any more; somebody soon can again. */
void nvme_doorbells_unmapped(struct uvf_device *dev, uint32_t index, int result);
void nvme_doorbells_return(struct uvf_device *dev, uint32_t index);
/* @mapped: where a driver maps them, or NULL. Errors: -ENOMEM. */
int nvme_doorbells_make(struct nvme *ctrl, void *mapped);

/* queue.c: with the poller's lock. */
bool nvme_sq_process(struct nvme_poller *poller, struct nvme_sq *sq);
uint32_t nvme_cq_room(struct nvme_poller *poller, struct nvme_cq *cq);
void nvme_cq_add(struct nvme_sq *sq, uint16_t cid, uint16_t status, uint32_t result);
void nvme_cq_flush_all(struct nvme_poller *poller);
void nvme_pin_update(struct nvme *ctrl, struct nvme_cq *cq);
void nvme_sq_start(struct nvme *ctrl, uint16_t id, struct nvme_cq *cq, uint32_t size);
void nvme_sq_stop(struct nvme *ctrl, struct nvme_sq *sq);
void nvme_cq_start(struct nvme *ctrl, uint16_t id, uint32_t size, bool interrupts, uint16_t vector);
void nvme_cq_stop(struct nvme *ctrl, struct nvme_cq *cq);

/* ioeventfd.c */
/* Makes one for each poller, and the array that offers them: the caller frees it. */
int nvme_ioeventfds_make(struct nvme *ctrl, unsigned pollers, struct uvf_io_fd **io_fdsp);
void nvme_ioeventfds_close(struct nvme *ctrl);
/* The poller's own has been signalled. */
void nvme_ioeventfd_rung(struct nvme_poller *poller);

/* poller.c */
int nvme_pollers_start(struct nvme *ctrl, unsigned count, struct uvf_error *error);
void nvme_pollers_stop(struct nvme *ctrl);
void nvme_poller_wake(struct nvme_poller *poller);
struct nvme_poller *nvme_poller_of(struct nvme *ctrl, uint16_t cq_id);
/* Takes its lock in good time. Not for the poller's own thread. */
void nvme_poller_pause(struct nvme_poller *poller);
/* As nvme_poller_pause(), until nvme_now_ms() is @until. False: not in time. */
bool nvme_poller_pause_until(struct nvme_poller *poller, uint64_t until);
void nvme_poller_resume(struct nvme_poller *poller);
/* On poller 0: its lock, unless it is poller 0 itself. */
void nvme_poller_enter(struct nvme_poller *poller);
void nvme_poller_leave(struct nvme_poller *poller);
/* On poller 0: the same with no command in progress; @poller may be poller 0 itself. */
void nvme_poller_quiesce(struct nvme_poller *poller);
void nvme_poller_release(struct nvme_poller *poller);
uint64_t nvme_now_ms(void);

/* quiesce.c: with the device's lock */
int nvme_quiesce(struct uvf_device *dev);
int nvme_unquiesce(struct uvf_device *dev);
int nvme_stop(struct uvf_device *dev);
int nvme_start(struct uvf_device *dev);
/* All namespaces' storage is ours, or none. */
int nvme_storage_claim(struct nvme *ctrl, struct uvf_error *error);

/* migration.c */
extern const struct uvf_migration_ops nvme_migration;

/* command.c */
enum nvme_nsid_rule { NVME_NSID_ANY, NVME_NSID_ONE, NVME_NSID_ONE_OR_ALL };
struct nvme_command {
	uint16_t (*handle)(struct nvme_request *request);
	uint8_t nsid; /* enum nvme_nsid_rule */
	bool writes;  /* refused where the namespace is write protected */
	uint32_t effects;
};
extern const struct nvme_command nvme_admin_commands[256];
extern const struct nvme_command nvme_io_commands[256];
uint16_t nvme_execute(struct nvme_request *request);
uint16_t nvme_status(int result, bool write);

/* slot.c: with the poller's lock */
struct nvme_slot *nvme_slot_take(struct nvme_request *request);
/* Runs the slot's steps. As a handler returns: complete already, or NVME_PENDING. */
uint16_t nvme_slot_start(struct nvme_slot *slot, struct nvme_request *request);
uint16_t nvme_failed_step(struct nvme_slot *slot, int result);
/* Ends the commands of @sq (NULL: all) with @status, as soon as the storage lets them. */
void nvme_slots_abort(struct nvme_poller *poller, const struct nvme_sq *sq, uint16_t status);
/* False: there is no such command in progress, or the storage has it. */
bool nvme_slot_abort(struct nvme_poller *poller, const struct nvme_sq *sq, uint16_t cid);

/* io.c, extra.c, admin.c */
uint16_t nvme_io_rw(struct nvme_request *request);
uint16_t nvme_io_flush(struct nvme_request *request);
uint16_t nvme_io_compare(struct nvme_request *request);
uint16_t nvme_io_verify(struct nvme_request *request);
uint16_t nvme_io_write_zeroes(struct nvme_request *request);
uint16_t nvme_io_write_uncorrectable(struct nvme_request *request);
uint16_t nvme_io_dataset(struct nvme_request *request);
uint16_t nvme_flush_step(struct nvme_slot *slot, int result);
void nvme_deletions_finish(struct nvme *ctrl);
uint16_t nvme_admin_identify(struct nvme_request *request);
uint16_t nvme_admin_get_log(struct nvme_request *request);
uint16_t nvme_admin_set_features(struct nvme_request *request);
uint16_t nvme_admin_get_features(struct nvme_request *request);
uint16_t nvme_admin_async_event(struct nvme_request *request);
void nvme_features_reset(struct nvme *ctrl);

/* transfer.c */
uint16_t nvme_map_data(struct nvme_request *request, uint64_t size, bool to_driver,
		       struct nvme_segments *segments);
/* Between the driver's memory and @bytes: 0 or what DMA returned. */
int nvme_segments_write(struct nvme *ctrl, const struct nvme_segments *segments,
			const uint8_t *bytes);
int nvme_segments_read(struct nvme *ctrl, const struct nvme_segments *segments, uint8_t *bytes);
uint16_t nvme_data_out(struct nvme_request *request, const void *bytes, uint32_t size);
uint16_t nvme_data_in(struct nvme_request *request, void *bytes, uint32_t size);

/* namespace.c */
void nvme_namespace_add(struct nvme *ctrl, struct nvme_backend *backend, uint32_t block_size);
/*
 * Serial number and identifiers, once all namespaces are there. @serial NULL: from what the storage
 * is, so that no two controllers have the same, and the same file has the same each time.
 */
void nvme_identify_as(struct nvme *ctrl, const char *serial);
void nvme_namespaces_free(struct nvme *ctrl);
struct nvme_namespace *nvme_namespace(struct nvme *ctrl, uint32_t nsid);
bool nvme_bad_any(struct nvme_namespace *ns, uint64_t lba, uint64_t blocks);
bool nvme_bad_add(struct nvme_namespace *ns, uint64_t lba, uint64_t blocks);
/* False: there is no place to remember a hole in a range. */
bool nvme_bad_clear(struct nvme_namespace *ns, uint64_t lba, uint64_t blocks);

/* event.c, log.c */
enum { NVME_EVENT_ERROR = 0, NVME_EVENT_SMART = 1 };
enum { NVME_ERROR_DOORBELL_REGISTER = 0, NVME_ERROR_DOORBELL_VALUE = 1 };
void nvme_event(struct nvme *ctrl, uint8_t type, uint8_t info, uint8_t log);
void nvme_events_deliver(struct nvme *ctrl);
void nvme_events_log_read(struct nvme *ctrl, uint8_t log);
bool nvme_events_abort(struct nvme *ctrl, uint16_t cid);
void nvme_events_reset(struct nvme *ctrl);
void nvme_log_error(struct nvme *ctrl, const struct nvme_sq *sq, const struct nvme_sqe *sqe,
		    uint16_t status);

/* migration_storage.c, after a reset: of a state that came and was not taken over nothing is left.
 */
void nvme_storage_give_up(struct nvme *ctrl);

#endif
