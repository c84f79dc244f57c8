/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session that goes from one server to another, both in this process, under a client made of raw
 * bytes: what it has sent, mapped, been given, and is owed, before, meanwhile and after.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fdpass.h"
#include "frontends/vfio_user/handover.h"
#include "harness.h"

#define IOVA   0x100000U
#define REMOTE 0x900000U

static const struct uvf_server_config movable = {.max_data_xfer_size = MAX_DATA, .move_wait_ms = 5};

struct pair {
	struct harness *from, *to;
	size_t fds_before;
};

static struct harness *threaded_by(const struct uvf_server_config *config)
{
	struct harness *h = harness_new(config);

	h->threaded = true;
	assert_int_equal(uvf_server_start(h->server), 0);
	return h;
}

static struct harness *threaded(void)
{
	return threaded_by(&movable);
}

static int setup(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	struct reply reply;

	pair->fds_before = count_fds();
	pair->from = threaded();
	pair->to = threaded();
	pair->from->client = harness_connect(pair->from);
	assert_int_equal(negotiate_on(pair->from, pair->from->client,
				      "{\"capabilities\":{\"max_msg_fds\":16}}", &reply),
			 0);
	*state = pair;
	return 0;
}

static int teardown(void **state)
{
	struct pair *pair = *state;

	/* They are counted of both together: who has the session has its descriptors. */
	pair->to->fds_before = pair->from->fds_before = 0;
	harness_free(pair->to);
	harness_free(pair->from);
	assert_int_equal(count_fds(), pair->fds_before);
	free(pair);
	return 0;
}

/* ---- Steps of a move ---- */

static void prepare(struct pair *pair)
{
	struct uvf_error error = {""};

	if (uvf_server_prepare(pair->from->server, &error) ||
	    uvf_migration_set_state(pair->from->device->dev, VFIO_DEVICE_STATE_PRE_COPY_P2P))
		fail_msg("prepare: %s", error.text);
}

static void suspend(struct pair *pair)
{
	struct uvf_error error = {""};

	if (uvf_server_suspend(pair->from->server, LONG_TIME_MS, &error))
		fail_msg("suspend: %s", error.text);
}

static void move_state(struct pair *pair)
{
	struct uvf_device *from = pair->from->device->dev, *to = pair->to->device->dev;
	char *buffer = malloc(1 << 20);
	struct uvf_error error = {""};
	ssize_t got;

	if (uvf_server_reserve(pair->to->server, &error))
		fail_msg("reserve: %s", error.text);
	assert_int_equal(uvf_migration_set_state(to, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(uvf_migration_set_state(from, VFIO_DEVICE_STATE_STOP_COPY), 0);
	while ((got = uvf_migration_read(from, buffer, 1 << 20)) > 0)
		assert_int_equal(uvf_migration_write(to, buffer, (size_t)got), got);
	assert_int_equal(got, 0);
	free(buffer);
}

/* As if it had come from another process. */
static void adopt(struct pair *pair)
{
	struct uvf_server_offer offer;
	struct uvf_error error = {""};

	if (uvf_server_offer(pair->from->server, &offer, &error))
		fail_msg("offer: %s", error.text);
	if (uvf_server_adopt(pair->to->server, &offer, &error))
		fail_msg("adopt: %s", error.text);
}

static void finish(struct pair *pair)
{
	struct harness *from = pair->from;

	assert_int_equal(uvf_server_take_over(pair->to->server), 0);
	assert_int_equal(uvf_server_withdraw(pair->from->server), -EALREADY);
	uvf_server_let_go(pair->from->server);
	/* The client is the other's. */
	pair->to->client = from->client;
	pair->to->id = from->id;
	from->client = -1;
	pair->from = pair->to;
	pair->to = from;
}

/* Afterwards pair->from is where the session is. */
static void move(struct pair *pair)
{
	prepare(pair);
	suspend(pair);
	move_state(pair);
	adopt(pair);
	finish(pair);
}

static void go_on(struct pair *pair)
{
	assert_int_equal(
		uvf_migration_set_state(pair->from->device->dev, VFIO_DEVICE_STATE_RUNNING), 0);
	uvf_server_go_on(pair->from->server);
}

static void go_back(struct pair *pair)
{
	assert_int_equal(uvf_server_withdraw(pair->from->server), 0);
	assert_int_equal(uvf_server_take_over(pair->to->server), -ECANCELED);
	uvf_server_unreserve(pair->to->server);
	go_on(pair);
}

/* ---- What the client does ---- */

static void wait_until_received(int sock)
{
	int left = 1;

	while (!ioctl(sock, SIOCOUTQ, &left) && left)
		usleep(1000);
}

static unsigned signals(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? (unsigned)count : 0;
}

/* It comes from another thread. */
static void await_signal(int fd)
{
	struct pollfd ready = {fd, POLLIN, 0};

	assert_int_equal(poll(&ready, 1, LONG_TIME_MS), 1);
	assert_int_equal(signals(fd), 1);
}

static int set_irqs(struct harness *h, uint32_t flags, uint32_t index, uint32_t start, int fd)
{
	struct uvf_wire_irq_set set = {sizeof(set), flags, index, start, 1};
	struct reply reply;

	return request(h, VFIO_USER_DEVICE_SET_IRQS, &set, sizeof(set), &fd, fd >= 0, &reply);
}

static void start_dma(struct harness *h, uint64_t address, uint32_t size, bool write)
{
	assert_int_equal(region_write32(h, 0, REG_BUS_MASTER, 1), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_ADDRESS, (uint32_t)address), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_ADDRESS + 4, (uint32_t)(address >> 32)), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_SIZE, size), 0);
	assert_int_equal(region_write32(h, 0, REG_DMA_WRITE, write), 0);
}

