/* SPDX-License-Identifier: BSD-3-Clause */
/* Map and unmap: what is allowed, what is refused, what is counted. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "helpers.h"

#define TOP_PAGE 0xfffffffffffff000ULL

static char local[16 * PAGE] __attribute__((aligned(4096)));

static struct uvf_memory *new_local(void)
{
	struct uvf_memory *memory;

	assert_int_equal(uvf_memory_new_local(local, sizeof(local), &memory), 0);
	return memory;
}

static void arguments(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_memory *memory = new_local();

	assert_int_equal(uvf_map(space, 0, 0, UVF_PROT_RW, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 1, PAGE, UVF_PROT_RW, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0, PAGE + 1, UVF_PROT_RW, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0, PAGE, UVF_PROT_RW, memory, 1), -EINVAL);
	assert_int_equal(uvf_map(space, 0, PAGE, 0, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0, PAGE, 4, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0, PAGE, 7, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, TOP_PAGE, 2 * PAGE, UVF_PROT_RW, memory, 0), -EOVERFLOW);
	assert_int_equal(uvf_map(space, 0, 2 * PAGE, UVF_PROT_RW, memory, TOP_PAGE), -EOVERFLOW);
	assert_int_equal(uvf_map(space, 0, PAGE, UVF_PROT_RW, memory, TOP_PAGE), -EFAULT);
	assert_int_equal(uvf_map(space, 0, PAGE, UVF_PROT_RW, memory, sizeof(local)), -EFAULT);
	assert_int_equal(uvf_map(space, 0, TOP_PAGE, UVF_PROT_RW, memory, 0), -EFAULT);
	assert_int_equal(stats_of(space).mappings, 0);
	assert_int_equal(uvf_map(space, 4 * PAGE, 2 * PAGE, UVF_PROT_RW, memory, 0), 0);
	for (uint64_t at = 0; at < 8; at++) {
		bool overlaps = at > 2 && at < 6;

		assert_int_equal(uvf_map(space, at * PAGE, 2 * PAGE, UVF_PROT_RW, memory, 0),
				 overlaps ? -EEXIST : 0);
		if (!overlaps)
			assert_int_equal(uvf_unmap(space, at * PAGE, 2 * PAGE, NULL), 0);
	}
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

static void unmap_arguments(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_memory *memory = new_local();
	uint64_t bytes = 1;

	assert_int_equal(uvf_unmap(space, PAGE, 0, &bytes), -EINVAL);
	assert_int_equal(bytes, 0);
	assert_int_equal(uvf_unmap(space, 1, PAGE, NULL), -EINVAL);
	assert_int_equal(uvf_unmap(space, 0, 1, NULL), -EINVAL);
	assert_int_equal(uvf_unmap(space, TOP_PAGE, 2 * PAGE, NULL), -EOVERFLOW);
	assert_int_equal(uvf_unmap(space, 0, PAGE, &bytes), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(uvf_unmap(space, 0, 0, &bytes), 0);
	assert_int_equal(bytes, 0);
	for (uint64_t at = 2; at <= 6; at += 2)
		assert_int_equal(uvf_map(space, at * PAGE, 2 * PAGE, UVF_PROT_RW, memory, 0), 0);
	/* [2,4) [4,6) [6,8): cut at either end, and in one. */
	assert_int_equal(uvf_unmap(space, 2 * PAGE, 3 * PAGE, NULL), -EINVAL);
	assert_int_equal(uvf_unmap(space, 3 * PAGE, 3 * PAGE, NULL), -EINVAL);
	assert_int_equal(uvf_unmap(space, 2 * PAGE, PAGE, NULL), -EINVAL);
	assert_int_equal(uvf_unmap(space, 5 * PAGE, PAGE, NULL), -EINVAL);
	assert_int_equal(uvf_unmap(space, 0, 3 * PAGE, NULL), -EINVAL);
	assert_int_equal(uvf_unmap(space, 7 * PAGE, 9 * PAGE, NULL), -EINVAL);
	assert_int_equal(stats_of(space).mappings, 3);
	assert_int_equal(uvf_unmap(space, 2 * PAGE, 4 * PAGE, &bytes), 0);
	assert_int_equal(bytes, 4 * PAGE);
	assert_int_equal(uvf_unmap(space, 0, 100 * PAGE, &bytes), 0);
	assert_int_equal(bytes, 2 * PAGE);
	assert_int_equal(stats_of(space).bytes, 0);
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

