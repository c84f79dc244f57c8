/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hot resets: of all devices on a bus. The whole bus has to be the caller's: through its groups,
 * which he shows, or through the iommufd that the device is bound to.
 */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "frontends/uapi/call.h"

static bool shares_bus(const struct uapi_device *a, const struct uapi_device *b)
{
	return a->domain == b->domain && a->bus == b->bus;
}

/* How many devices are on the bus. */
static uint32_t count_devices(const struct uapi_device *device)
{
	uint32_t count = 0;

	for (size_t i = 0; i < device->run->device_count; i++)
		count += shares_bus(device, &device->run->devices[i]);
	return count;
}

/*
 * Whether the bus can be reset: the root bus has no bridge to do it by, and of a device that can't
 * be reset nobody knows how.
 */
static bool is_resettable(const struct uapi_device *device)
{
	if (device->bus == 0)
		return false;
	for (size_t i = 0; i < device->run->device_count; i++) {
		struct uvf_device_info info;

		if (!shares_bus(device, &device->run->devices[i]))
			continue;
		uvf_device_get_info(device->run->devices[i].dev, &info);
		if (!(info.flags & VFIO_DEVICE_FLAGS_RESET))
			return false;
	}
	return true;
}

/* The iommufd that the device is bound to through its cdev, with a reference, or NULL. */
static struct uapi_file *bound_iommufd(struct uapi_device *device)
{
	struct uapi_file *iommufd = NULL;

	pthread_mutex_lock(&device->run->topology);
	if (device->ownership == UAPI_BOUND && device->iommufd)
		iommufd = uapi_file_get(device->iommufd);
	pthread_mutex_unlock(&device->run->topology);
	return iommufd;
}

/*
 * What @iommufd calls @device: its id; OWNED where it isn't bound but nobody else's, since another
 * of its group is; NOT_OWNED.
 */
static uint32_t device_id(struct uapi_device *device, struct uapi_file *iommufd)
{
	uint32_t id = uapi_iommufd_device_id(iommufd, device);

	if (id)
		return id;
	pthread_mutex_lock(&device->run->topology);
	id = device->group->claims > 0 && device->group->owner == iommufd
		     ? (uint32_t)VFIO_PCI_DEVID_OWNED
		     : (uint32_t)VFIO_PCI_DEVID_NOT_OWNED;
	pthread_mutex_unlock(&device->run->topology);
	return id;
}

/* ---- VFIO_DEVICE_GET_PCI_HOT_RESET_INFO ---- */

static uint32_t describe_devices(struct uapi_device *device, struct uapi_file *iommufd,
				 struct vfio_pci_dependent_device *devices)
{
	uint32_t flags =
		iommufd ? VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED : 0;
	struct uvf_run *run = device->run;

	for (size_t i = 0; i < run->device_count; i++) {
		struct uapi_device *other = &run->devices[i];

		if (!shares_bus(device, other))
			continue;
		devices->group_id = iommufd ? device_id(other, iommufd) : other->group->number;
		devices->segment = (uint16_t)other->domain;
		devices->bus = other->bus;
		devices->devfn = other->devfn;
		if (iommufd && devices->group_id == (uint32_t)VFIO_PCI_DEVID_NOT_OWNED)
			flags &= ~(uint32_t)VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
		devices++;
	}
	return flags;
}

long uapi_device_get_hot_reset_info(struct uapi_device *device, struct uapi_call *call,
				    uint64_t argument)
{
	struct vfio_pci_dependent_device *devices;
	struct vfio_pci_hot_reset_info header;
	struct uapi_file *iommufd;
	long ret = 0;

	if (uapi_call_read(call, argument, &header, sizeof(header)))
		return -EFAULT;
	if (header.argsz < sizeof(header))
		return -EINVAL;
	if (!is_resettable(device))
		return -ENODEV;
	header.flags = 0;
	header.count = count_devices(device);
	if (header.count > (header.argsz - sizeof(header)) / sizeof(*devices))
		return uapi_call_write(call, argument, &header, sizeof(header)) ? -EFAULT : -ENOSPC;
	devices = calloc(header.count, sizeof(*devices));
	if (!devices)
		return -ENOMEM;
	iommufd = bound_iommufd(device);
	header.flags = describe_devices(device, iommufd, devices);
	if (iommufd)
		uapi_file_put(iommufd);
	if (uapi_call_write(call, argument + sizeof(header), devices,
			    header.count * sizeof(*devices)) ||
	    uapi_call_write(call, argument, &header, sizeof(header)))
		ret = -EFAULT;
	free(devices);
	return ret;
}

