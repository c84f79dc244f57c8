/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model `serial`: a 16550A on PCI, with a line to the outside.
 *
 * Two parties meet here under the device's lock: the driver, through the registers in BAR 0, and
 * the line's thread. Neither waits for the other. The driver's bytes go from the transmitter into
 * `output`; while that is full the transmitter stays full, and LSR says so. The line is read only
 * as far as the receiver has room; the rest stays with its sender. While the port is still for a
 * migration the line is left alone.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uvfio/pci.h>

#include "base/bytes.h"
#include "base/spec.h"
#include "core/model.h"
#include "devices/serial/serial.h"

/* #syscalls: write */
static void wake_thread(struct serial *serial)
{
	/* It fails only where the counter is full, and then the thread is awake anyway. */
	(void)eventfd_write(serial->wake, 1);
}

void serial_settle(struct serial *serial)
{
	struct uart *uart = &serial->uart;
	uint8_t lost[UART_FIFO_SIZE];

	if (uart->carrier) {
		serial->output_count += uart_transmit(uart, serial->output + serial->output_count,
						      OUTPUT_SIZE - serial->output_count);
	} else {
		uart_transmit(uart, lost, sizeof(lost));
		serial->output_count = serial->moved;
	}
	uvf_pci_intx(serial->dev, uart_interrupt(uart));
	if ((serial->waits_for_output && serial->output_count) ||
	    (serial->waits_for_room && uart_room(uart))) {
		serial->waits_for_output = false;
		serial->waits_for_room = false;
		wake_thread(serial);
	}
}

void serial_take_written(struct serial *serial)
{
	size_t done = serial->written;

	serial->written = 0;
	serial->output_count -= done;
	memmove(serial->output, serial->output + done, serial->output_count);
	serial->moved -= done < serial->moved ? done : serial->moved;
}

int serial_quiesce(struct uvf_device *dev)
{
	struct serial *serial = uvf_device_opaque(dev);

	pthread_mutex_lock(&serial->busy);
	serial->quiesced = true;
	serial->rests++;
	pthread_mutex_unlock(&serial->busy);
	serial_take_written(serial);
	return 0;
}

int serial_unquiesce(struct uvf_device *dev)
{
	struct serial *serial = uvf_device_opaque(dev);

	pthread_mutex_lock(&serial->busy);
	serial->quiesced = false;
	pthread_mutex_unlock(&serial->busy);
	serial->loaded = false;
	serial_settle(serial);
	wake_thread(serial);
	return 0;
}

/* ---- The line's thread ---- */

enum { AT_WAKE, AT_LISTENER, AT_IN, AT_OUT, AT_COUNT };

/* What is to be done with the line: made with the device's lock, done without. */
struct plan {
	struct pollfd fds[AT_COUNT];
	unsigned rests; /* when it was made: after another one it is void */
	uint8_t bytes[OUTPUT_SIZE];
	size_t count, room;
};

/*
 * Hands over what was read, and says what to wait for. An fd that isn't of interest is left out
 * of the poll altogether: a hang-up would be reported over and over.
 */
static void make_plan(struct serial *serial, struct plan *plan)
{
	struct pollfd *fds = plan->fds;
	const struct line *line = &serial->line;
	struct uart *uart = &serial->uart;
	size_t room = uart_room(uart);
	size_t fits = serial->input_count < room ? serial->input_count : room;

	for (unsigned i = 0; i < AT_COUNT; i++)
		fds[i].fd = -1;
	fds[AT_WAKE] = (struct pollfd){serial->wake, POLLIN, 0};
	plan->rests = serial->rests;
	if (serial->quiesced)
		return;
	uart_receive(uart, serial->input, fits);
	serial->input_count -= fits;
	memmove(serial->input, serial->input + fits, serial->input_count);
	uart_set_carrier(uart, line->out >= 0);
	serial_settle(serial);
	serial->waits_for_output = !serial->output_count;
	serial->waits_for_room = serial->input_count || !uart_room(uart);
	fds[AT_LISTENER] = (struct pollfd){line->out < 0 ? line->listener : -1, POLLIN, 0};
	fds[AT_IN] = (struct pollfd){serial->waits_for_room ? -1 : line->in, POLLIN, 0};
	fds[AT_OUT] = (struct pollfd){serial->waits_for_output ? -1 : line->out, POLLOUT, 0};
	plan->room = uart_room(uart);
	plan->count = serial->output_count;
	memcpy(plan->bytes, serial->output, plan->count);
}

