/* SPDX-License-Identifier: BSD-3-Clause */
/* A serial port: the UART, and the bytes between it and its line. */
#ifndef UVF_SERIAL_H
#define UVF_SERIAL_H

#include <pthread.h>
#include <uvfio/device.h>
#include <uvfio/migration.h>

#include "devices/serial/line.h"
#include "devices/serial/uart.h"

#define OUTPUT_SIZE 4096

struct serial {
	struct uvf_device *dev;

	/* Under the device's lock. */
	struct uart uart;
	uint8_t output[OUTPUT_SIZE]; /* sent by the driver, not yet taken by the line */
	size_t output_count;
	size_t moved; /* so many of `output` came from another port: they wait for a peer */
	bool waits_for_output; /* the line's thread sleeps until there is some */
	bool waits_for_room;   /* it sleeps until the receiver has some */
	bool loaded;	       /* the state is another port's, and did not run here yet */
	bool stop;

	/*
	 * Held while the line is read or written; taken after the device's lock. The thread takes
	 * the device's lock without it.
	 */
	pthread_mutex_t busy;
	bool quiesced;	/* the line is left alone. Changed with both locks, */
	unsigned rests; /* as is how often it was so: what was to be done before isn't any more */
	/* The line's thread's own while it runs and that is false: changed with `busy`. */
	struct line line;
	uint8_t input[UART_FIFO_SIZE]; /* read from the line, not yet received */
	size_t input_count;
	size_t written; /* of `output`, by the line */
	bool losing;	/* what was written last was lost, and that has been said */

	int wake; /* eventfd: ends the sleep of the line's thread */
	pthread_t thread;
	bool thread_runs;
};

/* All with the device's lock held. */

/*
 * After anything has changed in the UART: passes on what follows from it. What is sent to nobody is
 * lost.
 */
void serial_settle(struct serial *serial);
/* What the line has taken is no more in `output`. */
void serial_take_written(struct serial *serial);
/* The line is left alone, from when it returns, and is used again. */
int serial_quiesce(struct uvf_device *dev);
int serial_unquiesce(struct uvf_device *dev);

extern const struct uvf_migration_ops serial_migration;

#endif
