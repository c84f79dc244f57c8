/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Linux's VFIO for one program: devices are offered to an unmodified program, which is started as
 * a child and believes that it runs on a host with VFIO and an IOMMU. What it can call, and where
 * that differs from a kernel's, is in docs/uapi.md.
 */
#ifndef UVFIO_RUN_H
#define UVFIO_RUN_H

#include <signal.h>
#include <uvfio/inject.h>
#include <uvfio/iommu.h>
#include <uvfio/types.h>

UVF_BEGIN_DECLS

/* Whether mappings of what is not in an area are served by trapping each access. */
enum uvf_run_trap {
	UVF_RUN_TRAP_ON,  /* any page of a BAR can be mapped */
	UVF_RUN_TRAP_OFF, /* only areas can */
};

struct uvf_run_device {
	struct uvf_device *dev; /* a PCI device that nobody has open; stays the caller's */
	const char *address;	/* "0000:65:00.0"; NULL: the first free one from 0000:01:00.0 */
	int group;		/* devices with the same number are one group; -1: one of its own */
	int numa_node;		/* -1: none */
	enum uvf_run_trap trap[6]; /* of each BAR */
};

/*
 * Everything is copied but the devices. Zero is a good default for all but @argv and @devices.
 */
struct uvf_run_config {
	const struct uvf_run_device *devices;
	size_t device_count;
	char *const *argv; /* the program, looked up in PATH, and its arguments; ends with NULL */

	/* The IOMMU, one for all devices. */
	uint64_t page_sizes;		       /* 0: 4 KiB, 2 MiB and 1 GiB */
	struct uvf_iova_range aperture;	       /* {0, 0}: 48 bits */
	const struct uvf_iova_range *reserved; /* NULL: the MSI window, 0xfee00000-0xfeefffff */
	size_t reserved_count;
	uint64_t max_mappings;	    /* of a container: dma_entry_limit; 0: 65535 */
	uint64_t max_locked_memory; /* of a container or IOAS, in bytes; 0: no limit */

	const sigset_t *signal_mask;   /* the program's; NULL: that of the calling thread */
	struct uvf_injector *injector; /* asked about each mapping; must stay. NULL: none */

	bool namespaces_off; /* the program sees its own /dev and /sys: for tests of this library */
	/* One line a call, without newline; from any thread. NULL: none. */
	void (*trace)(void *opaque, const char *line);
	void *trace_opaque;
	struct uvf_log log;
};

struct uvf_run;

/*
 * Starts the program. When this returns it has called execve() with success.
 * Errors: -EINVAL (with the reason: not a PCI device, an address or group number twice, SIGCHLD is
 * ignored here), those of execve(2), whose text begins with the program's name and ": "; and what
 * is missing to supervise a program: -EPERM, -ENOSYS and others, with the system call that is
 * refused.
 */
UVF_API int uvf_run_start(const struct uvf_run_config *config, struct uvf_run **runp,
			  struct uvf_error *error);

/*
 * Where a device is: its address as "0000:65:00.0", valid as long as @run, and its group's number.
 * The device is by its place in the configuration; NULL past the last.
 */
UVF_API const char *uvf_run_address(const struct uvf_run *run, size_t device, unsigned *group);

/* The program's process id. */
UVF_API pid_t uvf_run_pid(const struct uvf_run *run);

/*
 * Sends the program a signal. Errors: -ESRCH (it has ended), -EINVAL.
 *
 * The program is in the caller's process group and has its terminal, and what that sends (SIGINT,
 * SIGQUIT, SIGTSTP, SIGHUP) both get. So whoever runs it should outlive the first two and SIGHUP,
 * and pass on only what came to him alone: of these signals those whose si_code isn't SI_KERNEL,
 * and SIGHUP if he is the session's leader. With a handler, and not by ignoring them: what is
 * ignored when the program starts it ignores too.
 */
UVF_API int uvf_run_signal(struct uvf_run *run, int signal);

/*
 * Waits until the program and all that it started are gone, and gives the program's status as
 * waitpid(2) does. Once.
 */
UVF_API int uvf_run_wait(struct uvf_run *run, int *wait_status);

/*
 * Asks the program to give a device back: signals its REQ interrupt, again each second, until it
 * is closed. The device is by its place in the configuration. Errors: -EINVAL, -ENOTTY (the
 * program hasn't enabled that interrupt), -ENOTCONN (it is not open).
 */
UVF_API int uvf_run_request(struct uvf_run *run, size_t device);

/* A kind of call, and how long its calls took, from the notification to the answer. */
struct uvf_run_stat {
	const char *name; /* "pread", "VFIO_IOMMU_MAP_DMA" */
	uint64_t count;
	uint64_t errors;
	uint64_t total_ns, max_ns;
	uint64_t p50_ns, p99_ns; /* within an eighth */
};
/* Fills in at most @max, the most frequent first; returns how many there are. Thread-safe. */
UVF_API size_t uvf_run_stats(struct uvf_run *run, struct uvf_run_stat *stats, size_t max);

/*
 * Kills what is left of the program and of all that it started (with namespaces_off: of the program
 * alone), closes the devices, frees. NULL is allowed.
 */
UVF_API void uvf_run_free(struct uvf_run *run);

UVF_END_DECLS

#endif