static void read_line(struct serial *serial, size_t room)
{
	ssize_t got = line_read(&serial->line, serial->input, room);

	if (got > 0) {
		serial->input_count = (size_t)got;
	} else if (got != -EAGAIN && got != -EINTR) {
		uvf_device_log(serial->dev, UVF_LOG_INFO, "line: %s: hung up", serial->line.where);
		line_hang_up(&serial->line);
	}
}

/* Returns how many bytes are done with. */
static size_t write_line(struct serial *serial, const uint8_t *bytes, size_t count)
{
	ssize_t put = line_write(&serial->line, bytes, count);

	if (put >= 0) {
		serial->losing = false;
		return (size_t)put;
	}
	if (put == -EAGAIN || put == -EINTR)
		return 0;
	/*
	 * A peer that is gone is noticed by reading; a full disk by this message. It is said once:
	 * the driver decides how much there is to lose.
	 */
	if (!serial->losing)
		uvf_device_log(serial->dev, UVF_LOG_WARNING, "line: %s: bytes are lost: %s",
			       serial->line.where, strerror((int)-put));
	serial->losing = true;
	return count;
}

/* What poll() found. Not with the device's lock: all of it may take its time. */
static void use_line(struct serial *serial, const struct plan *plan)
{
	const struct pollfd *fds = plan->fds;

	pthread_mutex_lock(&serial->busy);
	if (!serial->quiesced && serial->rests == plan->rests) {
		if (fds[AT_OUT].revents)
			serial->written = write_line(serial, plan->bytes, plan->count);
		if (fds[AT_IN].revents)
			read_line(serial, plan->room);
		if (fds[AT_LISTENER].revents && !line_accept(&serial->line))
			uvf_device_log(serial->dev, UVF_LOG_INFO, "line: %s: connected",
				       serial->line.where);
	}
	pthread_mutex_unlock(&serial->busy);
}

/* #syscalls: poll read */
static void *run_line(void *opaque)
{
	struct serial *serial = opaque;
	struct plan plan;
	eventfd_t unused;

	for (;;) {
		uvf_device_lock(serial->dev);
		serial_take_written(serial);
		make_plan(serial, &plan);
		if (serial->stop)
			break;
		uvf_device_unlock(serial->dev);

		if (poll(plan.fds, AT_COUNT, -1) < 0)
			continue;
		if (plan.fds[AT_WAKE].revents)
			(void)eventfd_read(serial->wake, &unused);
		use_line(serial, &plan);
	}
	uvf_device_unlock(serial->dev);
	return NULL;
}

/* Signals are the program's: its threads take them, this one does not. */
static int start_line(struct serial *serial)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	ret = pthread_create(&serial->thread, NULL, run_line, serial);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	serial->thread_runs = !ret;
	return -ret;
}

static void stop_line(struct serial *serial)
{
	if (!serial->thread_runs)
		return;
	uvf_device_lock(serial->dev);
	serial->stop = true;
	uvf_device_unlock(serial->dev);
	wake_thread(serial);
	pthread_join(serial->thread, NULL);
}

/* ---- The device ---- */

/* An access of several bytes is as many accesses of one, in rising order, as ISA made it. */
static int read_registers(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
			  size_t count)
{
	struct serial *serial = uvf_device_opaque(dev);
	uint8_t *bytes = buf;

	for (size_t i = 0; i < count; i++)
		bytes[i] = uart_read(&serial->uart, (unsigned)(offset + i));
	serial_settle(serial);
	return 0;
}

static int write_registers(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			   size_t count)
{
	struct serial *serial = uvf_device_opaque(dev);
	const uint8_t *bytes = buf;

	for (size_t i = 0; i < count; i++) {
		uart_write(&serial->uart, (unsigned)(offset + i), bytes[i]);
		serial_settle(serial);
	}
	return 0;
}