static void scratch_works(struct harness *h, uint32_t value)
{
	uint32_t back;

	assert_int_equal(region_write32(h, 0, REG_SCRATCH, value), 0);
	assert_int_equal(region_read32(h, 0, REG_SCRATCH, &back), 0);
	assert_int_equal(back, value);
}

/* ---- Tests ---- */

static void state_and_session_move_back_and_forth(void **state)
{
	struct pair *pair = *state;
	uint32_t value;

	for (uint32_t i = 1; i <= 6; i++) {
		unsigned resets = pair->from->device->resets;

		scratch_works(pair->from, i);
		assert_int_equal(region_write32(pair->from, 2, 4096, ~i), 0);
		move(pair);
		assert_int_equal(region_read32(pair->from, 0, REG_SCRATCH, &value), 0);
		assert_int_equal(value, i);
		assert_int_equal(region_read32(pair->from, 2, 4096, &value), 0);
		assert_int_equal(value, ~i);
		/* Where it was it is free, and as when new. */
		assert_int_equal(pair->to->device->resets, resets + 1);
		assert_int_equal(pair->to->device->registers[REG_SCRATCH], 0);
	}
}

static void half_a_message_goes_along(void **state)
{
	struct pair *pair = *state;
	struct uvf_wire_dma_map map = {sizeof(map), VFIO_DMA_MAP_FLAG_READ, 0, IOVA, PAGE};
	struct uvf_wire_header header = {
		.id = 4711, .command = VFIO_USER_DMA_MAP, .size = sizeof(header) + sizeof(map)};
	uint8_t message[sizeof(header) + sizeof(map)];
	int file = memory_file(PAGE);
	struct reply reply;

	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), &map, sizeof(map));
	for (size_t cut = 1; cut < sizeof(message); cut += 7) {
		struct iovec begin = {message, cut};

		assert_int_equal(pwrite(file, &cut, sizeof(cut), 0), sizeof(cut));
		assert_int_equal(uvf_fdpass_send(pair->from->client, &begin, 1, &file, 1, 0), cut);
		/* So that it is the server's, and not the socket's any more. */
		wait_until_received(pair->from->client);
		move(pair);
		assert_int_equal(send(pair->from->client, message + cut, sizeof(message) - cut, 0),
				 sizeof(message) - cut);
		assert_true(receive_message(pair->from->client, &reply));
		assert_int_equal(reply.header.id, 4711);
		assert_int_equal(reply.header.flags, UVF_WIRE_REPLY);
		start_dma(pair->from, IOVA, sizeof(cut), false);
		assert_int_equal(region_write32(pair->from, 0, REG_DOORBELL, 1), 0);
		assert_int_equal(pair->from->device->dma_result, 0);
		assert_memory_equal(pair->from->device->buffer, &cut, sizeof(cut));
		assert_int_equal(dma_unmap(pair->from, IOVA, PAGE, 0), 0);
	}
	close(file);
}

static void *suspend_thread(void *opaque)
{
	suspend(opaque);
	return NULL;
}

static void requests_that_wait_are_answered_there(void **state)
{
	struct pair *pair = *state;
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_region_access access;
	} requests[3];
	struct harness *from = pair->from;
	struct reply reply;
	pthread_t thread;

	for (uint32_t i = 0; i < 3; i++) {
		requests[i].header = (struct uvf_wire_header){
			.id = (uint16_t)(100 + i),
			.command = VFIO_USER_REGION_READ,
			.size = sizeof(requests[i]),
		};
		/* From a register, which takes the device's lock. */
		requests[i].access = (struct uvf_wire_region_access){REG_SCRATCH, 0, 4};
	}
	scratch_works(from, 0x1234567);
	prepare(pair);
	uvf_device_lock(from->device->dev);
	assert_int_equal(send(from->client, requests, sizeof(requests), 0), sizeof(requests));
	wait_until_received(from->client);
	assert_int_equal(pthread_create(&thread, NULL, suspend_thread, pair), 0);
	/* The first is being answered; the second must not be, when that ends. */
	usleep(50000);
	uvf_device_unlock(from->device->dev);
	pthread_join(thread, NULL);
	move_state(pair);
	adopt(pair);
	finish(pair);
	for (uint16_t i = 0; i < 3; i++) {
		uint32_t value;

		assert_true(receive_message(pair->from->client, &reply));
		assert_int_equal(reply.header.id, 100 + i);
		memcpy(&value, reply.payload + sizeof(struct uvf_wire_region_access), 4);
		assert_int_equal(value, 0x1234567);
	}
}

