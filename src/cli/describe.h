/* SPDX-License-Identifier: BSD-3-Clause */
/* What a device is, for people: for the program and for any driver that has one open. */
#ifndef UVF_CLI_DESCRIBE_H
#define UVF_CLI_DESCRIBE_H

#include <stdbool.h>
#include <uvfio/types.h>

struct json_object;

/*
 * Adds what @dev, which is open, has to @object. Reads registers of configuration space only.
 * Errors: those of client.h; @object then has what was found before.
 */
int describe_device(struct uvf_device *dev, struct json_object *object);

/* Prints @object and gives it up. As text, objects become "key: value" lines and flat ones one
 * line. */
void print_tree(struct json_object *object, bool json);

#endif
