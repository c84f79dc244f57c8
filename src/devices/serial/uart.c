/* SPDX-License-Identifier: BSD-3-Clause */
/* A 16550A as a state machine: registers and FIFOs, with no clock, no thread and no line. */
#include "devices/serial/uart.h"

#include <assert.h>

#define DELTAS (UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_TERI | UART_MSR_DDCD)
/* Divisor for 9600 baud from the usual 1.8432 MHz clock. */
#define RESET_DIVISOR 12

/* ---- FIFOs ---- */

static void fifo_push(struct uart_fifo *fifo, uint8_t byte, uint8_t errors)
{
	unsigned tail = (fifo->head + fifo->count) % UART_FIFO_SIZE;

	fifo->bytes[tail] = byte;
	fifo->errors[tail] = errors;
	fifo->count++;
}

static uint8_t fifo_pop(struct uart_fifo *fifo)
{
	uint8_t byte = fifo->bytes[fifo->head];

	fifo->head = (fifo->head + 1) % UART_FIFO_SIZE;
	fifo->count--;
	return byte;
}

static void fifo_clear(struct uart_fifo *fifo)
{
	*fifo = (struct uart_fifo){0};
}

/* Without FIFOs both directions still have their one holding register. */
static unsigned fifo_capacity(const struct uart *uart)
{
	return uart->fifos ? UART_FIFO_SIZE : 1;
}

/* ---- Receiver ---- */

/* The errors of the byte that is now the oldest show in LSR. */
static void reveal_errors(struct uart *uart)
{
	if (uart->receiver.count)
		uart->line_errors |= uart->receiver.errors[uart->receiver.head];
}

static void receive_byte(struct uart *uart, uint8_t byte, uint8_t errors)
{
	struct uart_fifo *fifo = &uart->receiver;

	if (fifo->count == fifo_capacity(uart)) {
		uart->line_errors |= UART_LSR_OE;
		/* A full FIFO keeps what it has; the single register is overwritten. */
		if (uart->fifos)
			return;
		fifo_clear(fifo);
	}
	fifo_push(fifo, byte, errors);
	if (fifo->count == 1)
		reveal_errors(uart);
}

size_t uart_room(const struct uart *uart)
{
	if (uart->mcr & UART_MCR_LOOP)
		return 0;
	return fifo_capacity(uart) - uart->receiver.count;
}

void uart_receive(struct uart *uart, const uint8_t *bytes, size_t count)
{
	assert(count <= uart_room(uart));
	while (count--)
		receive_byte(uart, *bytes++, 0);
}

/* ---- Transmitter ---- */

static void set_thr_empty(struct uart *uart)
{
	if (!uart->transmitter.count)
		uart->thr_empty = true;
}

/* In loopback what is sent is received at once. */
static void loop_back(struct uart *uart)
{
	if (!(uart->mcr & UART_MCR_LOOP) || !uart->transmitter.count)
		return;
	while (uart->transmitter.count)
		receive_byte(uart, fifo_pop(&uart->transmitter), 0);
	set_thr_empty(uart);
}

size_t uart_transmit(struct uart *uart, uint8_t *bytes, size_t max)
{
	size_t count = 0;

	if ((uart->mcr & UART_MCR_LOOP) || !uart->transmitter.count)
		return 0;
	while (count < max && uart->transmitter.count)
		bytes[count++] = fifo_pop(&uart->transmitter);
	set_thr_empty(uart);
	return count;
}

/* ---- Modem ---- */

static uint8_t modem_inputs(const struct uart *uart)
{
	static const struct {
		uint8_t output, input;
	} looped[] = {
		{UART_MCR_DTR, UART_MSR_DSR},
		{UART_MCR_RTS, UART_MSR_CTS},
		{UART_MCR_OUT1, UART_MSR_RI},
		{UART_MCR_OUT2, UART_MSR_DCD},
	};
	uint8_t inputs = 0;

	if (!(uart->mcr & UART_MCR_LOOP))
		return (uint8_t)(UART_MSR_CTS | UART_MSR_DSR | (uart->carrier ? UART_MSR_DCD : 0));
	for (unsigned i = 0; i < sizeof(looped) / sizeof(looped[0]); i++)
		if (uart->mcr & looped[i].output)
			inputs |= looped[i].input;
	return inputs;
}

