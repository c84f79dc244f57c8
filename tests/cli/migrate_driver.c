/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_driver SOCKET [nvme|ioat] [OPTION...]: a driver at work while its device moves. Each
 * block that it reads is checked. It ends when its standard input does, and says then what it has
 * done, in one line of JSON; its status is not 0 when anything was wrong.
 *
 * Options: interrupts (wait for them), remote (memory by messages; ioat), registers (doorbells by
 * messages), shadow (shadow doorbells).
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "nvme_driver.h"

#define BLOCK  4096u
#define BLOCKS 4096u /* 16 MiB of the device */
#define DEPTH  16u

struct options {
	bool interrupts, remote, registers, shadow;
};

static uint64_t done_blocks, bad_blocks, longest_ns;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool is_told_to_end(void)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&in, 1, 0) > 0;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void fill(uint64_t *words, uint64_t block, uint64_t generation)
{
	uint64_t seed = (block << 32 | generation) * 0x9e3779b97f4a7c15ULL | 1;

	words[0] = block;
	words[1] = generation;
	for (size_t i = 2; i < BLOCK / 8; i++)
		words[i] = next_random(&seed);
}

static bool is_filled(const uint64_t *words, uint64_t block, uint64_t generation)
{
	uint64_t expected[BLOCK / 8];

	fill(expected, block, generation);
	return !memcmp(words, expected, BLOCK);
}

static int fail(const char *what, int ret)
{
	fprintf(stderr, "migrate_driver: %s: %d\n", what, ret);
	return 1;
}

/* ---- NVMe: random writes, and reads of what was written ---- */

struct slot {
	bool busy, writing;
	uint32_t block;
	uint64_t generation;
	uint64_t since;
};

struct disk {
	struct nvme_driver *driver;
	struct nvme_driver_queue *queue;
	uint8_t *buffers;
	uvf_iova_t iova;
	uint32_t sectors; /* in a block */
	uint64_t generations[BLOCKS];
	bool in_use[BLOCKS];
	struct slot slots[DEPTH];
	uint64_t random;
};

static void submit(struct disk *disk)
{
	struct nvme_driver_command *command;

	while ((command = nvme_driver_prepare(disk->queue))) {
		uint16_t cid = le16toh(command->cid);
		struct slot *slot = &disk->slots[cid];
		uint32_t block;

		do
			block = (uint32_t)(next_random(&disk->random) % BLOCKS);
		while (disk->in_use[block]);
		disk->in_use[block] = true;
		*slot = (struct slot){
			.busy = true,
			.block = block,
			.writing = !disk->generations[block] || next_random(&disk->random) & 1,
			.since = now_ns(),
		};
		slot->generation = disk->generations[block] + slot->writing;
		if (slot->writing)
			fill((uint64_t *)(disk->buffers + cid * BLOCK), block, slot->generation);
		else
			memset(disk->buffers + cid * BLOCK, 0x5a, BLOCK);
		nvme_driver_fill(command, slot->writing ? NVME_IO_WRITE : NVME_IO_READ,
				 nvme_driver_get_info(disk->driver)->nsid,
				 (uint64_t)block * disk->sectors, disk->sectors,
				 disk->iova + cid * BLOCK, 0);
	}
	nvme_driver_ring(disk->queue);
}

static int complete(struct disk *disk, bool interrupts)
{
	struct nvme_driver_done done[DEPTH];
	int count;

	count = interrupts ? nvme_driver_wait(disk->queue, done, DEPTH, 30000)
			   : nvme_driver_poll(disk->queue, done, DEPTH);
	for (int i = 0; i < count; i++) {
		struct slot *slot = &disk->slots[done[i].cid];
		uint64_t took = now_ns() - slot->since;

		if (took > longest_ns)
			longest_ns = took;
		if (done[i].status)
			return -1000 - done[i].status;
		if (slot->writing)
			disk->generations[slot->block] = slot->generation;
		else if (!is_filled((uint64_t *)(disk->buffers + done[i].cid * BLOCK), slot->block,
				    slot->generation))
			bad_blocks++;
		disk->in_use[slot->block] = slot->busy = false;
		done_blocks++;
	}
	return count;
}

static bool is_busy(const struct disk *disk)
{
	for (unsigned i = 0; i < DEPTH; i++)
		if (disk->slots[i].busy)
			return true;
	return false;
}

/* Nothing may take this long: a doorbell or an interrupt was lost. */
static bool is_stuck(const struct disk *disk)
{
	for (unsigned i = 0; i < DEPTH; i++)
		if (disk->slots[i].busy && now_ns() - disk->slots[i].since > 30000000000ULL)
			return true;
	return false;
}

