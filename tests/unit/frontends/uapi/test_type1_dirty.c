/* SPDX-License-Identifier: BSD-3-Clause */
/* VFIO_IOMMU_DIRTY_PAGES, and the bitmap of an unmap. */
#include "helpers.h"

#include <stddef.h>
#include <stdlib.h>
#include <uvfio/dma.h>

#define READ_WRITE (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)
#define START	   VFIO_IOMMU_DIRTY_PAGES_FLAG_START
#define STOP	   VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
#define GET	   VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
#define PAGES	   256ULL

static uint8_t *memory;

static int setup(void **state)
{
	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	assert_true(memory != MAP_FAILED);
	return world_setup(state);
}

static int teardown(void **state)
{
	munmap(memory, PAGES * PAGE);
	return world_teardown(state);
}

static struct opened open_with_dma(struct world *world, unsigned version)
{
	struct opened opened = world_open_all(world, version);
	struct uvf_device *dev = world->devices[0].dev;

	uvf_device_lock(dev);
	uvf_device_set_bus_master(dev, true);
	uvf_device_unlock(dev);
	return opened;
}

static void write_page(struct world *world, uint64_t page)
{
	assert_int_equal(uvf_dma_write(world->devices[0].dev, UVF_PASID_NONE, page * PAGE, "x", 1),
			 0);
}

static long dirty(struct world *world, int container, uint32_t flags)
{
	struct vfio_iommu_type1_dirty_bitmap argument = {.argsz = sizeof(argument), .flags = flags};

	return world_ioctl_of(world, container, VFIO_IOMMU_DIRTY_PAGES, &argument);
}

struct get { /* struct vfio_iommu_type1_dirty_bitmap with its data */
	uint32_t argsz, flags;
	struct vfio_iommu_type1_dirty_bitmap_get range;
};

static long get(struct world *world, int container, uint64_t iova, uint64_t size, uint64_t *words,
		uint64_t count)
{
	struct get argument = {
		.argsz = sizeof(argument),
		.flags = GET,
		.range = {.iova = iova,
			  .size = size,
			  .bitmap = {.pgsize = PAGE,
				     .size = count * sizeof(uint64_t),
				     .data = (void *)words}},
	};

	return world_ioctl_of(world, container, VFIO_IOMMU_DIRTY_PAGES, &argument);
}

static void test_switch(void **state)
{
	struct world *world = *state;
	struct opened opened = open_with_dma(world, VFIO_TYPE1v2_IOMMU);
	struct vfio_iommu_type1_dirty_bitmap argument = {.argsz = sizeof(argument) - 1,
							 .flags = START};
	uint64_t word = 0;

	assert_int_equal(world_ioctl_of(world, opened.container, VFIO_IOMMU_DIRTY_PAGES, &argument),
			 -EINVAL);
	assert_int_equal(world_ioctl(world, opened.container, VFIO_IOMMU_DIRTY_PAGES, 8), -EFAULT);
	assert_int_equal(dirty(world, opened.container, 0), -EINVAL);
	assert_int_equal(dirty(world, opened.container, 8), -EINVAL);
	assert_int_equal(dirty(world, opened.container, START | STOP), -EINVAL);
	assert_int_equal(dirty(world, opened.container, START | 8), -EINVAL);
	assert_int_equal(dirty(world, opened.container, GET), -EINVAL);
	assert_int_equal(get(world, opened.container, 0, PAGE, &word, 1), -EINVAL);
	assert_int_equal(dirty(world, opened.container, STOP), 0);
	assert_int_equal(dirty(world, opened.container, START), 0);
	assert_int_equal(dirty(world, opened.container, START), 0);
	assert_int_equal(get(world, opened.container, 0, PAGE, &word, 1), 0);
	assert_int_equal(dirty(world, opened.container, STOP), 0);
	assert_int_equal(get(world, opened.container, 0, PAGE, &word, 1), -EINVAL);
	world_close_all(world, &opened);
}

