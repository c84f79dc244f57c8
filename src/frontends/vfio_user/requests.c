/* SPDX-License-Identifier: BSD-3-Clause */
/* What each command does: calls on the device, and their results as replies. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/remap.h>

#include "base/bytes.h"
#include "frontends/vfio_user/server.h"

typedef int handler(struct uvf_connection *connection, const struct uvf_wire_request *request,
		    struct uvf_reply *reply);

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
	uvf_reply_put(reply, unmap, sizeof(*unmap));
	return 0;
}

/* ---- Interrupts ---- */

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

	if (uvf_connection_hides_irq(connection, wire->index))
		return -EINVAL;
	if (wire->flags & VFIO_IRQ_SET_DATA_EVENTFD && !request->fd_count)
		return deassign(dev, &set);
	return uvf_irq_set(dev, &set);
}

/* ---- Mappings of areas ---- */

static int region_mapped(struct uvf_connection *connection, const struct uvf_wire_request *request,
			 struct uvf_reply *reply)
{
	const struct uvf_user_region_mapping *mapping = &request->region_mapping;

	return uvf_region_mapped(connection->server->dev, mapping->index, mapping->offset,
				 mapping->size, UVF_MAPPED_KNOWN);
}

static int region_unmapped(struct uvf_connection *connection,
			   const struct uvf_wire_request *request, struct uvf_reply *reply)
{
	const struct uvf_user_region_mapping *mapping = &request->region_mapping;

	return uvf_region_unmapped(connection->server->dev, mapping->index, mapping->offset,
				   mapping->size);
}

/* ---- Access ---- */

static int region_read(struct uvf_connection *connection, const struct uvf_wire_request *request,
		       struct uvf_reply *reply)
{
	const struct uvf_wire_region_access *access = &request->region_access;
	ssize_t ret;

	uvf_reply_put(reply, access, sizeof(*access));
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
	uvf_reply_put(reply, access, sizeof(*access));
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
	uvf_reply_put(reply, &done, sizeof(done));
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
	[VFIO_USER_DEVICE_GET_INFO] = uvf_request_device_info,
	[VFIO_USER_DEVICE_GET_REGION_INFO] = uvf_request_region_info,
	[VFIO_USER_DEVICE_GET_REGION_IO_FDS] = uvf_request_region_io_fds,
	[VFIO_USER_DEVICE_GET_IRQ_INFO] = uvf_request_irq_info,
	[VFIO_USER_DEVICE_SET_IRQS] = set_irqs,
	[VFIO_USER_REGION_READ] = region_read,
	[VFIO_USER_REGION_WRITE] = region_write,
	[VFIO_USER_DEVICE_RESET] = device_reset,
	[VFIO_USER_REGION_WRITE_MULTI] = write_multi,
	[VFIO_USER_DEVICE_FEATURE] = uvf_request_feature,
	[VFIO_USER_MIG_DATA_READ] = uvf_request_mig_data_read,
	[VFIO_USER_MIG_DATA_WRITE] = uvf_request_mig_data_write,
};

/* Of the extension: only a client that knows it gets past uvf_wire_decode() with them. */
static handler *const area_handlers[] = {region_mapped, region_unmapped};

static handler *find_handler(uint16_t command)
{
	if (command >= UVF_USER_REGION_MAPPED && command <= UVF_USER_REGION_UNMAPPED)
		return area_handlers[command - UVF_USER_REGION_MAPPED];
	return command < UVF_ARRAY_SIZE(handlers) ? handlers[command] : NULL;
}

int uvf_request_handle(struct uvf_connection *connection, const struct uvf_wire_request *request,
		       struct uvf_reply *reply)
{
	/* VERSION comes once, and DMA_READ and DMA_WRITE are the server's to send. */
	handler *handle = find_handler(request->command);

	return handle ? handle(connection, request, reply) : -EINVAL;
}
