/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices that are bound to an iommufd, and what they are attached to: a page table, the same for
 * all devices of a group. Attaching to an address space uses the page table that was made for that
 * before, or makes it; it goes with the last device. An attached device that attaches again takes
 * all of its group along, as Linux does.
 *
 * A group's `changing` is held over all of an attachment, which can take long: other groups don't
 * wait for it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "frontends/uapi/iommufd.h"

static struct uapi_iommufd *iommufd_of(struct uapi_file *file)
{
	return (struct uapi_iommufd *)file;
}

/* ---- Groups that have devices here: with the lock ---- */

static struct uapi_iommufd_group *find_group(struct uapi_iommufd *iommufd,
					     const struct uapi_group *group)
{
	struct uapi_iommufd_group *found = iommufd->groups;

	while (found && found->group != group)
		found = found->next;
	return found;
}

static struct uapi_iommufd_group *get_group(struct uapi_iommufd *iommufd,
					    const struct uapi_group *group)
{
	struct uapi_iommufd_group *found = find_group(iommufd, group);

	if (!found) {
		found = calloc(1, sizeof(*found));
		if (!found)
			return NULL;
		found->group = group;
		pthread_mutex_init(&found->changing, NULL);
		found->next = iommufd->groups;
		iommufd->groups = found;
	}
	found->bound++;
	return found;
}

static void put_group(struct uapi_iommufd *iommufd, struct uapi_iommufd_group *group)
{
	struct uapi_iommufd_group **link = &iommufd->groups;

	if (--group->bound)
		return;
	while (*link != group)
		link = &(*link)->next;
	*link = group->next;
	pthread_mutex_destroy(&group->changing);
	free(group);
}

/* ---- Binding ---- */

int uapi_iommufd_bind(struct uapi_iommufd *iommufd, struct uapi_device *device,
		      struct uapi_object_device **objectp)
{
	struct uapi_object_device *object = calloc(1, sizeof(*object));
	int ret;

	if (!object)
		return -ENOMEM;
	object->device = device;
	pthread_mutex_lock(&iommufd->lock);
	object->group = get_group(iommufd, device->group);
	ret = object->group ? uapi_object_reserve(iommufd, &object->object) : -ENOMEM;
	if (ret && object->group)
		put_group(iommufd, object->group);
	pthread_mutex_unlock(&iommufd->lock);
	if (ret)
		goto fail;
	ret = uapi_device_bind(device, &iommufd->file);
	pthread_mutex_lock(&iommufd->lock);
	if (ret) {
		uapi_object_remove(iommufd, &object->object);
		put_group(iommufd, object->group);
	} else {
		object->object.users++; /* the binding */
		uapi_object_publish(&object->object, UAPI_OBJECT_DEVICE);
	}
	pthread_mutex_unlock(&iommufd->lock);
	if (ret)
		goto fail;
	*objectp = object;
	return 0;
fail:
	free(object);
	return ret;
}

/* With `changing` and the lock. */
static void forget_attached(struct uapi_iommufd *iommufd, struct uapi_object_device *object)
{
	struct uapi_iommufd_group *group = object->group;
	struct uapi_object_device **link = &group->attached;
	struct uapi_object_hwpt *hwpt = group->hwpt;

	while (*link != object)
		link = &(*link)->next;
	*link = object->next;
	object->is_attached = false;
	if (!group->attached)
		group->hwpt = NULL;
	hwpt->object.users--;
	uapi_object_hwpt_drop(iommufd, hwpt);
}

void uapi_iommufd_unbind(struct uapi_iommufd *iommufd, struct uapi_object_device *object)
{
	struct uapi_iommufd_group *group = object->group;

	pthread_mutex_lock(&group->changing);
	/* Closes, resets and detaches the device: nothing of it is in use after that. */
	uapi_device_unbind(object->device);
	pthread_mutex_lock(&iommufd->lock);
	if (object->is_attached)
		forget_attached(iommufd, object);
	uapi_object_remove(iommufd, &object->object);
	pthread_mutex_unlock(&iommufd->lock);
	pthread_mutex_unlock(&group->changing);

	pthread_mutex_lock(&iommufd->lock);
	put_group(iommufd, group);
	pthread_mutex_unlock(&iommufd->lock);
	free(object);
}

uint32_t uapi_iommufd_device_id(struct uapi_file *file, const struct uapi_device *device)
{
	struct uapi_iommufd *iommufd = iommufd_of(file);
	uint32_t id = 0;

	pthread_mutex_lock(&iommufd->lock);
	for (uint32_t i = 1; i < iommufd->capacity && !id; i++) {
		const struct uapi_object_device *object =
			uapi_object_find(iommufd, i, UAPI_OBJECT_DEVICE);

		if (object && object->device == device)
			id = i;
	}
	pthread_mutex_unlock(&iommufd->lock);
	return id;
}

/* ---- Attaching ---- */

void uapi_object_hwpt_drop(struct uapi_iommufd *iommufd, struct uapi_object_hwpt *hwpt)
{
	if (!hwpt->made || hwpt->object.users)
		return;
	uapi_object_remove(iommufd, &hwpt->object);
	hwpt->ioas->made = NULL;
	hwpt->ioas->object.users--;
	free(hwpt);
}

