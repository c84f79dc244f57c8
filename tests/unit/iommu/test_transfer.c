/* SPDX-License-Identifier: BSD-3-Clause */
/* Transfers: every kind of memory, over several mappings, truncated files, bus mastering. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "helpers.h"
#include "iommu/memory.h"

static char local[8 * PAGE] __attribute__((aligned(4096)));

static void spanning(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	static char data[4 * PAGE], back[4 * PAGE];
	int fd = new_file(8 * PAGE);

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 31 + i / 4096);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(
			uvf_map_fd(space, i * PAGE, PAGE, UVF_PROT_RW, fd, (7 - 2 * i) * PAGE), 0);
	assert_int_equal(uvf_attachment_write(attachment, 100, data, 4 * PAGE - 100), 0);
	assert_int_equal(uvf_attachment_read(attachment, 100, back, 4 * PAGE - 100), 0);
	assert_memory_equal(data, back, 4 * PAGE - 100);
	assert_int_equal(uvf_attachment_write(attachment, 100, data, 4 * PAGE), -EFAULT);
	assert_int_equal(uvf_attachment_read(attachment, 4 * PAGE, back, 0), 0);
	assert_int_equal(uvf_attachment_read(attachment, UINT64_MAX, back, 2), -EOVERFLOW);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	close(fd);
}

static void permissions(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment;
	struct uvf_memory *memory;
	struct uvf_pin pin;
	struct iovec iov;
	uint64_t value = 0;

	assert_int_equal(uvf_memory_new_local(local, sizeof(local), &memory), 0);
	assert_int_equal(uvf_map(space, 0, PAGE, UVF_PROT_READ, memory, 0), 0);
	assert_int_equal(uvf_map(space, PAGE, PAGE, UVF_PROT_WRITE, memory, PAGE), 0);
	assert_int_equal(uvf_attachment_new(&no_ops, NULL, &attachment), 0);
	uvf_attachment_enable(attachment, true);
	assert_int_equal(uvf_attachment_read(attachment, 0, &value, 8), -EPERM);
	assert_int_equal(uvf_attachment_set(attachment, space), 0);
	assert_ptr_equal(uvf_attachment_space(attachment), space);
	assert_int_equal(uvf_attachment_read(attachment, 0, &value, 8), 0);
	assert_int_equal(uvf_attachment_write(attachment, 0, &value, 8), -EACCES);
	assert_int_equal(uvf_attachment_read(attachment, PAGE, &value, 8), -EACCES);
	assert_int_equal(uvf_attachment_write(attachment, PAGE, &value, 8), 0);
	assert_int_equal(uvf_attachment_read(attachment, PAGE - 4, &value, 8), -EACCES);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 0, 8, &value, 1), -EACCES);
	assert_int_equal(uvf_attachment_pin(attachment, 0, 8, UVF_PROT_WRITE, &pin, &iov, 1),
			 -EACCES);
	uvf_attachment_enable(attachment, false);
	assert_int_equal(uvf_attachment_read(attachment, 0, &value, 8), -EPERM);
	assert_int_equal(uvf_attachment_write(attachment, PAGE, &value, 8), -EPERM);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 0, 8, &value, 1), -EPERM);
	assert_int_equal(uvf_attachment_pin(attachment, 0, 8, UVF_PROT_READ, &pin, &iov, 1),
			 -EPERM);
	uvf_attachment_enable(attachment, true);
	assert_int_equal(uvf_attachment_read(attachment, 0, &value, 8), 0);
	assert_int_equal(uvf_attachment_set(attachment, NULL), 0);
	assert_int_equal(uvf_attachment_read(attachment, 0, &value, 8), -EPERM);
	assert_null(uvf_attachment_space(attachment));
	uvf_attachment_free(attachment);
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

static void compare_and_swap(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	int fd = new_file(PAGE);
	uint64_t expected = 0;

	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 8, 8, &expected, 5), 1);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 8, 8, &expected, 6), 0);
	assert_int_equal(expected, 5);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 8, 4, &expected, 6), 1);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 4, 8, &expected, 6), -EINVAL);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 2, 4, &expected, 6), -EINVAL);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 8, 2, &expected, 6), -EINVAL);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 8, 16, &expected, 6), -EINVAL);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, PAGE, 8, &expected, 6),
			 -EFAULT);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, 8, 8, &expected, 6), -EFAULT);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	close(fd);
}

static void truncated(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	static char buf[8 * PAGE];
	int fd = new_file(8 * PAGE);
	struct uvf_pin pin;
	struct iovec iov;

	assert_int_equal(uvf_map_fd(space, 0, 8 * PAGE, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(uvf_attachment_write(attachment, 0, buf, 8 * PAGE), 0);
	assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
	assert_int_equal(uvf_attachment_write(attachment, 0, buf, 8 * PAGE), -EFAULT);
	assert_int_equal(uvf_attachment_read(attachment, 3 * PAGE, buf, 1), -EFAULT);
	assert_int_equal(uvf_attachment_read(attachment, 3 * PAGE - 1, buf, 1), 0);
	assert_int_equal(uvf_attachment_pin(attachment, 3 * PAGE, PAGE, UVF_PROT_RW, &pin, &iov, 1),
			 1);
	assert_int_equal(uvf_guarded_copy(buf, iov.iov_base, 64), -EFAULT);
	uvf_attachment_unpin(&pin);
	assert_int_equal(ftruncate(fd, 8 * PAGE), 0);
	assert_int_equal(uvf_attachment_read(attachment, 0, buf, 8 * PAGE), 0);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	close(fd);
}

static void *truncate_again_and_again(void *opaque)
{
	int fd = *(int *)opaque;

	for (unsigned i = 0; i < 500; i++) {
		if (ftruncate(fd, i % 7 * (off_t)PAGE))
			break;
		if (ftruncate(fd, 64 * (off_t)PAGE))
			break;
	}
	return NULL;
}

static void truncated_meanwhile(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	static char buf[64 * PAGE];
	int fd = new_file(64 * PAGE);
	pthread_t thread;

	assert_int_equal(uvf_map_fd(space, 0, 64 * PAGE, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, truncate_again_and_again, &fd), 0);
	for (unsigned i = 0; i < 500; i++) {
		int result = i & 1 ? uvf_attachment_read(attachment, 0, buf, sizeof(buf))
				   : uvf_attachment_write(attachment, 0, buf, sizeof(buf));

		assert_true(!result || result == -EFAULT);
	}
	pthread_join(thread, NULL);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	close(fd);
}

static void process(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	uint64_t *page = aligned_alloc(PAGE, PAGE), value = 0, expected = 0;
	struct uvf_memory *memory;
	struct uvf_pin pin;
	struct iovec iov;
	int status, result;
	pid_t child;

	assert_int_equal(uvf_memory_new_process(0x7ffffff0, &memory), -ESRCH);
	page[0] = 0xfeed;
	child = fork();
	if (!child) {
		for (;;)
			pause();
	}
	page[0] = 0xdead;
	result = uvf_memory_new_process(child, &memory);
	assert_int_equal(result, 0);
	assert_int_equal(uvf_memory_fd(memory), -1);
	assert_int_equal(uvf_map(space, PAGE, PAGE, UVF_PROT_RW, memory, (uintptr_t)page), 0);
	assert_int_equal(uvf_map(space, 3 * PAGE, PAGE, UVF_PROT_RW, memory, 0), 0);
	uvf_memory_put(memory);
	assert_int_equal(uvf_attachment_read(attachment, PAGE, &value, 8), 0);
	assert_int_equal(value, 0xfeed);
	value = 0xbeef;
	assert_int_equal(uvf_attachment_write(attachment, PAGE + 8, &value, 8), 0);
	value = 0;
	assert_int_equal(uvf_attachment_read(attachment, PAGE + 8, &value, 8), 0);
	assert_int_equal(value, 0xbeef);
	assert_int_equal(uvf_attachment_read(attachment, 3 * PAGE, &value, 8), -EFAULT);
	assert_int_equal(uvf_attachment_compare_and_swap(attachment, PAGE, 8, &expected, 1),
			 -EOPNOTSUPP);
	assert_int_equal(uvf_attachment_pin(attachment, PAGE, 8, UVF_PROT_READ, &pin, &iov, 1),
			 -EOPNOTSUPP);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(uvf_attachment_read(attachment, PAGE, &value, 8), -EFAULT);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	free(page);
}

/* Something far away; its calls may unmap what they serve. */
struct far_end {
	char bytes[2 * PAGE];
	struct uvf_address_space *unmaps;
	unsigned released;
	int error;
};

