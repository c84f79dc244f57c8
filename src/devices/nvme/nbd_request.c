/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests, and the commands that an NBD server gets for them. A command has one buffer and is no
 * larger than the server takes: a request is cut into pieces, of which several are in flight and
 * come back in any order. A request that the server may not have carried out when its connection
 * went is begun again from the start.
 *
 * The driver's memory can be truncated by its owner. System calls then fail; libnbd's own accesses
 * would raise SIGBUS. So it is told not to clear buffers and to do without structured replies,
 * whose holes it fills in itself; with TLS all goes through buffers of ours. And because a system
 * call that fails costs the connection, a request that is begun again goes through them too.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/nvme/nbd.h"

/* One command: well within 32 bits, and a multiple of any block size. */
#define MAX_RANGE (1u << 30)

/* What a server can answer; what it shouldn't is as good as an I/O error. */
static const struct {
	int error, result;
} results[] = {
	{EPERM, -EROFS},
	{ENOSPC, -ENOSPC},
};

static int result_of(int error)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(results); i++)
		if (results[i].error == error)
			return results[i].result;
	return -EIO;
}

static void note(struct nbd_request *request)
{
	struct nbd_connection *connection = request->channel->connection;

	if (request->is_noted)
		return;
	request->is_noted = true;
	request->next = connection->noted;
	connection->noted = request;
}

/* Inside libnbd, which must not be called from here. ENOTCONN is its own word for a lost piece. */
static int piece_done(void *opaque, int *error)
{
	struct nbd_request *request = opaque;

	request->outstanding--;
	if (*error == ENOTCONN || *error == ESHUTDOWN) {
		request->channel->connection->broken = true;
	} else {
		request->channel->connection->answered = true;
		if (*error && !request->result)
			request->result = result_of(*error);
	}
	note(request);
	return 1;
}

/* ---- Pieces ---- */

/* Where the request's byte @at lies, and how many follow it there. */
static char *bytes_at(const struct nbd_request *request, uint64_t *size)
{
	const struct nvme_io *io = request->io;
	uint64_t skip = request->at - io->offset;

	*size = request->left;
	if (request->bounce)
		return request->bounce + skip;
	for (int i = 0; i < io->iov_count; i++) {
		if (skip < io->iov[i].iov_len) {
			*size = io->iov[i].iov_len - skip;
			return (char *)io->iov[i].iov_base + skip;
		}
		skip -= io->iov[i].iov_len;
	}
	*size = 0;
	return NULL;
}

static uint64_t at_most(uint64_t size, uint64_t most)
{
	return size < most ? size : most;
}

static int64_t issue_read(struct nbd_request *request, uint64_t *size, uint32_t flags,
			  nbd_completion_callback done)
{
	struct nbd_connection *connection = request->channel->connection;
	char *bytes = bytes_at(request, size);

	*size = at_most(*size, connection->export.maximum);
	return nbd_aio_pread(connection->handle, bytes, *size, request->at, done, 0);
}

static int64_t issue_write(struct nbd_request *request, uint64_t *size, uint32_t flags,
			   nbd_completion_callback done)
{
	struct nbd_connection *connection = request->channel->connection;
	char *bytes = bytes_at(request, size);

	*size = at_most(*size, connection->export.maximum);
	return nbd_aio_pwrite(connection->handle, bytes, *size, request->at, done, flags);
}

static int64_t issue_discard(struct nbd_request *request, uint64_t *size, uint32_t flags,
			     nbd_completion_callback done)
{
	*size = at_most(request->left, MAX_RANGE);
	return nbd_aio_trim(request->channel->connection->handle, *size, request->at, done, 0);
}

static int64_t issue_zeroes(struct nbd_request *request, uint64_t *size, uint32_t flags,
			    nbd_completion_callback done)
{
	struct nbd_connection *connection = request->channel->connection;

	if (connection->export.zero) {
		if (!(request->io->flags & NVME_IO_UNMAP))
			flags |= LIBNBD_CMD_FLAG_NO_HOLE;
		*size = at_most(request->left, MAX_RANGE);
		return nbd_aio_zero(connection->handle, *size, request->at, done, flags);
	}
	*size = at_most(at_most(request->left, NBD_MAX_IO_SIZE), connection->export.maximum);
	return nbd_aio_pwrite(connection->handle, connection->backend->zeroes, *size, request->at,
			      done, flags);
}

static int64_t (*const issues[])(struct nbd_request *request, uint64_t *size, uint32_t flags,
				 nbd_completion_callback done) = {
	[NVME_IO_READ] = issue_read,
	[NVME_IO_WRITE] = issue_write,
	[NVME_IO_DISCARD] = issue_discard,
	[NVME_IO_WRITE_ZEROES] = issue_zeroes,
};

static bool wants_fua(const struct nbd_request *request)
{
	return request->io->flags & NVME_IO_FUA &&
	       (request->io->op == NVME_IO_WRITE || request->io->op == NVME_IO_WRITE_ZEROES);
}

/* Last of all: a flush, as one that was asked for, or instead of FUA. */
static bool wants_flush(const struct nbd_request *request)
{
	const struct nbd_export *export = &request->channel->connection->export;

	if (!export->flush || request->flushed)
		return false;
	return request->io->op == NVME_IO_FLUSH || (wants_fua(request) && !export->fua);
}

