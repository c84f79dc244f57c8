/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections, good and bad, one after another: no descriptor, thread or memory is left of them,
 * and each finds the device reset. How many: UVFIO_TEST_CONNECTIONS.
 */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct usage {
	size_t fds, threads, resident, allocated;
};

static size_t resident(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	size_t size, pages;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%zu %zu", &size, &pages), 2);
	fclose(file);
	return pages * PAGE;
}

static struct usage usage_now(void)
{
	malloc_trim(0);
	return (struct usage){count_fds(), count_threads(), resident(), mallinfo2().uordblks};
}

/* ---- Clients ---- */

static const char plain[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":16}}";
static const char twin[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":16,"
			   "\"twin_socket\":{\"supported\":true}}}";

static bool send_all(int sock, const void *bytes, size_t size, const int *fds, size_t fd_count)
{
	struct iovec iov = {(void *)bytes, size};

	return uvf_fdpass_send(sock, &iov, 1, fds, fd_count, 0) == (ssize_t)size;
}

static void send_message(int sock, uint16_t command, const void *payload, size_t size,
			 const int *fds, size_t fd_count)
{
	struct {
		struct uvf_wire_header header;
		uint8_t payload[256];
	} message = {{1, command, (uint32_t)(sizeof(message.header) + size), 0, 0}, {0}};

	if (size)
		memcpy(message.payload, payload, size);
	send_all(sock, &message, message.header.size, fds, fd_count);
}

/* Waits for the answer to VERSION, and takes its descriptors. */
static bool negotiated(int sock, const char *text, size_t size, struct reply *reply)
{
	send_message(sock, VFIO_USER_VERSION, text, size, NULL, 0);
	return receive_message(sock, reply) && !(reply->header.flags & UVF_WIRE_ERROR);
}

static void half_a_header(struct harness *h, int sock)
{
	static const uint8_t bytes[7] = {1, 0, 1, 0, 60};

	send_all(sock, bytes, sizeof(bytes), NULL, 0);
}

static void says_nothing(struct harness *h, int sock)
{
}

static void version_and_gone(struct harness *h, int sock)
{
	send_message(sock, VFIO_USER_VERSION, plain, sizeof(plain), NULL, 0);
}

static void twin_and_gone(struct harness *h, int sock)
{
	send_message(sock, VFIO_USER_VERSION, twin, sizeof(twin), NULL, 0);
}

static void nonsense(struct harness *h, int sock)
{
	static const uint8_t bytes[64] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	send_all(sock, bytes, sizeof(bytes), NULL, 0);
}

static void fds_in_excess(struct harness *h, int sock)
{
	int fds[100];

	for (size_t i = 0; i < 100; i++)
		fds[i] = dup(h->device->io_fd);
	send_message(sock, VFIO_USER_VERSION, plain, sizeof(plain), fds, 100);
	uvf_fdpass_close(fds, 100);
}

/* Those that are allowed, with a message that never ends. */
static void fds_held_back(struct harness *h, int sock)
{
	struct uvf_wire_header header = {1, VFIO_USER_REGION_WRITE, 1000, 0, 0};
	struct reply reply;
	int fds[16];

	if (!negotiated(sock, plain, sizeof(plain), &reply))
		return;
	for (size_t i = 0; i < 16; i++)
		fds[i] = dup(h->device->io_fd);
	send_all(sock, &header, sizeof(header), fds, 16);
	send_all(sock, "x", 1, fds, 16);
	uvf_fdpass_close(fds, 16);
}

static void write_register(int sock, uint64_t offset, uint64_t value, uint32_t count)
{
	struct {
		struct uvf_wire_region_access access;
		uint64_t value;
	} write = {{offset, 0, count}, value};

	send_message(sock, VFIO_USER_REGION_WRITE, &write, 16 + count, NULL, 0);
}

static void start_dma(int sock, uint64_t address, uint32_t size)
{
	write_register(sock, REG_BUS_MASTER, 1, 4);
	write_register(sock, REG_DMA_ADDRESS, address, 8);
	write_register(sock, REG_DMA_SIZE, size, 4);
	write_register(sock, REG_DOORBELL, 1, 4);
}

/* Maps with files, sets interrupts, and goes while the device is in its memory. */
static void gone_in_dma(struct harness *h, int sock)
{
	struct uvf_wire_dma_map map = {sizeof(map), UVF_PROT_RW, 0, 0, PAGE};
	struct uvf_wire_irq_set set = {sizeof(set),
				       VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
				       VFIO_PCI_MSIX_IRQ_INDEX, 0, 1};
	int memory = memory_file(PAGE), event = eventfd(0, EFD_CLOEXEC);
	struct reply reply;

	if (negotiated(sock, plain, sizeof(plain), &reply)) {
		for (map.address = 0; map.address < 8 * PAGE; map.address += PAGE)
			send_message(sock, VFIO_USER_DMA_MAP, &map, sizeof(map), &memory, 1);
		send_message(sock, VFIO_USER_DEVICE_SET_IRQS, &set, sizeof(set), &event, 1);
		start_dma(sock, 0, 8 * PAGE);
	}
	close(memory);
	close(event);
}

/* The same where the device waits for an answer: until its request is there, or not so long. */
static void gone_in_a_call(struct harness *h, int sock, const char *text, size_t size, bool waits)
{
	struct uvf_wire_dma_map map = {sizeof(map), UVF_PROT_RW, 0, 0, PAGE};
	struct reply reply;

	if (!negotiated(sock, text, size, &reply))
		return;
	send_message(sock, VFIO_USER_DMA_MAP, &map, sizeof(map), NULL, 0);
	start_dma(sock, 0, PAGE);
	if (waits) {
		struct pollfd ready = {reply.fd_count ? reply.fds[0] : sock, POLLIN, 0};

		poll(&ready, 1, LONG_TIME_MS);
	}
	close_reply_fds(&reply);
}

static void gone_in_a_call_of_one_socket(struct harness *h, int sock)
{
	gone_in_a_call(h, sock, plain, sizeof(plain), true);
}

static void gone_in_a_call_of_the_twin(struct harness *h, int sock)
{
	gone_in_a_call(h, sock, twin, sizeof(twin), true);
}

static void gone_before_a_call(struct harness *h, int sock)
{
	gone_in_a_call(h, sock, twin, sizeof(twin), false);
}

/* Finds the device as it was made, leaves it changed, and takes no reply along. */
static void reads_and_writes(struct harness *h, int sock)
{
	struct uvf_wire_region_access access = {REG_SCRATCH, 0, 4};
	struct reply reply;
	uint32_t value;

	assert_true(negotiated(sock, plain, sizeof(plain), &reply));
	send_message(sock, VFIO_USER_REGION_READ, &access, sizeof(access), NULL, 0);
	assert_true(receive_message(sock, &reply));
	memcpy(&value, reply.payload + sizeof(access), sizeof(value));
	assert_int_equal(value, 0);
	write_register(sock, REG_SCRATCH, 1, 4);
}

static void (*const clients[])(struct harness *, int) = {
	reads_and_writes,
	half_a_header,
	version_and_gone,
	says_nothing,
	twin_and_gone,
	nonsense,
	fds_in_excess,
	fds_held_back,
	gone_in_dma,
	gone_in_a_call_of_one_socket,
	gone_in_a_call_of_the_twin,
	gone_before_a_call,
};

#define KINDS (sizeof(clients) / sizeof(clients[0]))

/* A good client that has a device of client.h, with its own threads. */
static void device_of_a_client(struct harness *h)
{
	struct uvf_client_config config = {.path = h->path, .timeout_ms = LONG_TIME_MS};
	struct uvf_device *dev;
	uint32_t value = 1;
	int ret;

	/* The one before may not have been dealt with to its end. */
	do
		ret = uvf_client_connect(&config, &dev, NULL);
	while (ret == -EBUSY);
	assert_int_equal(ret, 0);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_region_read(dev, 0, REG_SCRATCH, &value, 4), 4);
	assert_int_equal(value, 0);
	value = 1;
	assert_int_equal(uvf_region_write(dev, 0, REG_SCRATCH, &value, 4), 4);
	uvf_device_free(dev);
}

static void connect_once(struct harness *h, unsigned number)
{
	int sock;

	if (number % (KINDS + 1) == KINDS) {
		device_of_a_client(h);
		return;
	}
	sock = harness_connect(h);
	clients[number % (KINDS + 1)](h, sock);
	close(sock);
}

/*
 * When the last one has been dealt with: a new one is served, and then it is gone as well. @idle is
 * how many descriptors there were before the first.
 */
static void settle(struct harness *h, size_t idle)
{
	device_of_a_client(h);
	while (count_fds() > idle)
		usleep(1000);
}

/* A thread that was joined can be seen for a moment still. */
static struct usage wait_for(struct usage before)
{
	struct usage now = usage_now();

	for (int i = 0; i < 5000 && now.threads > before.threads; i++) {
		usleep(1000);
		now = usage_now();
	}
	return now;
}

static void print_usage(const char *name, const struct usage *usage)
{
	print_message("%s: %zu descriptors, %zu threads, %zu KiB resident, %zu bytes allocated\n",
		      name, usage->fds, usage->threads, usage->resident >> 10, usage->allocated);
}

static void nothing_is_left(void **state)
{
	const char *given = getenv("UVFIO_TEST_CONNECTIONS");
	unsigned count = given ? (unsigned)strtoul(given, NULL, 0) : 2000;
	struct harness *h = harness_new(NULL);
	struct usage before, after;
	size_t idle;

	assert_int_equal(uvf_server_start(h->server), 0);
	idle = count_fds();
	/* What is made once and stays. */
	for (unsigned i = 0; i < 10 * (KINDS + 1); i++)
		connect_once(h, i);
	settle(h, idle);
	before = usage_now();
	for (unsigned i = 0; i < count; i++)
		connect_once(h, i);
	settle(h, idle);
	after = wait_for(before);
	print_message("%u connections\n", count);
	print_usage("before", &before);
	print_usage("after", &after);
	assert_int_equal(after.fds, before.fds);
	assert_true(after.threads <= before.threads);
	if (!SANITIZED) {
		/* Less than half a byte a connection, where there are many. */
		assert_true(after.allocated < before.allocated + 16384);
		assert_true(after.resident < before.resident + (2U << 20));
	}
	uvf_server_stop(h->server);
	assert_int_equal(h->device->opens, h->device->closes);
	assert_true(h->device->opens > count / 3);
	/* A reset after each. */
	assert_true(h->device->resets >= h->device->closes);
	harness_free(h);
}

static void *nothing(void *opaque)
{
	return opaque;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_left),
	};
	pthread_t thread;

	/* A sanitizer's own thread comes with the first. */
	if (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
