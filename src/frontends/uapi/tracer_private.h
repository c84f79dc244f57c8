/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of the tracer share.
 *
 * All of it is the tracer's thread's own, but what is under the lock: requests that come from
 * others, and what others ask for.
 *
 *   tracer.c        the thread: waits for what it traces, and is woken for requests
 *   bell.c          by which it is woken
 *   tracee.c        which threads are traced, and what they do: clone, exec, stop, exit
 *   inject.c        a system call made by a stopped thread
 *   mapping.c       an mmap() of the program, made of several
 *   revoke.c        mappings brought in line with areas that changed: threads, stopped, fix them
 *   revoke_plan.c   what there is to be fixed in a process
 *   revoke_ask.c    what devices ask for, and are told
 *   revoke_threads.c  what threads do that haven't stopped
 *   trap.c          an access that trapped
 *   trap_worker.c   accesses to devices that take long
 *   trap_files.c    what a mapping is of
 */
#ifndef UVF_UAPI_TRACER_PRIVATE_H
#define UVF_UAPI_TRACER_PRIVATE_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <sys/user.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/emulate.h"
#include "frontends/uapi/program_memory.h"
#include "frontends/uapi/tracer.h"
#include "frontends/uapi/uapi.h"

#define TRACEE_BUCKETS 256

struct uapi_mapping;
struct uapi_trap;
struct uapi_trap_worker;

/* ---- bell.c ---- */

/*
 * waitpid() has no timeout and sees no descriptors. What it does see is a process that is traced
 * and gets a signal: one that does nothing else is kept for that. Rings that come while it is
 * stopped are not lost: the signal is then pending.
 */
struct uapi_bell {
	pid_t pid;
	int pidfd;
};
/* On the tracer's thread, as the next three. Errors: those of clone(2) and ptrace(2). */
int uapi_bell_new(struct uapi_bell *bell);
/* It has stopped: it goes on before the reason is looked for. */
void uapi_bell_rearm(const struct uapi_bell *bell);
/* It was killed and has been waited for: another. With the tracer's lock. */
int uapi_bell_renew(struct uapi_bell *bell);
void uapi_bell_free(struct uapi_bell *bell);
/* Of any thread, with the tracer's lock. */
void uapi_bell_ring(const struct uapi_bell *bell);

/* ---- inject.c ---- */

/* A thread that is stopped, and is made to make system calls. */
struct uapi_injection {
	pid_t thread;
	uint64_t instruction;		   /* by which calls are made */
	struct user_regs_struct registers; /* before */
	uint64_t signals;		   /* its mask before */
	bool entered;			   /* the call has begun */
	bool group_stop;		   /* came in between, and is to be stopped for again */
};
/*
 * At the end of a call. @instruction_pointer: after the system call instruction where it has to be.
 * Errors: -ESRCH (the thread was killed), -EAGAIN (it is elsewhere: it was interrupted before).
 */
int uapi_inject_begin(struct uapi_injection *injection, pid_t thread, uint64_t instruction_pointer);
/*
 * Wherever a thread has stopped that was interrupted. Errors: -ESRCH, -ENOEXEC (its process has no
 * instruction for calls where they are looked for).
 */
int uapi_inject_begin_anywhere(struct uapi_injection *injection, pid_t thread);
/* Whether it has stopped in a call: then it isn't inside what mustn't be interrupted (rseq). */
bool uapi_inject_is_at_call(pid_t thread);
/* Sees to it that a call that the stop has ended begins again. */
void uapi_inject_restart(pid_t thread);
int uapi_inject_call(struct uapi_injection *injection, long number, const uint64_t *arguments);
/*
 * The thread has stopped: with @status. Returns 1 and the call's result when it is over, 0 while it
 * isn't (the thread goes on), or -ESRCH.
 */
int uapi_inject_step(struct uapi_injection *injection, int status, int64_t *result);
/* Everything is as before, but that the interrupted call returns @result. The thread is stopped. */
void uapi_inject_end(struct uapi_injection *injection, int64_t result);
/*
 * Everything is as before, the call that was interrupted included: which begins again when the
 * thread goes on from the next stop, that comes as soon as it is continued.
 */
