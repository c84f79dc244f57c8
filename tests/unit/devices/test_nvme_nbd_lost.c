/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections to NBD servers that are lost: what was asked for waits, is done by the server that
 * comes next, and fails where none does.
 */
#include "nvme_nbd_world.h"

/* As a poller: sleeps on the channel, which drives its connection. */
static void one_round(struct nvme_channel *channel)
{
	struct pollfd fd = {.fd = channel->fd, .events = POLLIN};

	nvme_channel_kick(channel);
	if (nvme_channel_reap(channel))
		return;
	if (nvme_channel_busy(channel) && nvme_channel_arm(channel))
		assert_int_equal(poll(&fd, 1, 30000), 1);
}

static void until_up(struct nvme_channel *channel)
{
	while (channel->background)
		one_round(channel);
}

/* A request that is with the server when that is killed, however little time it takes. */
static void submit_to_stopped(struct world *world, struct request *request, enum nvme_io_op op)
{
	server_freeze(&world->server);
	request_make(request, op, 4096, op == NVME_IO_FLUSH ? NULL : world->memory, 65536);
	request_submit(world->channel, request);
	nvme_channel_kick(world->channel);
	nvme_channel_reap(world->channel);
	assert_int_equal(request->completed, 0);
}

static void done_by_the_next_server(void **state)
{
	static const enum nvme_io_op ops[] = {NVME_IO_WRITE, NVME_IO_FLUSH, NVME_IO_READ,
					      NVME_IO_WRITE_ZEROES, NVME_IO_DISCARD};
	struct world *world = *state;
	struct request requests[2];

	SERVER_START(&world->server, "file", world->server.disk);
	open_export(world, 0);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		submit_to_stopped(world, &requests[0], ops[i]);
		server_kill(&world->server);
		one_round(world->channel);
		assert_true(world->channel->background);
		/* And one that no server has seen. */
		request_make(&requests[1], NVME_IO_WRITE, 1 << 20, world->memory, 1 << 20);
		request_submit(world->channel, &requests[1]);
		assert_int_equal(nvme_channel_reap(world->channel), 0);
		server_start_again(&world->server);
		while (world->channel->in_flight)
			one_round(world->channel);
		for (unsigned n = 0; n < 2; n++) {
			assert_int_equal(requests[n].completed, 1);
			assert_int_equal(requests[n].result, 0);
		}
		until_up(world->channel);
		assert_int_equal(
			run(world->channel, NVME_IO_READ, 0, 1 << 20, world->back, 1 << 20), 0);
		assert_memory_equal(world->memory, world->back, 1 << 20);
	}
	assert_true(world_said(world, "lost"));
	assert_true(world_said(world, "connected again"));
}

static void killed_while_idle(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "file", world->server.disk);
	open_export(world, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(
			run(world->channel, NVME_IO_WRITE, 0, i * 8192, world->memory, 8192), 0);
		server_kill(&world->server);
		server_start_again(&world->server);
		assert_int_equal(run(world->channel, NVME_IO_READ, 0, i * 8192, world->back, 8192),
				 0);
		assert_memory_equal(world->memory, world->back, 8192);
	}
}

/* More than there are buffers for: what went straight at first goes through them now. */
static void many_again(struct world *world)
{
	struct request *requests = calloc(256, sizeof(*requests));

	open_export(world, 0);
	for (unsigned i = 0; i < 256; i++) {
		request_make(&requests[i], NVME_IO_WRITE, i * 16384, world->memory + i * 16384,
			     16384);
		request_submit(world->channel, &requests[i]);
	}
	server_freeze(&world->server);
	nvme_channel_kick(world->channel);
	server_kill(&world->server);
	server_start_again(&world->server);
	while (world->channel->in_flight)
		one_round(world->channel);
	for (unsigned i = 0; i < 256; i++) {
		assert_int_equal(requests[i].completed, 1);
		assert_int_equal(requests[i].result, 0);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(run(world->channel, NVME_IO_READ, 0, i << 20,
				     world->back + (i << 20), 1 << 20),
				 0);
	assert_memory_equal(world->memory, world->back, SIZE);
	free(requests);
}

static void many_at_once(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "file", world->server.disk);
	many_again(world);
}

static void over_tcp(void **state)
{
	struct world *world = *state;

	server_use_port(&world->server);
	SERVER_START(&world->server, "file", world->server.disk);
	many_again(world);
}

static void with_qemu(void **state)
{
	struct world *world = *state;

	if (!server_there("qemu-nbd"))
		skip();
	server_start_qemu(&world->server);
	many_again(world);
}

/* ---- Where no server comes ---- */

