/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many 4 KiB random reads a second an NVMe device in another process answers: our driver on one
 * core, `uvfio serve` on the other, the queues and doorbells in shared memory between them.
 */
#include "nvme_driver.h"
#include "nvme_floors.h"

#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096u
#define SIZE  (256ULL << 20) /* of the namespace */
#define BATCH 32

#define TRIES  2
#define STEADY 1.15

struct figure {
	const char *back_end; /* the key of the model */
	unsigned depth;
	double goal;
	double rate, floor;
	const char *floor_name;
	double drift; /* the floor after, as a part of the one before */
	size_t clean, slices;
	unsigned tries;
};

static struct figure figures[] = {
	{"null", 1, 1.7e6}, {"null", 32, 6.0e6}, {"null", 128, 8.5e6},
	{"mem", 1, 1.0e6},  {"mem", 32, 1.8e6},	 {"mem", 128, 1.9e6},
};
#define FIGURES (sizeof(figures) / sizeof(figures[0]))

struct bench {
	const char *program; /* uvfio */
	char directory[32], socket[64];
	int cpus[2];
	pid_t device;
};

static void device_stop(struct bench *bench)
{
	if (bench->device > 0) {
		kill(bench->device, SIGTERM);
		waitpid(bench->device, NULL, 0);
	}
	bench->device = 0;
	unlink(bench->socket);
}

static int device_start(struct bench *bench, const char *back_end)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	char spec[64];

	snprintf(spec, sizeof(spec), "nvme,%s=256M,poll=on", back_end);
	bench->device = fork();
	if (bench->device < 0)
		return -errno;
	if (!bench->device) {
		bench_pin(bench->cpus[1]); /* what it starts inherits it */
		execl(bench->program, bench->program, "serve", spec, "--socket", bench->socket,
		      (char *)NULL);
		perror(bench->program);
		_exit(127);
	}
	for (int i = 0; i < 500 && access(bench->socket, F_OK) < 0; i++) {
		if (waitpid(bench->device, NULL, WNOHANG) == bench->device) {
			bench->device = 0;
			return -ECHILD;
		}
		nanosleep(&pause, NULL);
	}
	return access(bench->socket, F_OK) < 0 ? -ETIMEDOUT : 0;
}

/* Block n begins with n: memory that was never written would be one shared page of zeros. */
static int fill(struct nvme_driver *driver, uint8_t *buffer, uvf_iova_t iova)
{
	const struct nvme_driver_info *info = nvme_driver_get_info(driver);
	struct nvme_driver_queue *queue = nvme_driver_queue(driver, 0);
	uint32_t blocks = BLOCK / info->block_size;
	uint32_t count = info->max_transfer < 64 * BLOCK ? info->max_transfer / BLOCK : 64;

	for (uint64_t n = 0; n < SIZE / BLOCK; n += count) {
		int ret;

		for (uint64_t i = 0; i < count; i++) {
			uint64_t stamp = n + i;

			memcpy(buffer + i * BLOCK, &stamp, sizeof(stamp));
		}
		ret = nvme_driver_io(queue, NVME_IO_WRITE, n * blocks, count * blocks, iova);
		if (ret)
			return ret < 0 ? ret : -EIO;
	}
	return 0;
}

struct run {
	struct nvme_driver_queue *queue;
	uint8_t *buffers; /* one a command identifier */
	uvf_iova_t iova;
	uint32_t nsid, blocks; /* blocks of the device in one of ours */
	uint64_t state;	       /* of the random numbers */
	uint64_t *expected;    /* by command identifier, when verifying */
	uint64_t wrong;
};

static inline void submit_one(struct run *run)
{
	struct nvme_driver_command *command = nvme_driver_prepare(run->queue);
	uint16_t cid = le16toh(command->cid);
	uint64_t n = bench_random(&run->state) & (SIZE / BLOCK - 1);

	nvme_driver_fill(command, NVME_IO_READ, run->nsid, n * run->blocks, run->blocks,
			 run->iova + (uint64_t)cid * BLOCK, 0);
	if (run->expected)
		run->expected[cid] = n;
}

static void verify(struct run *run, const struct nvme_driver_done *done)
{
	uint64_t stamp;

	memcpy(&stamp, run->buffers + (uint64_t)done->cid * BLOCK, sizeof(stamp));
	run->wrong += stamp != run->expected[done->cid];
}

