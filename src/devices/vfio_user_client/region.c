/* SPDX-License-Identifier: BSD-3-Clause */
/* What the server says of a region, in an answer with a chain of capabilities. It may lie: all of
 * it is checked, the files of areas for being as long as it says. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "devices/vfio_user_client/client.h"

/* ---- Asking ---- */

static int ask(struct client *client, uint32_t index, uint32_t argsz, struct client_region *region)
{
	struct uvf_wire_region_info request = {.argsz = argsz, .index = index};
	struct uvf_call call = {
		.command = VFIO_USER_DEVICE_GET_REGION_INFO,
		.fixed = &request,
		.fixed_size = sizeof(request),
		.reply = &region->info,
		.reply_size = sizeof(region->info),
		.reply_data = region->extra,
		.reply_data_max = argsz - sizeof(request),
		.reply_fds = &region->fd,
		.reply_fd_max = 1,
	};
	int ret;

	region->fd = -1;
	ret = client_call(client, &call);
	region->extra_size = call.reply_data_size;
	if (!ret && region->info.index != index)
		ret = client_violation(client, "to region info");
	/* What isn't counted is not ours, whatever number was left there. */
	if (ret < 0)
		uvf_fdpass_close(&region->fd, call.reply_fd_count);
	if (ret < 0 || !call.reply_fd_count)
		region->fd = -1;
	return ret;
}

void client_region_end(struct client_region *region)
{
	if (region->fd >= 0)
		close(region->fd);
	region->fd = -1;
}

/* In one answer or two: one that is cut off tells of no changes. */
static int ask_whole(struct client *client, uint32_t index, struct client_region *region)
{
	uint32_t argsz = sizeof(region->info);
	int ret;

	if (client->server.areas)
		return ask(client, index, argsz + CLIENT_MAX_EXTRA, region);
	ret = ask(client, index, argsz, region);
	if (ret < 0)
		return ret;
	argsz = region->info.argsz;
	if (argsz <= sizeof(region->info))
		return 0;
	client_region_end(region);
	if (argsz > sizeof(region->info) + CLIENT_MAX_EXTRA)
		return client_violation(client, "to region info");
	return ask(client, index, argsz, region);
}

/* ---- Capabilities ---- */

int client_walk(const struct client_chain *chain, uint32_t offset, client_capability *take,
		void *opaque)
{
	uint32_t before = 0;
	int ret = 0;

	while (offset && !ret) {
		struct vfio_info_cap_header header;
		const uint8_t *at;

		/* It may go anywhere but backwards. */
		if (offset <= before || offset < chain->fixed ||
		    !uvf_range_inside(offset - chain->fixed, sizeof(header), chain->size))
			return -EPROTO;
		at = chain->bytes + (offset - chain->fixed);
		memcpy(&header, at, sizeof(header));
		ret = take(opaque, header.id, at, chain->size - (offset - chain->fixed));
		before = offset;
		offset = header.next;
	}
	return ret;
}

/* A list of areas, without those that are empty, as Linux's own drivers have them. */
static int take_list(const uint8_t *at, size_t size, struct uvf_area *areas, size_t *count)
{
	struct vfio_region_info_cap_sparse_mmap header;

	if (size < sizeof(header))
		return -EPROTO;
	memcpy(&header, at, sizeof(header));
	if (header.nr_areas > CLIENT_MAX_AREAS ||
	    (size - sizeof(header)) / sizeof(struct vfio_region_sparse_mmap_area) < header.nr_areas)
		return -EPROTO;
	*count = 0;
	for (uint32_t i = 0; i < header.nr_areas; i++) {
		struct vfio_region_sparse_mmap_area area;

		memcpy(&area, at + sizeof(header) + i * sizeof(area), sizeof(area));
		if (area.size)
			areas[(*count)++] = (struct uvf_area){
				.offset = area.offset,
				.size = area.size,
			};
	}
	return 0;
}

static int take_type(struct client_region *region, const uint8_t *at, size_t size)
{
	struct vfio_region_info_cap_type type;

	if (size < sizeof(type))
		return -EPROTO;
	memcpy(&type, at, sizeof(type));
	region->type = type.type;
	region->subtype = type.subtype;
	return 0;
}

static int take_changes(struct client_region *region, const uint8_t *at, size_t size)
{
	struct uvf_region_info_cap_changes changes;

	if (size < sizeof(changes))
		return -EPROTO;
	memcpy(&changes, at, sizeof(changes));
	region->changes = true;
	region->changed = changes.flags & UVF_REGION_CHANGED_AREAS;
	return 0;
}

static int take_capability(void *opaque, uint16_t id, const uint8_t *at, size_t size)
{
	struct client_region *region = opaque;

	if (id == VFIO_REGION_INFO_CAP_SPARSE_MMAP)
		return take_list(at, size, region->areas, &region->area_count);
	if (id == VFIO_REGION_INFO_CAP_TYPE)
		return take_type(region, at, size);
	if (id == UVF_REGION_INFO_CAP_CHANGES && region->may_change)
		return take_changes(region, at, size);
	if (id != UVF_REGION_INFO_CAP_SAVING_AREAS || !region->may_change)
		return 0;
	region->has_saving = true;
	return take_list(at, size, region->saving, &region->saving_count);
}

/* ---- Areas ---- */

