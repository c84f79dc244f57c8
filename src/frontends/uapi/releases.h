/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files that have hung up and are to be released, in their order, each by any thread: one of who
 * waits for it, or of threads that come as they are needed. A slow release holds up none of the
 * others.
 */
#ifndef UVF_UAPI_RELEASES_H
#define UVF_UAPI_RELEASES_H

#include <stdbool.h>

struct uapi_file;
struct uapi_releases;

struct uapi_releases *uapi_releases_new(void);
/* Releases what is left. */
void uapi_releases_free(struct uapi_releases *releases);

/* Takes over a reference to @file, which is in no list (`next` is used) and has no operation. */
void uapi_releases_add(struct uapi_releases *releases, struct uapi_file *file);

/* From a release: what is still to be done is slow. */
void uapi_releases_settle(struct uapi_releases *releases);

/*
 * Waits until those that were added before are released; @all: also those that have said that they
 * are slow. Returns whether there was any.
 */
bool uapi_releases_wait(struct uapi_releases *releases, bool all);

#endif