static void what_comes_while_it_moves_waits(void **state)
{
	struct pair *pair = *state;
	const struct uvf_wire_region_access access = {REG_SCRATCH, 0, 4};
	struct reply reply;

	scratch_works(pair->from, 77);
	prepare(pair);
	suspend(pair);
	send_request_on(pair->from->client, 500, VFIO_USER_REGION_READ, 0, &access, sizeof(access),
			NULL, 0);
	move_state(pair);
	adopt(pair);
	assert_int_equal(recv(pair->from->client, &reply, 1, MSG_DONTWAIT | MSG_PEEK), -1);
	finish(pair);
	assert_true(receive_message(pair->from->client, &reply));
	assert_int_equal(reply.header.id, 500);
	assert_int_equal(reply.payload[sizeof(access)], 77);
}

static void memory_and_mappings_stay(void **state)
{
	struct pair *pair = *state;
	int file = memory_file(4 * PAGE);
	uint8_t *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	/* Two of one file, and one that can only be read. */
	assert_int_equal(dma_map(pair->from, IOVA, PAGE, 3, file, PAGE), 0);
	assert_int_equal(dma_map(pair->from, IOVA + 8 * PAGE, PAGE, 3, file, 3 * PAGE), 0);
	assert_int_equal(dma_map(pair->from, IOVA + 16 * PAGE, PAGE, 1, file, 0), 0);
	for (uint32_t i = 1; i < 5; i++) {
		move(pair);
		memset(pair->from->device->buffer, (int)i, PAGE);
		start_dma(pair->from, IOVA + 8 * PAGE, PAGE, true);
		assert_int_equal(region_write32(pair->from, 0, REG_DOORBELL, 1), 0);
		assert_int_equal(pair->from->device->dma_result, 0);
		assert_int_equal(memory[3 * PAGE], i);
		assert_int_equal(memory[4 * PAGE - 1], i);
		start_dma(pair->from, IOVA + 16 * PAGE, PAGE, true);
		assert_int_equal(region_write32(pair->from, 0, REG_DOORBELL, 1), 0);
		assert_int_equal(pair->from->device->dma_result, -EACCES);
	}
	assert_int_equal(dma_unmap(pair->from, IOVA, PAGE, 0), 0);
	assert_int_equal(dma_map(pair->from, IOVA, PAGE, 3, file, 0), 0);
	munmap(memory, 4 * PAGE);
	close(file);
}

/* Answers one DMA message of @size bytes with @fill, while another thread waits for it. */
static void serve_read(int sock, uint32_t size, uint8_t fill)
{
	struct {
		struct uvf_wire_dma_access access;
		uint8_t data[PAGE];
	} answer;
	struct reply message;

	assert_true(receive_message(sock, &message));
	assert_int_equal(message.header.command, VFIO_USER_DMA_READ);
	memcpy(&answer.access, message.payload, sizeof(answer.access));
	assert_int_equal(answer.access.count, size);
	memset(answer.data, fill, size);
	send_request_on(sock, message.header.id, VFIO_USER_DMA_READ, UVF_WIRE_REPLY, &answer,
			sizeof(answer.access) + size, NULL, 0);
}

static void remote_read(struct harness *h, int sock, uint8_t fill)
{
	const struct {
		struct uvf_wire_region_access access;
		uint32_t value;
	} ring = {{REG_DOORBELL, 0, 4}, 1};
	struct reply reply;

	start_dma(h, REMOTE, 64, false);
	send_request_on(h->client, 900, VFIO_USER_REGION_WRITE, 0, &ring, 20, NULL, 0);
	serve_read(sock, 64, fill);
	assert_true(receive_message(h->client, &reply));
	assert_int_equal(reply.header.id, 900);
	assert_int_equal(h->device->dma_result, 0);
	assert_int_equal(h->device->buffer[63], fill);
}

static void remote_memory_stays_remote(void **state)
{
	struct pair *pair = *state;

	assert_int_equal(dma_map(pair->from, REMOTE, PAGE, 3, -1, 0), 0);
	for (uint8_t i = 1; i < 6; i++) {
		remote_read(pair->from, pair->from->client, i);
		move(pair);
	}
	remote_read(pair->from, pair->from->client, 99);
}

static void twin_socket_goes_along(void **state)
{
	struct pair *pair = *state;
	struct reply reply;
	int twin;

	close(pair->from->client);
	pair->from->client = harness_connect(pair->from);
	assert_int_equal(negotiate_on(pair->from, pair->from->client,
				      "{\"capabilities\":{\"max_msg_fds\":16,"
				      "\"twin_socket\":{\"supported\":true}}}",
				      &reply),
			 0);
	assert_int_equal(reply.fd_count, 1);
	twin = reply.fds[0];
	assert_int_equal(dma_map(pair->from, REMOTE, PAGE, 3, -1, 0), 0);
	for (uint8_t i = 1; i < 6; i++) {
		remote_read(pair->from, twin, i);
		move(pair);
	}
	remote_read(pair->from, twin, 99);
	close(twin);
}

