/* SPDX-License-Identifier: BSD-3-Clause */
/* A server and its surroundings: its path, its process's descriptors, its device's threads. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

#define REMOTE 0x100000ULL

/* A file that is no socket is somebody's, not a server's that has gone. */
static void a_file_in_the_way(void **state)
{
	char path[] = "/tmp/uvfio-file-XXXXXX", text[16] = "";
	int fd = mkstemp(path);
	struct test_device *device = test_device_new();
	struct uvf_server_config config = {.path = path};
	struct uvf_server *server;

	assert_int_equal(write(fd, "precious", 8), 8);
	close(fd);
	assert_int_equal(uvf_server_new(device->dev, &config, &server, NULL), -EADDRINUSE);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text)), 8);
	assert_string_equal(text, "precious");
	close(fd);
	unlink(path);
	test_device_free(device);
}

/* QEMU takes an end of file for the device's end, and aborts when the connection is reset. */
static void unread_requests_end_in_eof(void **state)
{
	struct harness *h = *state;
	struct uvf_wire_region_access access = {.region = 0, .count = 4};
	uint8_t byte;

	for (int i = 0; i < 100; i++)
		send_request_on(h->client, 1, VFIO_USER_REGION_READ, 0, &access, sizeof(access),
				NULL, 0);
	uvf_server_free(h->server);
	h->server = NULL;
	assert_int_equal(recv(h->client, &byte, 1, 0), 0);
}

/* With none left, not even the spare one's place can be had: another thread may have taken it. */
static void no_descriptors_left(void **state)
{
	struct harness *h = *state;
	struct rlimit limit, few;
	int second = harness_connect(h);
	struct reply reply;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = (struct rlimit){3, limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	alarm(20);
	assert_int_equal(uvf_server_process(h->server), 0);
	assert_int_equal(uvf_server_process(h->server), 0);
	alarm(0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	h->client = harness_connect(h);
	close(second);
	harness_step(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
}

/* Each costs a descriptor, and other clients of the process need some too. */
static void no_more_files_than_allowed(void **state)
{
	struct uvf_server_config config = {.max_dma_files = 8};
	struct harness *h = harness_new(&config);
	struct reply reply;
	int fd;

	h->client = harness_connect(h);
	assert_int_equal(
		negotiate_on(h, h->client, "{\"capabilities\":{\"max_msg_fds\":1}}", &reply), 0);
	for (uint64_t i = 0; i < 12; i++) {
		fd = memory_file(2 * PAGE);
		assert_int_equal(dma_map(h, i * 2 * PAGE, PAGE, VFIO_DMA_MAP_FLAG_READ, fd, 0),
				 i < 8 ? 0 : -ENOSPC);
		/* One that is there can be used again. */
		assert_int_equal(
			dma_map(h, (i * 2 + 1) * PAGE, PAGE, VFIO_DMA_MAP_FLAG_READ, fd, PAGE),
			i < 8 ? 0 : -ENOSPC);
		close(fd);
	}
	assert_int_equal(dma_unmap(h, 0, 2 * PAGE, 0), 0);
	fd = memory_file(PAGE);
	assert_int_equal(dma_map(h, 0, PAGE, VFIO_DMA_MAP_FLAG_READ, fd, 0), 0);
	close(fd);
	harness_free(h);
}

/* ---- A device's worker that waits for the client ---- */

static void *worker(void *opaque)
{
	struct test_device *device = opaque;
	uint64_t value = 0;
	int ret = uvf_dma_read(device->dev, UVF_PASID_NONE, REMOTE, &value, sizeof(value));

	return (void *)(ret ? 0 : value);
}

/*
 * The worker receives while it waits, and so a request that comes before its reply: the program
 * that embeds the server must be told, as a client may answer nothing before it is answered.
 */
static void a_request_before_the_reply(void **state)
{
	struct harness *h = *state;
	struct pollfd ready[] = {{uvf_server_fd(h->server), POLLIN, 0}, {h->client, POLLIN, 0}};
	struct uvf_wire_region_access access = {REG_SCRATCH, 0, 4};
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_dma_access access;
		uint64_t data;
	} answer = {.data = 0x1122334455667788};
	struct reply reply;
	pthread_t thread;
	void *result;

	assert_int_equal(dma_map(h, REMOTE, PAGE, VFIO_DMA_MAP_FLAG_READ, -1, 0), 0);
	assert_int_equal(region_write32(h, 0, REG_BUS_MASTER, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, worker, h->device), 0);
	assert_true(receive_message(h->client, &reply));
	assert_int_equal(reply.header.command, VFIO_USER_DMA_READ);
	answer.header = reply.header;
	answer.header.size = sizeof(answer);
	answer.header.flags = UVF_WIRE_REPLY;
	memcpy(&answer.access, reply.payload, sizeof(answer.access));
	/* The worker is back in its wait. */
	usleep(20000);
	send_request_on(h->client, 99, VFIO_USER_REGION_READ, 0, &access, sizeof(access), NULL, 0);
	while (poll(&ready[1], 1, 0) == 0) {
		if (poll(ready, 2, 5000) == 0)
			fail_msg("nothing says that there is a request");
		assert_true(uvf_server_process(h->server) >= 0);
	}
	assert_true(receive_message(h->client, &reply));
	assert_int_equal(reply.header.id, 99);
	assert_int_equal(write(h->client, &answer, sizeof(answer)), sizeof(answer));
	pthread_join(thread, &result);
	assert_int_equal((uint64_t)result, answer.data);
	harness_step(h);
}

struct writer {
	struct test_device *device;
	uint64_t address;
	int result;
	pthread_t thread;
};

static void *write_much(void *opaque)
{
	struct writer *writer = opaque;

	writer->result = uvf_dma_write(writer->device->dev, UVF_PASID_NONE, writer->address,
				       writer->device->buffer, MAX_DATA);
	return NULL;
}

static void answer_dma(struct harness *h)
{
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_dma_access access;
		uint8_t data[MAX_DATA];
	} answer;
	static struct reply message;
	size_t size = sizeof(answer.header) + sizeof(answer.access);

	assert_true(receive_message(h->client, &message));
	memset(&answer, 1, sizeof(answer));
	memcpy(&answer.access, message.payload, sizeof(answer.access));
	if (message.header.command == VFIO_USER_DMA_READ)
		size += answer.access.count;
	answer.header = message.header;
	answer.header.size = (uint32_t)size;
	answer.header.flags = UVF_WIRE_REPLY;
	assert_int_equal(write(h->client, &answer, size), size);
}

/* More at once than the socket and the queue hold: those who can wait do. */
static void many_workers_write(void **state)
{
	struct harness *h = *state;
	struct writer writers[24];
	pthread_t thread;
	void *value;

	assert_int_equal(
		dma_map(h, REMOTE, sizeof(writers) / sizeof(writers[0]) * MAX_DATA, 3, -1, 0), 0);
	assert_int_equal(region_write32(h, 0, REG_BUS_MASTER, 1), 0);
	/* Which layout the client speaks is known after a read. */
	assert_int_equal(pthread_create(&thread, NULL, worker, h->device), 0);
	answer_dma(h);
	pthread_join(thread, &value);
	assert_int_equal((uint64_t)value, 0x0101010101010101);
	for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++) {
		writers[i] = (struct writer){.device = h->device, .address = REMOTE + i * MAX_DATA};
		assert_int_equal(pthread_create(&writers[i].thread, NULL, write_much, &writers[i]),
				 0);
	}
	usleep(50000);
	for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++)
		answer_dma(h);
	for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++) {
		pthread_join(writers[i].thread, NULL);
		assert_int_equal(writers[i].result, 0);
	}
}

