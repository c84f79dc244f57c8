/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Time limits: who owes a message, the rest of one, or reads no replies. However long the machine
 * stalls, a limit can only pass sooner than the test looks, and nobody here does what he owes.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness.h"

/* Steps whenever the server wants to be, until the session is over. */
static void step_to_the_end(struct harness *h)
{
	struct pollfd ready = {uvf_server_fd(h->server), POLLIN, 0};

	while (!hung_up(h->client)) {
		assert_int_equal(poll(&ready, 1, LONG_TIME_MS), 1);
		assert_true(uvf_server_process(h->server) >= 0);
	}
}

static void owes_version(void **state)
{
	struct uvf_server_config config = {.client_timeout_ms = 20};
	struct harness *h = harness_new(&config);
	uint64_t since = uvf_now_ns();

	h->client = harness_connect(h);
	step_to_the_end(h);
	assert_true(uvf_now_ns() - since >= 20000000);
	assert_int_equal(h->device->opens, 0);
	harness_free(h);
}

static void owes_the_rest(void **state)
{
	struct uvf_server_config config = {.client_timeout_ms = 20};
	struct harness *h = harness_new(&config);
	struct reply reply;
	uint64_t since;

	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
	since = uvf_now_ns();
	assert_int_equal(send(h->client, "abc", 3, 0), 3);
	step_to_the_end(h);
	assert_true(uvf_now_ns() - since >= 20000000);
	assert_int_equal(h->device->closes, 1);
	harness_free(h);
}

/* Who owes nothing may be silent. */
static void owes_nothing(void **state)
{
	struct uvf_server_config config = {.client_timeout_ms = 20};
	struct harness *h = harness_new(&config);
	struct reply reply;
	uint64_t since;

	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
	since = uvf_now_ns();
	while (uvf_now_ns() - since < 60000000) {
		usleep(1000);
		harness_step(h);
	}
	assert_int_equal(simple(h, VFIO_USER_DEVICE_RESET, NULL, 0), 0);
	harness_free(h);
}

struct read_message {
	struct uvf_wire_header header;
	struct uvf_wire_region_access access;
};

static const struct read_message large_read = {{5, VFIO_USER_REGION_READ, 32, 0, 0},
					       {0, 2, MAX_DATA}};

/* Sends requests, and reads nothing, until the server takes no more. Returns how many. */
static unsigned read_no_replies(struct harness *h)
{
	unsigned sent = 0;

	while (sent < 100000 && send(h->client, &large_read, sizeof(large_read),
				     MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(large_read)) {
		assert_true(uvf_server_process(h->server) >= 0);
		sent++;
	}
	return sent;
}

/* Replies that nobody reads are kept up to a bound, and requests then wait in the socket. */
static void reads_no_replies(void **state)
{
	struct uvf_server_config config = {.max_data_xfer_size = MAX_DATA, .client_timeout_ms = 20};
	struct harness *h = harness_new(&config);
	struct pollfd ready = {uvf_server_fd(h->server), POLLIN, 0};
	struct reply reply;

	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
	assert_true(read_no_replies(h) < 100000);
	/* Sooner or later, perhaps already. */
	while (!h->device->closes) {
		assert_int_equal(poll(&ready, 1, LONG_TIME_MS), 1);
		assert_true(uvf_server_process(h->server) >= 0);
	}
	harness_free(h);
}

/* A message that is longer than what the socket holds comes as the server is stepped. */
static void receive_late(struct harness *h, struct read_message *message, uint8_t *data)
{
	size_t size = sizeof(*message) + MAX_DATA;

	for (size_t at = 0; at < size;) {
		bool fixed = at < sizeof(*message);
		void *to = fixed ? (uint8_t *)message + at : data + (at - sizeof(*message));
		ssize_t got =
			recv(h->client, to, (fixed ? sizeof(*message) : size) - at, MSG_DONTWAIT);

		if (got < 0 && errno == EAGAIN)
			harness_step(h);
		else
			assert_true(got > 0);
		at += got > 0 ? (size_t)got : 0;
	}
}

/* Who reads them in the end gets all of them. */
static void reads_replies_late(void **state)
{
	struct harness *h = *state;
	uint8_t *data = malloc(MAX_DATA);
	struct read_message message;
	unsigned sent;

	memset(h->device->buffer, 0x3c, MAX_DATA);
	sent = read_no_replies(h);
	assert_true(sent > 1 && sent < 100000);
	for (unsigned i = 0; i < sent; i++) {
		receive_late(h, &message, data);
		assert_int_equal(message.header.id, 5);
		assert_int_equal(message.header.size, sizeof(message) + MAX_DATA);
		assert_memory_equal(data, h->device->buffer, MAX_DATA);
	}
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(owes_version),
		cmocka_unit_test(owes_the_rest),
		cmocka_unit_test(owes_nothing),
		cmocka_unit_test(reads_no_replies),
		cmocka_unit_test_setup_teardown(reads_replies_late, harness_setup,
						harness_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
