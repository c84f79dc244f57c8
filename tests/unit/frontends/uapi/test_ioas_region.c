/* SPDX-License-Identifier: BSD-3-Clause */
/* DMA of one device to a region of another: through its area's file, and as accesses. */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>
#include <uvfio/device.h>

#include "core/core.h"
#include "frontends/uapi/program_memory.h"
#include "ioas_rig.h"

#define REGION 0
#define SIZE   (4 * PAGE)

/* Registers, two pages of memory, registers. */
struct model {
	struct uvf_device *dev;
	char *memory;
	uint8_t registers[SIZE];
	char calls[128];
	int held, released; /* pipes: a write to register 0 waits in the model */
};

static int region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	struct model *model = uvf_device_opaque(dev);

	memcpy(buf, model->registers + offset, count);
	return 0;
}

static int region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count)
{
	struct model *model = uvf_device_opaque(dev);
	size_t used = strlen(model->calls);
	char byte;

	snprintf(model->calls + used, sizeof(model->calls) - used, "%#jx+%zu;", (uintmax_t)offset,
		 count);
	memcpy(model->registers + offset, buf, count);
	if (model->held >= 0 && !offset)
		return write(model->held, "h", 1) == 1 && read(model->released, &byte, 1) == 1
			       ? 0
			       : -EIO;
	return 0;
}

static void model_new(struct model *model)
{
	static const struct uvf_device_ops ops;
	struct uvf_area area = {.offset = PAGE, .size = 2 * PAGE};
	struct uvf_region region = {
		.index = REGION,
		.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
		.size = SIZE,
		.read = region_read,
		.write = region_write,
		.areas = &area,
		.area_count = 1,
	};
	void *address;

	*model = (struct model){.held = -1};
	assert_int_equal(uvf_device_new("peer", &ops, 0, model, &model->dev), 0);
	assert_int_equal(uvf_device_region_memory(model->dev, REGION, SIZE, &area.fd,
						  &area.fd_offset, &address),
			 0);
	area.fd_offset += PAGE;
	model->memory = (char *)address + PAGE;
	assert_int_equal(uvf_device_add_region(model->dev, &region), 0);
	assert_int_equal(uvf_device_open(model->dev), 0);
}

/* Maps the whole region at 0, part by part. */
static unsigned map_region(const struct rig *rig, const struct model *model)
{
	struct uvf_address_space *space = uapi_ioas_space(rig->ioas);
	unsigned parts = 0;
	uint64_t done;

	for (done = 0; done < SIZE; parts++) {
		struct uapi_part part;

		assert_int_equal(
			uapi_program_region_part(model->dev, REGION, done, SIZE - done, &part), 0);
		if (part.memory)
			assert_int_equal(uvf_map(space, done, part.size, UVF_PROT_RW, part.memory,
						 part.offset),
					 0);
		else
			assert_int_equal(uvf_map_fd(space, done, part.size, UVF_PROT_RW, part.fd,
						    part.offset),
					 0);
		done += part.size;
		uapi_part_destroy(&part);
	}
	return parts;
}

static void reaches_registers_and_memory(void **unused)
{
	char buf[16], text[] = "0123456789abcdef";
	struct model model;
	struct rig rig;

	rig_new(&rig, NULL);
	model_new(&model);
	assert_int_equal(map_region(&rig, &model), 3);
	/* In pieces as a processor would make them; across the border into memory. */
	assert_int_equal(uvf_attachment_write(rig.attachment, 3, text, 16), 0);
	assert_string_equal(model.calls, "0x3+1;0x4+4;0x8+8;0x10+2;0x12+1;");
	model.calls[0] = '\0';
	assert_int_equal(uvf_attachment_write(rig.attachment, PAGE - 4, text, 16), 0);
	assert_string_equal(model.calls, "0xffc+4;");
	assert_memory_equal(model.memory, text + 4, 12);
	assert_int_equal(uvf_attachment_read(rig.attachment, PAGE - 4, buf, 16), 0);
	assert_memory_equal(buf, text, 16);
	assert_int_equal(uvf_attachment_write(rig.attachment, 3 * PAGE, text, 4), 0);
	assert_memory_equal(model.registers + 3 * PAGE, text, 4);
	/* A device that nobody has open answers nothing; its memory is there. */
	uvf_device_close(model.dev);
	assert_int_equal(uvf_attachment_write(rig.attachment, 0, text, 4), -ENODEV);
	assert_int_equal(uvf_attachment_read(rig.attachment, 0, buf, 4), -ENODEV);
	assert_int_equal(uvf_attachment_read(rig.attachment, PAGE, buf, 4), 0);
	rig_free(&rig);
	uvf_device_free(model.dev);
}

static void *write_register(void *opaque)
{
	const struct model *model = opaque;
	uint32_t value = 1;

	assert_int_equal(uvf_region_write(model->dev, REGION, 0, &value, 4), 4);
	return NULL;
}

/* The peer is busy, perhaps with waiting for us: we don't wait for it for ever. */
static void a_busy_peer_is_given_up(void **unused)
{
	int held[2], released[2];
	struct model model;
	struct rig rig;
	pthread_t thread;
	char byte;

	rig_new(&rig, NULL);
	model_new(&model);
	map_region(&rig, &model);
	assert_int_equal(pipe(held), 0);
	assert_int_equal(pipe(released), 0);
	model.held = held[1];
	model.released = released[0];
	assert_int_equal(pthread_create(&thread, NULL, write_register, &model), 0);
	assert_int_equal(read(held[0], &byte, 1), 1);
	assert_int_equal(uvf_attachment_write(rig.attachment, 8, "busy", 4), -EBUSY);
	assert_int_equal(uvf_attachment_write(rig.attachment, PAGE, "free", 4), 0);
	assert_int_equal(write(released[1], "r", 1), 1);
	pthread_join(thread, NULL);
	assert_int_equal(uvf_attachment_write(rig.attachment, 8, "idle", 4), 0);
	assert_memory_equal(model.registers + 8, "idle", 4);
	rig_free(&rig);
	uvf_device_free(model.dev);
	for (unsigned i = 0; i < 2; i++) {
		close(held[i]);
		close(released[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reaches_registers_and_memory),
		cmocka_unit_test(a_busy_peer_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
