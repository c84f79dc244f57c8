/* SPDX-License-Identifier: BSD-3-Clause */
/* Which paths are ours. */
#ifndef UVF_UAPI_PATHS_H
#define UVF_UAPI_PATHS_H

#include <stdbool.h>
#include <stdint.h>

struct uapi_node;

/* What @path, absolute and normal, opens; NULL: it isn't ours. @number: of a group or device. */
const struct uapi_node *uapi_node_find(const char *path, uint64_t *number);

/*
 * Takes what isn't a name out of an absolute path: "//", ".", and ".." with the name before it.
 * Only by the text: links are not looked at. Returns whether it says that it is a folder ("/" at
 * the end).
 */
bool uapi_path_normalise(char *path);

#endif
