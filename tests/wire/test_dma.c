/* SPDX-License-Identifier: BSD-3-Clause */
/* DMA_READ and DMA_WRITE, message by message: both layouts that clients speak, and bad answers. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transfer.h"

/* ---- Right answers ---- */

enum contents { ZERO, ALL, FIRST, MIDDLE, LAST, TAIL, CONTENTS };

static void fill(uint8_t *bytes, size_t size, enum contents contents)
{
	memset(bytes, 0, size);
	for (size_t i = 0; i < size; i++)
		if (contents == ALL || (contents == TAIL && i >= size - size / 3))
			bytes[i] = (uint8_t)(i * 7 + 1 + (i >> 8));
	if (contents == FIRST)
		bytes[0] = 0x11;
	else if (contents == MIDDLE)
		bytes[size / 2] = 0x22;
	else if (contents == LAST)
		bytes[size - 1] = 0x33;
}

struct layout {
	const char *name;
	bool twin, count32;
};

static const struct layout layouts[] = {
	{"specified, one socket", false, false},
	{"specified, twin socket", true, false},
	{"count of 32 bits, one socket", false, true},
	{"count of 32 bits, twin socket", true, true},
};

static const uint32_t sizes[] = {1, 3, 4, 5, 8, 9, 100, MAX_DATA, MAX_DATA + 1};

static struct transfer *speaking(const struct layout *layout, uint32_t max_data)
{
	struct transfer *t = transfer_new(layout->twin, 0, max_data);

	t->count32 = layout->count32;
	memset(t->memory, 0xee, REMOTE_MARGIN);
	memset(t->memory + REMOTE_MARGIN + REMOTE_SIZE, 0xee, REMOTE_MARGIN);
	return t;
}

/* What lies beside [0, size) of the memory is as it was: 0xee. */
static void check_margins(struct transfer *t, uint32_t size)
{
	for (uint32_t i = 0; i < REMOTE_MARGIN; i++) {
		assert_int_equal(t->memory[i], 0xee);
		assert_int_equal(*transfer_memory(t, size + i), 0xee);
	}
}

/* The first transfer of a session finds out the layout; the second knows it. */
static void reads(void **state)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (enum contents contents = ZERO; contents < CONTENTS; contents++) {
			struct transfer *t = speaking(*state, 0);
			uint8_t *buffer = t->h->device->buffer;

			fill(transfer_memory(t, 0), sizes[i], contents);
			memset(buffer, 0xcc, BUFFER_SIZE);
			assert_int_equal(transfer(t, 0, sizes[i], false), 0);
			assert_memory_equal(buffer, transfer_memory(t, 0), sizes[i]);
			assert_int_equal(buffer[sizes[i]], 0xcc);
			fill(transfer_memory(t, 0), sizes[i], ALL);
			assert_int_equal(transfer(t, 0, sizes[i], false), 0);
			assert_memory_equal(buffer, transfer_memory(t, 0), sizes[i]);
			assert_int_equal(buffer[sizes[i]], 0xcc);
			transfer_free(t);
		}
}

static void write_over(const struct layout *layout, uint32_t size, enum contents before,
		       enum contents after)
{
	struct transfer *t = speaking(layout, 0);
	uint8_t *buffer = t->h->device->buffer;

	memset(transfer_memory(t, 0), 0xee, REMOTE_SIZE);
	fill(transfer_memory(t, 0), size, before);
	fill(buffer, size, after);
	assert_int_equal(transfer(t, 0, size, true), 0);
	assert_memory_equal(buffer, transfer_memory(t, 0), size);
	check_margins(t, size);
	fill(buffer, size, ALL);
	assert_int_equal(transfer(t, 0, size, true), 0);
	assert_memory_equal(buffer, transfer_memory(t, 0), size);
	check_margins(t, size);
	transfer_free(t);
}

static void writes(void **state)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (enum contents contents = ZERO; contents < CONTENTS; contents++)
			write_over(*state, sizes[i], ZERO, contents);
		write_over(*state, sizes[i], ALL, ALL);
		write_over(*state, sizes[i], MIDDLE, ZERO);
	}
}

/* No message is larger than what the smaller of the two takes. */
static void pieces(void **state)
{
	static const uint32_t limits[] = {1, 2, 4, 5, 1000, MAX_DATA, 1U << 20};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct transfer *t = speaking(*state, limits[i]);
		uint32_t limit = limits[i] < MAX_DATA ? limits[i] : MAX_DATA;
		uint32_t size = limit < 1000 ? 50 : 2 * limit + 7;

		fill(transfer_memory(t, 0), size, ALL);
		assert_int_equal(transfer(t, 0, size, false), 0);
		assert_memory_equal(t->h->device->buffer, transfer_memory(t, 0), size);
		assert_int_equal(t->requests, (size + limit - 1) / limit);
		assert_int_equal(t->largest, limit);
		fill(t->h->device->buffer, size, TAIL);
		t->requests = 0;
		assert_int_equal(transfer(t, 0, size, true), 0);
		assert_memory_equal(t->h->device->buffer, transfer_memory(t, 0), size);
		assert_int_equal(t->requests, (size + limit - 1) / limit);
		transfer_free(t);
	}
}

