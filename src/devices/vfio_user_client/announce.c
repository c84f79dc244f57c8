/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is a device's area here is used here, for calls too, so it is announced to the far end as
 * mapped before it becomes one, and until nobody here can reach it any more. An announcement is of
 * what is an area over there when it arrives: whether that was what is meant, asking again tells.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/vfio_user_client/follow.h"

/* For areas that change while they are asked for. Then it goes without. */
#define MAX_ROUNDS 16

/* ---- Announcements ---- */

static bool is_in(const struct uvf_area *area, const struct uvf_area *areas, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (areas[i].offset == area->offset && areas[i].size == area->size &&
		    areas[i].fd == area->fd && areas[i].fd_offset == area->fd_offset)
			return true;
	return false;
}

static int tell(struct client *client, uint16_t command, uint32_t index,
		const struct uvf_area *area, bool *refused)
{
	const struct uvf_user_region_mapping mapping = {
		.argsz = sizeof(mapping),
		.index = index,
		.offset = area->offset,
		.size = area->size,
	};
	struct uvf_call call = {
		.command = command,
		.fixed = &mapping,
		.fixed_size = sizeof(mapping),
	};

	return client_try(client, &call, refused);
}

/* Takes back announcement number @at; that the far end knows of none does no harm. */
static int take_back(struct client *client, struct client_changing *changing, size_t at)
{
	bool refused;
	int ret = tell(client, UVF_USER_REGION_UNMAPPED, changing->index, &changing->announced[at],
		       &refused);

	changing->announced_count--;
	memmove(&changing->announced[at], &changing->announced[at + 1],
		(changing->announced_count - at) * sizeof(changing->announced[0]));
	return ret < 0 && !refused ? ret : 0;
}

/* All after the first @left. */
static int take_back_from(struct client *client, struct client_changing *changing, size_t left)
{
	int ret = 0;

	while (changing->announced_count > left && !ret)
		ret = take_back(client, changing, changing->announced_count - 1);
	return ret;
}

int client_take_back_old(struct client *client, struct client_changing *changing)
{
	int ret = 0;

	for (size_t i = changing->announced_count; i-- && !ret;)
		if (!is_in(&changing->announced[i], changing->wanted, changing->wanted_count))
			ret = take_back(client, changing, i);
	return ret;
}

/*
 * Announces what was not. Returns how many, or a negative errno. What is refused is no area here,
 * and counts: it may be that it is none over there.
 */
static int announce(struct client *client, struct client_changing *changing,
		    struct client_region *region)
{
	size_t kept = 0;
	int told = 0;

	for (size_t i = 0; i < region->area_count; i++) {
		const struct uvf_area area = region->areas[i];
		struct uvf_area *announced;
		bool refused = false;
		int ret;

		if (!is_in(&area, changing->announced, changing->announced_count)) {
			announced = reallocarray(changing->announced, changing->announced_count + 1,
						 sizeof(*announced));
			if (!announced)
				return -ENOMEM;
			changing->announced = announced;
			ret = tell(client, UVF_USER_REGION_MAPPED, changing->index, &area,
				   &refused);
			if (ret < 0 && !refused)
				return ret;
			if (!refused)
				announced[changing->announced_count++] = area;
			told++;
		}
		if (!refused)
			region->areas[kept++] = area;
	}
	region->area_count = kept;
	return told;
}

/* ---- Reading ---- */

/* Keeps the descriptor that it had where the new one is of the same file. False: it isn't. */
static bool keep_file(struct client_region *region, int held)
{
	bool same = held < 0;

	if (held >= 0 && region->fd >= 0 && client_same_file(held, region->fd)) {
		for (size_t i = 0; i < region->area_count; i++)
			region->areas[i].fd = held;
		close(region->fd);
		region->fd = held;
		return true;
	}
	if (held >= 0)
		close(held);
	return same;
}

/* What never changes; before the device is made it isn't known. */
static bool is_same_region(struct client *client, uint32_t index,
			   const struct client_region *region)
{
	const uint32_t access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	struct uvf_region_info info;

	if (!region->changes)
		return false;
	if (!client->has_remap_irq)
		return true;
	return !uvf_region_get_info(client->dev, index, &info) && info.size == region->info.size &&
	       (info.flags & access) == (region->info.flags & access);
}

int client_read_areas(struct client *client, struct client_changing *changing,
		      struct client_region *region, bool fresh)
{
	size_t before = changing->announced_count;
	uint32_t changed = 0;
	int ret = 0, told;

	for (unsigned round = 0; round < MAX_ROUNDS; round++) {
		if (round || fresh) {
			int held = fresh ? -1 : region->fd;

			ret = client_ask_region(client, changing->index, region);
			if (ret) {
				uvf_fdpass_close(&held, held >= 0);
				return ret;
			}
			if (!is_same_region(client, changing->index, region)) {
				uvf_fdpass_close(&held, held >= 0);
				return client_violation(client, "to region info");
			}
			/* What the last round announced may be of other areas at the same place. */
			if ((!keep_file(region, held) || region->changed) && round)
				ret = take_back_from(client, changing, before);
			if (ret)
				return ret;
			fresh = false;
			changed |= region->changed;
			region->changed = changed;
		}
		told = announce(client, changing, region);
		if (told <= 0)
			return told;
	}
	region->area_count = 0;
	return take_back_from(client, changing, before);
}

bool client_wants(const struct client_changing *changing, const struct client_region *region)
{
	if (changing->wanted_count != region->area_count)
		return false;
	for (size_t i = 0; i < region->area_count; i++)
		if (!is_in(&region->areas[i], &changing->wanted[i], 1) ||
		    region->areas[i].flags != changing->wanted[i].flags)
			return false;
	return true;
}

int client_want(struct client *client, struct client_changing *changing,
		struct client_region *region)
{
	struct uvf_area *wanted = calloc(region->area_count + 1, sizeof(*wanted));
	int ret = wanted ? 0 : -ENOMEM;

	if (!ret && region->fd >= 0 && region->area_count) {
		ret = client_keep_fd(client, region->fd);
		region->fd = -1;
	}
	if (ret) {
		free(wanted);
		return ret;
	}
	memcpy(wanted, region->areas, region->area_count * sizeof(*wanted));
	free(changing->wanted);
	changing->wanted = wanted;
	changing->wanted_count = region->area_count;
	return 0;
}
