/* SPDX-License-Identifier: BSD-3-Clause */
/* Address spaces of the program: what is mapped, refused, unmapped and told of. */
#include <errno.h>

#include "ioas_rig.h"

#define RW UVF_PROT_RW

static char memory[16 * PAGE] __attribute__((aligned(4096)));

static void a_mapping_is_the_programs_memory(void **unused)
{
	struct rig rig;
	char buf[16];

	rig_new(&rig, NULL);
	assert_int_equal(rig_map(&rig, 0x10000, 2 * PAGE, RW, memory), 0);
	strcpy(memory + PAGE - 2, "across");
	assert_int_equal(uvf_attachment_read(rig.attachment, 0x10000 + PAGE - 2, buf, 7), 0);
	assert_string_equal(buf, "across");
	assert_int_equal(uvf_attachment_write(rig.attachment, 0x10000, "written", 8), 0);
	assert_string_equal(memory, "written");
	assert_int_equal(rig_unmap(&rig, 0, UINT64_MAX), 2 * PAGE);
	assert_int_equal(uvf_attachment_read(rig.attachment, 0x10000, buf, 7), -EFAULT);
	rig_free(&rig);
}

static void permissions(void **unused)
{
	struct rig rig;
	char buf[4] = "abc";

	rig_new(&rig, NULL);
	assert_int_equal(rig_map(&rig, 0, PAGE, UVF_PROT_READ, memory), 0);
	assert_int_equal(rig_map(&rig, PAGE, PAGE, UVF_PROT_WRITE, memory), 0);
	assert_int_equal(uvf_attachment_read(rig.attachment, 0, buf, 4), 0);
	assert_int_equal(uvf_attachment_write(rig.attachment, 0, buf, 4), -EACCES);
	assert_int_equal(uvf_attachment_read(rig.attachment, PAGE, buf, 4), -EACCES);
	assert_int_equal(uvf_attachment_write(rig.attachment, PAGE, buf, 4), 0);
	rig_free(&rig);
}

/* ---- What is refused ---- */

struct refusal {
	uint64_t iova, size;
	unsigned prot;
	uint64_t vaddr;
	int type1, iommufd;
};

