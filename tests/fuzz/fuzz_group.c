/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Containers, groups, devices and iommufds in any order: opened, set to one another, asked, copied
 * and closed, with type1's structs of any content. Whatever comes, when the last descriptor is gone
 * nobody owns anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/uapi.h"
#include "program.h"

#define DEVICES 3
#define FDS	12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	bool is_made;
	struct uvf_run run;
	struct uapi_device devices[DEVICES];
	struct uapi_device *members[DEVICES];
	struct uapi_group groups[2]; /* of devices 0 and 1, and of 2 */
	int fds[FDS];		     /* -1: none */
} target;

static void must(bool holds)
{
	if (!holds)
		abort();
}

static int open_device(struct uvf_device *dev)
{
	bool *refuses = uvf_device_opaque(dev);

	return *refuses ? -EIO : 0;
}

static bool devices_refuse;

static void make_target(void)
{
	static const struct uvf_device_ops ops = {.open = open_device};

	make_program();
	target.run.config.page_sizes = PAGE;
	target.run.config.aperture.last = (1ULL << 48) - 1;
	target.run.config.max_mappings = 64;
	target.run.devices = target.devices;
	target.run.device_count = DEVICES;
	target.run.groups = target.groups;
	target.run.group_count = 2;
	pthread_mutex_init(&target.run.topology, NULL);
	pthread_cond_init(&target.run.changed, NULL);
	for (unsigned i = 0; i < DEVICES; i++) {
		struct uapi_device *device = &target.devices[i];

		target.members[i] = device;
		device->run = &target.run;
		device->number = i;
		device->group = &target.groups[i / 2];
		memcpy(device->address, "0000:0x:00.0", 13);
		device->address[6] = (char)('1' + i);
		must(!uvf_device_new("fuzz", &ops, VFIO_DEVICE_FLAGS_PCI, &devices_refuse,
				     &device->dev));
	}
	target.groups[0] = (struct uapi_group){
		.run = &target.run, .devices = &target.members[0], .device_count = 2};
	target.groups[1] = (struct uapi_group){
		.run = &target.run, .number = 1, .devices = &target.members[2], .device_count = 1};
	must(!uapi_files_new(&target.run));
	for (unsigned i = 0; i < FDS; i++)
		target.fds[i] = -1;
	target.is_made = true;
}

static struct uapi_call new_call(void)
{
	return (struct uapi_call){.run = &target.run, .thread = gettid(), .process = getpid()};
}

static void drop(unsigned slot)
{
	if (target.fds[slot] >= 0)
		close(target.fds[slot]);
	target.fds[slot] = -1;
}

/* What is there is closed, as by dup2(): @fd is in its place. */
static void keep(unsigned slot, long fd)
{
	drop(slot);
	if (fd >= 0)
		target.fds[slot] = (int)fd;
}

static void open_file(unsigned slot, unsigned kind)
{
	struct uapi_call call = new_call();
	struct uapi_file *file;
	int error;

	switch (kind % 8) {
	case 0:
	case 1:
		error = uapi_group_open(&target.groups[kind % 8], &file);
		break;
	case 2:
	case 3:
	case 4:
		error = uapi_cdev_open(&target.devices[kind % 8 - 2], &file);
		break;
	case 5:
		error = uapi_iommufd_open(&target.run, &file);
		break;
	default:
		error = uapi_container_open(&target.run, &file);
	}
	keep(slot, error ? error : uapi_call_place(&call, file, O_CLOEXEC));
}

static long do_ioctl(unsigned slot, unsigned command, uint64_t argument)
{
	struct uapi_call call = new_call();
	struct uapi_file *file = uapi_file_find(&call, target.fds[slot]);
	long ret = -EBADF;

	if (!file)
		return ret;
	if (uapi_file_enter(file)) {
		ret = file->ops->ioctl(file, &call, command, argument);
		uapi_file_leave(file);
	}
	uapi_file_put(file);
	return ret;
}

/* With @size bytes of @argument where the program can have them. */
static long do_ioctl_with(unsigned slot, unsigned command, const void *argument, size_t size)
{
	memcpy(PROGRAM, argument, size);
	return do_ioctl(slot, command, (uintptr_t)PROGRAM);
}

static void get_device(unsigned slot, unsigned group, unsigned device)
{
	const char *name = target.devices[device % DEVICES].address;

	keep(slot, do_ioctl_with(group, VFIO_GROUP_GET_DEVICE_FD, name, strlen(name) + 1));
}

static void bind_device(unsigned cdev, unsigned iommufd)
{
	struct vfio_device_bind_iommufd bind = {.argsz = 16, .iommufd = target.fds[iommufd]};

	do_ioctl_with(cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind, sizeof(bind));
}

/* Gives how many of the @size bytes it used: the struct that follows. */
static size_t do_command(unsigned slot, unsigned which, const uint8_t *bytes, size_t size)
{
	static const unsigned commands[] = {
		VFIO_IOMMU_MAP_DMA,	    VFIO_IOMMU_UNMAP_DMA, VFIO_IOMMU_GET_INFO,
		VFIO_IOMMU_DIRTY_PAGES,	    VFIO_CHECK_EXTENSION, VFIO_GROUP_GET_STATUS,
		VFIO_GROUP_UNSET_CONTAINER,
	};
	size_t length = size > 0 ? bytes[0] % 64 : 0;

	if (length > size)
		length = size;
	do_ioctl_with(slot, commands[which % (sizeof(commands) / sizeof(commands[0]))], bytes,
		      length);
	return length;
}

static void end(void)
{
	for (unsigned i = 0; i < FDS; i++)
		drop(i);
	uapi_files_drain_slow(&target.run);
	for (unsigned i = 0; i < DEVICES; i++)
		must(target.devices[i].ownership == UAPI_FREE && !target.devices[i].ioas &&
		     !target.devices[i].iommufd && uvf_device_open(target.devices[i].dev) == 0);
	for (unsigned i = 0; i < DEVICES; i++)
		uvf_device_close(target.devices[i].dev);
	for (unsigned i = 0; i < 2; i++)
		must(!target.groups[i].file && !target.groups[i].container &&
		     !target.groups[i].owner && !target.groups[i].users &&
		     !target.groups[i].bound && !target.groups[i].claims &&
		     !target.groups[i].closing);
}

/* A step: three bytes (what, and two descriptors or numbers), and for some a struct. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!target.is_made)
		make_target();
	for (; size >= 3; data += 3, size -= 3) {
		unsigned one = data[1] % FDS, other = data[2] % FDS;
		size_t used = 0;

		switch (data[0] % 9) {
		case 0:
			open_file(one, data[2]);
			break;
		case 1:
			drop(one);
			break;
		case 2:
			keep(one, target.fds[other] < 0 ? -1 : dup(target.fds[other]));
			break;
		case 3:
			do_ioctl_with(one, VFIO_GROUP_SET_CONTAINER, &target.fds[other],
				      sizeof(target.fds[other]));
			break;
		case 4:
			do_ioctl(one, VFIO_SET_IOMMU, data[2] % 12);
			break;
		case 5:
			get_device(one, other, data[0] / 9);
			break;
		case 6:
			bind_device(one, other);
			break;
		case 7:
			used = do_command(one, data[2], data + 3, size - 3);
			break;
		case 8:
			devices_refuse = data[1] == 1;
			break;
		}
		data += used;
		size -= used;
	}
	devices_refuse = false;
	end();
	return 0;
}
