/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lists of areas. A list never changes and stays until its region is freed: so that who looks at
 * one needs no lock, and uvf_region_info.areas stays valid. A region whose areas change goes from
 * list to list; equal ones are the same list.
 */
#ifndef UVF_CORE_AREAS_H
#define UVF_CORE_AREAS_H

#include <uvfio/remap.h>

struct area_list {
	struct uvf_area *areas;
	void **mapped; /* where each area is here */
	size_t count;
	unsigned number;	  /* among those of its region */
	struct area_list *saving; /* what of it stays while state is saved: often itself */
};

/* All that a region ever had. */
struct area_lists {
	struct area_list *at[UVF_AREA_LISTS];
	unsigned count;
};

bool uvf_areas_are_valid(const struct uvf_area *areas, size_t count, uint64_t region_size,
			 bool change);

/* Copies and maps @areas for a region with @region_flags. Errors: -ENOMEM, those of mmap(2). */
int uvf_area_list_init(struct area_list *list, const struct uvf_area *areas, size_t count,
		       uint32_t region_flags);
void uvf_area_list_destroy(struct area_list *list);

/* The list that equals @areas, made where there is none yet, its `saving` too. Errors: -ENOSPC. */
int uvf_area_lists_get(struct area_lists *lists, const struct uvf_area *areas, size_t count,
		       uint32_t region_flags, struct area_list **listp);
void uvf_area_lists_free(struct area_lists *lists);

/* The area that [offset, offset + size) lies in, or NULL. */
const struct uvf_area *uvf_area_find(const struct area_list *list, uint64_t offset, uint64_t size);
/* Whether all of [offset, offset + size) is in areas of @then, and is the same memory in @now. */
bool uvf_areas_keep(const struct area_list *now, const struct area_list *then, uint64_t offset,
		    uint64_t size);
/* The same of all areas of @then. */
bool uvf_areas_keep_all(const struct area_list *now, const struct area_list *then);

#endif
