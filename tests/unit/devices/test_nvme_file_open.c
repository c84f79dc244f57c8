/* SPDX-License-Identifier: BSD-3-Clause */
/* Files as NVMe storage: what can be opened, by whom, and where it can be. */
#include "nvme_file_world.h"

#include <linux/loop.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void describes_itself(void **state)
{
	struct world *world = world_or_skip(state);
	struct nvme_backend *backend = world->backend;

	assert_string_equal(backend->kind, "file");
	assert_int_equal(backend->size, SIZE);
	assert_null(backend->bytes);
	assert_true(backend->volatile_write_cache);
	assert_true(backend->physical_block_size >= 512);
	assert_int_equal(backend->max_iovecs, 1024);
	assert_true(world->channel->fd >= 0);
}

static void others_are_locked_out(void **state)
{
	struct world *world = world_or_skip(state);
	struct nvme_file_config config = config_of(world);
	struct nvme_backend *first, *second;
	struct uvf_error error;

	assert_int_equal(nvme_backend_open_file(&config, &second, &error), -EBUSY);
	assert_non_null(strstr(error.text, "in use by another process"));
	config.common.read_only = true;
	assert_int_equal(nvme_backend_open_file(&config, &second, &error), -EBUSY);
	config.no_lock = true;
	assert_int_equal(nvme_backend_open_file(&config, &second, &error), 0);
	nvme_backend_close(second);

	nvme_channel_close(world->channel);
	nvme_backend_close(world->backend);
	world->channel = NULL;
	world->backend = NULL;
	config.no_lock = false;
	assert_int_equal(nvme_backend_open_file(&config, &first, &error), 0);
	assert_int_equal(nvme_backend_open_file(&config, &second, &error), 0);
	assert_true(first->read_only && !first->volatile_write_cache);
	config.common.read_only = false;
	assert_int_equal(nvme_backend_open_file(&config, &world->backend, &error), -EBUSY);
	nvme_backend_close(first);
	nvme_backend_close(second);
	assert_int_equal(nvme_backend_open_file(&config, &world->backend, &error), 0);
}

/* In a child with a small file system of its own. Exits with what is wrong, or 77: not allowed. */
static int fill_up(const struct world *world)
{
	const struct variant *variant = world->variant;
	struct nvme_file_config config = {
		.common = {.who = "test"},
		.path = "disk",
		.direct = variant->direct,
		.no_uring = variant->no_uring,
	};
	static char bytes[1 << 20] __attribute__((aligned(4096)));
	struct nvme_backend *backend;
	struct nvme_channel *channel;
	int ret = 0, fd;

	if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("small", world->directory, "tmpfs", 0, "size=2m") < 0 ||
	    chdir(world->directory) < 0)
		return 77;
	fd = open("disk", O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, SIZE) < 0 || nvme_backend_open_file(&config, &backend, NULL))
		return variant->direct ? 77 : 1;
	if (nvme_channel_open(backend, 4, &channel, NULL))
		return 2;
	for (uint64_t offset = 0; !ret && offset < SIZE; offset += sizeof(bytes))
		ret = run(channel, NVME_IO_WRITE, 0, offset, bytes, sizeof(bytes));
	if (ret != -ENOSPC)
		return 3;
	/* Room again, and all is well. */
	if (run(channel, NVME_IO_DISCARD, 0, 0, NULL, SIZE) ||
	    run(channel, NVME_IO_WRITE, 0, SIZE - 4096, bytes, 4096) ||
	    run(channel, NVME_IO_FLUSH, 0, 0, NULL, 0))
		return 4;
	nvme_channel_close(channel);
	nvme_backend_close(backend);
	return 0;
}

/* Runs @function in a child: it may do there what a process can't take back. */
static void in_child(int (*function)(const struct world *world), const struct world *world)
{
	pid_t child = fork();
	int status;

	if (!child)
		_exit(function(world));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_full_disk_says_so(void **state)
{
	struct world *world = world_or_skip(state);

	in_child(fill_up, world);
}

static void count_messages(void *opaque, enum uvf_log_level level, const char *who,
			   const char *text)
{
	*(unsigned *)opaque += strstr(text, "io_uring is not available") != NULL;
}

/* In a child, where a sandbox forbids io_uring. Exits with what is wrong. */
static int without_uring(const struct world *world)
{
	struct nvme_file_config config = config_of(world);
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	struct nvme_channel *channels[2];
	struct nvme_backend *backend;
	unsigned messages = 0;

	config.no_lock = true;
	config.no_uring = false;
	config.common.log = (struct uvf_log){count_messages, &messages, UVF_LOG_DEBUG};
	if (!filter ||
	    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0) ||
	    seccomp_load(filter))
		return 77;
	seccomp_release(filter);
	if (nvme_backend_open_file(&config, &backend, NULL))
		return 1;
	for (int i = 0; i < 2; i++) {
		if (nvme_channel_open(backend, 4, &channels[i], NULL) ||
		    run(channels[i], NVME_IO_READ, 0, 4096, world->memory, 4096))
			return 2;
		check_filled(world->memory, 4096, 4096, PATTERN);
	}
	for (int i = 0; i < 2; i++)
		nvme_channel_close(channels[i]);
	nvme_backend_close(backend);
	return messages == 1 ? 0 : 3;
}

