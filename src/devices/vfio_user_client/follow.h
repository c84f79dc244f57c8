/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of following share: a region whose areas change over there. */
#ifndef UVF_DEVICES_VFIO_USER_FOLLOW_H
#define UVF_DEVICES_VFIO_USER_FOLLOW_H

#include "devices/vfio_user_client/client.h"

struct client_changing {
	uint32_t index;
	/* As the far end has them now. */
	struct uvf_area *wanted;
	size_t wanted_count;
	/* As mapped; what was first, first. */
	struct uvf_area *announced;
	size_t announced_count;
	/* Here, under the device's lock. */
	bool waits;    /* for those who have the device open */
	bool refused;  /* they can't follow: nothing has changed */
	bool followed; /* nothing else than what is wanted is in use */
};

/*
 * Asks for the region's areas until all of them were announced as they are. Those that @region has
 * were just asked for, unless it is @fresh.
 */
int client_read_areas(struct client *client, struct client_changing *changing,
		      struct client_region *region, bool fresh);
/* Whether the areas of @region are what is wanted; from now on they are, and their file stays. */
bool client_wants(const struct client_changing *changing, const struct client_region *region);
int client_want(struct client *client, struct client_changing *changing,
		struct client_region *region);
/* What was announced and isn't wanted any more is mapped no more. */
int client_take_back_old(struct client *client, struct client_changing *changing);

#endif
