/* SPDX-License-Identifier: BSD-3-Clause */
/* Describing a tree of files. */
#include "frontends/uapi/sysfs_tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Takes @path and @text over, which may be NULL for lack of memory. */
static struct uapi_node *add(struct uapi_tree *tree, enum uapi_node_kind kind, char *path,
			     char *text)
{
	if (!path || tree->failed)
		goto failed;
	if (tree->count == tree->capacity) {
		size_t capacity = tree->capacity ? 2 * tree->capacity : 64;
		struct uapi_node *nodes = reallocarray(tree->nodes, capacity, sizeof(*nodes));

		if (!nodes)
			goto failed;
		tree->nodes = nodes;
		tree->capacity = capacity;
	}
	tree->nodes[tree->count] = (struct uapi_node){.kind = kind, .path = path, .text = text};
	return &tree->nodes[tree->count++];

failed:
	tree->failed = true;
	free(path);
	free(text);
	return NULL;
}

static char *join(const char *folder, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

void uapi_tree_folder(struct uapi_tree *tree, const char *path)
{
	add(tree, UAPI_NODE_FOLDER, strdup(path), NULL);
}

void uapi_tree_only(struct uapi_tree *tree, const char *path)
{
	add(tree, UAPI_NODE_ONLY, strdup(path), NULL);
}

void uapi_tree_bytes(struct uapi_tree *tree, const char *folder, const char *name, mode_t mode,
		     const void *bytes, size_t size, uint64_t file_size)
{
	char *text = malloc(size ? size : 1);
	struct uapi_node *node;

	if (text && size)
		memcpy(text, bytes, size);
	node = add(tree, UAPI_NODE_FILE, join(folder, name), text);
	if (!node)
		return;
	node->mode = mode;
	node->text_size = size;
	node->size = file_size;
	if (!text)
		tree->failed = true;
}

void uapi_tree_file(struct uapi_tree *tree, const char *folder, const char *name, mode_t mode,
		    const char *format, ...)
{
	va_list arguments;
	char *text;
	int size;

	va_start(arguments, format);
	size = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (size < 0) {
		tree->failed = true;
		return;
	}
	uapi_tree_bytes(tree, folder, name, mode, text, (size_t)size, 0);
	free(text);
}

void uapi_tree_link(struct uapi_tree *tree, const char *folder, const char *name,
		    const char *format, ...)
{
	va_list arguments;
	char *target;
	int size;

	va_start(arguments, format);
	size = vasprintf(&target, format, arguments);
	va_end(arguments);
	if (size < 0)
		tree->failed = true;
	else
		add(tree, UAPI_NODE_LINK, join(folder, name), target);
}

void uapi_tree_device(struct uapi_tree *tree, const char *folder, const char *name, dev_t rdev)
{
	struct uapi_node *node = add(tree, UAPI_NODE_DEVICE, join(folder, name), NULL);

	if (node)
		node->rdev = rdev;
}

/* '/' before everything else, so that nothing comes between a folder and what is in it. */
static int compare(const void *a, const void *b)
{
	const char *left = ((const struct uapi_node *)a)->path;
	const char *right = ((const struct uapi_node *)b)->path;

	while (*left && *left == *right) {
		left++;
		right++;
	}
	if (*left == *right)
		return 0;
	if (!*left || !*right)
		return *left ? 1 : -1;
	if (*left == '/' || *right == '/')
		return *left == '/' ? -1 : 1;
	return (unsigned char)*left < (unsigned char)*right ? -1 : 1;
}

int uapi_tree_complete(struct uapi_tree *tree)
{
	if (tree->failed)
		return -ENOMEM;
	qsort(tree->nodes, tree->count, sizeof(*tree->nodes), compare);
	return 0;
}

void uapi_tree_free(struct uapi_tree *tree)
{
	for (size_t i = 0; i < tree->count; i++) {
		free(tree->nodes[i].path);
		free(tree->nodes[i].text);
	}
	free(tree->nodes);
	*tree = (struct uapi_tree){0};
}
