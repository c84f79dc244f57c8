/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VFIO_DEVICE_FEATURE of migration and of dirty logs, whose data are more than bytes: a descriptor
 * that the state is read from or written to, and pointers into the program.
 *
 * The descriptor is a file of ours like the others: each read() and write() is a call, so that
 * errors are exact, and nothing has to be pumped. A duplicate outside the reserved range of
 * numbers is none: it reads as ended.
 */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/dirty.h>
#include <uvfio/migration.h>

#include "base/bytes.h"
#include "core/core.h"
#include "frontends/uapi/call.h"

#define PIECE (256U << 10)

/* ---- The descriptor ---- */

struct data_file {
	struct uapi_file file;
	struct uapi_device *device;
	unsigned transfer; /* which of the device's: only the last is still one */
	bool writes;
};

/*
 * For as long as no other session can begin. -ENODEV: one has; what a descriptor of an older one
 * reads is not to be missing in it.
 */
static int enter_session(struct data_file *data)
{
	pthread_mutex_lock(&data->device->migrating);
	if (atomic_load(&data->device->transfers) == data->transfer)
		return 0;
	pthread_mutex_unlock(&data->device->migrating);
	return -ENODEV;
}

static void leave_session(struct data_file *data)
{
	pthread_mutex_unlock(&data->device->migrating);
}

static ssize_t read_state(struct data_file *data, struct uapi_call *call, void *piece,
			  uint64_t address, uint64_t count)
{
	ssize_t size = enter_session(data);

	if (size)
		return size;
	size = uvf_migration_read(data->device->dev, piece, count);
	leave_session(data);
	if (size > 0 && uapi_call_write(call, address, piece, (size_t)size))
		return -EFAULT;
	return size;
}

static ssize_t write_state(struct data_file *data, struct uapi_call *call, void *piece,
			   uint64_t address, uint64_t count)
{
	ssize_t ret;

	if (uapi_call_read(call, address, piece, count))
		return -EFAULT;
	ret = enter_session(data);
	if (ret)
		return ret;
	ret = uvf_migration_write(data->device->dev, piece, count);
	leave_session(data);
	return ret;
}

/* What was moved counts: an error after that shows at the next call. */
static ssize_t data_access(struct uapi_file *file, struct uapi_call *call,
			   const struct uapi_access *access)
{
	struct data_file *data = (struct data_file *)file;
	uint64_t done = 0;
	ssize_t ret = enter_session(data);
	void *piece;

	if (ret)
		return ret;
	leave_session(data);
	if (access->write != data->writes)
		return -EBADF;
	piece = malloc(access->count < PIECE ? (size_t)access->count + 1 : PIECE);
	if (!piece)
		return -ENOMEM;
	while (done < access->count) {
		uint64_t count = access->count - done < PIECE ? access->count - done : PIECE;

		ret = (access->write ? write_state : read_state)(data, call, piece,
								 access->address + done, count);
		if (ret <= 0)
			break;
		done += (uint64_t)ret;
	}
	free(piece);
	return done ? (ssize_t)done : ret;
}

static long get_precopy_info(struct data_file *data, struct uapi_call *call, uint64_t argument)
{
	struct vfio_precopy_info info;
	uint64_t initial, dirty;
	int ret = uapi_call_read_sized(call, argument, &info, sizeof(info), sizeof(info));

	if (ret)
		return ret;
	ret = enter_session(data);
	if (ret)
		return ret;
	ret = uvf_migration_precopy_info(data->device->dev, &initial, &dirty);
	leave_session(data);
	if (ret)
		return ret;
	info.flags = 0;
	info.initial_bytes = initial;
	info.dirty_bytes = dirty;
	return uapi_call_write(call, argument, &info, sizeof(info));
}

static long data_ioctl(struct uapi_file *file, struct uapi_call *call, unsigned command,
		       uint64_t argument)
{
	struct data_file *data = (struct data_file *)file;

	if (command != VFIO_MIG_GET_PRECOPY_INFO || data->writes)
		return -ENOTTY;
	return get_precopy_info(data, call, argument);
}

static void data_release(struct uapi_file *file)
{
}

static const struct uapi_file_ops data_file_ops = {
	.name = "migration",
	.ioctl = data_ioctl,
	.access = data_access,
	.release = data_release,
};

int uapi_migration_place_file(struct uapi_device *device, struct uapi_call *call, bool writes)
{
	struct data_file *data = calloc(1, sizeof(*data));
	int ret;

	if (!data)
		return -ENOMEM;
	data->device = device;
	data->writes = writes;
	data->transfer = atomic_fetch_add(&device->transfers, 1) + 1;
	ret = uapi_file_init(&data->file, device->run, &data_file_ops, 0);
	if (ret) {
		free(data);
		return ret;
	}
	data->file.access_mode = writes ? O_WRONLY : O_RDONLY;
	return uapi_call_place(call, &data->file, O_CLOEXEC);
}