/* The fd and offset of region 0's areas. */
static int region_file(struct harness *h, uint64_t *offset)
{
	struct uvf_wire_region_info info = {.argsz = 4096};
	struct reply reply;

	assert_int_equal(
		request(h, VFIO_USER_DEVICE_GET_REGION_INFO, &info, sizeof(info), NULL, 0, &reply),
		0);
	assert_int_equal(reply.fd_count, 1);
	memcpy(&info, reply.payload, sizeof(info));
	*offset = info.offset;
	return reply.fds[0];
}

static void mapped_registers_stay_mapped(void **state)
{
	struct pair *pair = *state;
	uint64_t offset;
	int fd = region_file(pair->from, &offset);
	uint8_t *area = mmap(NULL, AREA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			     (off_t)(offset + AREA_START));
	struct stat ours, theirs;
	uint32_t value;

	assert_ptr_not_equal(area, MAP_FAILED);
	assert_int_equal(fstat(fd, &ours), 0);
	close(fd);
	for (uint8_t i = 1; i < 6; i++) {
		area[0] = i;
		prepare(pair);
		suspend(pair);
		move_state(pair);
		/* After the state was saved, before it is loaded: it must not be undone by that. */
		area[1] = i;
		adopt(pair);
		area[2] = i;
		finish(pair);
		area[3] = i;
		assert_memory_equal(area, ((uint8_t[]){i, i, i, i}), 4);
		assert_memory_equal(pair->from->device->area, area, 4);
		/* By messages too, which go by another mapping of it. */
		assert_int_equal(region_read32(pair->from, 0, AREA_START, &value), 0);
		assert_int_equal(value, i * 0x01010101U);
		assert_int_equal(region_write32(pair->from, 0, AREA_START + PAGE, i), 0);
		assert_int_equal(area[PAGE], i);
		/* Where it was there is other memory now. */
		pair->to->device->area[0] = 0xee;
		assert_int_equal(area[0], i);
	}
	fd = region_file(pair->from, &offset);
	assert_int_equal(fstat(fd, &theirs), 0);
	assert_int_equal(ours.st_ino, theirs.st_ino);
	close(fd);
	munmap(area, AREA_SIZE);
}

static int io_fd_of(struct harness *h)
{
	struct uvf_wire_region_io_fds io_fds = {.argsz = 4096};
	struct reply reply;

	assert_int_equal(request(h, VFIO_USER_DEVICE_GET_REGION_IO_FDS, &io_fds, sizeof(io_fds),
				 NULL, 0, &reply),
			 0);
	assert_int_equal(reply.fd_count, 1);
	return reply.fds[0];
}

static void doorbells_by_eventfd_ring_there(void **state)
{
	struct pair *pair = *state;
	int fd = io_fd_of(pair->from);

	for (int i = 0; i < 5; i++) {
		struct pollfd old = {.events = POLLIN}, new = {.events = POLLIN};

		prepare(pair);
		suspend(pair);
		move_state(pair);
		adopt(pair);
		/* Nobody may take it before it is clear whose it is. */
		assert_int_equal(eventfd_write(fd, 1), 0);
		old.fd = pair->from->device->io_fd;
		new.fd = pair->to->device->io_fd;
		assert_int_equal(poll(&old, 1, 0), 0);
		assert_int_equal(poll(&new, 1, 0), 0);
		finish(pair);
		await_signal(new.fd);
		assert_int_equal(poll(&old, 1, 0), 0);
	}
	/* And when it comes to nothing. */
	prepare(pair);
	suspend(pair);
	move_state(pair);
	adopt(pair);
	assert_int_equal(eventfd_write(fd, 1), 0);
	go_back(pair);
	await_signal(pair->from->device->io_fd);
	close(fd);
}

static void messages_signal_from_there(void **state)
{
	struct pair *pair = *state;
	int fds[2] = {eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK)};
	const uint32_t set = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;

	assert_int_equal(set_irqs(pair->from, set, VFIO_PCI_MSIX_IRQ_INDEX, 3, fds[0]), 0);
	assert_int_equal(set_irqs(pair->from, set, VFIO_PCI_MSIX_IRQ_INDEX, 31, fds[1]), 0);
	for (int i = 0; i < 4; i++) {
		move(pair);
		assert_int_equal(signals(fds[0]) + signals(fds[1]), 0);
		uvf_irq_trigger(pair->from->device->dev, VFIO_PCI_MSIX_IRQ_INDEX, 3);
		uvf_irq_trigger(pair->from->device->dev, VFIO_PCI_MSIX_IRQ_INDEX, 31);
		/* Not from where it was any more. */
		uvf_irq_trigger(pair->to->device->dev, VFIO_PCI_MSIX_IRQ_INDEX, 3);
		assert_int_equal(signals(fds[0]), 1);
		assert_int_equal(signals(fds[1]), 1);
	}
	uvf_fdpass_close(fds, 2);
}

