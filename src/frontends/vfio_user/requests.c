/* SPDX-License-Identifier: BSD-3-Clause */
/* What each command does: calls on the device, and their results as replies. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "frontends/vfio_user/server.h"

typedef int handler(struct uvf_connection *connection, const struct uvf_wire_request *request,
		    struct uvf_reply *reply);

static void put(struct uvf_reply *reply, const void *data, size_t size)
{
	memcpy(reply->payload + reply->size, data, size);
	reply->size += size;
}

static size_t reply_room(const struct uvf_connection *connection)
{
	return connection->reply_capacity - sizeof(struct uvf_wire_header);
}

/* ---- Memory ---- */

static int map_remote(struct uvf_connection *connection, const struct uvf_wire_dma_map *map)
{
	int ret = 0;

	if (!connection->remote)
		ret = uvf_remote_memory_new(connection, &connection->remote);
	if (ret)
		return ret;
	return uvf_map(connection->space, map->address, map->size, map->flags, connection->remote,
		       map->address);
}

static int dma_map(struct uvf_connection *connection, const struct uvf_wire_request *request,
		   struct uvf_reply *reply)
{
	const struct uvf_wire_dma_map *map = &request->dma_map;

	static_assert((int)UVF_PROT_READ == VFIO_DMA_MAP_FLAG_READ, "flags are permissions");
	static_assert((int)UVF_PROT_WRITE == VFIO_DMA_MAP_FLAG_WRITE, "flags are permissions");
	if (!request->fd_count)
		return map_remote(connection, map);
	return uvf_map_fd(connection->space, map->address, map->size, map->flags, request->fds[0],
			  map->offset);
}

/*
 * QEMU unmaps what it never mapped, ranges that hold several mappings, and ranges up to the end of
 * the world whose size is off by one: all succeed. The range is widened to whole granules, and one
 * that passes 2^64 ends there. What cuts a mapping is refused.
 */
static int dma_unmap(struct uvf_connection *connection, const struct uvf_wire_request *request,
		     struct uvf_reply *reply)
{
	const struct uvf_wire_dma_unmap *unmap = &request->dma_unmap;
	uint64_t pages = connection->server->config.page_sizes;
	uint64_t granule = pages & -pages;
	uint64_t first = uvf_align_down(unmap->address, granule), last;
	int ret = 0;

	if (__builtin_add_overflow(unmap->address, unmap->size - 1, &last))
		last = UINT64_MAX;
	last |= granule - 1;
	if (unmap->flags & VFIO_DMA_UNMAP_FLAG_ALL)
		ret = uvf_unmap(connection->space, 0, 0, NULL);
	else if (unmap->size)
		/* All 2^64 bytes make a size of 0, which means just that. */
		ret = uvf_unmap(connection->space, first, last - first + 1, NULL);
	if (ret < 0)
		return ret;
	put(reply, unmap, sizeof(*unmap));
	return 0;
}

/* ---- What there is ---- */

static int device_info(struct uvf_connection *connection, const struct uvf_wire_request *request,
		       struct uvf_reply *reply)
{
	struct uvf_device_info info;
	struct uvf_wire_device_info wire = {.argsz = sizeof(wire)};

	uvf_device_get_info(connection->server->dev, &info);
	wire.flags = info.flags;
	wire.regions = info.regions;
	wire.irqs = info.irqs;
	put(reply, &wire, sizeof(wire));
	return 0;
}

/*
 * A reply has one descriptor and one offset for all areas of a region: those that don't fit the
 * first's are left out, and so reached by messages.
 */
static bool same_file(const struct uvf_area *first, const struct uvf_area *area)
{
	return area->fd == first->fd &&
	       area->fd_offset - area->offset == first->fd_offset - first->offset;
}

static size_t count_areas(const struct uvf_region_info *info)
{
	size_t count = 0;

	for (size_t i = 0; i < info->area_count; i++)
		count += same_file(&info->areas[0], &info->areas[i]);
	return count;
}

/* The capabilities of a region, at most two, in @reply after the fixed part. */
static void put_capabilities(struct uvf_reply *reply, const struct uvf_region_info *info,
			     size_t areas, bool sparse)
{
	if (info->type) {
		struct vfio_region_info_cap_type type = {
			.header = {.id = VFIO_REGION_INFO_CAP_TYPE, .version = 1},
			.type = info->type,
			.subtype = info->subtype,
		};

		if (sparse)
			type.header.next = (uint32_t)(reply->size + sizeof(type));
		put(reply, &type, sizeof(type));
	}
	if (sparse) {
		struct vfio_region_info_cap_sparse_mmap header = {
			.header = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1},
			.nr_areas = (uint32_t)areas,
		};

		put(reply, &header, sizeof(header));
		for (size_t i = 0; i < info->area_count; i++) {
			struct vfio_region_sparse_mmap_area area = {
				.offset = info->areas[i].offset,
				.size = info->areas[i].size,
			};

			if (same_file(&info->areas[0], &info->areas[i]))
				put(reply, &area, sizeof(area));
		}
	}
}

