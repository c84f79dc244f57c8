/* SPDX-License-Identifier: BSD-3-Clause */
/* Regions: bounds, permissions, areas that the core serves itself, mapping. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uvfio/client.h>

#include <cmocka.h>

#define REGION 2
#define SIZE   0x4000

struct model {
	struct uvf_device *dev;
	uint8_t *memory;
	uint8_t registers[SIZE];
	char calls[256];
	int fail;
};

static void note(struct model *model, const char *what, uint64_t offset, size_t count)
{
	size_t used = strlen(model->calls);

	snprintf(model->calls + used, sizeof(model->calls) - used, "%s %#jx+%zu;", what,
		 (uintmax_t)offset, count);
}

static int region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	struct model *model = uvf_device_opaque(dev);

	assert_int_equal(index, REGION);
	note(model, "r", offset, count);
	memcpy(buf, model->registers + offset, count);
	return model->fail;
}

static int region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count)
{
	struct model *model = uvf_device_opaque(dev);

	note(model, "w", offset, count);
	memcpy(model->registers + offset, buf, count);
	return model->fail;
}

static const struct uvf_device_ops ops = {0};

/* One region: registers, a page of memory, registers, a page of memory. */
static int setup(void **state)
{
	static struct model model;
	struct uvf_area areas[2];
	uint64_t fd_offset;
	void *address;
	int fd;

	memset(&model, 0, sizeof(model));
	assert_int_equal(uvf_device_new("test", &ops, 0, &model, &model.dev), 0);
	assert_int_equal(
		uvf_device_region_memory(model.dev, REGION, SIZE, &fd, &fd_offset, &address), 0);
	assert_int_equal(fd_offset, 2ULL << 40);
	model.memory = address;
	for (size_t i = 0; i < 2; i++)
		areas[i] = (struct uvf_area){0x1000 + 0x2000 * i, 0x1000, fd,
					     fd_offset + 0x1000 + 0x2000 * i};
	assert_int_equal(uvf_device_add_region(model.dev,
					       &(struct uvf_region){
						       .index = REGION,
						       .flags = VFIO_REGION_INFO_FLAG_READ |
								VFIO_REGION_INFO_FLAG_WRITE,
						       .size = SIZE,
						       .read = region_read,
						       .write = region_write,
						       .areas = areas,
						       .area_count = 2,
					       }),
			 0);
	assert_int_equal(uvf_device_open(model.dev), 0);
	*state = &model;
	return 0;
}

static int teardown(void **state)
{
	struct model *model = *state;

	uvf_device_free(model->dev);
	return 0;
}

static void access_is_bounded(void **state)
{
	struct model *model = *state;
	uint8_t buf[16] = {0};

	static const struct {
		uint32_t index;
		uint64_t offset;
		size_t count;
	} bad[] = {
		{REGION, SIZE, 1},	     {REGION, SIZE - 1, 2}, {REGION, UINT64_MAX, 1},
		{REGION, UINT64_MAX - 3, 8}, {REGION, 0, SIZE_MAX}, {0, 0, 1},
		{REGION + 1, 0, 1},	     {UINT32_MAX, 0, 1},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
			uvf_region_read(model->dev, bad[i].index, bad[i].offset, buf, bad[i].count),
			-EINVAL);
		assert_int_equal(uvf_region_write(model->dev, bad[i].index, bad[i].offset, buf,
						  bad[i].count),
				 -EINVAL);
	}
	assert_string_equal(model->calls, "");
	assert_int_equal(uvf_region_read(model->dev, REGION, SIZE, buf, 0), 0);
}

static void model_sees_what_is_outside_areas(void **state)
{
	struct model *model = *state;
	uint8_t out[0x3000], in[0x3000];

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7);
	assert_int_equal(uvf_region_write(model->dev, REGION, 0x800, out, sizeof(out)),
			 sizeof(out));
	assert_string_equal(model->calls, "w 0x800+2048;w 0x2000+4096;");
	assert_memory_equal(model->memory + 0x1000, out + 0x800, 0x1000);
	assert_memory_equal(model->memory + 0x3000, out + 0x2800, 0x800);
	model->calls[0] = '\0';
	assert_int_equal(uvf_region_read(model->dev, REGION, 0x800, in, sizeof(in)), sizeof(in));
	assert_string_equal(model->calls, "r 0x800+2048;r 0x2000+4096;");
	assert_memory_equal(in, out, sizeof(in));
}

static void model_errors_come_through(void **state)
{
	struct model *model = *state;
	uint32_t value = 0;

	model->fail = -EIO;
	assert_int_equal(uvf_region_read(model->dev, REGION, 0, &value, 4), -EIO);
	assert_int_equal(uvf_region_write(model->dev, REGION, 0, &value, 4), -EIO);
	/* What the core serves itself has no model to fail. */
	assert_int_equal(uvf_region_write(model->dev, REGION, 0x1000, &value, 4), 4);
}