static void test_version_1(void **state)
{
	struct world *world = *state;
	struct opened opened = open_with_dma(world, VFIO_TYPE1_IOMMU);

	assert_int_equal(dirty(world, opened.container, START), -EACCES);
	assert_int_equal(world_ioctl(world, opened.container, VFIO_IOMMU_DIRTY_PAGES, 8), -EACCES);
	world_close_all(world, &opened);
}

/* With [0, 64) and [100, 104) pages mapped. */
static const struct {
	const char *what;
	uint32_t argsz;
	uint64_t iova, size, pgsize, bytes;
	long result;
} gets[] = {
	{"short", sizeof(struct get) - 1, 0, 64 * PAGE, PAGE, 8, -EINVAL},
	{"nothing", sizeof(struct get), 0, 0, PAGE, 8, -EINVAL},
	{"past the end", sizeof(struct get), -PAGE, 2 * PAGE, PAGE, 8, -EOVERFLOW},
	{"page size 0", sizeof(struct get), 0, 64 * PAGE, 0, 8, -EINVAL},
	{"other page size", sizeof(struct get), 0, 2 * MIB, 2 * MIB, 8, -EINVAL},
	{"smaller pages", sizeof(struct get), 0, 64 * PAGE, 2048, 64, -EINVAL},
	{"IOVA not aligned", sizeof(struct get), 1, 64 * PAGE, PAGE, 8, -EINVAL},
	{"size not aligned", sizeof(struct get), 0, 64 * PAGE + 1, PAGE, 16, -EINVAL},
	{"no bitmap", sizeof(struct get), 0, 64 * PAGE, PAGE, 0, -EINVAL},
	{"bitmap too small", sizeof(struct get), 0, 65 * PAGE, PAGE, 8, -EINVAL},
	{"bitmap too large", sizeof(struct get), 0, 64 * PAGE, PAGE, 256 * MIB + 1, -EINVAL},
	{"bitmap beyond the program", sizeof(struct get), 0, 64 * PAGE, PAGE, 1ULL << 47, -EINVAL},
	{"less than a page", sizeof(struct get), 0, PAGE / 2, PAGE, 8, -EINVAL},
	{"cuts the first", sizeof(struct get), 0, 32 * PAGE, PAGE, 8, -EINVAL},
	{"begins inside", sizeof(struct get), PAGE, 63 * PAGE, PAGE, 8, -EINVAL},
	{"ends inside", sizeof(struct get), 0, 102 * PAGE, PAGE, 16, -EINVAL},
	{"one", sizeof(struct get), 0, 64 * PAGE, PAGE, 8, 0},
	{"both", sizeof(struct get), 0, 128 * PAGE, PAGE, 16, 0},
	{"neither", sizeof(struct get), 64 * PAGE, PAGE, PAGE, 8, 0},
	{"more than it knows", sizeof(struct get) + 64, 0, 64 * PAGE, PAGE, 8, 0},
};

static void test_get_errors(void **state)
{
	struct world *world = *state;
	struct opened opened = open_with_dma(world, VFIO_TYPE1v2_IOMMU);
	uint64_t words[8];

	assert_int_equal(world_map(world, opened.container, READ_WRITE, 0, 64 * PAGE, memory), 0);
	assert_int_equal(
		world_map(world, opened.container, READ_WRITE, 100 * PAGE, 4 * PAGE, memory), 0);
	assert_int_equal(dirty(world, opened.container, START), 0);
	for (size_t i = 0; i < sizeof(gets) / sizeof(gets[0]); i++) {
		struct get argument = {
			.argsz = gets[i].argsz,
			.flags = GET,
			.range = {.iova = gets[i].iova,
				  .size = gets[i].size,
				  .bitmap = {.pgsize = gets[i].pgsize,
					     .size = gets[i].bytes,
					     .data = (void *)words}},
		};
		long ret =
			world_ioctl_of(world, opened.container, VFIO_IOMMU_DIRTY_PAGES, &argument);

		if (ret != gets[i].result)
			fail_msg("%s: %ld instead of %ld", gets[i].what, ret, gets[i].result);
	}
	world_close_all(world, &opened);
}

