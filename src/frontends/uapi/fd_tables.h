/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the program's descriptors are, asked at each call. A folder /proc/TID/fd is kept open for
 * some threads, so that asking is one system call. It belongs to its task: when that has ended,
 * asking fails, even if a new one has its number.
 */
#ifndef UVF_UAPI_FD_TABLES_H
#define UVF_UAPI_FD_TABLES_H

#include <sys/stat.h>
#include <sys/types.h>

struct uapi_fd_tables;

struct uapi_fd_tables *uapi_fd_tables_new(void);
void uapi_fd_tables_free(struct uapi_fd_tables *tables);

/* fstat() of @fd of @thread. Errors: -EBADF (or the thread is gone). */
int uapi_fd_tables_stat(struct uapi_fd_tables *tables, pid_t thread, int fd, struct stat *stat);

#endif
