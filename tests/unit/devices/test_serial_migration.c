/* SPDX-License-Identifier: BSD-3-Clause */
/* The serial port goes to another one, with what is between it and its line. */
#include "serial_rig.h"

#include <errno.h>

#include "stream.h"

static uint64_t state_of_random = 1;

static unsigned random_below(unsigned limit)
{
	state_of_random = state_of_random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(state_of_random >> 33) % limit;
}

static int go(struct port *port, enum vfio_device_mig_state state)
{
	return uvf_migration_set_state(port->dev, state);
}

/* @to becomes as @from was; and @from goes on too. */
static void move(struct port *from, struct port *to)
{
	struct stream stream;

	stream_save(from->dev, &stream);
	assert_int_equal(stream_load(to->dev, &stream), 0);
	assert_int_equal(go(from, VFIO_DEVICE_STATE_RUNNING), 0);
	stream_free(&stream);
}

/* ---- Registers ---- */

/* No byte of it gets anywhere, and there is always somebody. */
static void make_pair(struct port *from, struct port *to)
{
	make(from, "serial,line=file:/dev/null");
	make(to, "serial,line=file:/dev/null");
}

static void unmake_pair(struct port *from, struct port *to)
{
	unmake(from);
	unmake(to);
}

/* All that can be read, in an order that loses little. */
static void expect_same(struct port *one, struct port *other)
{
	static const uint8_t order[] = {UART_SCR, UART_MCR, UART_LCR, UART_IIR, UART_IER,
					UART_LSR, UART_MSR, UART_IIR, UART_RBR, UART_LSR};

	for (size_t i = 0; i < sizeof(order); i++)
		assert_int_equal(get(one, order[i]), get(other, order[i]));
}

static void empty(struct port *port)
{
}

static void received(struct port *port)
{
	loop(port);
	put_text(port, "abc");
	assert_int_equal(get(port, UART_RBR), 'a');
	put(port, UART_IER, UART_IER_ALL);
}

static void overrun(struct port *port)
{
	loop(port);
	put_text(port, "0123456789abcdefX");
	put(port, UART_IER, UART_IER_ELSI);
}

static void broken(struct port *port)
{
	loop(port);
	put_text(port, "a");
	put(port, UART_LCR, UART_LCR_BREAK | 3);
	put_text(port, "b");
}

static void divided(struct port *port)
{
	put(port, UART_LCR, UART_LCR_DLAB | 3);
	put(port, UART_DLL, 0x34);
	put(port, UART_DLM, 0x12);
}

static void without_fifos(struct port *port)
{
	put(port, UART_MCR, UART_MCR_LOOP);
	put_text(port, "z");
}

static void modem(struct port *port)
{
	loop(port);
	put(port, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1);
	put(port, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	put(port, UART_IER, UART_IER_EDSSI);
}

static void thr_empty_seen(struct port *port)
{
	start(port);
	put(port, UART_IER, UART_IER_ETBEI);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_THR_EMPTY);
}

static void each_state(void **state)
{
	static void (*const prepare[])(struct port *) = {
		empty, received, overrun, broken, divided, without_fifos, modem, thr_empty_seen,
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(prepare); i++) {
		struct port from, to;

		make_pair(&from, &to);
		/* It is not as new: nothing of this may be left. */
		overrun(&to);
		put(&to, UART_SCR, 0x77);
		prepare[i](&from);
		move(&from, &to);
		for (unsigned round = 0; round < 20; round++)
			expect_same(&from, &to);
		unmake_pair(&from, &to);
	}
}

/* Whatever a driver did before, and whatever it does after. */
static void any_state(void **state)
{
	struct port from, to;

	make_pair(&from, &to);
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned i = 0; i < 40; i++) {
			unsigned offset = random_below(UART_REGISTERS);

			if (random_below(3))
				put(&from, offset, (uint8_t)random_below(256));
			else
				(void)get(&from, offset);
		}
		move(&from, &to);
		for (unsigned i = 0; i < 60; i++) {
			unsigned offset = random_below(UART_REGISTERS);
			uint8_t value = (uint8_t)random_below(256);

			if (random_below(3)) {
				assert_int_equal(get(&from, offset), get(&to, offset));
				continue;
			}
			put(&from, offset, value);
			put(&to, offset, value);
		}
	}
	unmake_pair(&from, &to);
}

