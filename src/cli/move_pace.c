/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast a state goes: a limit, what is measured, and what follows for the downtime. */
#include "cli/move_pace.h"

uint64_t pace_delay(struct pace *pace, uint64_t bytes, uint64_t now)
{
	uint64_t from;

	if (!pace->bandwidth)
		return 0;
	/* What was not used before is not made up for. */
	from = pace->next_at > now ? pace->next_at : now;
	pace->next_at = from + (uint64_t)((double)bytes * 1e9 / (double)pace->bandwidth);
	return from - now;
}

void pace_sent(struct pace *pace, uint64_t bytes, uint64_t ns)
{
	pace->bytes += bytes;
	pace->round_bytes += bytes;
	pace->busy_ns += ns;
}

void pace_round(struct pace *pace, uint64_t now)
{
	if (pace->round_end && now > pace->round_end)
		pace->dirty_rate =
			(double)pace->round_bytes * 1e9 / (double)(now - pace->round_end);
	pace->round_bytes = 0;
	pace->round_end = now;
}

double pace_rate(const struct pace *pace)
{
	double rate = PACE_FIRST_RATE;

	if (pace->bytes >= PACE_MEASURED && pace->busy_ns)
		rate = (double)pace->bytes * 1e9 / (double)pace->busy_ns;
	if (pace->bandwidth && rate > (double)pace->bandwidth)
		rate = (double)pace->bandwidth;
	return rate;
}

double pace_downtime_ms(const struct pace *pace, uint64_t bytes)
{
	return (double)bytes * 1e3 / pace_rate(pace);
}
