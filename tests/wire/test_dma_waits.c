/* SPDX-License-Identifier: BSD-3-Clause */
/* What happens while a device waits for its client's memory: requests, time limits, deaths. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transfer.h"

#define SHORT_TIME_MS 50U

static bool on_twin(void **state)
{
	return *state;
}

static void send_write(int sock, uint16_t id, uint32_t flags, uint32_t offset, uint32_t value)
{
	struct {
		struct uvf_wire_region_access access;
		uint32_t value;
	} write = {{offset, 0, 4}, value};

	send_request_on(sock, id, VFIO_USER_REGION_WRITE, flags, &write, 20, NULL, 0);
}

static void expect_reply(struct transfer *t, uint16_t id)
{
	assert_true(receive_message(t->h->client, &t->message));
	assert_int_equal(t->message.header.flags, UVF_WIRE_REPLY);
	assert_int_equal(t->message.header.id, id);
}

/* ---- Requests ---- */

/* They are answered when the device is done, in their order. */
static void requests_are_kept(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), 0, 0);
	struct reply request;

	transfer_start(t, REMOTE_ADDRESS, 100, false);
	transfer_expect(t, VFIO_USER_DMA_READ);
	request = t->message;
	for (uint16_t id = 1; id <= 100; id++)
		send_write(t->h->client, id, id % 3 ? 0 : UVF_WIRE_NO_REPLY, REG_SCRATCH, id);
	t->message = request;
	transfer_answer(t);
	assert_int_equal(transfer_end(t), 0);
	expect_reply(t, 0x7000);
	for (uint16_t id = 1; id <= 100; id++)
		if (id % 3)
			expect_reply(t, id);
	assert_int_equal(t->h->device->registers[REG_SCRATCH], 100);
	transfer_free(t);
}

/* A doorbell that comes while the device is in a transfer leads to another one, afterwards. */
static void transfers_are_kept(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), 0, 0);
	struct reply request;

	transfer_start(t, REMOTE_ADDRESS, 100, false);
	for (uint16_t id = 1; id <= 5; id++) {
		transfer_expect(t, VFIO_USER_DMA_READ);
		request = t->message;
		send_write(t->h->client, id, 0, REG_DOORBELL, 1);
		t->message = request;
		/* Unless all is zero, this takes one message. */
		memset(transfer_memory(t, 0), 1 + id, 100);
		transfer_answer(t);
		expect_reply(t, id == 1 ? 0x7000 : id - 1);
	}
	transfer_expect(t, VFIO_USER_DMA_READ);
	transfer_answer(t);
	expect_reply(t, 5);
	assert_int_equal(transfer_end(t), 0);
	assert_int_equal(t->h->device->buffer[99], 6);
	transfer_free(t);
}

/* On one socket they are in the way of the answer: who sends too many is disconnected. */
static void requests_are_bounded(void **state)
{
	struct transfer *t = transfer_new(false, 0, 0);
	size_t size = sizeof(struct uvf_wire_header) + 16 + MAX_DATA, sent = 0, at = 0;
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_region_access access;
	} *message = calloc(1, size);
	ssize_t ret = 0;

	message->header = (struct uvf_wire_header){1, VFIO_USER_REGION_WRITE, (uint32_t)size, 0, 0};
	message->access = (struct uvf_wire_region_access){0, 2, MAX_DATA};
	transfer_start(t, REMOTE_ADDRESS, 100, false);
	transfer_expect(t, VFIO_USER_DMA_READ);
	while (ret >= 0 && sent < 100 * size) {
		ret = send(t->h->client, (char *)message + at, size - at, MSG_NOSIGNAL);
		sent += ret > 0 ? (size_t)ret : 0;
		at = sent % size;
	}
	assert_true(sent < 20 * size);
	assert_int_equal(transfer_end(t), -ENOBUFS);
	assert_int_equal(t->h->device->closes, 1);
	free(message);
	transfer_free(t);
}

/* ---- Time limits ---- */

/* Requests are no answer: who goes on sending them has no more time than others. */
static void requests_win_no_time(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), SHORT_TIME_MS, 0);
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_region_access access;
	} message = {{1, VFIO_USER_REGION_READ, 32, UVF_WIRE_NO_REPLY, 0}, {0, 0, 4}};

	transfer_start(t, REMOTE_ADDRESS, 100, false);
	transfer_expect(t, VFIO_USER_DMA_READ);
	while (send(t->h->client, &message, sizeof(message), MSG_NOSIGNAL) == sizeof(message))
		usleep(1000);
	assert_int_equal(transfer_end(t), -ETIMEDOUT);
	assert_int_equal(t->h->device->closes, 1);
	transfer_free(t);
}

