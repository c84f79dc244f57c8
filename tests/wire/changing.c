/* SPDX-License-Identifier: BSD-3-Clause */
/* The device whose areas change, and raw messages about them, each reply checked. */
#include "changing.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- The model ---- */

static int region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	struct changing *changing = uvf_device_opaque(dev);

	memset(buf, 0, count);
	if (!index && offset == GOES && count == sizeof(changing->last))
		memcpy(buf, &changing->last, count);
	return 0;
}

static int region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count)
{
	struct changing *changing = uvf_device_opaque(dev);
	uint64_t number;

	if (index || offset != GOES || count != sizeof(number))
		return 0;
	memcpy(&number, buf, sizeof(number));
	/* A number that is left out was written where nobody saw it. */
	changing->wrong += changing->away && number != changing->last + 1;
	changing->last = number;
	changing->calls++;
	if (!changing->away)
		atomic_store(changing->number, number);
	return 0;
}

static void areas_settled(struct uvf_device *dev, uint32_t index, int result)
{
	struct changing *changing = uvf_device_opaque(dev);

	if (!index && !result) {
		changing->away = true;
		changing->last = atomic_load(changing->number);
	}
	atomic_store(&changing->settled_result, (unsigned)-result);
	atomic_fetch_add(&changing->settled, 1);
}

static void areas_return(struct uvf_device *dev, uint32_t index)
{
	struct changing *changing = uvf_device_opaque(dev);
	uint64_t number;

	if (index)
		return;
	/* What it was when it was taken away, if nobody has written past it. */
	number = atomic_exchange(changing->number, changing->last);
	changing->wrong += number > changing->last;
	changing->away = false;
}

static int reset(struct uvf_device *dev, enum uvf_reset kind)
{
	return 0;
}

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct changing *changing = uvf_device_opaque(dev);

	return uvf_state_write_bytes(writer, (struct uvf_state_section){.name = "number"},
				     &changing->last, sizeof(changing->last));
}

static int save_early(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	return 0;
}

static const struct uvf_device_ops ops = {
	.reset = reset,
	.areas_settled = areas_settled,
	.areas_return = areas_return,
};

static const char *const sections[] = {"number", NULL};
static const struct uvf_migration_ops migration = {
	.name = "changing",
	.major = 1,
	.sections = sections,
	.save = save,
	.save_early = save_early,
};

static void add_region(struct changing *changing, uint32_t index)
{
	struct uvf_area areas[2] = {
		{.offset = STAYS, .size = PAGE},
		{.offset = GOES, .size = PAGE, .flags = UVF_AREA_NOT_WHILE_SAVING},
	};
	const struct uvf_region region = {
		.index = index,
		.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
		.size = CHANGING_SIZE,
		.read = region_read,
		.write = region_write,
		.areas = areas,
		.area_count = 2,
		.areas_change = true,
	};
	uint64_t offset;
	void *address;
	int fd;

	assert_int_equal(uvf_device_region_memory(changing->dev, index, CHANGING_SIZE, &fd, &offset,
						  &address),
			 0);
	for (unsigned i = 0; i < 2; i++) {
		areas[i].fd = fd;
		areas[i].fd_offset = offset + areas[i].offset;
	}
	if (!index) {
		memcpy(changing->areas, areas, sizeof(areas));
		changing->number = (_Atomic uint64_t *)((char *)address + GOES);
	}
	assert_int_equal(uvf_device_add_region(changing->dev, &region), 0);
}

struct changing *changing_new(unsigned regions)
{
	struct changing *changing = calloc(1, sizeof(*changing));

	assert_non_null(changing);
	changing->regions = regions;
	assert_int_equal(uvf_device_new("changing", &ops, 0, changing, &changing->dev), 0);
	for (unsigned i = 0; i < regions; i++)
		add_region(changing, i);
	assert_int_equal(uvf_remap_irq(changing->dev), REMAP_IRQ);
	uvf_device_set_migration(changing->dev, &migration);
	/* Long: no test is decided by a machine that stalls. */
	uvf_device_set_remap_timeout(changing->dev, LONG_TIME_MS);
	return changing;
}

void changing_free(struct changing *changing)
{
	uvf_device_free(changing->dev);
	assert_int_equal(changing->wrong, 0);
	free(changing);
}

int changing_set_areas(struct changing *changing, uint32_t index, unsigned mask)
{
	struct uvf_area areas[2];
	size_t count = 0;
	int ret;

	for (unsigned i = 0; i < 2; i++) {
		if (!(mask >> i & 1))
			continue;
		areas[count] = changing->areas[i];
		areas[count++].fd_offset += (uint64_t)index << 40;
	}
	uvf_device_lock(changing->dev);
	ret = uvf_region_set_areas(changing->dev, index, areas, count);
	uvf_device_unlock(changing->dev);
	return ret;
}

struct harness *changing_serve(struct changing *changing, bool threaded, const char *version)
{
	struct harness *h = harness_serve(changing->dev, NULL);
	struct reply reply;

	h->threaded = threaded;
	if (threaded)
		assert_int_equal(uvf_server_start(h->server), 0);
	if (!version)
		return h;
	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, version, &reply), 0);
	return h;
}

