/* SPDX-License-Identifier: BSD-3-Clause */
/* open() and its relatives: which paths are ours, and what they open. */
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "frontends/uapi/file.h"
#include "frontends/uapi/handlers.h"
#include "frontends/uapi/paths.h"
#include "frontends/uapi/sysfs.h"
#include "frontends/uapi/uapi.h"

/* ---- What is where ---- */

static int open_container(struct uvf_run *run, uint64_t number, struct uapi_file **filep)
{
	return uapi_container_open(run, filep);
}

static int open_iommufd(struct uvf_run *run, uint64_t number, struct uapi_file **filep)
{
	return uapi_iommufd_open(run, filep);
}

static int open_group(struct uvf_run *run, uint64_t number, struct uapi_file **filep)
{
	for (size_t i = 0; i < run->group_count; i++)
		if (run->groups[i].number == number)
			return uapi_group_open(&run->groups[i], filep);
	return -ENOENT;
}

static int open_cdev(struct uvf_run *run, uint64_t number, struct uapi_file **filep)
{
	if (number >= run->device_count)
		return -ENOENT;
	return uapi_cdev_open(&run->devices[number], filep);
}

static const struct uapi_node {
	const char *path;
	bool numbered; /* a number follows */
	int (*open)(struct uvf_run *run, uint64_t number, struct uapi_file **filep);
} nodes[] = {
	{"/dev/vfio/vfio", false, open_container},
	{"/dev/iommu", false, open_iommufd},
	{"/dev/vfio/devices/vfio", true, open_cdev},
	{"/dev/vfio/", true, open_group},
};

/* A decimal number as the kernel writes them: no sign, no leading zero. */
static bool parse_number(const char *text, uint64_t *number)
{
	*number = 0;
	if (!*text || strlen(text) > 9 || (text[0] == '0' && text[1]))
		return false;
	for (; *text >= '0' && *text <= '9'; text++)
		*number = *number * 10 + (uint64_t)(*text - '0');
	return !*text;
}

const struct uapi_node *uapi_node_find(const char *path, uint64_t *number)
{
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		size_t length = strlen(nodes[i].path);

		if (strncmp(path, nodes[i].path, length) != 0)
			continue;
		if (nodes[i].numbered ? parse_number(path + length, number) : !path[length])
			return &nodes[i];
	}
	return NULL;
}

/* ---- Which path it is ---- */

bool uapi_path_normalise(char *path)
{
	const char *from = path;
	char *to = path;
	bool folder = false;

	while (*from) {
		size_t length;

		while (*from == '/')
			from++;
		length = strcspn(from, "/");
		folder = !length || (length <= 2 && strncmp(from, "..", length) == 0);
		if (length == 2 && folder) {
			while (to > path && *--to != '/')
				continue;
		} else if (length && !folder) {
			*to++ = '/';
			memmove(to, from, length);
			to += length;
		}
		from += length;
	}
	if (to == path)
		*to++ = '/';
	*to = '\0';
	return folder;
}

/* The path that names in @dirfd begin with: of a folder of the program's. */
static ssize_t read_folder(const struct uapi_call *call, int dirfd, char *path, size_t size)
{
	char link[48];

	if (dirfd == AT_FDCWD)
		snprintf(link, sizeof(link), "/proc/%d/cwd", call->thread);
	else
		snprintf(link, sizeof(link), "/proc/%d/fd/%d", call->thread, dirfd);
	return readlink(link, path, size);
}

/* Reads the path and makes it absolute and normal. Returns 0 or a negative errno. */
static int read_path(struct uapi_call *call, int dirfd, uint64_t address, char *path, bool *folder)
{
	char name[PATH_MAX];
	ssize_t length = uapi_call_read_string(call, address, name, sizeof(name));
	ssize_t before = 0;

	if (length < 0)
		return (int)length;
	if (name[0] != '/') {
		before = read_folder(call, dirfd, path, PATH_MAX);
		if (before < 0)
			return -EBADF;
		path[before++] = '/';
	}
	memcpy(path + before, name, (size_t)length + 1);
	*folder = uapi_path_normalise(path);
	return 0;
}

/* ---- Opening ---- */

static int64_t open_node(struct uapi_call *call, const struct uapi_node *node, uint64_t number,
			 uint64_t flags)
{
	struct uapi_file *file;
	int result;

	if (flags & O_DIRECTORY)
		return -ENOTDIR;
	if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	result = node->open(call->run, number, &file);
	if (result == -EBUSY) {
		uapi_files_drain(call->run);
		result = node->open(call->run, number, &file);
	}
	if (result == -ENOENT)
		return UAPI_CONTINUE;
	if (result)
		return result;
	file->access_mode = (int)(flags & O_ACCMODE);
	call->file_name = file->ops->name;
	return uapi_call_place(call, file, (int)(flags & O_CLOEXEC));
}

static int64_t open_path(struct uapi_call *call, int dirfd, uint64_t address, uint64_t flags)
{
	char path[2 * PATH_MAX];
	const struct uapi_node *node;
	uint64_t number = 0;
	bool folder = false;

	/* What is wrong the kernel says. */
	if (read_path(call, dirfd, address, path, &folder) < 0)
		return UAPI_CONTINUE;
	node = uapi_node_find(path, &number);
	if (!node) {
		if (strncmp(path, "/sys/", 5) == 0)
			uapi_sysfs_refresh(call->run, path);
		return UAPI_CONTINUE;
	}
	if (flags & O_PATH)
		return UAPI_CONTINUE;
	return folder ? -ENOTDIR : open_node(call, node, number, flags);
}

int64_t uapi_handle_open(struct uapi_call *call)
{
	return open_path(call, AT_FDCWD, call->arguments[0], call->arguments[1]);
}

int64_t uapi_handle_openat(struct uapi_call *call)
{
	return open_path(call, (int)call->arguments[0], call->arguments[1], call->arguments[2]);
}

int64_t uapi_handle_creat(struct uapi_call *call)
{
	return open_path(call, AT_FDCWD, call->arguments[0], O_CREAT | O_WRONLY | O_TRUNC);
}

int64_t uapi_handle_openat2(struct uapi_call *call)
{
	struct open_how how;

	if (call->arguments[3] < sizeof(how) ||
	    uapi_call_read(call, call->arguments[2], &how, sizeof(how)) < 0)
		return UAPI_CONTINUE;
	/* A folder that is a root, or that names have to stay below, isn't where devices are. */
	if (how.resolve & (RESOLVE_IN_ROOT | RESOLVE_BENEATH | RESOLVE_CACHED))
		return UAPI_CONTINUE;
	return open_path(call, (int)call->arguments[0], call->arguments[1], how.flags);
}
