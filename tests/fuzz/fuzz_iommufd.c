/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands into an iommufd and a device's cdev: structs of any size and content, on objects that
 * earlier ones made. Whatever comes, all that was made can be destroyed at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "frontends/uapi/iommufd.h"
#include "program.h"

/* What inputs know, beside where the program's memory is. */
#define PROGRAM_FILE 100
#define IOMMUFD	     101

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	bool is_made;
	struct uvf_run run;
	struct uapi_device device;
	struct uapi_device *devices[1];
	struct uapi_group group;
} target;

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void make_target(void)
{
	static const struct uvf_device_ops ops;
	int file = memfd_create("fuzz", MFD_CLOEXEC);

	must(!ftruncate(file, 4L * PAGE) && dup2(file, PROGRAM_FILE) == PROGRAM_FILE);
	make_program();
	target.run.config.aperture.last = (1ULL << 48) - 1;
	target.run.devices = &target.device;
	target.run.device_count = 1;
	target.run.groups = &target.group;
	target.run.group_count = 1;
	pthread_mutex_init(&target.run.topology, NULL);
	pthread_cond_init(&target.run.changed, NULL);
	target.devices[0] = &target.device;
	target.group = (struct uapi_group){
		.run = &target.run, .devices = target.devices, .device_count = 1};
	target.device.run = &target.run;
	target.device.group = &target.group;
	must(!uvf_device_new("fuzz", &ops, VFIO_DEVICE_FLAGS_PCI, NULL, &target.device.dev));
	must(!uapi_files_new(&target.run));
	target.is_made = true;
}

static struct uapi_call new_call(void)
{
	return (struct uapi_call){.run = &target.run, .thread = gettid(), .process = getpid()};
}

static void do_ioctl(int fd, unsigned command, uint64_t argument)
{
	struct uapi_call call = new_call();
	struct uapi_file *file = uapi_file_find(&call, fd);

	must(file);
	file->ops->ioctl(file, &call, command, argument);
	uapi_file_put(file);
}

/*
 * A piece: a byte of which command (from DESTROY on; then what an iommufd knows of type1, and the
 * cdev's), whose highest bit says that the struct's size is in it; a byte of length; the struct,
 * without its size where that bit is off.
 */
static void do_piece(int cdev, unsigned which, bool is_raw, const uint8_t *bytes, uint32_t length)
{
	static const unsigned others[] = {
		VFIO_GET_API_VERSION,
		VFIO_CHECK_EXTENSION,
		VFIO_SET_IOMMU,
		VFIO_IOMMU_GET_INFO,
		VFIO_IOMMU_MAP_DMA,
		VFIO_IOMMU_UNMAP_DMA,
		VFIO_DEVICE_BIND_IOMMUFD,
		VFIO_DEVICE_ATTACH_IOMMUFD_PT,
		VFIO_DEVICE_DETACH_IOMMUFD_PT,
	};
	uint32_t size = length + 4;

	memset(PROGRAM, 0, PAGE);
	memcpy(PROGRAM, &size, sizeof(size));
	memcpy(PROGRAM + (is_raw ? 0 : 4), bytes, length);
	if (which < 24)
		do_ioctl(IOMMUFD, _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + which), (uintptr_t)PROGRAM);
	else if (which < 26 + 1)
		do_ioctl(IOMMUFD, others[which - 24], length ? bytes[0] : 0);
	else if (which < 24 + 6)
		do_ioctl(IOMMUFD, others[which - 24], (uintptr_t)PROGRAM);
	else if (which < 24 + 9)
		do_ioctl(cdev, others[which - 24], (uintptr_t)PROGRAM);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct uapi_call call = new_call();
	struct uapi_file *file;
	uint32_t most = (uint32_t)(size / 2); /* objects that there can be */
	int fd, cdev;

	if (!target.is_made)
		make_target();
	must(!uapi_iommufd_open(&target.run, &file));
	fd = uapi_call_place(&call, file, O_CLOEXEC);
	must(fd >= 0 && dup2(fd, IOMMUFD) == IOMMUFD && !close(fd));
	must(!uapi_cdev_open(&target.device, &file));
	cdev = uapi_call_place(&call, file, O_CLOEXEC);
	must(cdev >= 0);
	while (size > 2) {
		uint32_t length = data[1] < size - 2 ? data[1] : (uint32_t)(size - 2);

		do_piece(cdev, data[0] & 0x7f, data[0] & 0x80, data + 2, length);
		data += 2 + length;
		size -= 2 + length;
	}
	close(cdev);
	uapi_files_drain_slow(&target.run);
	must(target.device.ownership == UAPI_FREE && !target.device.ioas);
	/* Page tables, then address spaces. */
	for (uint32_t id = 1; id <= most; id++)
		do_piece(-1, 0, false, (const uint8_t *)&id, sizeof(id));
	for (uint32_t id = 1; id <= most; id++) {
		struct uapi_call destroying = new_call();
		struct iommu_destroy destroy = {sizeof(destroy), id};

		file = uapi_file_find(&destroying, IOMMUFD);
		must(file);
		memcpy(PROGRAM, &destroy, sizeof(destroy));
		must(file->ops->ioctl(file, &destroying, IOMMU_DESTROY, (uintptr_t)PROGRAM) !=
		     -EBUSY);
		uapi_file_put(file);
	}
	close(IOMMUFD);
	uapi_files_drain_slow(&target.run);
	return 0;
}
