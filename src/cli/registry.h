/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which devices are being served on this machine: a directory with one file for each, as JSON.
 * Who serves holds a lock on its file for as long as it lives, so a file that can be locked was
 * left by one that died.
 */
#ifndef UVF_CLI_REGISTRY_H
#define UVF_CLI_REGISTRY_H

#include <sys/types.h>
#include <uvfio/types.h>

struct json_object;

struct registry_entry {
	int fd; /* holds the lock; -1: nothing is published */
	char path[256];
};

/* Where process @pid publishes its @nth device. */
void registry_path(char path[256], pid_t pid, unsigned nth);

/* Publishes the calling process's @nth device. Errors: those of open(2) and flock(2). */
int registry_publish(struct registry_entry *entry, unsigned nth, const char *spec,
		     const char *socket);
void registry_remove(struct registry_entry *entry);

/* An array of what is published, in no order. Files that nobody holds are removed on the way. */
struct json_object *registry_read(void);

#endif
