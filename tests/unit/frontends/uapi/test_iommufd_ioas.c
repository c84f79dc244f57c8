/* SPDX-License-Identifier: BSD-3-Clause */
/* iommufd's address spaces: mapping in all its forms, unmapping, and where mappings can be. */
#include "iommufd_rig.h"

static char memory[16 * PAGE] __attribute__((aligned(4096)));

struct setup {
	struct world *world;
	int fd, cdev;
	uint32_t id;
};

/* An address space to which device 2 is attached. */
static struct setup set_up(void **state)
{
	struct setup s = {.world = *state};
	uint32_t device, table;

	s.fd = world_open_iommufd(s.world);
	s.cdev = open_cdev(s.world, 2);
	s.id = ioas_alloc(s.world, s.fd);
	table = s.id;
	assert_int_equal(bind_cdev(s.world, s.cdev, s.fd, &device), 0);
	assert_int_equal(attach_cdev(s.world, s.cdev, &table), 0);
	memset(memory, 0, sizeof(memory));
	return s;
}

static void tear_down(const struct setup *s)
{
	world_close(s->world, s->cdev);
	world_close(s->world, s->fd);
}

static void mapping_fixed(void **state)
{
	struct setup s = set_up(state);
	char buf[8];

	assert_int_equal(ioas_map_fixed(s.world, s.fd, s.id, memory, 2 * PAGE, 0x10000), 0);
	assert_int_equal(dma_write(s.world, 2, 0x10000 + PAGE - 2, "across", 7), 0);
	assert_string_equal(memory + PAGE - 2, "across");
	assert_int_equal(dma_read(s.world, 2, 0x10000 + PAGE - 2, buf, 7), 0);
	assert_string_equal(buf, "across");
	assert_int_equal(dma_read(s.world, 2, 0x12000, buf, 1), -EFAULT);
	tear_down(&s);
}

static void permissions(void **state)
{
	struct setup s = set_up(state);
	uint64_t iova = 0x10000;
	char byte = 1;

	assert_int_equal(ioas_map(s.world, s.fd, s.id,
				  IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE, memory, PAGE,
				  &iova),
			 0);
	assert_int_not_equal(dma_write(s.world, 2, iova, &byte, 1), 0);
	assert_int_equal(dma_read(s.world, 2, iova, &byte, 1), 0);
	iova = 0x20000;
	assert_int_equal(ioas_map(s.world, s.fd, s.id,
				  IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE, memory,
				  PAGE, &iova),
			 0);
	assert_int_equal(dma_write(s.world, 2, iova, &byte, 1), 0);
	tear_down(&s);
}

