/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the device has: regions with their areas, IRQ indexes. What a client that knows changing
 * areas (<uvfio/remap.h>) is told of them, no other sees.
 */
#include <errno.h>
#include <string.h>
#include <uvfio/remap.h>

#include "base/bytes.h"
#include "core/core.h"
#include "frontends/vfio_user/server.h"

static size_t reply_room(const struct uvf_connection *connection)
{
	return connection->reply_capacity - sizeof(struct uvf_wire_header);
}

/* ---- The device ---- */

bool uvf_connection_hides_irq(const struct uvf_connection *connection, uint32_t index)
{
	int remap = uvf_remap_irq(connection->server->dev);

	return !connection->areas && remap >= 0 && index == (uint32_t)remap;
}

/* How many IRQ indexes the client is told of: one that it isn't to see may be the last. */
static uint32_t count_irqs(const struct uvf_connection *connection,
			   const struct uvf_device_info *info)
{
	return info->irqs - (info->irqs && uvf_connection_hides_irq(connection, info->irqs - 1));
}

int uvf_request_device_info(struct uvf_connection *connection,
			    const struct uvf_wire_request *request, struct uvf_reply *reply)
{
	struct uvf_device_info info;
	struct uvf_wire_device_info wire = {.argsz = sizeof(wire)};

	uvf_device_get_info(connection->server->dev, &info);
	wire.flags = info.flags;
	wire.regions = info.regions;
	wire.irqs = count_irqs(connection, &info);
	uvf_reply_put(reply, &wire, sizeof(wire));
	return 0;
}

/* ---- Chains of capabilities, in a reply ---- */

struct chain {
	struct uvf_reply *reply;
	size_t last; /* the header that the next one follows; 0: none */
};

/* @capability begins with its header; @size bytes of it, what follows is put after this. */
static void put_capability(struct chain *chain, uint16_t id, void *capability, size_t size)
{
	const struct vfio_info_cap_header header = {.id = id, .version = 1};
	uint32_t here = (uint32_t)chain->reply->size;

	memcpy(capability, &header, sizeof(header));
	if (chain->last)
		memcpy(chain->reply->payload + chain->last +
			       offsetof(struct vfio_info_cap_header, next),
		       &here, sizeof(here));
	chain->last = here;
	uvf_reply_put(chain->reply, capability, size);
}

static void put_type(struct chain *chain, uint16_t id, uint32_t type, uint32_t subtype)
{
	struct vfio_region_info_cap_type capability = {.type = type, .subtype = subtype};

	put_capability(chain, id, &capability, sizeof(capability));
}

/* ---- Regions ---- */

/* What there is to say of one. */
struct told {
	struct uvf_region_info info;
	size_t areas;	/* that can be told of, see same_file() */
	size_t staying; /* of those: while state is saved */
	bool sparse;	/* they are listed */
	bool follows;	/* the client is told of changes */
	size_t size;	/* of the answer */
};

/*
 * A reply has one descriptor and one offset for all areas of a region: those that don't fit the
 * first's are left out, and so reached by messages.
 */
static bool same_file(const struct uvf_area *first, const struct uvf_area *area)
{
	return area->fd == first->fd &&
	       area->fd_offset - area->offset == first->fd_offset - first->offset;
}

static size_t count_areas(const struct uvf_region_info *info, uint32_t without)
{
	size_t count = 0;

	for (size_t i = 0; i < info->area_count; i++)
		count += same_file(&info->areas[0], &info->areas[i]) &&
			 !(info->areas[i].flags & without);
	return count;
}

static size_t list_size(size_t areas)
{
	return sizeof(struct vfio_region_info_cap_sparse_mmap) +
	       areas * sizeof(struct vfio_region_sparse_mmap_area);
}

static int look_at_region(const struct uvf_connection *connection, uint32_t index,
			  struct told *told)
{
	const struct uvf_region_info *info = &told->info;
	int ret = uvf_region_get_info(connection->server->dev, index, &told->info);

