/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migration: the UART moves, and the bytes that are between it and the line: those that the driver
 * has sent and the line has not taken, and those that were read from the line and not received. The
 * line itself stays: its other end connects, or is opened, anew where the port goes to, and gets
 * there what the first one had not; a change of carrier is a change of DCD as ever.
 */
#include <errno.h>
#include <string.h>

#include "devices/serial/serial.h"

static const char *const sections[] = {"serial", "fifo", "output", "input", NULL};

enum { RECEIVER, TRANSMITTER };

static const struct uvf_state_field uart_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U8, struct uart, ier),
	UVF_STATE_FIELD(2, UVF_FIELD_U8, struct uart, lcr),
	UVF_STATE_FIELD(3, UVF_FIELD_U8, struct uart, mcr),
	UVF_STATE_FIELD(4, UVF_FIELD_U8, struct uart, scr),
	UVF_STATE_FIELD(5, UVF_FIELD_U8, struct uart, dll),
	UVF_STATE_FIELD(6, UVF_FIELD_U8, struct uart, dlm),
	UVF_STATE_FIELD(7, UVF_FIELD_U8, struct uart, trigger),
	UVF_STATE_FIELD(8, UVF_FIELD_BOOL, struct uart, fifos),
	UVF_STATE_FIELD(9, UVF_FIELD_BOOL, struct uart, thr_empty),
	UVF_STATE_FIELD(10, UVF_FIELD_U8, struct uart, line_errors),
	UVF_STATE_FIELD(11, UVF_FIELD_U8, struct uart, modem),
	{0},
};

/* The oldest byte first. */
struct queue {
	uint8_t count;
	uint8_t bytes[UART_FIFO_SIZE], errors[UART_FIFO_SIZE];
};

static const struct uvf_state_field queue_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U8, struct queue, count),
	UVF_STATE_FIELD(2, UVF_FIELD_BYTES, struct queue, bytes),
	UVF_STATE_FIELD(3, UVF_FIELD_BYTES, struct queue, errors),
	{0},
};

/* ---- Saving ---- */

static int save_fifo(struct uvf_state_writer *writer, uint32_t which, const struct uart_fifo *fifo)
{
	struct queue queue = {.count = (uint8_t)fifo->count};

	for (unsigned i = 0; i < fifo->count; i++) {
		queue.bytes[i] = fifo->bytes[(fifo->head + i) % UART_FIFO_SIZE];
		queue.errors[i] = fifo->errors[(fifo->head + i) % UART_FIFO_SIZE];
	}
	return uvf_state_write(writer,
			       (struct uvf_state_section){.name = "fifo", .instance = which},
			       queue_fields, &queue);
}

static int save_bytes(struct uvf_state_writer *writer, const char *name, const uint8_t *bytes,
		      size_t count)
{
	return uvf_state_write_bytes(writer, (struct uvf_state_section){.name = name}, bytes,
				     count);
}

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct serial *serial = uvf_device_opaque(dev);
	int ret = uvf_state_write(writer, (struct uvf_state_section){.name = "serial"}, uart_fields,
				  &serial->uart);

	if (!ret)
		ret = save_fifo(writer, RECEIVER, &serial->uart.receiver);
	if (!ret)
		ret = save_fifo(writer, TRANSMITTER, &serial->uart.transmitter);
	if (!ret)
		ret = save_bytes(writer, "output", serial->output, serial->output_count);
	if (!ret)
		ret = save_bytes(writer, "input", serial->input, serial->input_count);
	return ret;
}

/* ---- Loading ---- */

static int read_fifo(struct uvf_state_reader *reader, uint32_t which, const struct uart *uart,
		     struct uart_fifo *fifo)
{
	unsigned most = uart->fifos ? UART_FIFO_SIZE : 1;
	struct queue queue = {0};
	int ret = uvf_state_read(reader, "fifo", which, queue_fields, &queue);

	if (ret)
		return ret;
	if (queue.count > most)
		return -EINVAL;
	*fifo = (struct uart_fifo){.count = queue.count};
	memcpy(fifo->bytes, queue.bytes, sizeof(fifo->bytes));
	for (unsigned i = 0; i < queue.count; i++)
		fifo->errors[i] = queue.errors[i] & UART_LSR_BYTE_ERRORS;
	return 0;
}

/* @uart is as after a reset. */
static int read_uart(struct uvf_state_reader *reader, struct uart *uart)
{
	int ret = uvf_state_read(reader, "serial", 0, uart_fields, uart);

	if (!ret)
		ret = read_fifo(reader, RECEIVER, uart, &uart->receiver);
	if (!ret)
		ret = read_fifo(reader, TRANSMITTER, uart, &uart->transmitter);
	if (ret)
		return ret;
	/* What is no register's bit is none there either. */
	uart->ier &= UART_IER_ALL;
	uart->mcr &= UART_MCR_ALL;
	uart->line_errors &= UART_LSR_OE | UART_LSR_BYTE_ERRORS;
	return uart->trigger && uart->trigger < UART_FIFO_SIZE ? 0 : -EINVAL;
}

/* At most @most bytes; none is none. */
static ssize_t read_bytes(struct uvf_state_reader *reader, const char *name, size_t most,
			  const void **bytes)
{
	ssize_t size = uvf_state_read_bytes(reader, name, 0, bytes);

	if (size == -ENOENT)
		return 0;
	return size > (ssize_t)most ? -EINVAL : size;
}

static int check(struct uvf_device *dev, struct uvf_state_reader *reader, struct uvf_error *error)
{
	const void *ignored;
	struct uart uart = {0};

	uart_reset(&uart);
	if (read_uart(reader, &uart))
		return uvf_fail(error, -EINVAL, "its registers make no sense");
	if (read_bytes(reader, "output", OUTPUT_SIZE, &ignored) < 0 ||
	    read_bytes(reader, "input", UART_FIFO_SIZE, &ignored) < 0)
		return uvf_fail(error, -EINVAL, "more bytes are on their way than there can be");
	return 0;
}

static int load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	struct serial *serial = uvf_device_opaque(dev);
	const void *output = NULL, *input = NULL;
	ssize_t output_size = read_bytes(reader, "output", OUTPUT_SIZE, &output);
	ssize_t input_size = read_bytes(reader, "input", UART_FIFO_SIZE, &input);
	bool carrier = serial->uart.carrier;
	struct uart uart = {.carrier = carrier};

	uart_reset(&uart);
	if (read_uart(reader, &uart) || output_size < 0 || input_size < 0)
		return -EINVAL;
	serial->uart = uart;
	/* Who is at the other end is so here, and a change of it is one for the driver. */
	uart_set_carrier(&serial->uart, carrier);
	if (output_size)
		memcpy(serial->output, output, (size_t)output_size);
	if (input_size)
		memcpy(serial->input, input, (size_t)input_size);
	serial->output_count = (size_t)output_size;
	serial->moved = (size_t)output_size;
	serial->input_count = (size_t)input_size;
	serial->loaded = true;
	return 0;
}

const struct uvf_migration_ops serial_migration = {
	.name = "serial",
	.major = 1,
	.sections = sections,
	.quiesce = serial_quiesce,
	.unquiesce = serial_unquiesce,
	.save = save,
	.check = check,
	.load = load,
};
