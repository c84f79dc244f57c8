/* SPDX-License-Identifier: BSD-3-Clause */
/* Connecting, VERSION, framing, leaving: the life of a client's session, byte by byte. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fdpass.h"
#include "harness.h"

/* ---- VERSION ---- */

struct version_row {
	const char *name;
	const char *text;
	int result;
};

#define CAPABILITIES(inside) "{\"capabilities\":{" inside "}}"

static const struct version_row versions[] = {
	{"no text", NULL, 0},
	{"no capabilities", "{}", 0},
	{"empty capabilities", CAPABILITIES(""), 0},
	{"unknown capability", CAPABILITIES("\"x\":[1,{\"y\":null}]"), 0},
	{"as QEMU",
	 CAPABILITIES("\"pgsizes\":4096,\"max_msg_fds\":16,\"max_dma_maps\":65535,"
		      "\"max_data_xfer_size\":1048576,\"migration\":{\"max_bitmap_size\":268435456,"
		      "\"pgsize\":4096},\"write_multiple\":true"),
	 0},
	{"twin socket refused by the client", CAPABILITIES("\"twin_socket\":{\"supported\":false}"),
	 0},
	{"not JSON", "capabilities", -EINVAL},
	{"empty text", "", -EINVAL},
	{"JSON cut short", "{\"capabilities\":{", -EINVAL},
	{"JSON and more", "{} {}", -EINVAL},
	{"an array", "[]", -EINVAL},
	{"a number", "5", -EINVAL},
	{"null", "null", -EINVAL},
	{"capabilities: a number", "{\"capabilities\":5}", -EINVAL},
	{"capabilities: an array", "{\"capabilities\":[]}", -EINVAL},
	{"max_msg_fds: text", CAPABILITIES("\"max_msg_fds\":\"16\""), -EINVAL},
	{"max_msg_fds: negative", CAPABILITIES("\"max_msg_fds\":-1"), -EINVAL},
	{"max_msg_fds: large", CAPABILITIES("\"max_msg_fds\":4294967296"), -EINVAL},
	{"max_msg_fds: fraction", CAPABILITIES("\"max_msg_fds\":1.5"), -EINVAL},
	{"max_msg_fds: none", CAPABILITIES("\"max_msg_fds\":0"), 0},
	{"max_data_xfer_size: 0", CAPABILITIES("\"max_data_xfer_size\":0"), -EINVAL},
	{"max_data_xfer_size: bool", CAPABILITIES("\"max_data_xfer_size\":true"), -EINVAL},
	{"max_dma_maps: object", CAPABILITIES("\"max_dma_maps\":{}"), -EINVAL},
	{"pgsizes: 0", CAPABILITIES("\"pgsizes\":0"), -EINVAL},
	{"pgsizes: negative", CAPABILITIES("\"pgsizes\":-4096"), -EINVAL},
	{"write_multiple: number", CAPABILITIES("\"write_multiple\":1"), -EINVAL},
	{"twin_socket: bool", CAPABILITIES("\"twin_socket\":true"), -EINVAL},
	{"twin_socket.supported: text", CAPABILITIES("\"twin_socket\":{\"supported\":\"\"}"),
	 -EINVAL},
	{"twin_socket.fd_index: negative", CAPABILITIES("\"twin_socket\":{\"fd_index\":-2}"),
	 -EINVAL},
	{"deep", CAPABILITIES("\"x\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]"), -EINVAL},
	{"not UTF-8", "{\"\xff\xfe\":1}", -EINVAL},
};

static void version(void **state)
{
	const struct version_row *row = *state;
	struct harness *h = harness_new(NULL);
	struct reply reply;

	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, row->text, &reply), row->result);
	if (row->result) {
		assert_true(hung_up(h->client));
		assert_int_equal(h->device->opens, 0);
	} else {
		assert_int_equal(simple(h, VFIO_USER_DEVICE_RESET, NULL, 0), 0);
		assert_int_equal(h->device->opens, 1);
	}
	harness_free(h);
}

static struct harness *connected(void)
{
	struct harness *h = harness_new(NULL);

	h->client = harness_connect(h);
	return h;
}

