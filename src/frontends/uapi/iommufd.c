/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * /dev/iommu: the file, how commands are taken in, and the compatibility mode, in which it answers
 * a container's ioctls for one of its address spaces.
 *
 * Each command has a struct that begins with the size that the program knows it by. It may be
 * shorter than ours: the rest counts as 0. It may be longer: then what we don't know must be 0.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "frontends/uapi/iommufd.h"
#include "frontends/uapi/sysfs.h"

#define CHECKED_AT_ONCE 4096

#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)NULL)->member))

/* The longest a struct can be, of those below. */
#define ARGUMENTS_OFFSET offsetof(struct uapi_iommufd_command, destroy)
#define ARGUMENTS_SIZE	 (sizeof(struct uapi_iommufd_command) - ARGUMENTS_OFFSET)

struct command_kind {
	unsigned number;
	size_t minimum; /* that programs have always had */
	size_t size;
	int (*execute)(struct uapi_iommufd_command *command);
};

#define KIND(command, type, last, function)       \
	[_IOC_NR(command) - IOMMUFD_CMD_BASE] = { \
		command,                          \
		END_OF(struct type, last),        \
		sizeof(struct type),              \
		function,                         \
	}

static const struct command_kind kinds[] = {
	KIND(IOMMU_DESTROY, iommu_destroy, id, uapi_iommufd_destroy),
	KIND(IOMMU_IOAS_ALLOC, iommu_ioas_alloc, out_ioas_id, uapi_iommufd_ioas_alloc),
	KIND(IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, allowed_iovas,
	     uapi_iommufd_ioas_allow_iovas),
	KIND(IOMMU_IOAS_COPY, iommu_ioas_copy, src_iova, uapi_iommufd_ioas_copy),
	KIND(IOMMU_IOAS_IOVA_RANGES, iommu_ioas_iova_ranges, out_iova_alignment,
	     uapi_iommufd_ioas_iova_ranges),
	KIND(IOMMU_IOAS_MAP, iommu_ioas_map, iova, uapi_iommufd_ioas_map),
	KIND(IOMMU_IOAS_UNMAP, iommu_ioas_unmap, length, uapi_iommufd_ioas_unmap),
	KIND(IOMMU_OPTION, iommu_option, val64, uapi_iommufd_option),
	KIND(IOMMU_VFIO_IOAS, iommu_vfio_ioas, __reserved, uapi_iommufd_vfio_ioas),
	KIND(IOMMU_HWPT_ALLOC, iommu_hwpt_alloc, __reserved, uapi_iommufd_hwpt_alloc),
	KIND(IOMMU_GET_HW_INFO, iommu_hw_info, __reserved, uapi_iommufd_get_hw_info),
	KIND(IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking, __reserved,
	     uapi_iommufd_hwpt_set_dirty_tracking),
	KIND(IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap, data,
	     uapi_iommufd_hwpt_get_dirty_bitmap),
	KIND(IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate, __reserved,
	     uapi_iommufd_hwpt_invalidate),
	KIND(IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc, out_fault_fd,
	     uapi_iommufd_fault_queue_alloc),
	KIND(IOMMU_IOAS_MAP_FILE, iommu_ioas_map_file, iova, uapi_iommufd_ioas_map_file),
	KIND(IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, out_viommu_id, uapi_iommufd_viommu_alloc),
	KIND(IOMMU_VDEVICE_ALLOC, iommu_vdevice_alloc, virt_id, uapi_iommufd_vdevice_alloc),
	KIND(IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, __reserved,
	     uapi_iommufd_ioas_change_process),
	KIND(IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc, out_veventq_fd, uapi_iommufd_veventq_alloc),
	KIND(IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc, length, uapi_iommufd_hw_queue_alloc),
};

int uapi_iommufd_respond(struct uapi_iommufd_command *command, const void *from, size_t size)
{
	if (size > command->size)
		size = command->size;
	return uapi_call_write(command->call, command->address, from, size) ? -EFAULT : 0;
}

/* What the program's struct has beyond ours. */
static int check_rest(struct uapi_call *call, uint64_t address, uint64_t size)
{
	while (size) {
		size_t count = size < CHECKED_AT_ONCE ? (size_t)size : CHECKED_AT_ONCE;
		uint8_t bytes[CHECKED_AT_ONCE];

		if (uapi_call_read(call, address, bytes, count))
			return -EFAULT;
		for (size_t i = 0; i < count; i++)
			if (bytes[i])
				return -E2BIG;
		address += count;
		size -= count;
	}
	return 0;
}

