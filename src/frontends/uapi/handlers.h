/* SPDX-License-Identifier: BSD-3-Clause */
/* The handlers of calls: dispatch.c has the table of them. Results as in call.h. */
#ifndef UVF_UAPI_HANDLERS_H
#define UVF_UAPI_HANDLERS_H

#include <stdint.h>

#include "frontends/uapi/call.h"

struct uapi_file;

/* The file that @fd is, with an operation begun on it; or NULL. For traces it is the call's. */
struct uapi_file *uapi_begin(struct uapi_call *call, int fd);
void uapi_end(struct uapi_file *file);
/* Between the two: once more, where something was refused for what the program has closed. */
int64_t uapi_ioctl(struct uapi_file *file, struct uapi_call *call, unsigned command,
		   uint64_t argument);

/* paths.c */
int64_t uapi_handle_open(struct uapi_call *call);
int64_t uapi_handle_openat(struct uapi_call *call);
int64_t uapi_handle_openat2(struct uapi_call *call);
int64_t uapi_handle_creat(struct uapi_call *call);

/* access.c */
int64_t uapi_handle_pread(struct uapi_call *call);
int64_t uapi_handle_read(struct uapi_call *call);
int64_t uapi_handle_preadv(struct uapi_call *call);
int64_t uapi_handle_readv(struct uapi_call *call);
int64_t uapi_handle_sendfile(struct uapi_call *call);
int64_t uapi_handle_splice(struct uapi_call *call);

/* descriptors.c */
int64_t uapi_handle_dup(struct uapi_call *call);
int64_t uapi_handle_dup2(struct uapi_call *call);
int64_t uapi_handle_fcntl(struct uapi_call *call);
int64_t uapi_handle_fstat(struct uapi_call *call);
int64_t uapi_handle_newfstatat(struct uapi_call *call);
int64_t uapi_handle_statx(struct uapi_call *call);

/*
 * Gives the program @fd of ours at a free number among those reserved, from @minimum up.
 * Errors: -EMFILE (none is free, or to look for one wouldn't be safe), -ESRCH.
 */
int uapi_place_reserved(struct uapi_call *call, int fd, int minimum, int flags);

#endif
