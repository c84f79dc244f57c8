/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The demo's driver process: writes stamped blocks to an NVMe device at depth, says how far it has
 * flushed, and checks afterwards that all of that is there.
 *
 * Write number n, from 1, goes to block n % blocks and fills it with words made from n. After
 * "flushed up to F", block b holds a whole write n with n % blocks == b that is not older than the
 * last such n up to F. Later, unflushed writes may be there or not.
 */
#include "nvme_driver.h"

#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/describe.h"

#define BLOCK	    4096u
#define WORDS	    (BLOCK / sizeof(uint64_t))
#define DEPTH	    64u
#define FLUSH_EVERY 4096u
#define MAX_BLOCKS  16384u /* 64 MiB, however large the device is */

struct io {
	struct nvme_driver *driver;
	struct nvme_driver_queue *queue;
	const struct nvme_driver_info *info;
	uint8_t *buffers; /* one a command identifier */
	uvf_iova_t iova;
	uint64_t blocks;      /* of 4 KiB */
	uint64_t *block_of;   /* by command identifier */
	uint64_t bad, newest; /* while reading */
	uint64_t flushed;
	uint64_t in_flight;
	uint64_t writes, reads;
};

static double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
	return value ^ value >> 31;
}

static void stamp(uint64_t *words, uint64_t n)
{
	words[0] = n;
	for (size_t i = 1; i < WORDS; i++)
		words[i] = mix(n * WORDS + i);
}

/* The last write up to @flushed that went to @block; 0: none. */
static uint64_t last_write(const struct io *io, uint64_t block)
{
	uint64_t back = (io->flushed % io->blocks + io->blocks - block) % io->blocks;

	return io->flushed > back ? io->flushed - back : 0;
}

static void check(struct io *io, uint64_t block, const uint64_t *words)
{
	uint64_t n = words[0], wanted = last_write(io, block);
	bool whole = true;

	if (!n && !wanted)
		return; /* never written */
	for (size_t i = 1; i < WORDS; i++)
		whole &= words[i] == mix(n * WORDS + i);
	if (whole && n >= wanted && n % io->blocks == block) {
		if (n > io->newest)
			io->newest = n;
		return;
	}
	if (io->bad++ < 5)
		printf("block %" PRIu64 ": write %" PRIu64 "%s, expected %" PRIu64 " or later\n",
		       block, n, whole ? "" : " (torn)", wanted);
}

static int submit(struct io *io, uint8_t opcode, uint64_t block, uint64_t n)
{
	struct nvme_driver_command *command = nvme_driver_prepare(io->queue);
	uint32_t blocks = BLOCK / io->info->block_size;
	uint16_t cid;

	if (!command)
		return -EAGAIN;
	cid = le16toh(command->cid);
	io->block_of[cid] = block;
	if (opcode == NVME_IO_WRITE)
		stamp((uint64_t *)(void *)(io->buffers + (size_t)cid * BLOCK), n);
	nvme_driver_fill(command, opcode, io->info->nsid, block * blocks, blocks,
			 io->iova + (uint64_t)cid * BLOCK, 0);
	io->in_flight++;
	return 0;
}

/* Takes what is done, waiting for one at least. */
static int take(struct io *io, bool reading)
{
	struct nvme_driver_done done[DEPTH];
	int count = nvme_driver_wait(io->queue, done, DEPTH, 10000);

	for (int i = 0; i < count; i++) {
		uint16_t cid = done[i].cid;

		if (done[i].status) {
			printf("the device fails a command: status %#x\n", done[i].status);
			return -EIO;
		}
		if (reading)
			check(io, io->block_of[cid],
			      (uint64_t *)(void *)(io->buffers + (size_t)cid * BLOCK));
	}
	if (count < 0)
		return count;
	io->in_flight -= (uint64_t)count;
	*(reading ? &io->reads : &io->writes) += (uint64_t)count;
	return 0;
}

static int drain(struct io *io, bool reading)
{
	int ret = 0;

	while (io->in_flight && !ret)
		ret = take(io, reading);
	return ret;
}

/* Reads and checks @count blocks from @first on, at depth. */
static int read_blocks(struct io *io, uint64_t first, uint64_t count)
{
	int ret = 0;

	for (uint64_t i = 0; i < count && !ret;) {
		while (i < count && !submit(io, NVME_IO_READ, (first + i) % io->blocks, 0))
			i++;
		nvme_driver_ring(io->queue);
		ret = take(io, true);
	}
	return ret ? ret : drain(io, true);
}

/* Writes @count stamped blocks from number @n on, then flushes and says so. */
static int write_blocks(struct io *io, uint64_t n, uint64_t count)
{
	int ret = 0;

	for (uint64_t i = 0; i < count && !ret;) {
		while (i < count && !submit(io, NVME_IO_WRITE, (n + i) % io->blocks, n + i))
			i++;
		nvme_driver_ring(io->queue);
		ret = take(io, false);
	}
	if (!ret)
		ret = drain(io, false);
	if (ret)
		return ret;
	ret = nvme_driver_flush(io->queue);
	if (ret)
		return ret < 0 ? ret : -EIO;
	io->flushed = n + count - 1;
	printf("flushed up to %" PRIu64 "\n", io->flushed);
	fflush(stdout);
	return 0;
}

