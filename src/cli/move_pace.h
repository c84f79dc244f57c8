/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast a state goes: a limit, what is measured, and what follows for the downtime. */
#ifndef UVF_CLI_MOVE_PACE_H
#define UVF_CLI_MOVE_PACE_H

#include <stdint.h>

/* What is taken for the rate until enough was sent to know it, bytes a second. */
#define PACE_FIRST_RATE (256.0 * 1024 * 1024)
/* Enough. */
#define PACE_MEASURED (1 << 20)

struct pace {
	uint64_t bandwidth; /* bytes a second; 0: no limit */
	uint64_t bytes;	    /* sent */
	uint64_t busy_ns;   /* that it took */
	uint64_t next_at;   /* when more may be sent, by the limit, ns */
	/* PRE_COPY's rounds. */
	uint64_t round_bytes;
	uint64_t round_end; /* of the one before, ns; 0: there was none */
	double dirty_rate;  /* bytes a second that came to be sent again */
};

/* How long to wait before @bytes more, at @now; they count as sent. ns */
uint64_t pace_delay(struct pace *pace, uint64_t bytes, uint64_t now);
/* @bytes took @ns, delays included. */
void pace_sent(struct pace *pace, uint64_t bytes, uint64_t ns);
/* A round has ended at @now. */
void pace_round(struct pace *pace, uint64_t now);
/* Bytes a second. */
double pace_rate(const struct pace *pace);
/* How long @bytes would take, ms. */
double pace_downtime_ms(const struct pace *pace, uint64_t bytes);

#endif