static int work_disk(struct disk *disk, const struct options *options)
{
	uint64_t looked_at = 0;
	bool end = false;
	int ret = 0;

	while (ret >= 0 && (!end || is_busy(disk))) {
		if (!end)
			submit(disk);
		ret = complete(disk, options->interrupts);
		if (now_ns() - looked_at < 10000000)
			continue;
		looked_at = now_ns();
		end = end || is_told_to_end();
		if (is_stuck(disk))
			return fail("stuck", 0);
	}
	return ret < 0 ? fail("I/O", ret) : 0;
}

static int run_nvme(struct uvf_device *dev, const struct options *options)
{
	const struct nvme_driver_config config = {
		.depth = DEPTH,
		.interrupts = options->interrupts,
		.no_mapped_doorbells = options->registers,
		.shadow_doorbells = options->shadow,
		.timeout_ms = 30000,
	};
	struct disk *disk = calloc(1, sizeof(*disk));
	struct uvf_error error = {""};
	int ret = nvme_driver_open(dev, &config, &disk->driver, &error);

	if (ret) {
		fprintf(stderr, "migrate_driver: %s\n", error.text);
		return 1;
	}
	disk->random = 88172645463325252ULL;
	disk->queue = nvme_driver_queue(disk->driver, 0);
	disk->buffers = nvme_driver_alloc(disk->driver, DEPTH * BLOCK, &disk->iova);
	disk->sectors = BLOCK / nvme_driver_get_info(disk->driver)->block_size;
	printf("{\"mapped\": %s}\n",
	       nvme_driver_get_info(disk->driver)->mapped_doorbells ? "true" : "false");
	fflush(stdout);
	ret = work_disk(disk, options);
	nvme_driver_close(disk->driver);
	free(disk);
	return ret;
}

/* ---- I/OAT: copies from one half of memory to the other ---- */

#define IOAT_IOVA    0x200000ull
#define IOAT_SIZE    (1u << 20)
#define IOAT_CHANNEL 0x80
#define IOAT_CHAIN   64u /* descriptors */
#define CHANSTS	     (IOAT_CHANNEL + 0x08)
#define DESCRIPTORS  0
#define COMPLETION   16384
#define SOURCES	     65536
#define DESTINATIONS (SOURCES + IOAT_CHAIN * BLOCK)

struct descriptor {
	uint32_t size, control;
	uint64_t source, destination, next, reserved[4];
};

struct engine {
	struct uvf_device *dev;
	uint8_t *memory;
	int interrupt;
	uint16_t count;
};

static int write_register(struct engine *engine, uint64_t offset, uint64_t value, size_t size)
{
	uint64_t little = htole64(value);
	ssize_t ret =
		uvf_region_write(engine->dev, VFIO_PCI_BAR0_REGION_INDEX, offset, &little, size);

	return ret < 0 ? (int)ret : 0;
}

static int start_engine(struct engine *engine)
{
	const uint16_t command = htole16(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	int ret = (int)uvf_region_write(engine->dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND,
					&command, sizeof(command));
	struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = 1,
		.fds = &engine->interrupt,
	};

	if (ret < 0)
		return ret;
	engine->interrupt = eventfd(0, EFD_CLOEXEC);
	ret = uvf_irq_set(engine->dev, &set);
	/* INTRCTRL: on, and vectors are controlled one by one. */
	if (!ret)
		ret = write_register(engine, 0x03, 0x09, 1);
	if (!ret)
		ret = write_register(engine, IOAT_CHANNEL + 0x18, IOAT_IOVA + COMPLETION, 8);
	return ret;
}

