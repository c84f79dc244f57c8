/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device's dirty log, which the far end keeps: it knows what it writes to the driver's memory.
 * What it writes by messages is logged here too, as not every server logs that; and what a report
 * took from there and couldn't pass on is kept here for the next.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/dirty.h>

#include "base/bytes.h"
#include "core/core.h"
#include "devices/vfio_user_client/client.h"

static int start_far(struct client *client)
{
	/* No ranges: all that it writes. */
	const struct uvf_wire_logging_control wire = {.page_size = UVF_LOGGING_GRANULE};
	struct uvf_wire_logging_control answer;
	bool refused;
	ssize_t size =
		client_ask(client, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
			   &wire, sizeof(wire), &answer, sizeof(answer), &refused);

	if (size < 0)
		return (int)size;
	if (size != sizeof(answer) || !uvf_is_power_of_two(answer.page_size) || answer.num_ranges)
		return client_violation(client, "to the start of a log");
	return 0;
}

static int client_logging_start(struct uvf_device *dev)
{
	struct client *client = uvf_device_opaque(dev);
	int ret = uvf_attachment_log_start(client->attachment, UVF_LOGGING_GRANULE);

	if (ret)
		return ret;
	ret = start_far(client);
	if (ret)
		uvf_attachment_log_stop(client->attachment);
	return ret;
}

static void client_logging_stop(struct uvf_device *dev)
{
	struct client *client = uvf_device_opaque(dev);
	bool refused;

	if (!uvf_attachment_log_is_on(client->attachment))
		return;
	uvf_attachment_log_stop(client->attachment);
	client_ask(client, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0,
		   NULL, 0, &refused);
}

/* ---- Reports ---- */

/* What comes back of a request for one. */
struct report_answer {
	struct uvf_wire_feature feature;
	struct uvf_wire_logging_report report;
};
static_assert(sizeof(struct report_answer) == UVF_WIRE_FIXED_MAX, "no padding");

/*
 * Adds the far end's report, in one message, to @bitmap, unless that is NULL; @words is as large as
 * it.
 */
static int report_piece(struct client *client, const struct uvf_wire_logging_report *report,
			uint64_t *words, uint64_t *bitmap)
{
	uint64_t bytes = uvf_dirty_bitmap_size(report->length, report->page_size);
	uint64_t pages = report->length / report->page_size;
	struct report_answer wire = {
		.feature =
			{
				.argsz = (uint32_t)(sizeof(wire) + bytes),
				.flags = VFIO_DEVICE_FEATURE_GET |
					 VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
			},
		.report = *report,
	};
	struct report_answer answer;
	struct uvf_call call = {
		.command = VFIO_USER_DEVICE_FEATURE,
		.fixed = &wire,
		.fixed_size = sizeof(wire),
		.reply = &answer,
		.reply_size = sizeof(answer),
		.reply_data = words,
		.reply_data_max = bytes,
	};
	int ret = client_call(client, &call);

	if (ret < 0)
		return ret;
	if (call.reply_data_size != bytes || answer.feature.flags != wire.feature.flags ||
	    memcmp(&answer.report, report, sizeof(*report)) != 0)
		return client_violation(client, "to a report of its log");
	/* Nothing beyond the range is the caller's. */
	if (pages % 64)
		words[pages / 64] &= (1ULL << pages % 64) - 1;
	for (uint64_t i = 0; bitmap && i < bytes / 8; i++)
		bitmap[i] |= words[i];
	return 0;
}

static int report_far(struct client *client, uvf_iova_t iova, uint64_t size, uint64_t page_size,
		      uint64_t *bitmap)
{
	uint64_t bytes = uvf_dirty_bitmap_size(size, page_size), piece;
	uint64_t *words;
	int ret = 0;

	if (bytes > client->max_bitmap)
		bytes = client->max_bitmap;
	if (__builtin_mul_overflow(bytes * 8, page_size, &piece))
		piece = size;
	words = malloc(bytes);
	if (!words)
		return -ENOMEM;
	for (uint64_t done = 0, next; done < size && !ret; done += next) {
		struct uvf_wire_logging_report report = {.iova = iova + done,
							 .page_size = page_size};

		next = report.length = size - done < piece ? size - done : piece;
		ret = report_piece(client, &report, words,
				   bitmap ? bitmap + done / page_size / 64 : NULL);
	}
	free(words);
	return ret;
}

static int client_logging_report(struct uvf_device *dev, uvf_iova_t iova, uint64_t size,
				 uint64_t page_size, uint64_t *bitmap, uint64_t bitmap_size)
{
	struct client *client = uvf_device_opaque(dev);
	/* First, as it checks what is asked. */
	int ret = uvf_attachment_log_report(client->attachment, iova, size, page_size, bitmap,
					    bitmap_size);

	if (ret)
		return ret;
	ret = report_far(client, iova, size, page_size, bitmap);
	if (ret && bitmap)
		uvf_attachment_log_restore(client->attachment, iova, size, page_size, bitmap);
	return ret;
}

static void client_logging_restore(struct uvf_device *dev, uvf_iova_t iova, uint64_t size,
				   uint64_t page_size, const uint64_t *bitmap)
{
	struct client *client = uvf_device_opaque(dev);

	uvf_attachment_log_restore(client->attachment, iova, size, page_size, bitmap);
}

static const struct uvf_logging_way way = {
	.start = client_logging_start,
	.stop = client_logging_stop,
	.report = client_logging_report,
	.restore = client_logging_restore,
};

int client_discover_logging(struct client *client)
{
	bool starts, reports = false;
	int ret = client_probe(
		client, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &starts);

	if (!ret && starts)
		ret = client_probe(client,
				   VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
				   &reports);
	client->max_bitmap = client->server.max_bitmap_size;
	if (client->max_bitmap > client->max_count)
		client->max_bitmap = client->max_count;
	client->max_bitmap &= ~7ULL;
	if (reports && client->max_bitmap)
		uvf_device_set_logging_way(client->dev, &way);
	return ret;
}
