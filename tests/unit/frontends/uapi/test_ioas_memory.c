/* SPDX-License-Identifier: BSD-3-Clause */
/* What the program's addresses lead to: files, private memory, other processes, dead ones. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "frontends/uapi/program_memory.h"
#include "ioas_rig.h"

#define RW UVF_PROT_RW

static struct iovec pinned(const struct rig *rig, uint64_t iova, unsigned prot)
{
	struct iovec iov = {0};
	struct uvf_pin pin;

	assert_int_equal(uvf_attachment_pin(rig->attachment, iova, 8, prot, &pin, &iov, 1), 1);
	uvf_attachment_unpin(&pin);
	return iov;
}

/* ---- Files ---- */

static void shared_memory_is_mapped_here(void **unused)
{
	struct rig rig;
	int fd;
	char *at = rig_file(8, &fd);

	rig_new(&rig, NULL);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(rig_map(&rig, i * 2 * PAGE, PAGE, RW, at + i * PAGE), 0);
	assert_int_equal(rig_stats(&rig).windows, 1);
	strcpy(pinned(&rig, 6 * PAGE, RW).iov_base, "device");
	assert_string_equal(at + 3 * PAGE, "device");
	assert_int_equal(rig_unmap(&rig, 0, UINT64_MAX), 8 * PAGE);
	assert_int_equal(rig_stats(&rig).windows, 0);
	rig_free(&rig);
	munmap(at, 8 * PAGE);
	close(fd);
}

/* Without a descriptor it is reached through the process, or, by root, through /proc. */
static void shared_memory_without_a_descriptor(void **unused)
{
	char *at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct rig rig;
	char buf[8];

	rig_new(&rig, NULL);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rig_map(&rig, i * PAGE, PAGE, RW, at + i * PAGE), 0);
	assert_int_equal(uvf_attachment_write(rig.attachment, 2 * PAGE - 2, "shared", 7), 0);
	assert_string_equal(at + 2 * PAGE - 2, "shared");
	assert_int_equal(uvf_attachment_read(rig.attachment, 2 * PAGE - 2, buf, 7), 0);
	assert_string_equal(buf, "shared");
	rig_free(&rig);
	munmap(at, 4 * PAGE);
}

/* What a private mapping of a file wrote isn't in the file. */
static void a_private_mapping_is_not_the_file(void **unused)
{
	struct rig rig;
	int fd;
	char *shared = rig_file(2, &fd), buf[8];
	char *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	rig_new(&rig, NULL);
	strcpy(shared, "file");
	strcpy(at, "own");
	assert_int_equal(rig_map(&rig, 0, 2 * PAGE, RW, at), 0);
	assert_int_equal(uvf_attachment_read(rig.attachment, 0, buf, 4), 0);
	assert_string_equal(buf, "own");
	assert_int_equal(uvf_attachment_write(rig.attachment, 0, "new", 4), 0);
	assert_string_equal(at, "new");
	assert_string_equal(shared, "file");
	rig_free(&rig);
	munmap(at, 2 * PAGE);
	munmap(shared, 2 * PAGE);
	close(fd);
}