/* False: nothing more can be issued. */
static bool issue(struct nbd_request *request)
{
	struct nbd_connection *connection = request->channel->connection;
	nbd_completion_callback done = {.callback = piece_done, .user_data = request};
	uint32_t flags = wants_fua(request) && connection->export.fua ? LIBNBD_CMD_FLAG_FUA : 0;
	uint64_t size = 0;
	int64_t ret;

	if (!connection->asked_at)
		connection->asked_at = nbd_now_ms();
	request->outstanding++;
	if (request->left) {
		ret = issues[request->io->op](request, &size, flags, done);
	} else {
		request->flushed = true;
		ret = nbd_aio_flush(connection->handle, done, 0);
	}
	if (ret >= 0) {
		request->at += size;
		request->left -= size;
		return true;
	}
	request->outstanding--;
	if (nbd_aio_is_dead(connection->handle) || nbd_aio_is_closed(connection->handle))
		connection->broken = true;
	else
		request->result = -EIO;
	return false;
}

/* ---- Requests ---- */

static void end(struct nbd_request *request)
{
	struct nbd_channel *channel = request->channel;

	request->ended = true;
	request->next = NULL;
	*channel->ended_end = request;
	channel->ended_end = &request->next;
	nvme_nbd_channel_wake(channel);
}

/* Issues what may be, and ends it where nothing is left. */
static void go_on(struct nbd_request *request)
{
	struct nbd_connection *connection = request->channel->connection;

	while (!connection->broken && !request->result && request->outstanding < NBD_PIECES &&
	       (request->left || (!request->outstanding && wants_flush(request))) && issue(request))
		;
	if (connection->broken || request->outstanding)
		return;
	/* What has ended inside issue() is noted: its turn comes. */
	if (!request->is_noted)
		end(request);
}

static void begin(struct nbd_request *request)
{
	struct nvme_io *io = request->io;

	request->at = io->offset;
	request->left = io->op == NVME_IO_FLUSH ? 0 : io->size;
	request->flushed = false;
	request->result = 0;
	if (io->op == NVME_IO_DISCARD && !request->channel->connection->export.trim)
		request->left = 0;
	if (request->bounce && io->op == NVME_IO_WRITE)
		request->result = nvme_io_copy(io, request->bounce, io->size, false);
	go_on(request);
}

static bool has_data(const struct nvme_io *io)
{
	return io->op == NVME_IO_READ || io->op == NVME_IO_WRITE;
}

static bool needs_bounce(const struct nbd_backend *backend, const struct nvme_io *io)
{
	if (!has_data(io))
		return false;
	if (backend->tls)
		return true;
	if (io->iov_count == 1)
		return false;
	for (int i = 0; i < io->iov_count; i++) {
		if (io->iov[i].iov_len < NBD_STRAIGHT_SIZE ||
		    !uvf_is_aligned(io->iov[i].iov_len, backend->base.block_size))
			return true;
	}
	return false;
}

bool nvme_nbd_request_start(struct nbd_channel *channel, struct nvme_io *io)
{
	bool bounce = needs_bounce(channel->connection->backend, io);
	struct nbd_request *request = channel->free;

	if (!request || channel->parked || (bounce && !channel->free_bounce_count))
		return false;
	channel->free = request->next;
	*request = (struct nbd_request){.channel = channel, .io = io};
	if (bounce)
		request->bounce = channel->free_bounces[--channel->free_bounce_count];
	begin(request);
	return true;
}

static void begin_again(struct nbd_request *request)
{
	struct nbd_channel *channel = request->channel;

	if (request->parked) {
		request->parked = false;
		channel->parked--;
	}
	if (has_data(request->io) && !request->bounce) {
		if (!channel->free_bounce_count) {
			request->parked = true;
			channel->parked++;
			return;
		}
		request->bounce = channel->free_bounces[--channel->free_bounce_count];
	}
	begin(request);
}

void nvme_nbd_requests_again(struct nbd_channel *channel)
{
	for (unsigned i = 0; i < channel->request_count; i++)
		if (channel->requests[i].io && !channel->requests[i].ended)
			begin_again(&channel->requests[i]);
}

void nvme_nbd_requests_lost(struct nbd_channel *channel)
{
	for (unsigned i = 0; i < channel->request_count; i++) {
		struct nbd_request *request = &channel->requests[i];

		if (!request->io || request->ended)
			continue;
		request->outstanding = 0;
		request->is_noted = false;
		/* The server has said what it is. */
		if (request->result)
			end(request);
	}
}

void nvme_nbd_requests_noted(struct nbd_connection *connection)
{
	struct nbd_request *request;

	while ((request = connection->noted)) {
		connection->noted = request->next;
		request->is_noted = false;
		go_on(request);
	}
}

void nvme_nbd_requests_fail(struct nbd_channel *channel, int result)
{
	for (unsigned i = 0; i < channel->request_count; i++) {
		struct nbd_request *request = &channel->requests[i];

		if (!request->io || request->ended)
			continue;
		request->result = result;
		end(request);
	}
}

void nvme_nbd_request_free(struct nbd_request *request)
{
	struct nbd_channel *channel = request->channel;

	if (request->bounce)
		channel->free_bounces[channel->free_bounce_count++] = request->bounce;
	if (request->parked)
		channel->parked--;
	request->bounce = NULL;
	request->io = NULL;
	request->parked = false;
	request->next = channel->free;
	channel->free = request;
	for (unsigned i = 0; channel->parked && channel->free_bounce_count &&
			     atomic_load(&channel->connection->up) && i < channel->request_count;
	     i++)
		if (channel->requests[i].io && channel->requests[i].parked)
			begin_again(&channel->requests[i]);
}
