/* SPDX-License-Identifier: BSD-3-Clause */
/* PCI configuration space, decoded for people. The bytes may be anything. */
#ifndef UVF_CLI_CAPABILITIES_H
#define UVF_CLI_CAPABILITIES_H

#include <stddef.h>
#include <stdint.h>

#define CONFIG_SPACE_MAX 4096

struct json_object;

struct config_space {
	uint8_t bytes[CONFIG_SPACE_MAX]; /* 0 past @size */
	size_t size;
};

/* Ids, class, command, status, interrupt pin. */
struct json_object *decode_header(const struct config_space *config);
/* "io", "mem32", "mem64", with "prefetchable"; added to @object. */
void decode_bar(const struct config_space *config, unsigned bar, struct json_object *object);
/* Arrays, in the order of the lists. A list that leads astray ends with an "error". */
struct json_object *decode_capabilities(const struct config_space *config);
struct json_object *decode_extended_capabilities(const struct config_space *config);

#endif
