/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How much do we add to a socket? A 4-byte region read and write against a bare ping-pong of the
 * same bytes, on one core and as the kernel places them; a map with its unmap while others are
 * live; what an idle device and its connection take. `--json` for machines, `--quick` for tests.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "base/fdpass.h"
#include "wire/wire.h"

#define PAGE 4096ULL

static bool json, quick;
static unsigned printed;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void pin(bool same_core)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (same_core)
		sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void check(int ret, const char *what)
{
	if (ret >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-ret));
	exit(1);
}

static void print(const char *what, uint64_t mappings, double value, const char *unit, double floor)
{
	if (json) {
		printf("%s{\"name\":\"%s\",", printed++ ? ",\n " : "[", what);
		if (mappings)
			printf("\"mappings\":%llu,", (unsigned long long)mappings);
		printf("\"figure\":%.3f,\"unit\":\"%s\",\"floor\":%.3f}", value, unit, floor);
	} else {
		printf("%-44s", what);
		if (mappings)
			printf("%9llu", (unsigned long long)mappings);
		else
			printf("%9s", "");
		printf("%12.2f %-6s", value, unit);
		if (floor > 0)
			printf("floor %10.2f  ratio %.2f", floor, value / floor);
		putchar('\n');
	}
	fflush(stdout);
}

/* ---- The device: registers that are memory ---- */

static uint8_t registers[PAGE];

static int region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	memcpy(buf, registers + offset, count);
	return 0;
}

static int region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count)
{
	memcpy(registers + offset, buf, count);
	return 0;
}

static struct uvf_device *device_new(void)
{
	static const struct uvf_device_ops ops;
	struct uvf_region region = {
		.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
		.size = PAGE,
		.read = region_read,
		.write = region_write,
	};
	struct uvf_device *dev;

	check(uvf_device_new("bench", &ops, VFIO_DEVICE_FLAGS_PCI, NULL, &dev), "device");
	check(uvf_device_add_region(dev, &region), "region");
	return dev;
}

/* ---- The two sides, each a process ---- */

struct sides {
	pid_t child;
	int sock;
	char path[64];
};

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);

	check(sock < 0 ? -errno : 0, "socket");
	strcpy(address.sun_path, path);
	/* An errno is positive. NOLINTNEXTLINE(clang-analyzer-unix.StdCLibraryFunctions) */
	check(connect(sock, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0, "connect");
	return sock;
}

static void serve(const char *path, int ready, bool same_core)
{
	struct uvf_server_config config = {.path = path, .max_dma_maps = 4000000};
	struct uvf_server *server;
	struct uvf_error error = {""};
	char byte = 0;

	pin(same_core);
	if (uvf_server_new(device_new(), &config, &server, &error) || uvf_server_start(server)) {
		fprintf(stderr, "server: %s\n", error.text);
		exit(1);
	}
	check((int)write(ready, &byte, 1), "pipe");
	for (;;)
		pause();
}

static void must_send(int sock, const void *buf, size_t size, const int *fd)
{
	struct iovec iov = {(void *)buf, size};

	check((int)uvf_fdpass_send(sock, &iov, 1, fd, fd ? 1 : 0, 0), "send");
}

static size_t must_receive(int sock, void *buf, size_t size)
{
	int fds[4];
	size_t fd_count;
	ssize_t got = uvf_fdpass_receive(sock, buf, size, fds, 4, &fd_count, 0);

	check(got > 0 ? 0 : got ? (int)got : -ENOTCONN, "receive");
	return (size_t)got;
}

static void start_server(struct sides *sides, bool same_core)
{
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_version version;
		char text[60];
	} __attribute__((packed)) hello = {
		{0, VFIO_USER_VERSION, sizeof(hello), 0, 0},
		{0, 0},
		"{\"capabilities\":{\"max_msg_fds\":8,\"max_dma_maps\":4000000}}",
	};
	uint8_t answer[1024];
	int ready[2];

	snprintf(sides->path, sizeof(sides->path), "/tmp/uvfio-bench-%d", getpid());
	check(pipe(ready), "pipe");
	sides->child = fork();
	if (!sides->child)
		serve(sides->path, ready[1], same_core);
	check((int)read(ready[0], answer, 1), "pipe");
	close(ready[0]);
	close(ready[1]);
	sides->sock = connect_to(sides->path);
	hello.header.size = (uint32_t)(20 + strlen(hello.text) + 1);
	must_send(sides->sock, &hello, hello.header.size, NULL);
	must_receive(sides->sock, answer, sizeof(answer));
}

