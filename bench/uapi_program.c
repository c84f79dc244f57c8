/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The program that bench/uapi.c runs: an ordinary user of Linux's VFIO, without our library. It
 * prints what each thing took, in nanoseconds, as "NAME [MAPPINGS] FIGURE" lines on descriptor 3.
 *
 *   uapi_program plain           calls that have nothing to do with VFIO
 *   uapi_program drive A B         devices at addresses A (BAR 0 traps) and B (BAR 0 is an area) of
 *                                groups 1 and 2
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/uapi.h>

#define PAGE 4096ULL

static FILE *results;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static long check(long ret, const char *what)
{
	if (ret >= 0)
		return ret;
	fprintf(stderr, "uapi_program: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int by_value(const void *a, const void *b)
{
	uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;

	return (first > second) - (first < second);
}

static void report(const char *what, uint64_t mappings, uint64_t *took, unsigned count,
		   unsigned batch)
{
	qsort(took, count, sizeof(*took), by_value);
	fprintf(results, "%s\t%llu\t%.3f\n", what, (unsigned long long)mappings,
		(double)took[count / 2] / batch);
}

/* The median of @count calls of @fn, of @batch each. */
static void measure(const char *what, uint64_t mappings, void (*fn)(void *), void *opaque,
		    unsigned count, unsigned batch)
{
	uint64_t *took = calloc(count, sizeof(*took));

	for (unsigned i = 0; i < count; i++) {
		uint64_t begun = now_ns();

		for (unsigned j = 0; j < batch; j++)
			fn(opaque);
		took[i] = now_ns() - begun;
	}
	report(what, mappings, took, count, batch);
	free(took);
}

/* ---- Calls of any program ---- */

static void get_parent(void *opaque)
{
	syscall(SYS_getppid);
}

static void read_zero(void *opaque)
{
	char byte;

	check(pread(*(int *)opaque, &byte, 1, 0), "pread");
}

static void open_and_close(void *opaque)
{
	close((int)check(open("/dev/zero", O_RDONLY | O_CLOEXEC), "open"));
}

static void map_and_unmap(void *opaque)
{
	void *address = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(address, PAGE);
}

static void plain(void)
{
	int zero = (int)check(open("/dev/zero", O_RDONLY | O_CLOEXEC), "/dev/zero");

	measure("getppid()", 0, get_parent, NULL, 101, 10000);
	measure("pread() of a file", 0, read_zero, &zero, 101, 10000);
	measure("mmap() and munmap()", 0, map_and_unmap, NULL, 101, 1000);
	measure("open() and close() of a file", 0, open_and_close, NULL, 101, 200);
}

/* ---- VFIO ---- */

struct device {
	int fd;
	uint64_t config; /* region's offset */
};

static int open_group(int container, unsigned number)
{
	char path[32];
	int group;

	snprintf(path, sizeof(path), "/dev/vfio/%u", number);
	group = (int)check(open(path, O_RDWR), path);
	check(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "SET_CONTAINER");
	return group;
}

static struct device get_device(int group, const char *address)
{
	struct vfio_region_info info = {.argsz = sizeof(info),
					.index = VFIO_PCI_CONFIG_REGION_INDEX};
	struct device device;

	device.fd = (int)check(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address), "GET_DEVICE_FD");
	check(ioctl(device.fd, VFIO_DEVICE_GET_REGION_INFO, &info), "GET_REGION_INFO");
	device.config = info.offset;
	return device;
}

static void read_config(void *opaque)
{
	struct device *device = opaque;
	uint32_t value;

	check(pread(device->fd, &value, sizeof(value), (off_t)device->config), "pread");
}

static void write_config(void *opaque)
{
	struct device *device = opaque;
	uint8_t value = 0;

	check(pwrite(device->fd, &value, sizeof(value),
		     (off_t)(device->config + PCI_INTERRUPT_LINE)),
	      "pwrite");
}

static void get_info(void *opaque)
{
	struct device *device = opaque;
	struct vfio_device_info info = {.argsz = sizeof(info)};

	check(ioctl(device->fd, VFIO_DEVICE_GET_INFO, &info), "GET_INFO");
}

static void read_mapped(void *opaque)
{
	(void)*(volatile uint32_t *)opaque;
}

static void write_mapped(void *opaque)
{
	*(volatile uint32_t *)opaque = 0;
}

/* ---- Areas that go ---- */

static void set_state(const struct device *device, uint32_t state)
{
	struct { /* struct vfio_device_feature with its data */
		uint32_t argsz, flags;
		struct vfio_device_feature_mig_state state;
	} feature = {
		.argsz = sizeof(feature),
		.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
		.state = {.device_state = state},
	};

	check(ioctl(device->fd, VFIO_DEVICE_FEATURE, &feature), "MIG_DEVICE_STATE");
	if (feature.state.data_fd >= 0)
		close(feature.state.data_fd);
}

/* The median way to PRE_COPY: with what is mapped at the time. */
static void measure_pre_copy(const char *what, const struct device *device, void *area)
{
	enum { COUNT = 301 };
	static uint64_t took[COUNT];

	for (unsigned i = 0; i < COUNT; i++) {
		uint64_t begun = now_ns();

		set_state(device, VFIO_DEVICE_STATE_PRE_COPY);
		took[i] = now_ns() - begun;
		set_state(device, VFIO_DEVICE_STATE_RUNNING);
		/* Until it is there again. */
		for (unsigned quick = 0; area && quick < 8; quick++) {
			begun = now_ns();
			read_mapped(area);
			if (now_ns() - begun > 4000)
				quick = 0;
		}
	}
	report(what, 0, took, COUNT, 1);
}

static void measure_areas(const struct device *device)
{
	void *area;

	measure_pre_copy("PRE_COPY, nothing mapped", device, NULL);
	area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, device->fd, 0);
	check(area == MAP_FAILED ? -1 : 0, "mmap of an area");
	measure_pre_copy("PRE_COPY, a mapping is taken away", device, area);
	set_state(device, VFIO_DEVICE_STATE_PRE_COPY);
	measure("trapped read of an area that is away", 0, read_mapped, area, 5001, 1);
	set_state(device, VFIO_DEVICE_STATE_RUNNING);
	measure("read of a mapped area that is back", 0, read_mapped, area, 1001, 10000);
	munmap(area, PAGE);
}