/* What is refused, by which error first. */
static void mapping_refused(void **state)
{
	struct setup s = set_up(state);
	const uint64_t good = (uintptr_t)memory, unreadable = 8 * PAGE;
	const struct {
		uint32_t flags, id, reserved;
		uint64_t address, size, iova;
		long error;
	} cases[] = {
		{MAP_RW_FIXED | 8, 99, 0, 0, UINT64_MAX, 0, -EOPNOTSUPP},
		{MAP_RW_FIXED, 99, 1, 0, UINT64_MAX, 0, -EOPNOTSUPP},
		{IOMMU_IOAS_MAP_FIXED_IOVA, 99, 0, good, UINT64_MAX, 0, -EOVERFLOW},
		{IOMMU_IOAS_MAP_FIXED_IOVA, 99, 0, good, PAGE, UINT64_MAX, -EOVERFLOW},
		{IOMMU_IOAS_MAP_FIXED_IOVA, 99, 0, good, PAGE, PAGE, -EINVAL},
		{MAP_RW_FIXED, 99, 0, good, 0, PAGE, -ENOENT},
		{MAP_RW_FIXED, 0, 0, good, PAGE, PAGE, -ENOENT},
		{MAP_RW_FIXED, s.id, 0, good, 0, PAGE, -EINVAL},
		{MAP_RW, s.id, 0, good, 0, PAGE, -EINVAL},
		{MAP_RW_FIXED, s.id, 0, UINT64_MAX - PAGE + 1, 2 * PAGE, PAGE, -EOVERFLOW},
		{MAP_RW, s.id, 0, UINT64_MAX - PAGE + 1, 2 * PAGE, PAGE, -EOVERFLOW},
		{MAP_RW_FIXED, s.id, 0, good, PAGE + 1, PAGE, -EINVAL},
		{MAP_RW_FIXED, s.id, 0, good, PAGE, PAGE + 1, -EINVAL},
		{MAP_RW_FIXED, s.id, 0, good + 1, PAGE, PAGE, -EINVAL},
		{MAP_RW, s.id, 0, good + 1, PAGE, PAGE, -EINVAL},
		{MAP_RW_FIXED, s.id, 0, good, 4 * PAGE, 0ULL - 2 * PAGE, -EOVERFLOW},
		{MAP_RW_FIXED, s.id, 0, good, PAGE, 1ULL << 48, -EINVAL},
		{MAP_RW_FIXED, s.id, 0, good, 2 * PAGE, (1ULL << 48) - PAGE, -EINVAL},
		{MAP_RW_FIXED, s.id, 0, good, PAGE, 0xfee00000, -EINVAL},
		{MAP_RW_FIXED, s.id, 0, good, 2 * PAGE, 0xfee00000 - PAGE, -EINVAL},
		{MAP_RW_FIXED, s.id, 0, unreadable, PAGE, PAGE, -EFAULT},
		{MAP_RW, s.id, 0, unreadable, PAGE, PAGE, -EFAULT},
		{MAP_RW_FIXED, s.id, 0, good, 4 * PAGE, 0x8000, -EEXIST},
		{MAP_RW_FIXED, s.id, 0, good, PAGE, 0xa000, -EEXIST},
	};

	assert_int_equal(ioas_map_fixed(s.world, s.fd, s.id, memory, 2 * PAGE, 0xa000), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct iommu_ioas_map map = {
			.size = sizeof(map),
			.flags = cases[i].flags,
			.ioas_id = cases[i].id,
			.__reserved = cases[i].reserved,
			.user_va = cases[i].address,
			.length = cases[i].size,
			.iova = cases[i].iova,
		};
		long ret = world_ioctl_of(s.world, s.fd, IOMMU_IOAS_MAP, &map);

		if (ret != cases[i].error)
			print_message("case %zu: %ld\n", i, ret);
		assert_int_equal(ret, cases[i].error);
	}
	tear_down(&s);
}

/* ---- Addresses that iommufd chooses ---- */

static void chosen_addresses(void **state)
{
	struct setup s = set_up(state);
	uint64_t iovas[16], size;
	char byte = 7;

	for (size_t i = 0; i < 16; i++) {
		iovas[i] = 0;
		assert_int_equal(
			ioas_map(s.world, s.fd, s.id, MAP_RW, memory + i * PAGE, PAGE, &iovas[i]),
			0);
		assert_true(iovas[i] >= PAGE);
		assert_int_equal(iovas[i] % PAGE, 0);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(iovas[i], iovas[j]);
		byte = (char)i;
		assert_int_equal(dma_write(s.world, 2, iovas[i], &byte, 1), 0);
		assert_int_equal(memory[i * PAGE], byte);
	}
	size = PAGE;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, iovas[3], &size), 0);
	tear_down(&s);
}

/* Memory that is aligned to 2 MiB gets an address that is. */
static void chosen_addresses_are_aligned(void **state)
{
	struct setup s = set_up(state);
	uint64_t iova = 0, small = 0;
	char *area =
		mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *aligned = area + (2 * MIB - (uintptr_t)area % (2 * MIB)) % (2 * MIB);

	assert_true(area != MAP_FAILED);
	assert_int_equal(ioas_map(s.world, s.fd, s.id, MAP_RW, memory, PAGE, &small), 0);
	assert_int_equal(ioas_map(s.world, s.fd, s.id, MAP_RW, aligned, 2 * MIB, &iova), 0);
	assert_int_equal(iova % (2 * MIB), 0);
	tear_down(&s);
	munmap(area, 4 * MIB);
}

static long allow(struct setup *s, const struct iommu_iova_range *ranges, uint32_t count)
{
	struct iommu_ioas_allow_iovas arguments = {
		.size = sizeof(arguments),
		.ioas_id = s->id,
		.num_iovas = count,
		.allowed_iovas = (uintptr_t)ranges,
	};

	return world_ioctl_of(s->world, s->fd, IOMMU_IOAS_ALLOW_IOVAS, &arguments);
}

