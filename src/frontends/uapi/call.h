/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A call that the program made: what a handler sees of it. A call belongs to the thread that
 * handles it; the program's thread stays blocked until it is answered.
 *
 * Tests make calls of their own: one whose `notifier` is NULL is by a thread of this process, and
 * reads and writes this process's memory (or `process`'s, if that is another) and descriptors.
 */
#ifndef UVF_UAPI_CALL_H
#define UVF_UAPI_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct uvf_run;
struct uapi_file;
struct uapi_notifier;

/* A handler's result when somebody else (the tracer) answers, by uapi_call_answer(). */
#define UAPI_TAKEN INT64_MIN
/* A handler's result for "not for us": the kernel carries the call out. */
#define UAPI_CONTINUE (INT64_MIN + 1)

struct uapi_call {
	struct uvf_run *run;
	struct uapi_notifier *notifier;
	uint64_t id;   /* of the notification */
	pid_t thread;  /* that made it */
	pid_t process; /* its thread group; 0: not asked for yet: uapi_call_process() */
	int number;    /* __NR_* */
	uint64_t arguments[6];
	uint64_t instruction_pointer;
	uint64_t begun_ns;
	const char *file_name; /* of the kind of file that it is for, for traces; NULL: of none */
};

/*
 * The program's memory. All or nothing: -EFAULT. A copy to the program that is called when the
 * thread has been killed does nothing: -EFAULT too.
 */
int uapi_call_read(struct uapi_call *call, uint64_t address, void *to, size_t size);
int uapi_call_write(struct uapi_call *call, uint64_t address, const void *from, size_t size);
/* A string of less than @size bytes: its length, or -EFAULT, -ENAMETOOLONG. */
ssize_t uapi_call_read_string(struct uapi_call *call, uint64_t address, char *to, size_t size);

/*
 * An ioctl's argument that begins with its own size (argsz), as VFIO's do: reads argsz, fails with
 * -EINVAL if it is under @minimum, and reads min(argsz, @size) bytes into @to; the rest of @to is
 * 0.
 */
int uapi_call_read_sized(struct uapi_call *call, uint64_t address, void *to, size_t minimum,
			 size_t size);

pid_t uapi_call_process(struct uapi_call *call);
/*
 * Whether the call still waits for its answer. Then the thread is there, and what was found by its
 * number before was its: a thread that was killed may have given its number to another.
 */
bool uapi_call_is_waiting(struct uapi_call *call);

/* A duplicate here of the program's @fd, close-on-exec. Errors: -EBADF, -EMFILE, -EPERM. */
int uapi_call_get_fd(struct uapi_call *call, int fd);
/*
 * Gives the program a descriptor: of @file (in the reserved range of numbers where there is room),
 * or of any fd of ours (the lowest free number). Returns its number. @flags: 0 or O_CLOEXEC.
 * Errors: -EMFILE, -ESRCH (killed). A file that can't be placed is abandoned.
 */
int uapi_call_place(struct uapi_call *call, struct uapi_file *file, int flags);
int uapi_call_place_fd(struct uapi_call *call, int fd, int flags);

/* Answers a call that a handler said is UAPI_TAKEN. @result as a handler's. Once. */
void uapi_call_answer(struct uapi_call *call, int64_t result);

#endif