static void fails_after_the_limit(void **state)
{
	struct world *world = *state;
	struct request request;

	SERVER_START(&world->server, "file", world->server.disk);
	for (uint32_t limit = 0; limit < 2; limit++) {
		open_export_for(world, 0, limit);
		submit_to_stopped(world, &request, NVME_IO_WRITE);
		server_kill(&world->server);
		while (!request.completed)
			one_round(world->channel);
		assert_int_equal(request.result, -ENOTCONN);
		assert_true(world_said(world, "commands fail"));
		/* From now on at once. */
		request_make(&request, NVME_IO_READ, 0, world->back, 512);
		assert_int_equal(nvme_channel_submit(world->channel, &request.io), -ENOTCONN);
		assert_int_equal(nvme_backend_release(world->backend), -ENOTCONN);
		/* Until it is back, which is noticed with nothing in flight. */
		server_start_again(&world->server);
		until_up(world->channel);
		assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, world->back, 512), 0);
		assert_int_equal(nvme_backend_release(world->backend), 0);
		close_export(world);
	}
}

/* Letting go of it doesn't wait for a server that has gone, noticed or not. */
static void no_release_while_lost(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "file", world->server.disk);
	open_export(world, 0);
	assert_int_equal(run(world->channel, NVME_IO_WRITE, 0, 0, world->memory, 4096), 0);
	assert_int_equal(nvme_backend_release(world->backend), 0);
	server_kill(&world->server);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(nvme_backend_release(world->backend), -EAGAIN);
	server_start_again(&world->server);
	release_when_up(world);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 0, world->back, 4096), 0);
	assert_memory_equal(world->memory, world->back, 4096);
}

/* It listens, and says nothing. */
static void nobody_answers(void **state)
{
	struct world *world = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct request request;
	int sock;

	SERVER_START(&world->server, "file", world->server.disk);
	open_export_for(world, 0, 1);
	submit_to_stopped(world, &request, NVME_IO_WRITE);
	server_kill(&world->server);
	unlink(world->server.socket);
	strcpy(address.sun_path, world->server.socket);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(sock, 16), 0);
	while (!request.completed)
		one_round(world->channel);
	assert_int_equal(request.result, -ENOTCONN);
	close(sock);
}

/* A server, no more than begun: it takes any export to be @SIZE, and ends at the first command. */
struct ender {
	int sock;
	atomic_uint connections;
};

static bool ender_option(int sock)
{
	struct __attribute__((packed)) {
		uint64_t magic;
		uint32_t option, length;
	} option;
	struct __attribute__((packed)) {
		uint64_t magic;
		uint32_t option, type, length;
		uint16_t info;
		uint64_t size;
		uint16_t flags;
	} reply = {.magic = htobe64(0x3e889045565a9)};
	bool go;
	char data[4096];

	if (recv(sock, &option, sizeof(option), MSG_WAITALL) != sizeof(option) ||
	    be32toh(option.length) > sizeof(data) ||
	    recv(sock, data, be32toh(option.length), MSG_WAITALL) != be32toh(option.length))
		return true;
	go = be32toh(option.option) == 7;
	reply.option = option.option;
	if (go) {
		reply.type = htobe32(3);
		reply.length = htobe32(12);
		reply.size = htobe64(SIZE);
		reply.flags = htobe16(1 | 4); /* flush */
		send(sock, &reply, sizeof(reply), MSG_NOSIGNAL);
		reply.length = 0;
	}
	reply.type = htobe32(go ? 1 : 0x80000001);
	send(sock, &reply, 20, MSG_NOSIGNAL);
	return go;
}

static void *end_each(void *opaque)
{
	struct ender *ender = opaque;
	int sock;

	while ((sock = accept(ender->sock, NULL, NULL)) >= 0) {
		char request[28];

		send(sock, "NBDMAGICIHAVEOPT\0\3", 18, MSG_NOSIGNAL);
		if (recv(sock, request, 4, MSG_WAITALL) == 4) {
			while (!ender_option(sock))
				;
			recv(sock, request, sizeof(request), MSG_WAITALL);
			atomic_fetch_add(&ender->connections, 1);
		}
		close(sock);
	}
	return NULL;
}