static void allowed_addresses(void **state)
{
	struct setup s = set_up(state);
	const struct iommu_iova_range two[] = {{0x50000, 0x50fff}, {0x30000, 0x31fff}};
	uint64_t iovas[4] = {0};

	assert_int_equal(allow(&s, two, 2), 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(ioas_map(s.world, s.fd, s.id, MAP_RW, memory, PAGE, &iovas[i]), 0);
	assert_int_equal(iovas[0], 0x30000);
	assert_int_equal(iovas[1], 0x31000);
	assert_int_equal(iovas[2], 0x50000);
	assert_int_equal(ioas_map(s.world, s.fd, s.id, MAP_RW, memory, PAGE, &iovas[3]), -ENOSPC);
	/* What is fixed may be anywhere. */
	assert_int_equal(ioas_map_fixed(s.world, s.fd, s.id, memory, PAGE, 0x10000), 0);
	/* What becomes free is found again. */
	iovas[3] = PAGE;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0x30000, &iovas[3]), 0);
	assert_int_equal(ioas_map(s.world, s.fd, s.id, MAP_RW, memory, PAGE, &iovas[3]), 0);
	assert_int_equal(iovas[3], 0x30000);
	/* None: all are allowed. */
	assert_int_equal(allow(&s, NULL, 0), 0);
	assert_int_equal(ioas_map(s.world, s.fd, s.id, MAP_RW, memory, 4 * PAGE, &iovas[3]), 0);
	tear_down(&s);
}

static void allowed_addresses_refused(void **state)
{
	struct setup s = set_up(state);
	const struct iommu_iova_range backwards = {0x2000, 0x1fff}, empty = {0x2000, 0x2000};
	const struct iommu_iova_range overlap[] = {{0x3000, 0x4fff}, {0x1000, 0x3000}};
	const struct iommu_iova_range reserved = {0xfed00000, 0xfee00000};
	const struct iommu_iova_range outside = {0x1000, 1ULL << 48}, good = {0x1000, 0x1fff};
	struct iommu_ioas_allow_iovas arguments = {
		.size = sizeof(arguments),
		.ioas_id = s.id,
		.num_iovas = 1,
		.allowed_iovas = NOWHERE,
	};
	uint64_t iova = 0;

	assert_int_equal(allow(&s, &good, 1), 0);
	assert_int_equal(allow(&s, &backwards, 1), -EINVAL);
	assert_int_equal(allow(&s, &empty, 1), -EINVAL);
	assert_int_equal(allow(&s, overlap, 2), -EINVAL);
	assert_int_equal(allow(&s, &reserved, 1), -EADDRINUSE);
	assert_int_equal(allow(&s, &outside, 1), -EADDRINUSE);
	assert_int_equal(allow(&s, &good, UINT32_MAX), -ENOMEM);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_ALLOW_IOVAS, &arguments),
			 -EFAULT);
	arguments.ioas_id = 77;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_ALLOW_IOVAS, &arguments),
			 -ENOENT);
	arguments.__reserved = 1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_ALLOW_IOVAS, &arguments),
			 -EOPNOTSUPP);
	/* What failed has changed nothing. */
	assert_int_equal(ioas_map(s.world, s.fd, s.id, MAP_RW, memory, PAGE, &iova), 0);
	assert_int_equal(iova, 0x1000);
	assert_int_equal(ioas_map(s.world, s.fd, s.id, MAP_RW, memory, PAGE, &iova), -ENOSPC);
	tear_down(&s);
}

static void ranges(void **state)
{
	struct setup s = set_up(state);
	struct iommu_iova_range found[4] = {{0}};
	struct iommu_ioas_iova_ranges arguments = {
		.size = sizeof(arguments),
		.ioas_id = s.id,
	};

	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_IOVA_RANGES, &arguments),
			 -EMSGSIZE);
	assert_int_equal(arguments.num_iovas, 2);
	assert_int_equal(arguments.out_iova_alignment, PAGE);
	arguments.num_iovas = 1;
	arguments.allowed_iovas = (uintptr_t)found;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_IOVA_RANGES, &arguments),
			 -EMSGSIZE);
	assert_int_equal(found[0].last, 0xfedfffff);
	assert_int_equal(found[1].last, 0);
	arguments.num_iovas = 4;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_IOVA_RANGES, &arguments), 0);
	assert_int_equal(arguments.num_iovas, 2);
	assert_int_equal(found[1].start, 0xfef00000);
	assert_int_equal(found[1].last, (1ULL << 48) - 1);
	arguments.allowed_iovas = NOWHERE;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_IOVA_RANGES, &arguments),
			 -EFAULT);
	arguments.ioas_id = 55;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_IOVA_RANGES, &arguments),
			 -ENOENT);
	arguments.__reserved = 1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_IOVA_RANGES, &arguments),
			 -EOPNOTSUPP);
	tear_down(&s);
}

/* ---- Unmapping ---- */

