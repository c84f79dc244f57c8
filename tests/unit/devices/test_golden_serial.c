/* SPDX-License-Identifier: BSD-3-Clause */
/* A serial port's state as releases wrote it: see golden.h. */
#include "serial_rig.h"

#include "golden.h"

static const char *const releases[] = {"0.1.0"};

/* Bytes and a break received, two interrupts pending, something sent that nobody took. */
static void prepare(struct port *port)
{
	start(port);
	put(port, UART_LCR, UART_LCR_DLAB | 0x1b);
	put(port, UART_DLL, 0x34);
	put(port, UART_DLM, 0x12);
	put(port, UART_LCR, 0x1b);
	put(port, UART_SCR, 0xa5);
	put(port, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2);
	put_text(port, "ab");
	put(port, UART_LCR, UART_LCR_BREAK | 0x1b);
	put_text(port, "c");
	put(port, UART_LCR, 0x1b);
	assert_int_equal(uvf_migration_set_state(port->dev, VFIO_DEVICE_STATE_RUNNING_P2P), 0);
	put(port, UART_MCR, UART_MCR_DTR | UART_MCR_RTS);
	put_text(port, "on its way");
	put(port, UART_IER, UART_IER_ALL);
}

static void make_stream(struct stream *stream)
{
	struct port port;

	make(&port, "serial,line=file:/dev/null");
	prepare(&port);
	stream_save(port.dev, stream);
	unmake(&port);
}

static void expect(struct port *port)
{
	char text[16] = "";

	port->peer = open(port->path, O_RDONLY | O_CLOEXEC);
	for (int tries = 0; tries < 10000 && pread(port->peer, text, 15, 0) < 10; tries++)
		usleep(1000);
	assert_string_equal(text, "on its way");
	assert_int_equal(get(port, UART_SCR), 0xa5);
	assert_int_equal(get(port, UART_MCR), UART_MCR_DTR | UART_MCR_RTS);
	assert_int_equal(get(port, UART_LCR), 0x1b);
	assert_int_equal(get(port, UART_IER), UART_IER_ALL);
	assert_int_equal(get(port, UART_IIR), UART_IIR_FIFOS | UART_IIR_TIMEOUT);
	assert_int_equal(get(port, UART_RBR), 'a');
	assert_int_equal(get(port, UART_RBR), 'b');
	assert_int_equal(get(port, UART_IIR), UART_IIR_FIFOS | UART_IIR_LINE_STATUS);
	assert_int_equal(get(port, UART_LSR) & (UART_LSR_BI | UART_LSR_FE | UART_LSR_OE),
			 UART_LSR_BI | UART_LSR_FE);
	assert_int_equal(get(port, UART_RBR), 0);
	assert_int_equal(get(port, UART_RBR), 'c');
	put(port, UART_LCR, UART_LCR_DLAB);
	assert_int_equal(get(port, UART_DLL), 0x34);
	assert_int_equal(get(port, UART_DLM), 0x12);
}

static void as_it_was(void **state)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(releases); i++) {
		struct stream stream = golden_read("serial", releases[i]);
		struct port port;

		make(&port, "serial,line=file:/");
		assert_int_equal(stream_load(port.dev, &stream), 0);
		expect(&port);
		unlink(port.path);
		unmake(&port);
		stream_free(&stream);
	}
}

static void works(void *opaque)
{
	struct port *port = opaque;

	write_command(port, PCI_COMMAND_IO);
	assert_int_equal(get(port, UART_IIR), UART_IIR_NONE);
	assert_int_equal(get(port, UART_SCR), 0);
	assert_int_equal(get(port, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	loop(port);
	put_text(port, "x");
	assert_int_equal(get(port, UART_RBR), 'x');
}

static void damaged(void **state)
{
	struct stream stream = golden_read("serial", releases[UVF_ARRAY_SIZE(releases) - 1]);
	struct port port;

	make(&port, "serial,line=file:/dev/null");
	golden_damage(&(struct golden_victim){port.dev, works, &port}, &stream);
	golden_extend(&(struct golden_victim){port.dev, works, &port}, &stream);
	unmake(&port);
	stream_free(&stream);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_it_was),
		cmocka_unit_test(damaged),
	};

	if (argc == 4 && !strcmp(argv[1], "--make"))
		return golden_make(argv, "serial", make_stream);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
