/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests as checked structs: a row a command. */
#include "wire/request.h"

#include <errno.h>
#include <string.h>
#include <uvfio/uapi.h>

#include "base/bytes.h"

struct row {
	size_t fixed; /* size of what is always there */
	bool data;    /* more may follow */
	size_t max_fds;
	int (*check)(const struct uvf_wire_request *request, const struct uvf_wire_limits *limits);
};

static int check_version(const struct uvf_wire_request *request,
			 const struct uvf_wire_limits *limits)
{
	/* Text ends with its NUL, and holds no other. */
	if (request->data_size &&
	    memchr(request->data, 0, request->data_size) != request->data + request->data_size - 1)
		return -EINVAL;
	return 0;
}

static int check_dma_map(const struct uvf_wire_request *request,
			 const struct uvf_wire_limits *limits)
{
	const struct uvf_wire_dma_map *map = &request->dma_map;

	if (map->argsz < sizeof(*map) ||
	    map->flags & ~(uint32_t)(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE))
		return -EINVAL;
	return 0;
}

static int check_dma_unmap(const struct uvf_wire_request *request,
			   const struct uvf_wire_limits *limits)
{
	const struct uvf_wire_dma_unmap *unmap = &request->dma_unmap;

	if (unmap->argsz < sizeof(*unmap) || unmap->flags & ~(uint32_t)VFIO_DMA_UNMAP_FLAG_ALL)
		return -EINVAL;
	if (unmap->flags & VFIO_DMA_UNMAP_FLAG_ALL && (unmap->address || unmap->size))
		return -EINVAL;
	return 0;
}

static int check_device_info(const struct uvf_wire_request *request,
			     const struct uvf_wire_limits *limits)
{
	return request->device_info.argsz < sizeof(request->device_info) ? -EINVAL : 0;
}

static int check_region_info(const struct uvf_wire_request *request,
			     const struct uvf_wire_limits *limits)
{
	return request->region_info.argsz < sizeof(request->region_info) ? -EINVAL : 0;
}

static int check_region_io_fds(const struct uvf_wire_request *request,
			       const struct uvf_wire_limits *limits)
{
	const struct uvf_wire_region_io_fds *io_fds = &request->region_io_fds;

	return io_fds->argsz < sizeof(*io_fds) || io_fds->flags || io_fds->count ? -EINVAL : 0;
}

static int check_irq_info(const struct uvf_wire_request *request,
			  const struct uvf_wire_limits *limits)
{
	return request->irq_info.argsz < sizeof(request->irq_info) ? -EINVAL : 0;
}

static int check_irq_set(const struct uvf_wire_request *request,
			 const struct uvf_wire_limits *limits)
{
	const struct uvf_wire_irq_set *set = &request->irq_set;
	uint32_t data = set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	uint32_t action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
	uint32_t last;

	if (set->argsz < sizeof(*set) || set->flags != (data | action) ||
	    !uvf_is_power_of_two(data) || !uvf_is_power_of_two(action) ||
	    __builtin_add_overflow(set->start, set->count, &last))
		return -EINVAL;
	if (request->data_size != (data == VFIO_IRQ_SET_DATA_BOOL ? set->count : 0))
		return -EINVAL;
	/* No descriptors at all: take those away that are there. */
	if (request->fd_count &&
	    (data != VFIO_IRQ_SET_DATA_EVENTFD || request->fd_count != set->count))
		return -EINVAL;
	if (!set->count && (data != VFIO_IRQ_SET_DATA_NONE || set->start))
		return -EINVAL;
	return 0;
}

static int check_count(uint64_t count, const struct uvf_wire_limits *limits)
{
	if (!count)
		return -EINVAL;
	return count > limits->max_data_xfer_size ? -E2BIG : 0;
}

static int check_region_read(const struct uvf_wire_request *request,
			     const struct uvf_wire_limits *limits)
{
	return check_count(request->region_access.count, limits);
}

static int check_region_write(const struct uvf_wire_request *request,
			      const struct uvf_wire_limits *limits)
{
	if (request->data_size != request->region_access.count)
		return -EINVAL;
	return check_count(request->region_access.count, limits);
}

static int check_dma_read(const struct uvf_wire_request *request,
			  const struct uvf_wire_limits *limits)
{
	return check_count(request->dma_access.count, limits);
}

static int check_dma_write(const struct uvf_wire_request *request,
			   const struct uvf_wire_limits *limits)
{
	if (request->data_size != request->dma_access.count)
		return -EINVAL;
	return check_count(request->dma_access.count, limits);
}

static int check_write_multi(const struct uvf_wire_request *request,
			     const struct uvf_wire_limits *limits)
{
	uint64_t count = request->write_multi.count;

	if (!count || request->data_size % sizeof(struct uvf_wire_write) ||
	    request->data_size / sizeof(struct uvf_wire_write) != count)
		return -EINVAL;
	for (uint64_t i = 0; i < count; i++) {
		struct uvf_wire_write write = uvf_wire_write_nth(request, i);

		if (!write.count || write.count > sizeof(write.data))
			return -EINVAL;
	}
	return 0;
}

static int check_feature(const struct uvf_wire_request *request,
			 const struct uvf_wire_limits *limits)
{
	const struct uvf_wire_feature *feature = &request->feature;
	uint32_t both = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;

	if (feature->argsz < sizeof(*feature) ||
	    feature->flags &
		    ~(uint32_t)(VFIO_DEVICE_FEATURE_MASK | both | VFIO_DEVICE_FEATURE_PROBE))
		return -EINVAL;
	if (!(feature->flags & VFIO_DEVICE_FEATURE_PROBE) &&
	    !uvf_is_power_of_two(feature->flags & both))
		return -EINVAL;
	return 0;
}

