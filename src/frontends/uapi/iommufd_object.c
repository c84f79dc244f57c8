/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An iommufd's table of objects: an array by id. Ids are handed out from the lowest, as Linux does;
 * so the array is no longer than the most objects that were there at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <uvfio/dirty.h>

#include "frontends/uapi/iommufd.h"

struct uapi_object *uapi_object_find_any(struct uapi_iommufd *iommufd, uint32_t id)
{
	struct uapi_object *object = id < iommufd->capacity ? iommufd->objects[id] : NULL;

	return object && object->kind != UAPI_OBJECT_RESERVED ? object : NULL;
}

void *uapi_object_find(struct uapi_iommufd *iommufd, uint32_t id, enum uapi_object_kind kind)
{
	struct uapi_object *object = uapi_object_find_any(iommufd, id);

	return object && object->kind == kind ? object : NULL;
}

static int grow(struct uapi_iommufd *iommufd)
{
	size_t capacity = iommufd->capacity ? 2 * iommufd->capacity : 16;
	struct uapi_object **objects = reallocarray(iommufd->objects, capacity, sizeof(*objects));

	if (!objects)
		return -ENOMEM;
	for (size_t i = iommufd->capacity; i < capacity; i++)
		objects[i] = NULL;
	iommufd->objects = objects;
	iommufd->capacity = capacity;
	return 0;
}

int uapi_object_reserve(struct uapi_iommufd *iommufd, struct uapi_object *object)
{
	uint32_t id = iommufd->lowest_free;

	if (iommufd->count == UAPI_OBJECTS_MAX)
		return -ENOMEM;
	while (id < iommufd->capacity && iommufd->objects[id])
		id++;
	if (id >= iommufd->capacity && grow(iommufd))
		return -ENOMEM;
	object->kind = UAPI_OBJECT_RESERVED;
	object->id = id;
	object->users = 0;
	iommufd->objects[id] = object;
	iommufd->count++;
	iommufd->lowest_free = id + 1;
	return 0;
}

void uapi_object_publish(struct uapi_object *object, enum uapi_object_kind kind)
{
	object->kind = kind;
}

void uapi_object_remove(struct uapi_iommufd *iommufd, struct uapi_object *object)
{
	iommufd->objects[object->id] = NULL;
	iommufd->count--;
	if (object->id < iommufd->lowest_free)
		iommufd->lowest_free = object->id;
}

/* What is left to do of a destroyed object, without locks. */
struct removed {
	struct uapi_object *object;
	struct uapi_ioas *untracked; /* its dirty log has no use any more; a reference */
};

/* With all locks. */
static int remove_unused(struct uapi_iommufd *iommufd, uint32_t id, struct removed *removed)
{
	struct uapi_object *object = uapi_object_find_any(iommufd, id);

	if (!object)
		return -ENOENT;
	if (object->users)
		return -EBUSY;
	if (object->kind == UAPI_OBJECT_IOAS) {
		struct uapi_object_ioas *ioas = (struct uapi_object_ioas *)object;

		if (uapi_object_ioas_is_used(iommufd, ioas))
			return -EBUSY;
		if (iommufd->compat == ioas)
			iommufd->compat = NULL;
	} else if (object->kind == UAPI_OBJECT_HWPT) {
		struct uapi_object_hwpt *hwpt = (struct uapi_object_hwpt *)object;

		if (hwpt->tracking && uapi_object_hwpt_untrack(hwpt) == 0)
			removed->untracked = uapi_ioas_get(hwpt->ioas->ioas);
		hwpt->ioas->object.users--;
	}
	uapi_object_remove(iommufd, object);
	removed->object = object;
	return 0;
}

int uapi_iommufd_destroy(struct uapi_iommufd_command *command)
{
	struct uapi_iommufd *iommufd = command->iommufd;
	struct removed removed = {NULL};
	int ret;

	pthread_mutex_lock(&iommufd->tracking);
	pthread_mutex_lock(&iommufd->file.run->topology);
	pthread_mutex_lock(&iommufd->lock);
	ret = remove_unused(iommufd, command->destroy.id, &removed);
	pthread_mutex_unlock(&iommufd->lock);
	pthread_mutex_unlock(&iommufd->file.run->topology);
	if (removed.untracked)
		uvf_dirty_stop(uapi_ioas_space(removed.untracked));
	pthread_mutex_unlock(&iommufd->tracking);
	if (removed.untracked)
		uapi_ioas_put(removed.untracked);
	if (!removed.object)
		return ret;
	if (removed.object->kind == UAPI_OBJECT_IOAS)
		uapi_object_ioas_free((struct uapi_object_ioas *)removed.object);
	else
		free(removed.object);
	return 0;
}
