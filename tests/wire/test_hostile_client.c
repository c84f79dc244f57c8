/* SPDX-License-Identifier: BSD-3-Clause */
/* Clients that mean harm: wrong files, too many of them, too much of everything. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "harness.h"

/* ---- Wrong files ---- */

static int a_directory(void)
{
	return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int a_pipe(int end)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[!end]);
	return ends[end];
}

static int a_pipe_to_read(void)
{
	return a_pipe(0);
}

static int a_pipe_to_write(void)
{
	return a_pipe(1);
}

static int a_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* The server's own socket, for the server to connect to itself. */
static int the_session(void)
{
	return dup(harness_current()->client);
}

static int a_path(void)
{
	return open("/proc/self/exe", O_PATH | O_CLOEXEC);
}

static int an_epoll(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

static int a_timer(void)
{
	return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
}

static int an_inotify(void)
{
	return inotify_init1(IN_CLOEXEC);
}

static int a_signalfd(void)
{
	sigset_t none;

	sigemptyset(&none);
	return signalfd(-1, &none, SFD_CLOEXEC);
}

static int a_null(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int a_zero(void)
{
	return open("/dev/zero", O_RDWR | O_CLOEXEC);
}

static int a_proc_file(void)
{
	return open("/proc/self/status", O_RDONLY | O_CLOEXEC);
}

static int an_empty_file(void)
{
	return memory_file(0);
}

static int a_file_to_read(void)
{
	char path[32];
	int fd = memory_file(PAGE), again;

	sprintf(path, "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	close(fd);
	return again;
}

static int a_file_to_append_to(void)
{
	char path[] = "/tmp/uvfio-append-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC), again;

	assert_int_equal(ftruncate(fd, PAGE), 0);
	again = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	unlink(path);
	close(fd);
	return again;
}

static int a_sealed_file(void)
{
	int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	return fd;
}

static int an_eventfd(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

struct row {
	const char *name;
	int (*make)(void);
	/* As an eventfd it is refused, or taken and gets nothing: is never waited for. */
	bool may_signal;
};

static const struct row rows[] = {
	{"a directory", a_directory},
	{"a pipe's end to read", a_pipe_to_read},
	{"a pipe's end to write", a_pipe_to_write},
	{"a socket", a_socket},
	{"the session's socket", the_session},
	{"an O_PATH", a_path},
	{"an epoll", an_epoll, true},
	{"a timer", a_timer, true},
	{"an inotify", an_inotify, true},
	{"a signalfd", a_signalfd, true},
	{"/dev/null", a_null},
	{"/dev/zero", a_zero},
	{"a file of /proc", a_proc_file},
	{"an empty file", an_empty_file},
	{"a file opened for reading", a_file_to_read},
	{"a file to append to", a_file_to_append_to},
	{"a sealed file", a_sealed_file},
};

/* It is refused, with nothing kept, and the client stays. */
static void not_memory(void **state)
{
	const struct row *row = *state;
	struct harness *h = harness_current();
	int fd = row->make();

	assert_true(fd >= 0);
	assert_true(dma_map(h, 0, PAGE, UVF_PROT_RW, fd, 0) < 0);
	close(fd);
	fd = memory_file(PAGE);
	assert_int_equal(dma_map(h, 0, PAGE, UVF_PROT_RW, fd, 0), 0);
	close(fd);
	fd = an_eventfd();
	assert_true(dma_map(h, PAGE, PAGE, UVF_PROT_RW, fd, 0) < 0);
	close(fd);
}

static int set_irqs(struct harness *h, uint32_t flags, uint32_t index, const int *fds, size_t count)
{
	struct uvf_wire_irq_set set = {sizeof(set), flags, index, 0, (uint32_t)count};
	struct reply reply;

	return request(h, VFIO_USER_DEVICE_SET_IRQS, &set, sizeof(set), fds, count, &reply);
}

static void not_an_eventfd(void **state)
{
	const uint32_t flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	const struct row *row = *state;
	struct harness *h = harness_current();
	int fds[3] = {an_eventfd(), row->make(), an_eventfd()};
	int ret = set_irqs(h, flags, VFIO_PCI_MSIX_IRQ_INDEX, fds, 3);
	uint64_t count;

	if (row->may_signal)
		assert_true(!ret || ret == -EINVAL);
	else
		assert_int_equal(ret, -EINVAL);
	/* Where one is refused all are. */
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(region_write32(h, 0, REG_TRIGGER, i), 0);
	assert_int_equal(read(fds[0], &count, 8), ret ? -1 : 8);
	assert_int_equal(read(fds[2], &count, 8), ret ? -1 : 8);
	ret = set_irqs(h, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK,
		       VFIO_PCI_INTX_IRQ_INDEX, fds + 1, 1);
	assert_true(ret == -EINVAL || row->may_signal);
	uvf_fdpass_close(fds, 3);
	assert_int_equal(simple(h, VFIO_USER_DEVICE_RESET, NULL, 0), 0);
}

/* ---- Too many ---- */

/* A thousand, with the bytes of a message that never ends: held up to a bound, then all closed. */
static void thousand_fds(uint32_t max_msg_fds, size_t at_once, bool complete)
{
	struct uvf_server_config config = {.max_msg_fds = max_msg_fds};
	struct uvf_wire_header header = {1, VFIO_USER_DEVICE_RESET, 16 + 1000, 0, 0};
	struct iovec iov = {&header, sizeof(header)};
	struct harness *h = harness_new(&config);
	uint8_t rest[1000] = {0};
	struct reply reply;
	int fds[UVF_FDPASS_MAX];
	size_t before, sent = 0;

	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
	before = count_fds();
	for (size_t i = 0; i < at_once; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	/* The server isn't stepped in between: all of them wait in its socket. */
	while (sent < 1000) {
		size_t count = 1000 - sent < at_once ? 1000 - sent : at_once;

		if (uvf_fdpass_send(h->client, &iov, 1, fds, count, MSG_DONTWAIT) < 0)
			break;
		sent += count;
		iov = (struct iovec){rest, 1};
	}
	if (complete)
		send(h->client, rest, sizeof(rest), MSG_NOSIGNAL | MSG_DONTWAIT);
	uvf_fdpass_close(fds, at_once);
	assert_true(sent > 100);
	harness_step(h);
	assert_true(count_fds() <= before + 4 * (size_t)max_msg_fds);
	close(h->client);
	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
	assert_int_equal(count_fds(), before);
	harness_free(h);
}

static void a_thousand_files(void **state)
{
	thousand_fds(16, 250, false);
	thousand_fds(16, 16, false);
	thousand_fds(253, 250, false);
	thousand_fds(253, 253, true);
	thousand_fds(64, 1, true);
}

static int map_page(struct harness *h, uint64_t number, int fd)
{
	return dma_map(h, number * PAGE, PAGE, UVF_PROT_RW, fd, 0);
}

/* The number of mappings is what was agreed: the smaller of the two's. */
static void mappings_are_bounded(void **state)
{
	struct uvf_server_config config = {.max_dma_maps = 8};
	static const struct {
		const char *text;
		unsigned count;
	} agreed[] = {
		{"{\"capabilities\":{\"max_dma_maps\":100}}", 8},
		{"{\"capabilities\":{\"max_dma_maps\":5}}", 5},
	};

	for (size_t i = 0; i < 2; i++) {
		struct harness *h = harness_new(&config);
		struct reply reply;
		int fd;
		size_t fds;

		h->client = harness_connect(h);
		assert_int_equal(negotiate_on(h, h->client, agreed[i].text, &reply), 0);
		for (unsigned j = 0; j < agreed[i].count; j++) {
			fd = j % 2 ? memory_file(PAGE) : -1;
			assert_int_equal(map_page(h, j, fd), 0);
			if (fd >= 0)
				close(fd);
		}
		fds = count_fds();
		for (unsigned j = 0; j < 100; j++) {
			fd = j % 2 ? memory_file(PAGE) : -1;
			assert_true(map_page(h, 100 + j, fd) < 0);
			if (fd >= 0)
				close(fd);
		}
		assert_int_equal(count_fds(), fds);
		/* There is room again. */
		assert_int_equal(dma_unmap(h, 0, PAGE, 0), 0);
		assert_int_equal(map_page(h, 100, -1), 0);
		assert_true(map_page(h, 101, -1) < 0);
		assert_int_equal(dma_unmap(h, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL), 0);
		for (unsigned j = 0; j < agreed[i].count; j++)
			assert_int_equal(map_page(h, j, -1), 0);
		assert_true(map_page(h, 200, -1) < 0);
		harness_free(h);
	}
}

/* ---- Too large, too small ---- */

#define MIB (1U << 20)

struct large {
	struct uvf_wire_header header;
	struct uvf_wire_region_access access;
	uint8_t data[MIB + 1];
};

static struct large *large_write(uint32_t count)
{
	struct large *large = malloc(sizeof(*large));

	assert_non_null(large);
	large->header = (struct uvf_wire_header){7, VFIO_USER_REGION_WRITE, 32 + count, 0, 0};
	large->access = (struct uvf_wire_region_access){0, 2, count};
	for (uint32_t i = 0; i < count; i++)
		large->data[i] = (uint8_t)(i * 5 + (i >> 9));
	return large;
}

/* A server with the default limits, on its threads. */
static struct harness *threaded_server(void)
{
	struct uvf_server_config config = {0};
	struct harness *h = harness_new(&config);
	struct reply reply;

	assert_int_equal(uvf_server_start(h->server), 0);
	h->threaded = true;
	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
	return h;
}

static void bytes_one_by_one(void **state)
{
	struct harness *h = threaded_server();
	struct large *large = large_write(MIB);
	struct reply reply;

	for (size_t i = 0; i < large->header.size; i++)
		assert_int_equal(send(h->client, (char *)large + i, 1, 0), 1);
	assert_true(receive_message(h->client, &reply));
	assert_int_equal(reply.header.id, 7);
	assert_int_equal(reply.header.flags, UVF_WIRE_REPLY);
	assert_memory_equal(h->device->buffer, large->data, MIB);
	free(large);
	harness_free(h);
}

static void as_large_as_advertised(void **state)
{
	struct harness *h = threaded_server();
	struct large *large = large_write(MIB);
	struct reply reply;

	for (int i = 0; i < 5; i++) {
		memset(h->device->buffer, 0, MIB);
		assert_int_equal(send(h->client, large, large->header.size, 0), large->header.size);
		assert_true(receive_message(h->client, &reply));
		assert_int_equal(reply.header.flags, UVF_WIRE_REPLY);
		assert_memory_equal(h->device->buffer, large->data, MIB);
	}
	free(large);
	/* A byte more: the session ends, whatever the command. */
	large = large_write(MIB + 1);
	send(h->client, large, large->header.size, MSG_NOSIGNAL);
	assert_false(receive_message(h->client, &reply));
	free(large);
	harness_free(h);
}

/* ---- Several devices ---- */

/* One client doesn't answer its device, one has sent half a message, one reads no replies. */
static void others_are_unaffected(void **state)
{
	enum { SILENT, HALF, DEAF, WELL, COUNT };
	struct harness *h[COUNT];
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_region_access access;
	} read = {{1, VFIO_USER_REGION_READ, 32, 0, 0}, {0, 2, MIB}};
	struct reply reply;
	uint32_t value;

	for (int i = 0; i < COUNT; i++)
		h[i] = threaded_server();
	assert_int_equal(dma_map(h[SILENT], 0, PAGE, UVF_PROT_RW, -1, 0), 0);
	assert_int_equal(region_write32(h[SILENT], 0, REG_BUS_MASTER, 1), 0);
	assert_int_equal(region_write32(h[SILENT], 0, REG_DMA_SIZE, 4), 0);
	send_request_on(h[SILENT]->client, 1, VFIO_USER_REGION_WRITE, 0, &(struct {
				struct uvf_wire_region_access access;
				uint32_t value;
			}){{REG_DOORBELL, 0, 4}, 1},
			20, NULL, 0);
	assert_true(receive_message(h[SILENT]->client, &reply));
	assert_int_equal(reply.header.command, VFIO_USER_DMA_READ);
	assert_int_equal(send(h[HALF]->client, &read, 20, 0), 20);
	for (int i = 0; i < 8; i++)
		send(h[DEAF]->client, &read, sizeof(read), MSG_NOSIGNAL);
	for (uint32_t i = 0; i < 200; i++) {
		assert_int_equal(region_write32(h[WELL], 0, REG_SCRATCH, i), 0);
		assert_int_equal(region_read32(h[WELL], 0, REG_SCRATCH, &value), 0);
		assert_int_equal(value, i);
	}
	/* Who was stuck goes on, where he does what he owes. */
	assert_int_equal(send(h[HALF]->client, (char *)&read + 20, 12, 0), 12);
	assert_int_equal(recv(h[HALF]->client, &read, sizeof(read), MSG_WAITALL), sizeof(read));
	assert_int_equal(read.header.size, 32 + MIB);
	/* In the order in which they count descriptors. */
	for (int i = COUNT; i-- > 0;)
		harness_free(h[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thousand_files),	 cmocka_unit_test(mappings_are_bounded),
		cmocka_unit_test(bytes_one_by_one),	 cmocka_unit_test(as_large_as_advertised),
		cmocka_unit_test(others_are_unaffected),
	};
	int failed = RUN_TABLE(rows, not_memory);

	failed += RUN_TABLE(rows, not_an_eventfd);
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