/* With the lock. The page table that devices have that attach to @ioas. */
static int made_hwpt(struct uapi_iommufd *iommufd, struct uapi_object_ioas *ioas,
		     struct uapi_object_hwpt **hwptp)
{
	struct uapi_object_hwpt *hwpt = ioas->made;
	int ret;

	if (!hwpt) {
		hwpt = calloc(1, sizeof(*hwpt));
		if (!hwpt)
			return -ENOMEM;
		ret = uapi_object_reserve(iommufd, &hwpt->object);
		if (ret) {
			free(hwpt);
			return ret;
		}
		uapi_object_publish(&hwpt->object, UAPI_OBJECT_HWPT);
		hwpt->made = true;
		hwpt->ioas = ioas;
		ioas->object.users++;
		ioas->made = hwpt;
	}
	*hwptp = hwpt;
	return 0;
}

/* With the lock. The page table of that id, with a user: this attachment while it goes on. */
static int get_hwpt(struct uapi_iommufd *iommufd, uint32_t id, struct uapi_object_hwpt **hwptp)
{
	struct uapi_object *object = uapi_object_find_any(iommufd, id);
	int ret = 0;

	if (!object)
		return -ENOENT;
	if (object->kind == UAPI_OBJECT_HWPT)
		*hwptp = (struct uapi_object_hwpt *)object;
	else if (object->kind == UAPI_OBJECT_IOAS)
		ret = made_hwpt(iommufd, (struct uapi_object_ioas *)object, hwptp);
	else
		ret = -EINVAL;
	if (!ret)
		(*hwptp)->object.users++;
	return ret;
}

/* With `changing`. The first device of a group, or another one to the same. */
static int attach(struct uapi_iommufd *iommufd, struct uapi_object_device *object,
		  struct uapi_object_hwpt *hwpt)
{
	struct uapi_iommufd_group *group = object->group;
	int ret;

	if (group->hwpt && group->hwpt != hwpt)
		return -EINVAL;
	ret = uapi_device_attach(object->device, hwpt->ioas->ioas);
	if (ret)
		return ret;
	pthread_mutex_lock(&iommufd->lock);
	object->is_attached = true;
	object->next = group->attached;
	group->attached = object;
	group->hwpt = hwpt;
	hwpt->object.users++;
	pthread_mutex_unlock(&iommufd->lock);
	return 0;
}

/* Attaches all of the group's devices that are attached, or none. */
static int attach_all(struct uapi_iommufd_group *group, struct uapi_object_hwpt *hwpt,
		      struct uapi_object_hwpt *old)
{
	struct uapi_object_device *object, *done;
	int ret = 0;

	for (object = group->attached; object && !ret; object = object->next) {
		ret = uapi_device_attach(object->device, hwpt->ioas->ioas);
		if (ret)
			break;
	}
	if (ret)
		for (done = group->attached; done != object; done = done->next)
			uapi_device_attach(done->device, old->ioas->ioas);
	return ret;
}

/* With `changing`. All devices of the group go over. */
static int replace(struct uapi_iommufd *iommufd, struct uapi_iommufd_group *group,
		   struct uapi_object_hwpt *hwpt)
{
	struct uapi_object_hwpt *old = group->hwpt;
	unsigned count = 0;
	int ret = 0;

	if (old == hwpt)
		return 0;
	if (old->ioas != hwpt->ioas)
		ret = attach_all(group, hwpt, old);
	if (ret)
		return ret;
	pthread_mutex_lock(&iommufd->lock);
	for (const struct uapi_object_device *object = group->attached; object;
	     object = object->next)
		count++;
	hwpt->object.users += count;
	old->object.users -= count;
	group->hwpt = hwpt;
	uapi_object_hwpt_drop(iommufd, old);
	pthread_mutex_unlock(&iommufd->lock);
	return 0;
}

int uapi_iommufd_attach(struct uapi_iommufd *iommufd, struct uapi_object_device *object,
			uint32_t *id)
{
	struct uapi_object_hwpt *hwpt;
	int ret;

	pthread_mutex_lock(&object->group->changing);
	pthread_mutex_lock(&iommufd->lock);
	ret = get_hwpt(iommufd, *id, &hwpt);
	pthread_mutex_unlock(&iommufd->lock);
	if (ret)
		goto unlock;
	if (object->is_attached)
		ret = replace(iommufd, object->group, hwpt);
	else
		ret = attach(iommufd, object, hwpt);
	pthread_mutex_lock(&iommufd->lock);
	if (!ret)
		*id = hwpt->object.id;
	hwpt->object.users--;
	uapi_object_hwpt_drop(iommufd, hwpt);
	pthread_mutex_unlock(&iommufd->lock);
unlock:
	pthread_mutex_unlock(&object->group->changing);
	return ret;
}

void uapi_iommufd_detach(struct uapi_iommufd *iommufd, struct uapi_object_device *object)
{
	pthread_mutex_lock(&object->group->changing);
	if (object->is_attached) {
		uapi_device_attach(object->device, NULL);
		pthread_mutex_lock(&iommufd->lock);
		forget_attached(iommufd, object);
		pthread_mutex_unlock(&iommufd->lock);
	}
	pthread_mutex_unlock(&object->group->changing);
}
