/* SPDX-License-Identifier: BSD-3-Clause */
/* DMA through messages: the client's side of it. */
#include "transfer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct transfer *transfer_new(bool twin, uint32_t timeout_ms, uint32_t max_data)
{
	struct uvf_server_config config = {
		.max_data_xfer_size = MAX_DATA,
		.client_timeout_ms = timeout_ms,
	};
	struct transfer *t = calloc(1, sizeof(*t));
	char text[256];

	assert_non_null(t);
	t->max_data = max_data ? max_data : UVF_WIRE_DEFAULT_DATA_XFER_SIZE;
	t->h = harness_new(&config);
	t->h->client = harness_connect(t->h);
	snprintf(text, sizeof(text),
		 "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":%u%s}}", t->max_data,
		 twin ? ",\"twin_socket\":{\"supported\":true}" : "");
	assert_int_equal(negotiate_on(t->h, t->h->client, text, &t->message), 0);
	assert_int_equal(t->message.fd_count, twin);
	t->calls = twin ? t->message.fds[0] : t->h->client;
	assert_int_equal(dma_map(t->h, REMOTE_ADDRESS, REMOTE_SIZE, UVF_PROT_RW, -1, 0), 0);
	assert_int_equal(region_write32(t->h, 0, REG_BUS_MASTER, 1), 0);
	return t;
}

void transfer_free(struct transfer *t)
{
	if (t->calls != t->h->client && t->calls >= 0)
		close(t->calls);
	harness_free(t->h);
	free(t);
}

uint8_t *transfer_memory(struct transfer *t, uint64_t offset)
{
	return t->memory + REMOTE_MARGIN + offset;
}

/* Until the server has nothing to do: a doorbell is rung meanwhile. */
static void *step(void *opaque)
{
	struct transfer *t = opaque;
	struct pollfd ready = {uvf_server_fd(t->h->server), POLLIN, 0};

	while (uvf_server_process(t->h->server) >= 0 && poll(&ready, 1, 0) > 0)
		;
	return NULL;
}

void transfer_start(struct transfer *t, uint64_t address, uint32_t size, bool write)
{
	struct {
		struct uvf_wire_region_access access;
		uint32_t value;
	} doorbell = {{REG_DOORBELL, 0, 4}, 1};

	memcpy(t->h->device->registers + REG_DMA_ADDRESS, &address, sizeof(address));
	assert_int_equal(region_write32(t->h, 0, REG_DMA_SIZE, size), 0);
	assert_int_equal(region_write32(t->h, 0, REG_DMA_WRITE, write), 0);
	send_request_on(t->h->client, 0x7000, VFIO_USER_REGION_WRITE, 0, &doorbell, 20, NULL, 0);
	assert_int_equal(pthread_create(&t->thread, NULL, step, t), 0);
}

static void check_request(struct transfer *t)
{
	const struct reply *message = &t->message;
	bool write = message->header.command == VFIO_USER_DMA_WRITE;
	struct uvf_wire_dma_access access;

	assert_true(write || message->header.command == VFIO_USER_DMA_READ);
	assert_int_equal(message->header.flags, UVF_WIRE_REQUEST);
	assert_int_equal(message->fd_count, 0);
	assert_true(message->size >= sizeof(access));
	memcpy(&access, message->payload, sizeof(access));
	/* Its data may be where the high half of the count would be. */
	access.count = message->size - sizeof(access);
	if (!write) {
		memcpy(&access, message->payload, sizeof(access));
		assert_int_equal(message->size, sizeof(access));
	}
	assert_true(access.count && access.count <= t->max_data);
	t->requests++;
	if (access.count > t->largest)
		t->largest = (uint32_t)access.count;
}

void transfer_expect(struct transfer *t, uint16_t command)
{
	assert_true(receive_message(t->calls, &t->message));
	assert_int_equal(t->message.header.command, command);
	check_request(t);
}

void transfer_reply(struct transfer *t, uint32_t flags, uint32_t error, const void *payload,
		    size_t size)
{
	struct uvf_wire_header header = t->message.header;
	struct iovec iov[] = {{&header, sizeof(header)}, {(void *)payload, size}};

	header.flags = UVF_WIRE_REPLY | flags;
	header.error = error;
	header.size = (uint32_t)(sizeof(header) + size);
	assert_int_equal(uvf_fdpass_send(t->calls, iov, 2, NULL, 0, 0), sizeof(header) + size);
}

void transfer_answer(struct transfer *t)
{
	bool write = t->message.header.command == VFIO_USER_DMA_WRITE;
	size_t at = t->count32 ? 12 : 16;
	uint32_t count;
	uint64_t address;
	uint8_t *payload, *memory;

	memcpy(&address, t->message.payload, sizeof(address));
	memcpy(&count, t->message.payload + sizeof(address), sizeof(count));
	assert_in_range(address, REMOTE_ADDRESS, REMOTE_ADDRESS + REMOTE_SIZE - 1);
	assert_in_range(count, 1, REMOTE_ADDRESS + REMOTE_SIZE - address);
	memory = transfer_memory(t, address - REMOTE_ADDRESS);
	if (write) {
		assert_int_equal(t->message.size, 16 + count);
		memcpy(memory, t->message.payload + at, count);
		transfer_reply(t, 0, 0, t->message.payload, 16);
		return;
	}
	payload = calloc(1, 16 + count);
	assert_non_null(payload);
	memcpy(payload, t->message.payload, 12);
	memcpy(payload + at, memory, count);
	transfer_reply(t, 0, 0, payload, 16 + count);
	free(payload);
}

int transfer_end(struct transfer *t)
{
	assert_int_equal(pthread_join(t->thread, NULL), 0);
	return t->h->device->dma_result;
}

int transfer(struct transfer *t, uint64_t offset, uint32_t size, bool write)
{
	struct pollfd ready[] = {{t->h->client, POLLIN, 0}, {t->calls, POLLIN, 0}};

	transfer_start(t, REMOTE_ADDRESS + offset, size, write);
	for (;;) {
		assert_true(poll(ready, 2, -1) > 0);
		assert_true(
			receive_message(ready[1].revents ? t->calls : t->h->client, &t->message));
		if (t->message.header.flags & UVF_WIRE_REPLY)
			break;
		check_request(t);
		transfer_answer(t);
	}
	assert_int_equal(t->message.header.id, 0x7000);
	return transfer_end(t);
}