void uapi_inject_undo(struct uapi_injection *injection);

/* ---- tracee.c ---- */

/* A process of the program of which threads are traced. */
struct uapi_traced {
	pid_t process;
	bool keeps;   /* it has pages that trap: all of its threads are traced */
	bool keeping; /* it shall: they are being looked for */
	bool leaves;  /* it has none any more: as soon as none of its threads owes anything */
	unsigned unsettled;
	int maps; /* /proc/PID/maps and mem, from the first trap on; else -1 */
	int memory;
	unsigned references;
	struct uapi_traced *next;
};

/* A traced thread. */
struct uapi_tracee {
	pid_t thread;
	struct uapi_traced *process;
	bool gone;	/* only a trap that is not over keeps it */
	bool unsettled; /* may be making a thread that isn't traced: until it stops */
	/* While mappings are revoked: */
	bool asked;	    /* to stop */
	bool held;	    /* it has, and waits; where it wasn't in the middle of anything */
	bool group_stopped; /* as all of its process, by a signal */
	bool owes;	    /* the end of an access that trapped while there were such pages */
	/* An access that raised SIGBUS though there is memory: what was mapped has changed since.
	 */
	uint64_t retried;
	unsigned retries;
	struct uapi_mapping *mapping;
	struct uapi_trap *trap; /* memory for traps */
	bool trapping;		/* a worker has the trap */
	struct uapi_tracee *next;
};

struct uapi_tracee *uapi_tracee_find(struct uapi_tracer *tracer, pid_t thread);
/*
 * Traces a thread, without stopping it. Errors: -EPERM (another tracer has it), -ESRCH, -ENOMEM.
 */
int uapi_tracee_seize(struct uapi_tracer *tracer, pid_t thread, pid_t process,
		      struct uapi_tracee **traceep);
/* It isn't the one that was meant: it stops once more, and is let go then. */
void uapi_tracee_release(struct uapi_tracer *tracer, struct uapi_tracee *tracee);
/*
 * Traces all threads of a process from here on, and all that it forks. Errors: as above, and
 * -EINPROGRESS: some are not settled; when none of the process is, it is to be asked again.
 */
int uapi_process_keep(struct uapi_tracer *tracer, pid_t process);
int uapi_tracee_keep(struct uapi_tracer *tracer, struct uapi_traced *process);
/* A thread of the program has stopped or ended. */
void uapi_tracee_event(struct uapi_tracer *tracer, pid_t thread, int status);
/* Lets a stopped thread go on, with a signal or 0; not traced any more, if nothing needs it. */
void uapi_tracee_continue(struct uapi_tracer *tracer, struct uapi_tracee *tracee, int signal);
/* It has no page that traps any more: who is still at an access that did is waited for. */
void uapi_process_leave(struct uapi_tracer *tracer, struct uapi_traced *process);
/* That access is over. */
void uapi_tracee_settle(struct uapi_tracer *tracer, struct uapi_tracee *tracee);
/* Mappings are not revoked any more: it goes on, if it is held. */
void uapi_tracee_thaw(struct uapi_tracer *tracer, struct uapi_tracee *tracee);
/* It isn't traced any more, or is dead. */
void uapi_tracee_forget(struct uapi_tracer *tracer, struct uapi_tracee *tracee);
void uapi_tracees_free(struct uapi_tracer *tracer);

/* ---- mapping.c ---- */

/* A part of a mapping that is in one file, or (-1) what is left to trap. */
struct uapi_piece {
	uint64_t delta, size; /* from the mapping's beginning */
	unsigned file;
	uint64_t offset; /* in the file */
};

struct uapi_mapping_file {
	int ours;   /* our duplicate */
	int theirs; /* its number in the program, for a while; -1 */
};

enum uapi_mapping_stage { MAPPING_BASE, MAPPING_PIECES, MAPPING_UNDO, MAPPING_CLOSE };

struct uapi_mapping {
	struct uapi_call call;
	struct uapi_mmap map;
	struct uapi_device *device;
	uint32_t index;
	bool may_trap;
	const struct uvf_area *areas; /* that the plan was made with: NULL: none */
	bool changes;		      /* the region's areas do */
	bool traps;		      /* the first file is the trap file, mapped over everything */
	uint64_t offset;
	struct uapi_mapping_file *files;
	size_t file_count;
	struct uapi_piece *pieces;
	size_t piece_count;