/* A changed input sets its delta bit, four places lower; of RI only the trailing edge counts. */
static void update_modem(struct uart *uart)
{
	uint8_t before = uart->modem & (uint8_t)~DELTAS;
	uint8_t inputs = modem_inputs(uart);
	uint8_t changed = before ^ inputs;

	changed &= (uint8_t) ~(inputs & UART_MSR_RI);
	uart->modem = (uint8_t)((uart->modem & DELTAS) | changed >> 4 | inputs);
}

void uart_set_carrier(struct uart *uart, bool carrier)
{
	uart->carrier = carrier;
	update_modem(uart);
}

/* ---- Interrupts ---- */

/* The identity of the pending interrupt of the highest priority. */
static uint8_t interrupt_identity(const struct uart *uart)
{
	unsigned received = uart->receiver.count;

	if ((uart->ier & UART_IER_ELSI) && uart->line_errors)
		return UART_IIR_LINE_STATUS;
	if ((uart->ier & UART_IER_ERBFI) && received)
		return uart->fifos && received < uart->trigger ? UART_IIR_TIMEOUT
							       : UART_IIR_RECEIVED_DATA;
	if ((uart->ier & UART_IER_ETBEI) && uart->thr_empty)
		return UART_IIR_THR_EMPTY;
	if ((uart->ier & UART_IER_EDSSI) && (uart->modem & DELTAS))
		return UART_IIR_MODEM_STATUS;
	return UART_IIR_NONE;
}

bool uart_interrupt(const struct uart *uart)
{
	return interrupt_identity(uart) != UART_IIR_NONE;
}

/* ---- Registers: one pair of functions each, and a table that finds them ---- */

static uint8_t read_rbr(struct uart *uart)
{
	uint8_t byte;

	if (!uart->receiver.count)
		return 0;
	byte = fifo_pop(&uart->receiver);
	reveal_errors(uart);
	return byte;
}

static void write_thr(struct uart *uart, uint8_t value)
{
	uart->thr_empty = false;
	/* Full: the driver did not look at LSR, and the byte is lost. */
	if (uart->transmitter.count < fifo_capacity(uart))
		fifo_push(&uart->transmitter, value, 0);
	loop_back(uart);
}

static uint8_t read_dll(struct uart *uart)
{
	return uart->dll;
}

static void write_dll(struct uart *uart, uint8_t value)
{
	uart->dll = value;
}

static uint8_t read_dlm(struct uart *uart)
{
	return uart->dlm;
}

static void write_dlm(struct uart *uart, uint8_t value)
{
	uart->dlm = value;
}

static uint8_t read_ier(struct uart *uart)
{
	return uart->ier;
}

static void write_ier(struct uart *uart, uint8_t value)
{
	uint8_t enabled = value & (uint8_t)~uart->ier;

	uart->ier = value & UART_IER_ALL;
	/* Enabling it raises it, though IIR was read before: drivers test for that. */
	if (enabled & UART_IER_ETBEI)
		set_thr_empty(uart);
}

static uint8_t read_iir(struct uart *uart)
{
	uint8_t identity = interrupt_identity(uart);

	if (identity == UART_IIR_THR_EMPTY)
		uart->thr_empty = false;
	return uart->fifos ? identity | UART_IIR_FIFOS : identity;
}

