/* SPDX-License-Identifier: BSD-3-Clause */
/* What the device behind the socket has. The server may lie: each answer is checked, the files of
 * areas for being as long as it says. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "devices/vfio_user_client/client.h"

/* Nobody has more, and each costs a message. */
#define MAX_INDEXES 256
#define MAX_VECTORS 4096
/* Of a region's capabilities, and of its list of io_fds. */
#define MAX_EXTRA 16384
#define MAX_AREAS 256

struct region {
	struct uvf_wire_region_info info;
	uint8_t extra[MAX_EXTRA];
	size_t extra_size;
	int fd;
	struct uvf_area areas[MAX_AREAS];
	size_t area_count;
	struct uvf_io_fd *io_fds;
	size_t io_fd_count;
	uint32_t type, subtype;
};

/* ---- Regions ---- */

static int ask_region(struct client *client, uint32_t index, uint32_t argsz, struct region *region)
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

/* All of it, in one answer or two. */
static int ask_whole_region(struct client *client, uint32_t index, struct region *region)
{
	uint32_t argsz = sizeof(region->info);
	int ret = ask_region(client, index, argsz, region);

	if (ret < 0)
		return ret;
	argsz = region->info.argsz;
	if (argsz <= sizeof(region->info))
		return 0;
	if (region->fd >= 0)
		close(region->fd);
	if (argsz > sizeof(region->info) + MAX_EXTRA)
		return client_violation(client, "to region info");
	return ask_region(client, index, argsz, region);
}

static int take_sparse(struct region *region, const uint8_t *at, size_t size)
{
	struct vfio_region_info_cap_sparse_mmap header;

	if (size < sizeof(header))
		return -EPROTO;
	memcpy(&header, at, sizeof(header));
	if (header.nr_areas > MAX_AREAS ||
	    (size - sizeof(header)) / sizeof(struct vfio_region_sparse_mmap_area) < header.nr_areas)
		return -EPROTO;
	region->area_count = 0;
	for (uint32_t i = 0; i < header.nr_areas; i++) {
		struct vfio_region_sparse_mmap_area area;

		memcpy(&area, at + sizeof(header) + i * sizeof(area), sizeof(area));
		/* Linux's own drivers have empty ones. */
		if (area.size)
			region->areas[region->area_count++] = (struct uvf_area){
				.offset = area.offset,
				.size = area.size,
			};
	}
	return 0;
}

static int take_type(struct region *region, const uint8_t *at, size_t size)
{
	struct vfio_region_info_cap_type type;

	if (size < sizeof(type))
		return -EPROTO;
	memcpy(&type, at, sizeof(type));
	region->type = type.type;
	region->subtype = type.subtype;
	return 0;
}

/* Walks the chain, which may go anywhere but backwards. */
static int take_capabilities(struct region *region)
{
	uint32_t offset = region->info.cap_offset, before = 0;
	int ret = 0;

	if (!(region->info.flags & VFIO_REGION_INFO_FLAG_CAPS))
		return 0;
	while (offset && !ret) {
		struct vfio_info_cap_header header;
		const uint8_t *at;
		size_t size;

		if (offset <= before || offset < sizeof(region->info) ||
		    !uvf_range_inside(offset - sizeof(region->info), sizeof(header),
				      region->extra_size))
			return -EPROTO;
		at = region->extra + offset - sizeof(region->info);
		size = region->extra_size - (offset - sizeof(region->info));
		memcpy(&header, at, sizeof(header));
		if (header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP)
			ret = take_sparse(region, at, size);
		else if (header.id == VFIO_REGION_INFO_CAP_TYPE)
			ret = take_type(region, at, size);
		before = offset;
		offset = header.next;
	}
	return ret;
}

/* The file must hold every area, so that no access of ours raises a signal as it is now. */
static int check_areas(const struct region *region)
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

