/* SPDX-License-Identifier: BSD-3-Clause */
/* VFIO_DEVICE_GET_INFO, GET_REGION_INFO with its capabilities, GET_IRQ_INFO. */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "frontends/uapi/call.h"

#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)NULL)->member))

/* struct vfio_device_info as it is from Linux 6.6 on. */
struct device_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t num_regions;
	uint32_t num_irqs;
	uint32_t cap_offset;
	uint32_t pad;
};

long uapi_device_get_info(struct uapi_device *device, struct uapi_call *call, uint64_t argument)
{
	const size_t minimum = END_OF(struct device_info, num_irqs);
	struct device_info answer = {0};
	struct uvf_device_info info;

	if (uapi_call_read(call, argument, &answer, minimum))
		return -EFAULT;
	if (answer.argsz < minimum)
		return -EINVAL;
	uvf_device_get_info(device->dev, &info);
	answer.flags = VFIO_DEVICE_FLAGS_PCI | (info.flags & VFIO_DEVICE_FLAGS_RESET);
	answer.num_regions = uapi_device_regions(device);
	answer.num_irqs = VFIO_PCI_NUM_IRQS;
	return uapi_call_write(call, argument, &answer,
			       answer.argsz < sizeof(answer) ? answer.argsz : sizeof(answer));
}

/* ---- Regions ---- */

/* Capabilities as they follow struct vfio_region_info: of 8 bytes' multiples each. */
struct chain {
	uint8_t *bytes;
	size_t size;
	struct vfio_info_cap_header *last;
};

/* In room that was counted beforehand. */
static void *chain_add(struct chain *chain, uint16_t id, size_t size)
{
	struct vfio_info_cap_header *header = (void *)(chain->bytes + chain->size);

	header->id = id;
	header->version = 1;
	if (chain->last)
		chain->last->next = (uint32_t)(sizeof(struct vfio_region_info) + chain->size);
	chain->last = header;
	chain->size += size;
	return header;
}

/* Whether a list tells which parts can be mapped: not when all of the region can. */
static bool has_list(const struct uvf_region_info *info, uint32_t flags)
{
	if (!(flags & VFIO_REGION_INFO_FLAG_MMAP))
		return false;
	return info->area_count != 1 || info->areas[0].size < info->size;
}

static void add_list(struct chain *chain, const struct uvf_region_info *info)
{
	struct vfio_region_info_cap_sparse_mmap *list;

	list = chain_add(chain, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
			 sizeof(*list) + info->area_count * sizeof(list->areas[0]));
	list->nr_areas = (uint32_t)info->area_count;
	for (size_t i = 0; i < info->area_count; i++) {
		list->areas[i].offset = info->areas[i].offset;
		list->areas[i].size = info->areas[i].size;
	}
}

static void add_type(struct chain *chain, const struct uvf_region_info *info)
{
	struct vfio_region_info_cap_type *type;

	type = chain_add(chain, VFIO_REGION_INFO_CAP_TYPE, sizeof(*type));
	type->type = info->type;
	type->subtype = info->subtype;
}

static int make_chain(struct chain *chain, const struct uapi_device *device, uint32_t index,
		      const struct uvf_region_info *info, uint32_t flags)
{
	const struct uapi_session *session = device->session;

	/* The most that it can be. */
	chain->bytes = calloc(
		1, sizeof(struct vfio_info_cap_header) + sizeof(struct vfio_region_info_cap_type) +
			   sizeof(struct vfio_region_info_cap_sparse_mmap) +
			   info->area_count * sizeof(struct vfio_region_sparse_mmap_area));
	if (!chain->bytes)
		return -ENOMEM;
	if (index >= VFIO_PCI_NUM_REGIONS)
		add_type(chain, info);
	if (has_list(info, flags))
		add_list(chain, info);
	if (flags & VFIO_REGION_INFO_FLAG_MMAP && session->msix_table.size &&
	    session->msix_table.bar == index)
		chain_add(chain, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
			  sizeof(struct vfio_info_cap_header));
	return 0;
}