/* ---- Wrong answers ---- */

#define COUNT 64U

struct row {
	const char *name;
	char only; /* 'r', 'w', 'm' and 't': reads, writes, the main or the twin socket */
	uint16_t id, command; /* xored */
	uint32_t type;	      /* of the message, xored */
	bool refused;
	uint32_t error;
	uint64_t address;     /* added */
	uint32_t count, high; /* added */
	int size;	      /* added: bytes of payload */
	uint32_t header_size; /* if not 0: as it is said */
	bool empty, twice, hangs_up, cut, silent;
	size_t fds;
	int result;
	bool ends; /* the session */
};

static const struct row rows[] = {
	{"right", .result = 0},
	{"EFAULT", .refused = true, .error = EFAULT, .result = -EFAULT},
	{"EACCES", .refused = true, .error = EACCES, .result = -EACCES},
	{"error 0", .refused = true, .error = 0, .result = -EIO},
	{"error 4096", .refused = true, .error = 4096, .result = -EIO},
	{"error 2^31", .refused = true, .error = 1U << 31, .result = -EIO},
	{"an errno that isn't said to be one", .error = EFAULT, .result = 0},
	{"another id", .id = 1, .result = -EPROTO, .ends = true},
	{"an id far off", .id = 0x8000, .result = -EPROTO, .ends = true},
	{"another command", .command = 7, .result = -EPROTO, .ends = true},
	{"type 2", .type = 3, .result = -EPROTO, .ends = true},
	{"a request", 't', .type = 1, .result = -EPROTO, .ends = true},
	{"another address", .address = 1, .result = -EPROTO, .ends = true},
	{"an address far off", .address = 1ULL << 63, .result = -EPROTO, .ends = true},
	{"a smaller count", .count = -1U, .result = -EPROTO, .ends = true},
	{"a larger count", .count = 1, .result = -EPROTO, .ends = true},
	{"count 0", .count = -COUNT, .result = -EPROTO, .ends = true},
	{"a byte less", 'r', .size = -1, .result = -EPROTO, .ends = true},
	{"a byte more", .size = 1, .result = -EPROTO, .ends = true},
	{"no data", 'r', .size = -(int)COUNT, .result = -EPROTO, .ends = true},
	{"less than an answer", 'w', .size = -5, .result = -EPROTO, .ends = true},
	{"a count of 4 bytes", 'w', .size = -4, .result = 0},
	{"smaller count, and as much data", 'r', .count = -1U, .size = -1, .result = -EPROTO,
	 .ends = true},
	{"nothing", .empty = true, .result = -EPROTO, .ends = true},
	{"size 0", .header_size = UINT32_MAX, .result = -EMSGSIZE, .ends = true},
	{"size 15", .header_size = 15, .result = -EMSGSIZE, .ends = true},
	{"huge", .header_size = UINT32_MAX - 1, .result = -EMSGSIZE, .ends = true},
	{"twice", .twice = true, .result = 0, .ends = true},
	{"files with it", 'm', .fds = 3, .result = 0},
	{"files with it on the twin socket", 't', .fds = 1, .result = -E2BIG, .ends = true},
	{"too many files with it", .fds = 17, .result = -E2BIG, .ends = true},
	{"hangs up", .hangs_up = true, .result = -ENOTCONN, .ends = true},
	{"hangs up in the middle", .hangs_up = true, .cut = true, .result = -ENOTCONN,
	 .ends = true},
	{"never", .silent = true, .result = -ETIMEDOUT, .ends = true},
	{"never all of it", .silent = true, .cut = true, .result = -ETIMEDOUT, .ends = true},
};

static void send_bytes(struct transfer *t, const void *bytes, size_t size, size_t fd_count)
{
	struct iovec iov = {(void *)bytes, size};
	int fds[17];

	for (size_t i = 0; i < fd_count; i++)
		fds[i] = dup(0);
	assert_int_equal(uvf_fdpass_send(t->calls, &iov, 1, fds, fd_count, 0), size);
	uvf_fdpass_close(fds, fd_count);
}

