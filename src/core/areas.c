/* SPDX-License-Identifier: BSD-3-Clause */
/* Lists of areas: checked, copied, mapped here, compared. */
#include "core/areas.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"

bool uvf_areas_are_valid(const struct uvf_area *areas, size_t count, uint64_t region_size,
			 bool change)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint32_t flags = change ? UVF_AREA_NOT_WHILE_SAVING : 0;
	uint64_t end = 0;

	for (size_t i = 0; i < count; i++) {
		const struct uvf_area *area = &areas[i];

		if (!area->size || area->fd < 0 || area->flags & ~flags ||
		    !uvf_is_aligned(area->offset | area->size | area->fd_offset, page))
			return false;
		if (area->offset < end || !uvf_range_inside(area->offset, area->size, region_size))
			return false;
		end = area->offset + area->size;
	}
	return true;
}

/* ---- One list ---- */

void uvf_area_list_destroy(struct area_list *list)
{
	for (size_t i = 0; list->mapped && i < list->count; i++)
		if (list->mapped[i])
			munmap(list->mapped[i], list->areas[i].size);
	free(list->mapped);
	free(list->areas);
	*list = (struct area_list){0};
}

int uvf_area_list_init(struct area_list *list, const struct uvf_area *areas, size_t count,
		       uint32_t region_flags)
{
	int prot = (region_flags & VFIO_REGION_INFO_FLAG_READ ? PROT_READ : 0) |
		   (region_flags & VFIO_REGION_INFO_FLAG_WRITE ? PROT_WRITE : 0);
	int ret = 0;

	*list = (struct area_list){.count = count, .saving = list};
	list->areas = calloc(count + 1, sizeof(*list->areas));
	list->mapped = calloc(count + 1, sizeof(*list->mapped));
	if (!list->areas || !list->mapped)
		ret = -ENOMEM;
	else if (count)
		memcpy(list->areas, areas, count * sizeof(*areas));
	for (size_t i = 0; i < count && !ret; i++) {
		void *address = mmap(NULL, areas[i].size, prot, MAP_SHARED, areas[i].fd,
				     (off_t)areas[i].fd_offset);

		if (address == MAP_FAILED)
			ret = -errno;
		else
			list->mapped[i] = address;
	}
	if (ret)
		uvf_area_list_destroy(list);
	return ret;
}

const struct uvf_area *uvf_area_find(const struct area_list *list, uint64_t offset, uint64_t size)
{
	for (size_t i = 0; i < list->count; i++)
		if (offset >= list->areas[i].offset &&
		    uvf_range_inside(offset - list->areas[i].offset, size, list->areas[i].size))
			return &list->areas[i];
	return NULL;
}

bool uvf_areas_keep(const struct area_list *now, const struct area_list *then, uint64_t offset,
		    uint64_t size)
{
	while (size) {
		const struct uvf_area *old = uvf_area_find(then, offset, 1);
		const struct uvf_area *new = uvf_area_find(now, offset, 1);
		uint64_t piece = size;

		if (!old || !new || old->fd != new->fd ||
		    old->fd_offset - old->offset != new->fd_offset - new->offset)
			return false;
		if (piece > old->size - (offset - old->offset))
			piece = old->size - (offset - old->offset);
		if (piece > new->size - (offset - new->offset))
			piece = new->size - (offset - new->offset);
		offset += piece;
		size -= piece;
	}
	return true;
}

bool uvf_areas_keep_all(const struct area_list *now, const struct area_list *then)
{
	for (size_t i = 0; i < then->count; i++)
		if (!uvf_areas_keep(now, then, then->areas[i].offset, then->areas[i].size))
			return false;
	return true;
}

/* ---- A region's ---- */

static bool area_equals(const struct uvf_area *a, const struct uvf_area *b)
{
	return a->offset == b->offset && a->size == b->size && a->fd == b->fd &&
	       a->fd_offset == b->fd_offset && a->flags == b->flags;
}

static struct area_list *find(const struct area_lists *lists, const struct uvf_area *areas,
			      size_t count)
{
	for (unsigned i = 0; i < lists->count; i++) {
		size_t equal = 0;

		if (lists->at[i]->count != count)
			continue;
		while (equal < count && area_equals(&lists->at[i]->areas[equal], &areas[equal]))
			equal++;
		if (equal == count)
			return lists->at[i];
	}
	return NULL;
}

static int get(struct area_lists *lists, const struct uvf_area *areas, size_t count,
	       uint32_t region_flags, struct area_list **listp)
{
	struct area_list *list = find(lists, areas, count);
	int ret = 0;

	if (!list) {
		if (lists->count == UVF_AREA_LISTS)
			return -ENOSPC;
		list = calloc(1, sizeof(*list));
		if (!list)
			return -ENOMEM;
		ret = uvf_area_list_init(list, areas, count, region_flags);
		if (ret) {
			free(list);
			return ret;
		}
		list->number = lists->count;
		lists->at[lists->count++] = list;
	}
	*listp = list;
	return 0;
}

int uvf_area_lists_get(struct area_lists *lists, const struct uvf_area *areas, size_t count,
		       uint32_t region_flags, struct area_list **listp)
{
	struct uvf_area *stay = calloc(count + 1, sizeof(*stay));
	struct area_list *list, *saving;
	size_t stays = 0;
	int ret;

	if (!stay)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (!(areas[i].flags & UVF_AREA_NOT_WHILE_SAVING))
			stay[stays++] = areas[i];
	/* First, so that no list is without it. */
	ret = get(lists, stay, stays, region_flags, &saving);
	if (!ret)
		ret = get(lists, areas, count, region_flags, &list);
	free(stay);
	if (ret)
		return ret;
	list->saving = saving;
	*listp = list;
	return 0;
}

void uvf_area_lists_free(struct area_lists *lists)
{
	for (unsigned i = 0; i < lists->count; i++) {
		uvf_area_list_destroy(lists->at[i]);
		free(lists->at[i]);
	}
	lists->count = 0;
}
