/* SPDX-License-Identifier: BSD-3-Clause */
/* The serial port's lines, from their other side. */
#include "serial_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void a_socket_both_ways(void **state)
{
	struct port *port = *state;

	start(port);
	connect_peer(port);
	await(port, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	put_text(port, "hello");
	hear(port, "hello");
	say(port, "xyz");
	await(port, UART_LSR, UART_LSR_DR, UART_LSR_DR);
	assert_int_equal(get(port, UART_RBR), 'x');
	assert_int_equal(get(port, UART_RBR), 'y');
	assert_int_equal(get(port, UART_RBR), 'z');
}

static void a_peer_goes_and_the_next_comes(void **state)
{
	struct port *port = *state;

	connect_peer(port);
	await(port, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	put(port, UART_IER, UART_IER_EDSSI);
	close(port->peer);
	await(port, UART_IIR, 0x0f, UART_IIR_MODEM_STATUS);
	assert_int_equal(get(port, UART_MSR) & (UART_MSR_DCD | UART_MSR_DDCD), UART_MSR_DDCD);
	/* Nobody is there: what is sent is lost, and nothing stops. */
	for (int i = 0; i < 20000; i++)
		put(port, UART_THR, '.');
	await(port, UART_LSR, UART_LSR_THRE, UART_LSR_THRE);
	connect_peer(port);
	await(port, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	put_text(port, "!");
	/* Of what was on its way some may come first. */
	for (char byte = 0; byte != '!';)
		assert_int_equal(read(port->peer, &byte, 1), 1);
}

/* Without a descriptor for it a peer is dropped, and nobody is busy with it. */
static void no_descriptor_for_a_peer(void **state)
{
	const struct timeval limit = {.tv_sec = 20};
	struct port *port = *state;
	struct rlimit before, none;
	char byte;
	int free_number;

	connect_peer(port);
	await(port, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	close(port->peer);
	await(port, UART_MSR, UART_MSR_DCD, 0);
	getrlimit(RLIMIT_NOFILE, &before);
	port->peer = socket(AF_UNIX, SOCK_STREAM, 0);
	free_number = dup(port->peer);
	close(free_number);
	setsockopt(port->peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	none = (struct rlimit){(rlim_t)free_number, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	connect_to(port);
	assert_int_equal(read(port->peer, &byte, 1), 0);
	setrlimit(RLIMIT_NOFILE, &before);
	close(port->peer);
	connect_peer(port);
	await(port, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
}

/* A peer that does not read: LSR says so, the driver is never held, nothing is lost after it. */
static void a_full_line(void **state)
{
	struct port *port = *state;
	size_t sent = 0, got = 0;
	uint8_t bytes[4096];

	start(port);
	connect_peer(port);
	await(port, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	for (int idle = 0; idle < 100;) {
		if (get(port, UART_LSR) & UART_LSR_THRE) {
			put(port, UART_THR, (uint8_t)sent++);
			idle = 0;
		} else {
			usleep(1000);
			idle++;
		}
	}
	assert_false(get(port, UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT));
	put(port, UART_IER, UART_IER_ETBEI);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_NONE);
	while (got < sent) {
		ssize_t part = read(port->peer, bytes, sizeof(bytes));

		assert_true(part > 0);
		for (ssize_t i = 0; i < part; i++)
			assert_int_equal(bytes[i], (uint8_t)got++);
	}
	await(port, UART_LSR, UART_LSR_THRE | UART_LSR_TEMT, UART_LSR_THRE | UART_LSR_TEMT);
	await(port, UART_IIR, 0x0f, UART_IIR_THR_EMPTY);
}

/* What does not fit stays with its sender: no overrun, whatever comes. */
static void a_flood_is_never_an_overrun(void **state)
{
	enum { TOTAL = 50000 };
	struct port *port = *state;
	uint8_t *bytes = malloc(TOTAL);
	size_t sent = 0;

	start(port);
	connect_peer(port);
	assert_int_equal(fcntl(port->peer, F_SETFL, O_NONBLOCK), 0);
	for (size_t i = 0; i < TOTAL; i++)
		bytes[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < TOTAL; i++) {
		uint8_t status;

		do {
			ssize_t part = write(port->peer, bytes + sent, TOTAL - sent);

			sent += part > 0 ? (size_t)part : 0;
			status = get(port, UART_LSR);
			assert_false(status & UART_LSR_OE);
		} while (!(status & UART_LSR_DR));
		assert_int_equal(get(port, UART_RBR), (uint8_t)(i * 7));
	}
	free(bytes);
}

static void loopback_cuts_the_line(void **state)
{
	struct port *port = *state;

	connect_peer(port);
	await(port, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	loop(port);
	put_text(port, "secret");
	say(port, "in");
	assert_int_equal(get(port, UART_RBR), 's');
	put(port, UART_FCR, UART_FCR_ENABLE | UART_FCR_RESET_RECEIVER);
	assert_false(get(port, UART_LSR) & UART_LSR_DR);
	put(port, UART_MCR, 0);
	await(port, UART_LSR, UART_LSR_DR, UART_LSR_DR);
	assert_int_equal(get(port, UART_RBR), 'i');
	put_text(port, "out");
	hear(port, "out");
}

static void a_pty(void **state)
{
	struct port port;
	struct stat there;

	make(&port, "serial,link=/");
	assert_int_equal(lstat(port.path, &there), 0);
	assert_true(S_ISLNK(there.st_mode));
	start(&port);
	for (int round = 0; round < 2; round++) {
		port.peer = open(port.path, O_RDWR | O_NOCTTY | O_CLOEXEC);
		assert_true(port.peer >= 0);
		put_text(&port, "out\n\x03");
		hear(&port, "out\n\x03");
		say(&port, "in\r");
		await(&port, UART_LSR, UART_LSR_DR, UART_LSR_DR);
		assert_int_equal(get(&port, UART_RBR), 'i');
		assert_int_equal(get(&port, UART_RBR), 'n');
		assert_int_equal(get(&port, UART_RBR), '\r');
		assert_true(get(&port, UART_MSR) & UART_MSR_DCD);
		close(port.peer);
		port.peer = -1;
	}
	unmake(&port);
}

static void a_file(void **state)
{
	struct port port;
	char text[8] = "";

	make(&port, "serial,line=file:/");
	put_text(&port, "log\n");
	port.peer = open(port.path, O_RDONLY | O_CLOEXEC);
	for (int tries = 0; tries < 10000 && pread(port.peer, text, 7, 0) < 4; tries++)
		usleep(1000);
	assert_string_equal(text, "log\n");
	unlink(port.path);
	unmake(&port);
}

static void count_message(void *opaque, enum uvf_log_level level, const char *who, const char *text)
{
	atomic_uint *count = opaque;

	if (level == UVF_LOG_WARNING)
		atomic_fetch_add(count, 1);
}

/* A driver decides how many bytes are lost, not how long the log gets. */
static void losses_are_said_once(void **state)
{
	atomic_uint count = 0;
	const struct uvf_log log = {count_message, &count, UVF_LOG_WARNING};
	struct uvf_error error = {""};
	struct port port = {0};

	assert_int_equal(uvf_model_create("serial,line=file:/dev/full", &port.dev, &error), 0);
	uvf_device_set_log(port.dev, &log);
	assert_int_equal(uvf_device_open(port.dev), 0);
	write_command(&port, PCI_COMMAND_IO);
	for (unsigned i = 0; i < 50; i++) {
		put(&port, UART_THR, 'x');
		usleep(1000);
	}
	for (int tries = 0; tries < 10000 && !count; tries++)
		usleep(1000);
	uvf_device_close(port.dev);
	uvf_device_free(port.dev);
	assert_int_equal(count, 1);
}

static void refused_specs(void **state)
{
	static const struct {
		const char *spec;
		int result;
		const char *message;
	} cases[] = {
		{"serial,line=x", -EINVAL,
		 "serial: line=: expected pty|unix:PATH|file:PATH|stdio, got 'x'"},
		{"serial,line=unix:", -EINVAL,
		 "serial: line=: expected pty|unix:PATH|file:PATH|stdio, got 'unix:'"},
		{"serial,line=ptyx", -EINVAL,
		 "serial: line=: expected pty|unix:PATH|file:PATH|stdio, got 'ptyx'"},
		{"serial,lime=x", -EINVAL, "serial: key 'lime' is not known; did you mean 'line'?"},
		{"serial,line=stdio,link=/tmp/x", -EINVAL,
		 "serial: link=: expected line=pty with it"},
		{"serial,line=file:/nonexistent/x", -ENOENT,
		 "/nonexistent/x: No such file or directory"},
		{"serial,line=unix:/nonexistent/x", -ENOENT,
		 "/nonexistent/x: No such file or directory"},
		{"serial,link=/nonexistent/x", -ENOENT,
		 "link /nonexistent/x: No such file or directory"},
		{"seriel", -ENOENT, "model 'seriel' is not known; did you mean 'serial'?"},
		{"", -ENOENT, "model '' is not known"},
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(cases); i++) {
		struct uvf_device *dev = NULL;
		struct uvf_error error;

		assert_int_equal(uvf_model_create(cases[i].spec, &dev, &error), cases[i].result);
		assert_string_equal(error.text, cases[i].message);
		assert_null(dev);
	}
}

static void stale_and_live_sockets(void **state)
{
	struct port *port = *state, second;
	struct uvf_device *dev;
	struct uvf_error error;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char spec[128];
	int fd;

	snprintf(spec, sizeof(spec), "serial,line=unix:%s", port->path);
	assert_int_equal(uvf_model_create(spec, &dev, &error), -EADDRINUSE);

	make(&second, "serial,line=stdio");
	strcpy(address.sun_path, second.path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	snprintf(spec, sizeof(spec), "serial,line=unix:%s", second.path);
	assert_int_equal(uvf_model_create(spec, &dev, &error), 0);
	uvf_device_free(dev);
	unmake(&second);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_socket_both_ways),
		TEST(a_peer_goes_and_the_next_comes),
		TEST(no_descriptor_for_a_peer),
		TEST(a_full_line),
		TEST(a_flood_is_never_an_overrun),
		TEST(loopback_cuts_the_line),
		cmocka_unit_test(a_pty),
		cmocka_unit_test(a_file),
		cmocka_unit_test(losses_are_said_once),
		cmocka_unit_test(refused_specs),
		TEST(stale_and_live_sockets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