static void a_pending_interrupt(void **state)
{
	struct port from, to;

	make_pair(&from, &to);
	enable_interrupt(&from);
	received(&from);
	assert_true(interrupted(&from));
	enable_interrupt(&to);
	move(&from, &to);
	/* What its driver had perhaps not seen it sees. */
	assert_true(interrupted(&to));
	assert_int_equal(get(&to, UART_RBR), 'b');
	assert_int_equal(get(&to, UART_RBR), 'c');
	put(&to, UART_IER, 0);
	unmask(&to);
	(void)interrupted(&to);
	unmask(&to);
	assert_false(interrupted(&to));
	unmake_pair(&from, &to);
}

/* ---- The line ---- */

/* Fills the line until nothing moves any more: returns how many bytes were sent. */
static size_t fill(struct port *port)
{
	size_t sent = 0;

	for (int idle = 0; idle < 50;) {
		if (get(port, UART_LSR) & UART_LSR_THRE) {
			put(port, UART_THR, (uint8_t)sent++);
			idle = 0;
		} else {
			usleep(1000);
			idle++;
		}
	}
	return sent;
}

/* Reads what comes, which goes on from @got, until @want bytes are there or nothing comes. */
static size_t drain(struct port *port, size_t got, size_t want)
{
	struct pollfd fd = {port->peer, POLLIN, 0};
	uint8_t bytes[4096];

	while (got < want && poll(&fd, 1, want == SIZE_MAX ? 0 : 10000) == 1) {
		ssize_t part = read(port->peer, bytes, sizeof(bytes));

		assert_true(part > 0);
		for (ssize_t i = 0; i < part; i++)
			assert_int_equal(bytes[i], (uint8_t)got++);
	}
	return got;
}