static void top_of_the_space(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	struct uvf_memory *memory = new_local();
	uint64_t value = 7, bytes;

	assert_int_equal(uvf_map(space, TOP_PAGE, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_map(space, 0, PAGE, UVF_PROT_RW, memory, PAGE), 0);
	assert_int_equal(uvf_map(space, TOP_PAGE - PAGE, 2 * PAGE, UVF_PROT_RW, memory, 0),
			 -EEXIST);
	assert_int_equal(uvf_attachment_write(attachment, UINT64_MAX - 7, &value, 8), 0);
	assert_memory_equal(local + PAGE - 8, &value, 8);
	assert_int_equal(uvf_attachment_write(attachment, UINT64_MAX - 6, &value, 8), -EOVERFLOW);
	assert_int_equal(uvf_unmap(space, TOP_PAGE, PAGE, &bytes), 0);
	assert_int_equal(bytes, PAGE);
	assert_int_equal(uvf_map(space, TOP_PAGE, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_unmap(space, 0, 0, &bytes), 0);
	assert_int_equal(bytes, 2 * PAGE);
	uvf_attachment_free(attachment);
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

static void aperture_and_reserved(void **unused)
{
	const struct uvf_iova_range reserved[] = {{0xfee00000, 0xfeefffff}, {0x100000, 0x100fff}};
	const struct uvf_address_space_config config = {
		.page_sizes = 0x201000,
		.aperture = {0x10000, 0xffffffff},
		.reserved = reserved,
		.reserved_count = 2,
	};
	struct uvf_address_space_config bad = {.aperture = {2, 1}};
	struct uvf_memory *memory = new_local();
	struct uvf_address_space *space;

	assert_int_equal(uvf_address_space_new(&bad, &space), -EINVAL);
	assert_int_equal(uvf_address_space_new(&config, &space), 0);
	assert_int_equal(uvf_address_space_page_sizes(space), 0x201000);
	assert_int_equal(uvf_map(space, 0xf000, PAGE, UVF_PROT_RW, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0xf000, 2 * PAGE, UVF_PROT_RW, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0x10000, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_map(space, 0xfffff000, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_map(space, 0xffffe000, 4 * PAGE, UVF_PROT_RW, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0xfedff000, 2 * PAGE, UVF_PROT_RW, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0xfeeff000, PAGE, UVF_PROT_RW, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0xff000, 3 * PAGE, UVF_PROT_RW, memory, 0), -EINVAL);
	assert_int_equal(uvf_map(space, 0xff000, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_map(space, 0x101000, PAGE, UVF_PROT_RW, memory, 0), 0);
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

static void limits(void **unused)
{
	const struct uvf_address_space_config config = {.max_mappings = 3, .max_bytes = 8 * PAGE};
	struct uvf_memory *memory = new_local();
	struct uvf_address_space *space;

	assert_int_equal(uvf_address_space_new(&config, &space), 0);
	assert_int_equal(uvf_map(space, 0, 9 * PAGE, UVF_PROT_RW, memory, 0), -ENOMEM);
	assert_int_equal(uvf_map(space, 0, 6 * PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_map(space, 6 * PAGE, 3 * PAGE, UVF_PROT_RW, memory, 0), -ENOMEM);
	assert_int_equal(uvf_map(space, 6 * PAGE, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_map(space, 7 * PAGE, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_map(space, 8 * PAGE, PAGE, UVF_PROT_RW, memory, 0), -ENOSPC);
	assert_int_equal(uvf_unmap(space, 0, 6 * PAGE, NULL), 0);
	assert_int_equal(uvf_map(space, 8 * PAGE, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(stats_of(space).mappings, 3);
	assert_int_equal(stats_of(space).bytes, 3 * PAGE);
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

static unsigned open_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void files(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	unsigned before = open_fds();
	int fd = new_file(16 * PAGE), other = new_file(PAGE);
	char text[] = "there";

	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(
			uvf_map_fd(space, (100 + i) * PAGE, PAGE, UVF_PROT_RW, fd, (15 - i) * PAGE),
			0);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, other, 0), 0);
	assert_int_equal(stats_of(space).windows, 2);
	assert_int_equal(stats_of(space).mappings, 17);
	close(fd);
	close(other);
	assert_int_equal(open_fds(), before + 2);
	assert_int_equal(uvf_attachment_write(attachment, 101 * PAGE - 3, text, 6), 0);
	memset(text, 0, 6);
	assert_int_equal(uvf_attachment_read(attachment, 101 * PAGE - 3, text, 6), 0);
	assert_string_equal(text, "there");
	assert_int_equal(uvf_attachment_write(attachment, 0, text, 6), -EACCES);
	assert_int_equal(uvf_unmap(space, 100 * PAGE, 16 * PAGE, NULL), 0);
	assert_int_equal(stats_of(space).windows, 1);
	assert_int_equal(open_fds(), before + 1);
	assert_int_equal(uvf_unmap(space, 0, 0, NULL), 0);
	assert_int_equal(open_fds(), before);
	assert_int_equal(stats_of(space).windows, 0);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
}

static void bad_files(void **unused)
{
	struct uvf_address_space *space = new_space();
	unsigned before = open_fds();
	char path[64];
	int fd = new_file(4 * PAGE + 100), pipes[2], pair[2], reader, writer, directory, null;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY);
	writer = open(path, O_WRONLY);
	directory = open("/tmp", O_RDONLY | O_DIRECTORY);
	null = open("/dev/zero", O_RDWR);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, -1, 0), -EBADF);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, 9999, 0), -EBADF);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, pipes[0], 0), -EINVAL);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, pair[0], 0), -EINVAL);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, directory, 0), -EINVAL);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, null, 0), -EINVAL);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, writer, 0), -EACCES);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_RW, reader, 0), -EACCES);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, reader, 0), 0);
	assert_int_equal(uvf_map_fd(space, PAGE, PAGE, UVF_PROT_RW, fd, 4 * PAGE), -EFAULT);
	assert_int_equal(uvf_map_fd(space, PAGE, PAGE, UVF_PROT_RW, fd, 1ULL << 63), -EFAULT);
	assert_int_equal(uvf_map_fd(space, PAGE, PAGE, UVF_PROT_RW, fd, TOP_PAGE), -EFAULT);
	assert_int_equal(uvf_map_fd(space, PAGE, PAGE, UVF_PROT_RW, fd, 0), 0);
	/* Sealed against writing: readable at least. */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(uvf_unmap(space, 0, 0, NULL), 0);
	assert_int_equal(uvf_map_fd(space, PAGE, PAGE, UVF_PROT_RW, fd, 0), -EACCES);
	assert_int_equal(uvf_map_fd(space, PAGE, PAGE, UVF_PROT_READ, fd, 0), 0);
	uvf_address_space_put(space);
	close(fd);
	close(reader);
	close(writer);
	close(directory);
	close(null);
	close(pipes[0]);
	close(pipes[1]);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(open_fds(), before);
}