static int check_mig_data_read(const struct uvf_wire_request *request,
			       const struct uvf_wire_limits *limits)
{
	const struct uvf_wire_mig_data *mig_data = &request->mig_data;

	/* Less than was asked for would mean that there is no more. */
	if (mig_data->argsz < sizeof(*mig_data) ||
	    mig_data->argsz - sizeof(*mig_data) < mig_data->size)
		return -EINVAL;
	return check_count(mig_data->size, limits);
}

static int check_mig_data_write(const struct uvf_wire_request *request,
				const struct uvf_wire_limits *limits)
{
	const struct uvf_wire_mig_data *mig_data = &request->mig_data;

	if (mig_data->argsz < sizeof(*mig_data) || request->data_size != mig_data->size)
		return -EINVAL;
	return check_count(mig_data->size, limits);
}

static int check_region_mapping(const struct uvf_wire_request *request,
				const struct uvf_wire_limits *limits)
{
	const struct uvf_user_region_mapping *mapping = &request->region_mapping;

	if (mapping->argsz < sizeof(*mapping) || mapping->flags || mapping->reserved)
		return -EINVAL;
	return 0;
}

static const struct row rows[] = {
	[VFIO_USER_VERSION] = {sizeof(struct uvf_wire_version), true, 0, check_version},
	[VFIO_USER_DMA_MAP] = {sizeof(struct uvf_wire_dma_map), false, 1, check_dma_map},
	[VFIO_USER_DMA_UNMAP] = {sizeof(struct uvf_wire_dma_unmap), false, 0, check_dma_unmap},
	[VFIO_USER_DEVICE_GET_INFO] = {sizeof(struct uvf_wire_device_info), false, 0,
				       check_device_info},
	[VFIO_USER_DEVICE_GET_REGION_INFO] = {sizeof(struct uvf_wire_region_info), false, 0,
					      check_region_info},
	[VFIO_USER_DEVICE_GET_REGION_IO_FDS] = {sizeof(struct uvf_wire_region_io_fds), false, 0,
						check_region_io_fds},
	[VFIO_USER_DEVICE_GET_IRQ_INFO] = {sizeof(struct uvf_wire_irq_info), false, 0,
					   check_irq_info},
	[VFIO_USER_DEVICE_SET_IRQS] = {sizeof(struct uvf_wire_irq_set), true, UVF_FDPASS_MAX,
				       check_irq_set},
	[VFIO_USER_REGION_READ] = {sizeof(struct uvf_wire_region_access), false, 0,
				   check_region_read},
	[VFIO_USER_REGION_WRITE] = {sizeof(struct uvf_wire_region_access), true, 0,
				    check_region_write},
	[VFIO_USER_DMA_READ] = {sizeof(struct uvf_wire_dma_access), false, 0, check_dma_read},
	[VFIO_USER_DMA_WRITE] = {sizeof(struct uvf_wire_dma_access), true, 0, check_dma_write},
	[VFIO_USER_DEVICE_RESET] = {0, false, 0, NULL},
	[VFIO_USER_REGION_WRITE_MULTI] = {sizeof(struct uvf_wire_write_multi), true, 0,
					  check_write_multi},
	[VFIO_USER_DEVICE_FEATURE] = {sizeof(struct uvf_wire_feature), true, 0, check_feature},
	[VFIO_USER_MIG_DATA_READ] = {sizeof(struct uvf_wire_mig_data), false, 0,
				     check_mig_data_read},
	[VFIO_USER_MIG_DATA_WRITE] = {sizeof(struct uvf_wire_mig_data), true, 0,
				      check_mig_data_write},
};

/* Of the extension, by their distance from the first. */
static const struct row area_rows[] = {
	{sizeof(struct uvf_user_region_mapping), false, 0, check_region_mapping},
	{sizeof(struct uvf_user_region_mapping), false, 0, check_region_mapping},
};
static_assert(UVF_USER_REGION_UNMAPPED == UVF_USER_REGION_MAPPED + 1, "rows");

static const struct row *find_row(uint16_t command, const struct uvf_wire_limits *limits)
{
	if (command < UVF_ARRAY_SIZE(rows))
		return &rows[command];
	if (limits->areas && command >= UVF_USER_REGION_MAPPED &&
	    command <= UVF_USER_REGION_UNMAPPED)
		return &area_rows[command - UVF_USER_REGION_MAPPED];
	return &rows[0];
}

int uvf_wire_decode(const struct uvf_message *message, const struct uvf_wire_limits *limits,
		    struct uvf_wire_request *request)
{
	uint16_t command = message->header.command;
	const struct row *row = find_row(command, limits);

	*request = (struct uvf_wire_request){
		.id = message->header.id,
		.command = command,
		.no_reply = message->header.flags & UVF_WIRE_NO_REPLY,
		.fds = message->fds,
		.fd_count = message->fd_count,
	};
	if (!row->check && command != VFIO_USER_DEVICE_RESET)
		return -EOPNOTSUPP;
	if (message->payload_size < row->fixed || message->fd_count > row->max_fds)
		return -EINVAL;
	if (message->payload_size > row->fixed && !row->data)
		return -EINVAL;
	memcpy(&request->version, message->payload, row->fixed);
	request->data = message->payload + row->fixed;
	request->data_size = message->payload_size - row->fixed;
	return row->check ? row->check(request, limits) : 0;
}

struct uvf_wire_write uvf_wire_write_nth(const struct uvf_wire_request *request, uint64_t index)
{
	struct uvf_wire_write write;

	memcpy(&write, request->data + index * sizeof(write), sizeof(write));
	return write;
}