/* What the line had not taken is given to who connects to the other port; nothing twice. */
static void output_moves(void **state)
{
	struct port *from = *state, to;
	struct stream stream;
	size_t sent, got;

	make(&to, "serial,line=unix:/");
	start(from);
	connect_peer(from);
	await(from, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	sent = fill(from);
	stream_save(from->dev, &stream);
	got = drain(from, 0, SIZE_MAX);
	assert_true(got < sent);
	/* It is left alone from when it was stopped. */
	usleep(20000);
	assert_int_equal(drain(from, got, SIZE_MAX), got);
	assert_int_equal(stream_load(to.dev, &stream), 0);
	/* Nobody is there yet: it waits for who comes, but holds up nothing that is sent now. */
	await(&to, UART_LSR, UART_LSR_THRE, UART_LSR_THRE);
	put_text(&to, "lost");
	assert_false(get(&to, UART_MSR) & UART_MSR_DCD);
	connect_peer(&to);
	await(&to, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	assert_true(drain(&to, got, SIZE_MAX) <= sent);
	stream_free(&stream);
	unmake(&to);
}

static void the_source_goes_on(void **state)
{
	struct port *port = *state;
	struct stream stream;
	size_t sent, got;

	start(port);
	connect_peer(port);
	await(port, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	sent = fill(port);
	stream_save(port->dev, &stream);
	got = drain(port, 0, SIZE_MAX);
	assert_int_equal(go(port, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(drain(port, got, sent), sent);
	stream_free(&stream);
}

/* What was read from the line and not received comes out at the other end, in order. */
static void input_moves(void **state)
{
	for (unsigned round = 0; round < 20; round++) {
		struct port from, to;
		struct stream stream;
		uint8_t bytes[200];
		unsigned got = 0, here;

		make(&from, "serial,line=unix:/");
		make(&to, "serial,line=unix:/");
		start(&from);
		connect_peer(&from);
		await(&from, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)i;
		assert_int_equal(write(from.peer, bytes, sizeof(bytes)), sizeof(bytes));
		for (; got < round * 5; got++) {
			await(&from, UART_LSR, UART_LSR_DR, UART_LSR_DR);
			assert_int_equal(get(&from, UART_RBR), got);
		}
		stream_save(from.dev, &stream);
		assert_int_equal(stream_load(to.dev, &stream), 0);
		for (here = got; get(&to, UART_LSR) & UART_LSR_DR; here++)
			assert_int_equal(get(&to, UART_RBR), here);
		assert_true(here - got <= 2 * UART_FIFO_SIZE);
		/* The source has it all still. */
		assert_int_equal(go(&from, VFIO_DEVICE_STATE_RUNNING), 0);
		for (; got < sizeof(bytes); got++) {
			await(&from, UART_LSR, UART_LSR_DR, UART_LSR_DR);
			assert_int_equal(get(&from, UART_RBR), got);
		}
		stream_free(&stream);
		unmake(&from);
		unmake(&to);
	}
}

/* Received, though the FIFO was full with what was there when it stopped. */
static void input_waits_for_room(void **state)
{
	struct port *from = *state, to;
	struct stream stream;
	uint8_t input[UART_FIFO_SIZE];

	make(&to, "serial,line=unix:/");
	loop(from);
	put_text(from, "0123456789abcdef");
	stream_save(from->dev, &stream);
	for (unsigned i = 0; i < sizeof(input); i++)
		input[i] = (uint8_t)('A' + i);
	/* As if the line had been read while there was room. The other "input" is empty. */
	memcpy(stream_find(&stream, "input", 0), "output", 7);
	stream_add(&stream, "input", 0, input, sizeof(input));
	assert_int_equal(stream_load(to.dev, &stream), 0);
	put(&to, UART_MCR, 0);
	for (const char *at = "0123456789abcdefABCDEFGHIJKLMNOP"; *at; at++) {
		await(&to, UART_LSR, UART_LSR_DR, UART_LSR_DR);
		assert_int_equal(get(&to, UART_RBR), *at);
	}
	stream_free(&stream);
	unmake(&to);
}

/* Who was at the other end isn't any more: the driver is told as ever. */
static void the_carrier_is_lost(void **state)
{
	struct port *from = *state, to;

	make(&to, "serial,line=unix:/");
	enable_interrupt(&to);
	connect_peer(from);
	await(from, UART_MSR, UART_MSR_DCD | UART_MSR_DDCD, UART_MSR_DCD);
	put(from, UART_IER, UART_IER_EDSSI);
	move(from, &to);
	assert_true(interrupted(&to));
	assert_int_equal(get(&to, UART_IIR) & 0x0f, UART_IIR_MODEM_STATUS);
	assert_int_equal(get(&to, UART_MSR), UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DDCD);
	unmake(&to);
}

/* Stopped, it takes nobody, reads nothing and raises nothing. */
static void it_is_still(void **state)
{
	struct port *port = *state;

	enable_interrupt(port);
	put(port, UART_IER, UART_IER_ERBFI | UART_IER_EDSSI);
	assert_int_equal(go(port, VFIO_DEVICE_STATE_RUNNING_P2P), 0);
	connect_peer(port);
	say(port, "x");
	usleep(20000);
	assert_false(interrupted(port));
	assert_int_equal(get(port, UART_MSR), UART_MSR_CTS | UART_MSR_DSR);
	assert_int_equal(get(port, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(go(port, VFIO_DEVICE_STATE_RUNNING), 0);
	await(port, UART_LSR, UART_LSR_DR, UART_LSR_DR);
	assert_int_equal(get(port, UART_RBR), 'x');
	assert_true(interrupted(port));
	/* A reset ends it as well. */
	assert_int_equal(go(port, VFIO_DEVICE_STATE_STOP), 0);
	assert_int_equal(uvf_device_reset(port->dev, UVF_RESET_DEVICE), 0);
	write_command(port, PCI_COMMAND_IO);
	say(port, "y");
	await(port, UART_LSR, UART_LSR_DR, UART_LSR_DR);
	assert_int_equal(get(port, UART_RBR), 'y');
}

/* Of a state that was taken over and then given up by a reset nothing reaches the line. */
static void a_reset_gives_up(void **state)
{
	struct port *from = *state, to;
	struct stream stream;

	make(&to, "serial,line=unix:/");
	start(from);
	connect_peer(from);
	await(from, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	fill(from);
	stream_save(from->dev, &stream);
	assert_int_equal(go(&to, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(uvf_migration_write(to.dev, stream.bytes, stream.size), stream.size);
	assert_int_equal(go(&to, VFIO_DEVICE_STATE_STOP), 0);
	assert_int_equal(uvf_device_reset(to.dev, UVF_RESET_DEVICE), 0);
	write_command(&to, PCI_COMMAND_IO);
	connect_peer(&to);
	await(&to, UART_MSR, UART_MSR_DCD, UART_MSR_DCD);
	put_text(&to, "new");
	hear(&to, "new");
	stream_free(&stream);
	unmake(&to);
}

/* Moved over and over while bytes come and go. */
static void beside_its_thread(void **state)
{
	struct port from, to;

	make(&from, "serial,line=unix:/");
	make(&to, "serial,line=unix:/");
	connect_peer(&from);
	for (unsigned round = 0; round < 200; round++) {
		char ignored[4096];

		put_text(&from, "some text to send");
		say(&from, "some text to receive");
		move(&from, &to);
		while (recv(from.peer, ignored, sizeof(ignored), MSG_DONTWAIT) > 0)
			;
		put(&from, UART_FCR, random_below(2) ? UART_FCR_ENABLE : 0);
	}
	unmake(&from);
	unmake(&to);
}

/* What the thread was about to send when it was stopped isn't there any more when it goes on. */
static void beside_a_thread_that_sends(void **state)
{
	struct port from, to;
	struct stream stream;

	make_pair(&from, &to);
	stream_save(from.dev, &stream);
	for (unsigned round = 0; round < 30000; round++) {
		put(&to, UART_THR, 'x');
		assert_int_equal(stream_load(to.dev, &stream), 0);
	}
	await(&to, UART_LSR, UART_LSR_TEMT, UART_LSR_TEMT);
	stream_free(&stream);
	unmake_pair(&from, &to);
}

/* ---- What is refused ---- */

static void refuse(struct port *to, struct stream *changed)
{
	stream_seal(changed);
	assert_int_equal(stream_load(to->dev, changed), -EINVAL);
	assert_int_equal(uvf_device_reset(to->dev, UVF_RESET_DEVICE), 0);
	write_command(to, PCI_COMMAND_IO);
	assert_int_equal(get(to, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(get(to, UART_IIR), UART_IIR_NONE);
	stream_free(changed);
}

static void refusals(void **state)
{
	struct port from, to;
	struct stream good, bad;
	uint8_t *many = calloc(1, 4097);

	make_pair(&from, &to);
	received(&from);
	stream_save(from.dev, &good);

	bad = stream_copy(&good);
	uvf_put_le16(bad.bytes + 12, 2);
	refuse(&to, &bad);
	bad = stream_copy(&good);
	uvf_put_le16(bad.bytes + 8, 2);
	refuse(&to, &bad);
	bad = stream_copy(&good);
	memcpy(bad.bytes + 16, "ioat", 5);
	refuse(&to, &bad);
	bad = stream_copy(&good);
	*stream_field(&bad, "fifo", 0, 1) = 17;
	refuse(&to, &bad);
	bad = stream_copy(&good);
	*stream_field(&bad, "serial", 0, 8) = 0; /* without FIFOs there is room for one */
	refuse(&to, &bad);
	for (unsigned trigger = 0; trigger < 256; trigger += 51) {
		bad = stream_copy(&good);
		*stream_field(&bad, "serial", 0, 7) = (uint8_t)trigger;
		refuse(&to, &bad);
	}
	bad = stream_copy(&good);
	memcpy(stream_find(&bad, "fifo", 1), "unknown", 8);
	refuse(&to, &bad);
	bad = stream_copy(&good);
	memcpy(stream_find(&bad, "output", 0), "input\0", 7); /* a second one of another size */
	stream_add(&bad, "output", 0, many, 4097);
	refuse(&to, &bad);
	bad = stream_copy(&good);
	memcpy(stream_find(&bad, "input", 0), "output", 7);
	stream_add(&bad, "input", 0, many, 17);
	refuse(&to, &bad);

	/* A newer minor version, a section and bits that nobody knows do no harm. */
	bad = stream_copy(&good);
	uvf_put_le16(bad.bytes + 14, 9);
	*stream_field(&bad, "serial", 0, 1) = 0xff;
	*stream_field(&bad, "serial", 0, 3) = 0xff;
	stream_add(&bad, "of the future", 1, many, 100);
	assert_int_equal(stream_load(to.dev, &bad), 0);
	assert_int_equal(get(&to, UART_IER), UART_IER_ALL);
	assert_int_equal(get(&to, UART_MCR), UART_MCR_ALL);
	stream_free(&bad);
	stream_free(&good);
	free(many);
	unmake_pair(&from, &to);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_state),
		cmocka_unit_test(any_state),
		cmocka_unit_test(a_pending_interrupt),
		TEST(output_moves),
		TEST(the_source_goes_on),
		cmocka_unit_test(input_moves),
		TEST(input_waits_for_room),
		TEST(the_carrier_is_lost),
		TEST(it_is_still),
		TEST(a_reset_gives_up),
		cmocka_unit_test(beside_its_thread),
		cmocka_unit_test(beside_a_thread_that_sends),
		cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
