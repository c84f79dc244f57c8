/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who has a device: nobody, openings through its group, or the one binding to an iommufd.
 *
 *   FREE   anybody may take it, who is let by the group
 *   BUSY   one thread opens, attaches or closes it, without the topology lock, since a device may
 *          take long. All others that want something of this device wait.
 *   GROUP  counts openings. What the first found the group set to counts until the last closes
 *   BOUND  attached or not; by its cdev's file alone
 *
 * A group's file and what it is set to can't go while a device is BUSY: the opening counts in the
 * group's users, or has its own reference to the iommufd, before the lock is released.
 */
#include <assert.h>
#include <errno.h>

#include "frontends/uapi/device.h"
#include "frontends/uapi/ioas.h"

/* With the topology lock, which it gives up while it waits. */
static void wait_until_settled(struct uapi_device *device)
{
	struct uvf_run *run = device->run;

	while (device->ownership == UAPI_BUSY)
		pthread_cond_wait(&run->changed, &run->topology);
}

/* With the topology lock. */
static void settle(struct uapi_device *device, enum uapi_ownership ownership)
{
	assert(device->ownership == UAPI_BUSY);
	device->ownership = ownership;
	pthread_cond_broadcast(&device->run->changed);
}

int uapi_group_claim(struct uapi_group *group, const struct uapi_file *owner)
{
	if (group->claims > 0 && group->owner != owner)
		return -EPERM;
	group->owner = owner;
	group->claims++;
	return 0;
}

void uapi_group_disclaim(struct uapi_group *group)
{
	assert(group->claims > 0);
	if (--group->claims == 0)
		group->owner = NULL;
}

/*
 * What the first opening holds on to: the container, through the group's users, or the iommufd.
 * With the topology lock. @ioasp: the container's; an iommufd's is asked for later.
 */
static int hold_group(struct uapi_device *device, struct uapi_ioas **ioasp)
{
	struct uapi_group *group = device->group;
	int ret;

	*ioasp = NULL;
	if (uapi_file_is_container(group->container)) {
		*ioasp = uapi_container_ioas(group->container);
		if (!*ioasp)
			return -EINVAL;
		group->users++;
		device->uses_container = true;
		return 0;
	}
	ret = uapi_group_claim(group, group->container);
	if (ret)
		return ret;
	device->iommufd = uapi_file_get(group->container);
	return 0;
}

/* Gives up what hold_group() or a binding took. Without the topology lock: this can be the last
 * that keeps an address space. */
static void let_go(struct uapi_device *device, enum uapi_ownership ownership)
{
	struct uvf_run *run = device->run;
	struct uapi_file *iommufd;
	struct uapi_ioas *ioas;
	bool uses_container;

	pthread_mutex_lock(&run->topology);
	iommufd = device->iommufd;
	ioas = device->ioas;
	uses_container = device->uses_container;
	device->iommufd = NULL;
	device->ioas = NULL;
	device->uses_container = false;
	if (iommufd)
		uapi_group_disclaim(device->group);
	if (ownership == UAPI_BOUND)
		device->group->bound--;
	settle(device, UAPI_FREE);
	pthread_mutex_unlock(&run->topology);

	if (ioas)
		uapi_ioas_put(ioas);
	if (iommufd)
		uapi_file_put(iommufd);
	if (uses_container)
		uapi_group_unuse(device->group);
}

static int open_device(struct uapi_device *device)
{
	int ret = uvf_device_open(device->dev);

	if (ret)
		return ret;
	ret = uapi_session_new(device);
	if (ret)
		uvf_device_close(device->dev);
	return ret;
}

static void close_device(struct uapi_device *device)
{
	uapi_session_free(device);
	uvf_device_close(device->dev);
	uapi_transitions_drop(device);
}

/* Opens and attaches; takes over the reference in *@ioasp, which may be NULL: see hold_group(). */
static int open_attached(struct uapi_device *device, struct uapi_ioas **ioasp)
{
	int ret = open_device(device);

	if (ret)
		return ret;
	if (!*ioasp)
		ret = uapi_iommufd_compat_ioas(device->iommufd, ioasp);
	if (!ret)
		ret = uvf_device_attach(device->dev, UVF_PASID_NONE, uapi_ioas_space(*ioasp));
	if (ret)
		close_device(device);
	return ret;
}