static int region_info(struct uvf_connection *connection, const struct uvf_wire_request *request,
		       struct uvf_reply *reply)
{
	struct uvf_wire_region_info wire = {.index = request->region_info.index};
	struct uvf_region_info info;
	size_t areas, size = sizeof(wire);
	bool sparse;
	int ret = uvf_region_get_info(connection->server->dev, wire.index, &info);

	if (ret < 0)
		return ret;
	areas = count_areas(&info);
	/* One area that is all of the region needs no list. */
	sparse = areas && info.areas[0].size < info.size;
	if (info.type)
		size += sizeof(struct vfio_region_info_cap_type);
	if (sparse)
		size += sizeof(struct vfio_region_info_cap_sparse_mmap) +
			areas * sizeof(struct vfio_region_sparse_mmap_area);
	if (size > reply_room(connection))
		return -E2BIG;
	wire.argsz = (uint32_t)size;
	wire.flags = info.flags;
	wire.size = info.size;
	if (areas) {
		wire.offset = info.areas[0].fd_offset - info.areas[0].offset;
		reply->fds[reply->fd_count++] = info.areas[0].fd;
	}
	if (size > sizeof(wire)) {
		wire.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		if (size <= request->region_info.argsz)
			wire.cap_offset = sizeof(wire);
	}
	put(reply, &wire, sizeof(wire));
	if (wire.cap_offset)
		put_capabilities(reply, &info, areas, sparse);
	return 0;
}

/* The place of @fd among those of the reply; the count when it isn't there yet. */
static size_t find_fd(const struct uvf_reply *reply, int fd)
{
	size_t i = 0;

	while (i < reply->fd_count && reply->fds[i] != fd)
		i++;
	return i;
}

static int region_io_fds(struct uvf_connection *connection, const struct uvf_wire_request *request,
			 struct uvf_reply *reply)
{
	struct uvf_wire_region_io_fds wire = {.index = request->region_io_fds.index};
	struct uvf_region_info info;
	size_t size, max_fds = connection->client.max_msg_fds;
	int ret = uvf_region_get_info(connection->server->dev, wire.index, &info);

	if (ret < 0)
		return ret;
	if (max_fds > UVF_FDPASS_MAX)
		max_fds = UVF_FDPASS_MAX;
	size = sizeof(wire) + info.io_fd_count * sizeof(struct uvf_wire_io_fd);
	if (size > reply_room(connection))
		return -E2BIG;
	wire.argsz = (uint32_t)size;
	wire.count = (uint32_t)info.io_fd_count;
	put(reply, &wire, sizeof(wire));
	for (size_t i = 0; i < info.io_fd_count && size <= request->region_io_fds.argsz; i++) {
		size_t place = find_fd(reply, info.io_fds[i].fd);
		struct uvf_wire_io_fd io_fd = {
			.offset = info.io_fds[i].offset,
			.size = info.io_fds[i].size,
			.fd_index = (uint32_t)place,
			.type = VFIO_USER_IO_FD_TYPE_IOEVENTFD,
			.flags = info.io_fds[i].match ? UVF_WIRE_IOEVENTFD_DATAMATCH : 0,
			.datamatch = info.io_fds[i].value,
		};

		if (place == max_fds)
			return -E2BIG;
		if (place == reply->fd_count)
			reply->fds[reply->fd_count++] = info.io_fds[i].fd;
		put(reply, &io_fd, sizeof(io_fd));
	}
	return 0;
}

/* ---- Interrupts ---- */

static int irq_info(struct uvf_connection *connection, const struct uvf_wire_request *request,
		    struct uvf_reply *reply)
{
	struct uvf_wire_irq_info wire = {
		.argsz = sizeof(wire),
		.index = request->irq_info.index,
	};
	struct uvf_irq_info info;
	int ret = uvf_irq_get_info(connection->server->dev, wire.index, &info);

	if (ret < 0)
		return ret;
	wire.flags = info.flags;
	wire.count = info.count;
	put(reply, &wire, sizeof(wire));
	return 0;
}