/* With [16, 18) pages mapped, 48 bits, and [32, 34) pages reserved. */
static void refusals(void **unused)
{
	const struct uvf_iova_range reserved = {32 * PAGE, 34 * PAGE - 1};
	const struct uvf_run_config config = {
		.aperture = {PAGE, (1ULL << 48) - 1},
		.reserved = &reserved,
		.reserved_count = 1,
	};
	const uint64_t vaddr = (uintptr_t)memory;
	const struct refusal table[] = {
		{PAGE, 0, RW, vaddr, -EINVAL, -EINVAL},
		{PAGE, PAGE, 0, vaddr, -EINVAL, -EINVAL},
		{PAGE, PAGE, 4, vaddr, -EINVAL, -EINVAL},
		{PAGE + 1, PAGE, RW, vaddr, -EINVAL, -EINVAL},
		{PAGE, PAGE + 1, RW, vaddr, -EINVAL, -EINVAL},
		{PAGE, PAGE, RW, vaddr + 1, -EINVAL, -EINVAL},
		/* Passing 2^64 comes first for type1, alignment before it for iommufd. */
		{TOP_PAGE, 2 * PAGE, RW, vaddr, -EOVERFLOW, -EOVERFLOW},
		{PAGE, 2 * PAGE, RW, TOP_PAGE, -EOVERFLOW, -EOVERFLOW},
		{TOP_PAGE + 1, PAGE, RW, vaddr, -EOVERFLOW, -EINVAL},
		{PAGE + 1, PAGE, RW, UINT64_MAX, -EOVERFLOW, -EOVERFLOW},
		/* What is mapped comes before what can't be for type1, after it for iommufd. */
		{16 * PAGE, PAGE, RW, vaddr, -EEXIST, -EEXIST},
		{15 * PAGE, 2 * PAGE, RW, vaddr, -EEXIST, -EEXIST},
		{17 * PAGE, 2 * PAGE, RW, vaddr, -EEXIST, -EEXIST},
		{15 * PAGE, 4 * PAGE, RW, vaddr, -EEXIST, -EEXIST},
		{0, 18 * PAGE, RW, vaddr, -EEXIST, -EINVAL},
		{16 * PAGE, PAGE, RW, vaddr + 8, -EINVAL, -EEXIST},
		{0, PAGE, RW, vaddr, -EINVAL, -EINVAL},
		{1ULL << 48, PAGE, RW, vaddr, -EINVAL, -EINVAL},
		{(1ULL << 48) - PAGE, 2 * PAGE, RW, vaddr, -EINVAL, -EINVAL},
		{31 * PAGE, 2 * PAGE, RW, vaddr, -EINVAL, -EINVAL},
		{33 * PAGE, PAGE, RW, vaddr, -EINVAL, -EINVAL},
		{33 * PAGE, 2 * PAGE, RW, vaddr, -EINVAL, -EINVAL},
		/* Nothing is at page 0 of a process. */
		{PAGE, PAGE, RW, 0, -EFAULT, -EFAULT},
		{PAGE, PAGE, RW, 1ULL << 60, -EFAULT, -EFAULT},
	};
	struct rig rig;

	rig_new(&rig, &config);
	assert_int_equal(rig_map(&rig, 16 * PAGE, 2 * PAGE, RW, memory), 0);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct refusal *r = &table[i];
		const void *at = (const void *)(uintptr_t)r->vaddr;

		assert_int_equal(rig_map(&rig, r->iova, r->size, r->prot, at), r->type1);
		assert_int_equal(rig_map_iommufd(&rig, r->iova, r->size, r->prot, at), r->iommufd);
	}
	assert_int_equal(rig_stats(&rig).mappings, 1);
	assert_int_equal(rig_map(&rig, 31 * PAGE, PAGE, RW, memory), 0);
	assert_int_equal(rig_map(&rig, 34 * PAGE, PAGE, RW, memory), 0);
	assert_int_equal(rig_map(&rig, PAGE, PAGE, RW, memory), 0);
	assert_int_equal(rig_map(&rig, (1ULL << 48) - PAGE, PAGE, RW, memory), 0);
	rig_free(&rig);
}

/* An address of the program is aligned to its pages where those of the IOMMU are larger. */
static void large_granule(void **unused)
{
	const struct uvf_run_config config = {.page_sizes = 1ULL << 16};
	char *at = rig_pages(33);
	char *aligned = (char *)(((uintptr_t)at + 0xffff) & ~0xffffULL);
	struct rig rig;

	rig_new(&rig, &config);
	assert_int_equal(uapi_ioas_page_sizes(rig.ioas), 1ULL << 16);
	assert_int_equal(rig_map(&rig, 0, PAGE, RW, aligned), -EINVAL);
	assert_int_equal(rig_map(&rig, 0, 0x10000, RW, aligned + PAGE), -EINVAL);
	assert_int_equal(rig_map_iommufd(&rig, 0, 0x10000, RW, aligned + 8), -EINVAL);
	assert_int_equal(rig_map_iommufd(&rig, 0, 0x10000, RW, aligned + PAGE), 0);
	assert_int_equal(rig_map(&rig, 0x10000, 0x10000, RW, aligned), 0);
	rig_free(&rig);
	munmap(at, 33 * PAGE);
}