static void test_written_pages(void **state)
{
	struct world *world = *state;
	struct opened opened = open_with_dma(world, VFIO_TYPE1v2_IOMMU);
	uint64_t words[4] = {0};

	assert_int_equal(world_map(world, opened.container, READ_WRITE, 0, 70 * PAGE, memory), 0);
	assert_int_equal(
		world_map(world, opened.container, READ_WRITE, 70 * PAGE, 20 * PAGE, memory), 0);
	assert_int_equal(
		world_map(world, opened.container, READ_WRITE, 192 * PAGE, 4 * PAGE, memory), 0);
	write_page(world, 5); /* before it is on */
	assert_int_equal(dirty(world, opened.container, START), 0);
	write_page(world, 3);
	write_page(world, 69);
	write_page(world, 70);
	write_page(world, 195);
	words[2] = 0xdead; /* nothing is mapped there: stays */
	assert_int_equal(get(world, opened.container, 0, 256 * PAGE, words, 4), 0);
	assert_int_equal(words[0], 1ULL << 3);
	assert_int_equal(words[1], 3ULL << 5);
	assert_int_equal(words[2], 0xdead);
	assert_int_equal(words[3], 1ULL << 3);
	memset(words, 0, sizeof(words));
	assert_int_equal(get(world, opened.container, 0, 256 * PAGE, words, 4), 0);
	assert_int_equal(words[0] | words[1] | words[2] | words[3], 0);
	/* From another base, in a word with what was there before. */
	write_page(world, 71);
	assert_int_equal(get(world, opened.container, 70 * PAGE, 20 * PAGE, words, 1), 0);
	assert_int_equal(words[0], 2);
	world_close_all(world, &opened);
}

