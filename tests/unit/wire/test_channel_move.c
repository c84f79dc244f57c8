/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection that goes to another process: the socket is left alone by who doesn't have it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "wire/channel.h"

#define PAYLOAD 1000

/* The driver's end, and the descriptors of two servers for the other end. */
struct ends {
	int driver, ours, other;
};

static void make_ends(struct ends *ends)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ends->driver = pair[0];
	ends->ours = pair[1];
	ends->other = fcntl(pair[1], F_DUPFD_CLOEXEC, 0);
	assert_true(ends->other >= 0);
}

static struct uvf_channel *new_channel(int fd, bool foreign)
{
	const struct uvf_channel_config config = {
		.fd = fd,
		.max_payload = PAYLOAD,
		.max_fds = 4,
		.timeout_ms = 5000,
		.takes_requests = true,
		.foreign = foreign,
		.kick_fd = -1,
	};
	struct uvf_channel *channel;

	assert_int_equal(uvf_channel_new(&config, &channel), 0);
	return channel;
}

/* What one writes at one end comes out of the other. */
static void check_is_connected(const struct ends *ends)
{
	char byte = 'x';

	assert_int_equal(send(ends->other, "x", 1, MSG_NOSIGNAL), 1);
	assert_int_equal(recv(ends->driver, &byte, 1, MSG_DONTWAIT), 1);
	assert_int_equal(recv(ends->driver, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void close_ends(const struct ends *ends)
{
	close(ends->driver);
	close(ends->other);
}

static long receive_timeout_us(int fd)
{
	struct timeval time;
	socklen_t size = sizeof(time);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, &size), 0);
	return time.tv_sec * 1000000 + time.tv_usec;
}

static void add_request(uint8_t *bytes, uint16_t id, size_t payload)
{
	struct uvf_wire_header header = {
		.id = id,
		.command = 1,
		.size = (uint32_t)(sizeof(header) + payload),
	};

	memcpy(bytes, &header, sizeof(header));
}

/* A server that could not take the connection gives up; the one that has it doesn't notice. */
static void foreign_end_is_not_seen(void **state)
{
	struct ends ends;
	struct uvf_channel *channel;

	make_ends(&ends);
	channel = new_channel(ends.ours, true);
	assert_int_equal(receive_timeout_us(ends.other), 0);
	uvf_channel_fail(channel, -EMFILE);
	check_is_connected(&ends);
	uvf_channel_put(channel);
	check_is_connected(&ends);
	close_ends(&ends);
}

static void owned_end_is_seen(void **state)
{
	struct ends ends;
	struct uvf_channel *channel;
	char byte;

	make_ends(&ends);
	channel = new_channel(ends.ours, true);
	uvf_channel_own(channel);
	assert_int_equal(receive_timeout_us(ends.other), 5000000);
	uvf_channel_put(channel);
	assert_int_equal(recv(ends.driver, &byte, 1, MSG_DONTWAIT), 0);
	close_ends(&ends);
}

/* Requests that went to the other server aren't handed out here too, nor their descriptors kept. */
static void disowned_hands_out_nothing(void **state)
{
	uint8_t bytes[3 * sizeof(struct uvf_wire_header)] = {0};
	struct uvf_rest_fd fd = {.at = sizeof(bytes) - 1};
	struct uvf_channel_rest rest = {
		.bytes = bytes, .size = sizeof(bytes), .fds = &fd, .fd_count = 1};
	struct uvf_message message;
	struct uvf_channel *channel;
	struct ends ends;

	make_ends(&ends);
	fd.fd = fcntl(ends.driver, F_DUPFD_CLOEXEC, 0);
	channel = new_channel(ends.ours, false);
	for (uint16_t i = 0; i < 3; i++)
		add_request(bytes + i * sizeof(struct uvf_wire_header), i, 0);
	assert_int_equal(uvf_channel_restore(channel, &rest), 0);
	assert_int_equal(uvf_channel_next(channel, UVF_CHANNEL_QUEUED, &message), 1);
	uvf_channel_disown(channel);
	assert_int_equal(fcntl(fd.fd, F_GETFD), -1);
	assert_int_equal(uvf_channel_next(channel, UVF_CHANNEL_QUEUED, &message), -ENOTCONN);
	assert_int_equal(uvf_channel_next(channel, UVF_CHANNEL_WAIT, &message), -ENOTCONN);
	check_is_connected(&ends);
	uvf_channel_put(channel);
	check_is_connected(&ends);
	close_ends(&ends);
}

/* As much as can have come while a request made a call; there is room for more all the same. */
static void large_rest_is_taken(void **state)
{
	const size_t whole = sizeof(struct uvf_wire_header) + PAYLOAD;
	uint8_t *bytes = calloc(3, whole);
	struct uvf_channel_rest rest = {.bytes = bytes, .size = 3 * whole};
	struct uvf_message message;
	struct uvf_channel *channel;
	struct ends ends;

	make_ends(&ends);
	channel = new_channel(ends.ours, false);
	for (uint16_t i = 0; i < 3; i++)
		add_request(bytes + i * whole, i, PAYLOAD);
	rest.size++;
	assert_int_equal(uvf_channel_restore(channel, &rest), -EMSGSIZE);
	rest.size--;
	assert_int_equal(uvf_channel_restore(channel, &rest), 0);
	assert_int_equal(send(ends.driver, bytes, whole, 0), whole);
	for (uint16_t i = 0; i < 4; i++) {
		assert_int_equal(uvf_channel_next(channel, UVF_CHANNEL_NOW, &message), 1);
		assert_int_equal(message.header.id, i % 3);
		assert_int_equal(message.payload_size, PAYLOAD);
	}
	uvf_channel_put(channel);
	free(bytes);
	close_ends(&ends);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(foreign_end_is_not_seen),
		cmocka_unit_test(owned_end_is_seen),
		cmocka_unit_test(disowned_hands_out_nothing),
		cmocka_unit_test(large_rest_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
