/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * /dev/vfio/N: a group. One program at a time has it open; it is set to a container or to an
 * iommufd, and then gives descriptors of its devices. What keeps what is said at struct uapi_group.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/sysfs.h"
#include "frontends/uapi/uapi.h"

/* A device's name and what follows it have a page, with the end of the string. */
#define NAME_SIZE 4096

struct group_file {
	struct uapi_file file;
	struct uapi_group *group;
};

/* What has to be put when the topology lock is not held any more. */
struct leftovers {
	struct uapi_file *file, *container;
	struct uapi_ioas *ioas;
};

static void put_leftovers(const struct leftovers *left)
{
	if (left->ioas)
		uapi_ioas_put(left->ioas);
	if (left->container)
		uapi_file_put(left->container);
	if (left->file)
		uapi_file_put(left->file);
}

/* With the topology lock. */
static void leave_container(struct uapi_group *group, struct leftovers *left)
{
	if (!group->container)
		return;
	assert(group->users == 0);
	if (uapi_file_is_container(group->container)) {
		left->ioas = uapi_container_leave(group->container);
		uapi_group_disclaim(group);
	}
	left->container = group->container;
	group->container = NULL;
}

/* With the topology lock: the end of an opening of the group, if nothing keeps it. */
static void close_if_unused(struct uapi_group *group, struct leftovers *left)
{
	if (!group->closing || group->users > 0)
		return;
	leave_container(group, left);
	left->file = group->file;
	group->file = NULL;
	group->closing = false;
}

void uapi_group_unuse(struct uapi_group *group)
{
	struct leftovers left = {NULL};

	pthread_mutex_lock(&group->run->topology);
	assert(group->users > 0);
	group->users--;
	close_if_unused(group, &left);
	pthread_mutex_unlock(&group->run->topology);
	put_leftovers(&left);
}

static void group_release(struct uapi_file *file)
{
	struct uapi_group *group = ((struct group_file *)file)->group;
	struct leftovers left = {NULL};

	pthread_mutex_lock(&group->run->topology);
	if (group->file == file) {
		group->closing = true;
		close_if_unused(group, &left);
	}
	pthread_mutex_unlock(&group->run->topology);
	put_leftovers(&left);
}

/* ---- What the program asks for ---- */

static long get_status(struct uapi_group *group, struct uapi_call *call, uint64_t argument)
{
	struct vfio_group_status status;

	if (uapi_call_read(call, argument, &status, sizeof(status)))
		return -EFAULT;
	if (status.argsz < sizeof(status))
		return -EINVAL;
	status.flags = 0;
	pthread_mutex_lock(&group->run->topology);
	if (group->container)
		status.flags = VFIO_GROUP_FLAGS_CONTAINER_SET | VFIO_GROUP_FLAGS_VIABLE;
	else if (group->claims == 0)
		status.flags = VFIO_GROUP_FLAGS_VIABLE;
	pthread_mutex_unlock(&group->run->topology);
	return uapi_call_write(call, argument, &status, sizeof(status));
}

/* With the topology lock. */
static int join(struct uapi_group *group, struct uapi_file *file)
{
	int ret;

	if (group->container)
		return -EINVAL;
	if (uapi_file_is_container(file)) {
		ret = uapi_group_claim(group, file);
		if (ret)
			return ret;
		ret = uapi_container_join(file);
		if (ret) {
			uapi_group_disclaim(group);
			return ret;
		}
	}
	group->container = uapi_file_get(file);
	return 0;
}

static int set_container_to(struct uapi_group *group, struct uapi_file *file)
{
	struct uvf_run *run = group->run;
	bool has_one;
	int ret;

	pthread_mutex_lock(&run->topology);
	has_one = group->container;
	pthread_mutex_unlock(&run->topology);
	if (has_one)
		return -EINVAL;
	if (!file)
		return -EBADFD;
	if (uapi_file_is_iommufd(file)) {
		ret = uapi_iommufd_make_compat(file);
		if (ret)
			return ret;
	} else if (!uapi_file_is_container(file)) {
		return -EBADFD;
	}
	pthread_mutex_lock(&run->topology);
	ret = join(group, file);
	pthread_mutex_unlock(&run->topology);
	return ret;
}

