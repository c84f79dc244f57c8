/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The steps that a request on a file takes, with an engine that answers what the test says: what no
 * healthy disk does on demand.
 */
#include "nvme_storage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "devices/nvme/file.h"

#define SIZE (64ull << 20)

struct world {
	struct file_backend file;
	struct file_channel channel;
	struct nvme_io *pending[16];
	unsigned pending_count;
	char bytes[8192];
};

static struct world *world_of(struct file_channel *channel)
{
	return (struct world *)((char *)channel - offsetof(struct world, channel));
}

static void keep(struct file_channel *channel, struct nvme_io *io)
{
	struct world *world = world_of(channel);

	assert_true(world->pending_count < 16);
	world->pending[world->pending_count++] = io;
}

static const struct nvme_channel_ops channel_ops = {.cancel = file_channel_cancel};

static struct world *make_world(uint32_t alignment)
{
	struct world *world = calloc(1, sizeof(*world));

	world->file.base.size = SIZE;
	world->file.base.block_size = 512;
	world->file.base.max_iovecs = 8;
	world->file.base.max_io_size = 1 << 30;
	world->file.direct = alignment > 1;
	world->file.memory_alignment = alignment;
	world->file.offset_alignment = alignment;
	world->file.zeroes = world->bytes;
	assert_int_equal(file_channel_init(&world->channel, &world->file, 4, NULL), 0);
	world->channel.start_step = keep;
	world->channel.base.ops = &channel_ops;
	return world;
}

static int setup_buffered(void **state)
{
	*state = make_world(1);
	return 0;
}

static int setup_direct(void **state)
{
	*state = make_world(512);
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	assert_int_equal(world->pending_count, 0);
	assert_int_equal(world->channel.base.in_flight, 0);
	assert_int_equal(world->channel.started, 0);
	if (world->file.direct)
		assert_int_equal(world->channel.free_bounce_count, BOUNCE_COUNT);
	file_channel_fini(&world->channel);
	free(world);
	return 0;
}

static void submit(struct world *world, struct request *request)
{
	assert_int_equal(file_channel_submit(&world->channel.base, &request->io), NVME_IO_PENDING);
}

/* The oldest step: what it asks for, and then its answer. */
static struct file_step answer(struct world *world, int result)
{
	struct nvme_io *io = world->pending[0];
	struct file_step step;

	assert_true(world->pending_count > 0);
	memmove(world->pending, world->pending + 1, --world->pending_count * sizeof(io));
	file_step_get(&world->channel, io, &step);
	file_step_end(&world->channel, io, result);
	return step;
}

static void short_transfers_continue(void **state)
{
	struct world *world = *state;
	struct request request;
	struct file_step step;

	request_make(&request, NVME_IO_READ, 4096, world->bytes, 1024);
	request.io.iov_count = 2;
	request.iov[0].iov_len = 500;
	request.iov[1] = (struct iovec){world->bytes + 500, 524};
	submit(world, &request);
	step = answer(world, 100);
	assert_int_equal(step.kind, FILE_STEP_READ);
	assert_int_equal(step.offset, 4096);
	assert_int_equal(step.iov_count, 2);
	step = answer(world, 400);
	assert_int_equal(step.offset, 4196);
	step = answer(world, 1);
	assert_int_equal(step.offset, 4596);
	assert_int_equal(step.iov_count, 1);
	assert_ptr_equal(step.iov, request.iov + 1);
	assert_int_equal(request.completed, 0);
	step = answer(world, 523);
	assert_ptr_equal(request.iov[1].iov_base, world->bytes + 501);
	assert_int_equal(request.completed, 1);
	assert_int_equal(request.result, 0);
}

static void the_end_of_the_file_is_an_error(void **state)
{
	struct world *world = *state;
	struct request request;

	for (int op = NVME_IO_READ; op <= NVME_IO_WRITE; op++) {
		request_make(&request, (enum nvme_io_op)op, 0, world->bytes, 1024);
		submit(world, &request);
		answer(world, 512);
		answer(world, 0);
		assert_int_equal(request.completed, 1);
		assert_int_equal(request.result, -EIO);
	}
}

static void direct_ends_inside_a_block(void **state)
{
	struct world *world = *state;
	static char aligned[1024] __attribute__((aligned(512)));
	struct request request;

	request_make(&request, NVME_IO_READ, 0, aligned, 1024);
	submit(world, &request);
	answer(world, 700);
	assert_int_equal(request.result, -EIO);
}

