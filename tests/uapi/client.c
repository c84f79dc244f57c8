/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program as anybody could write one for Linux's VFIO, linked statically, and nothing of uvfio in
 * it. It has an I/OAT engine copy its memory; each verb does so in another situation.
 *
 *   client VERB ADDRESS    e.g. client copy 0000:65:00.0
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096UL
#define MEMORY	(16 * PAGE)
#define IOVA	0x10000000ULL
#define CHANNEL 0x80

struct engine {
	int container, group, device;
	uint64_t bar, config; /* where they are in the device's file */
	uint8_t *memory;
};

/* What an engine works from: in memory, at its beginning. */
struct descriptor {
	uint32_t size, control;
	uint64_t source, destination, next, more[4];
};

static const char *address, *self;
static char group_path[64];

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

static void must(int result, const char *what)
{
	if (result < 0)
		die("%s", what);
}

static uint32_t read_config(const struct engine *engine, unsigned at)
{
	uint32_t value;

	if (pread(engine->device, &value, 4, (off_t)(engine->config + at)) != 4)
		die("pread of the configuration space");
	return value;
}

static void put(const struct engine *engine, unsigned at, uint64_t value, size_t size)
{
	if (pwrite(engine->device, &value, size, (off_t)(engine->bar + at)) != (ssize_t)size)
		die("pwrite of register %#x", at);
}

static uint64_t get(const struct engine *engine, unsigned at, size_t size)
{
	uint64_t value = 0;

	if (pread(engine->device, &value, size, (off_t)(engine->bar + at)) != (ssize_t)size)
		die("pread of register %#x", at);
	return value;
}

static void enable(struct engine *engine)
{
	struct vfio_region_info info = {.argsz = sizeof(info)};
	uint16_t command = 6; /* memory space, bus master */

	info.index = VFIO_PCI_CONFIG_REGION_INDEX;
	must(ioctl(engine->device, VFIO_DEVICE_GET_REGION_INFO, &info), "GET_REGION_INFO");
	engine->config = info.offset;
	info.index = VFIO_PCI_BAR0_REGION_INDEX;
	must(ioctl(engine->device, VFIO_DEVICE_GET_REGION_INFO, &info), "GET_REGION_INFO");
	engine->bar = info.offset;
	if (read_config(engine, 0) != 0x20218086)
		die("another device: %08x", read_config(engine, 0));
	if (pwrite(engine->device, &command, 2, (off_t)(engine->config + 4)) != 2)
		die("pwrite of the command register");
}

/* As everybody finds it: by a link in sysfs. */
static void find_group(void)
{
	char path[128], target[256];
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	length = readlink(path, target, sizeof(target) - 1);
	must((int)length, path);
	target[length] = '\0';
	snprintf(group_path, sizeof(group_path), "/dev/vfio/%s", strrchr(target, '/') + 1);
}

static struct engine open_engine(void)
{
	struct engine engine = {.container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC)};
	struct vfio_group_status status = {.argsz = sizeof(status)};

	must(engine.container, "/dev/vfio/vfio");
	engine.group = open(group_path, O_RDWR | O_CLOEXEC);
	must(engine.group, group_path);
	must(ioctl(engine.group, VFIO_GROUP_GET_STATUS, &status), "GET_STATUS");
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("the group isn't viable");
	must(ioctl(engine.group, VFIO_GROUP_SET_CONTAINER, &engine.container), "SET_CONTAINER");
	must(ioctl(engine.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "SET_IOMMU");
	engine.device = ioctl(engine.group, VFIO_GROUP_GET_DEVICE_FD, address);
	must(engine.device, "GET_DEVICE_FD");
	enable(&engine);
	return engine;
}

static void close_engine(const struct engine *engine)
{
	close(engine->device);
	close(engine->group);
	close(engine->container);
}

static int map_at(const struct engine *engine, void *memory, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory,
		.iova = iova,
		.size = size,
	};

	return ioctl(engine->container, VFIO_IOMMU_MAP_DMA, &map);
}

