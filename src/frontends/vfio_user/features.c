/* SPDX-License-Identifier: BSD-3-Clause */
/* DEVICE_FEATURE, with the device's dirty log, and the data of a migration. */
#include <errno.h>
#include <string.h>
#include <uvfio/dirty.h>
#include <uvfio/migration.h>

#include "base/bytes.h"
#include "core/core.h"
#include "frontends/vfio_user/server.h"

/* Puts the feature's header and makes room for @size bytes of data behind it. */
static void *begin_answer(struct uvf_reply *reply, uint32_t flags, size_t size)
{
	struct uvf_wire_feature feature = {
		.argsz = (uint32_t)(sizeof(feature) + size),
		.flags = flags,
	};
	uint8_t *data = reply->payload + sizeof(feature);

	memcpy(reply->payload, &feature, sizeof(feature));
	reply->size = sizeof(feature) + size;
	return data;
}

/* How much the client takes, behind the feature's header. */
static size_t answer_room(const struct uvf_wire_request *request)
{
	return request->feature.argsz - sizeof(request->feature);
}

/* ---- The dirty log ---- */

/* All that a device writes is logged, wherever: the ranges are only looked at. */
static int start_logging(struct uvf_connection *connection, const struct uvf_wire_request *request,
			 struct uvf_reply *reply)
{
	struct vfio_device_feature_dma_logging_range ranges[UVF_LOGGING_RANGES_MAX];
	struct uvf_wire_logging_control control;
	size_t size = request->data_size - sizeof(control);
	uint8_t *answer;
	int ret;

	memcpy(&control, request->data, sizeof(control));
	if (size % sizeof(ranges[0]) || size / sizeof(ranges[0]) != control.num_ranges)
		return -EINVAL;
	if (control.num_ranges > UVF_LOGGING_RANGES_MAX)
		return -E2BIG;
	memcpy(ranges, request->data + sizeof(control), size);
	ret = uvf_device_logging_check(control.page_size, ranges, control.num_ranges);
	if (!ret)
		ret = uvf_device_logging_start(connection->server->dev);
	if (ret)
		return ret;
	control.page_size = UVF_LOGGING_GRANULE;
	answer = begin_answer(reply, request->feature.flags, request->data_size);
	memcpy(answer, &control, sizeof(control));
	memcpy(answer + sizeof(control), ranges, size);
	return 0;
}

static int stop_logging(struct uvf_connection *connection, const struct uvf_wire_request *request,
			struct uvf_reply *reply)
{
	int ret = uvf_device_logging_stop(connection->server->dev);

	if (!ret)
		begin_answer(reply, request->feature.flags, 0);
	return ret;
}

/* What is taken out of the log and doesn't arrive is of a client that is gone. */
static int report_logging(struct uvf_connection *connection, const struct uvf_wire_request *request,
			  struct uvf_reply *reply)
{
	struct uvf_wire_logging_report report;
	uint64_t bytes;
	uint8_t *answer;
	void *bitmap;

	memcpy(&report, request->data, sizeof(report));
	bytes = uvf_dirty_bitmap_size(report.length, report.page_size);
	if (!bytes)
		return -EINVAL;
	if (bytes > connection->max_bitmap_size)
		return -E2BIG;
	if (answer_room(request) < sizeof(report) + bytes)
		return -EINVAL;
	answer = begin_answer(reply, request->feature.flags, sizeof(report) + bytes);
	memcpy(answer, &report, sizeof(report));
	static_assert((sizeof(struct uvf_wire_header) + UVF_WIRE_FIXED_MAX) % 8 == 0,
		      "the bitmap in the reply's buffer is one of words");
	bitmap = answer + sizeof(report);
	memset(bitmap, 0, bytes);
	return uvf_device_logging_report(connection->server->dev, report.iova, report.length,
					 report.page_size, bitmap, bytes);
}

/* ---- Migration ---- */

static int precopy_info(struct uvf_connection *connection, const struct uvf_wire_request *request,
			struct uvf_reply *reply)
{
	struct uvf_wire_precopy_info info;
	int ret = uvf_migration_precopy_info(connection->server->dev, &info.initial_bytes,
					     &info.dirty_bytes);

	if (ret)
		return ret;
	if (answer_room(request) < sizeof(info))
		return -EINVAL;
	memcpy(begin_answer(reply, request->feature.flags, sizeof(info)), &info, sizeof(info));
	return 0;
}

