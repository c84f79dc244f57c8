/* SPDX-License-Identifier: BSD-3-Clause */
/* The link between two movers and what is told, by a mover that has no device. */
#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fdpass.h"
#include "cli/move_link.h"

#define ANSWER_MS 10000

struct rig {
	struct move move;
	struct move_packet packet;
	int link, control; /* the other ends */
};

static size_t count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	int pair[2];

	assert_non_null(rig);
	rig->move.stop = eventfd(0, EFD_CLOEXEC);
	assert_true(rig->move.stop >= 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	rig->move.link = pair[0];
	rig->link = pair[1];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	rig->move.control = pair[0];
	rig->control = pair[1];
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	uvf_fdpass_close(
		(int[]){rig->move.stop, rig->move.link, rig->link, rig->move.control, rig->control},
		5);
	free(rig->move.untold);
	free(rig);
	return 0;
}

static void give(struct rig *rig, uint32_t kind, size_t size, size_t fd_count)
{
	struct move_header header = {.kind = kind, .size = (uint32_t)size};
	uint8_t content[256] = {0};
	struct iovec iov[] = {{&header, sizeof(header)}, {content, size}};
	int fds[MOVE_FDS];

	for (size_t i = 0; i < fd_count; i++)
		fds[i] = rig->move.stop;
	assert_int_equal(uvf_fdpass_send(rig->link, iov, 2, fds, fd_count, 0),
			 sizeof(header) + size);
}

static int take(struct rig *rig)
{
	struct uvf_error error;

	return move_receive(&rig->move, &rig->packet, ANSWER_MS, &error);
}

static void only_one_kind_brings_descriptors(void **state)
{
	static const uint32_t others[] = {MOVE_HELLO, MOVE_WELCOME, MOVE_STATE, MOVE_SESSION,
					  MOVE_OFFER, MOVE_DONE,    MOVE_ERROR, 99};
	struct rig *rig = *state;
	size_t before = count_fds();

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		give(rig, others[i], 64, MOVE_FDS);
		assert_int_equal(take(rig), -EPROTO);
		assert_int_equal(rig->packet.fd_count, 0);
		assert_int_equal(count_fds(), before);
	}
	give(rig, MOVE_FDS_PACKET, 1, MOVE_FDS);
	assert_int_equal(take(rig), 0);
	assert_int_equal(rig->packet.fd_count, MOVE_FDS);
	/* Those that nobody took go with the next packet. */
	give(rig, MOVE_FDS_PACKET, 1, 3);
	assert_int_equal(take(rig), 0);
	assert_int_equal(count_fds(), before + 3);
	move_close_fds(&rig->packet);
	assert_int_equal(count_fds(), before);
}

static void descriptors_before_a_hang_up_are_closed(void **state)
{
	struct rig *rig = *state;
	size_t before = count_fds();
	struct uvf_error error;
	uint8_t byte = 0;
	struct iovec nothing = {&byte, 0};

	for (int i = 0; i < 3; i++)
		give(rig, MOVE_DONE, 1, MOVE_FDS);
	/* This looks like the end, and isn't without them. */
	assert_int_equal(uvf_fdpass_send(rig->link, &nothing, 1, &rig->move.stop, 1, 0), 0);
	shutdown(rig->link, SHUT_RDWR);
	/* Room for it there is, and nobody to hear it. */
	assert_int_equal(move_send(&rig->move, MOVE_STATE, &byte, 1, NULL, 0, &error), -EPIPE);
	assert_int_equal(count_fds(), before);
}

/* Nothing goes any more to who doesn't read. Returns how much is on its way. */
static size_t fill_control(struct rig *rig)
{
	static const char text[512];
	size_t filled = 0;
	ssize_t sent;

	for (size_t size = sizeof(text); size; size /= 2)
		while ((sent = send(rig->move.control, text, size, MSG_DONTWAIT)) > 0)
			filled += (size_t)sent;
	return filled;
}

static void drain(struct rig *rig, size_t size)
{
	char buffer[512];

	while (size) {
		ssize_t got = recv(rig->control, buffer,
				   size < sizeof(buffer) ? size : sizeof(buffer), 0);

		assert_true(got > 0);
		size -= (size_t)got;
	}
}

static struct json_object *number(int value)
{
	return json_object_new_int(value);
}

static void who_does_not_read_is_waited_for_in_the_end(void **state)
{
	struct rig *rig = *state;
	size_t filled = fill_control(rig);
	char said[64] = "";

	/* What must be heard is kept in order, without a wait: the rest gets lost. */
	move_tell(&rig->move, number(1), true);
	move_tell(&rig->move, number(2), false);
	move_tell(&rig->move, number(3), true);
	drain(rig, filled);
	move_tell(&rig->move, number(4), false);
	move_tell_last(&rig->move, number(5));
	assert_int_equal(recv(rig->control, said, 8, MSG_WAITALL), 8);
	assert_string_equal(said, "1\n3\n4\n5\n");
	/* Who has gone hears nothing, and nobody waits for that. */
	fill_control(rig);
	move_tell(&rig->move, number(6), true);
	shutdown(rig->control, SHUT_RDWR);
	move_tell_last(&rig->move, number(7));
	assert_null(rig->move.untold);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(only_one_kind_brings_descriptors),
		TEST(descriptors_before_a_hang_up_are_closed),
		TEST(who_does_not_read_is_waited_for_in_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
