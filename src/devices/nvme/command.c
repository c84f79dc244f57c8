/* SPDX-License-Identifier: BSD-3-Clause */
/* What all commands share: the tables, and the checks before a handler. */
#include "devices/nvme/nvme.h"

#include <errno.h>

const struct nvme_command nvme_io_commands[256] = {
	[NVME_CMD_FLUSH] = {nvme_io_flush, NVME_NSID_ONE_OR_ALL, .effects = 0x1},
	[NVME_CMD_WRITE] = {nvme_io_rw, NVME_NSID_ONE, .writes = true, .effects = 0x3},
	[NVME_CMD_READ] = {nvme_io_rw, NVME_NSID_ONE, .effects = 0x1},
	[NVME_CMD_WRITE_UNCORRECTABLE] = {nvme_io_write_uncorrectable, NVME_NSID_ONE,
					  .writes = true, .effects = 0x3},
	[NVME_CMD_COMPARE] = {nvme_io_compare, NVME_NSID_ONE, .effects = 0x1},
	[NVME_CMD_WRITE_ZEROES] = {nvme_io_write_zeroes, NVME_NSID_ONE, .writes = true,
				   .effects = 0x3},
	[NVME_CMD_DATASET_MANAGEMENT] = {nvme_io_dataset, NVME_NSID_ONE, .writes = true,
					 .effects = 0x3},
	[NVME_CMD_VERIFY] = {nvme_io_verify, NVME_NSID_ONE, .effects = 0x1},
};

struct nvme_status_row {
	int error;
	uint16_t reading, writing;
};

static const struct nvme_status_row statuses[] = {
	{-EIO, NVME_SC_UNRECOVERED_READ, NVME_SC_WRITE_FAULT},
	{-ENOSPC, NVME_SC_INTERNAL, NVME_SC_CAPACITY_EXCEEDED},
	{-EDQUOT, NVME_SC_INTERNAL, NVME_SC_CAPACITY_EXCEEDED},
	{-EROFS, NVME_SC_INTERNAL, NVME_SC_WRITE_PROTECTED},
	{-EFAULT, NVME_SC_DATA_TRANSFER, NVME_SC_DATA_TRANSFER},
	/* Drivers try these again. */
	{-ENOTCONN, NVME_SC_NAMESPACE_NOT_READY, NVME_SC_NAMESPACE_NOT_READY},
};

uint16_t nvme_status(int result, bool write)
{
	if (result >= 0)
		return NVME_SC_SUCCESS;
	for (size_t i = 0; i < UVF_ARRAY_SIZE(statuses); i++)
		if (statuses[i].error == result)
			return write ? statuses[i].writing : statuses[i].reading;
	return NVME_SC_INTERNAL;
}

static uint16_t check_namespace(struct nvme_request *request, const struct nvme_command *command)
{
	uint32_t nsid = le32toh(request->sqe->nsid);

	if (command->nsid == NVME_NSID_ANY)
		return 0;
	if (nsid == NVME_NSID_ALL && command->nsid == NVME_NSID_ONE_OR_ALL)
		return 0;
	request->ns = nvme_namespace(request->ctrl, nsid);
	if (!request->ns)
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	if (atomic_load_explicit(&request->ns->formatting, memory_order_relaxed))
		return NVME_SC_FORMAT_IN_PROGRESS;
	if (command->writes && request->ns->backend->read_only)
		return NVME_SC_WRITE_PROTECTED | NVME_SC_DNR;
	return 0;
}

static uint16_t check_and_handle(struct nvme_request *request)
{
	const struct nvme_sqe *sqe = request->sqe;
	bool admin = !request->sq->id;
	const struct nvme_command *command =
		admin ? &nvme_admin_commands[sqe->opcode] : &nvme_io_commands[sqe->opcode];
	uint16_t status;

	if (!command->handle)
		return NVME_SC_INVALID_OPCODE | NVME_SC_DNR;
	/* Fused operations are not offered; admin commands use PRPs. */
	if (sqe->flags & 3 || (sqe->flags >> 6) == 3 || (admin && sqe->flags >> 6))
		return NVME_INVALID_FIELD;
	status = check_namespace(request, command);
	return status ? status : command->handle(request);
}

uint16_t nvme_execute(struct nvme_request *request)
{
	uint16_t status = check_and_handle(request);

	if (__builtin_expect(!status || status >= NVME_NO_CQE, 1))
		return status;
	nvme_log_error(request->ctrl, request->sq, request->sqe, status);
	return status | NVME_SC_MORE;
}