static void a_line_keeps_level_and_mask(void **state)
{
	struct pair *pair = *state;
	const uint32_t eventfd_flag = VFIO_IRQ_SET_DATA_EVENTFD;
	int line = eventfd(0, EFD_NONBLOCK), unmask = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(
		set_irqs(pair->from, eventfd_flag | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, line), 0);
	assert_int_equal(
		set_irqs(pair->from, eventfd_flag | VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, unmask), 0);
	uvf_irq_set_level(pair->from->device->dev, VFIO_PCI_INTX_IRQ_INDEX, 0, true);
	assert_int_equal(signals(line), 1);
	for (int i = 0; i < 4; i++) {
		move(pair);
		/* It was told, and has masked the line. */
		assert_int_equal(signals(line), 0);
		assert_int_equal(eventfd_write(unmask, 1), 0);
		await_signal(line);
	}
	/* Unmasked while it is nobody's: whoever gets it sees that. */
	prepare(pair);
	suspend(pair);
	move_state(pair);
	adopt(pair);
	assert_int_equal(eventfd_write(unmask, 1), 0);
	usleep(20000);
	assert_int_equal(signals(line), 0);
	go_back(pair);
	await_signal(line);
	uvf_irq_set_level(pair->from->device->dev, VFIO_PCI_INTX_IRQ_INDEX, 0, false);
	assert_int_equal(eventfd_write(unmask, 1), 0);
	move(pair);
	uvf_irq_set_level(pair->from->device->dev, VFIO_PCI_INTX_IRQ_INDEX, 0, true);
	await_signal(line);
	close(line);
	close(unmask);
}

static void withdrawn_it_goes_on_here(void **state)
{
	struct pair *pair = *state;
	int file = memory_file(PAGE);

	assert_int_equal(dma_map(pair->from, IOVA, PAGE, 3, file, 0), 0);
	for (uint32_t i = 1; i < 4; i++) {
		/* Before there is an offer, before it is adopted, after. */
		prepare(pair);
		scratch_works(pair->from, i);
		suspend(pair);
		move_state(pair);
		if (i > 1) {
			struct uvf_server_offer offer;
			struct uvf_error error = {""};

			assert_int_equal(uvf_server_offer(pair->from->server, &offer, &error), 0);
			if (i > 2)
				assert_int_equal(uvf_server_adopt(pair->to->server, &offer, &error),
						 0);
		}
		assert_int_equal(uvf_server_withdraw(pair->from->server), 0);
		assert_int_equal(uvf_server_take_over(pair->to->server),
				 i > 2 ? -ECANCELED : -EINVAL);
		uvf_server_unreserve(pair->to->server);
		assert_int_equal(
			uvf_migration_set_state(pair->from->device->dev, VFIO_DEVICE_STATE_RUNNING),
			0);
		uvf_server_go_on(pair->from->server);
		scratch_works(pair->from, 100 + i);
		start_dma(pair->from, IOVA, 64, true);
		assert_int_equal(region_write32(pair->from, 0, REG_DOORBELL, 1), 0);
		assert_int_equal(pair->from->device->dma_result, 0);
	}
	move(pair);
	scratch_works(pair->from, 5);
	close(file);
}

/* Its thread may not have noticed yet that it goes on. */
static void it_can_be_suspended_again_at_once(void **state)
{
	struct pair *pair = *state;
	struct uvf_error error = {""};

	for (int i = 0; i < 2000; i++) {
		if (uvf_server_prepare(pair->from->server, &error))
			fail_msg("%s", error.text);
		if (i % 3)
			suspend(pair);
		uvf_server_go_on(pair->from->server);
	}
	scratch_works(pair->from, 4);
}

static void the_other_is_free_after_either(void **state)
{
	struct pair *pair = *state;
	struct reply reply;
	int client;

	move(pair);
	client = harness_connect(pair->to);
	assert_int_equal(negotiate_on(pair->to, client, NULL, &reply), 0);
	close(client);
	/* Who comes meanwhile is refused, not put off. */
	client = harness_connect(pair->from);
	assert_int_equal(negotiate_on(pair->from, client, NULL, &reply), -EBUSY);
	close(client);
}

static void *take_over_thread(void *opaque)
{
	return (void *)(intptr_t)uvf_server_take_over(opaque);
}

static void one_of_both_has_it(void **state)
{
	struct pair *pair = *state;
	unsigned moved = 0;

	for (int i = 0; i < 50; i++) {
		pthread_t thread;
		void *taken;
		int withdrawn;

		prepare(pair);
		suspend(pair);
		move_state(pair);
		adopt(pair);
		assert_int_equal(pthread_create(&thread, NULL, take_over_thread, pair->to->server),
				 0);
		if (i % 2)
			sched_yield();
		withdrawn = uvf_server_withdraw(pair->from->server);
		pthread_join(thread, &taken);
		if (withdrawn) {
			struct harness *from = pair->from;

			assert_int_equal(withdrawn, -EALREADY);
			assert_int_equal((intptr_t)taken, 0);
			uvf_server_let_go(from->server);
			pair->to->client = from->client;
			from->client = -1;
			pair->from = pair->to;
			pair->to = from;
			moved++;
		} else {
			assert_int_equal((intptr_t)taken, -ECANCELED);
			uvf_server_unreserve(pair->to->server);
			assert_int_equal(uvf_migration_set_state(pair->from->device->dev,
								 VFIO_DEVICE_STATE_RUNNING),
					 0);
			uvf_server_go_on(pair->from->server);
		}
		scratch_works(pair->from, (uint32_t)i);
	}
	print_message("moved %u times of 50\n", moved);
}