/* The floor: receives @there bytes and sends @back, with the system calls of the server. */
static void ping_pong(int sock, size_t back, bool same_core)
{
	uint8_t buf[256] = {0};
	int fds[16];
	size_t fd_count;
	struct iovec iov = {buf, back};

	pin(same_core);
	while (uvf_fdpass_receive(sock, buf, sizeof(buf), fds, 16, &fd_count, 0) > 0)
		uvf_fdpass_send(sock, &iov, 1, NULL, 0, 0);
	_exit(0);
}

static void start_floor(struct sides *sides, size_t back, bool same_core)
{
	int pair[2];

	check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	sides->path[0] = 0;
	sides->child = fork();
	if (!sides->child) {
		close(pair[0]);
		ping_pong(pair[1], back, same_core);
	}
	close(pair[1]);
	sides->sock = pair[0];
}

static void stop(struct sides *sides)
{
	close(sides->sock);
	kill(sides->child, SIGKILL);
	waitpid(sides->child, NULL, 0);
	if (sides->path[0])
		unlink(sides->path);
}

/* ---- Round trips ---- */

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

#define SAMPLES 20000

struct side_times {
	struct sides sides;
	uint64_t times[SAMPLES];
};

/* Median us of a round trip of each, taken in turns, so that both have the machine's same moods. */
static void compare_round_trips(const void *message, size_t there, size_t back, bool same_core,
				double medians[2])
{
	static struct side_times both[2];
	unsigned count = quick ? 2000 : SAMPLES;
	uint8_t buf[256];

	start_floor(&both[0].sides, back, same_core);
	start_server(&both[1].sides, same_core);
	for (unsigned i = 0; i < count; i++) {
		/* A hundred at a time: what one leaves in the caches is its own. */
		for (unsigned side = 0; side < 2 && i % 100 == 0; side++)
			for (unsigned j = i; j < i + 100 && j < count; j++) {
				uint64_t start = now_ns();

				must_send(both[side].sides.sock, message, there, NULL);
				if (must_receive(both[side].sides.sock, buf, sizeof(buf)) != back)
					check(-EPROTO, "round trip");
				both[side].times[j] = now_ns() - start;
			}
	}
	for (unsigned side = 0; side < 2; side++) {
		stop(&both[side].sides);
		qsort(both[side].times, count, sizeof(uint64_t), compare);
		medians[side] = (double)both[side].times[count / 2] / 1000;
	}
}

static void bench_access(bool same_core)
{
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_region_access access;
		uint32_t value;
	} message = {{1, VFIO_USER_REGION_READ, 32, 0, 0}, {16, 0, 4}, 1};
	double medians[2];
	cpu_set_t all;

	sched_getaffinity(0, sizeof(all), &all);
	pin(same_core);
	compare_round_trips(&message, 32, 36, same_core, medians);
	print(same_core ? "region read, 4 bytes, same core, median"
			: "region read, 4 bytes, default placement, median",
	      0, medians[1], "us", medians[0]);
	message.header = (struct uvf_wire_header){1, VFIO_USER_REGION_WRITE, 36, 0, 0};
	compare_round_trips(&message, 36, 32, same_core, medians);
	print(same_core ? "region write, 4 bytes, same core, median"
			: "region write, 4 bytes, default placement, median",
	      0, medians[1], "us", medians[0]);
	sched_setaffinity(0, sizeof(all), &all);
}

/* ---- Mappings ---- */

static void map_one(int sock, uint64_t page, int fd)
{
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_dma_map map;
	} message = {
		{1, VFIO_USER_DMA_MAP, sizeof(message), 0, 0},
		/* Every second page is for those that stay. */
		{sizeof(message.map), 3, page * PAGE, page * PAGE, PAGE},
	};
	struct uvf_wire_header answer;

	must_send(sock, &message, sizeof(message), &fd);
	if (must_receive(sock, &answer, sizeof(answer)) != sizeof(answer) || answer.error)
		check(answer.error ? -(int)answer.error : -EPROTO, "map");
}