/* A descriptor that can't be written to serves what is only read. */
static void access_of_the_descriptor(void **unused)
{
	char path[64], *at, buf[4];
	struct rig rig;
	int fd, reader;

	at = rig_file(2, &fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(reader >= 0);
	close(fd);
	rig_new(&rig, NULL);
	assert_int_equal(rig_map(&rig, 0, PAGE, UVF_PROT_READ, at), 0);
	strcpy(at, "r");
	assert_string_equal(pinned(&rig, 0, UVF_PROT_READ).iov_base, "r");
	assert_int_equal(rig_map(&rig, PAGE, PAGE, RW, at + PAGE), 0);
	assert_int_equal(uvf_attachment_write(rig.attachment, PAGE, "rw", 3), 0);
	assert_int_equal(uvf_attachment_read(rig.attachment, PAGE, buf, 3), 0);
	assert_string_equal(at + PAGE, "rw");
	assert_string_equal(buf, "rw");
	rig_free(&rig);
	munmap(at, 2 * PAGE);
	close(reader);
}

/* One mapping in several memories, one of them twice. */
static void a_mapping_of_several_parts(void **unused)
{
	char *at = rig_pages(8), text[] = "0123456789abcdef", buf[17];
	struct rig rig;
	int fd;
	char *file = rig_file(4, &fd);

	assert_ptr_equal(mmap(at + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			      fd, 3 * PAGE),
			 at + 2 * PAGE);
	assert_ptr_equal(
		mmap(at + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, PAGE),
		at + 3 * PAGE);
	rig_new(&rig, NULL);
	assert_int_equal(rig_map(&rig, 0x100000, 8 * PAGE, RW, at), 0);
	assert_int_equal(rig_stats(&rig).mappings, 4);
	for (unsigned i = 1; i < 8; i++) {
		uint64_t iova = 0x100000 + i * PAGE - 8;

		assert_int_equal(uvf_attachment_write(rig.attachment, iova, text, 16), 0);
		assert_memory_equal(at + i * PAGE - 8, text, 16);
		assert_int_equal(uvf_attachment_read(rig.attachment, iova, buf, 16), 0);
		assert_memory_equal(buf, text, 16);
	}
	assert_memory_equal(file + 3 * PAGE, text + 8, 8);
	assert_memory_equal(file + 2 * PAGE - 8, text, 8);
	assert_int_equal(uapi_ioas_available(rig.ioas), 65534);
	assert_int_equal(rig_unmap(&rig, 0x100000, 0x100000 + 8 * PAGE - 1), 8 * PAGE);
	assert_int_equal(rig_stats(&rig).mappings, 0);
	rig_free(&rig);
	munmap(at, 8 * PAGE);
	munmap(file, 4 * PAGE);
	close(fd);
}

/* ---- What isn't there ---- */

static void what_is_not_there_is_refused(void **unused)
{
	char *at = rig_pages(4);
	struct rig rig;

	rig_new(&rig, NULL);
	assert_int_equal(mprotect(at + PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(at + 2 * PAGE, PAGE, PROT_NONE), 0);
	assert_int_equal(munmap(at + 3 * PAGE, PAGE), 0);
	assert_int_equal(rig_map(&rig, 0, 2 * PAGE, RW, at), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, 3 * PAGE, UVF_PROT_READ, at), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, PAGE, UVF_PROT_READ, at + 2 * PAGE), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, PAGE, UVF_PROT_READ, at + 3 * PAGE), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, 2 * PAGE, UVF_PROT_READ, at), 0);
	assert_int_equal(rig_map(&rig, 2 * PAGE, PAGE, RW, at), 0);
	rig_free(&rig);
	munmap(at, 3 * PAGE);
}

/* Pages beyond the end of a file, shared and private; and nothing of a mapping is left. */
static void beyond_the_end_of_a_file(void **unused)
{
	struct rig rig;
	int fd;
	char *shared = rig_file(4, &fd);
	char *private = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	rig_new(&rig, NULL);
	assert_int_equal(ftruncate(fd, 2 * PAGE + 10), 0);
	assert_int_equal(rig_map(&rig, 0, 4 * PAGE, RW, shared), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, 4 * PAGE, RW, private), -EFAULT);
	assert_int_equal(rig_map(&rig, 0, PAGE, RW, shared + 3 * PAGE), -EFAULT);
	assert_int_equal(rig_stats(&rig).mappings, 0);
	assert_int_equal(rig_map(&rig, 0, 3 * PAGE, RW, shared), 0);
	assert_int_equal(rig_map(&rig, 3 * PAGE, 3 * PAGE, RW, private), 0);
	assert_int_equal(uvf_attachment_write(rig.attachment, 2 * PAGE, "end", 4), 0);
	assert_string_equal(shared + 2 * PAGE, "end");
	rig_free(&rig);
	munmap(shared, 4 * PAGE);
	munmap(private, 4 * PAGE);
	close(fd);
}

