/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DMA through messages: a thread steps the server, in which the device waits for the client's
 * answers, and the test is that client.
 */
#ifndef TESTS_WIRE_TRANSFER_H
#define TESTS_WIRE_TRANSFER_H

#include <pthread.h>

#include "harness.h"

/* What the client has mapped without a file, and a margin on both sides. */
#define REMOTE_ADDRESS 0x40000000U
#define REMOTE_SIZE    0x80000U
#define REMOTE_MARGIN  64U

struct transfer {
	struct harness *h;
	int calls;	   /* where the server's requests come: the client's socket or its twin */
	bool count32;	   /* which of the two layouts the client speaks */
	uint32_t max_data; /* what the client takes */
	pthread_t thread;
	struct reply message; /* what was received last */
	unsigned requests;
	uint32_t largest; /* count of a request */
	uint8_t memory[REMOTE_MARGIN + REMOTE_SIZE + REMOTE_MARGIN];
};

/* Connects, negotiates, maps, and lets the device master the bus. @max_data 0: not said. */
struct transfer *transfer_new(bool twin, uint32_t timeout_ms, uint32_t max_data);
void transfer_free(struct transfer *t);

/* What the client has mapped, at @offset. */
uint8_t *transfer_memory(struct transfer *t, uint64_t offset);

/* Rings the doorbell, and lets the server step on a thread of its own. */
void transfer_start(struct transfer *t, uint64_t address, uint32_t size, bool write);
/* The server's next request: into @message. */
void transfer_expect(struct transfer *t, uint16_t command);
/* Answers it as it should be. */
void transfer_answer(struct transfer *t);
/* Sends a reply to what is in @message. */
void transfer_reply(struct transfer *t, uint32_t flags, uint32_t error, const void *payload,
		    size_t size);
/* Waits for the server's thread; returns what the device got. */
int transfer_end(struct transfer *t);

/* All of that, answering what comes. */
int transfer(struct transfer *t, uint64_t offset, uint32_t size, bool write);

#endif
