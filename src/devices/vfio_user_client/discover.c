/* SPDX-License-Identifier: BSD-3-Clause */
/* What the device behind the socket has. The server may lie: each answer is checked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "devices/vfio_user_client/client.h"

/* Nobody has more, and each costs a message. */
#define MAX_INDEXES 256
#define MAX_VECTORS 4096

/* ---- Registers behind eventfds ---- */

struct io_fds {
	struct uvf_wire_region_io_fds info;
	struct uvf_wire_io_fd list[CLIENT_MAX_EXTRA / sizeof(struct uvf_wire_io_fd)];
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

static int use_io_fds(struct client *client, struct io_fds *io_fds, struct client_region *region)
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
static int take_io_fds(struct client *client, uint32_t index, struct client_region *region)
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

static int add_region(struct client *client, uint32_t index, const struct client_region *region)
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
		.areas_change = region->changes,
		.io_fds = region->io_fds,
		.io_fd_count = region->io_fd_count,
	};

	return uvf_device_add_region(client->dev, &description);
}

static int discover_region(struct client *client, uint32_t index, struct client_region *region)
{
	int ret = client_ask_region(client, index, region);

	if (!ret && region->changes)
		ret = client_add_changing(client, index, region);
	else if (!ret && region->fd >= 0) {
		ret = client_keep_fd(client, region->fd);
		region->fd = -1;
	}
	if (!ret && region->info.size)
		ret = take_io_fds(client, index, region);
	if (!ret)
		ret = add_region(client, index, region);
	client_region_end(region);
	free(region->io_fds);
	return ret;
}

/* ---- IRQ indexes ---- */

/* As much as is asked for. */
struct irq_answer {
	struct uvf_wire_irq_info info;
	uint8_t extra[512 + MAX_INDEXES * sizeof(uint32_t)];
	size_t extra_size;
	struct uvf_irq irq;
	uint32_t regions[MAX_INDEXES];
	uint32_t region_count;
};

static int take_irq_type(struct irq_answer *answer, const uint8_t *at, size_t size)
{
	struct vfio_region_info_cap_type type;

	if (size < sizeof(type))
		return -EPROTO;
	memcpy(&type, at, sizeof(type));
	answer->irq.type = type.type;
	answer->irq.subtype = type.subtype;
	return 0;
}

static int take_irq_regions(struct irq_answer *answer, const uint8_t *at, size_t size)
{
	struct uvf_irq_info_cap_regions list;

	if (size < sizeof(list))
		return -EPROTO;
	memcpy(&list, at, sizeof(list));
	if (list.count > MAX_INDEXES ||
	    (size - sizeof(list)) / sizeof(answer->regions[0]) < list.count)
		return -EPROTO;
	answer->region_count = list.count;
	memcpy(answer->regions, at + sizeof(list), list.count * sizeof(answer->regions[0]));
	return 0;
}

static int take_irq_capability(void *opaque, uint16_t id, const uint8_t *at, size_t size)
{
	if (id == UVF_IRQ_INFO_CAP_TYPE)
		return take_irq_type(opaque, at, size);
	return id == UVF_IRQ_INFO_CAP_REGIONS ? take_irq_regions(opaque, at, size) : 0;
}

static int take_irq_chain(struct irq_answer *answer)
{
	const struct client_chain chain = {answer->extra, answer->extra_size, sizeof(answer->info)};
	uint32_t offset;

	if (!(answer->info.flags & UVF_IRQ_INFO_FLAG_CAPS))
		return 0;
	if (answer->extra_size < sizeof(struct uvf_irq_info_chain) - sizeof(answer->info))
		return -EPROTO;
	memcpy(&offset, answer->extra, sizeof(offset));
	return client_walk(&chain, offset, take_irq_capability, answer);
}

static int ask_irq(struct client *client, uint32_t index, struct irq_answer *answer, bool *refused)
{
	struct uvf_wire_irq_info request = {.argsz = sizeof(request), .index = index};
	struct uvf_call call = {
		.command = VFIO_USER_DEVICE_GET_IRQ_INFO,
		.fixed = &request,
		.fixed_size = sizeof(request),
		.reply = &answer->info,
		.reply_size = sizeof(answer->info),
	};
	int ret;

	if (client->server.areas) {
		request.argsz += sizeof(answer->extra);
		call.reply_data = answer->extra;
		call.reply_data_max = sizeof(answer->extra);
	}
	ret = client_try(client, &call, refused);
	answer->extra_size = call.reply_data_size;
	return ret;
}

static int discover_irq(struct client *client, uint32_t index, struct irq_answer *answer)
{
	struct uvf_irq *irq = &answer->irq;
	bool refused;
	int ret = ask_irq(client, index, answer, &refused);

	/* An index that the device doesn't have. */
	if (ret < 0)
		return refused ? 0 : ret;
	if (answer->info.index != index || answer->info.count > MAX_VECTORS)
		return client_violation(client, "to IRQ info");
	irq->index = index;
	irq->count = answer->info.count;
	irq->flags = answer->info.flags & (VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
					   VFIO_IRQ_INFO_AUTOMASKED | VFIO_IRQ_INFO_NORESIZE);
	if (client->server.areas)
		ret = take_irq_chain(answer);
	if (!ret && index >= VFIO_PCI_NUM_IRQS && irq->type == UVF_IRQ_TYPE_REMAP &&
	    irq->subtype == UVF_IRQ_SUBTYPE_REMAP_REGION)
		ret = client_set_remap_irq(client, irq, answer->regions, answer->region_count);
	if (ret == -EPROTO)
		return client_violation(client, "to IRQ info");
	return ret ? ret : uvf_device_add_irq(client->dev, irq);
}

static int discover_irqs(struct client *client, uint32_t irqs)
{
	struct irq_answer *answer = malloc(sizeof(*answer));
	int ret = answer ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < irqs && !ret; i++) {
		memset(answer, 0, sizeof(*answer));
		ret = discover_irq(client, i, answer);
	}
	free(answer);
	/* Nobody would tell of the changes. */
	if (!ret && client->changing_count && !client->has_remap_irq)
		ret = client_violation(client, "to IRQ info");
	return ret;
}

/* ---- All ---- */

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
	struct client_region *region = malloc(sizeof(*region));
	int ret = region ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < regions && !ret; i++) {
		memset(region, 0, sizeof(*region));
		ret = discover_region(client, i, region);
	}
	if (!ret)
		ret = discover_irqs(client, irqs);
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
