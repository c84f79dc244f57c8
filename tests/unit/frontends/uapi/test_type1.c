/* SPDX-License-Identifier: BSD-3-Clause */
/* Type1: information, mapping and unmapping, of both versions, with every error in its order. */
#include "helpers.h"

#include <stddef.h>
#include <uvfio/dma.h>

#define READ_WRITE (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)
#define PAGES	   16ULL

static uint8_t *memory; /* PAGES of it, and then one of each: */
#define READ_ONLY   (PAGES * PAGE)
#define UNREACHABLE (READ_ONLY + PAGE)
#define NOTHING	    (UNREACHABLE + PAGE)
#define MEMORY_SIZE (NOTHING + PAGE)

static int setup(void **state)
{
	memory =
		mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	memory[READ_ONLY] = 1;
	assert_int_equal(mprotect(memory + READ_ONLY, PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(memory + UNREACHABLE, PAGE, PROT_NONE), 0);
	assert_int_equal(munmap(memory + NOTHING, PAGE), 0);
	return world_setup(state);
}

static int teardown(void **state)
{
	munmap(memory, NOTHING);
	return world_teardown(state);
}

/* ---- VFIO_IOMMU_GET_INFO ---- */

/* An argument that ends where the program's memory does: what is read or written beyond fails. */
static void *at_the_end(size_t size)
{
	uint8_t *area =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(area != MAP_FAILED);
	assert_int_equal(mprotect(area + PAGE, PAGE, PROT_NONE), 0);
	return area + PAGE - size;
}

static void drop_the_end(void *argument)
{
	munmap((void *)((uintptr_t)argument & ~(PAGE - 1)), 2 * PAGE);
}

static void test_info_sizes(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	const size_t minimum = offsetof(struct vfio_iommu_type1_info, cap_offset);
	struct vfio_iommu_type1_info *info = at_the_end(minimum);
	const uint32_t needed = 24 + 32 + 16 + 16 + 2 * 16;

	info->argsz = (uint32_t)minimum - 1;
	assert_int_equal(world_ioctl_of(world, opened.container, VFIO_IOMMU_GET_INFO, info),
			 -EINVAL);
	assert_int_equal(
		world_ioctl_of(world, opened.container, VFIO_IOMMU_GET_INFO, (uint8_t *)info + 1),
		-EFAULT);
	/* No more than was asked for is written, and it says how much there would be. */
	info->argsz = (uint32_t)minimum;
	assert_int_equal(world_ioctl_of(world, opened.container, VFIO_IOMMU_GET_INFO, info), 0);
	assert_int_equal(info->argsz, needed);
	assert_int_equal(info->flags, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS);
	assert_int_equal(info->iova_pgsizes, PAGE | 2 * MIB | 1024 * MIB);
	drop_the_end(info);

	info = at_the_end(sizeof(*info));
	info->argsz = needed - 1;
	info->cap_offset = 77;
	assert_int_equal(world_ioctl_of(world, opened.container, VFIO_IOMMU_GET_INFO, info), 0);
	assert_int_equal(info->argsz, needed);
	assert_int_equal(info->cap_offset, 0);
	info->argsz = needed; /* room is claimed that isn't there */
	assert_int_equal(world_ioctl_of(world, opened.container, VFIO_IOMMU_GET_INFO, info),
			 -EFAULT);
	drop_the_end(info);
	info = at_the_end(needed);
	info->argsz = needed;
	assert_int_equal(world_ioctl_of(world, opened.container, VFIO_IOMMU_GET_INFO, info), 0);
	assert_int_equal(info->argsz, needed);
	assert_int_equal(info->cap_offset, 24);
	drop_the_end(info);
	world_close_all(world, &opened);
}

static void test_info_chain(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	union {
		struct vfio_iommu_type1_info info;
		uint8_t bytes[512];
	} reply = {.info.argsz = sizeof(reply)};
	const struct vfio_iommu_type1_info_cap_migration *migration;
	const struct vfio_iommu_type1_info_dma_avail *avail;
	const struct vfio_iommu_type1_info_cap_iova_range *ranges;

	assert_int_equal(world_map(world, opened.container, READ_WRITE, 0, PAGE, memory), 0);
	assert_int_equal(world_ioctl_of(world, opened.container, VFIO_IOMMU_GET_INFO, &reply), 0);
	assert_int_equal(reply.info.argsz, sizeof(reply));
	assert_int_equal(reply.info.cap_offset, 24);

	migration = (void *)(reply.bytes + reply.info.cap_offset);
	assert_int_equal(migration->header.id, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION);
	assert_int_equal(migration->header.version, 1);
	assert_int_equal(migration->flags, 0);
	assert_int_equal(migration->pgsize_bitmap, PAGE);
	assert_int_equal(migration->max_dirty_bitmap_size, 256 * MIB);

	avail = (void *)(reply.bytes + migration->header.next);
	assert_int_equal(avail->header.id, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
	assert_int_equal(avail->header.version, 1);
	assert_int_equal(avail->avail, 65534);

	ranges = (void *)(reply.bytes + avail->header.next);
	assert_int_equal(ranges->header.id, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
	assert_int_equal(ranges->header.version, 1);
	assert_int_equal(ranges->header.next, 0);
	assert_int_equal(ranges->nr_iovas, 2);
	assert_int_equal(ranges->iova_ranges[0].start, 0);
	assert_int_equal(ranges->iova_ranges[0].end, 0xfedfffff);
	assert_int_equal(ranges->iova_ranges[1].start, 0xfef00000);
	assert_int_equal(ranges->iova_ranges[1].end, (1ULL << 48) - 1);
	world_close_all(world, &opened);
}

/* ---- VFIO_IOMMU_MAP_DMA ---- */

static const struct {
	const char *what;
	uint32_t argsz, flags;
	uint64_t vaddr, iova, size; /* vaddr: in memory, or beyond its size as it is */
	long result;
} maps[] = {
	{"short", 31, READ_WRITE, 0, 0, PAGE, -EINVAL},
	{"unknown flag", 32, READ_WRITE | 8, 0, 0, PAGE, -EINVAL},
	{"nothing", 32, READ_WRITE, 0, 0, 0, -EINVAL},
	{"nothing, before all else", 32, 0, 1, 1, 0, -EINVAL},
	{"IOVAs pass the end", 32, 0, 1, UINT64_MAX - PAGE + 2, PAGE, -EOVERFLOW},
	{"addresses pass the end", 32, 0, UINT64_MAX - PAGE + 2, 1, PAGE, -EOVERFLOW},
	{"no permission", 32, 0, 0, 0, PAGE, -EINVAL},
	{"permission and address", 32, READ_WRITE | VFIO_DMA_MAP_FLAG_VADDR, 0, 0, PAGE, -EINVAL},
	{"size not aligned", 32, READ_WRITE, 0, 0, PAGE + 1, -EINVAL},
	{"IOVA not aligned", 32, READ_WRITE, 0, 1, PAGE, -EINVAL},
	{"address not aligned", 32, READ_WRITE, 1, 0, PAGE, -EINVAL},
	{"taken", 32, READ_WRITE, 0, 4 * PAGE, PAGE, -EEXIST},
	{"reaches into one", 32, READ_WRITE, 0, 3 * PAGE, 2 * PAGE, -EEXIST},
	{"last page of one", 32, READ_WRITE, 0, 5 * PAGE, 2 * PAGE, -EEXIST},
	{"around one", 32, READ_WRITE, 0, 2 * PAGE, 8 * PAGE, -EEXIST},
	{"taken and nothing there", 32, READ_WRITE, NOTHING, 4 * PAGE, PAGE, -EEXIST},
	{"beyond the aperture", 32, READ_WRITE, 0, 1ULL << 48, PAGE, -EINVAL},
	{"across its end", 32, READ_WRITE, 0, (1ULL << 48) - PAGE, 2 * PAGE, -EINVAL},
	{"the last page of all", 32, READ_WRITE, 0, UINT64_MAX - PAGE + 1, PAGE, -EINVAL},
	{"reserved", 32, READ_WRITE, 0, 0xfee00000, PAGE, -EINVAL},
	{"into what is reserved", 32, READ_WRITE, 0, 0xfedff000, 2 * PAGE, -EINVAL},
	{"nothing there", 32, READ_WRITE, NOTHING, 0, PAGE, -EFAULT},
	{"nothing at its end", 32, VFIO_DMA_MAP_FLAG_READ, READ_ONLY - PAGE, 16 * PAGE, 4 * PAGE,
	 -EFAULT},
	{"unreachable", 32, VFIO_DMA_MAP_FLAG_READ, UNREACHABLE, 0, PAGE, -EFAULT},
	{"not to be written", 32, VFIO_DMA_MAP_FLAG_WRITE, READ_ONLY, 0, PAGE, -EFAULT},
	{"to be read", 32, VFIO_DMA_MAP_FLAG_READ, READ_ONLY, 2 * PAGE, PAGE, 0},
	{"address without a mapping", 32, VFIO_DMA_MAP_FLAG_VADDR, 0, 0, PAGE, -ENOENT},
	{"address that is valid", 32, VFIO_DMA_MAP_FLAG_VADDR, 0, 4 * PAGE, 2 * PAGE, -EINVAL},
	{"before what is reserved", 32, READ_WRITE, 0, 0xfedff000, PAGE, 0},
	{"at the aperture's end", 32, READ_WRITE, 0, (1ULL << 48) - PAGE, PAGE, 0},
	{"more than it knows", 64, VFIO_DMA_MAP_FLAG_READ, 0, 0, PAGE, 0},
	{"for writing alone", 32, VFIO_DMA_MAP_FLAG_WRITE, 0, PAGE, PAGE, 0},
};

static void test_map_errors(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);

	assert_int_equal(world_map(world, opened.container, READ_WRITE, 4 * PAGE, 2 * PAGE, memory),
			 0);
	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		struct vfio_iommu_type1_dma_map map = {
			.argsz = maps[i].argsz,
			.flags = maps[i].flags,
			.vaddr = maps[i].vaddr +
				 (maps[i].vaddr < MEMORY_SIZE ? (uintptr_t)memory : 0),
			.iova = maps[i].iova,
			.size = maps[i].size,
		};
		long ret = world_ioctl_of(world, opened.container, VFIO_IOMMU_MAP_DMA, &map);

		if (ret != maps[i].result)
			fail_msg("%s: %ld instead of %ld", maps[i].what, ret, maps[i].result);
	}
	assert_int_equal(world_available(world, opened.container), 65535 - 6);
	assert_int_equal(world_ioctl(world, opened.container, VFIO_IOMMU_MAP_DMA, 8), -EFAULT);
	world_close_all(world, &opened);
}

static void test_map_limit(void **state)
{
	struct world *world = *state;
	struct opened opened;
	uint64_t size = PAGE;

	world->run.config.max_mappings = 2;
	opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	assert_int_equal(world_available(world, opened.container), 2);
	assert_int_equal(world_map(world, opened.container, READ_WRITE, 0, PAGE, memory), 0);
	assert_int_equal(world_map(world, opened.container, READ_WRITE, PAGE, PAGE, memory), 0);
	assert_int_equal(world_available(world, opened.container), 0);
	assert_int_equal(world_map(world, opened.container, READ_WRITE, PAGE, PAGE, memory),
			 -EEXIST);
	assert_int_equal(world_map(world, opened.container, READ_WRITE, 0xfee00000, PAGE, memory),
			 -ENOSPC);
	assert_int_equal(world_map(world, opened.container, READ_WRITE, 2 * PAGE, PAGE, memory),
			 -ENOSPC);
	assert_int_equal(world_unmap(world, opened.container, 0, 0, &size), 0);
	assert_int_equal(world_map(world, opened.container, READ_WRITE, 2 * PAGE, PAGE, memory), 0);
	world_close_all(world, &opened);
}

/* What is mapped is what the device sees. */
static void test_mapped(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, VFIO_TYPE1v2_IOMMU);
	struct uvf_device *dev = world->devices[0].dev;
	uint8_t byte = 0;
	uint64_t size = PAGE;

	uvf_device_lock(dev);
	uvf_device_set_bus_master(dev, true);
	uvf_device_unlock(dev);
	assert_int_equal(
		world_map(world, opened.container, READ_WRITE, 5 * PAGE, PAGE, memory + 3 * PAGE),
		0);
	memory[3 * PAGE + 17] = 0xa5;
	assert_int_equal(uvf_dma_read(dev, UVF_PASID_NONE, 5 * PAGE + 17, &byte, 1), 0);
	assert_int_equal(byte, 0xa5);
	byte = 0x5a;
	assert_int_equal(uvf_dma_write(dev, UVF_PASID_NONE, 5 * PAGE + 18, &byte, 1), 0);
	assert_int_equal(memory[3 * PAGE + 18], 0x5a);
	assert_int_equal(world_unmap(world, opened.container, 0, 5 * PAGE, &size), 0);
	assert_int_equal(size, PAGE);
	assert_int_equal(uvf_dma_read(dev, UVF_PASID_NONE, 5 * PAGE + 17, &byte, 1), -EFAULT);
	world_close_all(world, &opened);
}

