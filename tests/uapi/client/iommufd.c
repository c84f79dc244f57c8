/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine as a file of its own, bound to an iommufd. The iommufd's structs are declared here:
 * the oldest headers that this is built with don't have them.
 */
#include "engine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DESTROY	    0x3b80
#define IOAS_ALLOC  0x3b81
#define IOAS_MAP    0x3b85
#define IOAS_UNMAP  0x3b86
#define HWPT_ALLOC  0x3b89
#define DEVICE_BIND 0x3b76
#define ATTACH	    0x3b77
#define DETACH	    0x3b78

static uint32_t ioas_alloc(int iommufd)
{
	uint32_t arguments[3] = {sizeof(arguments)};

	must(ioctl(iommufd, IOAS_ALLOC, arguments), "IOAS_ALLOC");
	return arguments[2];
}

static void ioas_map(int iommufd, uint32_t ioas, const void *memory)
{
	struct {
		uint32_t size, flags, ioas, reserved;
		uint64_t address, length, iova;
	} map = {sizeof(map), 7, ioas, 0, (uintptr_t)memory, MEMORY, IOVA};

	must(ioctl(iommufd, IOAS_MAP, &map), "IOAS_MAP");
}

static void ioas_unmap_all(int iommufd, uint32_t ioas)
{
	struct {
		uint32_t size, ioas;
		uint64_t iova, length;
	} unmap = {sizeof(unmap), ioas, 0, UINT64_MAX};

	must(ioctl(iommufd, IOAS_UNMAP, &unmap), "IOAS_UNMAP");
	if (unmap.length != MEMORY)
		die("unmapped %llx", (unsigned long long)unmap.length);
}

static uint32_t hwpt_alloc(int iommufd, uint32_t device, uint32_t ioas)
{
	struct {
		uint32_t size, flags, device, table, hwpt, reserved;
	} alloc = {sizeof(alloc), 0, device, ioas, 0, 0};

	must(ioctl(iommufd, HWPT_ALLOC, &alloc), "HWPT_ALLOC");
	return alloc.hwpt;
}

static int destroy(int iommufd, uint32_t id)
{
	uint32_t arguments[2] = {sizeof(arguments), id};

	return ioctl(iommufd, DESTROY, arguments);
}

static void attach(int device, uint32_t table)
{
	uint32_t arguments[3] = {sizeof(arguments), 0, table};

	must(ioctl(device, ATTACH, arguments), "ATTACH_IOMMUFD_PT");
}

/* The file that sysfs names, which is the character device that sysfs says. */
static int open_device(void)
{
	char path[320], number[32];
	unsigned major_number, minor_number;
	struct dirent *entry;
	struct stat status;
	FILE *file;
	DIR *folder;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", address);
	folder = opendir(path);
	if (!folder)
		die("%s", path);
	do
		entry = readdir(folder);
	while (entry && entry->d_name[0] == '.');
	if (!entry)
		die("%s is empty", path);
	snprintf(path, sizeof(path), "/sys/class/vfio-dev/%.60s/dev", entry->d_name);
	file = fopen(path, "re");
	if (!file || !fgets(number, sizeof(number), file) ||
	    sscanf(number, "%u:%u", &major_number, &minor_number) != 2)
		die("%s", path);
	fclose(file);
	snprintf(path, sizeof(path), "/dev/vfio/devices/%.60s", entry->d_name);
	closedir(folder);
	fd = open(path, O_RDWR | O_CLOEXEC);
	must(fd, path);
	must(fstat(fd, &status), "fstat");
	if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(major_number, minor_number))
		die("%s is something else", path);
	return fd;
}

static uint32_t bind_to(int device, int iommufd)
{
	struct {
		uint32_t size, flags;
		int32_t iommufd;
		uint32_t id;
	} bind = {sizeof(bind), 0, iommufd, 0};

	must(ioctl(device, DEVICE_BIND, &bind), "BIND_IOMMUFD");
	return bind.id;
}

void do_iommufd(void)
{
	struct engine engine = {.device = open_device()};
	int iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	uint32_t arguments[2] = {sizeof(arguments)}, device, ioas[2], hwpt;

	must(iommufd, "/dev/iommu");
	device = bind_to(engine.device, iommufd);
	enable(&engine);
	allocate(&engine, MAP_PRIVATE);
	for (unsigned i = 0; i < 2; i++) {
		ioas[i] = ioas_alloc(iommufd);
		ioas_map(iommufd, ioas[i], engine.memory);
	}
	attach(engine.device, ioas[0]);
	copy(&engine, 1);
	/* Over to another, which has the same memory; the first is free then. */
	hwpt = hwpt_alloc(iommufd, device, ioas[1]);
	attach(engine.device, hwpt);
	copy(&engine, 2);
	must(destroy(iommufd, ioas[0]), "DESTROY");
	if (destroy(iommufd, hwpt) == 0 || errno != EBUSY)
		die("a page table in use was destroyed");
	must(ioctl(engine.device, DETACH, arguments), "DETACH_IOMMUFD_PT");
	must(destroy(iommufd, hwpt), "DESTROY");
	ioas_unmap_all(iommufd, ioas[1]);
	ioas_map(iommufd, ioas[1], engine.memory);
	attach(engine.device, ioas[1]);
	/* The device keeps what it is bound to. */
	close(iommufd);
	copy(&engine, 3);
	close(engine.device);
}
