/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the program's descriptors are, asked at each call. Files by which the kernel tells it are
 * kept open for some of them, so that asking is one system call. They belong to their tasks: what
 * one tells is what is true of its task's descriptor now; when the task has ended, asking fails,
 * even if a new one has its number.
 */
#ifndef UVF_UAPI_FD_TABLES_H
#define UVF_UAPI_FD_TABLES_H

#include <stdbool.h>
#include <sys/types.h>

struct uapi_fd_tables;

struct uapi_fd_tables *uapi_fd_tables_new(void);
void uapi_fd_tables_free(struct uapi_fd_tables *tables);

/* Whether @fd of @thread is a socket, and which. */
bool uapi_fd_tables_find_socket(struct uapi_fd_tables *tables, pid_t thread, int fd, ino_t *inode);

#endif