static void interruptions_are_repeated_but_not_forever(void **state)
{
	struct world *world = *state;
	struct request request;
	unsigned answers = 0;

	request_make(&request, NVME_IO_WRITE, 0, world->bytes, 512);
	request.io.flags = NVME_IO_FUA;
	submit(world, &request);
	answer(world, -EINTR);
	answer(world, -EAGAIN);
	assert_int_equal(answer(world, 512).rw_flags, RWF_DSYNC);
	assert_int_equal(request.result, 0);
	request_make(&request, NVME_IO_WRITE, 0, world->bytes, 512);
	submit(world, &request);
	while (!request.completed && answers++ < 1000)
		answer(world, -EAGAIN);
	assert_int_equal(request.result, -EAGAIN);
}

static void errors_are_passed_on(void **state)
{
	static const int errors[] = {EIO, ENOSPC, EFAULT, EDQUOT, EFBIG, ENODATA};
	struct world *world = *state;
	struct request request;

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		request_make(&request, NVME_IO_WRITE, 0, world->bytes, 512);
		submit(world, &request);
		answer(world, -errors[i]);
		assert_int_equal(request.result, -errors[i]);
		request_make(&request, NVME_IO_DISCARD, 0, NULL, 512);
		submit(world, &request);
		answer(world, -errors[i]);
		assert_int_equal(request.result, -errors[i]);
	}
}

static int flush(struct world *world, int result)
{
	struct request request;

	request_make(&request, NVME_IO_FLUSH, 0, NULL, 0);
	submit(world, &request);
	assert_int_equal(answer(world, result).kind, FILE_STEP_SYNC);
	assert_int_equal(request.completed, 1);
	return request.result;
}

static void lost_writes_are_not_vouched_for(void **state)
{
	struct world *world = *state;

	assert_int_equal(flush(world, 0), 0);
	assert_int_equal(flush(world, -EIO), -EIO);
	assert_int_equal(flush(world, 0), -EIO);
	assert_int_equal(flush(world, -ENOSPC), -ENOSPC);
	assert_int_equal(flush(world, 0), -ENOSPC);
}

static void a_failed_fua_write_took_the_report(void **state)
{
	struct world *world = *state;
	struct request request;

	request_make(&request, NVME_IO_WRITE, 0, world->bytes, 512);
	request.io.flags = NVME_IO_FUA;
	submit(world, &request);
	answer(world, -ENOSPC);
	assert_int_equal(flush(world, 0), 0);
	request_make(&request, NVME_IO_WRITE, 0, world->bytes, 512);
	request.io.flags = NVME_IO_FUA;
	submit(world, &request);
	answer(world, -EIO);
	assert_int_equal(flush(world, 0), -EIO);
}

/* Nothing is in a cache that could be lost: the disk may do better next time. */
static void direct_flushes_recover(void **state)
{
	struct world *world = *state;

	assert_int_equal(flush(world, -EIO), -EIO);
	assert_int_equal(flush(world, 0), 0);
}

