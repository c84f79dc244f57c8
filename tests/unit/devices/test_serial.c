/* SPDX-License-Identifier: BSD-3-Clause */
/* The serial port as its driver sees it, and its lines from the other side. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uvfio/client.h>
#include <uvfio/model.h>

#include "base/bytes.h"
#include "devices/serial/uart.h"

#define DLAB UART_LCR_DLAB

struct port {
	struct uvf_device *dev;
	char directory[32];
	char path[48]; /* of the line's socket, link or file */
	int peer;
	int irq;
};

/* ---- Driving ---- */

static uint8_t get(struct port *port, unsigned offset)
{
	uint8_t value;

	assert_int_equal(uvf_region_read(port->dev, 0, offset, &value, 1), 1);
	return value;
}

static void put(struct port *port, unsigned offset, uint8_t value)
{
	assert_int_equal(uvf_region_write(port->dev, 0, offset, &value, 1), 1);
}

static void put_text(struct port *port, const char *text)
{
	for (; *text; text++)
		put(port, UART_THR, (uint8_t)*text);
}

static void write_command(struct port *port, uint16_t value)
{
	uint8_t bytes[2];

	uvf_put_le16(bytes, value);
	assert_int_equal(
		uvf_region_write(port->dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, bytes, 2),
		2);
}

/* As a driver starts: FIFOs on with a trigger of 8. */
static void start(struct port *port)
{
	put(port, UART_FCR, UART_FCR_ENABLE | 2 << UART_FCR_TRIGGER_SHIFT);
}

static void loop(struct port *port)
{
	start(port);
	put(port, UART_MCR, UART_MCR_LOOP);
	(void)get(port, UART_MSR);
}

/* Another thread brings what is awaited; ten seconds is "never". */
static void await(struct port *port, unsigned offset, uint8_t mask, uint8_t value)
{
	for (int tries = 0; tries < 10000; tries++) {
		if ((get(port, offset) & mask) == value)
			return;
		usleep(1000);
	}
	fail_msg("register %u never had 0x%x in 0x%x", offset, value, mask);
}

static bool interrupted(struct port *port)
{
	eventfd_t count;

	return !eventfd_read(port->irq, &count);
}

static void enable_interrupt(struct port *port)
{
	struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_INTX_IRQ_INDEX,
		.count = 1,
		.fds = &port->irq,
	};

	assert_int_equal(uvf_irq_set(port->dev, &set), 0);
}

static void unmask(struct port *port)
{
	struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = VFIO_PCI_INTX_IRQ_INDEX,
		.count = 1,
	};

	assert_int_equal(uvf_irq_set(port->dev, &set), 0);
}

static void say(struct port *port, const char *text)
{
	assert_int_equal(write(port->peer, text, strlen(text)), strlen(text));
}

static void hear(struct port *port, const char *text)
{
	char buffer[64] = "";
	size_t length = strlen(text), got = 0;
	struct pollfd fd = {port->peer, POLLIN, 0};

	while (got < length) {
		assert_int_equal(poll(&fd, 1, 10000), 1);
		ssize_t part = read(port->peer, buffer + got, length - got);

		assert_true(part > 0);
		got += (size_t)part;
	}
	assert_string_equal(buffer, text);
}

/* ---- Making ---- */

