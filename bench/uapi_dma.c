/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What it costs to map memory of a program, and how fast devices reach it. In one process, without
 * the round trip of a call.
 *
 * The floor of a mapping that is made and taken away is what has to be asked of the kernel each
 * time: whether the process still is who it was, and what it has at the address. The floor of DMA
 * is memcpy() where memory is mapped here, and a bare pread() or pwrite() of /proc/PID/mem where it
 * isn't. --json gives the same figures for programs.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/program_memory.h"
#include "frontends/uapi/uapi.h"
#include "iommu/iommu.h"

#define PAGE 4096ULL
#define MIB  (1ULL << 20)

#define SLICE_NS 1000000
#define SLICES	 101

static bool json;
static unsigned printed;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void need(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror((int)-result));
	exit(1);
}

static void print(const char *name, uint64_t mappings, double figure, double floor)
{
	char label[64];

	if (json) {
		printf("%s\n{\"name\": \"%s\", \"mappings\": %llu, \"figure\": %.2f, "
		       "\"floor\": %.2f, \"unit\": \"ns\"}",
		       printed++ ? "," : "[", name, (unsigned long long)mappings, figure, floor);
		return;
	}
	snprintf(label, sizeof(label), mappings ? "%s, %llu" : "%s", name,
		 (unsigned long long)mappings);
	printf("%-44s %11.2f %11.2f %6.2f ns\n", label, figure, floor, figure / floor);
	fflush(stdout);
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

struct bench {
	struct uvf_run run;
	struct uapi_call call;
	struct uapi_ioas *ioas;
	struct uvf_attachment *attachment;
	uint64_t mappings;
	char *source;	  /* one page that is mapped again and again */
	uint64_t next;	  /* which mapping goes and comes next */
	int pidfd, maps;  /* of this process */
	int file;	  /* behind `here` */
	int mem;	  /* of the child */
	char *there;	  /* the child's memory, by its address */
	char *here, *buf; /* memory, and a device's buffer */
	size_t size;
};

typedef void (*operation)(struct bench *bench);

/* Nanoseconds of one operation: the median of slices of about a millisecond. */
static double measure(struct bench *bench, operation run)
{
	double took[SLICES], begin;
	unsigned count = 0;

	begin = now();
	do
		run(bench);
	while (++count < 100000 && now() - begin < SLICE_NS);
	for (unsigned i = 0; i < SLICES; i++) {
		begin = now();
		for (unsigned j = 0; j < count; j++)
			run(bench);
		took[i] = (now() - begin) / count;
	}
	qsort(took, SLICES, sizeof(took[0]), compare);
	return took[SLICES / 2];
}

/* ---- Mappings ---- */

static void map_one(struct bench *bench, uint64_t index)
{
	need(uapi_ioas_map(bench->ioas, &bench->call, UAPI_RULES_TYPE1, index * 2 * PAGE, PAGE,
			   UVF_PROT_RW, (uintptr_t)bench->source),
	     "map");
}

static void unmap_and_map(struct bench *bench)
{
	/* A step that has no divisor in common with the numbers of mappings. */
	uint64_t index = (bench->next += 7919) % bench->mappings, unmapped;

	need(uapi_ioas_unmap(bench->ioas, index * 2 * PAGE, index * 2 * PAGE + PAGE - 1, &unmapped),
	     "unmap");
	map_one(bench, index);
}

static void ask_the_kernel(struct bench *bench)
{
	struct pollfd poll_ = {.fd = bench->pidfd, .events = POLLIN};
	char bytes[16];
	struct iovec local = {bytes, sizeof(bytes)}, remote = {bench->here, sizeof(bytes)};
	struct uapi_vma vma;

	need(poll(&poll_, 1, 0), "poll");
	need(tgkill(getpid(), gettid(), 0), "tgkill");
	need(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), "process_vm_readv");
	need(uapi_vma_find(bench->maps, (uintptr_t)bench->source, &vma), "maps");
}

/* The file's only mapping: it has to be mapped here too. */
static void ask_and_map_file(struct bench *bench)
{
	int fd = fcntl(bench->file, F_DUPFD_CLOEXEC, 0);
	void *at = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	ask_the_kernel(bench);
	need(at == MAP_FAILED ? -errno : 0, "mmap");
	munmap(at, MIB);
	close(fd);
}

static void bench_mappings(struct bench *bench, const char *name, operation floor_of_one)
{
	static const uint64_t counts[] = {1, 1000, 65000};
	uint64_t unmapped, made = 0;

	for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		bench->mappings = counts[i];
		for (; made < bench->mappings; made++)
			map_one(bench, made);
		print(name, bench->mappings, measure(bench, unmap_and_map),
		      measure(bench, counts[i] == 1 ? floor_of_one : ask_the_kernel));
	}
	need(uapi_ioas_unmap(bench->ioas, 0, UINT64_MAX, &unmapped), "unmap all");
}

/* ---- DMA ---- */