static long set_container(struct uapi_group *group, struct uapi_call *call, uint64_t argument)
{
	struct uapi_file *file;
	int32_t fd;
	int copy, ret;

	if (uapi_call_read(call, argument, &fd, sizeof(fd)))
		return -EFAULT;
	file = uapi_file_find(call, fd);
	if (!file) {
		/* Not ours: is it anything? */
		copy = uapi_call_get_fd(call, fd);
		if (copy == -EBADF)
			return -EBADF;
		if (copy >= 0)
			close(copy);
	}
	ret = set_container_to(group, file);
	if (file)
		uapi_file_put(file);
	return ret;
}

static long unset_container(struct uapi_group *group, struct uapi_call *call, uint64_t argument)
{
	struct leftovers left = {NULL};
	long ret = 0;

	uapi_files_drain(group->run); /* devices that the program has closed are no users */
	pthread_mutex_lock(&group->run->topology);
	if (!group->container)
		ret = -EINVAL;
	else if (group->users > 0)
		ret = -EBUSY;
	else
		leave_container(group, &left);
	pthread_mutex_unlock(&group->run->topology);
	put_leftovers(&left);
	return ret;
}

/*
 * "0000:65:00.0", or that and arguments after a space. The kernel knows one, of devices with
 * virtual functions, and refuses it for others, like all that it doesn't know.
 */
static int find_device(struct uapi_group *group, const char *name, struct uapi_device **devicep)
{
	for (size_t i = 0; i < group->device_count; i++) {
		const char *address = group->devices[i]->address;
		const char *rest = name + strlen(address);

		if (strncmp(name, address, strlen(address)) != 0)
			continue;
		if (*rest != '\0' && *rest != ' ')
			continue;
		if (rest[strspn(rest, " ")] != '\0')
			return -EINVAL;
		*devicep = group->devices[i];
		return 0;
	}
	return -ENODEV;
}

static long get_device_fd(struct uapi_group *group, struct uapi_call *call, uint64_t argument)
{
	struct uapi_device *device;
	struct uapi_file *file;
	char name[NAME_SIZE];
	ssize_t length;
	int ret;

	length = uapi_call_read_string(call, argument, name, sizeof(name));
	if (length < 0)
		return length == -ENAMETOOLONG ? -EINVAL : length;
	ret = find_device(group, name, &device);
	if (ret)
		return ret;
	ret = uapi_device_open(device);
	if (ret)
		return ret;
	ret = uapi_device_file_new(device, &file);
	if (ret) {
		uapi_device_close(device);
		return ret;
	}
	return uapi_call_place(call, file, O_CLOEXEC);
}

static const struct {
	unsigned command;
	long (*handle)(struct uapi_group *group, struct uapi_call *call, uint64_t argument);
} commands[] = {
	{VFIO_GROUP_GET_STATUS, get_status},
	{VFIO_GROUP_SET_CONTAINER, set_container},
	{VFIO_GROUP_UNSET_CONTAINER, unset_container},
	{VFIO_GROUP_GET_DEVICE_FD, get_device_fd},
};

static long group_ioctl(struct uapi_file *file, struct uapi_call *call, unsigned command,
			uint64_t argument)
{
	struct uapi_group *group = ((struct group_file *)file)->group;

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (commands[i].command == command)
			return commands[i].handle(group, call, argument);
	return -ENOTTY;
}

static const struct uapi_file_ops group_ops = {
	.name = "group",
	.ioctl = group_ioctl,
	.release = group_release,
};

int uapi_group_open(struct uapi_group *group, struct uapi_file **filep)
{
	struct uvf_run *run = group->run;
	struct group_file *file;
	int ret;

	file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->group = group;
	uapi_files_drain(run);
	pthread_mutex_lock(&run->topology);
	ret = -EBUSY;
	if (group->bound > 0 || group->file)
		goto fail;
	ret = uapi_file_init(&file->file, run, &group_ops, uapi_group_rdev(group->number));
	if (ret)
		goto fail;
	group->file = uapi_file_get(&file->file);
	pthread_mutex_unlock(&run->topology);
	*filep = &file->file;
	return 0;
fail:
	pthread_mutex_unlock(&run->topology);
	free(file);
	return ret;
}

struct uapi_group *uapi_file_group(struct uapi_file *file)
{
	return file->ops == &group_ops ? ((struct group_file *)file)->group : NULL;
}
