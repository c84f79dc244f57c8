/* SPDX-License-Identifier: BSD-3-Clause */
/* The ioctls of a device that is owned: a table, and those that need no file of their own. */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <unistd.h>

#include "base/bytes.h"
#include "frontends/uapi/call.h"

static long reset(struct uapi_device *device, struct uapi_call *call, uint64_t argument)
{
	struct uvf_device_info info;

	uvf_device_get_info(device->dev, &info);
	if (!(info.flags & VFIO_DEVICE_FLAGS_RESET))
		return -EINVAL;
	return uapi_device_reset(device, UVF_RESET_DEVICE);
}

/* ---- VFIO_DEVICE_IOEVENTFD ---- */

/* In a BAR, and not where the MSI-X table is. */
static bool is_in_bar(struct uapi_device *device, const struct uapi_ioeventfd *write)
{
	const struct uapi_session *session = device->session;
	struct uvf_region_info info;

	if (write->index >= UAPI_BARS || uvf_region_get_info(device->dev, write->index, &info))
		return false;
	if (!uvf_range_inside(write->offset, write->size, info.size))
		return false;
	return write->index != session->msix_table.bar ||
	       !uvf_ranges_overlap(write->offset, write->size, session->msix_table.offset,
				   session->msix_table.size);
}

static long ioeventfd(struct uapi_device *device, struct uapi_call *call, uint64_t argument)
{
	struct vfio_device_ioeventfd wanted;
	struct uapi_ioeventfd write;
	int fd, ret;

	if (uapi_call_read(call, argument, &wanted, sizeof(wanted)))
		return -EFAULT;
	if (wanted.argsz < sizeof(wanted) ||
	    wanted.flags & ~(uint32_t)VFIO_DEVICE_IOEVENTFD_SIZE_MASK ||
	    !uvf_is_power_of_two(wanted.flags) || wanted.fd < -1)
		return -EINVAL;
	if (wanted.offset > INT64_MAX)
		return -EINVAL;
	/* The flags are the sizes. */
	write = (struct uapi_ioeventfd){
		.index = (uint32_t)(wanted.offset >> UAPI_REGION_SHIFT),
		.size = wanted.flags,
		.offset = wanted.offset & ((1ULL << UAPI_REGION_SHIFT) - 1),
		.data = wanted.data,
	};
	if (!is_in_bar(device, &write) || write.size == 8)
		return -EINVAL;
	if (wanted.fd < 0)
		return uapi_worker_remove(device->session, &write);
	fd = uapi_call_get_fd(call, wanted.fd);
	ret = uapi_worker_add(device->session, &write, fd);
	if (fd >= 0)
		close(fd);
	return ret;
}

/* ---- All of them ---- */

static const struct {
	unsigned command;
	uapi_device_command *handle;
} commands[] = {
	{VFIO_DEVICE_GET_INFO, uapi_device_get_info},
	{VFIO_DEVICE_GET_REGION_INFO, uapi_device_get_region_info},
	{VFIO_DEVICE_GET_IRQ_INFO, uapi_device_get_irq_info},
	{VFIO_DEVICE_SET_IRQS, uapi_device_set_irqs},
	{VFIO_DEVICE_RESET, reset},
	{VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, uapi_device_get_hot_reset_info},
	{VFIO_DEVICE_PCI_HOT_RESET, uapi_device_hot_reset},
	{VFIO_DEVICE_IOEVENTFD, ioeventfd},
	{VFIO_DEVICE_FEATURE, uapi_device_feature},
};

long uapi_device_ioctl(struct uapi_device *device, struct uapi_file *file, struct uapi_call *call,
		       unsigned command, uint64_t argument)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(commands); i++) {
		if (commands[i].command == command)
			return commands[i].handle(device, call, argument);
	}
	return -ENOTTY;
}

/* ---- Asking for the device back ---- */

int uvf_run_request(struct uvf_run *run, size_t number)
{
	struct uapi_device *device;
	int ret = 0;

	if (number >= run->device_count)
		return -EINVAL;
	device = &run->devices[number];
	pthread_mutex_lock(&run->topology);
	if (!device->session)
		ret = -ENOTCONN;
	else if (!uapi_worker_has_request_fd(device->session))
		ret = -ENOTTY;
	else
		uapi_worker_repeat_request(device->session);
	pthread_mutex_unlock(&run->topology);
	return ret;
}