/* A chain of copies; each is checked. */
static int run_chain(struct engine *engine, uint64_t generation, bool interrupts)
{
	struct descriptor *chain = (struct descriptor *)(engine->memory + DESCRIPTORS);
	volatile uint64_t *completion = (uint64_t *)(engine->memory + COMPLETION);
	uint64_t begin = now_ns(), last = IOAT_IOVA + (IOAT_CHAIN - 1) * sizeof(*chain);
	int ret;

	for (uint32_t i = 0; i < IOAT_CHAIN; i++) {
		fill((uint64_t *)(engine->memory + SOURCES + i * BLOCK), i, generation);
		memset(engine->memory + DESTINATIONS + i * BLOCK, 0xa5, BLOCK);
		chain[i] = (struct descriptor){
			.size = htole32(BLOCK),
			/* Interrupt, and completion in memory, with the last. */
			.control = htole32(i == IOAT_CHAIN - 1 ? 0x9 : 0),
			.source = htole64(IOAT_IOVA + SOURCES + i * BLOCK),
			.destination = htole64(IOAT_IOVA + DESTINATIONS + i * BLOCK),
			.next = htole64(i == IOAT_CHAIN - 1 ? 0
							    : IOAT_IOVA + (i + 1) * sizeof(*chain)),
		};
	}
	*completion = 0;
	/* Rearm the interrupt, then begin. */
	ret = write_register(engine, IOAT_CHANNEL + 0x00, 0x1, 2);
	if (!ret)
		ret = write_register(engine, IOAT_CHANNEL + 0x10, IOAT_IOVA, 8);
	if (!ret)
		ret = write_register(engine, IOAT_CHANNEL + 0x06, IOAT_CHAIN, 2);
	while (!ret && (le64toh(*completion) & ~63ULL) != last) {
		struct pollfd fired = {.fd = engine->interrupt, .events = POLLIN};
		eventfd_t count;

		if (now_ns() - begin > 30000000000ULL)
			return fail("stuck", (int)(le64toh(*completion) & 63));
		if (interrupts && poll(&fired, 1, 1000) > 0)
			eventfd_read(engine->interrupt, &count);
	}
	if (ret)
		return fail("registers", ret);
	for (uint32_t i = 0; i < IOAT_CHAIN; i++)
		bad_blocks += !is_filled((uint64_t *)(engine->memory + DESTINATIONS + i * BLOCK), i,
					 generation);
	done_blocks += IOAT_CHAIN;
	if (now_ns() - begin > longest_ns)
		longest_ns = now_ns() - begin;
	return 0;
}

static int give_memory(struct engine *engine, bool remote)
{
	struct uvf_address_space *space;
	struct uvf_memory *memory = NULL;
	int fd = memfd_create("migrate_driver", MFD_CLOEXEC), ret;

	if (fd < 0 || ftruncate(fd, IOAT_SIZE))
		return -errno;
	engine->memory = mmap(NULL, IOAT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (engine->memory == MAP_FAILED)
		return -errno;
	ret = uvf_address_space_new(NULL, &space);
	if (ret)
		return ret;
	if (remote) {
		ret = uvf_memory_new_local(engine->memory, IOAT_SIZE, &memory);
		if (!ret)
			ret = uvf_map(space, IOAT_IOVA, IOAT_SIZE, UVF_PROT_RW, memory, 0);
	} else {
		ret = uvf_map_fd(space, IOAT_IOVA, IOAT_SIZE, UVF_PROT_RW, fd, 0);
	}
	close(fd);
	if (!ret)
		ret = uvf_device_attach(engine->dev, UVF_PASID_NONE, space);
	/* Whoever uses them keeps them. */
	if (memory)
		uvf_memory_put(memory);
	uvf_address_space_put(space);
	return ret;
}

static int run_ioat(struct uvf_device *dev, const struct options *options)
{
	struct engine engine = {.dev = dev};
	int ret = uvf_device_open(dev);

	if (!ret)
		ret = give_memory(&engine, options->remote);
	if (!ret)
		ret = start_engine(&engine);
	if (ret)
		return fail("start", ret);
	printf("{\"mapped\": false}\n");
	fflush(stdout);
	for (uint64_t generation = 1; !ret && !is_told_to_end(); generation++)
		ret = run_chain(&engine, generation, options->interrupts);
	uvf_device_close(dev);
	munmap(engine.memory, IOAT_SIZE);
	close(engine.interrupt);
	return ret;
}

int main(int argc, char **argv)
{
	struct uvf_client_config config = {.path = argc > 2 ? argv[1] : "", .timeout_ms = 30000};
	struct options options = {0};
	struct uvf_error error = {""};
	struct uvf_device *dev;
	int ret;

	for (int i = 3; i < argc; i++) {
		options.interrupts |= !strcmp(argv[i], "interrupts");
		options.remote |= !strcmp(argv[i], "remote");
		options.registers |= !strcmp(argv[i], "registers");
		options.shadow |= !strcmp(argv[i], "shadow");
	}
	if (argc < 3 || uvf_client_connect(&config, &dev, &error))
		return fprintf(stderr, "migrate_driver: %s\n", error.text), 1;
	ret = !strcmp(argv[2], "nvme") ? run_nvme(dev, &options) : run_ioat(dev, &options);
	uvf_device_free(dev);
	printf("{\"blocks\": %llu, \"bad\": %llu, \"longest_ms\": %.1f}\n",
	       (unsigned long long)done_blocks, (unsigned long long)bad_blocks,
	       (double)longest_ns / 1e6);
	return ret || bad_blocks;
}