static void write_fcr(struct uart *uart, uint8_t value)
{
	static const uint8_t triggers[] = {1, 4, 8, 14};
	bool fifos = value & UART_FCR_ENABLE;
	bool switched = fifos != uart->fifos;

	uart->fifos = fifos;
	if (switched || (fifos && (value & UART_FCR_RESET_RECEIVER)))
		fifo_clear(&uart->receiver);
	if ((switched || (fifos && (value & UART_FCR_RESET_TRANSMITTER))) &&
	    uart->transmitter.count) {
		fifo_clear(&uart->transmitter);
		set_thr_empty(uart);
	}
	/* The other bits are taken only together with the enable bit. */
	if (fifos)
		uart->trigger = triggers[value >> UART_FCR_TRIGGER_SHIFT];
}

static uint8_t read_lcr(struct uart *uart)
{
	return uart->lcr;
}

static void write_lcr(struct uart *uart, uint8_t value)
{
	bool starts_break = value & ~uart->lcr & UART_LCR_BREAK;

	uart->lcr = value;
	/* A line of bytes cannot carry a break; only our own receiver can hear it. */
	if (starts_break && (uart->mcr & UART_MCR_LOOP))
		receive_byte(uart, 0, UART_LSR_BI | UART_LSR_FE);
}

static uint8_t read_mcr(struct uart *uart)
{
	return uart->mcr;
}

static void write_mcr(struct uart *uart, uint8_t value)
{
	uart->mcr = value & UART_MCR_ALL;
	update_modem(uart);
	loop_back(uart);
}

static uint8_t read_lsr(struct uart *uart)
{
	struct uart_fifo *fifo = &uart->receiver;
	uint8_t value = uart->line_errors;

	if (fifo->count)
		value |= UART_LSR_DR;
	if (!uart->transmitter.count)
		value |= UART_LSR_THRE | UART_LSR_TEMT;
	for (unsigned i = 0; uart->fifos && i < fifo->count; i++)
		if (fifo->errors[(fifo->head + i) % UART_FIFO_SIZE] & UART_LSR_BYTE_ERRORS)
			value |= UART_LSR_FIFO_ERROR;
	uart->line_errors = 0;
	fifo->errors[fifo->head] = 0;
	return value;
}

static uint8_t read_msr(struct uart *uart)
{
	uint8_t value = uart->modem;

	uart->modem &= (uint8_t)~DELTAS;
	return value;
}

static uint8_t read_scr(struct uart *uart)
{
	return uart->scr;
}

static void write_scr(struct uart *uart, uint8_t value)
{
	uart->scr = value;
}

struct register_row {
	uint8_t (*read)(struct uart *uart);
	void (*write)(struct uart *uart, uint8_t value); /* NULL: read-only, writes are ignored */
};

static const struct register_row registers[UART_REGISTERS] = {
	[UART_RBR] = {read_rbr, write_thr}, [UART_IER] = {read_ier, write_ier},
	[UART_IIR] = {read_iir, write_fcr}, [UART_LCR] = {read_lcr, write_lcr},
	[UART_MCR] = {read_mcr, write_mcr}, [UART_LSR] = {read_lsr, NULL},
	[UART_MSR] = {read_msr, NULL},	    [UART_SCR] = {read_scr, write_scr},
};

/* In place of the first two while LCR.DLAB is set. */
static const struct register_row divisor_registers[] = {
	[UART_DLL] = {read_dll, write_dll},
	[UART_DLM] = {read_dlm, write_dlm},
};

static const struct register_row *find_register(const struct uart *uart, unsigned offset)
{
	assert(offset < UART_REGISTERS);
	if ((uart->lcr & UART_LCR_DLAB) && offset <= UART_DLM)
		return &divisor_registers[offset];
	return &registers[offset];
}

uint8_t uart_read(struct uart *uart, unsigned offset)
{
	return find_register(uart, offset)->read(uart);
}

void uart_write(struct uart *uart, unsigned offset, uint8_t value)
{
	const struct register_row *row = find_register(uart, offset);

	if (row->write)
		row->write(uart, value);
}

void uart_reset(struct uart *uart)
{
	*uart = (struct uart){
		.dll = RESET_DIVISOR,
		.trigger = 1,
		.thr_empty = true,
		.carrier = uart->carrier,
	};
	uart->modem = modem_inputs(uart);
}