/* Sends bytes as the first message and expects a refusal. */
static void first_message(const void *payload, size_t size, uint16_t command, int result)
{
	struct harness *h = connected();
	struct reply reply;

	assert_int_equal(request(h, command, payload, size, NULL, 0, &reply), result);
	assert_true(hung_up(h->client));
	harness_free(h);
}

static void version_numbers(void **state)
{
	first_message(&(struct uvf_wire_version){1, 0}, 4, VFIO_USER_VERSION, -EOPNOTSUPP);
	first_message(&(struct uvf_wire_version){0xffff, 1}, 4, VFIO_USER_VERSION, -EOPNOTSUPP);
	first_message(NULL, 0, VFIO_USER_VERSION, -EINVAL);
	first_message("abc", 3, VFIO_USER_VERSION, -EINVAL);
	/* No NUL at the end, and one in the middle. */
	first_message("\0\0\0\0{}", 6, VFIO_USER_VERSION, -EINVAL);
	first_message("\0\0\0\0{}\0{}", 10, VFIO_USER_VERSION, -EINVAL);
}

static void version_too_long(void **state)
{
	uint8_t payload[8000] = {0};

	memset(payload + 4, ' ', sizeof(payload) - 5);
	first_message(payload, sizeof(payload), VFIO_USER_VERSION, -E2BIG);
}

static void commands_before_version(void **state)
{
	static const uint8_t zeros[64];

	for (uint16_t command = 2; command < 20; command++)
		for (size_t size = 0; size <= 64; size += 16) {
			struct harness *h = connected();

			assert_true(simple(h, command, zeros, size) < 0);
			assert_true(hung_up(h->client));
			assert_int_equal(h->device->opens, 0);
			harness_free(h);
		}
}

static void device_refuses(void **state)
{
	struct harness *h = connected();
	struct reply reply;

	h->device->open_error = -ENOSPC;
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), -ENOSPC);
	assert_true(hung_up(h->client));
	h->device->open_error = 0;
	close(h->client);
	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
	harness_free(h);
}

static void reply_offers_no_more_than_proposed(void **state)
{
	struct uvf_server_config config = {.max_msg_fds = 64, .max_dma_maps = 1000000};
	struct uvf_wire_capabilities capabilities;
	struct harness *h = harness_new(&config);
	struct reply reply;

	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, versions[4].text, &reply), 0);
	assert_memory_equal(reply.payload, "\0\0\0\0", 4);
	assert_int_equal(
		uvf_wire_capabilities_decode(reply.payload + 4, reply.size - 4, &capabilities), 0);
	assert_int_equal(capabilities.max_msg_fds, 16);
	assert_int_equal(capabilities.max_dma_maps, 65535);
	assert_int_equal(capabilities.max_data_xfer_size, 1048576);
	assert_true(capabilities.write_multiple);
	assert_false(capabilities.twin_socket);
	harness_free(h);
}

/* ---- Framing ---- */

static void byte_at_a_time(void **state)
{
	struct harness *h = *state;
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_region_access access;
	} message = {{5, VFIO_USER_REGION_READ, 32, 0, 0}, {REG_SCRATCH, 0, 4}};
	struct reply reply;

	for (size_t i = 0; i < sizeof(message); i++) {
		assert_int_equal(send(h->client, (char *)&message + i, 1, 0), 1);
		harness_step(h);
	}
	assert_true(receive_message(h->client, &reply));
	assert_int_equal(reply.header.id, 5);
	assert_int_equal(reply.size, 20);
}

static void many_in_one_segment(void **state)
{
	struct harness *h = *state;
	enum { COUNT = 200 };
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_region_access access;
	} messages[COUNT];
	struct reply reply;

	for (uint16_t i = 0; i < COUNT; i++) {
		messages[i].header = (struct uvf_wire_header){i, VFIO_USER_REGION_READ, 32, 0, 0};
		messages[i].access = (struct uvf_wire_region_access){REG_SCRATCH, 0, 4};
	}
	/* And the last one in two pieces. */
	assert_int_equal(send(h->client, messages, sizeof(messages) - 7, 0), sizeof(messages) - 7);
	harness_step(h);
	assert_int_equal(send(h->client, (char *)messages + sizeof(messages) - 7, 7, 0), 7);
	harness_step(h);
	for (uint16_t i = 0; i < COUNT; i++) {
		assert_true(receive_message(h->client, &reply));
		assert_int_equal(reply.header.id, i);
	}
}

