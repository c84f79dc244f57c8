/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A 16550A as a state machine: registers and FIFOs, with no clock, no thread and no line.
 *
 * Bytes come in by uart_receive() and go out by uart_transmit(). Time does not pass here: a byte
 * is sent as soon as somebody takes it, and the receiver's character timeout comes as soon as the
 * line has nothing more to say. Speed, word length and parity are kept but change nothing.
 *
 * Threads: one at a time.
 */
#ifndef UVF_SERIAL_UART_H
#define UVF_SERIAL_UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Registers, and their bits, have the names of the PC16550D data sheet. */
enum uart_register {
	UART_RBR = 0, /* read; DLAB 0 */
	UART_THR = 0, /* write; DLAB 0 */
	UART_DLL = 0, /* DLAB 1 */
	UART_IER = 1, /* DLAB 0 */
	UART_DLM = 1, /* DLAB 1 */
	UART_IIR = 2, /* read */
	UART_FCR = 2, /* write */
	UART_LCR = 3,
	UART_MCR = 4,
	UART_LSR = 5,
	UART_MSR = 6,
	UART_SCR = 7,
	UART_REGISTERS = 8,
};

enum {
	UART_IER_ERBFI = 0x01, /* received data */
	UART_IER_ETBEI = 0x02, /* transmitter holding register empty */
	UART_IER_ELSI = 0x04,  /* receiver line status */
	UART_IER_EDSSI = 0x08, /* modem status */
	UART_IER_ALL = 0x0f,

	UART_IIR_MODEM_STATUS = 0x00,
	UART_IIR_NONE = 0x01,
	UART_IIR_THR_EMPTY = 0x02,
	UART_IIR_RECEIVED_DATA = 0x04,
	UART_IIR_LINE_STATUS = 0x06,
	UART_IIR_TIMEOUT = 0x0c,
	UART_IIR_FIFOS = 0xc0,

	UART_FCR_ENABLE = 0x01,
	UART_FCR_RESET_RECEIVER = 0x02,
	UART_FCR_RESET_TRANSMITTER = 0x04,
	UART_FCR_TRIGGER_SHIFT = 6,

	UART_LCR_BREAK = 0x40,
	UART_LCR_DLAB = 0x80,

	UART_MCR_DTR = 0x01,
	UART_MCR_RTS = 0x02,
	UART_MCR_OUT1 = 0x04,
	UART_MCR_OUT2 = 0x08,
	UART_MCR_LOOP = 0x10,
	UART_MCR_ALL = 0x1f,

	UART_LSR_DR = 0x01,
	UART_LSR_OE = 0x02,
	UART_LSR_PE = 0x04,
	UART_LSR_FE = 0x08,
	UART_LSR_BI = 0x10,
	UART_LSR_THRE = 0x20,
	UART_LSR_TEMT = 0x40,
	UART_LSR_FIFO_ERROR = 0x80,
	UART_LSR_BYTE_ERRORS = UART_LSR_PE | UART_LSR_FE | UART_LSR_BI,

	UART_MSR_DCTS = 0x01,
	UART_MSR_DDSR = 0x02,
	UART_MSR_TERI = 0x04,
	UART_MSR_DDCD = 0x08,
	UART_MSR_CTS = 0x10,
	UART_MSR_DSR = 0x20,
	UART_MSR_RI = 0x40,
	UART_MSR_DCD = 0x80,
};

#define UART_FIFO_SIZE 16

struct uart_fifo {
	uint8_t bytes[UART_FIFO_SIZE];
	uint8_t errors[UART_FIFO_SIZE]; /* LSR bits that came with each byte */
	unsigned head, count;
};

struct uart {
	uint8_t ier, lcr, mcr, scr, dll, dlm;
	uint8_t trigger;     /* bytes; meaningful with fifos */
	bool fifos;	     /* FCR bit 0 */
	bool thr_empty;	     /* the THR-empty interrupt is pending, enabled or not */
	uint8_t line_errors; /* OE, PE, FE, BI as LSR shows them until it is read */
	uint8_t modem;	     /* MSR as it would be read */
	bool carrier;	     /* there is somebody at the other end */
	struct uart_fifo receiver, transmitter;
};

/* To the state after power-on; the carrier stays. */
void uart_reset(struct uart *uart);

/* The driver's accesses. @offset is below UART_REGISTERS. */
uint8_t uart_read(struct uart *uart, unsigned offset);
void uart_write(struct uart *uart, unsigned offset, uint8_t value);

/* Whether the interrupt pin is asserted. Not gated by OUT2, which only ISA cards do. */
bool uart_interrupt(const struct uart *uart);

/* How many bytes from the line fit now: none in loopback, which cuts the line off. */
size_t uart_room(const struct uart *uart);
/* Takes bytes from the line, at most uart_room(). */
void uart_receive(struct uart *uart, const uint8_t *bytes, size_t count);
/* Moves up to @max bytes to the line; returns how many. None in loopback. */
size_t uart_transmit(struct uart *uart, uint8_t *bytes, size_t max);
/* Data Carrier Detect: somebody is, or no longer is, at the other end. */
void uart_set_carrier(struct uart *uart, bool carrier);

#endif
