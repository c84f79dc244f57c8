/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a 4 KiB random read costs through an NVMe device whose storage is an NBD server's export: a
 * driver, the controller and nbdkit with a disk in memory. The floor is a bare libnbd client of the
 * same server at the same depth. The two take turns, and each figure is the median of its turns.
 */
#include "nvme_driver.h"

#include <getopt.h>
#include <libnbd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/model.h>

#define BLOCK	4096u
#define SIZE	(256ull << 20)
#define TURNS	9
#define TURN_NS 200000000u
#define DEEPEST 128u

struct figure {
	unsigned depth;
	double device, bare; /* ns a read */
};

static struct figure figures[] = {{.depth = 1}, {.depth = 32}, {.depth = DEEPEST}};
#define FIGURES (sizeof(figures) / sizeof(figures[0]))

struct bench {
	char directory[32], socket[64], uri[128];
	pid_t server;
	uint64_t state; /* of the random numbers */
	struct nbd_handle *handle;
	char *buffers;
	unsigned completed;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t random_offset(struct bench *bench)
{
	bench->state ^= bench->state << 13;
	bench->state ^= bench->state >> 7;
	bench->state ^= bench->state << 17;
	return bench->state % (SIZE / BLOCK) * BLOCK;
}

static int server_start(struct bench *bench)
{
	const struct timespec pause = {.tv_nsec = 10000000};

	bench->server = fork();
	if (bench->server < 0)
		return -errno;
	if (!bench->server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp("nbdkit", "nbdkit", "-f", "-U", bench->socket, "memory", "256M",
		       (char *)NULL);
		perror("nbdkit");
		_exit(127);
	}
	for (int i = 0; i < 500; i++) {
		bench->handle = nbd_create();
		if (!bench->handle)
			return -ENOMEM;
		nbd_set_pread_initialize(bench->handle, false);
		nbd_set_request_structured_replies(bench->handle, false);
		if (!nbd_connect_uri(bench->handle, bench->uri))
			return 0;
		nbd_close(bench->handle);
		bench->handle = NULL;
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

/* ---- The floor ---- */

static int completed(void *opaque, int *error)
{
	((struct bench *)opaque)->completed += !*error;
	return 1;
}

/* Returns ns a read, or a negative errno. */
static double bare_turn(struct bench *bench, unsigned depth)
{
	const nbd_completion_callback done = {.callback = completed, .user_data = bench};
	uint64_t begin = now_ns(), total = 0, taken = 0;

	bench->completed = 0;
	for (bool over = false; !over || taken < total; over |= now_ns() - begin >= TURN_NS) {
		for (; !over && total - taken < depth; total++) {
			char *buffer = bench->buffers + total % depth * BLOCK;

			if (nbd_aio_pread(bench->handle, buffer, BLOCK, random_offset(bench), done,
					  0) < 0)
				return -EIO;
		}
		if (nbd_poll(bench->handle, -1) < 0)
			return -EIO;
		taken = bench->completed;
	}
	return (double)(now_ns() - begin) / (double)total;
}

/* ---- The device ---- */

static double device_turn(struct bench *bench, struct nvme_driver *driver, uvf_iova_t iova,
			  unsigned depth)
{
	const struct nvme_driver_info *info = nvme_driver_get_info(driver);
	struct nvme_driver_queue *queue = nvme_driver_queue(driver, 0);
	uint32_t blocks = BLOCK / info->block_size;
	uint64_t begin = now_ns(), total = 0, taken = 0;
	struct nvme_driver_done done[32];

	for (bool over = false; !over || taken < total; over |= now_ns() - begin >= TURN_NS) {
		int count;

		for (; !over && total - taken < depth; total++) {
			struct nvme_driver_command *command = nvme_driver_prepare(queue);
			uint64_t buffer = iova + (uint64_t)le16toh(command->cid) * BLOCK;

			nvme_driver_fill(command, NVME_IO_READ, info->nsid,
					 random_offset(bench) / info->block_size, blocks, buffer,
					 0);
		}
		nvme_driver_ring(queue);
		count = nvme_driver_wait(queue, done, 32, 10000);
		if (count < 0)
			return count;
		for (int i = 0; i < count; i++)
			if (done[i].status)
				return -EIO;
		taken += (uint64_t)count;
	}
	return (double)(now_ns() - begin) / (double)total;
}

/* ---- Both ---- */

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

static double median(double *values)
{
	qsort(values, TURNS, sizeof(*values), compare);
	return values[TURNS / 2];
}

static int figure_run(struct bench *bench, struct uvf_device *dev, struct figure *figure)
{
	const struct nvme_driver_config config = {.depth = DEEPEST + 1, .interrupts = true};
	double device[TURNS], bare[TURNS];
	struct uvf_error error = {""};
	struct nvme_driver *driver;
	uvf_iova_t iova;
	int ret = nvme_driver_open(dev, &config, &driver, &error);

	if (ret) {
		fprintf(stderr, "bench: %s: %s\n", error.text, strerror(-ret));
		return ret;
	}
	if (!nvme_driver_alloc(driver, (DEEPEST + 1) * BLOCK, &iova))
		ret = -ENOMEM;
	for (unsigned i = 0; i < TURNS && !ret; i++) {
		device[i] = device_turn(bench, driver, iova, figure->depth);
		bare[i] = bare_turn(bench, figure->depth);
		if (device[i] < 0 || bare[i] < 0)
			ret = -EIO;
	}
	nvme_driver_close(driver);
	if (ret) {
		fprintf(stderr, "bench: depth %u: %s\n", figure->depth, strerror(-ret));
		return ret;
	}
	figure->device = median(device);
	figure->bare = median(bare);
	return 0;
}

static int run(struct bench *bench)
{
	struct uvf_error error = {""};
	struct uvf_device *dev;
	char spec[160];
	int ret = server_start(bench);

	if (ret) {
		fprintf(stderr, "bench: no nbdkit: %s\n", strerror(-ret));
		return ret;
	}
	snprintf(spec, sizeof(spec), "nvme,nbd=%s", bench->uri);
	ret = uvf_model_create(spec, &dev, &error);
	if (ret) {
		fprintf(stderr, "bench: %s\n", error.text);
		return ret;
	}
	bench->buffers = calloc(DEEPEST, BLOCK);
	for (size_t i = 0; i < FIGURES && !ret; i++)
		ret = bench->buffers ? figure_run(bench, dev, &figures[i]) : -ENOMEM;
	uvf_device_free(dev);
	return ret;
}

static void print(bool json)
{
	for (size_t i = 0; i < FIGURES; i++)
		if (json)
			printf("%s\n{\"name\": \"4 KiB random read, depth %u\", \"unit\": \"ns\", "
			       "\"figure\": %.0f, \"floor\": %.0f}",
			       i ? "," : "[", figures[i].depth, figures[i].device, figures[i].bare);
		else
			printf("depth %3u: %8.0f ns a read, a bare client %8.0f ns, ratio %.2f\n",
			       figures[i].depth, figures[i].device, figures[i].bare,
			       figures[i].device / figures[i].bare);
	if (json)
		printf("\n]\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
	struct bench bench = {.state = 88172645463325252ull};
	bool json = false;
	int option, ret;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'j') {
			fprintf(stderr, "usage: %s [--json]\n", argv[0]);
			return 2;
		}
		json = true;
	}
	strcpy(bench.directory, "/tmp/uvfio-bench.XXXXXX");
	if (!mkdtemp(bench.directory)) {
		perror("mkdtemp");
		return 1;
	}
	snprintf(bench.socket, sizeof(bench.socket), "%s/nbd", bench.directory);
	snprintf(bench.uri, sizeof(bench.uri), "nbd+unix:///?socket=%s", bench.socket);
	ret = run(&bench);
	nbd_close(bench.handle);
	free(bench.buffers);
	if (bench.server > 0) {
		kill(bench.server, SIGTERM);
		waitpid(bench.server, NULL, 0);
	}
	unlink(bench.socket);
	rmdir(bench.directory);
	if (!ret)
		print(json);
	return ret ? 1 : 0;
}
