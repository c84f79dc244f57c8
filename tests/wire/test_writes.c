/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes: several in a message, and those that want no reply. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

#define MAX_WRITES 64

struct multi {
	uint64_t count;
	struct uvf_wire_write writes[MAX_WRITES];
};

static struct uvf_wire_write write_of(uint32_t region, uint64_t offset, uint32_t count,
				      uint64_t value)
{
	struct uvf_wire_write write = {.offset = offset, .region = region, .count = count};

	memcpy(write.data, &value, sizeof(write.data));
	return write;
}

/* Returns how many were done, or an error. */
static int write_multi(struct harness *h, const struct multi *multi)
{
	struct uvf_wire_write_multi done;
	struct reply reply;
	int ret = request(h, VFIO_USER_REGION_WRITE_MULTI, multi,
			  sizeof(multi->count) + multi->count * sizeof(multi->writes[0]), NULL, 0,
			  &reply);

	if (ret)
		return ret;
	assert_int_equal(reply.size, sizeof(done));
	memcpy(&done, reply.payload, sizeof(done));
	return (int)done.count;
}

static void one_write(void **state)
{
	struct harness *h = *state;

	for (uint32_t count = 1; count <= 8; count++) {
		struct multi multi = {1, {write_of(2, 16 * count, count, 0x8877665544332211)}};

		assert_int_equal(write_multi(h, &multi), 1);
		assert_memory_equal(h->device->buffer + 16 * count, multi.writes[0].data, count);
		/* No byte more. */
		assert_int_equal(h->device->buffer[16 * count + count], 0);
	}
}

static void several_regions(void **state)
{
	struct harness *h = *state;
	struct multi multi = {
		5,
		{
			write_of(0, REG_SCRATCH, 4, 0x1111),
			write_of(2, 0x100, 8, 0x2222222222),
			write_of(VFIO_PCI_CONFIG_REGION_INDEX, 0x44, 2, 0x3333),
			/* An area, and the first again: in their order. */
			write_of(0, AREA_START + 8, 4, 0x4444),
			write_of(0, REG_SCRATCH, 4, 0x5555),
		},
	};

	assert_int_equal(write_multi(h, &multi), 5);
	assert_memory_equal(h->device->registers + REG_SCRATCH, "\x55\x55\0\0", 4);
	assert_memory_equal(h->device->buffer + 0x100, "\x22\x22\x22\x22\x22\0\0\0", 8);
	assert_memory_equal(h->device->config + 0x44, "\x33\x33\0\0", 4);
	assert_memory_equal(h->device->area + 8, "\x44\x44\0\0", 4);
}

static void many_writes(void **state)
{
	struct harness *h = *state;
	struct multi multi = {.count = MAX_WRITES};

	for (uint32_t i = 0; i < MAX_WRITES; i++)
		multi.writes[i] = write_of(2, 4 * i, 4, i + 1);
	assert_int_equal(write_multi(h, &multi), MAX_WRITES);
	for (uint32_t i = 0; i < MAX_WRITES; i++)
		assert_int_equal(h->device->buffer[4 * i], i + 1);
}

/* Those before the one that fails are done and counted, those after it aren't done. */
static void some_are_done(void **state)
{
	static const struct {
		uint32_t region;
		uint64_t offset;
		int error;
	} failures[] = {
		{0, REG_FAIL, -EIO},
		{0, BAR0_SIZE, -EINVAL},
		{0, UINT64_MAX, -EINVAL},
		{3, 0, -EINVAL},
		{5, 0, -EINVAL},
		{UINT32_MAX, 0, -EINVAL},
		{0, BAR0_SIZE - 2, -EINVAL},
	};
	struct harness *h = *state;

	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		for (uint32_t at = 0; at < 4; at++) {
			struct multi multi = {.count = 4};

			memset(h->device->buffer, 0, 16);
			for (uint32_t j = 0; j < 4; j++)
				multi.writes[j] = write_of(2, 4 * j, 4, j + 1);
			multi.writes[at].region = failures[i].region;
			multi.writes[at].offset = failures[i].offset;
			assert_int_equal(write_multi(h, &multi), at ? (int)at : failures[i].error);
			for (uint32_t j = 0; j < 4; j++)
				assert_int_equal(h->device->buffer[4 * j], j < at ? j + 1 : 0);
		}
}

/* A count that is wrong is found before the first write. */
static void nothing_of_a_malformed_one(void **state)
{
	struct harness *h = *state;
	struct multi multi = {3,
			      {write_of(2, 0, 4, 1), write_of(2, 4, 4, 2), write_of(2, 8, 9, 3)}};

	assert_int_equal(write_multi(h, &multi), -EINVAL);
	multi.writes[2].count = 0;
	assert_int_equal(write_multi(h, &multi), -EINVAL);
	assert_memory_equal(h->device->buffer, "\0\0\0\0\0\0\0\0", 8);
}

/* ---- Without a reply ---- */