struct frame_row {
	const char *name;
	struct uvf_wire_header header;
};

static const struct frame_row frames[] = {
	{"size 0", {1, VFIO_USER_DEVICE_RESET, 0, 0, 0}},
	{"size 15", {1, VFIO_USER_DEVICE_RESET, 15, 0, 0}},
	{"size above all limits", {1, VFIO_USER_DEVICE_RESET, UINT32_MAX, 0, 0}},
	{"size just above", {1, VFIO_USER_REGION_WRITE, 16 + 16 + MAX_DATA + 1, 0, 0}},
	{"a reply to nothing", {1, VFIO_USER_DMA_READ, 16, UVF_WIRE_REPLY, 0}},
	{"an error to nothing", {0, VFIO_USER_DMA_READ, 16, UVF_WIRE_REPLY | UVF_WIRE_ERROR, 5}},
	{"type 2", {1, VFIO_USER_DEVICE_RESET, 16, 2, 0}},
	{"type 15", {1, VFIO_USER_DEVICE_RESET, 16, 15, 0}},
};

/* The stream can't be trusted any more: it ends. */
static void frame(void **state)
{
	const struct frame_row *row = *state;
	struct harness *h = harness_current();

	assert_int_equal(send(h->client, &row->header, 16, 0), 16);
	harness_step(h);
	assert_true(hung_up(h->client));
	assert_int_equal(h->device->closes, 1);
}

static void large_messages(void **state)
{
	struct harness *h = *state;
	size_t size = sizeof(struct uvf_wire_region_access) + MAX_DATA;
	uint8_t *payload = calloc(1, size);
	struct uvf_wire_region_access access = {0, 2, MAX_DATA};
	struct reply *reply = malloc(sizeof(*reply));

	memcpy(payload, &access, sizeof(access));
	memset(payload + sizeof(access), 0x5a, MAX_DATA);
	for (int i = 0; i < 20; i++)
		assert_int_equal(request(h, VFIO_USER_REGION_WRITE, payload, size, NULL, 0, reply),
				 0);
	assert_memory_equal(h->device->buffer, payload + sizeof(access), MAX_DATA);
	assert_int_equal(request(h, VFIO_USER_REGION_READ, &access, sizeof(access), NULL, 0, reply),
			 0);
	assert_int_equal(reply->size, size);
	assert_memory_equal(reply->payload, payload, size);
	free(payload);
	free(reply);
}

static void too_many_fds(void **state)
{
	struct harness *h = *state;
	int fds[17];

	for (size_t i = 0; i < 17; i++)
		fds[i] = dup(0);
	send_request_on(h->client, 1, VFIO_USER_DEVICE_RESET, 0, NULL, 0, fds, 17);
	uvf_fdpass_close(fds, 17);
	harness_step(h);
	assert_true(hung_up(h->client));
}

/* Descriptors with each byte of a message that never ends. */
static void fds_pile_up(void **state)
{
	struct harness *h = *state;
	struct uvf_wire_header header = {1, VFIO_USER_REGION_WRITE, 1000, 0, 0};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	int fds[16];
	size_t sent = 0;

	for (size_t i = 0; i < 16; i++)
		fds[i] = dup(0);
	assert_int_equal(send(h->client, &header, 16, 0), 16);
	while (!hung_up(h->client) && sent < 100) {
		uvf_fdpass_send(h->client, &iov, 1, fds, 16, 0);
		harness_step(h);
		sent++;
	}
	uvf_fdpass_close(fds, 16);
	assert_true(sent < 10);
}

static void fds_go_with_their_message(void **state)
{
	struct harness *h = *state;
	int a = memory_file(PAGE), b = memory_file(PAGE);
	struct uvf_wire_dma_map map = {sizeof(map), 3, 0, 0, PAGE};
	struct reply reply;

	/* All four are there before the server looks. */
	send_request_on(h->client, 1, VFIO_USER_DEVICE_RESET, 0, NULL, 0, NULL, 0);
	send_request_on(h->client, 2, VFIO_USER_DMA_MAP, 0, &map, sizeof(map), &a, 1);
	map.address = PAGE;
	send_request_on(h->client, 3, VFIO_USER_DMA_MAP, 0, &map, sizeof(map), &b, 1);
	send_request_on(h->client, 4, VFIO_USER_DEVICE_RESET, 0, NULL, 0, NULL, 0);
	harness_step(h);
	for (uint16_t id = 1; id <= 4; id++) {
		assert_true(receive_message(h->client, &reply));
		assert_int_equal(reply.header.id, id);
		assert_int_equal(reply.header.error, 0);
	}
	close(a);
	close(b);
}