/* Keeps the queue full until @count more are done. Returns how many were, or an error. */
static int64_t reads(struct run *run, uint64_t count)
{
	struct nvme_driver_done done[BATCH];
	uint64_t total = 0, idle = 0;

	while (total < count) {
		int n = nvme_driver_poll(run->queue, done, BATCH);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			if (done[i].status)
				return -EIO;
			if (run->expected)
				verify(run, &done[i]);
		}
		/* Not before all were looked at: the identifiers are used again. */
		for (int i = 0; i < n; i++)
			submit_one(run);
		nvme_driver_ring(run->queue);
		total += (uint64_t)n;
		idle = n ? 0 : idle + 1;
		if (idle > 1ULL << 32)
			return -ETIMEDOUT;
	}
	return (int64_t)total;
}

static int measure(struct bench *bench, struct run *run, struct figure *figure)
{
	static struct bench_rates rates;
	int64_t done = reads(run, 100000); /* warm */
	bool more;

	if (done < 0)
		return (int)done;
	memset(&rates, 0, sizeof(rates));
	do {
		struct bench_slice slice = bench_slice_begin(bench->device);
		uint64_t total = 0;

		do {
			done = reads(run, 200);
			if (done < 0)
				return (int)done;
			total += (uint64_t)done;
		} while (!bench_slice_over(&slice));
		more = bench_slice_add(&rates, &slice, total, 2);
	} while (more);
	figure->rate = bench_median(&rates);
	figure->clean = rates.clean_count;
	figure->slices = rates.count;
	return 0;
}

static int with_driver(struct bench *bench, struct nvme_driver *driver, struct figure *figure)
{
	const struct nvme_driver_info *info = nvme_driver_get_info(driver);
	bool data = !strcmp(figure->back_end, "mem");
	struct run run = {
		.queue = nvme_driver_queue(driver, 0),
		.nsid = info->nsid,
		.blocks = BLOCK / info->block_size,
		.state = 88172645463325252ULL,
	};
	uint64_t size = (info->depth > 64u ? info->depth : 64u) * (uint64_t)BLOCK;
	int64_t ret = 0;

	run.buffers = nvme_driver_alloc(driver, size, &run.iova);
	if (!run.buffers)
		return -ENOMEM;
	if (!info->mapped_doorbells)
		fprintf(stderr, "bench: the doorbells are not mapped\n");
	if (data) {
		ret = fill(driver, run.buffers, run.iova);
		run.expected = calloc(info->depth, sizeof(*run.expected));
		if (!run.expected)
			return -ENOMEM;
	}
	if (ret)
		goto out;
	for (unsigned i = 0; i < info->depth; i++)
		submit_one(&run);
	nvme_driver_ring(run.queue);
	if (data) {
		ret = reads(&run, 20000);
		if (ret >= 0 && run.wrong) {
			fprintf(stderr, "bench: %llu of %lld blocks were wrong\n",
				(unsigned long long)run.wrong, (long long)ret);
			ret = -EILSEQ;
		}
	}
	if (ret >= 0) {
		free(run.expected);
		run.expected = NULL;
		ret = measure(bench, &run, figure);
	}
out:
	free(run.expected);
	return (int)ret;
}

static int figure_run(struct bench *bench, struct figure *figure)
{
	const struct uvf_client_config client = {.path = bench->socket};
	const struct nvme_driver_config config = {
		.depth = (uint16_t)figure->depth,
		.hugepages = true,
	};
	struct uvf_error error = {""};
	struct uvf_device *dev = NULL;
	struct nvme_driver *driver = NULL;
	int ret = device_start(bench, figure->back_end);

	if (ret) {
		fprintf(stderr, "bench: can't start %s: %s\n", bench->program, strerror(-ret));
		goto out;
	}
	ret = uvf_client_connect(&client, &dev, &error);
	if (!ret)
		ret = nvme_driver_open(dev, &config, &driver, &error);
	if (ret) {
		fprintf(stderr, "bench: %s: %s\n", error.text, strerror(-ret));
		goto out;
	}
	ret = with_driver(bench, driver, figure);
	if (ret)
		fprintf(stderr, "bench: %s, depth %u: %s\n", figure->back_end, figure->depth,
			strerror(-ret));
out:
	nvme_driver_close(driver);
	uvf_device_free(dev);
	device_stop(bench);
	return ret;
}