static void unmapping(void **state)
{
	struct setup s = set_up(state);
	uint64_t size = PAGE;

	/* Nothing there is an error, unless all is asked for. */
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0x1000, &size), -ENOENT);
	size = UINT64_MAX;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0, &size), 0);
	assert_int_equal(size, 0);
	assert_int_equal(ioas_map_fixed(s.world, s.fd, s.id, memory, 2 * PAGE, 0x10000), 0);
	assert_int_equal(ioas_map_fixed(s.world, s.fd, s.id, memory, PAGE, 0x20000), 0);
	size = PAGE;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0x10000, &size), -ENOENT);
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0x11000, &size), -ENOENT);
	size = 0x20000;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0x8000, &size), 0);
	assert_int_equal(size, 3 * PAGE);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(ioas_map_fixed(s.world, s.fd, s.id, memory, PAGE, i * 2 * PAGE),
				 0);
	size = UINT64_MAX;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0, &size), 0);
	assert_int_equal(size, 8 * PAGE);
	/* Refused. */
	size = 0;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0x1000, &size), -EINVAL);
	size = UINT64_MAX;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0x1000, &size), -EOVERFLOW);
	size = PAGE;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, UINT64_MAX, &size), -EOVERFLOW);
	size = 2 * PAGE;
	assert_int_equal(ioas_unmap(s.world, s.fd, s.id, 0ULL - PAGE, &size), -EOVERFLOW);
	assert_int_equal(ioas_unmap(s.world, s.fd, 44, 0, &size), -ENOENT);
	tear_down(&s);
}

/* ---- Files and copies ---- */

static long map_file(struct setup *s, uint32_t flags, int fd, uint64_t start, uint64_t size,
		     uint64_t *iova)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = flags,
		.ioas_id = s->id,
		.fd = fd,
		.start = start,
		.length = size,
		.iova = *iova,
	};
	long ret = world_ioctl_of(s->world, s->fd, IOMMU_IOAS_MAP_FILE, &map);

	*iova = map.iova;
	return ret;
}

static void mapping_a_file(void **state)
{
	struct setup s = set_up(state);
	int file = memfd_create("memory", MFD_CLOEXEC);
	uint64_t iova = 0x40000, chosen = 0;
	char buf[8] = "";

	assert_int_equal(ftruncate(file, 4 * PAGE), 0);
	assert_int_equal(map_file(&s, MAP_RW_FIXED, file, PAGE, 2 * PAGE, &iova), 0);
	assert_int_equal(map_file(&s, MAP_RW, file, 0, PAGE, &chosen), 0);
	assert_int_equal(dma_write(s.world, 2, iova, "file", 5), 0);
	assert_int_equal(pread(file, buf, 5, PAGE), 5);
	assert_string_equal(buf, "file");
	assert_int_equal(dma_write(s.world, 2, chosen, "zero", 5), 0);
	assert_int_equal(pread(file, buf, 5, 0), 5);
	assert_string_equal(buf, "zero");

	assert_int_equal(map_file(&s, MAP_RW | 8, -1, 0, PAGE, &chosen), -EOPNOTSUPP);
	assert_int_equal(map_file(&s, MAP_RW, -1, 0, UINT64_MAX, &chosen), -EOVERFLOW);
	assert_int_equal(map_file(&s, 0, -1, 0, PAGE, &chosen), -EINVAL);
	assert_int_equal(map_file(&s, MAP_RW, -1, 0, 0, &chosen), -EINVAL);
	assert_int_equal(map_file(&s, MAP_RW, -1, 0ULL - PAGE, 2 * PAGE, &chosen), -EOVERFLOW);
	assert_int_equal(map_file(&s, MAP_RW, -1, 0, PAGE, &chosen), -EBADF);
	assert_int_equal(map_file(&s, MAP_RW, s.fd, 0, PAGE, &chosen), -EINVAL);
	assert_int_equal(map_file(&s, MAP_RW_FIXED, file, 0, PAGE, &iova), -EEXIST);
	tear_down(&s);
	close(file);
}

static long copy(struct setup *s, uint32_t flags, uint32_t to, uint64_t iova, uint32_t from,
		 uint64_t source, uint64_t size)
{
	struct iommu_ioas_copy arguments = {
		.size = sizeof(arguments),
		.flags = flags,
		.dst_ioas_id = to,
		.src_ioas_id = from,
		.length = size,
		.dst_iova = iova,
		.src_iova = source,
	};
	long ret = world_ioctl_of(s->world, s->fd, IOMMU_IOAS_COPY, &arguments);

	return ret ? ret : (long)arguments.dst_iova;
}