/* The file must hold every area, so that no access of ours raises a signal as it is now. */
static int check_areas(const struct client_region *region)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), end = 0;
	struct stat stat_buf;

	if (fstat(region->fd, &stat_buf) || !S_ISREG(stat_buf.st_mode))
		return -EPROTO;
	for (size_t i = 0; i < region->area_count; i++) {
		const struct uvf_area *area = &region->areas[i];

		if (area->offset < end ||
		    !uvf_range_inside(area->offset, area->size, region->info.size) ||
		    !uvf_is_aligned(area->offset | area->size | area->fd_offset, page) ||
		    !uvf_range_inside(area->fd_offset, area->size, (uint64_t)stat_buf.st_size))
			return -EPROTO;
		end = area->offset + area->size;
	}
	return 0;
}

/* Those that stay are rising too, and each is inside an area. */
static int check_saving(const struct client_region *region)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), end = 0;

	for (size_t i = 0; i < region->saving_count; i++) {
		const struct uvf_area *stays = &region->saving[i];
		size_t in = 0;

		if (stays->offset < end || !uvf_is_aligned(stays->offset | stays->size, page))
			return -EPROTO;
		while (in < region->area_count &&
		       (stays->offset < region->areas[in].offset ||
			!uvf_range_inside(stays->offset - region->areas[in].offset, stays->size,
					  region->areas[in].size)))
			in++;
		if (in == region->area_count)
			return -EPROTO;
		end = stays->offset + stays->size;
	}
	return 0;
}

/* A piece of @area from @from to @to, at the end of the list. */
static void add_piece(struct client_region *region, const struct uvf_area *area, uint64_t from,
		      uint64_t to, uint32_t flags)
{
	if (from < to)
		region->areas[region->area_count++] = (struct uvf_area){
			.offset = from,
			.size = to - from,
			.fd = area->fd,
			.fd_offset = area->fd_offset + (from - area->offset),
			.flags = flags,
		};
}

/* Cuts areas where what stays while state is saved borders on what doesn't. */
static int mark_saving(struct client_region *region)
{
	size_t count = region->area_count, next = 0;
	struct uvf_area *areas = calloc(count + 1, sizeof(*areas));

	if (!areas)
		return -ENOMEM;
	memcpy(areas, region->areas, count * sizeof(*areas));
	region->area_count = 0;
	for (size_t i = 0; i < count; i++) {
		uint64_t at = areas[i].offset, end = at + areas[i].size;

		for (; next < region->saving_count && region->saving[next].offset < end; next++) {
			const struct uvf_area *stays = &region->saving[next];

			add_piece(region, &areas[i], at, stays->offset, UVF_AREA_NOT_WHILE_SAVING);
			at = stays->offset + stays->size;
			add_piece(region, &areas[i], stays->offset, at, 0);
		}
		add_piece(region, &areas[i], at, end, UVF_AREA_NOT_WHILE_SAVING);
	}
	free(areas);
	return 0;
}

/* #syscalls: fstat newfstatat fcntl */
bool client_same_file(int a, int b)
{
	struct stat one, other;

	return !fstat(a, &one) && !fstat(b, &other) && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino &&
	       (fcntl(a, F_GETFL) & O_ACCMODE) == (fcntl(b, F_GETFL) & O_ACCMODE);
}

/* The descriptor that we have of the region's file, which is closed if that is another. */
static int find_file(const struct client *client, struct client_region *region)
{
	for (size_t i = 0; region->changes && i < client->fd_count; i++) {
		if (!client_same_file(client->fds[i], region->fd))
			continue;
		client_region_end(region);
		return client->fds[i];
	}
	return region->fd;
}

/* Areas without a file, or a file without areas, are no areas: messages reach everything. */
static int take_areas(const struct client *client, struct client_region *region)
{
	int ret;

	if (region->fd < 0 || !(region->info.flags & VFIO_REGION_INFO_FLAG_MMAP) ||
	    !region->info.size)
		region->area_count = 0;
	for (size_t i = 0; i < region->area_count; i++) {
		struct uvf_area *area = &region->areas[i];

		if (__builtin_add_overflow(region->info.offset, area->offset, &area->fd_offset))
			return -EPROTO;
	}
	ret = region->area_count ? check_areas(region) : 0;
	/* Whoever has no file has nothing that stays either. */
	if (!ret && region->area_count)
		ret = check_saving(region);
	if (ret)
		return ret;
	if (region->area_count) {
		int fd = find_file(client, region);

		for (size_t i = 0; i < region->area_count; i++)
			region->areas[i].fd = fd;
	} else {
		client_region_end(region);
	}
	return region->has_saving && region->changes ? mark_saving(region) : 0;
}

int client_ask_region(struct client *client, uint32_t index, struct client_region *region)
{
	struct client_chain chain;
	int ret;

	*region = (struct client_region){.fd = -1, .may_change = client->server.areas};
	ret = ask_whole(client, index, region);
	if (ret < 0)
		return ret;
	/* Without a list, all of it. */
	region->areas[0] = (struct uvf_area){.size = region->info.size};
	region->area_count = 1;
	chain = (struct client_chain){region->extra, region->extra_size, sizeof(region->info)};
	if (region->info.flags & VFIO_REGION_INFO_FLAG_CAPS)
		ret = client_walk(&chain, region->info.cap_offset, take_capability, region);
	if (!ret)
		ret = take_areas(client, region);
	if (ret == -EPROTO)
		client_violation(client, "to region info");
	if (ret)
		client_region_end(region);
	return ret;
}
