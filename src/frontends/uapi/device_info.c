/* SPDX-License-Identifier: BSD-3-Clause */
/* VFIO_DEVICE_GET_INFO, GET_REGION_INFO and GET_IRQ_INFO with their capabilities. */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "core/core.h"
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

/* Capabilities as they follow an info: of 8 bytes' multiples each. */
struct chain {
	size_t begin; /* the info's size */
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
		chain->last->next = (uint32_t)(chain->begin + chain->size);
	chain->last = header;
	chain->size += uvf_align_up(size, 8);
	return header;
}

static void add_type(struct chain *chain, uint16_t id, uint32_t type, uint32_t subtype)
{
	struct vfio_region_info_cap_type *capability = chain_add(chain, id, sizeof(*capability));

	capability->type = type;
	capability->subtype = subtype;
}

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
	answer.num_irqs = info.irqs > VFIO_PCI_NUM_IRQS ? info.irqs : VFIO_PCI_NUM_IRQS;
	return uapi_call_write(call, argument, &answer,
			       answer.argsz < sizeof(answer) ? answer.argsz : sizeof(answer));
}

/* ---- Regions ---- */

/* Whether a list tells which parts can be mapped: not when all of the region can. */
static bool has_list(const struct uvf_region_info *info, uint32_t flags)
{
	if (!(flags & VFIO_REGION_INFO_FLAG_MMAP))
		return false;
	return info->area_count != 1 || info->areas[0].size < info->size;
}

/* Of those areas that have none of the flags @without. */
static void add_list(struct chain *chain, uint16_t id, const struct uvf_region_info *info,
		     uint32_t without)
{
	struct vfio_region_info_cap_sparse_mmap *list;
	uint32_t count = 0;

	for (size_t i = 0; i < info->area_count; i++)
		count += !(info->areas[i].flags & without);
	list = chain_add(chain, id, sizeof(*list) + count * sizeof(list->areas[0]));
	for (size_t i = 0; i < info->area_count; i++) {
		if (info->areas[i].flags & without)
			continue;
		list->areas[list->nr_areas].offset = info->areas[i].offset;
		list->areas[list->nr_areas].size = info->areas[i].size;
		list->nr_areas++;
	}
}

/* Whether the IRQ that tells of changed areas may be about the region. */
static bool is_told_of(struct uapi_device *device, uint32_t index)
{
	struct uvf_irq_info info;
	int irq = uvf_remap_irq(device->dev);

	if (irq < 0 || uvf_irq_get_info(device->dev, (uint32_t)irq, &info))
		return false;
	for (size_t i = 0; i < info.region_count; i++)
		if (info.regions[i] == index)
			return true;
	return false;
}

