/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doorbells rung by eventfd (ioeventfd=on): one eventfd a poller, offered for the doorbells of the
 * I/O queues whose completion queue of the same number is that poller's.
 *
 * An eventfd has no place for a doorbell's value, so this serves drivers that keep shadow
 * doorbells, and write a doorbell's register only to wake us: the value is in the shadow. For
 * others a signal has no meaning. The descriptor is the driver's too, who may do anything with it:
 * it is never written here, and read without waiting.
 */
#include "devices/nvme/nvme.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

/* #syscalls: preadv2 */
void nvme_ioeventfd_rung(struct nvme_poller *poller)
{
	struct nvme *ctrl = poller->ctrl;
	uint64_t value;
	struct iovec iov = {&value, sizeof(value)};

	if (preadv2(ctrl->ioeventfds[poller->index], &iov, 1, -1, RWF_NOWAIT) < 0)
		return;
	/* A submission queue can belong to a completion queue of another poller. */
	for (unsigned i = 0; i < ctrl->poller_count; i++)
		if (i != poller->index)
			nvme_poller_wake(&ctrl->pollers[i]);
}

int nvme_ioeventfds_make(struct nvme *ctrl, unsigned pollers, struct uvf_io_fd **io_fdsp)
{
	struct uvf_io_fd *io_fds = calloc(2 * (size_t)ctrl->queues, sizeof(*io_fds));

	assert(pollers);
	if (!io_fds)
		return -ENOMEM;
	for (unsigned i = 0; i < pollers; i++) {
		int fd = eventfd(0, EFD_CLOEXEC);

		if (fd < 0) {
			int error = errno;

			free(io_fds);
			return -error;
		}
		ctrl->ioeventfds[ctrl->ioeventfd_count++] = fd;
	}
	/* Tail and head of each I/O queue pair, 4 bytes each. */
	for (unsigned i = 0; i < 2 * ctrl->queues; i++)
		io_fds[i] = (struct uvf_io_fd){
			.offset = NVME_REG_DOORBELLS + 8 + 4 * (uint64_t)i,
			.size = 4,
			.fd = ctrl->ioeventfds[i / 2 % pollers],
		};
	*io_fdsp = io_fds;
	return 0;
}

void nvme_ioeventfds_close(struct nvme *ctrl)
{
	while (ctrl->ioeventfd_count)
		close(ctrl->ioeventfds[--ctrl->ioeventfd_count]);
}
