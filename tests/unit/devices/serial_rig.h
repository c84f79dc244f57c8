/* SPDX-License-Identifier: BSD-3-Clause */
/* A serial port in this process, the smallest driver of it, and who is at its line's other end. */
#ifndef SERIAL_RIG_H
#define SERIAL_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uvfio/client.h>
#include <uvfio/model.h>

#include "base/bytes.h"
#include "devices/serial/uart.h"

struct port {
	struct uvf_device *dev;
	char directory[32];
	char path[48]; /* of the line's socket, link or file */
	int peer;
	int irq;
};

/* ---- Driving ---- */

static inline uint8_t get(struct port *port, unsigned offset)
{
	uint8_t value;

	assert_int_equal(uvf_region_read(port->dev, 0, offset, &value, 1), 1);
	return value;
}

static inline void put(struct port *port, unsigned offset, uint8_t value)
{
	assert_int_equal(uvf_region_write(port->dev, 0, offset, &value, 1), 1);
}

static inline void put_text(struct port *port, const char *text)
{
	for (; *text; text++)
		put(port, UART_THR, (uint8_t)*text);
}

static inline void write_command(struct port *port, uint16_t value)
{
	uint8_t bytes[2];

	uvf_put_le16(bytes, value);
	assert_int_equal(
		uvf_region_write(port->dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, bytes, 2),
		2);
}

/* As a driver starts: FIFOs on with a trigger of 8. */
static inline void start(struct port *port)
{
	put(port, UART_FCR, UART_FCR_ENABLE | 2 << UART_FCR_TRIGGER_SHIFT);
}

static inline void loop(struct port *port)
{
	start(port);
	put(port, UART_MCR, UART_MCR_LOOP);
	(void)get(port, UART_MSR);
}

/* Another thread brings what is awaited; ten seconds is "never". */
static inline void await(struct port *port, unsigned offset, uint8_t mask, uint8_t value)
{
	for (int tries = 0; tries < 10000; tries++) {
		if ((get(port, offset) & mask) == value)
			return;
		usleep(1000);
	}
	fail_msg("register %u never had 0x%x in 0x%x", offset, value, mask);
}

static inline bool interrupted(struct port *port)
{
	eventfd_t count;

	return !eventfd_read(port->irq, &count);
}

static inline void enable_interrupt(struct port *port)
{
	struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_INTX_IRQ_INDEX,
		.count = 1,
		.fds = &port->irq,
	};

	assert_int_equal(uvf_irq_set(port->dev, &set), 0);
}

static inline void unmask(struct port *port)
{
	struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = VFIO_PCI_INTX_IRQ_INDEX,
		.count = 1,
	};

	assert_int_equal(uvf_irq_set(port->dev, &set), 0);
}

static inline void say(struct port *port, const char *text)
{
	assert_int_equal(write(port->peer, text, strlen(text)), strlen(text));
}

static inline void hear(struct port *port, const char *text)
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

/* The peer is a socket already. */
static inline void connect_to(struct port *port)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, port->path);
	assert_int_equal(connect(port->peer, (struct sockaddr *)&address, sizeof(address)), 0);
}

static inline void connect_peer(struct port *port)
{
	port->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	connect_to(port);
}

static inline void make(struct port *port, const char *format)
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

static inline void unmake(struct port *port)
{
	uvf_device_close(port->dev);
	uvf_device_free(port->dev);
	close(port->irq);
	if (port->peer >= 0)
		close(port->peer);
	assert_int_equal(rmdir(port->directory), 0);
}

static inline int setup(void **state)
{
	struct port *port = calloc(1, sizeof(*port));

	make(port, "serial,line=unix:/");
	*state = port;
	return 0;
}

static inline int teardown(void **state)
{
	unmake(*state);
	free(*state);
	return 0;
}

#endif