static void limits(void **unused)
{
	const struct uvf_run_config config = {.max_mappings = 3, .max_locked_memory = 6 * PAGE};
	struct rig rig;

	rig_new(&rig, &config);
	assert_int_equal(uapi_ioas_available(rig.ioas), 3);
	assert_int_equal(rig_map(&rig, 0, 7 * PAGE, RW, memory), -ENOMEM);
	assert_int_equal(rig_map(&rig, 0, 3 * PAGE, RW, memory), 0);
	assert_int_equal(rig_map(&rig, 8 * PAGE, 4 * PAGE, RW, memory), -ENOMEM);
	assert_int_equal(rig_map(&rig, 8 * PAGE, PAGE, RW, memory), 0);
	assert_int_equal(rig_map(&rig, 9 * PAGE, PAGE, RW, memory), 0);
	assert_int_equal(uapi_ioas_available(rig.ioas), 0);
	/* What is mapped already is told first, then the limit, then what can't be. */
	assert_int_equal(rig_map(&rig, 9 * PAGE, PAGE, RW, memory), -EEXIST);
	assert_int_equal(rig_map(&rig, 10 * PAGE, PAGE, RW, NULL), -ENOSPC);
	/* iommufd has none on their number. */
	assert_int_equal(rig_map_iommufd(&rig, 10 * PAGE, PAGE, RW, memory), 0);
	assert_int_equal(rig_map_iommufd(&rig, 11 * PAGE, PAGE, RW, memory), -ENOMEM);
	assert_int_equal(uapi_ioas_available(rig.ioas), 0);
	assert_int_equal(rig_unmap(&rig, 0, 9 * PAGE - 1), 4 * PAGE);
	assert_int_equal(uapi_ioas_available(rig.ioas), 1);
	assert_int_equal(rig_map(&rig, 0, 4 * PAGE, RW, memory), 0);
	rig_free(&rig);
}

static void default_limit(void **unused)
{
	struct rig rig;

	rig_new(&rig, NULL);
	assert_int_equal(uapi_ioas_available(rig.ioas), 65535);
	rig_free(&rig);
}

/* ---- Ranges ---- */

static void check_ranges(const struct uvf_run_config *config, const struct uvf_iova_range *expected,
			 size_t count)
{
	struct uvf_iova_range ranges[8];
	struct rig rig;

	rig_new(&rig, config);
	assert_int_equal(uapi_ioas_ranges(rig.ioas, NULL, 0), count);
	assert_int_equal(uapi_ioas_ranges(rig.ioas, ranges, 8), count);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(ranges[i].first, expected[i].first);
		assert_int_equal(ranges[i].last, expected[i].last);
	}
	if (count > 1) {
		ranges[1].first = 1234;
		assert_int_equal(uapi_ioas_ranges(rig.ioas, ranges, 1), count);
		assert_int_equal(ranges[1].first, 1234);
	}
	rig_free(&rig);
}

static void ranges(void **unused)
{
	const struct uvf_iova_range overlapping[] = {
		{0x9000, 0xafff}, {0x3000, 0x4fff}, {0x4000, 0x5fff}, {0x6000, 0x6fff}};
	const struct uvf_iova_range ends[] = {{0, 0xfff}, {TOP_PAGE, UINT64_MAX}};
	const struct uvf_iova_range odd[] = {{0x1800, 0x27ff}};
	const struct uvf_iova_range all[] = {{0, UINT64_MAX}};
	struct uvf_run_config config = {0};

	check_ranges(&config, (struct uvf_iova_range[]){{0, UINT64_MAX}}, 1);
	config.aperture = (struct uvf_iova_range){0x1000, 0xffff};
	check_ranges(&config, (struct uvf_iova_range[]){{0x1000, 0xffff}}, 1);
	config.reserved = overlapping;
	config.reserved_count = 4;
	check_ranges(
		&config,
		(struct uvf_iova_range[]){{0x1000, 0x2fff}, {0x7000, 0x8fff}, {0xb000, 0xffff}}, 3);
	config.reserved = odd;
	config.reserved_count = 1;
	check_ranges(&config, (struct uvf_iova_range[]){{0x3000, 0xffff}}, 1);
	config.reserved = ends;
	config.reserved_count = 2;
	check_ranges(&config, (struct uvf_iova_range[]){{0x1000, 0xffff}}, 1);
	config.aperture = (struct uvf_iova_range){0};
	check_ranges(&config, (struct uvf_iova_range[]){{0x1000, TOP_PAGE - 1}}, 1);
	config.reserved = all;
	config.reserved_count = 1;
	check_ranges(&config, NULL, 0);
}

/* ---- Unmapping ---- */