	/* While it is carried out. */
	struct uapi_injection injection;
	bool waits; /* for threads of the process to settle */
	bool injecting;
	bool older; /* than a revocation, which waits for its end */
	enum uapi_mapping_stage stage;
	size_t next_piece, next_file;
	uint64_t address;
	int64_t result; /* an error, from the first on */
	struct uapi_mapping *next;
};
/* Begins what was asked for: on the tracer's thread. */
void uapi_mapping_start(struct uapi_tracer *tracer, struct uapi_mapping *mapping);
/* Some thread was heard of: goes on with what waited for that. */
void uapi_mapping_resume(struct uapi_tracer *tracer);
/* The thread has stopped. */
void uapi_mapping_step(struct uapi_tracer *tracer, struct uapi_tracee *tracee, int status);
/* The thread was killed in the middle. */
void uapi_mapping_abandon(struct uapi_tracer *tracer, struct uapi_mapping *mapping);

/* ---- trap_files.c ---- */

/* A file without a byte, whose mappings trap: one for each region. */
struct uapi_trap_file {
	struct uapi_device *device;
	uint32_t index;
	int fd;
	bool changes; /* the region's areas do */
	dev_t filesystem;
	ino_t inode;
	struct uapi_trap_file *next;
};
/* A part of a file that is or was an area of a region whose areas change. */
struct uapi_area_file {
	struct uapi_device *device;
	uint32_t index;
	dev_t filesystem;
	ino_t inode;
	uint64_t begin, size; /* in the file */
	uint64_t offset;      /* in the region */
	struct uapi_area_file *next;
};
/* Remembers it. Errors: -ENOMEM, -EBADF. */
int uapi_area_file_add(struct uapi_tracer *tracer, struct uapi_device *device, uint32_t index,
		       const struct uvf_area *area);
/* Which byte @at of the file behind @vma is of, or NULL. It lives as long as the tracer. */
const struct uapi_area_file *uapi_area_file_find(struct uapi_tracer *tracer,
						 const struct uapi_vma *vma, uint64_t at);
/* A duplicate of the region's file. Errors: -EMFILE, -ENOMEM. */
int uapi_trap_file_get(struct uapi_tracer *tracer, struct uapi_device *device, uint32_t index);
/* Whose file is mapped there, or NULL. It lives as long as the tracer. */
const struct uapi_trap_file *uapi_trap_file_find(struct uapi_tracer *tracer,
						 const struct uapi_vma *vma);
void uapi_trap_files_free(struct uapi_tracer *tracer);

/* ---- trap.c ---- */

/* An access that trapped: what it needs, so that any thread can carry it out. */
struct uapi_trap {
	struct uapi_tracer *tracer;
	struct uapi_tracee *tracee;
	struct user_regs_struct registers;
	struct uapi_cpu cpu;
	struct uapi_instruction instruction;
	bool has_vectors;
	size_t xstate_size;
	uint64_t address;		   /* that trapped */
	struct uapi_vma vma;		   /* the one used last */
	const struct uapi_trap_file *file; /* of that one; NULL: ordinary memory */
	uint64_t fault;			   /* where memory failed */
	int result;
	struct uapi_trap *next;
};
/* A signal-delivery stop for SIGBUS. False: it is the program's own. */
bool uapi_trap_begin(struct uapi_tracer *tracer, struct uapi_tracee *tracee);
/* Carries it out: any thread. */
void uapi_trap_run(struct uapi_trap *trap);
/* Lets the thread go on: the tracer's thread. */
void uapi_trap_end(struct uapi_trap *trap);
void uapi_trap_free(struct uapi_trap *trap);

/* ---- trap_worker.c ---- */

/* Runs it here if its device has been quick, else on the device's own thread. */
void uapi_trap_schedule(struct uapi_trap *trap, struct uapi_device *device);
int uapi_trap_workers_new(struct uapi_tracer *tracer);
void uapi_trap_workers_free(struct uapi_tracer *tracer);

/* ---- revoke_plan.c ---- */

