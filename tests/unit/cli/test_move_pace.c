/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast a state goes, and what follows from it: by a clock that the test winds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cli/move_pace.h"

#define SECOND 1000000000ULL
#define MIB    (1ULL << 20)

static void a_limit_is_kept_on_average(void **state)
{
	struct pace pace = {.bandwidth = 10 * MIB};
	uint64_t now = 5 * SECOND, begin = now;

	for (int i = 0; i < 100; i++)
		now += pace_delay(&pace, MIB, now);
	/* The last one may go at once, when its turn has come. */
	assert_int_equal(now - begin, 99 * SECOND / 10);
	/* What wasn't used is not made up for. */
	now += 60 * SECOND;
	assert_int_equal(pace_delay(&pace, MIB, now), 0);
	assert_int_equal(pace_delay(&pace, MIB, now), SECOND / 10);
}

static void without_a_limit_nothing_waits(void **state)
{
	struct pace pace = {0};

	for (int i = 0; i < 10; i++)
		assert_int_equal(pace_delay(&pace, 1000 * MIB, 0), 0);
}

static void the_rate_is_what_was_measured(void **state)
{
	struct pace pace = {0};

	assert_true(pace_rate(&pace) == PACE_FIRST_RATE);
	/* Too little to go by. */
	pace_sent(&pace, 1000, SECOND);
	assert_true(pace_rate(&pace) == PACE_FIRST_RATE);
	pace_sent(&pace, 2 * MIB - 1000, SECOND);
	assert_true(pace_rate(&pace) == (double)MIB);
	assert_true(pace_downtime_ms(&pace, MIB / 2) == 500);
	/* Never more than is allowed, measured or not. */
	pace.bandwidth = MIB / 4;
	assert_true(pace_rate(&pace) == (double)MIB / 4);
	pace = (struct pace){.bandwidth = 1000};
	assert_true(pace_downtime_ms(&pace, 500) == 500);
	assert_true(pace_downtime_ms(&pace, 0) == 0);
}

static void what_comes_again_is_the_dirty_rate(void **state)
{
	struct pace pace = {0};

	pace_sent(&pace, 100 * MIB, SECOND);
	pace_round(&pace, 10 * SECOND);
	/* All that was sent first was never sent before. */
	assert_true(pace.dirty_rate == 0);
	pace_sent(&pace, 4 * MIB, SECOND / 10);
	pace_round(&pace, 12 * SECOND);
	assert_true(pace.dirty_rate == (double)(2 * MIB));
	pace_round(&pace, 13 * SECOND);
	assert_true(pace.dirty_rate == 0);
	/* Two at once are one. */
	pace_round(&pace, 13 * SECOND);
	assert_true(pace.dirty_rate == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_limit_is_kept_on_average),
		cmocka_unit_test(without_a_limit_nothing_waits),
		cmocka_unit_test(the_rate_is_what_was_measured),
		cmocka_unit_test(what_comes_again_is_the_dirty_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
