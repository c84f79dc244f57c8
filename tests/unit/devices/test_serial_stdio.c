/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A serial port whose line is our standard input and output. They are pipes while it is driven, so
 * nothing is asserted, and so printed, before they are back.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>
#include <uvfio/client.h>
#include <uvfio/model.h>

#include "base/bytes.h"
#include "devices/serial/uart.h"

static uint8_t get(struct uvf_device *dev, unsigned offset)
{
	uint8_t value = 0;

	uvf_region_read(dev, 0, offset, &value, 1);
	return value;
}

static void put(struct uvf_device *dev, unsigned offset, uint8_t value)
{
	uvf_region_write(dev, 0, offset, &value, 1);
}

static int start(struct uvf_device *dev)
{
	uint8_t command[2];
	int ret = uvf_device_open(dev);

	uvf_put_le16(command, PCI_COMMAND_IO);
	uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command, 2);
	put(dev, UART_FCR, UART_FCR_ENABLE);
	return ret;
}

/* What the driver says comes out of @output, within ten seconds. */
static size_t say(struct uvf_device *dev, int output, const char *text, char *heard, size_t size)
{
	struct pollfd readable = {.fd = output, .events = POLLIN};
	size_t got = 0;

	for (const char *at = text; *at; at++)
		put(dev, UART_THR, (uint8_t)*at);
	while (got < strlen(text) && poll(&readable, 1, 10000) == 1) {
		ssize_t ret = read(output, heard + got, size - got);

		if (ret <= 0)
			break;
		got += (size_t)ret;
	}
	return got;
}

/* What goes into @input the driver hears. */
static size_t hear(struct uvf_device *dev, int input, const char *text, char *heard)
{
	size_t got = 0;

	if (write(input, text, strlen(text)) != (ssize_t)strlen(text))
		return 0;
	for (int tries = 0; tries < 10000 && got < strlen(text); tries++) {
		if (get(dev, UART_LSR) & UART_LSR_DR)
			heard[got++] = (char)get(dev, UART_RBR);
		else
			usleep(1000);
	}
	return got;
}

static void both_ways(void **state)
{
	int saved[2], input[2], output[2], made, opened = -1;
	char said[16] = "", heard[16] = "";
	struct uvf_device *dev = NULL;
	size_t out = 0, in = 0;

	(void)state;
	assert_int_equal(pipe(input), 0);
	assert_int_equal(pipe(output), 0);
	for (int fd = 0; fd < 2; fd++)
		saved[fd] = dup(fd);
	dup2(input[0], STDIN_FILENO);
	dup2(output[1], STDOUT_FILENO);
	made = uvf_model_create("serial,line=stdio", &dev, NULL);
	if (!made) {
		opened = start(dev);
		out = say(dev, output[0], "to stdout", said, sizeof(said));
		in = hear(dev, input[1], "from stdin", heard);
		uvf_device_free(dev);
	}
	for (int fd = 0; fd < 2; fd++) {
		dup2(saved[fd], fd);
		close(saved[fd]);
		close(input[fd]);
		close(output[fd]);
	}
	assert_int_equal(made, 0);
	assert_int_equal(opened, 0);
	assert_int_equal(out, strlen("to stdout"));
	assert_memory_equal(said, "to stdout", out);
	assert_int_equal(in, strlen("from stdin"));
	assert_memory_equal(heard, "from stdin", in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(both_ways)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