static int verify(struct io *io)
{
	double begin = now_seconds(), seconds;
	int ret = read_blocks(io, 0, io->blocks);

	if (ret)
		return ret;
	seconds = now_seconds() - begin;
	if (io->bad) {
		printf("LOST: %" PRIu64 " blocks are not as flushed\n", io->bad);
		return -EILSEQ;
	}
	printf("verified %" PRIu64 " blocks in %.2f s (%.0f MB/s): all that was flushed, up to "
	       "%" PRIu64 ", is intact; the newest write found is %" PRIu64 "\n",
	       io->blocks, seconds, (double)(io->blocks * BLOCK) / 1e6 / seconds, io->flushed,
	       io->newest);
	return 0;
}

/* Writes for @seconds; after each flush reads back what it has just written. */
static int work(struct io *io, double seconds)
{
	double begin = now_seconds(), write_time = 0, read_time = 0, now = begin;
	/* Again what was not flushed: some of it may be missing. */
	uint64_t n = io->flushed + 1;

	io->reads = 0;
	while (now - begin < seconds) {
		double between;
		int ret = write_blocks(io, n, FLUSH_EVERY);

		if (ret)
			return ret;
		between = now_seconds();
		ret = read_blocks(io, n % io->blocks, FLUSH_EVERY);
		if (ret)
			return ret;
		if (io->bad)
			return -EILSEQ;
		write_time += between - now;
		now = now_seconds();
		read_time += now - between;
		n += FLUSH_EVERY;
	}
	printf("wrote %.0f, read and verified %.0f blocks of 4 KiB a second at depth %u\n",
	       (double)io->writes / write_time, (double)io->reads / read_time, DEPTH);
	return 0;
}

/* As `uvfio show` does. */
static int show(struct uvf_device *dev, const char *path)
{
	struct json_object *object = json_object_new_object();
	int ret;

	json_object_object_add(object, "socket", json_object_new_string(path));
	ret = describe_device(dev, object);
	print_tree(object, false);
	return ret;
}

static void print_controller(const struct nvme_driver_info *info)
{
	printf("NVMe %u.%u \"%s\", serial %s, firmware %s: %" PRIu64 " blocks of %u bytes, %s\n",
	       info->version >> 16, info->version >> 8 & 0xff, info->model, info->serial,
	       info->firmware, info->blocks, info->block_size,
	       info->shadow_doorbells	? "shadow doorbells"
	       : info->mapped_doorbells ? "mapped doorbells"
					: "doorbells by message");
}

static int run(struct io *io, double seconds)
{
	uint64_t size = io->info->blocks * io->info->block_size;
	int ret;

	io->blocks = size / BLOCK < MAX_BLOCKS ? size / BLOCK : MAX_BLOCKS;
	if (io->info->block_size > BLOCK || io->blocks < 2 * FLUSH_EVERY) {
		printf("the device is too small: at least %u MiB\n", 2 * FLUSH_EVERY * BLOCK >> 20);
		return -EINVAL;
	}
	io->buffers = nvme_driver_alloc(io->driver, (uint64_t)DEPTH * BLOCK, &io->iova);
	io->block_of = calloc(DEPTH, sizeof(*io->block_of));
	if (!io->buffers || !io->block_of)
		return -ENOMEM;
	print_controller(io->info);
	ret = verify(io);
	if (!ret && seconds > 0)
		ret = work(io, seconds);
	if (io->queue->eventfd >= 0)
		printf("interrupts: %" PRIu64 "\n", io->queue->interrupts);
	return ret;
}

static int usage(const char *program)
{
	fprintf(stderr,
		"usage: %s [--flushed N] [--seconds S] [--shadow] [--interrupts] [--show] "
		"SOCKET\n"
		"Checks what was flushed before (up to N; 0: nothing), then works for S seconds.\n",
		program);
	return 2;
}

/* What the command line asks for. */
struct wish {
	struct nvme_driver_config config;
	const char *socket;
	uint64_t flushed;
	double seconds;
	bool show;
};

static bool take_arguments(int argc, char **argv, struct wish *wish)
{
	static const struct option options[] = {
		{"flushed", required_argument, NULL, 'f'},
		{"seconds", required_argument, NULL, 's'},
		{"shadow", no_argument, NULL, 'd'},
		{"interrupts", no_argument, NULL, 'i'},
		{"show", no_argument, NULL, 'w'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'f')
			wish->flushed = strtoull(optarg, NULL, 10);
		else if (option == 's')
			wish->seconds = strtod(optarg, NULL);
		else if (option == 'd')
			wish->config.shadow_doorbells = true;
		else if (option == 'i')
			wish->config.interrupts = true;
		else if (option == 'w')
			wish->show = true;
		else
			return false;
	}
	wish->socket = argv[optind];
	return optind + 1 == argc;
}

int main(int argc, char **argv)
{
	struct wish wish = {.config = {.depth = DEPTH}};
	struct uvf_client_config client = {0};
	struct uvf_device *dev = NULL;
	struct uvf_error error = {""};
	struct io io = {0};
	int ret;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!take_arguments(argc, argv, &wish))
		return usage(argv[0]);
	client.path = wish.socket;
	io.flushed = wish.flushed;
	ret = uvf_client_connect(&client, &dev, &error);
	if (!ret)
		ret = nvme_driver_open(dev, &wish.config, &io.driver, &error);
	if (ret) {
		printf("can't drive %s: %s\n", client.path, error.text);
	} else {
		io.queue = nvme_driver_queue(io.driver, 0);
		io.info = nvme_driver_get_info(io.driver);
		if (wish.show)
			ret = show(dev, wish.socket);
		if (!ret)
			ret = run(&io, wish.seconds);
		if (ret)
			printf("stopped: %s\n", strerror(-ret));
	}
	nvme_driver_close(io.driver);
	uvf_device_free(dev);
	free(io.block_of);
	return ret ? 1 : 0;
}
