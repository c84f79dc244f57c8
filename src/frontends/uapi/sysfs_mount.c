/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making a tree of files in a mount namespace, rootless too. Each place gets a tmpfs: over the
 * folder itself where the program is to see nothing else, or where the machine has the folder but
 * not what is ours in it, with binds of what it has. Nothing is left behind: the tmpfs goes with
 * the namespace. (A bind from a folder on disk would outlive a supervisor that is killed.)
 *
 * Only system calls in here, no allocation, no locks, no stdio.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frontends/uapi/sysfs_tree.h"

/* Of the kernel's ABI; the C library's header has these names from 2.36 on, <linux/mount.h> too. */
#define TREE_CLONE	1u /* OPEN_TREE_CLONE */
#define MOVE_EMPTY_PATH 4u /* MOVE_MOUNT_F_EMPTY_PATH */

struct kernel_dirent { /* getdents64's */
	uint64_t inode;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

static bool is_folder(const struct uapi_node *node)
{
	return node->kind == UAPI_NODE_FOLDER || node->kind == UAPI_NODE_ONLY;
}

/* The part of @node's path below @folder, without a slash first; NULL if it isn't in it. */
static const char *below(const struct uapi_node *node, const char *folder)
{
	size_t length = strlen(folder);

	if (strncmp(node->path, folder, length) != 0 || node->path[length] != '/')
		return NULL;
	return node->path + length + 1;
}

/* The next node after @i that is in @folder itself; count where there is none. */
static size_t next_child(const struct uapi_tree *tree, size_t folder, size_t i)
{
	for (i++; i < tree->count; i++) {
		const char *rest = below(&tree->nodes[i], tree->nodes[folder].path);

		if (!rest)
			break;
		if (!strchr(rest, '/'))
			return i;
	}
	return tree->count;
}

static size_t find_child(const struct uapi_tree *tree, size_t folder, const char *name)
{
	size_t i = folder;

	while ((i = next_child(tree, folder, i)) < tree->count)
		if (strcmp(below(&tree->nodes[i], tree->nodes[folder].path), name) == 0)
			return i;
	return tree->count;
}

static int make_file(int folder, const char *name, const struct uapi_node *node)
{
	int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int result = 0;

	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < node->text_size && !result;) {
		ssize_t count = write(fd, node->text + done, node->text_size - done);

		if (count < 0)
			result = -errno;
		else
			done += (size_t)count;
	}
	if (!result && node->size > node->text_size && ftruncate(fd, (off_t)node->size) < 0)
		result = -errno;
	/* Not by openat(): the umask is the program's. */
	if (!result && fchmod(fd, node->mode) < 0)
		result = -errno;
	close(fd);
	return result;
}

static int make_folder(int folder, const char *name)
{
	if (mkdirat(folder, name, 0755) < 0 || fchmodat(folder, name, 0755, 0) < 0)
		return -errno;
	return 0;
}

static int make_node(int folder, const char *name, const struct uapi_node *node)
{
	struct uapi_node plain = {.mode = 0666};

	switch (node->kind) {
	case UAPI_NODE_FOLDER:
	case UAPI_NODE_ONLY:
		return make_folder(folder, name);
	case UAPI_NODE_FILE:
		return make_file(folder, name, node);
	case UAPI_NODE_LINK:
		return symlinkat(node->text, folder, name) < 0 ? -errno : 0;
	case UAPI_NODE_DEVICE:
		if (mknodat(folder, name, S_IFCHR | 0666, node->rdev) == 0)
			return fchmodat(folder, name, 0666, 0) < 0 ? -errno : 0;
		/* Without the right to: the answers to stat() are ours anyway. */
		return make_file(folder, name, &plain);
	}
	return -EINVAL;
}

/* Shows the entry @name of @from in @to too, under a file or folder made for it. */
static int bind_entry(int from, int to, const char *name)
{
	long tree = syscall(SYS_open_tree, from, name,
			    TREE_CLONE | (unsigned)O_CLOEXEC | (unsigned)AT_RECURSIVE |
				    (unsigned)AT_SYMLINK_NOFOLLOW);
	int result = 0;

	if (tree < 0)
		return -errno;
	if (syscall(SYS_move_mount, (int)tree, "", to, name, MOVE_EMPTY_PATH) < 0)
		result = -errno;
	close((int)tree);
	return result;
}

static int copy_link(int from, int to, const char *name)
{
	char target[4096];
	ssize_t size = readlinkat(from, name, target, sizeof(target) - 1);

	if (size < 0)
		return -errno;
	target[size] = '\0';
	return symlinkat(target, to, name) < 0 ? -errno : 0;
}

/*
 * One entry that the machine has and we have not. One that can't be shown is left out: none is
 * worth not starting the program for.
 */