static void a_sandbox_without_uring(void **state)
{
	struct world *world = world_or_skip(state);

	in_child(without_uring, world);
}

/* Makes @fd a block device, or returns -1 where that isn't possible. */
static int make_loop(int fd, char *path, size_t size)
{
	struct loop_config config = {.fd = (uint32_t)fd, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	int loop;

	close(control);
	if (number < 0)
		return -1;
	snprintf(path, size, "/dev/loop%d", number);
	loop = open(path, O_RDWR | O_CLOEXEC);
	if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) < 0) {
		close(loop);
		loop = -1;
	}
	return loop;
}

static void block_devices_are_storage(void **state)
{
	struct world *world = world_or_skip(state);
	struct nvme_file_config config = config_of(world);
	struct nvme_backend *backend;
	struct nvme_channel *channel;
	char path[32], *bytes = world->memory;
	int loop = make_loop(world->fd, path, sizeof(path));

	if (loop < 0)
		skip();
	config.path = path;
	assert_int_equal(nvme_backend_open_file(&config, &backend, NULL), 0);
	assert_int_equal(nvme_channel_open(backend, 4, &channel, NULL), 0);
	assert_int_equal(backend->size, SIZE);
	assert_int_equal(run(channel, NVME_IO_READ, 0, 8192, bytes + 1, 8192), 0);
	check_filled(bytes + 1, 8192, 8192, PATTERN);
	assert_int_equal(run(channel, NVME_IO_DISCARD, 0, 8192, NULL, 4096), 0);
	assert_false(((struct file_backend *)backend)->no_punch);
	/* A loop device discards by punching holes, so that this one does read as zeroes. */
	assert_int_equal(run(channel, NVME_IO_READ, 0, 4096, bytes, 12288), 0);
	check_filled(bytes, 4096, 4096, PATTERN);
	check_zero(bytes + 4096, 4096);
	check_filled(bytes + 8192, 12288, 4096, PATTERN);
	assert_int_equal(run(channel, NVME_IO_WRITE_ZEROES, NVME_IO_FUA, 512, NULL, 1024), 0);
	assert_int_equal(run(channel, NVME_IO_READ, 0, 0, bytes, 4096), 0);
	check_filled(bytes, 0, 512, PATTERN);
	check_zero(bytes + 512, 1024);
	check_filled(bytes + 1536, 1536, 2560, PATTERN);
	fill(bytes, 4096, 8192, UPDATE);
	assert_int_equal(run(channel, NVME_IO_WRITE, 0, 4096, bytes, 8192), 0);
	assert_int_equal(run(channel, NVME_IO_FLUSH, 0, 0, NULL, 0), 0);
	nvme_channel_close(channel);
	nvme_backend_close(backend);
	close(loop);
}

static void opening_fails_clearly(void **state)
{
	struct world *world = world_or_skip(state);
	struct nvme_file_config config = config_of(world);
	struct nvme_backend *backend;
	struct uvf_error error;
	char fifo[96];

	config.path = "nowhere/disk";
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -ENOENT);
	assert_non_null(strstr(error.text, "nowhere/disk"));
	config.path = world->directory;
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
	config.path = "/dev/null";
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
	assert_non_null(strstr(error.text, "neither"));
	snprintf(fifo, sizeof(fifo), "%s/fifo", world->directory);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	config.path = fifo;
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
	unlink(fifo);

	config.path = world->path;
	config.no_lock = true;
	assert_int_equal(ftruncate(world->fd, SIZE - 1), 0);
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), 0);
	assert_int_equal(backend->size, SIZE - 512);
	nvme_backend_close(backend);
	config.common.block_size = 1;
	if (config.direct)
		assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
	config.common.block_size = 0;
	assert_int_equal(ftruncate(world->fd, 0), 0);
	assert_int_equal(nvme_backend_open_file(&config, &backend, &error), -EINVAL);
}

int main(void)
{
	static const struct named_test tests[] = {
		TEST(describes_itself),		 TEST(others_are_locked_out),
		TEST(a_full_disk_says_so),	 TEST(a_sandbox_without_uring),
		TEST(block_devices_are_storage), TEST(opening_fails_clearly),
	};

	return run_all(tests, COUNT(tests));
}
