/* SPDX-License-Identifier: BSD-3-Clause */
/* What benchmark programs share: a clock, medians, and rows for people or, as JSON, for programs.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static inline void need(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror((int)-result));
	exit(1);
}

static inline int compare_doubles(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

static inline double median(double *values, size_t count)
{
	qsort(values, count, sizeof(values[0]), compare_doubles);
	return values[count / 2];
}

struct table {
	bool json;
	unsigned printed;
};

/* @mappings 0 and @floor 0: there are none. */
static inline void print(struct table *table, const char *name, uint64_t mappings, double figure,
			 double floor, const char *unit)
{
	char label[64];

	if (table->json) {
		printf("%s\n{\"name\": \"%s\", \"mappings\": %llu, \"figure\": %.3f, "
		       "\"floor\": %.3f, \"unit\": \"%s\"}",
		       table->printed++ ? "," : "[", name, (unsigned long long)mappings, figure,
		       floor, unit);
		return;
	}
	snprintf(label, sizeof(label), mappings ? "%s, %llu" : "%s", name,
		 (unsigned long long)mappings);
	printf("%-44s %11.2f", label, figure);
	if (floor > 0)
		printf(" %11.2f %6.2f", floor, figure / floor);
	else
		printf(" %11s %6s", "", "");
	printf(" %s\n", unit);
	fflush(stdout);
}

static inline void end_table(const struct table *table)
{
	if (table->json)
		printf("\n]\n");
}

#endif
