/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * /dev/vfio/devices/vfioN: a device as a file of its own. It can be opened any number of times;
 * one of them is bound to an iommufd, once and until it is closed, and is then the device. The
 * others answer -EINVAL to everything.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/iommufd.h"
#include "frontends/uapi/sysfs.h"
#include "frontends/uapi/uapi.h"

struct uapi_cdev {
	struct uapi_file file;
	struct uapi_device *device;
	pthread_mutex_t binding; /* held while it is being bound */
	atomic_bool is_bound;	 /* the next two are there, and stay until the release */
	struct uapi_iommufd *iommufd;
	struct uapi_object_device *object;
};

/* The newest layouts: machines' headers can have shorter ones. */
struct attach_arguments {
	uint32_t argsz;
	uint32_t flags;
	uint32_t pt_id;
	uint32_t pasid;
};
struct detach_arguments {
	uint32_t argsz;
	uint32_t flags;
	uint32_t pasid;
};
_Static_assert(offsetof(struct attach_arguments, pt_id) ==
		       offsetof(struct vfio_device_attach_iommufd_pt, pt_id),
	       "layout");

static struct uapi_cdev *cdev_of(struct uapi_file *file)
{
	return (struct uapi_cdev *)file;
}

/* ---- VFIO_DEVICE_BIND_IOMMUFD ---- */

static bool is_group_open(struct uapi_device *device)
{
	bool is_open;

	uapi_files_drain(device->run);
	pthread_mutex_lock(&device->run->topology);
	is_open = device->group->file;
	pthread_mutex_unlock(&device->run->topology);
	return is_open;
}

/* The iommufd that the program has as @fd, with a reference. */
static int find_iommufd(struct uapi_call *call, int fd, struct uapi_iommufd **iommufdp)
{
	struct uapi_file *file = uapi_file_find(call, fd);
	int copy;

	if (!file) {
		copy = uapi_call_get_fd(call, fd);
		if (copy >= 0)
			close(copy);
		return copy == -EBADF ? -EBADF : -EBADFD;
	}
	if (!uapi_file_is_iommufd(file)) {
		uapi_file_put(file);
		return -EBADFD;
	}
	*iommufdp = (struct uapi_iommufd *)file;
	return 0;
}

/* With `binding`. */
static long bind_to(struct uapi_cdev *cdev, struct uapi_call *call, int fd, uint64_t argument)
{
	struct uapi_iommufd *iommufd;
	struct uapi_object_device *object;
	int ret;

	if (is_group_open(cdev->device))
		return -EBUSY;
	if (atomic_load(&cdev->is_bound))
		return -EINVAL;
	ret = find_iommufd(call, fd, &iommufd);
	if (ret)
		return ret;
	ret = uapi_iommufd_bind(iommufd, cdev->device, &object);
	if (ret)
		goto fail;
	if (uapi_call_write(call, argument + offsetof(struct vfio_device_bind_iommufd, out_devid),
			    &object->object.id, sizeof(object->object.id))) {
		ret = -EFAULT;
		uapi_iommufd_unbind(iommufd, object);
		goto fail;
	}
	cdev->iommufd = iommufd;
	cdev->object = object;
	atomic_store(&cdev->is_bound, true);
	return 0;
fail:
	uapi_file_put(&iommufd->file);
	return ret;
}

/* A token is for virtual functions and what they are of: devices that know none refuse it. */
static long bind_iommufd(struct uapi_cdev *cdev, struct uapi_call *call, uint64_t argument)
{
	const size_t minimum = offsetof(struct vfio_device_bind_iommufd, out_devid) + 4;
	struct vfio_device_bind_iommufd bind;
	long ret;

	if (uapi_call_read(call, argument, &bind, minimum))
		return -EFAULT;
	if (bind.argsz < minimum || bind.flags || bind.iommufd < 0)
		return -EINVAL;
	pthread_mutex_lock(&cdev->binding);
	ret = bind_to(cdev, call, bind.iommufd, argument);
	pthread_mutex_unlock(&cdev->binding);
	return ret;
}

/* ---- VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_DETACH_IOMMUFD_PT ---- */

/* There are no PASIDs: what is attached by one has to be made for them. */
static long attach_pasid(struct uapi_cdev *cdev, struct uapi_call *call, uint64_t argument)
{
	struct attach_arguments attach;
	bool is_there;

	if (uapi_call_read(call, argument, &attach, sizeof(attach)))
		return -EFAULT;
	if (attach.argsz < sizeof(attach))
		return -EINVAL;
	pthread_mutex_lock(&cdev->iommufd->lock);
	is_there = uapi_object_find_any(cdev->iommufd, attach.pt_id);
	pthread_mutex_unlock(&cdev->iommufd->lock);
	return is_there ? -EINVAL : -ENOENT;
}