/* ---- VFIO_IOMMU_UNMAP_DMA ---- */

/* Each on mappings of [4, 6), [6, 7) and [8, 10) pages. */
static const struct {
	const char *what;
	unsigned version;
	uint32_t argsz, flags;
	uint64_t iova, size;
	long result;
	uint64_t unmapped; /* what is written back; of failures: nothing is */
} unmaps[] = {
#define V1     VFIO_TYPE1_IOMMU
#define V2     VFIO_TYPE1v2_IOMMU
#define ALL    VFIO_DMA_UNMAP_FLAG_ALL
#define VADDR  VFIO_DMA_UNMAP_FLAG_VADDR
#define BITMAP VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
	{"short", V2, 23, 0, 4 * PAGE, PAGE, -EINVAL, 0},
	{"unknown flag", V2, 24, 8, 4 * PAGE, PAGE, -EINVAL, 0},
	{"IOVA not aligned", V2, 24, 0, 4 * PAGE + 1, PAGE, -EINVAL, 0},
	{"size not aligned", V2, 24, 0, 4 * PAGE, PAGE + 1, -EINVAL, 0},
	{"nothing", V2, 24, 0, 4 * PAGE, 0, -EINVAL, 0},
	{"nothing in version 1", V1, 24, 0, 4 * PAGE, 0, -EINVAL, 0},
	{"past the end", V2, 24, 0, UINT64_MAX - PAGE + 1, 2 * PAGE, -EOVERFLOW, 0},
	{"to the end", V2, 24, 0, 16 * PAGE, UINT64_MAX - 17 * PAGE + 1, 0, 0},
	{"to the very end", V2, 24, 0, 16 * PAGE, -(16 * PAGE), 0, 0},
	{"all, and an IOVA", V2, 24, ALL, PAGE, 0, -EINVAL, 0},
	{"all, and a size", V2, 24, ALL, 0, PAGE, -EINVAL, 0},
	{"all, and an IOVA not aligned", V2, 24, ALL, 1, 0, -EINVAL, 0},
	{"all", V2, 24, ALL, 0, 0, 0, 5 * PAGE},
	{"all in version 1", V1, 24, ALL, 0, 0, 0, 5 * PAGE},
	{"bitmap of all", V2, 48, ALL | BITMAP, 0, 0, -EINVAL, 0},
	{"bitmap and addresses", V2, 48, VADDR | BITMAP, 4 * PAGE, 2 * PAGE, -EINVAL, 0},
	{"no room for a bitmap", V2, 47, BITMAP, 4 * PAGE, 2 * PAGE, -EINVAL, 0},
	{"what isn't mapped", V2, 24, 0, 0, 4 * PAGE, 0, 0},
	{"what isn't mapped in version 1", V1, 24, 0, 0, 4 * PAGE, 0, 0},
	{"one", V2, 24, 0, 4 * PAGE, 2 * PAGE, 0, 2 * PAGE},
	{"two", V2, 24, 0, 4 * PAGE, 3 * PAGE, 0, 3 * PAGE},
	{"around all", V2, 24, 0, 0, 64 * PAGE, 0, 5 * PAGE},
	{"the first half of one", V2, 24, 0, 4 * PAGE, PAGE, -EINVAL, 0},
	{"the second half of one", V2, 24, 0, 5 * PAGE, PAGE, -EINVAL, 0},
	{"one and a half", V2, 24, 0, 6 * PAGE, 3 * PAGE, -EINVAL, 0},
	{"from a half on", V2, 24, 0, 5 * PAGE, 2 * PAGE, -EINVAL, 0},
	/* Version 1 unmaps whole what begins inside, and nothing after a first half. */
	{"one in version 1", V1, 24, 0, 4 * PAGE, 2 * PAGE, 0, 2 * PAGE},
	{"the first half in version 1", V1, 24, 0, 4 * PAGE, PAGE, 0, 2 * PAGE},
	{"one and a half in version 1", V1, 24, 0, 6 * PAGE, 3 * PAGE, 0, 3 * PAGE},
	{"the second half in version 1", V1, 24, 0, 5 * PAGE, PAGE, 0, 0},
	{"from a half on in version 1", V1, 24, 0, 5 * PAGE, 32 * PAGE, 0, 0},
	{"around all in version 1", V1, 24, 0, 0, 64 * PAGE, 0, 5 * PAGE},
	{"a gap and a half in version 1", V1, 24, 0, 7 * PAGE, 2 * PAGE, 0, 2 * PAGE},
	/* Addresses go, mappings stay. */
	{"addresses of a half", V2, 24, VADDR, 4 * PAGE, PAGE, -EINVAL, 0},
	{"addresses", V2, 24, VADDR, 4 * PAGE, 2 * PAGE, 0, 2 * PAGE},
	{"all addresses", V2, 24, VADDR | ALL, 0, 0, 0, 5 * PAGE},
	{"addresses of nothing", V2, 24, VADDR, 32 * PAGE, PAGE, 0, 0},
};