static void connect_peer(struct port *port)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, port->path);
	port->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(port->peer, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void make(struct port *port, const char *format)
{
	struct uvf_error error;
	char spec[128];

	*port = (struct port){.peer = -1};
	strcpy(port->directory, "/tmp/uvfio-serial-XXXXXX");
	assert_non_null(mkdtemp(port->directory));
	snprintf(port->path, sizeof(port->path), "%s/line", port->directory);
	strcpy(spec, format);
	if (strchr(format, '=') && format[strlen(format) - 1] == '/') {
		spec[strlen(spec) - 1] = '\0';
		strcat(spec, port->path);
	}
	port->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (uvf_model_create(spec, &port->dev, &error))
		fail_msg("%s", error.text);
	assert_int_equal(uvf_device_open(port->dev), 0);
	write_command(port, PCI_COMMAND_IO);
}

static void unmake(struct port *port)
{
	uvf_device_close(port->dev);
	uvf_device_free(port->dev);
	close(port->irq);
	if (port->peer >= 0)
		close(port->peer);
	assert_int_equal(rmdir(port->directory), 0);
}

static int setup(void **state)
{
	struct port *port = calloc(1, sizeof(*port));

	make(port, "serial,line=unix:/");
	*state = port;
	return 0;
}

static int teardown(void **state)
{
	unmake(*state);
	free(*state);
	return 0;
}

/* ---- Identity ---- */

static void identity(void **state)
{
	struct port *port = *state;
	uint8_t header[64];
	struct uvf_region_info region;
	struct uvf_irq_info irq;

	assert_int_equal(uvf_region_read(port->dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, header, 64),
			 64);
	assert_int_equal(uvf_get_le16(header + PCI_VENDOR_ID), 0x1b36);
	assert_int_equal(uvf_get_le16(header + PCI_DEVICE_ID), 0x0002);
	assert_int_equal(uvf_get_le32(header + PCI_CLASS_REVISION) >> 8, 0x070002);
	assert_int_equal(header[PCI_INTERRUPT_PIN], 1);
	assert_int_equal(uvf_region_get_info(port->dev, 0, &region), 0);
	assert_int_equal(region.size, 8);
	assert_int_equal(region.area_count, 0);
	assert_int_equal(uvf_irq_get_info(port->dev, VFIO_PCI_INTX_IRQ_INDEX, &irq), 0);
	assert_int_equal(irq.count, 1);
	assert_true(irq.flags & VFIO_IRQ_INFO_AUTOMASKED);
}

static void initial_values(void **state)
{
	struct port *port = *state;

	assert_int_equal(get(port, UART_IER), 0);
	assert_int_equal(get(port, UART_IIR), UART_IIR_NONE);
	assert_int_equal(get(port, UART_LCR), 0);
	assert_int_equal(get(port, UART_MCR), 0);
	assert_int_equal(get(port, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(get(port, UART_MSR), UART_MSR_CTS | UART_MSR_DSR);
	assert_int_equal(get(port, UART_SCR), 0);
	assert_int_equal(get(port, UART_RBR), 0);
}

static void outside_is_refused(void **state)
{
	struct port *port = *state;
	uint32_t value = 0;

	assert_int_equal(uvf_region_read(port->dev, 0, 6, &value, 4), -EINVAL);
	assert_int_equal(uvf_region_write(port->dev, 0, 6, &value, 4), -EINVAL);
	assert_int_equal(uvf_region_read(port->dev, 0, 8, &value, 1), -EINVAL);
	assert_int_equal(uvf_region_read(port->dev, 0, UINT64_MAX, &value, 4), -EINVAL);
}

static void wide_accesses_are_bytes(void **state)
{
	struct port *port = *state;
	uint8_t bytes[8];

	/* LCR, MCR, then LSR and MSR, which ignore it, then nothing of SCR. */
	assert_int_equal(uvf_region_write(port->dev, 0, UART_LCR, "\x1f\x03\xff\xff", 4), 4);
	assert_int_equal(uvf_region_read(port->dev, 0, 0, bytes, 8), 8);
	assert_int_equal(bytes[UART_LCR], 0x1f);
	assert_int_equal(bytes[UART_MCR], 0x03);
	assert_int_equal(bytes[UART_LSR], UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(bytes[UART_SCR], 0);
	/* A byte of a wide access sees what the byte before it did. */
	loop(port);
	put_text(port, "x");
	assert_int_equal(uvf_region_read(port->dev, 0, 0, bytes, 8), 8);
	assert_int_equal(bytes[UART_RBR], 'x');
	assert_false(bytes[UART_LSR] & UART_LSR_DR);
}

/* ---- Registers ---- */

static void plain_registers(void **state)
{
	struct port *port = *state;
	static const struct {
		unsigned offset;
		uint8_t keeps;
	} cases[] = {
		{UART_IER, 0x0f},
		{UART_LCR, 0x7f},
		{UART_MCR, 0x1f},
		{UART_SCR, 0xff},
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(cases); i++) {
		put(port, cases[i].offset, 0xff & ~DLAB);
		assert_int_equal(get(port, cases[i].offset), cases[i].keeps & ~DLAB);
		put(port, cases[i].offset, 0);
		assert_int_equal(get(port, cases[i].offset), 0);
	}
	put(port, UART_SCR, 0xa5);
	assert_int_equal(get(port, UART_SCR), 0xa5);
}

static void divisor(void **state)
{
	struct port *port = *state;

	put(port, UART_IER, 0x05);
	put(port, UART_LCR, DLAB | 3);
	put(port, UART_DLL, 0x34);
	put(port, UART_DLM, 0x12);
	assert_int_equal(get(port, UART_DLL), 0x34);
	assert_int_equal(get(port, UART_DLM), 0x12);
	put(port, UART_LCR, 3);
	assert_int_equal(get(port, UART_IER), 0x05);
	assert_int_equal(get(port, UART_RBR), 0);
}

static void read_only_registers(void **state)
{
	struct port *port = *state;

	put(port, UART_LSR, 0xff);
	put(port, UART_MSR, 0xff);
	assert_int_equal(get(port, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(get(port, UART_MSR), UART_MSR_CTS | UART_MSR_DSR);
}

static void fifo_control(void **state)
{
	struct port *port = *state;

	/* Without the enable bit the others are not taken. */
	put(port, UART_FCR, 0xc6);
	assert_int_equal(get(port, UART_IIR), UART_IIR_NONE);
	put(port, UART_FCR, UART_FCR_ENABLE);
	assert_int_equal(get(port, UART_IIR), UART_IIR_FIFOS | UART_IIR_NONE);
	loop(port);
	put_text(port, "abc");
	put(port, UART_FCR, UART_FCR_ENABLE | UART_FCR_RESET_RECEIVER);
	assert_false(get(port, UART_LSR) & UART_LSR_DR);
	put_text(port, "abc");
	put(port, UART_FCR, 0);
	assert_false(get(port, UART_LSR) & UART_LSR_DR);
	assert_int_equal(get(port, UART_IIR), UART_IIR_NONE);
}

/* ---- Receiver and transmitter, in loopback ---- */

static void triggers(void **state)
{
	static const unsigned levels[] = {1, 4, 8, 14};
	struct port *port = *state;

	loop(port);
	put(port, UART_IER, UART_IER_ERBFI);
	for (unsigned code = 0; code < 4; code++) {
		put(port, UART_FCR,
		    (uint8_t)(UART_FCR_ENABLE | UART_FCR_RESET_RECEIVER |
			      code << UART_FCR_TRIGGER_SHIFT));
		for (unsigned count = 1; count <= 16; count++) {
			put(port, UART_THR, (uint8_t)count);
			assert_int_equal(get(port, UART_IIR) & 0x0f,
					 count < levels[code] ? UART_IIR_TIMEOUT
							      : UART_IIR_RECEIVED_DATA);
		}
		for (unsigned count = 1; count <= 16; count++)
			assert_int_equal(get(port, UART_RBR), count);
		assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_NONE);
	}
}

static void overrun(void **state)
{
	struct port *port = *state;

	loop(port);
	put_text(port, "0123456789abcdef");
	assert_int_equal(get(port, UART_LSR) & UART_LSR_OE, 0);
	put_text(port, "X");
	assert_int_equal(get(port, UART_LSR) & UART_LSR_OE, UART_LSR_OE);
	assert_int_equal(get(port, UART_LSR) & UART_LSR_OE, 0);
	for (const char *at = "0123456789abcdef"; *at; at++)
		assert_int_equal(get(port, UART_RBR), *at);
	assert_false(get(port, UART_LSR) & UART_LSR_DR);
	/* Without FIFOs the newer byte wins. */
	put(port, UART_FCR, 0);
	put_text(port, "pq");
	assert_int_equal(get(port, UART_LSR) & (UART_LSR_OE | UART_LSR_DR),
			 UART_LSR_OE | UART_LSR_DR);
	assert_int_equal(get(port, UART_RBR), 'q');
	assert_false(get(port, UART_LSR) & UART_LSR_DR);
}

static void a_break(void **state)
{
	const uint8_t bits = UART_LSR_BI | UART_LSR_FE | UART_LSR_FIFO_ERROR;
	struct port *port = *state;

	loop(port);
	put_text(port, "a");
	put(port, UART_LCR, UART_LCR_BREAK);
	put_text(port, "b");
	/* The error shows when its byte is the oldest; that there is one shows at once. */
	assert_int_equal(get(port, UART_LSR) & bits, UART_LSR_FIFO_ERROR);
	assert_int_equal(get(port, UART_RBR), 'a');
	assert_int_equal(get(port, UART_LSR) & bits, bits);
	assert_int_equal(get(port, UART_LSR) & bits, 0);
	assert_int_equal(get(port, UART_RBR), 0);
	assert_int_equal(get(port, UART_RBR), 'b');
	/* Staying in break isn't another one, and on the real line nobody hears it. */
	put(port, UART_LCR, UART_LCR_BREAK | 3);
	assert_false(get(port, UART_LSR) & UART_LSR_DR);
	put(port, UART_LCR, 0);
	put(port, UART_MCR, 0);
	put(port, UART_LCR, UART_LCR_BREAK);
	assert_false(get(port, UART_LSR) & UART_LSR_DR);
}

static void modem_loopback(void **state)
{
	static const struct {
		uint8_t mcr, msr;
	} steps[] = {
		/* RI's delta is its trailing edge. */
		{UART_MCR_DTR, UART_MSR_DSR | UART_MSR_DDSR},
		{UART_MCR_DTR | UART_MCR_RTS, UART_MSR_DSR | UART_MSR_CTS | UART_MSR_DCTS},
		{UART_MCR_OUT1, UART_MSR_RI | UART_MSR_DDSR | UART_MSR_DCTS},
		{UART_MCR_OUT2, UART_MSR_DCD | UART_MSR_DDCD | UART_MSR_TERI},
		{UART_MCR_OUT2, UART_MSR_DCD},
		{0, UART_MSR_DDCD},
	};
	struct port *port = *state;

	loop(port);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(steps); i++) {
		put(port, UART_MCR, UART_MCR_LOOP | steps[i].mcr);
		assert_int_equal(get(port, UART_MSR), steps[i].msr);
	}
	/* How Linux looks for a UART. */
	put(port, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(get(port, UART_MSR) & 0xf0, 0x90);
}

/* ---- Interrupts ---- */

static void thr_empty_interrupt(void **state)
{
	struct port *port = *state;

	start(port);
	put(port, UART_IER, UART_IER_ETBEI);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_THR_EMPTY);
	/* Reading its identity ended it. */
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_NONE);
	/* Writing the same again doesn't bring it back, off and on does. */
	put(port, UART_IER, UART_IER_ETBEI);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_NONE);
	put(port, UART_IER, 0);
	put(port, UART_IER, UART_IER_ETBEI);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_THR_EMPTY);
	/* So does a byte that has gone. */
	put_text(port, "x");
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_THR_EMPTY);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_NONE);
}

