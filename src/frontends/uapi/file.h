/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files as the program holds them. One is made by an open() or an ioctl() of the program, and
 * released when the last descriptor of it is gone, wherever that was: it is a socketpair whose
 * other end hangs up then.
 *
 * Lifetime: reference counted. The table of files has a reference until the hang-up, and
 * uapi_file_find() gives one, so that operations never run on a file that is gone; `release` is
 * called at the hang-up, when no operation is running and none will: not when the last reference
 * goes. `destroy` comes with the last reference.
 * Threads: operations of one file are called from several threads at once.
 */
#ifndef UVF_UAPI_FILE_H
#define UVF_UAPI_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct uvf_run;
struct uapi_call;
struct uapi_file;

/* An access as pread() and its relatives make it. */
struct uapi_access {
	bool write;
	uint64_t offset;  /* of the file */
	uint64_t address; /* in the program */
	uint64_t count;
};

/* mmap()'s arguments, but for the descriptor. */
struct uapi_mmap {
	uint64_t address;
	uint64_t size;
	int prot, flags;
	uint64_t offset;
};

/* Results are those of the system call: a count or number, or a negative errno. */
struct uapi_file_ops {
	const char *name; /* for traces: "container" */
	/* NULL, all of them: -ENOTTY for ioctl, -EINVAL for access, -ENODEV for mmap. */
	long (*ioctl)(struct uapi_file *file, struct uapi_call *call, unsigned command,
		      uint64_t argument);
	ssize_t (*access)(struct uapi_file *file, struct uapi_call *call,
			  const struct uapi_access *access);
	long (*mmap)(struct uapi_file *file, struct uapi_call *call, const struct uapi_mmap *map);
	/* The program has let go of it. May take long. */
	void (*release)(struct uapi_file *file);
	/* The memory. NULL: free(). */
	void (*destroy)(struct uapi_file *file);
};

/* The first member of each kind of file. */
struct uapi_file {
	struct uvf_run *run;
	const struct uapi_file_ops *ops;
	dev_t rdev; /* what fstat() tells: a character device with this number; 0: an anon_inode */
	int access_mode;       /* O_RDWR unless open() said something else */
	atomic_ulong position; /* read()'s and write()'s: of a device */

	/* files.c's. */
	ino_t inode;
	int peer;	 /* our end */
	int program_end; /* until uapi_call_place() gives it away: -1 then */
	atomic_uint references;
	unsigned running;
	bool hung_up;
	struct uapi_file *next; /* of those with this hash; then of those to be released */
	uint64_t sequence;	/* among those */
};

/*
 * Fills in the common part of @file (of calloc()), makes its socketpair, and puts it into the
 * table: the table's reference is the only one. Whoever made it gives it to the program by
 * uapi_call_place(); one that can't be placed is hung up by uapi_file_abandon().
 * Errors: -EMFILE, -ENOMEM; then nothing is in the table and @file is the caller's.
 */
int uapi_file_init(struct uapi_file *file, struct uvf_run *run, const struct uapi_file_ops *ops,
		   dev_t rdev);
void uapi_file_abandon(struct uapi_file *file);

struct uapi_file *uapi_file_get(struct uapi_file *file);
void uapi_file_put(struct uapi_file *file);

/*
 * Which file of ours @fd of the calling thread is: with a reference, or NULL. Always what is true
 * at this moment: nothing of it is remembered.
 */
struct uapi_file *uapi_file_find(struct uapi_call *call, int fd);

/* Begins and ends an operation on a file: `release` waits. False: it has hung up. */
bool uapi_file_enter(struct uapi_file *file);
void uapi_file_leave(struct uapi_file *file);

/*
 * Waits until the files whose last descriptor is gone by now are released, but for those with an
 * operation that runs, and those that settle. Before what has to see what a close did. Never from a
 * release.
 */
void uapi_files_drain(struct uvf_run *run);
/*
 * The same, and it waits for those that settle, too. Whether it waited for any: then what was
 * refused because of them (EBUSY) can be tried again. Dispatch does so for open() and ioctl().
 */
bool uapi_files_drain_slow(struct uvf_run *run);
/*
 * From a release, where what is still to be done may take long and who needs it done waits for it
 * by other means (an ownership that is BUSY): so that nobody else is held up.
 */
void uapi_files_settle(struct uvf_run *run);

int uapi_files_new(struct uvf_run *run);
/* Releases all that is left. */
void uapi_files_free(struct uvf_run *run);

#endif