static int open_serial(struct uvf_device *dev)
{
	struct serial *serial = uvf_device_opaque(dev);

	uvf_device_log(dev, UVF_LOG_INFO, "line: %s", serial->line.where);
	return 0;
}

/*
 * What the driver has sent is on the line already: it stays; but not what another port's driver
 * has, whose state was taken over and is not to be.
 */
static int reset_serial(struct uvf_device *dev, enum uvf_reset kind)
{
	struct serial *serial = uvf_device_opaque(dev);

	uart_reset(&serial->uart);
	if (serial->loaded) {
		serial->output_count = 0;
		serial->input_count = 0;
		serial->moved = 0;
	}
	return serial_unquiesce(dev);
}

static void free_serial(struct serial *serial)
{
	stop_line(serial);
	line_close(&serial->line);
	if (serial->wake >= 0)
		close(serial->wake);
	pthread_mutex_destroy(&serial->busy);
	free(serial);
}

static void destroy_serial(struct uvf_device *dev)
{
	free_serial(uvf_device_opaque(dev));
}

static const struct uvf_device_ops serial_ops = {
	.open = open_serial,
	.reset = reset_serial,
	.destroy = destroy_serial,
};

/*
 * Red Hat's single serial port: Linux, Windows and firmware know it. Linux's 8250_pci takes it by
 * its class, because it has a single I/O BAR.
 */
static const struct uvf_pci_description serial_pci = {
	.vendor = 0x1b36,
	.device = 0x0002,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class_code = 0x070002, /* communication, serial, 16550 */
	.revision = 1,
	.interrupt_pin = 1,
	.bars[0] = {.kind = UVF_PCI_BAR_IO,
		    .size = UART_REGISTERS,
		    .read = read_registers,
		    .write = write_registers},
};

static int create_serial(const struct uvf_spec *spec, struct uvf_device **devp,
			 struct uvf_error *error)
{
	const char *line = uvf_spec_string(spec, "line");
	struct serial *serial;
	int ret;

	if (!line_known(line))
		return uvf_spec_refuse(spec, "line", error);
	if (uvf_spec_given(spec, "link") && strcmp(line, "pty"))
		return uvf_fail(error, -EINVAL, "serial: link=: expected line=pty with it");
	serial = calloc(1, sizeof(*serial));
	if (!serial)
		return uvf_fail(error, -ENOMEM, "serial: no memory");
	pthread_mutex_init(&serial->busy, NULL);
	serial->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = line_open(&serial->line, line, uvf_spec_string(spec, "link"), error);
	if (!ret && serial->wake < 0)
		ret = uvf_fail(error, -EMFILE, "serial: no file descriptor left");
	serial->uart.carrier = serial->line.out >= 0;
	uart_reset(&serial->uart);
	if (!ret)
		ret = uvf_pci_new("serial", &serial_pci, &serial_ops, serial, &serial->dev, error);
	if (ret) {
		free_serial(serial);
		return ret;
	}
	uvf_device_set_migration(serial->dev, &serial_migration);
	ret = start_line(serial);
	if (ret) {
		uvf_device_free(serial->dev);
		return uvf_fail(error, ret, "serial: no thread: %s", strerror(-ret));
	}
	*devp = serial->dev;
	return 0;
}

static const struct uvf_model_key serial_keys[] = {
	{.name = "line",
	 .kind = UVF_KEY_STRING,
	 .default_value = "pty",
	 .expects = LINE_EXPECTS,
	 .help = "where the bytes go: a new terminal, a socket to connect to, a file, or here"},
	{.name = "link",
	 .kind = UVF_KEY_STRING,
	 .expects = "PATH",
	 .help = "with line=pty: a symbolic link to make to the terminal"},
	{},
};

static const struct uvf_model serial_model = {
	.name = "serial",
	.summary = "16550A serial port",
	.keys = serial_keys,
	.create = create_serial,
};

UVF_REGISTER_MODEL(serial_model)