/* -ENOMSG, nothing at the moment, is what size 0 says: see wire/protocol.h. */
int uvf_request_mig_data_read(struct uvf_connection *connection,
			      const struct uvf_wire_request *request, struct uvf_reply *reply)
{
	struct uvf_wire_mig_data wire;
	ssize_t size = uvf_migration_read(connection->server->dev, reply->payload + sizeof(wire),
					  request->mig_data.size);

	if (size == -ENOMSG)
		size = 0;
	if (size < 0)
		return (int)size;
	wire.size = (uint32_t)size;
	wire.argsz = (uint32_t)sizeof(wire) + wire.size;
	memcpy(reply->payload, &wire, sizeof(wire));
	reply->size = wire.argsz;
	return 0;
}

int uvf_request_mig_data_write(struct uvf_connection *connection,
			       const struct uvf_wire_request *request, struct uvf_reply *reply)
{
	ssize_t size =
		uvf_migration_write(connection->server->dev, request->data, request->data_size);

	if (size < 0)
		return (int)size;
	return (size_t)size == request->data_size ? 0 : -EIO;
}

/* ---- All features ---- */

/* What the core and the device know: bytes in, bytes out. */
static int any_feature(struct uvf_connection *connection, const struct uvf_wire_request *request,
		       struct uvf_reply *reply)
{
	const struct uvf_wire_feature *feature = &request->feature;
	size_t room =
		connection->reply_capacity - sizeof(struct uvf_wire_header) - sizeof(*feature);
	uint8_t *data = reply->payload + sizeof(*feature);
	ssize_t ret;

	if (request->data_size > room)
		return -E2BIG;
	if (room > answer_room(request))
		room = answer_room(request);
	if (room < request->data_size)
		return -EINVAL;
	/* What the feature's code is given beyond the request is not of an older message. */
	if (room > UVF_WIRE_VERSION_MAX && room > request->data_size)
		room = request->data_size > UVF_WIRE_VERSION_MAX ? request->data_size
								 : UVF_WIRE_VERSION_MAX;
	memset(data, 0, room);
	memcpy(data, request->data, request->data_size);
	ret = uvf_device_feature(connection->server->dev, feature->flags, data, room);
	if (ret < 0)
		return (int)ret;
	if ((size_t)ret > room)
		return -EIO;
	if (!(feature->flags & VFIO_DEVICE_FEATURE_GET) ||
	    feature->flags & VFIO_DEVICE_FEATURE_PROBE)
		ret = (ssize_t)request->data_size;
	begin_answer(reply, feature->flags, (size_t)ret);
	return 0;
}

static int set_state(struct uvf_connection *connection, const struct uvf_wire_request *request,
		     struct uvf_reply *reply)
{
	return uvf_migration_flags(connection->server->dev)
		       ? uvf_request_set_state(connection, request, reply)
		       : any_feature(connection, request, reply);
}

/* The features whose data are checked here. */
static const struct {
	uint32_t number, operation;
	size_t size; /* of the request's data */
	bool more;   /* can follow */
	int (*carry_out)(struct uvf_connection *connection, const struct uvf_wire_request *request,
			 struct uvf_reply *reply);
} features[] = {
	{VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_SET,
	 sizeof(struct vfio_device_feature_mig_state), false, set_state},
	{VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET,
	 sizeof(struct uvf_wire_logging_control), true, start_logging},
	{VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_SET, 0, false, stop_logging},
	{VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_GET,
	 sizeof(struct uvf_wire_logging_report), false, report_logging},
	{UVF_WIRE_FEATURE_PRECOPY_INFO, VFIO_DEVICE_FEATURE_GET, 0, false, precopy_info},
};

/* The core doesn't know this one: it is a call there. */
static int probe_precopy_info(struct uvf_connection *connection,
			      const struct uvf_wire_request *request, struct uvf_reply *reply)
{
	if (!(uvf_migration_flags(connection->server->dev) & VFIO_MIGRATION_PRE_COPY))
		return -ENOTTY;
	if (request->feature.flags & VFIO_DEVICE_FEATURE_SET || request->data_size)
		return -EINVAL;
	begin_answer(reply, request->feature.flags, 0);
	return 0;
}

int uvf_request_feature(struct uvf_connection *connection, const struct uvf_wire_request *request,
			struct uvf_reply *reply)
{
	uint32_t flags = request->feature.flags, number = flags & VFIO_DEVICE_FEATURE_MASK;

	if (flags & VFIO_DEVICE_FEATURE_PROBE)
		return number == UVF_WIRE_FEATURE_PRECOPY_INFO
			       ? probe_precopy_info(connection, request, reply)
			       : any_feature(connection, request, reply);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(features); i++) {
		if (features[i].number != number || !(features[i].operation & flags))
			continue;
		if (request->data_size < features[i].size ||
		    (request->data_size > features[i].size && !features[i].more))
			return -EINVAL;
		return features[i].carry_out(connection, request, reply);
	}
	return any_feature(connection, request, reply);
}
