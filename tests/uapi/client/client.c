/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program as anybody could write one for Linux's VFIO, linked statically, and nothing of uvfio in
 * it. It has an I/OAT engine copy its memory; each verb does so in another situation.
 *
 *   client VERB ADDRESS    e.g. client copy 0000:65:00.0
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *self;

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
	if (read_config(&engine, 0) != VENDOR)
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
	struct engine own = *worker->engine;

	/*
	 * Every second thread has a descriptor of its own. Not all of them: 64 numbers are reserved
	 * for descriptors on which every call is seen, and read at offset 0 is seen on them alone.
	 */
	if (worker->number % 2) {
		own.device = dup(worker->engine->device);
		must(own.device, "dup");
	}
	for (unsigned i = 0; i < 20; i++) {
		if (read_config(worker->engine, 0) != VENDOR || get(&own, 0, 1) != 1)
			die("a thread reads something else");
		must(map_at(worker->engine, own.memory + 3 * PAGE, iova, PAGE), "MAP_DMA");
		must(unmap_at(worker->engine, iova, PAGE), "UNMAP_DMA");
	}
	if (worker->number % 2)
		close(own.device);
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
		{"trap", do_trap},     {"limits", do_limits}, {"iommufd", do_iommufd},
		{"hold", do_hold},
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