static void refusals_have_reasons(void **state)
{
	struct pair *pair = *state;
	struct uvf_server_offer offer;
	struct uvf_error error = {""};

	assert_int_equal(uvf_server_prepare(pair->to->server, &error), -ENOTCONN);
	assert_string_equal(error.text, "no driver is connected");
	assert_int_equal(uvf_server_suspend(pair->from->server, 1000, &error), -ENOTCONN);
	assert_int_equal(uvf_server_offer(pair->from->server, &offer, &error), -EINVAL);
	assert_int_equal(uvf_server_withdraw(pair->from->server), 0);
	assert_int_equal(uvf_server_take_over(pair->to->server), -EINVAL);
	assert_int_equal(uvf_server_reserve(pair->from->server, &error), -EBUSY);
	assert_string_equal(error.text, "it has a driver");
	prepare(pair);
	assert_int_equal(uvf_server_prepare(pair->from->server, &error), -EBUSY);
	uvf_server_go_on(pair->from->server);
	assert_int_equal(uvf_server_reserve(pair->to->server, &error), 0);
	assert_int_equal(uvf_server_reserve(pair->to->server, &error), -EBUSY);
	uvf_server_unreserve(pair->to->server);
	/* Its driver follows what it writes: that has no place in an offer. */
	assert_int_equal(uvf_device_logging_start(pair->from->device->dev), 0);
	assert_int_equal(uvf_server_prepare(pair->from->server, &error), -EBUSY);
	assert_int_equal(uvf_device_logging_stop(pair->from->device->dev), 0);
	scratch_works(pair->from, 1);
	/* Most of what can be called must not wait for what never comes. */
	uvf_server_let_go(pair->from->server);
	uvf_server_go_on(pair->to->server);
}

static void a_request_that_lasts_is_waited_for_in_time(void **state)
{
	struct pair *pair = *state;
	const struct uvf_wire_region_access access = {REG_SCRATCH, 0, 4};
	struct uvf_error error = {""};
	struct reply reply;

	prepare(pair);
	uvf_device_lock(pair->from->device->dev);
	send_request_on(pair->from->client, 1, VFIO_USER_REGION_READ, 0, &access, sizeof(access),
			NULL, 0);
	wait_until_received(pair->from->client);
	assert_int_equal(uvf_server_suspend(pair->from->server, 50, &error), -ETIMEDOUT);
	uvf_device_unlock(pair->from->device->dev);
	assert_true(receive_message(pair->from->client, &reply));
	suspend(pair);
	uvf_server_go_on(pair->from->server);
	assert_int_equal(
		uvf_migration_set_state(pair->from->device->dev, VFIO_DEVICE_STATE_RUNNING), 0);
	move(pair);
	scratch_works(pair->from, 3);
}

static void a_client_may_go_at_any_time(void **state)
{
	struct pair *pair = *state;
	struct uvf_error error = {""};
	struct reply reply;
	unsigned closes = pair->from->device->closes;

	prepare(pair);
	close(pair->from->client);
	while (pair->from->device->closes == closes)
		usleep(1000);
	while (uvf_server_suspend(pair->from->server, 1000, &error) != -ENOTCONN)
		usleep(1000);
	pair->from->client = harness_connect(pair->from);
	assert_int_equal(negotiate_on(pair->from, pair->from->client,
				      "{\"capabilities\":{\"max_msg_fds\":16}}", &reply),
			 0);
	prepare(pair);
	suspend(pair);
	move_state(pair);
	adopt(pair);
	closes = pair->to->device->closes;
	close(pair->from->client);
	pair->from->client = -1;
	finish(pair);
	while (pair->from->device->closes == closes)
		usleep(1000);
}