/* The device is there for the next client at once. */
static void next_client_after_a_silent_one(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), SHORT_TIME_MS, 0);

	transfer_start(t, REMOTE_ADDRESS, 100, true);
	assert_int_equal(transfer_end(t), -ETIMEDOUT);
	close(t->h->client);
	t->h->client = harness_connect(t->h);
	assert_int_equal(negotiate_on(t->h, t->h->client, NULL, &t->message), 0);
	assert_int_equal(t->h->device->opens, 2);
	assert_int_equal(t->h->device->closes, 1);
	transfer_free(t);
}

/* ---- Deaths ---- */

static void client_dies(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), 0, 0);

	transfer_start(t, REMOTE_ADDRESS, 100, false);
	transfer_expect(t, VFIO_USER_DMA_READ);
	close(t->h->client);
	if (on_twin(state))
		close(t->calls);
	t->h->client = t->calls = -1;
	assert_int_equal(transfer_end(t), -ENOTCONN);
	harness_step(t->h);
	assert_int_equal(t->h->device->closes, 1);
	transfer_free(t);
}

static void twin_closed(void **state)
{
	struct transfer *t = transfer_new(true, 0, 0);

	transfer_start(t, REMOTE_ADDRESS, 100, false);
	transfer_expect(t, VFIO_USER_DMA_READ);
	close(t->calls);
	t->calls = -1;
	assert_int_equal(transfer_end(t), -ENOTCONN);
	assert_int_equal(t->h->device->closes, 1);
	transfer_free(t);
}

/* The twin stays open: the time limit ends it. */
static void main_socket_closed(void **state)
{
	struct transfer *t = transfer_new(true, SHORT_TIME_MS, 0);

	transfer_start(t, REMOTE_ADDRESS, 100, false);
	transfer_expect(t, VFIO_USER_DMA_READ);
	close(t->h->client);
	t->h->client = -1;
	assert_int_equal(transfer_end(t), -ETIMEDOUT);
	harness_step(t->h);
	assert_int_equal(t->h->device->closes, 1);
	transfer_free(t);
}

/* ---- The server's own threads ---- */

/* Stopping doesn't wait for an answer that may never come. */
static void server_stops(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), 0, 0);
	struct uvf_server *server = t->h->server;

	close(t->h->client);
	harness_step(t->h);
	if (on_twin(state))
		close(t->calls);
	assert_int_equal(uvf_server_start(server), 0);
	t->h->client = harness_connect(t->h);
	/* harness_step() is not for a server with threads. */
	t->h->threaded = true;
	assert_int_equal(negotiate_on(t->h, t->h->client,
				      on_twin(state) ? "{\"capabilities\":{\"max_msg_fds\":16,"
						       "\"twin_socket\":{\"supported\":true}}}"
						     : "{\"capabilities\":{\"max_msg_fds\":16}}",
				      &t->message),
			 0);
	t->calls = on_twin(state) ? t->message.fds[0] : t->h->client;
	assert_int_equal(dma_map(t->h, REMOTE_ADDRESS, REMOTE_SIZE, UVF_PROT_RW, -1, 0), 0);
	assert_int_equal(region_write32(t->h, 0, REG_BUS_MASTER, 1), 0);
	assert_int_equal(region_write32(t->h, 0, REG_DMA_ADDRESS, REMOTE_ADDRESS), 0);
	assert_int_equal(region_write32(t->h, 0, REG_DMA_SIZE, 100), 0);
	send_write(t->h->client, 1, 0, REG_DOORBELL, 1);
	transfer_expect(t, VFIO_USER_DMA_READ);
	uvf_server_stop(server);
	assert_int_equal(t->h->device->dma_result, -ENOTCONN);
	assert_int_equal(t->h->device->closes, 2);
	t->h->threaded = false;
	transfer_free(t);
}

/* ---- A worker of the device ---- */

struct worker {
	struct transfer *t;
	pthread_t thread;
	uint8_t bytes[100];
	int result;
};

static void *read_memory(void *opaque)
{
	struct worker *worker = opaque;

	worker->result = uvf_dma_read(worker->t->h->device->dev, UVF_PASID_NONE, REMOTE_ADDRESS,
				      worker->bytes, sizeof(worker->bytes));
	return NULL;
}

static void worker_start(struct worker *worker, struct transfer *t)
{
	*worker = (struct worker){.t = t};
	assert_int_equal(pthread_create(&worker->thread, NULL, read_memory, worker), 0);
	transfer_expect(t, VFIO_USER_DMA_READ);
}

static int worker_end(struct worker *worker)
{
	assert_int_equal(pthread_join(worker->thread, NULL), 0);
	return worker->result;
}

/*
 * The worker receives what comes before its answer, and leaves it to the embedded loop: that wakes
 * up though nothing is left in the socket.
 */