static int unmap_at(const struct engine *engine, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	return ioctl(engine->container, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

static void give_memory(struct engine *engine, int flags)
{
	engine->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
	if (engine->memory == MAP_FAILED)
		die("mmap");
	must(map_at(engine, engine->memory, IOVA, MEMORY), "MAP_DMA");
}

/* Starts a copy of page 1 to page 2, and waits for it. */
static void run_copy(const struct engine *engine)
{
	unsigned tries = 0;

	put(engine, CHANNEL + 0x04, 0x20, 1); /* CHANCMD: reset */
	while (get(engine, CHANNEL + 0x04, 1) & 0x20)
		sched_yield();
	put(engine, CHANNEL + 0x28, get(engine, CHANNEL + 0x28, 4), 4); /* CHANERR */
	put(engine, CHANNEL + 0x18, IOVA + 512, 8);			/* CHANCMP */
	put(engine, CHANNEL + 0x10, IOVA, 8);				/* CHAINADDR */
	put(engine, CHANNEL + 0x06, 1, 2);				/* DMACOUNT */
	while ((get(engine, CHANNEL + 0x08, 8) & 7) == 0 && tries++ < 100000)
		sched_yield();
	if ((get(engine, CHANNEL + 0x08, 8) & 7) != 1)
		die("the copy didn't end: status %llx, error %llx",
		    (unsigned long long)get(engine, CHANNEL + 0x08, 8),
		    (unsigned long long)get(engine, CHANNEL + 0x28, 4));
}

static void prepare_copy(const struct engine *engine, unsigned seed)
{
	struct descriptor *descriptor = (void *)engine->memory;

	*descriptor = (struct descriptor){
		.size = PAGE,
		.control = 8, /* tell when it is done */
		.source = IOVA + PAGE,
		.destination = IOVA + 2 * PAGE,
	};
	for (size_t i = 0; i < PAGE; i++)
		engine->memory[PAGE + i] = (uint8_t)(seed + i * 7);
	memset(engine->memory + 2 * PAGE, 0, PAGE);
}

static void check_copy(const struct engine *engine)
{
	if (memcmp(engine->memory + PAGE, engine->memory + 2 * PAGE, PAGE) != 0)
		die("the copy is wrong");
}

static void copy(const struct engine *engine, unsigned seed)
{
	prepare_copy(engine, seed);
	run_copy(engine);
	check_copy(engine);
}

static void wait_for(pid_t child)
{
	int status;

	must(waitpid(child, &status, 0), "waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("the child ended with %#x", (unsigned)status);
}

/* ---- Verbs ---- */

static void do_copy(void)
{
	struct engine engine = open_engine();

	give_memory(&engine, MAP_PRIVATE);
	copy(&engine, 1);
	must(unmap_at(&engine, IOVA, MEMORY), "UNMAP_DMA");
	give_memory(&engine, MAP_SHARED);
	copy(&engine, 2);
	close_engine(&engine);
}

/* Nothing is left of an opening when the next one is made. */
static void do_reopen(void)
{
	for (unsigned i = 0; i < 50; i++) {
		struct engine engine = open_engine();

		give_memory(&engine, MAP_PRIVATE);
		copy(&engine, i);
		munmap(engine.memory, MEMORY);
		if (open(group_path, O_RDWR) >= 0 || errno != EBUSY)
			die("a second open of the group");
		close_engine(&engine);
	}
}

/*
 * A child has the descriptors; what is mapped is the parent's memory. The parent's later writes go
 * to pages of its own, which are those that are mapped.
 */
static void do_fork(void)
{
	struct engine engine = open_engine();
	pid_t child;

	give_memory(&engine, MAP_PRIVATE);
	copy(&engine, 1);
	for (unsigned i = 0; i < 8; i++) {
		prepare_copy(&engine, i);
		child = fork();
		must(child, "fork");
		if (child == 0) {
			memset(engine.memory, 0xee, MEMORY); /* the child's alone */
			run_copy(&engine);
			_exit(0);
		}
		wait_for(child);
		check_copy(&engine);
	}
	close_engine(&engine);
}

/* The parent goes first: the child keeps the device, and others find the group taken. */
static void do_orphan(void)
{
	struct engine engine = open_engine();
	pid_t parent = getpid();
	int ready[2];
	char byte;

	give_memory(&engine, MAP_PRIVATE);
	must(pipe(ready), "pipe");
	if (fork() != 0) {
		close(ready[1]);
		if (read(ready[0], &byte, 1) != 1)
			die("the child");
		exit(0);
	}
	must((int)write(ready[1], "", 1), "write");
	while (getppid() == parent)
		usleep(1000);
	if (read_config(&engine, 0) != 0x20218086)
		die("the orphan reads something else");
	if (open(group_path, O_RDWR) >= 0 || errno != EBUSY)
		die("the group isn't the orphan's");
	must(unmap_at(&engine, IOVA, MEMORY), "UNMAP_DMA");
	give_memory(&engine, MAP_PRIVATE);
	copy(&engine, 3);
	close_engine(&engine);
	puts("the orphan is done"); /* its status is nobody's */
}

static void do_exec(void)
{
	struct engine engine = open_engine();
	char numbers[3][16];
	char *arguments[] = {(char *)self, "executed", (char *)address, numbers[0], numbers[1],
			     numbers[2],   NULL};

	give_memory(&engine, MAP_PRIVATE);
	copy(&engine, 1);
	fcntl(engine.container, F_SETFD, 0);
	fcntl(engine.group, F_SETFD, 0);
	fcntl(engine.device, F_SETFD, 0);
	snprintf(numbers[0], sizeof(numbers[0]), "%d", engine.container);
	snprintf(numbers[1], sizeof(numbers[1]), "%d", engine.group);
	snprintf(numbers[2], sizeof(numbers[2]), "%d", engine.device);
	execv(self, arguments);
	die("execv");
}

/* After exec: the same device, and memory of this program, which is another. */
static void do_executed(char *const numbers[])
{
	struct engine engine = {
		.container = atoi(numbers[0]),
		.group = atoi(numbers[1]),
		.device = atoi(numbers[2]),
	};

	enable(&engine);
	must(unmap_at(&engine, IOVA, MEMORY), "UNMAP_DMA");
	give_memory(&engine, MAP_PRIVATE);
	copy(&engine, 5);
	close_engine(&engine);
}

struct worker {
	const struct engine *engine;
	unsigned number;
	pthread_t thread;
};

static void *work(void *opaque)
{
	const struct worker *worker = opaque;
	uint64_t iova = 2 * IOVA + worker->number * PAGE;
	int duplicate = dup(worker->engine->device);
	struct engine own = *worker->engine;

	must(duplicate, "dup");
	own.device = duplicate;
	for (unsigned i = 0; i < 20; i++) {
		if (read_config(worker->engine, 0) != 0x20218086 || get(&own, 0, 1) != 1)
			die("a thread reads something else");
		must(map_at(worker->engine, own.memory + 3 * PAGE, iova, PAGE), "MAP_DMA");
		must(unmap_at(worker->engine, iova, PAGE), "UNMAP_DMA");
	}
	close(duplicate);
	return NULL;
}

/* Threads come and go, 64 at a time, while the engine copies. */
static void do_threads(void)
{
	struct engine engine = open_engine();
	struct worker workers[64];

	give_memory(&engine, MAP_PRIVATE);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 64; i++) {
			workers[i] = (struct worker){&engine, i, 0};
			if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
				die("pthread_create");
		}
		copy(&engine, round);
		for (unsigned i = 0; i < 64; i++)
			pthread_join(workers[i].thread, NULL);
	}
	close_engine(&engine);
}

/* As many mappings as type1 allows, and as many descriptors as the process may have. */
static void do_limits(void)
{
	struct rlimit limit;
	struct engine engine = open_engine();
	uint64_t count = 0;
	int fds[256];
	size_t opened = 0;

	give_memory(&engine, MAP_PRIVATE);
	while (map_at(&engine, engine.memory, 2 * IOVA + count * PAGE, PAGE) == 0)
		count++;
	if (errno != ENOSPC || count != 65534)
		die("after %llu mappings", (unsigned long long)count);
	must(unmap_at(&engine, 2 * IOVA, PAGE), "UNMAP_DMA");
	must(map_at(&engine, engine.memory, 2 * IOVA, PAGE), "MAP_DMA");
	copy(&engine, 1);
	must(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
	limit.rlim_cur = 128;
	must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	while ((fds[opened] = open("/dev/vfio/vfio", O_RDWR)) >= 0)
		if (++opened == 256)
			die("more descriptors than allowed");
	if (errno != EMFILE)
		die("after %zu containers", opened);
	while (opened)
		close(fds[--opened]);
	must(open("/dev/vfio/vfio", O_RDWR), "/dev/vfio/vfio");
	copy(&engine, 2);
	close_engine(&engine);
}

static void *trap(void *opaque)
{
	const struct worker *worker = opaque;
	const volatile uint8_t *registers = worker->engine->memory;
	const volatile uint32_t *capabilities = (const volatile void *)(registers + 0x10);

	for (unsigned i = 0; i < 200; i++)
		if (registers[0] != 1 || registers[8] != 0x33 || !(*capabilities & 0x40))
			die("a thread reads something else");
	return NULL;
}

/* 64 threads read registers that are mapped and not memory; a child too. */
static void do_trap(void)
{
	struct engine engine = open_engine(), mapped = engine;
	struct worker workers[64];
	pid_t child;

	mapped.memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, engine.device,
			     (off_t)engine.bar);
	if (mapped.memory == MAP_FAILED)
		die("mmap of BAR 0");
	for (unsigned i = 0; i < 64; i++) {
		workers[i] = (struct worker){&mapped, i, 0};
		if (pthread_create(&workers[i].thread, NULL, trap, &workers[i]))
			die("pthread_create");
	}
	give_memory(&engine, MAP_PRIVATE);
	copy(&engine, 1);
	for (unsigned i = 0; i < 64; i++)
		pthread_join(workers[i].thread, NULL);
	child = fork();
	must(child, "fork");
	if (child == 0) {
		trap(&workers[0]);
		_exit(0);
	}
	wait_for(child);
	must(munmap(mapped.memory, 4 * PAGE), "munmap");
	close_engine(&engine);
}

/* Works until it is killed, or until nobody answers any more. */
static void do_hold(void)
{
	struct engine engine = open_engine();
	uint32_t value;

	give_memory(&engine, MAP_PRIVATE);
	copy(&engine, 1);
	puts("ready");
	fflush(stdout);
	while (pread(engine.device, &value, 4, (off_t)engine.config) == 4)
		;
	die("the supervisor has gone");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*function)(void);
	} verbs[] = {
		{"copy", do_copy},     {"reopen", do_reopen}, {"fork", do_fork},
		{"orphan", do_orphan}, {"exec", do_exec},     {"threads", do_threads},
		{"trap", do_trap},     {"limits", do_limits}, {"hold", do_hold},
	};

	if (argc < 3) {
		fprintf(stderr, "usage: %s VERB ADDRESS\n", argv[0]);
		return 2;
	}
	self = argv[0];
	address = argv[2];
	find_group();
	if (argc == 6 && !strcmp(argv[1], "executed")) {
		do_executed(&argv[3]);
		return 0;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (!strcmp(argv[1], verbs[i].name)) {
			verbs[i].function();
			return 0;
		}
	}
	fprintf(stderr, "%s: no verb %s\n", argv[0], argv[1]);
	return 2;
}