static void map_some(struct world *world, int container)
{
	assert_int_equal(world_map(world, container, READ_WRITE, 4 * PAGE, 2 * PAGE, memory), 0);
	assert_int_equal(world_map(world, container, READ_WRITE, 6 * PAGE, PAGE, memory), 0);
	assert_int_equal(world_map(world, container, READ_WRITE, 8 * PAGE, 2 * PAGE, memory), 0);
}

static void test_unmaps(void **state)
{
	struct world *world = *state;

	for (size_t i = 0; i < sizeof(unmaps) / sizeof(unmaps[0]); i++) {
		struct opened opened = world_open_all(world, unmaps[i].version);
		struct vfio_iommu_type1_dma_unmap unmap = {
			.argsz = unmaps[i].argsz,
			.flags = unmaps[i].flags,
			.iova = unmaps[i].iova,
			.size = unmaps[i].size,
		};
		uint64_t rest = 5 * PAGE;
		long ret;

		map_some(world, opened.container);
		ret = world_ioctl_of(world, opened.container, VFIO_IOMMU_UNMAP_DMA, &unmap);
		if (ret != unmaps[i].result)
			fail_msg("%s: %ld instead of %ld", unmaps[i].what, ret, unmaps[i].result);
		if (unmap.size != (ret ? unmaps[i].size : unmaps[i].unmapped))
			fail_msg("%s: %llu bytes", unmaps[i].what, (unsigned long long)unmap.size);
		if (!ret && !(unmaps[i].flags & VADDR))
			rest -= unmaps[i].unmapped;
		unmap = (struct vfio_iommu_type1_dma_unmap){.argsz = 24, .flags = ALL};
		assert_int_equal(
			world_ioctl_of(world, opened.container, VFIO_IOMMU_UNMAP_DMA, &unmap), 0);
		if (unmap.size != rest)
			fail_msg("%s: %llu bytes left", unmaps[i].what,
				 (unsigned long long)unmap.size);
		world_close_all(world, &opened);
	}
}