/* Areas without a file, or a file without areas, are no areas: messages reach everything. */
static int take_areas(struct client *client, struct region *region)
{
	int fd = region->fd, ret;

	if (fd < 0 || !(region->info.flags & VFIO_REGION_INFO_FLAG_MMAP) || !region->info.size)
		region->area_count = 0;
	for (size_t i = 0; i < region->area_count; i++) {
		struct uvf_area *area = &region->areas[i];

		area->fd = fd;
		if (__builtin_add_overflow(region->info.offset, area->offset, &area->fd_offset))
			return -EPROTO;
	}
	if (!region->area_count)
		return 0;
	ret = check_areas(region);
	if (ret)
		return ret;
	region->fd = -1;
	return client_keep_fd(client, fd);
}

/* ---- Registers behind eventfds ---- */

struct io_fds {
	struct uvf_wire_region_io_fds info;
	struct uvf_wire_io_fd list[MAX_EXTRA / sizeof(struct uvf_wire_io_fd)];
	size_t list_size;
	int fds[UVF_FDPASS_MAX];
	size_t fd_count;
};

static int ask_io_fds(struct client *client, uint32_t index, uint32_t argsz, struct io_fds *io_fds,
		      bool *refused)
{
	struct uvf_wire_region_io_fds request = {.argsz = argsz, .index = index};
	struct uvf_call call = {
		.command = VFIO_USER_DEVICE_GET_REGION_IO_FDS,
		.fixed = &request,
		.fixed_size = sizeof(request),
		.reply = &io_fds->info,
		.reply_size = sizeof(io_fds->info),
		.reply_data = io_fds->list,
		.reply_data_max = argsz - sizeof(request),
		.reply_fds = io_fds->fds,
		.reply_fd_max = UVF_FDPASS_MAX,
	};
	int ret = client_try(client, &call, refused);

	io_fds->list_size = call.reply_data_size;
	io_fds->fd_count = call.reply_fd_count;
	if (ret < 0)
		return ret;
	if (io_fds->info.index != index || io_fds->info.argsz < sizeof(request) ||
	    io_fds->info.argsz > sizeof(request) + sizeof(io_fds->list))
		return client_violation(client, "to region io fds");
	return 0;
}

static int use_io_fds(struct client *client, struct io_fds *io_fds, struct region *region)
{
	size_t count = io_fds->info.count;

	if (count > UVF_ARRAY_SIZE(io_fds->list) ||
	    io_fds->list_size < count * sizeof(io_fds->list[0]))
		return client_violation(client, "to region io fds");
	region->io_fds = calloc(count + 1, sizeof(*region->io_fds));
	if (!region->io_fds)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct uvf_wire_io_fd *wire = &io_fds->list[i];

		if (wire->fd_index >= io_fds->fd_count ||
		    !uvf_range_inside(wire->offset, wire->size, region->info.size))
			return client_violation(client, "to region io fds");
		/* Kinds and sizes that the waist has no word for. */
		if (wire->type != VFIO_USER_IO_FD_TYPE_IOEVENTFD || !wire->size)
			continue;
		region->io_fds[region->io_fd_count++] = (struct uvf_io_fd){
			.offset = wire->offset,
			.size = wire->size,
			.fd = io_fds->fds[wire->fd_index],
			.match = wire->flags & UVF_WIRE_IOEVENTFD_DATAMATCH,
			.value = wire->datamatch,
		};
	}
	while (io_fds->fd_count) {
		int ret = client_keep_fd(client, io_fds->fds[--io_fds->fd_count]);

		if (ret)
			return ret;
	}
	return 0;
}

/* Servers need not know the command: what they refuse isn't there. */
static int take_io_fds(struct client *client, uint32_t index, struct region *region)
{
	struct io_fds *io_fds = calloc(1, sizeof(*io_fds));
	bool refused;
	int ret;

	if (!io_fds)
		return -ENOMEM;
	ret = ask_io_fds(client, index, sizeof(io_fds->info), io_fds, &refused);
	if (!ret && io_fds->info.argsz > sizeof(io_fds->info)) {
		uvf_fdpass_close(io_fds->fds, io_fds->fd_count);
		ret = ask_io_fds(client, index, io_fds->info.argsz, io_fds, &refused);
		if (!ret)
			ret = use_io_fds(client, io_fds, region);
	}
	uvf_fdpass_close(io_fds->fds, io_fds->fd_count);
	free(io_fds);
	return ret < 0 && refused ? 0 : ret;
}