/* What it says is of the user's own processes; still nothing that it can be does any harm. */
static void no_description_does_harm(void **state)
{
	struct pair *pair = *state;
	struct uvf_server_offer offer, bad;
	struct uvf_error error = {""};
	int file = memory_file(PAGE), line = eventfd(0, EFD_NONBLOCK);
	uint8_t *bytes;
	unsigned refused = 0, tried = 0;

	assert_int_equal(dma_map(pair->from, IOVA, PAGE, 3, file, 0), 0);
	assert_int_equal(dma_map(pair->from, REMOTE, PAGE, 3, -1, 0), 0);
	assert_int_equal(set_irqs(pair->from,
				  VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0,
				  line),
			 0);
	close(line);
	prepare(pair);
	suspend(pair);
	assert_int_equal(
		uvf_migration_set_state(pair->from->device->dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
	assert_int_equal(uvf_server_offer(pair->from->server, &offer, &error), 0);
	bytes = malloc(offer.size);
	assert_non_null(bytes);
	assert_int_equal(uvf_server_reserve(pair->to->server, &error), 0);
	for (size_t i = 0; i < 2 * offer.size; i++) {
		int ret;

		memcpy(bytes, offer.bytes, offer.size);
		bad = offer;
		bad.bytes = bytes;
		if (i < offer.size)
			bad.size = i;
		else
			bytes[i - offer.size] ^= (uint8_t)(i % 3 ? 0xff : 1);
		assert_int_equal(
			uvf_migration_set_state(pair->to->device->dev, VFIO_DEVICE_STATE_RESUMING),
			0);
		ret = uvf_server_adopt(pair->to->server, &bad, &error);
		tried++;
		if (ret) {
			refused++;
			assert_int_not_equal(error.text[0], 0);
			assert_true(i >= offer.size || ret == -EINVAL);
			continue;
		}
		/* What was changed doesn't matter, or is the driver's affair. */
		assert_true(i >= offer.size);
		uvf_server_unreserve(pair->to->server);
		assert_int_equal(uvf_server_reserve(pair->to->server, &error), 0);
	}
	bad = offer;
	bad.fd_count--;
	assert_int_equal(uvf_server_adopt(pair->to->server, &bad, &error), -EINVAL);
	uvf_server_unreserve(pair->to->server);
	print_message("%u of %u refused\n", refused, tried);
	assert_int_equal(uvf_server_withdraw(pair->from->server), 0);
	assert_int_equal(
		uvf_migration_set_state(pair->from->device->dev, VFIO_DEVICE_STATE_RUNNING), 0);
	uvf_server_go_on(pair->from->server);
	scratch_works(pair->from, 8);
	free(bytes);
	close(file);
}

static void leave_all_descriptors(void)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* From now on there is room for so many descriptors more. */
static void leave_descriptors(unsigned count)
{
	struct rlimit limit;
	int fds[64];

	assert_true(count < 64);
	leave_all_descriptors();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (unsigned i = 0; i <= count; i++) {
		fds[i] = dup(STDERR_FILENO);
		assert_true(fds[i] >= 0);
	}
	limit.rlim_cur = (rlim_t)fds[count];
	uvf_fdpass_close(fds, count + 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void an_offer_without_descriptors_loses_nothing(void **state)
{
	struct pair *pair = *state;
	const uint32_t eventfd_flag = VFIO_IRQ_SET_DATA_EVENTFD;
	int line = eventfd(0, EFD_NONBLOCK), unmask = eventfd(0, EFD_NONBLOCK);
	int doorbell = io_fd_of(pair->from);
	struct uvf_device *dev = pair->from->device->dev;
	struct uvf_server_offer offer;
	struct uvf_error error = {""};
	unsigned failed = 0;
	int ret;

	assert_int_equal(
		set_irqs(pair->from, eventfd_flag | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, line), 0);
	assert_int_equal(
		set_irqs(pair->from, eventfd_flag | VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, unmask), 0);
	uvf_irq_set_level(dev, VFIO_PCI_INTX_IRQ_INDEX, 0, true);
	await_signal(line);
	prepare(pair);
	suspend(pair);
	move_state(pair);
	do {
		leave_descriptors(failed);
		ret = uvf_server_offer(pair->from->server, &offer, &error);
		if (!ret) {
			/* Nor does it take any to have all back. */
			leave_descriptors(0);
			assert_int_equal(uvf_server_withdraw(pair->from->server), 0);
		}
		leave_all_descriptors();
		failed += ret != 0;
		/* Who waited for the driver's word on the line does so again. */
		assert_int_equal(eventfd_write(unmask, 1), 0);
		await_signal(line);
		assert_int_equal(eventfd_write(doorbell, 1), 0);
		await_signal(pair->from->device->io_fd);
	} while (ret);
	assert_true(failed > 4);
	uvf_server_unreserve(pair->to->server);
	go_on(pair);
	uvf_irq_set_level(dev, VFIO_PCI_INTX_IRQ_INDEX, 0, false);
	close(line);
	close(unmask);
	close(doorbell);
}

static void a_session_adopted_in_part_leaves_no_trace(void **state)
{
	struct pair *pair = *state;
	struct uvf_device *from = pair->from->device->dev, *to = pair->to->device->dev;
	uint64_t offset;
	int fd = region_file(pair->from, &offset), line = eventfd(0, EFD_NONBLOCK), ret;
	uint8_t *area = mmap(NULL, AREA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			     (off_t)(offset + AREA_START));
	char *saved = malloc(1 << 24);
	struct uvf_server_offer offer;
	struct uvf_error error = {""};
	size_t size = 0;
	unsigned failed = 0;
	ssize_t got;

	assert_ptr_not_equal(area, MAP_FAILED);
	assert_non_null(saved);
	close(fd);
	assert_int_equal(set_irqs(pair->from,
				  VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0,
				  line),
			 0);
	prepare(pair);
	suspend(pair);
	assert_int_equal(uvf_migration_set_state(from, VFIO_DEVICE_STATE_STOP_COPY), 0);
	while ((got = uvf_migration_read(from, saved + size, (1 << 24) - size)) > 0)
		size += (size_t)got;
	assert_int_equal(uvf_server_offer(pair->from->server, &offer, &error), 0);
	do {
		memset(area, 0x5a, AREA_SIZE);
		assert_int_equal(uvf_server_reserve(pair->to->server, &error), 0);
		assert_int_equal(uvf_migration_set_state(to, VFIO_DEVICE_STATE_RESUMING), 0);
		assert_int_equal(uvf_migration_write(to, saved, size), size);
		leave_descriptors(failed);
		ret = uvf_server_adopt(pair->to->server, &offer, &error);
		/* As late as that, all the memory is the driver's. */
		if (!ret)
			leave_descriptors(0);
		uvf_server_unreserve(pair->to->server);
		leave_all_descriptors();
		failed += ret != 0;
		assert_int_equal(area[0], 0x5a);
		assert_int_equal(area[AREA_SIZE - 1], 0x5a);
	} while (ret);
	assert_true(failed > 4);
	free(saved);
	assert_int_equal(uvf_server_withdraw(pair->from->server), 0);
	go_on(pair);
	scratch_works(pair->from, 1);
	munmap(area, AREA_SIZE);
	close(line);
}

/* What is read or polled here, and isn't what it should be. */
static void eventfds_are_eventfds(void **state)
{
	struct pair *pair = *state;
	struct uvf_server_offer offer, bad;
	struct uvf_handover_header header;
	struct uvf_error error = {""};
	uint32_t numbers[2];
	int fds[64], ends[2];

	prepare(pair);
	suspend(pair);
	move_state(pair);
	assert_int_equal(uvf_server_offer(pair->from->server, &offer, &error), 0);
	memcpy(&header, offer.bytes, sizeof(header));
	assert_true(header.io_fd_count > 0 && offer.fd_count <= 64);
	numbers[0] = header.token;
	memcpy(&numbers[1], (const char *)offer.bytes + sizeof(header), sizeof(numbers[1]));
	assert_int_equal(pipe(ends), 0);
	bad = offer;
	bad.fds = fds;
	for (int i = 0; i < 2; i++) {
		memcpy(fds, offer.fds, offer.fd_count * sizeof(int));
		fds[numbers[i]] = ends[0];
		assert_int_equal(uvf_server_adopt(pair->to->server, &bad, &error), -EINVAL);
		uvf_server_unreserve(pair->to->server);
		assert_int_equal(uvf_server_reserve(pair->to->server, &error), 0);
	}
	uvf_fdpass_close(ends, 2);
	uvf_server_unreserve(pair->to->server);
	assert_int_equal(uvf_server_withdraw(pair->from->server), 0);
	go_on(pair);
	scratch_works(pair->from, 2);
}

static void what_was_agreed_holds_everywhere(void **state)
{
	static const struct uvf_server_config larger = {.max_data_xfer_size = 4 * MAX_DATA,
							.move_wait_ms = 5};
	struct pair *pair = *state;
	struct harness *spare = pair->to;

	pair->to = threaded_by(&larger);
	move(pair);
	/* Back to one that does what the client was told, and no more. */
	move(pair);
	scratch_works(pair->from, 1);
	pair->to->fds_before = 0;
	harness_free(pair->to);
	pair->to = spare;
}

static void a_server_can_stop_meanwhile(void **state)
{
	struct pair *pair = *state;

	/* Suspended and reserved: nothing waits for ever. */
	prepare(pair);
	suspend(pair);
	move_state(pair);
	adopt(pair);
	uvf_server_stop(pair->from->server);
	uvf_server_stop(pair->to->server);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(state_and_session_move_back_and_forth),
		TEST(half_a_message_goes_along),
		TEST(requests_that_wait_are_answered_there),
		TEST(what_comes_while_it_moves_waits),
		TEST(memory_and_mappings_stay),
		TEST(remote_memory_stays_remote),
		TEST(twin_socket_goes_along),
		TEST(mapped_registers_stay_mapped),
		TEST(doorbells_by_eventfd_ring_there),
		TEST(messages_signal_from_there),
		TEST(a_line_keeps_level_and_mask),
		TEST(withdrawn_it_goes_on_here),
		TEST(it_can_be_suspended_again_at_once),
		TEST(the_other_is_free_after_either),
		TEST(one_of_both_has_it),
		TEST(refusals_have_reasons),
		TEST(a_request_that_lasts_is_waited_for_in_time),
		TEST(a_client_may_go_at_any_time),
		TEST(no_description_does_harm),
		TEST(an_offer_without_descriptors_loses_nothing),
		TEST(a_session_adopted_in_part_leaves_no_trace),
		TEST(eventfds_are_eventfds),
		TEST(what_was_agreed_holds_everywhere),
		TEST(a_server_can_stop_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