static void test_unmap_pointers(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, V2);
	struct vfio_iommu_type1_dma_unmap *unmap;

	map_some(world, opened.container);
	assert_int_equal(world_ioctl(world, opened.container, VFIO_IOMMU_UNMAP_DMA, 8), -EFAULT);
	/* It is unmapped, though nobody can be told. */
	unmap = at_the_end(sizeof(*unmap));
	*unmap = (struct vfio_iommu_type1_dma_unmap){.argsz = 24, .flags = ALL};
	assert_int_equal(mprotect((void *)((uintptr_t)unmap & ~(PAGE - 1)), PAGE, PROT_READ), 0);
	assert_int_equal(world_ioctl_of(world, opened.container, VFIO_IOMMU_UNMAP_DMA, unmap),
			 -EFAULT);
	assert_int_equal(world_available(world, opened.container), 65535);
	drop_the_end(unmap);
	world_close_all(world, &opened);
}

/* ---- Addresses that change ---- */

static void test_new_address(void **state)
{
	struct world *world = *state;
	struct opened opened = world_open_all(world, V2);
	uint64_t size = 2 * PAGE;

	map_some(world, opened.container);
	assert_int_equal(world_unmap(world, opened.container, VADDR, 4 * PAGE, &size), 0);
	assert_int_equal(size, 2 * PAGE);
	/* Twice is an error, and what was found before it keeps its address. */
	size = 3 * PAGE;
	assert_int_equal(world_unmap(world, opened.container, VADDR, 4 * PAGE, &size), -EINVAL);
	size = 0;
	assert_int_equal(world_unmap(world, opened.container, VADDR | ALL, 0, &size), -EINVAL);
	assert_int_equal(
		world_map(world, opened.container, VFIO_DMA_MAP_FLAG_VADDR, 6 * PAGE, PAGE, memory),
		-EINVAL);
	/* The whole of the mapping, or nothing. */
	assert_int_equal(
		world_map(world, opened.container, VFIO_DMA_MAP_FLAG_VADDR, 4 * PAGE, PAGE, memory),
		-EINVAL);
	assert_int_equal(world_map(world, opened.container, VFIO_DMA_MAP_FLAG_VADDR, 3 * PAGE,
				   2 * PAGE, memory),
			 -EINVAL);
	assert_int_equal(world_map(world, opened.container, VFIO_DMA_MAP_FLAG_VADDR, 4 * PAGE,
				   2 * PAGE, memory + 8 * PAGE),
			 0);
	assert_int_equal(world_map(world, opened.container, VFIO_DMA_MAP_FLAG_VADDR, 4 * PAGE,
				   2 * PAGE, memory),
			 -EINVAL);
	/* What has no address can be unmapped. */
	size = 0;
	assert_int_equal(world_unmap(world, opened.container, VADDR | ALL, 0, &size), 0);
	assert_int_equal(size, 5 * PAGE);
	size = 0;
	assert_int_equal(world_unmap(world, opened.container, ALL, 0, &size), 0);
	assert_int_equal(size, 5 * PAGE);
	world_close_all(world, &opened);
}

