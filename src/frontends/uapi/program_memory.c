/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the program's addresses lead to: files that are shared are mapped here, all else is reached
 * through /proc/PID/mem.
 */
#include "frontends/uapi/program_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "frontends/uapi/call.h"
#include "iommu/iommu.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define PAGE 4096ULL

/* A file that isn't found costs a look at each descriptor: for so many mappings none is made. */
#define MISS_LASTS 256

void uapi_programs_init(struct uapi_programs *programs, struct uvf_address_space *space)
{
	*programs = (struct uapi_programs){.space = space};
}

static void forget(struct uapi_program *program)
{
	if (!program->process)
		return;
	close(program->pidfd);
	close(program->maps);
	uvf_memory_put(program->memory);
	program->process = 0;
}

void uapi_programs_destroy(struct uapi_programs *programs)
{
	for (unsigned i = 0; i < UAPI_PROGRAMS_MAX; i++)
		forget(&programs->program[i]);
}

void uapi_part_destroy(struct uapi_part *part)
{
	if (part->memory)
		uvf_memory_put(part->memory);
	if (part->fd >= 0)
		close(part->fd);
}

/* ---- Processes ---- */

static bool has_ended(const struct uapi_program *program)
{
	struct pollfd poll_ = {.fd = program->pidfd, .events = POLLIN};

	return poll(&poll_, 1, 0) != 0;
}

static pid_t thread_of(const struct uapi_call *call)
{
	return call->notifier ? call->thread : gettid();
}

/* Whether the calling thread is one of that process, which may have ended: then it isn't. */
static bool is_of(const struct uapi_program *program, const struct uapi_call *call)
{
	return program->process &&
	       (!tgkill(program->process, thread_of(call), 0) || errno != ESRCH) &&
	       !has_ended(program);
}

/* Whether it has the same memory as then. */
static bool is_current(const struct uapi_program *program, struct uapi_call *call)
{
	uint8_t random[sizeof(program->random)];

	return !uapi_call_read(call, program->random_address, random, sizeof(random)) &&
	       !memcmp(random, program->random, sizeof(random));
}

static int open_proc(pid_t thread, const char *name)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)thread, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int find_random(struct uapi_program *program, pid_t thread)
{
	ElfW(auxv_t) vector[64];
	int auxv = open_proc(thread, "auxv");
	ssize_t size;

	if (auxv < 0)
		return -errno;
	size = read(auxv, vector, sizeof(vector));
	close(auxv);
	for (size_t i = 0; size > 0 && i < (size_t)size / sizeof(vector[0]); i++)
		if (vector[i].a_type == AT_RANDOM)
			program->random_address = vector[i].a_un.a_val;
	return program->random_address ? uvf_memory_read(program->memory, program->random_address,
							 program->random, sizeof(program->random))
				       : -EFAULT;
}

/*
 * Through the calling thread, which is there until its call is answered; of a process whose first
 * thread has ended, that one has no memory.
 */
static int program_open(struct uapi_program *program, struct uapi_call *call)
{
	pid_t process = uapi_call_process(call);
	pid_t thread = thread_of(call);
	int error;

	*program = (struct uapi_program){.maps = -1};
	program->pidfd = (int)syscall(SYS_pidfd_open, process, 0);
	if (program->pidfd < 0)
		return -errno;
	program->maps = open_proc(thread, "maps");
	error = program->maps < 0 ? -errno : uvf_memory_new_process(thread, &program->memory);
	if (!error) {
		error = find_random(program, thread);
		if (!error && (!is_current(program, call) || !uapi_call_is_waiting(call)))
			error = -ESRCH;
		if (error)
			uvf_memory_put(program->memory);
	}
	if (error) {
		if (program->maps >= 0)
			close(program->maps);
		close(program->pidfd);
		return error;
	}
	program->process = process;
	return 0;
}

static int find_program(struct uapi_programs *programs, struct uapi_call *call,
			struct uapi_program **programp)
{
	struct uapi_program *program;
	struct uapi_program made;
	int error;

	for (unsigned i = 0; i < UAPI_PROGRAMS_MAX; i++) {
		program = &programs->program[i];
		if (!is_of(program, call))
			continue;
		if (is_current(program, call)) {
			*programp = program;
			return 0;
		}
		forget(program);
	}
	error = program_open(&made, call);
	if (error)
		return error == -EMFILE || error == -ENFILE || error == -ENOMEM ? -ENOMEM : -EFAULT;
	program = &programs->program[programs->next++ % UAPI_PROGRAMS_MAX];
	forget(program);
	*program = made;
	*programp = program;
	return 0;
}

/* ---- Through the process ---- */

/* As the kernel decides whether pages can be pinned. */
static bool allows(const struct uapi_vma *vma, unsigned prot)
{
	return vma->prot & (prot & UVF_PROT_WRITE ? UVF_PROT_WRITE : UVF_PROT_READ);
}

