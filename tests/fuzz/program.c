/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory of a target's program; the linker puts the functions below in the calls' place. */
#include "program.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define PROGRAM_SIZE ((uint64_t)PROGRAM_PAGES * PAGE)

typedef ssize_t transfer(pid_t process, const struct iovec *local, unsigned long local_count,
			 const struct iovec *remote, unsigned long remote_count,
			 unsigned long flags);

/* The sanitizers', which check what is ours. */
transfer __real_process_vm_readv, __real_process_vm_writev;
transfer __wrap_process_vm_readv, __wrap_process_vm_writev;

void make_program(void)
{
	/* With a page that stops what begins inside and would go on. */
	if (mmap(PROGRAM, PROGRAM_SIZE + PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != PROGRAM ||
	    mprotect(PROGRAM + PROGRAM_SIZE - PAGE, PAGE, PROT_READ) ||
	    mprotect(PROGRAM + PROGRAM_SIZE, PAGE, PROT_NONE))
		abort();
}

static bool is_program(const struct iovec *remote, unsigned long count)
{
	for (unsigned long i = 0; i < count; i++)
		if ((uintptr_t)remote[i].iov_base - (uintptr_t)PROGRAM >= PROGRAM_SIZE) {
			errno = EFAULT;
			return false;
		}
	return true;
}

ssize_t __wrap_process_vm_readv(pid_t process, const struct iovec *local, unsigned long local_count,
				const struct iovec *remote, unsigned long remote_count,
				unsigned long flags)
{
	if (!is_program(remote, remote_count))
		return -1;
	return __real_process_vm_readv(process, local, local_count, remote, remote_count, flags);
}

ssize_t __wrap_process_vm_writev(pid_t process, const struct iovec *local,
				 unsigned long local_count, const struct iovec *remote,
				 unsigned long remote_count, unsigned long flags)
{
	if (!is_program(remote, remote_count))
		return -1;
	return __real_process_vm_writev(process, local, local_count, remote, remote_count, flags);
}