/* A part of a mapping that has to become another file's. */
struct uapi_fix {
	uint64_t address, size;
	int prot;
	size_t file;
	uint64_t offset; /* in the file */
	bool done;
};

struct uapi_fix_file {
	int fd;				  /* ours: a duplicate */
	const struct uapi_device *device; /* of what: the region's trap file (-1), or an area's */
	uint32_t index;
	int area_fd;
};

struct uapi_fixes {
	struct uapi_fix *fixes;
	size_t count;
	struct uapi_fix_file *files;
	size_t file_count;
	bool traps; /* something is mapped that traps */
	bool areas; /* something is mapped that may change */
};
/* What @thread's process has mapped that isn't as it should be. Errors: uapi_vmas_each()'s, -ENOMEM
 */
int uapi_fixes_find(struct uapi_tracer *tracer, pid_t thread, struct uapi_fixes *fixes);
void uapi_fixes_free(struct uapi_fixes *fixes);

/* ---- revoke_threads.c ---- */

/*
 * Whether a thread that was asked to stop, and hasn't, is blocked in a call that doesn't change
 * what is mapped: it will stop before anything else.
 */
bool uapi_thread_is_blocked(pid_t thread);
/* Whether a SIGBUS waits for it. */
bool uapi_thread_has_fault(pid_t thread);

/* ---- revoke_ask.c ---- */

/* Takes what was asked for since the last time. Whether there was anything. */
bool uapi_revocation_take(struct uapi_tracer *tracer);
/* What was taken is done, or couldn't be. */
void uapi_revocation_tell(struct uapi_tracer *tracer, int result);

/* ---- revoke.c ---- */

enum uapi_revocation_stage { REVOCATION_NONE, REVOCATION_FREEZING, REVOCATION_FIXING };

struct uapi_revocation {
	enum uapi_revocation_stage stage;
	uint64_t deadline;
	struct uapi_fixes fixes; /* of the process that is being fixed */
	struct uapi_tracee *fixer;
	pid_t last_fixed; /* the process before, and how often: it has an end */
	unsigned tries;
	struct uapi_injection injection;
	bool placing;
	size_t file; /* that is open in the program as `theirs`; -1: none */
	int theirs;
	int result;

	/* Under the lock. */
	pid_t placing_thread; /* it gets placing_fd, by a call that it is made to make */
	int placing_fd;
};
/* Brings what is under way forward, or begins what was asked for. */
void uapi_revocation_step(struct uapi_tracer *tracer);
/* Whether it has to be called now and then. */
static inline bool uapi_revocation_is_on(const struct uapi_revocation *revocation)
{
	return revocation->stage != REVOCATION_NONE;
}
/* Whether a stop of @tracee is a part of it; that stop. */
bool uapi_revocation_takes(struct uapi_tracer *tracer, const struct uapi_tracee *tracee);
void uapi_revocation_stop(struct uapi_tracer *tracer, struct uapi_tracee *tracee, int status);
/* It is dead, or not traced any more. */
void uapi_revocation_lost(struct uapi_tracer *tracer, const struct uapi_tracee *tracee);

/* ---- tracer.c ---- */

struct uapi_tracer {
	struct uvf_run *run;
	pthread_t thread;
	pid_t thread_id;
	pid_t program;
	struct uapi_bell bell;
	struct uapi_xstate_layout layout;
	struct uapi_tracee *tracees[TRACEE_BUCKETS];
	struct uapi_traced *processes;
	struct uapi_trap_worker *workers; /* one for each device */
	bool frozen;			  /* processes that are kept: their threads are held */
	struct uapi_revocation revocation;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool spawned;
	int spawn_result;
	bool ended; /* the program */
	int wait_status;
	bool stopping;
	struct uapi_mapping *requests; /* new ones, the last first */
	struct uapi_mapping *mappings; /* being carried out */
	struct uapi_trap *traps;       /* that workers have done */
	struct uapi_trap_file *files;
	struct uapi_area_file *area_files;
	bool areas_changed; /* some devices': uapi_device.changes says which */
};

/* Gives the tracer's thread a trap back: any thread. */
void uapi_tracer_give_back(struct uapi_tracer *tracer, struct uapi_trap *trap);

#endif
