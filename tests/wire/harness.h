/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device to test with, a real server that offers it on a real socket, and a client that sends raw
 * bytes to it; all on one thread: the server takes a step when the test says so.
 */
#ifndef TESTS_WIRE_HARNESS_H
#define TESTS_WIRE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <semaphore.h>
#include <uvfio/uvfio.h>

#include "wire/wire.h"

#define BAR0_SIZE   0x4000U
#define AREA_START  0x1000U
#define AREA_SIZE   0x2000U
#define BUFFER_SIZE 0x300000U
#define CONFIG_SIZE 256U
#define VECTORS	    32U
#define MAX_DATA    0x10000U /* what the test's server takes at once */
#define PAGE	    4096U
/* Waits that end only where something is wrong. */
#define LONG_TIME_MS 120000U

/* Registers in the first page of region 0; what has no meaning is memory. */
enum {
	REG_SCRATCH = 0x00,
	REG_BUS_MASTER = 0x08,
	REG_DOORBELL = 0x10, /* does the DMA that the next four describe */
	REG_TRIGGER = 0x18,  /* signals MSI-X vector */
	REG_FAIL = 0x20,     /* writes and reads fail with -EIO */
	REG_DMA_ADDRESS = 0x40,
	REG_DMA_SIZE = 0x48,
	REG_DMA_WRITE = 0x4c,  /* 1: towards the driver */
	REG_DMA_RESULT = 0x50, /* 0 or a negative errno */
	REG_INTX_LEVEL = 0x58,
};

struct test_device {
	struct uvf_device *dev;
	uint8_t registers[PAGE];
	uint8_t *area;
	uint8_t *buffer; /* region 2; the DMA's other end */
	uint8_t config[CONFIG_SIZE];
	int io_fd;
	unsigned opens, closes, resets;
	int dma_result; /* of the last; REG_DMA_RESULT goes with a reset */
	int open_error;
	bool changed;	   /* the buffer, since it was saved early */
	int quiesce_error; /* of the next */
	bool holds;	   /* quiescing waits until it is let go */
	sem_t held, let_go;
};

struct test_device *test_device_new(void);
void test_device_free(struct test_device *device);

struct harness {
	struct test_device *device; /* or NULL: another, which is the test's */
	struct uvf_server *server;
	char directory[64];
	char path[96];
	int client;    /* a raw, blocking socket, or -1 */
	bool threaded; /* the server runs on threads of its own: no steps */
	uint16_t id;
	size_t fds_before; /* 0: they are not counted at its end */
};

/* @config may be NULL; its path is set here. */
struct harness *harness_new(const struct uvf_server_config *config);
struct harness *harness_serve(struct uvf_device *dev, const struct uvf_server_config *config);
void harness_free(struct harness *h);
/* cmocka's: a server with a client that has negotiated, and their end, which counts fds. */
int harness_setup(void **state);
int harness_teardown(void **state);
/* The same without the client. */
int harness_setup_server(void **state);

/* The harness of the test that runs, where its state is the row of a table. */
struct harness *harness_current(void);
int harness_connect(struct harness *h);
/* Lets the server do all there is to do. */
void harness_step(struct harness *h);

/* Sends one message with the header as it should be. */
void send_request_on(int sock, uint16_t id, uint16_t command, uint32_t flags, const void *payload,
		     size_t size, const int *fds, size_t fd_count);
struct reply {
	struct uvf_wire_header header;
	uint8_t payload[2 * MAX_DATA];
	size_t size;
	int fds[UVF_FDPASS_MAX];
	size_t fd_count;
};
/* A whole message; false: the other side has hung up. It must be there, or come. */
bool receive_message(int sock, struct reply *reply);
void close_reply_fds(struct reply *reply);

/*
 * Sends a request, steps, receives the reply, and checks its header. Returns 0 or the negative
 * errno in it.
 */
int request(struct harness *h, uint16_t command, const void *payload, size_t size, const int *fds,
	    size_t fd_count, struct reply *reply);
/* Without descriptors or an interest in the reply. */
int simple(struct harness *h, uint16_t command, const void *payload, size_t size);
int negotiate_on(struct harness *h, int sock, const char *text, struct reply *reply);
/* Whether the server has hung up on the client, and no reply is left. */
bool hung_up(int sock);

int region_read32(struct harness *h, uint32_t region, uint64_t offset, uint32_t *value);
int region_write32(struct harness *h, uint32_t region, uint64_t offset, uint32_t value);
int dma_map(struct harness *h, uint64_t address, uint64_t size, uint32_t flags, int fd,
	    uint64_t offset);
int dma_unmap(struct harness *h, uint64_t address, uint64_t size, uint32_t flags);

int memory_file(size_t size); /* a memfd */
size_t count_fds(void);
size_t count_threads(void);

/* Adds the tests of a table: one a row. */
#define RUN_TABLE(rows, test)                                                                    \
	({                                                                                       \
		struct CMUnitTest tests_[sizeof(rows) / sizeof((rows)[0])];                      \
		for (size_t i_ = 0; i_ < sizeof(rows) / sizeof((rows)[0]); i_++)                 \
			tests_[i_] = (struct CMUnitTest){(rows)[i_].name, test, harness_setup,   \
							 harness_teardown, (void *)&(rows)[i_]}; \
		_cmocka_run_group_tests(#rows, tests_, sizeof(rows) / sizeof((rows)[0]), NULL,   \
					NULL);                                                   \
	})

#endif
