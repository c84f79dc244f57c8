/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iommufd's page tables. There are none in an IOMMU that is software: one stands for its address
 * space, and is there because programs attach devices to it and track dirty pages by it. Nested
 * ones, faults, PASIDs and virtual IOMMUs aren't there, and are refused as Linux refuses them for
 * hardware that lacks them.
 */
#include <errno.h>
#include <stdlib.h>

#include "frontends/uapi/iommufd.h"

#define CLEARED_AT_ONCE 4096

/* What Linux's driver of an IOMMU says of flags that it has no hardware for. */
static int check_flags(const struct iommu_hwpt_alloc *arguments)
{
	const uint32_t known = IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_FAULT_ID_VALID;

	if (arguments->flags & ~known || arguments->data_len)
		return -EOPNOTSUPP;
	/* Of a fault queue: there is none that it could be. */
	return arguments->flags & IOMMU_HWPT_FAULT_ID_VALID ? -ENOENT : 0;
}

/* With the lock. Reserves an id for @hwpt. */
static int make_hwpt(struct uapi_iommufd *iommufd, const struct iommu_hwpt_alloc *arguments,
		     struct uapi_object_hwpt *hwpt)
{
	struct uapi_object *table;
	int ret;

	if (!uapi_object_find(iommufd, arguments->dev_id, UAPI_OBJECT_DEVICE))
		return -ENOENT;
	table = uapi_object_find_any(iommufd, arguments->pt_id);
	if (!table)
		return -EINVAL;
	if (table->kind == UAPI_OBJECT_HWPT)
		return -EOPNOTSUPP;
	if (table->kind != UAPI_OBJECT_IOAS)
		return -EINVAL;
	ret = check_flags(arguments);
	if (!ret)
		ret = uapi_object_reserve(iommufd, &hwpt->object);
	if (ret)
		return ret;
	hwpt->ioas = (struct uapi_object_ioas *)table;
	hwpt->ioas->object.users++;
	hwpt->tracks = arguments->flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
	return 0;
}

int uapi_iommufd_hwpt_alloc(struct uapi_iommufd_command *command)
{
	struct uapi_iommufd *iommufd = command->iommufd;
	struct iommu_hwpt_alloc *arguments = &command->hwpt;
	struct uapi_object_hwpt *hwpt;
	int ret;

	if (arguments->__reserved)
		return -EOPNOTSUPP;
	if ((arguments->data_type == IOMMU_HWPT_DATA_NONE) != (arguments->data_len == 0))
		return -EINVAL;
	hwpt = calloc(1, sizeof(*hwpt));
	if (!hwpt)
		return -ENOMEM;
	pthread_mutex_lock(&iommufd->lock);
	ret = make_hwpt(iommufd, arguments, hwpt);
	pthread_mutex_unlock(&iommufd->lock);
	if (ret) {
		free(hwpt);
		return ret;
	}
	arguments->out_hwpt_id = hwpt->object.id;
	ret = uapi_iommufd_respond(command, arguments, sizeof(*arguments));
	pthread_mutex_lock(&iommufd->lock);
	if (ret) {
		uapi_object_remove(iommufd, &hwpt->object);
		hwpt->ioas->object.users--;
	} else {
		uapi_object_publish(&hwpt->object, UAPI_OBJECT_HWPT);
	}
	pthread_mutex_unlock(&iommufd->lock);
	if (ret)
		free(hwpt);
	return ret;
}

/* Whether there is an object of @kind (0: of any) with this id. */
static bool is_there(struct uapi_iommufd *iommufd, uint32_t id, enum uapi_object_kind kind)
{
	const struct uapi_object *object;

	pthread_mutex_lock(&iommufd->lock);
	object = uapi_object_find_any(iommufd, id);
	pthread_mutex_unlock(&iommufd->lock);
	return object && (!kind || object->kind == kind);
}

/* Only of nested page tables: none of the requests has been done. */
int uapi_iommufd_hwpt_invalidate(struct uapi_iommufd_command *command)
{
	struct iommu_hwpt_invalidate *arguments = &command->invalidate;
	int ret;

	if (arguments->__reserved)
		ret = -EOPNOTSUPP;
	else if (arguments->entry_num && (!arguments->data_uptr || !arguments->entry_len))
		ret = -EINVAL;
	else
		ret = is_there(command->iommufd, arguments->hwpt_id, 0) ? -EINVAL : -ENOENT;
	arguments->entry_num = 0;
	if (uapi_iommufd_respond(command, arguments, sizeof(*arguments)))
		return -EFAULT;
	return ret;
}

/* No hardware, so nothing of it to tell: the program's buffer is cleared. */
static int clear_info(struct uapi_call *call, uint64_t address, uint32_t size)
{
	static const uint8_t zeros[CLEARED_AT_ONCE];

	while (size) {
		uint32_t count = size < CLEARED_AT_ONCE ? size : CLEARED_AT_ONCE;

		if (uapi_call_write(call, address, zeros, count))
			return -EFAULT;
		address += count;
		size -= count;
	}
	return 0;
}

int uapi_iommufd_get_hw_info(struct uapi_iommufd_command *command)
{
	struct iommu_hw_info *arguments = &command->info;

	if (arguments->flags & ~(uint32_t)IOMMU_HW_INFO_FLAG_INPUT_TYPE ||
	    arguments->__reserved[0] || arguments->__reserved[1] || arguments->__reserved[2])
		return -EOPNOTSUPP;
	if (!is_there(command->iommufd, arguments->dev_id, UAPI_OBJECT_DEVICE))
		return -ENOENT;
	if (arguments->flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE &&
	    arguments->in_data_type != IOMMU_HW_INFO_TYPE_DEFAULT)
		return -EOPNOTSUPP;
	if (clear_info(command->call, arguments->data_uptr, arguments->data_len))
		return -EFAULT;
	arguments->data_len = 0;
	arguments->out_data_type = IOMMU_HW_INFO_TYPE_NONE;
	arguments->out_max_pasid_log2 = 0;
	arguments->out_capabilities = IOMMU_HW_CAP_DIRTY_TRACKING;
	return uapi_iommufd_respond(command, arguments, sizeof(*arguments));
}

/* ---- What isn't there ---- */

int uapi_iommufd_fault_queue_alloc(struct uapi_iommufd_command *command)
{
	return -EOPNOTSUPP;
}

int uapi_iommufd_viommu_alloc(struct uapi_iommufd_command *command)
{
	const struct iommu_viommu_alloc *arguments = &command->viommu;

	if (arguments->flags || !arguments->type)
		return -EOPNOTSUPP;
	if (!is_there(command->iommufd, arguments->dev_id, UAPI_OBJECT_DEVICE))
		return -ENOENT;
	return -EOPNOTSUPP;
}

int uapi_iommufd_vdevice_alloc(struct uapi_iommufd_command *command)
{
	return -ENOENT; /* no virtual IOMMU has that id */
}

int uapi_iommufd_veventq_alloc(struct uapi_iommufd_command *command)
{
	const struct iommu_veventq_alloc *arguments = &command->veventq;

	if (arguments->flags || !arguments->type)
		return -EOPNOTSUPP;
	return arguments->veventq_depth ? -ENOENT : -EINVAL;
}

int uapi_iommufd_hw_queue_alloc(struct uapi_iommufd_command *command)
{
	const struct iommu_hw_queue_alloc *arguments = &command->hw_queue;

	return arguments->flags || !arguments->type ? -EOPNOTSUPP : -ENOENT;
}