/* DATA_EVENTFD without descriptors takes those away that are there; in pieces, as it can't fail. */
static int deassign(struct uvf_device *dev, struct uvf_irq_set *set)
{
	int none[UVF_FDPASS_MAX];
	struct uvf_irq_info info;
	uint32_t left = set->count;
	int ret = uvf_irq_get_info(dev, set->index, &info);

	if (ret < 0)
		return ret;
	if (!uvf_range_inside(set->start, set->count, info.count))
		return -EINVAL;
	memset(none, 0xff, sizeof(none));
	set->fds = none;
	while (left && !ret) {
		set->count = left < UVF_FDPASS_MAX ? left : UVF_FDPASS_MAX;
		ret = uvf_irq_set(dev, set);
		set->start += set->count;
		left -= set->count;
	}
	set->fds = NULL;
	return ret;
}

static int set_irqs(struct uvf_connection *connection, const struct uvf_wire_request *request,
		    struct uvf_reply *reply)
{
	const struct uvf_wire_irq_set *wire = &request->irq_set;
	struct uvf_device *dev = connection->server->dev;
	struct uvf_irq_set set = {
		.flags = wire->flags,
		.index = wire->index,
		.start = wire->start,
		.count = wire->count,
		.bools = request->data,
		.fds = request->fds,
	};

	if (wire->flags & VFIO_IRQ_SET_DATA_EVENTFD && !request->fd_count)
		return deassign(dev, &set);
	return uvf_irq_set(dev, &set);
}

/* ---- Access ---- */

static int region_read(struct uvf_connection *connection, const struct uvf_wire_request *request,
		       struct uvf_reply *reply)
{
	const struct uvf_wire_region_access *access = &request->region_access;
	ssize_t ret;

	put(reply, access, sizeof(*access));
	ret = uvf_region_read(connection->server->dev, access->region, access->offset,
			      reply->payload + reply->size, access->count);
	if (ret < 0)
		return (int)ret;
	reply->size += access->count;
	return 0;
}

static int region_write(struct uvf_connection *connection, const struct uvf_wire_request *request,
			struct uvf_reply *reply)
{
	const struct uvf_wire_region_access *access = &request->region_access;
	ssize_t ret = uvf_region_write(connection->server->dev, access->region, access->offset,
				       request->data, access->count);

	if (ret < 0)
		return (int)ret;
	put(reply, access, sizeof(*access));
	return 0;
}

/* An error after the first write is told by the count of those that were done. */
static int write_multi(struct uvf_connection *connection, const struct uvf_wire_request *request,
		       struct uvf_reply *reply)
{
	struct uvf_wire_write_multi done = {0};
	ssize_t ret = 0;

	while (done.count < request->write_multi.count) {
		struct uvf_wire_write write = uvf_wire_write_nth(request, done.count);

		ret = uvf_region_write(connection->server->dev, write.region, write.offset,
				       write.data, write.count);
		if (ret < 0)
			break;
		done.count++;
	}
	if (ret < 0 && !done.count)
		return (int)ret;
	put(reply, &done, sizeof(done));
	return 0;
}

static int device_reset(struct uvf_connection *connection, const struct uvf_wire_request *request,
			struct uvf_reply *reply)
{
	return uvf_device_reset(connection->server->dev, UVF_RESET_DEVICE);
}

static handler *const handlers[] = {
	[VFIO_USER_DMA_MAP] = dma_map,
	[VFIO_USER_DMA_UNMAP] = dma_unmap,
	[VFIO_USER_DEVICE_GET_INFO] = device_info,
	[VFIO_USER_DEVICE_GET_REGION_INFO] = region_info,
	[VFIO_USER_DEVICE_GET_REGION_IO_FDS] = region_io_fds,
	[VFIO_USER_DEVICE_GET_IRQ_INFO] = irq_info,
	[VFIO_USER_DEVICE_SET_IRQS] = set_irqs,
	[VFIO_USER_REGION_READ] = region_read,
	[VFIO_USER_REGION_WRITE] = region_write,
	[VFIO_USER_DEVICE_RESET] = device_reset,
	[VFIO_USER_REGION_WRITE_MULTI] = write_multi,
	[VFIO_USER_DEVICE_FEATURE] = uvf_request_feature,
	[VFIO_USER_MIG_DATA_READ] = uvf_request_mig_data_read,
	[VFIO_USER_MIG_DATA_WRITE] = uvf_request_mig_data_write,
};

int uvf_request_handle(struct uvf_connection *connection, const struct uvf_wire_request *request,
		       struct uvf_reply *reply)
{
	/* VERSION comes once, and DMA_READ and DMA_WRITE are the server's to send. */
	if (request->command >= UVF_ARRAY_SIZE(handlers) || !handlers[request->command])
		return -EINVAL;
	return handlers[request->command](connection, request, reply);
}