static long execute(struct uapi_iommufd *iommufd, struct uapi_call *call, unsigned number,
		    uint64_t address)
{
	const struct command_kind *kind = &kinds[_IOC_NR(number) - IOMMUFD_CMD_BASE];
	struct uapi_iommufd_command command = {
		.iommufd = iommufd,
		.call = call,
		.address = address,
	};
	void *arguments = (uint8_t *)&command + ARGUMENTS_OFFSET;
	size_t known;
	int ret;

	if (uapi_call_read(call, address, &command.size, sizeof(command.size)))
		return -EFAULT;
	if (kind->number != number)
		return -ENOTTY;
	if (command.size < kind->minimum)
		return -EINVAL;
	memset(arguments, 0, ARGUMENTS_SIZE);
	known = command.size < kind->size ? command.size : kind->size;
	if (command.size > kind->size) {
		ret = check_rest(call, address + kind->size, command.size - kind->size);
		if (ret)
			return ret;
	}
	if (uapi_call_read(call, address, arguments, known))
		return -EFAULT;
	return kind->execute(&command);
}

/* ---- The compatibility mode ---- */

/* With the lock. A reference, or NULL. */
static struct uapi_ioas *get_compat(struct uapi_iommufd *iommufd)
{
	return iommufd->compat ? uapi_ioas_get(iommufd->compat->ioas) : NULL;
}

/* Version 1 may unmap parts of what was mapped at once, so there must be no large pages in it. */
static long set_iommu(struct uapi_iommufd *iommufd, uint64_t type)
{
	struct uapi_object_ioas *compat;
	bool is_mapped = false;
	struct uapi_ioas *ioas;
	long ret = 0;

	if (type != VFIO_TYPE1_IOMMU && type != VFIO_TYPE1v2_IOMMU)
		return -EINVAL;
	pthread_mutex_lock(&iommufd->lock);
	ioas = get_compat(iommufd);
	pthread_mutex_unlock(&iommufd->lock);
	if (!ioas)
		return -ENODEV;
	if (type == VFIO_TYPE1_IOMMU)
		is_mapped = uapi_ioas_is_mapped(ioas);
	pthread_mutex_lock(&iommufd->file.run->topology);
	pthread_mutex_lock(&iommufd->lock);
	compat = iommufd->compat;
	if (type == VFIO_TYPE1_IOMMU && compat && compat->ioas == ioas && !compat->small_pages) {
		if (is_mapped && uapi_object_ioas_is_used(iommufd, compat))
			ret = -EINVAL;
		else
			compat->small_pages = true;
	}
	pthread_mutex_unlock(&iommufd->lock);
	pthread_mutex_unlock(&iommufd->file.run->topology);
	uapi_ioas_put(ioas);
	return ret;
}

static long compat_ioctl(struct uapi_iommufd *iommufd, struct uapi_call *call, unsigned number,
			 uint64_t argument)
{
	struct uapi_type1 type1 = {.version = VFIO_TYPE1v2_IOMMU, .compat = true};
	long ret;

	if (number == VFIO_GET_API_VERSION)
		return VFIO_API_VERSION;
	if (number == VFIO_SET_IOMMU)
		return set_iommu(iommufd, argument);
	pthread_mutex_lock(&iommufd->lock);
	type1.ioas = get_compat(iommufd);
	if (type1.ioas && iommufd->compat->small_pages)
		type1.version = VFIO_TYPE1_IOMMU;
	pthread_mutex_unlock(&iommufd->lock);
	ret = uapi_type1_ioctl(&type1, call, number, argument);
	if (type1.ioas)
		uapi_ioas_put(type1.ioas);
	return ret;
}

int uapi_iommufd_compat_ioas(struct uapi_file *file, struct uapi_ioas **ioasp)
{
	struct uapi_iommufd *iommufd = (struct uapi_iommufd *)file;
	struct uapi_ioas *ioas;

	pthread_mutex_lock(&iommufd->lock);
	ioas = get_compat(iommufd);
	pthread_mutex_unlock(&iommufd->lock);
	if (!ioas)
		return -ENODEV;
	*ioasp = ioas;
	return 0;
}

