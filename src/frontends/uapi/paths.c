/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * open() and its relatives: which paths are ours, and what they open.
 *
 * The kernel carries out nearly all of them, so the text decides quickly. A path that is one of
 * ours as it stands is ours. One whose last name could be, behind links or "..", is looked up in
 * the program's own root, and the kernel's name of what was found decides.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
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

/* Whether it is a name that some node has. */
bool uapi_path_may_be_node(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	uint64_t number;

	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		const char *last = strrchr(nodes[i].path, '/') + 1;
		size_t length = strlen(last);

		if (strncmp(name, last, length) == 0 &&
		    (nodes[i].numbered ? parse_number(name + length, &number) : !name[length]))
			return true;
	}
	return false;
}

bool uapi_path_is_plain(const char *path)
{
	if (*path != '/')
		return false;
	while (*path) {
		size_t length = strcspn(++path, "/");

		if (!length || (length == 1 && path[0] == '.') ||
		    (length == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		path += length;
	}
	return true;
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

/* What the kernel calls the file that is at @path, absolute, for the program. */
static bool look_up(const struct uapi_call *call, const char *path, uint64_t flags, char *found,
		    size_t size)
{
	const struct open_how how = {
		.flags = O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW),
		.resolve = RESOLVE_IN_ROOT,
	};
	char link[48];
	ssize_t length = -1;
	int root, fd;

	snprintf(link, sizeof(link), "/proc/%d/root", call->thread);
	root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return false;
	fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	close(root);
	if (fd < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, found, size - 1);
	close(fd);
	if (length <= 0)
		return false;
	found[length] = '\0';
	return true;
}

/* Makes @path what the program opens, if that may be of interest. */
static bool find_path(const struct uapi_call *call, int dirfd, uint64_t flags, char *path)
{
	char whole[2 * PATH_MAX];
	ssize_t before = 0;

	if (uapi_path_is_plain(path) &&
	    (strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/sys/", 5) == 0))
		return true;
	if (!uapi_path_may_be_node(path))
		return false;
	if (path[0] != '/') {
		before = read_folder(call, dirfd, whole, PATH_MAX);
		if (before < 0)
			return false;
		whole[before++] = '/';
	}
	memcpy(whole + before, path, strlen(path) + 1);
	return look_up(call, whole, flags, path, PATH_MAX);
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
	if (result == -EBUSY && uapi_files_drain_slow(call->run))
		result = node->open(call->run, number, &file);
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
	const struct uapi_node *node;
	char path[PATH_MAX];
	uint64_t number = 0;

	/* What is wrong the kernel says. */
	if (flags & O_PATH || uapi_call_read_string(call, address, path, sizeof(path)) < 0 ||
	    !find_path(call, dirfd, flags, path))
		return UAPI_CONTINUE;
	node = uapi_node_find(path, &number);
	if (node)
		return open_node(call, node, number, flags);
	if (strncmp(path, "/sys/", 5) == 0)
		uapi_sysfs_refresh(call->run, path);
	return UAPI_CONTINUE;
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
	struct open_how how = {0};

	if (call->arguments[3] < sizeof(how) ||
	    uapi_call_read(call, call->arguments[2], &how, sizeof(how)) < 0)
		return UAPI_CONTINUE;
	/* A folder that is a root, or that names have to stay below, isn't where devices are. */
	if (how.resolve & (RESOLVE_IN_ROOT | RESOLVE_BENEATH | RESOLVE_CACHED))
		return UAPI_CONTINUE;
	return open_path(call, (int)call->arguments[0], call->arguments[1], how.flags);
}
