/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A tree of files that is described here and made elsewhere: the parent describes it, with all the
 * memory and formatting that this takes; a child, which may do neither, makes it in its own mount
 * namespace.
 */
#ifndef UVF_UAPI_SYSFS_TREE_H
#define UVF_UAPI_SYSFS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum uapi_node_kind {
	UAPI_NODE_FOLDER, /* what else the machine has there stays visible */
	UAPI_NODE_ONLY,	  /* a folder of which the program sees nothing but what is ours */
	UAPI_NODE_FILE,
	UAPI_NODE_LINK,
	UAPI_NODE_DEVICE, /* a character device where we may make one, else an empty file */
};

struct uapi_node {
	enum uapi_node_kind kind;
	char *path; /* absolute */
	char *text; /* of a file, or where a link leads to; not for a device */
	size_t text_size;
	uint64_t size; /* of a file, when it is larger than its text */
	mode_t mode;
	dev_t rdev;
};

/* Sorted by path, once it is complete: a folder, then all that is in it. */
struct uapi_tree {
	struct uapi_node *nodes;
	size_t count, capacity;
	bool failed; /* out of memory at some time: the tree can't be used */
};

void uapi_tree_folder(struct uapi_tree *tree, const char *path);
void uapi_tree_only(struct uapi_tree *tree, const char *path);
/* The file @name in the folder @folder. */
void uapi_tree_file(struct uapi_tree *tree, const char *folder, const char *name, mode_t mode,
		    const char *format, ...) __attribute__((format(printf, 5, 6)));
void uapi_tree_bytes(struct uapi_tree *tree, const char *folder, const char *name, mode_t mode,
		     const void *bytes, size_t size, uint64_t file_size);
void uapi_tree_link(struct uapi_tree *tree, const char *folder, const char *name,
		    const char *format, ...) __attribute__((format(printf, 4, 5)));
void uapi_tree_device(struct uapi_tree *tree, const char *folder, const char *name, dev_t rdev);

/* Sorts. Errors: -ENOMEM. */
int uapi_tree_complete(struct uapi_tree *tree);
void uapi_tree_free(struct uapi_tree *tree);

/*
 * Makes the tree where its paths are, in this process's mount namespace, which must be its own.
 * Only system calls: for a child of a process with threads. A folder of the machine that has none
 * of what is ours gets a tmpfs over it, with everything that was in it bound into the new one.
 * Returns 0, or a negative errno with *@what saying at which path.
 */
int uapi_tree_mount(const struct uapi_tree *tree, const char **what);

#endif