/* ---- An iommufd in compat mode: what is not as a container's ---- */

static void test_compat(void **state)
{
	struct world *world = *state;
	int iommufd = world_open_iommufd(world), group;
	union {
		struct vfio_iommu_type1_info info;
		uint8_t bytes[512];
	} reply = {.info.argsz = sizeof(reply)};
	const struct vfio_iommu_type1_info_dma_avail *avail;
	const struct vfio_info_cap_header *ranges;
	uint64_t size = PAGE;

	/* Without a group there is no address space. */
	assert_int_equal(world_ioctl_of(world, iommufd, VFIO_IOMMU_GET_INFO, &reply), -ENODEV);
	assert_int_equal(world_map(world, iommufd, READ_WRITE, 0, PAGE, memory), -ENODEV);
	assert_int_equal(world_unmap(world, iommufd, 0, 0, &size), -ENODEV);
	assert_int_equal(world_ioctl(world, iommufd, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU),
			 -ENODEV);
	group = world_open_group(world, 0);
	assert_int_equal(world_set_container(world, group, iommufd), 0);
	assert_int_equal(world_ioctl(world, iommufd, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU), 1);
	assert_int_equal(world_ioctl(world, iommufd, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR), 0);

	assert_int_equal(world_ioctl_of(world, iommufd, VFIO_IOMMU_GET_INFO, &reply), 0);
	assert_int_equal(reply.info.argsz, 24 + 16 + 16 + 2 * 16);
	avail = (void *)(reply.bytes + reply.info.cap_offset);
	assert_int_equal(avail->header.id, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
	assert_int_equal(avail->avail, UINT32_MAX);
	ranges = (void *)(reply.bytes + avail->header.next);
	assert_int_equal(ranges->id, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
	assert_int_equal(ranges->next, 0);

	assert_int_equal(world_map(world, iommufd, READ_WRITE, 0, 2 * PAGE, memory), 0);
	assert_int_equal(world_map(world, iommufd, READ_WRITE, 0, PAGE, memory), -EEXIST);
	assert_int_equal(world_map(world, iommufd, VFIO_DMA_MAP_FLAG_VADDR, 0, PAGE, memory),
			 -EINVAL);
	assert_int_equal(world_unmap(world, iommufd, VADDR, 0, &size), -EINVAL);
	assert_int_equal(world_unmap(world, iommufd, BITMAP, 0, &size), -EINVAL);
	assert_int_equal(world_ioctl(world, iommufd, VFIO_IOMMU_DIRTY_PAGES, 0), -ENOTTY);
	assert_int_equal(world_unmap(world, iommufd, 0, 0, &size), -ENOENT); /* cuts */
	size = PAGE;
	assert_int_equal(world_unmap(world, iommufd, 0, 16 * PAGE, &size), 0);
	assert_int_equal(size, 0);
	assert_int_equal(world_unmap(world, iommufd, 0, 0, &size), -EINVAL);
	size = PAGE;
	assert_int_equal(world_unmap(world, iommufd, 0, UINT64_MAX, &size), -EOVERFLOW);
	assert_int_equal(world_unmap(world, iommufd, ALL, 0, &size), -EINVAL);
	size = 0;
	assert_int_equal(world_unmap(world, iommufd, ALL, 0, &size), 0);
	assert_int_equal(size, 2 * PAGE);
	size = 0;
	assert_int_equal(world_unmap(world, iommufd, ALL, 0, &size), 0);
	assert_int_equal(size, 0);
	world_close(world, group);
	world_close(world, iommufd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_info_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_info_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mapped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unmaps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unmap_pointers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_new_address, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compat, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