static void post(struct harness *h, uint16_t command, const void *payload, size_t size)
{
	send_request_on(h->client, 4242, command, UVF_WIRE_NO_REPLY, payload, size, NULL, 0);
}

static void posted_write(struct harness *h, uint32_t region, uint64_t offset, uint32_t value)
{
	struct {
		struct uvf_wire_region_access access;
		uint32_t value;
	} write = {{offset, region, 4}, value};

	post(h, VFIO_USER_REGION_WRITE, &write, 20);
}

/* Each takes effect, before what was sent after it, and the next reply is that one's. */
static void posted_writes(void **state)
{
	struct harness *h = *state;
	struct multi multi = {2, {write_of(2, 0, 4, 7), write_of(2, 4, 4, 8)}};
	uint32_t value;

	for (uint32_t i = 1; i < 50; i++) {
		posted_write(h, 0, REG_SCRATCH, i);
		posted_write(h, 2, 4 * i, i);
		assert_int_equal(region_read32(h, 0, REG_SCRATCH, &value), 0);
		assert_int_equal(value, i);
		assert_int_equal(region_read32(h, 2, 4 * i, &value), 0);
		assert_int_equal(value, i);
	}
	post(h, VFIO_USER_REGION_WRITE_MULTI, &multi, 8 + 2 * sizeof(multi.writes[0]));
	assert_int_equal(region_read32(h, 2, 4, &value), 0);
	assert_int_equal(value, 8);
}

static void posted_others(void **state)
{
	struct harness *h = *state;
	int fd = memory_file(PAGE), fds[1] = {fd};
	struct uvf_wire_dma_map map = {sizeof(map), UVF_PROT_RW, 0, 0x10000, PAGE};
	struct uvf_wire_dma_unmap unmap = {sizeof(unmap), 0, 0x10000, PAGE};
	uint64_t address = 0x10000;
	unsigned resets;

	assert_int_equal(region_write32(h, 0, REG_BUS_MASTER, 1), 0);
	send_request_on(h->client, 1, VFIO_USER_DMA_MAP, UVF_WIRE_NO_REPLY, &map, sizeof(map), fds,
			1);
	memcpy(h->device->registers + REG_DMA_ADDRESS, &address, sizeof(address));
	assert_int_equal(region_write32(h, 0, REG_DMA_SIZE, PAGE), 0);
	assert_int_equal(region_write32(h, 0, REG_DOORBELL, 1), 0);
	assert_int_equal(h->device->dma_result, 0);
	post(h, VFIO_USER_DMA_UNMAP, &unmap, sizeof(unmap));
	assert_int_equal(region_write32(h, 0, REG_DOORBELL, 1), 0);
	assert_int_equal(h->device->dma_result, -EFAULT);
	resets = h->device->resets;
	post(h, VFIO_USER_DEVICE_RESET, NULL, 0);
	assert_int_equal(region_write32(h, 0, REG_SCRATCH, 1), 0);
	assert_int_equal(h->device->resets, resets + 1);
	close(fd);
}

/* An error is told to nobody, and has no effect on what follows. */
static void posted_errors(void **state)
{
	struct harness *h = *state;
	struct multi multi = {2, {write_of(2, 0, 4, 7), write_of(0, REG_FAIL, 4, 8)}};
	struct uvf_wire_dma_map map = {sizeof(map), 0x80, 0, 1, 1};
	uint32_t value;

	posted_write(h, 0, REG_FAIL, 1);
	posted_write(h, 0, BAR0_SIZE, 1);
	posted_write(h, 9999, 0, 1);
	post(h, VFIO_USER_REGION_WRITE, NULL, 0);
	post(h, VFIO_USER_REGION_WRITE_MULTI, &multi, 8 + 2 * sizeof(multi.writes[0]));
	post(h, VFIO_USER_DMA_MAP, &map, sizeof(map));
	post(h, VFIO_USER_VERSION, &map, sizeof(map));
	post(h, 0xffff, NULL, 0);
	assert_int_equal(region_read32(h, 2, 0, &value), 0);
	assert_int_equal(value, 7);
	assert_int_equal(h->device->closes, 0);
}

/* A VERSION that wants no reply is answered all the same: nothing could follow. */
static void posted_version(void **state)
{
	struct harness *h = harness_new(NULL);
	struct reply reply;

	h->client = harness_connect(h);
	post(h, VFIO_USER_VERSION, "\0\0\0\0{}", 7);
	harness_step(h);
	assert_true(receive_message(h->client, &reply));
	assert_int_equal(reply.header.id, 4242);
	assert_int_equal(simple(h, VFIO_USER_DEVICE_RESET, NULL, 0), 0);
	harness_free(h);
}

#define SERVED(test)                                               \
	{                                                          \
#test, test, harness_setup, harness_teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVED(one_write),
		SERVED(several_regions),
		SERVED(many_writes),
		SERVED(some_are_done),
		SERVED(nothing_of_a_malformed_one),
		SERVED(posted_writes),
		SERVED(posted_others),
		SERVED(posted_errors),
		cmocka_unit_test(posted_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
