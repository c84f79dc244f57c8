/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines for `--verbose`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <uvfio/uapi.h>
#include <uvfio/uapi_iommufd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/trace.h"
#include "frontends/uapi/uapi.h"

static char last[1024];

static void keep(void *opaque, const char *line)
{
	snprintf(last, sizeof(last), "%s", line);
}

static void expect(int number, const char *file, const uint64_t arguments[6], int64_t result,
		   const char *line)
{
	struct uvf_run run = {.config = {.trace = keep}};
	struct uapi_call call = {.run = &run, .thread = 42, .number = number, .file_name = file};

	memcpy(call.arguments, arguments, sizeof(call.arguments));
	last[0] = '\0';
	uapi_trace_call(&call, result, 1002003004);
	assert_string_equal(last, line);
}

#define ARGUMENTS(...) ((const uint64_t[6]){__VA_ARGS__})
#define ADDRESS(x)     ((uintptr_t)(x))

static void test_calls(void **state)
{
	static const uint32_t value = 0x1234;
	static const uint8_t bytes[20] = {1, 2, 3};

	expect(__NR_openat, "container",
	       ARGUMENTS((uint64_t)AT_FDCWD, ADDRESS("/dev/vfio/vfio"), O_RDWR | O_CLOEXEC), 960,
	       "[42] openat(AT_FDCWD, \"/dev/vfio/vfio\", O_RDWR|O_CLOEXEC) = 960 <1.002003>");
	expect(__NR_open, NULL, ARGUMENTS(8, O_RDONLY | 0x20000000), -EBUSY,
	       "[42] open(0x8, O_RDONLY|0x20000000) = -1 EBUSY (Device or resource busy) "
	       "<1.002003>");
	expect(__NR_pread64, "device", ARGUMENTS(960, ADDRESS(&value), 4, (7ULL << 40) + 4), 4,
	       "[42] pread64(960<device>, [0x00001234], 4, CONFIG+0x4) = 4 <1.002003>");
	expect(__NR_pread64, "device", ARGUMENTS(960, 8, 4, 0), -EFAULT,
	       "[42] pread64(960<device>, 0x8, 4, BAR0+0) = -1 EFAULT (Bad address) <1.002003>");
	expect(__NR_pwrite64, "device", ARGUMENTS(960, ADDRESS(bytes), 20, 42ULL << 40), -EINVAL,
	       "[42] pwrite64(960<device>, [01 02 03 00 00 00 00 00 00 00 00 00 00 00 00 00 ...], "
	       "20, 0x2a0000000000) = -1 EINVAL (Invalid argument) <1.002003>");
	expect(__NR_mmap, "device",
	       ARGUMENTS(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 960, 2ULL << 40),
	       0x7f0000000000,
	       "[42] mmap(0, 0x1000, PROT_READ|PROT_WRITE, MAP_SHARED, 960<device>, BAR2+0) = "
	       "0x7f0000000000 <1.002003>");
	last[0] = 'x';
	expect(__NR_openat, NULL, ARGUMENTS(0), UAPI_CONTINUE, "");
}