static void zeroes_by_whatever_works(void **state)
{
	const uint64_t size = 3 * ZEROES_SIZE / 2;
	struct world *world = *state;
	struct request request;
	struct file_step step;

	request_make(&request, NVME_IO_WRITE_ZEROES, 512, NULL, size);
	request.io.flags = NVME_IO_UNMAP | NVME_IO_FUA;
	submit(world, &request);
	step = answer(world, -EOPNOTSUPP);
	assert_int_equal(step.kind, FILE_STEP_PUNCH);
	assert_int_equal(step.mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	assert_int_equal(step.size, size);
	step = answer(world, -EOPNOTSUPP);
	assert_int_equal(step.kind, FILE_STEP_ZERO_RANGE);
	assert_int_equal(step.mode, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
	step = answer(world, ZEROES_SIZE);
	assert_int_equal(step.kind, FILE_STEP_ZEROES);
	assert_int_equal(step.iov[0].iov_len, ZEROES_SIZE);
	step = answer(world, ZEROES_SIZE / 2);
	assert_int_equal(step.offset, 512 + ZEROES_SIZE);
	assert_int_equal(request.completed, 0);
	assert_int_equal(answer(world, 0).kind, FILE_STEP_SYNC);
	assert_int_equal(request.completed, 1);
	assert_int_equal(request.result, 0);

	/* What was learnt is used. */
	request_make(&request, NVME_IO_WRITE_ZEROES, 0, NULL, 512);
	submit(world, &request);
	assert_int_equal(answer(world, 512).kind, FILE_STEP_ZEROES);
	assert_int_equal(request.result, 0);
	request_make(&request, NVME_IO_DISCARD, 0, NULL, 512);
	assert_int_equal(file_channel_submit(&world->channel.base, &request.io), 0);
}

static void block_devices_discard_or_do_not(void **state)
{
	struct world *world = *state;
	struct request request;

	world->file.block_device = true;
	request_make(&request, NVME_IO_DISCARD, 0, NULL, 512);
	submit(world, &request);
	assert_int_equal(answer(world, -EINVAL).kind, FILE_STEP_BLOCK_DISCARD);
	assert_int_equal(answer(world, -EINVAL).kind, FILE_STEP_PUNCH);
	assert_int_equal(request.result, 0);
	request_make(&request, NVME_IO_DISCARD, 0, NULL, 4096);
	submit(world, &request);
	assert_int_equal(answer(world, -EOPNOTSUPP).kind, FILE_STEP_BLOCK_DISCARD);
	assert_int_equal(answer(world, 0).kind, FILE_STEP_PUNCH);
	assert_int_equal(request.result, 0);
	request_make(&request, NVME_IO_DISCARD, 0, NULL, 4096);
	submit(world, &request);
	assert_int_equal(answer(world, -EIO).kind, FILE_STEP_PUNCH);
	assert_int_equal(request.result, -EIO);
}

static void the_rest_wait_their_turn(void **state)
{
	struct world *world = *state;
	struct request requests[9];

	for (int i = 0; i < 9; i++) {
		request_make(&requests[i], NVME_IO_READ, 512 * (uint64_t)i, world->bytes, 512);
		submit(world, &requests[i]);
	}
	assert_int_equal(world->channel.base.in_flight, 9);
	for (unsigned i = 0; i < 9; i++) {
		assert_int_equal(world->pending_count, 9 - i < 4 ? 9 - i : 4);
		assert_int_equal(answer(world, 512).offset, 512 * i);
	}
}

static void a_bounced_write_whose_source_is_gone(void **state)
{
	struct world *world = *state;
	struct request request;

	/* The iovecs come to an end before the bytes do: as good as memory that isn't there. */
	request_make(&request, NVME_IO_WRITE, 0, world->bytes + 1, 1024);
	submit(world, &request);
	request.io.iov_count = 0;
	assert_int_equal(answer(world, 0).kind, FILE_STEP_NONE);
	assert_int_equal(request.result, -EFAULT);
}

static void bounces_are_pieces(void **state)
{
	const uint64_t size = BOUNCE_SIZE + 1024;
	struct world *world = *state;
	char *memory = malloc(size + 1);
	struct request request;
	struct file_step step;

	fill(memory + 1, 0, size, 3);
	request_make(&request, NVME_IO_WRITE, 512, memory + 1, size);
	submit(world, &request);
	step = answer(world, 1024);
	assert_int_equal(step.iov[0].iov_len, BOUNCE_SIZE);
	assert_ptr_equal(step.iov[0].iov_base, world->channel.bounces + BOUNCE_SIZE * 15);
	step = answer(world, BOUNCE_SIZE);
	assert_int_equal(step.offset, 512 + 1024);
	check_filled(step.iov[0].iov_base, 1024, BOUNCE_SIZE, 3);
	assert_int_equal(request.completed, 1);
	assert_int_equal(request.result, 0);
	free(memory);
}

/* Four are started; of those that wait the first, the last and one between are taken back. */
static void what_waits_can_be_taken_back(void **state)
{
	static const unsigned taken[] = {8, 4, 6};
	struct world *world = *state;
	struct request requests[10];

	for (unsigned i = 0; i < 9; i++) {
		request_make(&requests[i], NVME_IO_READ, i * 512, world->bytes, 512);
		submit(world, &requests[i]);
	}
	assert_int_equal(world->pending_count, 4);
	assert_false(nvme_channel_cancel(&world->channel.base, &requests[3].io));
	for (unsigned i = 0; i < 3; i++) {
		assert_true(nvme_channel_cancel(&world->channel.base, &requests[taken[i]].io));
		assert_false(nvme_channel_cancel(&world->channel.base, &requests[taken[i]].io));
	}
	request_make(&requests[9], NVME_IO_READ, 9 * 512, world->bytes, 512);
	submit(world, &requests[9]);
	assert_int_equal(world->channel.base.in_flight, 7);
	while (world->pending_count)
		answer(world, 512);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(requests[i].completed, i != 8 && i != 4 && i != 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define BUFFERED(name) cmocka_unit_test_setup_teardown(name, setup_buffered, teardown)
#define DIRECT(name)   cmocka_unit_test_setup_teardown(name, setup_direct, teardown)
		BUFFERED(short_transfers_continue),
		BUFFERED(what_waits_can_be_taken_back),
		BUFFERED(the_end_of_the_file_is_an_error),
		DIRECT(direct_ends_inside_a_block),
		BUFFERED(interruptions_are_repeated_but_not_forever),
		BUFFERED(errors_are_passed_on),
		BUFFERED(lost_writes_are_not_vouched_for),
		BUFFERED(a_failed_fua_write_took_the_report),
		DIRECT(direct_flushes_recover),
		BUFFERED(zeroes_by_whatever_works),
		BUFFERED(block_devices_discard_or_do_not),
		BUFFERED(the_rest_wait_their_turn),
		DIRECT(a_bounced_write_whose_source_is_gone),
		DIRECT(bounces_are_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