static int far_read(void *opaque, uint64_t offset, void *buf, size_t count)
{
	struct far_end *far = opaque;

	/* This would hang for ever inside an RCU section. */
	if (far->unmaps)
		assert_int_equal(uvf_unmap(far->unmaps, 0, 0, NULL), 0);
	if (far->error)
		return far->error;
	memcpy(buf, far->bytes + offset, count);
	return 0;
}

static int far_write(void *opaque, uint64_t offset, const void *buf, size_t count)
{
	struct far_end *far = opaque;

	memcpy(far->bytes + offset, buf, count);
	return 0;
}

static void far_release(void *opaque)
{
	((struct far_end *)opaque)->released++;
}

static void remote(void **unused)
{
	const struct uvf_memory_remote_ops ops = {far_read, far_write, far_release};
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	static struct far_end far;
	struct uvf_memory *memory;
	char buf[64] = "to the far end";

	assert_int_equal(uvf_memory_new_remote(&ops, &far, &memory), 0);
	assert_int_equal(uvf_map(space, 0, 2 * PAGE, UVF_PROT_RW, memory, 0), 0);
	uvf_memory_put(memory);
	assert_int_equal(uvf_attachment_write(attachment, PAGE - 4, buf, sizeof(buf)), 0);
	assert_string_equal(far.bytes + PAGE - 4, "to the far end");
	memset(buf, 0, sizeof(buf));
	assert_int_equal(uvf_attachment_read(attachment, PAGE - 4, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "to the far end");
	far.error = -ETIMEDOUT;
	assert_int_equal(uvf_attachment_read(attachment, 0, buf, 1), -ETIMEDOUT);
	far.error = 0;
	far.unmaps = space;
	assert_int_equal(uvf_attachment_read(attachment, PAGE, buf, 8), 0);
	assert_int_equal(far.released, 1);
	assert_int_equal(uvf_attachment_read(attachment, PAGE, buf, 8), -EFAULT);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
}

/* A hint of the old address space is never used for the new one. */
static void replaced(void **unused)
{
	struct uvf_address_space *spaces[2] = {new_space(), new_space()};
	struct uvf_attachment *attachment = new_attachment(spaces[0], &no_ops, NULL);
	int fd = new_file(2 * PAGE);

	for (uint64_t i = 0; i < 2; i++) {
		assert_int_equal(uvf_map_fd(spaces[i], 0, PAGE, UVF_PROT_RW, fd, i * PAGE), 0);
		assert_int_equal(uvf_attachment_set(attachment, spaces[i]), 0);
		assert_int_equal(uvf_attachment_write(attachment, 0, &i, 8), 0);
	}
	for (uint64_t i = 0; i < 20; i++) {
		uint64_t value = 9;

		assert_int_equal(uvf_attachment_set(attachment, spaces[i & 1]), 0);
		assert_int_equal(uvf_attachment_read(attachment, 0, &value, 8), 0);
		assert_int_equal(value, i & 1);
	}
	uvf_attachment_free(attachment);
	uvf_address_space_put(spaces[0]);
	uvf_address_space_put(spaces[1]);
	close(fd);
}

/* A kind whose calls end when the test says so. */
static struct {
	_Atomic(bool) entered, go, left;
} slow;

static int slow_read(struct uvf_memory *memory, uint64_t offset, void *buf, size_t count)
{
	slow.entered = true;
	while (!slow.go)
		usleep(100);
	memset(buf, 1, count);
	slow.left = true;
	return 0;
}

static const struct uvf_memory_kind slow_kind = {
	.ends = true,
	.read = slow_read,
	.window_get = uvf_memory_whole_get,
	.window_put = uvf_memory_whole_put,
};

static void *read_slowly(void *opaque)
{
	uint64_t value;

	assert_int_equal(uvf_attachment_read(opaque, 8, &value, 8), 0);
	return NULL;
}

static void *let_go(void *unused)
{
	usleep(50000);
	slow.go = true;
	return NULL;
}

/* A copy to another process is not over when its mapping has been looked up. */
static void unmapped_meanwhile(void **state)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	struct uvf_memory *memory = uvf_memory_alloc(&slow_kind, UVF_PROT_RW);
	pthread_t reader, helper;

	assert_non_null(memory);
	memset(&slow, 0, sizeof(slow));
	assert_int_equal(uvf_map(space, 0, PAGE, UVF_PROT_RW, memory, 0), 0);
	uvf_memory_put(memory);
	assert_int_equal(pthread_create(&reader, NULL, read_slowly, attachment), 0);
	while (!slow.entered)
		usleep(100);
	assert_int_equal(pthread_create(&helper, NULL, let_go, NULL), 0);
	if (*state)
		assert_int_equal(uvf_attachment_set(attachment, NULL), 0);
	else
		assert_int_equal(uvf_unmap(space, 0, 0, NULL), 0);
	assert_true(slow.left);
	pthread_join(reader, NULL);
	pthread_join(helper, NULL);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
}

