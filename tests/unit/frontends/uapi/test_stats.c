/* SPDX-License-Identifier: BSD-3-Clause */
/* Counters and percentiles of calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <asm/unistd.h>
#include <pthread.h>
#include <string.h>
#include <uvfio/run.h>
#include <uvfio/uapi.h>
#include <uvfio/uapi_iommufd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/stats.h"

static void test_percentiles(void **state)
{
	struct uapi_stats *stats = uapi_stats_new();
	struct uvf_run_stat rows[4];

	assert_non_null(stats);
	assert_int_equal(uapi_stats_read(stats, rows, 4), 0);
	for (uint64_t ns = 1; ns <= 10000; ns++)
		uapi_stats_count(stats, 0, ns, ns % 100 == 0);
	uapi_stats_count(stats, 1, UINT64_MAX / 2, true);
	assert_int_equal(uapi_stats_read(stats, rows, 4), 2);
	assert_string_equal(rows[0].name, uapi_kind_name(0));
	assert_int_equal(rows[0].count, 10000);
	assert_int_equal(rows[0].errors, 100);
	assert_int_equal(rows[0].total_ns, 10000ULL * 10001 / 2);
	assert_int_equal(rows[0].max_ns, 10000);
	assert_in_range(rows[0].p50_ns, 5000, 5000 + 5000 / 8);
	assert_in_range(rows[0].p99_ns, 9900, 10000);
	assert_int_equal(rows[1].count, 1);
	assert_int_equal(rows[1].max_ns, UINT64_MAX / 2);
	/* Less room than there are rows. */
	memset(rows, 0, sizeof(rows));
	assert_int_equal(uapi_stats_read(stats, rows, 1), 2);
	assert_null(rows[1].name);
	uapi_stats_free(stats);
}

/* Whatever it is, what a percentile tells is right within an eighth. */
static void test_precision(void **state)
{
	for (unsigned power = 0; power < 42; power++) {
		for (uint64_t part = 0; part < 16; part++) {
			uint64_t ns = (1ULL << power) + ((1ULL << power) * part) / 16;
			struct uapi_stats *stats = uapi_stats_new();
			struct uvf_run_stat row;

			assert_non_null(stats);
			uapi_stats_count(stats, 3, ns, false);
			uapi_stats_count(stats, 3, ns, false);
			uapi_stats_count(stats, 3, 1ULL << 45, false);
			assert_int_equal(uapi_stats_read(stats, &row, 1), 1);
			assert_in_range(row.p50_ns, ns, ns + ns / 8);
			uapi_stats_free(stats);
		}
	}
}

static void *count_often(void *opaque)
{
	for (uint64_t i = 0; i < 10000; i++)
		uapi_stats_count(opaque, 2, i, true);
	return NULL;
}

static void test_threads(void **state)
{
	struct uapi_stats *stats = uapi_stats_new();
	struct uvf_run_stat row;
	pthread_t threads[4];

	assert_non_null(stats);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_often, stats), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(uapi_stats_read(stats, &row, 1), 1);
	assert_int_equal(row.count, 40000);
	assert_int_equal(row.errors, 40000);
	assert_int_equal(row.max_ns, 9999);
	uapi_stats_free(stats);
}

static const char *name_of(int number, const char *file, uint64_t command)
{
	struct uapi_call call = {.number = number, .arguments = {3, command}, .file_name = file};

	return uapi_kind_name(uapi_kind_of_call(&call, false));
}

/* VFIO's numbers mean different things to different files. */
static void test_names(void **state)
{
	struct uapi_call call = {.number = __NR_openat};

	assert_int_equal(VFIO_IOMMU_MAP_DMA, VFIO_DEVICE_PCI_HOT_RESET);
	assert_string_equal(name_of(__NR_ioctl, "container", VFIO_IOMMU_MAP_DMA),
			    "VFIO_IOMMU_MAP_DMA");
	assert_string_equal(name_of(__NR_ioctl, "iommufd", VFIO_IOMMU_MAP_DMA),
			    "VFIO_IOMMU_MAP_DMA");
	assert_string_equal(name_of(__NR_ioctl, "device", VFIO_IOMMU_MAP_DMA),
			    "VFIO_DEVICE_PCI_HOT_RESET");
	assert_string_equal(name_of(__NR_ioctl, "group", VFIO_IOMMU_MAP_DMA), "ioctl");
	assert_string_equal(name_of(__NR_ioctl, NULL, VFIO_IOMMU_MAP_DMA), "ioctl");
	assert_string_equal(name_of(__NR_ioctl, "iommufd", IOMMU_IOAS_MAP), "IOMMU_IOAS_MAP");
	assert_string_equal(name_of(__NR_pread64, "device", 0), "pread64");
	assert_string_equal(name_of(__NR_getpid, NULL, 0), "another call");
	assert_string_equal(uapi_kind_name(uapi_kind_of_call(&call, true)), "(passed on)");
	assert_true(uapi_kind_of_call(&call, true) < uapi_kind_count());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_percentiles),
		cmocka_unit_test(test_precision),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
