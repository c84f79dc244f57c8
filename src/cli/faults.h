/* SPDX-License-Identifier: BSD-3-Clause */
/* The devices of this process by the names that people use, and the faults that are put into them.
 */
#ifndef UVF_CLI_FAULTS_H
#define UVF_CLI_FAULTS_H

#include <uvfio/inject.h>

struct json_object;

/* A device is found by each of its names; by one that several have, none is. */
struct fault_target {
	struct uvf_device *dev;
	const char *address; /* "0000:65:00.0", or where it is served */
	const char *name;    /* that the user gave; NULL: none */
};

struct faults {
	struct fault_target *targets;
	size_t count;
	struct uvf_injector *maps; /* asked about all mappings; NULL: each device has its own */
};

/* Finds @name, "" for the only one. Errors: -ENOENT, -EINVAL (which of them?). */
int faults_find(const struct faults *faults, const char *name, size_t *nth,
		struct uvf_error *error);
/* Errors: uvf_inject()'s and faults_find()'s. */
int faults_inject(const struct faults *faults, const char *spec, struct uvf_error *error);
/* Forgets the faults of a device; with @name "" all. Errors: faults_find()'s. */
int faults_clear(const struct faults *faults, const char *name, struct uvf_error *error);
/* An array: each fault with its device. */
struct json_object *faults_list(const struct faults *faults);

#endif
