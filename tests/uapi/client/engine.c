/* SPDX-License-Identifier: BSD-3-Clause */
/* See engine.h. */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNEL 0x80

/* What an engine works from: in memory, at its beginning. */
struct descriptor {
	uint32_t size, control;
	uint64_t source, destination, next, more[4];
};

const char *address;
char group_path[64];

void die(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

void must(int result, const char *what)
{
	if (result < 0)
		die("%s", what);
}

uint32_t read_config(const struct engine *engine, unsigned at)
{
	uint32_t value;

	if (pread(engine->device, &value, 4, (off_t)(engine->config + at)) != 4)
		die("pread of the configuration space");
	return value;
}

static void put(const struct engine *engine, unsigned at, uint64_t value, size_t size)
{
	if (pwrite(engine->device, &value, size, (off_t)(engine->bar + at)) != (ssize_t)size)
		die("pwrite of register %#x", at);
}

uint64_t get(const struct engine *engine, unsigned at, size_t size)
{
	uint64_t value = 0;

	if (pread(engine->device, &value, size, (off_t)(engine->bar + at)) != (ssize_t)size)
		die("pread of register %#x", at);
	return value;
}

void enable(struct engine *engine)
{
	struct vfio_region_info info = {.argsz = sizeof(info)};
	uint16_t command = 6; /* memory space, bus master */

	info.index = VFIO_PCI_CONFIG_REGION_INDEX;
	must(ioctl(engine->device, VFIO_DEVICE_GET_REGION_INFO, &info), "GET_REGION_INFO");
	engine->config = info.offset;
	info.index = VFIO_PCI_BAR0_REGION_INDEX;
	must(ioctl(engine->device, VFIO_DEVICE_GET_REGION_INFO, &info), "GET_REGION_INFO");
	engine->bar = info.offset;
	if (read_config(engine, 0) != VENDOR)
		die("another device: %08x", read_config(engine, 0));
	if (pwrite(engine->device, &command, 2, (off_t)(engine->config + 4)) != 2)
		die("pwrite of the command register");
}

/* As everybody finds it: by a link in sysfs. */
void find_group(void)
{
	char path[128], target[256];
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	length = readlink(path, target, sizeof(target) - 1);
	must((int)length, path);
	target[length] = '\0';
	snprintf(group_path, sizeof(group_path), "/dev/vfio/%s", strrchr(target, '/') + 1);
}

struct engine open_engine(void)
{
	struct engine engine = {.container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC)};
	struct vfio_group_status status = {.argsz = sizeof(status)};

	must(engine.container, "/dev/vfio/vfio");
	engine.group = open(group_path, O_RDWR | O_CLOEXEC);
	must(engine.group, group_path);
	must(ioctl(engine.group, VFIO_GROUP_GET_STATUS, &status), "GET_STATUS");
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("the group isn't viable");
	must(ioctl(engine.group, VFIO_GROUP_SET_CONTAINER, &engine.container), "SET_CONTAINER");
	must(ioctl(engine.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "SET_IOMMU");
	engine.device = ioctl(engine.group, VFIO_GROUP_GET_DEVICE_FD, address);
	must(engine.device, "GET_DEVICE_FD");
	enable(&engine);
	return engine;
}

void close_engine(const struct engine *engine)
{
	close(engine->device);
	close(engine->group);
	close(engine->container);
}

int map_at(const struct engine *engine, void *memory, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory,
		.iova = iova,
		.size = size,
	};

	return ioctl(engine->container, VFIO_IOMMU_MAP_DMA, &map);
}

int unmap_at(const struct engine *engine, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	return ioctl(engine->container, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

void allocate(struct engine *engine, int flags)
{
	engine->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
	if (engine->memory == MAP_FAILED)
		die("mmap");
}

void give_memory(struct engine *engine, int flags)
{
	allocate(engine, flags);
	must(map_at(engine, engine->memory, IOVA, MEMORY), "MAP_DMA");
}

/* Starts a copy of page 1 to page 2, and waits for it. */
void run_copy(const struct engine *engine)
{
	unsigned tries = 0;

	put(engine, CHANNEL + 0x04, 0x20, 1); /* CHANCMD: reset */
	while (get(engine, CHANNEL + 0x04, 1) & 0x20)
		sched_yield();
	put(engine, CHANNEL + 0x28, get(engine, CHANNEL + 0x28, 4), 4); /* CHANERR */
	put(engine, CHANNEL + 0x18, IOVA + 512, 8);			/* CHANCMP */
	put(engine, CHANNEL + 0x10, IOVA, 8);				/* CHAINADDR */
	put(engine, CHANNEL + 0x06, 1, 2);				/* DMACOUNT */
	while ((get(engine, CHANNEL + 0x08, 8) & 7) == 0 && tries++ < 100000)
		sched_yield();
	if ((get(engine, CHANNEL + 0x08, 8) & 7) != 1)
		die("the copy didn't end: status %llx, error %llx",
		    (unsigned long long)get(engine, CHANNEL + 0x08, 8),
		    (unsigned long long)get(engine, CHANNEL + 0x28, 4));
}

void prepare_copy(const struct engine *engine, unsigned seed)
{
	struct descriptor *descriptor = (void *)engine->memory;

	*descriptor = (struct descriptor){
		.size = PAGE,
		.control = 8, /* tell when it is done */
		.source = IOVA + PAGE,
		.destination = IOVA + 2 * PAGE,
	};
	for (size_t i = 0; i < PAGE; i++)
		engine->memory[PAGE + i] = (uint8_t)(seed + i * 7);
	memset(engine->memory + 2 * PAGE, 0, PAGE);
}

void check_copy(const struct engine *engine)
{
	if (memcmp(engine->memory + PAGE, engine->memory + 2 * PAGE, PAGE) != 0)
		die("the copy is wrong");
}

void copy(const struct engine *engine, unsigned seed)
{
	prepare_copy(engine, seed);
	run_copy(engine);
	check_copy(engine);
}

void wait_for(int child)
{
	int status;

	must(waitpid(child, &status, 0), "waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("the child ended with %#x", (unsigned)status);
}