static void print_json(void)
{
	for (size_t i = 0; i < FIGURES; i++) {
		const struct figure *figure = &figures[i];

		printf("%s\n{\"name\": \"4 KiB random read, %s, depth %u\", \"unit\": \"IOPS\", "
		       "\"figure\": %.0f, \"goal\": %.0f, \"floor\": %.0f, \"floor_name\": \"%s\", "
		       "\"floor_drift\": %.2f, \"clean_slices\": %zu, \"slices\": %zu, "
		       "\"tries\": %u}",
		       i ? "," : "[", figure->back_end, figure->depth, figure->rate, figure->goal,
		       figure->floor, figure->floor_name, figure->drift, figure->clean,
		       figure->slices, figure->tries);
	}
	printf("\n]\n");
}

static void print_table(void)
{
	printf("%-8s %6s %10s %10s %10s %7s %6s %9s %6s  %s\n", "back end", "depth", "M IOPS",
	       "goal", "floor", "ratio", "drift", "clean", "tries", "the floor is");
	for (size_t i = 0; i < FIGURES; i++) {
		const struct figure *figure = &figures[i];

		printf("%-8s %6u %10.2f %10.2f %10.2f %7.2f %6.2f %4zu/%-4zu %6u  %s\n",
		       figure->back_end, figure->depth, figure->rate / 1e6, figure->goal / 1e6,
		       figure->floor / 1e6, figure->rate / figure->floor, figure->drift,
		       figure->clean, figure->slices, figure->tries, figure->floor_name);
	}
}

static void floor_run(const struct bench *bench, struct figure *figure)
{
	if (!strcmp(figure->back_end, "mem")) {
		figure->floor = bench_floor_memcpy(SIZE);
		figure->floor_name = "a bare 4 KiB memcpy from 256 MiB";
	} else {
		figure->floor = bench_floor_ring(bench->cpus, figure->depth);
		figure->floor_name = figure->depth == 1 ? "one cache line there and back"
							: "64 bytes there, 16 back, in bare rings";
	}
}

/*
 * Where the two cores are virtual, how far apart they are changes while we look. A figure counts
 * where its floor was the same before and after it; of a few tries the steadiest is kept.
 */
static int figure_try(struct bench *bench, struct figure *figure)
{
	struct figure best = *figure;
	int failed = 0;

	for (unsigned tries = 1; tries <= TRIES; tries++) {
		double before;

		floor_run(bench, figure);
		before = figure->floor;
		failed |= figure_run(bench, figure);
		floor_run(bench, figure);
		figure->drift = figure->floor / before;
		figure->floor = (figure->floor + before) / 2;
		if (tries == 1 || fabs(log(figure->drift)) < fabs(log(best.drift)))
			best = *figure;
		best.tries = tries;
		if (failed || fabs(log(best.drift)) < log(STEADY))
			break;
	}
	*figure = best;
	return failed;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"uvfio", required_argument, NULL, 'u'},
		{0},
	};
	struct bench bench = {.program = "build/uvfio"};
	bool json = false;
	int option, failed = 0;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'j') {
			json = true;
		} else if (option == 'u') {
			bench.program = optarg;
		} else {
			fprintf(stderr, "usage: %s [--json] [--uvfio PROGRAM]\n", argv[0]);
			return 2;
		}
	}
	if (bench_cpus(bench.cpus)) {
		fprintf(stderr, "bench: needs two cores\n");
		return 1;
	}
	strcpy(bench.directory, "/tmp/uvfio-bench.XXXXXX");
	if (!mkdtemp(bench.directory)) {
		perror("mkdtemp");
		return 1;
	}
	snprintf(bench.socket, sizeof(bench.socket), "%s/nvme", bench.directory);
	bench_pin(bench.cpus[0]);
	for (size_t i = 0; i < FIGURES; i++)
		failed |= figure_try(&bench, &figures[i]);
	rmdir(bench.directory);
	if (json)
		print_json();
	else
		print_table();
	return failed ? 1 : 0;
}