static void show_entry(int from, int to, const char *name)
{
	struct uapi_node plain = {.mode = 0644};
	struct stat status;

	if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (S_ISLNK(status.st_mode)) {
		copy_link(from, to, name);
	} else if (S_ISDIR(status.st_mode)) {
		if (make_folder(to, name) == 0 && bind_entry(from, to, name) < 0)
			unlinkat(to, name, AT_REMOVEDIR);
	} else {
		if (make_file(to, name, &plain) == 0 && bind_entry(from, to, name) < 0)
			unlinkat(to, name, 0);
	}
}

static int show_rest(const struct uapi_tree *tree, size_t folder, int from, int to);

/* A folder that both have. */
static int merge_folder(const struct uapi_tree *tree, size_t folder, int from, int to,
			const char *name)
{
	int from_inner = openat(from, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int to_inner, result;

	if (from_inner < 0)
		return 0; /* theirs is no folder: ours stands */
	to_inner = openat(to, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	result = to_inner < 0 ? -errno : show_rest(tree, folder, from_inner, to_inner);
	if (to_inner >= 0)
		close(to_inner);
	close(from_inner);
	return result;
}

/* Shows in @to, where our @folder is, what the machine's folder @from has and ours has not. */
static int show_rest(const struct uapi_tree *tree, size_t folder, int from, int to)
{
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(struct kernel_dirent) char entries[2048];
	long size;
	int result = 0;

	if (fd < 0)
		return -errno;
	while (!result && (size = syscall(SYS_getdents64, fd, entries, sizeof(entries))) != 0) {
		if (size < 0) {
			result = -errno;
			break;
		}
		for (long at = 0; at < size && !result;) {
			const struct kernel_dirent *entry = (void *)(entries + at);
			size_t ours = find_child(tree, folder, entry->name);

			at += entry->size;
			if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
				continue;
			if (ours == tree->count)
				show_entry(from, to, entry->name);
			else if (tree->nodes[ours].kind == UAPI_NODE_FOLDER)
				result = merge_folder(tree, ours, from, to, entry->name);
		}
	}
	close(fd);
	return result;
}

/* Everything of ours in @folder. */
static int make_nodes(const struct uapi_tree *tree, size_t folder, int to, const char **what)
{
	for (size_t i = folder + 1; i < tree->count; i++) {
		const char *rest = below(&tree->nodes[i], tree->nodes[folder].path);
		int result;

		if (!rest)
			break;
		result = make_node(to, rest, &tree->nodes[i]);
		if (result < 0) {
			*what = tree->nodes[i].path;
			return result;
		}
	}
	return 0;
}

/* Mounts a tmpfs over the machine's folder and fills it. */
static int cover(const struct uapi_tree *tree, size_t folder, const char **what)
{
	const struct uapi_node *node = &tree->nodes[folder];
	int from = open(node->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int to = -1, result = 0;

	*what = node->path;
	if (from < 0)
		return -errno;
	/* Not nodev: it may have devices, where we may make them. */
	if (mount("tmpfs", node->path, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755") < 0)
		result = -errno;
	if (!result) {
		to = open(node->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		result = to < 0 ? -errno : make_nodes(tree, folder, to, what);
	}
	if (!result && node->kind == UAPI_NODE_FOLDER)
		result = show_rest(tree, folder, from, to);
	if (to >= 0)
		close(to);
	close(from);
	return result;
}

/* Whether the machine has a folder for each thing in our @folder. */
static bool has_all(const struct uapi_tree *tree, size_t folder)
{
	size_t i = folder;

	while ((i = next_child(tree, folder, i)) < tree->count) {
		struct stat status;

		if (!is_folder(&tree->nodes[i]) ||
		    fstatat(AT_FDCWD, tree->nodes[i].path, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISDIR(status.st_mode))
			return false;
	}
	return true;
}

/* As deep down as can be, so that as little as can be is covered. */
static int graft(const struct uapi_tree *tree, size_t folder, const char **what)
{
	size_t i = folder;

	if (tree->nodes[folder].kind != UAPI_NODE_FOLDER || !has_all(tree, folder))
		return cover(tree, folder, what);
	while ((i = next_child(tree, folder, i)) < tree->count) {
		int result = graft(tree, i, what);

		if (result < 0)
			return result;
	}
	return 0;
}

int uapi_tree_mount(const struct uapi_tree *tree, const char **what)
{
	*what = "/";
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -errno;
	for (size_t i = 0; i < tree->count; i++) {
		int result;

		/* Those at the top only: "/sys", "/dev". */
		if (strchr(tree->nodes[i].path + 1, '/'))
			continue;
		result = graft(tree, i, what);
		if (result < 0)
			return result;
	}
	return 0;
}