int uapi_device_open(struct uapi_device *device)
{
	struct uvf_run *run = device->run;
	struct uapi_ioas *ioas = NULL;
	int ret = -EINVAL;

	uapi_files_drain(run); /* one that was closed before is opened anew, with a reset between */
	pthread_mutex_lock(&run->topology);
	wait_until_settled(device);
	if (!device->group->container)
		goto unlock;
	if (device->ownership == UAPI_GROUP) {
		device->openings++;
		ret = 0;
		goto unlock;
	}
	if (device->ownership != UAPI_FREE)
		goto unlock;
	ret = hold_group(device, &ioas);
	if (ret)
		goto unlock;
	device->ownership = UAPI_BUSY;
	pthread_mutex_unlock(&run->topology);

	ret = open_attached(device, &ioas);
	if (ret) {
		if (ioas)
			uapi_ioas_put(ioas);
		let_go(device, UAPI_GROUP);
		return ret;
	}
	pthread_mutex_lock(&run->topology);
	device->ioas = ioas;
	device->openings = 1;
	settle(device, UAPI_GROUP);
unlock:
	pthread_mutex_unlock(&run->topology);
	return ret;
}

void uapi_device_close(struct uapi_device *device)
{
	struct uvf_run *run = device->run;
	bool last;

	pthread_mutex_lock(&run->topology);
	wait_until_settled(device);
	assert(device->ownership == UAPI_GROUP && device->openings > 0);
	last = --device->openings == 0;
	if (last)
		device->ownership = UAPI_BUSY;
	pthread_mutex_unlock(&run->topology);
	if (!last)
		return;
	uapi_files_settle(run);
	close_device(device);
	let_go(device, UAPI_GROUP);
}

int uapi_device_bind(struct uapi_device *device, struct uapi_file *iommufd)
{
	struct uvf_run *run = device->run;
	struct uapi_group *group = device->group;
	int ret;

	uapi_files_drain(run);
	pthread_mutex_lock(&run->topology);
	if (group->file) {
		ret = -EBUSY;
		goto unlock;
	}
	group->bound++; /* and nobody opens it while we wait */
	wait_until_settled(device);
	ret = device->ownership == UAPI_FREE ? uapi_group_claim(group, iommufd) : -EINVAL;
	if (ret) {
		group->bound--;
		goto unlock;
	}
	device->iommufd = uapi_file_get(iommufd);
	device->ownership = UAPI_BUSY;
	pthread_mutex_unlock(&run->topology);

	ret = open_device(device);
	if (ret) {
		let_go(device, UAPI_BOUND);
		return ret;
	}
	pthread_mutex_lock(&run->topology);
	settle(device, UAPI_BOUND);
unlock:
	pthread_mutex_unlock(&run->topology);
	return ret;
}

void uapi_device_unbind(struct uapi_device *device)
{
	struct uvf_run *run = device->run;

	pthread_mutex_lock(&run->topology);
	wait_until_settled(device);
	assert(device->ownership == UAPI_BOUND);
	device->ownership = UAPI_BUSY;
	pthread_mutex_unlock(&run->topology);
	uapi_files_settle(run);
	close_device(device);
	let_go(device, UAPI_BOUND);
}

int uapi_device_attach(struct uapi_device *device, struct uapi_ioas *ioas)
{
	struct uvf_run *run = device->run;
	struct uapi_ioas *old = NULL;
	int ret;

	pthread_mutex_lock(&run->topology);
	wait_until_settled(device);
	assert(device->ownership == UAPI_BOUND);
	device->ownership = UAPI_BUSY;
	pthread_mutex_unlock(&run->topology);

	if (ioas)
		ret = uvf_device_attach(device->dev, UVF_PASID_NONE, uapi_ioas_space(ioas));
	else
		ret = uvf_device_detach(device->dev, UVF_PASID_NONE);

	pthread_mutex_lock(&run->topology);
	if (!ret) {
		old = device->ioas;
		device->ioas = ioas ? uapi_ioas_get(ioas) : NULL;
	}
	settle(device, UAPI_BOUND);
	pthread_mutex_unlock(&run->topology);
	if (old)
		uapi_ioas_put(old);
	return ret;
}