/* More than is written at a time. */
static void test_large(void **state)
{
	struct world *world = *state;
	struct opened opened = open_with_dma(world, VFIO_TYPE1v2_IOMMU);
	const uint64_t pages = 3 * 512 * 64 + 7, count = pages / 64 + 1;
	uint64_t *words =
		mmap(NULL, count * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *much = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_int_equal(world_map(world, opened.container, READ_WRITE, 0, pages * PAGE, much), 0);
	assert_int_equal(dirty(world, opened.container, START), 0);
	write_page(world, 0);
	write_page(world, 512 * 64 - 1);
	write_page(world, 512 * 64);
	write_page(world, pages - 1);
	assert_int_equal(get(world, opened.container, 0, pages * PAGE, words, count), 0);
	assert_int_equal(words[0], 1);
	assert_int_equal(words[511], 1ULL << 63);
	assert_int_equal(words[512], 1);
	assert_int_equal(words[count - 1], 1ULL << 6);
	world_close_all(world, &opened);
	munmap(words, count * 8);
	munmap(much, pages * PAGE);
}

/* What can't be told is told the next time. */
static void test_bad_pointer(void **state)
{
	struct world *world = *state;
	struct opened opened = open_with_dma(world, VFIO_TYPE1v2_IOMMU);
	uint64_t word = 0;

	assert_int_equal(world_map(world, opened.container, READ_WRITE, 0, 64 * PAGE, memory), 0);
	assert_int_equal(dirty(world, opened.container, START), 0);
	write_page(world, 9);
	assert_int_equal(get(world, opened.container, 0, 64 * PAGE, (uint64_t *)8, 1), -EFAULT);
	assert_int_equal(get(world, opened.container, 0, 64 * PAGE, &word, 1), 0);
	assert_int_equal(word, 1ULL << 9);
	world_close_all(world, &opened);
}

/* ---- VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP ---- */

struct unmap { /* struct vfio_iommu_type1_dma_unmap with its data */
	uint32_t argsz, flags;
	uint64_t iova, size;
	struct vfio_bitmap bitmap;
};

static long unmap_with(struct world *world, int container, struct unmap *unmap, uint64_t iova,
		       uint64_t size, uint64_t *words, uint64_t bytes)
{
	*unmap = (struct unmap){
		.argsz = sizeof(*unmap),
		.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
		.iova = iova,
		.size = size,
		.bitmap = {.pgsize = PAGE, .size = bytes, .data = (void *)words},
	};
	return world_ioctl_of(world, container, VFIO_IOMMU_UNMAP_DMA, unmap);
}

static void test_unmap(void **state)
{
	struct world *world = *state;
	struct opened opened = open_with_dma(world, VFIO_TYPE1v2_IOMMU);
	struct unmap unmap;
	uint64_t word = 0, size = 0;

	assert_int_equal(world_map(world, opened.container, READ_WRITE, 4 * PAGE, 2 * PAGE, memory),
			 0);
	/* Off. */
	assert_int_equal(unmap_with(world, opened.container, &unmap, 0, 8 * PAGE, &word, 8),
			 -EINVAL);
	assert_int_equal(dirty(world, opened.container, START), 0);
	assert_int_equal(unmap_with(world, opened.container, &unmap, 0, 65 * PAGE, &word, 8),
			 -EINVAL);
	assert_int_equal(unmap_with(world, opened.container, &unmap, 0, 8 * PAGE, &word, 0),
			 -EINVAL);
	assert_int_equal(unmap_with(world, opened.container, &unmap, 0, 5 * PAGE, &word, 8),
			 -EINVAL);
	write_page(world, 5);
	assert_int_equal(unmap_with(world, opened.container, &unmap, 0, 8 * PAGE, (uint64_t *)8, 8),
			 -EFAULT);
	assert_int_equal(world_available(world, opened.container), 65534);
	assert_int_equal(unmap_with(world, opened.container, &unmap, 0, 8 * PAGE, &word, 8), 0);
	assert_int_equal(unmap.size, 2 * PAGE);
	assert_int_equal(word, 1ULL << 5);
	assert_int_equal(world_available(world, opened.container), 65535);
	/* Without a bitmap it goes as ever. */
	assert_int_equal(world_map(world, opened.container, READ_WRITE, 0, PAGE, memory), 0);
	assert_int_equal(world_unmap(world, opened.container, VFIO_DMA_UNMAP_FLAG_ALL, 0, &size),
			 0);
	assert_int_equal(size, PAGE);
	world_close_all(world, &opened);
}

/* Only what was written, in as many words as there are; those of no mapping stay. */
static void test_unmap_large(void **state)
{
	struct world *world = *state;
	struct opened opened = open_with_dma(world, VFIO_TYPE1v2_IOMMU);
	const uint64_t pages = 2 * 512 * 64, count = pages / 64;
	uint64_t *words = malloc((count + 1) * sizeof(*words));
	void *much = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct unmap unmap;

	memset(words, 0xff, (count + 1) * sizeof(*words));
	assert_int_equal(world_map(world, opened.container, READ_WRITE, 0, pages * PAGE, much), 0);
	assert_int_equal(dirty(world, opened.container, START), 0);
	for (uint64_t page = 0; page < 600 * 64; page += 64)
		write_page(world, page);
	write_page(world, 700 * 64 + 1);
	write_page(world, pages - 1);
	assert_int_equal(unmap_with(world, opened.container, &unmap, 0, (pages + 64) * PAGE, words,
				    (count + 1) * sizeof(*words)),
			 0);
	assert_int_equal(unmap.size, pages * PAGE);
	for (uint64_t i = 0; i < count; i++)
		assert_true(words[i] == (i < 600	  ? 1
					 : i == 700	  ? 2
					 : i + 1 == count ? 1ULL << 63
							  : 0));
	assert_true(words[count] == UINT64_MAX);
	world_close_all(world, &opened);
	free(words);
	munmap(much, pages * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_switch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_version_1, setup, teardown),
		cmocka_unit_test_setup_teardown(test_get_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_written_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_pointer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unmap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unmap_large, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
