/* SPDX-License-Identifier: BSD-3-Clause */
/* Which paths are ours. */
#ifndef UVF_UAPI_PATHS_H
#define UVF_UAPI_PATHS_H

#include <stdbool.h>
#include <stdint.h>

struct uapi_node;

/* What @path, absolute and normal, opens; NULL: it isn't ours. @number: of a group or device. */
const struct uapi_node *uapi_node_find(const char *path, uint64_t *number);

/* Whether the path, whatever is before it, ends with a name of something that is ours. */
bool uapi_path_may_be_node(const char *path);
/* Whether it is absolute, and made of names alone: without "//", "." and "..", nor "/" at the end.
 */
bool uapi_path_is_plain(const char *path);

#endif