/* ---- DMA ---- */

struct mapper {
	int container;
	struct vfio_iommu_type1_dma_map map;
};

static void map_dma(struct mapper *mapper)
{
	check(ioctl(mapper->container, VFIO_IOMMU_MAP_DMA, &mapper->map), "MAP_DMA");
}

static void unmap_dma(struct mapper *mapper)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = mapper->map.iova, .size = mapper->map.size};

	check(ioctl(mapper->container, VFIO_IOMMU_UNMAP_DMA, &unmap), "UNMAP_DMA");
}

static void map_and_unmap_dma(void *opaque)
{
	map_dma(opaque);
	unmap_dma(opaque);
}

/* One more mapping is made and undone while @live others are there. */
static void measure_maps(int container, const char *what, void *memory)
{
	static const uint64_t live[] = {1, 1000, 65000};
	struct mapper mapper = {
		.container = container,
		.map = {.argsz = sizeof(mapper.map),
			.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
			.size = PAGE},
	};
	uint64_t made = 0;

	for (size_t i = 0; i < sizeof(live) / sizeof(live[0]); i++) {
		for (; made < live[i]; made++) {
			/* Not beside one another, so that nobody can join them. */
			mapper.map.iova = (1 + made) * 2 * PAGE;
			mapper.map.vaddr = (uintptr_t)memory + made * PAGE;
			map_dma(&mapper);
		}
		mapper.map.iova = 0;
		mapper.map.vaddr = (uintptr_t)memory;
		measure(what, live[i], map_and_unmap_dma, &mapper, 2001, 1);
	}
	for (; made; made--) {
		mapper.map.iova = made * 2 * PAGE;
		unmap_dma(&mapper);
	}
}

static void drive(char **arguments)
{
	int container = (int)check(open("/dev/vfio/vfio", O_RDWR), "/dev/vfio/vfio");
	int groups[2] = {open_group(container, 1), open_group(container, 2)};
	struct device trapping, native;
	uint64_t size = 65001 * PAGE;
	int memory_fd = memfd_create("memory", MFD_CLOEXEC);
	void *bar, *area, *shared, *private;

	check(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "SET_IOMMU");
	trapping = get_device(groups[0], arguments[0]);
	native = get_device(groups[1], arguments[1]);
	measure("trapped read of 4 bytes of config", 0, read_config, &trapping, 20001, 1);
	measure("trapped write of 1 byte of config", 0, write_config, &trapping, 20001, 1);
	measure("VFIO_DEVICE_GET_INFO", 0, get_info, &trapping, 20001, 1);
	measure_areas(&native);
	area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, native.fd, 0);
	check(area == MAP_FAILED ? -1 : 0, "mmap of an area");
	measure("read of a mapped area, 4 bytes", 0, read_mapped, area, 101, 100000);
	check(ftruncate(memory_fd, (off_t)size), "memfd");
	shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory_fd, 0);
	private = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	check(shared == MAP_FAILED || private == MAP_FAILED ? -1 : 0, "memory");
	measure_maps(container, "MAP_DMA and UNMAP_DMA, memfd", shared);
	measure_maps(container, "MAP_DMA and UNMAP_DMA, private memory", private);
	/* Last: from here on the process is traced. */
	bar = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, trapping.fd, 0);
	check(bar == MAP_FAILED ? -1 : 0, "mmap of a BAR");
	measure("trapped read of a mapped register", 0, read_mapped, bar, 5001, 1);
	measure("trapped write of a mapped register", 0, write_mapped, bar, 5001, 1);
}

int main(int argc, char **argv)
{
	results = fdopen(3, "w");
	if (results && argc == 2 && !strcmp(argv[1], "plain"))
		plain();
	else if (results && argc == 4 && !strcmp(argv[1], "drive"))
		drive(argv + 2);
	else
		return 2;
	return fclose(results) ? 1 : 0;
}
