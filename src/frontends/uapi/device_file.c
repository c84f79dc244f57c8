/* SPDX-License-Identifier: BSD-3-Clause */
/* What VFIO_GROUP_GET_DEVICE_FD gives: a device's file. Each is one opening of the device. */
#include <errno.h>
#include <stdlib.h>

#include "frontends/uapi/uapi.h"

struct device_file {
	struct uapi_file file;
	struct uapi_device *device;
};

static struct uapi_device *device_of(struct uapi_file *file)
{
	return ((struct device_file *)file)->device;
}

static long device_ioctl(struct uapi_file *file, struct uapi_call *call, unsigned command,
			 uint64_t argument)
{
	return uapi_device_ioctl(device_of(file), file, call, command, argument);
}

static ssize_t device_access(struct uapi_file *file, struct uapi_call *call,
			     const struct uapi_access *access)
{
	return uapi_device_access(device_of(file), call, access);
}

static long device_mmap(struct uapi_file *file, struct uapi_call *call, const struct uapi_mmap *map)
{
	return uapi_device_mmap(device_of(file), file, call, map);
}

static void device_release(struct uapi_file *file)
{
	uapi_device_close(device_of(file));
}

static const struct uapi_file_ops device_file_ops = {
	.name = "device",
	.ioctl = device_ioctl,
	.access = device_access,
	.mmap = device_mmap,
	.release = device_release,
};

int uapi_device_file_new(struct uapi_device *device, struct uapi_file **filep)
{
	struct device_file *opened = calloc(1, sizeof(*opened));
	int ret;

	if (!opened)
		return -ENOMEM;
	opened->device = device;
	ret = uapi_file_init(&opened->file, device->run, &device_file_ops, 0);
	if (ret) {
		free(opened);
		return ret;
	}
	*filep = &opened->file;
	return 0;
}

struct uapi_device *uapi_file_device(struct uapi_file *file)
{
	return file->ops == &device_file_ops ? device_of(file) : uapi_cdev_device(file);
}
