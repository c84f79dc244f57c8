/* SPDX-License-Identifier: BSD-3-Clause */
/* Unmapping: whole mappings only. */
#include <errno.h>
#include <stdlib.h>
#include <uvfio/dirty.h>

#include "frontends/uapi/ioas_private.h"

#define BATCH 64

/* With the lock. Says what lay where of the mappings that have left the map. */
static uint64_t forget(struct uapi_ioas *ioas, uint64_t first, uint64_t last,
		       struct uvf_iova_range *extent)
{
	struct uvf_interval gone[BATCH];
	uint64_t bytes = 0;
	size_t count;

	*extent = (struct uvf_iova_range){UINT64_MAX, 0};
	while ((count = uvf_interval_map_remove(&ioas->map, first, last, gone, BATCH))) {
		if (gone[0].first < extent->first)
			extent->first = gone[0].first;
		extent->last = gone[count - 1].last;
		for (size_t i = 0; i < count; i++) {
			bytes += gone[i].last - gone[i].first + 1;
			ioas->invalid -= uapi_mapping_of(&gone[i])->vaddr_invalid;
			free(uapi_mapping_of(&gone[i]));
		}
	}
	uvf_interval_map_quiescent(&ioas->map);
	return bytes;
}

int uapi_ioas_unmap_locked(struct uapi_ioas *ioas, uint64_t first, uint64_t last,
			   uint64_t *unmapped)
{
	struct uvf_iova_range extent;

	*unmapped = 0;
	if (uapi_ioas_is_cut(ioas, first, last))
		return -ENOENT;
	*unmapped = forget(ioas, first, last, &extent);
	ioas->bytes -= *unmapped;
	/* The size of all 64 bits is 0, which means just that with address 0. */
	if (extent.first <= extent.last)
		return uvf_unmap(ioas->space, extent.first, extent.last - extent.first + 1, NULL);
	return 0;
}

int uapi_ioas_unmap_dirty(struct uapi_ioas *ioas, uint64_t first, uint64_t last, uint64_t *unmapped,
			  uint64_t *bitmap, uint64_t bitmap_size)
{
	struct uvf_iova_range extent;
	int error = -ENOENT;

	*unmapped = 0;
	pthread_mutex_lock(&ioas->lock);
	if (!uapi_ioas_is_cut(ioas, first, last))
		error = uvf_unmap_dirty(ioas->space, first, last - first + 1, NULL,
					uapi_ioas_granule(ioas), bitmap, bitmap_size);
	if (!error) {
		*unmapped = forget(ioas, first, last, &extent);
		ioas->bytes -= *unmapped;
	}
	pthread_mutex_unlock(&ioas->lock);
	return error;
}

int uapi_ioas_unmap(struct uapi_ioas *ioas, uint64_t first, uint64_t last, uint64_t *unmapped)
{
	int error;

	pthread_mutex_lock(&ioas->lock);
	error = uapi_ioas_unmap_locked(ioas, first, last, unmapped);
	pthread_mutex_unlock(&ioas->lock);
	return error;
}