/* A file that doesn't fit one window. */
static void large_file(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	uint64_t gib = 1ULL << 30;
	int fd = new_file(1ULL << 40);
	uint64_t value = 0x1234;

	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(uvf_map_fd(space, gib, PAGE, UVF_PROT_RW, fd, gib - PAGE), 0);
	assert_int_equal(stats_of(space).windows, 1);
	/* Over the end of that window: one more, that has both. */
	assert_int_equal(uvf_map_fd(space, 2 * gib, 2 * PAGE, UVF_PROT_RW, fd, gib - PAGE), 0);
	assert_int_equal(stats_of(space).windows, 2);
	assert_int_equal(uvf_map_fd(space, 3 * gib, PAGE, UVF_PROT_RW, fd, (1ULL << 40) - PAGE), 0);
	assert_int_equal(uvf_map_fd(space, 4 * gib, 4 * gib, UVF_PROT_RW, fd, 4 * gib), 0);
	assert_int_equal(stats_of(space).windows, 4);
	assert_int_equal(uvf_attachment_write(attachment, gib + 16, &value, 8), 0);
	value = 0;
	assert_int_equal(uvf_attachment_read(attachment, 2 * gib + 16, &value, 8), 0);
	assert_int_equal(value, 0x1234);
	assert_int_equal(uvf_attachment_write(attachment, 3 * gib + 16, &value, 8), 0);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	close(fd);
}