/* The first parts of a mapping whose last one fails go again. */
static void all_or_nothing(void **unused)
{
	char *at = rig_pages(4);
	struct rig rig;
	int fd;
	char *file = rig_file(1, &fd);

	assert_ptr_equal(
		mmap(at + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
		at + PAGE);
	assert_int_equal(mprotect(at + 3 * PAGE, PAGE, PROT_NONE), 0);
	rig_new(&rig, NULL);
	assert_int_equal(rig_map(&rig, 0, 4 * PAGE, RW, at), -EFAULT);
	assert_int_equal(rig_stats(&rig).mappings, 0);
	assert_int_equal(rig_stats(&rig).bytes, 0);
	assert_int_equal(rig_map(&rig, 0, 3 * PAGE, RW, at), 0);
	rig_free(&rig);
	munmap(at, 4 * PAGE);
	munmap(file, PAGE);
	close(fd);
}

/* ---- Other processes ---- */

/* A child that has what its parent had, says that it's ready, and then waits to be told. */
struct child {
	pid_t pid;
	int ready, go;
};

static void child_start(struct child *child, void (*run)(void *opaque, int ready, int go),
			void *opaque)
{
	int ready[2], go[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(go), 0);
	child->pid = fork();
	assert_true(child->pid >= 0);
	if (!child->pid) {
		close(go[1]);
		run(opaque, ready[1], go[0]);
		_exit(0);
	}
	close(ready[1]);
	close(go[0]);
	child->ready = ready[0];
	child->go = go[1];
	assert_int_equal(read(child->ready, &byte, 1), 1);
}

static void child_tell(const struct child *child)
{
	char byte = 0;

	assert_int_equal(write(child->go, "g", 1), 1);
	assert_int_equal(read(child->ready, &byte, 1), 1);
}

static void child_kill(const struct child *child)
{
	kill(child->pid, SIGKILL);
	assert_int_equal(waitpid(child->pid, NULL, 0), child->pid);
	close(child->ready);
	close(child->go);
}

static void say_and_wait(int ready, int go)
{
	char byte;

	if (write(ready, "r", 1) != 1 || read(go, &byte, 1) != 1)
		_exit(1);
}

static void write_child(void *opaque, int ready, int go)
{
	strcpy(opaque, "child");
	for (;;)
		say_and_wait(ready, go);
}

/* The same address leads to other memory in a fork; and each mapping to its own. */
static void forks(void **unused)
{
	char *at = rig_pages(2), buf[8];
	struct child child;
	struct rig rig;

	strcpy(at, "parent");
	rig_new(&rig, NULL);
	assert_int_equal(rig_map(&rig, 0, PAGE, RW, at), 0);
	child_start(&child, write_child, at);
	rig_call_from(&rig, child.pid);
	assert_int_equal(rig_map(&rig, PAGE, PAGE, RW, at), 0);
	rig_call_from(&rig, getpid());
	assert_int_equal(rig_map(&rig, 2 * PAGE, PAGE, RW, at), 0);
	assert_int_equal(uvf_attachment_read(rig.attachment, 0, buf, 8), 0);
	assert_string_equal(buf, "parent");
	assert_int_equal(uvf_attachment_read(rig.attachment, PAGE, buf, 8), 0);
	assert_string_equal(buf, "child");
	assert_int_equal(uvf_attachment_read(rig.attachment, 2 * PAGE, buf, 8), 0);
	assert_string_equal(buf, "parent");
	assert_int_equal(uvf_attachment_write(rig.attachment, PAGE, "device", 7), 0);
	assert_string_equal(at, "parent");
	/* When it has died its memory is gone, and nothing else. Anybody may unmap. */
	child_kill(&child);
	assert_int_equal(uvf_attachment_read(rig.attachment, PAGE, buf, 8), -EFAULT);
	assert_int_equal(uvf_attachment_write(rig.attachment, PAGE, buf, 8), -EFAULT);
	assert_int_equal(uvf_attachment_read(rig.attachment, 0, buf, 8), 0);
	assert_int_equal(rig_unmap(&rig, PAGE, 2 * PAGE - 1), PAGE);
	rig_free(&rig);
	munmap(at, 2 * PAGE);
}

/* Shared memory outlives the process by which it was mapped. */
static void map_shared(void *opaque, int ready, int go)
{
	int *fd = opaque;
	char *at = mmap((void *)0x10000000, 4 * PAGE, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_FIXED, *fd, 0);

	if (at == MAP_FAILED)
		_exit(1);
	strcpy(at + PAGE, "shared");
	for (;;)
		say_and_wait(ready, go);
}

static void shared_memory_of_another_process(void **unused)
{
	struct child child;
	struct rig rig;
	char buf[8];
	int fd;
	char *at = rig_file(4, &fd);

	munmap(at, 4 * PAGE);
	rig_new(&rig, NULL);
	child_start(&child, map_shared, &fd);
	close(fd);
	rig_call_from(&rig, child.pid);
	assert_int_equal(rig_map(&rig, 0, 4 * PAGE, RW, (void *)0x10000000), 0);
	assert_string_equal(pinned(&rig, PAGE, RW).iov_base, "shared");
	child_kill(&child);
	assert_int_equal(uvf_attachment_read(rig.attachment, PAGE, buf, 8), 0);
	assert_string_equal(buf, "shared");
	/* Nobody is there to map more. */
	assert_int_equal(rig_map(&rig, 4 * PAGE, PAGE, RW, (void *)0x10000000), -EFAULT);
	rig_free(&rig);
}

/* execve() puts new memory in the old one's place: the process is the same, its mappings aren't. */
#define AFTER_EXEC "after-exec"

static void exec_self(void *opaque, int ready, int go)
{
	char numbers[2][16];

	strcpy(opaque, "old");
	say_and_wait(ready, go);
	snprintf(numbers[0], sizeof(numbers[0]), "%d", ready);
	snprintf(numbers[1], sizeof(numbers[1]), "%d", go);
	execl("/proc/self/exe", "test", AFTER_EXEC, numbers[0], numbers[1], NULL);
	_exit(1);
}

static void *const EXEC_PLACE = (void *)0x20000000;

static int after_exec(int ready, int go)
{
	char *at = mmap(EXEC_PLACE, PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (at == MAP_FAILED)
		return 1;
	strcpy(at, "new");
	for (;;)
		say_and_wait(ready, go);
}

static void exec_is_noticed(void **unused)
{
	char *at = mmap(EXEC_PLACE, PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	struct child child;
	struct rig rig;
	char buf[4];

	assert_ptr_equal(at, EXEC_PLACE);
	rig_new(&rig, NULL);
	child_start(&child, exec_self, at);
	rig_call_from(&rig, child.pid);
	assert_int_equal(rig_map(&rig, 0, PAGE, RW, at), 0);
	assert_int_equal(uvf_attachment_read(rig.attachment, 0, buf, 4), 0);
	assert_string_equal(buf, "old");
	child_tell(&child);
	assert_int_equal(rig_map(&rig, PAGE, PAGE, RW, at), 0);
	assert_int_equal(uvf_attachment_read(rig.attachment, PAGE, buf, 4), 0);
	assert_string_equal(buf, "new");
	assert_int_equal(uvf_attachment_read(rig.attachment, 0, buf, 4), -EFAULT);
	child_kill(&child);
	rig_free(&rig);
	munmap(at, PAGE);
}

/* More processes than are remembered at a time, in turns: no descriptor is left over. */
static unsigned open_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void many_processes(void **unused)
{
	enum { CHILDREN = UAPI_PROGRAMS_MAX + 3 };
	unsigned before = open_descriptors();
	struct child children[CHILDREN];
	char *at = rig_pages(1), buf[8];
	struct rig rig;

	rig_new(&rig, NULL);
	for (unsigned i = 0; i < CHILDREN; i++)
		child_start(&children[i], write_child, at);
	for (unsigned i = 0; i < 5 * CHILDREN; i++) {
		rig_call_from(&rig, children[i % CHILDREN].pid);
		assert_int_equal(rig_map(&rig, i * PAGE, PAGE, RW, at), 0);
		assert_int_equal(uvf_attachment_read(rig.attachment, i * PAGE, buf, 6), 0);
		assert_string_equal(buf, "child");
	}
	for (unsigned i = 0; i < CHILDREN; i++)
		child_kill(&children[i]);
	for (unsigned i = 0; i < 5 * CHILDREN; i++)
		assert_int_equal(uvf_attachment_read(rig.attachment, i * PAGE, buf, 6), -EFAULT);
	rig_free(&rig);
	munmap(at, PAGE);
	assert_int_equal(open_descriptors(), before);
}

/* One process has one descriptor of its memory, and one of each file, however much it maps. */
static void descriptors_do_not_grow(void **unused)
{
	char *private = rig_pages(1);
	struct rig rig;
	unsigned before;
	int fd;
	char *shared = rig_file(1, &fd);

	rig_new(&rig, NULL);
	assert_int_equal(rig_map(&rig, 0, PAGE, RW, private), 0);
	assert_int_equal(rig_map(&rig, PAGE, PAGE, RW, shared), 0);
	before = open_descriptors();
	for (uint64_t i = 2; i < 300; i++)
		assert_int_equal(rig_map(&rig, i * PAGE, PAGE, RW, i & 1 ? private : shared), 0);
	assert_int_equal(open_descriptors(), before);
	rig_free(&rig);
	munmap(private, PAGE);
	munmap(shared, PAGE);
	close(fd);
}

/* ---- Maps ---- */

/* Both ways of asking say the same of each page border that there is. */
static void maps_by_text(void **unused)
{
	int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	struct uapi_vma by_query, by_text;
	unsigned found = 0;
	uint64_t next = 0;

	assert_true(maps >= 0);
	assert_int_equal(uapi_vma_find_in_text(maps, 0, &by_text), -EFAULT);
	assert_int_equal(uapi_vma_find(maps, 0, &by_query), -EFAULT);
	while (next < 0x7fffffffffff) {
		/* What is next, by its text: the search itself doesn't say. */
		int text = uapi_vma_find_in_text(maps, next, &by_text);

		if (text) {
			next = by_text.begin;
			if (!next || by_text.end <= next)
				break;
			text = uapi_vma_find_in_text(maps, next, &by_text);
		}
		if (text || uapi_vma_find(maps, next, &by_query))
			break;
		assert_int_equal(by_query.begin, by_text.begin);
		assert_int_equal(by_query.end, by_text.end);
		assert_int_equal(by_query.prot, by_text.prot);
		assert_int_equal(by_query.shared, by_text.shared);
		assert_int_equal(by_query.inode, by_text.inode);
		assert_int_equal(by_query.device, by_text.device);
		if (by_text.inode)
			assert_int_equal(by_query.offset, by_text.offset);
		next = by_text.end;
		found++;
	}
	assert_true(found > 10);
	close(maps);
}

static void maps_of_the_dead(void **unused)
{
	char *at = rig_pages(1), path[32];
	struct child child;
	struct uapi_vma vma;
	int maps;

	child_start(&child, write_child, at);
	snprintf(path, sizeof(path), "/proc/%d/maps", child.pid);
	maps = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(uapi_vma_find(maps, (uintptr_t)at, &vma), 0);
	child_kill(&child);
	assert_int_equal(uapi_vma_find(maps, (uintptr_t)at, &vma), -ESRCH);
	assert_int_equal(uapi_vma_find_in_text(maps, (uintptr_t)at, &vma), -ESRCH);
	close(maps);
	munmap(at, PAGE);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shared_memory_is_mapped_here),
		cmocka_unit_test(shared_memory_without_a_descriptor),
		cmocka_unit_test(a_private_mapping_is_not_the_file),
		cmocka_unit_test(access_of_the_descriptor),
		cmocka_unit_test(a_mapping_of_several_parts),
		cmocka_unit_test(what_is_not_there_is_refused),
		cmocka_unit_test(beyond_the_end_of_a_file),
		cmocka_unit_test(all_or_nothing),
		cmocka_unit_test(forks),
		cmocka_unit_test(shared_memory_of_another_process),
		cmocka_unit_test(exec_is_noticed),
		cmocka_unit_test(many_processes),
		cmocka_unit_test(descriptors_do_not_grow),
		cmocka_unit_test(maps_by_text),
		cmocka_unit_test(maps_of_the_dead),
	};

	if (argc == 4 && !strcmp(argv[1], AFTER_EXEC))
		return after_exec(atoi(argv[2]), atoi(argv[3]));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
