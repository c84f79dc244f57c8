/* SPDX-License-Identifier: BSD-3-Clause */
/* Unmapping: whole mappings only. */
#include <errno.h>

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
		for (size_t i = 0; i < count; i++)
			bytes += gone[i].last - gone[i].first + 1;
	}
	uvf_interval_map_quiescent(&ioas->map);
	return bytes;
}

int uapi_ioas_unmap(struct uapi_ioas *ioas, uint64_t first, uint64_t last, uint64_t *unmapped)
{
	struct uvf_iova_range extent;
	uint64_t bytes;
	int error = 0;

	*unmapped = 0;
	pthread_mutex_lock(&ioas->lock);
	if (uapi_ioas_is_cut(ioas, first, last)) {
		pthread_mutex_unlock(&ioas->lock);
		return -ENOENT;
	}
	bytes = forget(ioas, first, last, &extent);
	/* The size of all 64 bits is 0, which means just that with address 0. */
	if (extent.first <= extent.last)
		error = uvf_unmap(ioas->space, extent.first, extent.last - extent.first + 1, NULL);
	ioas->bytes -= bytes;
	pthread_mutex_unlock(&ioas->lock);
	if (!error)
		*unmapped = bytes;
	return error;
}
