/* SPDX-License-Identifier: BSD-3-Clause */
/* The serial port as its driver sees it: identity, registers, FIFOs, interrupts. */
#include "serial_rig.h"

#include <errno.h>

#define DLAB UART_LCR_DLAB

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