/* Files by the thousand: each found again. */
static void many_files(void **unused)
{
	struct uvf_address_space *space = new_space();
	int fds[200];

	for (unsigned i = 0; i < 200; i++) {
		fds[i] = new_file(2 * PAGE);
		assert_int_equal(uvf_map_fd(space, 2 * i * PAGE, PAGE, UVF_PROT_RW, fds[i], 0), 0);
	}
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(
			uvf_map_fd(space, (2 * i + 1) * PAGE, PAGE, UVF_PROT_RW, fds[i], PAGE), 0);
	assert_int_equal(stats_of(space).windows, 200);
	assert_int_equal(uvf_unmap(space, 0, 200 * PAGE, NULL), 0);
	assert_int_equal(stats_of(space).windows, 100);
	for (unsigned i = 0; i < 200; i++)
		close(fds[i]);
	uvf_address_space_put(space);
}

struct told {
	struct uvf_listener listener;
	unsigned maps, unmaps, refuse_at;
	int error;
};

static int told_map(struct uvf_listener *listener, const struct uvf_mapping *mapping)
{
	struct told *told = (struct told *)listener;

	if (told->error && told->maps == told->refuse_at)
		return told->error;
	told->maps++;
	return 0;
}

static void told_unmap(struct uvf_listener *listener, uvf_iova_t first, uvf_iova_t last)
{
	((struct told *)listener)->unmaps++;
}