/*
 * A memory BAR whose accesses can trap is mappable whole. The list then says where mappings are
 * memory: a program that looks at it maps just that and calls for the rest.
 */
static uint32_t region_flags(const struct uapi_device *device, uint32_t index,
			     const struct uvf_region_info *info)
{
	const uint32_t access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	uint32_t flags = info->flags & (access | VFIO_REGION_INFO_FLAG_MMAP);

	if (!info->size)
		return 0;
	if (index < UAPI_BARS && device->session->is_io[index])
		return flags & access;
	if (uapi_device_traps(device, index, info))
		flags |= VFIO_REGION_INFO_FLAG_MMAP;
	return flags;
}

static long put_region_info(struct uapi_call *call, uint64_t argument,
			    struct vfio_region_info *answer, const struct chain *chain)
{
	if (chain->size) {
		answer->flags |= VFIO_REGION_INFO_FLAG_CAPS;
		answer->cap_offset = 0;
		if (answer->argsz < sizeof(*answer) + chain->size) {
			answer->argsz = (uint32_t)(sizeof(*answer) + chain->size);
		} else {
			answer->cap_offset = sizeof(*answer);
			if (uapi_call_write(call, argument + sizeof(*answer), chain->bytes,
					    chain->size))
				return -EFAULT;
		}
	}
	return uapi_call_write(call, argument, answer, sizeof(*answer));
}

long uapi_device_get_region_info(struct uapi_device *device, struct uapi_call *call,
				 uint64_t argument)
{
	struct vfio_region_info answer;
	struct uvf_region_info info = {0};
	struct chain chain = {0};
	long ret;

	if (uapi_call_read(call, argument, &answer, sizeof(answer)))
		return -EFAULT;
	if (answer.argsz < sizeof(answer))
		return -EINVAL;
	if (answer.index >= uapi_device_regions(device) ||
	    answer.index == VFIO_PCI_VGA_REGION_INDEX)
		return -EINVAL;
	uvf_region_get_info(device->dev, answer.index, &info);
	answer.flags = region_flags(device, answer.index, &info);
	answer.size = info.size;
	answer.offset = (uint64_t)answer.index << UAPI_REGION_SHIFT;
	ret = make_chain(&chain, device, answer.index, &info, answer.flags);
	if (!ret)
		ret = put_region_info(call, argument, &answer, &chain);
	free(chain.bytes);
	return ret;
}

/* ---- Interrupts ---- */

uint32_t uapi_device_irq_count(const struct uapi_device *device, uint32_t index)
{
	struct uvf_irq_info info;

	/* Asking for the device back is no matter of the device's. */
	if (index == VFIO_PCI_REQ_IRQ_INDEX)
		return 1;
	if (index == VFIO_PCI_ERR_IRQ_INDEX && !device->session->express)
		return 0;
	return uvf_irq_get_info(device->dev, index, &info) ? 0 : info.count;
}

long uapi_device_get_irq_info(struct uapi_device *device, struct uapi_call *call, uint64_t argument)
{
	static const uint32_t flags[VFIO_PCI_NUM_IRQS] = {
		[VFIO_PCI_INTX_IRQ_INDEX] =
			VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
		[VFIO_PCI_MSI_IRQ_INDEX] = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
		/* Vectors are enabled one by one, in any order. */
		[VFIO_PCI_MSIX_IRQ_INDEX] = VFIO_IRQ_INFO_EVENTFD,
		[VFIO_PCI_ERR_IRQ_INDEX] = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
		[VFIO_PCI_REQ_IRQ_INDEX] = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
	};
	struct vfio_irq_info answer;

	if (uapi_call_read(call, argument, &answer, sizeof(answer)))
		return -EFAULT;
	if (answer.argsz < sizeof(answer) || answer.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	if (answer.index == VFIO_PCI_ERR_IRQ_INDEX && !device->session->express)
		return -EINVAL;
	answer.flags = flags[answer.index];
	answer.count = uapi_device_irq_count(device, answer.index);
	return uapi_call_write(call, argument, &answer, sizeof(answer));
}