	if (ret < 0)
		return ret;
	told->areas = count_areas(info, 0);
	told->staying = count_areas(info, UVF_AREA_NOT_WHILE_SAVING);
	/* One area that is all of the region needs no list. */
	told->sparse = told->areas && info->areas[0].size < info->size;
	told->follows = connection->areas && info->areas_change;
	told->size = sizeof(struct uvf_wire_region_info);
	if (info->type)
		told->size += sizeof(struct vfio_region_info_cap_type);
	if (told->sparse)
		told->size += list_size(told->areas);
	if (told->follows)
		told->size += list_size(told->staying) + sizeof(struct uvf_region_info_cap_changes);
	return told->size > reply_room(connection) ? -E2BIG : 0;
}

static void put_areas(struct chain *chain, uint16_t id, const struct uvf_region_info *info,
		      size_t count, uint32_t without)
{
	struct vfio_region_info_cap_sparse_mmap list = {.nr_areas = (uint32_t)count};

	put_capability(chain, id, &list, sizeof(list));
	for (size_t i = 0; i < info->area_count; i++) {
		struct vfio_region_sparse_mmap_area area = {
			.offset = info->areas[i].offset,
			.size = info->areas[i].size,
		};

		if (same_file(&info->areas[0], &info->areas[i]) &&
		    !(info->areas[i].flags & without))
			uvf_reply_put(chain->reply, &area, sizeof(area));
	}
}

static void put_capabilities(struct uvf_reply *reply, const struct told *told, uint32_t changed)
{
	struct uvf_region_info_cap_changes changes = {.flags = changed};
	struct chain chain = {reply, 0};

	if (told->info.type)
		put_type(&chain, VFIO_REGION_INFO_CAP_TYPE, told->info.type, told->info.subtype);
	if (told->sparse)
		put_areas(&chain, VFIO_REGION_INFO_CAP_SPARSE_MMAP, &told->info, told->areas, 0);
	if (!told->follows)
		return;
	put_areas(&chain, UVF_REGION_INFO_CAP_SAVING_AREAS, &told->info, told->staying,
		  UVF_AREA_NOT_WHILE_SAVING);
	put_capability(&chain, UVF_REGION_INFO_CAP_CHANGES, &changes, sizeof(changes));
}

/* Whoever isn't told of changes has for good what he is given. With the device's lock held. */
static int give_areas(struct uvf_device *dev, uint32_t index, const struct told *told)
{
	int ret = 0;

	for (size_t i = 0; i < told->info.area_count && !ret; i++) {
		const struct uvf_area *area = &told->info.areas[i];

		if (same_file(&told->info.areas[0], area))
			ret = uvf_region_mapped_locked(dev, index, area->offset, area->size,
						       UVF_MAPPED_UNKNOWN);
	}
	return ret;
}

/* Where areas change with the device's lock held, so that all of it is of one moment. */
static int answer_region_info(struct uvf_connection *connection,
			      const struct uvf_wire_request *request, struct uvf_reply *reply)
{
	struct uvf_device *dev = connection->server->dev;
	struct uvf_wire_region_info wire = {.index = request->region_info.index};
	struct told told;
	uint32_t changed = 0;
	int ret = look_at_region(connection, wire.index, &told);

	if (!ret && told.info.areas_change && !connection->areas)
		ret = give_areas(dev, wire.index, &told);
	if (ret < 0)
		return ret;
	wire.argsz = (uint32_t)told.size;
	wire.flags = told.info.flags;
	wire.size = told.info.size;
	if (told.areas) {
		wire.offset = told.info.areas[0].fd_offset - told.info.areas[0].offset;
		reply->fds[reply->fd_count++] = told.info.areas[0].fd;
	}
	if (told.size > sizeof(wire)) {
		wire.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		if (told.size <= request->region_info.argsz)
			wire.cap_offset = sizeof(wire);
	}
	uvf_reply_put(reply, &wire, sizeof(wire));
	/* Who sees no answer has seen no change. */
	if (wire.cap_offset && told.follows && !request->no_reply)
		changed = uvf_region_take_changes(dev, wire.index);
	if (wire.cap_offset)
		put_capabilities(reply, &told, changed);
	return 0;
}