/*
 * Whether there are pages up to @last. Of a file there may be none beyond its end; and what can't
 * be written may be no memory at all.
 */
static bool has_pages(const struct uapi_program *program, const struct uapi_vma *vma, uint64_t last)
{
	char byte;

	if (!vma->inode && vma->prot & UVF_PROT_WRITE)
		return true;
	return !uvf_memory_read(program->memory, last, &byte, 1);
}

/* @vma is what is at @address; what follows it is taken along, up to a file that can be mapped. */
static int find_in_process(const struct uapi_program *program, uint64_t address, uint64_t size,
			   unsigned prot, bool files_too, struct uapi_vma *vma,
			   struct uapi_part *part)
{
	uint64_t last = address + (size - 1), next = address, end;

	for (;;) {
		if (!allows(vma, prot))
			return -EFAULT;
		end = vma->end - 1 < last ? vma->end - 1 : last;
		if (!has_pages(program, vma, end))
			return -EFAULT;
		next = end + 1;
		if (end == last)
			break;
		if (uapi_vma_find(program->maps, next, vma))
			return -EFAULT;
		if (!files_too && vma->shared && vma->inode)
			break;
	}
	*part = (struct uapi_part){
		.memory = uvf_memory_get(program->memory),
		.fd = -1,
		.offset = address,
		.size = next - address,
	};
	return 0;
}

int uapi_programs_find_process(struct uapi_programs *programs, struct uapi_call *call,
			       uint64_t address, uint64_t size, unsigned prot,
			       struct uapi_part *part)
{
	struct uapi_program *program;
	struct uapi_vma vma;
	int error = find_program(programs, call, &program);

	if (!error && uapi_vma_find(program->maps, address, &vma))
		error = -EFAULT;
	return error ? error : find_in_process(program, address, size, prot, true, &vma, part);
}

/* ---- Files ---- */

static struct uapi_find *find_again(struct uapi_programs *programs, const struct uapi_vma *vma,
				    bool write)
{
	for (unsigned i = 0; i < UAPI_FINDS_MAX; i++) {
		struct uapi_find *find = &programs->find[i];

		if (find->left && find->device == vma->device && find->inode == vma->inode &&
		    find->write == write)
			return find;
	}
	return NULL;
}

/* One that isn't mapped yet. False: it can't be. */
static bool find_file(struct uapi_programs *programs, const struct uapi_program *program,
		      const struct uapi_vma *vma, unsigned prot, struct uapi_part *part)
{
	bool write = prot & UVF_PROT_WRITE;
	struct uapi_find *find = find_again(programs, vma, write);

	if (find && find->number == UAPI_NOT_FOUND) {
		find->left--;
		return false;
	}
	if (!find) {
		find = &programs->find[programs->next_find++ % UAPI_FINDS_MAX];
		*find = (struct uapi_find){vma->device, vma->inode, write, UAPI_NOT_FOUND, 0};
	}
	part->fd = uapi_program_find_file(program, vma, prot, &find->number);
	find->left = part->fd < 0 ? MISS_LASTS : 1;
	return part->fd >= 0;
}

/* Shared memory of a file: which may be a region's, and is known if it is mapped already. */
static int find_shared(struct uapi_programs *programs, struct uapi_call *call,
		       const struct uapi_program *program, enum uapi_ioas_rules rules,
		       uint64_t address, unsigned prot, struct uapi_vma *vma,
		       struct uapi_part *part)
{
	uint64_t size = part->size;
	int error;

	if (!uvf_is_aligned(part->offset, PAGE))
		return find_in_process(program, address, size, prot, true, vma, part);
	part->memory = uvf_address_space_find_file(programs->space, vma->device, vma->inode, prot);
	if (part->memory)
		return 0;
	error = uapi_program_find_region(call->run, vma, address, size, rules, part);
	if (error != -ENOENT)
		return error;
	if (find_file(programs, program, vma, prot, part))
		return 0;
	return find_in_process(program, address, size, prot, true, vma, part);
}

int uapi_programs_find(struct uapi_programs *programs, struct uapi_call *call,
		       enum uapi_ioas_rules rules, uint64_t address, uint64_t size, unsigned prot,
		       struct uapi_part *part)
{
	struct uapi_program *program;
	struct uapi_vma vma;
	uint64_t left;
	int error = find_program(programs, call, &program);

	if (error)
		return error;
	if (uapi_vma_find(program->maps, address, &vma) || !allows(&vma, prot))
		return -EFAULT;
	if (!vma.shared || !vma.inode)
		return find_in_process(program, address, size, prot, false, &vma, part);
	left = vma.end - address;
	*part = (struct uapi_part){
		.fd = -1,
		.offset = vma.offset + (address - vma.begin),
		.size = left < size ? left : size,
		.is_file = true,
	};
	return find_shared(programs, call, program, rules, address, prot, &vma, part);
}