/* Answers the request that was received as @row says. */
static void answer(struct transfer *t, const struct row *row)
{
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_dma_access access;
		uint8_t data[COUNT + 1];
	} reply = {.header = t->message.header};
	bool read = reply.header.command == VFIO_USER_DMA_READ;
	size_t size = sizeof(reply.header) + sizeof(reply.access) + (read ? COUNT : 0);

	if (!row->silent && !row->hangs_up && row->refused)
		size = sizeof(reply.header);
	else if (row->empty)
		size = sizeof(reply.header);
	size = (size_t)((int)size + row->size);
	memcpy(&reply.access, t->message.payload, sizeof(reply.access));
	memset(reply.data, 0x5a, sizeof(reply.data));
	reply.access.address += row->address;
	reply.access.count = (uint32_t)(COUNT + row->count) | (uint64_t)row->high << 32;
	reply.header.id ^= row->id;
	reply.header.command ^= row->command;
	reply.header.flags = (UVF_WIRE_REPLY ^ row->type) | (row->refused ? UVF_WIRE_ERROR : 0);
	reply.header.error = row->error;
	reply.header.size = row->header_size == UINT32_MAX ? 0
			    : row->header_size		   ? row->header_size
							   : (uint32_t)size;
	/* The time limit may have passed before this. */
	if (row->cut)
		send(t->calls, &reply, size - 3, MSG_NOSIGNAL);
	if (row->hangs_up) {
		if (t->calls != t->h->client)
			close(t->h->client);
		close(t->calls);
		t->h->client = t->calls = -1;
	} else if (!row->silent) {
		send_bytes(t, &reply, size, row->fds);
		if (row->twice)
			uvf_fdpass_send(t->calls, &(struct iovec){&reply, size}, 1, NULL, 0, 0);
	}
}

static void answered_so(const struct row *row, bool twin, bool write)
{
	struct transfer *t = transfer_new(twin, row->silent ? 40 : 0, 0);
	struct harness *h = t->h;
	uint32_t value;

	/* It is known after this which layout the client speaks. */
	memset(transfer_memory(t, 0), 0x77, COUNT);
	if (!row->silent)
		assert_int_equal(transfer(t, 0, COUNT, false), 0);
	else
		write = false;
	transfer_start(t, REMOTE_ADDRESS, COUNT, write);
	transfer_expect(t, write ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ);
	answer(t, row);
	assert_int_equal(transfer_end(t), row->result);
	if (row->twice && twin) {
		/* Nobody reads the twin socket until the next transfer. */
		assert_true(receive_message(h->client, &t->message));
		transfer_start(t, REMOTE_ADDRESS, COUNT, write);
		assert_int_equal(transfer_end(t), -EPROTO);
	}
	if (row->ends) {
		/* Its second answer can come after the step that took the first. */
		harness_step(h);
		assert_int_equal(h->device->closes, 1);
	} else {
		assert_true(receive_message(h->client, &t->message));
		assert_int_equal(t->message.header.id, 0x7000);
		assert_int_equal(region_read32(h, 0, REG_DMA_RESULT, &value), 0);
		assert_int_equal((int)value, row->result);
		assert_int_equal(transfer(t, 8, COUNT, write), 0);
	}
	transfer_free(t);
}

static void wrong_answer(void **state)
{
	const struct row *row = *state;

	for (int twin = 0; twin < 2; twin++)
		for (int write = 0; write < 2; write++)
			if (row->only != (write ? 'r' : 'w') && row->only != (twin ? 'm' : 't'))
				answered_so(row, twin, write);
}

/* Once it is known that the count has 8 bytes, its high half can't be anything but 0. */
static void count_of_the_other_layout(void **state)
{
	static const struct row row = {.high = 1, .result = -EPROTO, .ends = true};

	answered_so(&row, false, false);
	answered_so(&row, true, false);
}

int main(void)
{
	enum {
		LAYOUTS = sizeof(layouts) / sizeof(layouts[0]),
		ROWS = sizeof(rows) / sizeof(rows[0])
	};
	struct CMUnitTest tests[3 * LAYOUTS], wrong[ROWS + 1];

	for (size_t i = 0; i < LAYOUTS; i++) {
		const char *name = layouts[i].name;
		void *state = (void *)&layouts[i];

		tests[3 * i] = (struct CMUnitTest){name, reads, NULL, NULL, state};
		tests[3 * i + 1] = (struct CMUnitTest){name, writes, NULL, NULL, state};
		tests[3 * i + 2] = (struct CMUnitTest){name, pieces, NULL, NULL, state};
	}
	for (size_t i = 0; i < ROWS; i++)
		wrong[i] = (struct CMUnitTest){rows[i].name, wrong_answer, NULL, NULL,
					       (void *)&rows[i]};
	wrong[ROWS] = (struct CMUnitTest)cmocka_unit_test(count_of_the_other_layout);
	return cmocka_run_group_tests(tests, NULL, NULL) +
	       cmocka_run_group_tests(wrong, NULL, NULL);
}