static int make_chain(struct chain *chain, struct uapi_device *device, uint32_t index,
		      const struct uvf_region_info *info, uint32_t flags, uint32_t changes)
{
	const struct uapi_session *session = device->session;
	struct uvf_region_info_cap_changes *capability;

	/* The most that it can be. */
	*chain = (struct chain){.begin = sizeof(struct vfio_region_info)};
	chain->bytes = calloc(
		1, sizeof(struct vfio_info_cap_header) + sizeof(struct vfio_region_info_cap_type) +
			   sizeof(*capability) +
			   2 * (sizeof(struct vfio_region_info_cap_sparse_mmap) +
				info->area_count * sizeof(struct vfio_region_sparse_mmap_area)));
	if (!chain->bytes)
		return -ENOMEM;
	if (index >= VFIO_PCI_NUM_REGIONS)
		add_type(chain, VFIO_REGION_INFO_CAP_TYPE, info->type, info->subtype);
	if (has_list(info, flags))
		add_list(chain, VFIO_REGION_INFO_CAP_SPARSE_MMAP, info, 0);
	if (flags & VFIO_REGION_INFO_FLAG_MMAP && session->msix_table.size &&
	    session->msix_table.bar == index)
		chain_add(chain, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
			  sizeof(struct vfio_info_cap_header));
	if (info->areas_change)
		add_list(chain, UVF_REGION_INFO_CAP_SAVING_AREAS, info, UVF_AREA_NOT_WHILE_SAVING);
	if (is_told_of(device, index)) {
		capability = chain_add(chain, UVF_REGION_INFO_CAP_CHANGES, sizeof(*capability));
		capability->flags = changes;
	}
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

static int make_answer(struct uapi_device *device, struct vfio_region_info *answer,
		       uint32_t changes, struct chain *chain)
{
	struct uvf_region_info info = {0};

	uvf_region_get_info(device->dev, answer->index, &info);
	answer->flags = region_flags(device, answer->index, &info);
	answer->size = info.size;
	answer->offset = (uint64_t)answer->index << UAPI_REGION_SHIFT;
	return make_chain(chain, device, answer->index, &info, answer->flags, changes);
}

/*
 * The changes are taken before the areas are read, so that those are no older; and not where there
 * is no room for them. What was taken and couldn't be delivered is given back.
 */
static long answer_region_info(struct uapi_device *device, struct uapi_call *call,
			       uint64_t argument, struct vfio_region_info *answer)
{
	uint32_t changes = 0;
	struct chain chain;
	long ret = make_answer(device, answer, 0, &chain);

	if (!ret && answer->argsz >= sizeof(*answer) + chain.size)
		changes = uvf_region_take_changes(device->dev, answer->index);
	if (changes) {
		free(chain.bytes);
		ret = make_answer(device, answer, changes, &chain);
	}
	if (!ret)
		ret = put_region_info(call, argument, answer, &chain);
	if (changes && (ret || !answer->cap_offset))
		uvf_region_give_back_changes(device->dev, answer->index);
	free(chain.bytes);
	return ret;
}

long uapi_device_get_region_info(struct uapi_device *device, struct uapi_call *call,
				 uint64_t argument)
{
	struct vfio_region_info answer;

	if (uapi_call_read(call, argument, &answer, sizeof(answer)))
		return -EFAULT;
	if (answer.argsz < sizeof(answer))
		return -EINVAL;
	if (answer.index >= uapi_device_regions(device) ||
	    answer.index == VFIO_PCI_VGA_REGION_INDEX)
		return -EINVAL;
	return answer_region_info(device, call, argument, &answer);
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

/* Of an index that is the device's own. */
static int make_irq_chain(struct chain *chain, const struct uvf_irq_info *info)
{
	struct uvf_irq_info_cap_regions *list;
	size_t size = info->region_count * sizeof(list->regions[0]);

	*chain = (struct chain){.begin = sizeof(struct uvf_irq_info_chain)};
	chain->bytes = calloc(1, sizeof(struct vfio_region_info_cap_type) + sizeof(*list) +
					 uvf_align_up(size, 8) + 8);
	if (!chain->bytes)
		return -ENOMEM;
	if (info->type)
		add_type(chain, UVF_IRQ_INFO_CAP_TYPE, info->type, info->subtype);
	if (info->region_count) {
		list = chain_add(chain, UVF_IRQ_INFO_CAP_REGIONS, sizeof(*list) + size);
		list->count = (uint32_t)info->region_count;
		memcpy(list->regions, info->regions, size);
	}
	return 0;
}

static long put_irq_info(struct uapi_call *call, uint64_t argument,
			 struct uvf_irq_info_chain *answer, const struct chain *chain)
{
	size_t size = sizeof(answer->info);

	if (chain->size) {
		answer->info.flags |= UVF_IRQ_INFO_FLAG_CAPS;
		if (answer->info.argsz >= sizeof(*answer))
			size = sizeof(*answer);
		if (answer->info.argsz < sizeof(*answer) + chain->size) {
			answer->info.argsz = (uint32_t)(sizeof(*answer) + chain->size);
		} else {
			answer->cap_offset = sizeof(*answer);
			if (uapi_call_write(call, argument + sizeof(*answer), chain->bytes,
					    chain->size))
				return -EFAULT;
		}
	}
	return uapi_call_write(call, argument, answer, size);
}

static long get_own_irq_info(struct uapi_device *device, struct uapi_call *call, uint64_t argument,
			     struct uvf_irq_info_chain *answer)
{
	const uint32_t known = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
			       VFIO_IRQ_INFO_AUTOMASKED | VFIO_IRQ_INFO_NORESIZE;
	struct chain chain = {0};
	struct uvf_irq_info info;
	long ret;

	if (uvf_irq_get_info(device->dev, answer->info.index, &info))
		return -EINVAL;
	answer->info.flags = info.flags & known;
	answer->info.count = info.count;
	ret = make_irq_chain(&chain, &info);
	if (!ret)
		ret = put_irq_info(call, argument, answer, &chain);
	free(chain.bytes);
	return ret;
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
	struct uvf_irq_info_chain chained = {0};
	struct vfio_irq_info answer;

	if (uapi_call_read(call, argument, &answer, sizeof(answer)))
		return -EFAULT;
	if (answer.argsz < sizeof(answer))
		return -EINVAL;
	if (answer.index >= VFIO_PCI_NUM_IRQS) {
		chained.info = answer;
		return get_own_irq_info(device, call, argument, &chained);
	}
	if (answer.index == VFIO_PCI_ERR_IRQ_INDEX && !device->session->express)
		return -EINVAL;
	answer.flags = flags[answer.index];
	answer.count = uapi_device_irq_count(device, answer.index);
	return uapi_call_write(call, argument, &answer, sizeof(answer));
}
