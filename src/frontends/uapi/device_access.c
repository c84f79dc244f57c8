/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pread(), pwrite() and mmap() of a device's file.
 *
 * As from the kernel, an access to a BAR arrives at the device in naturally aligned pieces of at
 * most 8 bytes; what was done before an error is done, and the error alone is told. Data go through
 * a buffer that never reaches over a page's end in the program, so that where its memory ends does
 * not depend on the buffer.
 */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "frontends/uapi/call.h"
#include "frontends/uapi/tracer.h"

#define REGION_MASK  ((1ULL << UAPI_REGION_SHIFT) - 1)
#define BUFFER_SIZE  4096
#define MAX_RW_COUNT 0x7ffff000

struct transfer {
	struct uapi_device *device;
	struct uapi_call *call;
	bool write;
	uint32_t index;
	uint64_t offset; /* in the region */
	uint64_t address;
	uint64_t left;
	unsigned width; /* of the widest piece */
	bool whole;	/* pieces may go to the device at once: it cuts them itself, or needn't */
	const struct uvf_area *areas;
	size_t area_count;
	uint64_t hidden, hidden_end; /* reads as ones, drops writes */
};

/* ---- The device may be gone ---- */

static bool is_gone(ssize_t error)
{
	return error == -ENODEV || error == -ENOTCONN || error == -EPROTO || error == -ETIMEDOUT;
}

int uapi_region_read(struct uapi_device *device, uint32_t index, uint64_t offset, void *buf,
		     size_t count)
{
	ssize_t ret = uvf_region_read(device->dev, index, offset, buf, count);

	if (is_gone(ret)) {
		memset(buf, 0xff, count);
		return 0;
	}
	return ret < 0 ? (int)ret : 0;
}

int uapi_region_write(struct uapi_device *device, uint32_t index, uint64_t offset, const void *buf,
		      size_t count)
{
	ssize_t ret = uvf_region_write(device->dev, index, offset, buf, count);

	return ret < 0 && !is_gone(ret) ? (int)ret : 0;
}

/* ---- Pieces ---- */

static uint64_t natural(uint64_t offset, uint64_t left, unsigned width)
{
	while (width > left || offset & (width - 1))
		width /= 2;
	return width;
}

/* How far from @offset on what holds there holds: all hidden, all in an area, or neither. */
static uint64_t run_at(const struct transfer *transfer, uint64_t offset, uint64_t left,
		       bool *hidden, bool *in_area)
{
	*hidden = offset >= transfer->hidden && offset < transfer->hidden_end;
	*in_area = false;
	if (*hidden && left > transfer->hidden_end - offset)
		left = transfer->hidden_end - offset;
	if (!*hidden && offset < transfer->hidden && left > transfer->hidden - offset)
		left = transfer->hidden - offset;
	for (size_t i = 0; !*hidden && i < transfer->area_count; i++) {
		const struct uvf_area *area = &transfer->areas[i];

		if (offset >= area->offset && offset - area->offset < area->size) {
			*in_area = true;
			if (left > area->size - (offset - area->offset))
				left = area->size - (offset - area->offset);
		} else if (offset < area->offset && left > area->offset - offset) {
			left = area->offset - offset;
		}
	}
	return left;
}

static uint64_t next_piece(const struct transfer *transfer, uint64_t offset, uint64_t left,
			   bool *hidden, bool *at_once)
{
	bool in_area;
	uint64_t run = run_at(transfer, offset, left, hidden, &in_area);

	*at_once = *hidden || in_area;
	return *at_once ? run : natural(offset, run, transfer->width);
}

/* How many of the bytes that are next fit into the buffer and the program's page, in whole pieces.
 */
static size_t plan(const struct transfer *transfer)
{
	uint64_t room = BUFFER_SIZE - transfer->address % BUFFER_SIZE;
	uint64_t planned = 0;

	while (planned < transfer->left && planned < room) {
		bool hidden, at_once;
		uint64_t piece = next_piece(transfer, transfer->offset + planned,
					    transfer->left - planned, &hidden, &at_once);

		if (piece > room - planned && at_once)
			piece = room - planned;
		else if (piece > room - planned && planned)
			break;
		planned += piece;
	}
	return (size_t)planned;
}

static int access_device(const struct transfer *transfer, uint64_t offset, uint8_t *buf,
			 size_t size, bool hidden)
{
	if (hidden) {
		if (!transfer->write)
			memset(buf, 0xff, size);
		return 0;
	}
	if (transfer->write)
		return uapi_region_write(transfer->device, transfer->index, offset, buf, size);
	return uapi_region_read(transfer->device, transfer->index, offset, buf, size);
}

static int access_planned(const struct transfer *transfer, uint8_t *buf, size_t size)
{
	int ret = 0;

	if (transfer->whole)
		return access_device(transfer, transfer->offset, buf, size, false);
	for (size_t done = 0; done < size && !ret;) {
		bool hidden, at_once;
		size_t piece = next_piece(transfer, transfer->offset + done, size - done, &hidden,
					  &at_once);

		ret = access_device(transfer, transfer->offset + done, buf + done, piece, hidden);
		done += piece;
	}
	return ret;
}