/* ---- Messages ---- */

static unsigned take_list(const uint8_t *at)
{
	struct vfio_region_info_cap_sparse_mmap header;
	unsigned mask = 0;

	memcpy(&header, at, sizeof(header));
	assert_int_equal(header.header.version, 1);
	for (uint32_t i = 0; i < header.nr_areas; i++) {
		struct vfio_region_sparse_mmap_area area;

		memcpy(&area, at + sizeof(header) + i * sizeof(area), sizeof(area));
		assert_int_equal(area.size, PAGE);
		assert_true(area.offset == STAYS || area.offset == GOES);
		mask |= area.offset == STAYS ? 1 : 2;
	}
	return mask;
}

static void take_capabilities(const struct reply *reply, struct told_region *told)
{
	for (uint32_t at = told->info.cap_offset; at;) {
		struct uvf_region_info_cap_changes changes;
		struct vfio_info_cap_header header;

		assert_true(at + sizeof(header) <= reply->size && at % 8 == 0);
		memcpy(&header, reply->payload + at, sizeof(header));
		if (header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP) {
			told->has_areas = true;
			told->areas = take_list(reply->payload + at);
		} else if (header.id == UVF_REGION_INFO_CAP_SAVING_AREAS) {
			told->has_saving = true;
			told->saving = take_list(reply->payload + at);
		} else if (header.id == UVF_REGION_INFO_CAP_CHANGES) {
			memcpy(&changes, reply->payload + at, sizeof(changes));
			assert_int_equal(changes.reserved, 0);
			told->has_changes = true;
			told->changes = changes.flags;
		} else {
			fail_msg("capability %u", header.id);
		}
		at = header.next;
	}
}

int ask_region(struct harness *h, uint32_t index, uint32_t argsz, struct told_region *told)
{
	struct uvf_wire_region_info wire = {.argsz = argsz, .index = index};
	struct reply reply;
	int ret =
		request(h, VFIO_USER_DEVICE_GET_REGION_INFO, &wire, sizeof(wire), NULL, 0, &reply);

	*told = (struct told_region){.fd = -1};
	if (ret)
		return ret;
	assert_true(reply.size >= sizeof(told->info));
	memcpy(&told->info, reply.payload, sizeof(told->info));
	assert_int_equal(told->info.index, index);
	assert_int_equal(told->info.size, CHANGING_SIZE);
	assert_true(reply.fd_count <= 1);
	if (reply.fd_count)
		told->fd = reply.fds[0];
	take_capabilities(&reply, told);
	return 0;
}

uint32_t ask_changes(struct harness *h, uint32_t index)
{
	struct told_region told;

	assert_int_equal(ask_region(h, index, 4096, &told), 0);
	assert_true(told.has_changes);
	if (told.fd >= 0)
		close(told.fd);
	return told.changes;
}

int tell_mapping(struct harness *h, uint16_t command, uint32_t index, uint64_t offset,
		 uint64_t size)
{
	const struct uvf_user_region_mapping mapping = {
		.argsz = sizeof(mapping),
		.index = index,
		.offset = offset,
		.size = size,
	};
	struct reply reply;
	int ret = request(h, command, &mapping, sizeof(mapping), NULL, 0, &reply);

	if (!ret)
		assert_int_equal(reply.size, 0);
	return ret;
}

int set_remap_irq(struct harness *h, int fd)
{
	const struct uvf_wire_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = REMAP_IRQ,
		.count = 1,
	};
	struct reply reply;

	return request(h, VFIO_USER_DEVICE_SET_IRQS, &set, sizeof(set), &fd, fd >= 0, &reply);
}

int unmask_remap_irq(struct harness *h)
{
	const struct uvf_wire_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = REMAP_IRQ,
		.count = 1,
	};

	return simple(h, VFIO_USER_DEVICE_SET_IRQS, &set, sizeof(set));
}

void expect_event(int fd)
{
	struct pollfd ready = {fd, POLLIN, 0};
	uint64_t count;

	assert_int_equal(poll(&ready, 1, LONG_TIME_MS), 1);
	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
}

uint16_t begin_state(struct harness *h, uint32_t state, uint32_t flags)
{
	struct {
		struct uvf_wire_feature header;
		struct vfio_device_feature_mig_state data;
	} message = {
		{sizeof(message), VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE},
		{state, -1}};

	send_request_on(h->client, ++h->id, VFIO_USER_DEVICE_FEATURE, flags, &message,
			sizeof(message), NULL, 0);
	harness_step(h);
	return h->id;
}

int end_state(struct harness *h, uint16_t id)
{
	struct vfio_device_feature_mig_state data;
	struct reply reply;

	assert_true(receive_message(h->client, &reply));
	assert_int_equal(reply.header.id, id);
	assert_int_equal(reply.header.command, VFIO_USER_DEVICE_FEATURE);
	if (reply.header.flags & UVF_WIRE_ERROR)
		return -(int)reply.header.error;
	assert_int_equal(reply.size, 16);
	memcpy(&data, reply.payload + 8, sizeof(data));
	assert_int_equal(data.data_fd, -1);
	return 0;
}