/* Stopping doesn't wait for a reply that doesn't come on the other socket. */
static void stops_while_the_client_owes(void **state)
{
	struct uvf_server_config config = {.client_timeout_ms = 60000};
	struct harness *h = harness_new(&config);
	struct uvf_wire_dma_map map = {sizeof(map), VFIO_DMA_MAP_FLAG_READ, 0, REMOTE, PAGE};
	static const struct {
		uint64_t offset;
		uint32_t value;
	} writes[] = {{REG_BUS_MASTER, 1},
		      {REG_DMA_ADDRESS, REMOTE},
		      {REG_DMA_SIZE, 8},
		      {REG_DOORBELL, 1}};
	struct reply version, reply;
	static const char text[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":4,"
				   "\"twin_socket\":{\"supported\":true}}}";

	assert_int_equal(uvf_server_start(h->server), 0);
	h->client = harness_connect(h);
	send_request_on(h->client, 1, VFIO_USER_VERSION, 0, text, sizeof(text), NULL, 0);
	assert_true(receive_message(h->client, &version));
	assert_int_equal(version.fd_count, 1);
	send_request_on(h->client, 2, VFIO_USER_DMA_MAP, 0, &map, sizeof(map), NULL, 0);
	assert_true(receive_message(h->client, &reply));
	for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		struct {
			struct uvf_wire_region_access access;
			uint32_t value;
		} write = {{writes[i].offset, 0, 4}, writes[i].value};

		send_request_on(h->client, 3, VFIO_USER_REGION_WRITE, UVF_WIRE_NO_REPLY, &write, 20,
				NULL, 0);
	}
	assert_true(receive_message(version.fds[0], &reply));
	assert_int_equal(reply.header.command, VFIO_USER_DMA_READ);
	alarm(20);
	uvf_server_stop(h->server);
	alarm(0);
	close_reply_fds(&version);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_in_the_way),
		cmocka_unit_test_setup_teardown(unread_requests_end_in_eof, harness_setup,
						harness_teardown),
		cmocka_unit_test_setup_teardown(no_descriptors_left, harness_setup_server,
						harness_teardown),
		cmocka_unit_test_setup_teardown(a_request_before_the_reply, harness_setup,
						harness_teardown),
		cmocka_unit_test_setup_teardown(many_workers_write, harness_setup,
						harness_teardown),
		cmocka_unit_test(no_more_files_than_allowed),
		cmocka_unit_test(stops_while_the_client_owes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