static int add_region(struct client *client, uint32_t index, const struct region *region)
{
	uint32_t access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	struct uvf_region description = {
		.index = index,
		.flags = region->info.flags & access,
		.size = region->info.size,
		.type = region->type,
		.subtype = region->subtype,
		.read = client_region_read,
		.write = client_region_write,
		.areas = region->areas,
		.area_count = region->area_count,
		.io_fds = region->io_fds,
		.io_fd_count = region->io_fd_count,
	};

	return uvf_device_add_region(client->dev, &description);
}

static int discover_region(struct client *client, uint32_t index, struct region *region)
{
	int ret = ask_whole_region(client, index, region);

	if (ret < 0)
		return ret;
	/* Without a list, all of it. */
	region->areas[0] = (struct uvf_area){.size = region->info.size};
	region->area_count = 1;
	ret = take_capabilities(region);
	if (!ret)
		ret = take_areas(client, region);
	if (ret == -EPROTO)
		client_violation(client, "to region info");
	if (!ret && region->info.size)
		ret = take_io_fds(client, index, region);
	if (!ret)
		ret = add_region(client, index, region);
	if (region->fd >= 0)
		close(region->fd);
	free(region->io_fds);
	return ret;
}

/* ---- All ---- */

static int discover_irq(struct client *client, uint32_t index)
{
	struct uvf_wire_irq_info request = {.argsz = sizeof(request), .index = index}, answer;
	struct uvf_call call = {
		.command = VFIO_USER_DEVICE_GET_IRQ_INFO,
		.fixed = &request,
		.fixed_size = sizeof(request),
		.reply = &answer,
		.reply_size = sizeof(answer),
	};
	struct uvf_irq irq = {.index = index};
	bool refused;
	int ret = client_try(client, &call, &refused);

	/* An index that the device doesn't have. */
	if (ret < 0)
		return refused ? 0 : ret;
	if (answer.index != index || answer.count > MAX_VECTORS)
		return client_violation(client, "to IRQ info");
	irq.count = answer.count;
	irq.flags = answer.flags & (VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
				    VFIO_IRQ_INFO_AUTOMASKED | VFIO_IRQ_INFO_NORESIZE);
	return uvf_device_add_irq(client->dev, &irq);
}

static int make_device(struct client *client, const char *name, uint32_t flags)
{
	const struct uvf_device_ops *ops =
		flags & VFIO_DEVICE_FLAGS_RESET ? &client_ops : &client_ops_without_reset;
	int ret = uvf_device_new(name, ops, flags & VFIO_DEVICE_FLAGS_PCI, client, &client->dev);

	if (ret)
		return ret;
	uvf_device_set_log(client->dev, &client->config.log);
	/* It has the driver's memory mapped too: what it writes is in no log that is kept here. */
	uvf_device_set_silent(client->dev);
	return 0;
}

static int discover_all(struct client *client, uint32_t regions, uint32_t irqs)
{
	struct region *region = malloc(sizeof(*region));
	int ret = region ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < regions && !ret; i++) {
		memset(region, 0, sizeof(*region));
		ret = discover_region(client, i, region);
	}
	for (uint32_t i = 0; i < irqs && !ret; i++)
		ret = discover_irq(client, i);
	if (!ret)
		ret = client_discover_migration(client);
	if (!ret)
		ret = client_discover_logging(client);
	free(region);
	return ret;
}

int client_discover(struct client *client, const char *name, struct uvf_error *error)
{
	struct uvf_wire_device_info info = {.argsz = sizeof(info)};
	struct uvf_call call = {
		.command = VFIO_USER_DEVICE_GET_INFO,
		.fixed = &info,
		.fixed_size = sizeof(info),
		.reply = &info,
		.reply_size = sizeof(info),
	};
	int ret = client_call(client, &call);

	if (!ret && (info.regions > MAX_INDEXES || info.irqs > MAX_INDEXES))
		ret = client_violation(client, "to device info");
	if (!ret)
		ret = make_device(client, name, info.flags);
	if (!ret)
		ret = discover_all(client, info.regions, info.irqs);
	if (ret)
		return uvf_fail(error, ret, "asking what the device has: %s", strerror(-ret));
	return 0;
}