static void closed_device_refuses(void **state)
{
	struct model *model = *state;
	uint32_t value = 0;

	assert_int_equal(uvf_device_open(model->dev), -EBUSY);
	uvf_device_close(model->dev);
	assert_int_equal(uvf_region_read(model->dev, REGION, 0, &value, 4), -ENODEV);
	assert_int_equal(uvf_region_write(model->dev, REGION, 0x1000, &value, 4), -ENODEV);
	assert_int_equal(uvf_device_open(model->dev), 0);
	assert_int_equal(uvf_region_read(model->dev, REGION, 0, &value, 4), 4);
}

static void areas_can_be_mapped(void **state)
{
	struct model *model = *state;
	void *address;

	assert_int_equal(uvf_region_map(model->dev, REGION, 0x3000, 0x1000, &address), 0);
	*(volatile uint32_t *)address = 0x12345678;
	assert_int_equal(*(uint32_t *)(model->memory + 0x3000), 0x12345678);
	uvf_region_unmap(model->dev, REGION, 0x3000, 0x1000, address);
	assert_int_equal(uvf_region_map(model->dev, REGION, 0, 0x1000, &address), -EINVAL);
	assert_int_equal(uvf_region_map(model->dev, REGION, 0x1000, 0x2000, &address), -EINVAL);
	assert_int_equal(uvf_region_map(model->dev, REGION, 0x1800, 0x800, &address), -EINVAL);
	assert_int_equal(uvf_region_map(model->dev, REGION, 0x1000, 0, &address), -EINVAL);
	assert_int_equal(
		uvf_region_map(model->dev, REGION, UINT64_MAX & ~0xfffULL, 0x1000, &address),
		-EINVAL);
	assert_int_equal(uvf_region_map(model->dev, 7, 0, 0x1000, &address), -EINVAL);
}

static void driver_cannot_cut_the_memory(void **state)
{
	struct model *model = *state;
	struct uvf_region_info info;

	assert_int_equal(uvf_region_get_info(model->dev, REGION, &info), 0);
	assert_int_equal(info.area_count, 2);
	assert_int_equal(ftruncate(info.areas[0].fd, 0), -1);
	assert_int_equal(fcntl(info.areas[0].fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

static void bad_descriptions_are_refused(void **state)
{
	struct model *model = *state;
	struct uvf_area areas[2] = {{0, 0x1000, 0, 0}, {0x800, 0x1000, 0, 0}};
	struct uvf_region region = {.index = 3, .size = 0x2000, .areas = areas, .area_count = 2};
	struct uvf_region_info info;

	assert_int_equal(uvf_device_add_region(model->dev, &region), -EINVAL);
	areas[1] = (struct uvf_area){0x2000, 0x1000, 0, 0};
	assert_int_equal(uvf_device_add_region(model->dev, &region), -EINVAL);
	areas[1] = (struct uvf_area){0x1000, 0x1000, -1, 0};
	assert_int_equal(uvf_device_add_region(model->dev, &region), -EINVAL);
	areas[1] = (struct uvf_area){0x1000, 0, 0, 0};
	assert_int_equal(uvf_device_add_region(model->dev, &region), -EINVAL);
	region = (struct uvf_region){.index = REGION, .size = 1};
	assert_int_equal(uvf_device_add_region(model->dev, &region), -EEXIST);
	region.index = UINT32_MAX;
	assert_int_equal(uvf_device_add_region(model->dev, &region), -EINVAL);
	assert_int_equal(uvf_region_get_info(model->dev, 0, &info), 0);
	assert_int_equal(info.size, 0);
	assert_int_equal(uvf_region_get_info(model->dev, 3, &info), -EINVAL);
}

static void read_only_region(void **state)
{
	struct model *model = *state;
	uint32_t value = 0;

	assert_int_equal(uvf_device_add_region(model->dev,
					       &(struct uvf_region){
						       .index = 5,
						       .flags = VFIO_REGION_INFO_FLAG_READ,
						       .size = 4,
					       }),
			 0);
	assert_int_equal(uvf_region_write(model->dev, 5, 0, &value, 4), -EINVAL);
	/* Readable, but nothing reads it. */
	assert_int_equal(uvf_region_read(model->dev, 5, 0, &value, 4), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(access_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(model_sees_what_is_outside_areas, setup, teardown),
		cmocka_unit_test_setup_teardown(model_errors_come_through, setup, teardown),
		cmocka_unit_test_setup_teardown(closed_device_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(areas_can_be_mapped, setup, teardown),
		cmocka_unit_test_setup_teardown(driver_cannot_cut_the_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_descriptions_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(read_only_region, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