static void priorities(void **state)
{
	struct port *port = *state;

	loop(port);
	put(port, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	put_text(port, "0123456789abcdefX");
	put(port, UART_IER, UART_IER_ALL);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_LINE_STATUS);
	(void)get(port, UART_LSR);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_RECEIVED_DATA);
	for (int i = 0; i < 9; i++)
		(void)get(port, UART_RBR);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_TIMEOUT);
	for (int i = 0; i < 7; i++)
		(void)get(port, UART_RBR);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_THR_EMPTY);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_MODEM_STATUS);
	(void)get(port, UART_MSR);
	assert_int_equal(get(port, UART_IIR) & 0x0f, UART_IIR_NONE);
}

static void each_enable_bit(void **state)
{
	static const struct {
		uint8_t ier, identity;
	} cases[] = {
		{UART_IER_ELSI, UART_IIR_LINE_STATUS},
		{UART_IER_ERBFI, UART_IIR_RECEIVED_DATA},
		{UART_IER_ETBEI, UART_IIR_THR_EMPTY},
		{UART_IER_EDSSI, UART_IIR_MODEM_STATUS},
		{0, UART_IIR_NONE},
	};
	struct port *port = *state;

	loop(port);
	put(port, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	put_text(port, "0123456789abcdefX");
	for (size_t i = 0; i < UVF_ARRAY_SIZE(cases); i++) {
		put(port, UART_IER, cases[i].ier);
		assert_int_equal(get(port, UART_IIR) & 0x0f, cases[i].identity);
	}
}

static void the_pin(void **state)
{
	struct port *port = *state;

	enable_interrupt(port);
	loop(port);
	put_text(port, "ab");
	assert_false(interrupted(port));
	put(port, UART_IER, UART_IER_ERBFI);
	assert_true(interrupted(port));
	/* Masked by having been signalled; still asserted when unmasked. */
	assert_int_equal(get(port, UART_RBR), 'a');
	assert_false(interrupted(port));
	unmask(port);
	assert_true(interrupted(port));
	assert_int_equal(get(port, UART_RBR), 'b');
	unmask(port);
	assert_false(interrupted(port));
}

static void reset(void **state)
{
	struct port *port = *state;

	enable_interrupt(port);
	loop(port);
	put(port, UART_SCR, 0x55);
	put_text(port, "0123456789abcdefX");
	put(port, UART_IER, UART_IER_ALL);
	put(port, UART_LCR, DLAB);
	assert_int_equal(uvf_device_reset(port->dev, UVF_RESET_DEVICE), 0);
	write_command(port, PCI_COMMAND_IO);
	initial_values(state);
}

static void gated_by_the_command_register(void **state)
{
	struct port *port = *state;
	uint8_t value = 0x5a;

	put(port, UART_SCR, value);
	write_command(port, 0);
	(void)uvf_region_write(port->dev, 0, UART_SCR, "\x77", 1);
	if (uvf_region_read(port->dev, 0, UART_SCR, &value, 1) == 1)
		assert_int_equal(value, 0xff);
	write_command(port, PCI_COMMAND_IO);
	assert_int_equal(get(port, UART_SCR), 0x5a);
}

/* ---- Lines ---- */

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
		TEST(identity),
		TEST(initial_values),
		TEST(outside_is_refused),
		TEST(wide_accesses_are_bytes),
		TEST(plain_registers),
		TEST(divisor),
		TEST(read_only_registers),
		TEST(fifo_control),
		TEST(triggers),
		TEST(overrun),
		TEST(a_break),
		TEST(modem_loopback),
		TEST(thr_empty_interrupt),
		TEST(priorities),
		TEST(each_enable_bit),
		TEST(the_pin),
		TEST(reset),
		TEST(gated_by_the_command_register),
		TEST(a_socket_both_ways),
		TEST(a_peer_goes_and_the_next_comes),
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