/* It comes back, and goes at each command: that is no better than nobody. */
static void ends_at_each_command(void **state)
{
	struct world *world = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ender ender = {.sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	struct request request;
	pthread_t thread;

	SERVER_START(&world->server, "file", world->server.disk);
	open_export_for(world, 0, 1);
	submit_to_stopped(world, &request, NVME_IO_FLUSH);
	server_kill(&world->server);
	unlink(world->server.socket);
	strcpy(address.sun_path, world->server.socket);
	assert_int_equal(bind(ender.sock, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(ender.sock, 16), 0);
	assert_int_equal(pthread_create(&thread, NULL, end_each, &ender), 0);
	while (!request.completed && atomic_load(&ender.connections) < 200)
		one_round(world->channel);
	assert_int_equal(request.completed, 1);
	assert_int_equal(request.result, -ENOTCONN);
	assert_true(world_said(world, "connected again"));
	assert_true(world_said(world, "commands fail"));
	/* With pauses of 50 ms and growing. */
	assert_true(atomic_load(&ender.connections) < 20);
	shutdown(ender.sock, SHUT_RDWR);
	/* Its last connection may be waiting for a command. */
	close_export(world);
	pthread_join(thread, NULL);
	close(ender.sock);
}

static void another_export_is_refused(void **state)
{
	struct world *world = *state;
	struct request request;

	SERVER_START(&world->server, "file", world->server.disk);
	open_export(world, 0);
	submit_to_stopped(world, &request, NVME_IO_WRITE);
	server_kill(&world->server);
	server_disk_size(&world->server, 2 * SIZE);
	server_start_again(&world->server);
	while (!world_said(world, "another size"))
		one_round(world->channel);
	assert_int_equal(request.completed, 0);
	server_kill(&world->server);
	server_disk_size(&world->server, SIZE);
	SERVER_START(&world->server, "-r", "file", world->server.disk);
	while (!world_said(world, "read-only now"))
		one_round(world->channel);
	assert_int_equal(request.completed, 0);
	server_kill(&world->server);
	SERVER_START(&world->server, "--filter=blocksize-policy", "file", world->server.disk,
		     "blocksize-minimum=4096", "blocksize-preferred=4096");
	while (!world_said(world, "larger blocks now"))
		one_round(world->channel);
	assert_int_equal(request.completed, 0);
	server_kill(&world->server);
	SERVER_START(&world->server, "--filter=blocksize-policy", "file", world->server.disk,
		     "blocksize-minimum=512", "blocksize-preferred=512", "blocksize-maximum=2048");
	while (!request.completed && !world_said(world, "no whole blocks now"))
		one_round(world->channel);
	assert_int_equal(request.completed, 0);
	server_kill(&world->server);
	/* Less than before, but nothing that was promised. */
	SERVER_START(&world->server, "--filter=nozero", "file", world->server.disk);
	while (!request.completed)
		one_round(world->channel);
	assert_int_equal(request.result, 0);
	assert_int_equal(run(world->channel, NVME_IO_WRITE_ZEROES, 0, 4096, NULL, 4096), 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 4096, world->back, 65536), 0);
	check_zero(world->back, 4096);
	assert_memory_equal(world->memory + 4096, world->back + 4096, 61440);
}

/* ---- Taken back ---- */

static void cancelled_while_lost(void **state)
{
	struct world *world = *state;
	struct request given, waiting;

	SERVER_START(&world->server, "file", world->server.disk);
	open_export(world, 0);
	submit_to_stopped(world, &given, NVME_IO_WRITE);
	assert_false(nvme_channel_cancel(world->channel, &given.io));
	server_kill(&world->server);
	one_round(world->channel);
	request_make(&waiting, NVME_IO_FLUSH, 0, NULL, 0);
	request_submit(world->channel, &waiting);
	assert_int_equal(world->channel->in_flight, 2);
	assert_true(nvme_channel_cancel(world->channel, &given.io));
	assert_false(nvme_channel_cancel(world->channel, &given.io));
	assert_true(nvme_channel_cancel(world->channel, &waiting.io));
	assert_int_equal(world->channel->in_flight, 0);
	server_start_again(&world->server);
	until_up(world->channel);
	assert_int_equal(given.completed + waiting.completed, 0);
	assert_int_equal(run(world->channel, NVME_IO_READ, 0, 4096, world->back, 4096), 0);
	check_zero(world->back, 4096);
}

/* Closing doesn't wait for longer than commands do: for a server that has gone, or is silent. */
static void closed_while_lost(void **state)
{
	struct world *world = *state;
	struct request request;

	SERVER_START(&world->server, "file", world->server.disk);
	for (unsigned i = 0; i < 2; i++) {
		open_export_for(world, 0, 1);
		submit_to_stopped(world, &request, NVME_IO_WRITE);
		if (i)
			server_kill(&world->server);
		close_export(world);
		assert_int_equal(request.completed, 1);
		assert_int_equal(request.result, -ENOTCONN);
		if (!i)
			kill(world->server.pid, SIGCONT);
	}
}

/* ---- Several threads ---- */

static void threads_with_a_connection_each(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "file", world->server.disk);
	threads(world, 4, 5);
}

static void threads_with_one_connection(void **state)
{
	struct world *world = *state;

	SERVER_START(&world->server, "--filter=multi-conn", "file", world->server.disk,
		     "multi-conn-mode=disable");
	threads(world, 1, 5);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(done_by_the_next_server),
		TEST(killed_while_idle),
		TEST(many_at_once),
		TEST(over_tcp),
		TEST(with_qemu),
		TEST(fails_after_the_limit),
		TEST(no_release_while_lost),
		TEST(nobody_answers),
		TEST(ends_at_each_command),
		TEST(another_export_is_refused),
		TEST(cancelled_while_lost),
		TEST(closed_while_lost),
		TEST(threads_with_a_connection_each),
		TEST(threads_with_one_connection),
	};

	if (!server_there("nbdkit"))
		return 77; /* skipped */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