static void unmap_whole_mappings(void **unused)
{
	struct uvf_iova_range found;
	struct rig rig;
	uint64_t unmapped = 1;

	rig_new(&rig, NULL);
	for (uint64_t at = 2; at <= 6; at += 2)
		assert_int_equal(rig_map(&rig, at * PAGE, 2 * PAGE, RW, memory), 0);
	assert_false(uapi_ioas_cuts(rig.ioas, 0, UINT64_MAX));
	assert_false(uapi_ioas_cuts(rig.ioas, 2 * PAGE, 8 * PAGE - 1));
	assert_true(uapi_ioas_cuts(rig.ioas, 3 * PAGE, 8 * PAGE - 1));
	assert_true(uapi_ioas_cuts(rig.ioas, 2 * PAGE, 7 * PAGE - 1));
	assert_int_equal(uapi_ioas_unmap(rig.ioas, 3 * PAGE, UINT64_MAX, &unmapped), -ENOENT);
	assert_int_equal(unmapped, 0);
	assert_int_equal(uapi_ioas_unmap(rig.ioas, 0, 7 * PAGE - 1, &unmapped), -ENOENT);
	assert_int_equal(uapi_ioas_unmap(rig.ioas, 2 * PAGE + 5, 2 * PAGE + 6, &unmapped), -ENOENT);
	assert_int_equal(rig_stats(&rig).mappings, 3);
	assert_true(uapi_ioas_find(rig.ioas, 0, UINT64_MAX, &found));
	assert_int_equal(found.first, 2 * PAGE);
	assert_int_equal(found.last, 4 * PAGE - 1);
	assert_true(uapi_ioas_find(rig.ioas, 5 * PAGE, 5 * PAGE, &found));
	assert_int_equal(found.first, 4 * PAGE);
	assert_false(uapi_ioas_find(rig.ioas, 8 * PAGE, UINT64_MAX, &found));
	assert_false(uapi_ioas_find(rig.ioas, 0, 2 * PAGE - 1, &found));
	assert_int_equal(rig_unmap(&rig, 0, 2 * PAGE - 1), 0);
	rig_free(&rig);
}

static void unmap_counts(void **unused)
{
	struct rig rig;

	rig_new(&rig, NULL);
	for (uint64_t at = 2; at <= 6; at += 2)
		assert_int_equal(rig_map(&rig, at * PAGE, PAGE, RW, memory), 0);
	/* A range need not be aligned if what lies in it lies there whole. */
	assert_int_equal(rig_unmap(&rig, 3 * PAGE + 1, 6 * PAGE - 2), PAGE);
	assert_int_equal(rig_unmap(&rig, 0, UINT64_MAX), 2 * PAGE);
	assert_int_equal(rig_unmap(&rig, 0, UINT64_MAX), 0);
	assert_int_equal(rig_stats(&rig).bytes, 0);
	/* The first and the last page there are. */
	assert_int_equal(rig_map(&rig, 0, PAGE, RW, memory), 0);
	assert_int_equal(rig_map(&rig, TOP_PAGE, PAGE, RW, memory), 0);
	assert_int_equal(rig_unmap(&rig, 0, UINT64_MAX), 2 * PAGE);
	rig_free(&rig);
}

/* More of them than are taken at a time. */
static void unmap_many(void **unused)
{
	struct rig rig;

	rig_new(&rig, NULL);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(rig_map(&rig, i * 3 * PAGE, PAGE, RW, memory), 0);
	assert_int_equal(rig_unmap(&rig, 300 * PAGE, 600 * PAGE - 1), 100 * PAGE);
	assert_int_equal(rig_unmap(&rig, 0, UINT64_MAX), 900 * PAGE);
	assert_int_equal(uapi_ioas_available(rig.ioas), 65535);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mapping_is_the_programs_memory),
		cmocka_unit_test(permissions),
		cmocka_unit_test(refusals),
		cmocka_unit_test(large_granule),
		cmocka_unit_test(limits),
		cmocka_unit_test(default_limit),
		cmocka_unit_test(ranges),
		cmocka_unit_test(unmap_whole_mappings),
		cmocka_unit_test(unmap_counts),
		cmocka_unit_test(unmap_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
