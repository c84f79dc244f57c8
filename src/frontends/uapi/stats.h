/* SPDX-License-Identifier: BSD-3-Clause */
/* How often each kind of call was made, and how long it took. Any thread. */
#ifndef UVF_UAPI_STATS_H
#define UVF_UAPI_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uapi_call;
struct uapi_stats;
struct uvf_run_stat;

struct uapi_stats *uapi_stats_new(void);
void uapi_stats_free(struct uapi_stats *stats);

/* One that took @duration_ns. @kind: a row's, of those below. */
void uapi_stats_count(struct uapi_stats *stats, unsigned kind, uint64_t duration_ns, bool error);
size_t uapi_stats_read(const struct uapi_stats *stats, struct uvf_run_stat *rows, size_t max);

/*
 * What a call is: names of ioctls depend on the kind of file. @passed_on: the kernel carries it
 * out.
 */
unsigned uapi_kind_of_call(const struct uapi_call *call, bool passed_on);
const char *uapi_kind_name(unsigned kind);
unsigned uapi_kind_count(void);
/* What its arguments are: kinds.c. */
const char *uapi_kind_layout(unsigned kind, bool *is_ioctl);

#endif