static void test_ioctls(void **state)
{
	static const struct vfio_iommu_type1_dma_map map = {
		.argsz = 32, .flags = 3, .vaddr = 0x7000, .iova = 0x1000, .size = 0x2000};
	static const struct vfio_irq_set irqs = {.argsz = 20, .flags = 0x41, .index = 2};
	static const struct iommu_ioas_iova_ranges ranges = {
		.size = 32, .ioas_id = 3, .num_iovas = 2, .out_iova_alignment = 4096};
	static const int32_t fd = -1;

	expect(__NR_ioctl, "container", ARGUMENTS(960, VFIO_GET_API_VERSION), 0,
	       "[42] ioctl(960<container>, VFIO_GET_API_VERSION) = 0 <1.002003>");
	expect(__NR_ioctl, "container", ARGUMENTS(960, VFIO_SET_IOMMU, 3), 0,
	       "[42] ioctl(960<container>, VFIO_SET_IOMMU, 3) = 0 <1.002003>");
	expect(__NR_ioctl, "container", ARGUMENTS(960, VFIO_IOMMU_MAP_DMA, ADDRESS(&map)), 0,
	       "[42] ioctl(960<container>, VFIO_IOMMU_MAP_DMA, {argsz=32, flags=READ|WRITE, "
	       "vaddr=0x7000, iova=0x1000, size=0x2000}) = 0 <1.002003>");
	expect(__NR_ioctl, "device", ARGUMENTS(961, VFIO_DEVICE_SET_IRQS, ADDRESS(&irqs)), 0,
	       "[42] ioctl(961<device>, VFIO_DEVICE_SET_IRQS, {argsz=20, "
	       "flags=DATA_NONE|0x40, index=2, start=0, count=0}) = 0 <1.002003>");
	expect(__NR_ioctl, "iommufd", ARGUMENTS(962, IOMMU_IOAS_IOVA_RANGES, ADDRESS(&ranges)), 0,
	       "[42] ioctl(962<iommufd>, IOMMU_IOAS_IOVA_RANGES, {size=32, ioas_id=3, "
	       "num_iovas=2, allowed_iovas=0, out_iova_alignment=0x1000}) = 0 <1.002003>");
	expect(__NR_ioctl, "group", ARGUMENTS(963, VFIO_GROUP_SET_CONTAINER, ADDRESS(&fd)), -EBADF,
	       "[42] ioctl(963<group>, VFIO_GROUP_SET_CONTAINER, {fd=-1}) = -1 EBADF (Bad file "
	       "descriptor) <1.002003>");
	expect(__NR_ioctl, "group",
	       ARGUMENTS(963, VFIO_GROUP_GET_DEVICE_FD, ADDRESS("0000:01:00.0")), 964,
	       "[42] ioctl(963<group>, VFIO_GROUP_GET_DEVICE_FD, \"0000:01:00.0\") = 964 "
	       "<1.002003>");
	expect(__NR_ioctl, "group", ARGUMENTS(963, VFIO_GROUP_GET_STATUS, 8), -EFAULT,
	       "[42] ioctl(963<group>, VFIO_GROUP_GET_STATUS, {0x8}) = -1 EFAULT (Bad address) "
	       "<1.002003>");
	expect(__NR_ioctl, "group", ARGUMENTS(963, 0x3bff, 5), -ENOTTY,
	       "[42] ioctl(963<group>, 0x3bff, 0x5) = -1 ENOTTY (Inappropriate ioctl for device) "
	       "<1.002003>");
}

/* However long: the line is cut, and no more. */
static void test_long(void **state)
{
	char path[600];

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	expect(__NR_open, NULL, ARGUMENTS(8), -ENOENT,
	       "[42] open(0x8, O_RDONLY) = -1 ENOENT (No such file or directory) <1.002003>");
	path[250] = '\0';
	struct uvf_run run = {.config = {.trace = keep}};
	struct uapi_call call = {
		.run = &run, .number = __NR_newfstatat, .arguments = {3, ADDRESS(path), 4, 5}};

	uapi_trace_call(&call, 0, 0);
	assert_non_null(strstr(last, "xxx\", 0x4, 0x5) = 0 <0.000000>"));
}

/* What is not one line of text, and quotes, are not to be taken for more than they are. */
static void test_escapes(void **state)
{
	char path[255];

	expect(__NR_open, NULL, ARGUMENTS(ADDRESS("a\n[1] \"\\\t\r\033[2J\177\303\251 7")), -ENOENT,
	       "[42] open(\"a\\n[1] \\\"\\\\\\t\\r\\033[2J\\177\\303\\251 7\", O_RDONLY) = -1 "
	       "ENOENT (No such file or directory) <1.002003>");
	/* Where it gets long it is cut, and nothing else. */
	memset(path, 1, sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	struct uvf_run run = {.config = {.trace = keep}};
	struct uapi_call call = {.run = &run, .number = __NR_open, .arguments = {ADDRESS(path)}};

	uapi_trace_call(&call, 0, 0);
	assert_non_null(strstr(last, "\\001\"..., O_RDONLY) = 0 <0.000000>"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_ioctls),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_escapes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