int uvf_request_region_info(struct uvf_connection *connection,
			    const struct uvf_wire_request *request, struct uvf_reply *reply)
{
	struct uvf_device *dev = connection->server->dev;
	struct uvf_region_info info;
	int ret = uvf_region_get_info(dev, request->region_info.index, &info);

	if (ret < 0)
		return ret;
	/* Only there: it may be long until it is to be had. */
	if (info.areas_change)
		uvf_device_lock(dev);
	ret = answer_region_info(connection, request, reply);
	if (info.areas_change)
		uvf_device_unlock(dev);
	return ret;
}

/* The place of @fd among those of the reply; the count when it isn't there yet. */
static size_t find_fd(const struct uvf_reply *reply, int fd)
{
	size_t i = 0;

	while (i < reply->fd_count && reply->fds[i] != fd)
		i++;
	return i;
}

int uvf_request_region_io_fds(struct uvf_connection *connection,
			      const struct uvf_wire_request *request, struct uvf_reply *reply)
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
	uvf_reply_put(reply, &wire, sizeof(wire));
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
		uvf_reply_put(reply, &io_fd, sizeof(io_fd));
	}
	return 0;
}

/* ---- Interrupts ---- */

static void put_irq_chain(struct uvf_reply *reply, const struct uvf_irq_info *info)
{
	struct uvf_irq_info_cap_regions regions = {.count = (uint32_t)info->region_count};
	struct chain chain = {reply, 0};
	uint32_t nothing = 0;

	put_type(&chain, UVF_IRQ_INFO_CAP_TYPE, info->type, info->subtype);
	if (!info->region_count)
		return;
	put_capability(&chain, UVF_IRQ_INFO_CAP_REGIONS, &regions, sizeof(regions));
	uvf_reply_put(reply, info->regions, info->region_count * sizeof(*info->regions));
	if (reply->size % 8)
		uvf_reply_put(reply, &nothing, sizeof(nothing));
}

static size_t irq_chain_size(const struct uvf_irq_info *info)
{
	size_t size = sizeof(struct uvf_irq_info_chain) + sizeof(struct vfio_region_info_cap_type);

	if (info->region_count)
		size += uvf_align_up(sizeof(struct uvf_irq_info_cap_regions) +
					     info->region_count * sizeof(*info->regions),
				     8);
	return size;
}

/* As much of it as the client has room for. */
static int chained_irq_info(const struct uvf_connection *connection,
			    const struct uvf_irq_info *info, const struct uvf_wire_request *request,
			    struct uvf_reply *reply)
{
	uint32_t argsz = request->irq_info.argsz;
	size_t size = irq_chain_size(info);
	struct uvf_irq_info_chain wire = {
		.info =
			{
				.argsz = (uint32_t)size,
				.flags = info->flags | UVF_IRQ_INFO_FLAG_CAPS,
				.index = request->irq_info.index,
				.count = info->count,
			},
	};

	if (size > reply_room(connection))
		return -E2BIG;
	wire.cap_offset = argsz >= size ? sizeof(wire) : 0;
	uvf_reply_put(reply, &wire, argsz >= sizeof(wire) ? sizeof(wire) : sizeof(wire.info));
	if (wire.cap_offset)
		put_irq_chain(reply, info);
	return 0;
}

int uvf_request_irq_info(struct uvf_connection *connection, const struct uvf_wire_request *request,
			 struct uvf_reply *reply)
{
	struct uvf_device *dev = connection->server->dev;
	struct uvf_wire_irq_info wire = {
		.argsz = sizeof(wire),
		.index = request->irq_info.index,
	};
	struct uvf_device_info device;
	struct uvf_irq_info info;
	int ret = uvf_irq_get_info(dev, wire.index, &info);

	if (ret < 0)
		return ret;
	uvf_device_get_info(dev, &device);
	if (wire.index >= count_irqs(connection, &device))
		return -EINVAL;
	if (uvf_connection_hides_irq(connection, wire.index))
		info = (struct uvf_irq_info){0};
	if (connection->areas && info.type)
		return chained_irq_info(connection, &info, request, reply);
	wire.flags = info.flags;
	wire.count = info.count;
	uvf_reply_put(reply, &wire, sizeof(wire));
	return 0;
}