static long attach_pt(struct uapi_cdev *cdev, struct uapi_call *call, uint64_t argument)
{
	const size_t minimum = offsetof(struct attach_arguments, pasid);
	struct attach_arguments attach;
	int ret;

	if (uapi_call_read(call, argument, &attach, minimum))
		return -EFAULT;
	if (attach.argsz < minimum || attach.flags & ~(uint32_t)VFIO_DEVICE_ATTACH_PASID)
		return -EINVAL;
	if (attach.flags & VFIO_DEVICE_ATTACH_PASID)
		return attach_pasid(cdev, call, argument);
	ret = uapi_iommufd_attach(cdev->iommufd, cdev->object, &attach.pt_id);
	if (ret)
		return ret;
	if (uapi_call_write(call, argument + offsetof(struct attach_arguments, pt_id),
			    &attach.pt_id, sizeof(attach.pt_id))) {
		uapi_iommufd_detach(cdev->iommufd, cdev->object);
		return -EFAULT;
	}
	return 0;
}

static long detach_pt(struct uapi_cdev *cdev, struct uapi_call *call, uint64_t argument)
{
	const size_t minimum = offsetof(struct detach_arguments, pasid);
	struct detach_arguments detach;

	if (uapi_call_read(call, argument, &detach, minimum))
		return -EFAULT;
	if (detach.argsz < minimum || detach.flags & ~(uint32_t)VFIO_DEVICE_DETACH_PASID)
		return -EINVAL;
	if (detach.flags & VFIO_DEVICE_DETACH_PASID) {
		if (detach.argsz < sizeof(detach))
			return -EINVAL;
		/* None is attached, and nothing is there to fail. */
		return uapi_call_read(call, argument, &detach, sizeof(detach)) ? -EFAULT : 0;
	}
	uapi_iommufd_detach(cdev->iommufd, cdev->object);
	return 0;
}

/* ---- The file ---- */

static long cdev_ioctl(struct uapi_file *file, struct uapi_call *call, unsigned command,
		       uint64_t argument)
{
	struct uapi_cdev *cdev = cdev_of(file);

	if (command == VFIO_DEVICE_BIND_IOMMUFD)
		return bind_iommufd(cdev, call, argument);
	if (!atomic_load(&cdev->is_bound))
		return -EINVAL;
	if (command == VFIO_DEVICE_ATTACH_IOMMUFD_PT)
		return attach_pt(cdev, call, argument);
	if (command == VFIO_DEVICE_DETACH_IOMMUFD_PT)
		return detach_pt(cdev, call, argument);
	return uapi_device_ioctl(cdev->device, file, call, command, argument);
}

static ssize_t cdev_access(struct uapi_file *file, struct uapi_call *call,
			   const struct uapi_access *access)
{
	struct uapi_cdev *cdev = cdev_of(file);

	if (!atomic_load(&cdev->is_bound))
		return -EINVAL;
	return uapi_device_access(cdev->device, call, access);
}

static long cdev_mmap(struct uapi_file *file, struct uapi_call *call, const struct uapi_mmap *map)
{
	struct uapi_cdev *cdev = cdev_of(file);

	if (!atomic_load(&cdev->is_bound))
		return -EINVAL;
	return uapi_device_mmap(cdev->device, file, call, map);
}

static void cdev_release(struct uapi_file *file)
{
	struct uapi_cdev *cdev = cdev_of(file);

	if (!atomic_load(&cdev->is_bound))
		return;
	atomic_store(&cdev->is_bound, false);
	uapi_iommufd_unbind(cdev->iommufd, cdev->object);
	uapi_file_put(&cdev->iommufd->file);
}

static void cdev_destroy(struct uapi_file *file)
{
	struct uapi_cdev *cdev = cdev_of(file);

	pthread_mutex_destroy(&cdev->binding);
	free(cdev);
}

static const struct uapi_file_ops cdev_ops = {
	.name = "cdev",
	.ioctl = cdev_ioctl,
	.access = cdev_access,
	.mmap = cdev_mmap,
	.release = cdev_release,
	.destroy = cdev_destroy,
};

struct uapi_device *uapi_cdev_device(struct uapi_file *file)
{
	if (file->ops != &cdev_ops || !atomic_load(&cdev_of(file)->is_bound))
		return NULL;
	return cdev_of(file)->device;
}

int uapi_cdev_open(struct uapi_device *device, struct uapi_file **filep)
{
	struct uapi_cdev *cdev = calloc(1, sizeof(*cdev));
	int ret;

	if (!cdev)
		return -ENOMEM;
	cdev->device = device;
	pthread_mutex_init(&cdev->binding, NULL);
	ret = uapi_file_init(&cdev->file, device->run, &cdev_ops, uapi_device_rdev(device->number));
	if (ret) {
		pthread_mutex_destroy(&cdev->binding);
		free(cdev);
		return ret;
	}
	*filep = &cdev->file;
	return 0;
}