/* ---- Other clients ---- */

static void second_client(void **state)
{
	struct harness *h = *state;
	struct reply reply;
	uint32_t value;

	for (int i = 0; i < 40; i++) {
		int second = harness_connect(h);

		assert_int_equal(negotiate_on(h, second, NULL, &reply), -EBUSY);
		assert_true(hung_up(second));
		close(second);
		assert_int_equal(region_read32(h, 0, 0, &value), 0);
	}
}

/* They say nothing: more of them than places, and the one that is served doesn't notice. */
static void silent_clients(void **state)
{
	struct harness *h = *state;
	int silent[40];
	uint32_t value;

	for (int i = 0; i < 40; i++) {
		silent[i] = harness_connect(h);
		send(silent[i], "x", 1, MSG_NOSIGNAL);
		harness_step(h);
		assert_int_equal(region_read32(h, 0, 0, &value), 0);
	}
	for (int i = 0; i < 40; i++)
		close(silent[i]);
	harness_step(h);
}

static void next_client_finds_a_reset_device(void **state)
{
	struct harness *h = *state;
	int fd = memory_file(PAGE);
	struct reply reply;
	uint32_t value = 1;

	for (int i = 0; i < 10; i++) {
		assert_int_equal(region_read32(h, 0, REG_SCRATCH, &value), 0);
		assert_int_equal(value, 0);
		assert_int_equal(region_write32(h, 0, REG_SCRATCH, 7), 0);
		assert_int_equal(dma_map(h, 0, PAGE, 3, fd, 0), 0);
		close(h->client);
		/* It is there before the server has seen the other go. */
		h->client = harness_connect(h);
		assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
	}
	close(fd);
	assert_int_equal(h->device->opens, 11);
	assert_int_equal(h->device->closes, 10);
}

/* At every byte of a conversation. */
static void leaves_anywhere(void **state)
{
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_version version;
		char text[8];
		struct uvf_wire_header map_header;
		struct uvf_wire_dma_map map;
	} __attribute__((packed)) all = {
		{1, VFIO_USER_VERSION, 28, 0, 0},
		{0, 0},
		"{}     ",
		{2, VFIO_USER_DMA_MAP, 48, 0, 0},
		{32, 3, 0, 0, PAGE},
	};
	struct harness *h = harness_new(NULL);

	for (size_t i = 0; i <= sizeof(all); i++) {
		int sock = harness_connect(h);

		if (i % 2)
			harness_step(h);
		assert_int_equal(send(sock, &all, i, 0), i);
		if (i % 3)
			harness_step(h);
		close(sock);
		harness_step(h);
	}
	assert_int_equal(h->device->opens, h->device->closes);
	harness_free(h);
}

#define SERVED(test)                                               \
	{                                                          \
#test, test, harness_setup, harness_teardown, NULL \
	}

int main(void)
{
	struct CMUnitTest version_tests[sizeof(versions) / sizeof(versions[0])];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_numbers),
		cmocka_unit_test(version_too_long),
		cmocka_unit_test(commands_before_version),
		cmocka_unit_test(device_refuses),
		cmocka_unit_test(reply_offers_no_more_than_proposed),
		SERVED(byte_at_a_time),
		SERVED(many_in_one_segment),
		SERVED(large_messages),
		SERVED(too_many_fds),
		SERVED(fds_pile_up),
		SERVED(fds_go_with_their_message),
		SERVED(second_client),
		SERVED(silent_clients),
		SERVED(next_client_finds_a_reset_device),
		cmocka_unit_test(leaves_anywhere),
	};
	int failed;

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
		version_tests[i] = (struct CMUnitTest){versions[i].name, version, NULL, NULL,
						       (void *)&versions[i]};
	failed = cmocka_run_group_tests(version_tests, NULL, NULL);
	failed += RUN_TABLE(frames, frame);
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