static void unmap_one(int sock, uint64_t page)
{
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_dma_unmap unmap;
	} message = {
		{1, VFIO_USER_DMA_UNMAP, sizeof(message), 0, 0},
		{sizeof(message.unmap), 0, page * PAGE, PAGE},
	};
	uint8_t answer[64];

	must_send(sock, &message, sizeof(message), NULL);
	if (must_receive(sock, answer, sizeof(answer)) != sizeof(message))
		check(-EPROTO, "unmap");
}

/* Median us of a map and its unmap at a random place among @live others. */
static double map_unmap(int sock, int fd, uint64_t live)
{
	unsigned count = quick ? 500 : 4000;
	static uint64_t times[4000];
	uint64_t random = 88172645463325252ULL;

	for (unsigned i = 0; i < count; i++) {
		uint64_t page, start = now_ns();

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		page = random % live * 2 + 1;
		map_one(sock, page, fd);
		unmap_one(sock, page);
		times[i] = now_ns() - start;
	}
	qsort(times, count, sizeof(uint64_t), compare);
	return (double)times[count / 2] / 1000;
}

static void bench_mappings(void)
{
	static const uint64_t lives[] = {1, 1000, 65000, 1000000};
	struct uvf_wire_header message = {1, VFIO_USER_DEVICE_RESET, 16, 0, 0};
	uint64_t made = 0;
	struct sides sides;
	double first = 0, medians[2];
	cpu_set_t all;
	int fd = memfd_create("bench", 0);

	sched_getaffinity(0, sizeof(all), &all);
	pin(true);
	check(ftruncate(fd, 2000000 * (off_t)PAGE), "memfd");
	compare_round_trips(&message, 16, 16, true, medians);
	print("two ping-pongs, same core: the floor of a map + unmap", 0, 2 * medians[0], "us", 0);
	start_server(&sides, true);
	for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++) {
		double median;

		if (quick && lives[i] > 65000)
			break;
		while (made < lives[i])
			map_one(sides.sock, 2 * made++, fd);
		median = map_unmap(sides.sock, fd, lives[i]);
		if (!i)
			first = median;
		print("map + unmap, same core, median", lives[i], median, "us",
		      i ? first : 2 * medians[0]);
	}
	stop(&sides);
	close(fd);
	sched_setaffinity(0, sizeof(all), &all);
}

/* ---- Idle ---- */

/* What of this process is its own, in bytes. */
static double private_bytes(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	double sum = 0, value;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Private_Clean: %lf", &value) == 1 ||
		    sscanf(line, "Private_Dirty: %lf", &value) == 1)
			sum += value * 1024;
	if (file)
		fclose(file);
	return sum;
}

static void bench_idle(void)
{
	enum { COUNT = 200 };
	struct uvf_server *servers[COUNT];
	struct uvf_device *devices[COUNT];
	int socks[COUNT];
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_version version;
	} hello = {{0, VFIO_USER_VERSION, 20, 0, 0}, {0, 0}};
	double before = private_bytes(), devices_only;
	char path[64], answer[512];

	for (int i = 0; i < COUNT; i++) {
		struct uvf_server_config config = {.path = path};

		snprintf(path, sizeof(path), "/tmp/uvfio-bench-%d-%d", getpid(), i);
		devices[i] = device_new();
		check(uvf_server_new(devices[i], &config, &servers[i], NULL), "server");
	}
	devices_only = private_bytes();
	print("an idle device with its server", 0, (devices_only - before) / COUNT, "bytes", 0);
	for (int i = 0; i < COUNT; i++) {
		snprintf(path, sizeof(path), "/tmp/uvfio-bench-%d-%d", getpid(), i);
		socks[i] = connect_to(path);
		must_send(socks[i], &hello, sizeof(hello), NULL);
		check(uvf_server_process(servers[i]), "process");
		must_receive(socks[i], answer, sizeof(answer));
	}
	print("an idle connection on top", 0, (private_bytes() - devices_only) / COUNT, "bytes", 0);
	for (int i = 0; i < COUNT; i++) {
		close(socks[i]);
		uvf_server_free(servers[i]);
		uvf_device_free(devices[i]);
	}
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		json |= !strcmp(argv[i], "--json");
		quick |= !strcmp(argv[i], "--quick");
	}
	bench_access(true);
	bench_access(false);
	bench_mappings();
	bench_idle();
	if (json)
		printf("]\n");
	return 0;
}