int uapi_iommufd_make_compat(struct uapi_file *file)
{
	struct uapi_iommufd *iommufd = (struct uapi_iommufd *)file;
	struct uapi_object_ioas *object;
	int ret = uapi_object_ioas_new(file->run, &object);

	if (ret)
		return ret;
	pthread_mutex_lock(&iommufd->lock);
	if (!iommufd->compat) {
		ret = uapi_object_reserve(iommufd, &object->object);
		if (!ret) {
			uapi_object_publish(&object->object, UAPI_OBJECT_IOAS);
			iommufd->compat = object;
			object = NULL;
		}
	}
	pthread_mutex_unlock(&iommufd->lock);
	if (object)
		uapi_object_ioas_free(object);
	return ret;
}

int uapi_iommufd_vfio_ioas(struct uapi_iommufd_command *command)
{
	struct uapi_iommufd *iommufd = command->iommufd;
	struct iommu_vfio_ioas *arguments = &command->vfio_ioas;
	struct uapi_object_ioas *object;
	int ret = 0;

	if (arguments->__reserved)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&iommufd->lock);
	switch (arguments->op) {
	case IOMMU_VFIO_IOAS_GET:
		if (iommufd->compat)
			arguments->ioas_id = iommufd->compat->object.id;
		else
			ret = -ENODEV;
		break;
	case IOMMU_VFIO_IOAS_SET:
		object = uapi_object_find(iommufd, arguments->ioas_id, UAPI_OBJECT_IOAS);
		if (object)
			iommufd->compat = object;
		else
			ret = -ENOENT;
		break;
	case IOMMU_VFIO_IOAS_CLEAR:
		iommufd->compat = NULL;
		break;
	default:
		ret = -EOPNOTSUPP;
	}
	pthread_mutex_unlock(&iommufd->lock);
	if (ret || arguments->op != IOMMU_VFIO_IOAS_GET)
		return ret;
	return uapi_iommufd_respond(command, arguments, sizeof(*arguments));
}

/* ---- The file ---- */

static long iommufd_ioctl(struct uapi_file *file, struct uapi_call *call, unsigned number,
			  uint64_t argument)
{
	struct uapi_iommufd *iommufd = (struct uapi_iommufd *)file;
	unsigned index = _IOC_NR(number) - IOMMUFD_CMD_BASE;

	if (index >= sizeof(kinds) / sizeof(kinds[0]))
		return compat_ioctl(iommufd, call, number, argument);
	return execute(iommufd, call, number, argument);
}

/* Page tables need address spaces, so these go last. No device is bound any more. */
static void iommufd_destroy(struct uapi_file *file)
{
	struct uapi_iommufd *iommufd = (struct uapi_iommufd *)file;

	for (size_t i = 0; i < iommufd->capacity; i++)
		if (iommufd->objects[i] && iommufd->objects[i]->kind == UAPI_OBJECT_IOAS)
			uapi_object_ioas_free((struct uapi_object_ioas *)iommufd->objects[i]);
		else
			free(iommufd->objects[i]);
	free(iommufd->objects);
	pthread_mutex_destroy(&iommufd->tracking);
	pthread_mutex_destroy(&iommufd->lock);
	free(iommufd);
}

static const struct uapi_file_ops iommufd_ops = {
	.name = "iommufd",
	.ioctl = iommufd_ioctl,
	.destroy = iommufd_destroy,
};

bool uapi_file_is_iommufd(const struct uapi_file *file)
{
	return file->ops == &iommufd_ops;
}

int uapi_iommufd_open(struct uvf_run *run, struct uapi_file **filep)
{
	struct uapi_iommufd *iommufd = calloc(1, sizeof(*iommufd));
	int ret;

	if (!iommufd)
		return -ENOMEM;
	iommufd->lowest_free = 1;
	pthread_mutex_init(&iommufd->tracking, NULL);
	pthread_mutex_init(&iommufd->lock, NULL);
	ret = uapi_file_init(&iommufd->file, run, &iommufd_ops, uapi_iommufd_rdev());
	if (ret) {
		pthread_mutex_destroy(&iommufd->tracking);
		pthread_mutex_destroy(&iommufd->lock);
		free(iommufd);
		return ret;
	}
	*filep = &iommufd->file;
	return 0;
}
