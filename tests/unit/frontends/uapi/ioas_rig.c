/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What address spaces need of a call, for the process that the rig says: this one or a child of it.
 */
#include "ioas_rig.h"

#include <errno.h>
#include <sys/uio.h>

int uapi_call_read(struct uapi_call *call, uint64_t address, void *to, size_t size)
{
	struct iovec local = {to, size}, remote = {(void *)(uintptr_t)address, size};

	return process_vm_readv(call->process, &local, 1, &remote, 1, 0) == (ssize_t)size ? 0
											  : -EFAULT;
}

pid_t uapi_call_process(struct uapi_call *call)
{
	return call->process;
}
