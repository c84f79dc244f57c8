/* SPDX-License-Identifier: BSD-3-Clause */
/* The processors near a device, as sysfs writes them. */
#include "frontends/uapi/sysfs_cpus.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS (UAPI_CPUS_MAX / 32)

static bool read_line(const char *path, char *line, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t count;

	if (fd < 0)
		return false;
	count = read(fd, line, size - 1);
	close(fd);
	if (count <= 0)
		return false;
	line[count] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return true;
}

/* Sets the bits of "0-3,8", and tells the highest. */
static unsigned parse(const char *list, uint32_t words[WORDS])
{
	unsigned highest = 0;

	while (*list) {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = first;

		if (end == list)
			break;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (unsigned long cpu = first; cpu <= last && cpu < UAPI_CPUS_MAX; cpu++) {
			words[cpu / 32] |= 1u << cpu % 32;
			highest = (unsigned)cpu > highest ? (unsigned)cpu : highest;
		}
		list = *end == ',' ? end + 1 : end;
	}
	return highest;
}

void uapi_cpus_of_node(int node, struct uapi_cpus *cpus)
{
	uint32_t words[WORDS] = {0}, possible_words[WORDS] = {0};
	char path[64], possible[1024];
	unsigned last, possible_last;
	size_t length = 0;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", node);
	if ((node < 0 || !read_line(path, cpus->list, sizeof(cpus->list))) &&
	    !read_line("/sys/devices/system/cpu/online", cpus->list, sizeof(cpus->list)))
		strcpy(cpus->list, "0");
	if (!read_line("/sys/devices/system/cpu/possible", possible, sizeof(possible)))
		strcpy(possible, cpus->list);
	last = parse(cpus->list, words);
	possible_last = parse(possible, possible_words);
	last = last > possible_last ? last : possible_last;
	/* The highest word has as many digits as there are processors for. */
	for (unsigned word = last / 32 + 1; word-- > 0;) {
		int digits = word == last / 32 ? (int)(last % 32) / 4 + 1 : 8;

		length += (size_t)snprintf(cpus->mask + length, sizeof(cpus->mask) - length,
					   "%s%0*x", length ? "," : "", digits, words[word]);
	}
}