/* ---- Dirty logs ---- */

/* All that a device writes is logged, wherever: the ranges are only looked at. */
static long start_logging(struct uapi_device *device, struct uapi_call *call, uint64_t address)
{
	struct vfio_device_feature_dma_logging_range ranges[UVF_LOGGING_RANGES_MAX];
	struct vfio_device_feature_dma_logging_control control;
	int ret;

	if (uapi_call_read(call, address, &control, sizeof(control)))
		return -EFAULT;
	if (!control.num_ranges || !uvf_is_power_of_two(control.page_size))
		return -EINVAL;
	if (control.num_ranges > UVF_LOGGING_RANGES_MAX)
		return -E2BIG;
	if (uapi_call_read(call, control.ranges, ranges, control.num_ranges * sizeof(ranges[0])))
		return -EFAULT;
	ret = uvf_device_logging_check(control.page_size, ranges, control.num_ranges);
	if (ret)
		return ret;
	return uvf_device_logging_start(device->dev);
}

/* Adds what was found to the program's bitmap; the words in which nothing is are not touched. */
static int add_to_bitmap(struct uapi_call *call, uint64_t address, uint64_t *bitmap, size_t words)
{
	for (size_t first = 0; first < words;) {
		uint64_t theirs[64];
		size_t count = words - first < 64 ? words - first : 64, any = 0;

		for (size_t i = 0; i < count; i++)
			any |= bitmap[first + i] != 0;
		if (any) {
			uint64_t at = address + first * 8;

			if (uapi_call_read(call, at, theirs, count * 8))
				return -EFAULT;
			for (size_t i = 0; i < count; i++)
				theirs[i] |= bitmap[first + i];
			if (uapi_call_write(call, at, theirs, count * 8))
				return -EFAULT;
		}
		first += count;
	}
	return 0;
}

/* A piece of the range: its bits are whole words of the program's bitmap, but for the last ones. */
static int report_piece(struct uapi_device *device, struct uapi_call *call,
			const struct vfio_device_feature_dma_logging_report *report,
			uint64_t offset, uint64_t size, uint64_t *bitmap)
{
	uint64_t bytes = uvf_dirty_bitmap_size(size, report->page_size);
	uint64_t at = report->bitmap + offset / report->page_size / 8;
	uvf_iova_t iova = report->iova + offset;
	uint8_t byte;
	int ret;

	/* All of the bitmap has to be there: no program can make this go on for long by a range. */
	if (uapi_call_read(call, at, &byte, sizeof(byte)))
		return -EFAULT;
	memset(bitmap, 0, bytes);
	ret = uvf_device_logging_report(device->dev, iova, size, report->page_size, bitmap, bytes);
	if (ret)
		return ret;
	ret = add_to_bitmap(call, at, bitmap, bytes / 8);
	if (ret)
		uvf_device_logging_restore(device->dev, iova, size, report->page_size, bitmap);
	return ret;
}

static long report_logging(struct uapi_device *device, struct uapi_call *call, uint64_t address)
{
	struct vfio_device_feature_dma_logging_report report;
	uint64_t end, piece, *bitmap;
	int ret = 0;

	if (uapi_call_read(call, address, &report, sizeof(report)))
		return -EFAULT;
	if (report.page_size < 4096 || !uvf_is_power_of_two(report.page_size) ||
	    !uvf_is_aligned(report.iova | report.length, report.page_size))
		return -EINVAL;
	if (__builtin_add_overflow(report.iova, report.length, &end))
		return -EOVERFLOW;
	bitmap = malloc(PIECE);
	if (!bitmap)
		return -ENOMEM;
	if (__builtin_mul_overflow(report.page_size, PIECE * 8ULL, &piece))
		piece = report.length;
	for (uint64_t offset = 0; offset < report.length && !ret; offset += piece) {
		uint64_t size = report.length - offset < piece ? report.length - offset : piece;

		ret = report_piece(device, call, &report, offset, size, bitmap);
		if (size < piece)
			break;
	}
	free(bitmap);
	return ret;
}

static long stop_logging(struct uapi_device *device, struct uapi_call *call, uint64_t address)
{
	return uvf_device_logging_stop(device->dev);
}

/* ---- Which ---- */

static const struct {
	uint32_t feature, operation;
	long (*carry_out)(struct uapi_device *device, struct uapi_call *call, uint64_t address);
} features[] = {
	{VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_SET, uapi_device_set_state},
	{VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET, start_logging},
	{VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_SET, stop_logging},
	{VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_GET, report_logging},
};

bool uapi_migration_feature(struct uapi_device *device, struct uapi_call *call, uint64_t address,
			    uint32_t flags, long *result)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(features); i++)
		if (features[i].feature == (flags & VFIO_DEVICE_FEATURE_MASK) &&
		    flags & features[i].operation) {
			*result = features[i].carry_out(device, call, address);
			return true;
		}
	return false;
}
