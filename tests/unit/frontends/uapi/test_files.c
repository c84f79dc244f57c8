/* SPDX-License-Identifier: BSD-3-Clause */
/* Files of the program: which one a descriptor is, and that each is released once, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/uapi.h"

#define FILES 400

struct counts {
	atomic_uint released, destroyed;
	atomic_bool slow;    /* releases last while it is set */
	atomic_bool settles; /* and say so */
	atomic_uint waiting;
};

struct file {
	struct uapi_file file;
	struct counts *counts;
	atomic_uint releases;
};

static void release(struct uapi_file *base)
{
	struct file *file = (struct file *)base;

	assert_int_equal(atomic_fetch_add(&file->releases, 1), 0);
	assert_int_equal(base->running, 0);
	if (file->counts->settles)
		uapi_files_settle(base->run);
	file->counts->waiting++;
	while (file->counts->slow)
		usleep(1000);
	file->counts->waiting--;
	file->counts->released++;
}

static void destroy(struct uapi_file *base)
{
	struct file *file = (struct file *)base;

	assert_int_equal(file->releases, 1);
	file->counts->destroyed++;
	free(file);
}

static const struct uapi_file_ops ops = {.name = "file", .release = release, .destroy = destroy};

static struct file *new_file(struct uvf_run *run, struct counts *counts)
{
	struct file *file = calloc(1, sizeof(*file));

	assert_non_null(file);
	file->counts = counts;
	assert_int_equal(uapi_file_init(&file->file, run, &ops, 0), 0);
	return file;
}