struct switching {
	struct uvf_attachment *attachment;
	_Atomic(bool) stop;
};

static void *switch_bus_master(void *opaque)
{
	struct switching *switching = opaque;

	for (unsigned i = 0; !switching->stop; i++)
		uvf_attachment_enable(switching->attachment, i & 1);
	return NULL;
}

/* A driver's threads: one writes the command register while another one attaches. */
static void switched_and_replaced(void **unused)
{
	struct uvf_address_space *space[2] = {new_space(), new_space()};
	struct switching switching = {.attachment = new_attachment(space[0], &no_ops, NULL)};
	struct uvf_memory *memory;
	pthread_t thread;
	uint64_t value;

	assert_int_equal(uvf_memory_new_local(local, sizeof(local), &memory), 0);
	assert_int_equal(uvf_map(space[0], 0, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, switch_bus_master, &switching), 0);
	for (unsigned i = 1; i < 1000; i++) {
		int result;

		assert_int_equal(uvf_attachment_set(switching.attachment, space[i % 2]), 0);
		result = uvf_attachment_read(switching.attachment, 0, &value, 8);
		assert_true(result == -EPERM || result == (i % 2 ? -EFAULT : 0));
	}
	switching.stop = true;
	pthread_join(thread, NULL);
	uvf_attachment_enable(switching.attachment, true);
	assert_int_equal(uvf_attachment_read(switching.attachment, 0, &value, 8), -EFAULT);
	uvf_attachment_free(switching.attachment);
	uvf_memory_put(memory);
	uvf_address_space_put(space[0]);
	uvf_address_space_put(space[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spanning),
		cmocka_unit_test(permissions),
		cmocka_unit_test(compare_and_swap),
		cmocka_unit_test(truncated),
		cmocka_unit_test(truncated_meanwhile),
		cmocka_unit_test(process),
		cmocka_unit_test(remote),
		cmocka_unit_test(replaced),
		cmocka_unit_test(unmapped_meanwhile),
		{"detached_meanwhile", unmapped_meanwhile, NULL, NULL, (void *)tests},
		cmocka_unit_test(switched_and_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
