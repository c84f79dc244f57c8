/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counters and histograms of calls. A bucket is an eighth of a power of two wide; its upper bound
 * is what a percentile says.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <uvfio/run.h>

#include "frontends/uapi/stats.h"

#define EIGHTHS 8
#define POWERS	40 /* 2^42 ns: more than an hour */
#define BUCKETS (EIGHTHS * POWERS)

struct row {
	atomic_ulong count, errors, total_ns, max_ns;
	atomic_uint buckets[BUCKETS];
};

struct uapi_stats {
	unsigned count;
	struct row rows[];
};

struct uapi_stats *uapi_stats_new(void)
{
	unsigned count = uapi_kind_count();
	struct uapi_stats *stats = calloc(1, sizeof(*stats) + count * sizeof(stats->rows[0]));

	if (stats)
		stats->count = count;
	return stats;
}

void uapi_stats_free(struct uapi_stats *stats)
{
	free(stats);
}

/* Up to 15 ns have a bucket each; from there on the three bits after the first count. */
static unsigned bucket_of(uint64_t ns)
{
	unsigned power;
	unsigned bucket;

	if (ns < 2 * EIGHTHS)
		return (unsigned)ns;
	power = 63 - (unsigned)__builtin_clzll(ns);
	bucket = (power - 2) * EIGHTHS + (unsigned)(ns >> (power - 3)) % EIGHTHS;
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The highest duration in it. */
static uint64_t bucket_end(unsigned bucket)
{
	unsigned power;

	if (bucket < 2 * EIGHTHS)
		return bucket;
	power = bucket / EIGHTHS + 2;
	return ((uint64_t)(EIGHTHS + bucket % EIGHTHS + 1) << (power - 3)) - 1;
}

void uapi_stats_count(struct uapi_stats *stats, unsigned kind, uint64_t duration_ns, bool error)
{
	struct row *row = &stats->rows[kind];
	unsigned long max = atomic_load_explicit(&row->max_ns, memory_order_relaxed);

	atomic_fetch_add_explicit(&row->count, 1, memory_order_relaxed);
	if (error)
		atomic_fetch_add_explicit(&row->errors, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&row->total_ns, duration_ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&row->buckets[bucket_of(duration_ns)], 1, memory_order_relaxed);
	while (duration_ns > max &&
	       !atomic_compare_exchange_weak_explicit(&row->max_ns, &max, duration_ns,
						      memory_order_relaxed, memory_order_relaxed))
		continue;
}

/* What @percent of the calls did not exceed. */
static uint64_t percentile(const struct row *row, uint64_t count, unsigned percent, uint64_t max_ns)
{
	uint64_t left = (count * percent + 99) / 100;

	for (unsigned i = 0; i < BUCKETS; i++) {
		uint64_t in = atomic_load_explicit(&row->buckets[i], memory_order_relaxed);

		if (in >= left)
			return bucket_end(i) < max_ns ? bucket_end(i) : max_ns;
		left -= in;
	}
	return max_ns;
}

static int by_count(const void *left, const void *right)
{
	const struct uvf_run_stat *a = left, *b = right;

	return a->count < b->count ? 1 : a->count > b->count ? -1 : 0;
}

size_t uapi_stats_read(const struct uapi_stats *stats, struct uvf_run_stat *rows, size_t max)
{
	struct uvf_run_stat *all = calloc(stats->count, sizeof(*all));
	size_t count = 0;

	if (!all)
		return 0;
	for (unsigned i = 0; i < stats->count; i++) {
		const struct row *row = &stats->rows[i];
		struct uvf_run_stat *stat = &all[count];

		stat->count = atomic_load(&row->count);
		if (!stat->count)
			continue;
		stat->name = uapi_kind_name(i);
		stat->errors = atomic_load(&row->errors);
		stat->total_ns = atomic_load(&row->total_ns);
		stat->max_ns = atomic_load(&row->max_ns);
		stat->p50_ns = percentile(row, stat->count, 50, stat->max_ns);
		stat->p99_ns = percentile(row, stat->count, 99, stat->max_ns);
		count++;
	}
	qsort(all, count, sizeof(*all), by_count);
	for (size_t i = 0; i < count && i < max; i++)
		rows[i] = all[i];
	free(all);
	return count;
}