static void worker_leaves_requests(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), 0, 0);
	struct pollfd ready = {uvf_server_fd(t->h->server), POLLIN, 0};
	struct worker worker;
	struct reply request;

	memset(transfer_memory(t, 0), 9, 100);
	worker_start(&worker, t);
	request = t->message;
	for (uint16_t id = 1; id <= 10; id++)
		send_write(t->h->client, id, 0, REG_SCRATCH, id);
	t->message = request;
	transfer_answer(t);
	assert_int_equal(worker_end(&worker), 0);
	assert_int_equal(worker.bytes[99], 9);
	assert_int_equal(poll(&ready, 1, LONG_TIME_MS), 1);
	harness_step(t->h);
	for (uint16_t id = 1; id <= 10; id++)
		expect_reply(t, id);
	transfer_free(t);
}

/* Requests go on being served while a worker waits, where there is a socket for its answer. */
static void served_meanwhile(void **state)
{
	struct transfer *t = transfer_new(true, 0, 0);
	struct worker worker;
	struct reply request;

	memset(transfer_memory(t, 0), 9, 100);
	worker_start(&worker, t);
	request = t->message;
	assert_int_equal(region_write32(t->h, 0, REG_SCRATCH, 3), 0);
	assert_int_equal(simple(t->h, VFIO_USER_DEVICE_RESET, NULL, 0), 0);
	t->message = request;
	transfer_answer(t);
	assert_int_equal(worker_end(&worker), 0);
	transfer_free(t);
}

static void *step(void *opaque)
{
	harness_step(opaque);
	return NULL;
}

/* An unmap waits for the transfer that it would cut, and that for its answer. */
static void unmap_waits(struct transfer *t, bool answers, int result)
{
	struct uvf_wire_dma_unmap unmap = {sizeof(unmap), 0, REMOTE_ADDRESS, REMOTE_SIZE};
	struct worker worker;
	struct reply request;
	pthread_t thread;

	memset(transfer_memory(t, 0), 9, 100);
	/* Nobody steps the server yet. */
	send_request_on(t->h->client, 1, VFIO_USER_DMA_UNMAP, 0, &unmap, sizeof(unmap), NULL, 0);
	worker_start(&worker, t);
	request = t->message;
	assert_int_equal(pthread_create(&thread, NULL, step, t->h), 0);
	t->message = request;
	if (answers)
		transfer_answer(t);
	assert_int_equal(worker_end(&worker), result);
	pthread_join(thread, NULL);
	harness_step(t->h);
}

static void unmap_during_a_transfer(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), 0, 0);

	unmap_waits(t, true, 0);
	expect_reply(t, 1);
	transfer_free(t);
}

static void unmap_during_a_transfer_that_stays(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), SHORT_TIME_MS, 0);

	unmap_waits(t, false, -ETIMEDOUT);
	assert_int_equal(t->h->device->closes, 1);
	transfer_free(t);
}

/* The loop learns that the session is over, though the worker was told. */
static void worker_times_out(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), SHORT_TIME_MS, 0);
	struct pollfd ready = {uvf_server_fd(t->h->server), POLLIN, 0};
	struct worker worker;

	worker_start(&worker, t);
	assert_int_equal(worker_end(&worker), -ETIMEDOUT);
	assert_int_equal(poll(&ready, 1, LONG_TIME_MS), 1);
	harness_step(t->h);
	assert_int_equal(t->h->device->closes, 1);
	assert_true(hung_up(t->h->client));
	transfer_free(t);
}

static void client_dies_before_a_worker(void **state)
{
	struct transfer *t = transfer_new(on_twin(state), 0, 0);
	struct worker worker;

	worker_start(&worker, t);
	close(t->h->client);
	t->h->client = -1;
	/* On the twin: the loop sees it, and ends the session for the worker. */
	harness_step(t->h);
	assert_int_equal(worker_end(&worker), -ENOTCONN);
	harness_step(t->h);
	assert_int_equal(t->h->device->closes, 1);
	if (!on_twin(state))
		t->calls = -1;
	transfer_free(t);
}

#define BOTH(test)                                                  \
	{#test " (one socket)", test, NULL, NULL, NULL},            \
	{                                                           \
#test " (twin socket)", test, NULL, NULL, (void *)1 \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(requests_are_kept),
		BOTH(transfers_are_kept),
		cmocka_unit_test(requests_are_bounded),
		BOTH(requests_win_no_time),
		BOTH(next_client_after_a_silent_one),
		BOTH(client_dies),
		cmocka_unit_test(twin_closed),
		cmocka_unit_test(main_socket_closed),
		BOTH(server_stops),
		BOTH(worker_leaves_requests),
		cmocka_unit_test(served_meanwhile),
		BOTH(unmap_during_a_transfer),
		BOTH(unmap_during_a_transfer_that_stays),
		BOTH(worker_times_out),
		BOTH(client_dies_before_a_worker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