static ssize_t transfer_all(struct transfer *transfer)
{
	uint8_t buf[BUFFER_SIZE];
	ssize_t done = 0;

	while (transfer->left) {
		size_t size = plan(transfer);
		int ret = 0;

		if (transfer->write)
			ret = uapi_call_read(transfer->call, transfer->address, buf, size);
		if (!ret)
			ret = access_planned(transfer, buf, size);
		if (!ret && !transfer->write)
			ret = uapi_call_write(transfer->call, transfer->address, buf, size);
		if (ret)
			return ret;
		transfer->offset += size;
		transfer->address += size;
		transfer->left -= size;
		done += (ssize_t)size;
	}
	return done;
}

/* ---- Regions ---- */

static ssize_t access_config(struct transfer *transfer, const struct uvf_region_info *info)
{
	ssize_t ret;

	if (!uvf_range_inside(transfer->offset, transfer->left, info->size))
		return -EFAULT;
	transfer->width = 4;
	transfer->whole = true;
	ret = transfer_all(transfer);
	if (transfer->write)
		atomic_fetch_add(&transfer->device->session->config_writes, 1);
	return ret;
}

static ssize_t access_bar(struct transfer *transfer, const struct uvf_region_info *info)
{
	struct uapi_session *session = transfer->device->session;

	if (!session->is_io[transfer->index] && !uapi_session_memory_enabled(session))
		return -EIO;
	transfer->width = 8;
	transfer->areas = info->areas;
	transfer->area_count = info->area_count;
	if (session->msix_table.size && session->msix_table.bar == transfer->index) {
		transfer->hidden = session->msix_table.offset;
		transfer->hidden_end = transfer->hidden + session->msix_table.size;
	}
	return transfer_all(transfer);
}

static ssize_t access_region(struct transfer *transfer, const struct uvf_region_info *info)
{
	if (transfer->offset >= info->size)
		return -EINVAL;
	if (transfer->left > info->size - transfer->offset)
		transfer->left = info->size - transfer->offset;
	if (transfer->index < UAPI_BARS)
		return access_bar(transfer, info);
	if (transfer->write && transfer->index == VFIO_PCI_ROM_REGION_INDEX)
		return -EINVAL;
	transfer->width = 4;
	transfer->whole = true;
	return transfer_all(transfer);
}

ssize_t uapi_device_access(struct uapi_device *device, struct uapi_call *call,
			   const struct uapi_access *access)
{
	struct transfer transfer = {
		.device = device,
		.call = call,
		.write = access->write,
		.index = (uint32_t)(access->offset >> UAPI_REGION_SHIFT),
		.offset = access->offset & REGION_MASK,
		.address = access->address,
		.left = access->count < MAX_RW_COUNT ? access->count : MAX_RW_COUNT,
	};
	struct uvf_region_info info;

	if (access->offset > INT64_MAX || access->count > INT64_MAX)
		return -EINVAL;
	if (!access->count)
		return 0;
	if (uvf_region_get_info(device->dev, transfer.index, &info))
		return -EINVAL;
	if (transfer.index == VFIO_PCI_CONFIG_REGION_INDEX)
		return access_config(&transfer, &info);
	return access_region(&transfer, &info);
}

/* ---- mmap() ---- */

static bool is_mappable(const struct uapi_device *device, uint32_t index,
			const struct uvf_region_info *info)
{
	if (index < UAPI_BARS && device->session->is_io[index])
		return false;
	return info->area_count > 0 || uapi_device_traps(device, index, info);
}

long uapi_device_mmap(struct uapi_device *device, struct uapi_file *file, struct uapi_call *call,
		      const struct uapi_mmap *map)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint32_t index = (uint32_t)(map->offset >> UAPI_REGION_SHIFT);
	uint64_t offset = map->offset & REGION_MASK;
	int type = map->flags & MAP_TYPE;
	struct uapi_mmap whole = *map;
	struct uvf_region_info info;
	long result;
	int ret;

	if (map->offset & (page - 1) || map->offset > INT64_MAX || !map->size)
		return -EINVAL;
	if (map->size > UINT64_MAX - page)
		return -ENOMEM;
	whole.size = uvf_align_up(map->size, page);
	if (type == MAP_SHARED_VALIDATE && map->flags & MAP_SYNC)
		return -EOPNOTSUPP;
	if (type != MAP_SHARED && type != MAP_SHARED_VALIDATE)
		return -EINVAL;
	if (uvf_region_get_info(device->dev, index, &info) || !is_mappable(device, index, &info))
		return -EINVAL;
	if (!uvf_range_inside(offset, whole.size, info.size))
		return -EINVAL;
	if ((map->prot & PROT_READ && !(info.flags & VFIO_REGION_INFO_FLAG_READ)) ||
	    (map->prot & PROT_WRITE && !(info.flags & VFIO_REGION_INFO_FLAG_WRITE)))
		return -EINVAL;
	ret = uapi_known_begin_mapping(device, index, offset, whole.size);
	if (ret)
		return ret;
	result = uapi_tracer_map(call, device, index, offset, &whole,
				 uapi_device_traps(device, index, &info));
	/* Else the tracer does when it is mapped. */
	if (result != UAPI_TAKEN)
		uapi_known_end_mapping(device);
	return result;
}