static void listeners(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_memory *memory = new_local();
	struct told a = {{told_map, told_unmap}}, b = {{told_map, told_unmap}};

	assert_int_equal(uvf_map(space, 0, PAGE, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_map(space, PAGE, PAGE, UVF_PROT_RW, memory, 0), 0);
	a.refuse_at = 1;
	a.error = -EIO;
	assert_int_equal(uvf_listener_add(space, &a.listener), -EIO);
	assert_int_equal(a.maps, 1);
	assert_int_equal(a.unmaps, 1);
	a.error = 0;
	a.maps = a.unmaps = 0;
	assert_int_equal(uvf_listener_add(space, &a.listener), 0);
	assert_int_equal(uvf_listener_add(space, &b.listener), 0);
	assert_int_equal(a.maps, 2);
	a.error = -EPERM;
	a.refuse_at = 2;
	assert_int_equal(uvf_map(space, 2 * PAGE, PAGE, UVF_PROT_RW, memory, 0), -EPERM);
	/* What the other was told has been taken back. */
	assert_int_equal(b.maps - b.unmaps, 2);
	assert_int_equal(stats_of(space).mappings, 2);
	a.error = 0;
	assert_int_equal(uvf_map(space, 2 * PAGE, PAGE, UVF_PROT_RW, memory, 0), 0);
	uvf_listener_remove(space, &b.listener);
	assert_int_equal(uvf_unmap(space, 0, 0, NULL), 0);
	assert_int_equal(a.unmaps, 3);
	assert_int_equal(a.maps, 3);
	assert_int_equal(b.maps - b.unmaps, 3);
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

struct seen {
	unsigned count;
	struct uvf_memory *memory;
};

static int see(void *opaque, const struct uvf_mapping *mapping)
{
	struct seen *seen = opaque;

	assert_int_equal(mapping->first, seen->count * 4 * PAGE);
	assert_int_equal(mapping->last, mapping->first + PAGE - 1);
	assert_int_equal(mapping->offset, seen->count * PAGE);
	assert_int_equal(mapping->prot, UVF_PROT_READ);
	assert_ptr_equal(mapping->memory, seen->memory);
	return ++seen->count == 7 ? 42 : 0;
}

static void for_each(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_memory *memory = new_local();
	struct seen seen = {.memory = memory};

	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(
			uvf_map(space, i * 4 * PAGE, PAGE, UVF_PROT_READ, memory, i * PAGE), 0);
	assert_int_equal(uvf_for_each_mapping(space, see, &seen), 42);
	assert_int_equal(seen.count, 7);
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

static void a_million(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	uint64_t count = 1000000, value, bytes;
	int fd = new_file(256 * PAGE);

	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(
			uvf_map_fd(space, 2 * i * PAGE, PAGE, UVF_PROT_RW, fd, i % 256 * PAGE), 0);
	assert_int_equal(stats_of(space).mappings, count);
	assert_int_equal(stats_of(space).windows, 1);
	assert_in_range(stats_of(space).memory, 1, 100 * count);
	for (uint64_t i = 0; i < 256; i++)
		assert_int_equal(uvf_attachment_write(attachment, 2 * i * PAGE, &i, 8), 0);
	for (uint64_t i = 0; i < count; i += 77) {
		assert_int_equal(uvf_attachment_read(attachment, 2 * i * PAGE, &value, 8), 0);
		assert_int_equal(value, i % 256);
		assert_int_equal(uvf_attachment_read(attachment, 2 * i * PAGE + PAGE, &value, 8),
				 -EFAULT);
	}
	assert_int_equal(uvf_unmap(space, 0, 0, &bytes), 0);
	assert_int_equal(bytes, count * PAGE);
	assert_int_equal(stats_of(space).windows, 0);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	close(fd);
}

/* Files and our own addresses, which one client must not have all of. */
static void resources(void **unused)
{
	const struct uvf_address_space_config config = {.max_files = 2, .max_windows = 10 * PAGE};
	struct uvf_address_space *space;
	int fd[3];

	assert_int_equal(uvf_address_space_new(&config, &space), 0);
	for (unsigned i = 0; i < 3; i++)
		fd[i] = new_file((4 + 4 * i) * PAGE);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, fd[0], 0), 0);
	assert_int_equal(uvf_map_fd(space, PAGE, PAGE, UVF_PROT_READ, fd[1], 0), -ENOMEM);
	assert_int_equal(uvf_map_fd(space, PAGE, PAGE, UVF_PROT_READ, fd[0], PAGE), 0);
	assert_int_equal(ftruncate(fd[1], PAGE), 0);
	assert_int_equal(uvf_map_fd(space, 2 * PAGE, PAGE, UVF_PROT_READ, fd[1], 0), 0);
	assert_int_equal(stats_of(space).windows, 2);
	assert_int_equal(uvf_map_fd(space, 3 * PAGE, PAGE, UVF_PROT_READ, fd[2], 0), -ENOSPC);
	/* What goes makes room. */
	assert_int_equal(uvf_unmap(space, 0, 2 * PAGE, NULL), 0);
	assert_int_equal(ftruncate(fd[2], 9 * PAGE), 0);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, fd[2], 0), 0);
	assert_int_equal(uvf_unmap(space, 0, 0, NULL), 0);
	uvf_address_space_put(space);
	for (unsigned i = 0; i < 3; i++)
		close(fd[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(resources),
		cmocka_unit_test(arguments),
		cmocka_unit_test(unmap_arguments),
		cmocka_unit_test(top_of_the_space),
		cmocka_unit_test(aperture_and_reserved),
		cmocka_unit_test(limits),
		cmocka_unit_test(files),
		cmocka_unit_test(bad_files),
		cmocka_unit_test(large_file),
		cmocka_unit_test(many_files),
		cmocka_unit_test(listeners),
		cmocka_unit_test(for_each),
		cmocka_unit_test(a_million),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