static void copying(void **state)
{
	struct setup s = set_up(state);
	uint32_t other = ioas_alloc(s.world, s.fd);
	uint64_t iova = 0x90000, size = UINT64_MAX;
	char buf[8];

	assert_int_equal(ioas_map_fixed(s.world, s.fd, other, memory, 4 * PAGE, 0x10000), 0);
	assert_int_equal(copy(&s, MAP_RW_FIXED, s.id, 0x70000, other, 0x11000, 2 * PAGE), 0x70000);
	assert_true(copy(&s, MAP_RW, s.id, 0, other, 0x10000, PAGE) > 0);
	/* It is the memory that is copied: the first mapping may go. */
	assert_int_equal(ioas_unmap(s.world, s.fd, other, 0, &size), 0);
	assert_int_equal(destroy(s.world, s.fd, other), 0);
	assert_int_equal(dma_write(s.world, 2, 0x70000, "copied", 7), 0);
	assert_string_equal(memory + PAGE, "copied");
	/* Within one. */
	assert_int_equal(copy(&s, MAP_RW_FIXED, s.id, 0x80000, s.id, 0x70000, PAGE), 0x80000);
	assert_int_equal(dma_read(s.world, 2, 0x80000, buf, 7), 0);
	assert_string_equal(buf, "copied");

	assert_int_equal(copy(&s, MAP_RW | 8, 99, 0, 99, UINT64_MAX, 0), -EOPNOTSUPP);
	assert_int_equal(copy(&s, 0, 99, 0, 99, UINT64_MAX, PAGE), -EOVERFLOW);
	assert_int_equal(copy(&s, 0, 99, 0, 99, 0, UINT64_MAX), -EOVERFLOW);
	assert_int_equal(copy(&s, 0, 99, UINT64_MAX, 99, 0, PAGE), -EOVERFLOW);
	assert_int_equal(copy(&s, 0, 99, 0, 99, 0, PAGE), -EINVAL);
	assert_int_equal(copy(&s, MAP_RW, 99, 0, s.id, 0x70000, 0), -EINVAL);
	assert_int_equal(copy(&s, MAP_RW, s.id, 0, 99, 0, 0), -ENOENT);
	assert_int_equal(copy(&s, MAP_RW, 99, 0, s.id, 0x70000, PAGE), -ENOENT);
	assert_int_equal(copy(&s, MAP_RW, s.id, 0, s.id, 0ULL - PAGE, 2 * PAGE), -EOVERFLOW);
	assert_int_equal(copy(&s, MAP_RW, s.id, 0, s.id, 0x71000, 2 * PAGE), -ENOENT);
	assert_int_equal(copy(&s, MAP_RW_FIXED, s.id, 0x80000, s.id, 0x70000, PAGE), -EEXIST);
	/* Not more than the source may. */
	assert_int_equal(ioas_map(s.world, s.fd, s.id,
				  IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE, memory, PAGE,
				  &iova),
			 0);
	assert_int_equal(copy(&s, MAP_RW, s.id, 0, s.id, iova, PAGE), -EPERM);
	assert_true(copy(&s, IOMMU_IOAS_MAP_READABLE, s.id, 0, s.id, iova, PAGE) > 0);
	tear_down(&s);
}

/* Another process may take over what is in files alone. */
static void changing_the_process(void **state)
{
	struct setup s = set_up(state);
	struct iommu_ioas_change_process change = {sizeof(change), 0};
	int file = memfd_create("memory", MFD_CLOEXEC);
	uint64_t iova = 0;

	assert_int_equal(ftruncate(file, PAGE), 0);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_CHANGE_PROCESS, &change), 0);
	assert_int_equal(map_file(&s, MAP_RW, file, 0, PAGE, &iova), 0);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_CHANGE_PROCESS, &change), 0);
	assert_int_equal(ioas_map(s.world, s.fd, s.id, MAP_RW, memory, PAGE, &iova), 0);
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_CHANGE_PROCESS, &change),
			 -EINVAL);
	change.__reserved = 1;
	assert_int_equal(world_ioctl_of(s.world, s.fd, IOMMU_IOAS_CHANGE_PROCESS, &change),
			 -EOPNOTSUPP);
	tear_down(&s);
	close(file);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(mapping_fixed),
		TEST(permissions),
		TEST(mapping_refused),
		TEST(chosen_addresses),
		TEST(chosen_addresses_are_aligned),
		TEST(allowed_addresses),
		TEST(allowed_addresses_refused),
		TEST(ranges),
		TEST(unmapping),
		TEST(mapping_a_file),
		TEST(copying),
		TEST(changing_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
