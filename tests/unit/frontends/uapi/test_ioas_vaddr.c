/* SPDX-License-Identifier: BSD-3-Clause */
/* Mappings whose memory goes over to other addresses or to another process. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "frontends/uapi/ioas_private.h"
#include "ioas_rig.h"

#define RW UVF_PROT_RW

static int replace(struct rig *rig, uint64_t iova, uint64_t size, const void *address)
{
	return uapi_ioas_vaddr_replace(rig->ioas, &rig->call, iova, size, (uintptr_t)address);
}

static char byte_at(const struct rig *rig, uint64_t iova)
{
	char byte = 0;

	assert_int_equal(uvf_attachment_read(rig->attachment, iova, &byte, 1), 0);
	return byte;
}

static void states(void **unused)
{
	char *at = rig_pages(8);
	uint64_t size = 1;
	struct rig rig;

	rig_new(&rig, NULL);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(rig_map(&rig, i * 4 * PAGE, 2 * PAGE, RW, at), 0);
	assert_int_equal(replace(&rig, 0, 2 * PAGE, at), -EINVAL);
	assert_int_equal(replace(&rig, 2 * PAGE, 2 * PAGE, at), -ENOENT);
	assert_int_equal(uapi_ioas_vaddr_invalidate(rig.ioas, 4 * PAGE, 6 * PAGE - 1, &size), 0);
	assert_int_equal(size, 2 * PAGE);
	assert_true(uapi_ioas_has_invalid_vaddr(rig.ioas));
	/* One of them is so already: none becomes so. */
	assert_int_equal(uapi_ioas_vaddr_invalidate(rig.ioas, 0, UINT64_MAX, &size), -EINVAL);
	assert_int_equal(size, 0);
	assert_int_equal(replace(&rig, 0, 2 * PAGE, at), -EINVAL);
	assert_int_equal(replace(&rig, 4 * PAGE, PAGE, at), -EINVAL);
	assert_int_equal(replace(&rig, 5 * PAGE, PAGE, at), -EINVAL);
	assert_int_equal(replace(&rig, 4 * PAGE, 0, at), -EINVAL);
	assert_int_equal(replace(&rig, TOP_PAGE, 2 * PAGE, at), -EOVERFLOW);
	assert_int_equal(replace(&rig, 4 * PAGE, 2 * PAGE, (void *)TOP_PAGE), -EOVERFLOW);
	assert_int_equal(replace(&rig, 4 * PAGE, 2 * PAGE, at), 0);
	assert_int_equal(replace(&rig, 4 * PAGE, 2 * PAGE, at), -EINVAL);
	assert_false(uapi_ioas_has_invalid_vaddr(rig.ioas));
	assert_int_equal(uapi_ioas_vaddr_invalidate(rig.ioas, 0, UINT64_MAX, &size), 0);
	assert_int_equal(size, 6 * PAGE);
	assert_int_equal(uapi_ioas_vaddr_invalidate(rig.ioas, 2 * PAGE, 4 * PAGE - 1, &size), 0);
	assert_int_equal(size, 0);
	/* They can be unmapped as they are. */
	assert_int_equal(rig_unmap(&rig, 0, 6 * PAGE - 1), 4 * PAGE);
	assert_true(uapi_ioas_has_invalid_vaddr(rig.ioas));
	assert_int_equal(rig_unmap(&rig, 0, UINT64_MAX), 2 * PAGE);
	assert_false(uapi_ioas_has_invalid_vaddr(rig.ioas));
	rig_free(&rig);
	munmap(at, 8 * PAGE);
}

/* Private memory that moves, in several parts; what isn't there stays where it was. */
static void moves(void **unused)
{
	char *old = rig_pages(4), *new = rig_pages(4);
	struct rig rig;
	uint64_t size;
	int fd;
	char *file = rig_file(4, &fd);

	rig_new(&rig, NULL);
	assert_ptr_equal(mmap(old + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			      2 * PAGE),
			 old + PAGE);
	for (unsigned i = 0; i < 4; i++) {
		old[i * PAGE] = (char)('a' + i);
		new[i * PAGE] = (char)('A' + i);
	}
	assert_int_equal(rig_map(&rig, 0, 4 * PAGE, RW, old), 0);
	assert_int_equal(uapi_ioas_vaddr_invalidate(rig.ioas, 0, UINT64_MAX, &size), 0);
	assert_int_equal(byte_at(&rig, 0), 'a');
	assert_int_equal(replace(&rig, 0, 4 * PAGE, new), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(byte_at(&rig, i * PAGE), 'A' + i);
	assert_int_equal(rig_stats(&rig).windows, 0);
	/* Back; the file is one again for the part that it was. */
	assert_int_equal(uapi_ioas_vaddr_invalidate(rig.ioas, 0, UINT64_MAX, &size), 0);
	assert_int_equal(replace(&rig, 0, 4 * PAGE, old), 0);
	assert_int_equal(rig_stats(&rig).windows, 1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(byte_at(&rig, i * PAGE), 'a' + i);
	assert_int_equal(uapi_ioas_vaddr_invalidate(rig.ioas, 0, UINT64_MAX, &size), 0);
	assert_int_equal(replace(&rig, 0, 4 * PAGE, NULL), 0);
	assert_int_equal(byte_at(&rig, 2 * PAGE), 'c');
	assert_false(uapi_ioas_has_invalid_vaddr(rig.ioas));
	rig_free(&rig);
	munmap(old, 4 * PAGE);
	munmap(new, 4 * PAGE);
	munmap(file, 4 * PAGE);
	close(fd);
}

/* The process that mapped hands over to a child of it, and DMA goes to the child. */
static void another_process(void **unused)
{
	char *at = rig_pages(1), byte;
	int ready[2], go[2];
	struct rig rig;
	uint64_t size;
	pid_t child;

	rig_new(&rig, NULL);
	at[0] = 'p';
	assert_int_equal(rig_map(&rig, 0, PAGE, RW, at), 0);
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(go), 0);
	child = fork();
	if (!child) {
		at[0] = 'c';
		_exit(write(ready[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1 && at[0] == 'd'
			      ? 0
			      : 1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(uapi_ioas_vaddr_invalidate(rig.ioas, 0, UINT64_MAX, &size), 0);
	rig_call_from(&rig, child);
	assert_int_equal(byte_at(&rig, 0), 'p');
	assert_int_equal(replace(&rig, 0, PAGE, at), 0);
	assert_int_equal(byte_at(&rig, 0), 'c');
	assert_int_equal(uvf_attachment_write(rig.attachment, 0, "d", 1), 0);
	assert_int_equal(at[0], 'p');
	assert_int_equal(write(go[1], "g", 1), 1);
	{
		int status;

		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
	rig_free(&rig);
	munmap(at, PAGE);
	for (unsigned i = 0; i < 2; i++) {
		close(ready[i]);
		close(go[i]);
	}
}

/* Groups that join ask with the topology lock, which never waits for a mapping or an unmapping. */
static void asking_never_waits(void **unused)
{
	struct rig rig;

	rig_new(&rig, NULL);
	pthread_mutex_lock(&rig.ioas->lock);
	assert_false(uapi_ioas_has_invalid_vaddr(rig.ioas));
	pthread_mutex_unlock(&rig.ioas->lock);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(states),
		cmocka_unit_test(moves),
		cmocka_unit_test(another_process),
		cmocka_unit_test(asking_never_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