/* ---- VFIO_DEVICE_PCI_HOT_RESET ---- */

static void put_files(struct uapi_file **files, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		uapi_file_put(files[i]);
}

/* All of them, with references, or none. */
static int find_groups(struct uapi_call *call, const int32_t *fds, uint32_t count,
		       struct uapi_file **files)
{
	for (uint32_t i = 0; i < count; i++) {
		int ret = 0, copy;

		files[i] = uapi_file_find(call, fds[i]);
		if (files[i] && !uapi_file_group(files[i])) {
			uapi_file_put(files[i]);
			ret = -EINVAL;
		} else if (!files[i]) {
			copy = uapi_call_get_fd(call, fds[i]);
			ret = copy < 0 ? -EBADF : -EINVAL;
			if (copy >= 0)
				close(copy);
		}
		if (ret) {
			put_files(files, i);
			return ret;
		}
	}
	return 0;
}

static bool is_in_groups(const struct uapi_device *device, struct uapi_file **files, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (uapi_file_group(files[i]) == device->group)
			return true;
	}
	return false;
}

static bool is_bus_owned(struct uapi_device *device, struct uapi_file *iommufd,
			 struct uapi_file **files, uint32_t count)
{
	struct uvf_run *run = device->run;

	for (size_t i = 0; i < run->device_count; i++) {
		struct uapi_device *other = &run->devices[i];

		if (!shares_bus(device, other))
			continue;
		if (iommufd && device_id(other, iommufd) == (uint32_t)VFIO_PCI_DEVID_NOT_OWNED)
			return false;
		if (!iommufd && !is_in_groups(other, files, count))
			return false;
	}
	return true;
}

/* A device that nobody has open is as after a reset. */
static int reset_bus(struct uapi_device *device)
{
	struct uvf_run *run = device->run;
	int result = 0;

	for (size_t i = 0; i < run->device_count; i++) {
		struct uapi_device *other = &run->devices[i];
		int ret;

		if (!shares_bus(device, other))
			continue;
		ret = uapi_device_reset(other, UVF_RESET_HOT);
		if (ret && ret != -ENODEV && !result)
			result = ret;
	}
	return result;
}

static long reset_by_groups(struct uapi_device *device, struct uapi_call *call, uint64_t argument,
			    uint32_t count)
{
	struct uapi_file **files;
	int32_t *fds;
	long ret;

	if (count > count_devices(device))
		return -EINVAL;
	fds = calloc(count, sizeof(*fds));
	files = calloc(count, sizeof(*files));
	ret = fds && files ? uapi_call_read(call, argument, fds, count * sizeof(*fds)) : -ENOMEM;
	if (!ret)
		ret = find_groups(call, fds, count, files);
	if (!ret) {
		ret = is_bus_owned(device, NULL, files, count) ? reset_bus(device) : -EINVAL;
		put_files(files, count);
	}
	free(fds);
	free(files);
	return ret;
}

long uapi_device_hot_reset(struct uapi_device *device, struct uapi_call *call, uint64_t argument)
{
	struct vfio_pci_hot_reset header;
	struct uapi_file *iommufd;
	long ret;

	if (uapi_call_read(call, argument, &header, sizeof(header)))
		return -EFAULT;
	if (header.argsz < sizeof(header) || header.flags)
		return -EINVAL;
	iommufd = bound_iommufd(device);
	/* Groups are shown by those who came through one, and by nobody else. */
	if ((header.count > 0) == (iommufd != NULL))
		ret = -EINVAL;
	else if (!is_resettable(device))
		ret = -ENODEV;
	else if (header.count)
		ret = reset_by_groups(device, call, argument + sizeof(header), header.count);
	else
		ret = is_bus_owned(device, iommufd, NULL, 0) ? reset_bus(device) : -EINVAL;
	if (iommufd)
		uapi_file_put(iommufd);
	return ret;
}