static int place(struct uvf_run *run, struct file *file)
{
	struct uapi_call call = {.run = run};
	int fd = uapi_call_place(&call, &file->file, O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* The file that @fd is, without a reference. */
static struct uapi_file *find(struct uvf_run *run, int fd)
{
	struct uapi_call call = {.run = run};
	struct uapi_file *file = uapi_file_find(&call, fd);

	if (file)
		uapi_file_put(file);
	return file;
}

static int setup(void **state)
{
	struct uvf_run *run = calloc(1, sizeof(*run));

	*state = run;
	return !run || uapi_files_new(run);
}

static int teardown(void **state)
{
	struct uvf_run *run = *state;

	uapi_files_free(run);
	assert_null(run->files);
	free(run);
	return 0;
}

static void test_found(void **state)
{
	struct uvf_run *run = *state;
	struct counts counts = {0};
	struct file *one = new_file(run, &counts), *two = new_file(run, &counts);
	int fd = place(run, one), other = place(run, two), copy = dup(fd), sockets[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
	assert_ptr_equal(find(run, fd), &one->file);
	assert_ptr_equal(find(run, copy), &one->file);
	assert_ptr_equal(find(run, other), &two->file);
	assert_null(find(run, sockets[0]));
	assert_null(find(run, 0));
	assert_null(find(run, -1));
	assert_null(find(run, 12345));
	assert_null(find(run, one->file.peer)); /* our end isn't the program's */
	close(fd);
	uapi_files_drain(run);
	assert_int_equal(counts.released, 0);
	assert_ptr_equal(find(run, copy), &one->file);
	close(copy);
	uapi_files_drain(run);
	assert_int_equal(counts.released, 1);
	assert_ptr_equal(find(run, other), &two->file);
	close(other);
	uapi_files_drain(run);
	assert_int_equal(counts.released, 2);
	close(sockets[0]);
	close(sockets[1]);
}

/* A number that is used again is another file. */
static void test_reused_number(void **state)
{
	struct uvf_run *run = *state;
	struct counts counts = {0};

	for (unsigned i = 0; i < 1000; i++) {
		struct file *file = new_file(run, &counts);
		int fd = place(run, file);

		assert_ptr_equal(find(run, fd), &file->file);
		close(fd);
		if (i % 7 == 0)
			uapi_files_drain(run);
	}
	uapi_files_drain(run);
	assert_int_equal(counts.released, 1000);
}

/* The release waits for the last operation, and the memory for the last reference. */
static void test_operations(void **state)
{
	struct uvf_run *run = *state;
	struct counts counts = {0};
	struct file *file = new_file(run, &counts);
	int fd = place(run, file);

	uapi_file_get(&file->file);
	assert_true(uapi_file_enter(&file->file));
	assert_true(uapi_file_enter(&file->file));
	close(fd);
	uapi_files_drain(run); /* doesn't wait for what runs */
	assert_int_equal(counts.released, 0);
	assert_false(uapi_file_enter(&file->file));
	uapi_file_leave(&file->file);
	uapi_files_drain(run);
	assert_int_equal(counts.released, 0);
	uapi_file_leave(&file->file);
	uapi_files_drain(run);
	assert_int_equal(counts.released, 1);
	assert_int_equal(counts.destroyed, 0);
	uapi_file_put(&file->file);
	assert_int_equal(counts.destroyed, 1);
}

static void test_abandoned(void **state)
{
	struct uvf_run *run = *state;
	struct counts counts = {0};

	uapi_file_abandon(&new_file(run, &counts)->file);
	uapi_files_drain(run);
	assert_int_equal(counts.released, 1);
	/* One that the end finds. */
	place(run, new_file(run, &counts));
	new_file(run, &counts);
	uapi_files_free(run);
	assert_int_equal(counts.released, 3);
	assert_int_equal(counts.destroyed, 3);
	assert_int_equal(uapi_files_new(run), 0);
}

/* Nobody drains: they are released all the same. */
static void test_undrained(void **state)
{
	struct uvf_run *run = *state;
	struct counts counts = {0};
	int fds[FILES];

	for (size_t i = 0; i < FILES; i++)
		fds[i] = place(run, new_file(run, &counts));
	for (size_t i = 0; i < FILES; i++)
		close(fds[i]);
	for (unsigned i = 0; i < 10000 && counts.destroyed < FILES; i++)
		usleep(1000);
	assert_int_equal(counts.destroyed, FILES);
}

/* A slow release holds up no other, nor, if it says so, who drains. */
static void test_slow(void **state)
{
	struct uvf_run *run = *state;
	struct counts slow = {.slow = true, .settles = true}, counts = {0};
	int fds[8];

	for (size_t i = 0; i < 8; i++)
		fds[i] = place(run, new_file(run, &slow));
	for (size_t i = 0; i < 8; i++)
		close(fds[i]);
	uapi_files_drain(run);
	fds[0] = place(run, new_file(run, &counts));
	close(fds[0]);
	uapi_files_drain(run);
	assert_int_equal(counts.released, 1);
	assert_int_equal(slow.released, 0);
	slow.slow = false;
	uapi_files_drain_slow(run);
	assert_int_equal(slow.released, 8);
	assert_false(uapi_files_drain_slow(run)); /* there was nothing */
}

static void *open_and_close(void *opaque)
{
	struct uvf_run *run = opaque;
	struct counts counts = {0};

	for (unsigned i = 1; i <= 300; i++) {
		struct file *file = new_file(run, &counts);
		int fd = place(run, file);
		struct uapi_call call = {.run = run};

		assert_ptr_equal(uapi_file_find(&call, fd), &file->file);
		assert_true(uapi_file_enter(&file->file));
		uapi_file_leave(&file->file);
		uapi_file_put(&file->file);
		close(fd);
		uapi_files_drain(run);
		/* Ours is released whoever saw its end first. */
		assert_int_equal(counts.released, i);
	}
	/* The last reference goes after the release. */
	while (counts.destroyed < 300)
		usleep(1000);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[8];

	for (size_t i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, *state), 0);
	for (size_t i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_found),     TEST(test_reused_number), TEST(test_operations),
		TEST(test_abandoned), TEST(test_undrained),	TEST(test_slow),
		TEST(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