static void dma_read(struct bench *bench)
{
	need(uvf_attachment_read(bench->attachment, 0, bench->buf, bench->size), "read");
}

static void dma_write(struct bench *bench)
{
	need(uvf_attachment_write(bench->attachment, 0, bench->buf, bench->size), "write");
}

static void copy_in(struct bench *bench)
{
	void *(*volatile copy)(void *, const void *, size_t) = memcpy;

	copy(bench->buf, bench->here, bench->size);
}

static void copy_out(struct bench *bench)
{
	void *(*volatile copy)(void *, const void *, size_t) = memcpy;

	copy(bench->here, bench->buf, bench->size);
}

static void bare_pread(struct bench *bench)
{
	need(pread(bench->mem, bench->buf, bench->size, (off_t)(uintptr_t)bench->there), "pread");
}

static void bare_pwrite(struct bench *bench)
{
	need(pwrite(bench->mem, bench->buf, bench->size, (off_t)(uintptr_t)bench->there), "pwrite");
}

static void bench_dma(struct bench *bench, const char *name, operation floor_read,
		      operation floor_write)
{
	static const size_t sizes[] = {64, 512, 4096, 65536, MIB};
	char label[64];

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		bench->size = sizes[i];
		snprintf(label, sizeof(label), "%s, read %zu bytes", name, sizes[i]);
		print(label, 0, measure(bench, dma_read), measure(bench, floor_read));
		snprintf(label, sizeof(label), "%s, write %zu bytes", name, sizes[i]);
		print(label, 0, measure(bench, dma_write), measure(bench, floor_write));
	}
}

/* ---- Setting up ---- */

static char *memory(size_t size, int flags, int fd)
{
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (at == MAP_FAILED)
		need(-errno, "mmap");
	memset(at, 1, size);
	return at;
}

static void need_fd(int *fd, int opened, const char *what)
{
	need(opened < 0 ? -errno : 0, what);
	*fd = opened;
}

static void prepare(struct bench *bench)
{
	static const struct uvf_attachment_ops ops;

	bench->run.config.max_mappings = 100000;
	bench->call = (struct uapi_call){.run = &bench->run};
	need(uapi_ioas_new(&bench->run, &bench->ioas), "address space");
	need(uvf_attachment_new(&ops, NULL, &bench->attachment), "attachment");
	need(uvf_attachment_set(bench->attachment, uapi_ioas_space(bench->ioas)), "attach");
	uvf_attachment_enable(bench->attachment, true);
	need_fd(&bench->pidfd, (int)syscall(SYS_pidfd_open, getpid(), 0), "pidfd");
	need_fd(&bench->maps, open("/proc/self/maps", O_RDONLY | O_CLOEXEC), "maps");
	bench->buf = memory(MIB, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* A child that has the memory, as the program has it. */
static void bench_process(struct bench *bench)
{
	struct uvf_address_space *space = uapi_ioas_space(bench->ioas);
	struct uvf_memory *there;
	char path[32];
	pid_t child;

	bench->there = memory(MIB, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	child = fork();
	need(child, "fork");
	if (!child) {
		memset(bench->there, 2, MIB);
		for (;;)
			pause();
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)child);
	need_fd(&bench->mem, open(path, O_RDWR | O_CLOEXEC), "mem");
	need(uvf_memory_new_process(child, &there), "memory");
	need(uvf_map(space, 0, MIB, UVF_PROT_RW, there, (uintptr_t)bench->there), "map");
	bench_dma(bench, "/proc/PID/mem", bare_pread, bare_pwrite);
	need(uvf_unmap(space, 0, MIB, NULL), "unmap");
	uvf_memory_put(there);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(bench->mem);
}

int main(int argc, char **argv)
{
	struct bench bench = {0};
	uint64_t unmapped;

	json = argc > 1 && !strcmp(argv[1], "--json");
	prepare(&bench);
	need_fd(&bench.file, memfd_create("bench", MFD_CLOEXEC), "memfd");
	need(ftruncate(bench.file, (off_t)MIB), "ftruncate");
	if (!json)
		printf("%-44s %11s %11s %6s\n", "", "figure", "floor", "ratio");
	bench.here = memory(MIB, MAP_SHARED, bench.file);
	bench.source = memory(PAGE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	bench_mappings(&bench, "unmap + map, private", ask_the_kernel);
	bench.source = bench.here;
	bench_mappings(&bench, "unmap + map, shared", ask_and_map_file);
	need(uapi_ioas_map(bench.ioas, &bench.call, UAPI_RULES_TYPE1, 0, MIB, UVF_PROT_RW,
			   (uintptr_t)bench.here),
	     "map");
	bench_dma(&bench, "zero-copy", copy_in, copy_out);
	need(uapi_ioas_unmap(bench.ioas, 0, UINT64_MAX, &unmapped), "unmap");
	bench_process(&bench);
	if (json)
		printf("\n]\n");
	uvf_attachment_free(bench.attachment);
	uapi_ioas_put(bench.ioas);
	close(bench.file);
	return 0;
}
