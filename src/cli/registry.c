/* SPDX-License-Identifier: BSD-3-Clause */
/* Which devices are being served on this machine: a directory with one file for each, as JSON. */
#include "cli/registry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/spec.h"

#define DIRECTORY_MAX 200

/* Only a directory that is ours alone: others must not be able to plant or take away files. */
static bool make_directory(const char *path)
{
	struct stat there;

	if (mkdir(path, 0700) && errno != EEXIST)
		return false;
	return !lstat(path, &there) && S_ISDIR(there.st_mode) && there.st_uid == geteuid() &&
	       !(there.st_mode & 022) && !access(path, W_OK | X_OK);
}

/* ${XDG_RUNTIME_DIR:-/run}/uvfio, or where that can't be, a directory of this user in /tmp. */
static void find_directory(char path[DIRECTORY_MAX])
{
	const char *base = getenv("XDG_RUNTIME_DIR");

	if (!base || base[0] != '/' || strlen(base) > DIRECTORY_MAX - 16)
		base = "/run";
	snprintf(path, DIRECTORY_MAX, "%s/uvfio", base);
	if (make_directory(path))
		return;
	snprintf(path, DIRECTORY_MAX, "/tmp/uvfio-%u", geteuid());
	(void)make_directory(path);
}

void registry_path(char path[256], pid_t pid, unsigned nth)
{
	char directory[DIRECTORY_MAX];

	find_directory(directory);
	snprintf(path, 256, "%s/%d-%u.json", directory, (int)pid, nth);
}

static struct json_object *describe(const char *spec, const char *socket)
{
	struct json_object *object = json_object_new_object();
	char absolute[PATH_MAX];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	json_object_object_add(object, "model",
			       json_object_new_string_len(spec, (int)uvf_spec_name_length(spec)));
	json_object_object_add(object, "pid", json_object_new_int(getpid()));
	json_object_object_add(
		object, "socket",
		json_object_new_string(realpath(socket, absolute) ? absolute : socket));
	json_object_object_add(object, "spec", json_object_new_string(spec));
	json_object_object_add(object, "started", json_object_new_int64(now.tv_sec));
	return object;
}

static int write_all(int fd, const char *text)
{
	size_t left = strlen(text);

	while (left) {
		ssize_t put = write(fd, text, left);

		if (put < 0)
			return -errno;
		text += put;
		left -= (size_t)put;
	}
	return 0;
}

/* The file gets its name when it is locked and whole: who lists sees no other. */
int registry_publish(struct registry_entry *entry, unsigned nth, const char *spec,
		     const char *socket)
{
	struct json_object *object = describe(spec, socket);
	char new_path[264];
	int ret = 0;

	registry_path(entry->path, getpid(), nth);
	snprintf(new_path, sizeof(new_path), "%s.new", entry->path);
	entry->fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (entry->fd < 0 || flock(entry->fd, LOCK_EX | LOCK_NB))
		ret = -errno;
	if (!ret)
		ret = write_all(entry->fd, json_object_to_json_string(object));
	if (!ret && rename(new_path, entry->path))
		ret = -errno;
	json_object_put(object);
	if (ret && entry->fd >= 0) {
		unlink(new_path);
		close(entry->fd);
		entry->fd = -1;
	}
	return ret;
}

void registry_remove(struct registry_entry *entry)
{
	if (entry->fd < 0)
		return;
	unlink(entry->path);
	close(entry->fd);
	entry->fd = -1;
}

/* ---- Reading ---- */

/* What the file at @path says, or NULL; one that nobody holds is removed. */
static struct json_object *read_entry(const char *path)
{
	struct json_object *object = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return NULL;
	if (!flock(fd, LOCK_SH | LOCK_NB))
		unlink(path);
	else
		object = json_object_from_fd(fd);
	close(fd);
	if (object && !json_object_is_type(object, json_type_object)) {
		json_object_put(object);
		object = NULL;
	}
	return object;
}

struct json_object *registry_read(void)
{
	struct json_object *all = json_object_new_array();
	char directory[DIRECTORY_MAX], path[DIRECTORY_MAX + NAME_MAX + 2];
	struct dirent *row;
	DIR *rows;

	find_directory(directory);
	rows = opendir(directory);
	while (rows && (row = readdir(rows))) {
		const char *suffix = strrchr(row->d_name, '.');
		struct json_object *object;

		if (!suffix || strcmp(suffix, ".json"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, row->d_name);
		object = read_entry(path);
		if (object)
			json_object_array_add(all, object);
	}
	if (rows)
		closedir(rows);
	return all;
}
